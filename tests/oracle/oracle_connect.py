"""The oracle's request and its server: which one, and the connect to it (sections 3 and 4)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from oracle_clock import NEVER, SECOND
from oracle_haproxy import CONNECTS, NO_ROUTE, REFUSED, SILENT, Server
from oracle_tcp import HAPROXY, NEIGHBOUR_FAILS, syn_at

from hasim.sim.trace import EOF, HTTP_503, NO_ENTRY

if TYPE_CHECKING:
    from oracle_path import Request


class Connect:
    """The part of a Request from the choice of a server to the connect."""

    # ---- which server ------------------------------------------------------------------------
    def route(self: Request, avoid: Server | None = None) -> None:
        """Choose a server, or wait for one."""
        backend = self.backend
        if not backend.eligible():
            self.server = None
            self.answer(self.refusal(), "503 SC-- NOSRV")
            return
        server = backend.choose(self, avoid)
        if server is not None and server is avoid:  # the only one: no redispatch after all
            self.redispatched = False
            self.sim.count["redispatches"] -= 1
        if server is None:
            self.server = None
            self.queue_up(backend.waiting)
        elif server.full:
            self.server = server
            if server.maxqueue and len(server.waiting) >= server.maxqueue:
                self.answer(self.refusal(), "503 SQ--")
            else:
                self.queue_up(server.waiting)
        else:
            self.take_place(server)
            self.dial()

    def refusal(self: Request) -> int:
        """What a caller gets that reached no server; without HTTP its connection is closed."""
        if self.backend.tcp:
            return EOF
        return HTTP_503 if self.backend.is_haproxy else NO_ENTRY

    def queue_up(self: Request, queue: deque) -> None:
        """Wait in HAProxy, `timeout queue` at most."""
        self.next_at = NEVER
        self.haproxy_at = self.clock.now + self.backend.t_queue
        self.wait_in(queue, "queue")

    def take_place(self: Request, server: Server) -> None:
        """One of the server's places is this request's."""
        self.server, self.slotted = server, True
        server.served += 1
        self.backend.touch(server)

    def give_place_back(self: Request) -> None:
        """And is free again."""
        if self.slotted:
            self.slotted = False
            self.server.served -= 1
            self.backend.touch(self.server)
            self.server.serve_queue()

    # ---- connect -----------------------------------------------------------------------------
    def dial(self: Request) -> None:
        """Connect to the assigned server, or take an idle connection to it (section 4.8)."""
        server, backend = self.server, self.backend
        self.present = False
        self.life = server.life
        if self.conn is not None:
            self.reused = False
        elif not backend.is_haproxy:
            kept = self.later and server.connect != REFUSED
            self.reused = kept or (self.parent is not None and server.connect == CONNECTS)
        else:
            allowed = backend.reuse == "always" or (backend.reuse == "safe" and self.later)
            self.reused = bool(server.idle) and allowed
            if self.reused:
                self.life = server.idle.popleft()
        if self.reused:
            if server.rtt and server.connect == CONNECTS:
                self.haproxy_at = NEVER
                self.wait(self.clock.now + server.rtt, self.connected, "connect")
            else:
                self.connected()
            return
        self.since, self.tries = self.clock.now, 0
        if backend.t_connect < NEVER:
            self.haproxy_at = self.clock.now + backend.t_connect
        self.knock_server()

    def knock_server(self: Request) -> None:
        """One SYN to the server."""
        server, now = self.server, self.clock.now
        meets = server.connect
        if meets == CONNECTS and server.station.listen_backlog_full:
            meets = SILENT  # a full listen backlog drops SYNs
        if meets == CONNECTS:
            if server.rtt:
                self.wait(now + 2 * server.rtt, self.connected, "connect")
            else:
                self.connected()
        elif meets == REFUSED:
            self.soon(lambda: self.connect_failed(False), HAPROXY)
        elif meets == NO_ROUTE:
            self.wait(now + NEIGHBOUR_FAILS, self._no_neighbour, "neighbour")
        else:
            again = self.since + syn_at(self.tries)
            self.tries += 1
            self.wait(again, self.knock_server, "syn")

    def _no_neighbour(self: Request) -> None:
        self._take_turn(lambda: self.connect_failed(False), HAPROXY)

    def connect_failed(self: Request, timed_out: bool) -> None:
        """Sections 4.1 to 4.4: try again here, elsewhere, or give up."""
        backend = self.backend
        self.next_at = self.haproxy_at = NEVER
        if not backend.is_haproxy:
            if backend.discovery == "multihost":
                self.next_host()
            else:
                self.answer(NO_ENTRY, "")
            return
        self.first_error = self.first_error or ("sC" if timed_out else "SC")
        if self.retries >= backend.retries or "conn-failure" not in backend.retry_on:
            if self.doomed:
                self.answer(self.refusal(), "503 DC--")
            elif self.first_error == "sC" and self.later:
                self.answer(EOF, "eof sC--")
            else:
                self.answer(self.refusal(), f"503 {self.first_error}--")
            return
        self.retries += 1
        self.sim.count["retries"] += 1
        active = len(backend.active())
        pause = not timed_out and not self.reused
        if self.wants_another_server(active):
            failed = self.server
            self.give_place_back()
            self.redispatched = True
            self.sim.count["redispatches"] += 1
            if pause and active <= 1:
                self.turn_around(lambda: self.route(failed))
            else:
                self.route(failed)
        elif pause:
            self.turn_around(self.dial)
        else:
            self.soon(self.dial, HAPROXY)

    def wants_another_server(self: Request, active: int) -> bool:
        """Section 4.3."""
        backend = self.backend
        if not backend.redispatch:
            return False
        if not self.server.running or (active > 1 and backend.algorithm != "source"):
            return True
        every = backend.interval
        if every < 0:  # -1: the last retry, -2: the one before
            every = backend.retries + 1 + every
        return every > 0 and self.retries % every == 0

    def turn_around(self: Request, then: Callable[[], None]) -> None:
        """min(1 s, timeout connect) before the next try."""
        pause = min(SECOND, self.backend.t_connect)
        self.wait(self.clock.now + pause, lambda: self._take_turn(then, HAPROXY), "turn")
