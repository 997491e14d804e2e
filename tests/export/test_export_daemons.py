"""The exported files at work: the real daemons start with them and do what they are for."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from daemons import Bench, at, moved, needs, redis, serve
from deploys import deploy_of

from hasim.export import artefacts
from hasim.export.validators_jobs import program

PORTAL, GUIDE = "story-portal", "story-portal-guide-bootable"
PASSWORD = "change-me-redis"


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def portal() -> dict[str, str]:
    return {a.path: a.text for a in artefacts.make(deploy_of(PORTAL))}


@pytest.fixture(scope="module")
def guide() -> dict[str, str]:
    return {a.path: a.text for a in artefacts.make(deploy_of(GUIDE))}


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=3) as answer:
        return answer.status, answer.read().decode()


def test_haproxy_serves_from_the_servers_that_live(portal: dict[str, str], bench: Bench) -> None:
    needs("haproxy")
    text = portal["hosts/host-a/haproxy.cfg"]
    text = text.replace("bind *:", f"bind {at(10)}:").replace("127.0.0.1:9999", f"{at(10)}:9999")
    bench.write("haproxy.cfg", moved(text, at(10)))
    gateways = [serve(at(n), 8109) for n in (11, 12, 13)]
    try:
        bench.start(["haproxy", "-db", "-f", "haproxy.cfg"], "haproxy.log")
        url = f"http://{at(10)}:8009/api/stories"
        assert bench.wait("a first answer", lambda: get(url), 10)[0] == 200
        assert {get(url)[1] for _ in range(12)} == {at(n) for n in (11, 12, 13)}
        gateways[0].shutdown()
        gateways[0].server_close()
        answers = [get(url) for _ in range(12)]
        assert {status for status, _ in answers} == {200}
        assert at(11) not in {name for _, name in answers}
        assert "haproxy_backend_active_servers" in get(f"http://{at(10)}:8404/metrics")[1]
    finally:
        for one in gateways[1:]:
            one.shutdown()
            one.server_close()


def start_redis(portal: dict[str, str], bench: Bench) -> None:
    """Three servers and three Sentinels, each in its own writable folder."""
    for n, host in enumerate("abc", 1):
        own = at(10 + n)
        text = moved(portal[f"hosts/host-{host}/redis/redis-{n}/redis.conf"], own)
        data = bench.mkdir(f"data-{n}")
        text = text.replace("dir /data", f"dir {data}")
        file = bench.write(f"redis-{n}/redis.conf", text)
        bench.start(["redis-server", str(file)], f"redis-{n}.log")
    for n, host in enumerate("abc", 1):
        path = f"hosts/host-{host}/sentinel/sentinel-{n}/redis-sentinel.conf"
        text = moved(portal[path], at(10 + n)).replace("dir /tmp", f"dir {bench.folder}")
        file = bench.write(f"sentinel-{n}/redis-sentinel.conf", text)
        bench.start(["redis-sentinel", str(file)], f"sentinel-{n}.log")


def test_three_sentinels_reach_a_quorum(portal: dict[str, str], bench: Bench) -> None:
    needs("redis-server", "redis-sentinel")
    start_redis(portal, bench)

    def ok() -> bool:
        said = [redis(at(10 + n), 26379, "SENTINEL", "ckquorum", "mymaster") for n in (1, 2, 3)]
        return all(s.startswith("+OK 3 usable Sentinels") for s in said)

    bench.wait("a quorum of three", ok, 20)
    for n in (1, 2, 3):
        said = redis(at(10 + n), 26379, "SENTINEL", "get-master-addr-by-name", "mymaster")
        assert at(11) in said
        assert (
            "sentinel known-sentinel"
            in (bench.folder / f"sentinel-{n}/redis-sentinel.conf").read_text()
        )
    info = "INFO", "replication"
    bench.wait(
        "both replicas follow",
        lambda: "connected_slaves:2" in redis(at(11), 6379, *info, password=PASSWORD),
    )
    listed = json.loads(portal["extra/services.json"])["sentinels"]["mymaster"]
    assert listed == [f"10.0.0.1{n}:26379" for n in (1, 2, 3)]


@pytest.mark.slow
def test_sentinels_move_the_master(portal: dict[str, str], bench: Bench) -> None:
    needs("redis-server", "redis-sentinel")
    start_redis(portal, bench)
    info = "INFO", "replication"
    bench.wait(
        "both replicas follow",
        lambda: "connected_slaves:2" in redis(at(11), 6379, *info, password=PASSWORD),
    )
    bench.wait(
        "three sentinels",
        lambda: redis(at(12), 26379, "SENTINEL", "ckquorum", "mymaster").startswith("+OK 3"),
    )
    bench.started[0].kill()

    def new() -> bool:
        said = redis(at(12), 26379, "SENTINEL", "get-master-addr-by-name", "mymaster")
        return at(12) in said or at(13) in said

    bench.wait("a failover", new, 30)


@pytest.mark.slow
def test_a_standby_streams_as_the_settings_say(guide: dict[str, str], bench: Bench) -> None:
    needs("initdb", "pg_basebackup", "postgres", "psql")
    top, own = "hosts/host-a", at(1)
    primary, standby = bench.folder / "primary", bench.folder / "standby"
    bench.call(["initdb", "-D", str(primary), "-U", "postgres", "--auth=trust", "--no-sync"])
    settings = guide[f"{top}/agentic-postgres/postgresql.conf"].replace("'*'", f"'{own}'")
    bench.write(
        "primary.conf", f"{settings}unix_socket_directories = '{bench.folder}'\nfsync = off\n"
    )
    start_server(bench, primary, "primary.conf", guide[f"{top}/agentic-postgres/pg_hba.conf"])
    sql = ["psql", "-h", str(bench.folder), "-U", "postgres", "-XAtc"]
    bench.wait("the primary", lambda: bench.call([*sql, "select 1"]))
    assert bench.call([*sql, "show max_wal_senders"]).strip() == "3"
    wrong = "select count(*) from pg_hba_file_rules where error is not null"
    assert bench.call([*sql, wrong]).strip() == "0"
    bench.call([*sql, "create user replicator with replication password 'test-only-word'"])

    example = guide[f"{top}/agentic-postgres-replica/pgpass.example"].splitlines()[-1]
    passfile = bench.write(
        "pgpass", f"{example.replace('postgres:5432', f'{own}:5432')}test-only-word\n", 0o600
    )
    copy = [
        "pg_basebackup",
        "-h",
        own,
        "-U",
        "replicator",
        "-w",
        "-D",
        str(standby),
        "--checkpoint=fast",
    ]
    bench.call(copy, {"PGPASSFILE": str(passfile)})
    text = guide[f"{top}/agentic-postgres-replica/postgresql.conf"].replace("'*'", f"'{at(2)}'")
    text = text.replace("host=postgres", f"host={own}").replace(
        "/run/secrets/pgpass", str(passfile)
    )
    socket = bench.mkdir("standby-socket")
    bench.write("standby.conf", f"{text}unix_socket_directories = '{socket}'\nfsync = off\n")
    bench.write("standby/standby.signal", guide[f"{top}/agentic-postgres-replica/standby.signal"])
    start_server(
        bench, standby, "standby.conf", guide[f"{top}/agentic-postgres-replica/pg_hba.conf"]
    )

    asked = "select application_name from pg_stat_replication where state = 'streaming'"
    bench.wait("a standby that streams", lambda: bench.call([*sql, asked]).strip())
    assert bench.call([*sql, asked]).strip() == "agentic-postgres-replica"
    bench.call([*sql, "create table t as select 7 as x"])
    there = ["psql", "-h", str(socket), "-U", "postgres", "-XAtc", "select x from t"]
    assert bench.wait("the row on the standby", lambda: bench.call(there)).strip() == "7"


def start_server(bench: Bench, data: Path, settings: str, hba: str) -> None:
    """A server whose postgresql.conf is the exported one, with the exported pg_hba.conf."""
    bench.write(f"{data.name}/pg_hba.conf", hba)
    bench.write(f"{data.name}/postgresql.conf", f"include '{bench.folder / settings}'\n")
    bench.start(["postgres", "-D", str(data)], f"{data.name}.log")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_patroni_may_ask_its_own_server(portal: dict[str, str], n: int) -> None:
    """Listening on every address it dials localhost (Patroni, config.py, tcp_local_address)."""
    conf = yaml.safe_load(portal[f"hosts/host-{'abc'[n - 1]}/patroni/pg-{n}.yml"])["postgresql"]
    assert conf["listen"].startswith("0.0.0.0")
    lines = [line.split() for line in conf["pg_hba"]]
    assert [ln[1] for ln in lines if ln[3] == "127.0.0.1/32"] == ["replication", "all"]


@pytest.mark.slow
def test_patroni_forms_a_cluster_with_etcd(portal: dict[str, str], bench: Bench) -> None:
    needs("patroni", "etcd", "postgres", "initdb")
    for n, host in enumerate("abc", 1):
        text = moved(portal[f"hosts/host-{host}/etcd/etcd-{n}.yml"], at(10 + n))
        text = text.replace("/var/lib/etcd", str(bench.folder / f"etcd-{n}"))
        # etcd 3.4 with a file has no gateway for Patroni unless told so; 3.5 has (etcd pull 12297)
        file = bench.write(f"etcd-{n}.yml", text + "enable-grpc-gateway: true\n")
        bench.start(["etcd", "--config-file", str(file)], f"etcd-{n}.log")
    healthy = f"http://{at(11)}:2379/health"
    bench.wait("etcd", lambda: "true" in get(healthy)[1])
    for n in (1, 2):
        bench.start(["patroni", str(_member(portal, bench, n))], f"patroni-{n}.log")

    def roles() -> list[str]:
        members = json.loads(get(f"http://{at(11)}:8008/cluster")[1])["members"]
        return sorted(f"{m['role']} {m['state']}" for m in members)

    wanted = ["leader running", "sync_standby streaming"]
    bench.wait("a leader and a synchronous standby", lambda: roles() == wanted, 90)
    leader = next(
        n for n in (1, 2) if _status(f"http://{at(10 + n)}:8008/primary") == 200
    )  # what HAProxy of the exported haproxy.cfg asks
    assert _status(f"http://{at(13 - leader)}:8008/replica") == 200


def _status(url: str) -> int:
    try:
        return get(url)[0]
    except urllib.error.HTTPError as error:
        return int(error.code)


def _member(portal: dict[str, str], bench: Bench, n: int) -> Path:
    """The exported patroni.yml with this machine's paths."""
    text = moved(portal[f"hosts/host-{'abc'[n - 1]}/patroni/pg-{n}.yml"], at(10 + n))
    bin_dir = Path(program("pg_controldata") or "").parent
    text = re.sub(r"(?m)^  bin_dir:.*$", f"  bin_dir: {bin_dir}", text)
    data = bench.folder / f"pg-{n}"
    text = re.sub(r"(?m)^  data_dir:.*$", f"  data_dir: {data}", text)
    socket = bench.mkdir(f"socket-{n}")
    text += f"  pgpass: {bench.folder}/pgpass-{n}\n"
    text += f"  parameters:\n    unix_socket_directories: {socket}\n    fsync: 'off'\n"
    return bench.write(f"pg-{n}.yml", text)
