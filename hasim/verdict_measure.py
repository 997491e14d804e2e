"""All numbers that a verdict needs of one replication; a worker may do this where the trace is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from hasim.metrics import View, aggregate, sample, value
from hasim.metrics_subjects import alerts, missing
from hasim.metrics_view import good_run_start
from hasim.model import Stack
from hasim.scenario import Budget, Scenario
from hasim.sim.trace import Trace

# Of the probes of each path just before the first fault, this many must be good.
STEADY_PROBES = 30
# What every verdict reports besides its budgets: (metric, tags, aggregates).
SUMMARY: tuple[tuple[str, tuple[tuple[str, str], ...], tuple[str, ...]], ...] = (
    ("http_reqs", (), ("count", "rate")),
    ("http_req_failed", (), ("rate",)),
    ("http_req_failed", (("window", "before"),), ("rate",)),
    ("http_req_failed", (("window", "impact"),), ("rate",)),
    ("http_req_failed", (("window", "fault"),), ("rate",)),
    ("http_req_failed", (("window", "after"),), ("rate",)),
    ("http_req_duration", (), ("med", "p(95)", "p(99)")),
    ("latency", (), ("med", "p(95)", "p(99)", "max")),
    ("failed_requests", (), ("count",)),
    ("interrupted", (), ("count",)),
    ("dropped_iterations", (), ("count",)),
    ("availability", (("by", "time"),), ("value",)),
    ("availability", (("by", "requests"),), ("value",)),
    ("time_to_recover", (), ("max",)),
    ("time_to_detect", (("by", "haproxy"),), ("max",)),
    ("retries", (), ("count",)),
    ("oom_kills", (), ("count",)),
    ("probe_load", (), ("rate",)),
)
# The same for a data tier, where the stack has what they are about.
DATA: tuple[tuple[str, tuple[tuple[str, str], ...], tuple[str, ...]], ...] = (
    ("failovers", (), ("count",)),
    ("false_failovers", (), ("count",)),
    ("split_brain_seconds", (), ("value",)),
    ("acked_writes_lost", (), ("count",)),
    ("replication_lag", (), ("max",)),
    ("db_refused_connections", (), ("count",)),
    ("pool_checkout_wait", (), ("p(99)", "max")),
    ("time_to_detect", (("by", "sentinel"),), ("max",)),
    ("time_to_detect", (("by", "patroni"),), ("max",)),
    ("time_to_detect", (("by", "vrrp"),), ("max",)),
)
Key = tuple[str, tuple[tuple[str, str], ...], str]


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of one replication: one per budget, per steady-state budget, per summary row.

    steady, recovered_s: the built-in conditions, see _steady and _recovered_after_repair_s.
    """

    replication: int
    seed: int
    void: str
    simulated_s: float
    requests: int
    values: tuple[float, ...]
    steady_values: tuple[float, ...]
    steady: float
    recovered_s: float | None
    summary: Mapping[Key, float]


def measure(scenario: Scenario, stack: Stack, trace: Trace) -> Measured:
    """All numbers that the verdict needs of one replication."""
    if trace.void:
        return Measured(
            trace.replication, trace.seed, trace.void, 0.0, 0, (), (), math.nan, None, {}
        )
    view = View(trace, scenario, stack)
    steady = [in_steady_state(b) for b in scenario.steady_state]
    return Measured(
        replication=trace.replication,
        seed=trace.seed,
        void="",
        simulated_s=trace.duration_s,
        requests=int(trace.hist.sum()),
        values=tuple(value(view, b) for b in scenario.budgets),
        steady_values=tuple(value(view, b) for b in steady),
        steady=_steady(view),
        recovered_s=_recovered_after_repair_s(view),
        summary=_summary(view),
    )


def in_steady_state(budget: Budget) -> Budget:
    """A steady-state budget is about the time before the fault unless it names a window."""
    if "window" in dict(budget.tags):
        return budget
    takes_window = budget.metric.startswith(("http_req", "latency", "failed", "availability"))
    return replace(budget, tags=(*budget.tags, ("window", "before"))) if takes_window else budget


def _steady(view: View) -> float:
    """1.0 if the last probes before the first fault were good on every path; nan: cannot say.

    A probe still under way when the fault strikes says nothing about the time before it.
    """
    if not view.faults:
        return math.nan
    fine = []
    before_s = view.first_fault_s - view.scenario.probe_timeout_s
    for starts, good in view.probes.values():
        last = good[starts < before_s][-STEADY_PROBES:]
        if len(last):
            fine.append(bool(last.all()))
    return float(all(fine)) if fine else math.nan


def _recovered_after_repair_s(view: View) -> float | None:
    """Seconds from the last repair until every path works; None: no repair, or no probes.

    inf: not within the time allowed; nan: the run ended before that time, and without recovery.
    """
    repair, within = view.last_repair_s, view.scenario.recover_within_s
    if math.isnan(repair) or not view.probes:
        return None
    ends = [good_run_start(starts, good, repair) for starts, good in view.probes.values()]
    took = max(ends) - repair
    too_short = view.trace.duration_s < repair + within
    return math.nan if math.isinf(took) and too_short else took


def _summary(view: View) -> dict[Key, float]:
    """The standard numbers of one replication, and those per path, service and host."""
    rows = list(SUMMARY)
    rows += [r for r in DATA if not any(missing(r[0], dict(r[1]), view.stack))]
    rows += [("alert_fired", (("alert", a),), ("count",)) for a in sorted(alerts(view.stack))]
    rows += [("outage_duration", (("path", p),), ("max",)) for p in view.probes]
    services = sorted({i.service for i in view.instances.values() if i.service})
    for service in services:
        for metric in ("cpu_utilization", "memory_utilization"):
            rows.append((metric, (("service", service),), ("avg", "max")))
    for host in view.stack.hosts:
        rows.append(("cpu_utilization", (("host", host.name),), ("avg", "max")))
    out: dict[Key, float] = {}
    for metric, tags, aggregates in rows:
        found = sample(view, metric, dict(tags))
        for name in aggregates:
            q = float(name[2:-1]) / 100 if name.startswith("p(") else 0.0
            number = aggregate(found, name.partition("(")[0], q)
            if not math.isnan(number):
                out[metric, tags, name] = number
    return out


def to_json(measured: Measured) -> dict[str, Any]:
    """Plain JSON values; inf and nan as Python's json writes them."""
    fields = asdict(measured)
    fields["summary"] = [[m, list(t), a, v] for (m, t, a), v in measured.summary.items()]
    return fields


def from_json(fields: dict[str, Any]) -> Measured:
    """The reverse of `to_json`, equal to what was written, bit by bit."""
    summary: dict[Key, float] = {
        (m, tuple((k, v) for k, v in tags), a): value for m, tags, a, value in fields["summary"]
    }
    made = {**fields, "summary": summary}
    made["values"] = tuple(fields["values"])
    made["steady_values"] = tuple(fields["steady_values"])
    if not math.isfinite(fields["replication"]):
        raise ValueError("no replication")
    return Measured(**made)
