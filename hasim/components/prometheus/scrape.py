"""What Prometheus scrapes, and the samples that it has at a moment.

Read beside Prometheus' scrape/scrape.go (2.42): scrapeAndReport, and promql/engine.go:
vectorSelectorSingle (look-back). A scrape that fails marks all series of its target stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hasim.components.base import Machine, Process
from hasim.components.prometheus.config import Config, split
from hasim.components.prometheus.evaluate import NAME, Labels, matches
from hasim.components.prometheus.exporters import EXPORTERS, SHOWN
from hasim.read.prometheus_ast import selectors
from hasim.tcp import SYN_S
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.model import Balancer, Instance, Stack


@dataclass(frozen=True, slots=True)
class Target:
    """One target. instance "": nobody is at its address. exporter: another program answers for
    the instance, on its host. shows: the metrics that a scrape brings; labels: job, instance and
    what the scrape config adds.
    """

    instance: str
    labels: Labels
    interval_s: float
    timeout_s: float
    exporter: bool = False
    shows: frozenset[str] = frozenset()


def targets(config: Config, one: Instance, stack: Stack) -> list[Target]:
    """The targets of a Prometheus in the order of its file; without any stated, every instance."""
    if config.jobs is None:
        return [_assumed(config, i, stack) for i in stack.instances if _is_assumed(i, one)]
    made = []
    for job in config.jobs:
        for address, stated, _ in job.targets:
            host, port = split(address)
            shown = address if ":" in address else f"{host}:{port}"
            labels = {"job": job.name, "instance": shown} | dict(stated)
            instance, exporter = behind(one, stack, host, port)
            made.append(
                Target(
                    instance.name if instance else "",
                    tuple(sorted(labels.items())),
                    job.interval_s,
                    job.timeout_s,
                    exporter,
                    _shows(instance, exporter, stack, port) if instance else frozenset(),
                )
            )
    return made


def _is_assumed(instance: Instance, one: Instance) -> bool:
    """With no scrape config, containers of what is simulated are targets, one by one."""
    outer = not instance.inside or instance.kind in EXPORTERS
    return outer and instance.kind != "other" and instance.name != one.name


def _assumed(config: Config, instance: Instance, stack: Stack) -> Target:
    exporter = instance.kind in EXPORTERS
    ports = instance.listen_ports or tuple(p.container_port for p in instance.ports)
    port = EXPORTERS[instance.kind][1] if exporter else ports[0] if ports else 80
    job = instance.service or instance.compose_service or instance.kind
    labels = (("instance", f"{instance.name}:{port}"), ("job", job))
    shows = _shows(instance, exporter, stack, 0)
    return Target(instance.name, labels, config.interval_s, config.timeout_s, exporter, shows)


def behind(one: Instance, stack: Stack, host: str, port: int) -> tuple[Instance | None, bool]:
    """(instance, does an exporter answer for it) at host:port as this Prometheus dials it.

    An exporter's usual port on a host stands for the one beside the database there, whether or
    not a file of the stack starts it.
    """
    by_name = {i.name: i for i in stack.instances}
    found = by_name.get(one.peers.get(f"{host}:{port}", ""))
    if found is not None and found.kind in ("other", "service"):
        behind_it = [by_name[p] for p in found.peers.values() if p in by_name]
        for database in behind_it:
            if database.kind in EXPORTERS and EXPORTERS[database.kind][1] == port:
                return database, True
    if found is not None and found.kind != "other":  # an exporter's container is no more than that
        return found, False
    on = {h.name for h in stack.hosts if host == h.name or host in h.addresses}
    kinds = [k for k, (_, usual, _) in EXPORTERS.items() if usual == port]
    beside = [i for kind in kinds for i in stack.instances if i.kind == kind and i.host in on]
    return (beside[0], True) if beside else (None, False)


def _shows(instance: Instance, exporter: bool, stack: Stack, port: int) -> frozenset[str]:
    """Metrics of a target. HAProxy shows its own only where a frontend serves them."""
    if instance.kind in EXPORTERS and not exporter:
        return frozenset()
    if instance.kind == "haproxy":
        mine = [b for b in stack.balancers if b.instance == instance.name]
        if not any(serves_metrics(b, instance, port) for b in mine):
            return frozenset()
    return frozenset(SHOWN.get(instance.kind, ()))


def serves_metrics(balancer: Balancer, instance: Instance, port: int) -> bool:
    """Does a frontend that the (published) port leads to serve /metrics? port 0: any."""
    inside = {p.container_port for p in instance.ports if p.host_port == port} | {port}
    return any(
        f.metrics and (not port or any(bound in inside for _, bound in f.binds))
        for f in balancer.frontends
    )


def relevant(config: Config, found: Iterable[Target]) -> list[Target]:
    """The targets that some rule looks at: the others need no scrape."""
    wanted = [s for rule in config.rules for s in selectors(rule.expr)]
    out = []
    for target in found:
        for s in wanted:
            # Labels of a metric are not known before it is scraped; those of the target are.
            own = [m for m in s.matchers if m.label in dict(target.labels)]
            about = s.name in target.shows or s.name == "up"
            if about and matches(own, target.labels):
                out.append(target)
                break
    return out


@dataclass(slots=True)
class Scraped:
    """The last finished scrape of a target: series without their target's labels."""

    at_ns: int
    up: float
    series: dict[tuple[str, Labels], float] = field(default_factory=dict)
    marks: dict[tuple[str, Labels], int] = field(default_factory=dict)


class Store:
    """The samples in force. It outlives the process, as the files of a TSDB do."""

    def __init__(self, lookback_s: float):
        self.lookback_ns = round(lookback_s * NS)
        self.scraped: dict[Target, Scraped] = {}

    def latest(self, name: str, at_s: float) -> Iterator[tuple[Labels, float]]:
        """The samples of a metric at the moment, none older than the look-back allows."""
        at_ns = round(at_s * NS)
        for target, last in self.scraped.items():
            if at_ns - last.at_ns > self.lookback_ns:
                continue
            if name == "up":
                yield _named(name, target.labels), last.up
            for (metric, labels), value in last.series.items():
                if metric == name:
                    yield _named(name, merged(labels, target.labels)), value

    def mark(self, source: Labels) -> tuple[Target | None, int]:
        """(target, row of the timeline) behind a sample's labels; (None, -1) if unknown."""
        have = dict(source)
        for target, last in self.scraped.items():
            if dict(target.labels).items() <= have.items():
                marks = [
                    mark
                    for (metric, labels), mark in last.marks.items()
                    if metric == have.get(NAME) and dict(labels).items() <= have.items()
                ]
                return target, max(marks, default=-1)
        return None, -1


def _named(name: str, labels: Labels) -> Labels:
    return tuple(sorted((*labels, (NAME, name))))


def merged(labels: Labels, target: Labels) -> Labels:
    """The target's labels win; what they cover is kept as `exported_...` (honor_labels false)."""
    own, outer = dict(labels), dict(target)
    renamed = {f"exported_{k}" if k in outer else k: v for k, v in own.items()}
    return tuple(sorted((renamed | outer).items()))


class Scraper:
    """Fetches targets as one Prometheus process."""

    def __init__(self, p: Process, machine: Machine, wanted: frozenset[str]):
        self.p, self.machine, self.wanted = p, machine, wanted
        self._keys: dict[Target, list] = {}
        self._known = -1

    def look(self, target: Target) -> str:
        """What a request to the target meets now: ok | refused | silent."""
        from hasim.sim.world import CONNECTS, SILENT

        container = self.machine.containers.get(target.instance)
        if container is None:
            return "refused"
        reach = self.machine.reach(self.p.instance, target.instance)
        frozen = container.process is not None and container.process.frozen
        if target.exporter:
            if not self.machine.powered(container.spec.host):
                return "silent"
            here = self.machine.containers[self.p.instance].spec.host == container.spec.host
            if reach == SILENT and not here:
                return "silent"
            return "silent" if frozen else "ok"  # it waits for the database's answer
        if reach == CONNECTS:
            if not target.shows and container.spec.kind == "haproxy":
                return "refused"  # 503 or 404: /metrics is no page of it
            return "silent" if frozen else "ok"
        return "silent" if reach == SILENT else "refused"

    def fetch(self, target: Target):
        """One scrape; a generator whose value is whether it succeeded. It may take the timeout."""
        env = self.p.env
        begun = env.now
        limit = begun + round(target.timeout_s * NS)
        for try_s in (*SYN_S, target.timeout_s):
            state = self.look(target)
            if state != "silent":
                return state == "ok"
            wait_ns = min(begun + round(try_s * NS), limit) - env.now
            if wait_ns > 0:
                ends = [env.timeout(wait_ns)]
                container = self.machine.containers[target.instance]
                if container.process is not None and container.process.frozen:
                    ends.append(container.process.resumed)
                yield env.any_of(ends)
            if env.now >= limit or not self.p.alive:
                return False
        return False

    def read(self, target: Target) -> Scraped:
        """The series of a target now."""
        out = Scraped(int(self.p.env.now), 1.0)
        gauges: Mapping = self.machine.gauges
        for key in self.keys(target):
            gauge = gauges[key]
            value = gauge()
            if value is not None:
                _, metric, labels = key
                out.series[metric, labels] = value
                row = getattr(gauge, "mark", None)
                if row is not None:
                    out.marks[metric, labels] = row()
        return out

    def keys(self, target: Target) -> list:
        """Gauges of the target that some rule looks at."""
        if self._known != len(self.machine.gauges):
            self._known = len(self.machine.gauges)
            self._keys = {}
        if target not in self._keys:
            chosen = self.wanted & target.shows
            self._keys[target] = [
                k for k in self.machine.gauges if k[0] == target.instance and k[1] in chosen
            ]
        return self._keys[target]
