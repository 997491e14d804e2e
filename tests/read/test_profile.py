"""profile.yaml and stack.yaml: meaning, assumptions, and mistakes where they stand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.model import INF, Dist, Step
from hasim.read.forms import dist
from hasim.read.profile import read_profile
from hasim.read.stackfile import read_stackfile

PROFILE = """\
gateway:
  workers: 4
  mode: async
  boot: {uniform: [2s, 4s]}
  on_sigterm: {listener: keep, in_flight: cut}
  ops:
    browse: {path: /a, cpu: {p50: 4ms, p99: 12ms}, io: 20ms,
             calls: [{db: read, timeout: 2s, on_error: skip}]}
    publish: {write: true, steps: [{io: 1ms}, {db: write}, {cpu: 2ms}]}
  health: {/ready: {cpu: 0.2ms, needs: [db], timeout: none}}
  pool: {to: db, size: 7, command_timeout: 3s}
  memory: {base: 100MiB, per_worker: 10MiB, per_connection: 1KiB, per_request: 2KiB}
  source: {assume: "a guess"}
db:
  on_sigterm: ignore
  ops: {read: {io: 3ms}, write: {io: 8ms}}
  source: {measured: "pgbench", n: 1000, date: 2026-11-01}
"""


def test_a_profile_becomes_services():
    (gateway, db), _, found = read_profile(PROFILE, "profile.yaml")
    assert not found
    assert (gateway.workers, gateway.mode, gateway.boot) == (4, "async", Dist("uniform", 2.0, 4.0))
    sigterm = (gateway.on_sigterm, gateway.on_sigterm_listener, gateway.on_sigterm_in_flight)
    assert sigterm == ("drain", "keep", "cut")
    assert db.on_sigterm == "ignore"
    browse, publish = gateway.ops
    assert [s.kind for s in browse.steps] == ["cpu", "io", "call"]
    assert browse.steps[2] == Step("call", target="db", op="read", timeout_s=2.0, on_error="skip")
    assert [s.kind for s in publish.steps] == ["io", "call", "cpu"]
    assert publish.write
    assert publish.steps[1].timeout_s == INF
    assert gateway.health[0].needs == ("db",)
    assert gateway.health[0].timeout_s == INF
    assert (gateway.pools[0].size, gateway.pools[0].command_timeout_s) == (7, 3.0)
    assert (gateway.base_bytes, gateway.worker_bytes) == (100 * 2**20, 10 * 2**20)
    assert gateway.where["workers"].line == 2


def test_what_nobody_measured_is_an_assumption():
    _, assumed, _ = read_profile(PROFILE, "profile.yaml")
    rows = {a.name: (a.value, a.source) for a in assumed}
    assert rows["gateway.workers"] == ("4", "assume: a guess")
    assert rows["gateway.boot"] == ("{uniform: [2s, 4s]}", "assume: a guess")
    assert "gateway.ops.browse" in rows
    assert not any(name.startswith("db.ops") for name in rows)  # measured
    assert rows["db.boot"][1].startswith("default:")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("workers: 4", "workers: |0", "at least 1 is needed here"),
        ("workers: 4", "|worker: 4", "unknown key 'worker'"),
        ("{db: read,", "{db: |reed,", "'db' has no operation 'reed'"),
        ("on_error: skip", "on_error: |200", "skip or a status 400..599"),
        ("timeout: 2s", "timeout: |2", "'2' needs a unit"),
        (
            "calls: [{db: read, timeout: 2s, on_error: skip}]",
            "calls: [|{timeout: 2s}]",
            "one service",
        ),
        ("io: 20ms", "io: |-20ms", "negative"),
        ("p99: 12ms", "p99: 2ms", ""),
        ("base: 100MiB", "base: |100", "needs a unit"),
        ("steps: [", "cpu: 1ms, |steps: [", "'steps' already says it all"),
        ("/ready:", "|ready:", "'ready': a text like ^/ is needed here"),
    ],
)
def test_a_mistake_is_found_where_it_stands(old, new, message):
    assert old in PROFILE
    marked = PROFILE.replace(old, new, 1)
    services, _, found = read_profile(marked.replace("|", ""), "profile.yaml")
    assert found
    if "|" in new:
        at = marked.index("|")
        place = (marked.count("\n", 0, at) + 1, at - marked.rfind("\n", 0, at))
        assert place in [(f.span.line, f.span.col) for f in found], found
        assert any(message in f.message for f in found), found


def test_operations_must_not_call_in_a_circle():
    text = "a: {ops: {x: {calls: [{b: y}]}}}\nb: {ops: {y: {calls: [{a: x}]}}}\n"
    _, _, found = read_profile(text, "profile.yaml")
    assert [f.message for f in found] == [
        "a/x calls itself in the end",
        "b/y calls itself in the end",
    ]
    assert (found[0].span.line, found[0].span.col) == (1, 11)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5ms", Dist("const", 0.005)),
        ({"exp": "1s"}, Dist("exp", 1.0)),
        ({"uniform": ["1s", "2s"]}, Dist("uniform", 1.0, 2.0)),
        (
            {"quantiles": {"p0": "1s", "p50": "2s", "p100": "9s"}},
            Dist("quantiles", table=((0.0, 1.0), (0.5, 2.0), (1.0, 9.0))),
        ),
        (
            {"hyperexp": [["90%", "1s"], [0.1, "5s"]]},
            Dist("hyperexp", table=((0.9, 1.0), (0.1, 5.0))),
        ),
    ],
)
def test_distributions(value, expected):
    assert dist(value) == expected


def test_a_lognormal_goes_through_its_quantiles():
    for value in ({"lognormal": {"median": "1.5s", "p95": "4s"}}, {"p50": "1.5s", "p95": "4s"}):
        got = dist(value)
        assert got.a == 1.5
        assert got.b == pytest.approx(math.log(4 / 1.5) / 1.6448536)


STACK = """\
hosts:
  a: {cores: 8, memory: 16GiB, boot: 90s, address: 10.0.0.1, source: "order"}
  b: {cores: 4, memory: 8GiB}
place: {a: [one.yml], b: [two.yml, three.yml]}
links: [{between: [a, b], rtt: 0.4ms, kind: routed}]
entry: {users: {via: vip 10.0.0.9}}
groups: {gateway: [g1, g2]}
versions: {haproxy: 2.6.12}
kernel: {tcp_syn_retries: 6}
plain: {lb: {host: a, haproxy: haproxy.cfg}, web: {host: b, service: web, port: 80}}
"""


def test_a_stackfile():
    made, found = read_stackfile(STACK, "stack.yaml")
    assert found == []
    assert [(h.name, h.cores, h.boot.a) for h in made.hosts] == [("a", 8.0, 90.0), ("b", 4.0, 60.0)]
    assert made.place == (("a", ("one.yml",)), ("b", ("two.yml", "three.yml")))
    assert (made.links[0].rtt_s, made.links[0].kind) == (0.0004, "routed")
    assert (made.entries[0].via, made.entries[0].target) == ("vip", "10.0.0.9")
    assert [p.name for p in made.plain] == ["lb", "web"]
    assert "hosts.b.boot" in [a.name for a in made.assumptions]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("place: {a:", "place: {|c:", "host 'c' is not defined"),
        ("between: [a, b]", "between: [a, |c]", "host 'c' is not defined"),
        ("between: [a, b]", "between: |[a, a]", "a link needs two different hosts"),
        ("cores: 8", "cores: |zero", "'zero' is not a number of cores"),
        ("via: vip 10.0.0.9", "via: |10.0.0.9", "'vip 10.0.0.10', 'dns name' or 'address host'"),
        ("{host: b, service", "{host: |x, service", "host 'x' is not defined"),
        ("{host: a, haproxy: haproxy.cfg}", "{host: a}", "either 'service'"),
        ("groups", "|grops", "unknown key 'grops'"),
    ],
)
def test_a_mistake_in_the_stackfile(old, new, message):
    marked = STACK.replace(old, new, 1)
    _, found = read_stackfile(marked.replace("|", ""), "stack.yaml")
    assert any(message in f.message for f in found), found
    if "|" in new:
        at = marked.index("|")
        place = (marked.count("\n", 0, at) + 1, at - marked.rfind("\n", 0, at))
        assert place in [(f.span.line, f.span.col) for f in found], found


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mutated_files_are_read_or_refused(data):
    for text, read in ((PROFILE, read_profile), (STACK, read_stackfile)):
        start = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.integers(0, 12))
        junk = data.draw(st.text(alphabet="-:[]{}#&*!|>'\"%@ \nabz019.", max_size=8))
        found = read(text[:start] + junk + text[start + length :], "f.yaml")[-1]
        assert all(f.message for f in found)


def test_a_commit_is_a_step():
    text = "pg: {ops: {w: {write: true, io: 1ms, commit: 3ms, wal: 8KiB}, v: {steps: [%s]}}}"
    good, _, found = read_profile(text % "{commit: {exp: 2ms}, wal: 1KiB}", "p.yaml")
    assert not found
    assert good[0].ops[0].steps[1] == Step("commit", Dist("const", 0.003), wal_bytes=8192)
    assert good[0].ops[1].steps == (Step("commit", Dist("exp", 0.002), wal_bytes=1024),)
    for bad in ("{commit: |3}", "{commit: 3ms, val: |1KiB}", "{commit: 3ms, wal: |x}"):
        marked = text % bad
        _, _, found = read_profile(marked.replace("|", ""), "p.yaml")
        assert [f.span.col for f in found] == [marked.index("|") + 1], (bad, found)
