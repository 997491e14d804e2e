"""Trials: a stack with some knobs changed, under one scenario, measured replication by replication.

What sweep, capacity, compare and explain have in common. Replication r of two trials under one
seed has the same luck (common random numbers), so their numbers may be subtracted pair by pair.
Results depend on files, settings, scenario and seed only, never on the number of workers.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hasim.errors import Finding, InputError
from hasim.model import Stack
from hasim.plan.journal import Journal
from hasim.report.seal import code_hash
from hasim.scenario import Scenario
from hasim.sim.run import default_jobs, replicate
from hasim.stack import load, with_settings
from hasim.verdict_measure import Measured, measure
from hasim.workers import Pool, ReplicationBug, first_done, result_of, warm

CHUNK_S = 0.2  # less work than this at once, and workers wait for it to be handed over
SPANS = re.compile(r"Span\([^)]*\)")
Piece = tuple["Trial", str, tuple[int, ...]]  # a trial, its key, replications to simulate
STACKS = 32  # stacks that a worker keeps; one costs some 0.1 s to make again


@dataclass(frozen=True)
class Trial:
    """A stack (the files of `folder` with `settings`) under a scenario.

    settings: ((knob, value), ...). sha256: of the files as they are on disk, so that a journal
    does not answer for other ones.
    """

    folder: str
    sha256: str
    scenario: Scenario
    seed: int
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """A hash of all that the numbers of this trial depend on, but for the replication."""
        said = SPANS.sub("None", repr(replace(self.scenario, doc="")))  # what it says, not where
        parts = (code_hash(), self.sha256, self.seed, self.settings, said)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def trial(
    stack: Stack, scenario: Scenario, seed: int, settings: Mapping[str, str] | None = None
) -> Trial:
    """A trial of a loaded stack. settings come on top of the scenario's own `set:`."""
    merged = {**scenario.settings, **(settings or {})}
    plain = replace(scenario, settings={})
    return Trial(stack.folder, stack.sha256, plain, seed, tuple(sorted(merged.items())))


@dataclass(frozen=True, slots=True)
class Done:
    """What a progress callback is told: replications finished of those asked for so far."""

    done: int
    wanted: int
    left_s: float  # at the pace so far; nan: cannot say


@dataclass
class Bench:
    """Workers and a journal. `measure` may be called as often as wanted inside of `with`.

    >>> with Bench(jobs=2, journal=Path("out/tune/journal.jsonl")) as bench:  # doctest: +SKIP
    ...     [a, b] = bench.measure([(before, range(8)), (after, range(8))])
    """

    jobs: int = 0
    journal: Path | None = None
    tell: Callable[[Done], None] = lambda done: None
    say: Callable[[str], None] = lambda text: None
    _held: ExitStack = field(default_factory=ExitStack)
    _done: int = 0
    _wanted: int = 0
    _expected: int = 0
    _busy_s: float = 0.0
    _fresh: int = 0
    _pace_s: dict[str, float] = field(default_factory=dict)

    def __enter__(self) -> Bench:
        warm(self.say)
        with ExitStack() as held:
            self._journal = held.enter_context(Journal(self.journal))
            self._pool = held.enter_context(Pool((), self.jobs or default_jobs()))
            self._held = held.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.__exit__(*error)

    def measure(
        self, wanted: Sequence[tuple[Trial, Sequence[int]]], *, lenient: bool = False
    ) -> list[list[Measured]]:
        """The replications asked for, per trial and in the order asked; known ones at once.

        InputError if settings make a stack that cannot be read; lenient: such a replication is
        void instead, and `Measured.void` says why. ReplicationBug names the trial.
        """
        keys = [t.key for t, _ in wanted]
        todo: list[Piece] = []
        for (one, numbers), key in zip(wanted, keys, strict=True):
            missing = [n for n in dict.fromkeys(numbers) if self._journal.get(key, n) is None]
            todo += [(one, key, part) for part in self._parts(one.scenario, missing)]
            self._wanted += len(numbers)
            self._done += len(numbers) - len(missing)
        self._run(self._chunks(todo), lenient)
        found = []
        for (_, numbers), key in zip(wanted, keys, strict=True):
            found.append([m for n in numbers if (m := self._journal.get(key, n)) is not None])
        return found

    def expect(self, more: int) -> None:
        """About so many replications will be asked for from now on: for the time left only."""
        self._expected = self._wanted + more

    def _parts(self, scenario: Scenario, numbers: Sequence[int]) -> list[tuple[int, ...]]:
        pace = self._pace_s.get(scenario.name, CHUNK_S)
        size = max(1, min(math.ceil(CHUNK_S / pace), math.ceil(len(numbers) / self._pool.jobs)))
        return [tuple(numbers[i : i + size]) for i in range(0, len(numbers), size)]

    def _chunks(self, todo: Sequence[Piece]) -> list[list[Piece]]:
        """Pieces of one stack that follow each other go to one worker, which has to make that
        stack only once; as long as there is work for all workers.
        """
        chunks: list[list[Piece]] = []
        most = math.ceil(len(todo) / (4 * self._pool.jobs))
        for piece in todo:
            last = chunks[-1] if chunks else []
            if last and last[0][0].settings == piece[0].settings and len(last) < most:
                last.append(piece)
            else:
                chunks.append([piece])
        return chunks

    def _run(self, todo: Sequence[list[Piece]], lenient: bool) -> None:
        running: dict[Future, list[Piece]] = {}
        queue = iter(todo)
        while True:
            while len(running) < 2 * self._pool.jobs and (chunk := next(queue, None)) is not None:
                work = [(one, numbers) for one, _, numbers in chunk]
                running[self._pool.submit(measure_chunk, work, lenient)] = chunk
            if not running:
                return
            done = first_done(running)
            for future in [f for f in running if f in done]:
                chunk = running.pop(future)
                for (one, key, _), (measured, elapsed_s) in zip(
                    chunk, result_of(future), strict=True
                ):
                    self._take(one, key, measured, elapsed_s)

    def _take(self, one: Trial, key: str, measured: Sequence[Measured], elapsed_s: float) -> None:
        for m in measured:
            self._journal.put(key, m)
        self._pace_s[one.scenario.name] = elapsed_s / len(measured)
        self._done += len(measured)
        self._fresh += len(measured)
        self._busy_s += elapsed_s
        pace = self._busy_s / self._fresh / self._pool.jobs
        wanted = max(self._wanted, self._expected)
        self.tell(Done(self._done, wanted, pace * (wanted - self._done)))


# ---- in a worker -----------------------------------------------------------------------------
def measure_chunk(
    work: Sequence[tuple[Trial, tuple[int, ...]]], lenient: bool
) -> list[tuple[list[Measured], float]]:
    """`measure_some` of each piece, in their order."""
    found = []
    for one, numbers in work:
        begun = time.perf_counter()
        try:
            found.append(measure_some(one, numbers))
        except InputError as error:
            if not lenient:
                raise
            why = f"cannot be read: {error.findings[0]}"
            lost = [Measured(n, one.seed, why, 0.0, 0, (), (), math.nan, None, {}) for n in numbers]
            found.append((lost, time.perf_counter() - begun))
    return found


def measure_some(one: Trial, numbers: Sequence[int]) -> tuple[list[Measured], float]:
    """Simulate replications of a trial; the numbers, and how long it took."""
    begun = time.perf_counter()
    stack = stack_of(one.folder, one.sha256, one.settings)
    found = []
    for number in numbers:
        try:
            trace = replicate(stack, one.scenario, one.seed, number)
            found.append(measure(one.scenario, stack, trace))
        except Exception as error:
            what = " ".join(f"{k}={v}" for k, v in one.settings)
            text = f"{one.scenario.name} {what}, replication {number}: {error}"
            raise ReplicationBug(text, one.scenario.name, number) from error
    return found, time.perf_counter() - begun


@lru_cache(STACKS)
def stack_of(folder: str, sha256: str, settings: tuple[tuple[str, str], ...]) -> Stack:
    """The stack of a trial. InputError if the files have changed since the trial was made."""
    stack = load(folder) if not settings else with_settings(folder, dict(settings))
    if not settings and stack.sha256 != sha256:
        text = f"the files of '{folder}' changed during the run"
        raise InputError([Finding("error", "HA104", text, None, "start it again")])
    return stack
