"""One replication under way: both planes, and the seam between them.

Engine is the World that control processes hold. run_until() is the glue: advance the data plane
to the next control event, turn notices into SimPy events at their instant, step SimPy.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator
from dataclasses import replace
from functools import cache

import numpy as np
import simpy

from hasim.errors import SimulationBug
from hasim.scenario import Scenario
from hasim.sim import arrays
from hasim.sim.kernel import door
from hasim.sim.kernel import layout as L
from hasim.sim.programs import health_operation
from hasim.sim.tables import Tables
from hasim.sim.trace import Mark
from hasim.sim.world import CheckPlan, Edge, Pace, Repeated, World
from hasim.source import Default, Span
from hasim.units import NS


@cache
def _stream(process: str, purpose: str) -> int:
    """The number of a named stream; crc32 is stable between runs and machines, unlike hash()."""
    return (zlib.crc32(process.encode()) | zlib.crc32(purpose.encode()) << 32) - (1 << 63)


class Engine(World):
    """The World of one replication (see hasim.sim.world for every command)."""

    def __init__(self, tables: Tables, scenario: Scenario, seed: int, replication: int, **options):
        self.tables, self.stack, self.scenario = tables, tables.stack, scenario
        self.seed, self.replication = seed, replication
        self.env = simpy.Environment(initial_time=0)
        self.start_ns = 0
        self.k = arrays.build(
            tables, scenario, seed, replication, options.get("keep_requests", False)
        )
        door.count_all(self.k)
        self.control_events = 0
        self.marks: list[tuple] = []
        self.measures: list[tuple] = []
        self.requests: list[np.ndarray] = []
        self._checks: dict[int, simpy.Event] = {}
        self._next_check = 0
        self._waiting: dict[tuple[int, int], simpy.Event] = {}
        self.on_oom = None  # set by the container machine: callable(instance)

    # ---- the glue ----------------------------------------------------------------------------
    def run_until(self, end_ns: int) -> None:
        """Run both planes to end_ns: control events up to it included, data events excluded."""
        while self._step(end_ns):
            pass
        if self.env.now < end_ns:
            self.env.run(until=end_ns)

    def run_until_event(self, event: simpy.Event) -> None:
        """Run both planes until a control event has been processed."""
        while not event.processed:
            if not self._step(L.FOREVER // 2):
                raise SimulationBug("the control plane stopped before the event came")

    def _step(self, end_ns: int) -> bool:
        """One control event, or the notices before it; False when end_ns is reached."""
        env = self.env
        peek = env.peek()
        door.advance(self.k, int(min(peek, end_ns)))
        if self.k.g[L.BUG]:
            raise SimulationBug(f"data plane stopped with code {int(self.k.g[L.BUG])}")
        if self.k.g[L.NOTES]:
            self._deliver()
            return True
        if peek > end_ns or peek == float("inf"):
            return False
        env.step()
        self.control_events += 1
        return True

    def env_now(self) -> int:
        """The later of the two planes' clocks."""
        return max(int(self.env.now), int(self.k.g[L.NOW]))

    def scenario_keeps_requests(self) -> bool:
        """Are request rows kept?"""
        return bool(self.k.g[L.REQUESTS_ON])

    def _deliver(self) -> None:
        """Turn the kernel's notices into SimPy events at their instant."""
        n = int(self.k.g[L.NOTES])
        rows = self.k.notices[:n].tolist()
        self.k.g[L.NOTES] = 0
        for t, kind, subject, value in rows:
            if kind == L.N_GROW:
                self.k = arrays.grow(self.k, bool(subject))
            elif kind == L.N_FLUSH:
                self.flush_requests()
            elif kind == L.N_CHECK:
                self._later(t, self._checks.pop(subject), value)
            elif kind == L.N_REPEAT:
                event = self._waiting.pop((L.N_REPEAT, subject), None)
                if event is not None:
                    self._later(t, event, self._repeated(subject, value))
            elif kind == L.N_OOM:
                self._call_at(t, subject)
            else:
                event = self._waiting.pop((kind, subject), None)
                if event is not None:
                    self._later(t, event, value)

    def _later(self, t: int, event: simpy.Event, value: object) -> None:
        def fire(_: simpy.Event) -> None:
            event.succeed(value)

        self.env.timeout(t - self.env.now).callbacks.append(fire)

    def _call_at(self, t: int, station: int) -> None:
        if self.on_oom is not None:
            name = self.tables.stations[station].name
            timer = self.env.timeout(t - self.env.now)
            timer.callbacks.append(lambda _: self.on_oom(name))

    def flush_requests(self) -> None:
        """Move the request rows out of the kernel's buffer."""
        n = int(self.k.g[L.NREQUESTS])
        self.requests.append(self.k.requests[:n].copy())
        self.k.g[L.NREQUESTS] = 0

    def _do(self, command, *args) -> None:
        """One command at the control plane's time, and what it made ready."""
        self._now()
        command(self.k, *args)
        if self.k.g[L.READY_HEAD] != self.k.g[L.READY_TAIL]:
            door.advance(self.k, int(self.env.now))

    def _now(self) -> None:
        """Commands act at the control plane's time, which the data plane has reached."""
        self.k.g[L.NOW] = self.env.now
        for probes, (all_, used) in enumerate(arrays.SLOT_COUNTS):
            while int(self.k.g[all_]) < 2 * int(self.k.g[used]) + 64:
                self.k = arrays.grow(self.k, bool(probes))

    def start_load(self) -> None:
        """The load starts now."""
        self.start_ns = int(self.env.now)
        self.control_events = 0
        self._now()
        self.k, first = arrays.start_load(self.k, self.tables, self.scenario, self.start_ns)
        door.start_users(self.k)
        for node, t in first:
            if t >= 0:
                door.start_node(self.k, node, t)
            else:
                door.start_arrivals(self.k, node - int(self.k.g[L.NODE_GEN]))

    # ---- randomness and timeline -------------------------------------------------------------
    def draw(self, process: str, tick: int, purpose: str = "") -> float:
        return door.uniform(self.k, tick, _stream(process, purpose))

    def log(
        self,
        component: str,
        event: str,
        detail: str = "",
        *,
        cause: int = -1,
        origin: Span | Default | None = None,
    ) -> int:
        number = len(self.marks)
        self.marks.append((number, cause, int(self.env.now), component, event, detail, origin))
        return number

    def timeline(self) -> tuple[Mark, ...]:
        """The marks, their time in seconds from the start of the load."""
        out = []
        for number, cause, t, component, event, detail, origin in self.marks:
            at = origin if isinstance(origin, Span) else Span("", 0, 0)
            t_s = (t - self.start_ns) / NS
            mark = Mark(number, cause, t_s, component, event, detail, at.file, at.line, at.col)
            if isinstance(origin, Default):
                mark = replace(mark, default=origin.source)
            out.append(mark)
        return tuple(out)

    def seconds(self, s: float) -> simpy.Event:
        return self.env.timeout(max(0, round(s * NS)))

    def spawn(self, process: Generator, name: str) -> simpy.Process:
        return self.env.process(process)

    # ---- commands ----------------------------------------------------------------------------
    def _station(self, instance: str) -> int:
        return self.tables.station_of.get(instance, -1)

    def crash(self, instance: str) -> None:
        if instance in self.tables.balancer_of:
            b = self.tables.balancer_of[instance]
            ways = [e for e in self.tables.edges if e.target == instance and not e.server]
            silent = any(self.k.edges[self.tables.edge_of[e]]["connect"] >= L.SILENT for e in ways)
            self._do(door.crash_balancer, b, silent)
            for edge in self.tables.edges:
                if edge.source.startswith(f"{instance}/"):
                    self.stop_repeat(edge)
        elif self._station(instance) >= 0:
            self._do(door.crash, self._station(instance))

    def freeze(self, instance: str) -> None:
        if instance in self.tables.balancer_of:
            self._do(door.freeze_balancer, self.tables.balancer_of[instance])
        else:
            self._do(door.freeze, self._station(instance))

    def thaw(self, instance: str) -> None:
        if instance in self.tables.balancer_of:
            self._do(door.thaw_balancer, self.tables.balancer_of[instance])
        else:
            self._do(door.thaw, self._station(instance))

    def close_idle(self, instance: str) -> None:
        if self._station(instance) >= 0:
            self._do(door.close_idle, self._station(instance))
        for edge, e in self.tables.edge_of.items():
            if edge.source.startswith(f"{instance}/"):  # a HAProxy process lets go of its own
                row = self.k.edges[e]
                self.k.stations[row["st"]]["idle"] -= row["idle"]
                row["idle"] = row["stale"] = 0

    def drained(self, instance: str) -> simpy.Event:
        event = self.env.event()
        if instance in self.tables.balancer_of:
            self.spawn(self._drain_balancer(instance, event), f"drain {instance}")
            return event
        st = self._station(instance)
        if st < 0 or self.k.stations[st]["inflight"] == 0:
            return event.succeed(0)
        self.k.stations[st]["watch_drain"] = 1
        self._waiting[L.N_DRAINED, st] = event
        return event

    def _drain_balancer(self, instance: str, event: simpy.Event) -> Generator:
        """A soft stop is rare: look every 10 ms whether HAProxy still has a request in hand."""
        bal = self.tables.balancer_of[instance]
        mine = np.flatnonzero(
            (self.k.backends["kind"] == L.HAPROXY) & (self.k.backends["bal"] == bal)
        )
        while True:
            s = self.k.slots
            live = (s["phase"] != L.FREE) & ((s["flags"] & (L.ZOMBIE | L.CHECK)) == 0)
            if not np.isin(s["be"][live], mine).any():
                event.succeed(0)
                return
            yield self.seconds(0.01)

    def set_speed(self, instance: str, factor: float) -> None:
        self._do(door.set_speed, self._station(instance), round(factor * 1e9))

    def set_health(self, instance: str, url: str, status: int) -> None:
        op = self.k.ops[health_operation(self.tables, instance, url)]
        op["http"] = (
            status or self.tables.rows["ops"][health_operation(self.tables, instance, url)]["http"]
        )

    # ---- data nodes ----------------------------------------------------------------------------
    def set_writable(self, instance: str, on: bool) -> None:
        self.k.stations[self._station(instance)]["writable"] = on

    def set_commit(self, instance: str, extra_s: float | None) -> None:
        extra = -1 if extra_s is None else round(extra_s * NS)
        self._do(door.set_commit, self._station(instance), extra)

    def cut(self, instance: str) -> None:
        self._do(door.cut, self._station(instance))

    def commits(self, instance: str) -> int:
        return int(self.k.stations[self._station(instance)]["commits"])

    def commits_since(self, instance: str, t_ns: int) -> int:
        row = self.k.stations[self._station(instance)]
        n, first = int(row["commits"]), int(row["ring"])
        ring = self.k.acks[first : first + L.RING]
        at = n % L.RING  # once it is full, the ring holds two ascending runs
        runs = (ring[:n],) if n <= L.RING else (ring[:at], ring[at:])
        return sum(len(run) - int(np.searchsorted(run, t_ns, side="right")) for run in runs)

    def measure(self, metric: str, value: float, **tags: str) -> None:
        t_s = (self.env_now() - self.start_ns) / NS
        self.measures.append((t_s, metric, tuple(tags.items()), float(value)))

    def edges(self) -> list[Edge]:
        return self.tables.edges

    def _edge(self, edge: Edge) -> int:
        return self.tables.edge_of[edge]

    def set_connect(self, edge: Edge, outcome: int) -> None:
        self._do(door.set_connect, self._edge(edge), outcome)

    def set_delay(self, edge: Edge, extra_s: float) -> None:
        base = self.tables.rows["edges"][self._edge(edge)]["rtt"]
        self.k.edges[self._edge(edge)]["rtt"] = base + round(extra_s * NS)

    def set_rotation(self, edge: Edge, usable: bool, running: bool) -> None:
        self._do(door.set_rotation, self._edge(edge), int(usable), int(running))

    def set_weight(self, edge: Edge, sixteenths: int) -> None:
        self._do(door.set_weight, self._edge(edge), sixteenths)

    def set_maxconn(self, edge: Edge, maxconn: int) -> None:
        self._do(door.set_maxconn, self._edge(edge), maxconn)

    def shutdown_sessions(self, edge: Edge) -> None:
        self._do(door.shutdown_sessions, self._edge(edge))

    def check(self, edge: Edge, plan: CheckPlan) -> simpy.Event:
        number = self._next_check
        self._next_check += 1
        event = self._checks[number] = self.env.event()
        op = -1
        if plan.kind == "http":
            op = health_operation(self.tables, edge.target, plan.url)
        self._do(
            door.submit_check,
            self._edge(edge),
            op,
            number,
            plan.connect_by,
            plan.answer_by,
            plan.answer_within,
        )
        return event

    def repeat_check(
        self, edge: Edge, kind: str, url: str, pace: Pace, due_ns: int, tick: int
    ) -> simpy.Event:
        e = self._edge(edge)
        row = self.k.repeats[e]
        row["edge"], row["expect"], row["tick"] = e, pace.expect, tick
        row["op"] = health_operation(self.tables, edge.target, url) if kind == "http" else -1
        row["gap_ms"], row["low_us"] = pace.gap_ms, pace.drift_us[0]
        row["span_us"] = pace.drift_us[1] - pace.drift_us[0]
        row["spread"], row["patience"] = pace.spread, round(pace.patience_s * NS)
        row["drift_stream"] = _stream(pace.process, "drift")
        row["spread_stream"] = _stream(pace.process, "spread")
        event = self._waiting[L.N_REPEAT, e] = self.env.event()
        self._do(door.start_repeat, e, due_ns)
        return event

    def _repeated(self, e: int, code: int) -> Repeated:
        row = self.k.repeats[e]
        return Repeated(int(row["tick"]), int(row["due"]), int(row["start"]), code or None)

    def stop_repeat(self, edge: Edge) -> None:
        e = self._edge(edge)
        event = self._waiting.pop((L.N_REPEAT, e), None)
        if event is not None:
            self._do(door.stop_repeat, e)
            event.succeed(self._repeated(e, 0))

    def adopt_check(self, edge: Edge, plan: CheckPlan) -> simpy.Event:
        number = self._next_check
        self._next_check += 1
        event = self._checks[number] = self.env.event()
        times = plan.connect_by, plan.answer_by, plan.answer_within
        self._do(door.adopt_check, self._edge(edge), number, *times)
        return event

    def observed(self, edge: Edge) -> simpy.Event:
        event = self.env.event()
        self._waiting[L.N_OBSERVED, self._edge(edge)] = event
        return event

    def segment(self) -> None:
        self._do(door.open_segment, 1)

    # ---- views -------------------------------------------------------------------------------
    def inflight(self, instance: str) -> int:
        return int(self.k.stations[self._station(instance)]["inflight"])

    def served(self, edge: Edge) -> int:
        """Requests that hold a place on a server now."""
        return int(self.k.edges[self._edge(edge)]["served"])
