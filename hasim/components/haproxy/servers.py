"""What one HAProxy process thinks of its servers: UP, DOWN, MAINT, drain; and what it does then.

Read beside reference/haproxy.md sections 1.5, 2 and 6 (src/server.c: srv_set_stopped,
srv_set_running, srv_update_status; src/check.c: __health_adjust). Words are HAProxy's own.
"""

from __future__ import annotations

from collections.abc import Generator
from math import ceil
from typing import TYPE_CHECKING

from hasim.components.base import Machine, Process
from hasim.components.haproxy.checks import Checker, start_checks
from hasim.components.haproxy.gauges import show
from hasim.components.haproxy.resolvers import start_resolvers

if TYPE_CHECKING:
    from hasim.model import Backend, Balancer, Server
    from hasim.sim.world import Edge, World

# Effective weights count in this part of a configured unit. Source: BE_WEIGHT_SCALE.
WEIGHT_SCALE = 16
DYNAMIC = ("roundrobin", "leastconn", "random")


class Worker:
    """One HAProxy process: its servers start UP, its checks and resolvers run until it ends."""

    def __init__(self, p: Process, world: World, machine: Machine, balancer: Balancer, number: int):
        self.process, self.world, self.machine, self.balancer = p, world, machine, balancer
        self.instance, self.number, self.retired = p.instance, number, False
        edges = server_edges(world, balancer)
        self.rows = [
            ServerState(self, edges[b.name, s.name], b, s)
            for b in balancer.backends
            for s in b.servers
            if (b.name, s.name) in edges
        ]

    @property
    def alive(self) -> bool:
        """False once the process has ended or a newer one has taken over (reload)."""
        return self.process.alive and not self.retired

    def row(self, backend: Backend, server: Server) -> ServerState | None:
        """The state of one server; None if no edge leads to it."""
        return next((r for r in self.rows if r.backend is backend and r.server is server), None)

    def start(self) -> None:
        """All servers UP, first checks and resolvers scheduled, errors of traffic watched."""
        for row in self.rows:
            row.start()
        start_checks(self)
        start_resolvers(self)
        show(self)
        self.machine.on_boot.append(self._booted)

    def retire(self) -> None:
        """A newer process has taken over, or a soft stop has begun: checks end."""
        self.retired = True
        for row in self.rows:
            if row.checker is not None:
                row.checker.state_changed()

    def _booted(self) -> None:
        if self.alive:
            for row in self.rows:
                if row.checker is not None:
                    row.checker.booted()

    def left(self, backend: Backend) -> tuple[int, int]:
        """(active, backup) servers of a backend that are usable now."""
        here = [r for r in self.rows if r.backend is backend and r.usable]
        backups = sum(r.server.backup for r in here)
        return len(here) - backups, backups


class ServerState:
    """One `server` line in one process. health is `h` of the reference, 0 .. rise + fall - 1."""

    def __init__(self, worker: Worker, edge: Edge, backend: Backend, server: Server):
        self.worker, self.edge, self.backend, self.server = worker, edge, backend, server
        self.check_edge = check_edge(worker.world, edge, server)
        check = server.check
        self.rise, self.fall = (check.rise, check.fall) if check else (2, 3)
        self.health = self.rise
        self.up = True
        self.stopping = False  # 404 with disable-on-404: no new requests, no error
        self.unresolved = False
        self.admin = "maint" if server.disabled else ""  # "" | maint | drain
        self.warming = 0  # number of the slow start under way
        self.warm_ups = 0
        self.last_mark = -1
        self.last_reason = ""
        self.checker: Checker | None = None

    # ---- what the data plane sees ------------------------------------------------------------
    @property
    def in_maintenance(self) -> bool:
        """MAINT by configuration, by hand or because the name does not resolve."""
        return self.unresolved or self.admin == "maint"

    @property
    def usable(self) -> bool:
        return self.up and not self.stopping and not self.unresolved and not self.admin

    @property
    def running(self) -> bool:
        """Fully UP: usable, and no slow start under way."""
        return self.usable and not self.warming

    @property
    def status(self) -> str:
        """Column `status` of `show stat`."""
        if self.in_maintenance:
            return "MAINT"
        if self.up and self.admin == "drain":
            return "DRAIN"
        if self.up and self.stopping:
            return "NOLB"
        if self.server.check is None:
            return "no check"
        top = self.rise + self.fall - 1
        if self.up:
            partly = f" {self.health - self.rise + 1}/{self.fall}" if self.health < top else ""
            return f"UP{partly}"
        return f"DOWN {self.health}/{self.rise}" if self.health else "DOWN"

    def start(self) -> None:
        """The state of a new process: h = rise, UP, full weight."""
        if self.server.slowstart_s:
            self._weigh(WEIGHT_SCALE, 100)
        self.apply()
        if self.server.observe and self.server.check:
            self.worker.world.spawn(self._observe(), f"observe {self.edge.name}")

    def apply(self) -> None:
        """Tell the data plane."""
        self.worker.world.set_rotation(self.edge, self.usable, self.running)
        if self.checker is not None:
            self.checker.state_changed()

    # ---- results of checks (set_server_check_status) -----------------------------------------
    def failed(self, reason: str, duration_ms: int | None = None, cause: int = -1) -> None:
        """One failure: h falls by one, and to 0 below rise; DOWN when it reaches 0."""
        changed = self.health > 0
        if changed:
            self.health = self.health - 1 if self.health - 1 >= self.rise else 0
        if changed or reason != self.last_reason:
            if cause < 0:
                cause = self.worker.machine.blame(self.edge)
            self.last_mark = self._log_check("failed", reason, duration_ms, cause)
        self.last_reason = reason
        if self.checker is not None:
            self.checker.state_changed()
        if self.health == 0 and self.up:
            self._down(reason, duration_ms)

    def passed(self, reason: str, duration_ms: int, stopping: bool = False) -> None:
        """One success: h rises by one, and to the top from rise on; UP when it reaches rise."""
        top = self.rise + self.fall - 1
        changed = self.health < top
        if changed:
            self.health += 1
            if self.health >= self.rise:
                self.health = top
        if changed and (self.backend.log_health_checks or not self.up):
            word = "conditionally succeeded" if stopping else "succeeded"
            cause = self.worker.machine.blame(self.edge)
            self.last_mark = self._log_check(word, reason, duration_ms, cause)
        self.last_reason = reason
        if self.health >= self.rise and not self.up:
            self._up(reason, duration_ms)
        elif stopping != self.stopping:
            self.stopping = stopping
            state = "stopping" if stopping else "running"
            self._log(f"is {state}", _reason(reason, duration_ms), self.last_mark)
            self.apply()

    def _down(self, reason: str, duration_ms: int | None) -> None:
        self.up, self.stopping, self.warming = False, False, 0
        self.apply()
        mark = self._log("is DOWN", _reason(reason, duration_ms) + self._left(), self.last_mark)
        if self.server.on_marked_down == "shutdown-sessions":
            self.worker.world.shutdown_sessions(self.edge)
        self._none_left(mark)

    def _up(self, reason: str, duration_ms: int) -> None:
        self.up = True
        self._warm_up(_reason(reason, duration_ms))
        self.apply()
        if self.server.on_marked_up == "shutdown-backup-sessions" and not self.server.backup:
            for row in self.worker.rows:
                if row.backend is self.backend and row.server.backup:
                    self.worker.world.shutdown_sessions(row.edge)
        self._log("is UP", _reason(reason, duration_ms) + self._left("online"), self.last_mark)

    # ---- maintenance, drain ------------------------------------------------------------------
    def enter_maintenance(self, why: str, cause: int) -> None:
        """The name does not resolve: no traffic, no checks, idle connections are closed."""
        was_up = self.up
        self.unresolved, self.warming = True, 0
        self.apply()
        word = "is going DOWN for maintenance" if was_up else "was DOWN and now enters maintenance"
        self._none_left(self._log(f"{word} ({why})", self._left().lstrip(". "), cause))

    def leave_maintenance(self, cause: int) -> None:
        """h = rise and UP at once, without any check."""
        self.unresolved, self.up, self.stopping, self.health = False, True, False, self.rise
        self._warm_up("resolves again")
        self.apply()
        self._log("is UP/READY (resolves again)", "", cause)

    def set_state(self, state: str, cause: int = -1) -> None:
        """`set server B/S state ready|drain|maint` of the runtime API."""
        before, self.admin = self.admin, "" if state == "ready" else state
        if before == self.admin:
            return
        if state == "drain":
            words = "enters drain state"
        elif state == "maint":
            words = "is going DOWN for maintenance"
        else:
            words = f"is {'UP' if self.up else 'DOWN'} (leaving forced {before})"
            if before == "maint":
                self.health, self.up = self.rise, True
        self.apply()
        self._log(words, "", cause)

    # ---- slow start, observed errors ---------------------------------------------------------
    def _warm_up(self, why: str) -> None:
        if self.server.slowstart_s > 0:
            self.warm_ups += 1
            self.warming = self.warm_ups
            self.worker.world.spawn(self._warm(self.warming, why), f"slowstart {self.edge.name}")

    def _warm(self, number: int, why: str) -> Generator:
        """Each second a larger share of the weight and of maxconn (server_warmup)."""
        span_s = ceil(self.server.slowstart_s)
        for t in range(span_s):
            self._weigh((WEIGHT_SCALE * t + span_s) // span_s, 100 * t // span_s)
            yield self.worker.world.seconds(1)
            yield from self.worker.process.awake()
            if self.warming != number or not self.worker.alive:
                return
        self._weigh(WEIGHT_SCALE, 100)
        self.warming = 0
        self.apply()
        self._log("is UP", why + self._left("online"), self.last_mark)

    def _weigh(self, sixteenths: int, percent: int) -> None:
        """maxconn keeps at least 1 (srv_dynamic_maxconn); static algorithms ignore weights."""
        world, server = self.worker.world, self.server
        if self.backend.balance.split("(")[0] in DYNAMIC:
            world.set_weight(self.edge, server.weight * sixteenths)
        if server.maxconn:
            world.set_maxconn(self.edge, max(1, server.maxconn * percent // 100))

    def _observe(self) -> Generator:
        """`observe`: at error-limit consecutive errors of traffic, `on-error` (health_adjust)."""
        worker, server = self.worker, self.server
        while worker.alive:
            yield worker.world.observed(self.edge)
            yield from worker.process.awake()
            if not worker.alive:
                return
            if not self.up or self.in_maintenance:
                continue
            if server.on_error == "sudden-death":
                self.health = min(self.health, self.rise + 1)
            elif server.on_error == "mark-down":
                self.health = self.rise
            if server.on_error != "fastinter":
                info = f"Detected {server.error_limit} consecutive errors"
                self.failed(f'Health analyze, info: "{info}"')
            if self.checker is not None:
                self.checker.hurry()

    # ---- words -------------------------------------------------------------------------------
    def _log_check(self, word: str, reason: str, duration_ms: int | None, cause: int) -> int:
        if self.health >= self.rise:
            state = f"{self.health - self.rise + 1}/{self.fall} UP"
        else:
            state = f"{self.health}/{self.rise} DOWN"
        event = f"Health check for {self._name} {word}"
        detail = f"{_reason(reason, duration_ms)}, status: {state}"
        return self.worker.world.log(self.worker.instance, event, detail, cause=cause)

    def _log(self, words: str, detail: str, cause: int) -> int:
        """`origin`: the line that sets the pace of this server's checks."""
        server = self.server
        where = server.check.where if server.check else {}
        origin = where.get("inter_s") or where.get("inter") or server.span
        event = f"{self._name[0].upper()}{self._name[1:]} {words}"
        return self.worker.world.log(
            self.worker.instance, event, detail, cause=cause, origin=origin
        )

    @property
    def _name(self) -> str:
        backup = "backup " if self.server.backup else ""
        return f"{backup}server {self.backend.name}/{self.server.name}"

    def _left(self, word: str = "left") -> str:
        active, backup = self.worker.left(self.backend)
        return f". {active} active and {backup} backup servers {word}."

    def _none_left(self, cause: int) -> None:
        if self.worker.left(self.backend) == (0, 0):
            event = f"backend {self.backend.name} has no server available!"
            self.worker.world.log(self.worker.instance, event, cause=cause)


def _reason(reason: str, duration_ms: int | None) -> str:
    took = "" if duration_ms is None else f", check duration: {duration_ms}ms"
    return f"reason: {reason}{took}"


def check_edge(world: World, edge: Edge, server: Server) -> Edge:
    """The edge of a server's checks: its own, unless they go to another process."""
    if server.check_instance in ("", edge.target):
        return edge
    ways = (
        e for e in world.edges() if (e.source, e.target) == (edge.source, server.check_instance)
    )
    return next((e for e in ways if not e.server), edge)


def server_edges(world: World, balancer: Balancer) -> dict[tuple[str, str], Edge]:
    """(backend, server) -> edge, for the servers that lead to an instance."""
    found = {}
    for edge in world.edges():
        start, _, backend = edge.source.partition("/")
        if start == balancer.instance and backend and edge.server:
            found[backend, edge.server.removeprefix(f"{backend}/")] = edge
    return found
