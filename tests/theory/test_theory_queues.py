"""Single queues, first come first served: M/D/1, M/G/1 (M/M/1 and M/M/3 are models/)."""

from __future__ import annotations

import math

import pytest
from closed_forms import erlang_c, md1_quantile, mg1, mmc
from theory_tools import Case, faster, poisson, queue, scenario

from hasim.model import Dist

RATE, WORK = 5000.0, 0.1e-3  # half of one worker's time


def fifo(dist: Dist, requests: float):
    """make() of a Case: requests is the number over all seeds."""
    load = poisson(RATE, requests / 20 / RATE)

    def make(factor: float):
        return queue(faster(dist, factor)), scenario(load)

    return make


def lognormal(mean: float, sigma: float) -> Dist:
    """By its mean."""
    return Dist("lognormal", mean * math.exp(-sigma * sigma / 2), sigma)


CASES = [
    Case(
        "M/D/1",
        fifo(Dist("const", WORK), 4e6),
        mg1(RATE, WORK, WORK**2),
        md1_quantile(RATE, WORK, 0.99),
    ),
    Case(
        "M/G/1 uniform",
        fifo(Dist("uniform", 0.5 * WORK, 1.5 * WORK), 4e6),
        mg1(RATE, WORK, WORK**2 * (1 + 1 / 12)),
    ),
    Case(
        "M/G/1 lognormal",
        fifo(lognormal(WORK, 0.8), 10e6),
        mg1(RATE, WORK, WORK**2 * math.exp(0.64)),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_queue_is_exact(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_rate_wrong_by_two_percent_is_refused(case: Case) -> None:
    case.check_twin()


def test_the_formulas_know_each_other() -> None:
    # M/M/1 three ways, and the figures of the reference workload W1
    assert mmc(80, 100, 1) == pytest.approx((0.05, 0.05 * math.log(100)))
    assert mg1(80, 0.01, 2e-4) == pytest.approx(0.05)
    assert erlang_c(80, 100, 1) == pytest.approx(0.8)
    assert mmc(240, 100, 3) == pytest.approx((20.7865e-3, 84.555e-3), rel=1e-5)
