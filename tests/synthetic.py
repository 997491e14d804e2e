"""Synthetic traces with a known truth: what a simulation would hand down, without one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from hasim.model import Backend, Balancer, Check, Dist, Endpoint, Host, Instance, Server, Service
from hasim.model import Stack as StackType
from hasim.scenario import Budget, Fault, Load, Scenario, Threshold, When
from hasim.sim.trace import BUCKETS, OK, OUTCOMES, TIMEOUT, FaultSpan, Mark, Trace, bucket_edges_s
from hasim.source import Default, Span

OPS = ("gw/browse", "gw/publish")
INSTANCES = ("gw-1", "gw-2", "lb")
SERVERS = ("gw/l09-1", "gw/l09-2")
FAULT_S, REPAIR_S, END_S = 100.0, 200.0, 400.0


def threshold(text: str, aggregate: str, operator: str, limit: float, q: float = 0.0) -> Threshold:
    return Threshold(text, aggregate, operator, limit, q)


def budget(metric: str, of: Threshold, **tags: str) -> Budget:
    return Budget(metric, tuple(tags.items()), of, Span("scenarios.yaml", 9, 5))


def check(**changes: object) -> Check:
    line = Span("haproxy.cfg", 29, 12)
    base = Check("http", "/health/live", (), 2.0, 2.0, 2.0, 2, 3, None, 5.0)
    base = replace(base, where={"inter_s": line, "rise": Default("manual 5.2"), "url": line})
    return replace(base, **changes)  # type: ignore[arg-type]


def stack(**backend: object) -> StackType:
    servers = tuple(
        Server(
            f"l09-{i}",
            f"gw-{i}",
            8009,
            f"gw-{i}",
            "bridge",
            check(),
            span=Span("haproxy.cfg", 29 + i, 3),
        )
        for i in (1, 2)
    )
    where = {
        "timeout_server_s": Span("haproxy.cfg", 14, 21),
        "timeout_connect_s": Span("haproxy.cfg", 12, 21),
        "retries": Default("manual 4.2"),
        "redispatch": Default("manual 4.2"),
    }
    base = Backend(
        "gw",
        "http",
        "roundrobin",
        servers,
        timeout_connect_s=5.0,
        timeout_server_s=50.0,
        where=where,
    )
    back = replace(base, **backend)  # type: ignore[arg-type]
    gateways = tuple(
        Instance(f"gw-{i}", "service", "host-a", "gw", f"gw-{i}", cpus=2.0, mem_limit_bytes=1000)
        for i in (1, 2)
    )
    return StackType(
        folder="models/x",
        name="x",
        sha256="0" * 64,
        inputs=(("compose.yml", "1" * 64), ("haproxy.cfg", "2" * 64)),
        hosts=(Host("host-a", 8.0, 16000),),
        links=(),
        instances=(*gateways, Instance("lb", "haproxy", "host-a", "lb")),
        services=(Service("gw", health=(Endpoint("/health/live", Dist("const", 0.001)),)),),
        balancers=(Balancer("lb", (2, 8, 0), 4096, (), (back,)),),
        entries=(),
        groups={},
    )


def scenario(*budgets: Budget, **changes: object) -> Scenario:
    fault = Fault("pause", "gw-1", When(Dist("const", FAULT_S)), Dist("const", REPAIR_S - FAULT_S))
    load = Load("steady", "constant-vus", ((END_S, 100.0),), 100.0)
    base = Scenario("gateway-pause", "A gateway stands still.", load, (fault,), budgets)
    return replace(base, **changes)  # type: ignore[arg-type]


def bucket(latency_s: float) -> int:
    """The latency bucket of a duration."""
    return int(min(np.searchsorted(bucket_edges_s(), latency_s, side="right"), BUCKETS - 1))


def probes(bad: list[tuple[float, float]], end_s: float = END_S) -> dict[str, object]:
    """Two paths asked ten times a second; `write` is bad within the spans, `read` never."""
    starts = np.arange(0, end_s, 0.1).round(3)
    hit = np.zeros(len(starts), dtype=bool)
    for a, b in bad:
        hit |= (starts >= a - 1e-9) & (starts < b - 1e-9)
    latency = np.where(hit, math.nan, 0.02)
    return {
        "probe_paths": ("read", "write"),
        "probe_path": np.repeat([0, 1], len(starts)),
        "probe_start_s": np.tile(starts, 2),
        "probe_latency_s": np.concatenate([np.full(len(starts), 0.02), latency]),
        "probe_outcome": np.concatenate(
            [np.full(len(starts), OK), np.where(hit, TIMEOUT, OK)]
        ).astype(np.int8),
    }


def per_second(seconds: int) -> dict[str, np.ndarray]:
    """Everything constant: 10 requests, half a core and 400 bytes per container."""
    return {
        "started": np.full((seconds, 2), 5.0),
        "ok": np.full((seconds, 2), 5.0),
        "failed": np.zeros((seconds, 2)),
        "p50_s": np.full(seconds, 0.01),
        "p99_s": np.full(seconds, 0.02),
        "vus": np.full(seconds, 100.0),
        "dropped_iterations": np.zeros(seconds),
        "cpu_s": np.full((seconds, 3), 0.5),
        "throttled_s": np.zeros((seconds, 3)),
        "rss_bytes": np.full((seconds, 3), 400.0),
        "inflight": np.full((seconds, 3), 2.0),
        "in_rotation": np.ones((seconds, 2)),
        "sessions": np.full((seconds, 2), 3.0),
    }


def trace(
    replication: int = 0,
    bad: list[tuple[float, float]] | None = None,
    down_s: float = 110.9,
    ok: int = 1000,
    failed: dict[int, int] | None = None,
    **changes: object,
) -> Trace:
    """gw-1 pauses at 100 s until 200 s; `failed` {outcome: n} began during the outage.

    Each segment holds `ok` good requests of 10 ms per op (the outage segment included).
    """
    bad = [(FAULT_S, down_s)] if bad is None else bad
    starts = np.array(sorted({0.0, FAULT_S, REPAIR_S} | {round(b, 3) for _, b in bad if b < END_S}))
    shape = (len(starts), len(OPS), len(OUTCOMES))
    hist = np.zeros((*shape, BUCKETS), dtype=np.int64)
    sums = np.zeros(shape)
    hist[:, :, OK, bucket(0.010)] = ok
    sums[:, :, OK] = ok * 0.010
    at = int(np.searchsorted(starts, FAULT_S))
    for outcome, n in (failed or {}).items():
        hist[at, 0, outcome, bucket(50.0)] = n
        sums[at, 0, outcome] = n * 50.0
    marks = (
        Mark(0, -1, FAULT_S, "gw-1", "fault: pause", "", "scenarios.yaml", 20, 7),
        Mark(1, 0, down_s, "gw/l09-1", "Server gw/l09-1 is DOWN", "L7TOUT", "haproxy.cfg", 29, 12),
        Mark(2, 0, REPAIR_S, "gw-1", "repair: pause", ""),
        Mark(3, 2, REPAIR_S + 3, "gw/l09-1", "Server gw/l09-1 is UP", "L7OK"),
    )
    base = Trace(
        scenario="gateway-pause",
        replication=replication,
        seed=7,
        duration_s=END_S,
        ops=OPS,
        writes=(False, True),
        instances=INSTANCES,
        servers=SERVERS,
        segment_start_s=starts,
        hist=hist,
        latency_sum_s=sums,
        per_second=per_second(int(END_S)),
        counters={"iterations": 2000, "requests": 4000, "retries": 8, "checks": 400},
        terminations=((("gw/l09-1", "504", "sH--"), 40), (("gw/l09-2", "200", "----"), 3000)),
        timeline=marks,
        faults=(FaultSpan("pause", "gw-1", FAULT_S, REPAIR_S, 0),),
        **probes(bad),  # type: ignore[arg-type]
    )
    return replace(base, **changes)  # type: ignore[arg-type]
