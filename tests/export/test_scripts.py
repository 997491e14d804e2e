"""rolling-update.sh against a docker that is a stub: what RU-1 to RU-4 of the audit ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab, changed

from hasim.export import apply, scripts
from hasim.export.base import Deploy

SCRIPT = "extra/rolling-update.sh"


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    return changed("story-portal", {}, tmp_path_factory.mktemp("new"))


@pytest.fixture
def lab(deploy: Deploy, tmp_path: Path) -> Lab:
    lab = Lab.of(deploy, tmp_path)
    lab.know(image="sha-old", pulled="sha-new")
    return lab


def test_each_gateway_is_drained_replaced_and_waited_for(lab: Lab) -> None:
    lab.know(image="sha-old")
    (lab.stub / "pulled").unlink()
    said = lab.run(SCRIPT, "--force", "l09-api-gateway")
    assert said.returncode == 0, said.stdout + said.stderr
    per_instance = [
        [
            f"pull l09-api-gateway-{n}",
            *2 * [f"set server l09-api-gateway/l09-{n} state drain"],
            f"docker up -d --no-deps --force-recreate l09-api-gateway-{n} ",
            *2 * [f"set server l09-api-gateway/l09-{n} state ready"],
        ]
        for n in (1, 2, 3)
    ]
    assert lab.changes() == [line for lines in per_instance for line in lines]
    assert "done: 3 updated" in said.stdout
    asked = [c for c in (lab.stub / "log").read_text().splitlines() if " up " in c]
    theirs = "--project-name there --project-directory /srv/there"  # not the folder's name here
    assert all(theirs in c for c in asked), asked


def test_an_image_that_is_there_needs_no_registry(lab: Lab) -> None:
    lab.know(image="sha-old")
    said = lab.run(SCRIPT, "--no-pull", "--force", "l09-api-gateway")
    assert said.returncode == 0, said.stdout + said.stderr
    assert not any(c.startswith("pull") for c in lab.changes())
    assert "done: 3 updated" in said.stdout


def test_a_container_that_compose_did_not_make_is_left_alone(lab: Lab) -> None:
    lab.know(project="")
    said = lab.run(SCRIPT, "l09-api-gateway")
    assert said.returncode != 0
    assert "l09-api-gateway-1 on host-a was not made by compose" in said.stderr
    assert lab.changes() == []


def test_an_image_that_runs_already_is_left_alone(lab: Lab) -> None:
    lab.know(pulled="sha-old")
    said = lab.run(SCRIPT, "l09-api-gateway")
    assert said.returncode == 0
    assert said.stdout.count("already runs") == 3
    assert {c.split()[0] for c in lab.changes()} == {"pull"}


@pytest.mark.parametrize("status", ["unhealthy", "starting"])
def test_a_bad_image_is_taken_back_and_nobody_else_touched(lab: Lab, status: str) -> None:
    lab.know(**{"next/l09-api-gateway-1": status})
    said = lab.run(SCRIPT, "--limit", "3", "l09-api-gateway")
    assert said.returncode != 0
    assert "tag sha-old story/image:tag" in lab.changes()
    assert lab.changes()[-1].startswith("docker up -d --no-deps --force-recreate l09-api-gateway-1")
    assert not any("l09-api-gateway-2" in c for c in lab.changes())
    assert "look at it by hand" in said.stderr  # the stub's container never gets well


def test_a_server_that_stays_down_is_taken_back(lab: Lab) -> None:
    lab.know(ready="DOWN")
    said = lab.run(SCRIPT, "--limit", "3", "l09-api-gateway")
    assert said.returncode != 0
    assert "tag sha-old story/image:tag" in lab.changes()


@pytest.mark.parametrize("at", range(1, 5))
def test_a_command_that_fails_stops(lab: Lab, at: int) -> None:
    said = lab.run(SCRIPT, "l09-api-gateway", STUB_FAIL_AT=str(at))
    assert said.returncode != 0
    assert not any("l09-api-gateway-2" in c for c in lab.changes())
    if at == 1:
        assert "cannot be pulled; nothing was touched" in said.stderr
        assert lab.changes() == ["pull l09-api-gateway-1"]


def test_with_another_server_down_nothing_is_touched(lab: Lab) -> None:
    stat = (lab.stub / "stat").read_text()
    lab.know(stat=stat.replace("l09-api-gateway,l09-3,0,UP", "l09-api-gateway,l09-3,0,DOWN"))
    said = lab.run(SCRIPT, "l09-api-gateway")
    assert said.returncode != 0
    assert "not UP: not now" in said.stderr
    assert lab.changes() == []


def test_sessions_that_do_not_end_are_named(lab: Lab) -> None:
    stat = (lab.stub / "stat").read_text()
    lab.know(stat=stat.replace("l09-api-gateway,l09-1,0,UP", "l09-api-gateway,l09-1,7,UP"))
    said = lab.run(SCRIPT, "l09-api-gateway")
    assert said.returncode == 0
    assert "l09-api-gateway/l09-1 still has sessions" in said.stdout


def test_a_dry_run_and_an_unknown_service(lab: Lab) -> None:
    said = lab.run(SCRIPT, "--dry-run")
    assert said.returncode == 0
    assert said.stdout.count("would pull") == 7
    assert lab.changes() == []
    assert lab.run(SCRIPT, "no-such-service").returncode == 2


def test_a_stack_that_cannot_drain_gets_no_such_script(tmp_path: Path) -> None:
    deploy = changed("story-portal-guide-bootable", {}, tmp_path)
    assert scripts.balanced(deploy) == {}
    assert "extra/rolling-update.sh" not in [a.path for a in scripts.make(deploy)]
    text = next(a.text for a in apply.make(deploy) if a.path == "extra/ROLLOUT.md")
    assert "`stats socket` with `level admin`" in text
