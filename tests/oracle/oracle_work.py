"""The oracle's request inside a service: steps, nested calls, pooled connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oracle_clock import NEVER, SECOND
from oracle_haproxy import SILENT
from oracle_tcp import FIRST_RTO, HAPROXY, SERVICE

from hasim.sim.trace import APP_5XX, CLIENT_4XX, OK

if TYPE_CHECKING:
    from oracle_path import Request


class Work:
    """The part of a Request that a service does."""

    # ---- steps -------------------------------------------------------------------------------
    def work(self: Request) -> None:
        """Go on with the operation until it has to wait."""
        step = self.operation.rows[self.row].step
        station = self.server.station
        if step is None:
            self.outcome = OK
            self.leave_service()
        elif step.kind == "cpu":
            if not station.is_async or self.has_worker or station.get_worker(self):
                self.compute()
        elif step.kind == "io":
            self.row += 1
            self.wait(self.clock.now + self.demand.step_ns(step.dist), self.io_done, "io")
        else:
            self.call()

    def compute(self: Request) -> None:
        """The CPU step at hand."""
        work = self.demand.step_ns(self.operation.rows[self.row].step.dist)
        self.row += 1
        self.server.station.compute(self, work)

    def io_done(self: Request) -> None:
        """An I/O is over."""
        self._take_turn(self.work, SERVICE)

    def cpu_done(self: Request) -> None:
        """A CPU step is over: an async service lets go of the worker."""
        self._take_turn(self._after_cpu, SERVICE)

    def _after_cpu(self: Request) -> None:
        station = self.server.station
        if station.is_async and self.has_worker:
            station.release(self)
        self.work()

    def granted(self: Request) -> None:
        """A worker is free for it."""
        step = self.operation.rows[self.row].step
        if step is not None and step.kind == "cpu":
            self.compute()
        else:
            self.work()

    # ---- nested calls ------------------------------------------------------------------------
    def call(self: Request) -> None:
        """A call, over a pooled connection if the profile has a pool for its target."""
        row = self.operation.rows[self.row]
        pool = self.server.station.pools.get(row.step.target.partition("/")[0])
        if pool is not None and not self.pooled:
            if pool.used >= pool.size or pool.waiting:
                self.next_at, self.then = self.clock.now + pool.wait, self.no_pooled
                self.wait_in(pool.waiting, "pool")
                return
            pool.used += 1
            self.pooled = True
        self.place_call()

    def no_pooled(self: Request) -> None:
        """No pooled connection came free in time."""
        self.leave_queue()
        self.outcome = APP_5XX
        self.soon(self.call_ended, SERVICE)

    def place_call(self: Request) -> None:
        """Send the nested call."""
        row = self.operation.rows[self.row]
        child = type(self)(self.sim, row.callee, self.demand.child(row.number))
        child.parent, child.backend = self, row.backend
        child.later = row.backend.is_haproxy  # services keep their connections
        if row.step.timeout_s < 3e9:
            child.caller_at = self.clock.now + round(row.step.timeout_s * SECOND)
        self.child = child
        self.wait(NEVER, self.work, "call")
        child.soon(child.route, HAPROXY)

    def give_back_pooled(self: Request) -> None:
        """The pooled connection goes to the next who waits, if its process runs."""
        if not self.pooled:
            return
        self.pooled = False
        station = self.server.station
        pool = station.pools[self.operation.rows[self.row].step.target.partition("/")[0]]
        pool.used -= 1
        while pool.waiting and pool.used < pool.size and not station.frozen:
            other = pool.waiting[0]
            other.leave_queue()
            other.next_at = NEVER
            self.clock.set_alarm(other, NEVER)
            pool.used += 1
            other.pooled = True
            other.place_call()

    def call_ended(self: Request) -> None:
        """The nested call is over: go on, or fail as the profile says."""
        step = self.operation.rows[self.row].step
        self.give_back_pooled()
        self.row += 1
        if self.outcome != OK and step.on_error != "skip":
            status = int(step.on_error)
            self.outcome = OK if status < 400 else CLIENT_4XX if status < 500 else APP_5XX
            if self.outcome != OK:
                self.leave_service()
                return
        self.outcome = OK
        self.work()

    # ---- the end -----------------------------------------------------------------------------
    def leave_service(self: Request) -> None:
        """The service answers; into silence the answer is repeated like any TCP data."""
        self.server.station.off_work(self)
        if self.zombie:
            self.free()
        elif self.server.connect >= SILENT:
            self.tries = 0
            self.wait(self.clock.now + FIRST_RTO, self.repeat_answer, "answering")
        else:
            self.soon(self.done, HAPROXY)

    def repeat_answer(self: Request) -> None:
        """A TCP retransmit of the answer."""
        if self.server.connect >= SILENT:
            self.tries += 1
            again = self.clock.now + (FIRST_RTO << min(self.tries, 10))
            self.wait(again, self.repeat_answer, "answering")
        else:
            self.soon(self.done, HAPROXY)

    def process_died(self: Request) -> None:
        """Its server's process is gone: the peer sees a close, or nothing over a silent way."""
        self.clock.set_alarm(self, NEVER)
        self.held, self.next_at = None, NEVER
        if self.zombie:
            self.free()
        elif self.server.connect >= SILENT:
            self.wait(NEVER, self.work, "lost")
        else:
            self.soon(self.cut, HAPROXY)
