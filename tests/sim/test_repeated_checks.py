"""Checks that the data plane repeats are those that the control plane would have sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasim.bind import load_scenarios
from hasim.sim import run
from hasim.sim.engine import Engine
from hasim.sim.world import Repeated

MODEL = Path(__file__).parents[2] / "models" / "three-servers" / "scenarios.yaml"


class OneByOne(Engine):
    """An engine that repeats nothing: each check is a control event."""

    def repeat_check(self, edge, kind, url, pace, due_ns, tick):
        return self.env.event().succeed(Repeated(tick, due_ns, 0, None))


@pytest.mark.parametrize("name", ["steady", "crash", "pause", "blackhole"])
def test_repeating_changes_neither_timeline_nor_requests(monkeypatch, name):
    file, stack = load_scenarios(MODEL)
    scenario = next(s for s in file.scenarios if s.name == name)
    together = run.replicate(stack, scenario, 11, 3)
    monkeypatch.setattr(run, "Engine", OneByOne)
    apart = run.replicate(stack, scenario, 11, 3)
    assert [(m.t_s, m.event, m.detail) for m in together.timeline] == [
        (m.t_s, m.event, m.detail) for m in apart.timeline
    ]
    assert together.terminations == apart.terminations
    assert together.counters["checks"] == apart.counters["checks"]
    assert (together.hist == apart.hist).all()
