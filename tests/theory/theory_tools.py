"""Small stacks, fixed seeds and the one check that all exactness tests use.

A simulated value is *exact* when the pooled 99.9 % interval of 20 fixed seeds contains the closed
form and is narrower than the tolerance either way. The same check must refuse a simulation whose
service rate is 2 % wrong.

Warm-up: a fault that changes nothing (`slow` by the factor 1) opens a new window at WARM_SHARE of
the run, and only requests that began in it count. Requests under way at the end are waited for,
so nothing is cut off. For M/M/1 from empty the missing area under the number in the system is
rho / (1 - rho)^3 / mu, even without any warm-up 1 / ((1 - rho)^2 mu T) of the mean: below 3e-5
for every run here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from hasim.model import Dist, Host, Instance, Op, Route, Service, Stack, Step
from hasim.scenario import Client, Fault, FlowStep, Load, Scenario, When
from hasim.sim.run import replicate
from hasim.sim.trace import BUCKETS, OK, Trace, bucket_edges_s
from hasim.stats import Estimate, t_interval

SEEDS = tuple(range(101, 121))
ERROR = 0.0005  # of each bound: 99.9 % together
MEAN_TOLERANCE, P99_TOLERANCE = 0.005, 0.01
WRONG = 1.02  # the rate of the mutation twin
TWIN_SHARE = 0.25  # of the run's length: 2 % shows in less
WARM_SHARE = 0.02


def faster(dist: Dist, factor: float) -> Dist:
    """The distribution of work that is done at `factor` times the rate."""
    table = dist.table
    if dist.kind in ("hyperexp", "quantiles"):
        table = tuple((p, v / factor) for p, v in table)
    b = dist.b if dist.kind == "lognormal" else dist.b / factor
    return Dist(dist.kind, dist.a / factor, b, table)


def stack_of(
    services: Sequence[Service], instances: Sequence[Instance], cores: float = 64.0
) -> Stack:
    """Services on one host; users reach every operation directly."""
    ways = {f"{s.name}/{o.name}": Route("address", "", "", "", s.name)
            for s in services for o in s.ops}  # fmt: skip
    return Stack(
        "theory", "theory", "", (), (Host("host", cores, 1 << 40),), (), tuple(instances),
        tuple(services), (), (), {}, op_entries=ways,
    )  # fmt: skip


def queue(dist: Dist, workers: int = 1, mode: str = "sync", cores: float = 1.0) -> Stack:
    """One container with CPU work only."""
    service = Service("queue", workers, mode, ops=(Op("serve", (Step("cpu", dist),)),))
    return stack_of([service], [Instance("queue-1", "service", "host", "queue")], cores)


def poisson(rate: float, duration_s: float, mix=(("queue/serve", 1.0),)) -> Load:
    """Poisson arrivals of patient users, each with a connection of its own."""
    client = Client("one-shot", timeout_s=1e6, keep_alive=False, replay=False)
    return Load(
        "poisson", "constant-arrival-rate", ((duration_s, rate),), rate, max_vus=20_000,
        arrivals="poisson", graceful_stop_s=3600.0, flow=(FlowStep(tuple(mix)),), client=client,
    )  # fmt: skip


def vus(users: int, duration_s: float, op: str, think: Dist, ramp_s: float = 0.0) -> Load:
    """A closed group of users who think and ask, asked in one by one within ramp_s."""
    client = Client(timeout_s=1e6, replay=False)
    stages = ((ramp_s, float(users)), (duration_s, float(users)))
    return Load(
        "closed", "ramping-vus", stages, 0.0, graceful_stop_s=3600.0,
        flow=(FlowStep(((op, 1.0),), think),), client=client,
    )  # fmt: skip


def scenario(load: Load, target: str = "queue-1", **more) -> Scenario:
    """No probes; a new window once the warm-up is over."""
    warm = When(Dist("const", WARM_SHARE * load.duration_s))
    marker = Fault("slow", target, warm, args={"cpu": "1.0"})
    return replace(Scenario("theory", "", load, (marker,), probe_rate=0.0), **more)


def shortened(scenario_: Scenario, share: float) -> Scenario:
    """The same with every stage `share` times as long."""
    load = scenario_.load
    stages = tuple((d * share, level) for d, level in load.stages)
    made = replace(load, stages=stages)
    return scenario(made, scenario_.faults[0].target, probe_rate=scenario_.probe_rate)


def traces(stack: Stack, scenario_: Scenario) -> list[Trace]:
    """One run per seed; none may have dropped or lost a request."""
    out = []
    for seed in SEEDS:
        trace = replicate(stack, scenario_, seed, 0)
        assert trace.void == ""
        assert trace.counters["dropped_iterations"] == trace.counters["interrupted"] == 0
        out.append(trace)
    return out


@lru_cache(maxsize=1)
def runs_of(make: Callable[[float], tuple[Stack, Scenario]], factor: float) -> list[Trace]:
    """The runs of a Case; two cases that look at the same simulation in turn share them."""
    stack, scenario_ = make(factor)
    return traces(stack, scenario_ if factor == 1.0 else shortened(scenario_, TWIN_SHARE))


def measured(trace: Trace, op: int = 0) -> tuple[int, float, np.ndarray]:
    """(requests, sum of their times in s, histogram) after the warm-up; all must have succeeded."""
    hist = trace.hist[1:, op].sum(axis=0)
    n = int(hist[OK].sum())
    assert n == hist.sum() > 0
    return n, float(trace.latency_sum_s[1:, op, OK].sum()), hist[OK]


def mean_of(trace: Trace, op: int = 0) -> float:
    """Mean time of the requests after the warm-up."""
    n, total, _ = measured(trace, op)
    return total / n


def quantile_of(trace: Trace, q: float, op: int = 0) -> float:
    """Quantile of the requests after the warm-up, linear inside its bucket."""
    n, _, hist = measured(trace, op)
    upper = bucket_edges_s()
    upto = np.cumsum(hist)
    i = min(int(np.searchsorted(upto, q * n)), BUCKETS - 1)
    lower = upper[i - 1] if i else 0.0
    return float(lower + (upper[i] - lower) * (q * n - (upto[i] - hist[i])) / hist[i])


def pooled(values: Sequence[float]) -> Estimate:
    """The 99.9 % interval of one value per seed."""
    assert len(values) == len(SEEDS)
    return t_interval(values, ERROR)


def contains(e: Estimate, exact: float) -> bool:
    """Does the interval contain the exact value?"""
    return e.low <= exact <= e.high


def narrow(e: Estimate, exact: float, tolerance: float) -> bool:
    """Is half of the interval less than the tolerance, relative to the exact value?"""
    return (e.high - e.low) / 2 < tolerance * exact


def assert_exact(what: str, values: Sequence[float], exact: float, tolerance: float) -> None:
    """The interval contains the exact value and is narrow."""
    e = pooled(values)
    text = describe(what, e, exact)
    print(text)
    assert contains(e, exact), text
    assert narrow(e, exact, tolerance), text


def assert_refused(what: str, values: Sequence[float], exact: float) -> None:
    """The interval of a wrong simulation leaves the exact value out."""
    e = pooled(values)
    text = describe(f"{what}, 2 % wrong", e, exact)
    print(text)
    assert not contains(e, exact), text


def describe(what: str, e: Estimate, exact: float) -> str:
    """One line for a report."""
    half = (e.high - e.low) / 2 / exact * 100
    off = (e.mean / exact - 1) * 100
    return (
        f"{what}: exact {exact:.8g}, interval [{e.low:.8g}, {e.high:.8g}], +-{half:.3f} %, "
        f"mean off by {off:+.3f} %"
    )


@dataclass(frozen=True)
class Case:
    """One closed form: make(factor) simulates with the service rate times `factor`."""

    name: str
    make: Callable[[float], tuple[Stack, Scenario]]
    mean: float
    p99: float = 0.0
    op: int = 0

    def check(self) -> None:
        """The simulation is exact."""
        runs = runs_of(self.make, 1.0)
        means = [mean_of(t, self.op) for t in runs]
        assert_exact(f"{self.name} mean", means, self.mean, MEAN_TOLERANCE)
        if self.p99:
            values = [quantile_of(t, 0.99, self.op) for t in runs]
            assert_exact(f"{self.name} p99", values, self.p99, P99_TOLERANCE)

    def check_twin(self) -> None:
        """The simulation with a rate that is 2 % too high is refused, by the mean and the p99."""
        runs = runs_of(self.make, WRONG)
        assert_refused(f"{self.name} mean", [mean_of(t, self.op) for t in runs], self.mean)
        if self.p99:
            values = [quantile_of(t, 0.99, self.op) for t in runs]
            assert_refused(f"{self.name} p99", values, self.p99)
