"""`hasim export --capacity`: other limits are other files, so every scenario runs again on them."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from deploys import ROOT

from hasim.errors import InputError, Refused
from hasim.export import limits, validators, writer
from hasim.model import Stack
from hasim.runner import run
from hasim.stack import load

BODY = """\
version: 1
stack: stack
seed: 3
replications: 2
loads:
  few: {executor: constant-vus, vus: 2, duration: 20s, think_time: 1s, mix: {browse: 100%}}
scenarios:
  calm: {load: few, budgets: {http_req_failed: ["rate<1%"], http_req_duration: ["p(99)<LIMIT"]}}
"""


def capacity(cores: float, memory_bytes: int, instances: int = 3) -> str:
    amount = {"instances": instances, "cores": cores, "memory_bytes": memory_bytes}
    names = [f"l09-api-gateway-{i}" for i in (1, 2, 3)]
    size = {
        "service": "l09-api-gateway",
        "given": {**amount, "instances": 3},
        "needed": amount,
        "recommended": amount,
        "containers": names,
    }
    kept = {**size, "service": "redis", "needed": None, "containers": ["redis-master"]}
    return json.dumps({"schema": 1, "sizings": [{"sizes": [size, kept]}]})


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "models/story-portal-guide-bootable", tmp_path / "stack")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenarios.yaml").write_text(BODY.replace("LIMIT", "5s"))
    assert run("scenarios.yaml", out="out/run", jobs=1).exit_code == 0
    monkeypatch.setattr(validators, "run", lambda folder, deploy: [])
    monkeypatch.setattr(writer, "_rollout", lambda deploy, jobs, say: None)
    return tmp_path


def test_limits_are_written_and_simulated(guide: Path) -> None:
    Path("capacity.json").write_text(capacity(1.5, 1 << 29, instances=4))
    said: list[str] = []
    done = writer.export(
        Path("out/run"), Path("out/deploy"), capacity=Path(), jobs=1, say=said.append
    )
    assert "l09-api-gateway: 4 instances are recommended, not 3" in "\n".join(said)
    assert "calm: pass" in said
    there = load("out/deploy/stack")
    gateways = [i for i in there.instances if i.service == "l09-api-gateway"]
    assert [(g.cpus, g.mem_limit_bytes) for g in gateways] == [(1.5, 1 << 29)] * 3
    others = [i for i in there.instances if i.service != "l09-api-gateway"]
    assert not any(i.cpus for i in others)
    assert done.evidence["stack_sha256"] == there.sha256 != load("stack").sha256
    assert done.evidence["before_sha256"] == load("stack").sha256
    assert done.changes.files == (("docker-compose.ha.yml", 6, 0),)
    assert load("stack").instance("l09-api-gateway-1").cpus == 0


def test_limits_under_which_a_scenario_fails_are_refused(guide: Path) -> None:
    Path("scenarios.yaml").write_text(BODY.replace("LIMIT", "400ms"))
    assert run("scenarios.yaml", out="out/run", jobs=1).exit_code == 0
    Path("capacity.json").write_text(capacity(0.01, 1 << 29))
    with pytest.raises(Refused, match="with the limits of the capacity result") as caught:
        writer.export(Path("out/run"), Path("out/deploy"), capacity=Path(), jobs=1)
    assert caught.value.exit_code in (99, 3)
    assert [p.name for p in Path("out").iterdir()] in (["run", "run.prev"], ["run.prev", "run"])


def test_limits_that_are_there_already_change_nothing() -> None:
    stack = load(ROOT / "models/story-portal")
    gateway = stack.instance("l09-api-gateway-1")
    made = json.loads(capacity(gateway.cpus, gateway.mem_limit_bytes))
    assert settings(made, stack) == {}
    made["sizings"][0]["sizes"][0]["recommended"]["cores"] = 3.0
    assert settings(made, stack) == {f"compose.l09-api-gateway-{i}.cpus": "3" for i in (1, 2, 3)}


def settings(made: dict, stack: Stack) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as temp:
        (Path(temp) / "capacity.json").write_text(json.dumps(made))
        return limits.read(Path(temp), stack).settings


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sizings": []}', "[" * 100000])
def test_what_is_no_capacity_result(text: str, tmp_path: Path) -> None:
    (tmp_path / "capacity.json").write_text(text)
    with pytest.raises(InputError, match="no result of `hasim capacity`"):
        limits.read(tmp_path, load(ROOT / "models/three-servers"))
