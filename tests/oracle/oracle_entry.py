"""The oracle's request on its way into HAProxy: the client's connection to the entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oracle_clock import NEVER
from oracle_haproxy import CONNECTS, REFUSED
from oracle_tcp import FIRST_RTO, HAPROXY, syn_at

from hasim.sim.trace import EOF, NO_ENTRY

if TYPE_CHECKING:
    from oracle_path import Request


class Entry:
    """The part of a Request between its client and the frontend."""

    def enter(self: Request) -> None:
        """The client sends: over its kept connection to the way in, or over a new one."""
        user, entry = self.user, self.operation.entry
        self.backend, self.haproxy_at, self.tries = self.operation.backend, NEVER, 0
        if entry is None:
            if self.sim.client.keep_alive:
                self.later = user.connection is self.backend
                if not self.later:
                    user.hang_up()
                user.connection = self.backend
            self.soon(self.route, HAPROXY)
            return
        if user.connection is not None:
            quiet = self.clock.now - user.last_answer
            alive = user.connection is entry and user.life == entry.balancer.life
            if alive and quiet <= self.operation.keep_alive:
                self.later = True
            else:
                user.hang_up()
        self.since = self.clock.now
        if not self.later:
            self.haproxy_at = self.clock.now + self.sim.connect_timeout
        self.knock_entry()

    def knock_entry(self: Request) -> None:
        """One packet to the way in."""
        entry, now = self.operation.entry, self.clock.now
        self.stage = "entry"
        if entry.connect == REFUSED:
            self.entry_fails(NO_ENTRY)
        elif entry.connect != CONNECTS:
            again = self.since + syn_at(self.tries)
            if self.later:
                again = now + (FIRST_RTO << min(self.tries, 10))
            self.tries += 1
            self.wait(again, self.knock_entry, "entry")
        elif entry.rtt == 0:
            self.arrive_at_entry()
        else:
            way = entry.rtt if self.later else 2 * entry.rtt
            self.wait(now + way, self.arrive_at_entry, "entry")

    def entry_fails(self: Request, outcome: int) -> None:
        """The way in refused, reset, or stayed silent for the client's connect timeout."""
        self.server = None
        self.next_at = self.haproxy_at = NEVER
        if not self.tell_caller(outcome, same=True):
            self.let_go()

    def arrive_at_entry(self: Request) -> None:
        """A new client connection needs a place among maxconn, else it stays in the backlog."""
        entry = self.operation.entry
        if entry.connect != CONNECTS:
            self.knock_entry()
            return
        balancer = entry.balancer
        if self.later and self.user.life != balancer.life:
            self.entry_fails(EOF)  # the process that had this connection is dead: reset
            return
        self.next_at = self.haproxy_at = NEVER
        if self.later:
            self.soon(self.route, HAPROXY)
        elif balancer.connections >= balancer.maxconn:
            self.wait_in(balancer.backlog, "backlog")
        else:
            balancer.connections += 1
            self.accepted()

    def accepted(self: Request) -> None:
        """HAProxy has the connection."""
        entry = self.operation.entry
        if self.orphan:
            entry.balancer.leave()
            self.let_go()
            return
        self.user.connection, self.user.life = entry, entry.balancer.life
        self.soon(self.route, HAPROXY)
