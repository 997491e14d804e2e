"""The oracle's services: containers with workers, CPU, I/O, pools and nested calls."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oracle_clock import NEVER, SECOND, Clock, Timed

from hasim.model import Instance, Service, Step

if TYPE_CHECKING:
    from oracle_haproxy import Backend
    from oracle_path import Request
    from oracle_pool import Pool

PERIOD = SECOND // 10  # Linux charges a container's CPU quota per 100 ms


@dataclass
class Row:
    """One step of an operation; `number` counts through the whole stack (calls are drawn by it)."""

    number: int
    step: Step | None  # None: the operation is over
    backend: Backend | None = None  # of a call through HAProxy
    connect: int = NEVER  # how long its caller waits for a connection to HAProxy
    by_caller: dict[str, Backend] | None = None  # of a direct one
    callee: Operation | None = None

    def backend_of(self, caller: str) -> Backend:
        """The way of a call from that instance."""
        return self.by_caller[caller] if self.by_caller else self.backend


@dataclass
class Operation:
    """One operation of a service."""

    name: str
    write: bool
    rows: list[Row]
    commits: bool = False
    http: int = 200  # of a health URL
    backend: Backend | None = None  # users' way, behind the entry
    entry: object | None = None
    keep_alive: int = NEVER


class Machine:
    """The cores of a host, shared by weight when more threads want to run than there are cores."""

    def __init__(self, cores: float) -> None:
        self.cores = cores
        self.stations: list[Station] = []
        self.short = False

    def share(self) -> None:
        """Give every container its cores: what it can use, or its weighted share."""
        if sum(s.runnable for s in self.stations) <= self.cores and not self.short:
            return
        for s in self.stations:
            s.charge()
            s.limit()
        hungry = [s for s in self.stations if s.runnable]
        self.short = sum(s.runnable for s in hungry) > self.cores
        left = self.cores
        while hungry:
            per = left / sum(s.weight for s in hungry)
            sated = [s for s in hungry if s.runnable <= per * s.weight or not self.short]
            for s in sated or hungry:
                s.cores = float(s.runnable) if sated else per * s.weight
                left -= s.runnable
            hungry = [s for s in hungry if sated and s not in sated]
        for s in self.stations:
            if not s.dedicated:
                s.settle()


class Station(Timed):
    """One container of a service."""

    def __init__(self, clock: Clock, places, instance: Instance, service: Service, machine):
        self.clock, self.places, self.name = clock, places, instance.name
        self.service, self.machine, self.backlog = service, machine, service.backlog
        self.workers, self.is_async = service.workers, service.mode == "async"
        self.busy = self.inflight = 0
        self.waiting: deque[Request] = deque()
        self.frozen = False
        self.is_data = instance.kind in ("postgres", "redis")
        self.writable = True
        self.extra: int | None = 0  # that a commit waits; None: until told
        self.commits: list[int] = []  # when the answers left
        self.connections = self.most_connections = 0  # of data nodes; 0: any number
        self.refusals: list[int] = []
        self.greeted: list[Request] = []  # pings and the like: answered when the process runs again
        self.pools: dict[str, Pool] = {}
        # CPU
        self.quota = instance.cpus if 0 < instance.cpus < service.workers else 0.0
        self.dedicated = False
        self.weight = float(instance.cpu_shares or 1024)
        self.speed = 1.0
        self.threads: list[tuple[float, Request]] = []  # (virtual finish, request)
        self.cores = self.rate = self.virtual = self.used = 0.0
        self.charged_at = self.period = 0
        self.throttled = False
        self.ties = 0

    # ---- CPU ---------------------------------------------------------------------------------
    def charge(self) -> None:
        """Bring the work done and the quota used up to now."""
        now = self.clock.now
        gone = now - self.charged_at
        spent = gone * self.rate * len(self.threads)
        self.virtual += gone * self.rate
        self.used += spent
        self.charged_at = now
        if now // PERIOD != self.period:
            self.period = now // PERIOD
            inside = (now - self.period * PERIOD) * self.rate * len(self.threads)
            self.used = min(self.used, inside)
            self.throttled = False

    def limit(self) -> None:
        """Throttle the container for the rest of the period once its quota is used up."""
        if self.quota and self.used >= self.quota * PERIOD - 0.5:
            self.throttled = True

    @property
    def listen_backlog_full(self) -> bool:
        """An event loop accepts at once; a stopped process and busy sync workers do not."""
        if self.is_async and not self.frozen:
            return False
        return self.inflight - self.busy >= self.backlog

    @property
    def runnable(self) -> int:
        """Threads that could use a core now."""
        return 0 if self.throttled or self.frozen else len(self.threads)

    def settle(self) -> None:
        """How fast every thread runs from now on, and when that changes or one is done."""
        n, now = len(self.threads), self.clock.now
        self.rate = 0.0
        if n == 0 or self.frozen:
            self.clock.set_alarm(self, NEVER)
            return
        allowance = self.quota * PERIOD
        period_end = (self.period + 1) * PERIOD
        self.limit()
        if self.throttled:
            self.clock.set_alarm(self, period_end)
            return
        self.rate = min(1.0, self.cores / n)
        if self.rate == 0.0:  # its share of a short host is about to be set
            return
        first = min(finish for finish, _ in self.threads)
        at = now + max(0, math.ceil((first - self.virtual) / self.rate))
        if self.quota:
            spent_at = now + max(1, math.ceil((allowance - self.used) / (self.rate * n)))
            if spent_at < period_end or self.rate * n > self.quota:
                at = min(at, spent_at, period_end)
        self.clock.set_alarm(self, at)

    def threads_changed(self) -> None:
        """A thread came or left."""
        if not self.machine.short:
            self.cores = float(len(self.threads))
        self.settle()
        self.machine.share()

    def compute(self, req: Request, work: int) -> None:
        """`work` ns of CPU for a request that has its worker."""
        need = work / self.speed
        if self.dedicated:
            req.wait(self.clock.now + max(0, math.ceil(need - 1e-6)), req.cpu_done, "cpu")
            return
        self.charge()
        self.threads.append((self.virtual + need, req))
        self.threads_changed()
        req.wait(NEVER, req.cpu_done, "cpu")

    def stop_computing(self, req: Request) -> None:
        """The request's process died under it."""
        if not self.dedicated and any(r is req for _, r in self.threads):
            self.charge()
            self.threads = [(f, r) for f, r in self.threads if r is not req]
            self.threads_changed()

    def ring(self) -> None:
        """Threads are done, the quota is used up, or a new period begins."""
        self.charge()
        done = sorted((x for x in self.threads if x[0] <= self.virtual + 0.5), key=lambda x: x[0])
        self.threads = [x for x in self.threads if x[0] > self.virtual + 0.5]
        self.ties += len(done) > 1  # their order is that of the last bits of floats
        for _, req in done:
            req.soon(req._after_cpu, "service")
        if not self.threads:
            self.virtual = 0.0
        if done or self.quota:
            self.threads_changed()
        else:
            self.settle()

    def set_speed(self, speed: float) -> None:
        """CPU work takes 1/speed of its time from now on, what is left of it too."""
        factor, now = self.speed / speed, self.clock.now
        self.speed = speed
        for req in self.at_work() if self.dedicated else ():
            if req.stage == "cpu" and self.frozen:
                req.cpu_left = math.ceil(req.cpu_left * factor)
            elif req.stage == "cpu":
                req.wait(now + math.ceil((req.next_at - now) * factor), req.then, "cpu")
        if not self.dedicated:
            self.charge()
            self.threads = [
                (self.virtual + (f - self.virtual) * factor, r) for f, r in self.threads
            ]
            self.threads_changed()

    # ---- workers -----------------------------------------------------------------------------
    def at_work(self) -> list[Request]:
        """Its requests, in the order in which a command meets them."""
        return [r for r in self.places.alive() if r.at_work and r.server.station is self]

    def take_in(self, req: Request) -> None:
        """A request has arrived in the socket of the service."""
        self.inflight += 1
        req.present = req.at_work = True
        req.next_at, req.row = NEVER, 0
        if req.operation.write and not self.writable and not self.frozen:
            req.read_only()
            return
        if self.is_async and self.frozen:
            req.hold(req.work, "service")
        elif self.is_async or self.get_worker(req):
            req.work()

    def get_worker(self, req: Request) -> bool:
        """A worker now, or a place in the queue."""
        if self.frozen or self.busy >= self.workers or self.waiting:
            req.wait_in(self.waiting, "worker")
            return False
        self.busy += 1
        req.has_worker = True
        return True

    def pump(self) -> None:
        """Free workers take what waits."""
        while not self.frozen and self.waiting and self.busy < self.workers:
            req = self.waiting[0]
            req.leave_queue()
            self.clock.set_alarm(req, NEVER)
            self.busy += 1
            req.has_worker = True
            req.soon(req.granted, "service")

    def release(self, req: Request) -> None:
        """The request needs its worker no more."""
        if req.has_worker:
            req.has_worker = False
            self.busy -= 1
        self.pump()

    def off_work(self, req: Request) -> None:
        """The request is no longer the service's."""
        if req.at_work:
            req.at_work = False
            self.inflight -= 1
            self.release(req)
            req.give_back_pooled()
            if req.conn is not None and (req.conn.closed or req.conn.lost):
                req.conn.leave_server()

    # ---- what may happen to it ---------------------------------------------------------------
    def freeze(self) -> None:
        """SIGSTOP."""
        if self.frozen:
            return
        self.charge()
        self.frozen = True
        if not self.dedicated:
            self.threads_changed()
            return
        for req in self.at_work():
            if req.stage == "cpu":
                req.cpu_left = max(0, req.next_at - self.clock.now)
                req.next_at = NEVER
                req.set_alarm()

    def thaw(self) -> None:
        """SIGCONT: work goes on where it stopped."""
        if not self.frozen:
            return
        self.charge()
        self.frozen = False
        for req in self.at_work():
            if self.dedicated and req.stage == "cpu":
                req.wait(self.clock.now + req.cpu_left, req.then, "cpu")
            elif req.held:
                what, by = req.held
                req.held = None
                req.soon(what, by)
        if not self.dedicated:
            self.threads_changed()
        self.pump()
        for req in list(self.greeted):
            what, by = req.held
            req.held = None
            req.soon(what, by)
        for pool in self.pools.values():
            pool.serve()

    def crash(self, servers: list, idle: list) -> None:
        """The process ends."""
        self.cut(servers, idle)
        for pool in self.pools.values():
            pool.reset()
        self.frozen = self.throttled = False

    def cut(self, servers: list, idle: list) -> None:
        """All connections close; over ways that are silent now, nobody hears of it."""
        frozen, self.frozen = self.frozen, True  # nothing of its queue starts meanwhile
        for req in self.places.alive():
            if req.gone or req.server is None or req.server.station is not self:
                continue
            if req.at_work:
                self.stop_computing(req)
                req.leave_queue()
                if req.child is not None:
                    req.drop_call()
                self.off_work(req)
                req.process_died()
            elif req.stage in ("answering", "ping"):
                req.process_died()
        self.frozen = frozen
        for session in idle:
            heard = session.server.station is self and session.server.connect < 2
            if heard and not session.process_gone:
                session.end_session()
        self.connections = 0
        self.greeted.clear()
        for server in servers:
            if server.station is self:
                server.life += 1
                if server.connect < 2:
                    server.idle.clear()

    # ---- commits -----------------------------------------------------------------------------
    def set_commit(self, extra: int | None) -> None:
        """A synchronous standby answers so late, or not at all (None)."""
        self.extra = extra
        for req in self.at_work() if extra is not None else ():
            if req.stage == "stall":
                req.soon(req.work, "service")
