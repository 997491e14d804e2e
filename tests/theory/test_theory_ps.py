"""Many threads on one core: processor sharing, whose mean depends on the mean demand alone.

An async service with more workers than ever wait shares one core equally among its requests.
"""

from __future__ import annotations

import math

import pytest
from closed_forms import mmc, processor_sharing, two_classes
from theory_tools import Case, faster, poisson, queue, scenario, stack_of

from hasim.model import Dist, Instance, Op, Service, Step

WORK = 0.1e-3
LOAD = 0.4


def sharing(dist: Dist, requests: float):
    """make() of a Case: requests is the number over all seeds."""
    rate = LOAD / WORK
    load = poisson(rate, requests / 20 / rate)

    def make(factor: float):
        return queue(faster(dist, factor), workers=4000, mode="async"), scenario(load)

    return make


MEAN = processor_sharing(LOAD / WORK, WORK)
CASES = [
    Case("M/M/1-PS", sharing(Dist("exp", WORK), 6e6), MEAN),
    Case("M/D/1-PS", sharing(Dist("const", WORK), 3e6), MEAN),
    Case(
        "M/H2/1-PS",  # cv^2 2.28
        sharing(Dist("hyperexp", table=((0.8, 0.6 * WORK), (0.2, 2.6 * WORK))), 6.5e6),
        MEAN,
    ),
    Case(
        "M/G/1-PS lognormal",  # sigma 0.8, by its mean
        sharing(Dist("lognormal", WORK * math.exp(-0.32), 0.8), 5e6),
        MEAN,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_only_the_mean_demand_matters(case: Case) -> None:
    case.check()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_rate_wrong_by_two_percent_is_refused(case: Case) -> None:
    case.check_twin()


# Two containers on one core, cpu_shares 1024 and 512: alone each has the core, together 2 : 1.
HEAVY, LIGHT = 0.1e-3, 0.2e-3
RATES = (2500.0, 1250.0)
SHARE = 2 / 3
EXACT = two_classes(RATES, (1 / HEAVY, 1 / LIGHT), SHARE)


def weighted(factor: float):
    services = [
        Service(name, 4000, "async", ops=(Op("serve", (Step("cpu", faster(dist, factor)),)),))
        for name, dist in (("heavy", Dist("exp", HEAVY)), ("light", Dist("exp", LIGHT)))
    ]
    instances = [
        Instance("heavy-1", "service", "host", "heavy", cpu_shares=1024),
        Instance("light-1", "service", "host", "light", cpu_shares=512),
    ]
    mix = [("heavy/serve", RATES[0] / sum(RATES)), ("light/serve", RATES[1] / sum(RATES))]
    load = poisson(sum(RATES), 10e6 / 20 / sum(RATES), mix)
    return stack_of(services, instances, cores=1.0), scenario(load, "heavy-1")


CLASSES = [
    Case("weights, heavy class", weighted, EXACT[0], op=0),
    Case("weights, light class", weighted, EXACT[1], op=1),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CLASSES, ids=lambda c: c.name)
def test_two_weighted_classes(case: Case) -> None:
    case.check()


@pytest.mark.slow
@pytest.mark.parametrize("case", CLASSES, ids=lambda c: c.name)
def test_two_weighted_classes_wrong_by_two_percent_are_refused(case: Case) -> None:
    case.check_twin()


def test_the_markov_chain_of_two_classes_knows_simple_ones() -> None:
    # one class without the other is M/M/1; equal demands in total are M/M/1 for every share
    assert two_classes((5000.0, 1e-9), (1e4, 1e4), 0.3)[0] == pytest.approx(mmc(5000, 1e4, 1)[0])
    a, b = two_classes((2000.0, 3000.0), (1e4, 1e4), 0.8)
    assert 2000 * a + 3000 * b == pytest.approx(5000 * mmc(5000, 1e4, 1)[0])
    assert a < b
