"""Replications in worker processes: what is sent there, what comes back, how they end.

A worker measures where the trace is; histograms and probes never travel. The same replication
gives the same answer in any process, so results do not depend on the number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hasim.causes import Cause, explain
from hasim.errors import SimulationBug
from hasim.model import Stack
from hasim.report import tables
from hasim.scenario import Scenario
from hasim.sim.kernel import is_compiled
from hasim.sim.run import replicate, warm_up
from hasim.sim.trace import Trace
from hasim.verdict_measure import Measured, measure


class ReplicationBug(SimulationBug):
    """A bug of ours in one replication, with what it takes to see it again."""

    def __init__(self, text: str, scenario: str, replication: int):
        self.text, self.scenario, self.replication = text, scenario, replication
        super().__init__(text)

    def __reduce__(self):
        return (type(self), (self.text, self.scenario, self.replication))


Keep = Callable[["Task", Trace], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """A scenario as the workers know it."""

    stack: Stack
    scenario: Scenario
    seed: int
    spool: Path | None = None  # where raw requests go, if they are wanted
    keep: Keep | None = None  # what comes back instead of the slim trace
    requests: bool = False  # the trace that `keep` sees holds its raw requests


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some replications of one task. elapsed_s: how long they took (never part of a result).

    traces: slim ones, or whatever Task.keep made of them.
    """

    measured: tuple[Measured, ...]
    traces: tuple[Any, ...]
    elapsed_s: float


STOPS = {signal.SIGINT, signal.SIGTERM}
LISTEN_S = 0.1  # so long does a signal wait for a pool
_TASKS: list[Task] = []  # in a worker: inherited by fork, so that no stack is ever pickled


def simulate_chunk(index: int, numbers: Sequence[int]) -> Chunk:
    """Simulate replications of task `index` and measure them; traces come back slim."""
    begun = time.perf_counter()
    task = _TASKS[index]
    measured, traces = [], []
    for number in numbers:
        trace = _replicate(task, number, task.requests or task.spool is not None)
        if task.spool is not None:
            _spool(task.spool / spooled(index, number), trace)
        measured.append(measure(task.scenario, task.stack, trace))
        traces.append(task.keep(task, trace) if task.keep else slim(trace))
    return Chunk(tuple(measured), tuple(traces), time.perf_counter() - begun)


def explain_one(index: int, number: int) -> tuple[Cause, ...]:
    """Simulate one replication again, whole, and say what happened in it."""
    task = _TASKS[index]
    return explain(task.scenario, task.stack, _replicate(task, number))


def replay(index: int, numbers: Sequence[int], worst: int) -> tuple[Chunk, tuple[Cause, ...]]:
    """Simulate replications, `worst` one of them, and say what happened in that one."""
    begun = time.perf_counter()
    task = _TASKS[index]
    traces = {number: _replicate(task, number) for number in numbers}
    causes = explain(task.scenario, task.stack, traces[worst])
    measured = tuple(measure(task.scenario, task.stack, t) for t in traces.values())
    whole = Chunk(measured, tuple(map(slim, traces.values())), time.perf_counter() - begun)
    return whole, causes


def _replicate(task: Task, number: int, keep_requests: bool = False) -> Trace:
    try:
        return replicate(task.stack, task.scenario, task.seed, number, keep_requests)
    except Exception as error:
        text = f"{task.scenario.name}, replication {number}: {type(error).__name__}: {error}"
        raise ReplicationBug(text, task.scenario.name, number) from error


def spooled(index: int, number: int) -> str:
    """The name of the file for the raw requests of one replication."""
    return f"{index:05d}-{number:06d}.csv.gz"


def _spool(path: Path, trace: Trace) -> None:
    """Raw requests go to disk at once: there are millions of them. A gzip member, no header."""
    rows = list(tables.request_rows(trace))
    path.write_bytes(tables.pack(rows[0], rows[1:]) if rows else b"")


def slim(trace: Trace) -> Trace:
    """The trace without what only `measure` and `explain` look at: its size is 1/10 or less."""
    none = np.zeros(0)
    return replace(
        trace,
        hist=none,
        latency_sum_s=none,
        probe_path=none,
        probe_start_s=none,
        probe_latency_s=none,
        probe_outcome=none,
        requests=None,
    )


class Pool:
    """Worker processes that know all tasks; with one job the work is done here.

    >>> with Pool(tasks, 2) as pool:                                       # doctest: +SKIP
    ...     chunk = result_of(pool.submit(simulate_chunk, 0, [0, 1]))
    """

    def __init__(self, tasks: Sequence[Task], jobs: int):
        self.jobs = jobs
        self._tasks = list(tasks)
        self._executor: Executor | None = None
        self._children: list[Any] = []

    def __enter__(self) -> Pool:
        _TASKS[:] = self._tasks
        if self.jobs > 1:
            context = multiprocessing.get_context("fork")
            before = set(multiprocessing.active_children())
            self._executor = ProcessPoolExecutor(self.jobs, context, _begin)
            try:
                with undisturbed():  # an exception in the hooks of fork() would be lost
                    self._executor.submit(os.getpid)  # all workers are forked at the first task
                    here = multiprocessing.active_children()
                    self._children = [c for c in here if c not in before]
            except BaseException as stop:  # a signal that waited for the end of the block
                self.__exit__(type(stop))
                raise
        return self

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        """A Future of the call, which must be one of this module's functions."""
        if self._executor is not None:
            with undisturbed():
                return self._executor.submit(call, *args)
        done: Future[Any] = Future()
        try:
            done.set_result(call(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _TASKS.clear()
        if self._executor is None:
            return
        with undisturbed():
            if kind is not None:
                for child in self._children:
                    child.kill()
            self._executor.shutdown(wait=True, cancel_futures=True)


def first_done(running: Collection[Future[Any]]) -> set[Future[Any]]:
    """Wait until at least one future is done; all that are.

    A signal is heard between two waits: raised while a lock of concurrent.futures is being taken,
    it would leave that lock taken for ever.
    """
    while True:
        with undisturbed():
            done, _ = wait(running, LISTEN_S, FIRST_COMPLETED)
        if done:
            return done


def result_of(future: Future[Any]) -> Any:
    """The result of a future, or what it raised."""
    first_done([future])
    with undisturbed():
        return future.result()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that end the run wait until the end of the block.

    By handlers, not by a mask: a signal that this thread blocks goes to another thread of the
    process, and Python raises here all the same.
    """
    late: list[int] = []
    before = {number: signal.getsignal(number) for number in STOPS}
    listen(dict.fromkeys(STOPS, lambda number, _: late.append(number)))
    try:
        yield
    finally:
        listen(before)
        for number in late[:1]:
            signal.raise_signal(number)


def listen(handlers: Mapping[signal.Signals, Any]) -> None:
    """Set handlers of signals; only the main thread can, and only it is ever disturbed."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)


def warm(say: Callable[[str], None]) -> None:
    """Load the compiled kernel. Compiling takes much memory, so a process of its own does it."""
    if not is_compiled():
        say("compiling the request kernel (once on this machine)")
        child = multiprocessing.get_context("fork").Process(target=warm_up, args=(_silent,))
        with undisturbed():
            child.start()
        try:
            child.join()
        finally:
            child.kill()
    warm_up(_silent)


def _silent(text: str) -> None:
    pass


def _begin() -> None:
    """A worker leaves Ctrl-C to its parent and ends with it, however the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
