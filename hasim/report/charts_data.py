"""What the pictures of a scenario show, as numbers: who was up, who noticed what, how it went.

Everything comes from slim traces (hasim.workers.slim), the only ones that a run keeps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hasim.scenario import Scenario
from hasim.sim.trace import FaultSpan, Mark, Trace
from hasim.verdict import ScenarioVerdict
from hasim.verdict_rows import Row

BEFORE_S, AFTER_S = 20.0, 40.0  # what is shown around the faults
MOST_BARS, MOST_MOMENTS, MOST_POINTS = 12, 14, 400
# What daemons say when they notice something, by importance: (event, detail, label; \1 is a name).
TELLING = (
    (r"^promoted self to leader", "", "promoted self to leader"),
    (r"^\+switch-master", "", "+switch-master"),
    (r"^Entering MASTER STATE", "", "Entering MASTER STATE"),
    (r"^Server \S+ is DOWN", "", r"\g<0>"),
    (r"^backend \S+ has no server available!", "", r"\g<0>"),
    (r"^Server \S+ is UP", "", r"\g<0>"),
    (r"^MASTER MODE enabled", "", "MASTER MODE enabled"),
    (r"ready to accept connections", "", "ready to accept connections"),
    (r"^\+odown", "^master", "+odown master"),
    (r"^\+sdown", "^master", "+sdown master"),
    (r"^(demot\w+ self.*|oom.*|OOM.*|did not boot)", "", r"\1"),
    (r"^ALERTS firing", r"^(?:\w+)", "ALERTS firing"),
    (r"^host booted", "", "host booted"),
    (r"^container start", "", "container start"),
    (r"^(Server \S+ is going .*|.*draining.*|Reloading.*|exits.*)", "", r"\1"),
)
LEAVING = re.compile(r"^draining|^exits")
BACK = re.compile(r"^listening|eady to accept connections|^host booted")


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of "who was up": stretches in which it served, and in which a fault held it."""

    name: str
    up: tuple[tuple[float, float], ...]
    hit: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """Somebody noticed something: in the daemon's own words. after_s: since the fault before it."""

    t_s: float
    who: str
    text: str
    after_s: float


@dataclass(frozen=True)
class Picture:
    """One scenario, drawn from its worst replication; low and high span 90 % of all of them.

    All arrays have one value per point of t_s.
    """

    trace: Trace
    start_s: float
    end_s: float
    bars: tuple[Bar, ...]
    moments: tuple[Moment, ...]
    t_s: np.ndarray
    rates: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # ok, failed: (seen, low, high)
    latency_s: dict[str, np.ndarray]  # p50, p99; nan without samples
    limits_s: tuple[float, ...]  # budgets about latency
    replications: int


def picture(
    traces: Sequence[Trace],
    judged: Scenario | ScenarioVerdict | None = None,
    worst: int | None = None,
) -> Picture | None:
    """What to draw; None if nothing ran. worst: the replication to show (default: the first)."""
    ran = [t for t in traces if not t.void and len(t.per_second.get("ok", ()))]
    if not ran:
        return None
    trace = next((t for t in ran if t.replication == worst), ran[0])
    moments = noticed(trace)
    start, end = span(trace, moments)
    size = min(len(t.per_second["ok"]) for t in ran)
    step = max(1, math.ceil((end - start) / MOST_POINTS))
    at = np.arange(int(start), min(int(math.ceil(end)) + 1, size))
    rates = {}
    for name in ("ok", "failed"):
        every = np.stack([binned(t.per_second[name].sum(axis=1)[at], step) for t in ran])
        seen = binned(trace.per_second[name].sum(axis=1)[at], step)
        low, high = np.quantile(every, (0.05, 0.95), axis=0)
        rates[name] = (seen, low, high)
    latency = {q: binned(trace.per_second[f"{q}_s"][at], step) for q in ("p50", "p99")}
    shown = tuple(m for m in moments if start <= m.t_s <= end)
    return Picture(
        trace=trace,
        start_s=start,
        end_s=end,
        bars=bars(trace, start, end),
        moments=shown,
        t_s=at[: len(rates["ok"][0]) * step : step].astype(float),
        rates=rates,
        latency_s=latency,
        limits_s=latency_limits(judged),
        replications=len(ran),
    )


def binned(column: np.ndarray, step: int) -> np.ndarray:
    """Means of `step` neighbours, nan left out; a last bin that is not full is dropped."""
    if step == 1 or len(column) < step:
        return column
    table = column[: len(column) // step * step].reshape(-1, step)
    known = ~np.isnan(table)
    total, n = np.where(known, table, 0.0).sum(axis=1), known.sum(axis=1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def span(trace: Trace, moments: Sequence[Moment]) -> tuple[float, float]:
    """The stretch worth looking at: around the faults, or everything if there is none."""
    if not trace.faults:
        return 0.0, trace.duration_s
    ends = [f.start_s if math.isnan(f.repair_s) else f.repair_s for f in trace.faults]
    last = max([*ends, *(m.t_s for m in moments)])
    start = max(0.0, min(f.start_s for f in trace.faults) - BEFORE_S)
    return math.floor(start), min(trace.duration_s, math.ceil(last + AFTER_S))


def latency_limits(judged: Scenario | ScenarioVerdict | None) -> tuple[float, ...]:
    """Limits of http_req_duration and latency, in seconds, each once."""
    found = set()
    for budget in judged.budgets if judged is not None else ():
        if budget.metric in ("http_req_duration", "latency"):
            found.add(budget.limit if isinstance(budget, Row) else budget.threshold.limit)
    return tuple(sorted(found))


# ---- who noticed what --------------------------------------------------------------------------
def noticed(trace: Trace) -> list[Moment]:
    """What the daemons noticed from the first fault on: each thing once, the telling ones first."""
    faults = sorted(f.start_s for f in trace.faults)
    first = faults[0] if faults else 0.0
    found: dict[tuple[int, str], Moment] = {}
    for mark in trace.timeline:
        if mark.t_s < first or mark.component == "fault":
            continue
        for rank, (event, detail, label) in enumerate(TELLING):
            match = re.search(event, mark.event)
            if match and re.search(detail, mark.detail):
                text = match.expand(label) + _object(mark)
                before = [f for f in faults if f <= mark.t_s]
                after = mark.t_s - before[-1] if before else math.nan
                moment = Moment(mark.t_s, mark.component, text, after)
                found.setdefault((rank, text), moment)
                break
    chosen = sorted(found, key=lambda k: (k[0], found[k].t_s))[:MOST_MOMENTS]
    return sorted((found[k] for k in chosen), key=lambda m: m.t_s)


def _object(mark: Mark) -> str:
    """The thing that an event is about, where its words do not say it."""
    if mark.event.startswith(("ALERTS", "container start")):
        return " " + re.split(r"[\s{]", mark.detail, maxsplit=1)[0]
    return ""


# ---- who was up --------------------------------------------------------------------------------
def bars(trace: Trace, start_s: float, end_s: float) -> tuple[Bar, ...]:
    """What faults hit, then the servers that left or joined the rotation in this stretch."""
    rows: dict[str, Bar] = {}
    for fault in trace.faults:
        for name in _targets(trace, fault):
            away = (_gone(trace, fault, name), min(_back(trace, fault, name), end_s))
            hit = (*(rows[name].hit if name in rows else ()), away)
            rows[name] = Bar(name, _rest(hit, start_s, end_s), hit)
    table = trace.per_second.get("in_rotation")
    if table is not None and table.size:
        for name in dict.fromkeys(trace.servers):  # two balancers may both list a server
            columns = [i for i, server in enumerate(trace.servers) if server == name]
            line = table[:, columns].max(axis=1)[int(start_s) : int(end_s) + 1]
            if len(line) and line.min() != line.max():
                rows.setdefault(name, Bar(name, _stretches(line, start_s, end_s)))
    return tuple(rows.values())[:MOST_BARS]


def _targets(trace: Trace, fault: FaultSpan) -> list[str]:
    """The names of what a fault hit: one process, one host, several; its target if unknown."""
    mark = next((m for m in trace.timeline if m.id == fault.mark), None)
    text = mark.detail if mark is not None and mark.detail else fault.target
    words = re.sub(r"\s*\([^)]*\)$", "", text).split(",")
    return [w.strip() for w in words if w.strip()][:4]


def _gone(trace: Trace, fault: FaultSpan, name: str) -> float:
    """When it went away: at once, but an update takes one after the other."""
    if fault.do == "rolling-update":
        own = [m.t_s for m in trace.timeline if m.component == name and LEAVING.search(m.event)]
        return next((t for t in own if t >= fault.start_s), fault.start_s)
    return fault.start_s


def _back(trace: Trace, fault: FaultSpan, name: str) -> float:
    """When it served again: its own word after the fault, else the repair."""
    repair = math.inf if math.isnan(fault.repair_s) else fault.repair_s
    own = [m.t_s for m in trace.timeline if m.component == name and BACK.search(m.event)]
    later = [t for t in own if t > fault.start_s]
    return later[0] if later else repair


def _rest(
    away: Sequence[tuple[float, float]], start_s: float, end_s: float
) -> tuple[tuple[float, float], ...]:
    """What is left of [start, end] without the stretches."""
    out, at = [], start_s
    for begin, end in sorted(away):
        if begin > at:
            out.append((at, begin))
        at = max(at, end)
    return (*out, (at, end_s)) if at < end_s else tuple(out)


def _stretches(line: np.ndarray, start_s: float, end_s: float) -> tuple[tuple[float, float], ...]:
    """Stretches of seconds in which a server got requests."""
    on = np.concatenate([[0], (line > 0).astype(int), [0]])
    edges = np.flatnonzero(np.diff(on))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((start_s + float(a), min(start_s + float(b), end_s)) for a, b in pairs)
