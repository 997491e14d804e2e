"""The oracle's HAProxy: server lines, backends, balancing (reference/haproxy.md section 3)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from oracle_clock import NEVER, SECOND, Clock

from hasim.sim.trace import EOF, HTTP_502

if TYPE_CHECKING:
    from oracle_path import Request
    from oracle_pool import Connection
    from oracle_service import Station

PURGE_DELAY = 5 * SECOND
CONNECTS, REFUSED, SILENT, NO_ROUTE = range(4)


class Balancer:
    """One HAProxy process: how many client connections it takes, and whether it lives."""

    def __init__(self, name: str, maxconn: int) -> None:
        self.name, self.maxconn = name, maxconn or 1 << 30
        self.connections = 0
        self.backlog: deque[Request] = deque()
        self.overdue: list[Connection] = []  # idle for too long while HAProxy was stopped
        self.frozen = False
        self.life = 0  # grows with each crash

    def leave(self) -> None:
        """One client connection fewer: the backlog's first takes its place."""
        self.connections -= 1
        if self.backlog:
            req = self.backlog[0]
            req.leave_queue()
            req.clock.set_alarm(req, NEVER)
            req.next_at = NEVER
            self.connections += 1
            if req.conn is not None:
                req.conn.admit()
                req.soon(req.let_in, "haproxy")
            else:
                req.soon(req.accepted, "haproxy")


class Way:
    """How a peer is reached: what a connect meets, and the round trip."""

    def __init__(self, name: str, rtt: int, balancer: Balancer | None = None) -> None:
        self.name, self.rtt, self.balancer = name, rtt, balancer
        self.plain_rtt = rtt
        self.connect = REFUSED


class Server(Way):
    """A `server` line (or an instance that a caller dials itself)."""

    def __init__(self, name: str, rtt: int, station: Station, backend: Backend) -> None:
        super().__init__(name, rtt)
        self.station, self.backend = station, backend
        self.usable = self.running = not backend.is_haproxy
        self.backup = False
        self.weight = 16  # in sixteenths
        self.maxconn = self.maxqueue = 0
        self.served = 0
        self.idle: deque[int] = deque()  # kept connections: the life of the process behind each
        self.most_used = self.need = self.purged_at = 0
        self.life = 0
        self.waiting: deque[Request] = deque()
        self.next_turn = 0.0  # roundrobin
        self.moved = 0  # leastconn: a server that is used moves behind its equals

    @property
    def full(self) -> bool:
        """No place for one more request now."""
        return self.maxconn > 0 and (self.served >= self.maxconn or bool(self.waiting))

    def purge_idle(self, now: int) -> None:
        """Every pool-purge-delay half of the idle connections beyond the need is closed (4.8)."""
        self.most_used = max(self.most_used, self.served)
        while now - self.purged_at >= PURGE_DELAY:
            self.purged_at += PURGE_DELAY
            excess = self.served + len(self.idle) - max(self.most_used, self.need)
            for _ in range(min(len(self.idle), max(0, (excess + 1) // 2))):
                self.idle.popleft()
            self.need = max((self.need + self.most_used) // 2, self.most_used)
            self.most_used = self.served

    def serve_queue(self) -> None:
        """Room: first its own queue, then the backend's if it may get requests at all."""
        while self.maxconn == 0 or self.served < self.maxconn:
            queue = self.waiting
            if not queue and self in self.backend.eligible():
                queue = self.backend.waiting
            if not queue:
                return
            req = queue[0]
            req.leave_queue()
            req.clock.set_alarm(req, NEVER)
            req.haproxy_at = NEVER
            req.take_place(self)
            req.soon(req.dial, "haproxy")


class Backend:
    """Servers, their balancing, and the settings of the way to them."""

    def __init__(self, clock: Clock, name: str, balancer: Balancer | None) -> None:
        self.clock, self.name, self.balancer = clock, name, balancer
        self.is_haproxy = balancer is not None
        self.servers: list[Server] = []
        self.algorithm = "roundrobin"
        self.retries = 0
        self.redispatch = False
        self.interval = -1
        self.retry_on: set[str] = set()
        self.reuse = "never"
        self.tcp = self.wants_primary = False
        self.fresh = False  # each call without a pool makes a connection
        self.entries: dict[str, Way] = {}  # of calling instances to HAProxy in mode tcp
        self.discovery = ""  # of a direct way: "multihost" | "sentinel"
        self.allbackups = self.abortonclose = self.no_post_replay = False
        self.close_by_server_reuse = False  # HAProxy 3.0
        self.t_connect = self.t_server = self.t_queue = NEVER
        self.t_idle = NEVER  # of a session in mode tcp
        self.waiting: deque[Request] = deque()
        self.position = {False: 0.0, True: 0.0}  # roundrobin: actives and backups turn apart
        self.moves = 0

    # ---- who may get requests ----------------------------------------------------------------
    def active(self) -> list[Server]:
        """Servers in rotation that are no backups."""
        return [s for s in self.servers if s.usable and not s.backup]

    def eligible(self) -> list[Server]:
        """Active servers; without one the first usable backup, or all with allbackups."""
        backups = [s for s in self.servers if s.usable and s.backup]
        return self.active() or (backups if self.allbackups else backups[:1])

    def choose(self, req: Request, avoid: Server | None) -> Server | None:
        """The server for a request; None: all are full."""
        able = self.eligible()
        if self.algorithm == "source":
            return self._by_source(able, req)
        room = [s for s in able if not s.full]
        room = [s for s in room if s is not avoid] or room
        if not room:
            return None
        if self.algorithm == "first":
            return room[0]
        if self.algorithm == "leastconn":
            return min(room, key=self._load)
        return self._turn(able, room)

    def _turn(self, able: list[Server], room: list[Server]) -> Server:
        """Weighted turns, total weight / own weight apart.

        Who is passed over (full, or to be avoided) loses the turn that it had (lb_fwrr.c).
        """
        best = min(room, key=lambda s: s.next_turn)
        group = [s for s in self.servers if s.usable and s.backup == best.backup]
        total = sum(s.weight for s in group)
        in_order = sorted(able, key=lambda s: s.next_turn)
        self.position[best.backup] = best.next_turn
        for s in in_order[: in_order.index(best) + 1]:
            s.next_turn += total / s.weight
        return best

    @staticmethod
    def _load(s: Server) -> tuple[float, int]:
        n = s.served + len(s.waiting)
        return (n + 1) / s.weight if n else 0.0, s.moved

    @staticmethod
    def _by_source(able: list[Server], req: Request) -> Server:
        """The client's number over the total weight: room or not, it is this server."""
        number = ((req.demand.entity * 0x9E3779B97F4A7C15) & ((1 << 64) - 1)) >> 33
        place = number % sum(s.weight for s in able)
        for s in able:
            place -= s.weight
            if place < 0:
                return s
        raise AssertionError("a place beyond the last server")

    def touch(self, server: Server) -> None:
        """A server got or lost a request, or came back."""
        self.moves += 1
        server.moved = self.moves

    def set_rotation(self, server: Server, usable: bool, running: bool) -> None:
        """A server enters or leaves the rotation (section 2)."""
        entered, left = usable and not server.usable, server.usable and not usable
        server.running = running
        if entered:
            others = [
                s for s in self.servers
                if s.usable and s.backup == server.backup and s is not server
            ]  # fmt: skip
            rest = sum(s.weight for s in others)
            start = self.position[server.backup]
            server.next_turn = start + (rest + server.weight) / server.weight
            self.touch(server)
        server.usable = usable
        if entered:
            server.serve_queue()
        while left and self.redispatch and server.waiting:
            req = server.waiting[0]
            req.leave_queue()
            req.server, req.haproxy_at = None, NEVER
            req.soon(req.route, "haproxy")

    def shutdown_sessions(self, server: Server, requests: list[Request], idle: list) -> None:
        """on-marked-down shutdown-sessions (section 2)."""
        for req in requests:
            if req.gone or req.server is not server:
                continue
            if req.conn is not None and req.conn.server is server:
                req.session_shut()
                continue
            if not req.slotted:
                continue
            waits = req.at_work or req.stage in ("sending", "answering", "lost")
            connecting = req.stage in ("syn", "neighbour", "connect")
            if waits or (connecting and req.reused):
                req.answer(HTTP_502, "502 DH--")
            elif connecting and req.retries == 0:
                req.answer(EOF, "eof D---")
            else:
                req.doomed = True
        for session in idle:
            if session.server is server:
                session.end_session()
