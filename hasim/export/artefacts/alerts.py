"""extra/alerts.yml and its unit tests: rules about metrics that this stack's exporters show.

The guide's rules name metrics that nobody shows, or values that they never have (MO-1 to MO-4 of
the audit). Each rule here comes with the loss that must fire it, written for `promtool test rules`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from hasim.components.prometheus.config import Config
from hasim.components.prometheus.exporters import EXPORTERS, shows
from hasim.components.prometheus.scrape import Target, targets
from hasim.export.base import Artefact, Deploy
from hasim.model import Backend, Stack
from hasim.units import format_duration

PATH, TESTS = "extra/alerts.yml", "extra/alerts_test.yml"
# Where Patroni's REST API is asked for a role, one server (the primary) or fewer are up as meant.
# Source: Patroni documentation, "REST API", health checks.
PRIMARY = ("/", "/primary", "/read-write", "/leader", "/master")
REPLICA = ("/replica", "/read-only", "/standby")
LAG_S = 60  # source: the guide's rule DatabaseReplicationLag
_STEP_S = 15.0  # of the unit tests
_FAULT = 4  # samples before the loss

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Alert:
    """A rule and its test. series: (metric, labels, value before, value after; None: it is gone).

    fires: the labels of the alert, besides those of the rule. note: what it needs to be shown.
    """

    name: str
    expr: str
    for_s: float
    summary: str
    series: tuple[tuple[str, Labels, float, float | None], ...] = ()
    fires: Labels = ()
    note: str = ""
    labels: dict[str, str] = field(default_factory=lambda: {"severity": "page"})


def make(deploy: Deploy) -> list[Artefact]:
    """Rules and tests; nothing for a stack without a Prometheus."""
    alerts = rules(deploy.stack)
    if not alerts:
        return []
    tests = yaml.safe_dump(_tests(alerts), sort_keys=False, width=1_000_000)
    head = "# promtool test rules alerts_test.yml: each loss fires its rule, in the time stated.\n"
    return [
        Artefact(PATH, _rules(alerts), "alerting rules on metrics that this stack shows"),
        Artefact(TESTS, head + tests, "what fires each rule, and when, for promtool"),
    ]


def rules(stack: Stack) -> list[Alert]:
    """The rules for what the Prometheus of the stack scrapes."""
    one = next((i for i in stack.instances if i.kind == "prometheus"), None)
    if one is None or not isinstance(one.config, Config):
        return []
    found = [t for t in targets(one.config, one, stack) if t.instance]
    made = [*_down(found), *_dead(found, stack), *_rotation(found, stack), *_data(found, stack)]
    return [replace(a, fires=tuple(sorted(a.fires))) for a in made]


def _job(target: Target) -> str:
    return dict(target.labels)["job"]


def _down(found: list[Target]) -> Iterator[Alert]:
    """Targets that answer for themselves, and jobs without any target (MO-3)."""
    jobs = list(dict.fromkeys(_job(t) for t in found))
    own = [t for t in found if not t.exporter]
    if own:
        names = "|".join(dict.fromkeys(_job(t) for t in own))
        series = tuple(("up", t.labels, 1.0, 1.0 if i else 0.0) for i, t in enumerate(own))
        yield Alert(
            "InstanceDown",
            f'up{{job=~"{names}"}} == 0',
            60,
            "{{ $labels.job }} on {{ $labels.instance }} is down",
            series,
            own[0].labels,
        )
    if jobs:
        gone = [t for t in found if _job(t) == jobs[0]]
        others = [t for t in found if _job(t) != jobs[0]]
        yield Alert(
            "NoTargets",
            " or ".join(f'absent(up{{job="{job}"}})' for job in jobs),
            300,
            "Prometheus has no target of job {{ $labels.job }}",
            (
                *(("up", t.labels, 1.0, None) for t in gone),
                *(("up", t.labels, 1.0, 1.0) for t in others),
            ),
            (("job", jobs[0]),),
        )


def _dead(found: list[Target], stack: Stack) -> Iterator[Alert]:
    """Servers behind an exporter, whose own `up` stays 1 when they are dead."""
    kinds = {i.name: i.kind for i in stack.instances}
    for kind, (_, _, metric) in EXPORTERS.items():
        mine = [t for t in found if t.exporter and kinds[t.instance] == kind and metric in t.shows]
        if mine and kind != "sentinel":
            series = tuple((metric, t.labels, 1.0, 1.0 if i else 0.0) for i, t in enumerate(mine))
            yield Alert(
                f"{kind.capitalize()}Down",
                f"{metric} == 0",
                30,
                f"{kind} behind {{{{ $labels.instance }}}} is down",
                series,
                mine[0].labels,
            )


def _rotation(found: list[Target], stack: Stack) -> Iterator[Alert]:
    """Servers that HAProxy still sends requests to (MO-1)."""
    metric = "haproxy_backend_active_servers"
    kinds = {i.name: i.kind for i in stack.instances}
    seen = [t for t in found if kinds[t.instance] == "haproxy"]
    note = ""
    if seen and not any(metric in t.shows for t in seen):
        line = "http-request use-service prometheus-exporter if { path /metrics }"
        note = f"needs in haproxy.cfg: {line}"
    backends: dict[str, Backend] = {}
    for balancer in stack.balancers:
        backends |= {b.name: b for b in balancer.backends if b.servers}
    for backend in backends.values() if seen else ():
        usual, least = _expected(backend)
        few = "no server is" if least == 1 else f"less than {least} servers are"
        labels = [(*t.labels, ("proxy", backend.name)) for t in seen]
        series = tuple((metric, la, float(usual), least - 1.0) for la in labels[:1])
        series += tuple((metric, la, float(usual), float(usual)) for la in labels[1:])
        yield Alert(
            "FewServers",
            f'{metric}{{proxy="{backend.name}"}} < {least}',
            30,
            f"{few} in rotation for {backend.name} at {{{{ $labels.instance }}}}",
            series,
            labels[0],
            note,
            {"severity": "page", "proxy": backend.name},  # promtool wants names or labels apart
        )


def _expected(backend: Backend) -> tuple[int, int]:
    """(servers in rotation as a rule, the least that is no alarm)."""
    active = len([s for s in backend.servers if not s.backup and not s.disabled])
    urls = {s.check.url for s in backend.servers if s.check is not None and s.check.port}
    if urls & set(PRIMARY):
        return 1, 1
    if urls & set(REPLICA):
        return max(1, active - 1), 1
    return active, active if active <= 2 else active - 1


def _data(found: list[Target], stack: Stack) -> Iterator[Alert]:
    """Replication that falls behind or stops (MO-2)."""
    kinds = {i.name: i.kind for i in stack.instances}
    for kind, metric, least, name, summary in (
        ("postgres", "pg_replication_lag_seconds", LAG_S, "ReplicationLag",
         f"PostgreSQL behind {{{{ $labels.instance }}}} is more than {LAG_S} s behind"),
        ("redis", "redis_connected_slaves", 1, "RedisWithoutReplica",
         "nobody follows the Redis master"),
    ):  # fmt: skip
        mine = [t for t in found if kinds[t.instance] == kind and metric in t.shows]
        if len(mine) < 2:
            continue
        assert shows(kind, metric)
        if kind == "postgres":
            series = tuple(
                (metric, t.labels, 0.0, LAG_S + 1.0 if i == 1 else 0.0) for i, t in enumerate(mine)
            )
            yield Alert(name, f"{metric} > {least}", 60, summary, series, mine[1].labels)
        else:
            series = tuple(
                (metric, t.labels, len(mine) - 1.0 if i == 0 else 0.0, 0.0)
                for i, t in enumerate(mine)
            )
            yield Alert(name, f"max({metric}) < {least}", 60, summary, series)


def _rules(alerts: list[Alert]) -> str:
    lines = [
        "# Made by hasim from what the stack's exporters show. To use it: put it beside",
        "# prometheus.yml and name it in `rule_files`.",
        "groups:",
        "- name: hasim",
        "  rules:",
    ]
    for alert in alerts:
        if alert.note:
            lines.append(f"  # {alert.note}")
        rule: dict[str, Any] = {"alert": alert.name, "expr": alert.expr}
        rule["for"] = format_duration(alert.for_s, "prom")
        rule |= {"labels": alert.labels, "annotations": {"summary": alert.summary}}
        text = yaml.safe_dump([rule], sort_keys=False, width=1_000_000)
        lines += [f"  {line}" for line in text.rstrip("\n").split("\n")]
    return "\n".join(lines) + "\n"


def _tests(alerts: list[Alert]) -> dict[str, Any]:
    step = format_duration(_STEP_S, "prom")
    return {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": step,
        "tests": [_test(a, step) for a in alerts if a.series],
    }


def _test(alert: Alert, step: str) -> dict[str, Any]:
    """Before the loss nothing fires; `for` and one step after it exactly this alert does."""
    last = _FAULT + int(alert.for_s // _STEP_S) + 3
    series = []
    for metric, labels, before, after in alert.series:
        inner = ",".join(f'{k}="{v}"' for k, v in labels)
        tail = "stale" if after is None else f"{after:g}x{last - _FAULT}"
        values = f"{before:g}x{_FAULT - 1} {tail}"
        series.append({"series": f"{metric}{{{inner}}}", "values": values})
    fault_s = _FAULT * _STEP_S
    summary = alert.summary
    for key, value in alert.fires:
        summary = summary.replace(f"{{{{ $labels.{key} }}}}", value)
    shown = dict(alert.fires) | alert.labels
    fired = {"exp_labels": shown, "exp_annotations": {"summary": summary}}
    return {
        "name": alert.name,
        "interval": step,
        "input_series": series,
        "alert_rule_test": [
            {"alertname": alert.name, "eval_time": _at(fault_s - _STEP_S), "exp_alerts": []},
            {
                "alertname": alert.name,
                "eval_time": _at(fault_s + alert.for_s),
                "exp_alerts": [fired],
            },
        ],
    }


def _at(seconds: float) -> str:
    return format_duration(seconds, "prom")
