"""CPU limits of containers: shares of a short host, and a quota per 100 ms, to the nanosecond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from theory_tools import SEEDS, poisson, stack_of, vus

from hasim.model import ZERO, Dist, Instance, Op, Service, Stack, Step
from hasim.scenario import Fault, Load, Scenario, When
from hasim.sim.run import replicate
from hasim.sim.trace import Trace

PERIOD = 100_000_000  # ns; source: Linux cpu.cfs_period_us
MS = 1_000_000


def run(stack: Stack, load: Load, seed: int = SEEDS[0], keep: bool = False) -> Trace:
    return replicate(stack, Scenario("cpu", "", load, probe_rate=0.0), seed, 0, keep)


def limited(cpus: float, workers: int, dist: Dist, mode: str = "sync") -> Stack:
    """One container with a quota on a host with cores to spare."""
    service = Service("queue", workers, mode, ops=(Op("serve", (Step("cpu", dist),)),))
    return stack_of([service], [Instance("queue-1", "service", "host", "queue", cpus=cpus)])


@pytest.mark.parametrize(("cpus", "workers"), [(0.5, 1), (0.25, 1), (1.5, 4), (0.51, 1)])
def test_busy_workers_get_exactly_their_quota(cpus: float, workers: int) -> None:
    load = vus(workers, 200.0, "queue/serve", ZERO)
    trace = run(limited(cpus, workers, Dist("exp", 0.02)), load)
    used = trace.per_second["cpu_s"][:, 0]
    throttled = trace.per_second["throttled_s"][:, 0]
    # whole periods: their phase moves the account of a single second, never the sum
    assert used[10:].mean() == pytest.approx(cpus, abs=0.1 * cpus / len(used))
    # all workers run until the budget is gone, then none does
    assert throttled[10:].mean() == pytest.approx(1 - cpus / workers, abs=0.1 / len(used))
    if cpus == 0.51:  # the twin: 2 % more is not half a core
        assert used[10:].mean() != pytest.approx(0.5, rel=0.005)


def test_a_quota_that_the_workers_cannot_use_up_changes_nothing() -> None:
    load = vus(2, 50.0, "queue/serve", ZERO)
    trace = run(limited(2.0, 2, Dist("exp", 0.02)), load)
    assert trace.per_second["cpu_s"][5:, 0] == pytest.approx(2.0, abs=1e-6)
    assert trace.per_second["throttled_s"].sum() == 0.0


def finish_times(arrivals: np.ndarray, work: int, quota: int) -> np.ndarray:
    """When a single worker with `quota` ns of CPU per period ends jobs of `work` ns, in order.

    Periods begin at multiples of PERIOD; a period's budget is not carried over.
    """
    out = np.empty_like(arrivals)
    now, period, used = 0, -1, 0
    for i, came in enumerate(arrivals.tolist()):
        now, left = max(now, came), work
        while left > 0:
            if now // PERIOD != period:
                period, used = now // PERIOD, 0
            part = min(left, quota - used, (period + 1) * PERIOD - now)
            left, used, now = left - part, used + part, now + part
            if left > 0 and used >= quota:
                now = (period + 1) * PERIOD
        out[i] = now
    return out


@pytest.mark.parametrize("work_ms", [7, 30, 130])
@pytest.mark.parametrize("cpus", [0.3, 0.5, 0.9])
def test_every_request_of_a_limited_queue_ends_when_its_quota_lets_it(work_ms: int, cpus: float):
    load = poisson(0.8 * cpus / (work_ms * 1e-3), 300.0)
    trace = run(limited(cpus, 1, Dist("const", work_ms * 1e-3)), load, keep=True)
    begun, ended = moments(trace)
    assert len(begun) > 100
    expected = finish_times(begun, work_ms * MS, round(cpus * PERIOD))
    # each change of the rate rounds up to a whole nanosecond
    assert np.abs(ended - expected).max() < 1000
    # the twin: 2 % more work is seen
    wrong = finish_times(begun, round(1.02 * work_ms * MS), round(cpus * PERIOD))
    assert np.abs(ended - wrong).max() > MS // 10


def moments(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """(begin, end) of each request in ns since time 0, when the first container was started."""
    zero = trace.timeline[0]
    assert zero.event == "container start"
    assert trace.requests is not None
    rows = trace.requests[np.argsort(trace.requests["start_s"], kind="stable")]
    begun = np.rint((rows["start_s"] - zero.t_s) * 1e9).astype(np.int64)
    return begun, begun + np.rint(rows["latency_s"] * 1e9).astype(np.int64)


def shares(cores: float, *containers: tuple[int, int, float]) -> list[float]:
    """Cores that each container of busy workers gets: (workers, cpu_shares, cpus) each."""
    services, instances, steps = [], [], []
    for i, (workers, weight, cpus) in enumerate(containers):
        op = Op("serve", (Step("cpu", Dist("const", 3600.0)),))
        services.append(Service(f"s{i}", workers, ops=(op,)))
        instances.append(
            Instance(f"s{i}-1", "service", "host", f"s{i}", cpu_shares=weight, cpus=cpus)
        )
        steps.append((f"s{i}/serve", 1.0 / len(containers)))
    # enough endless requests for each worker of each container
    load = poisson(1000.0, 20.0, steps)
    stack = stack_of(services, instances, cores)
    trace = run(stack, replace(load, graceful_stop_s=0.0))  # then they are interrupted
    return [float(x) for x in trace.per_second["cpu_s"][5:].mean(axis=0)]


def test_busy_containers_divide_a_short_host_by_weight() -> None:
    assert shares(1.0, (1, 1024, 0.0), (1, 512, 0.0)) == pytest.approx([2 / 3, 1 / 3], rel=1e-6)
    assert shares(1.0, (1, 1044, 0.0), (1, 512, 0.0)) != pytest.approx([2 / 3, 1 / 3], rel=5e-3)
    assert shares(2.0, (8, 1024, 0.0), (2, 512, 0.0)) == pytest.approx([4 / 3, 2 / 3], rel=1e-6)


def test_what_a_container_cannot_use_goes_to_the_others() -> None:
    # one worker of the heavy container uses one core of three; the rest is shared 1 : 3
    got = shares(3.0, (1, 4096, 0.0), (4, 512, 0.0), (4, 1536, 0.0))
    assert got == pytest.approx([1.0, 0.5, 1.5], rel=1e-6)


def test_what_a_throttled_container_cannot_use_goes_to_the_others() -> None:
    assert shares(1.0, (1, 1024, 0.3), (1, 1024, 0.0)) == pytest.approx([0.3, 0.7], rel=1e-6)
    got = shares(1.0, (1, 1024, 0.3), (1, 1024, 0.2), (1, 1024, 0.0))
    assert got == pytest.approx([0.3, 0.2, 0.5], rel=1e-6)
    got = shares(4.0, (2, 1024, 0.5), (2, 1024, 0.0))  # cores enough: only the quota binds
    assert got == pytest.approx([0.5, 2.0], rel=1e-6)


def test_work_longer_than_a_second_is_booked_when_it_is_done() -> None:
    # a worker with a core of its own, 30 s of work at a time
    trace = run(limited(0.0, 1, Dist("const", 30.0)), vus(1, 100.0, "queue/serve", ZERO))
    assert trace.per_second["cpu_s"][1:, 0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("cores", [1.0, 0.9])
def test_a_paused_or_dead_process_uses_no_cpu(cores: float) -> None:
    # 30 s of work at a time; paused from 10 to 25 s, dead from 50 s on
    faults = tuple(
        Fault(do, "queue-1", When(Dist("const", at)), lasts)
        for do, at, lasts in (("pause", 10.0, Dist("const", 15.0)), ("docker-kill", 50.5, None))
    )
    service = Service("queue", ops=(Op("serve", (Step("cpu", Dist("const", 30.0)),)),))
    stack = stack_of([service], [Instance("queue-1", "service", "host", "queue")], cores)
    load = replace(poisson(1000.0, 60.0), graceful_stop_s=0.0)
    trace = replicate(stack, Scenario("cpu", "", load, faults, probe_rate=0.0), SEEDS[0], 0)
    # the first request comes within milliseconds
    used = trace.per_second["cpu_s"][:, 0]
    expected = np.zeros(60)
    expected[:10] = expected[25:50] = cores
    expected[50] = cores / 2
    assert used == pytest.approx(expected, abs=0.01)
