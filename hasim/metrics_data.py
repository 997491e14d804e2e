"""Metrics of the data tier: who leads, who noticed, what was lost, how far replicas are behind.

Read from the daemons' own words in the timeline, from what control processes measured at the end
of the run, and from what their exporters show once a second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hasim.metrics_requests import first_after_fault
from hasim.metrics_view import Sample, Tags, View, selects
from hasim.model import Instance
from hasim.sim.trace import FaultSpan, Mark, bucket_edges_s

# The daemons' own words. Every sentinel of a set logs +switch-master once it learns of it.
SWITCH = re.compile(r"\+switch-master (?P<name>\S+) (?P<old>\S+ \d+) (?P<new>\S+ \d+)")
PROMOTED = re.compile(r"promoted self to leader\b")
LEADS = re.compile(r"promoted self to leader|initialized a new cluster|the leader with the lock")
MASTER = re.compile(r"(?:\((?P<name>\S+)\) )?Entering MASTER STATE")
# Which row is the first notice of a fault, by who notices it.
NOTICED = {
    "sentinel": re.compile(r"\+sdown "),
    "patroni": re.compile(
        r"promoted self to leader|[Ll]eader key (?:expired|deleted|released)|Lock owner: None"
        r"|demot(?:ed|ing) self|DCS is not accessible|communicating with DCS"
        r"|starting primary after failure|Primary crashed|following a different leader"
    ),
    "vrrp": MASTER,
    "alert": re.compile(r"ALERTS firing"),
}
LAG = "replication_lag"  # the gauge of every replica's true delay
# Faults after which the other nodes cannot take a leader for alive.
DEADLY = {
    "stop", "crash", "docker-kill", "kill-process", "power-off", "pause", "blackhole",
    "partition", "restart", "recreate", "disk-full",
}  # fmt: skip
EPSILON_S = 1e-9


@dataclass(frozen=True, slots=True)
class Failover:
    """Somebody takes over. by: sentinel | patroni | vrrp; group: what is led; old, new: instances
    (or the address, if no instance is known by it); old is "" if nobody led, and new if the same
    node leads again.
    """

    mark: Mark
    by: str
    group: str
    old: str
    new: str


def said(mark: Mark) -> str:
    """A row as the daemon wrote it: some daemons' rows keep their arguments in `detail`."""
    return f"{mark.event} {mark.detail}".rstrip()


def failovers_of(view: View) -> list[Failover]:
    """Who took over since the load began, in time order; each is told once."""
    leader: dict[tuple[str, str], str] = {}
    out = []
    for mark in sorted(view.trace.timeline, key=lambda m: (m.t_s, m.id)):
        for by, group, old, new in _taken(view, mark):
            known = leader.get((by, group), old)
            again = by == "sentinel" and known == new  # another sentinel tells the same
            leader[by, group] = new
            if mark.t_s >= 0 and not again and not _confirms(mark):
                out.append(Failover(mark, by, group, known, new))
    return out


def _confirms(mark: Mark) -> bool:
    """A leader that says again that it leads."""
    return bool(LEADS.search(mark.event)) and not PROMOTED.search(mark.event)


def _taken(view: View, mark: Mark) -> Iterator[tuple[str, str, str, str]]:
    """(by, group, old, new) if somebody takes over in this row."""
    text = said(mark)
    if found := SWITCH.search(text):
        old, new = (_at(view, mark.component, found[k]) for k in ("old", "new"))
        yield "sentinel", found["name"], old, new
    elif LEADS.search(mark.event):
        yield "patroni", group_of(view, mark.component), "", mark.component
    elif found := MASTER.search(text):
        yield "vrrp", found["name"] or "", "", mark.component


def _at(view: View, watcher: str, address: str) -> str:
    """The instance behind `10.0.0.5 6379` as the watcher dials it; else the address itself."""
    host, _, port = address.partition(" ")
    known = view.instances.get(watcher)
    peer = known.peers.get(f"{host}:{port}", "") if known else ""
    if peer:
        return peer
    on = {h.name for h in view.stack.hosts if host in h.addresses}
    named = [
        i.name
        for i in view.stack.instances
        if host in (i.name, i.compose_service) or (i.host in on and int(port or 0) in ports_of(i))
    ]
    return named[0] if len(named) == 1 else address


def ports_of(instance: Instance) -> set[int]:
    """Where an instance can be reached on its host."""
    published = {p.host_port for p in instance.ports}
    return published or set(instance.listen_ports)


def group_of(view: View, component: str) -> str:
    """What an instance is one node of: its configured scope, else its service."""
    instance = view.instances.get(component)
    if instance is None:
        return ""
    return getattr(instance.config, "scope", "") or instance.service


def about(view: View, name: str, component: str, group: str) -> bool:
    """Does the tag service name this group, the instance or one of its services?"""
    known = view.instances.get(component)
    return name in ("*", group, component) or (
        known is not None and selects(known, {"service": name})
    )


def _chosen(view: View, tags: Tags) -> list[Failover]:
    by, service = tags.get("by", "*"), tags.get("service", "*")
    return [
        f
        for f in failovers_of(view)
        if by in ("*", f.by)
        and f.new != f.old
        and any(about(view, service, name, f.group) for name in (f.new, f.old, f.mark.component))
    ]


def _count(view: View, times: list[float]) -> Sample:
    since = view.first_fault_s if view.faults else 0.0
    after = [t - since for t in times if t >= since - EPSILON_S]
    first = max(min(after), 0.0) if after else math.inf
    return Sample(count=float(len(times)), of=view.trace.duration_s, first_s=first)


def failovers(view: View, tags: Tags) -> Sample:
    """Changes of leader or master (Sentinel, Patroni, VRRP) since the load began."""
    return _count(view, [f.mark.t_s for f in _chosen(view, tags)])


def false_failovers(view: View, tags: Tags) -> Sample:
    """Those whose leader was alive and could be reached: no deadly fault had hit it."""
    return _count(view, [f.mark.t_s for f in _chosen(view, tags) if not _justified(view, f)])


def _justified(view: View, change: Failover) -> bool:
    """Did a deadly fault that began before the change hit the old leader (or lead to it)?"""
    old = view.instances.get(change.old)
    # A container and the processes inside of it share their fate.
    names = {change.old} | ({old.host, old.inside} if old else set())
    names |= {i.name for i in view.stack.instances if i.inside and i.inside == change.old}
    for fault in view.faults:
        if fault.do in DEADLY and fault.start_s <= change.mark.t_s + EPSILON_S:
            hit = view.hit(fault) | set(re.split(r"[ ,|]+", fault.target))
            hit |= {h.removeprefix("host:") for h in hit}
            if (hit & names) - {""} or (not old and view.descends(change.mark, fault.mark)):
                return True
    return False


# ---- detection -------------------------------------------------------------------------------
def noticed(view: View, fault: FaultSpan, by: str, tags: Tags) -> float:
    """Seconds from the fault to the first row of that watcher that it caused (inf: never).

    Rows that descend from the fault's; failing any, those until the next fault.
    """
    later = [f.start_s for f in view.faults if f.start_s > fault.start_s + EPSILON_S]
    until = min(later, default=math.inf)
    rows = [
        m
        for m in view.trace.timeline
        if m.t_s >= fault.start_s - EPSILON_S
        and NOTICED[by].search(said(m))
        and _wanted(view, m, by, tags)
    ]
    caused = [m for m in rows if view.descends(m, fault.mark)]
    chosen = caused or [m for m in rows if m.t_s < until and not _began_before(view, m, fault)]
    return min((max(m.t_s - fault.start_s, 0.0) for m in chosen), default=math.inf)


def _wanted(view: View, mark: Mark, by: str, tags: Tags) -> bool:
    if by == "alert":
        name, _ = alert_of(mark)
        return tags.get("alert", "*") in ("*", name)
    service = tags.get("service", "*")
    words = said(mark).split()
    return service in words or about(view, service, mark.component, group_of(view, mark.component))


def _began_before(view: View, mark: Mark, fault: FaultSpan) -> bool:
    """An alert that was pending when the fault came does not notice it."""
    parent = view.marks.get(mark.parent)
    pending = parent is not None and parent.event == "alert pending"
    return pending and parent is not None and parent.t_s < fault.start_s - EPSILON_S


# ---- alerts ----------------------------------------------------------------------------------
_ALERT = re.compile(r"(?P<name>[^{\s]+)(?:\{(?P<labels>.*?)\})?(?:\s|$)")
_SEVERITY = re.compile(r'\bseverity="([^"]*)"')


def alert_of(mark: Mark) -> tuple[str, str]:
    """(name, severity) of an alert's row."""
    found = _ALERT.match(mark.detail)
    if not found:
        return "", ""
    severity = _SEVERITY.search(mark.detail)
    return found["name"], severity[1] if severity else ""


def alert_fired(view: View, tags: Tags) -> Sample:
    """How often an alert began to fire, and when first after the first fault."""
    times = []
    for mark in view.trace.timeline:
        if mark.event == "ALERTS firing" and mark.t_s >= -EPSILON_S:
            name, severity = alert_of(mark)
            wanted = tags.get("alert", "*") in ("*", name)
            if wanted and tags.get("severity", "*") in ("*", severity):
                times.append(mark.t_s)
    return _count(view, times)


# ---- loss, split brain, lag ------------------------------------------------------------------
def _measured(view: View, metric: str, tags: Tags) -> list[tuple[float, float]]:
    """(t_s, value) of a metric that control processes measured."""
    wanted = tags.get("cluster", "*")
    return [
        (t_s, value)
        for t_s, name, of, value in view.trace.measures
        if name == metric and wanted in ("*", dict(of).get("cluster", ""))
    ]


def acked_writes_lost(view: View, tags: Tags) -> Sample:
    """Writes that were acknowledged and are gone at the end of the run."""
    rows = _measured(view, "acked_writes_lost", tags)
    if not rows:
        return Sample()
    first = min((t for t, value in rows if value > 0), default=math.inf)
    since = view.first_fault_s if view.faults else 0.0
    total = float(sum(value for _, value in rows))
    return Sample(count=total, of=view.trace.duration_s, first_s=max(first - since, 0.0))


def split_brain_seconds(view: View, tags: Tags) -> Sample:
    """How long two nodes of one cluster took writes; the worst cluster."""
    values = [value for _, value in _measured(view, "split_brain_seconds", tags)]
    return Sample(values=np.array([max(values)])) if values else Sample()


def replication_lag(view: View, tags: Tags) -> Sample:
    """Second by second: how far the furthest of the chosen replicas is behind."""
    columns = [
        column
        for (name, metric, _), column in view.trace.gauges.items()
        if metric == LAG and _shows(view, name, tags)
    ]
    if not columns:
        return Sample()
    table = np.array(columns)
    known = ~np.isnan(table).all(axis=0)
    return Sample(values=np.nanmax(table[:, known], axis=0) if known.any() else np.empty(0))


def _shows(view: View, name: str, tags: Tags) -> bool:
    """Is the gauge's instance, or the container around it, chosen?"""
    instance = view.instances.get(name)
    outer = view.instances.get(instance.inside) if instance else None
    return any(i is not None and selects(i, tags) for i in (instance, outer))


# ---- pools -----------------------------------------------------------------------------------
def pool_checkout_wait(view: View, tags: Tags) -> Sample:
    """How long requests waited for a connection of their pool."""
    of, to = tags.get("service", "*"), tags.get("pool", "*")
    chosen = []
    for column, name in enumerate(view.trace.pools):
        source, _, target = name.partition("->")
        owner = view.instances.get(source)
        own = of in ("*", source) or (owner is not None and selects(owner, {"service": of}))
        if own and to in ("*", name, target):
            chosen.append(column)
    if not chosen or not len(view.trace.pool_hist):
        return Sample()
    segments = view.segments(tags.get("window", ""))[: len(view.trace.pool_hist)]
    weights = view.trace.pool_hist[segments][:, chosen].sum(axis=(0, 1))
    return Sample(values=bucket_edges_s(), weights=weights)


def db_refused_connections(view: View, tags: Tags) -> Sample:
    """Connections that a database had no place for (`too many clients already`)."""
    table, columns = view.trace.per_second.get("db_refused"), view.columns(tags)
    if table is None or not columns:
        return Sample()
    refused = table[:, columns].sum(axis=1)
    first = first_after_fault(view, refused)
    return Sample(count=float(refused.sum()), of=view.trace.duration_s, first_s=first)
