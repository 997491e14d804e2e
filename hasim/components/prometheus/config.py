"""What a Prometheus of the stack scrapes and evaluates, from its files."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from hasim.components.base import Configured, Folder, Placed
from hasim.components.prometheus.exporters import is_real
from hasim.errors import Finding
from hasim.model import Knob
from hasim.read.prometheus import (
    FILE,
    Group,
    Job,
    PrometheusFile,
    Rule,
    read_config,
    read_rules,
)
from hasim.read.prometheus_ast import selectors
from hasim.source import Default, Origin, Span
from hasim.units import format_duration, parse_duration_s

# Source: Prometheus documentation, "Configuration" (global); image prom/prometheus, its command;
# "Querying basics", "Staleness" (--query.lookback-delta).
INTERVAL_S, TIMEOUT_S, LOOKBACK_S = 60.0, 10.0, 300.0
FILE_INSIDE = "/etc/prometheus/prometheus.yml"
PORT = 9090  # source: Prometheus documentation, --web.listen-address


@dataclass(frozen=True, slots=True)
class Config:
    """intervals are resolved: each group and job has its own. jobs None: no file states them, so
    every instance of the stack is taken for a target.
    """

    groups: tuple[Group, ...] = ()
    jobs: tuple[Job, ...] | None = ()
    lookback_s: float = LOOKBACK_S
    interval_s: float = INTERVAL_S
    timeout_s: float = TIMEOUT_S
    where: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule, in the order of evaluation."""
        return tuple(rule for group in self.groups for rule in group.rules)

    @property
    def alerts(self) -> tuple[str, ...]:
        """Names of the alerts that are simulated, those included that can never fire."""
        return tuple(r.alert for r in self.rules if not any(_unknown(r)))


def _unknown(rule: Rule) -> Iterable[str]:
    return (s.name for s in selectors(rule.expr) if is_real(s.name))


def configured(one: Placed, folder: Folder) -> Configured:
    """A container: its command line, prometheus.yml and the rules files that this one names."""
    service = one.service
    words = service.words if service else ()
    inside = flag(words, "config.file") or FILE_INSIDE
    found = folder.mounted(one, inside)
    span = one.instance.span
    if found is None:
        text = f"'{one.name}' mounts no {inside}: it scrapes and judges nothing"
        hint = "mount a prometheus.yml with scrape_configs and rule_files"
        return Configured(Config(), (Finding("warning", FILE, text, span, hint),), ports=(PORT,))
    lookback_s, wrong = LOOKBACK_S, []
    if stated := flag(words, "query.lookback-delta"):
        try:
            lookback_s = parse_duration_s(stated, "prom")
        except ValueError as error:
            wrong.append(Finding("error", FILE, f"--query.lookback-delta: {error}", span))

    def behind(path: str) -> str | None:
        inner = posixpath.normpath(posixpath.join(posixpath.dirname(inside), path))
        at = folder.mounted(one, inner)
        return at[0] if at else None

    made = from_file(found[0], folder, behind)
    config = replace(made.config, lookback_s=lookback_s)
    return replace(made, config=config, findings=(*wrong, *made.findings))


def flag(words: Iterable[str], name: str) -> str:
    """The value of --name=value or --name value of a command line; the last one counts."""
    value, wanted = "", False
    for word in words:
        stem, equals, rest = word.lstrip("-").partition("=")
        if wanted:
            value, wanted = word, False
        elif word.startswith("-") and stem == name:
            value, wanted = rest, not equals
    return value


def from_file(path: str, folder: Folder, behind: Callable[[str], str | None]) -> Configured:
    """A prometheus.yml of the folder. behind: the folder's file for a path of rule_files."""
    text = folder.text(path)
    if text is None:
        return Configured(Config(), ports=(PORT,))
    stated, findings = read_config(text, path)
    groups: list[Group] = []
    for name, span in stated.rule_files:
        if any(c in name for c in "*?["):
            message = "patterns in rule_files are not in this version"
            findings.append(Finding("error", FILE, message, span, "name the files one by one"))
            continue
        file = behind(name)
        rules = folder.text(file) if file else None
        if file is None:
            message = f"no mount of the container holds the rules file '{name}'"
            findings.append(Finding("error", FILE, message, span))
        if file is not None and rules is not None:
            made, found = read_rules(rules, file)
            groups += made
            findings += found
    return _made(stated, tuple(groups), stated.jobs, findings)


def from_rules(paths: Iterable[str], folder: Folder) -> Configured:
    """Rules files without a Prometheus: one with every default, that scrapes every instance."""
    groups: list[Group] = []
    findings: list[Finding] = []
    for path in paths:
        text = folder.text(path)
        if text is not None:
            made, found = read_rules(text, path)
            groups += made
            findings += found
    return _made(PrometheusFile(), tuple(groups), None, findings)


def _made(
    stated: PrometheusFile,
    groups: tuple[Group, ...],
    jobs: tuple[Job, ...] | None,
    findings: list[Finding],
) -> Configured:
    interval_s = stated.scrape_interval_s or INTERVAL_S
    # An interval below the default timeout shortens it. Source: config/config.go, GlobalConfig.
    timeout_s = stated.scrape_timeout_s or min(TIMEOUT_S, interval_s)
    evaluation_s = stated.evaluation_interval_s or INTERVAL_S
    for what, wait_s, most_s in _timeouts(stated, interval_s, timeout_s):
        if wait_s > most_s:
            text = f"scrape_timeout of {wait_s:g} s is longer than the interval of {most_s:g} s"
            findings.append(Finding("error", FILE, f"{what}: {text}", _span(stated.where)))
    groups = tuple(replace(g, interval_s=g.interval_s or evaluation_s) for g in groups)
    if jobs is not None:
        jobs = tuple(_resolved(j, interval_s, timeout_s) for j in jobs)
    dials = tuple(split(address) for j in jobs or () for address, _, _ in j.targets)
    where = {k: stated.where.get(k) or Default(_CITE) for k in _GLOBAL}
    config = Config(groups, jobs, LOOKBACK_S, interval_s, timeout_s, where)
    knobs = tuple(_knobs(groups, stated))
    return Configured(config, tuple(findings), knobs, ports=(PORT,), dials=dials)


_GLOBAL = ("scrape_interval", "scrape_timeout", "evaluation_interval")
_CITE = "Prometheus documentation, Configuration: 1m, timeout 10s"


def _timeouts(
    stated: PrometheusFile, interval_s: float, timeout_s: float
) -> Iterable[tuple[str, float, float]]:
    yield "global", timeout_s, interval_s
    for job in stated.jobs:
        yield f"job {job.name}", job.timeout_s, job.interval_s or interval_s


def _span(where: Mapping[str, Origin]) -> Span | None:
    at = where.get("scrape_timeout") or where.get("scrape_interval")
    return at if isinstance(at, Span) else None


def _resolved(job: Job, interval_s: float, timeout_s: float) -> Job:
    own_s = job.interval_s or interval_s
    return replace(job, interval_s=own_s, timeout_s=job.timeout_s or min(timeout_s, own_s))


def split(address: str) -> tuple[str, int]:
    """host:port of a target; without a port it is 80 (Prometheus adds it, scrape/target.go)."""
    host, colon, port = address.rpartition(":")
    return (host, int(port)) if colon and port.isdigit() and len(port) < 6 else (address, 80)


def _knobs(groups: tuple[Group, ...], stated: PrometheusFile) -> Iterable[Knob]:
    """What the files state, by place; a SIGHUP makes Prometheus read them again."""
    for key in _GLOBAL:
        origin = stated.where.get(key)
        if isinstance(origin, Span):
            text = format_duration(getattr(stated, f"{key}_s"), "prom")
            yield Knob(f"prometheus.{key}", text, "prom", origin, "reload")
    for group in groups:
        for rule in group.rules:
            origin = rule.where.get("for")
            if isinstance(origin, Span):
                name = f"prometheus.{group.name}.{rule.alert}.for"
                yield Knob(name, format_duration(rule.for_s, "prom"), "prom", origin, "reload")
