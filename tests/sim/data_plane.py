"""Drive the data plane alone: a stack, a load, commands by the clock, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hasim.model import Dist, Host, Instance, Link, Op, Route, Service, Stack, Step
from hasim.scenario import Client, FlowStep, Load, Scenario
from hasim.sim import arrays
from hasim.sim.engine import Engine
from hasim.sim.kernel import layout as L
from hasim.sim.programs import compile_stack
from hasim.sim.trace import OUTCOMES
from hasim.sim.world import NS

PATIENT = Client("one-shot", timeout_s=1e6, keep_alive=False, replay=False)


class Line(NamedTuple):
    """One request of a user, times in seconds."""

    start_s: float
    latency_s: float
    op: str
    outcome: str


class Plane:
    """A replication without control processes; everything connects until a command says no."""

    def __init__(self, stack: Stack, load: Load, seed: int = 1, probe_rate: float = 0.0):
        scenario = Scenario("s", "", load, probe_rate=probe_rate)
        self.tables = compile_stack(stack)
        arrays.load_rows(self.tables, scenario)
        self.engine = Engine(self.tables, scenario, seed, 0, keep_requests=True)
        self.edges = {e.name: e for e in self.tables.edges}
        for edge in self.tables.edges:
            self.engine.set_connect(edge, L.CONNECTS)
            if edge.server:
                self.engine.set_rotation(edge, True, True)
        self.engine.start_load()

    @property
    def k(self) -> Any:
        return self.engine.k

    def until(self, t_s: float) -> Plane:
        """Run to a moment."""
        self.engine.run_until(round(t_s * NS))
        return self

    def connect(self, name: str, outcome: int) -> None:
        """What connects over every edge meet that leads to an instance, or has this name."""
        for edge in self.tables.edges:
            if name in (edge.target, edge.name):
                self.engine.set_connect(edge, outcome)

    def lines(self) -> list[Line]:
        """The requests that have ended."""
        self.engine.flush_requests()
        rows = np.concatenate(self.engine.requests)
        return [
            Line(t / NS, latency / NS, self.tables.ops[op], OUTCOMES[outcome])
            for t, latency, op, _, outcome, *_ in rows.tolist()
        ]

    def station(self, name: str) -> Any:
        return self.k.stations[self.tables.station_of[name]]


def stack_of(
    services: Sequence[Service],
    instances: Sequence[Instance],
    entries: Sequence[str],
    **fields: Any,
) -> Stack:
    """Services on hosts of 64 cores; users reach `entries` ("service/op") directly."""
    ways = {name: Route("address", "", "", "", name.partition("/")[0]) for name in entries}
    hosts = dict.fromkeys(i.host for i in instances)
    return Stack(
        "x", "x", "", (), tuple(Host(h, 64.0, 1 << 40) for h in hosts),
        fields.pop("links", ()), tuple(instances), tuple(services), fields.pop("balancers", ()),
        (), {}, op_entries=ways, **fields,
    )  # fmt: skip


def steady(op: str, rate: float, seconds: float, mix=()) -> Load:
    """Evenly spaced requests of patient one-shot users."""
    return Load(
        "l", "constant-arrival-rate", ((seconds, rate),), rate, max_vus=20_000,
        graceful_stop_s=3600.0, flow=(FlowStep(tuple(mix) or ((op, 1.0),)),), client=PATIENT,
    )  # fmt: skip


def io(seconds: float) -> Step:
    return Step("io", Dist("const", seconds))


def call(target: str, op: str, **fields: Any) -> Step:
    return Step("call", target=target, op=op, **fields)


def app(*steps: Step, **fields: Any) -> Service:
    """An async service `app` with one operation `q`."""
    return Service("app", 8, "async", ops=(Op("q", steps),), **fields)


def link(a: str, b: str, rtt_s: float) -> tuple[Link, ...]:
    return (Link(a, b, rtt_s),)


def bursts(op: str, rate: float, *counts: tuple[float, int]) -> Load:
    """(at, n): n requests, 1/rate apart, from that moment on; the first burst is at 0."""
    stages: list[tuple[float, float]] = []
    now = 0.0
    for at, n in counts:
        if at > now:
            stages += [(0.0, 0.0), (at - now, 0.0)]
        length = (n - 0.7 if not stages else n) / rate
        stages += [(0.0, rate), (length, rate)]
        now = at + length
    return Load(
        "l", "ramping-arrival-rate", tuple(stages), rate, max_vus=20_000, graceful_stop_s=3600.0,
        flow=(FlowStep(((op, 1.0),)),), client=PATIENT,
    )  # fmt: skip
