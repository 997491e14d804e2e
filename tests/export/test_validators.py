"""The real programs accept what is exported, and each of them rejects a file that is broken."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest
from deploys import deploy_of, written

from hasim.export import artefacts, validators, validators_jobs
from hasim.export.base import Deploy
from hasim.export.validators_jobs import program
from hasim.export.validators_list import NO_DRY_RUN, jobs

PORTAL = "story-portal"


@pytest.fixture(scope="module")
def portal() -> Deploy:
    return deploy_of(PORTAL)


@pytest.fixture(scope="module")
def exported(portal: Deploy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("export"), portal, artefacts.make(portal))


def test_nothing_of_the_repaired_portal_is_refused(portal: Deploy, exported: Path) -> None:
    before = {p: p.read_bytes() for p in exported.rglob("*") if p.is_file()}
    checks = validators.run(exported, portal)
    assert [c for c in checks if c.status == "failed"] == []
    assert len({c.artefact for c in checks}) >= 25
    assert {p: p.read_bytes() for p in exported.rglob("*") if p.is_file()} == before
    assert not [c for c in checks if str(exported) in c.detail or "/tmp" in c.detail]


def test_nothing_of_the_guide_made_to_start_is_refused(tmp_path: Path) -> None:
    deploy = deploy_of("story-portal-guide-bootable")
    checks = validators.run(written(tmp_path, deploy, artefacts.make(deploy)), deploy)
    assert [c for c in checks if c.status == "failed"] == []
    names = [c for c in checks if c.tool.startswith("haproxy")]
    assert all("names" in c.detail for c in names)  # what was done otherwise is said


@pytest.mark.parametrize(
    ("path", "old", "new", "tool"),
    [
        ("hosts/host-a/haproxy.cfg", "balance leastconn", "balance leastcon", "haproxy -c"),
        ("stack/haproxy.cfg", "default_backend l09-api-gateway", "default_backend x", "haproxy -c"),
        ("hosts/host-b/docker-compose.yml", "    restart:", "    restrat:", "docker-compose"),
        ("stack/docker-compose.host-c.yml", "service: redis\n", "service: x\n", "docker-compose"),
        ("extra/alerts.yml", "pg_up == 0", "pg_up ==", "promtool check rules"),
        ("extra/alerts.yml", "redis_up == 0", "redis_up_total == 0", "promtool test rules"),
        ("extra/alerts.yml", "active_servers", "up", "promtool test rules"),
        ("extra/alerts.yml", "for: 5m", "for: 7m", "promtool test rules"),
        ("stack/prometheus/prometheus.yml", "scrape_interval", "scrape_intervall", "check config"),
        ("hosts/host-c/prometheus/alerts.yml", "expr: pg_up == 0", "expr: (", "check rules"),
        ("hosts/host-a/patroni/pg-1.yml", "ttl: 30", "ttl: soon", "patroni --validate-config"),
        ("stack/patroni/pg-2.yml", "scope: story-portal\n", "", "patroni --validate-config"),
        ("stack/patroni/pg-3.yml", "- 10.0.0.11:2379", "- 10.0.0.11:port", "patroni"),
        ("hosts/host-a/keepalived/keepalived-host-a.conf", "priority 101", "priority x", "keep"),
        ("extra/load.k6.js", "export default function", "function main", "k6 inspect"),
        ("extra/load.k6.js", "ramping-vus", "ramping-users", "k6 inspect"),
        ("stack/rolling-update.sh", "for lb in $BALANCERS; do", "for lb in $BALANCERS;", "bash -n"),
        ("stack/rolling-update.sh", "set -euo pipefail", "[ 1 = 1 ", "shellcheck"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_by_its_validator(
    portal: Deploy, exported: Path, tmp_path: Path, path: str, old: str, new: str, tool: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    text = (copy / path).read_text()
    assert old in text
    (copy / path).write_text(text.replace(old, new))
    mine = [j for j in jobs(copy, portal) if tool in j.tool and path in (j.artefact, *j.needs)]
    absent = {w for j in mine for w in (j.words[0], *j.programs) if program(w) is None}
    if absent:
        pytest.skip(f"not installed: {', '.join(sorted(absent))}")
    said = [validators_jobs.judge(j, copy) for j in mine]
    assert said
    assert [(status, bool(detail)) for status, _, detail in said] == [("failed", True)] * len(said)


def test_without_the_programs_nothing_is_validated(
    portal: Deploy, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validators_jobs, "search_path", lambda: "")
    checks = [c for c in validators.run(exported, portal) if c.tool != "hasim load"]
    assert checks
    assert {c.status for c in checks} == {"not validated"}
    said = {c.detail.partition(":")[0] for c in checks}
    assert said == {"not installed here", NO_DRY_RUN}


def test_what_no_program_judges_is_said_to_be_not_validated(portal: Deploy, exported: Path) -> None:
    checks = validators.run(exported, portal)
    files = {c.artefact: c.tool for c in checks if c.detail == NO_DRY_RUN}
    assert files["hosts/host-a/redis/redis-1/redis.conf"] == "redis-server"
    assert files["hosts/host-b/sentinel/sentinel-2/redis-sentinel.conf"] == "redis-sentinel"
    assert files["stack/etcd/etcd-3.yml"] == "etcd"
    assert {c.status for c in checks if c.artefact in files} == {"not validated"}
    # every configuration file of a host is judged, or said not to be
    hosts = exported / "hosts"
    there = {p.relative_to(exported).as_posix() for p in hosts.rglob("*") if p.is_file()}
    silent = there - {c.artefact for c in checks}
    assert {Path(f).name for f in silent} == {".env.example"}


def _stub(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o700 | stat.S_IXUSR)


def test_a_program_that_does_not_answer_is_ended(
    portal: Deploy, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stub(tmp_path / "bin", "keepalived", "exec sleep 30")
    monkeypatch.setattr(validators_jobs, "search_path", lambda: f"{tmp_path / 'bin'}:/bin:/usr/bin")
    monkeypatch.setattr(validators_jobs, "LIMIT_S", 0.3)
    job = next(j for j in jobs(exported, portal) if j.tool == "keepalived -t")
    status, _, detail = validators_jobs.judge(job, exported)
    assert (status, detail) == ("failed", "no answer within 0.3 s")


def test_nothing_of_the_users_is_run(portal: Deploy, exported: Path, tmp_path: Path) -> None:
    """A script that would leave a mark leaves none."""
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    mark = tmp_path / "ran"
    script = copy / "stack/rolling-update.sh"
    script.write_text(f"#!/usr/bin/env bash\ntouch '{mark}'\n")
    script.chmod(0o755)
    mine = [j for j in jobs(copy, portal) if j.artefact == "stack/rolling-update.sh"]
    assert [validators_jobs.judge(j, copy)[0] for j in mine] == ["passed", "passed"]
    assert not mark.exists()
