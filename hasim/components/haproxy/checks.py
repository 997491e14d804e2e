"""HAProxy's health checks: when they start, how long they may take, what comes next.

Read beside configuration manual 5.2 (`check`, `inter`, `fall`, `rise`), 4.2 (`timeout check`) and
reference/haproxy.md section 1. One process per server with a check; intervals run from the end of
a check to the start of the next one.

Phases. The first HAProxy process of a replication shifts its whole schedule by one uniform part of
its longest interval. `phases:` of a scenario pins it, in seconds from the start of the load:
`<backend>/<server>: v` lets one check of that server begin exactly at v (the gap before it is
stretched to less than twice its length); `<balancer>: v` does so for its first server, and the
others follow at the distances of their first checks. A pinned v in the past has no effect.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from hasim.model import Backend, Balancer, Check, Server

if TYPE_CHECKING:
    from hasim.components.haproxy.servers import ServerState, Worker
    from hasim.sim.world import CheckPlan

MS = 1_000_000  # ns; timers count whole milliseconds. source: definition
US = 1000  # ns

# Intervals below this do not shorten the spread of first checks. Source: SRV_CHK_INTER_THRES.
SPREAD_FLOOR_MS = 1000

# What comes on top of an interval, microseconds, uniform, without and with an answer of the server.
# Source: measured on 2.6.12, from the end of a check to the start of the next: means of 1.3 ms (320
# refused or late checks) and 1.8 ms (602 answered ones). From start to start reference 1.2 has 1 to
# 3 ms, the check itself included.
DRIFT_US = {False: (600, 2000), True: (1000, 2600)}

# A deadline of a check is acted on this much later. Source: measured, "Layer4 timeout" and "Layer7
# timeout" of 2000 to 2007 ms with inter 2000, 2001 in the median of 69 trials.
LATE_MS = 1

# First release of each branch in which `timeout check` is always enforced (commit 7c788f098 of
# 2025-06-03). Source: release notes of 2.8.16 and 3.2.1; for the other branches the first
# release after that date is taken. Branches not listed got no fix, later ones never had the bug.
ENFORCED_FROM = {(2, 6): 23, (2, 8): 16, (3, 0): 11, (3, 1): 8, (3, 2): 1}
FIXED_BRANCH = (3, 3)

# Branch from which `spread-checks` moves first checks too. Source: reference 1.1.
FIRST_SPREAD_FROM = (2, 8)

# Result codes of World.check. Source: hasim.sim.world; a status is 100 or more.
L4CON, L4TOUT, L7TOUT, L7RSP = -1, -2, -3, -4
REASONS = {
    L4CON: "Layer4 connection problem",
    L4TOUT: "Layer4 timeout",
    L7TOUT: "Layer7 timeout",
    L7RSP: "Layer7 invalid response",
}


def enforces_check_timeout(version: tuple[int, int, int]) -> bool:
    """Does this release always honour `timeout check` after the connection is made?"""
    branch = version[:2]
    fixed = ENFORCED_FROM.get(branch)
    return branch >= FIXED_BRANCH or (fixed is not None and version[2] >= fixed)


def ms(seconds: float) -> int:
    """Whole milliseconds, as HAProxy keeps its intervals."""
    return round(seconds * 1000)


def first_checks(
    balancer: Balancer, spread: Sequence[float] = ()
) -> list[tuple[Backend, Server, int]]:
    """(backend, server, ms after the start) of every first check, in configuration order.

    spread: one uniform number per check, for `spread-checks` (2.8 and later).
    """
    rows = [(b, s, s.check) for b in balancer.backends for s in b.servers if s.check is not None]
    long = [ms(c.inter_s) for _, _, c in rows if ms(c.inter_s) >= SPREAD_FLOOR_MS]
    mininter = min(long, default=0)
    out = []
    for position, (backend, server, check) in enumerate(rows):
        m = max(mininter, ms(check.inter_s))
        if balancer.max_spread_checks_s < float("inf"):
            m = min(m, ms(balancer.max_spread_checks_s))
        if spread and balancer.version[:2] >= FIRST_SPREAD_FROM and check.spread_checks:
            m = int(m * (1 + check.spread_checks * (2 * spread[position] - 1)))
        out.append((backend, server, m * position // len(rows)))
    return out


def plan_of(check: Check, start_ns: int, version: tuple[int, int, int], u: float) -> CheckPlan:
    """The deadlines of one check (reference 1.3). u: uniform, for releases that enforce
    `timeout check` only by chance: their real limit lies between it and the connect deadline.
    """
    from hasim.sim.world import CheckPlan

    inter = ms(check.inter_s)
    if check.timeout_check_s is None:
        by = start_ns + (inter + LATE_MS) * MS
        return CheckPlan(check.kind, check.url, by, by)
    connect = inter
    if check.timeout_connect_s < float("inf"):
        connect = min(inter, ms(check.timeout_connect_s))
    connect_by = start_ns + (connect + LATE_MS) * MS
    limit = ms(check.timeout_check_s)
    if enforces_check_timeout(version) or limit >= connect:
        return CheckPlan(check.kind, check.url, connect_by, 0, (limit + LATE_MS) * MS)
    late = limit + int((connect - limit) * u)
    return CheckPlan(check.kind, check.url, connect_by, 0, (late + LATE_MS) * MS)


def verdict(check: Check, code: int) -> tuple[bool, str]:
    """(passed, HAProxy's words) for a result code of World.check."""
    if code in REASONS:
        return False, REASONS[code]
    if check.kind == "tcp":
        return True, "Layer4 check passed"
    good = code in check.expect_status if check.expect_status else 200 <= code < 400
    return good, f"Layer7 {'check passed' if good else 'wrong status'}, code: {code}"


class Checker:
    """The check task of one server (src/check.c: process_chk_conn)."""

    def __init__(self, row: ServerState, check: Check, due_ns: int, pin_ns: int | None):
        self.row, self.check, self.worker = row, check, row.worker
        self.due_ns, self.pin_ns = due_ns, pin_ns
        self.name = f"check {row.worker.instance} {row.edge.name}"
        self.count = 0
        self.by_chance = check.timeout_check_s is not None and not enforces_check_timeout(
            row.worker.balancer.version
        )
        self.wake = row.worker.world.env.event()
        self.repeating = False
        self.sooner_ns: int | None = None
        self.code = 0  # the latest result
        self._expects = 0

    def run(self) -> Generator[Any, Any, None]:
        """Wait, check, judge, for as long as this HAProxy process lives."""
        worker, row = self.worker, self.row
        world = worker.world
        while worker.alive:
            expect = self._steady()
            if expect is not None and (yield from self._repeat(expect)):
                continue
            yield from self._until_due()
            yield from worker.process.awake()
            if not worker.alive:
                return
            if row.in_maintenance:  # paused, the task only moves on
                self._next(ms(self.check.inter_s))
                continue
            start = int(world.env.now)
            plan = plan_of(self.check, start, worker.balancer.version, self._chance())
            yield from self._result(world.check(row.check_edge, plan), start)

    def _result(self, event: Any, start_ns: int) -> Generator[Any, Any, None]:
        """Wait for the result of the check under way, judge it, set the next one's time."""
        code: int = yield event
        yield from self.worker.process.awake()
        self.code = code
        if self.worker.alive:
            self._judge(code, (int(self.worker.world.env.now) - start_ns) // MS)
            self._next(self.gap_ms(), code > 0)

    def _steady(self) -> int | None:
        """The result that changes nothing now (0: any good status): the data plane may repeat the
        check by itself while it has this result. None: every result matters.
        """
        row, expected = self.row, self.check.expect_status
        if self.pin_ns is not None or row.in_maintenance:
            return None
        if row.up and row.health == row.rise + row.fall - 1 and not row.stopping:
            return None if len(expected) > 1 else expected[0] if expected else 0
        quick = self.code > 0 or self.code == L4CON  # has its result at once
        failed = quick and self.code and not verdict(self.check, self.code)[0]
        return self.code if not row.up and row.health == 0 and failed else None

    def _repeat(self, expect: int) -> Generator[Any, Any, bool]:
        """Until a check has another result, or none at once. True: its result has been judged."""
        from hasim.sim.world import Pace

        world, check = self.worker.world, self.check
        drift = DRIFT_US[expect != L4CON]
        pace = Pace(self.name, self.gap_ms(), drift, check.spread_checks, expect)
        self.repeating, self._expects = True, expect
        done = yield world.repeat_check(
            self.row.check_edge, check.kind, check.url, pace, self.due_ns, self._tick()
        )
        self.repeating = False
        self.count = done.tick - (self.worker.number << 32)
        self.due_ns = min(done.due_ns, self.sooner_ns or done.due_ns)
        self.sooner_ns = None
        if done.start_ns == 0 or not self.worker.alive:
            return False
        if done.code is not None:
            now = world.env.event().succeed(done.code)
            yield from self._result(now, done.start_ns)
        else:
            plan = plan_of(check, done.start_ns, self.worker.balancer.version, self._chance())
            yield from self._result(world.adopt_check(self.row.check_edge, plan), done.start_ns)
        return True

    def state_changed(self) -> None:
        """The server's state is no longer one in which a passing check changes nothing."""
        if self.repeating and not (self.worker.alive and self._steady() == self._expects):
            self.repeating = False
            self.worker.world.stop_repeat(self.row.check_edge)

    def _chance(self) -> float:
        """Where by chance a release enforces `timeout check`: the draw that decides."""
        world = self.worker.world
        return world.draw(self.name, self._tick(), "timeout") if self.by_chance else 0.0

    def _judge(self, code: int, duration_ms: int) -> None:
        row = self.row
        good, reason = verdict(self.check, code)
        if row.in_maintenance:
            return
        if code == 404 and row.backend.disable_on_404 and row.up:
            row.passed(reason, duration_ms, stopping=True)
        elif good:
            row.passed(reason, duration_ms)
        else:
            row.failed(reason, duration_ms)

    def gap_ms(self) -> int:
        """The interval that the state after the result asks for (srv_getinter)."""
        row, check = self.row, self.check
        if row.health == row.rise + row.fall - 1:
            return ms(check.inter_s)
        if not row.up and row.health == 0:
            return ms(check.downinter_s)
        return ms(check.fastinter_s)

    def hurry(self) -> None:
        """An observed error: the next check comes within `fastinter`, where that is shorter."""
        fast = ms(self.check.fastinter_s)
        due = int(self.worker.world.env.now) + fast * MS
        if fast < ms(self.check.inter_s):
            if self.repeating:
                self.repeating, self.sooner_ns = False, due
                self.worker.world.stop_repeat(self.row.check_edge)
            elif due < self.due_ns:
                self.due_ns = due
                self._ring()

    def booted(self) -> None:
        """The load starts now: pins, which count from it, become known."""
        before = self.due_ns
        self._pin()
        if self.due_ns != before:
            self._ring()

    def _tick(self) -> int:
        return (self.worker.number << 32) + self.count

    def _next(self, gap: int, answered: bool = False) -> None:
        world = self.worker.world
        self.count += 1
        if self.check.spread_checks:
            u = world.draw(self.name, self._tick(), "spread")
            gap = int(gap * (1 + self.check.spread_checks * (2 * u - 1)))
        low, high = DRIFT_US[answered]
        drift_us = low + int((high - low) * world.draw(self.name, self._tick(), "drift"))
        self.due_ns = int(world.env.now) + gap * MS + drift_us * US
        self._pin()

    def _pin(self) -> None:
        if self.pin_ns is None or not self.worker.machine.booted:
            return
        pin = self.worker.world.start_ns + self.pin_ns
        if pin >= self.worker.world.env.now and self.due_ns + self.gap_ms() * MS > pin:
            self.due_ns, self.pin_ns = pin, None

    def _until_due(self) -> Generator:
        env = self.worker.world.env
        while env.now < self.due_ns and self.worker.alive:
            yield env.any_of([env.timeout(self.due_ns - env.now), self.wake])

    def _ring(self) -> None:
        bell, self.wake = self.wake, self.worker.world.env.event()
        bell.succeed()


def start_checks(worker: Worker) -> None:
    """Schedule the first check of every server (src/check.c: start_checks)."""
    world, balancer = worker.world, worker.balancer
    phase_ms = 0
    n = sum(s.check is not None for b in balancer.backends for s in b.servers)
    stream = f"first checks {worker.instance}"
    spread = [world.draw(stream, i, str(worker.number)) for i in range(n)]
    rows = first_checks(balancer, spread)
    if not worker.machine.booted and rows:
        longest = max(ms(s.check.inter_s) for _, s, _ in rows if s.check)
        phase_ms = int(longest * world.draw(f"phase {worker.instance}", 0))
    pins = world.scenario.phases
    for backend, server, after_ms in rows:
        row = worker.row(backend, server)
        if row is None or server.check is None:
            continue
        pin = pins.get(f"{backend.name}/{server.name}")
        if pin is None and worker.instance in pins:
            pin = pins[worker.instance] + after_ms / 1000
        due = int(world.env.now) + (after_ms + phase_ms) * MS
        row.checker = Checker(row, server.check, due, None if pin is None else ms(pin) * MS)
        world.spawn(row.checker.run(), row.checker.name)
