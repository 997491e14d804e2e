"""Frozen values as pandas frames: tidy, SI units in column names, categories for labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hasim.errors import Finding
from hasim.model import Assumption, Knob, Stack
from hasim.report.numbers import status
from hasim.report.tables import series_rows
from hasim.scenario import metric_name
from hasim.sim.trace import Trace
from hasim.source import Default, Origin, Span
from hasim.verdict import ScenarioVerdict
from hasim.verdict_rows import Row

if TYPE_CHECKING:
    from pandas import DataFrame, Series


def frame(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], labels: Iterable[str]
) -> DataFrame:
    """A frame; columns in `labels` become categories, in the order in which they first appear."""
    import pandas as pd

    made = pd.DataFrame(list(rows), columns=list(columns))
    for name in labels:
        kinds = pd.Index(made[name].dropna().unique(), dtype=object)
        made[name] = pd.Categorical(made[name], categories=kinds)
    return made


def place(origin: Origin | None) -> tuple[str, int]:
    """(file, line) of a value; ("", 0) where no file sets it."""
    return (origin.file, origin.line) if isinstance(origin, Span) else ("", 0)


# ---- a stack -------------------------------------------------------------------------------------
def findings(found: Iterable[Finding]) -> DataFrame:
    """severity, code, message, hint, file, line."""
    rows = ((f.severity, f.code, f.message, f.hint, *place(f.span)) for f in found)
    columns = ("severity", "code", "message", "hint", "file", "line")
    return frame(columns, rows, ("severity", "code", "file"))


def knobs(found: Iterable[Knob]) -> DataFrame:
    """knob, value, software, effect, file, line, default (the manual's word)."""
    rows = (
        (
            k.name,
            k.value,
            k.name.partition(".")[0],
            k.effect,
            *place(k.origin),
            k.origin.source if isinstance(k.origin, Default) else "",
        )
        for k in found
    )
    columns = ("knob", "value", "software", "effect", "file", "line", "default")
    return frame(columns, rows, ("software", "effect", "file"))


def hosts(stack: Stack) -> DataFrame:
    """host, cores, memory_bytes, address, containers, file, line."""
    count = {h.name: 0 for h in stack.hosts}
    for one in stack.instances:
        count[one.host] += not one.inside
    rows = (
        (
            h.name,
            h.cores,
            h.memory_bytes,
            ", ".join(h.addresses),
            count[h.name],
            *place(h.span),
        )
        for h in stack.hosts
    )
    columns = ("host", "cores", "memory_bytes", "address", "containers", "file", "line")
    return frame(columns, rows, ("file",))


def containers(stack: Stack) -> DataFrame:
    """container, service, software, host, limit_cores, limit_bytes (empty: none), file, line."""
    rows = (
        (
            i.name,
            i.service or i.compose_service or i.name,
            i.kind,
            i.host,
            i.cpus or math.nan,
            i.mem_limit_bytes or math.nan,
            i.restart,
            *place(i.span),
        )
        for i in stack.instances
        if not i.inside
    )
    columns = ("container", "service", "software", "host", "limit_cores", "limit_bytes", "restart")
    labels = ("service", "software", "host", "restart", "file")
    return frame((*columns, "file", "line"), rows, labels)


def routes(stack: Stack) -> DataFrame:
    """who (users, or a service), to, via, balancer, backend, service, file, line of the backend."""
    ways = [("users", op, r) for op, r in stack.op_entries.items()]
    ways += [(*n.split("->", 1), r) for n, r in stack.call_routes.items()]  # type: ignore[misc]
    lines = {(bal.instance, b.name): b.span for bal in stack.balancers for b in bal.backends}
    rows = (
        (
            who,
            to,
            r.via,
            r.balancer,
            r.backend,
            r.service,
            *place(lines.get((r.balancer, r.backend))),
        )
        for who, to, r in ways
    )
    columns = ("who", "to", "via", "balancer", "backend", "service", "file", "line")
    return frame(columns, rows, ("who", "via", "balancer", "backend", "service", "file"))


def assumptions(found: Iterable[Assumption]) -> DataFrame:
    """name, value, source of every value that nobody measured."""
    return frame(("name", "value", "source"), ((a.name, a.value, a.source) for a in found), ())


# ---- a run ---------------------------------------------------------------------------------------
def verdict(of: ScenarioVerdict) -> DataFrame:
    """scenario, budget, threshold, limit, observed, ci_low, ci_high, margin, verdict, waived_by."""
    columns = ("scenario", "budget", "threshold", "limit", "observed", "ci_low", "ci_high")
    rows = ((of.name, *_row(r)) for r in of.budgets)
    return frame((*columns, "margin", "verdict", "waived_by"), rows, ("scenario", "verdict"))


def _row(row: Row) -> tuple[Any, ...]:
    name = (row.name, row.threshold, row.limit, row.observed, *row.ci)
    return (*name, row.margin, status(row), row.waived_by)


def metrics(of: ScenarioVerdict) -> DataFrame:
    """The standard numbers: metric, aggregate, mean, ci_low, ci_high, min, max, n."""
    rows = []
    for m in of.metrics:
        rows.append((metric_name(m.metric, m.tags), m.aggregate, m.mean, *m.ci, m.min, m.max, m.n))
    columns = ("metric", "aggregate", "mean", "ci_low", "ci_high", "min", "max", "n")
    return frame(columns, rows, ("aggregate",))


def causes(of: ScenarioVerdict) -> DataFrame:
    """text, seconds, requests, file, line: what the worst replication suffered from."""
    rows = ((c.text, c.seconds, c.requests, *place(c.span)) for c in of.causes)
    return frame(("text", "seconds", "requests", "file", "line"), rows, ("file",))


def replications(of: ScenarioVerdict, names: Sequence[str]) -> DataFrame:
    """replication, budget, value: the one number per replication that each budget is judged by."""
    rows = (
        (m.replication, name, value)
        for m in of.measured
        for name, value in zip(names, m.values, strict=False)
    )
    return frame(("replication", "budget", "value"), rows, ("budget",))


def timeline(trace: Trace) -> DataFrame:
    """replication, id, t_s, component, event, detail, cause_id, cause, file, line."""
    import pandas as pd

    marks = {m.id: m for m in trace.timeline}
    rows = []
    for m in trace.timeline:
        cause = marks.get(m.parent)
        told = f"{cause.component}: {cause.event}" if cause else ""
        why = cause.id if cause else pd.NA
        line = m.line or pd.NA
        of = (trace.replication, m.id, m.t_s, m.component, m.event, m.detail)
        rows.append((*of, why, told, m.file, line))
    columns = ("replication", "id", "t_s", "component", "event", "detail", "cause_id", "cause")
    made = frame((*columns, "file", "line"), rows, ("component", "event", "cause", "file"))
    return made.astype({"cause_id": "Int64", "line": "Int64"})


def since_fault(traces: Sequence[Trace], event: str) -> Series:
    """Seconds from the first fault to the first event with this text, by replication."""
    import pandas as pd

    found = {}
    for trace in traces:
        start = min((f.start_s for f in trace.faults), default=math.nan)
        after = (m.t_s - start for m in trace.timeline if event in m.event and m.t_s >= start)
        found[trace.replication] = next(after, math.nan)
    return pd.Series(found, name=event, dtype=float).rename_axis("replication")


def series(traces: Sequence[Trace], stack: Stack, everything: bool) -> DataFrame:
    """t_s, service, metric, mean, p05, p50, p95, worst over all replications, four digits."""
    rows = (
        (t, service, metric, *(float(x) if x else math.nan for x in numbers))
        for _, t, service, metric, *numbers in series_rows(traces, stack, everything)
    )
    columns = ("t_s", "service", "metric", "mean", "p05", "p50", "p95", "worst")
    return frame(columns, rows, ("service", "metric"))
