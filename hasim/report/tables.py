"""The tables of the run folder as rows of text: timeline, series, requests (docs/results.md)."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from hasim.model import Stack
from hasim.sim.trace import Mark, Trace

TIMELINE = (
    "scenario",
    "replication",
    "id",
    "parent_id",
    "t_s",
    "component",
    "event",
    "detail",
    "file",
    "line",
)
SERIES = ("scenario", "t_s", "service", "metric", "mean", "p05", "p50", "p95", "worst")
REQUESTS = (
    "scenario",
    "replication",
    "start_s",
    "op",
    "server",
    "status",
    "termination",
    "retries",
    "latency_s",
)
# A replication with more rows keeps only those that change who serves, and their causes.
MOST_ROWS = 1000
TURNS = re.compile(
    r"fault:|repair:|did not boot|oom|OOM|^[+-][a-z]|promoted|[Ss]erver \S+ is (?:going |DOWN|UP)"
    r"|has no server|container (?:die|kill|start|destroy)|listening|exits|draining|Reloading"
)
# Metrics for which less is worse; of all others the largest replication is the worst.
LESS_IS_WORSE = {"ok", "in_rotation", "vus", "started"}
# Column of Trace.per_second -> (metric name in series.csv, what its columns are called).
PER_SECOND = {
    "started": ("started", "ops"),
    "ok": ("ok", "ops"),
    "failed": ("failed", "ops"),
    "p50_s": ("p50_s", ""),
    "p99_s": ("p99_s", ""),
    "vus": ("vus", ""),
    "dropped_iterations": ("dropped_iterations", ""),
    "cpu_s": ("cpu_cores", "instances"),
    "throttled_s": ("throttled_s", "instances"),
    "rss_bytes": ("rss_bytes", "instances"),
    "inflight": ("inflight", "instances"),
    "in_rotation": ("in_rotation", "servers"),
    "sessions": ("sessions", "servers"),
}


def number(value: float) -> str:
    """At most four digits, whole numbers as they are, nothing for nan."""
    if math.isnan(value):
        return ""
    return str(int(value)) if value == int(value) else f"{value:.4g}"


def seconds(value: float) -> str:
    """A time of the timeline, to the microsecond."""
    return f"{value + 0.0:.6f}".rstrip("0").rstrip(".")


def pack(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A csv.gz whose bytes depend on the rows only: no name, no time, one compression level."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0)


# ---- timeline --------------------------------------------------------------------------------
def timeline_rows(trace: Trace, whole: bool) -> Iterator[tuple[Any, ...]]:
    """Rows of one replication; not `whole`: at most the turns of a very long timeline."""
    marks: Sequence[Mark] = trace.timeline
    if not whole and len(marks) > MOST_ROWS:
        marks = turns(marks)
    for m in marks:
        yield (
            trace.scenario,
            trace.replication,
            m.id,
            m.parent if m.parent >= 0 else "",
            seconds(m.t_s),
            m.component,
            m.event,
            m.detail,
            m.file,
            m.line or "",
        )


def turns(marks: Sequence[Mark]) -> list[Mark]:
    """The rows that change who serves, and all rows that caused them."""
    known = {m.id: m for m in marks}
    keep: set[int] = set()
    for mark in marks:
        at: Mark | None = mark if TURNS.search(mark.event) else None
        while at is not None and at.id not in keep:
            keep.add(at.id)
            at = known.get(at.parent)
    return [m for m in marks if m.id in keep]


# ---- series ----------------------------------------------------------------------------------
def columns(trace: Trace, stack: Stack, by_service: bool) -> dict[tuple[str, str], np.ndarray]:
    """(subject, metric) -> (T,): per service and backend, or per container and server."""
    service = {i.name: i.service or i.name for i in stack.instances}
    out: dict[tuple[str, str], np.ndarray] = {}
    for name, (metric, kind) in PER_SECOND.items():
        table = trace.per_second.get(name)
        if table is None or not len(table):
            continue
        if table.ndim == 1:
            out["", metric] = table
            continue
        for subject, column in zip(getattr(trace, kind), table.T, strict=True):
            if by_service and kind == "instances":
                subject = service.get(subject, subject)
            elif by_service and kind == "servers":
                subject = subject.partition("/")[0]
            key = (subject, metric)
            out[key] = out[key] + column if key in out else column
    return out


def series_rows(
    traces: Sequence[Trace], stack: Stack, everything: bool = False
) -> Iterator[tuple[Any, ...]]:
    """One row per metric, service and second, over all replications."""
    ran = [t for t in traces if not t.void]
    tables = [columns(t, stack, not everything) for t in ran]
    for key in sorted({key for table in tables for key in table}, key=lambda k: (k[1], k[0])):
        found = [table[key] for table in tables if key in table]
        length = min(len(x) for x in found)
        stacked = np.stack([x[:length] for x in found])
        yield from _over_replications(ran[0].scenario, key, stacked)


def _over_replications(
    scenario: str, key: tuple[str, str], table: np.ndarray
) -> Iterator[tuple[Any, ...]]:
    """Rows of one metric; table is (replications, T), nan where there was no sample."""
    subject, metric = key
    known = np.sort(table, axis=0)  # nan comes last
    n = (~np.isnan(known)).sum(axis=0)
    total = np.where(np.isnan(known), 0.0, known).sum(axis=0)
    at = np.arange(table.shape[1])
    parts = [total / np.where(n > 0, n, 1)]
    for q in (0.05, 0.5, 0.95, 0.0 if metric in LESS_IS_WORSE else 1.0):
        rank = np.maximum(np.ceil(q * n - 1e-9).astype(int), 1) - 1
        parts.append(known[rank, at])
    for t in range(table.shape[1]):
        yield (scenario, t, subject, metric, *(number(float(p[t])) if n[t] else "" for p in parts))


def replay(trace: Trace, stack: Stack) -> tuple[list[str], list[tuple[Any, ...]]]:
    """One replication whole: header and one row per second, a column per metric and subject."""
    table = columns(trace, stack, by_service=False)
    header = ["t_s"] + [f"{metric}:{subject}".rstrip(":") for subject, metric in table]
    length = min((len(x) for x in table.values()), default=0)
    texts = [[number(float(v)) for v in x[:length]] for x in table.values()]
    return header, [(t, *values) for t, values in enumerate(zip(*texts, strict=True))]


# ---- requests --------------------------------------------------------------------------------
def request_rows(trace: Trace) -> Iterator[tuple[Any, ...]]:
    """Raw requests, where they were asked for."""
    if trace.requests is None:
        return
    for r in trace.requests:
        op = r["op"]
        yield (
            trace.scenario,
            trace.replication,
            seconds(float(r["start_s"])),
            trace.ops[int(op)] if np.issubdtype(type(op), np.integer) else str(op),
            _server(trace, r["server"]),
            str(r["status"]),
            str(r["termination"]),
            int(r["retries"]),
            "" if math.isnan(float(r["latency_s"])) else seconds(float(r["latency_s"])),
        )


def _server(trace: Trace, server: Any) -> str:
    if np.issubdtype(type(server), np.integer):
        return trace.servers[int(server)] if 0 <= int(server) < len(trace.servers) else ""
    return str(server)
