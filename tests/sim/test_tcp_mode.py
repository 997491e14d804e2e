"""HAProxy in mode tcp: one session per client connection, which holds its place while open."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from data_plane import Line, Plane, app, bursts, call, io, stack_of, steady

from hasim.model import INF, Backend, Balancer, Frontend, Instance, Op, Pool, Server, Service, Stack
from hasim.sim.kernel import layout as L
from hasim.sim.world import CONNECTS, REFUSED, SILENT

WORK_S = 0.05
ERRORS = {"5xx"}


def portal(pool: Pool | None, nodes: int = 1, maxconn: int = 0, most: int = 0, **fields) -> Stack:
    """app-1 calls pg-rw, a TCP frontend of lb-1 with pg-1, pg-2... behind it."""
    instances = [
        Instance("app-1", "service", "a", "app"),
        Instance("lb-1", "haproxy", "a"),
        *(Instance(f"pg-{i + 1}", "postgres", "a", "pg") for i in range(nodes)),
    ]
    servers = tuple(
        Server(f"s{i + 1}", f"pg-{i + 1}", 5432, f"pg-{i + 1}", "bridge", None, maxconn=maxconn)
        for i in range(nodes)
    )
    backend = Backend(
        "pg-rw", "tcp", "roundrobin", servers, timeout_connect_s=5.0, timeout_server_s=50.0
    )
    backend = replace(backend, **fields.pop("backend", {}))
    front = Frontend("pg-in", "tcp", (("", 5000),), "pg-rw", timeout_client_s=50.0)
    front = replace(front, **fields.pop("frontend", {}))
    balancer = Balancer("lb-1", (2, 8, 0), most, (front,), (backend,))
    pg = Service("pg", 100, ops=(Op("read", (io(WORK_S),)),))
    one = app(call("pg-rw", "read", **fields), pools=(pool,) if pool else ())
    services = (replace(one, workers=64), pg)
    return stack_of(services, instances, ("app/q",), balancers=(balancer,))


def pool(size: int = 5, overflow: int = 0, **fields) -> Pool:
    return Pool("pg-rw", size, overflow, **{"on_disconnect": "invalidate-one"} | fields)


def outcomes(lines: list[Line]) -> Counter:
    return Counter(line.outcome for line in lines)


def sessions(plane: Plane) -> Counter:
    """How HAProxy logged the sessions that have ended."""
    counts = plane.k.terms.reshape(-1, len(L.TERMS)).sum(axis=0).tolist()
    return Counter({word: n for word, n in zip(L.TERMS, counts, strict=True) if n})


def served(plane: Plane, name: str = "pg-rw/s1") -> int:
    return int(plane.k.edges[plane.tables.edge_of[plane.edges[name]]]["served"])


QUIET = bursts("app/q", 1e4, (0, 5), *((60 + i, 1) for i in range(10)))


@pytest.mark.parametrize(
    ("how", "errors"),
    [({}, 5), ({"pre_ping": True}, 0), ({"on_disconnect": "invalidate-all"}, 1)],
)
def test_a_quiet_minute_breaks_a_pool_that_does_not_check(how: dict, errors: int) -> None:
    """reference/haproxy.md 6.2: every idle session is cut after exactly 50 s."""
    plane = Plane(portal(pool(**how)), QUIET)
    plane.until(50.0)
    assert (served(plane), plane.k.balancers[0]["conns"]) == (5, 5)
    assert plane.station("pg-1")["open"] == 5
    plane.until(50.06)
    assert (served(plane), plane.k.balancers[0]["conns"]) == (0, 0)
    assert (plane.station("pg-1")["open"], plane.station("pg-1")["idle"]) == (0, 0)
    lines = plane.until(100).lines()
    assert outcomes(lines[:5]) == {"ok": 5}
    assert outcomes(lines[5:])["5xx"] == errors
    assert sessions(plane)["tcp cD--"] == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"backend": {"timeout_tunnel_s": 3600.0}},
        {"backend": {"timeout_server_s": INF}, "frontend": {"timeout_client_s": INF}},
    ],
)
def test_a_long_tunnel_timeout_keeps_them(fields: dict) -> None:
    plane = Plane(portal(pool(), **fields), QUIET)
    assert outcomes(plane.until(100).lines()) == {"ok": 15}
    assert not sessions(plane)


def test_the_shorter_of_both_timeouts_counts_and_activity_starts_it_anew() -> None:
    fields = {"frontend": {"timeout_client_s": 2.0}}
    load = bursts("app/q", 1e4, (0, 1), *((i * 1.9, 1) for i in range(1, 6)), (12, 1))
    lines = Plane(portal(pool(), **fields), load).until(30).lines()
    assert [line.outcome for line in lines] == ["ok"] * 6 + ["5xx"]


def test_a_query_that_takes_longer_than_the_timeout_is_cut_too() -> None:
    plane = Plane(portal(pool(), backend={"timeout_server_s": 0.02}), steady("app/q", 1.0, 3.0))
    lines = plane.until(30).lines()
    assert {(line.outcome, line.latency_s) for line in lines} == {("5xx", 0.02)}
    assert sessions(plane) == {"tcp sD--": 4}


def test_an_idle_session_holds_its_place_on_the_server() -> None:
    """Two callers' worth of connections against a server maxconn of 3: the fourth waits."""
    plane = Plane(portal(pool(5), maxconn=3, backend={"timeout_queue_s": 1.0}),
                  bursts("app/q", 1e4, (0, 3), (10, 5)))  # fmt: skip
    plane.until(5)
    assert served(plane) == 3
    lines = plane.until(30).lines()
    # three go over what is open; two new sessions wait for a place that idle ones never leave
    late = [line for line in lines if line.start_s > 5]
    assert outcomes(late) == {"ok": 3, "5xx": 2}
    assert {round(x.latency_s, 3) for x in late if x.outcome == "5xx"} == {1.0}
    assert sessions(plane) == {"tcp sQ--": 2}


def test_maxconn_of_the_process_counts_open_connections() -> None:
    stack = portal(pool(5, wait_s=0.5), most=2, timeout_s=0.3)
    plane = Plane(stack, bursts("app/q", 1e4, (0, 4)))
    lines = plane.until(20).lines()
    assert outcomes(lines) == {"ok": 2, "5xx": 2}
    assert plane.k.balancers[0]["conns"] == 2


def test_sessions_of_a_server_that_is_down_can_be_shut() -> None:
    plane = Plane(portal(pool()), bursts("app/q", 1e4, (0, 5), (10, 5)))
    plane.until(5)
    plane.engine.shutdown_sessions(plane.edges["pg-rw/s1"])
    assert served(plane) == 0
    lines = plane.until(30).lines()
    assert outcomes(lines) == {"ok": 5, "5xx": 5}
    assert sessions(plane)["tcp DD--"] == 5


def test_without_shutdown_sessions_stay_on_a_server_that_is_down() -> None:
    """A demoted primary keeps its clients: the pool goes on with the wrong server."""
    plane = Plane(portal(pool(), nodes=2), bursts("app/q", 1e4, (0, 4), (10, 4)))
    plane.until(5)
    before = served(plane)
    plane.engine.set_rotation(plane.edges["pg-rw/s1"], False, False)
    plane.until(10.02)
    assert plane.station("pg-1")["inflight"] == 2 == before
    assert outcomes(plane.until(30).lines()) == {"ok": 8}


@pytest.mark.parametrize("meets", [REFUSED, SILENT])
def test_a_server_dies(meets: int) -> None:
    """Idle sessions end with it; if nothing is heard, a request waits for `timeout server`."""
    plane = Plane(portal(pool()), bursts("app/q", 1e4, (0, 5), (10, 3)))
    plane.until(5)
    plane.connect("pg-1", meets)
    plane.engine.crash("pg-1")
    assert served(plane) == (0 if meets == REFUSED else 5)
    late = [line for line in plane.until(200).lines() if line.start_s > 5]
    assert outcomes(late) == {"5xx": 3}
    assert {round(x.latency_s, 3) for x in late} == {0.0 if meets == REFUSED else 50.0}


def test_no_server_closes_the_connection_at_once() -> None:
    plane = Plane(portal(None), steady("app/q", 10.0, 1.0))
    plane.engine.set_rotation(plane.edges["pg-rw/s1"], False, False)
    lines = plane.until(5).lines()
    assert {(line.outcome, line.latency_s) for line in lines} == {("5xx", 0.0)}
    assert sessions(plane) == {"tcp SC-- NOSRV": 11}


def test_connects_are_retried_and_redispatched() -> None:
    """As for http: three retries a second apart, the last one elsewhere."""
    stack = portal(None, nodes=2, backend={"redispatch": True, "retries": 3})
    plane = Plane(stack, bursts("app/q", 1e3, (0, 2)))
    plane.connect("pg-1", REFUSED)
    lines = plane.until(20).lines()
    assert outcomes(lines) == {"ok": 2}
    assert plane.k.g[L.REDISPATCHES] > 0
    assert sessions(plane) == {"tcp ----": 2}


@pytest.mark.parametrize("silent", [False, True])
def test_the_balancer_dies_and_comes_back(silent: bool) -> None:
    plane = Plane(portal(pool()), bursts("app/q", 1e4, (0, 5), (5, 2), (10, 5)))
    plane.until(5.01)
    way = plane.edges["app-1->lb-1"]
    plane.engine.set_connect(way, SILENT if silent else REFUSED)
    plane.engine.crash("lb-1")
    assert served(plane) == 0
    plane.until(6)
    plane.engine.set_connect(way, CONNECTS)
    lines = plane.until(30).lines()
    heard = [line for line in lines if 5 < line.start_s < 9]
    assert outcomes(heard) == ({} if silent else {"5xx": 2})
    late = outcomes([line for line in lines if line.start_s > 9])
    # invalidate-one: each of those that were idle breaks; what was under way was closed already
    assert late["5xx"] == 3
    assert plane.k.balancers[0]["conns"] >= 2


def test_a_stopped_balancer_holds_everything_back() -> None:
    plane = Plane(portal(pool(), timeout_s=30.0), bursts("app/q", 1e4, (0, 5), (5, 2), (49, 1)))
    plane.until(4)
    plane.engine.freeze("lb-1")
    plane.until(52)
    assert served(plane) == 5
    plane.engine.thaw("lb-1")
    lines = plane.until(100).lines()
    assert [line.outcome for line in sorted(lines)][5:7] == ["5xx", "5xx"]
    assert plane.k.g[L.USED_SLOTS] == 0


def test_books_balance_in_the_end() -> None:
    """Sessions, places, slots: nothing is left over after a rough hour."""
    stack = portal(pool(3, 2, wait_s=2.0), nodes=2, timeout_s=4.0, maxconn=4)
    plane = Plane(stack, steady("app/q", 30.0, 60.0))
    for at, what in (
        (5, lambda: plane.engine.crash("pg-1")), (7, lambda: plane.connect("pg-1", SILENT)),
        (8, lambda: plane.engine.crash("pg-1")), (12, lambda: plane.connect("pg-1", CONNECTS)),
        (20, lambda: plane.engine.crash("lb-1")), (25, lambda: plane.engine.cut("pg-2")),
        (30, lambda: plane.engine.freeze("pg-2")), (40, lambda: plane.engine.thaw("pg-2")),
        (41, lambda: plane.engine.freeze("lb-1")), (47, lambda: plane.engine.thaw("lb-1")),
        (50, lambda: plane.engine.shutdown_sessions(plane.edges["pg-rw/s1"])),
        (55, lambda: plane.engine.crash("app-1")),
    ):  # fmt: skip
        plane.until(at)
        what()
    plane.until(300)
    assert plane.k.g[L.USED_SLOTS] == 0
    assert plane.k.g[L.STARTED] == plane.k.g[L.FINISHED]
    assert (plane.k.balancers[0]["conns"], served(plane), served(plane, "pg-rw/s2")) == (0, 0, 0)
    for name in ("pg-1", "pg-2"):
        node = plane.station(name)
        assert (node["open"], node["idle"], node["inflight"], node["busy"]) == (0, 0, 0, 0)
