"""The one seam between the two planes: control processes act on requests only through World.

Control-plane code (components, network, faults) holds a World. It changes the data plane only by
the commands below and learns of it only through events and views. Time is int nanoseconds;
`env.now` is exact. At one instant the control plane runs before the data plane.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import simpy

from hasim.model import Stack
from hasim.scenario import Scenario
from hasim.source import Default, Span
from hasim.units import NS as NS

# What a connect over one edge (a `server` line, a client's way in, a call to a service) meets.
CONNECTS, REFUSED, SILENT, NO_ROUTE = range(4)

# Results of a health check slot: an HTTP status (>= 100) or one of these.
L4CON, L4TOUT, L7TOUT, L7RSP = -1, -2, -3, -4


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """One health check as the data plane shall run it; deadlines are absolute ns, 0: none.

    kind: "http" | "tcp". connect_by: the connect fails with L4TOUT then. answer_by: without a
    whole reply then L7TOUT (L4TOUT if still connecting). answer_within: as answer_by, but counted
    from the moment of connection.
    """

    kind: str
    url: str
    connect_by: int
    answer_by: int
    answer_within: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How a check that passes is repeated: each starts gap_ms after the end of the one before,
    changed by the fraction `spread` of draw(process, tick, "spread") and by a drift of low to high
    us, drawn by draw(process, tick, "drift"). expect: the one good status, 0 for any 2xx or 3xx.
    """

    process: str
    gap_ms: int
    drift_us: tuple[int, int]
    spread: float = 0.0
    expect: int = 0
    patience_s: float = 0.05


@dataclass(frozen=True, slots=True)
class Repeated:
    """Why the data plane stopped repeating a check. tick: number of the check at hand; due_ns: its
    start if it has not begun (start_ns 0). code: its result; None: no result yet.
    """

    tick: int
    due_ns: int
    start_ns: int
    code: int | None


class World:
    """State that both planes share, commands, events, the timeline, named random draws."""

    env: simpy.Environment
    stack: Stack
    scenario: Scenario
    start_ns: int  # env time at which the load starts; timeline times count from it

    # ---- randomness and timeline -------------------------------------------------------------
    def draw(self, process: str, tick: int, purpose: str = "") -> float:
        """A uniform number in [0, 1) made of (seed, replication, process, tick, purpose)."""
        raise NotImplementedError

    def log(
        self,
        component: str,
        event: str,
        detail: str = "",
        *,
        cause: int = -1,
        origin: Span | Default | None = None,
    ) -> int:
        """Append a timeline row in the daemon's own words; returns its id for later `cause=`."""
        raise NotImplementedError

    def segment(self) -> None:
        """A fault or a repair happens now: the windows in which requests begin divide here."""
        raise NotImplementedError

    def seconds(self, s: float) -> simpy.Event:
        """A SimPy timeout of s seconds, rounded to ns."""
        raise NotImplementedError

    def spawn(self, process: Generator, name: str) -> simpy.Process:
        """Start a control process."""
        raise NotImplementedError

    # ---- commands on instances (service containers), by instance name ------------------------
    def crash(self, instance: str) -> None:
        """The process dies: its requests end (callers see FIN/RST), idle connections vanish."""
        raise NotImplementedError

    def freeze(self, instance: str) -> None:
        """SIGSTOP: the kernel still accepts, nothing is answered, timers of peers go on."""
        raise NotImplementedError

    def thaw(self, instance: str) -> None:
        """SIGCONT: work goes on where it stopped."""
        raise NotImplementedError

    def close_idle(self, instance: str) -> None:
        """The process closes its idle connections (FIN); requests under way go on."""
        raise NotImplementedError

    def drained(self, instance: str) -> simpy.Event:
        """An event that fires once no request is under way on the instance (now, if none is)."""
        raise NotImplementedError

    def set_speed(self, instance: str, factor: float) -> None:
        """CPU work on the instance takes 1/factor of its time (0.25 for `slow {cpu: 4x}`)."""
        raise NotImplementedError

    def set_health(self, instance: str, url: str, status: int) -> None:
        """The health URL answers this status from now on (0: what the profile says)."""
        raise NotImplementedError

    # ---- commands on data nodes (a database or store that keeps what is written to it) ---------
    def set_writable(self, instance: str, on: bool) -> None:
        """Off: a write is answered with an error at once (read-only, READONLY, NOREPLICAS)."""
        raise NotImplementedError

    def set_commit(self, instance: str, extra_s: float | None) -> None:
        """Each commit waits this much longer (a synchronous standby's answer); None: it waits
        until set_commit says otherwise, then all that wait go on.
        """
        raise NotImplementedError

    def cut(self, instance: str) -> None:
        """The process closes all client connections; requests under way are lost. It goes on."""
        raise NotImplementedError

    def commits(self, instance: str) -> int:
        """Writes that the instance has acknowledged so far."""
        raise NotImplementedError

    def commits_since(self, instance: str, t_ns: int) -> int:
        """Writes acknowledged after t_ns (exact for the latest 65,536)."""
        raise NotImplementedError

    def measure(self, metric: str, value: float, **tags: str) -> None:
        """One value of a metric that the control plane knows (`acked_writes_lost`, ...)."""
        raise NotImplementedError

    # ---- commands on edges; an edge is a tuple (from, to) of names, see `edges` ---------------
    def edges(self) -> list[Edge]:
        """Every edge of the stack, in file order."""
        raise NotImplementedError

    def set_connect(self, edge: Edge, outcome: int) -> None:
        """What a connect over this edge meets from now on: CONNECTS, REFUSED, SILENT, NO_ROUTE.

        SILENT also holds back what established connections over it send (TCP retransmits).
        """
        raise NotImplementedError

    def set_delay(self, edge: Edge, extra_s: float) -> None:
        """Add to the round trip of the edge."""
        raise NotImplementedError

    # ---- commands on HAProxy server edges ------------------------------------------------------
    def set_rotation(self, edge: Edge, usable: bool, running: bool) -> None:
        """usable: in the balancing tree; running: fully UP (a redispatch rule asks for it).

        Leaving rotation hands the server's queue back to the backend where `option redispatch` is
        set; entering takes waiting requests from the backend's queue.
        """
        raise NotImplementedError

    def set_weight(self, edge: Edge, sixteenths: int) -> None:
        """Effective weight in 1/16 of a configured unit weight (slowstart)."""
        raise NotImplementedError

    def set_maxconn(self, edge: Edge, maxconn: int) -> None:
        """Dynamic server maxconn (slowstart); 0: no limit."""
        raise NotImplementedError

    def shutdown_sessions(self, edge: Edge) -> None:
        """`on-marked-down shutdown-sessions` (reference/haproxy.md section 2)."""
        raise NotImplementedError

    def check(self, edge: Edge, plan: CheckPlan) -> simpy.Event:
        """Send one health check through the data plane; the event's value is its result code."""
        raise NotImplementedError

    def repeat_check(
        self, edge: Edge, kind: str, url: str, pace: Pace, due_ns: int, tick: int
    ) -> simpy.Event:
        """Repeat a check while it passes, without control events; value: Repeated, when one fails,
        has no result within the pace's patience, or stop_repeat() is called.
        """
        raise NotImplementedError

    def stop_repeat(self, edge: Edge) -> None:
        """Take the check back: repeat_check's event fires now."""
        raise NotImplementedError

    def adopt_check(self, edge: Edge, plan: CheckPlan) -> simpy.Event:
        """The check that repeat_check left under way gets its deadlines; value: its result code."""
        raise NotImplementedError

    def observed(self, edge: Edge) -> simpy.Event:
        """Fires at `error-limit` consecutive errors of live traffic (`observe`); re-arm it."""
        raise NotImplementedError

    # ---- views -------------------------------------------------------------------------------
    def inflight(self, instance: str) -> int:
        """Requests under way on the instance, queued ones included."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Edge:
    """One way from a client to a port of an instance.

    source: "users", an instance name (service-to-service) or "balancer/backend" for a `server`
    line, whose `server` is its name. reach: bridge | published | host | overlay (design.md).
    discovery: how the client finds this end: "" (its address), "multihost" (libpq: the first host
    of a list that fits), "sentinel:<master name>@<instances asked>" (set_rotation says which edge
    new connections take; of such edges none is usable at the start).
    """

    source: str
    target: str
    server: str
    reach: str
    source_host: str
    target_host: str
    discovery: str = ""

    @property
    def name(self) -> str:
        """`l09-api-gateway/l09-1` for a server line, else `source->target`."""
        return self.server or f"{self.source}->{self.target}"
