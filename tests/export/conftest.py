"""A run that passed over three servers, made once; each test gets a copy of its folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hasim.runner import run

SCENARIOS = """\
version: 1
stack: stack
seed: 7
loads:
  open: {executor: constant-arrival-rate, rate: 50, duration: 20s, preAllocatedVUs: 50,
         maxVUs: 500, client: one-shot, mix: {get: 100%}}
replications: 5
coverage: 50%
scenarios:
  calm: {load: open, doc: Nothing fails., budgets: {http_req_failed: ["rate<1%"]}}
  crash:
    load: open
    recover_within: 5s
    faults: [{at: 5s, do: crash, target: web-1, for: 5s}]
    budgets: {http_req_failed: ["rate<30%"], outage_duration: ["max<1ms"]}
    known_gaps: [{budget: outage_duration, reason: "the laboratory has no spare"}]
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """A working directory with stack/, scenarios.yaml and a whole run in out/scenarios."""
    place = tmp_path_factory.mktemp("made")
    shutil.copytree(models / "three-servers", place / "stack")
    (place / "stack" / "scenarios.yaml").unlink()
    (place / "scenarios.yaml").write_text(SCENARIOS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        verdict = run("scenarios.yaml", out="out/scenarios", jobs=1)
    assert verdict.exit_code == 0, [(s.name, s.verdict, s.budgets) for s in verdict.scenarios]
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made`, as the working directory."""
    here = tmp_path / "place"
    shutil.copytree(made, here)
    monkeypatch.chdir(here)
    return here
