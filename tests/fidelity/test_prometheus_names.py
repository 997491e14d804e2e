"""The names that our tables give HAProxy's exporter, against a real HAProxy."""

from __future__ import annotations

import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hasim.components.haproxy.gauges import STATES
from hasim.components.prometheus.exporters import HAPROXY, REPLACED, SHOWN

CONFIG = """
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend metrics
    bind 127.0.0.1:{port}
    http-request use-service prometheus-exporter if {{ path /metrics }}
backend gw
    server up 127.0.0.1:1
    server off 127.0.0.1:1 disabled
    server spare 127.0.0.1:{port} backup check inter 1h
"""


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """/metrics of a HAProxy with one server of each kind."""
    import shutil

    program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if not program:
        pytest.skip("no haproxy on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config: Path = tmp_path_factory.mktemp("haproxy") / "h.cfg"
    config.write_text(CONFIG.format(port=port))
    process = subprocess.Popen([program, "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        yield _get(f"http://127.0.0.1:{port}/metrics")
    finally:
        process.kill()
        process.wait()


def _get(url: str) -> str:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.05)
    pytest.skip("haproxy did not start")


def series(dump: str, metric: str) -> list[tuple[dict[str, str], float]]:
    out = []
    for line in dump.splitlines():
        found = re.fullmatch(rf"{metric}\{{(.*)\}} (\S+)", line)
        if found:
            out.append((dict(re.findall(r'(\w+)="([^"]*)"', found[1])), float(found[2])))
    return out


def test_every_metric_that_is_simulated_is_real_and_has_these_labels(dump: str) -> None:
    for metric, labels in SHOWN["haproxy"].items():
        found = series(dump, metric)
        assert found, metric
        assert all(set(of) == set(labels) for of, _ in found), metric


def test_all_names_are_known_and_the_guides_is_none(dump: str) -> None:
    names = set(re.findall(r"^# TYPE (haproxy_\w+)", dump, re.M))
    if re.search(r"^haproxy_process_build_info\{[^}]*version=\"2\.6", dump, re.M):
        assert names == HAPROXY  # other releases add names
    assert not names & set(REPLACED)
    assert "haproxy_backend_up" not in names


def test_values_count_servers_in_rotation(dump: str) -> None:
    assert series(dump, "haproxy_backend_active_servers") == [({"proxy": "gw"}, 1.0)]
    assert series(dump, "haproxy_backend_backup_servers") == [({"proxy": "gw"}, 1.0)]
    states = {(of["server"], of["state"]): v for of, v in series(dump, "haproxy_server_status")}
    assert {state for _, state in states} == set(STATES)
    assert [s for (server, s), v in states.items() if server == "off" and v] == ["MAINT"]
    assert [s for (server, s), v in states.items() if server == "up" and v] == ["UP"]
