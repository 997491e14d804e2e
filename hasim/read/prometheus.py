"""Prometheus' files: alerting rules and the parts of prometheus.yml that a simulation needs.

Unknown keys are errors, as in Prometheus (it unmarshals strictly). Source: Prometheus
documentation, "Configuration", "Alerting rules"; config/config.go, model/rulefmt (2.42).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hasim.errors import Finding, did_you_mean
from hasim.read.prometheus_ast import Expr, ExprError
from hasim.read.prometheus_expr import parse_expr
from hasim.read.yaml12 import Node, as_bool, as_str, parse
from hasim.source import Origin, Span, Text
from hasim.units import parse_duration_s

FILE, EXPR = "HA178", "HA179"  # codes of findings
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_QUIET = "quiet"  # read by Prometheus, no effect on what is simulated
_LATER = "later"
_GROUP = {"name": "", "interval": "", "rules": "", "limit": _LATER, "query_offset": _LATER}
_RULE = {
    "alert": "", "expr": "", "for": "", "keep_firing_for": "", "labels": "",
    "annotations": _QUIET, "record": _LATER,
}  # fmt: skip
_TOP = {
    "global": "", "rule_files": "", "scrape_configs": "", "alerting": _QUIET,
    "remote_write": _QUIET, "remote_read": _LATER, "storage": _QUIET, "tracing": _QUIET,
    "scrape_config_files": _LATER,
}  # fmt: skip
_GLOBAL = {
    "scrape_interval": "", "scrape_timeout": "", "evaluation_interval": "",
    "external_labels": _QUIET, "query_log_file": _QUIET,
}  # fmt: skip
_JOB = {
    "job_name": "", "scrape_interval": "", "scrape_timeout": "", "static_configs": "",
    "honor_labels": "", "metrics_path": _QUIET, "scheme": _QUIET, "params": _QUIET,
    "honor_timestamps": _QUIET, "basic_auth": _QUIET, "authorization": _QUIET,
    "oauth2": _QUIET, "bearer_token": _QUIET, "bearer_token_file": _QUIET, "tls_config": _QUIET,
    "proxy_url": _QUIET, "follow_redirects": _QUIET, "enable_http2": _QUIET,
    "enable_compression": _QUIET, "body_size_limit": _LATER, "sample_limit": _LATER,
    "label_limit": _LATER, "target_limit": _LATER, "relabel_configs": _LATER,
    "metric_relabel_configs": _LATER,
}  # fmt: skip
_STATIC = {"targets": "", "labels": ""}


@dataclass(frozen=True, slots=True)
class Rule:
    """One alerting rule. labels: those that it adds. span: its expression."""

    alert: str
    expr: Expr
    text: str
    for_s: float = 0.0
    keep_firing_s: float = 0.0
    labels: tuple[tuple[str, str], ...] = ()
    span: Span | None = None
    where: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, in order. interval_s 0: the global one."""

    name: str
    rules: tuple[Rule, ...]
    interval_s: float = 0.0
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One scrape config. targets: (address, labels, span); interval_s, timeout_s 0: global."""

    name: str
    targets: tuple[tuple[str, tuple[tuple[str, str], ...], Span], ...] = ()
    interval_s: float = 0.0
    timeout_s: float = 0.0
    honor_labels: bool = False
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class PrometheusFile:
    """prometheus.yml. Seconds; 0: not stated. rule_files: (path as written, span)."""

    scrape_interval_s: float = 0.0
    scrape_timeout_s: float = 0.0
    evaluation_interval_s: float = 0.0
    rule_files: tuple[tuple[str, Span], ...] = ()
    jobs: tuple[Job, ...] = ()
    where: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)


def read_rules(text: str, file: str) -> tuple[tuple[Group, ...], list[Finding]]:
    """The groups of a rules file and every problem in it; unreadable rules are left out."""
    return _Reader(text, file).rules()


def read_config(text: str, file: str) -> tuple[PrometheusFile, list[Finding]]:
    """The meaning of a prometheus.yml and every problem in it."""
    return _Reader(text, file).config()


class _Reader:
    def __init__(self, text: str, file: str):
        self.text, self.file = text, file
        self.root, self.findings = parse(text, file)

    # ---- rules -------------------------------------------------------------------------------
    def rules(self) -> tuple[tuple[Group, ...], list[Finding]]:
        if self.root is None:
            return (), self.findings
        self.keys(self.root, {"groups": ""}, "a rules file")
        made: list[Group] = []
        for node in self.items(self.root.get("groups"), "groups"):
            group = self.group(node)
            if any(g.name == group.name for g in made):
                self.wrong(f"group '{group.name}' is written twice", node.get("name") or node)
            made.append(group)
        return tuple(made), self.findings

    def group(self, node: Node) -> Group:
        self.keys(node, _GROUP, "a group")
        name = self.name(node, "name", "a group")
        rules = [self.rule(item) for item in self.items(node.get("rules"), "rules")]
        interval_s = self.duration(node, "interval")
        known = tuple(r for r in rules if r is not None)
        return Group(name, known, interval_s, node.span)

    def rule(self, node: Node) -> Rule | None:
        if node.get("record") is not None:
            key = node.key("record") or node
            self.wrong("recording rules are not in this version", key, code=EXPR)
            return None
        self.keys(node, _RULE, "an alerting rule")
        name = self.name(node, "alert", "a rule")
        expr = self.expr(node)
        where: dict[str, Origin] = {k: v.span for k, v in node.items() if k in _RULE}
        for_s, keep_s = self.duration(node, "for"), self.duration(node, "keep_firing_for")
        labels = self.labels(node.get("labels"), rule=True)
        if expr is None or not name:
            return None
        at = node.get("expr") or node
        return Rule(name, expr, at.raw.strip(), for_s, keep_s, labels, at.span, where)

    def expr(self, node: Node) -> Expr | None:
        at = node.get("expr")
        text = as_str(at, "expr", self.findings)
        if at is None or not text.strip():
            self.wrong("an alerting rule needs an 'expr'", node)
            return None
        try:
            return parse_expr(text)
        except ExprError as error:
            span = self.inside(at, *error.at)
            self.findings.append(Finding("error", EXPR, error.message, span, error.hint))
            return None

    def inside(self, node: Node, start: int, end: int) -> Span:
        """The place in the file of characters [start, end) of a scalar's text.

        Quoting, folding and indentation only add characters, so the text is found in the file
        one visible character after the other.
        """
        at, places = node.span.start, []
        for ch in node.raw[:end]:
            found = self.text.find(ch, at, node.span.end) if not ch.isspace() else at
            if found < 0:
                return node.span
            places.append(found)
            at = found + (not ch.isspace())
        begin = places[start] if start < len(places) else at
        return Text(self.file, self.text).span(begin, max(at, begin))

    # ---- prometheus.yml ----------------------------------------------------------------------
    def config(self) -> tuple[PrometheusFile, list[Finding]]:
        if self.root is None:
            return PrometheusFile(), self.findings
        root = self.root
        self.keys(root, _TOP, "prometheus.yml")
        top = root.get("global")
        where: dict[str, Origin] = {}
        scrape_s = timeout_s = evaluation_s = 0.0
        if top is not None and not top.is_null:
            self.keys(top, _GLOBAL, "global")
            scrape_s = self.duration(top, "scrape_interval")
            timeout_s = self.duration(top, "scrape_timeout")
            evaluation_s = self.duration(top, "evaluation_interval")
            where = {k: v.span for k, v in top.items()}
        files = [
            (as_str(n, "rule_files", self.findings), n.span)
            for n in self.items(root.get("rule_files"), "rule_files", "scalar")
        ]
        jobs: list[Job] = []
        for node in self.items(root.get("scrape_configs"), "scrape_configs"):
            job = self.job(node)
            if any(j.name == job.name for j in jobs):
                self.wrong(f"job '{job.name}' is written twice", node.get("job_name") or node)
            jobs.append(job)
        return PrometheusFile(
            scrape_s, timeout_s, evaluation_s, tuple(files), tuple(jobs), where
        ), self.findings

    def job(self, node: Node) -> Job:
        self.keys(node, _JOB, "a scrape config")
        targets = []
        for static in self.items(node.get("static_configs"), "static_configs"):
            self.keys(static, _STATIC, "a static config")
            labels = self.labels(static.get("labels"))
            for at in self.items(static.get("targets"), "targets", "scalar"):
                address = as_str(at, "a target", self.findings)
                if "/" in address or not address:
                    self.wrong(f"'{address[:60]}' is no target; write host:port", at)
                else:
                    targets.append((address, labels, at.span))
        return Job(
            self.name(node, "job_name", "a scrape config"),
            tuple(targets),
            self.duration(node, "scrape_interval"),
            self.duration(node, "scrape_timeout"),
            as_bool(node.get("honor_labels"), "honor_labels", self.findings),
            node.span,
        )

    # ---- forms -------------------------------------------------------------------------------
    def wrong(self, message: str, at: Node, hint: str = "", code: str = FILE) -> None:
        """An error at a node."""
        self.findings.append(Finding("error", code, message, at.span, hint))

    def keys(self, node: Node, known: Mapping[str, str], what: str) -> None:
        """A map with these keys only."""
        if node.kind != "map":
            self.wrong(f"{what} must be a map", node)
            return
        for key, _ in node.value:
            status = known.get(key.raw)
            if status is None and key.raw.endswith("_sd_configs"):
                status = _LATER
            if status == _LATER:
                hint = "write the targets as static_configs" if "_sd_" in key.raw else ""
                self.wrong(f"'{key.raw}' is not in this version", key, hint)
            elif status is None:
                hint = did_you_mean(key.raw, known)
                self.wrong(f"'{key.raw[:60]}' is no key of {what}", key, hint)

    def items(self, node: Node | None, what: str, kind: str = "map") -> tuple[Node, ...]:
        """The entries of a list that are of the kind; what is not is an error."""
        if node is None or node.is_null:
            return ()
        if node.kind != "seq":
            self.wrong(f"{what} must be a list", node)
            return ()
        for item in node.value:
            if item.kind != kind:
                words = {"map": "maps", "scalar": "texts"}[kind]
                self.wrong(f"{what} is a list of {words}", item)
        return tuple(item for item in node.value if item.kind == kind)

    def name(self, node: Node, key: str, what: str) -> str:
        """A text that must be there."""
        text = as_str(node.get(key), key, self.findings)
        if not text:
            self.wrong(f"{what} needs '{key}'", node.get(key) or node)
        return text

    def duration(self, node: Node, key: str) -> float:
        """A duration in Prometheus' words; 0 if it is absent or wrong."""
        at = node.get(key)
        text = as_str(at, key, self.findings)
        if at is None or not text or text == "0":
            return 0.0
        try:
            return parse_duration_s(text, "prom", zero=True)
        except ValueError as error:
            self.wrong(f"{key}: {error}", at)
            return 0.0

    def labels(self, node: Node | None, rule: bool = False) -> tuple[tuple[str, str], ...]:
        """Labels by name, in order; a rule's may hold no template here."""
        if node is None or node.is_null:
            return ()
        if node.kind != "map":
            self.wrong("labels must be a map", node)
            return ()
        out = {}
        for key, value in node.value:
            text = as_str(value, f"label {key.raw[:40]}", self.findings)
            if not LABEL.fullmatch(key.raw) or key.raw == "__name__":
                self.wrong(f"'{key.raw[:60]}' is no name of a label", key)
            elif rule and "{{" in text:
                message = "templates in labels are not in this version"
                self.wrong(message, value, "annotations may hold them", EXPR)
            else:
                out[key.raw] = text
        return tuple(sorted(out.items()))
