"""What every metric needs of one Trace: windows of time, recovery, and the shape of its answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hasim import stats
from hasim.model import Instance, Stack
from hasim.scenario import Scenario
from hasim.sim.trace import OK, FaultSpan, Mark, Trace

# Recovered means this many good probes in a row (design.md section 4).
GOOD_IN_A_ROW = 30
EPSILON_S = 1e-9

Tags = dict[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one replication says about one metric.

    values (with weights: how often each occurs) answer avg, min, max, med, p and value; count
    and `of` (requests, or seconds) answer count and rate; first_s is the time of the first
    occurrence after the first fault (inf: never). total is the exact sum of the values, where a
    histogram would round it. What is absent is nan or empty: no samples.
    """

    values: np.ndarray = field(default_factory=lambda: np.empty(0))
    weights: np.ndarray | None = None
    total: float = math.nan
    count: float = math.nan
    of: float = math.nan
    first_s: float = math.nan


def aggregate(sample: Sample, name: str, q: float = 0.0) -> float:
    """One number out of a sample by the name of a threshold's aggregate; nan: no samples."""
    if name == "count":
        return sample.count
    if name == "rate":
        return sample.count / sample.of if sample.of > 0 else math.nan
    if name == "first":
        return sample.first_s
    values, weights = sample.values, sample.weights
    if weights is not None:
        values, weights = values[weights > 0], weights[weights > 0]
    if len(values) == 0:
        return math.nan
    if name == "value":
        return float(values[-1])
    if name == "avg":
        if weights is None:
            return float(values.mean())
        total = float(values @ weights) if math.isnan(sample.total) else sample.total
        return total / float(weights.sum())
    q = {"min": 0.0, "med": 0.5, "max": 1.0}.get(name, q)
    if weights is None:
        return stats.quantile(values, q)
    return stats.weighted_quantile(values, weights, q)


def good_run_start(starts_s: np.ndarray, good: np.ndarray, after_s: float) -> float:
    """When the path worked again after `after_s`: inf if never, `after_s` if it never stopped.

    The first bad probe begun at or after `after_s` opens the search; the answer is the start of
    the first GOOD_IN_A_ROW good ones in a row after it. (A fault that bites only later, as a stop
    with its grace period does, is so not taken as recovered at once.)
    """
    bad = np.flatnonzero(~good & (starts_s >= after_s - EPSILON_S))
    if len(bad) == 0:
        return after_s
    rest = good[bad[0] :]
    if len(rest) < GOOD_IN_A_ROW:
        return math.inf
    sums = np.concatenate([[0], np.cumsum(rest)])
    full = np.flatnonzero(sums[GOOD_IN_A_ROW:] - sums[:-GOOD_IN_A_ROW] == GOOD_IN_A_ROW)
    return float(starts_s[bad[0] + full[0]]) if len(full) else math.inf


class View:
    """One replication together with the files it came from; everything derived is cached."""

    def __init__(self, trace: Trace, scenario: Scenario, stack: Stack):
        self.trace, self.scenario, self.stack = trace, scenario, stack
        # (window, operations) -> requests by outcome and bucket; budgets ask for few of them
        self.tables: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}

    # ---- faults and windows --------------------------------------------------------------------
    @cached_property
    def faults(self) -> tuple[FaultSpan, ...]:
        """Faults in the order of their start."""
        return tuple(sorted(self.trace.faults, key=lambda f: f.start_s))

    @property
    def first_fault_s(self) -> float:
        """The start of the first fault; inf without one."""
        return self.faults[0].start_s if self.faults else math.inf

    @cached_property
    def last_repair_s(self) -> float:
        """The last repair; nan if there is no fault, or one that is never repaired."""
        repairs = [f.repair_s for f in self.faults]
        return max(repairs) if repairs and not any(map(math.isnan, repairs)) else math.nan

    @cached_property
    def probes(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """path -> (start of each probe, was it good), by start; paths without probes are left out.

        Good: answered OK within the probe's timeout.
        """
        t, out = self.trace, {}
        fine = (t.probe_outcome == OK) & np.isfinite(t.probe_latency_s)
        for i, path in enumerate(t.probe_paths):
            mine = np.flatnonzero(t.probe_path == i)
            mine = mine[np.argsort(t.probe_start_s[mine], kind="stable")]
            if len(mine):
                out[path] = (t.probe_start_s[mine], fine[mine])
        return out

    def paths(self, wanted: str = "") -> list[str]:
        """Probed paths of that name: all by default, `op` also finds `service/op`."""
        return [p for p in self.probes if wanted in ("", "*", p, p.rpartition("/")[2])]

    def recovered_s(self, fault: FaultSpan, path: str = "") -> float:
        """When the last of the paths worked again after the fault (inf: never; nan: no probe).

        Damage that begins only after the next fault began is that fault's.
        """
        later = [f.start_s for f in self.faults if f.start_s > fault.start_s + EPSILON_S]
        until = min(later, default=math.inf)
        ends = []
        for name in self.paths(path):
            starts, good = self.probes[name]
            hurt = ~good & (starts >= fault.start_s - EPSILON_S) & (starts < until)
            ends.append(
                good_run_start(starts, good, fault.start_s) if hurt.any() else fault.start_s
            )
        return max(ends, default=math.nan)

    def spans(self, window: str) -> list[tuple[float, float]]:
        """The stretches [from, to) of a window; empty for fault windows of a run without faults.

        impact always holds the segment in which the fault began, so that a fault without any
        effect still has requests to be judged by.
        """
        end = math.inf
        if window == "before":
            return [(-math.inf, self.first_fault_s)]
        if window == "fault":
            return [(f.start_s, f.repair_s if f.repair_s >= 0 else end) for f in self.faults]
        if window == "impact":
            return [(f.start_s, self._impact_end_s(f)) for f in self.faults]
        if window == "after":
            return self._gaps(sorted(self.spans("fault") + self.spans("impact")))
        return [(-math.inf, end)]

    def _impact_end_s(self, fault: FaultSpan) -> float:
        later = self.trace.segment_start_s
        later = later[later > fault.start_s + EPSILON_S]
        shortest = float(later[0]) if len(later) else math.inf
        recovered = self.recovered_s(fault)
        return shortest if math.isnan(recovered) else max(recovered, shortest)

    @staticmethod
    def _gaps(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
        """What lies after the first span and in none of them."""
        if not spans:
            return []
        out, at = [], spans[0][1]
        for start, stop in spans[1:]:
            if start > at:
                out.append((at, start))
            at = max(at, stop)
        return [*out, (at, math.inf)] if math.isfinite(at) else out

    def inside(self, times_s: np.ndarray, window: str) -> np.ndarray:
        """Which of the times lie in the window; shape of times_s, bool."""
        out = np.zeros(len(times_s), dtype=bool)
        for start, stop in self.spans(window):
            out |= (times_s >= start - EPSILON_S) & (times_s < stop - EPSILON_S)
        return out

    def segments(self, window: str) -> np.ndarray:
        """Mask over the segments of the trace; shape (G,)."""
        return self.inside(self.trace.segment_start_s, window)

    def seconds(self, window: str) -> float:
        """How long the window lasted, at the granularity of segments."""
        starts = self.trace.segment_start_s
        length = np.diff(np.append(starts, max(self.trace.duration_s, float(starts[-1]))))
        return float(length[self.segments(window)].sum())

    # ---- names ---------------------------------------------------------------------------------
    @cached_property
    def instances(self) -> dict[str, Instance]:
        """Instances of the stack by name."""
        return {i.name: i for i in self.stack.instances}

    def columns(self, tags: Tags) -> list[int]:
        """Columns of the per-instance arrays that the tags service, host, instance select."""
        return [
            c
            for c, name in enumerate(self.trace.instances)
            if name in self.instances and selects(self.instances[name], tags)
        ]

    # ---- timeline ------------------------------------------------------------------------------
    @cached_property
    def marks(self) -> dict[int, Mark]:
        """Timeline rows by id."""
        return {m.id: m for m in self.trace.timeline}

    def hit(self, fault: FaultSpan) -> set[str]:
        """Instances and hosts that the fault struck: a group is named one by one in its row.

        What lies between two places strikes neither.
        """
        names = {fault.target, fault.target.removeprefix("host:")}
        mark = self.marks.get(fault.mark)
        between = " | " in fault.target
        if mark is not None and mark.component == "fault" and not between:
            names |= set(mark.detail.split(" (")[0].split(", "))
        return names

    def descends(self, mark: Mark, ancestor: int) -> bool:
        """Does the chain of causes of `mark` lead to the row `ancestor`?"""
        seen: set[int] = set()
        at: Mark | None = mark
        while at is not None and at.id not in seen:
            if ancestor in (at.id, at.parent):
                return True
            seen.add(at.id)
            at = self.marks.get(at.parent)
        return False


def selects(instance: Instance, tags: Tags) -> bool:
    """Do the tags service, host and instance (`*` or absent: all) select this instance?"""
    service = tags.get("service", "*")
    return (
        service in ("*", instance.service, instance.compose_service, instance.name)
        and tags.get("host", "*") in ("*", instance.host)
        and tags.get("instance", "*") in ("*", instance.name)
    )
