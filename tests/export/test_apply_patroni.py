"""The Patroni steps of apply.sh against a real cluster: settings, their way back, a hand-over."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from daemons import Bench, at, moved, needs
from deploys import deploy_of
from test_export_daemons import _member, get

from hasim.export import artefacts
from hasim.export.apply_shell import library
from hasim.export.validators_jobs import search_path

DOCKER = """\
#!/usr/bin/env bash
shift
while [ "$1" = -i ]; do shift; done
shift
exec "$@"
"""


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.write("bin/docker", DOCKER, 0o755)
    try:
        yield made
    finally:
        made.end()


def shell(bench: Bench, *lines: str) -> subprocess.CompletedProcess[str]:
    """Functions of apply.lib.sh, called as a step calls them."""
    head = (
        f"set -euo pipefail\nHOST=a\nDRY=0 LIMIT_S=60 N=1 CHANGED=0 RESUMED=0 STATE={bench.folder}"
    )
    text = "\n".join([head, library("apply.lib.sh"), *lines])
    tools = Path(sys.executable).parent  # patronictl is beside this Python
    return subprocess.run(
        [*bench.prefix, "bash", "-c", text],
        env={"PATH": f"{bench.folder}/bin:{tools}:{search_path()}", "HOME": str(bench.folder),
             "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )  # fmt: skip


def _restarted(bench: Bench, files: Mapping[int, Path], leads: str) -> None:
    """Only a start takes it: Patroni says so a cycle later, and the script waits for that."""
    names = {f"pg-{n}": f"x {file}" for n, file in files.items()}
    edit = "postgresql.parameters.max_connections=120"
    more = shell(bench, "N=3", f"apply_patroni_dcs {names['pg-1']} {edit}")
    assert more.returncode == 0, more.stdout + more.stderr
    for name in sorted(names, key=leads.__eq__):
        who = f"{names[name]} story-portal {name}"
        steps = (f"apply_patroni_hand_over {who} pending", f"apply_patroni_restart {who}")
        said = shell(bench, *steps)
        assert said.returncode == 0, said.stdout + said.stderr
        assert ("switchover" in said.stdout) == (name == leads), said.stdout
        assert ("restart --force --pending" in said.stdout) == (name != leads), said.stdout
    cluster = f"http://{at(11)}:8008/cluster"
    bench.wait("nothing is pending", lambda: "pending" not in get(cluster)[1])


@pytest.mark.slow
def test_settings_and_the_hand_over(bench: Bench) -> None:
    needs("patroni", "etcd", "postgres", "initdb")
    if shutil.which("patronictl", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("no patronictl")
    portal = {a.path: a.text for a in artefacts.make(deploy_of("story-portal"))}
    for n, host in enumerate("abc", 1):
        text = moved(portal[f"hosts/host-{host}/etcd/etcd-{n}.yml"], at(10 + n))
        text = text.replace("/var/lib/etcd", str(bench.folder / f"etcd-{n}"))
        file = bench.write(f"etcd-{n}.yml", text + "enable-grpc-gateway: true\n")
        bench.start(["etcd", "--config-file", str(file)], f"etcd-{n}.log")
    bench.wait("etcd", lambda: "true" in get(f"http://{at(11)}:2379/health")[1])
    files = {n: _member(portal, bench, n) for n in (1, 2)}
    for n, file in files.items():
        bench.start(["patroni", str(file)], f"patroni-{n}.log")

    def members() -> dict[str, str]:
        found = json.loads(get(f"http://{at(11)}:8008/cluster")[1])["members"]
        return {m["name"]: f"{m['role']} {m['state']}" for m in found}

    def settled() -> bool:
        return sorted(members().values()) == ["leader running", "sync_standby streaming"]

    bench.wait("a leader and a synchronous standby", settled, 90)
    config = f"x {files[1]}"
    good = shell(bench, f"patroni_well {config}")
    assert good.returncode == 0, good.stdout + good.stderr

    def ttl() -> int:
        return int(json.loads(get(f"http://{at(11)}:8008/config")[1])["ttl"])

    said = shell(bench, f"apply_patroni_dcs {config} ttl=25 primary_start_timeout=60")
    assert said.returncode == 0, said.stdout + said.stderr
    assert ttl() == 25
    N2 = shell(bench, "N=2", f"apply_patroni_dcs {config} ttl=25 primary_start_timeout=60")
    assert "already as exported" in N2.stdout
    back = shell(bench, f"undo_patroni_dcs {config}")
    assert back.returncode == 0, back.stdout + back.stderr
    assert ttl() == 30

    reload = shell(bench, f"undo_patroni_reload {config} story-portal pg-2")
    assert reload.returncode == 0, reload.stdout + reload.stderr

    _restarted(bench, files, next(n for n, state in members().items() if "leader" in state))

    leader = next(name for name, state in members().items() if state.startswith("leader"))
    moved_ = shell(bench, f"apply_patroni_hand_over {config} story-portal {leader}")
    assert moved_.returncode == 0, moved_.stdout + moved_.stderr
    assert not members()[leader].startswith("leader")
    again = shell(bench, f"apply_patroni_hand_over {config} story-portal {leader}")
    assert "is a replica" in again.stdout
