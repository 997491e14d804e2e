"""The models' files before the real programs: each must accept what we call deployable.

Daemons run on loopback copies: addresses and ports are replaced, nothing else. Absent ones skip.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml

MODELS = Path(__file__).parent.parent / "models"
PORTAL = MODELS / "story-portal"
HOSTS = (1, 2, 3)


def program(name: str) -> str:
    """A program's path; a test skips without it."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
    found = found or (str(beside) if beside.exists() else None)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The finished command."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=env)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def daemon(folder: Path, *command: str) -> Iterator[None]:
    """A daemon for the length of a block; its own process, ended by its own id."""
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            yield
        finally:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def until(true: Callable[[], bool], limit_s: float = 10.0) -> bool:
    """Ask again until it is true; False after the limit."""
    for _ in range(int(limit_s / 0.1)):
        if true():
            return True
        time.sleep(0.1)
    return False


def test_haproxy_accepts_every_balancer_whose_servers_are_addresses():
    haproxy = program("haproxy")
    files = [p for p in sorted(MODELS.glob("*/haproxy.cfg")) if "guide" not in p.parent.name]
    assert len(files) >= 4
    for path in files:
        done = run(haproxy, "-c", "-f", str(path))
        assert done.returncode == 0, f"{path}: {done.stderr}"


def test_keepalived_accepts_both_nodes():
    keepalived = program("keepalived")
    for host in ("a", "b"):
        done = run(keepalived, "-t", "-f", str(PORTAL / f"keepalived/keepalived-host-{host}.conf"))
        assert done.returncode == 0, done.stderr


def test_promtool_accepts_scrapes_and_rules():
    promtool = program("promtool")
    done = run(promtool, "check", "config", str(PORTAL / "prometheus/prometheus.yml"))
    assert done.returncode == 0, done.stderr
    for rules in MODELS.glob("story-portal-guide*/alerts.yml"):
        assert run(promtool, "check", "rules", str(rules)).returncode == 0


def test_the_lag_alert_fires_at_a_minute(tmp_path):
    promtool = program("promtool")
    cases = {
        "rule_files": [str(PORTAL / "prometheus/alerts.yml")],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": 'pg_replication_lag_seconds{instance="pg"}', "values": "0+15x10"},
                    {
                        "series": 'haproxy_backend_active_servers{proxy="l09-api-gateway"}',
                        "values": "3x2 1x10",
                    },
                ],
                "alert_rule_test": [
                    _alert("1m", "DatabaseReplicationLag", None),
                    _alert("1m15s", "DatabaseReplicationLag", {"instance": "pg"}),
                    _alert("1m", "LoadBalancerUnhealthy", None),
                    _alert("1m15s", "LoadBalancerUnhealthy", {"proxy": "l09-api-gateway"}),
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(cases))
    done = run(promtool, "test", "rules", str(tmp_path / "test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def _alert(at: str, name: str, labels: dict[str, str] | None) -> dict:
    text = {
        "DatabaseReplicationLag": "PostgreSQL replication lag > 60 seconds",
        "LoadBalancerUnhealthy": "Less than 2 gateways in rotation",
    }[name]
    fires = {"exp_labels": {"severity": "page", **(labels or {})}}
    fires["exp_annotations"] = {"summary": text}
    return {"eval_time": at, "alertname": name, "exp_alerts": [fires] if labels else []}


def test_compose_accepts_every_project_but_the_printed_one():
    compose = program("docker-compose")
    projects = sorted(MODELS.glob("*/docker-compose.*.yml"))
    bases = {MODELS / "story-portal/docker-compose.app.yml"}
    for path in [p for p in projects if p not in bases and p.parent.name != "story-portal-guide"]:
        done = run(compose, "-f", str(path), "config", "-q")
        assert done.returncode == 0, f"{path}: {done.stderr}"
    printed = MODELS / "story-portal-guide/docker-compose.ha.yml"
    assert run(compose, "-f", str(printed), "config", "-q").returncode != 0


def test_the_shell_scripts_are_shell():
    for path in MODELS.glob("*/*.sh"):
        assert run("bash", "-n", str(path)).returncode == 0, path
    shellcheck = program("shellcheck")
    done = run(shellcheck, str(PORTAL / "rolling-update.sh"))
    assert done.returncode == 0, done.stdout


# ---- Redis and Sentinel -----------------------------------------------------------------------
def _redis_text(number: int, ports: list[int]) -> str:
    text = (PORTAL / f"redis/redis-{number}/redis.conf").read_text()
    text = text.replace("dir /data", "dir .").replace("0.0.0.0", "127.0.0.1")
    text = re.sub(r"^port \d+", f"port {ports[number - 1]}", text, flags=re.M)
    text = re.sub(r"announce-port \d+", f"announce-port {ports[number - 1]}", text)
    text = text.replace("replicaof 10.0.0.11 6379", f"replicaof 127.0.0.1 {ports[0]}")
    return re.sub(r"10\.0\.0\.1\d", "127.0.0.1", text)


def _sentinel_text(number: int, master: int, ports: list[int]) -> str:
    path = PORTAL / f"sentinel/sentinel-{number}/redis-sentinel.conf"
    text = path.read_text().replace("0.0.0.0", "127.0.0.1")
    text = re.sub(r"^port \d+", f"port {ports[number - 1]}", text, flags=re.M)
    text = re.sub(r"announce-port \d+", f"announce-port {ports[number - 1]}", text)
    text = text.replace("10.0.0.11 6379", f"127.0.0.1 {master}")
    return re.sub(r"10\.0\.0\.1\d", "127.0.0.1", text)


def test_redis_and_sentinel_run_on_copies_and_agree(tmp_path):
    server, cli = program("redis-server"), program("redis-cli")
    redis, sentinel = [free_port() for _ in HOSTS], [free_port() for _ in HOSTS]
    secret = {**os.environ, "REDISCLI_AUTH": "change-me-redis"}

    def ask(port: int, *words: str) -> str:
        return run(cli, "-p", str(port), *words, env=secret).stdout

    with ExitStack() as stack:
        for i in HOSTS:
            for kind, text in (
                ("redis", _redis_text(i, redis)),
                ("sentinel", _sentinel_text(i, redis[0], sentinel)),
            ):
                folder = tmp_path / f"{kind}-{i}"
                folder.mkdir()
                (folder / "it.conf").write_text(text)
                more = ["--sentinel"] if kind == "sentinel" else []
                stack.enter_context(daemon(folder, server, "it.conf", *more))
        assert until(lambda: "connected_slaves:2" in ask(redis[0], "info", "replication"))
        assert until(
            lambda: ask(sentinel[1], "sentinel", "ckquorum", "mymaster").startswith("OK 3")
        )
        assert until(lambda: ask(redis[0], "set", "a", "1").startswith("OK"))
        assert "yes" in ask(redis[0], "config", "get", "appendonly")


# ---- etcd and Patroni -------------------------------------------------------------------------
@contextmanager
def etcd_cluster(folder: Path) -> Iterator[list[int]]:
    """The three members on loopback copies of their files; their client ports."""
    etcd = program("etcd")
    clients, peers = [free_port() for _ in HOSTS], [free_port() for _ in HOSTS]
    with ExitStack() as stack:
        for i in HOSTS:
            text = (PORTAL / f"etcd/etcd-{i}.yml").read_text()
            for j in HOSTS:
                text = text.replace(f"10.0.0.1{j}:2380", f"127.0.0.1:{peers[j - 1]}")
                text = text.replace(f"10.0.0.1{j}:2379", f"127.0.0.1:{clients[j - 1]}")
            text = text.replace("0.0.0.0:2380", f"127.0.0.1:{peers[i - 1]}")
            text = text.replace("0.0.0.0:2379", f"127.0.0.1:{clients[i - 1]}")
            text = text.replace("/var/lib/etcd", "data")
            own = folder / f"etcd-{i}"
            own.mkdir()
            (own / "etcd.yml").write_text(text)
            stack.enter_context(daemon(own, etcd, "--config-file", "etcd.yml"))
        yield clients


def _healthy(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return json.load(answer)["health"] == "true"
    except (URLError, OSError):
        return False


def test_etcd_forms_a_cluster_and_patroni_accepts_its_members(tmp_path):
    patroni, postgres = program("patroni"), _postgres()
    with etcd_cluster(tmp_path) as clients:
        assert until(lambda: all(map(_healthy, clients)))
        for i in HOSTS:
            text = (PORTAL / f"patroni/pg-{i}.yml").read_text()
            for j in HOSTS:
                text = text.replace(f"10.0.0.1{j}:2379", f"127.0.0.1:{clients[j - 1]}")
            text = text.replace("/usr/lib/postgresql/16/bin", str(postgres.parent))
            text = text.replace("/var/lib/postgresql/data/pgdata", str(tmp_path / f"pg-{i}"))
            (tmp_path / "patroni.yml").write_text(text)
            done = run(patroni, "--validate-config", str(tmp_path / "patroni.yml"))
            assert done.returncode == 0, done.stdout + done.stderr


def _postgres() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("postgres is not installed")
    return found[-1]


def test_postgres_knows_every_parameter_that_patroni_sets():
    known = {
        line.split("\t")[0]
        for line in run(str(_postgres()), "--describe-config").stdout.splitlines()
    }
    for path in sorted(MODELS.rglob("pg-*.yml")):
        dcs = yaml.safe_load(path.read_text())["bootstrap"]["dcs"]
        assert set(dcs["postgresql"]["parameters"]) <= known, path
        # Patroni's own rule: loop_wait + 2 * retry_timeout <= ttl
        assert dcs["loop_wait"] + 2 * dcs["retry_timeout"] <= dcs["ttl"], path
