"""redis.conf, sentinel.conf and commands: what is read, what is refused, what is advised."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_lab import Lab

from hasim.components.base import Placed, components
from hasim.model import Instance
from hasim.read.compose_types import ComposeService, Mount
from hasim.read.redis_conf import read, started
from hasim.read.redis_values import size_bytes
from hasim.source import Default, Patch, Span, apply_patches
from hasim.stack import load

REDIS, SENTINEL = components()["redis"], components()["sentinel"]
CONF = "/etc/redis/sentinel.conf"
GOOD = """port 26379
sentinel monitor mymaster 10.0.0.11 6379 2
sentinel down-after-milliseconds mymaster 5000
"""


class Files:
    """A folder with one file, mounted as a file or with its directory; None: not mounted."""

    def __init__(self, text: str | None = None, single: bool = False):
        self.content, self.single = text, single

    def text(self, path):
        return self.content

    def mounted(self, one, path):
        return None if self.content is None else ("conf/file.conf", self.single)


def service(command, image: str = "redis:7-alpine", **changes) -> ComposeService:
    words = tuple(command.split()) if isinstance(command, str) else command
    where = {"command": Span("compose.yml", 5, 14, 100, 100 + len(command or ""))}
    return ComposeService(
        "node", Span("compose.yml", 3, 3), "compose.yml", image=image, command=words,
        command_is_string=isinstance(command, str), where=where,
        written={"command": command} if isinstance(command, str) else {}, **changes,
    )  # fmt: skip


def configured(component, command, text=None, single=False, name="node", **changes):
    made = service(command, **changes)
    instance = Instance(name, component.kind, "host-a", span=made.span)
    return component.configure(Placed(instance, service=made), Files(text, single))


# ---- recognising ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("command", "image", "kind"),
    [
        ("redis-server --port 6379", "redis:7-alpine", "redis"),
        (None, "redis:7-alpine", "redis"),
        ("--appendonly yes", "docker.io/library/redis:7", "redis"),
        ("/usr/local/etc/redis.conf", "redis", "redis"),
        (f"redis-sentinel {CONF}", "redis:7-alpine", "sentinel"),
        (f"redis-server {CONF} --sentinel", "redis:7-alpine", "sentinel"),
        (("sh", "-c", "cp /a /b && exec redis-sentinel /b"), "redis:7-alpine", "sentinel"),
        ("python app.py", "python:3", ""),
        ("redis-cli ping", "redis:7-alpine", ""),
    ],
)
def test_what_a_service_is(command, image, kind) -> None:
    made = service(command, image)
    assert [c.kind for c in (REDIS, SENTINEL) if c.recognises(made)] == ([kind] if kind else [])


# ---- redis-server --------------------------------------------------------------------------------
def test_flags_of_a_command_and_their_places() -> None:
    command = (
        "redis-server --replicaof redis-master 6379 --requirepass secret --min-replicas-to-write 1"
    )
    made = configured(REDIS, command)
    config = made.config
    assert config.replicaof == ("redis-master", 6379)
    assert config.min_replicas == 1
    assert made.dials == (("redis-master", 6379),)
    assert made.ports == (6379,)
    origin = config.where["min-replicas-to-write"]
    assert command[origin.start - 100 : origin.end - 100] == "1"
    assert "secret" not in repr(made)


def test_a_file_then_flags() -> None:
    text = "port 7000\nappendonly no\nsave 60 1000 10 5\n# save 1 1\n"
    config = configured(REDIS, "redis-server /etc/redis.conf --appendonly yes", text).config
    assert (config.port, config.appendonly) == (7000, True)
    assert config.save == ((60, 1000), (10, 5))
    assert config.where["port"] == Span("conf/file.conf", 1, 6, 5, 9)
    assert isinstance(config.where["maxmemory"], Default)


@pytest.mark.parametrize(
    ("line", "rules"),
    [('save ""', ()), ("save 3600 1", ((3600, 1),)), ("save 1 2\nsave 3 4", ((1, 2), (3, 4)))],
)
def test_save_points(line, rules) -> None:
    assert configured(REDIS, "redis-server /etc/r.conf", line + "\n").config.save == rules


def test_without_save_the_defaults_hold() -> None:
    assert configured(REDIS, "redis-server").config.save == ((3600, 1), (300, 100), (60, 10000))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("prot 6379", "bad directive 'prot'"),
        ("appendonly maybe", "argument of 'appendonly'"),
        ("replicaof onlyhost", "replicaof needs"),
        ("save 60", "invalid save parameters"),
        ('requirepass "open', "unbalanced quotes"),
        ("port", "wrong number of arguments"),
        ("port 70000", "argument of 'port'"),
    ],
)
def test_what_redis_refuses_at_start_names_the_line(text, reason) -> None:
    made = configured(REDIS, "redis-server /etc/r.conf", "# first\n" + text + "\n")
    assert [f.span.line for f in made.failures] == [2]
    assert reason in made.failures[0].reason


def test_a_file_that_is_not_there() -> None:
    made = configured(REDIS, "redis-server /etc/r.conf")
    assert "can't open config file" in made.failures[0].reason


def test_knobs_are_written_back() -> None:
    text = "appendonly no\nrepl-backlog-size 1mb"
    made = configured(REDIS, "redis-server /etc/r.conf", text)
    knobs = {k.name: k for k in made.knobs}
    backlog = knobs["redis.node.repl-backlog-size"]
    assert apply_patches(text, [Patch(backlog.origin, "64mb")]).endswith("repl-backlog-size 64mb")
    lag = knobs["redis.node.min-replicas-max-lag"]
    added = apply_patches(text, [Patch(lag.insert, lag.insert_text.format(value="5"))])
    assert configured(REDIS, "redis-server /etc/r.conf", added).config.max_lag_s == 5


def test_sizes() -> None:
    assert [size_bytes(t) for t in ("100", "1k", "1kb", "2GB")] == [100, 1000, 1024, 2**31]


# ---- sentinel ------------------------------------------------------------------------------------
def test_a_host_name_needs_resolve_hostnames() -> None:
    """RD-1: refused even though the name resolves; the line is named."""
    text = GOOD.replace("10.0.0.11", "redis-master")
    made = configured(SENTINEL, f"redis-sentinel {CONF}", text)
    assert [(f.audit_id, f.span.line, f.reason) for f in made.failures] == [
        ("RD-1", 2, "Can't resolve instance hostname.")
    ]
    for mended in (
        text + "sentinel resolve-hostnames yes\n",
        "SENTINEL resolve-hostnames yes\n" + text,
    ):
        assert not configured(SENTINEL, f"redis-sentinel {CONF}", mended).failures


def test_the_times_of_a_master() -> None:
    text = GOOD + "sentinel failover-timeout mymaster 10000\nsentinel parallel-syncs mymaster 2\n"
    master = configured(SENTINEL, f"redis-sentinel {CONF}", text).config.masters[0]
    assert (master.down_after_ms, master.failover_timeout_ms, master.parallel_syncs) == (
        5000, 10000, 2,
    )  # fmt: skip
    assert (master.quorum, master.host, master.port) == (2, "10.0.0.11", 6379)
    assert str(master.where["down-after-milliseconds"]) == "conf/file.conf:3:43"


@pytest.mark.parametrize(("value", "ms"), [("8000", 8000), ("0", 0)])
def test_how_long_a_master_may_load(value, ms) -> None:
    text = GOOD + f"sentinel master-reboot-down-after-period mymaster {value}\n"
    made = configured(SENTINEL, f"redis-sentinel {CONF}", text)
    assert not made.failures
    assert made.config.masters[0].reboot_ms == ms
    knob = next(k for k in made.knobs if k.name.endswith("master-reboot-down-after-period"))
    assert knob.value == value


def test_times_by_default() -> None:
    text = "sentinel monitor m 10.0.0.1 6379 1\n"
    master = configured(SENTINEL, f"redis-sentinel {CONF}", text).config.masters[0]
    assert (master.down_after_ms, master.failover_timeout_ms) == (30000, 180000)
    assert isinstance(master.where["failover-timeout"], Default)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("sentinel monitor m 10.0.0.1 6379 0", "Quorum must be 1"),
        ("sentinel monitor m 10.0.0.1 port 2", "Invalid port"),
        ("sentinel monitor mymaster 10.0.0.1 6379 2", "Duplicated master name"),
        ("sentinel down-after-milliseconds other 5000", "No such master"),
        ("sentinel down-after-milliseconds mymaster 0", "negative or zero"),
        ("sentinel down-afer mymaster 1", "Unrecognized sentinel configuration"),
        ("sentinel monitor m", "wrong number of arguments"),
    ],
)
def test_what_sentinel_refuses_at_start(line, reason) -> None:
    made = configured(SENTINEL, f"redis-sentinel {CONF}", GOOD + line + "\n")
    assert [f.span.line for f in made.failures] == [4]
    assert reason in made.failures[0].reason


def test_sentinel_needs_a_file_that_it_can_write() -> None:
    assert "config file" in configured(SENTINEL, f"redis-sentinel {CONF}").failures[0].reason
    mount = Mount("bind", "./sentinel", "/etc/redis", read_only=True)
    made = configured(SENTINEL, f"redis-sentinel {CONF}", GOOD, volumes=(mount,))
    assert "not writable" in made.failures[0].reason


@pytest.mark.parametrize(
    ("command", "single", "state"),
    [
        (f"redis-sentinel {CONF}", True, ""),
        (f"redis-sentinel {CONF}", False, "host-a:conf/file.conf"),
        (("sh", "-c", "cp /c/s.conf /d/s.conf && redis-sentinel /d/s.conf"), True, ""),
        (("sh", "-c", "cp -n /c/s.conf /d/s.conf; redis-sentinel /d/s.conf"), True, "node"),
    ],
)
def test_where_the_state_is_kept(command, single, state) -> None:
    assert configured(SENTINEL, command, GOOD, single).config.state == state


# ---- findings ------------------------------------------------------------------------------------
def codes(lab: Lab, **changes) -> list[str]:
    """Codes of the findings of a laboratory whose instances are changed."""
    stack = lab.world.stack
    instances = tuple(replace(i, **changes) for i in stack.instances)
    stack = replace(stack, instances=instances)
    return [f.code for c in (REDIS, SENTINEL) for f in c.lint(stack)]


def test_findings_of_a_careless_stack() -> None:
    lab = Lab(start=False, sentinels=2, quorum=3, sentinel={"single_file": True, "state": ""})
    assert set(codes(lab, restart="always", mem_limit_bytes=2**29)) == {
        "HA181", "HA183", "HA184", "HA185", "HA186", "HA188",
    }  # fmt: skip
    shared = Lab(start=False, sentinel={"state": "lab:file"})
    assert codes(shared).count("HA182") == 2


def test_no_findings_of_a_careful_stack() -> None:
    hosts = {"redis-1": "a", "redis-2": "b", "redis-3": "c", "s1": "a", "s2": "b", "s3": "c"}
    redis = {"appendonly": True, "min_replicas": 1, "maxmemory_bytes": 2**28}
    lab = Lab(start=False, hosts=hosts, redis=redis)
    assert codes(lab, restart="always", mem_limit_bytes=2**29) == []


# ---- lines ---------------------------------------------------------------------------------------
def test_quotes_and_escapes() -> None:
    lines, found = read('a "x y" \'it\\\'s\' "\\x41\\n"\n\n  # no\nb\r\n', "f")
    assert [x.args for x in lines] == [("x y", "it's", "A\n"), ()]
    assert not found
    assert lines[0].words[1].span == Span("f", 1, 3, 2, 7)


def test_nothing_that_is_not_redis() -> None:
    assert started(("nginx",), Span("f", 1, 1)) is None
    assert started(("sh", "-c", "echo 'open"), Span("f", 1, 1)) is None


WORDS = st.sampled_from(
    ["sentinel", "monitor", "m", "10.0.0.1", "6379", "2", '""', "down-after-milliseconds", "save",
     "replicaof", "port", "yes", "-1", "1e9", "99999999999999999999", "#", '"a b"', "'", "é", "\\x"]
)  # fmt: skip
LINES = st.lists(st.lists(WORDS, max_size=7).map(" ".join), max_size=6).map("\n".join)


@given(st.one_of(st.text(), LINES))
@settings(max_examples=150, deadline=None)
def test_no_text_makes_a_reader_fail(text) -> None:
    lines, _ = read(text, "f")
    for line in lines:
        for word in line.words:
            assert 0 <= word.span.start <= word.span.end <= len(text)
            assert text[: word.span.start].count("\n") == word.span.line - 1
    for component, command in ((REDIS, "redis-server /c"), (SENTINEL, "redis-sentinel /c")):
        configured(component, command, text)
    started(("sh", "-c", f"redis-server {text}"), Span("f", 1, 1))
    configured(REDIS, tuple(f"redis-server {text}".split(" ")))


def test_a_sentinel_without_the_password_is_found(tmp_path) -> None:
    """Measured on 7.0.15: every PING is answered NOAUTH, so the master is down for ever."""
    model = Path(__file__).parents[2] / "models" / "story-portal"
    folder = tmp_path / "stack"
    shutil.copytree(model, folder)
    assert not [f for f in load(folder).findings if f.code == "HA250"]
    file = folder / "sentinel" / "sentinel-3" / "redis-sentinel.conf"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(x for x in lines if "auth-pass" not in x))
    (found,) = (f for f in load(folder).findings if f.code == "HA250")
    assert found.span.file == "sentinel/sentinel-3/redis-sentinel.conf"
