"""Alternating renewal: what shadow probes see of outages whose lengths are known.

Operations cost nothing here, so a probe succeeds exactly if the service listens when it is sent.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from closed_forms import docker_restarts
from theory_tools import (
    MEAN_TOLERANCE,
    SEEDS,
    WRONG,
    assert_exact,
    assert_refused,
    faster,
    stack_of,
)

from hasim.components.docker import BACKOFF_LIMIT_S, BACKOFF_S, RESET_AFTER_S
from hasim.model import Dist, Instance, Op, Service, Stack, Step
from hasim.scenario import Fault, FlowStep, Load, Scenario, When
from hasim.sim.run import replicate
from hasim.sim.trace import OK, Trace


def service(boot: Dist, restart: str = "no") -> Stack:
    op = Op("serve", (Step("cpu", Dist("const", 0.0)),))
    return stack_of(
        [Service("web", boot=boot, ops=(op,))],
        [Instance("web-1", "service", "host", "web", restart=restart)],
    )


def probed(duration_s: float, faults: tuple[Fault, ...], probe_rate: float) -> Scenario:
    """Probes only: one request a minute keeps the load alive."""
    load = Load(
        "idle", "constant-arrival-rate", ((duration_s, 1.0),), 1.0, time_unit_s=60.0, max_vus=10,
        flow=(FlowStep((("web/serve", 1.0),)),),
    )  # fmt: skip
    return Scenario("availability", "", load, faults, probe_rate=probe_rate)


# Every PERIOD seconds the container is killed, somebody starts it again after 80 to 120 ms, and it
# listens 80 to 120 ms later. The moments do not fit the probes' rhythm of 10 ms, so that every
# phase comes up. Exact unavailability: (0.1 + 0.1) / PERIOD, whatever the distributions.
CYCLES, PERIOD, HALF = 400, 1.00317, Dist("uniform", 0.08, 0.12)
UNAVAILABLE = 0.2 / PERIOD


def unavailability(factor: float) -> list[float]:
    """Share of failed probes over whole cycles; repairs and boots are `factor` times as fast."""
    part = faster(HALF, factor)
    kill = Fault("docker-kill", "web-1", When(Dist("uniform", 1.0, 2.0)), part, CYCLES, PERIOD)
    stack = service(part)
    out = []
    for seed in SEEDS:
        trace = replicate(stack, probed(CYCLES * PERIOD + 3.0, (kill,), 100.0), seed, 0)
        first = trace.faults[0].start_s
        t = trace.probe_start_s
        seen = trace.probe_outcome[(t >= first) & (t < first + CYCLES * PERIOD)]
        assert len(trace.faults) == CYCLES
        out.append(float((seen != OK).mean()))
    return out


def test_unavailability_is_mean_outage_by_mean_cycle() -> None:
    assert_exact("unavailability", unavailability(1.0), UNAVAILABLE, MEAN_TOLERANCE)


def test_a_repair_wrong_by_two_percent_is_refused() -> None:
    assert_refused("unavailability", unavailability(WRONG), UNAVAILABLE)


# Docker restarts a process that crashes by chance, 30 s apart on average (and also while it
# boots); each crash within 10 s of a start doubles the back-off. The run begins while the process
# listens, which is worth less than one outage of about 1.2 s in 5000.
MEAN_UP, BOOT, DURATION = 30.0, 1.0, 5000.0


def crashes(seed: int) -> np.ndarray:
    """A Poisson process on (0, DURATION)."""
    random = np.random.default_rng(seed)
    return np.sort(random.uniform(0.0, DURATION, random.poisson(DURATION / MEAN_UP)))


def crashing(seed: int) -> Trace:
    faults = tuple(Fault("crash", "web-1", When(Dist("const", float(t)))) for t in crashes(seed))
    return replicate(
        service(Dist("const", BOOT), "always"), probed(DURATION, faults, 10.0), seed, 0
    )


def listening(trace: Trace, boot_s: float) -> np.ndarray:
    """By Docker's rules alone: would the probes of the trace have been answered?"""
    started = next(m.t_s for m in trace.timeline if m.event == "container start")
    up, backoff = [], 0.0
    for crash in (*crashes(trace.seed), math.inf):
        if crash < started:
            continue  # nothing runs yet
        up.append((started + boot_s, crash))
        if crash - started >= RESET_AFTER_S:
            backoff = 0.0
        backoff = min(2 * backoff, BACKOFF_LIMIT_S) or BACKOFF_S
        started = crash + backoff
    answered = np.zeros(len(trace.probe_start_s), dtype=bool)
    for begin, end in up:
        answered |= (trace.probe_start_s >= begin) & (trace.probe_start_s < end)
    assert all(a[1] < b[0] for a, b in pairwise(up))
    return answered


@pytest.fixture(scope="module")
def crashed() -> list[Trace]:
    return [crashing(seed) for seed in SEEDS]


def test_every_probe_sees_what_dockers_restart_rules_say(crashed: list[Trace]) -> None:
    for trace in crashed:
        answered = trace.probe_outcome == OK
        assert np.array_equal(answered, listening(trace, BOOT))
        assert not np.array_equal(answered, listening(trace, BOOT / WRONG))  # the twin


def test_availability_under_random_crashes(crashed: list[Trace]) -> None:
    exact = docker_restarts(MEAN_UP, BOOT, BACKOFF_S, BACKOFF_LIMIT_S, RESET_AFTER_S)
    seen = [float((t.probe_outcome == OK).mean()) for t in crashed]
    assert_exact("availability under crashes", seen, exact, MEAN_TOLERANCE)
