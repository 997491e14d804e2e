"""Cheap runs in place of whole ones: a scenario cut to its faults, and one with next to no load.

What a cheap run says is used only where it says the same as a whole run would. `sees` decides that
by the metric; nothing here knows the name of a knob.
"""

from __future__ import annotations

from dataclasses import replace

from hasim.model import Dist
from hasim.scenario import Budget, Fault, Load, Scenario

LEAD_S = 12.0  # before the first fault: the last 30 probes and the check phases must be settled
TAIL_S = 40.0  # after the last repair: a server's way back into rotation, an election's end
LIGHT = 0.1  # share of the load that the control plane's screen keeps; it moves the balancers
LIGHT_AT_LEAST = 20.0  # users; fewer, and probes would meet the same server again and again

# What probes, health checks and elections say without the users' requests.
CONTROL = frozenset(
    {
        "outage_duration",
        "time_to_recover",
        "time_to_detect",
        "failovers",
        "false_failovers",
        "split_brain_seconds",
        "cpu_reserved_cores",
        "memory_reserved_bytes",
    }
)
# Words of the daemons alone: these differ between candidates as they would in a whole run.
ORDER_ONLY = frozenset({"probe_load"})
# Needs the whole length: trends of memory, windows of 60 s, alerts that wait for minutes.
WHOLE = frozenset(
    {
        "cpu_utilization",
        "memory_utilization",
        "memory_bytes",
        "oom_kills",
        "alert_fired",
        "availability",
        "error_budget",
        "replication_lag",
        "vus",
        "iterations",
        "dropped_iterations",
        "interrupted",
        "http_reqs",
    }
)


def light_sees(metric: str, *, order: bool = False) -> bool:
    """Can the control plane alone compute it? order: it need only put candidates in order."""
    return metric in CONTROL or (order and metric in ORDER_ONLY)


def short_sees(budget: Budget, *, order: bool = False) -> bool:
    """Can a run cut to the fault compute it?

    The share of failed requests of a whole run is another one in a shorter run; within the window
    of the fault it is the same. To put candidates in order both will do.
    """
    if budget.metric in CONTROL or (order and budget.metric in ORDER_ONLY):
        return True
    if budget.metric in WHOLE:
        return False
    return order or dict(budget.tags).get("window") in ("fault", "impact")


def short(scenario: Scenario) -> Scenario:
    """The scenario cut to its faults: LEAD_S before the first one, TAIL_S after the last repair.

    The same scenario if it has no faults, or if nobody can say when they are.
    """
    begin_s, end_s = _window(scenario)
    length_s = scenario.load.duration_s
    begin_s, end_s = max(begin_s, 0.0), min(end_s, length_s)
    if not scenario.faults or (begin_s == 0.0 and end_s == length_s):
        return scenario
    faults = tuple(_earlier(fault, begin_s) for fault in scenario.faults)
    return replace(scenario, faults=faults, load=cut(scenario.load, begin_s, end_s))


def light(scenario: Scenario) -> Scenario:
    """The same with next to no load."""
    load = scenario.load
    top = max((target for _, target in load.stages), default=0.0)
    per_s = load.time_unit_s if load.executor.endswith("rate") else 1.0
    share = min(1.0, max(LIGHT, LIGHT_AT_LEAST * per_s / top)) if top > 0 else 1.0
    stages = tuple((d, _level(load, target * share)) for d, target in load.stages)
    return replace(
        scenario, load=replace(load, stages=stages, start=_level(load, load.start * share))
    )


def cut(load: Load, begin_s: float, end_s: float) -> Load:
    """The load between two moments, its levels as they were."""
    stages, at_s, level = [], 0.0, load.start
    start = load.start
    for duration_s, target in load.stages:
        low, high = max(at_s, begin_s), min(at_s + duration_s, end_s)
        slope = (target - level) / duration_s if duration_s > 0 else 0.0
        if at_s <= begin_s < at_s + duration_s:
            start = _level(load, level + slope * (begin_s - at_s))
        if low < high:
            stages.append((high - low, _level(load, level + slope * (high - at_s))))
        at_s, level = at_s + duration_s, target
    return replace(load, stages=tuple(stages), start=start)


def _level(load: Load, level: float) -> float:
    """Users are whole."""
    return level if load.executor.endswith("rate") else float(round(level))


def _window(scenario: Scenario) -> tuple[float, float]:
    """(begin, end) of what matters; the end is inf where nobody can say when the faults end."""
    starts, ends = [], []
    for fault in scenario.faults:
        low, high = _ends(fault.at.offset)
        if fault.at.event:
            ends.append(float("inf"))
            continue
        starts.append(low)
        repeats_s = (fault.repeat_times - 1) * fault.repeat_every_s
        lasts_s = _ends(fault.lasts)[1] if fault.lasts is not None else float("inf")
        ends.append(high + repeats_s + lasts_s)
    begin_s = min(starts, default=0.0) - LEAD_S
    return begin_s, max(ends, default=float("inf")) + TAIL_S


def _ends(dist: Dist) -> tuple[float, float]:
    """The least and the largest value of a distribution; (0, inf) where it has none."""
    if dist.kind == "const":
        return dist.a, dist.a
    if dist.kind == "uniform":
        return dist.a, dist.b
    return 0.0, float("inf")


def _earlier(fault: Fault, by_s: float) -> Fault:
    if fault.at.event:
        return fault
    offset = fault.at.offset
    moved = replace(offset, a=offset.a - by_s)
    if offset.kind == "uniform":
        moved = replace(moved, b=offset.b - by_s)
    return replace(fault, at=replace(fault.at, offset=moved))
