"""Users and callers of a virtual address: who serves them before, while and after it moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasim.model import Dist, Stack
from hasim.scenario import Client, Fault, FlowStep, Load, Scenario, When
from hasim.sim.run import replicate
from hasim.stack import load

HAPROXY = """\
global
    maxconn 1000
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 10s
    timeout http-keep-alive 60s
frontend in
    bind *:80
    default_backend web
backend web
    option httpchk GET /
    default-server inter 1s fall 2 rise 1 check
    server w1 10.0.0.11:8080
    server w2 10.0.0.12:8080
"""
COMPOSE = """\
services:
  haproxy-{n}:
    image: haproxy:2.8
    network_mode: host
    restart: unless-stopped
    volumes: [./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro]
  keepalived-{n}:
    image: keepalived:2.2.7
    network_mode: host
    pid: host
    restart: unless-stopped
    volumes: [./keepalived-{n}.conf:/etc/keepalived/keepalived.conf:ro]
  web-{n}:
    image: web
    restart: unless-stopped
    ports: ["10.0.0.1{i}:8080:8080"]
"""
KEEPALIVED = """\
vrrp_script chk {{
    script "pgrep -x haproxy"
    interval 2
    weight 0
}}
vrrp_instance VI_1 {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority {priority}
    version 3
    garp_master_refresh 10
    unicast_src_ip 10.0.0.1{i}
    unicast_peer {{ 10.0.0.1{j} }}
    virtual_ipaddress {{ 10.0.0.10/24 }}
    track_script {{
        chk
    }}
}}
"""
STACK = """\
hosts:
  host-a: {cores: 4, memory: 4GiB, address: 10.0.0.11}
  host-b: {cores: 4, memory: 4GiB, address: 10.0.0.12}
place: {host-a: [a.yml], host-b: [b.yml]}
links: [{between: [host-a, host-b], rtt: 0.4ms}]
entry: {users: {via: vip 10.0.0.10}}
"""
PROFILE = """\
web:
  workers: 8
  boot: 1s
  ops: {get: {cpu: 2ms}, put: {cpu: 2ms, write: true}, slow: {io: 400ms, write: true}}
  health: {/: {}}
"""


def folder(path: Path, more: str = "") -> Path:
    """Two hosts, each with a HAProxy, keepalived and a web server behind both HAProxys."""
    (path / "haproxy.cfg").write_text(HAPROXY)
    (path / "stack.yaml").write_text(STACK)
    (path / "profile.yaml").write_text(PROFILE)
    for n, i, j, priority in (("a", 1, 2, 101), ("b", 2, 1, 100)):
        compose = COMPOSE.format(n=n, i=i).replace(f"  web-{n}:", f"  web-{i}:")
        (path / f"{n}.yml").write_text(compose)
        text = KEEPALIVED.format(i=i, j=j, priority=priority)
        (path / f"keepalived-{n}.conf").write_text(text.replace("weight 0", f"weight 0\n{more}"))
    return path


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Stack:
    return load(folder(tmp_path_factory.mktemp("vip")))


def at(verb: str, target: str, when: float, lasts: float | None = None, **more) -> Fault:
    span = None if lasts is None else Dist("const", lasts)
    return Fault(verb, target, When(Dist("const", when)), span, **more)


def play(stack: Stack, *faults: Fault, op: str = "web/get", think: float = 0.2, s: float = 40.0):
    flow = (FlowStep(((op, 1.0),), Dist("const", think)),)
    load_ = Load("users", "constant-vus", ((s, 20.0),), 20.0, flow=flow, client=Client())
    scenario = Scenario("vip", "", load_, faults=tuple(faults))
    return replicate(stack, scenario, 1, 0, keep_requests=True)


def rows(trace, since: float, until: float):
    """Requests that began then."""
    return trace.requests[
        (trace.requests["start_s"] >= since) & (trace.requests["start_s"] < until)
    ]


def masters(trace) -> list[float]:
    """When somebody became master, since the load began."""
    return [m.t_s for m in trace.timeline if m.t_s > 0 and "Entering MASTER STATE" in m.event]


def through(trace, since: float, until: float) -> set[str]:
    """The HAProxys whose servers answered requests that began then. Servers 0, 1 are a's."""
    found = rows(trace, since, until)
    good = found[(found["status"] == "200") & (found["server"] >= 0)]
    return {"ab"[n // 2] for n in good["server"]}


def silence(trace, since: float = 0.0) -> float:
    """From the first failed probe to the last one."""
    bad = trace.probe_start_s[(trace.probe_outcome != 0) & (trace.probe_start_s >= since)]
    return float(bad.max() - bad.min()) if len(bad) else 0.0


def test_new_requests_go_to_the_holder_and_back(stack: Stack) -> None:
    trace = play(stack, at("docker-kill", "haproxy-a", 10.0, 10.0))
    taken, back = masters(trace)
    assert through(trace, 0, 10) == {"a"}
    assert through(trace, taken + 1, back) == {"b"}
    assert through(trace, back + 1, 40) == {"a"}


def test_nobody_answers_until_somebody_holds_it(stack: Stack) -> None:
    trace = play(stack, at("stop", "keepalived-a", 10.0))
    (taken,) = masters(trace)
    assert taken == pytest.approx(10.609, abs=0.001)
    assert not len(through(trace, 10.001, 10.3) - {"b"})
    late = rows(trace, 10.0, taken)
    # TCP sends again after 216 + 432 ms: the new holder resets what it does not know (RST)
    assert late["latency_s"].max() == pytest.approx(0.65, abs=0.01)
    assert len(late[late["latency_s"] > 0.5]) == 20
    assert 0.4 <= silence(trace) <= 0.7


def test_a_reset_is_replayed_once_for_a_get_and_is_an_error_for_a_post(stack: Stack) -> None:
    for op, errors in (("web/get", 0), ("web/put", 20)):
        trace = play(stack, at("stop", "keepalived-a", 10.0), op=op)
        assert int((rows(trace, 9, 12)["status"] != "200").sum()) == errors
        assert int((rows(trace, 12, 40)["status"] != "200").sum()) == 0


def test_nobody_notices_keepalived_killed_but_those_who_are_reset(stack: Stack) -> None:
    """a keeps the address and HAProxy until b's gratuitous ARP; then each old connection meets
    one reset at its next use.
    """
    trace = play(stack, at("docker-kill", "keepalived-a", 10.0), op="web/put")
    (taken,) = masters(trace)
    assert 12.6 <= taken <= 13.61
    bad = trace.requests[trace.requests["status"] != "200"]
    assert len(bad) == 20
    assert bad["start_s"].min() >= taken - 0.01
    assert silence(trace) == 0
    assert through(trace, taken + 0.5, 40) == {"b"}


def test_answers_under_way_are_lost_when_the_address_moves(stack: Stack) -> None:
    """Failback: b's HAProxy runs on, but what it sends with the address leads nowhere."""
    trace = play(stack, at("docker-kill", "haproxy-a", 10.0, 5.0), op="web/slow", think=0.0)
    _, back = masters(trace)
    bad = rows(trace, back - 0.9, back)
    assert 8 <= int((bad["status"] == "eof").sum()) <= 20
    assert trace.void == ""


def test_a_host_without_power_is_silent_until_the_takeover(stack: Stack) -> None:
    trace = play(stack, at("power-off", "host:host-a", 10.0))
    (taken,) = masters(trace)
    assert 12.6 <= taken <= 13.61
    first = rows(trace, 10.0, 10.3)
    assert first["latency_s"].min() >= taken - 10.3
    assert through(trace, taken + 5, 40) == {"b"}


def test_a_healed_partition_leaves_clients_with_the_wrong_neighbour(tmp_path: Path) -> None:
    """a's advert comes first: b steps down silently, a sends no gratuitous ARP."""
    path = folder(tmp_path)
    for n in "ab":
        file = path / f"keepalived-{n}.conf"
        file.write_text(file.read_text().replace("garp_master_refresh 10", ""))
    stack = load(path)
    hosts = ("host:host-a", "host:host-b")
    (taken,) = masters(play(stack, at("partition", "", 10.0, between=hosts)))
    for after, silent in ((5.2, True), (5.5, False)):  # b's adverts: taken + 5, a's: 0.39 s later
        lasts = taken + after - 10.0
        trace = play(stack, at("partition", "", 10.0, lasts, between=hosts), s=90.0)
        forced = [m for m in trace.timeline if "forcing new election" in m.event]
        assert bool(forced) != silent
        lost = silence(trace, taken + after)
        assert 22.0 <= lost <= 53.0 if silent else lost == 0.0
        assert through(trace, 85, 89) == {"a"}


def test_the_same_seed_gives_the_same_requests(stack: Stack) -> None:
    fault = at("stop", "keepalived-a", 10.0, 10.0)
    a, b = (play(stack, fault).requests.tobytes() for _ in range(2))
    assert a == b


def test_an_address_that_no_keepalived_moves_is_always_held(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (path / "stack.yaml").write_text(STACK.replace("vip 10.0.0.10", "vip 10.0.0.99"))
    trace = play(load(path), at("stop", "keepalived-a", 10.0))
    assert int((trace.requests["status"] != "200").sum()) == 0


def test_pooled_sessions_through_the_address_die_at_their_next_use(models: Path) -> None:
    """Story Portal: gateways and the data layer reach PostgreSQL by the address."""
    stack = load(models / "story-portal")
    assert {way.address for key, way in stack.call_routes.items() if "postgres" in key} == {
        "10.0.0.10"
    }
    fault = at("stop", "keepalived-a", 10.0)
    trace = play(stack, fault, op="l09-api-gateway/publish", s=30.0)
    (taken,) = masters(trace)
    assert trace.void == ""
    bad = trace.requests[trace.requests["status"] != "200"]
    assert len(bad) >= 1
    assert bad["start_s"].max() < taken + 2.0
    assert bad["start_s"].min() > 9.5
