"""The grammar of budgets: `http_req_failed{window:fault}: ["rate<2%"]`. No evaluation here.

    budget    = metric [ "{" tag ":" value { "," tag ":" value } "}" ] ":" "[" thresholds "]"
    threshold = aggregate operator number [ unit ]
    aggregate = "avg" | "min" | "max" | "med" | "p(" 0..100 ")"
              | "count" | "rate" | "value" | "first"
    operator  = "<" | "<=" | ">" | ">=" | "==" | "!="
    unit      = us ms s m h d | % | B KiB MiB GiB

A number without a unit means what k6 means: milliseconds for times, 0..1 for shares; so k6
thresholds paste in unchanged. `first` (time of the first occurrence) and units are additions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from hasim.errors import did_you_mean
from hasim.scenario import Threshold

# unit -> (dimension, factor to SI)
UNITS: dict[str, tuple[str, float]] = {
    "us": ("time", 1e-6),
    "ms": ("time", 1e-3),
    "s": ("time", 1.0),
    "m": ("time", 60.0),
    "h": ("time", 3600.0),
    "d": ("time", 86400.0),
    "%": ("share", 0.01),
    "B": ("bytes", 1.0),
    "KiB": ("bytes", 1024.0),
    "MiB": ("bytes", 1024.0**2),
    "GiB": ("bytes", 1024.0**3),
}
# Dimension -> factor of a number without a unit (k6: times are in milliseconds).
BARE = {"time": 1e-3, "minutes": 60.0, "share": 1.0, "bytes": 1.0, "count": 1.0, "cores": 1.0}

TREND = ("avg", "min", "max", "med", "p")
AGGREGATES = {
    "trend": TREND,
    "rate": ("rate",),
    "counter": ("count", "rate", "first"),
    "gauge": ("value", *TREND),
}
WINDOWS = ("before", "impact", "fault", "after")
TAG_VALUES = {"window": WINDOWS}
BY = {  # which of them each metric knows
    "availability": ("time", "requests"),
    "time_to_detect": ("haproxy", "sentinel", "patroni", "vrrp", "alert"),
    "failovers": ("sentinel", "patroni", "vrrp"),
    "false_failovers": ("sentinel", "patroni", "vrrp"),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """What a budget may name. later=True: known, but not in this version."""

    name: str
    type: str  # trend | rate | counter | gauge
    dimension: str  # time | share | count | bytes | cores | minutes
    tags: tuple[str, ...]
    doc: str
    later: bool = False

    @property
    def aggregates(self) -> tuple[str, ...]:
        """The aggregates that this type of metric has."""
        return AGGREGATES[self.type]


_REQUEST = ("op", "service", "window", "status", "path")
_DETECT = ("by", "service", "alert")
_NODE = ("service", "host", "instance")
_POOL = ("service", "pool", "window")
_METRICS = (
    Metric("http_req_duration", "trend", "time", _REQUEST, "k6's own: from sent to answered"),
    Metric("http_req_failed", "rate", "share", _REQUEST, "k6's own: share of failed requests"),
    Metric("http_reqs", "counter", "count", _REQUEST, "k6's own: requests sent"),
    Metric("dropped_iterations", "counter", "count", ("window",), "k6's own: no user was free"),
    Metric("iterations", "counter", "count", ("window",), "k6's own: finished iterations"),
    Metric("vus", "gauge", "count", ("window",), "k6's own: users at work"),
    Metric("latency", "trend", "time", _REQUEST, "what the user waited, failures included"),
    Metric("failed_requests", "counter", "count", _REQUEST, "requests that failed"),
    Metric("interrupted", "counter", "count", _REQUEST, "requests still open at the end"),
    Metric("availability", "gauge", "share", ("path", "by", "window"), "by time or by requests"),
    Metric("outage_duration", "trend", "time", ("path",), "longest run without a good probe"),
    Metric("time_to_recover", "trend", "time", ("path",), "fault to 30 good probes in a row"),
    Metric("time_to_detect", "trend", "time", _DETECT, "fault to its first notice"),
    Metric("error_budget", "gauge", "share", ("slo", "per"), "share of an SLO's budget used"),
    Metric("cpu_utilization", "gauge", "share", ("service", "host", "over"), "of limit or host"),
    Metric("memory_utilization", "gauge", "share", ("service", "host", "over"), "of limit or host"),
    Metric("cpu_throttled", "gauge", "share", ("service", "host", "over"), "time under quota stop"),
    Metric("cpu_reserved_cores", "gauge", "cores", ("service", "host"), "sum of CPU limits"),
    Metric("memory_bytes", "gauge", "bytes", ("service", "host"), "resident memory"),
    Metric("memory_reserved_bytes", "gauge", "bytes", ("service", "host"), "sum of limits"),
    Metric("oom_kills", "counter", "count", ("service", "host"), "kills for want of memory"),
    Metric("retries", "counter", "count", ("service", "window"), "HAProxy's retries"),
    Metric("queue_wait", "trend", "time", ("service", "window"), "wait in HAProxy's queues", True),
    Metric("pool_checkout_wait", "trend", "time", _POOL, "wait for a connection of a pool"),
    Metric("db_refused_connections", "counter", "count", _NODE, "too many clients already"),
    Metric("connections", "gauge", "count", ("service",), "open connections"),
    Metric("probe_load", "rate", "share", ("service",), "share of CPU spent on health checks"),
    Metric("failovers", "counter", "count", ("by", "service"), "changes of leader or master"),
    Metric("false_failovers", "counter", "count", ("by", "service"), "without a dead leader"),
    Metric("split_brain_seconds", "gauge", "time", ("cluster",), "two nodes take writes at once"),
    Metric("acked_writes_lost", "counter", "count", ("cluster",), "answered, then gone"),
    Metric("replication_lag", "gauge", "time", ("service", "instance"), "of the furthest replica"),
    Metric("alert_fired", "counter", "count", ("alert", "severity"), "by the user's rules"),
    Metric("downtime_minutes", "trend", "minutes", ("path",), "over the horizon", True),
)
METRICS: dict[str, Metric] = {m.name: m for m in _METRICS}

_THRESHOLD = re.compile(
    r"\s*(?P<agg>avg|min|max|med|count|rate|value|first|p\(\s*(?P<q>\d+(?:\.\d+)?)\s*\))"
    r"\s*(?P<op><=|>=|==|!=|<|>)"
    r"\s*(?P<num>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-z%]*)\s*"
)
_METRIC = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*(?:\{(?P<tags>[^{}]*)\})?\s*")


def parse_threshold(text: str, metric: str = "") -> Threshold:
    """One threshold with its limit in SI units. Raises ValueError with a message for the user.

    With the name of its metric the dimension and the aggregate are checked, and a number without
    a unit is read as k6 would; without it such a number is taken as it stands.

    >>> parse_threshold("p(95)<500", "http_req_duration").limit
    0.5
    >>> parse_threshold("rate<0.1%").limit
    0.001
    """
    match = _THRESHOLD.fullmatch(text)
    if not match:
        raise ValueError(f"cannot read threshold {text!r}; write 'p(95)<500ms' or 'rate<1%'")
    aggregate, q = match["agg"], 0.0
    if match["q"] is not None:
        aggregate, q = "p", float(match["q"]) / 100
        if not 0 <= q <= 1:
            raise ValueError(f"p({match['q']}) is outside 0..100")
    known = METRICS.get(metric)
    if known and aggregate not in known.aggregates:
        words = ", ".join("p(..)" if a == "p" else a for a in known.aggregates)
        raise ValueError(f"{metric} is a {known.type}: it has {words}, not {aggregate}")
    limit = _limit(float(match["num"]), match["unit"], aggregate, known)
    if known and known.dimension == "share" and limit > 1 and known.name != "error_budget":
        raise ValueError(f"{text!r}: a share is at most 1; write '{match['num']}%' for percent")
    if not math.isfinite(limit):
        raise ValueError(f"the limit of {text!r} is too large")
    return Threshold(text.strip(), aggregate, match["op"], limit, q)


def _limit(number: float, unit: str, aggregate: str, metric: Metric | None) -> float:
    """The number in SI units; ValueError if the unit does not fit the metric."""
    dimension = metric.dimension if metric else ""
    if aggregate == "first":
        dimension = "time"
    elif aggregate == "count" or (aggregate == "rate" and dimension == "count"):
        dimension = "count"
    if not unit:
        return number * BARE.get(dimension, 1.0)
    if unit not in UNITS:
        hint = did_you_mean(unit, UNITS)
        raise ValueError(f"unknown unit {unit!r}" + (f"; {hint}" if hint else ""))
    of_unit, factor = UNITS[unit]
    if dimension and of_unit != {"minutes": "time"}.get(dimension, dimension):
        raise ValueError(f"{unit!r} measures {of_unit}, but this is a {dimension}")
    return number * factor


def parse_metric(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The metric and its tags, in the order of writing. Raises ValueError with a message.

    >>> parse_metric("http_req_failed{window:fault}")
    ('http_req_failed', (('window', 'fault'),))
    """
    match = _METRIC.fullmatch(text)
    if not match:
        raise ValueError(f"cannot read metric {text!r}; write 'http_req_failed{{op:login}}'")
    name = match["name"]
    metric = METRICS.get(name)
    if not metric:
        hint = did_you_mean(name, METRICS)
        raise ValueError(f"unknown metric {name!r}" + (f"; {hint}" if hint else ""))
    if metric.later:
        raise ValueError(f"metric {name!r} is not in this version")
    tags: list[tuple[str, str]] = []
    for part in (match["tags"] or "").split(",") if match["tags"] is not None else ():
        key, colon, value = (p.strip() for p in part.partition(":"))
        if not (key and colon and value):
            raise ValueError(f"cannot read tag {part.strip()!r} of {name}; write 'tag:value'")
        if key not in metric.tags:
            raise ValueError(f"{name} has no tag {key!r}; it has {', '.join(metric.tags)}")
        if key in dict(tags):
            raise ValueError(f"tag {key!r} twice in {text!r}")
        allowed = BY[name] if key == "by" else TAG_VALUES.get(key, (value,))
        if value not in allowed:
            raise ValueError(f"{key} {value!r} is unknown; it is one of {_words(allowed)}")
        tags.append((key, value))
    return name, tuple(tags)


def _words(words: Iterable[str]) -> str:
    return ", ".join(words)


def contradiction(thresholds: Iterable[Threshold]) -> tuple[Threshold, Threshold] | None:
    """Two thresholds of one metric that cannot both hold, or None.

    Quantiles grow with q: `p(95)>2s` and `p(99)<1s` contradict each other too.
    """
    rows = [(_place(t), t) for t in thresholds]
    for (kind, q), low in rows:
        if low.operator not in (">", ">=", "=="):
            continue
        for (other, r), high in rows:
            if kind != other or r < q or high is low or high.operator not in ("<", "<=", "=="):
                continue
            strict = low.operator == ">" or high.operator == "<"
            if low.limit > high.limit or (strict and low.limit == high.limit):
                return low, high
    return None


def _place(threshold: Threshold) -> tuple[str, float]:
    """Quantiles share one axis, so that they can be compared; every other aggregate has its own."""
    quantile = {"min": 0.0, "med": 0.5, "max": 1.0, "p": threshold.q}
    if threshold.aggregate in quantile:
        return "quantile", quantile[threshold.aggregate]
    return threshold.aggregate, 0.0
