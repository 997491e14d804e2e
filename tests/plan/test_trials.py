"""Trials: the same numbers from any number of workers, and none simulated twice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from hasim.errors import InputError
from hasim.plan.journal import Journal, from_json, to_json
from hasim.plan.trials import Bench, trial
from hasim.project import open_project
from hasim.scenario import Scenario
from hasim.stack import load
from hasim.verdict_measure import Measured


@pytest.fixture(scope="module")
def scenario(root: Path) -> Scenario:
    """Ten seconds of 20 users on the guide's stack."""
    file = open_project(root / "models/story-portal-guide-bootable/scenarios.yaml").file
    assert file is not None
    one = next(s for s in file.scenarios if s.name == "gateway-crash")
    short = replace(one.load, stages=((10.0, 20.0),), start=20.0)
    return replace(one, load=short, faults=(), budgets=one.budgets[:1])


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "models/story-portal-guide-bootable"


def same(a: Iterable[Measured], b: Iterable[Measured]) -> bool:
    """Equal, where nan is equal to nan."""
    return [json.dumps(to_json(m)) for m in a] == [json.dumps(to_json(m)) for m in b]


SET = {"haproxy.backend.l09-api-gateway.*.inter": "500ms"}


def test_workers_and_journal_change_nothing(
    folder: Path, scenario: Scenario, tmp_path: Path
) -> None:
    stack = load(folder)
    wanted = [(trial(stack, scenario, 7), [0, 1]), (trial(stack, scenario, 7, SET), [0, 1])]
    journal = tmp_path / "j.jsonl"
    with Bench(jobs=1, journal=journal) as bench:
        alone = bench.measure(wanted)
    told = []
    with Bench(jobs=2, tell=told.append) as bench:
        assert all(map(same, bench.measure(wanted), alone))
    assert told[-1].done == told[-1].wanted == 4
    assert not same(*alone)
    with Bench(jobs=1, journal=journal, tell=lambda done: pytest.fail("simulated again")) as bench:
        assert all(map(same, bench.measure(wanted), alone))


def test_a_torn_line_costs_one_replication(
    folder: Path, scenario: Scenario, tmp_path: Path
) -> None:
    one, path = trial(load(folder), scenario, 7), tmp_path / "j.jsonl"
    with Bench(jobs=1, journal=path) as bench:
        [whole] = bench.measure([(one, [0, 1])])
    path.write_bytes(path.read_bytes()[:-20])
    with Journal(path) as journal:
        assert same([journal.get(one.key, 0)], whole[:1])
        assert journal.get(one.key, 1) is None
        journal.put(one.key, whole[1])
    with Journal(path) as journal:
        assert same([journal.get(one.key, 1)], whole[1:])


def test_numbers_survive_json(folder: Path, scenario: Scenario) -> None:
    with Bench(jobs=1) as bench:
        [[one]] = bench.measure([(trial(load(folder), scenario, 7), [0])])
    assert same([from_json(json.loads(json.dumps(to_json(one))))], [one])


def test_a_key_is_about_what_is_simulated(folder: Path, scenario: Scenario) -> None:
    stack = load(folder)
    one = trial(stack, scenario, 7)
    elsewhere = replace(scenario, doc="other words", span=None)
    assert trial(stack, elsewhere, 7).key == one.key
    assert trial(stack, scenario, 8).key != one.key
    assert trial(stack, scenario, 7, SET).key != one.key
    assert trial(stack, replace(scenario, probe_rate=5.0), 7).key != one.key


def test_a_setting_that_fits_nothing_is_an_input_error(folder: Path, scenario: Scenario) -> None:
    with Bench(jobs=2) as bench, pytest.raises(InputError, match="unknown knob"):
        bench.measure([(trial(load(folder), scenario, 7, {"haproxy.no.*.such": "1"}), [0])])
