"""The loads of a capacity review: a scenario at another level, short, and with a host lost.

A scenario without faults becomes ten seconds of ramp and then its level for as long as whole
windows of its utilisation budgets need: users who arrive over some seconds load a stack as a long
plateau does, a crowd that starts in one instant does not. A scenario with faults keeps its
timeline, because its faults have their times in it; only its level changes.

A lost host loses power half a minute after the stack came up, while nobody is there, and stays off.
What notices losses (checks, Sentinel, Patroni, VRRP) has `recover_within` to settle, then the users
come. So the failover itself is no part of the judgement (scenarios with faults are for that), but
everything that it leaves behind is: who is primary now, which pool is smaller, who serves alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from hasim.metrics_requests import parse_duration_s
from hasim.model import Dist
from hasim.scenario import Budget, Fault, Load, Scenario, Threshold, When
from hasim.verdict_rows import PER_INCIDENT

RAMP_S = 10.0
WINDOW_S = 60.0  # of utilisation, unless a budget says `over`
LOST_AT_S = 30.0  # Patroni has named its synchronous standby by then
# Metrics of the failover itself, which is over when the users come.
INCIDENTS = (PER_INCIDENT - {"oom_kills"}) | {"availability", "error_budget", "probe_load"}


def level(load: Load) -> float:
    """The highest level that a load reaches: users, or iterations per time unit."""
    return max(load.start, *(target for _, target in load.stages))


def by_users(load: Load) -> bool:
    """Whether its level is a number of users (otherwise a rate)."""
    return load.executor.endswith("vus")


def at_level(scenario: Scenario, to: float, lost: str = "") -> Scenario:
    """The scenario at that level, with a host of that name lost from the beginning."""
    if scenario.faults:
        assert not lost
        return replace(scenario, load=_scaled(scenario.load, to / level(scenario.load)))
    window_s = _window_s(scenario)
    settle_s = math.ceil((LOST_AT_S + scenario.recover_within_s) / window_s) * window_s
    hold_s = 2 * window_s - RAMP_S
    stages: tuple[tuple[float, float], ...] = ((RAMP_S, to), (hold_s, to))
    load = _scaled(scenario.load, to / level(scenario.load))
    kind = "ramping-vus" if by_users(load) else "ramping-arrival-rate"
    stages = ((settle_s, 0.0), *stages) if lost else stages
    load = replace(load, executor=kind, stages=stages, start=0.0)
    if not lost:
        return replace(scenario, load=load)
    fault = Fault("power-off", f"host:{lost}", When(Dist("const", LOST_AT_S)))
    kept = tuple(b for b in scenario.budgets if b.metric not in INCIDENTS)
    return replace(scenario, load=load, faults=(fault,), budgets=kept, steady_state=())


def _scaled(load: Load, factor: float) -> Load:
    def to(target: float) -> float:
        return float(round(target * factor)) if by_users(load) else target * factor

    return replace(
        load,
        start=to(load.start),
        stages=tuple((d, to(target)) for d, target in load.stages),
        pre_allocated_vus=math.ceil(load.pre_allocated_vus * factor),
        max_vus=math.ceil(load.max_vus * factor),
    )


def _window_s(scenario: Scenario) -> float:
    overs = [dict(b.tags).get("over") for b in scenario.budgets]
    return max([WINDOW_S, *(parse_duration_s(over) for over in overs if over)])


# ---- what is measured besides the budgets --------------------------------------------------------
GAUGES = (  # of each process: how busy in its busiest minute and second, how large
    ("cpu_utilization", f"{WINDOW_S:g}s", "max", 0.0),
    ("cpu_utilization", "1s", "p", 0.99),
    ("memory_utilization", "1s", "max", 0.0),
)


def with_gauges(scenario: Scenario, processes: Sequence[str]) -> Scenario:
    """The scenario with three budgets more per process, which are measured and never judged."""
    more = []
    for name in processes:
        for metric, over, aggregate, q in GAUGES:
            text = "p(99)" if aggregate == "p" else aggregate
            threshold = Threshold(f"{text}<inf", aggregate, "<", math.inf, q)
            more.append(Budget(metric, (("instance", name), ("over", over)), threshold))
    return replace(scenario, budgets=(*scenario.budgets, *more))
