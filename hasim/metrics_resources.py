"""Metrics of machines and containers: CPU, memory, connections, retries, cost of checks."""

from __future__ import annotations

import math

import numpy as np

from hasim.metrics_requests import parse_duration_s
from hasim.metrics_view import Sample, Tags, View, selects
from hasim.model import Dist

DEFAULT_WINDOW = "60s"


def window_means(column: np.ndarray, over_s: float) -> np.ndarray:
    """Means over whole windows; a run shorter than one window is one window. (T,) or (T, n)."""
    step = max(int(round(over_s)), 1)
    whole = len(column) // step
    if whole == 0:
        return column.mean(axis=0, keepdims=True) if len(column) else column
    cut = column[: whole * step]
    return cut.reshape(whole, step, *column.shape[1:]).mean(axis=1)


def _share(view: View, tags: Tags, name: str, limits: dict[int, float]) -> Sample:
    """Windowed means of a per-instance column against the limit of each instance."""
    table = view.trace.per_second.get(name)
    if table is None or not limits or not len(table):
        return Sample()
    means = window_means(table, parse_duration_s(tags.get("over", DEFAULT_WINDOW)))
    return Sample(values=np.concatenate([means[:, c] / limit for c, limit in limits.items()]))


def _whole_hosts(view: View, tags: Tags, name: str, limit: dict[str, float]) -> Sample:
    """Windowed means of the sum over all instances of each host against the host's size."""
    table = view.trace.per_second.get(name)
    if table is None or not len(table):
        return Sample()
    means = window_means(table, parse_duration_s(tags.get("over", DEFAULT_WINDOW)))
    found = [np.empty(0)]
    for host, size in limit.items():
        columns = view.columns({"host": host})
        if tags["host"] in ("*", host) and columns:
            found.append(means[:, columns].sum(axis=1) / size)
    return Sample(values=np.concatenate(found))


def _of_host(tags: Tags) -> bool:
    """A tag host alone asks for the host as a whole, not for its containers one by one."""
    return "host" in tags and "service" not in tags and "instance" not in tags


def cpu_utilization(view: View, tags: Tags) -> Sample:
    """CPU used, of the container's limit (of the host's cores where it has none)."""
    cores = {h.name: h.cores for h in view.stack.hosts}
    if _of_host(tags):
        return _whole_hosts(view, tags, "cpu_s", cores)
    return _share(view, tags, "cpu_s", _limits(view, tags, "cpus", cores))


def memory_utilization(view: View, tags: Tags) -> Sample:
    """Resident memory, of the container's limit (of the host's memory where it has none)."""
    size = {h.name: float(h.memory_bytes) for h in view.stack.hosts}
    if _of_host(tags):
        return _whole_hosts(view, tags, "rss_bytes", size)
    return _share(view, tags, "rss_bytes", _limits(view, tags, "mem_limit_bytes", size))


def _limits(view: View, tags: Tags, field: str, of_host: dict[str, float]) -> dict[int, float]:
    out = {}
    for column in view.columns(tags):
        instance = view.instances[view.trace.instances[column]]
        limit = getattr(instance, field) or of_host.get(instance.host, 0.0)
        if limit > 0:
            out[column] = float(limit)
    return out


def cpu_throttled(view: View, tags: Tags) -> Sample:
    """The share of time for which a container stood still because its quota was used up."""
    return _share(view, tags, "throttled_s", dict.fromkeys(view.columns(tags), 1.0))


def memory_bytes(view: View, tags: Tags) -> Sample:
    """Resident memory of each container, second by second."""
    table = view.trace.per_second.get("rss_bytes")
    columns = view.columns(tags)
    return Sample() if table is None or not columns else Sample(values=table[:, columns].T.ravel())


def cpu_reserved_cores(view: View, tags: Tags) -> Sample:
    """The sum of CPU limits; containers without a limit reserve nothing."""
    chosen = [i.cpus for i in view.stack.instances if selects(i, tags)]
    return Sample(values=np.array([sum(chosen)])) if chosen else Sample()


def memory_reserved_bytes(view: View, tags: Tags) -> Sample:
    """The sum of memory limits; containers without a limit reserve nothing."""
    chosen = [float(i.mem_limit_bytes) for i in view.stack.instances if selects(i, tags)]
    return Sample(values=np.array([sum(chosen)])) if chosen else Sample()


def oom_kills(view: View, tags: Tags) -> Sample:
    """Kills for want of memory; by service or host as the timeline tells them."""
    kills = [m for m in view.trace.timeline if "oom" in m.event.lower()]
    since = view.first_fault_s if view.faults else 0.0
    if tags:
        names = {i.name for i in view.stack.instances if selects(i, tags)}
        kills = [m for m in kills if {m.component, m.detail.partition(" ")[0]} & names]
        count = float(len(kills)) if names else math.nan
    else:
        count = float(view.trace.counters.get("oom_kills", len(kills)))
    first = min((m.t_s - since for m in kills if m.t_s >= since), default=math.inf)
    return Sample(count=count, of=view.trace.duration_s, first_s=first)


def retries(view: View, tags: Tags) -> Sample:
    """HAProxy's retries in the whole run; rate is per request of the users."""
    if tags:
        return Sample()
    counters = view.trace.counters
    requests = float(counters.get("requests", view.trace.hist.sum()))
    return Sample(count=float(counters.get("retries", 0)), of=requests)


def connections(view: View, tags: Tags) -> Sample:
    """Sessions that HAProxy holds on the servers of a service, second by second."""
    table = view.trace.per_second.get("sessions")
    wanted = tags.get("service", "*")
    services = {
        f"{b.name}/{s.name}": view.instances[s.instance].service
        for balancer in view.stack.balancers
        for b in balancer.backends
        for s in b.servers
        if s.instance in view.instances
    }
    chosen = [
        c
        for c, name in enumerate(view.trace.servers)
        if wanted in ("*", name.partition("/")[0], services.get(name))
    ]
    return Sample() if table is None or not chosen else Sample(values=table[:, chosen].sum(axis=1))


def probe_load(view: View, tags: Tags) -> Sample:
    """The share of all CPU seconds that answering HAProxy's health checks took.

    Estimated: checks made (a counter of the run), shared among server lines by their `inter`,
    times the mean CPU of the URL in the profile.
    """
    used = view.trace.per_second.get("cpu_s")
    checks = view.trace.counters.get("checks")
    if used is None or checks is None or ("service" in tags and not view.columns(tags)):
        return Sample()
    rate, cost = 0.0, 0.0
    for server in (
        s for balancer in view.stack.balancers for b in balancer.backends for s in b.servers
    ):
        if server.check is None or server.instance not in view.instances:
            continue
        instance = view.instances[server.instance]
        rate += 1.0 / server.check.inter_s
        if selects(instance, tags):
            cost += _check_cpu_s(view, instance.service, server.check.url) / server.check.inter_s
    total = float(used[:, view.columns(tags)].sum())
    return Sample(count=checks * cost / rate if rate else 0.0, of=total)


def _check_cpu_s(view: View, service: str, url: str) -> float:
    for known in view.stack.services:
        if known.name == service:
            return sum(mean(e.cpu) for e in known.health if e.url == url)
    return 0.0


def mean(dist: Dist) -> float:
    """The mean of a distribution, in its own unit."""
    if dist.kind == "uniform":
        return 0.5 * (dist.a + dist.b)
    if dist.kind == "lognormal":
        return dist.a * math.exp(0.5 * dist.b**2)
    if dist.kind == "hyperexp":
        return sum(w * m for w, m in dist.table) / sum(w for w, _ in dist.table)
    if dist.kind == "quantiles":
        pairs = zip(dist.table, dist.table[1:], strict=False)
        return sum((q - p) * 0.5 * (x + y) for (p, x), (q, y) in pairs)
    return dist.a
