"""The oracle's objects made of a Stack: machines, stations, ways, backends, operations."""

from __future__ import annotations

from dataclasses import replace

from oracle_clock import NEVER, SECOND
from oracle_haproxy import Backend, Balancer, Server, Way
from oracle_pool import Pool
from oracle_service import Machine, Operation, Row, Station

from hasim.components.base import components
from hasim.model import INF, ZERO, Route, Step

DATA = ("postgres", "redis")
RETRY_WORDS = {
    "conn-failure": {"conn-failure"},
    "empty-response": {"empty-response"},
    "response-timeout": {"response-timeout"},
    "500": {"5xx"}, "502": {"5xx"}, "503": {"5xx"}, "504": {"5xx"},
    "all-retryable-errors": {"conn-failure", "empty-response", "response-timeout", "5xx"},
}  # fmt: skip


def ns(seconds: float) -> int:
    """Seconds in ns."""
    return NEVER if seconds > 3e9 else round(seconds * SECOND)


def connect_timeout(way: Route | None, data: bool) -> int:
    """Of the URL, else Go's for HTTP; a database's client has none but Linux' six SYNs."""
    if way is not None and way.connect_timeout_s < INF:
        return ns(way.connect_timeout_s)
    return (127 if data else 30) * SECOND


class Build:
    """The part of the Oracle that reads the Stack."""

    # ---- the stack ---------------------------------------------------------------------------
    def _build_machines(self) -> None:
        stack = self.stack
        for host in stack.hosts:
            machine = Machine(host.cores)
            for i in (i for i in stack.instances if i.host == host.name and i.kind != "haproxy"):
                service = stack.service(i.service)
                component = components().get(i.kind)
                if component is not None:
                    service = component.station(service, i)
                station = Station(self.clock, self.places, i, service, machine)
                station.most_connections = service.max_connections
                for p in service.pools:
                    station.pools.setdefault(p.to, self._pool(station, p))
                machine.stations.append(station)
                self.stations[i.name] = station
            most = sum(s.workers for s in machine.stations)  # a quota binds over its period
            for s in machine.stations:
                s.dedicated = most <= host.cores and not s.quota

    @staticmethod
    def _pool(station: Station, text) -> Pool:
        pool = Pool(station, text.size, text.overflow, ns(text.wait_s))
        pool.to, pool.pre_ping = text.to, text.pre_ping
        pool.command_timeout = ns(text.command_timeout_s)
        pool.user_timeout = ns(text.tcp_user_timeout_s)
        pool.all_at_once = text.on_disconnect == "invalidate-all"
        return pool

    def _host(self, instance: str) -> str:
        return self.stack.instance(instance).host

    def _rtt(self, a: str, b: str) -> int:
        for link in self.stack.links if a != b else ():
            if {link.a, link.b} == {a, b}:
                return ns(link.rtt_s)
        return 0

    def _build_haproxy(self) -> None:
        for b in self.stack.balancers:
            self.balancers[b.instance] = Balancer(b.instance, b.maxconn)
            way = Way(f"users->{b.instance}", 0, self.balancers[b.instance])
            self.ways[way.name] = way
        for b in self.stack.balancers:
            for text in b.backends:
                backend = Backend(self.clock, text.name, self.balancers[b.instance])
                backend.algorithm = text.balance
                backend.retries, backend.redispatch = text.retries, text.redispatch
                backend.interval = text.redispatch_interval
                for word in text.retry_on:
                    backend.retry_on |= RETRY_WORDS.get(word, set())
                backend.reuse = text.http_reuse
                if text.connection_mode != "keep-alive":
                    backend.reuse = "never"
                backend.allbackups, backend.abortonclose = text.allbackups, text.abortonclose
                backend.no_post_replay = text.no_post_replay
                backend.close_by_server_reuse = b.version >= (3, 0, 0)
                backend.t_connect, backend.t_server = (
                    ns(text.timeout_connect_s), ns(text.timeout_server_s),
                )  # fmt: skip
                if text.mode == "tcp":
                    backend.tcp, backend.fresh, backend.reuse = True, True, "never"
                    backend.retry_on = {"conn-failure"}  # manual 4.2: the rest is for http
                    backend.t_idle = ns(self._idle_s(b, text))
                queue = text.timeout_queue_s
                backend.t_queue = ns(queue if queue < INF else text.timeout_connect_s)
                for s in text.servers:
                    rtt = self._rtt(self._host(b.instance), self._host(s.instance))
                    server = Server(
                        f"{text.name}/{s.name}", rtt, self.stations[s.instance], backend
                    )
                    server.backup, server.weight = s.backup, 16 * s.weight
                    server.maxconn, server.maxqueue = s.maxconn, s.maxqueue
                    backend.servers.append(server)
                    self.ways[server.name] = server
                self.backends[b.instance, text.name] = backend

    @staticmethod
    def _idle_s(balancer, text) -> float:
        """When HAProxy ends a session on which no byte moves (haproxy.md 6.2)."""
        if text.timeout_tunnel_s < INF:
            return text.timeout_tunnel_s
        client = [f.timeout_client_s for f in balancer.frontends if f.default_backend == text.name]
        return min([text.timeout_server_s, *client])

    def _direct(self, source: str, host: str, service: str, way: Route | None = None) -> Backend:
        """The instances of a service (or of its URL), which a caller dials itself."""
        key = (f"{source}->", service)
        if key not in self.backends:
            backend = self.backends[key] = Backend(self.clock, service, None)
            placed = map(self.stack.instance, self.stations)  # host by host
            hosts = [i for i in placed if service in (i.service, i.name, i.compose_service)]
            if way is not None and way.hosts:
                hosts = [self.stack.instance(name) for name in way.hosts]
            backend.fresh = any(i.kind in DATA for i in hosts)
            backend.t_connect = connect_timeout(way, backend.fresh)
            if way is not None and way.discovery:
                backend.discovery = way.discovery.partition(":")[0]
                backend.wants_primary = way.read_write
            for i in hosts:
                rtt = self._rtt(host or i.host, i.host)
                server = Server(f"{source}->{i.name}", rtt, self.stations[i.name], backend)
                server.usable = server.running = backend.discovery != "sentinel"
                backend.servers.append(server)
                self.ways[server.name] = server
        return self.backends[key]

    def _build_operations(self) -> None:
        stack, number = self.stack, 0
        names = [*stack.op_entries]
        names += [f"{s.name}/{o.name}" for s in stack.services for o in s.ops]
        names = list(dict.fromkeys(names))
        for name in names:
            service = stack.service(name.partition("/")[0])
            op = next(o for o in service.ops if o.name == name.partition("/")[2])
            rows = [Row(number + n, step) for n, step in enumerate(self._steps(service, op))]
            number += len(rows)
            self.operations[name] = Operation(name, op.write, rows)
            self.operations[name].commits = any(r.step and r.step.kind == "commit" for r in rows)
        for name, op in self.operations.items():
            for row in op.rows:
                if row.step is not None and row.step.kind == "call":
                    self._call(name.partition("/")[0], row)
            route = stack.op_entries.get(name)
            service = name.partition("/")[0]
            if route and route.balancer:
                op.backend = self.backends[route.balancer, route.backend]
                op.entry = self.ways[f"users->{route.balancer}"]
                op.keep_alive = ns(self._keep_alive(route.balancer, route.frontend))
            elif route:
                op.backend = self._direct("users", "", service)

    def _build_health(self) -> None:
        """The health URLs of each instance; rows are numbered on, instance by instance."""
        number = sum(len(op.rows) for op in self.operations.values())
        for name, station in self.stations.items():
            urls = [(e.url, e) for e in station.service.health] + [("", None), ("404", None)]
            for url, endpoint in urls:
                steps = [Step("cpu", endpoint.cpu if endpoint else ZERO)]
                for need in endpoint.needs if endpoint else ():
                    steps.append(self._need(station.service, need, endpoint.timeout_s))
                rows = [Row(number + n, step) for n, step in enumerate([*steps, None])]
                number += len(rows)
                for row in rows[1:-1]:
                    self._call(station.service.name, row)
                op = self.health[name, url] = Operation(url, False, rows)
                op.http = endpoint.status if endpoint else 404 if url else 200

    def _need(self, service, need: str, timeout_s: float) -> Step:
        """A cheap read of a dependency, over the way that the service's calls take to it."""
        calls = [s.target for o in service.ops for s in o.steps if s.kind == "call"]
        targets = [*(p.to for p in service.pools), *calls]
        if need not in targets:
            ways = [(t, self.stack.call_routes.get(f"{service.name}->{t}")) for t in targets]
            need = next((t for t, way in ways if way and way.service == need), need)
        callee = self.stack.service(self._call_target(service.name, need)[2])
        op = next(o.name for o in callee.ops if not o.write)
        return Step("call", target=need, op=op, timeout_s=timeout_s, on_error="503")

    def _steps(self, service, op) -> list:
        """Its steps and None; a write on a data node commits at its end if it does not before."""
        data = any(s.is_data for s in self.stations.values() if s.service.name == service.name)
        steps = []
        for step in op.steps:
            if step.kind == "commit" and step.dist != ZERO:
                steps.append(Step("io", step.dist))  # onto its own disk
            steps.append(replace(step, dist=ZERO) if step.kind == "commit" else step)
        if op.write and data and all(s.kind != "commit" for s in steps):
            steps.append(Step("commit", ZERO))
        return [*steps, None]

    def _call(self, service: str, row: Row) -> None:
        """Where a call goes and what it asks for."""
        target = row.step.target
        row.backend, row.by_caller, callee = self._call_target(service, target)
        row.callee = self.operations[f"{callee}/{row.step.op}"]
        for one in (s for s in self.stations.values() if s.service.name == service):
            pool = one.pools.get(target)
            if pool is not None and pool not in self.pools:
                self.pools.append(pool)
        row.connect = connect_timeout(self.stack.call_routes.get(f"{service}->{target}"), True)
        if row.backend is not None and row.backend.tcp:
            balancer = row.backend.balancer
            for one in (s for s in self.stations.values() if s.service.name == service):
                rtt = self._rtt(self._host(one.name), self._host(balancer.name))
                name = f"{one.name}->{balancer.name}"
                way = self.ways.setdefault(name, Way(name, rtt, balancer))
                row.backend.entries[one.name] = way

    def _call_target(self, service: str, target: str):
        """Backend through HAProxy, or backends by caller; and the service that answers."""
        way = self.stack.call_routes.get(f"{service}->{target}")
        for b in self.stack.balancers:
            for text in b.backends:
                if text.name == (way.backend if way else target):
                    callee = self.stack.instance(text.servers[0].instance).service
                    return self.backends[b.instance, text.name], None, callee
        placed = [self.stack.instance(name) for name in self.stations]
        names = [(i.service, i.name, i.compose_service) for i in placed]
        callee = next(n[0] for n in names if target in n)
        callers = [i for i in placed if i.service == service]
        return None, {i.name: self._direct(i.name, i.host, target, way) for i in callers}, callee

    def _keep_alive(self, balancer: str, frontend: str) -> float:
        for b in self.stack.balancers:
            for f in b.frontends:
                if (b.instance, f.name) == (balancer, frontend):
                    return 0.0 if f.connection_mode == "close" else f.timeout_http_keep_alive_s
        return INF
