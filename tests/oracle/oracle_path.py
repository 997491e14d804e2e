"""The oracle's request: one attempt of a user (or of a calling service), from sending to answer.

reference/haproxy.md sections 2-4 in small steps. A request waits for one thing at a time
(`next_at`, `then`) while one deadline of HAProxy and one of its caller may run. Whose turn a step
is (`by`) decides what a stopped process holds back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from oracle_clock import NEVER, SECOND, Timed
from oracle_haproxy import CONNECTS, NO_ROUTE, REFUSED, SILENT, Server
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
    from oracle_random import Demand
    from oracle_service import Operation

FIRST_RTO = SECOND * 216 // 1000  # measured: 200 ms and a little late
NEIGHBOUR_FAILS = 3 * SECOND  # reference/haproxy.md 1.4: about 3 s of ARP probing
SYN_LATE = 22_000_000  # measured: the timer wheel makes each one a little late
HAPROXY, SERVICE, CLIENT = "haproxy", "service", "client"
CONNECTING = ("syn", "connect", "neighbour")


def syn_at(number: int) -> int:
    """When SYN retransmit `number` (from 0) goes out after the first SYN (Linux 6.5 and later)."""
    times = [1, 2, 3, 4, 5]  # four linear timeouts, then the first of the doubling ones
    while len(times) <= number:
        times.append(times[-1] + 2 ** (len(times) - 4))
    return times[number] * SECOND + (number + 1) * SYN_LATE


class Request(Work, Timed):
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
        self.slotted = self.has_worker = self.pooled = self.at_work = self.present = False
        self.overdue = False  # a deadline passed while HAProxy was stopped
        self.held: tuple[Callable[[], None], str] | None = None
        self.stage, self.row, self.cpu_left = "", 0, 0
        self.tries, self.since = 0, 0
        self.next_at = self.haproxy_at = self.caller_at = NEVER
        self.then: Callable[[], None] = self.knock_entry
        self.queue: deque | None = None

    # ---- waiting and going on ----------------------------------------------------------------
    def set_alarm(self) -> None:
        """The first of what it waits for and its deadlines."""
        self.clock.set_alarm(self, min(self.next_at, self.haproxy_at, self.caller_at))

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
        self.haproxy_at = self.caller_at = NEVER
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
        if self.user:
            self.user.request = other
        if self.parent:
            self.parent.child = other
        self.orphan, self.user, self.parent = True, None, None
        return other

    # ---- the way in --------------------------------------------------------------------------
    def enter(self) -> None:
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

    def knock_entry(self) -> None:
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

    def entry_fails(self, outcome: int) -> None:
        """The way in refused, reset, or stayed silent for the client's connect timeout."""
        self.server = None
        self.next_at = self.haproxy_at = NEVER
        if not self.tell_caller(outcome, same=True):
            self.let_go()

    def arrive_at_entry(self) -> None:
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

    def accepted(self) -> None:
        """HAProxy has the connection."""
        entry = self.operation.entry
        if self.orphan:
            entry.balancer.leave()
            self.let_go()
            return
        self.user.connection, self.user.life = entry, entry.balancer.life
        self.soon(self.route, HAPROXY)

    # ---- which server ------------------------------------------------------------------------
    def route(self, avoid: Server | None = None) -> None:
        """Choose a server, or wait for one."""
        backend = self.backend
        if not backend.eligible():
            self.server = None
            status = HTTP_503 if backend.is_haproxy else NO_ENTRY
            self.answer(status, "503 SC-- NOSRV")
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
                self.answer(HTTP_503, "503 SQ--")
            else:
                self.queue_up(server.waiting)
        else:
            self.take_place(server)
            self.dial()

    def queue_up(self, queue: deque) -> None:
        """Wait in HAProxy, `timeout queue` at most."""
        self.next_at = NEVER
        self.haproxy_at = self.clock.now + self.backend.t_queue
        self.wait_in(queue, "queue")

    def take_place(self, server: Server) -> None:
        """One of the server's places is this request's."""
        self.server, self.slotted = server, True
        server.served += 1
        self.backend.touch(server)

    def give_place_back(self) -> None:
        """And is free again."""
        if self.slotted:
            self.slotted = False
            self.server.served -= 1
            self.backend.touch(self.server)
            self.server.serve_queue()

    # ---- connect -----------------------------------------------------------------------------
    def dial(self) -> None:
        """Connect to the assigned server, or take an idle connection to it (section 4.8)."""
        server, backend = self.server, self.backend
        self.present = False
        self.life = server.life
        if not backend.is_haproxy:
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

    def knock_server(self) -> None:
        """One SYN to the server."""
        server, now = self.server, self.clock.now
        meets = server.connect
        if meets == CONNECTS and len(server.station.waiting) >= server.station.backlog:
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

    def _no_neighbour(self) -> None:
        self._take_turn(lambda: self.connect_failed(False), HAPROXY)

    def connect_failed(self, timed_out: bool) -> None:
        """Sections 4.1 to 4.4: try again here, elsewhere, or give up."""
        backend = self.backend
        self.next_at = self.haproxy_at = NEVER
        if not backend.is_haproxy:
            self.answer(NO_ENTRY, "")
            return
        self.first_error = self.first_error or ("sC" if timed_out else "SC")
        if self.retries >= backend.retries or "conn-failure" not in backend.retry_on:
            if self.doomed:
                self.answer(HTTP_503, "503 DC--")
            elif self.first_error == "sC" and self.later:
                self.answer(EOF, "eof sC--")
            else:
                self.answer(HTTP_503, f"503 {self.first_error}--")
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

    def wants_another_server(self, active: int) -> bool:
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

    def turn_around(self, then: Callable[[], None]) -> None:
        """min(1 s, timeout connect) before the next try."""
        pause = min(SECOND, self.backend.t_connect)
        self.wait(self.clock.now + pause, lambda: self._take_turn(then, HAPROXY), "turn")

    # ---- sent --------------------------------------------------------------------------------
    def connected(self) -> None:
        """Connected: HAProxy writes the request, and `timeout server` counts from here."""
        if self.stopped(HAPROXY):
            self.hold(self.connected, HAPROXY, "connect")
            return
        if self.doomed:
            self.next_at = NEVER
            self.answer(HTTP_502, "502 DH--")
            return
        self.next_at, self.tries = NEVER, 0
        self.haproxy_at = NEVER
        if self.backend.t_server < NEVER:
            self.haproxy_at = self.clock.now + self.backend.t_server
        self.deliver()

    def deliver(self) -> None:
        """The request on its established connection: delivered, reset, or sent into silence."""
        server = self.server
        if server.connect >= SILENT:
            rto = FIRST_RTO << min(self.tries, 10)
            self.tries += 1
            self.wait(self.clock.now + rto, self.deliver, "sending")
        elif server.connect == REFUSED or self.life != server.life:
            self.soon(self.cut, HAPROXY)
        else:
            server.station.take_in(self)

    def done(self) -> None:
        """The server's answer is here."""
        backend, server = self.backend, self.server
        self.present, self.haproxy_at = False, NEVER
        if not backend.is_haproxy:
            self.answer(self.outcome, "")
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
        if not self.backend.is_haproxy:
            self.answer(EOF, "")
        elif not self.send_again("empty-response"):
            by_server = self.backend.close_by_server_reuse
            if self.reused if by_server else self.later:
                self.answer(EOF, "eof SH--")
            else:
                self.answer(HTTP_502, "502 SH--")

    def haproxy_gives_up(self) -> None:
        """A deadline of HAProxy (or, on the way in, the client's connect timeout)."""
        self.haproxy_at = NEVER
        if self.stage == "entry":
            self.entry_fails(NO_ENTRY)
        elif self.stage == "queue":
            self.leave_queue()
            self.answer(HTTP_503, "503 sQ--")
        elif self.stage in CONNECTING:
            self.held = None
            self.connect_failed(True)
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
        if self.backend.is_haproxy:
            self.log(letters)
        self.give_place_back()
        self.next_at = NEVER
        if not self.tell_caller(outcome, same=not self.present):
            self.let_go()

    def log(self, letters: str) -> None:
        """One line of HAProxy's log."""
        self.letters = letters
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
