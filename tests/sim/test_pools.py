"""Connection pools: what a connection costs, how it dies, what its pool makes of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from data_plane import Line, Plane, app, bursts, call, io, link, stack_of, steady

from hasim.model import INF, Instance, Op, Pool, Route, Service, Stack
from hasim.sim.kernel import layout as L
from hasim.sim.kernel.pools import RETRANSMITS
from hasim.sim.trace import OK
from hasim.sim.world import CONNECTS, NO_ROUTE, REFUSED, SILENT

RTT_S = 0.004
WORK_S = 0.1


def portal(pool: Pool | None, nodes: int = 1, timeout_s: float = INF, **fields) -> Stack:
    """app-1 on host a calls pg-1, pg-2... on host b, 4 ms away; each query takes 100 ms."""
    instances = [Instance("app-1", "service", "a", "app")]
    instances += [Instance(f"pg-{i + 1}", "postgres", "b", "pg") for i in range(nodes)]
    ops = (Op("read", (io(WORK_S),)), Op("write", (io(WORK_S),), write=True))
    pg = Service("pg", 100, ops=ops)
    op = fields.pop("op", "read")
    one = app(call("pg", op, timeout_s=timeout_s), pools=(pool,) if pool else ())
    return stack_of(
        (replace(one, workers=64), pg), instances, ("app/q",), links=link("a", "b", RTT_S), **fields
    )


def run(plane: Plane, until_s: float) -> list[Line]:
    return plane.until(until_s).lines()


def outcomes(lines: list[Line]) -> Counter:
    return Counter(line.outcome for line in lines)


def die(plane: Plane, name: str, meets: int, at_s: float, back_s: float) -> None:
    """The process ends at at_s and listens again at back_s; in between connects meet `meets`."""
    plane.until(at_s)
    plane.connect(name, meets)
    plane.engine.crash(name)
    plane.until(back_s)
    plane.connect(name, CONNECTS)


def test_a_connection_costs_a_round_trip_once() -> None:
    lines = run(Plane(portal(Pool("pg", 2, 0)), steady("app/q", 5.0, 3.9)), 10)
    took = [round(line.latency_s - WORK_S, 9) for line in lines]
    assert took == [2 * RTT_S] + [RTT_S] * 19


def test_pre_ping_costs_a_round_trip_each_time() -> None:
    lines = run(Plane(portal(Pool("pg", 2, 0, pre_ping=True)), steady("app/q", 5.0, 3.9)), 10)
    took = [round(line.latency_s - WORK_S, 9) for line in lines]
    assert took == [2 * RTT_S] * 20


def test_connections_beyond_size_are_closed_again() -> None:
    """Ten at once, five kept: of the next ten, five open a connection."""
    stack = portal(Pool("pg", 5, 5))
    lines = run(Plane(stack, bursts("app/q", 1e4, (0, 10), (1, 10))), 10)
    assert len(lines) == 20
    new = [round(line.latency_s - WORK_S, 6) == 2 * RTT_S for line in lines]
    assert (sum(new[:10]), sum(new[10:])) == (10, 5)


def test_the_connection_that_is_idle_longest_is_used_first() -> None:
    """Two servers, four connections made in turn: a slow trickle goes round all of them."""
    load = bursts("app/q", 1e4, (0, 4), (1, 1), (2, 1), (3, 1), (4, 1))
    plane = Plane(portal(Pool("pg", 4, 0), nodes=2), load)
    at = []
    for second in (1, 2, 3, 4):
        plane.until(second + 0.05)
        at += [i for i in (1, 2) if plane.station(f"pg-{i}")["inflight"]]
    assert at == [1, 2, 1, 2]
    used = plane.k.conns[:4]["edge"].tolist()
    assert used == [plane.tables.edge_of[plane.edges[f"app-1->pg-{i}"]] for i in (1, 2, 1, 2)]


def test_who_finds_none_waits_in_line_and_then_fails() -> None:
    stack = portal(Pool("pg", 1, 1, wait_s=0.15))
    plane = Plane(stack, bursts("app/q", 1e6, (0, 6)))
    lines = run(plane, 5)
    assert outcomes(lines) == {"ok": 4, "5xx": 2}
    assert [round(x.latency_s, 3) for x in lines if x.outcome == "5xx"] == [0.15, 0.15]
    waited = plane.k.pool_hist.reshape(64, -1, 1984)[0, 0]
    assert waited.sum() == 6
    assert waited[0] == 2
    assert (plane.k.pools[0]["busy"], plane.k.pools[0]["idle"]) == (0, 1)


def test_the_limit_of_a_call_holds_while_it_waits_for_a_connection() -> None:
    stack = portal(Pool("pg", 1, 0), timeout_s=0.12)
    lines = run(Plane(stack, bursts("app/q", 1e6, (0, 2))), 5)
    assert [(x.outcome, round(x.latency_s, 3)) for x in sorted(lines)] == [
        ("ok", 0.108), ("5xx", 0.12),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("how", "errors"),
    [({"on_disconnect": "invalidate-one"}, 5), ({"on_disconnect": "invalidate-all"}, 1),
     ({"pre_ping": True, "on_disconnect": "invalidate-one"}, 0), ({"pre_ping": True}, 0)],
)  # fmt: skip
def test_a_restart_of_the_server_breaks_what_is_idle(how: dict, errors: int) -> None:
    """Five idle connections die; what the pool does decides how many requests notice."""
    burst = bursts("app/q", 1e4, (0, 5), *((10 + i, 1) for i in range(8)))
    plane = Plane(portal(Pool("pg", 5, 0, **how)), burst)
    die(plane, "pg-1", REFUSED, 5, 6)
    lines = run(plane, 60)
    assert len(lines) == 13
    assert outcomes(lines[:5]) == {"ok": 5}
    assert outcomes(lines[5:])["5xx"] == errors


def test_without_a_pool_each_call_is_a_connection() -> None:
    plane = Plane(portal(None), steady("app/q", 5.0, 3.9))
    plane.until(1.05)
    assert plane.station("pg-1")["open"] == 1
    lines = run(plane, 10)
    assert {round(line.latency_s - WORK_S, 9) for line in lines} == {2 * RTT_S}
    assert plane.station("pg-1")["open"] == 0


@pytest.mark.parametrize("limit_s", [7.0, INF])
def test_power_off_and_tcp_user_timeout(limit_s: float) -> None:
    """reference 4: an idle connection to a silent host fails after tcp_user_timeout, or not for a
    quarter of an hour; a query under way hears nothing at all.
    """
    pool = Pool("pg", 5, 0, tcp_user_timeout_s=limit_s)
    plane = Plane(portal(pool), bursts("app/q", 1e4, (0, 5), (5, 3), (6, 2)))
    plane.until(5.05)  # three are under way, two connections are idle
    plane.connect("pg-1", SILENT)
    plane.engine.crash("pg-1")
    plane.until(5.5)
    plane.connect("pg-1", NO_ROUTE)
    lines = sorted(run(plane, 1000))
    assert outcomes(lines[:5]) == {"ok": 5}
    ended = [line for line in lines[5:] if line.start_s > 5.5]
    expected = min(limit_s, RETRANSMITS / 1e9)
    assert len(ended) == 2
    assert all(x.outcome == "5xx" and x.latency_s == pytest.approx(expected) for x in ended)
    assert len(lines) == 7  # those under way still wait: no data of theirs is unanswered
    assert plane.station("app-1")["inflight"] == 3


def test_command_timeout_ends_what_hears_nothing() -> None:
    plane = Plane(portal(Pool("pg", 5, 0, command_timeout_s=2.0)), steady("app/q", 10.0, 4.0))
    plane.until(2.05)
    plane.connect("pg-1", SILENT)
    plane.engine.crash("pg-1")
    lines = run(plane, 30)
    late = [line for line in lines if line.outcome == "5xx" and line.start_s < 2.05]
    assert late
    assert all(line.latency_s == pytest.approx(2.0) for line in late)


def test_silence_that_ends_in_time_is_survived() -> None:
    plane = Plane(portal(Pool("pg", 5, 0, tcp_user_timeout_s=30.0)), steady("app/q", 10.0, 3.95))
    plane.until(2.051)
    plane.connect("pg-1", SILENT)
    plane.until(8)
    plane.connect("pg-1", CONNECTS)
    lines = run(plane, 60)
    assert outcomes(lines) == {"ok": 40}
    assert max(line.latency_s for line in lines) > 6.0


def test_more_clients_than_max_connections_are_refused() -> None:
    """Refused is an error of the application; the connection is closed, the place is free again."""
    stack = portal(Pool("pg", 200, 0))
    plane = Plane(stack, bursts("app/q", 1e6, (0, 150)))
    most = int(plane.station("pg-1")["most_open"])
    assert 90 <= most <= 100
    lines = run(plane, 20)
    assert outcomes(lines)["5xx"] == 150 - most
    assert plane.k.refused.sum() == 150 - most
    assert plane.station("pg-1")["open"] == most == plane.station("pg-1")["idle"]
    plane.engine.crash("pg-1")
    assert (plane.station("pg-1")["open"], plane.station("pg-1")["idle"]) == (0, 0)


def test_the_caller_dies_and_its_connections_with_it() -> None:
    plane = Plane(portal(Pool("pg", 5, 0)), steady("app/q", 30.0, 4.0))
    plane.until(2.05)
    assert plane.station("pg-1")["open"] > 2
    plane.connect("app-1", REFUSED)
    plane.engine.crash("app-1")
    plane.until(3)
    assert (plane.station("pg-1")["open"], plane.station("pg-1")["idle"]) == (0, 0)
    plane.connect("app-1", CONNECTS)
    after = [line for line in run(plane, 20) if line.start_s > 3]
    assert outcomes(after) == {"ok": len(after)}


# ---- how the other end is found ----------------------------------------------------------------
def found_by(**way) -> dict:
    hosts = tuple(f"pg-{i}" for i in (1, 2, 3))
    route = Route("call", "", "", "", "pg", hosts=hosts, **way)
    return {"call_routes": {"app->pg": route}, "nodes": 3}


def test_libpq_goes_to_the_first_host_that_writes() -> None:
    stack = portal(None, op="write", **found_by(discovery="multihost", read_write=True))
    plane = Plane(stack, steady("app/q", 10.0, 5.95))
    plane.engine.set_writable("pg-1", False)
    plane.engine.set_writable("pg-3", False)
    plane.until(2.99)
    plane.connect("pg-1", REFUSED)
    plane.until(4.99)
    plane.connect("pg-1", NO_ROUTE)
    lines = run(plane, 30)
    assert outcomes(lines) == {"ok": 60}
    took = [round(line.latency_s - WORK_S, 6) for line in lines]
    assert {*took[:29]} == {4 * RTT_S}
    assert {*took[30:49]} == {2 * RTT_S}
    assert {*took[50:]} == {3.0 + 2 * RTT_S}
    assert plane.engine.commits("pg-2") == 60


@pytest.mark.parametrize("state", ["silent", "frozen"])
@pytest.mark.parametrize(("timeout_s", "outcome"), [(2.0, "ok"), (INF, "5xx")])
def test_connect_timeout_decides_what_a_hanging_host_costs(
    state: str, timeout_s: float, outcome: str
) -> None:
    way = found_by(discovery="multihost", read_write=True, connect_timeout_s=timeout_s)
    stack = portal(None, op="write", timeout_s=10.0, **way)
    plane = Plane(stack, steady("app/q", 10.0, 5.95))
    plane.engine.set_writable("pg-3", False)
    plane.until(2.01)
    if state == "silent":
        plane.connect("pg-1", SILENT)
    else:
        plane.engine.freeze("pg-1")
    late = [line for line in run(plane, 40) if line.start_s > 2.01]
    assert outcomes(late) == {outcome: 39}
    expected = 2.0 + 2 * RTT_S + WORK_S if outcome == "ok" else 10.0
    assert all(line.latency_s == pytest.approx(expected) for line in late)


def test_no_host_that_writes_is_a_connection_error() -> None:
    stack = portal(None, op="write", **found_by(discovery="multihost", read_write=True))
    plane = Plane(stack, steady("app/q", 10.0, 0.95))
    for i in (1, 2, 3):
        plane.engine.set_writable(f"pg-{i}", False)
    lines = run(plane, 10)
    assert {(x.outcome, round(x.latency_s, 6)) for x in lines} == {("5xx", 6 * RTT_S)}


def test_sentinel_names_the_one_for_new_connections() -> None:
    """Until it does, calls fail at once. Old connections stay where they are until cut."""
    stack = portal(Pool("pg", 2, 0), op="write", **found_by(discovery="sentinel:mymaster"))
    plane = Plane(stack, steady("app/q", 10.0, 5.95))
    edges = [plane.edges[f"app-1->pg-{i}"] for i in (1, 2, 3)]
    assert {e.discovery for e in edges} == {"sentinel:mymaster"}
    plane.until(0.99)
    plane.engine.set_rotation(edges[0], True, True)
    plane.until(1.99)
    plane.engine.set_rotation(edges[0], False, False)
    plane.engine.set_rotation(edges[1], True, True)
    plane.until(3.99)
    assert plane.engine.commits("pg-2") == 0
    plane.engine.cut("pg-1")
    lines = run(plane, 20)
    assert {(x.outcome, x.latency_s) for x in lines if x.start_s < 0.99} == {("5xx", 0.0)}
    assert outcomes([x for x in lines if 0.99 < x.start_s < 3.85]) == {"ok": 29}
    assert outcomes([x for x in lines if x.start_s > 3.85]) == {"5xx": 1, "ok": 20}
    assert (plane.engine.commits("pg-1"), plane.engine.commits("pg-2")) == (29, 20)


def test_probes_change_nothing_and_see_what_a_request_would() -> None:
    stack = portal(Pool("pg", 4, 0, on_disconnect="invalidate-one"))
    with_probes = Plane(stack, steady("app/q", 20.0, 6.0), probe_rate=10.0)
    without = Plane(stack, steady("app/q", 20.0, 6.0))
    for plane in (with_probes, without):
        die(plane, "pg-1", REFUSED, 2.0001, 3.0)
        plane.until(30)
    assert sorted(with_probes.lines()) == sorted(without.lines())
    rows = with_probes.k.probes[: int(with_probes.k.g[L.NPROBES])]
    bad = rows["t"][rows["outcome"] != OK] / 1e9
    assert 9 <= len(bad) <= 13
    assert 1.85 < bad.min() < 2.1
    assert 2.85 < bad.max() < 3.1
