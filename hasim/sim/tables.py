"""Compile a Stack and a Scenario into the record arrays of the data plane.

Tables keeps the names beside the numbers: which station, edge, balancer and operation is which.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hasim.components.base import components
from hasim.model import INF, Backend, Balancer, Dist, Instance, Server, Service, Stack
from hasim.sim.kernel import layout as L
from hasim.sim.trace import APP_5XX, CLIENT_4XX, OK
from hasim.sim.world import Edge

ALGORITHMS = {
    "roundrobin": L.ROUNDROBIN,
    "static-rr": L.ROUNDROBIN,
    "leastconn": L.LEASTCONN,
    "first": L.FIRST,
    "random": L.RANDOM,
    "source": L.SOURCE,
}
REUSE = {"never": L.REUSE_NEVER, "always": L.REUSE_ALWAYS}
OBSERVE = {"": 0, "layer4": 1, "layer7": 2}
RETRY_ON = {
    "conn-failure": L.ON_CONN,
    "empty-response": L.ON_EMPTY,
    "response-timeout": L.ON_TIMEOUT,
    "junk-response": L.ON_JUNK,
    "500": L.ON_5XX, "502": L.ON_5XX, "503": L.ON_5XX, "504": L.ON_5XX,
    "all-retryable-errors": L.ON_CONN | L.ON_EMPTY | L.ON_TIMEOUT | L.ON_JUNK | L.ON_5XX,
}  # fmt: skip
DIST_KINDS = {
    "const": L.CONST,
    "exp": L.EXP,
    "uniform": L.UNIFORM,
    "lognormal": L.LOGNORMAL,
    "quantiles": L.QUANTILES,
    "hyperexp": L.HYPEREXP,
}


def ns(seconds: float) -> int:
    """Seconds to ns; INF (and anything beyond a century) is FOREVER."""
    return L.FOREVER if seconds > 3e9 else round(seconds * L.NS)


def status_outcome(status: int) -> int:
    """The outcome class of an HTTP status."""
    return OK if status < 400 else CLIENT_4XX if status < 500 else APP_5XX


@dataclass
class Tables:
    """Rows under construction, and the names of what they are about."""

    stack: Stack
    stations: list[Instance] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    ops: list[str] = field(default_factory=list)  # "service/op"; user-callable ones come first
    user_ops: int = 0
    station_of: dict[str, int] = field(default_factory=dict)
    edge_of: dict[Edge, int] = field(default_factory=dict)
    balancer_of: dict[str, int] = field(default_factory=dict)
    backend_of: dict[tuple[str, str], int] = field(default_factory=dict)
    health_op: dict[tuple[str, str], int] = field(default_factory=dict)
    rows: dict[str, list[Any]] = field(default_factory=dict)
    pool_of: dict[tuple[str, str], int] = field(default_factory=dict)
    queues: int = 0
    probe_ops: list[int] = field(default_factory=list)
    pools: list[str] = field(default_factory=list)  # "instance->target", in the order of the rows
    conns: int = 0  # records of pooled connections
    call_entry: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, table: str, **values) -> int:
        """Append a row; fields left out are 0."""
        rows = self.rows.setdefault(table, [])
        rows.append(values)
        return len(rows) - 1

    def queue(self) -> int:
        """A new FIFO queue."""
        self.queues += 1
        return self.queues - 1

    def dist(self, d: Dist, scale: float = L.NS) -> int:
        """A distribution, its values multiplied by `scale`."""
        table = self.rows.setdefault("table", [])
        first = len(table)
        values_scaled = d.kind in ("quantiles", "hyperexp")
        for p, v in d.table:
            table.append((p, v * scale))
        if values_scaled and d.kind == "hyperexp":
            total = sum(w for w, _ in d.table)
            table[first:] = [(w / total, v) for w, v in table[first:]]
        b = d.b if d.kind == "lognormal" else d.b * scale
        return self.add(
            "dists", kind=DIST_KINDS[d.kind], first=first, count=len(d.table), a=d.a * scale, b=b
        )

    def array(self, table: str, dtype: np.dtype) -> np.ndarray:
        """The rows of a table as a record array (one spare row, so that it is never empty)."""
        rows = self.rows.get(table, [])
        out = np.zeros(len(rows) + 1, dtype)
        for i, row in enumerate(rows):
            for name, value in row.items():
                out[i][name] = value
        return out


def rtt_between(stack: Stack, a: str, b: str) -> float:
    """Round trip in seconds between two hosts; 0 on one host or without a link."""
    if a == b:
        return 0.0
    for link in stack.links:
        if {link.a, link.b} == {a, b}:
            return link.rtt_s
    return 0.0


def servers_and_stations(stack: Stack) -> Tables:
    """Hosts, stations, balancers and their servers: all rows but the step programs."""
    t = Tables(stack)
    _hosts_and_stations(t)
    for balancer in stack.balancers:
        t.balancer_of[balancer.instance] = t.add(
            "balancers", maxconn=balancer.maxconn or 1 << 30, queue=t.queue()
        )
    for balancer in stack.balancers:
        for backend in balancer.backends:
            _proxy_backend(t, balancer, backend)
    for balancer in stack.balancers:
        for backend in balancer.backends:
            _check_edges(t, balancer, backend)
    return t


def _hosts_and_stations(t: Tables) -> None:
    """Stations sorted by host, so that each host owns a run of them."""
    services = {s.name: s for s in t.stack.services}
    for h, host in enumerate(t.stack.hosts):
        here = [
            (i, _bounded(services.get(i.service, Service(i.service)), i))
            for i in t.stack.instances
            if i.host == host.name and i.kind != "haproxy"
        ]
        first = len(t.stations)
        demand = sum(service.workers for _, service in here)  # a quota binds over its period
        for instance, service in here:
            t.station_of[instance.name] = len(t.stations)
            t.stations.append(instance)
            local = sum(i.service == instance.service for i in t.stations) - 1
            _station(t, instance, service, h, demand <= host.cores, local)
        t.add("hosts", cores=host.cores, first=first, count=len(here))


def _bounded(service: Service, instance: Instance) -> Service:
    """The profile of an instance as the configuration of its software bounds it."""
    kind = components().get(instance.kind)
    return kind.station(service, instance) if kind is not None else service


def _station(t: Tables, instance: Instance, service: Service, host: int, fits: bool, local: int):
    unlimited = instance.cpus <= 0 or instance.cpus >= service.workers
    t.add(
        "stations",
        host=host,
        local=local,
        workers=service.workers,
        queue=t.queue(),
        is_async=service.mode == "async",
        backlog=service.backlog,
        dedicated=fits and unlimited,
        heap=-1,
        weight=float(instance.cpu_shares or 1024),
        quota=instance.cpus if not unlimited else 0.0,
        speed=1.0,
        writable=1,
        most_open=service.max_connections,
        base_bytes=service.base_bytes + service.workers * service.worker_bytes,
        conn_bytes=service.connection_bytes,
        req_bytes=service.request_bytes,
        limit_bytes=instance.mem_limit_bytes,
    )


def host_of(stack: Stack, instance: str) -> str:
    return next((i.host for i in stack.instances if i.name == instance), "")


def add_edge(t: Tables, edge: Edge, be: int, station: int, **values) -> int:
    rtt = rtt_between(t.stack, edge.source_host, edge.target_host)
    number = t.add(
        "edges", be=be, st=station, connect=L.REFUSED, rtt=ns(rtt), queue=t.queue(), **values
    )
    t.edges.append(edge)
    t.edge_of[edge] = number
    return number


def _error_statuses(stack: Stack) -> set[str]:
    """The statuses that services of the stack answer when something fails."""
    steps = (step for service in stack.services for op in service.ops for step in op.steps)
    return {"500"} | {step.on_error for step in steps}


def _reuse(b: Backend) -> int:
    """`http-reuse`, which needs server connections that outlive a request."""
    if b.connection_mode != "keep-alive":
        return L.REUSE_NEVER
    return REUSE.get(b.http_reuse, L.REUSE_SAFE)


def _proxy_backend(t: Tables, balancer: Balancer, b: Backend) -> None:
    """One backend of HAProxy and its servers that resolve to an instance."""
    retry_on = 0
    for word in b.retry_on:
        if not word.isdigit() or word in _error_statuses(t.stack):
            retry_on |= RETRY_ON.get(word, 0)
    servers = [s for s in b.servers if s.instance in t.station_of]
    tcp = b.mode == "tcp"
    if tcp:  # Source: HAProxy manual 4.2 "retry-on": only for mode http; connects are retried
        retry_on = L.ON_CONN
    be = t.add(
        "backends",
        kind=L.HAPROXY,
        bal=t.balancer_of[balancer.instance],
        first=len(t.edges),
        count=len(servers),
        algo=ALGORITHMS.get(b.balance, L.ROUNDROBIN),
        retries=b.retries,
        redispatch=b.redispatch,
        interval=b.redispatch_interval,
        retry_on=retry_on,
        reuse=L.REUSE_NEVER if tcp else _reuse(b),
        allbackups=b.allbackups,
        abortonclose=b.abortonclose,
        no_post_replay=b.no_post_replay,
        persist=b.persist,
        queue=t.queue(),
        # silent close on a later request of a client connection; 3.0+: by server reuse (4.5)
        close_rule=0 if balancer.version < (3, 0, 0) else 1,
        t_connect=ns(b.timeout_connect_s),
        t_server=ns(idle_timeout_s(balancer, b) if tcp else b.timeout_server_s),
        tcp=tcp,
        fresh=tcp,
        t_queue=ns(b.timeout_queue_s if b.timeout_queue_s < INF else b.timeout_connect_s),
    )
    t.backend_of[balancer.instance, b.name] = be
    source_host = host_of(t.stack, balancer.instance)
    for s in servers:
        edge = Edge(
            f"{balancer.instance}/{b.name}",
            s.instance,
            f"{b.name}/{s.name}",
            s.reach,
            source_host,
            host_of(t.stack, s.instance),
        )
        add_edge(
            t,
            edge,
            be,
            t.station_of[s.instance],
            bal=-1,
            backup=s.backup,
            weight=16 * s.weight,
            maxconn=s.maxconn,
            maxqueue=s.maxqueue,
            observe=OBSERVE.get(s.observe, 0),
            error_limit=s.error_limit,
        )


def idle_timeout_s(balancer: Balancer, b: Backend) -> float:
    """After how long without a byte a session of mode tcp is closed; INF: never.

    Source: HAProxy manual 4.2, "timeout tunnel": it supersedes both other timeouts in mode tcp.
    """
    if b.timeout_tunnel_s < INF:
        return b.timeout_tunnel_s
    leads = [
        f.timeout_client_s
        for f in balancer.frontends
        if b.name in (f.default_backend, *(name for _, name in f.routes))
    ]
    return min([b.timeout_server_s, *leads])


def check_edge(stack: Stack, balancer: Balancer, backend: Backend, server: Server) -> Edge:
    """The way of a health check that has an address or a port of its own."""
    here, there = host_of(stack, balancer.instance), host_of(stack, server.check_instance)
    source = f"{balancer.instance}/{backend.name}"
    return Edge(source, server.check_instance, "", server.reach, here, there)


def _check_edges(t: Tables, balancer: Balancer, backend: Backend) -> None:
    for server in backend.servers:
        if server.check_instance in t.station_of and server.check_instance != server.instance:
            edge = check_edge(t.stack, balancer, backend, server)
            if edge not in t.edge_of:
                be = t.backend_of[balancer.instance, backend.name]
                add_edge(t, edge, be, t.station_of[server.check_instance], bal=-1)
