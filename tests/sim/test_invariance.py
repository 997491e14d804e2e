"""What must not change a run: probes, timeouts that nothing meets, the order of replications."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hasim.bind import load_scenarios
from hasim.sim.run import replicate
from hasim.stack import load, with_settings

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def scenarios():
    return {
        s.name: s for s in load_scenarios(MODELS / "three-servers" / "scenarios.yaml")[0].scenarios
    }


def requests_of(trace):
    """(per operation, outcome and latency bucket, per second) whatever the segments were."""
    return trace.hist.sum(axis=0), trace.per_second["started"], trace.terminations


def same(a, b) -> bool:
    (ha, sa, ta), (hb, sb, tb) = requests_of(a), requests_of(b)
    return bool((ha == hb).all() and (sa == sb).all() and ta == tb)


@pytest.mark.parametrize("name", ["steady", "crash", "pause", "blackhole"])
def test_probes_change_no_request(scenarios, name):
    stack = load(MODELS / "three-servers")
    scenario = scenarios[name]
    with_probes = replicate(stack, scenario, 5, 0)
    without = replicate(stack, replace(scenario, probe_rate=0.0), 5, 0)
    assert len(with_probes.probe_start_s) > 100
    assert len(without.probe_start_s) == 0
    assert same(with_probes, without)


def test_a_shorter_server_timeout_changes_nothing_while_all_is_well(scenarios):
    folder = MODELS / "three-servers"
    knob = {"haproxy.defaults.timeout_server": "3000"}
    before = replicate(load(folder), scenarios["steady"], 5, 0)
    after = replicate(with_settings(folder, knob), scenarios["steady"], 5, 0)
    assert same(before, after)
    hung = replicate(with_settings(folder, knob), scenarios["pause"], 5, 0)
    assert not same(hung, replicate(load(folder), scenarios["pause"], 5, 0))


def test_a_replication_does_not_depend_on_those_before_it(scenarios):
    stack = load(MODELS / "three-servers")
    alone = replicate(stack, scenarios["crash"], 5, 3)
    for r in (0, 1):
        replicate(stack, scenarios["pause"], 5, r)
    again = replicate(stack, scenarios["crash"], 5, 3)
    assert same(alone, again)
    assert alone.timeline == again.timeline
    assert np.array_equal(alone.probe_latency_s, again.probe_latency_s, equal_nan=True)
