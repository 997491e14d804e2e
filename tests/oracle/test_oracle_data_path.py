"""Data paths whose outcome is known in closed form: kernel and oracle must both have it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from oracle_clock import SECOND
from oracle_compare import Case, Outcome, run_kernel, run_oracle

from hasim.model import (
    INF,
    Backend,
    Balancer,
    Dist,
    Frontend,
    Host,
    Instance,
    Link,
    Op,
    Pool,
    Route,
    Server,
    Service,
    Stack,
    Step,
)
from hasim.scenario import Client, FlowStep, Load, Scenario
from hasim.sim.trace import APP_5XX, OK

MS = 1_000_000
RTT_S = 0.002
BOTH = pytest.mark.parametrize("run", [run_oracle, run_kernel])


@dataclass(frozen=True)
class Small:
    """One caller on h1, databases on h2; users come one after the other."""

    pool: Pool | None = Pool("data", size=5, overflow=0)
    target: str = "data"
    mode: str = "tcp"
    way: Route = Route("call", "lb", "fd", "data", "db")
    idle_s: float = INF
    work_s: float = 0.010
    timeout_s: float = INF
    write: bool = False
    dbs: int = 1
    users: int = 1
    think_s: float = 0.1
    seconds: float = 2.0
    most: int = 0
    kind: str = "redis-like"
    proxy: str = "h1"
    rest_s: float = 2.0

    def case(self, *commands: tuple) -> Case:
        """The case of these commands."""
        call = Step("call", target=self.target, op="q", timeout_s=self.timeout_s)
        pools = (self.pool,) if self.pool else ()
        app = Service("app", 9, "async", ops=(Op("a", (call,), self.write),), pools=pools)
        query = Op("q", (Step("io", Dist("const", self.work_s)),), self.write)
        db = Service("db", 9, ops=(query,), max_connections=self.most)
        names = [f"db-{n}" for n in range(1, self.dbs + 1)]
        servers = tuple(Server(n, n, 5432, n, "bridge", None) for n in names)
        data = Backend("data", self.mode, "roundrobin", servers, timeout_connect_s=1.0,
                       timeout_server_s=self.idle_s)  # fmt: skip
        inner = Frontend("fd", "tcp", (("", 5000),), "data", timeout_client_s=self.idle_s)
        nodes = [Instance(n, self.kind, "h2", "db", n) for n in names]
        stack = Stack(
            "x", "x", "", (), tuple(Host(h, 64.0, 1 << 34) for h in ("h1", "h2", "h3")),
            (Link("h1", "h2", RTT_S), Link("h1", "h3", RTT_S), Link("h2", "h3", RTT_S)),
            (Instance("app-1", "service", "h1", "app", "app-1"), *nodes,
             Instance("lb", "haproxy", self.proxy, "lb")),
            (app, db), (Balancer("lb", (2, 6, 12), 0, (inner,), (data,)),), (), {},
            op_entries={"app/a": Route("address", "", "", "", "app")},
            call_routes={f"app->{self.target}": self.way},
        )  # fmt: skip
        flow = (FlowStep((("app/a", 1.0),), Dist("const", self.think_s)),)
        load = Load("l", "constant-vus", ((self.seconds, self.users),), self.users, flow=flow,
                    client=Client("k6", timeout_s=60.0))  # fmt: skip
        end = round((self.seconds + self.rest_s) * SECOND)
        return Case(stack, Scenario("s", "", load), commands, 1, 0, end)


def direct(target_discovery: str = "", hosts: tuple[str, ...] = (), **more) -> Route:
    """A way without HAProxy."""
    return Route("call", "", "", "", "db", target_discovery, hosts, **more)


def took_ms(seen: Outcome) -> list[float]:
    return [(x.end - x.start) / MS for x in seen.lines]


def failed(seen: Outcome) -> int:
    return sum(x.outcome == APP_5XX for x in seen.lines)


@BOTH
def test_only_the_first_request_pays_for_the_connection(run) -> None:
    seen = run(Small(idle_s=50.0).case())
    assert took_ms(seen)[0] == 10 + 2 * RTT_S * 1000
    assert set(took_ms(seen)[1:]) == {10 + RTT_S * 1000}


@BOTH
@pytest.mark.parametrize("pre_ping", [False, True])
def test_a_pool_that_idled_too_long_behind_haproxy(run, pre_ping: bool) -> None:
    """haproxy.md 6.2: closed after exactly the timeout; the first use afterwards finds out."""
    pool = Pool("data", 5, 0, pre_ping=pre_ping)
    seen = run(Small(pool=pool, idle_s=0.05).case())
    good = [x.outcome == OK for x in seen.lines]
    assert good == ([True] * len(good) if pre_ping else [n % 2 == 0 for n in range(len(good))])
    assert seen.at_end["served data/db-1"] == 0


@BOTH
@pytest.mark.parametrize("rule", ["invalidate-all", "invalidate-one"])
def test_a_whole_pool_used_at_once_fails_as_a_whole(run, rule: str) -> None:
    """Six users fill a pool of six; the database closes all; each then finds its own broken."""
    small = Small(pool=Pool("db", 6, 0, on_disconnect=rule), target="db", way=direct(), users=6,
                  think_s=0.5, seconds=1.0)  # fmt: skip
    cut = (SECOND // 4, "cut", "db-1")
    assert failed(run(small.case(cut))) == 6
    ping = replace(small, pool=Pool("db", 6, 0, pre_ping=True, on_disconnect=rule))
    assert failed(run(ping.case(cut))) == 0


@BOTH
def test_a_query_under_way_is_lost_with_its_connection(run) -> None:
    small = Small(pool=Pool("db"), target="db", way=direct(), work_s=0.2, seconds=1.0)
    seen = run(small.case((100 * MS, "cut", "db-1")))
    assert (seen.lines[0].end, seen.lines[0].outcome) == (100 * MS, APP_5XX)
    assert seen.lines[1].outcome == OK
    assert took_ms(seen)[1] == 204


@BOTH
@pytest.mark.parametrize(
    ("pool", "took"),
    [
        (Pool("db", tcp_user_timeout_s=0.35), 350),
        (Pool("db", command_timeout_s=0.25, tcp_user_timeout_s=0.35), 250),
        (Pool("db"), 700),
    ],
)
def test_a_command_into_silence(run, pool: Pool, took: int) -> None:
    """The earliest of the call's, the command's and TCP's own time ends it."""
    small = Small(pool=pool, target="db", way=direct(), timeout_s=0.7, seconds=0.5)
    seen = run(small.case((50 * MS, "set_connect", "app-1->db-1", 2)))
    assert took_ms(seen)[:2] == [14, took]


@BOTH
def test_tcp_user_timeout_is_no_help_against_silence_behind_haproxy(run) -> None:
    """The caller's peer is HAProxy, which takes every byte at once."""
    pool = Pool("data", tcp_user_timeout_s=0.35)
    small = Small(pool=pool, timeout_s=0.7, idle_s=30.0, seconds=0.5)
    seen = run(small.case((50 * MS, "set_connect", "data/db-1", 2)))
    assert took_ms(seen)[:2] == [14, 700]


@BOTH
def test_too_many_clients(run) -> None:
    """Three users, two backends: the third is refused, and the pool keeps the good ones."""
    small = Small(pool=Pool("db", 3, 0), target="db", way=direct(), users=3, most=2)
    seen = run(small.case())
    first = [x for x in seen.lines if x.start == 0]
    assert sorted(x.outcome for x in first) == [OK, OK, APP_5XX]
    assert seen.at_end["refused db-1"] == failed(seen)


@BOTH
def test_a_connection_without_a_pool_is_open_until_its_client_has_the_answer(run) -> None:
    """One place in the database; the way is silent when the answer leaves (14 ms), not from 100 ms
    on: TCP repeats it at 230 ms, and only then is there room for another client.
    """
    small = Small(pool=None, target="db", way=direct(), users=2, most=1, kind="redis", seconds=0.32)
    way = "app-1->db-1"
    seen = run(small.case((10 * MS, "set_connect", way, 2), (100 * MS, "set_connect", way, 0)))
    assert [(x.start // MS, x.end // MS, x.outcome) for x in seen.lines] == [
        (0, 4, APP_5XX), (104, 108, APP_5XX), (208, 212, APP_5XX), (0, 230, OK), (312, 326, OK)
    ]  # fmt: skip
    assert seen.at_end["refused db-1"] == 3


@BOTH
def test_libpq_tries_the_hosts_in_their_order(run) -> None:
    way = direct("multihost", ("db-1", "db-2"), read_write=True)
    small = Small(pool=Pool("db"), target="db", way=way, write=True, dbs=2, seconds=0.3)
    rtt = RTT_S * 1000
    assert took_ms(run(small.case()))[0] == 10 + 2 * rtt
    seen = run(small.case((0, "set_connect", "app-1->db-1", 1)))
    assert (took_ms(seen)[0], seen.lines[0].outcome) == (10 + 2 * rtt, OK)
    seen = run(small.case((0, "set_writable", "db-1", False)))
    assert (took_ms(seen)[0], seen.lines[0].outcome) == (10 + 4 * rtt, OK)
    late = replace(small, way=way._replace(connect_timeout_s=0.4))
    seen = run(late.case((0, "set_connect", "app-1->db-1", 2)))
    assert (took_ms(seen)[0], seen.lines[0].outcome) == (400 + 10 + 2 * rtt, OK)
    seen = run(small.case((0, "set_writable", "db-1", False), (0, "set_writable", "db-2", False)))
    assert (took_ms(seen)[0], seen.lines[0].outcome) == (4 * rtt, APP_5XX)


@BOTH
def test_libpqs_connect_timeout_lasts_until_the_greeting(run) -> None:
    """The way falls silent between the connect and the greeting: the next host after 400 ms."""
    way = direct("multihost", ("db-1", "db-2"), connect_timeout_s=0.4)
    small = Small(pool=Pool("db"), target="db", way=way, dbs=2, seconds=0.05)
    seen = run(small.case((1 * MS, "set_connect", "app-1->db-1", 2)))
    assert took_ms(seen) == [400 + 10 + 2 * RTT_S * 1000]
    alone = replace(small, way=way._replace(hosts=("db-1",)), dbs=1)
    seen = run(alone.case((1 * MS, "set_connect", "app-1->db-1", 2)))
    assert (took_ms(seen), failed(seen)) == ([400], 1)
    soon = (300 * MS, "set_connect", "app-1->db-1", 0)  # after the first retransmit, at 220 ms
    seen = run(alone.case((1 * MS, "set_connect", "app-1->db-1", 2), soon))
    assert (took_ms(seen), failed(seen)) == ([400], 1)
    soon = (200 * MS, "set_connect", "app-1->db-1", 0)
    seen = run(alone.case((1 * MS, "set_connect", "app-1->db-1", 2), soon))
    assert took_ms(seen) == [4 + 216 + 10]


@BOTH
def test_sentinel_says_where_new_connections_go(run) -> None:
    """Before it says so there is nowhere to go; what is connected stays until it breaks."""
    way = direct("sentinel:m", ("db-1", "db-2"))
    small = Small(pool=Pool("db"), target="db", way=way, dbs=2, work_s=0.0, think_s=0.1)
    turn = [
        (250 * MS, "set_rotation", "app-1->db-1", True, True),
        (650 * MS, "set_rotation", "app-1->db-1", False, False),
        (650 * MS, "set_rotation", "app-1->db-2", True, True),
        (1050 * MS, "cut", "db-1"),
    ]
    seen = run(small.case(*turn))
    bad = [x.start // (100 * MS) for x in seen.lines if x.outcome == APP_5XX]
    assert bad == [0, 1, 2, 11]
    assert seen.at_end["served app-1->db-2"] == 1


@BOTH
def test_a_stalled_commit_goes_on_when_the_standby_is_let_go(run) -> None:
    small = Small(pool=Pool("db"), target="db", way=direct(), write=True, work_s=0.01)
    service = small.case().stack.service("db")
    case = small.case((0, "set_commit", "db-1", None), (500 * MS, "set_commit", "db-1", 0.0))
    commit = replace(service.ops[0], steps=(*service.ops[0].steps, Step("commit")))
    stack = case.stack
    services = (stack.service("app"), replace(service, ops=(commit,)))
    seen = run(replace(case, stack=replace(stack, services=services)))
    assert took_ms(seen)[0] == 500
    assert seen.at_end["commits db-1"] == len(seen.lines)


@BOTH
def test_an_idle_session_keeps_its_place_on_the_server(run) -> None:
    """maxconn 1, two users at once on a pool of two: the second waits for a place in vain."""
    small = Small(pool=Pool("data", 2, 0), users=2, idle_s=30.0, seconds=0.3, timeout_s=0.6)
    case = small.case((0, "set_maxconn", "data/db-1", 1))
    seen = run(case)
    assert sorted(took_ms(seen))[-1] == 600
    assert seen.at_end["served data/db-1"] == 1


@BOTH
def test_a_ping_and_the_command_after_it_each_have_their_time(run) -> None:
    pool = Pool("db", pre_ping=True, command_timeout_s=0.0125)
    assert failed(run(Small(pool=pool, target="db", way=direct()).case())) == 0


@BOTH
def test_haproxy_ends_an_idle_session_whose_server_died_in_silence(run) -> None:
    small = Small(idle_s=0.1, seconds=0.05)
    seen = run(small.case((50 * MS, "set_connect", "data/db-1", 2), (60 * MS, "crash", "db-1")))
    assert seen.at_end["served data/db-1"] == 0


@BOTH
def test_shutdown_sessions_meets_a_command_on_its_way_to_haproxy(run) -> None:
    small = Small(idle_s=30.0, proxy="h3", seconds=0.3)
    second = run(small.case()).lines[1].start
    seen = run(small.case((second + MS, "shutdown_sessions", "data/db-1")))
    assert (took_ms(seen)[1], seen.lines[1].outcome) == (RTT_S * 1000, APP_5XX)


@BOTH
def test_a_host_that_closes_before_its_greeting_ends_libpqs_connect(run) -> None:
    """Measured with psql 15: 'server closed the connection unexpectedly', no other host tried."""
    way = direct("multihost", ("db-1", "db-2"))
    small = Small(pool=Pool("db"), target="db", way=way, dbs=2, seconds=0.05)
    seen = run(small.case((0, "freeze", "db-1"), (100 * MS, "crash", "db-1")))
    assert (took_ms(seen)[0], seen.lines[0].outcome) == (100, APP_5XX)


@BOTH
def test_an_abandoned_command_keeps_its_place_on_the_server(run) -> None:
    """Measured, HAProxy 2.6.12 in mode tcp: the place is free when the server has answered."""
    small = Small(work_s=0.5, timeout_s=0.1, seconds=0.05, rest_s=0.2, idle_s=30.0)
    assert run(small.case()).at_end["served data/db-1"] == 1
    assert run(replace(small, rest_s=0.6).case()).at_end["served data/db-1"] == 0


@BOTH
def test_no_query_follows_a_ping_whose_caller_has_given_up(run) -> None:
    """The caller waits for the pong before it sends: a stopped server gets only the ping."""
    pool = Pool("data", pre_ping=True)
    small = Small(pool=pool, idle_s=30.0, timeout_s=0.3, seconds=0.15, rest_s=1.5)
    case = small.case((50 * MS, "freeze", "db-1"), (SECOND, "set_commit", "db-1", None),
                      (SECOND, "thaw", "db-1"))  # fmt: skip
    query = Op("q", (*case.stack.service("db").ops[0].steps, Step("commit")))
    services = (case.stack.service("app"), replace(case.stack.service("db"), ops=(query,)))
    seen = run(replace(case, stack=replace(case.stack, services=services)))
    assert took_ms(seen)[1] == 300
    assert seen.at_end["inflight db-1"] == 0
