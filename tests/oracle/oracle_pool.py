"""The oracle's connections of calling services: pools of them, and sessions through HAProxy.

A Connection leads to one server. It is dead once its server's process has ended or closed it, or
HAProxy has (idle too long, shut down, crashed): the next command on it meets the end of file.

What the specification leaves open is as in SQLAlchemy 2's QueuePool with psycopg or asyncpg, and
as HAProxy does it:

- A connection that could not be made invalidates nothing; one that broke under a command does.
- A connection goes back idle though its generation is old; it is dropped when it is taken.
- tcp_user_timeout is about the caller's own TCP: behind HAProxy its peer is HAProxy, which takes
  the bytes at once, so it never runs out there.
- A ping that runs into tcp_user_timeout found a dead connection; one that runs into
  command_timeout fails the call (asyncio's TimeoutError is none of the DBAPI's errors).
- libpq tries the next host after a refusal, a timeout or a server that it may not write to; one
  that closes before its greeting ends the connect (measured: psql 15).
- A backend of a database whose client went away stays until its query is over.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from oracle_clock import NEVER, SECOND, Clock, Timed

if TYPE_CHECKING:
    from oracle_haproxy import Backend, Server, Way
    from oracle_path import Request
    from oracle_service import Station

RETRIES2 = SECOND * 9246 // 10  # Linux ip-sysctl, tcp_retries2 = 15: 924.6 s


class Connection(Timed):
    """One connection of a caller's process; of a pool, or for one call alone (pool None)."""

    def __init__(self, clock: Clock, backend: Backend, pool: Pool | None) -> None:
        self.clock, self.backend, self.pool = clock, backend, pool
        self.generation = pool.generation if pool else 0
        self.number = -1  # among those of its pool: where a command meets many at one instant
        self.entry: Way | None = None  # the caller's way to HAProxy, in mode tcp
        self.t_connect = NEVER
        self.server: Server | None = None  # None until it is established
        self.life = self.entered = 0  # lives of the server's process and of HAProxy
        self.req: Request | None = None  # whose command is under way
        self.closed = False  # by the caller
        self.lost = False  # by the other side, or over
        self.unwelcome = False  # the database had too many clients
        self.admitted = self.placed = self.counted = False

    @property
    def process_gone(self) -> bool:
        """Has the server's process ended or closed it?"""
        return self.life != self.server.life

    @property
    def gone_at_haproxy(self) -> bool:
        """Has HAProxy closed its end, or is its process gone?"""
        if not self.backend.tcp:
            return False
        return self.lost or (self.admitted and self.backend.balancer.life != self.entered)

    # ---- beginning ---------------------------------------------------------------------------
    def admit(self) -> None:
        """HAProxy has accepted the client's side."""
        self.admitted = True
        self.entered = self.backend.balancer.life

    def establish(self, req: Request) -> None:
        """It leads to a server now; the place that the request holds there is its own."""
        self.server, self.life = req.server, req.life

    def count(self) -> None:
        """The server has a process or a descriptor for it."""
        self.counted = True
        self.server.station.connections += 1

    # ---- between commands --------------------------------------------------------------------
    def rest(self) -> None:
        """A command is over."""
        req, self.req = self.req, None
        if req.slotted:
            req.slotted, self.placed = False, True

    def idle(self) -> None:
        """Its pool has it back: HAProxy's timer runs (from here, if the caller was stopped)."""
        if self.process_gone or self.gone_at_haproxy:
            return
        if self.backend.t_idle < NEVER:
            self.clock.set_alarm(self, self.clock.now + self.backend.t_idle)

    def use(self, req: Request) -> None:
        """A command is about to be sent."""
        self.req = req
        req.server, req.life = self.server, self.life
        if self.placed:
            req.slotted, self.placed = True, False
        self.clock.set_alarm(self, NEVER)

    def ring(self) -> None:
        """Idle for too long; a stopped HAProxy looks at its timers when it runs again."""
        if self.lost or self.req is not None:
            return
        if self.backend.balancer.frozen:
            self.backend.balancer.overdue.append(self)
        else:
            self.end_session()

    # ---- the end -----------------------------------------------------------------------------
    def close(self) -> None:
        """The caller closes it; behind HAProxy a command that is under way still ends first."""
        self.closed = True
        if self.req is None or self.req.gone or self.req.zombie:
            self.end_session()

    def finish(self) -> None:
        """It is closed on both sides."""
        self.closed = True
        self.end_session()

    def end_session(self) -> None:
        """The other side closes: the place on the server and among the clients is free."""
        self.lost = True
        self.clock.set_alarm(self, NEVER)
        self.leave_server()
        if self.placed:
            self.placed = False
            self.server.served -= 1
            self.backend.touch(self.server)
            self.server.serve_queue()
        if self.admitted:
            self.admitted = False
            if self.backend.balancer.life == self.entered:
                self.backend.balancer.leave()

    def leave_server(self) -> None:
        """The server's process for it ends, unless it has work: then after it."""
        if self.counted and not (self.req is not None and self.req.at_work):
            self.counted = False
            if not self.process_gone:
                self.server.station.connections -= 1


class Pool:
    """A connection pool of one instance (SQLAlchemy's QueuePool)."""

    def __init__(self, station: Station, size: int, overflow: int, wait: int) -> None:
        self.station, self.size, self.limit, self.wait = station, size, size + overflow, wait
        self.to, self.pre_ping = "", False
        self.command_timeout = self.user_timeout = NEVER
        self.all_at_once = True  # on_disconnect: invalidate-all
        self.generation = 0
        self.open = 0  # idle, in use, and being made
        self.idle: deque[Connection] = deque()
        self.numbers = list(range(self.limit - 1, -1, -1))  # the last given back is the next
        self.waiting: deque[Request] = deque()
        self.waits: list[int] = []  # for a connection, in vain or not, in ns

    def take(self) -> tuple[bool, Connection | None]:
        """Is there room, and the oldest idle connection that is still good."""
        while self.idle:
            found = self.idle.popleft()
            if found.generation == self.generation:
                return True, found
            found.close()
            self.forget(found)
        if self.open < self.limit:
            self.open += 1
            return True, None
        return False, None

    def make(self, clock: Clock, backend: Backend) -> Connection:
        """One that is to be opened."""
        conn = Connection(clock, backend, self)
        conn.number = self.numbers.pop()
        return conn

    def forget(self, conn: Connection) -> None:
        """It is closed."""
        self.open -= 1
        self.numbers.append(conn.number)

    def give_back(self, conn: Connection | None, broken: bool) -> None:
        """A call is over; None: it went to HAProxy as one of many HTTP requests."""
        if conn is None:
            self.open -= 1
            self.serve()
            return
        if broken and conn.server is not None and not conn.unwelcome:
            self.invalidate()
        if conn.closed or broken or len(self.idle) >= self.size:
            conn.close()
            self.forget(conn)
        else:
            self.idle.append(conn)
            conn.idle()
        self.serve()

    def invalidate(self) -> None:
        """One connection broke: all that were made before are as good as broken."""
        if self.all_at_once:
            self.generation += 1

    def serve(self) -> None:
        """Whoever waits first goes on, if its process runs."""
        while self.waiting and not self.station.frozen:
            there_is, conn = self.take()
            if not there_is:
                return
            other = self.waiting[0]
            other.leave_queue()
            other.next_at = NEVER
            other.clock.set_alarm(other, NEVER)
            other.place_call(self, conn)

    def reset(self) -> None:
        """The caller's process is gone."""
        while self.idle:
            conn = self.idle.popleft()
            conn.close()
            self.forget(conn)
