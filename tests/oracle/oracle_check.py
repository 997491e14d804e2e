"""The oracle's health checks: one fresh connection, no place in queues (haproxy.md section 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oracle_clock import NEVER
from oracle_path import Request
from oracle_random import Demand
from oracle_tcp import CONNECTING, HAPROXY

from hasim.sim.trace import OK

if TYPE_CHECKING:
    from oracle_haproxy import Server
    from oracle_service import Operation

ENTITY = 3 << 40
L4CON, L4TOUT, L7TOUT, L7RSP = -1, -2, -3, -4


class CheckRequest(Request):
    """A health check of one server; its result is (when, which, code)."""

    def __init__(self, sim: Any, server: Server, operation: Operation | None, times: tuple) -> None:
        number = sim.count["checks"]
        sim.count["checks"] += 1
        entity = ENTITY + sim.edge_numbers[server.name]
        super().__init__(sim, operation, Demand(sim.key, number, entity))
        self.backend, self.server, self.which = server.backend, server, number
        connect_by, answer_by, self.answer_within = times
        self.answer_by = answer_by or NEVER
        self.haproxy_at = min(connect_by or NEVER, self.answer_by)
        self.soon(self.dial, HAPROXY)

    def result(self, code: int) -> None:
        """The check is over; what the server still does for it goes on."""
        if not self.orphan:
            self.sim.results.append((self.clock.now, self.which, code))
        if not self.at_work:
            self.next_at = NEVER
        self.let_go()

    def dial(self) -> None:
        """Always a connection of its own."""
        self.present, self.reused = False, False
        self.life = self.server.life
        self.since, self.tries = self.clock.now, 0
        self.knock_server()

    def connect_failed(self, timed_out: bool) -> None:
        """No second try."""
        self.result(L4TOUT if timed_out else L4CON)

    def connected(self) -> None:
        """Connected: enough for a tcp check, else the request goes out."""
        if self.stopped(HAPROXY):
            self.hold(self.connected, HAPROXY, "connect")
            return
        self.next_at, self.tries = NEVER, 0
        if self.operation is None:
            self.result(200)
            return
        self.haproxy_at = self.answer_by
        if self.answer_within:
            self.haproxy_at = self.clock.now + self.answer_within
        self.deliver()

    def done(self) -> None:
        """The answer of a health URL, or 503 if something that it needs has failed."""
        self.present = False
        self.result(self.operation.http if self.outcome == OK else 503)

    def cut(self) -> None:
        """Closed without an answer."""
        self.present = False
        self.result(L7RSP)

    def haproxy_gives_up(self) -> None:
        """Too late."""
        self.haproxy_at = NEVER
        self.held = None if not self.at_work else self.held
        self.result(L4TOUT if self.stage in CONNECTING else L7TOUT)
