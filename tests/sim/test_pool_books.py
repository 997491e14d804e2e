"""Whatever happens to pools, servers and HAProxy: in the end nothing is held by nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from data_plane import Plane, app, call, io, link, stack_of, steady

from hasim.model import (
    INF,
    Backend,
    Balancer,
    Dist,
    Endpoint,
    Frontend,
    Instance,
    Op,
    Pool,
    Route,
    Server,
    Service,
    Stack,
    Step,
)
from hasim.sim.kernel import layout as L
from hasim.sim.world import CONNECTS

QUIET_S = 400.0  # after the last request: longer than every timeout below


def any_stack(draw: np.random.Generator) -> Stack:
    """Two callers, two databases behind a TCP frontend or dialled by libpq, a store by Sentinel."""
    pick = lambda *options: options[int(draw.integers(len(options)))]  # noqa: E731
    places = [("app-1", "service"), ("app-2", "service"), ("pg-1", "postgres"),
              ("pg-2", "postgres"), ("redis-1", "redis"), ("redis-2", "redis")]  # fmt: skip
    nodes = [Instance(n, kind, pick("a", "b"), n.partition("-")[0]) for n, kind in places]
    nodes.append(Instance("lb-1", "haproxy", "a"))
    servers = tuple(
        Server(f"s{i}", f"pg-{i}", 5432, f"pg-{i}", "bridge", None, maxconn=pick(0, 0, 3))
        for i in (1, 2)
    )
    backend = Backend(
        "pg-rw", "tcp", pick("roundrobin", "leastconn", "first"), servers,
        retries=pick(0, 3), redispatch=pick(True, False), timeout_connect_s=pick(0.5, 2.0),
        timeout_server_s=pick(0.3, 5.0), timeout_queue_s=pick(0.2, 2.0),
        timeout_tunnel_s=pick(INF, INF, 8.0),
    )  # fmt: skip
    front = Frontend("in", "tcp", (("", 5000),), "pg-rw", timeout_client_s=pick(1.0, 60.0))
    balancer = Balancer("lb-1", (2, 8, 0), pick(0, 0, 4), (front,), (backend,))
    limit = lambda: pick(INF, INF, 0.3, 2.0)  # noqa: E731
    pools = tuple(
        Pool(
            to, pick(1, 2, 5), pick(0, 2), pick(0.2, 30.0), bool(pick(True, False)), limit(),
            limit(), pick("invalidate-all", "invalidate-one"),
        )
        for to in ("pg-rw", "pg", "redis")
        if pick(True, True, False)
    )  # fmt: skip
    steps = (
        call("redis", pick("get", "set"), timeout_s=pick(INF, 0.2), on_error="skip"),
        call(pick("pg-rw", "pg"), pick("read", "write"), timeout_s=pick(INF, 1.0)),
        call(pick("pg-rw", "pg"), "read", timeout_s=pick(INF, 1.0), on_error=pick("skip", "500")),
    )
    health = (Endpoint("/ready", needs=("pg-rw", "redis"), timeout_s=pick(INF, 1.0)),)
    pg = Service("pg", 20, ops=(
        Op("read", (Step("cpu", Dist("exp", 0.004)), io(0.02))),
        Op("write", (io(0.01), Step("commit", Dist("exp", 0.005))), write=True),
    ))  # fmt: skip
    redis = Service("redis", 1, "async", ops=(
        Op("get", (Step("cpu", Dist("exp", 0.0005)),)), Op("set", (io(0.0005),), write=True),
    ))  # fmt: skip
    ways = {
        "app->pg": Route("call", "", "", "", "pg", "multihost", ("pg-1", "pg-2"),
                         pick(INF, 2.0), pick(True, False)),
        "app->redis": Route("call", "", "", "", "redis", "sentinel:m", ("redis-1", "redis-2")),
    }  # fmt: skip
    one = replace(app(*steps, pools=pools, health=health), workers=8)
    return stack_of((one, pg, redis), nodes, ("app/q",), links=link("a", "b", pick(0.0, 0.003)),
                    balancers=(balancer,), call_routes=ways)  # fmt: skip


def strike(plane: Plane, draw: np.random.Generator) -> None:
    """One random command."""
    engine = plane.engine
    name = ["app-1", "app-2", "pg-1", "pg-2", "redis-1", "redis-2", "lb-1"][int(draw.integers(7))]
    edge = plane.tables.edges[int(draw.integers(len(plane.tables.edges)))]
    verb = int(draw.integers(12))
    data = name.startswith(("pg", "redis"))
    if verb <= 2:
        engine.set_connect(edge, int(draw.integers(4)))
    elif verb == 3:
        plane.connect(name, int(draw.integers(1, 4)))
        engine.crash(name)
    elif verb == 4:
        engine.crash(name)
        plane.connect(name, int(draw.integers(1, 4)))
    elif verb == 5:
        engine.freeze(name)
    elif verb == 6:
        engine.thaw(name)
    elif verb == 7 and data:
        engine.cut(name)
    elif verb == 8 and data:
        engine.set_writable(name, bool(draw.integers(2)))
    elif verb == 9 and data:
        engine.set_commit(name, [0.0, 0.05, None][int(draw.integers(3))])
    elif verb == 10 and edge.server:
        engine.shutdown_sessions(edge)
    elif verb == 11 and (edge.server or edge.discovery.startswith("sentinel")):
        usable = bool(draw.integers(2))
        engine.set_rotation(edge, usable, usable)


def heal(plane: Plane) -> None:
    """Everything runs and is reached again."""
    for name in ("app-1", "app-2", "pg-1", "pg-2", "redis-1", "redis-2", "lb-1"):
        plane.engine.thaw(name)
        plane.connect(name, CONNECTS)
        if name.startswith(("pg", "redis")):
            plane.engine.set_commit(name, 0.0)


def held(plane: Plane) -> dict[str, Any]:
    """What servers, frontends and databases count, and what the records of connections say."""
    k = plane.k
    conns = k.conns[k.conns["state"] == L.C_IDLE]
    alive = conns[k.edges[conns["edge"]]["epoch"] == conns["epoch"]]
    out: dict[str, Any] = {}
    for e, edge in enumerate(plane.tables.edges):
        mine = (conns["edge"] == e) & (conns["slotted"] == 1)
        out[f"served {edge.name}"] = (int(k.edges[e]["served"]), int(mine.sum()))
    for st, one in enumerate(plane.tables.stations):
        here = alive[(k.edges[alive["edge"]]["st"] == st) & (alive["cut"] == 0)]
        row = k.stations[st]
        out[f"open {one.name}"] = (int(row["open"]), int((here["counted"] == 1).sum()))
        out[f"idle {one.name}"] = (int(row["idle"]), len(here))
        out[f"busy {one.name}"] = (int(row["busy"]) + int(row["inflight"]), 0)
    front = (conns["bal"] == 0) & (conns["bal_epoch"] == k.balancers[0]["epoch"])
    out["frontend"] = (int(k.balancers[0]["conns"]), int(front.sum()))
    for number, name in enumerate(plane.tables.pools):
        mine = k.conns[k.conns["pool"] == number][:-1]
        idle = int((mine["state"] == L.C_IDLE).sum())
        out[f"pool {name}"] = (int(k.pools[number]["busy"]), 0)
        out[f"kept {name}"] = (int(k.pools[number]["idle"]), idle)
    return out


def rough(seed: int, probe_rate: float) -> Plane:
    """A random stack under 20 s of load and random commands, healed at 25 s."""
    draw = np.random.default_rng(seed)
    load = steady("app/q", 40.0, 20.0)
    load = replace(load, client=replace(load.client, timeout_s=60.0))
    plane = Plane(any_stack(draw), load, seed, probe_rate)
    for edge in plane.tables.edges:
        if edge.discovery.startswith("sentinel") and edge.target == "redis-1":
            plane.engine.set_rotation(edge, True, True)
    for at in np.sort(draw.uniform(0.5, 20.0, int(draw.integers(1, 14)))):
        plane.until(float(at))
        strike(plane, draw)
    plane.until(25)
    heal(plane)
    return plane


@pytest.mark.parametrize("seed", [*range(40), 41, 74, 306, 528])
def test_nothing_is_held_by_nobody(seed: int) -> None:
    plane = rough(seed, 5.0)
    # what has heard nothing of a death waits for its answer for ever, unless its caller goes too
    plane.until(25 + QUIET_S)
    for name in ("app-1", "app-2"):
        plane.engine.crash(name)
    plane.until(1500)
    assert plane.k.g[L.BUG] == 0
    assert {name: pair for name, pair in held(plane).items() if pair[0] != pair[1]} == {}
    assert plane.k.g[L.STARTED] == plane.k.g[L.FINISHED] > 700
    assert plane.k.g[L.AREA] == plane.k.g[L.LATENCY_SUM]


@pytest.mark.parametrize("seed", [3, 6, 7, 11, 21, 22, 25, 27, 64, 68])
def test_probes_change_no_request(seed: int) -> None:
    """Not even the order in which a crash or a SIGCONT meets what is under way."""
    with_probes, without = rough(seed, 5.0).until(100), rough(seed, 0.0).until(100)
    assert with_probes.k.g[L.NPROBES] > 90
    assert sorted(with_probes.lines()) == sorted(without.lines())
