"""The oracle's request over a connection of its caller's: opened for it, or out of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oracle_clock import NEVER
from oracle_haproxy import CONNECTS, NO_ROUTE, REFUSED
from oracle_pool import RETRIES2, Connection
from oracle_tcp import CLIENT, FIRST_RTO, HAPROXY, NEIGHBOUR_FAILS, SERVICE, syn_at

from hasim.sim.trace import APP_5XX, CLIENT_4XX, EOF, NO_ENTRY, OK, TIMEOUT

if TYPE_CHECKING:
    from oracle_path import Request


class Over:
    """The part of a Request that has a Connection."""

    # ---- the caller's way to HAProxy ---------------------------------------------------------
    def knock_haproxy(self: Request) -> None:
        """One packet of the caller's to HAProxy: a SYN, or bytes on a connection that is there."""
        entry, now = self.conn.entry, self.clock.now
        self.stage = "entry"
        if entry.connect == REFUSED:
            self.no_haproxy()
        elif entry.connect == NO_ROUTE and not self.reused:
            self.wait(now + NEIGHBOUR_FAILS, self.no_haproxy, "entry")
        elif entry.connect != CONNECTS:
            again = self.since + syn_at(self.tries)
            if self.reused:
                again = now + (FIRST_RTO << min(self.tries, 10))
            self.tries += 1
            self.wait(again, self.knock_haproxy, "entry")
        elif entry.rtt == 0:
            self.at_haproxy()
        else:
            self.wait(now + entry.rtt * (1 if self.reused else 2), self.at_haproxy, "entry")

    def no_haproxy(self: Request) -> None:
        """It refuses, is not there, or is silent for too long."""
        self.next_at = self.haproxy_at = NEVER
        if self.pinging:
            self.ping_failed()
        else:
            self.answer(NO_ENTRY, "")

    def at_haproxy(self: Request) -> None:
        """A new connection needs a place among maxconn, else it stays in the backlog."""
        if self.conn.entry.connect != CONNECTS:
            self.knock_haproxy()
            return
        self.next_at = self.haproxy_at = NEVER
        balancer = self.backend.balancer
        if self.reused and self.conn.gone_at_haproxy:
            self.sim.count["used after HAProxy closed"] += 1
            self.soon(self.cut, CLIENT)  # its socket is closed, whatever its process does now
        elif self.reused:
            self.soon(self.pass_on, HAPROXY)
        elif balancer.connections >= balancer.maxconn:
            self.wait_in(balancer.backlog, "backlog")
        else:
            balancer.connections += 1
            self.conn.admit()
            self.soon(self.route, HAPROXY)

    def let_in(self: Request) -> None:
        """Out of the backlog; its caller may be dead by now."""
        if self.orphan:
            self.conn.finish()
            self.let_go()
        else:
            self.soon(self.route, HAPROXY)

    def pass_on(self: Request) -> None:
        """Bytes of a session for its server."""
        server, now = self.server, self.clock.now
        if self.conn.gone_at_haproxy:
            self.soon(self.cut, HAPROXY)
        elif server.rtt and server.connect == CONNECTS:
            self.haproxy_at = NEVER
            self.wait(now + server.rtt, self.connected, "over")
        else:
            self.connected()

    # ---- a new connection --------------------------------------------------------------------
    def open(self: Request) -> None:
        """The caller connects: through HAProxy, to the first host that fits, or in turn."""
        if self.backend.tcp:
            self.since, self.tries = self.clock.now, 0
            self.haproxy_at = self.clock.now + self.conn.t_connect
            self.knock_haproxy()
        elif self.backend.discovery == "multihost":
            self.hosts = list(self.backend.servers)
            self.try_host()
        else:
            self.route()

    def next_host(self: Request) -> None:
        """libpq tries the hosts of its list in their order (postgres-patroni.md section 4)."""
        self.sim.count["next hosts"] += 1
        self.give_place_back()
        self.conn.server = None
        self.held, self.fresh = None, False
        self.next_at = self.haproxy_at = self.conn_at = NEVER
        if self.hosts:
            self.soon(self.try_host, HAPROXY)
        else:
            self.answer(NO_ENTRY, "")

    def try_host(self: Request) -> None:
        """The first of the hosts that are left."""
        self.take_place(self.hosts.pop(0))
        self.dial()

    # ---- a connection that is there ----------------------------------------------------------
    def use(self: Request) -> None:
        """Take an idle connection of the pool."""
        self.reused, self.pinging = True, self.conn.pool.pre_ping
        self.send_over()

    def send_over(self: Request) -> None:
        """A command (or a ping) leaves over a connection that is there."""
        self.tries = 0
        self.command_at = self.conn_at = self.clock.now + self.conn.pool.command_timeout
        if self.backend.tcp:
            limit = min(self.conn.pool.user_timeout, RETRIES2)
            self.haproxy_at = self.clock.now + limit
            self.knock_haproxy()
        else:
            self.pass_on()

    def written(self: Request) -> None:
        """HAProxy passes bytes on, or the caller's own TCP does: a command reaches the server."""
        conn, now = self.conn, self.clock.now
        self.next_at, self.tries = NEVER, 0
        if conn.server is None:
            conn.establish(self)
            self.fresh = True
            self.command_leaves()
        if not (self.fresh and self.backend.discovery == "multihost"):
            self.haproxy_at = NEVER
        if self.backend.tcp:
            self.haproxy_at = now + self.backend.t_idle
        self.deliver()

    def command_leaves(self: Request) -> None:
        """On a new connection the command has followed the connect half way."""
        if self.conn.pool is not None and not self.orphan:
            sent = self.clock.now - self.server.rtt
            self.command_at = self.conn_at = sent + self.conn.pool.command_timeout

    def unanswered(self: Request) -> None:
        """The first bytes that TCP repeats: it gives up after its own time."""
        if self.tries == 0 and not self.backend.tcp:
            limit = min(self.conn.pool.user_timeout if self.conn.pool else NEVER, RETRIES2)
            self.conn_at = min(self.conn_at, self.clock.now + limit)

    def reaches_server(self: Request) -> None:
        """The ping, the greeting of a new connection, or the command is there."""
        station = self.server.station
        self.conn_at = self.command_at
        waits_for_greeting = self.fresh and self.backend.discovery == "multihost"
        if station.frozen and (self.pinging or waits_for_greeting):
            self.sim.count["greetings awaited"] += 1
            station.greeted.append(self)
            if self.fresh:  # no command has left yet
                self.conn_at = self.command_at = NEVER
            self.hold(self.greeted, SERVICE, "ping")
        elif self.pinging and self.orphan:  # nobody waits for the pong: no command follows
            self.give_place_back()
            self.conn.finish()
            self.let_go()
        elif self.pinging:
            self.pinging = False
            self.send_over()
        elif self.fresh:
            self.fresh = False
            self.first_command()
        else:
            station.take_in(self)

    def greeted(self: Request) -> None:
        """The server's process runs again: it answers."""
        self.leave_greeted()
        if self.fresh:
            self.command_leaves()
        self.reaches_server()

    def leave_greeted(self: Request) -> None:
        """It waits for no greeting."""
        if self.server is not None and self in self.server.station.greeted:
            self.server.station.greeted.remove(self)

    def first_command(self: Request) -> None:
        """A new connection: is there room for it, and is it what the caller looks for?"""
        station = self.server.station
        if self.backend.discovery == "multihost":
            self.haproxy_at = NEVER
            if self.backend.wants_primary and not station.writable:
                self.next_host()
                return
        full = station.most_connections and station.connections >= station.most_connections
        if full and not station.frozen:
            station.refusals.append(self.clock.now)
            self.conn.unwelcome, self.outcome = True, APP_5XX
            self.done()
            return
        self.conn.count()
        station.take_in(self)

    def ping_failed(self: Request) -> None:
        """The pool discards what was dead and opens a new connection; the caller sees nothing."""
        if self.orphan:
            self.pinging = False
            self.answer(EOF, "")
            return
        pool = self.conn.pool
        self.sim.count["pings failed"] += 1
        self.leave_greeted()
        self.pinging, self.held = False, None
        self.next_at = self.haproxy_at = self.conn_at = self.command_at = NEVER
        pool.invalidate()
        entry, t_connect = self.conn.entry, self.conn.t_connect
        self.conn.finish()
        self.give_place_back()
        number = self.conn.number
        self.conn = Connection(self.clock, self.backend, pool)
        self.conn.number = number
        self.conn.entry, self.conn.t_connect, self.conn.req = entry, t_connect, self
        if self.parent is not None:
            self.parent.leased = self.conn
        self.server, self.reused = None, False
        self.soon(self.open, HAPROXY)

    # ---- the end -----------------------------------------------------------------------------
    def connection_gives_up(self: Request) -> None:
        """command_timeout, tcp_user_timeout, or the last retransmit of TCP."""
        timed_out = self.command_at <= self.clock.now
        self.sim.count["command timeouts" if timed_out else "user timeouts"] += 1
        self.conn_at = NEVER
        if self.pinging and not timed_out:
            self.ping_failed()
        else:
            self.caller_gives_up()

    def rests(self: Request, outcome: int) -> bool:
        """The caller has its answer: is the connection idle now, or will it be closed?"""
        conn = self.conn
        good = outcome in (OK, APP_5XX, CLIENT_4XX) and not conn.unwelcome
        if self.parent is not None:
            self.parent.broken = not good
        if good and conn.pool is not None and not conn.closed:
            conn.rest()
            return True
        return False

    def call_given_up(self: Request) -> None:
        """Its caller closes the connection under its command.

        HAProxy passes the end on and keeps the session until the server has answered (measured:
        HAProxy 2.6.12, mode tcp, without abortonclose; a queued one waits on, too).
        """
        early = self.stage in ("entry", "backlog")
        if self.parent is not None:
            self.parent.broken = True
        self.tell_caller(TIMEOUT, same=False)
        self.caller_at = self.conn_at = NEVER
        if self.backend.tcp and not early and not self.backend.abortonclose:
            self.conn.closed = True
            if self.stage == "lost" and self.conn.gone_at_haproxy:
                self.let_go()
            else:
                self.set_alarm()
            return
        if self.backend.tcp and not early:
            self.log("-1 C---")
        self.leave_queue_of_haproxy()
        self.give_place_back()
        self.leave_greeted()
        self.conn.finish()
        self.let_go()

    def session_shut(self: Request) -> None:
        """on-marked-down shutdown-sessions, under a command (or while it is on its way there)."""
        if self.stage == "entry":
            self.give_place_back()
            self.conn.end_session()
        elif self.pinging:
            self.ping_failed()
        else:
            self.answer(EOF, "502 DH--")

    def session_idle(self: Request) -> None:
        """No byte either way for too long: HAProxy closes both sides, command or not."""
        self.sim.count["cut under a command"] += 1
        if self.pinging:
            self.ping_failed()
        else:
            self.answer(EOF, "504 sH--")
