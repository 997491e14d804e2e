"""The reload of apply.sh with a real HAProxy under load: no request fails, as in the simulation."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Bench, at, needs, serve

from hasim.export.apply_shell import library
from hasim.export.validators_jobs import search_path

CONFIG = """\
global
    hard-stop-after 5s
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server {server}
frontend in
    bind {own}:8009
    default_backend web
backend web
    option httpchk GET /
    server web-1 {own}:8010 check inter 200ms
frontend stats
    bind {own}:8404
    stats enable
    stats uri /stats
"""
DOCKER = """\
#!/usr/bin/env bash
if [ "$1" = kill ]; then exec kill -s "$3" "$(cat PLACE/pid)"; fi
shift
while [ "$1" = -i ]; do shift; done
shift
if [ "$1" = pidof ]; then cat PLACE/pid; exec pgrep -P "$(cat PLACE/pid)"; fi
exec "$@"
"""


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.write("bin/docker", DOCKER.replace("PLACE", str(made.folder)), 0o755)
    try:
        yield made
    finally:
        made.end()


def shell(bench: Bench, words: str) -> subprocess.CompletedProcess[str]:
    page = f"http://{at(1)}:8404/stats;csv"
    ask = f"python3 -c 'import urllib.request as r; print(r.urlopen(\"{page}\").read().decode())'"
    text = "\n".join(
        [
            "set -euo pipefail",
            f"HERE={bench.folder}/export TARGET={bench.folder}/target STATE={bench.folder}/state",
            "HOST=a DRY=0 LIMIT_S=20 N=1 CHANGED=0 RESUMED=0 FRESH=0",
            library("apply.lib.sh"),
            "haproxy_says() { " + ask + "; }",
            words,
        ]
    )
    return subprocess.run(
        [*bench.prefix, "bash", "-c", text],
        env={"PATH": f"{bench.folder}/bin:{search_path()}", "LC_ALL": "C"},
        capture_output=True, text=True, timeout=90, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def sha(file: Path) -> str:
    return subprocess.run(["sha256sum", file], capture_output=True, text=True).stdout.split()[0]


def test_a_reload_under_load_fails_nobody(bench: Bench) -> None:
    needs("haproxy", "pgrep")
    own = at(1)
    target = bench.write("target/haproxy.cfg", CONFIG.format(own=own, server="5s"))
    new = bench.write("export/haproxy.cfg", CONFIG.format(own=own, server="3s"))
    bench.mkdir("state")
    ends = serve(own, 8010)
    pid = bench.start(["haproxy", "-W", "-db", "-f", str(target)], "haproxy.log")
    bench.write("pid", f"{pid}\n")
    url = f"http://{own}:8009/"
    bench.wait("HAProxy", lambda: urllib.request.urlopen(url, timeout=2).status == 200)
    done, failed, stop = [0], [0], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                urllib.request.urlopen(url, timeout=5).read()
                done[0] += 1
            except OSError:
                failed[0] += 1

    user = threading.Thread(target=ask)
    user.start()
    words = f"haproxy.cfg {sha(target)} {sha(new)}"
    said = shell(bench, f"apply_haproxy_reload lb {target} {words}")
    stop.set()
    user.join()
    assert said.returncode == 0, said.stdout + said.stderr
    assert target.read_text() == new.read_text()
    assert done[0] > 20
    assert failed[0] == 0

    bad = bench.write("export/haproxy.cfg", "defaults\n    mode htp\n")
    refused = shell(bench, f"apply_haproxy_reload lb {target} haproxy.cfg {sha(target)} {sha(bad)}")
    assert refused.returncode != 0
    assert "refuses haproxy.cfg" in refused.stderr
    assert target.read_text() != bad.read_text()
    os.kill(pid, signal.SIGTERM)
    ends.shutdown()
