"""patroni.yml, PATRONI_*, and what Patroni refuses or silently changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.components.base import Placed
from hasim.components.patroni import COMPONENT, URLS
from hasim.components.patroni.config import Dynamic, adjusted, meaning, split_address
from hasim.components.patroni.refusals import knobs
from hasim.model import Instance, Service
from hasim.read.compose_types import ComposeService, Mount
from hasim.read.patroni_conf import path_of, read
from hasim.source import Default, Patch, Span, apply_patches
from hasim.stack import load

GOOD = """\
scope: portal
name: pg-1
restapi:
  listen: 0.0.0.0:8008
  connect_address: 10.0.0.11:8008
etcd3:
  hosts: [10.0.0.11:2379, 10.0.0.12:2379, "10.0.0.13:2379"]
bootstrap:
  dcs:
    ttl: 30
    loop_wait: 10
    retry_timeout: 10
    maximum_lag_on_failover: 1MB
    postgresql:
      use_pg_rewind: true
      parameters:
        max_connections: 200
postgresql:
  listen: 0.0.0.0:5432
  connect_address: 10.0.0.11:5432
  data_dir: /data
  parameters:
    max_connections: 300
    shared_buffers: 1GB
  authentication:
    superuser: {username: postgres, password: hunter2}
tags:
  nofailover: true
"""
HERE = Span("docker-compose.yml", 5, 3)
GUIDE = {
    "PATRONI_NAME": "postgres-1",
    "PATRONI_POSTGRESQL_CONNECT_ADDRESS": "postgres:5432",
    "PATRONI_POSTGRESQL_DATA_DIR": "/var/lib/postgresql/data",
    "PATRONI_RESTAPI_CONNECT_ADDRESS": "patroni:8008",
    "PATRONI_ETCD_HOST": "etcd:2379",
}


class OneFile:
    """A folder with one patroni.yml."""

    def __init__(self, text: str):
        self.content = text

    def text(self, path: str, optional: bool = False) -> str | None:
        return self.content

    def mounted(self, one: Placed, path: str) -> tuple[str, bool] | None:
        return ("patroni.yml", True) if path == "/etc/patroni.yml" else None


def configured(text: str = "", environment: dict | None = None, image: str = "own:1"):
    mounts = (Mount("bind", "./patroni.yml", "/etc/patroni.yml"),) if text else ()
    environment = environment or {}
    where = {
        f"environment.{k}": Span("docker-compose.yml", 10 + i, 9) for i, k in enumerate(environment)
    } | {"image": Span("docker-compose.yml", 6, 12)}
    service = ComposeService("pg", HERE, "docker-compose.yml", image, environment=environment,
                             volumes=mounts, where=where)  # fmt: skip
    instance = Instance("pg-1", "patroni", "h", image=image, span=HERE)
    placed = Placed(instance, environment=environment, service=service)
    assert COMPONENT.recognises(service)
    return COMPONENT.configure(placed, OneFile(text))


def codes(found) -> list[str]:
    return [f.code for f in found]


def test_a_whole_file_is_understood() -> None:
    made = configured(GOOD)
    config = made.config
    assert made.failures == ()
    assert config.dynamic == Dynamic(maximum_lag_on_failover=1048576, use_pg_rewind=True)
    assert config.hosts == (("10.0.0.11", 2379), ("10.0.0.12", 2379), ("10.0.0.13", 2379))
    assert config.nofailover
    assert config.where["ttl"] == Span("patroni.yml", 10, 10, 185, 187)
    assert isinstance(config.where["primary_start_timeout"], Default)
    assert made.ports == (8008,)
    assert ("10.0.0.12", 2379) in made.dials


def test_the_server_is_an_inner_process_with_the_parameters_in_force() -> None:
    server = configured(GOOD).inside[0]
    assert (server.name, server.kind, server.inside) == ("pg-1.postgres", "postgres", "pg-1")
    assert server.listen_ports == (5432,)
    value, origin = server.config["max_connections"]
    assert (value, origin.line) == ("200", 17)  # the local file cannot set it
    assert server.config["shared_buffers"][0] == "1GB"
    assert isinstance(server.config["max_wal_senders"][1], Default)


def test_a_parameter_that_only_the_dcs_can_set_is_pointed_at() -> None:
    found = [f for f in configured(GOOD).findings if f.code == "HA197"]
    assert [f.span.line for f in found] == [23]


def test_the_guide_s_variables_do_not_start() -> None:
    """PG-12, PG-13 and PG-14 of the guide's audit, each with its place."""
    made = configured(environment=GUIDE, image="patroni/patroni:latest")
    by_id = {f.audit_id: f for f in reversed(made.failures)}
    assert sorted(by_id) == ["PG-12", "PG-13", "PG-14"]
    assert by_id["PG-12"].span.line == 6
    assert by_id["PG-13"].reason == "exits with KeyError: 'scope'"
    assert by_id["PG-14"].span.line == 14
    assert "v2" in by_id["PG-14"].reason


def test_variables_win_over_the_file_and_reach_every_level() -> None:
    environment = {"PATRONI_SCOPE": "other", "PATRONI_ETCD3_HOSTS": "'a:1', b",
                   "PATRONI_RESTAPI_LISTEN": "0.0.0.0:9000"}  # fmt: skip
    made = configured(GOOD, environment)
    assert made.config.scope == "other"
    assert made.config.hosts == (("a", 1), ("b", 2379))
    assert made.ports == (9000,)
    assert path_of("PATRONI_POSTGRESQL_BIN_PG_CTL") == ("postgresql", "bin_name", "pg_ctl")
    assert path_of("PATRONI_RESTAPI_PASSWORD") == ("restapi", "authentication", "password")
    assert path_of("PATRONI_SCOOP") is None
    assert "HA195" in codes(configured(GOOD, {"PATRONI_SCOOP": "x"}).findings)


@pytest.mark.parametrize(
    ("written", "loop_wait", "retry_timeout"),
    [((30, 10, 10), 10, 10), ((30, 15, 10), 10, 10), ((20, 10, 10), 1, 9), ((20, 1, 10), 1, 9),
     ((20, 5, 5), 5, 5), ((21, 5, 10), 1, 10)],
)  # fmt: skip
def test_loop_wait_and_twice_retry_timeout_fit_into_ttl(written, loop_wait, retry_timeout) -> None:
    ttl, loop, retry = written
    text = GOOD.replace("ttl: 30", f"ttl: {ttl}").replace("loop_wait: 10", f"loop_wait: {loop}")
    made = configured(text.replace("retry_timeout: 10", f"retry_timeout: {retry}"))
    dynamic = made.config.dynamic
    assert (dynamic.ttl, dynamic.loop_wait, dynamic.retry_timeout) == (
        ttl, loop_wait, retry_timeout
    )  # fmt: skip
    assert ("HA196" in codes(made.findings)) == ((loop, retry) != (loop_wait, retry_timeout))


@given(st.integers(20, 90), st.integers(1, 40), st.integers(3, 40))
@settings(max_examples=200, deadline=None)
def test_the_rule_is_patroni_s_own(ttl: int, loop: int, retry: int) -> None:
    config = pytest.importorskip("patroni.config")
    settings_ = {"ttl": ttl, "loop_wait": loop, "retry_timeout": retry}
    real = config.Config.__new__(config.Config)
    real._validate_and_adjust_timeouts(settings_)
    ours = adjusted(Dynamic(ttl=ttl, loop_wait=loop, retry_timeout=retry))
    assert settings_ == {
        "ttl": ours.ttl, "loop_wait": ours.loop_wait, "retry_timeout": ours.retry_timeout
    }  # fmt: skip


def test_values_below_the_least_are_raised() -> None:
    made = configured(GOOD.replace("ttl: 30", "ttl: 5"))
    assert made.config.dynamic.ttl == 20
    assert "HA196" in codes(made.findings)


def test_a_dynamic_setting_at_the_top_has_no_effect() -> None:
    made = configured(GOOD + "ttl: 60\n")
    assert made.config.dynamic.ttl == 30
    last = len(GOOD.splitlines()) + 1
    assert last in [f.span.line for f in made.findings if f.code == "HA197"]


def test_every_setting_is_a_knob_and_a_patch_touches_nothing_else() -> None:
    conf, _ = read(GOOD, "patroni.yml", {})
    config, _ = meaning(conf, "pg-1")
    found = {k.name: k for k in knobs(conf, config)}
    ttl = found["patroni.ttl"]
    assert (ttl.value, ttl.effect) == ("30", "dcs-edit")
    text = apply_patches(GOOD, [Patch(ttl.origin, "40")])
    assert text == GOOD.replace("ttl: 30", "ttl: 40")
    start = found["patroni.primary_start_timeout"]
    place = start.insert
    inserted = apply_patches(GOOD, [Patch(place, start.insert_text.replace("{value}", "0"))])
    assert configured(inserted).config.dynamic.primary_start_timeout == 0
    assert len(inserted.splitlines()) == len(GOOD.splitlines()) + 1


def test_no_secret_leaves_the_reader() -> None:
    made = configured(GOOD, {"PATRONI_SUPERUSER_PASSWORD": "hunter3"})
    shown = repr(made)
    conf, _ = read(GOOD, "patroni.yml", {})
    assert "hunter" not in shown.replace("environment", "")
    assert "hunter" not in repr(conf)


def test_health_urls_are_there_for_checks() -> None:
    service = COMPONENT.station(Service("pg"), Instance("pg-1", "patroni", "h"))
    assert {e.url for e in service.health} == set(URLS)
    for url in ("/", "/primary", "/read-write", "/leader", "/replica", "/read-only", "/health",
                "/liveness", "/readiness"):  # fmt: skip
        assert url in URLS


def test_addresses_in_all_their_forms() -> None:
    assert split_address("[::1]:8008", 1) == ("::1", 8008)
    assert split_address("host", 8008) == ("host", 8008)
    assert split_address("https://h:1/x", 2) == ("h", 1)


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_no_text_raises(text: str) -> None:
    conf, found = read(text, "patroni.yml", {"PATRONI_ETCD3_HOSTS": (text, HERE)})
    config, more = meaning(conf, "pg-1")
    list(knobs(conf, config))
    assert all(f.code for f in (*found, *more))


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [("  ttl:", "  tlt:", "bootstrap.dcs.tlt"), ("scope:", "scoope:", "scoope")],
)
def test_a_key_that_patroni_does_not_read_is_found(right, wrong, says) -> None:
    file = Path(__file__).parents[2] / "models/story-portal/patroni/pg-1.yml"
    text = file.read_text()
    assert right in text
    for body, expected in ((text, []), (text.replace(right, wrong, 1), [says])):
        conf, _ = read(body, "pg-1.yml", {})
        found = [f for f in meaning(conf, "pg-1")[1] if "reads no" in f.message]
        assert [f.message.split("'")[1] for f in found] == expected
        assert all("did you mean" in f.hint for f in found)


def test_a_member_with_a_scope_of_its_own_is_found(tmp_path) -> None:
    folder = tmp_path / "stack"
    shutil.copytree(Path(__file__).parents[2] / "models/story-portal", folder)
    file = folder / "patroni" / "pg-2.yml"
    file.write_text(file.read_text().replace("scope: story-portal", "scope: story-prtal"))
    (found,) = (f for f in load(folder).findings if f.code == "HA251")
    assert "'pg-2' has scope 'story-prtal', the others 'story-portal'" in found.message


def test_the_real_program_refuses_a_missing_scope_too(tmp_path) -> None:
    pytest.importorskip("patroni")
    file = tmp_path / "patroni.yml"
    file.write_text(GOOD.replace("scope: portal\n", ""))
    done = subprocess.run(
        [sys.executable, "-m", "patroni", str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "scope" in done.stderr


def test_a_parameter_that_postgresql_does_not_know_is_found() -> None:
    text = "bootstrap: {dcs: {postgresql: {parameters: {max_wal_sender: 5, my.own: 1}}}}\n"
    [told] = [f for f in configured(text).findings if "knows no parameter" in f.message]
    assert "'max_wal_sender'" in told.message
    assert "max_wal_senders" in told.hint


@pytest.mark.parametrize(
    ("listen", "rules", "more", "fails"),
    [
        ("0.0.0.0", ["local all all peer", "host all all 10.0.0.0/24 scram-sha-256"], "", True),
        ("*", ["host replication all 127.0.0.1/32 md5"], "", True),
        ("0.0.0.0", ["host all all 127.0.0.1/32 reject", "host all all all md5"], "", True),
        ("0.0.0.0", ["hostssl all all all md5"], "", True),
        ("0.0.0.0", ["host all all 127.0.0.1/32 scram-sha-256"], "", False),
        ("0.0.0.0", ["host postgres postgres samehost md5"], "", False),
        ("0.0.0.0", ["host all all 0.0.0.0/0 md5"], "", False),
        ("0.0.0.0", ["local all all peer"], "  use_unix_socket: true\n", False),
        ("10.0.0.11", ["host all all 10.0.0.0/24 md5"], "", False),
    ],
)
def test_patroni_must_be_let_in_by_its_own_server(
    listen: str, rules: list[str], more: str, fails: bool
) -> None:
    """Measured: `no pg_hba.conf entry for host "127.0.0.1"`, Failed to bootstrap cluster."""
    lines = "".join(f"    - {rule}\n" for rule in rules)
    text = GOOD.replace("  listen: 0.0.0.0:5432\n", f"  listen: '{listen}:5432'\n{more}")
    text = text.replace("tags:\n", f"  pg_hba:\n{lines}tags:\n")
    said = [f.reason for f in configured(text).failures]
    assert ["bootstrap fails" in reason for reason in said] == [True] * fails
