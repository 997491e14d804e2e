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
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hasim.causes import Cause, explain
from hasim.errors import SimulationBug
from hasim.model import Stack
from hasim.scenario import Scenario
from hasim.sim.run import replicate
from hasim.sim.trace import Trace
from hasim.verdict_measure import Measured, measure


class ReplicationBug(SimulationBug):
    """A bug of ours in one replication, with what it takes to see it again."""

    def __init__(self, text: str, scenario: str, replication: int):
        self.text, self.scenario, self.replication = text, scenario, replication
        super().__init__(text)

    def __reduce__(self):
        return (type(self), (self.text, self.scenario, self.replication))


@dataclass(frozen=True, slots=True)
class Task:
    """A scenario as the workers know it."""

    stack: Stack
    scenario: Scenario
    seed: int
    keep_requests: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some replications of one task. elapsed_s: how long they took (never part of a result)."""

    measured: tuple[Measured, ...]
    traces: tuple[Trace, ...]
    elapsed_s: float


_TASKS: list[Task] = []  # in a worker: inherited by fork, so that no stack is ever pickled


def simulate_chunk(index: int, numbers: Sequence[int]) -> Chunk:
    """Simulate replications of task `index` and measure them; traces come back slim."""
    begun = time.perf_counter()
    task = _TASKS[index]
    measured, traces = [], []
    for number in numbers:
        trace = _replicate(task, number)
        measured.append(measure(task.scenario, task.stack, trace))
        traces.append(slim(trace))
    return Chunk(tuple(measured), tuple(traces), time.perf_counter() - begun)


def explain_one(index: int, number: int) -> tuple[Cause, ...]:
    """Simulate one replication again, whole, and say what happened in it."""
    task = _TASKS[index]
    return explain(task.scenario, task.stack, _replicate(task, number))


def _replicate(task: Task, number: int) -> Trace:
    try:
        return replicate(task.stack, task.scenario, task.seed, number, task.keep_requests)
    except Exception as error:
        text = f"{task.scenario.name}, replication {number}: {type(error).__name__}: {error}"
        raise ReplicationBug(text, task.scenario.name, number) from error


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
    )


class Pool:
    """Worker processes that know all tasks; with one job the work is done here.

    >>> with Pool(tasks, 2) as pool:                                       # doctest: +SKIP
    ...     chunk = pool.submit(simulate_chunk, 0, [0, 1]).result()
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
            self._executor.submit(os.getpid).result()  # all workers are forked at the first task
            self._children = [c for c in multiprocessing.active_children() if c not in before]
        return self

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        """A Future of the call, which must be one of this module's functions."""
        if self._executor is not None:
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
        if kind is not None:
            for child in self._children:
                child.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)


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
