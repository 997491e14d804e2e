"""apply.sh and rollback.sh, run against a docker that is a stub (guide-audit.md, RU-*)."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from lab import Lab, changed, made

from hasim.export.apply_steps import plan
from hasim.export.base import Deploy

SETTINGS = {
    "haproxy.defaults.timeout_check": "1500ms",
    "patroni.ttl": "20",
    "sentinel.*.mymaster.down-after-milliseconds": "3000",
    "redis.*.repl-diskless-sync-delay": "1",
    "redis.redis-1.tcp-backlog": "1024",
    "keepalived.keepalived-a.story_portal.priority": "102",
    "etcd.etcd-1.heartbeat_interval": "200",
    "prometheus.high-availability.DatabaseDown.for": "1m",
    "compose.l09-api-gateway-1.stop_grace_period": "20s",
    "compose.pg-1.stop_grace_period": "50s",
}
APPLY, BACK = "hosts/host-a/apply.sh", "hosts/host-a/rollback.sh"


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """The repaired stack with one change for each way in which a setting takes effect."""
    return changed("story-portal", SETTINGS, tmp_path_factory.mktemp("new"))


@pytest.fixture
def lab(deploy: Deploy, tmp_path: Path) -> Lab:
    return Lab.of(deploy, tmp_path)


def test_scripts_are_clean_and_the_same_every_time(deploy: Deploy, tmp_path: Path) -> None:
    assert made(deploy) == made(deploy)
    for one in made(deploy):
        if not one.path.endswith(".sh"):
            continue
        assert one.executable
        assert "change-me" not in one.text, "a secret of the stack"
        assert not re.search(r"\bmv\b.*TARGET", one.text), "a renamed file has another inode"
        file = tmp_path / one.path.replace("/", "_")
        file.write_text(one.text)
        subprocess.run(["bash", "-n", file], check=True)
    if shutil.which("shellcheck"):
        files = [f for f in sorted(tmp_path.glob("*.sh")) if "host-b" not in f.name]
        said = subprocess.run(["shellcheck", *files], capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout


def test_every_step_is_done_in_its_order_and_a_second_run_changes_nothing(
    lab: Lab, deploy: Deploy
) -> None:
    inodes = {p: p.stat().st_ino for p in lab.target.rglob("*") if p.is_file()}
    said = lab.run(APPLY)
    assert said.returncode == 0, said.stdout + said.stderr
    assert lab.changes() == [
        "SENTINEL SET down-after-milliseconds 3000",
        "CONFIG SET repl-diskless-sync-delay 1",
        "SENTINEL FAILOVER",
        "docker restart redis-1 ",
        "edit-config -s ttl=20",
        "docker restart etcd-1 ",
        "kill -s HUP keepalived-a",
        "kill -s USR2 haproxy-a",
        "switchover",
        "docker up -d --no-deps pg-1 ",
        "set server l09-api-gateway/l09-1 state drain",
        "set server l09-api-gateway/l09-1 state drain",
        "docker up -d --no-deps l09-api-gateway-1 ",
        "set server l09-api-gateway/l09-1 state ready",
        "set server l09-api-gateway/l09-1 state ready",
    ]
    for path in ("haproxy.cfg", "docker-compose.app.yml", "docker-compose.host-a.yml",
                 "etcd/etcd-1.yml", "patroni/pg-1.yml"):  # fmt: skip
        assert (lab.target / path).read_text() == deploy.texts[path]
    assert (lab.target / "haproxy.cfg").read_text() == (lab.stub / "checked").read_text()
    asked = [c for c in (lab.stub / "log").read_text().splitlines() if " up " in c]
    assert asked
    assert all(c.startswith("there docker compose ") for c in asked), "the containers' project"
    assert all(p.stat().st_ino == inode for p, inode in inodes.items()), "written in place"

    tree = lab.tree()
    again = lab.run(APPLY)
    assert again.returncode == 0
    assert "nothing to change" in again.stdout
    assert lab.changes() == []
    assert lab.tree() == tree


def test_a_dry_run_names_every_step_and_touches_nothing(lab: Lab, deploy: Deploy) -> None:
    tree = lab.tree()
    said = lab.run(APPLY, "--dry-run")
    assert said.returncode == 0, said.stderr
    for number, step in enumerate(plan(deploy).steps["host-a"], 1):
        assert f"step {number}: {step.text}" in said.stdout
    assert lab.changes() == []
    assert lab.tree() == tree
    assert not list(lab.target.glob(".hasim-*"))


FAST = (1, 5, 10)
REST = [pytest.param(n, marks=pytest.mark.slow) for n in range(1, 16) if n not in FAST]


@pytest.mark.parametrize("at", [*FAST, *REST])
def test_a_failure_stops_and_rollback_restores_the_bytes(lab: Lab, at: int) -> None:
    tree = lab.tree()
    said = lab.run(APPLY, STUB_FAIL_AT=str(at))
    assert said.returncode != 0
    assert "stopped in step" in said.stderr
    assert "rollback.sh" in said.stderr
    assert len(lab.changes()) == at, "nothing after the failure"
    back = lab.run(BACK)
    assert back.returncode == 0, back.stdout + back.stderr
    assert lab.tree() == tree
    assert (lab.stub / "dcs").read_text() == "ttl: 30\nloop_wait: 10\n"
    assert (lab.stub / "sentinel.down-after-milliseconds").read_text() == "5000\n"
    assert (lab.stub / "redis.repl-diskless-sync-delay").read_text() == "old\n"
    assert not list(lab.target.glob(".hasim-*"))


def test_rollback_of_everything_and_apply_after_it(lab: Lab) -> None:
    tree = lab.tree()
    assert lab.run(APPLY).returncode == 0
    assert lab.run(BACK).returncode == 0
    assert lab.changes()[-1] == "SENTINEL SET down-after-milliseconds 5000", "in reverse order"
    assert lab.tree() == tree
    assert "nothing was applied" in lab.run(BACK).stdout
    said = lab.run(APPLY)
    assert said.returncode == 0
    assert "kill -s USR2 haproxy-a" in lab.changes()


@pytest.mark.parametrize("status", ["unhealthy", "starting", "restarting"])
def test_unhealthy_never_passes_for_healthy(lab: Lab, status: str) -> None:
    lab.know(**{"next/l09-api-gateway-1": status})
    said = lab.run(APPLY, "--limit", "4")
    assert said.returncode != 0
    assert "l09-api-gateway-1 is healthy: not within 4 s" in said.stderr
    assert lab.changes()[-1] == "docker up -d --no-deps l09-api-gateway-1 "


def test_a_server_that_haproxy_does_not_call_up_stops(lab: Lab) -> None:
    lab.know(ready="DOWN")
    said = lab.run(APPLY, "--limit", "4")
    assert said.returncode != 0
    assert "l09-api-gateway/l09-1 is UP: not within 4 s" in said.stderr


def test_a_reload_without_a_new_worker_is_a_failure(lab: Lab) -> None:
    lab.know(next_pid="11")
    said = lab.run(APPLY, "--limit", "4")
    assert "haproxy-a has a new worker: not within 4 s" in said.stderr


def test_a_file_that_haproxy_refuses_is_not_written(lab: Lab) -> None:
    (lab.stub / "refuse").touch()
    before = (lab.target / "haproxy.cfg").read_bytes()
    said = lab.run("hosts/host-b/apply.sh")
    assert "haproxy in haproxy-b refuses haproxy.cfg" in said.stderr
    assert (lab.target / "haproxy.cfg").read_bytes() == before


def test_what_somebody_changed_is_not_overwritten(lab: Lab) -> None:
    (lab.target / "haproxy.cfg").write_text("global\n")
    said = lab.run(APPLY)
    assert said.returncode != 0
    assert "somebody changed it" in said.stderr
    assert (lab.target / "haproxy.cfg").read_text() == "global\n"


def test_what_was_changed_in_the_export_is_not_deployed(lab: Lab) -> None:
    for path in lab.export.rglob("haproxy.cfg"):
        path.write_text(path.read_text() + "# one more line\n")
    said = lab.run(APPLY)
    assert said.returncode != 0
    assert "missing or was changed since" in said.stderr


def test_sentinel_without_a_quorum_stops_before_anything(lab: Lab) -> None:
    lab.know(quorum="NOQUORUM 1 usable Sentinels")
    said = lab.run("hosts/host-b/apply.sh", "--limit", "4")
    assert said.returncode != 0
    assert lab.changes() == []


def test_a_file_that_redis_wrote_itself_stays(lab: Lab) -> None:
    own = lab.target / "redis/redis-2/redis.conf"
    own.write_text(own.read_text() + "replicaof 10.0.0.11 6379\n")
    assert lab.run("hosts/host-b/apply.sh").returncode == 0
    assert "replicaof 10.0.0.11 6379" in own.read_text()


def test_a_file_that_redis_cannot_write_is_written_for_it(lab: Lab, deploy: Deploy) -> None:
    lab.know(rewrite="ERR Rewriting config file: Device or resource busy")
    assert lab.run("hosts/host-b/apply.sh").returncode == 0
    path = "redis/redis-2/redis.conf"
    assert (lab.target / path).read_text() == deploy.texts[path]


def test_the_older_docker_compose_does_as_well(lab: Lab) -> None:
    (lab.stub / "v1").touch()
    assert lab.run(APPLY).returncode == 0
    assert "docker-compose up -d --no-deps pg-1 " in lab.changes()


def test_followers_let_go_of_nothing(lab: Lab) -> None:
    lab.know(role="slave")
    members = (lab.stub / "members").read_text().splitlines()
    lab.know(members="\n".join(
        m.replace("pg-1", "pg-9").replace("pg-2", "pg-1").replace("pg-9", "pg-2") for m in members
    ))  # fmt: skip
    assert lab.run(APPLY).returncode == 0
    assert not {"switchover", "SENTINEL FAILOVER"} & set(lab.changes())


def test_the_wrong_folder_is_refused(lab: Lab, tmp_path: Path) -> None:
    said = lab.run(APPLY, "--target", str(tmp_path / "bin"))
    assert said.returncode != 0
    assert "--target" in said.stderr
    assert not list((tmp_path / "bin").glob(".hasim-*"))


def test_nothing_changed_says_so(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    deploy = changed("story-portal", {}, tmp_path / "new")
    lab = Lab.of(deploy, tmp_path)
    for script in (APPLY, BACK):
        said = lab.run(script)
        assert said.returncode == 0
        assert "nothing to change" in said.stdout
    assert "Nothing to change" in (lab.export / "extra/ROLLOUT.md").read_text()


def test_one_more_instance_starts_before_haproxy_hears_of_it(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    deploy = changed("story-portal", {"replicas.l01-data-layer": "3"}, tmp_path / "new")
    new = next(i for i in deploy.stack.instances if i.name == "l01-data-layer-3")
    verbs = [s.verb for s in plan(deploy).steps[new.host]]
    number = verbs.index("start") + 1
    assert "haproxy_reload" not in verbs[:number]
    lab = Lab.of(deploy, tmp_path)
    first = f"hosts/{new.host}/apply.sh"
    assert f"`{first} --until {number}`" in (lab.export / "extra/ROLLOUT.md").read_text()
    said = lab.run(first, "--until", str(number))
    assert said.returncode == 0, said.stderr
    assert lab.changes() == ["docker up -d --no-deps l01-data-layer-3 "]
    assert "are left" in said.stdout or len(verbs) == number
    assert lab.run(first).returncode == 0
    assert "docker up -d --no-deps l01-data-layer-3 " not in lab.changes()


def test_one_instance_less_is_drained_and_goes_last(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    deploy = changed("story-portal", {"replicas.l09-api-gateway": "2"}, tmp_path / "new")
    gone = {i.name for i in deploy.old.instances} - {i.name for i in deploy.stack.instances}
    [name] = gone
    host = deploy.old.instance(name).host
    lab = Lab.of(deploy, tmp_path)
    rows = [f"{b.name},{s.name},0,UP" for b in deploy.old.balancers[0].backends for s in b.servers]
    lab.know(stat="\n".join(rows))
    said = lab.run(f"hosts/{host}/apply.sh")
    assert said.returncode == 0, said.stdout + said.stderr
    done = lab.changes()
    assert done[-2:] == [f"stop {name}", f"rm {name}"]
    assert any(c.startswith("set server l09-api-gateway/") for c in done[:-2])
    assert lab.run(f"hosts/{host}/rollback.sh").returncode == 0
    assert f"docker up -d --no-deps {name} " in lab.changes()


def test_a_guide_that_cannot_drain_is_told_to_wait_for_haproxy(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    settings = {"compose.l09-api-gateway-1.stop_grace_period": "20s"}
    deploy = changed("story-portal-guide-bootable", settings, tmp_path / "new")
    lab = Lab.of(deploy, tmp_path)
    lab.know(stat="l09-api-gateway,l09-1,0,DOWN")  # LB-6: the new address is never resolved
    said = lab.run(APPLY, "--limit", "4")
    assert "l09-api-gateway/l09-1 is UP: not within 4 s" in said.stderr


PENDING = "Cluster\tMember\tHost\tRole\tState\tTL\tLag\tPending restart"


@pytest.fixture
def restarts(tmp_path: Path) -> Lab:
    """Patroni's members have to start again: a parameter that no reload takes."""
    deploy = changed("story-portal", {}, tmp_path / "new")
    texts = {
        path: text.replace("max_connections: 100", "max_connections: 150")
        for path, text in deploy.texts.items()
    }
    (tmp_path / "lab").mkdir()
    return Lab.of(replace(deploy, texts=texts), tmp_path / "lab")


def test_the_leader_hands_over_before_it_starts_again(restarts: Lab) -> None:
    leads = "c\tpg-1\th\tLeader\trunning\t1\t0\t*\nc\tpg-2\th\tReplica\tstreaming\t1\t0\t"
    restarts.know(header=PENDING, members=leads)
    edit = "edit-config -s postgresql.parameters.max_connections=150"
    assert restarts.run(APPLY).returncode == 0
    assert restarts.changes() == [edit, "switchover"]  # which is a restart of who led
    # back: the old value first, then the restart that takes it
    restarts.know(members=leads.replace("Leader\trunning", "Replica\tstreaming", 1)
                  .replace("pg-2\th\tReplica\tstreaming", "pg-2\th\tLeader\trunning"))  # fmt: skip
    assert restarts.run(BACK).returncode == 0
    restart = "patronictl restart --force --pending story-portal pg-1"
    assert restarts.changes() == ["dcs replaced", restart]


def test_nothing_starts_again_that_waits_for_nothing(restarts: Lab) -> None:
    said = restarts.run(APPLY)
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("no restart is pending") == 2
    assert not any("restart" in one or one == "switchover" for one in restarts.changes())


def test_a_wrong_redis_password_moves_no_master(lab: Lab) -> None:
    lab.know(role="NOAUTH Authentication required.")
    said = lab.run(APPLY)
    assert said.returncode != 0
    assert "does not tell its role: is HASIM_REDIS_PASSWORD right?" in said.stderr
    assert "SENTINEL FAILOVER" not in lab.changes()


def test_a_haproxy_that_cannot_be_asked_is_not_touched(lab: Lab) -> None:
    lab.know(mute="")
    before = (lab.target / "haproxy.cfg").read_bytes()
    said = lab.run(APPLY)
    assert said.returncode != 0
    assert "tells nothing: it is down, or its image lacks nc, socat or wget" in said.stderr
    assert (lab.target / "haproxy.cfg").read_bytes() == before
    assert not any("USR2" in one or "drain" in one for one in lab.changes())


def test_what_the_scripts_remember_is_for_nobody_else(lab: Lab) -> None:
    assert lab.run(APPLY).returncode == 0
    (state,) = lab.target.glob(".hasim-*")
    assert state.stat().st_mode & 0o077 == 0
