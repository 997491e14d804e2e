"""Random numbers: numpy's Philox and scipy's quantiles are the oracles.

That a demand brings the same work wherever and however often it is tried, is tested on whole runs.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from hasim.model import Dist, Host, Instance, Op, Route, Service, Stack, Step
from hasim.scenario import Client, Fault, FlowStep, Load, Scenario, When
from hasim.sim import arrays
from hasim.sim.kernel import draw
from hasim.sim.kernel.layout import entry
from hasim.sim.kernel.users import ARRIVALS
from hasim.sim.programs import compile_stack
from hasim.sim.run import replicate
from hasim.sim.trace import Trace

plain = entry  # helpers cannot be called from Python


@plain
def block_into(out, c, key):
    out[0], out[1], out[2], out[3] = draw.philox(c[0], c[1], c[2], c[3], key[0], key[1])


@plain
def units_into(out, words):
    for i in range(words.size):
        out[i] = draw.unit(words[i])


@plain
def normals_into(out, p):
    for i in range(p.size):
        out[i] = draw.normal_quantile(p[i])


@plain
def samples_into(out, k, dist, words):
    for i in range(words.size):
        out[i] = draw.sample(k, dist, words[i])


def numpy_block(counter: list[int], key: list[int]) -> np.ndarray:
    """numpy's block for this counter; it increments the 256-bit counter before each block."""
    number = sum(c << 64 * i for i, c in enumerate(counter))
    before = (number - 1) % (1 << 256)
    start = [before >> 64 * i & 0xFFFFFFFFFFFFFFFF for i in range(4)]
    generator = np.random.Philox(counter=np.array(start, np.uint64), key=np.array(key, np.uint64))
    return generator.random_raw(4)


TOP = (1 << 64) - 1
COUNTERS = [([0, 0, 0, 0], [0, 0]), ([TOP] * 4, [TOP] * 2), ([1, 2, 3, 4], [5, 6])]
rng = np.random.default_rng(20260101)
for _ in range(200):
    row = [int(x) for x in rng.integers(0, TOP, 6, dtype=np.uint64, endpoint=True)]
    COUNTERS.append((row[:4], row[4:]))


def test_philox_is_numpys() -> None:
    out = np.zeros(4, np.uint64)
    for counter, key in COUNTERS:
        block_into(out, np.array(counter, np.uint64), np.array(key, np.uint64))
        assert out.tolist() == numpy_block(counter, key).tolist()


def test_a_word_becomes_the_double_that_numpy_makes_of_it() -> None:
    raw = np.random.Philox(7).random_raw(1000)
    out = np.zeros(1000)
    units_into(out, raw)
    assert np.array_equal(out, np.random.Generator(np.random.Philox(7)).random(1000))
    units_into(out, np.full(1000, TOP, np.uint64))
    assert out[0] < 1.0


def test_the_normal_quantile_is_scipys() -> None:
    p = np.concatenate([np.linspace(1e-6, 1 - 1e-6, 20_001), 10.0 ** -np.arange(1.0, 18.0)])
    out = np.zeros(len(p))
    normals_into(out, p)
    assert out == pytest.approx(special.ndtri(p), rel=1e-13, abs=1e-14)


TABLE = ((0.0, 1.0), (0.5, 2.0), (0.9, 2.0), (0.99, 30.0), (1.0, 100.0))
MIXTURE = ((0.7, 10.0), (0.3, 40.0))
DISTS = {  # in seconds -> quantile function
    "exp": (Dist("exp", 12.5), lambda u: stats.expon.ppf(u, scale=12.5)),
    "uniform": (Dist("uniform", 3.0, 11.0), lambda u: stats.uniform.ppf(u, 3.0, 8.0)),
    "lognormal": (Dist("lognormal", 4.0, 0.7), lambda u: stats.lognorm.ppf(u, 0.7, scale=4.0)),
    "quantiles": (Dist("quantiles", table=TABLE), lambda u: np.interp(u, *np.transpose(TABLE))),
    "const": (Dist("const", 5.0), lambda u: np.full(len(u), 5.0)),
    "hyperexp": (Dist("hyperexp", table=MIXTURE), lambda u: mixture_quantile(u)),
}


def mixture_quantile(u: np.ndarray) -> np.ndarray:
    """By Newton's method from the left of the root; the tail is convex."""
    x = np.zeros(len(u))
    for _ in range(300):
        tail = sum(w * np.exp(-x / m) for w, m in MIXTURE)
        slope = sum(w / m * np.exp(-x / m) for w, m in MIXTURE)
        x += (tail - (1 - u)) / slope
    return x


@pytest.mark.parametrize("kind", DISTS)
def test_inverse_cdfs_are_scipys_and_monotone(kind: str) -> None:
    dist, oracle = DISTS[kind]
    u = np.sort(np.concatenate([[2.0**-53], np.random.default_rng(1).random(5000)]))
    words = (u * 2.0**53).astype(np.uint64) << np.uint64(11)
    tables = compile_stack(stack())
    tables.dist(DISTS["quantiles"][0])  # a table that is not the first
    number = tables.dist(dist)
    arrays.load_rows(tables, scenario(1.0))
    k = arrays.build(tables, scenario(1.0), 1, 0, False)
    out = np.zeros(len(u), np.int64)
    samples_into(out, k, number, words)
    assert out * 1e-9 == pytest.approx(oracle(u), rel=1e-12, abs=2e-9)
    assert (np.diff(out) >= 0).all()


# ---- whole runs ------------------------------------------------------------------------------
STEPS = tuple(Dist("exp", 1e-3 * (i + 1)) for i in range(7))  # more than the words of one block


def stack(instances: int = 1, restart: str = "always") -> Stack:
    """Workers enough that nobody waits: the time of a request is the sum of its steps."""
    op = Op("ask", tuple(Step("io", d) for d in STEPS))
    return Stack(
        "draws", "draws", "", (), (Host("h", 64.0, 1 << 40),), (),
        tuple(Instance(f"s-{i}", "service", "h", "s", restart=restart) for i in range(instances)),
        (Service("s", 64, ops=(op,)),), (), (), {},
        op_entries={"s/ask": Route("address", "", "", "", "s")},
    )  # fmt: skip


def scenario(rate: float, **client) -> Scenario:
    """Twenty seconds of evenly spaced arrivals."""
    load = Load(
        "even", "constant-arrival-rate", ((20.0, rate),), rate, max_vus=1000,
        flow=(FlowStep((("s/ask", 1.0),)),), client=Client("one-shot", keep_alive=False, **client),
    )  # fmt: skip
    return Scenario("draws", "", load, probe_rate=0.0)


def run(stack_: Stack, scenario_: Scenario, seed: int = 5, replication: int = 3) -> Trace:
    return replicate(stack_, scenario_, seed, replication, keep_requests=True)


def times(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """(begin, latency) of all requests in ns, in order of their beginning; all must be good."""
    rows = trace.requests
    assert rows is not None
    assert (rows["status"] == "200").all()
    rows = rows[np.argsort(rows["start_s"], kind="stable")]
    begun, took = (np.rint(rows[n] * 1e9).astype(np.int64) for n in ("start_s", "latency_s"))
    return begun, took


def test_each_request_takes_what_numpys_words_say() -> None:
    _, latency = times(run(stack(), scenario(50.0), seed=5, replication=3))
    assert len(latency) > 900
    for number, took in enumerate(latency):
        words = [numpy_block([number, ARRIVALS, 0, block], [5, 3]) for block in range(3)]
        u = (np.concatenate(words)[2:9] >> np.uint64(11)) * 2.0**-53
        expected = sum(round(-math.log1p(-x) * d.a * 1e9) for x, d in zip(u, STEPS, strict=True))
        assert abs(int(took) - expected) <= len(STEPS)


def test_the_work_does_not_depend_on_the_server_or_the_number_of_servers() -> None:
    one, three = run(stack(1), scenario(50.0)), run(stack(3), scenario(50.0))
    assert np.array_equal(times(one)[1], times(three)[1])
    assert (three.per_second["inflight"].sum(axis=0) > 0).all()


def test_seed_and_replication_change_the_work() -> None:
    keys = ((5, 3), (6, 3), (5, 4))
    a, b, c = (times(run(stack(), scenario(50.0), *key))[1] for key in keys)
    assert not (a == b).any()
    assert not (a == c).any()


def test_a_request_that_is_tried_again_brings_the_same_work() -> None:
    quiet = scenario(50.0, retries=3, backoff_s=0.5)
    at = 10_013_000_000
    crash = Fault("crash", "s-0", When(Dist("const", at * 1e-9)))
    begun, calm = times(run(stack(), quiet))
    same, hit = times(run(stack(), replace(quiet, faults=(crash,))))
    assert np.array_equal(begun, same)
    cut = (begun < at) & (begun + calm > at)
    assert cut.any()
    # lost at the crash, sent again after 0.5 s, then everything once more
    assert np.array_equal(hit[cut], at - begun[cut] + 500_000_000 + calm[cut])
    refused = (begun >= at) & (begun < at + 100_000_000)  # Docker starts it again after 0.1 s
    assert np.array_equal(hit[refused], 500_000_000 + calm[refused])
    assert refused.any()
    rest = ~cut & ~refused
    assert np.array_equal(hit[rest], calm[rest])
