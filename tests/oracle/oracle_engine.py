"""The oracle: the request path of a Stack under a Scenario, event by event in plain Python.

A second implementation of what hasim/sim/kernel does, for tests: same files' meaning in, same
random numbers, the same requests out. It knows no control plane: commands come by the clock.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from oracle_build import Build, ns
from oracle_check import CheckRequest
from oracle_client import Arrivals, User
from oracle_clock import NEVER, SECOND, Clock
from oracle_haproxy import REFUSED, SILENT, Backend, Balancer, Server, Way
from oracle_path import Request
from oracle_pool import Connection, Pool
from oracle_random import Demand
from oracle_service import Operation, Station

from hasim.model import Stack
from hasim.scenario import Scenario
from hasim.sim.trace import EOF, OPEN
from hasim.sim.traffic import is_open_loop, rate_pieces, user_spans


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


class Oracle(Build):
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
        self.results: list[tuple[int, int, int]] = []  # of health checks: when, which, code
        self.edge_numbers: dict[str, int] = {}  # the draws of a check go by them
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
        self.pools: list[Pool] = []
        self.ways: dict[str, Way] = {}  # by the edge's name
        self.operations: dict[str, Operation] = {}
        self.health: dict[tuple[str, str], Operation] = {}  # by instance and URL
        self._build_machines()
        self._build_haproxy()
        self._build_operations()
        self._build_health()

    def nested(self, operation: Operation, demand: Demand) -> Request:
        """A call inside of a request."""
        return Request(self, operation, demand)

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
        server.backend.shutdown_sessions(server, self.places.alive(), self.idle_connections())

    def idle_connections(self) -> list[Connection]:
        """Those that pools keep and that nobody has seen closing, in a fixed order."""
        kept = [c for pool in self.pools for c in sorted(pool.idle, key=lambda c: c.number)]
        return [c for c in kept if not c.lost]

    def do_set_speed(self, instance: str, factor: float) -> None:
        """A slower or faster processor."""
        self.stations[instance].set_speed(factor)

    def do_crash(self, instance: str) -> None:
        """PID 1 exits."""
        if instance in self.stations:
            self.stations[instance].crash(self._servers(), self.idle_connections())
        else:
            self._crash_haproxy(self.balancers[instance], self.ways[f"users->{instance}"])

    def do_check(self, way: str, kind: str, url: str, *times: int) -> None:
        """One health check; its deadlines are absolute, but the last counts from the connect."""
        server = self.ways[way]
        operation = self.health[server.station.name, url] if kind == "http" else None
        CheckRequest(self, server, operation, times)

    def do_cut(self, instance: str) -> None:
        """The process closes all connections and goes on."""
        self.stations[instance].cut(self._servers(), self.idle_connections())

    def _servers(self) -> list[Server]:
        return [w for w in self.ways.values() if isinstance(w, Server)]

    def do_set_writable(self, instance: str, on: bool) -> None:
        """A write is answered with an error, or is not."""
        self.stations[instance].writable = on

    def do_set_commit(self, instance: str, extra_s: float | None) -> None:
        """A commit waits longer, or until told (None)."""
        self.stations[instance].set_commit(None if extra_s is None else ns(extra_s))

    def _crash_haproxy(self, balancer: Balancer, way: Way) -> None:
        balancer.life += 1
        victims = [
            r for r in self.places.alive()
            if r.backend and r.backend.balancer is balancer and r.stage != "entry"
            and not isinstance(r, CheckRequest)
        ]  # fmt: skip
        unheard: list[tuple[int, Request]] = []
        for req in victims:
            if not req.at_work:
                req.leave_queue()
        for session in self.idle_connections():
            if session.backend.balancer is balancer:
                session.end_session()
        for req in victims:
            if req.gone:
                continue
            req.give_place_back()
            if req.conn is not None:
                req.conn.end_session()
            if not req.at_work:
                req.held = None
            if way.connect < SILENT or req.orphan:
                if req.parent is not None:
                    req.parent.broken = True
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
        for session in balancer.overdue:
            self.clock.set_alarm(session, self.clock.now)  # bytes that wait for it come first
        balancer.overdue.clear()
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
