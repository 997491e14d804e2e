"""Run one case in the kernel and in the oracle and bring both into the same words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from oracle_clock import SECOND
from oracle_engine import Line, Oracle

from hasim.model import Stack
from hasim.scenario import Scenario
from hasim.sim import arrays
from hasim.sim.engine import Engine
from hasim.sim.kernel import door
from hasim.sim.kernel import layout as L
from hasim.sim.programs import compile_stack
from hasim.sim.trace import BUCKETS, LOW, SUB
from hasim.sim.world import CheckPlan, Edge


@dataclass(frozen=True)
class Case:
    """A stack under load; commands are (time in ns, verb, name of an edge or instance, *args)."""

    stack: Stack
    scenario: Scenario
    commands: tuple[tuple, ...] = ()
    seed: int = 1
    replication: int = 0
    end_ns: int = 10 * SECOND


@dataclass
class Outcome:
    """What both must agree on."""

    lines: list[Line]
    counts: dict[str, int]
    log: dict[tuple[str, str], int]
    at_end: dict[str, Any]
    results: list[tuple[int, int, int]]  # of health checks
    waits: dict[str, list[int]] = field(default_factory=dict)  # for pools, by bucket
    reached: dict[str, int] = field(default_factory=dict)  # how often rules of the oracle applied
    ties: int = 0  # threads of shared processors that were done at one instant, in some order


COUNTS = {
    "requests": L.STARTED, "retries": L.RETRIES, "redispatches": L.REDISPATCHES,
    "replays": L.REPLAYS, "client_retries": L.CLIENT_RETRIED, "iterations": L.ITERATIONS,
    "dropped_iterations": L.DROPPED, "interrupted": L.INTERRUPTED,
}  # fmt: skip


def _all_up(names_and_servers: list[tuple[str, bool]]) -> list[tuple]:
    out: list[tuple] = []
    for name, is_server in names_and_servers:
        out.append((0, "set_connect", name, 0))
        if is_server:
            out.append((0, "set_rotation", name, True, True))
    return out


def run_kernel(case: Case) -> Outcome:
    """The compiled kernel under the engine's commands, probes off."""
    scenario = replace(case.scenario, probe_rate=0.0)
    tables = compile_stack(case.stack)
    arrays.load_rows(tables, scenario)
    engine = Engine(tables, scenario, case.seed, case.replication, keep_requests=True)
    edges = {e.name: e for e in tables.edges}
    by_edge = ("set_connect", "set_rotation", "set_delay", "set_maxconn", "shutdown_sessions")
    up = _all_up([(e.name, bool(e.server)) for e in tables.edges])
    started = False
    results: list[tuple[int, int, int]] = []
    for at, verb, target, *args in [*up, *case.commands]:
        if at > 0 and not started:
            engine.start_load()
            started = True
        engine.run_until(at)
        if verb == "check":
            _check(engine, edges[target], args, results)
        else:
            getattr(engine, verb)(edges[target] if verb in by_edge else target, *args)
    if not started:
        engine.start_load()
    engine.run_until(case.end_ns)
    door.close_books(engine.k)
    engine.flush_requests()
    rows = np.concatenate(engine.requests)
    lines = [_line(tables, r) for r in rows.tolist()]
    log: Counter = Counter()
    for row, counts in enumerate(engine.k.terms.reshape(-1, len(L.TERMS)).tolist()):
        name = tables.edges[row - 1].name if 0 < row <= len(tables.edges) else "<NOSRV>"
        for letters, n in zip(L.TERMS, counts, strict=True):
            if n and not letters.startswith("tcp"):
                log[name, letters] += n
    k = engine.k
    at_end = {f"served {e.name}": int(k.edges[i]["served"]) for i, e in enumerate(tables.edges)}
    at_end |= {
        f"idle {e.name}": int(k.edges[i]["idle"]) for i, e in enumerate(tables.edges) if e.server
    }
    for i, inst in enumerate(tables.stations):
        at_end[f"refused {inst.name}"] = _refused(k, i)
        at_end[f"commits {inst.name}"] = engine.commits(inst.name)
        at_end[f"late commits {inst.name}"] = engine.commits_since(inst.name, case.end_ns // 2)
        at_end[f"busy {inst.name}"] = int(k.stations[i]["busy"])
        at_end[f"inflight {inst.name}"] = int(k.stations[i]["inflight"])
    for name, b in tables.balancer_of.items():
        at_end[f"connections {name}"] = int(k.balancers[b]["conns"])
    at_end["in memory"] = int(k.g[L.USED_SLOTS])
    counts = {n: int(k.g[i]) for n, i in COUNTS.items()}
    hist = k.pool_hist.reshape(-1, len(k.pools), BUCKETS).sum(axis=0)
    waits = {n: np.flatnonzero(row).repeat(row[row > 0]).tolist()
             for n, row in zip(tables.pools, hist, strict=False)}  # fmt: skip
    return Outcome(lines, counts, dict(log), at_end, sorted(results), waits)


def _refused(k: Any, station: int) -> int:
    """Clients that a database has refused."""
    if not hasattr(k, "refused"):
        return 0
    return int(k.refused.reshape(-1, len(k.stations))[:, station].sum())


def _check(engine: Engine, edge: Edge, args: list, results: list) -> None:
    """A health check, whose result comes by an event."""
    number = engine._next_check
    event = engine.check(edge, CheckPlan(*args))
    event.callbacks.append(lambda e: results.append((engine.env.now, number, e.value)))


def _line(tables: Any, row: tuple) -> Line:
    t, latency, op, edge, outcome, term, retries, redispatched = row
    server = tables.edges[edge].name if edge >= 0 else "<NOSRV>"
    letters = L.TERMS[term - 100] if term >= 100 else ""
    return Line(t, t + latency, tables.ops[op], server, outcome, letters, retries, redispatched > 0)


def run_oracle(case: Case) -> Outcome:
    """The readable implementation."""
    users = arrays.user_count(case.scenario)
    size = 1 << max(8, (2 * users + 64).bit_length())
    sim = Oracle(case.stack, case.scenario, case.seed, case.replication, size)
    sim.most_users = users
    sim.edge_numbers = {e.name: n for n, e in enumerate(compile_stack(case.stack).edges)}
    up = _all_up([(n, getattr(w, "station", None) is not None and w.backend.is_haproxy)
                  for n, w in sim.ways.items()])  # fmt: skip
    started = False
    for at, verb, target, *args in [*up, *case.commands]:
        if at > 0 and not started:
            sim.start_load()
            started = True
        sim.clock.run_until(at)
        sim.command(verb, target, *args)
    if not started:
        sim.start_load()
    sim.clock.run_until(case.end_ns)
    sim.close_books()
    at_end: dict[str, Any] = {}
    for name, way in sim.ways.items():
        at_end[f"served {name}"] = getattr(way, "served", 0)
        if hasattr(way, "backend") and way.backend.is_haproxy:
            at_end[f"idle {name}"] = len(way.idle)
    for name, s in sim.stations.items():
        at_end[f"busy {name}"], at_end[f"inflight {name}"] = s.busy, s.inflight
        at_end[f"refused {name}"] = len(s.refusals)
        at_end[f"commits {name}"] = len(s.commits)
        at_end[f"late commits {name}"] = sum(t > case.end_ns // 2 for t in s.commits)
    for name, b in sim.balancers.items():
        at_end[f"connections {name}"] = b.connections
    at_end["in memory"] = len(sim.places.holders)
    waits = {f"{p.station.name}->{p.to}": sorted(_bucket(w) for w in p.waits) for p in sim.pools}
    return Outcome(
        sim.lines, {n: sim.count[n] for n in COUNTS}, dict(sim.log), at_end, sorted(sim.results),
        waits, dict(sim.count), sum(s.ties for s in sim.stations.values()),
    )  # fmt: skip


def _bucket(wait_ns: int) -> int:
    """64 buckets an octave from 2**LOW ns on (trace.bucket_edges_s)."""
    if wait_ns < 1 << LOW:
        return 0
    octave = wait_ns.bit_length() - 1
    return min(BUCKETS - 1, (octave - LOW) * SUB + (wait_ns >> (octave - 6)) % SUB)


def _in_order(lines: list[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (line.end, line.start, *map(str, line[2:])))


def difference(case: Case, tolerance_ns: int = 0) -> str:
    """Where the two first disagree; "" when they agree.

    The order of requests that end in one instant is nobody's business: a trace does not keep it.
    """
    kernel, oracle = run_kernel(case), run_oracle(case)
    pairs = zip(_in_order(kernel.lines), _in_order(oracle.lines), strict=False)
    for n, (a, b) in enumerate(pairs):
        near = abs(a.start - b.start) <= tolerance_ns and abs(a.end - b.end) <= tolerance_ns
        if not near or a[2:] != b[2:]:
            return f"request {n}:\n  kernel {a}\n  oracle {b}"
    if len(kernel.lines) != len(oracle.lines):
        more = kernel.lines if len(kernel.lines) > len(oracle.lines) else oracle.lines
        extra = more[min(len(kernel.lines), len(oracle.lines))]
        return f"kernel {len(kernel.lines)} requests, oracle {len(oracle.lines)}; first: {extra}"
    if kernel.results != oracle.results:
        return f"checks: kernel {kernel.results}, oracle {oracle.results}"
    for name in ("counts", "log", "at_end", "waits"):
        a, b = getattr(kernel, name), getattr(oracle, name)
        if a != b:
            keys = sorted(k for k in {*a, *b} if a.get(k) != b.get(k))
            words = [f"{k}: kernel {a.get(k)}, oracle {b.get(k)}" for k in keys]
            return f"{name}: " + "; ".join(words)
    return ""
