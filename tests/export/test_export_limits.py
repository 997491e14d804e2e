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


def capacity(cores: float, memory_bytes: int, instances: int = 3, **sizing: object) -> str:
    amount = {"instances": instances, "cores": cores, "memory_bytes": memory_bytes}
    size = {
        "service": "l09-api-gateway",
        "given": {**amount, "instances": 3},
        "needed": amount,
        "recommended": amount,
    }
    kept = {**size, "service": "redis", "needed": None}
    rest = {"users": 2, "recommended_met": True, "missing": [], "not_survived": [], **sizing}
    sizings = [{"sizes": [size, kept], **rest}]
    return json.dumps({"schema": 1, "unit": "users", "stack_sha256": "0", "sizings": sizings})


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "models/story-portal-guide-bootable", tmp_path / "stack")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenarios.yaml").write_text(BODY.replace("LIMIT", "5s"))
    assert run("scenarios.yaml", out="out/run", jobs=1).exit_code == 0
    monkeypatch.setattr(validators, "run", lambda folder, deploy: [])
    monkeypatch.setattr(writer, "_rollout", lambda deploy, jobs, say: None)
    return tmp_path


def test_limits_and_instances_are_written_and_simulated(guide: Path) -> None:
    Path("capacity.json").write_text(capacity(1.5, 1 << 29, instances=4))
    said: list[str] = []
    done = writer.export(
        Path("out/run"), Path("out/deploy"), capacity=Path(), jobs=1, say=said.append
    )
    told = "\n".join(said)
    assert "l09-api-gateway: 4 instances are recommended, not 3: changed" in told
    assert "about other files than those of the run" in told
    assert "calm: pass" in said
    there = load("out/deploy/stack")
    gateways = [i for i in there.instances if i.service == "l09-api-gateway"]
    assert [(g.cpus, g.mem_limit_bytes) for g in gateways] == [(1.5, 1 << 29)] * 4
    others = [i for i in there.instances if i.service != "l09-api-gateway"]
    assert not any(i.cpus for i in others)
    assert done.evidence["stack_sha256"] == there.sha256 != load("stack").sha256
    assert done.evidence["before_sha256"] == load("stack").sha256
    changed = [path for path, _, _ in done.changes.files]
    assert changed == ["docker-compose.ha.yml", "haproxy.cfg", "stack.yaml"]
    assert load("stack").instance("l09-api-gateway-1").cpus == 0
    # what is deployed on the host has them too, and the scripts start the new one
    compose = Path("out/deploy/hosts/host-a/docker-compose.yml").read_text()
    assert compose.count("cpus: 1.5") == 4
    assert (
        "step 2 'l09-api-gateway-4: a new container'"
        in Path("out/deploy/hosts/host-a/apply.sh").read_text()
    )


def test_fewer_instances_take_their_limits_along(guide: Path) -> None:
    Path("capacity.json").write_text(capacity(1.5, 1 << 29, instances=2))
    read = limits.read(Path("capacity.json"), load("stack"))
    assert read.counts == {"replicas.l09-api-gateway": "2"}
    texts = limits.resized(read, Path("stack"), load("stack"))
    assert texts["docker-compose.ha.yml"].count("cpus: 1.5") == 2


def test_sizes_that_no_simulation_confirmed_are_refused(tmp_path: Path) -> None:
    short = "host-a is to hold 13.3 of its 8 cores"
    text = capacity(1.0, 1 << 29, recommended_met=False, missing=[short])
    (tmp_path / "capacity.json").write_text(text)
    with pytest.raises(Refused, match="not carried: no simulation shows") as caught:
        limits.read(tmp_path, load(ROOT / "models/three-servers"))
    assert caught.value.exit_code == 99
    assert "keep the budgets at 2 users" in str(caught.value)
    assert short in str(caught.value)


def test_what_stores_data_keeps_its_memory(tmp_path: Path) -> None:
    stack = load(ROOT / "models/story-portal")
    made = json.loads(capacity(0.25, 1 << 27))
    size = made["sizings"][0]["sizes"][0]
    size["service"] = "redis"
    size["given"] = {"instances": 3, "cores": 0.5, "memory_bytes": 1 << 29}
    (tmp_path / "capacity.json").write_text(json.dumps(made))
    read = limits.read(tmp_path, stack)
    assert dict(limits.settings(read, stack)) == {
        f"compose.redis-{i}.cpus": "0.25" for i in (1, 2, 3)
    }
    assert any(note.startswith("redis keeps its 512 MiB") for note in read.notes)


def test_instances_of_what_nothing_balances_are_for_people(tmp_path: Path) -> None:
    made = json.loads(capacity(1.0, 1 << 29, instances=5, not_survived=["host-a"]))
    made["sizings"][0]["sizes"][0]["service"] = "patroni"
    (tmp_path / "capacity.json").write_text(json.dumps(made))
    read = limits.read(tmp_path, load(ROOT / "models/story-portal"))
    assert read.counts == {}
    assert read.notes[0] == "patroni: 5 instances are recommended, not 3: that is for you to do"
    assert read.notes[-1] == "no size survives the loss of host-a"


def test_limits_under_which_a_scenario_fails_are_refused(guide: Path) -> None:
    Path("scenarios.yaml").write_text(BODY.replace("LIMIT", "400ms"))
    assert run("scenarios.yaml", out="out/run", jobs=1).exit_code == 0
    Path("capacity.json").write_text(capacity(0.01, 1 << 29))
    with pytest.raises(Refused, match="with the sizes of the capacity result") as caught:
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
        return dict(limits.settings(limits.read(Path(temp), stack), stack))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sizings": []}', "[" * 100000])
def test_what_is_no_capacity_result(text: str, tmp_path: Path) -> None:
    (tmp_path / "capacity.json").write_text(text)
    with pytest.raises(InputError, match="no result of `hasim capacity`"):
        limits.read(tmp_path, load(ROOT / "models/three-servers"))
