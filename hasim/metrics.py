"""From a Trace to numbers: what each metric of a budget means, one value per replication."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hasim import metrics_data as data
from hasim import metrics_probes as probes
from hasim import metrics_requests as requests
from hasim import metrics_resources as resources
from hasim.errors import Finding, did_you_mean
from hasim.metrics_subjects import missing
from hasim.metrics_view import Sample, Tags, View, aggregate
from hasim.model import Stack
from hasim.scenario import Budget, Scenario

__all__ = ["MEASURES", "Sample", "View", "aggregate", "budget_findings", "sample", "value"]

MEASURES: dict[str, Callable[[View, Tags], Sample]] = {
    "http_req_duration": requests.http_req_duration,
    "http_req_failed": requests.http_req_failed,
    "http_reqs": requests.http_reqs,
    "latency": requests.latency,
    "failed_requests": requests.failed_requests,
    "interrupted": requests.interrupted,
    "dropped_iterations": requests.dropped_iterations,
    "iterations": requests.iterations,
    "vus": requests.vus,
    "availability": probes.availability,
    "outage_duration": probes.outage_duration,
    "time_to_recover": probes.time_to_recover,
    "time_to_detect": probes.time_to_detect,
    "error_budget": requests.error_budget,
    "cpu_utilization": resources.cpu_utilization,
    "memory_utilization": resources.memory_utilization,
    "memory_bytes": resources.memory_bytes,
    "cpu_throttled": resources.cpu_throttled,
    "cpu_reserved_cores": resources.cpu_reserved_cores,
    "memory_reserved_bytes": resources.memory_reserved_bytes,
    "oom_kills": resources.oom_kills,
    "retries": resources.retries,
    "connections": resources.connections,
    "probe_load": resources.probe_load,
    "failovers": data.failovers,
    "false_failovers": data.false_failovers,
    "split_brain_seconds": data.split_brain_seconds,
    "acked_writes_lost": data.acked_writes_lost,
    "replication_lag": data.replication_lag,
    "alert_fired": data.alert_fired,
    "pool_checkout_wait": data.pool_checkout_wait,
    "db_refused_connections": data.db_refused_connections,
}


def sample(view: View, metric: str, tags: Tags) -> Sample:
    """What the replication says about a metric; an unknown metric has no samples."""
    measure = MEASURES.get(metric)
    return measure(view, tags) if measure else Sample()


def value(view: View, budget: Budget) -> float:
    """The number that the budget's threshold looks at; nan: no samples, never a pass."""
    found = sample(view, budget.metric, dict(budget.tags))
    return aggregate(found, budget.threshold.aggregate, budget.threshold.q)


def budget_findings(scenario: Scenario, stack: Stack) -> list[Finding]:
    """Budgets that can have no samples whatever happens: told before a run, not after it."""
    return [
        Finding("error", "HA104", message, budget.span, hint)
        for budget in (*scenario.budgets, *scenario.steady_state)
        for message, hint in _problems(budget, scenario, stack)
    ]


def _problems(budget: Budget, scenario: Scenario, stack: Stack) -> Iterable[tuple[str, str]]:
    tags = dict(budget.tags)
    if budget.metric not in MEASURES:
        yield f"metric '{budget.metric}' is not in this version", ""
        return
    ops = {n for s in stack.services for o in s.ops for n in (o.name, f"{s.name}/{o.name}")}
    ops |= {name for step in scenario.load.flow for name, _ in step.mix}
    known = {
        "service": {i.service for i in stack.instances}
        | {i.compose_service for i in stack.instances}
        | {i.name for i in stack.instances}
        | {s.name for s in stack.services}
        | {b.name for balancer in stack.balancers for b in balancer.backends},
        "host": {h.name for h in stack.hosts},
        "status": set(requests.STATUS),
        "op": ops,
        "path": ops | {"read", "write"},
    }
    for tag, names in known.items():
        asked = tags.get(tag, "*")
        if asked not in names | {"*"}:
            yield f"{budget.name}: {tag} '{asked}' is not in the stack", did_you_mean(asked, names)
    window = tags.get("window", "before")
    if window != "before" and not scenario.faults:
        yield f"{budget.name}: without a fault there is no window '{window}'", ""
    if budget.metric in ("time_to_recover", "time_to_detect") and not scenario.faults:
        yield f"{budget.name}: the scenario has no fault", ""
    for lack, hint in missing(budget.metric, tags, stack):
        yield f"{budget.name}: {lack}", hint
    if budget.metric in ("retries", "iterations") and tags:
        yield f"{budget.name}: tags of {budget.metric} are not in this version", ""
    try:
        if budget.metric == "error_budget":
            requests.parse_slo(tags)
        if "over" in tags:
            requests.parse_duration_s(tags["over"])
    except ValueError as problem:
        yield f"{budget.name}: {problem}", ""
