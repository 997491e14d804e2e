"""The oracle's request: one attempt of a user (or of a calling service), from sending to answer.

reference/haproxy.md sections 2-4 in small steps. A request waits for one thing at a time
(`next_at`, `then`) while one deadline of HAProxy and one of its caller may run. Whose turn a step
is (`by`) decides what a stopped process holds back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from oracle_clock import NEVER, Timed
from oracle_connect import Connect
from oracle_entry import Entry
from oracle_haproxy import REFUSED, SILENT, Server
from oracle_over import Over
from oracle_tcp import CONNECTING, FIRST_RTO, HAPROXY, SERVICE
from oracle_work import Work

from hasim.sim.trace import (
    APP_5XX,
    CLIENT_4XX,
    EOF,
    HTTP_502,
    HTTP_503,
    HTTP_504,
    NO_ENTRY,
    OK,
    TIMEOUT,
)

if TYPE_CHECKING:
    from oracle_haproxy import Backend
    from oracle_pool import Connection, Pool
    from oracle_random import Demand
    from oracle_service import Operation


class Request(Entry, Connect, Over, Work, Timed):
    """One attempt."""

    def __init__(self, sim: Any, operation: Operation, demand: Demand) -> None:
        self.sim, self.clock, self.operation, self.demand = sim, sim.clock, operation, demand
        self.number = sim.places.give(self)
        self.user: Any = None
        self.parent: Request | None = None
        self.child: Request | None = None
        self.backend: Backend | None = None
        self.server: Server | None = None
        self.began = self.clock.now
        self.outcome, self.letters, self.first_error = OK, "", ""
        self.retries, self.redispatched, self.own_tries = 0, False, 0
        self.later = False  # not the first request of its client connection
        self.reused = False  # on an idle connection to the server
        self.life = 0  # of the server's process that its connection leads to
        self.replayed = self.orphan = self.zombie = self.gone = self.doomed = False
        self.slotted = self.has_worker = self.at_work = self.present = False
        self.conn: Connection | None = None  # that it goes over, if its caller has some of its own
        self.pinging = self.fresh = False
        self.hosts: list[Server] = []  # that its caller may still try
        self.lease: Pool | None = None  # of the nested call under way
        self.leased: Connection | None = None
        self.broken = False  # what was leased
        self.overdue = False  # a deadline passed while HAProxy was stopped
        self.held: tuple[Callable[[], None], str] | None = None
        self.stage, self.row, self.cpu_left = "", 0, 0
        self.tries, self.since = 0, 0
        self.next_at = self.haproxy_at = self.caller_at = NEVER
        self.conn_at = self.command_at = NEVER  # its caller gives the connection up, and why
        self.then: Callable[[], None] = self.knock_entry
        self.queue: deque | None = None

    # ---- waiting and going on ----------------------------------------------------------------
    def set_alarm(self) -> None:
        """The first of what it waits for and its deadlines."""
        first = min(self.next_at, self.haproxy_at, self.caller_at, self.conn_at)
        self.clock.set_alarm(self, first)

    def wait(self, until: int, then: Callable[[], None], stage: str) -> None:
        """Nothing happens until then, deadlines apart."""
        self.next_at, self.then, self.stage = until, then, stage
        self.set_alarm()

    def wait_in(self, queue: deque, stage: str) -> None:
        """Take the last place of a queue."""
        self.stage, self.queue = stage, queue
        queue.append(self)
        self.set_alarm()

    def leave_queue(self) -> None:
        """Give the place in a queue up."""
        if self.queue is not None:
            self.queue.remove(self)
            self.queue = None

    def soon(self, what: Callable[[], None], by: str) -> None:
        """Go on in this instant, if the process whose turn it is runs."""
        self.stage = "soon"
        self.clock.soon(lambda: self._take_turn(what, by))

    def _take_turn(self, what: Callable[[], None], by: str) -> None:
        if self.gone:
            return
        if self.stopped(by):
            self.hold(what, by)
        else:
            what()

    def stopped(self, by: str) -> bool:
        """Is the process whose turn it is stopped (SIGSTOP)?"""
        if by == SERVICE:
            return self.server.station.frozen
        return by == HAPROXY and self.backend.is_haproxy and self.backend.balancer.frozen

    def hold(self, what: Callable[[], None], by: str, stage: str = "held") -> None:
        """Its process is stopped: go on at SIGCONT; deadlines still run."""
        self.held = (what, by)
        self.next_at, self.stage = NEVER, stage
        self.set_alarm()

    def ring(self) -> None:
        """The caller's deadline, HAProxy's, or what it waits for."""
        now = self.clock.now
        if self.caller_at <= now:
            self.caller_gives_up()
        elif self.conn_at <= now:
            self.connection_gives_up()
        elif self.haproxy_at <= now:
            if self.stage != "entry" and self.stopped(HAPROXY):
                self.overdue, self.haproxy_at = True, NEVER
                self.set_alarm()
            else:
                self.haproxy_gives_up()
        else:
            self.next_at = NEVER
            self.then()

    def free(self) -> None:
        """Nothing is left of it."""
        self.clock.set_alarm(self, NEVER)
        self.leave_queue()
        self.gone = True
        self.sim.places.take_back(self.number)

    def let_go(self) -> None:
        """Nobody waits for it any more: only the server's work is left, if there is some."""
        self.haproxy_at = self.caller_at = self.conn_at = NEVER
        self.zombie = self.orphan = True
        if self.at_work:
            self.set_alarm()
        else:
            self.free()

    def twin(self) -> Request:
        """Another attempt for the same caller; this one goes on without a caller."""
        other = Request(self.sim, self.operation, self.demand.again())
        other.user, other.parent, other.backend = self.user, self.parent, self.backend
        other.began, other.caller_at, other.retries = self.began, self.caller_at, self.retries
        other.first_error, other.redispatched = self.first_error, self.redispatched
        other.letters, other.replayed, other.later = self.letters, self.replayed, self.later
        other.own_tries, other.doomed = self.own_tries, self.doomed
        other.conn, other.conn_at = self.conn, self.conn_at
        if self.user:
            self.user.request = other
        if self.parent:
            self.parent.child = other
        self.orphan, self.user, self.parent = True, None, None
        return other

    # ---- sent --------------------------------------------------------------------------------
    def connected(self) -> None:
        """Connected: HAProxy writes the request, and `timeout server` counts from here."""
        if self.stopped(HAPROXY):
            self.hold(self.connected, HAPROXY, "connect")
            return
        if self.doomed:
            self.next_at = NEVER
            self.answer(EOF if self.backend.tcp else HTTP_502, "502 DH--")
            return
        if self.conn is not None:
            self.written()
            return
        self.next_at, self.tries = NEVER, 0
        self.haproxy_at = NEVER
        if self.backend.t_server < NEVER:
            self.haproxy_at = self.clock.now + self.backend.t_server
        self.deliver()

    def deliver(self) -> None:
        """The request on its established connection: delivered, reset, or sent into silence."""
        server = self.server
        if self.conn is not None and self.conn.gone_at_haproxy:
            self.soon(self.cut, HAPROXY)
        elif server.connect >= SILENT:
            if self.conn is not None:
                self.unanswered()
            rto = FIRST_RTO << min(self.tries, 10)
            self.tries += 1
            self.wait(self.clock.now + rto, self.deliver, "sending")
        elif server.connect == REFUSED or self.life != server.life:
            self.soon(self.cut, HAPROXY)
        elif self.conn is not None:
            self.reaches_server()
        else:
            server.station.take_in(self)

    def done(self) -> None:
        """The server's answer is here."""
        backend, server = self.backend, self.server
        self.present, self.haproxy_at = False, NEVER
        if not backend.is_haproxy or backend.tcp:
            self.answer(self.outcome, "200 ----" if backend.tcp else "")
            return
        # a server that has closed its listener ends its connections with their last answer
        kept = self.life == server.life and server.connect != REFUSED
        if backend.reuse != "never" and kept:
            server.purge_idle(self.clock.now)
            server.idle.append(self.life)
        if self.outcome == APP_5XX and self.send_again("5xx"):
            return
        words = {APP_5XX: "5xx ----", CLIENT_4XX: "4xx ----"}
        self.answer(self.outcome, words.get(self.outcome, "200 ----"))

    def cut(self) -> None:
        """The server closed the connection before it answered (section 4.5)."""
        self.present = False
        self.next_at = self.haproxy_at = NEVER
        if self.pinging:
            self.ping_failed()
        elif not self.backend.is_haproxy or self.backend.tcp:
            self.answer(EOF, "eof SH--" if self.backend.tcp else "")
        elif not self.send_again("empty-response"):
            by_server = self.backend.close_by_server_reuse
            if self.reused if by_server else self.later:
                self.answer(EOF, "eof SH--")
            else:
                self.answer(HTTP_502, "502 SH--")

    def haproxy_gives_up(self) -> None:
        """A deadline of HAProxy (or, on the way in, the client's connect timeout)."""
        self.haproxy_at = NEVER
        if self.stage == "entry" and self.conn is not None:
            self.no_haproxy()
        elif self.stage == "entry":
            self.entry_fails(NO_ENTRY)
        elif self.stage == "queue":
            self.leave_queue()
            self.answer(EOF if self.backend.tcp else HTTP_503, "503 sQ--")
        elif self.stage in CONNECTING:
            self.held = None
            self.connect_failed(True)
        elif self.backend.tcp:
            self.session_idle()
        elif self.conn is not None:
            self.next_host()
        elif not self.send_again("response-timeout"):
            self.answer(HTTP_504, "504 sH--")

    def send_again(self, why: str) -> bool:
        """`retry-on` beyond connect failures (section 4.6)."""
        backend = self.backend
        if backend.no_post_replay and self.operation.write:
            return False
        if why not in backend.retry_on or self.retries >= backend.retries or self.orphan:
            return False
        failed = self.server
        if backend.redispatch:
            self.give_place_back()
        again = self.twin() if self.present else self
        if again is not self:
            again.server, again.slotted, self.slotted = failed, self.slotted, False
            self.let_go()
        again.retries += 1
        self.sim.count["retries"] += 1
        again.outcome = OK
        again.demand = again.demand.again()
        again.next_at = again.haproxy_at = NEVER
        if backend.redispatch:
            again.redispatched = True
            self.sim.count["redispatches"] += 1
            again.soon(lambda: again.route(failed), HAPROXY)
        else:
            again.soon(again.dial, HAPROXY)
        return True

    # ---- the answer --------------------------------------------------------------------------
    def answer(self, outcome: int, letters: str) -> None:
        """HAProxy (or the direct connection) answers the caller."""
        if self.backend.is_haproxy and letters:
            self.log(letters)
        ends = self.conn is not None and not self.rests(outcome)
        self.give_place_back()
        if not self.at_work:  # the server does not know: its work goes on
            self.next_at = NEVER
        if self.tell_caller(outcome, same=not self.present):
            return
        if ends:
            self.conn.finish()
        self.let_go()

    def log(self, letters: str) -> None:
        """One line of HAProxy's log."""
        self.letters = letters
        if self.backend.tcp:
            return
        server = self.server.name if self.server else "<NOSRV>"
        self.sim.log[server, letters] += 1

    def tell_caller(self, outcome: int, same: bool) -> bool:
        """Whoever waits for it goes on. True: this very request (`same`) was sent once more."""
        if self.orphan:
            return False
        if self.parent is not None:
            parent = self.parent
            self.orphan, self.parent = True, None
            parent.child, parent.outcome = None, outcome
            parent.soon(parent.call_ended, SERVICE)
            return False
        return self.user.answered(self, outcome, same)

    def caller_gives_up(self) -> None:
        """The caller's own timeout."""
        stage = self.stage
        self.caller_at = NEVER
        if self.conn is not None:
            self.call_given_up()
            return
        early = stage in ("entry", "backlog")
        if early:
            self.leave_queue()
        if self.tell_caller(TIMEOUT, same=early):
            return
        if early:
            self.let_go()
        elif not self.backend.is_haproxy:
            self.leave_queue_of_haproxy()
            self.give_place_back()
            self.let_go()
        elif self.backend.abortonclose:
            self.log("-1 C---")
            self.leave_queue_of_haproxy()
            self.give_place_back()
            self.let_go()
        elif stage == "lost" and not self.slotted:
            self.let_go()  # its HAProxy is dead too
        else:
            self.set_alarm()

    def leave_queue_of_haproxy(self) -> None:
        """A place in a service's own queue stays: the service does not know."""
        if not self.at_work:
            self.leave_queue()
