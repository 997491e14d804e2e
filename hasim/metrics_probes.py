"""Metrics of outages: from the shadow probes and from the daemons' own words in the timeline."""

from __future__ import annotations

import math
import re

import numpy as np

from hasim.metrics_data import noticed
from hasim.metrics_requests import availability_by_requests
from hasim.metrics_view import Sample, Tags, View
from hasim.sim.trace import FaultSpan, Mark

# HAProxy's own words; "going" when a name stopped resolving (maintenance).
DOWN = re.compile(r"(?:Backup server|Server) (\S+)/(\S+) is (?:going )?DOWN")
UP = re.compile(r"(?:Backup server|Server) (\S+)/(\S+) is UP")


def outages_s(starts_s: np.ndarray, good: np.ndarray, end_s: float) -> np.ndarray:
    """Length of every run between two good probes that holds a bad one.

    A run without a good probe before it counts from the first probe, one without a good probe
    after it to end_s.
    """
    edges = np.diff(np.concatenate([[False], ~good, [False]]).astype(int))
    first, after = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    begin = starts_s[np.maximum(first - 1, 0)]
    end = np.append(starts_s, max(end_s, starts_s[-1]))[after]
    return end - begin


def outage_duration(view: View, tags: Tags) -> Sample:
    """Every outage of every path; a path that was never bad has one of 0 s."""
    found = [np.empty(0)]
    for path in view.paths(tags.get("path", "")):
        starts, good = view.probes[path]
        lengths = outages_s(starts, good, view.trace.duration_s)
        found.append(lengths if len(lengths) else np.zeros(1))
    return Sample(values=np.concatenate(found))


def time_to_recover(view: View, tags: Tags) -> Sample:
    """For each fault: until the slowest path worked again (inf: it never did)."""
    values = [view.recovered_s(f, tags.get("path", "")) - f.start_s for f in view.faults]
    return Sample(values=np.array([v for v in values if not math.isnan(v)]))


def availability(view: View, tags: Tags) -> Sample:
    """by:time (the default): the share of good probes, worst path; by:requests: of requests."""
    if tags.get("by", "time") == "requests":
        return availability_by_requests(view, tags)
    shares = []
    for path in view.paths(tags.get("path", "")):
        starts, good = view.probes[path]
        chosen = good[view.inside(starts, tags.get("window", ""))]
        if len(chosen):
            shares.append(float(chosen.mean()))
    return Sample(values=np.array([min(shares)]) if shares else np.empty(0))


def down_marks(view: View, fault: FaultSpan) -> list[Mark]:
    """HAProxy's DOWN events that the fault caused, in time order.

    Those that descend from the fault's row; failing any, those of the instance that was hit,
    between this fault and the next one.
    """
    downs = [
        m for m in view.trace.timeline if DOWN.match(m.event) and m.t_s >= fault.start_s - 1e-9
    ]
    caused = [m for m in downs if view.descends(m, fault.mark)]
    if not caused:
        later = [f.start_s for f in view.faults if f.start_s > fault.start_s]
        until = min(later, default=math.inf)
        hit = servers_of(view, fault)
        caused = [m for m in downs if m.t_s < until and server_name(m) in hit]
    return sorted(caused, key=lambda m: (m.t_s, m.id))


def server_name(mark: Mark) -> str:
    """`backend/server` of a DOWN or UP event."""
    found = DOWN.match(mark.event) or UP.match(mark.event)
    return f"{found[1]}/{found[2]}" if found else ""


def servers_of(view: View, fault: FaultSpan) -> set[str]:
    """`backend/server` names of the server lines that lead to what the fault hit."""
    hit = view.hit(fault)
    return {
        f"{backend.name}/{server.name}"
        for balancer in view.stack.balancers
        for backend in balancer.backends
        for server in backend.servers
        if hit & {server.instance, f"{backend.name}/{server.name}"}
        or (server.instance in view.instances and view.instances[server.instance].host in hit)
    }


def time_to_detect(view: View, tags: Tags) -> Sample:
    """For each fault: until it was first noticed (inf: never), by HAProxy unless `by` names
    another: the first DOWN, +sdown, word of Patroni, MASTER STATE or firing alert.
    """
    by, values = tags.get("by", "haproxy"), []
    for fault in view.faults:
        values.append(
            _by_haproxy(view, fault, tags.get("service", "*"))
            if by == "haproxy"
            else noticed(view, fault, by, tags)
        )
    return Sample(values=np.array(values), first_s=values[0] if values else math.nan)


def _by_haproxy(view: View, fault: FaultSpan, service: str) -> float:
    times = [
        m.t_s - fault.start_s
        for m in down_marks(view, fault)
        if service == "*" or server_name(m).startswith(f"{service}/")
    ]
    return min(times, default=math.inf)
