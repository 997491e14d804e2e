"""What applying costs, simulated: known answers, and the same for any number of workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from deploys import ROOT, texts_of
from lab import changed

from hasim.export.apply import order
from hasim.export.apply_steps import plan
from hasim.export.base import Deploy
from hasim.export.rollout import constant, cost, cost_text, steadiest
from hasim.export.writer import moved
from hasim.plan.trials import Bench
from hasim.stack import load

GUIDE = "story-portal-guide-bootable"


def gentle(name: str, settings: Mapping[str, str], folder: Path, users: float = 40) -> Deploy:
    """A Deploy with a load that a test can afford."""
    folder.mkdir(exist_ok=True)
    deploy = changed(name, settings, folder)
    base = steadiest(deploy.scenarios)
    load = replace(base.load, executor="constant-vus", start=users, stages=((60.0, users),))
    file = replace(deploy.scenarios, scenarios=(replace(base, load=load, faults=()),))
    return replace(deploy, scenarios=file)


def test_nothing_changed_costs_nothing_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bench, "__enter__", lambda self: pytest.fail("a run"))
    found = cost(gentle("story-portal", {}, tmp_path / "new"), seed=1)
    assert found == {
        "changed": False,
        "text": "nothing changes: no request is touched",
        "steps": [],
        "rolling_update": [],
    }


def test_what_no_script_applies_is_said_and_not_free(tmp_path: Path) -> None:
    deploy = gentle("story-portal", {}, tmp_path / "new")
    deploy = replace(deploy, texts={**deploy.texts, "lonely.conf": "x\n"})
    found = cost(deploy, seed=1)
    assert found["changed"]
    assert "`lonely.conf` changed; no container mounts it" in found["text"]
    assert "failed" not in found


def test_a_value_set_in_a_running_process_touches_nobody(tmp_path: Path) -> None:
    settings = {"sentinel.sentinel-2.mymaster.down-after-milliseconds": "3000"}
    deploy = gentle("story-portal", settings, tmp_path / "new", users=5)
    found = cost(deploy, seed=1, jobs=1, replications=2)
    assert [row["do"] for row in found["steps"]] == [""]
    assert found["failed"] == [0.0, 0.0, 0.0]


def test_a_reload_of_haproxy_is_free_and_a_gateway_without_drain_is_not(tmp_path: Path) -> None:
    settings = {
        "haproxy.defaults.timeout_server": "3000",
        "compose.l09-api-gateway-1.stop_grace_period": "20s",
    }
    deploy = gentle(GUIDE, settings, tmp_path / "new")
    found = cost(deploy, seed=1, jobs=1, replications=3)
    rows = {row["do"]: row for row in found["steps"]}
    assert rows["reload"]["failed"] == [0.0, 0.0, 0.0]
    assert rows["reload"]["outage_s"][0] == 0.0
    # LB-3, LB-6: each request on the dead server fails until HAProxy has noticed
    assert rows["recreate"]["failed"][0] > 5
    assert found["failed"][0] == pytest.approx(rows["recreate"]["failed"][0])
    assert found["rolling_update"] == []


@pytest.mark.slow
def test_with_drain_it_is_free_and_workers_do_not_matter(tmp_path: Path) -> None:
    settings = {"compose.l09-api-gateway-1.stop_grace_period": "20s"}
    deploy = gentle("story-portal", settings, tmp_path / "new", users=30)
    found = cost(deploy, seed=1, jobs=1, replications=3)
    assert [row["do"] for row in found["steps"]] == ["", "rolling-update"]
    assert found["failed"] == [0.0, 0.0, 0.0]
    services = [row["service"] for row in found["rolling_update"]]
    assert services == ["l09-api-gateway", "platform-ui", "l01-data-layer"]
    gateways = found["rolling_update"][0]
    assert gateways["failed"] == [0.0, 0.0, 0.0]
    assert cost(deploy, seed=1, jobs=2, replications=3) == found


def edited(folder: Path, edits: Mapping[str, tuple[str, str]]) -> Deploy:
    """The repaired stack under a small load, with texts replaced in its files."""
    folder.mkdir()
    deploy = gentle("story-portal", {}, folder, users=5)
    texts = dict(deploy.texts)
    for path, (old, new) in edits.items():
        assert old in texts[path]
        texts[path] = texts[path].replace(old, new)
        (folder / path).write_text(texts[path])
    stack = load(folder)
    return replace(deploy, texts=texts, stack=stack, changed=moved(deploy.old, stack))


def test_a_restart_that_patroni_waits_for_is_simulated_not_free(tmp_path: Path) -> None:
    edit = ("max_connections: 100", "max_connections: 150")
    deploy = edited(tmp_path / "new", {f"patroni/pg-{n}.yml": edit for n in (1, 2, 3)})
    found = cost(deploy, seed=1, jobs=1, replications=2)
    done = [(row["host"], row["do"], row["target"]) for row in found["steps"] if row["do"]]
    follower = ("restart", "patroni:replica[?]")
    assert done == [("host-a", *follower), ("host-b", *follower),
                    ("host-c", "switchover", "patroni:leader"), ("host-c", *follower)]  # fmt: skip
    assert found["failed"][0] > 0
    assert found["not_simulated"] == 0
    text = order(plan(deploy), simulated=found)
    assert "`steady-500-users`" in text
    assert f"hands over if it leads and has to restart ({cost_text(found['steps'][-2])})" in text


def test_a_parameter_that_a_reload_takes_restarts_nothing(tmp_path: Path) -> None:
    edit = ("wal_sender_timeout: 5s", "wal_sender_timeout: 6s")
    deploy = edited(tmp_path / "new", {f"patroni/pg-{n}.yml": edit for n in (1, 2, 3)})
    assert {step.verb for step in plan(deploy).all} == {"patroni_dcs", "files"}


def test_a_parameter_that_got_smaller_reaches_the_standbys_last(tmp_path: Path) -> None:
    edit = ("max_connections: 100", "max_connections: 90")
    deploy = edited(tmp_path / "new", {f"patroni/pg-{n}.yml": edit for n in (1, 2, 3)})
    (note,) = plan(deploy).notes
    assert note.startswith("max_connections got smaller")
    assert "`patronictl restart --pending story-portal`" in note


def test_what_is_not_simulated_is_never_free(tmp_path: Path) -> None:
    name = "docker-compose.host-c.yml"
    text = texts_of(ROOT / "models/story-portal")[name]
    at = text.index("  redis-exporter-3:")
    edits = {name: (text[at : text.index("\n\n", at)], "")}
    found = cost(edited(tmp_path / "new", edits), seed=1, jobs=1, replications=2)
    assert found["not_simulated"] == 1
    gone = found["steps"][-1]
    assert gone["note"].startswith("not simulated")
    assert gone["failed"] == gone["outage_s"] == found["failed"] == [None, None, None]
    assert "cannot say what they cost: 1 are not simulated" in found["text"]


def test_the_load_is_the_level_that_lasts_longest(models: Path, tmp_path: Path) -> None:
    deploy = changed("story-portal", {}, tmp_path)
    base = steadiest(deploy.scenarios)
    assert not base.faults
    load = constant(base.load, 50.0)
    assert (load.executor, load.start, load.stages) == ("constant-vus", 500, ((50.0, 500),))
