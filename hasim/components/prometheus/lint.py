"""Rules that can never fire, or that look past what they are meant for: found without a run.

None of this is found by `promtool check rules`. The defects: reference/guide-audit.md, MO-1 to
MO-4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from hasim.components.prometheus.config import Config
from hasim.components.prometheus.evaluate import matches
from hasim.components.prometheus.exporters import (
    EXPORTERS,
    SHOWN,
    instead_of,
    is_real,
    labels_of,
)
from hasim.components.prometheus.scrape import Target, serves_metrics, targets
from hasim.errors import Finding, did_you_mean
from hasim.read.prometheus import Rule
from hasim.read.prometheus_ast import Call, Expr, Matcher, Selector, selectors

if TYPE_CHECKING:
    from hasim.model import Instance, Stack

NEVER, NOTHING, UNWATCHED, AT_ONCE, EXPORTER = "HA210", "HA211", "HA212", "HA213", "HA214"
DEAD = (NEVER, NOTHING)  # a rule that tells of nothing, or of everything


def findings(stack: Stack) -> Iterator[Finding]:
    """Every finding about every Prometheus of the stack."""
    for one in stack.instances:
        if one.kind == "prometheus" and isinstance(one.config, Config):
            found = targets(one.config, one, stack)
            for rule in one.config.rules:
                yield from _rule(rule, found, stack)
            yield from _unwatched(one, one.config, found, stack)


def _warn(code: str, message: str, rule: Rule, hint: str = "", key: str = "expr") -> Finding:
    at = rule.where.get(key)
    return Finding("warning", code, message, rule.span if at is None else at, hint)  # type: ignore


def _rule(rule: Rule, found: list[Target], stack: Stack) -> Iterator[Finding]:
    lost = set(absents(rule.expr))
    for chosen in selectors(rule.expr):
        end = "always fires" if chosen in lost else "can never fire"
        if chosen.name == "up":
            yield from _up(rule, chosen, found, end, stack)
        elif is_real(chosen.name):
            text = f"{rule.alert}: '{chosen.name}' is not simulated: the alert does not fire here"
            yield _warn(NEVER, text, rule)
        elif not labels_of(chosen.name) and not _known(chosen.name):
            text = f"{rule.alert} {end}: no exporter of this stack shows '{chosen.name}'"
            yield _warn(NEVER, text, rule, instead_of(chosen.name))
        else:
            yield from _shown(rule, chosen, found, end, stack)
    if rule.for_s == 0 and not all(s.name.endswith("_seconds") for s in selectors(rule.expr)):
        text = f"{rule.alert} has no 'for': one bad evaluation fires it"
        yield _warn(AT_ONCE, text, rule, "write for: 30s or more")


def _known(metric: str) -> bool:
    return any(metric in of for of in SHOWN.values())


def absents(expr: Expr) -> Iterator[Selector]:
    """Selectors whose absence is asked for."""
    if isinstance(expr, Call) and expr.name == "absent":
        yield from selectors(expr.arg)
    for below in (getattr(expr, name, None) for name in ("arg", "left", "right")):
        if below is not None:
            yield from absents(below)


def _own(chosen: Selector, target: Target) -> bool:
    """Do the matchers on the target's labels hold?"""
    have = dict(target.labels)
    return matches([m for m in chosen.matchers if m.label in have], target.labels)


def _up(
    rule: Rule, chosen: Selector, found: list[Target], end: str, stack: Stack
) -> Iterator[Finding]:
    mine = [t for t in found if matches(chosen.matchers, t.labels)]
    if not mine:
        jobs = sorted({dict(t.labels)["job"] for t in found})
        text = f"{rule.alert} {end}: no target of Prometheus matches up{_written(chosen)}"
        yield _warn(NOTHING, text, rule, f"jobs: {', '.join(jobs)}" if jobs else "")
    kinds = {i.name: i.kind for i in stack.instances}
    beside = sorted({kinds[t.instance] for t in mine if t.exporter})
    for kind in beside:
        exporter, _, alive = EXPORTERS[kind]
        text = f"{rule.alert}: 'up' tells of {exporter}, which answers on when its {kind} is dead"
        if not any(s.name == alive for s in selectors(rule.expr)):
            yield _warn(EXPORTER, text, rule, f"add a rule on {alive} == 0")


def _shown(
    rule: Rule, chosen: Selector, found: list[Target], end: str, stack: Stack
) -> Iterator[Finding]:
    """A metric that some kind of software shows: does a target, and with these labels?"""
    name, mine = chosen.name, [t for t in found if chosen.name in t.shows]
    if not mine:
        kind = next(k for k, of in SHOWN.items() if name in of)
        there = [i for i in stack.instances if i.kind == kind]
        text, hint = f"{rule.alert} {end}: no target shows '{name}'", ""
        if kind == "haproxy" and there and not _served(there, stack):
            text += ": no frontend of HAProxy serves /metrics"
            hint = "http-request use-service prometheus-exporter if { path /metrics }"
        elif not there:
            text += f": there is no {kind} in the stack"
        yield _warn(NEVER, text, rule, hint)
        return
    of_target = {k for t in mine for k, _ in t.labels}
    known = {*labels_of(name), *of_target}
    for m in chosen.matchers:
        if m.label not in known and not m.holds(""):
            text = f"{rule.alert} {end}: '{name}' has no label '{m.label}'"
            yield _warn(NOTHING, text, rule, f"its labels: {', '.join(sorted(known))}")
        elif m.label in ("proxy", "server") and not _some(m, stack):
            values = _values(m.label, stack)
            text = f"{rule.alert} {end}: no {m.label} of HAProxy matches {_matcher(m)}"
            yield _warn(NOTHING, text, rule, did_you_mean(m.value, values))
    if not any(_own(chosen, t) for t in mine):
        text = f"{rule.alert} {end}: no target that shows '{name}' matches {_written(chosen)}"
        yield _warn(NOTHING, text, rule)


def _served(there: Iterable[Instance], stack: Stack) -> bool:
    return any(
        serves_metrics(b, i, 0) for i in there for b in stack.balancers if b.instance == i.name
    )


def _values(label: str, stack: Stack) -> list[str]:
    """Names of HAProxy's backends or servers."""
    backends = [b for balancer in stack.balancers for b in balancer.backends]
    if label == "proxy":
        return sorted({b.name for b in backends})
    return sorted({s.name for b in backends for s in b.servers})


def _some(m: Matcher, stack: Stack) -> bool:
    return any(m.holds(value) for value in _values(m.label, stack))


def _matcher(m: Matcher) -> str:
    return f'{m.label}{m.op}"{m.value}"'


def _written(chosen: Selector) -> str:
    return "{" + ",".join(map(_matcher, chosen.matchers)) + "}"


def _unwatched(
    one: Instance, config: Config, found: list[Target], stack: Stack
) -> Iterator[Finding]:
    """Kinds of software whose death no rule would tell of."""
    if not config.rules:
        return
    chosen = [s for rule in config.rules for s in selectors(rule.expr)]
    watched = {
        t.instance
        for t in found
        for s in chosen
        if (s.name == "up" and matches(s.matchers, t.labels) and not t.exporter)
        or (s.name in t.shows and _own(s, t))
    }
    kinds: dict[str, bool] = {}
    for i in stack.instances:
        if i.kind not in ("other", "docker", "exporter") and i.name != one.name:
            about = watched & {i.name, i.inside}
            name = (i.service or i.compose_service) if i.kind == "service" else i.kind
            kinds[name] = kinds.get(name, False) or bool(about)
    dark = sorted(kind for kind, seen in kinds.items() if not seen)
    if dark:
        text = f"no rule tells of the loss of: {', '.join(dark)}"
        span = config.groups[0].span if config.groups else one.span
        hint = "up{job=...} == 0 where a scrape config names them, and absent(up{job=...})"
        yield Finding("warning", UNWATCHED, text, span, hint)
