"""Why an alert that a budget asks for did not fire; what was lost, and which setting allowed it."""

from __future__ import annotations

from collections.abc import Iterator

from hasim.causes_failover import knob_of
from hasim.causes_text import Cause
from hasim.metrics_data import alert_of
from hasim.metrics_view import View
from hasim.model import Stack
from hasim.source import Span

STORES = ("min-replicas-max-lag", "min-replicas-to-write")  # what bounds the losses of a store


def alert_causes(view: View) -> Iterator[Cause]:
    """One sentence per budgeted alert that never fired in this replication."""
    rows = [
        m for m in view.trace.timeline if m.event in ("alert pending", "ALERTS firing") and m.detail
    ]
    fired = {alert_of(m)[0] for m in rows if m.event == "ALERTS firing"}
    pending = {alert_of(m)[0] for m in rows}
    for name in dict.fromkeys(_asked(view)):
        if name not in fired:
            yield _silent(view.stack, name, name in pending)


def _asked(view: View) -> Iterator[str]:
    for budget in view.scenario.budgets:
        if budget.metric == "alert_fired" or dict(budget.tags).get("by") == "alert":
            alert = dict(budget.tags).get("alert", "*")
            yield from sorted(_rules(view.stack)) if alert == "*" else (alert,)


def _rules(stack: Stack) -> dict[str, object]:
    return {
        rule.alert: rule
        for i in stack.instances
        if i.kind == "prometheus"
        for rule in getattr(i.config, "rules", ())
    }


def _silent(stack: Stack, name: str, pending: bool) -> Cause:
    from hasim.components.base import components

    rule = _rules(stack).get(name)
    span = getattr(rule, "span", None)
    for finding in components()["prometheus"].lint(stack):
        if finding.message.startswith(f"{name} can never fire"):
            hint = f"; {finding.hint}" if finding.hint else ""
            return Cause(f"alert {finding.message}{hint}", finding.span)
    if pending:
        at = getattr(rule, "where", {}).get("for")
        wait_s = getattr(rule, "for_s", 0.0)
        text = f"alert {name} was pending but did not fire: for {wait_s:g}s was not reached"
        return Cause(text, at if isinstance(at, Span) else span, wait_s)
    return Cause(f"alert {name} did not fire: {getattr(rule, 'text', '')} never held", span)


def loss_causes(view: View) -> Iterator[Cause]:
    """What let acknowledged writes vanish, or two nodes take writes at once."""
    for _, metric, of, value in view.trace.measures:
        cluster = dict(of).get("cluster", "")
        if value <= 0:
            continue
        if metric == "acked_writes_lost":
            text = f"{value:.0f} acknowledged writes of {cluster or 'the cluster'} are gone"
            yield _allowed(view, cluster, text, ("synchronous_mode", *STORES))
        elif metric == "split_brain_seconds":
            text = f"two nodes of {cluster or 'the cluster'} took writes at once for {value:.3g} s"
            yield _fenced(view, cluster, _allowed(view, cluster, text, STORES, value))


def _fenced(view: View, cluster: str, found: Cause) -> Cause:
    """PostgreSQL has no such setting: what fences an old primary is Patroni's watchdog."""
    if found.span is not None or _kind(view, cluster) == "redis":
        return found
    members = [i for i in view.stack.instances if i.kind == "patroni"]
    if not members:
        return Cause(f"{found.text}: nothing fences an old primary", seconds=found.seconds)
    bare = [i for i in members if not getattr(i.config, "watchdog_device", False)]
    if not bare:
        return found
    why = f"no watchdog device in {bare[0].name}: nothing ends a primary whose Patroni stands still"
    return Cause(f"{found.text}: {why}", bare[0].span, found.seconds)


def _allowed(
    view: View, cluster: str, text: str, names: tuple[str, ...], seconds: float = 0.0
) -> Cause:
    kind, _, node = cluster.rpartition(":")
    floor = knob_of(view, "min-replicas-to-write", node)
    for name in names:
        knob = knob_of(view, name, node)
        idle = name == "min-replicas-max-lag" and (floor is None or floor.value == "0")
        about = knob is not None and (node in knob.name.split(".") or not node)
        kind = kind or _kind(view, node)
        if knob is not None and not idle and (about or kind == knob.name.partition(".")[0]):
            note = "" if isinstance(knob.origin, Span) else f" (default, {knob.origin.source})"
            span = knob.origin if isinstance(knob.origin, Span) else knob.insert
            return Cause(f"{text}: {name} {knob.value}{note}", span, seconds)
    return Cause(text, seconds=seconds)


def _kind(view: View, cluster: str) -> str:
    """The kind of software whose members name this cluster."""
    for instance in view.stack.instances:
        config = instance.config
        if cluster and cluster in (getattr(config, "cluster", ""), getattr(config, "scope", "")):
            return instance.kind
    return ""
