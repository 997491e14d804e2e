"""What must hold for every text and every order of faults."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_lab import Lab

from hasim.components.postgres import script
from hasim.components.postgres.flow import Flow
from hasim.components.postgres.sync import parse_rule
from hasim.components.postgres.wal import HOT_PAGES, Line
from hasim.read import pg_conf, pg_hba, pg_sql

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\x00"), max_size=40)
WORDS = st.sampled_from(["pg-1", "pg-2", "pg-3"])


@given(st.text(max_size=200))
def test_no_text_makes_a_reader_raise(text) -> None:
    for read in (pg_conf.read, pg_hba.read, pg_sql.read_sql):
        _, found = read(text, "f")
        assert all(f.code in ("HA190", "HA191") for f in found)
    pg_conf.conninfo(text)
    script.read(text, {"A": "b"}, None)
    with suppress(ValueError):
        parse_rule(text)


@given(TEXT)
def test_a_quoted_value_is_read_as_it_was(value) -> None:
    quoted = value.replace("\\", "\\\\").replace("'", "''")
    line = f"cluster_name = '{quoted}'  # note\n"
    (setting,), found = pg_conf.read(line, "f")
    assert not found
    assert setting.value == value


@given(st.lists(st.integers(0, 20_000), max_size=5), st.integers(0, 100_000), st.booleans())
def test_wal_grows_with_commits_and_back(marks, count, images) -> None:
    line = Line(1e7, 200.0, images)
    for mark in sorted(marks):
        line.checkpoint(mark)
    here = line.bytes_at(count)
    assert line.bytes_at(count + 1) > here
    assert line.count_at(here) == pytest.approx(count, abs=0.01)
    most = 1e7 + count * 200 + images * len(marks) * HOT_PAGES * 8192
    assert 1e7 + count * 200 <= here <= most + 1e-6


ACTIONS = st.one_of(
    st.tuples(st.just("write"), WORDS, st.integers(0, 500)),
    st.tuples(st.sampled_from(["kill", "start", "stop", "freeze", "thaw", "promote"]), WORDS),
    st.tuples(st.sampled_from(["cut", "heal"]), WORDS),
    st.tuples(st.just("follow"), WORDS, WORDS),
    st.tuples(st.just("off"), WORDS),
    st.tuples(st.just("on"), WORDS),
    st.tuples(st.just("sync"), WORDS, st.sampled_from([(), ("pg-2",), ("*",), ("pg-2", "pg-3")])),
)


def act(lab, cuts, action) -> None:
    what, name, *rest = action
    machine, server = lab.machine, lab.pg(name)
    host = f"host-{name[-1]}"
    if what == "write":
        lab.world.write(name, rest[0])
    elif what == "kill":
        machine.docker.kill(name)
    elif what == "start":
        machine.docker.start(name)
    elif what == "stop":
        lab.world.spawn(machine.docker.stop(name), "stop")
    elif what in ("freeze", "thaw"):
        getattr(machine, what)(name)
    elif what == "cut":
        cuts.append(machine.network.cut([host], ["host-1", "host-2", "host-3"]))
    elif what == "heal" and cuts:
        machine.network.heal(cuts.pop())
    elif what == "off":
        machine.power_off(host)
    elif what == "on":
        machine.power_on(host)
    elif server is not None and what == "promote":
        server.promote()
    elif server is not None and what == "follow" and rest[0] != name:
        server.follow(rest[0])
    elif server is not None and what == "sync":
        server.set_sync(rest[0], "")


def check(lab) -> None:
    """Nobody has what was never written, or shows what it has not received."""
    cluster = lab.cluster
    for name in lab.machine.containers:
        server = lab.pg(name)
        if server is None or server.flow is None or server.flow.received is None:
            continue
        flow: Flow = server.flow
        flow.advance()
        assert flow.replayed_bytes <= flow.received_bytes + 1e-6
        assert flow.received.count <= cluster.count(flow.received.branch)
        assert cluster.contains(flow.received, flow.replayed)
        lag = lab.gauge(name, "replication_lag")
        assert lag is None or lag >= 0
    total = sum(cluster.count(b) for b in cluster.branches)
    assert 0 <= cluster.lost() <= total
    assert sum(lab.world.commits(n) for n in lab.machine.containers) == total


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ACTIONS, st.floats(0.01, 40)), max_size=12))
def test_no_order_of_faults_breaks_the_books(actions) -> None:
    lab = Lab(3, rtt_s=0.02).up()
    cuts: list = []
    events = 0
    for action, wait_s in actions:
        act(lab, cuts, action)
        stop = lab.world.env.now + round(wait_s * 1e9)
        while lab.world.env.peek() <= stop:
            lab.world.env.step()
            events += 1
        lab.run(max(1e-9, (stop - lab.world.env.now) / 1e9))
        check(lab)
    assert events < 100 + 400 * len(actions)
