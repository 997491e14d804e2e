"""backup.sh and restore.sh with a real Redis and a real PostgreSQL: the data come back."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from daemons import Bench, needs
from deploys import deploy_of

from hasim.export import scripts
from hasim.export.validators_jobs import search_path

DOCKER = Path(__file__).with_name("real_docker.sh")
PASSWORD = "test-only-word"


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    for folder in ("stub", "bin"):
        made.mkdir(folder)
    made.write("bin/docker", DOCKER.read_text(), 0o755)
    try:
        yield made
    finally:
        for file in made.folder.glob("stub/*/pid"):
            with suppress(ProcessLookupError, ValueError):
                os.killpg(int(file.read_text()), signal.SIGKILL)
        made.end()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def container(bench: Bench, name: str, inside: str, start: str, env: str = "") -> Path:
    """A container of the stub; its data folder."""
    data = bench.mkdir(f"{name}-data")
    facts = {"inside": inside, "data": str(data), "env": env, "start": start}
    for key, text in facts.items():
        bench.write(f"stub/{name}/{key}", text.replace("DATA", str(data)) + "\n")
    return data


def run(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*bench.prefix, *words],
        cwd=bench.folder,
        env={
            "PATH": f"{bench.folder}/bin:{search_path()}",
            "STUB": f"{bench.folder}/stub",
            "HOME": str(bench.folder),
            "HASIM_REDIS_PASSWORD": PASSWORD,
            "LC_ALL": "C",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def script(bench: Bench, stack: str, name: str, edits: dict[str, str]) -> str:
    """An exported script, with this machine's ports and nothing but the containers of the test."""
    text = next(a.text for a in scripts.make(deploy_of(stack)) if a.path == f"extra/{name}.sh")
    for pattern, new in edits.items():
        text = re.sub(pattern, new, text, flags=re.MULTILINE)
    return str(bench.write(f"{name}.sh", text))


def good(said: subprocess.CompletedProcess[str]) -> str:
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


@pytest.mark.slow
@pytest.mark.parametrize("aof", ["yes", "no"])
def test_redis_comes_back_with_its_keys(bench: Bench, aof: str) -> None:
    needs("redis-server", "redis-cli", "redis-check-rdb", "setsid")
    port = free_port()
    start = (
        f"exec redis-server --port {port} --bind 127.0.0.1 --dir DATA --save '' "
        f"--appendonly {aof} --requirepass {PASSWORD}"
    )
    data = container(bench, "redis-1", "/data", start)
    good(run(bench, "docker", "start", "redis-1"))
    kind = "aof" if aof == "yes" else "rdb"
    edits = {r"^REDIS=.*$": f"REDIS=(host-a/redis-1/{port}/data/{kind})", r"^SENTINELS=.*$":
             "SENTINELS=()", r"^HOSTS=.*$": "HOSTS=(host-a)"}  # fmt: skip
    backup = script(bench, "story-portal", "backup", edits)
    restore = script(bench, "story-portal", "restore", edits)

    def cli(*words: str) -> str:
        return good(run(bench, "redis-cli", "-p", str(port), "-a", PASSWORD, *words)).strip()

    bench.wait("Redis", lambda: cli("PING") == "PONG")
    for n in range(0, 50, 10):
        cli("SET", f"key-{n}", str(n))
    good(run(bench, "bash", backup, "--to", "copy", "redis"))
    assert (bench.folder / "copy/redis.rdb").stat().st_size > 88
    again = run(bench, "bash", backup, "--to", "copy", "redis")
    assert again.returncode != 0
    assert "never overwrites" in again.stderr  # DR-1

    cli("FLUSHALL")
    assert cli("DBSIZE") == "0"
    there = ("--from", "copy", "--into", "redis-1")
    refused = run(bench, "bash", restore, *there, "redis")
    assert refused.returncode != 0
    assert "runs; --yes stops it" in refused.stderr
    assert cli("DBSIZE") == "0"
    said = good(run(bench, "bash", restore, *there, "--yes", "redis"))
    assert "redis-1 has 5 keys" in said
    assert cli("GET", "key-40") == "40"
    assert list(data.glob("*.before-restore")) or aof == "no"

    good(run(bench, "docker", "stop", "redis-1"))  # what is restored outlives a restart
    good(run(bench, "docker", "start", "redis-1"))
    bench.wait("Redis", lambda: cli("DBSIZE") == "5")

    with (bench.folder / "copy/redis.rdb").open("ab") as out:
        out.write(b"x")
    torn = run(bench, "bash", restore, *there, "--yes", "redis")
    assert torn.returncode != 0
    assert "is not what backup.sh wrote" in torn.stderr


@pytest.mark.slow
def test_postgres_comes_back_with_its_rows(bench: Bench) -> None:
    needs("initdb", "postgres", "psql", "pg_basebackup", "pg_verifybackup", "setsid")
    if shutil.which("pg_isready", path=search_path()) is None:
        pytest.skip("not installed: pg_isready")
    port = free_port()
    start = (
        f"exec postgres -D DATA -c port={port} -c listen_addresses= -c fsync=off "
        f"-c unix_socket_directories={bench.folder}"
    )
    env = f"PGHOST={bench.folder}\nPGPORT={port}"
    data = container(bench, "agentic-postgres", "/var/lib/postgresql/data", start, env)
    bench.call(["initdb", "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync"])
    good(run(bench, "docker", "start", "agentic-postgres"))
    row = "host-a/agentic-postgres/postgres///var%lib%postgresql%data//"
    edits = {r"^POSTGRES=.*$": f"POSTGRES=({row})"}
    backup = script(bench, "story-portal-guide-bootable", "backup", edits)
    restore = script(bench, "story-portal-guide-bootable", "restore", edits)
    there = ["psql", "-h", str(bench.folder), "-p", str(port), "-U", "postgres", "-XAtc"]
    bench.wait("PostgreSQL", lambda: bench.call([*there, "select 1"]))
    bench.call([*there, "create table t as select generate_series(1, 1000) as x"])

    said = good(run(bench, "bash", backup, "--to", "copy", "postgres"))
    assert "pg_verifybackup accepts" in said
    assert not (data / "copy").exists(), "never inside of PGDATA (DR-2)"
    bench.call([*there, "drop table t"])

    words = ("--from", "copy", "--into", "agentic-postgres")
    refused = run(bench, "bash", restore, *words, "postgres")
    assert "runs; --yes stops it" in refused.stderr
    good(run(bench, "docker", "stop", "agentic-postgres"))
    refused = run(bench, "bash", restore, *words, "postgres")
    assert "has data in /var/lib/postgresql/data" in refused.stderr
    good(run(bench, "bash", restore, *words, "--yes", "postgres"))
    assert bench.call([*there, "select count(*) from t"]).strip() == "1000"
    assert (Path(f"{data}.before-restore") / "PG_VERSION").exists()


def test_a_backup_that_fails_says_so_and_leaves_no_folder(bench: Bench) -> None:
    backup = script(bench, "story-portal", "backup", {})  # no container answers
    said = run(bench, "bash", backup, "--to", "copy", "redis")
    assert said.returncode != 0
    assert "is not complete" in said.stderr
    assert not (bench.folder / "copy").exists()


def test_the_scripts_of_a_stack_with_data() -> None:
    made = [a.path for a in scripts.make(deploy_of("story-portal"))]
    assert made == ["extra/backup.sh", "extra/restore.sh", "extra/rolling-update.sh"]
