"""The control plane stays small: daemons sleep while nothing happens (issue 3, "Speed")."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasim.bind import load_scenarios
from hasim.sim.run import replicate

TOP = Path(__file__).resolve().parent.parent
MOST = 25_000  # per simulated quarter of an hour
QUARTER_S = 900.0
FILES = ("scenarios.yaml", "models/story-portal-guide-bootable/scenarios.yaml")


def _all() -> list[tuple[str, str]]:
    every = [(f, s) for f in FILES for s in load_scenarios(TOP / f)[0].scenarios]
    return [(f, s.name) for f, s in every if s.kind == "run"]


@pytest.mark.parametrize(("file", "name"), _all())
def test_at_most_25000_control_events_per_quarter_of_an_hour(file, name):
    scenarios, stack = load_scenarios(TOP / file)
    scenario = next(s for s in scenarios.scenarios if s.name == name)
    trace = replicate(stack, scenario, 20260101, 0)
    if not trace.void:
        assert 0 < trace.counters["control_events"] * QUARTER_S / trace.duration_s <= MOST
