"""simulate: a Stack and a Scenario in, Traces out.

Results depend on (files, scenario, seed, replication) alone, never on the number of workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from hasim.errors import SimulationBug
from hasim.model import Stack
from hasim.scenario import Scenario
from hasim.sim import arrays, vip
from hasim.sim.engine import Engine
from hasim.sim.faults import Faults
from hasim.sim.instances import Machine
from hasim.sim.kernel import door
from hasim.sim.kernel import layout as L
from hasim.sim.programs import compile_stack
from hasim.sim.request_rows import request_rows
from hasim.sim.sampler import Sampler
from hasim.sim.tables import ns
from hasim.sim.trace import BUCKETS, OUTCOMES, Trace
from hasim.sim.up import boot
from hasim.units import NS


def replicate(
    stack: Stack, scenario: Scenario, seed: int, replication: int, keep_requests: bool = False
) -> Trace:
    """One replication. SimulationBug if conservation or Little's law does not hold."""
    tables = compile_stack(stack)
    arrays.load_rows(tables, scenario)
    addresses = vip.virtuals(tables)
    engine = Engine(tables, scenario, seed, replication, keep_requests=keep_requests)
    machine = Machine(engine)
    vip.VirtualEntries(engine, machine, addresses)
    engine.run_until_event(boot(engine, machine))
    void = why_void(engine)
    faults = Faults(engine, machine)
    sampler = Sampler(engine, machine)
    engine.start_load()
    if not void:
        faults.start()
        engine.spawn(sampler.run(), "sampler")
        end = engine.start_ns + ns(scenario.load.duration_s)
        engine.run_until(end + 1)
        _drain(engine, end + ns(min(scenario.load.graceful_stop_s, 3600.0)))
        door.close_books(engine.k)
        _measure_clusters(engine, machine)
        _assert_books(engine)
    return _trace(engine, sampler, faults, replication, void)


def why_void(engine: Engine) -> str:
    """Why the load has no complete path at its start; "" if each operation has one."""
    k, tables = engine.k, engine.tables
    for op in tables.probe_ops:
        row = k.ops[op]
        name = tables.ops[op]
        if row["be"] < 0:
            return f"did not boot: no way for users to {name}"
        if row["entry"] >= 0 and k.edges[row["entry"]]["connect"] != L.CONNECTS:
            return f"did not boot: {tables.edges[row['entry']].target} does not answer ({name})"
        be = k.backends[row["be"]]
        servers = k.edges[be["first"] : be["first"] + be["count"]]
        if not any(s["usable"] and s["connect"] == L.CONNECTS for s in servers):
            return f"did not boot: no server for {name}"
    return ""


def _measure_clusters(engine: Engine, machine: Machine) -> None:
    """What each replicated set has lost, and how long two of its nodes accepted writes."""
    for name, cluster in machine.clusters.items():
        engine.measure("acked_writes_lost", cluster.lost(), cluster=name)
        split_s = cluster.split_brain_s(engine.start_ns)
        engine.measure("split_brain_seconds", split_s, cluster=name)


def _drain(engine: Engine, limit_ns: int) -> None:
    """After the last stage: iterations may end within gracefulStop (k6)."""
    while engine.k.g[L.ACTIVE] > 0 and engine.env_now() < limit_ns:
        engine.run_until(min(limit_ns, engine.env_now() + NS))


def _assert_books(engine: Engine) -> None:
    """Every request ended exactly once; the area under the number in the system is the sum of
    their times (Little's law in integral form), exactly, in integers.
    """
    g = engine.k.g
    if g[L.STARTED] != g[L.FINISHED]:
        raise SimulationBug(f"{g[L.STARTED]} requests began, {g[L.FINISHED]} ended")
    if g[L.AREA] != g[L.LATENCY_SUM]:
        raise SimulationBug(f"area {g[L.AREA]} ns is not the sum of times {g[L.LATENCY_SUM]} ns")


def _trace(engine: Engine, sampler: Sampler, faults: Faults, replication: int, void: str) -> Trace:
    k, tables, g = engine.k, engine.tables, engine.k.g
    n_ops, n_seg, seconds = tables.user_ops, int(g[L.NSEGMENT]), int(g[L.SECONDS])
    shape = (arrays.SEGMENTS, n_ops, len(OUTCOMES), BUCKETS)
    probes = k.probes[: int(g[L.NPROBES])]
    latency = np.where(probes["outcome"] == 0, probes["latency"] * 1e-9, np.nan)
    per_second = dict(sampler.out)
    for name in ("started", "ok", "failed"):
        per_second[name] = getattr(k, name).reshape(seconds, n_ops).astype(float)
    refused = k.refused.reshape(seconds, -1)[:, : len(tables.stations)]
    per_second["db_refused"] = refused.astype(float)
    requests = None
    if engine.scenario_keeps_requests():
        engine.flush_requests()
        requests = request_rows(np.concatenate(engine.requests), tables, engine.start_ns)
    return Trace(
        scenario=engine.scenario.name,
        replication=replication,
        seed=engine.seed,
        duration_s=engine.scenario.load.duration_s,
        ops=tuple(tables.ops[:n_ops]),
        writes=tuple(bool(k.ops[i]["write"]) for i in range(n_ops)),
        instances=tuple(i.name for i in tables.stations),
        servers=tuple(e.server for e in tables.edges if e.server),
        segment_start_s=(k.segments[:n_seg] - engine.start_ns) / NS,
        hist=k.hist.reshape(shape)[:n_seg],  # not copied: most of it is empty
        latency_sum_s=k.sums.reshape(shape[:3])[:n_seg].copy(),
        per_second=per_second,
        probe_paths=tuple(tables.ops[op] for op in tables.probe_ops),
        probe_path=probes["path"].copy(),
        probe_start_s=(probes["t"] - engine.start_ns) / NS,
        probe_latency_s=latency,
        probe_outcome=probes["outcome"].copy(),
        counters=_counters(engine),
        terminations=_terminations(engine),
        timeline=engine.timeline(),
        faults=faults.spans,
        void=void,
        requests=requests,
        pools=tuple(tables.pools),
        pool_hist=_pool_hist(k, n_seg, len(tables.pools)),
        measures=tuple(engine.measures),
        gauges=sampler.gauges,
    )


def _pool_hist(k, n_seg: int, pools: int) -> np.ndarray:
    """How long checkouts waited: (segments, pools, BUCKETS)."""
    return k.pool_hist.reshape(arrays.SEGMENTS, -1, BUCKETS)[:n_seg, :pools]


def _counters(engine: Engine) -> dict[str, int]:
    g = engine.k.g
    names = {
        "iterations": L.ITERATIONS, "requests": L.STARTED, "retries": L.RETRIES,
        "redispatches": L.REDISPATCHES, "replays": L.REPLAYS, "client_retries": L.CLIENT_RETRIED,
        "checks": L.CHECKS, "dropped_iterations": L.DROPPED, "interrupted": L.INTERRUPTED,
        "events": L.NEVENTS,
    }  # fmt: skip
    out = {name: int(g[i]) for name, i in names.items()}
    out["control_events"] = engine.control_events
    out["oom_kills"] = sum(event == "oom-kill" for _, _, _, _, event, _, _ in engine.marks)
    return out


def _terminations(engine: Engine) -> tuple:
    """((server, status, letters), count), in order of server and kind."""
    table = engine.k.terms.reshape(-1, len(L.TERMS))
    out = []
    for row, counts in enumerate(table):
        server = (
            "<NOSRV>" if row == 0 else engine.tables.edges[row - 1].name if counts.any() else ""
        )
        for term, n in enumerate(counts):
            if n:
                status, _, letters = L.TERMS[term].partition(" ")
                out.append(((server, status, letters.partition(" ")[0]), int(n)))
    return tuple(out)


def warm_up(say: Callable[[str], None]) -> None:
    """Compile the kernel if this machine has not done it yet, and say so first."""
    from hasim.sim.kernel import is_compiled

    if not is_compiled():
        say("compiling the request kernel (once on this machine)")
    from hasim.sim.warm import compile_all

    compile_all()


def simulate(
    stack: Stack,
    scenario: Scenario,
    seed: int,
    replications: Iterable[int],
    keep_requests: bool = False,
) -> Iterator[Trace]:
    """Traces of the replications, in their order and in this process (hasim.runner uses more)."""
    for r in replications:
        yield replicate(stack, scenario, seed, r, keep_requests)


def default_jobs() -> int:
    """As many workers as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
