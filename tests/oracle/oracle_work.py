"""The oracle's request inside a service: steps, nested calls, pooled connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oracle_clock import NEVER, SECOND
from oracle_haproxy import SILENT
from oracle_pool import Connection
from oracle_tcp import CLIENT, FIRST_RTO, HAPROXY, SERVICE

from hasim.sim.trace import APP_5XX, CLIENT_4XX, OK

if TYPE_CHECKING:
    from oracle_path import Request
    from oracle_pool import Pool


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
        elif step.kind == "commit":
            self.row += 1
            self.commit()
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

    # ---- commits -----------------------------------------------------------------------------
    def read_only(self: Request) -> None:
        """A write on a node that is none to write to: an error as it arrives, or at its commit."""
        self.outcome = APP_5XX
        self.leave_service()

    def commit(self: Request) -> None:
        """The node's own disk has it; now a synchronous standby may have to answer."""
        station = self.server.station
        if not station.writable:
            self.read_only()
        elif station.extra is None:
            self.sim.count["stalled commits"] += 1
            self.wait(NEVER, self.work, "stall")
        elif station.extra:
            self.wait(self.clock.now + station.extra, self.io_done, "sync")
        else:
            self.work()

    # ---- nested calls ------------------------------------------------------------------------
    def call(self: Request) -> None:
        """A call, over a pooled connection if the profile has a pool for its target."""
        row = self.operation.rows[self.row]
        pool = self.server.station.pools.get(row.step.target.partition("/")[0])
        now = self.clock.now
        timeout = row.step.timeout_s
        self.call_since = now
        self.call_until = now + round(timeout * SECOND) if timeout < 3e9 else NEVER
        if pool is None:
            self.place_call(None, None)
            return
        there_is, conn = (False, None) if pool.waiting else pool.take()
        if there_is:
            self.place_call(pool, conn)
        else:
            self.next_at, self.then = min(now + pool.wait, self.call_until), self.no_pooled
            self.pool_waited_for = pool
            self.wait_in(pool.waiting, "pool")

    def no_pooled(self: Request) -> None:
        """No pooled connection came free in time."""
        self.leave_queue()
        self.pool_waited_for.waits.append(self.clock.now - self.call_since)
        self.outcome = APP_5XX
        self.soon(self.call_ended, SERVICE)

    def place_call(self: Request, pool: Pool | None, conn: Connection | None) -> None:
        """Send the nested call, over a connection of the pool or one that is to be made."""
        if pool is not None:
            pool.waits.append(self.clock.now - self.call_since)
        row = self.operation.rows[self.row]
        backend = row.backend_of(self.server.station.name)
        child = self.sim.nested(row.callee, self.demand.child(row.number))
        child.parent, child.backend = self, backend
        child.later = backend.is_haproxy and not backend.tcp  # services keep their connections
        child.caller_at = self.call_until
        self.child = child
        self.wait(NEVER, self.work, "call")
        go = child.route
        if conn is not None:
            conn.use(child)
            go = child.use
        elif backend.fresh or (pool is not None and not backend.is_haproxy):
            conn = Connection(self.clock, backend, None)
            if pool is not None:
                conn = pool.make(self.clock, backend)
            conn.entry, conn.t_connect = backend.entries.get(self.server.station.name), row.connect
            conn.req, go = child, child.open
        self.lease, self.leased, self.broken = pool, conn, False
        child.conn = conn
        child.soon(go, HAPROXY if conn is None else CLIENT)

    def give_back_pooled(self: Request) -> None:
        """The pooled connection goes back."""
        if self.lease is not None:
            pool, self.lease = self.lease, None
            pool.give_back(self.leased, self.broken)

    def drop_call(self: Request) -> None:
        """Its process dies under a nested call."""
        child, self.child = self.child, None
        child.parent, child.orphan = None, True
        if child.conn is not None:
            child.conn.closed = True
            child.caller_at = self.clock.now  # its connection closes with the process
            child.set_alarm()

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
        station = self.server.station
        if self.operation.commits and self.outcome == OK and not self.zombie:
            station.commits.append(self.clock.now)
        station.off_work(self)
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
