"""The oracle: the request path of a Stack under a Scenario, event by event in plain Python.

A second implementation of what hasim/sim/kernel does, for tests: same files' meaning in, same
random numbers, the same requests out. It knows no control plane: commands come by the clock.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from oracle_client import Arrivals, User
from oracle_clock import NEVER, SECOND, Clock
from oracle_haproxy import REFUSED, SILENT, Backend, Balancer, Server, Way
from oracle_path import Request
from oracle_service import Machine, Operation, Pool, Row, Station

from hasim.model import INF, Stack
from hasim.scenario import Scenario
from hasim.sim.trace import EOF, OPEN
from hasim.sim.traffic import is_open_loop, rate_pieces, user_spans

RETRY_WORDS = {
    "conn-failure": {"conn-failure"},
    "empty-response": {"empty-response"},
    "response-timeout": {"response-timeout"},
    "500": {"5xx"}, "502": {"5xx"}, "503": {"5xx"}, "504": {"5xx"},
    "all-retryable-errors": {"conn-failure", "empty-response", "response-timeout", "5xx"},
}  # fmt: skip


class Line(NamedTuple):
    """How one request of a user ended."""

    start: int
    end: int
    op: str
    server: str
    outcome: int
    letters: str
    retries: int
    redispatched: bool


def ns(seconds: float) -> int:
    """Seconds in ns."""
    return NEVER if seconds > 3e9 else round(seconds * SECOND)


class Places:
    """Numbers of the requests in memory; the last one given back is the first given out.

    Where a command meets many requests at one instant, it meets them in this order.
    """

    def __init__(self, size: int) -> None:
        self.free = list(range(size - 1, -1, -1))
        self.holders: dict[int, Request] = {}
        self.size = size

    def give(self, req: Request) -> int:
        """A number for a new request."""
        number = self.free.pop()
        self.holders[number] = req
        return number

    def take_back(self, number: int) -> None:
        """The request of that number is no more."""
        del self.holders[number]
        self.free.append(number)

    def alive(self) -> list[Request]:
        """All requests in memory by number."""
        return [self.holders[n] for n in sorted(self.holders)]

    def make_room(self, spare: int) -> None:
        """Twice as many numbers while fewer than `spare` are free."""
        while len(self.free) < spare:
            self.free += range(2 * self.size - 1, self.size - 1, -1)
            self.size *= 2


class Oracle:
    """One replication."""

    def __init__(self, stack: Stack, scenario: Scenario, seed: int, replication: int, size: int):
        self.stack, self.scenario = stack, scenario
        self.key = (seed, replication)
        self.clock = Clock()
        self.places = Places(size)
        self.clock.before_each = lambda: self.places.make_room(16)
        self.count: Counter[str] = Counter()
        self.log: Counter[tuple[str, str]] = Counter()
        self.lines: list[Line] = []
        load = scenario.load
        self.client, self.flow = load.client, load.flow
        self.timeout, self.connect_timeout = (
            ns(load.client.timeout_s), ns(load.client.connect_timeout_s),
        )  # fmt: skip
        self.open_loop = is_open_loop(load)
        self.free_users: list[User] = []
        self.users: list[User] = []
        self.most_users = load.max_vus
        self.stations: dict[str, Station] = {}
        self.balancers: dict[str, Balancer] = {}
        self.backends: dict[tuple[str, str], Backend] = {}
        self.ways: dict[str, Way] = {}  # by the edge's name
        self.operations: dict[str, Operation] = {}
        self._build_machines()
        self._build_haproxy()
        self._build_operations()

    # ---- the stack ---------------------------------------------------------------------------
    def _build_machines(self) -> None:
        stack = self.stack
        for host in stack.hosts:
            machine = Machine(host.cores)
            for i in (i for i in stack.instances if i.host == host.name and i.kind == "service"):
                service = stack.service(i.service)
                station = Station(self.clock, self.places, i, service, machine)
                for p in service.pools:
                    station.pools.setdefault(p.to, Pool(p.size + p.overflow, ns(p.wait_s)))
                machine.stations.append(station)
                self.stations[i.name] = station
            most = sum(s.workers for s in machine.stations)  # a quota binds over its period
            for s in machine.stations:
                s.dedicated = most <= host.cores and not s.quota

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

    def _direct(self, source: str, host: str, service: str) -> Backend:
        """The instances of a service, dialled in turn by a caller itself."""
        key = (f"{source}->", service)
        if key not in self.backends:
            backend = self.backends[key] = Backend(self.clock, service, None)
            backend.t_connect = 30 * SECOND
            for i in map(self.stack.instance, self.stations):  # host by host
                if service in (i.service, i.name, i.compose_service):
                    rtt = self._rtt(host or i.host, i.host)
                    station = self.stations[i.name]
                    server = Server(f"{source}->{i.name}", rtt, station, backend)
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
            rows = [Row(number + n, step) for n, step in enumerate([*op.steps, None])]
            number += len(rows)
            self.operations[name] = Operation(name, op.write, rows)
        for name, op in self.operations.items():
            service = name.partition("/")[0]
            for row in op.rows:
                if row.step is not None and row.step.kind == "call":
                    row.backend, callee = self._call_target(service, row.step.target)
                    row.callee = self.operations[f"{callee}/{row.step.op}"]
            route = stack.op_entries.get(name)
            if route and route.balancer:
                op.backend = self.backends[route.balancer, route.backend]
                op.entry = self.ways[f"users->{route.balancer}"]
                op.keep_alive = ns(self._keep_alive(route.balancer, route.frontend))
            elif route:
                op.backend = self._direct("users", "", service)

    def _call_target(self, service: str, target: str) -> tuple[Backend, str]:
        for b in self.stack.balancers:
            for text in b.backends:
                if text.name == target:
                    callee = self.stack.instance(text.servers[0].instance).service
                    return self.backends[b.instance, text.name], callee
        placed = [self.stack.instance(name) for name in self.stations]
        names = [(i.service, i.name, i.compose_service) for i in placed]
        callee = next(n[0] for n in names if target in n)
        host = next((i.host for i in placed if i.service == service), "")
        return self._direct(service, host, target), callee

    def _keep_alive(self, balancer: str, frontend: str) -> float:
        for b in self.stack.balancers:
            for f in b.frontends:
                if (b.instance, f.name) == (balancer, frontend):
                    return 0.0 if f.connection_mode == "close" else f.timeout_http_keep_alive_s
        return INF

    # ---- commands ----------------------------------------------------------------------------
    def command(self, what: str, target: str, *args: Any) -> None:
        """What the control plane does at the present instant."""
        if what != "set_delay":
            self.places.make_room(self.size_needed())
        getattr(self, f"do_{what}")(target, *args)
        self.clock.settle()

    def size_needed(self) -> int:
        """Before a command there is room for a twin of every request, and some more."""
        return len(self.places.holders) + 64

    def do_set_connect(self, way: str, outcome: int) -> None:
        """What a connect meets from now on."""
        edge = self.ways[way]
        edge.connect = outcome
        if outcome == REFUSED and isinstance(edge, Server):
            edge.idle.clear()

    def do_set_delay(self, way: str, extra_s: float) -> None:
        """A longer round trip."""
        self.ways[way].rtt = self.ways[way].plain_rtt + round(extra_s * SECOND)

    def do_set_rotation(self, way: str, usable: bool, running: bool) -> None:
        """In or out of the balancing tree."""
        server = self.ways[way]
        server.backend.set_rotation(server, usable, running)

    def do_set_maxconn(self, way: str, maxconn: int) -> None:
        """Server maxconn."""
        self.ways[way].maxconn = maxconn
        self.ways[way].serve_queue()

    def do_shutdown_sessions(self, way: str) -> None:
        """on-marked-down shutdown-sessions."""
        server = self.ways[way]
        server.backend.shutdown_sessions(server, self.places.alive())

    def do_set_speed(self, instance: str, factor: float) -> None:
        """A slower or faster processor."""
        self.stations[instance].set_speed(factor)

    def do_crash(self, instance: str) -> None:
        """PID 1 exits."""
        if instance in self.stations:
            servers = [w for w in self.ways.values() if isinstance(w, Server)]
            self.stations[instance].crash(servers)
        else:
            self._crash_haproxy(self.balancers[instance], self.ways[f"users->{instance}"])

    def _crash_haproxy(self, balancer: Balancer, way: Way) -> None:
        balancer.life += 1
        victims = [
            r for r in self.places.alive()
            if r.backend and r.backend.balancer is balancer and r.stage != "entry"
        ]  # fmt: skip
        unheard: list[tuple[int, Request]] = []
        for req in victims:
            if not req.at_work:
                req.leave_queue()
        for req in victims:
            if req.gone:
                continue
            req.give_place_back()
            if not req.at_work:
                req.held = None
            if way.connect < SILENT or req.orphan:
                if not req.tell_caller(EOF, same=not req.at_work):
                    req.let_go()
                continue
            lost = req
            if req.at_work:
                lost = req.twin()
                req.let_go()
            lost.haproxy_at = NEVER
            lost.wait(NEVER, lost.enter, "lost")
            unheard.append((max(lost.number, req.number), lost))
        for _, lost in sorted(unheard, key=lambda x: x[0]):
            lost.set_alarm()  # in the order in which a command meets requests
        balancer.connections, balancer.frozen = 0, False
        for way_in in self.ways.values():
            if isinstance(way_in, Server) and way_in.backend.balancer is balancer:
                way_in.idle.clear()

    def do_freeze(self, instance: str) -> None:
        """SIGSTOP."""
        if instance in self.stations:
            self.stations[instance].freeze()
        else:
            self.balancers[instance].frozen = True

    def do_thaw(self, instance: str) -> None:
        """SIGCONT."""
        if instance in self.stations:
            self.stations[instance].thaw()
            return
        balancer = self.balancers[instance]
        balancer.frozen = False
        for req in self.places.alive():
            if req.backend is None or req.backend.balancer is not balancer:
                continue
            if req.overdue:
                req.overdue, req.haproxy_at = False, self.clock.now
                req.set_alarm()
            if req.held and not req.at_work:
                (what, by), req.held = req.held, None
                if req.stage == "connect":
                    req.wait(self.clock.now, what, "connect")
                else:
                    req.soon(what, by)

    # ---- the run -----------------------------------------------------------------------------
    def start_load(self) -> None:
        """The load starts now."""
        self.places.make_room(self.size_needed())
        load, now = self.scenario.load, self.clock.now
        if self.open_loop:
            Arrivals(self, rate_pieces(load, now), load.arrivals == "poisson").set_next()
            return
        for u, spans in enumerate(user_spans(load, now)):
            self.users.append(User(self, u, spans))
            self.clock.set_alarm(self.users[u], spans[0][0])

    def record(self, req: Request, outcome: int) -> None:
        """The end of a user's request."""
        server = req.server.name if req.server else "<NOSRV>"
        self.lines.append(
            Line(
                req.began, self.clock.now, req.operation.name, server, outcome, req.letters,
                req.retries, req.redispatched,
            )
        )  # fmt: skip

    def close_books(self) -> None:
        """The run is over: what is under way counts as interrupted."""
        for req in self.places.alive():
            if req.user is not None and not req.orphan:
                self.record(req, OPEN)
                req.orphan = True
