"""Choosing without a simulation: Pareto sets, knees, shortened scenarios, clear defeats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import budget, scenario, threshold

from hasim.model import Dist
from hasim.plan import pareto
from hasim.plan.screen import LEAD_S, TAIL_S, cut, light, light_sees, short, short_sees
from hasim.plan.sweep import clearly_beats
from hasim.plan.sweep_desk import difference, same
from hasim.scenario import Fault, Load, When

numbers = st.integers(0, 4).map(float) | st.just(math.inf)
clouds = st.integers(1, 4).flatmap(
    lambda d: st.lists(st.tuples(*[numbers] * d), min_size=1, max_size=25)
)


# ---- Pareto --------------------------------------------------------------------------------------
@given(clouds)
def test_front_is_what_brute_force_says(points) -> None:
    wanted = []
    for i, p in enumerate(points):
        beaten = False
        for q in points:
            better = [a < b for a, b in zip(q, p, strict=True)]
            worse = [a > b for a, b in zip(q, p, strict=True)]
            beaten |= any(better) and not any(worse)
        wanted += [] if beaten else [i]
    assert pareto.front(points) == wanted


@given(clouds)
def test_fronts_hold_every_point_once_and_none_is_beaten_by_a_later_one(points) -> None:
    layers = pareto.fronts(points)
    assert sorted(i for layer in layers for i in layer) == list(range(len(points)))
    for before, after in zip(layers, layers[1:], strict=False):
        for j in after:
            assert any(pareto.dominates(points[i], points[j]) for i in before)
            assert not any(pareto.dominates(points[j], points[i]) for i in before)


@given(clouds, st.integers(1, 25))
def test_best_never_prefers_a_beaten_point(points, n: int) -> None:
    chosen = pareto.best(points, n)
    assert len(chosen) == min(n, len(points))
    for i in set(range(len(points))) - set(chosen):
        for j in chosen:
            assert not pareto.dominates(points[i], points[j])


def test_best_keeps_the_ends_of_a_front() -> None:
    points = [(float(i), float((10 - i) ** 2)) for i in range(11)]
    assert {0, 10} <= set(pareto.best(points, 4))


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_knee_of_a_known_front(scale: float) -> None:
    """y = 1/x between 0.1 and 10: farthest below the line through the ends at x = y = 1."""
    points = [(x, scale / x) for x in np.geomspace(0.1, 10, 21)]
    scores = pareto.knee_scores(points)
    assert points[int(np.argmin(scores))][0] == pytest.approx(1.0)


def test_noise_has_no_say_in_the_knee() -> None:
    points = [(0.0, 5.001), (0.9, 5.0), (1.0, 5.0)]
    assert int(np.argmin(pareto.knee_scores(points, [False, True]))) == 0


# ---- clear defeats -------------------------------------------------------------------------------
def test_paired_dropping_seldom_drops_the_best() -> None:
    """Twelve candidates with known means, noise of their own and luck in common."""
    rng, wrong, dropped = np.random.default_rng(5), 0, 0
    means = np.concatenate([[1.0], 1.0 + 0.2 * np.arange(1, 12)])
    for _ in range(300):
        luck = rng.normal(0, 2, 8)
        runs = [np.array([m + luck + rng.normal(0, 0.1, 8)]) for m in means]
        error = 0.025 / 2 / 11
        out = [any(clearly_beats(a, b, error) for a in runs if a is not b) for b in runs]
        wrong += out[0]
        dropped += sum(out[1:])
    assert wrong / 300 <= 0.05
    assert dropped / 300 >= 9  # common luck makes most defeats clear


def test_a_defeat_needs_every_objective() -> None:
    a, b = np.array([[1.0] * 4, [2.0] * 4]), np.array([[2.0] * 4, [1.0] * 4])
    assert not clearly_beats(a, b, 0.025)
    assert not clearly_beats(a, a, 0.025)
    assert clearly_beats(np.array([[1.0] * 4, [1.0] * 4]), b, 0.025)


def test_infinite_objectives_are_compared() -> None:
    never, soon = np.full(3, math.inf), np.ones(3)
    assert difference(never, never, 0.025).high == 0.0
    assert difference(never, soon, 0.025).high == -math.inf
    assert difference(soon, never, 0.025).low == math.inf


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [("2s", "2000", True), ("1.0", "1", True), ("on", "off", False), ("1m", "60s", True),
     ("2s", "2", False), ("1.2.3", "1.2.3", True)],
)  # fmt: skip
def test_one_value_written_in_two_ways(a: str, b: str, equal: bool) -> None:
    assert same(a, b) is equal


# ---- shortened scenarios -------------------------------------------------------------------------
def test_short_runs_hold_the_fault_and_what_comes_after() -> None:
    whole = scenario()  # 400 s, a pause from 100 s to 200 s
    made = short(whole)
    assert made.faults[0].at.offset.a == LEAD_S
    assert made.faults[0].lasts == whole.faults[0].lasts
    assert made.load.duration_s == LEAD_S + 100.0 + TAIL_S
    assert made.load.stages[0][1] == whole.load.stages[0][1]
    assert short(made) == made


def test_short_keeps_the_spread_of_a_fault() -> None:
    fault = Fault("crash", "gw-1", When(Dist("uniform", 60.0, 65.0)), Dist("const", 20.0))
    made = short(scenario(faults=(fault,)))
    assert (made.faults[0].at.offset.a, made.faults[0].at.offset.b) == (LEAD_S, LEAD_S + 5)
    assert made.load.duration_s == LEAD_S + 5 + 20 + TAIL_S


def test_nobody_can_cut_what_has_no_end_or_no_beginning() -> None:
    for_ever = Fault("crash", "gw-1", When(Dist("const", 100.0)))
    made = short(scenario(faults=(for_ever,)))
    assert made.load.duration_s == 400.0 - (100.0 - LEAD_S)
    someday = Fault("crash", "gw-1", When(Dist("exp", 100.0)), Dist("const", 20.0))
    assert short(scenario(faults=(someday,))) == scenario(faults=(someday,))
    later = Fault("crash", "gw-1", When(event="+odown"), Dist("const", 20.0))
    assert short(scenario(faults=(later,))) == scenario(faults=(later,))
    assert short(scenario(faults=())) == scenario(faults=())


@given(
    st.lists(st.tuples(st.floats(1, 100), st.floats(0, 500)), min_size=1, max_size=5),
    st.floats(0, 500),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_cut_load_has_the_levels_of_the_whole(stages, start, a, b) -> None:
    load = Load("ramp", "ramping-arrival-rate", tuple(stages), start)
    begin, end = sorted((a * load.duration_s, b * load.duration_s))
    made = cut(load, begin, end)
    assert made.duration_s == pytest.approx(end - begin, abs=1e-6)
    for part in (0.25, 0.5, 0.75):
        t = begin + part * (end - begin)
        if end - begin > 1e-3:
            assert _level(made, t - begin) == pytest.approx(_level(load, t), abs=1e-3, rel=1e-6)


def _level(load: Load, t: float) -> float:
    at, times, levels = 0.0, [0.0], [load.start]
    for duration, target in load.stages:
        at += duration
        times.append(at)
        levels.append(target)
    return float(np.interp(t, times, levels))


def test_next_to_no_load_still_moves_the_balancer() -> None:
    made = light(scenario())
    assert made.load.stages == ((400.0, 20.0),)
    assert made.load.start == 20.0
    few = light(scenario(load=Load("few", "constant-vus", ((9.0, 3.0),), 3.0)))
    assert few.load.start == 3.0


def test_what_a_cheap_run_can_see() -> None:
    share = threshold("rate<1%", "rate", "<", 0.01)
    assert not short_sees(budget("http_req_failed", share))  # a longer run has more good requests
    assert short_sees(budget("http_req_failed", share, window="fault"))
    assert short_sees(budget("failed_requests", share), order=True)
    assert not short_sees(budget("memory_utilization", share), order=True)
    assert light_sees("outage_duration")
    assert not light_sees("http_req_duration", order=True)
    assert light_sees("probe_load", order=True)
    assert not light_sees("probe_load")
