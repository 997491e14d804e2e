"""How services reach each other: by address, by libpq's host list, by Sentinel, through HAProxy.

Each instance of a caller has ways and pools of its own, one after the other in the order of
stations: what a row of a step program names is the first of them, and station.local is added.
"""

from __future__ import annotations

from hasim.model import INF, Instance, Pool, Route, Service
from hasim.sim.kernel import layout as L
from hasim.sim.tables import Tables, add_edge, ns
from hasim.sim.world import Edge

# Kinds of software that keep what is written to them: each write of theirs is a commit, and each
# call without a pool is a connection of its own.
DATA_KINDS = ("postgres", "redis")

# Source: Go net/http DefaultTransport dials with a timeout of 30 s
HTTP_CONNECT_S = 30.0
# Source: Linux ip-sysctl, tcp_syn_retries = 6: a connect without a timeout fails after 127 s
SYN_RETRIES_S = 127.0


def instances_of(t: Tables, service: Service) -> list[Instance]:
    """The instances of a service in the order of stations."""
    return [i for i in t.stations if i.service == service.name]


def connect_timeout_s(way: Route | None, data: bool) -> float:
    """How long a client waits for a connection, by its URL or else by its kind."""
    if way is not None and way.connect_timeout_s < INF:
        return way.connect_timeout_s
    return SYN_RETRIES_S if data else HTTP_CONNECT_S


def direct_backend(
    t: Tables, source: str, source_host: str, service: str, way: Route | None = None
) -> int:
    """The backend of one caller that dials the instances of a service itself.

    In turn, or in the order of `way.hosts` (libpq), or the one that Sentinel names.
    """
    key = (f"{source}->", service)
    if key in t.backend_of:
        return t.backend_of[key]
    targets = [i for i in t.stations if service in (i.service, i.name, i.compose_service)]
    if way is not None and way.hosts:
        targets = [t.stations[t.station_of[name]] for name in way.hosts]
    discovery = way.discovery if way else ""
    data = any(i.kind in DATA_KINDS for i in targets)
    multi = 0 if discovery != "multihost" else 2 if way and way.read_write else 1
    be = t.add(
        "backends",
        kind=L.DIRECT,
        bal=-1,
        first=len(t.edges),
        count=len(targets),
        algo=L.ROUNDROBIN,
        queue=t.queue(),
        fresh=data,
        multi=multi,
        strict=discovery.startswith("sentinel"),
        t_connect=ns(connect_timeout_s(way, data)),
        t_server=L.FOREVER,
        t_queue=L.FOREVER,
    )
    t.backend_of[key] = be
    usable = 0 if discovery.startswith("sentinel") else 1  # until Sentinel has said who
    for target in targets:
        reach = "bridge" if source_host == target.host else "published"
        if target.network_mode == "host":
            reach = "host"
        host = source_host or target.host
        edge = Edge(source, target.name, "", reach, host, target.host, discovery)
        station = t.station_of[target.name]
        add_edge(t, edge, be, station, bal=-1, usable=usable, running=usable, weight=16)
    return be


def direct_backends(t: Tables, caller: Service, service: str, way: Route | None) -> int:
    """The first of the backends by which the instances of a caller dial a service.

    One for each instance in the order of stations: row.be + station.local is its own.
    """
    ways = (direct_backend(t, i.name, i.host, service, way) for i in instances_of(t, caller))
    return min(ways)


def call_entry(t: Tables, caller: Service, balancer: str) -> int:
    """The first of the edges by which the instances of a caller reach a HAProxy's TCP frontends."""
    key = (caller.name, balancer)
    if key not in t.call_entry:
        proxy = t.stack.instance(balancer)
        edges = []
        for one in instances_of(t, caller):
            reach = "bridge" if one.host == proxy.host else "published"
            reach = "host" if proxy.network_mode == "host" else reach
            edge = Edge(one.name, balancer, "", reach, one.host, proxy.host)
            bal = t.balancer_of[balancer]
            edges.append(add_edge(t, edge, -1, -1, bal=bal, usable=1, running=1, weight=16))
        t.call_entry[key] = edges[0] if edges else -1
    return t.call_entry[key]


def pool_of(t: Tables, service: Service, target: str, be: int, way: Route | None) -> int:
    """The first of the pools of a service to this target, one per instance; -1: it has none."""
    pool = next((p for p in service.pools if p.to == target), None)
    if pool is None:
        return -1
    key = (service.name, target)
    if key not in t.pool_of:
        t.pool_of[key] = len(t.rows.get("pools", []))
        for one in instances_of(t, service):
            t.pools.append(f"{one.name}->{target}")
            _add_pool(t, one, pool, t.rows["backends"][be], way)
    return t.pool_of[key]


def _add_pool(t: Tables, owner: Instance, pool: Pool, backend: dict, way: Route | None) -> None:
    proxied = backend["kind"] == L.HAPROXY
    tcp = bool(backend.get("tcp"))
    limit = pool.size + pool.overflow
    data = bool(backend.get("fresh"))
    t.add(
        "pools",
        st=t.station_of[owner.name],
        size=pool.size,
        limit=limit,
        first=t.conns,
        free=t.conns,
        head=-1,
        tail=-1,
        queue=t.queue(),
        ping=pool.pre_ping,
        all=pool.on_disconnect == "invalidate-all",
        http=proxied and not tcp,
        wait=ns(pool.wait_s),
        command=ns(pool.command_timeout_s),
        user_timeout=ns(pool.tcp_user_timeout_s),
        connect=ns(connect_timeout_s(way, data)),
        t_idle=backend["t_server"] if tcp else L.FOREVER,
    )
    number = len(t.rows["pools"]) - 1
    for n in range(limit):
        following = t.conns + n + 1 if n + 1 < limit else -1
        t.add("conns", pool=number, next=following, edge=-1, bal=-1, slot=-1)
    t.conns += limit
