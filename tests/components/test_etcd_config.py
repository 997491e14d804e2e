"""etcd's flags, variables and file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.components.etcd.config import meaning
from hasim.read.etcd_conf import config_file, read
from hasim.source import Default, Span

HERE = Span("docker-compose.yml", 3, 5)
FILE = """\
name: e1
listen-client-urls: http://0.0.0.0:2379
listen-peer-urls: http://0.0.0.0:2390
initial-cluster: e1=http://10.0.0.1:2390,e2=http://10.0.0.2:2390,e3=http://[::1]:2390
heartbeat-interval: 200
election-timeout: 2000
"""


def of(words=(), environment=None, text=None):
    env = {k: (v, HERE) for k, v in (environment or {}).items()}
    conf, found = read(words, HERE, env, text, "etcd.yml")
    config, more, failures, knobs = meaning(conf, "etcd-1")
    return config, [*found, *more], failures, knobs


def test_a_file_says_it_all_and_flags_are_ignored() -> None:
    config, found, failures, knobs = of(("etcd", "--name", "other"), {"ETCD_NAME": "third"}, FILE)
    assert (config.name, config.heartbeat_s, config.election_s) == ("e1", 0.2, 2.0)
    assert config.peers[1] == ("e2", "10.0.0.2", 2390)
    assert config.peers[2] == ("e3", "::1", 2390)
    assert config.peer_port == 2390
    assert failures == []
    assert found == []
    assert [(k.name, k.value, k.origin.line) for k in knobs] == [
        ("etcd.e1.heartbeat_interval", "200", 5), ("etcd.e1.election_timeout", "2000", 6)
    ]  # fmt: skip


def test_a_flag_wins_over_its_variable() -> None:
    words = ("etcd", "--election-timeout=3000", "-heartbeat-interval", "150", "--pre-vote")
    config, _, _, _ = of(words, {"ETCD_ELECTION_TIMEOUT": "1500", "ETCD_NAME": "e9"})
    assert (config.election_s, config.heartbeat_s) == (3.0, 0.15)
    assert (config.name, config.pre_vote) == ("e9", True)


def test_defaults_cite_the_manual() -> None:
    config, found, _, _ = of(("etcd",))
    assert (config.heartbeat_s, config.election_s, config.name) == (0.1, 1.0, "default")
    assert isinstance(config.where["election-timeout"], Default)
    assert [f.code for f in found] == ["HA172"]


def test_the_file_is_named_by_flag_or_variable() -> None:
    assert config_file(("etcd", "--config-file", "/etc/etcd.yml"), {}) == "/etc/etcd.yml"
    assert config_file(("etcd",), {"ETCD_CONFIG_FILE": ("/x.yml", HERE)}) == "/x.yml"


def test_an_unknown_key_of_the_file_is_ignored_by_etcd_but_not_by_us() -> None:
    _, found, _, _ = of(text=FILE + "election-timeuot: 5000\n")
    assert [(f.code, f.span.line) for f in found] == [("HA170", 7)]
    assert "election-timeout" in found[0].hint


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("election-timeout: 2000", "election-timeout: 900"), "5 x heartbeat-interval"),
        (("election-timeout: 2000", "election-timeout: 60000"), "larger than 50 s"),
        (("name: e1", "name: e7"), "couldn't find local name"),
    ],
)
def test_what_etcd_refuses_at_start(change, reason) -> None:
    _, _, failures, _ = of(text=FILE.replace(*change))
    assert [reason in f.reason for f in failures] == [True]
    assert failures[0].span is not None


def test_an_unknown_flag_keeps_etcd_down() -> None:
    _, _, failures, _ = of(("etcd", "--electoin-timeout", "5000"))
    assert failures[0].reason == "flag provided but not defined: --electoin-timeout"


def test_a_number_with_a_unit_is_an_error_and_an_even_cluster_a_warning() -> None:
    two = FILE.replace(",e3=http://[::1]:2390", "").replace("2000", "2s")
    _, found, _, _ = of(text=two)
    assert sorted(f.code for f in found) == ["HA171", "HA173"]


@given(st.text(max_size=200), st.lists(st.text(max_size=20), max_size=5))
@settings(max_examples=150, deadline=None)
def test_no_text_raises(text: str, words: list[str]) -> None:
    of(tuple(words), {"ETCD_INITIAL_CLUSTER": text, "ETCD_LISTEN_PEER_URLS": text})
    of(text=text)
