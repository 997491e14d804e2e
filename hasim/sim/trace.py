"""The immutable result of one replication: what hasim.metrics reads, and nothing else does.

Time is seconds from the start of the load (boot events have negative times). All arrays are
plain numpy; a Trace pickles and is what a worker process sends back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Labels = tuple[tuple[str, str], ...]
# The gauges that a metric of that name looks at: read every second if a budget asks for them. A
# control process (Prometheus) reads the others when it needs them.
SAMPLED_GAUGES = ("replication_lag",)

# How a request ended, as its user saw it; the third axis of `hist`.
OK, CLIENT_4XX, APP_5XX, HTTP_502, HTTP_503, HTTP_504, EOF, NO_ENTRY, TIMEOUT, OPEN = range(10)
OUTCOMES = ("ok", "4xx", "5xx", "502", "503", "504", "eof", "no-entry", "timeout", "interrupted")
# NO_ENTRY: the entry point refused or stayed silent; k6 reports http_req_duration 0 for it.
# OPEN: still under way when the run ended; counted (count only, no latency), never dropped.

# Latency buckets: 64 per octave of nanoseconds (1.1 % wide at most in the middle: 0.8 % error),
# from 2**10 ns (about 1 us) to 2**41 ns (about 37 min). Below and above fall into the end buckets.
SUB = 64
LOW = 10
BUCKETS = (41 - LOW) * SUB


def bucket_edges_s() -> np.ndarray:
    """Upper edge in seconds of every latency bucket; shape (BUCKETS,)."""
    octave, sub = np.divmod(np.arange(BUCKETS), SUB)
    return np.ldexp(1.0 + (sub + 1) / SUB, octave + LOW) * 1e-9


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of the timeline: a transition and its cause (parent -1: none)."""

    id: int
    parent: int
    t_s: float
    component: str
    event: str
    detail: str
    file: str = ""
    line: int = 0
    col: int = 0
    default: str = ""  # where the manual gives the value behind it, if no file sets it


@dataclass(frozen=True, slots=True)
class FaultSpan:
    """One injected fault as it happened: start, repair (nan: none), and its timeline row."""

    do: str
    target: str
    start_s: float
    repair_s: float
    mark: int


@dataclass(frozen=True)
class Trace:
    """One replication.

    ops: names "service/op"; their order is the op axis everywhere.
    segment_start_s: shape (G,), ascending; segment 0 starts at 0. A segment begins at each fault,
        each repair and at each first good probe after a bad one, so that every window of
        design.md section 4 is a union of segments. A request belongs to the segment in which it
        began.
    hist: int64 (G, ops, OUTCOMES, BUCKETS), user latency of finished requests; column OPEN holds
        its count in bucket 0.
    latency_sum_s: float64 (G, ops, OUTCOMES), exact sums for means.
    per_second: {name: float64 (T,)} or (T, n): "started" (T, ops), "ok" (T, ops), "failed"
        (T, ops), "p50_s" and "p99_s" (T,) (nan without samples, by second of completion),
        "vus" (T,), "dropped_iterations" (T,), "cpu_s" (T, instances) CPU seconds used in that
        second, "throttled_s" (T, instances), "rss_bytes" (T, instances), "inflight"
        (T, instances), "in_rotation" (T, servers) 0/1, "sessions" (T, servers).
    instances: names of the columns of cpu_s...; servers: "backend/server" names.
    probe_*: one row per shadow probe: path index (into probe_paths), start, latency (nan when it
        failed), outcome code.
    counters: {name: count}: "iterations", "requests" (attempted by users), "retries",
        "redispatches", "replays", "oom_kills", "checks"...
    terminations: ((server, status, termination letters), count) as in HAProxy's log.
    void: why the scenario could not start ("" when it did).
    pools: names "instance->target" of the connection pools; pool_hist: int64 (G, pools, BUCKETS),
        how long checkouts waited; per_second "db_refused" (T, instances): connections that a
        database refused for want of a place.
    measures: (t_s, metric, ((tag, value), ...), value) that control processes know, as
        World.measure wrote them.
    gauges: (instance, metric, labels) -> value per second, nan without a sample; those of
        SAMPLED_GAUGES that a budget asks for.
    requests: optional record array (start_s, op, server, status, termination, retries, latency_s).
    """

    scenario: str
    replication: int
    seed: int
    duration_s: float
    ops: tuple[str, ...]
    writes: tuple[bool, ...]
    instances: tuple[str, ...]
    servers: tuple[str, ...]
    segment_start_s: np.ndarray
    hist: np.ndarray
    latency_sum_s: np.ndarray
    per_second: dict[str, np.ndarray]
    probe_paths: tuple[str, ...]
    probe_path: np.ndarray
    probe_start_s: np.ndarray
    probe_latency_s: np.ndarray
    probe_outcome: np.ndarray
    counters: dict[str, int]
    terminations: tuple[tuple[tuple[str, str, str], int], ...]
    timeline: tuple[Mark, ...]
    faults: tuple[FaultSpan, ...]
    void: str = ""
    requests: np.ndarray | None = None
    pools: tuple[str, ...] = ()
    pool_hist: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, BUCKETS), np.int64))
    measures: tuple[tuple[float, str, Labels, float], ...] = ()
    gauges: dict[tuple[str, str, Labels], np.ndarray] = field(default_factory=dict)
