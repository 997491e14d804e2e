"""Metrics of the users' requests, from histograms: k6's own numbers, and what the user waited."""

from __future__ import annotations

import math

import numpy as np

from hasim.metrics_view import Sample, Tags, View
from hasim.sim.trace import (
    APP_5XX,
    CLIENT_4XX,
    EOF,
    HTTP_502,
    HTTP_503,
    HTTP_504,
    NO_ENTRY,
    OK,
    OPEN,
    OUTCOMES,
    TIMEOUT,
    bucket_edges_s,
)

_ALL = tuple(range(len(OUTCOMES)))
_FINISHED = tuple(o for o in _ALL if o != OPEN)
# As k6: expected are 200 to 399; a request without a response has status 0.
_FAILED = tuple(o for o in _FINISHED if o != OK)
STATUS: dict[str, tuple[int, ...]] = {
    "*": _ALL,
    "0": (EOF, NO_ENTRY, TIMEOUT),
    "200": (OK,),
    "2xx": (OK,),
    "4xx": (CLIENT_4XX,),
    "500": (APP_5XX,),
    "502": (HTTP_502,),
    "503": (HTTP_503,),
    "504": (HTTP_504,),
    "5xx": (APP_5XX, HTTP_502, HTTP_503, HTTP_504),
} | {
    name: (i,) for i, name in enumerate(OUTCOMES) if name not in ("4xx", "5xx", "502", "503", "504")
}


def operations(view: View, tags: Tags) -> list[int]:
    """Indexes of the operations that op, service and path select.

    path is `read`, `write` (by what the operation does) or the name of an operation.
    """
    op, service, path = (tags.get(k, "*") for k in ("op", "service", "path"))
    out = []
    for i, (name, write) in enumerate(zip(view.trace.ops, view.trace.writes, strict=True)):
        of, _, short = name.rpartition("/")
        if (
            op in ("*", name, short)
            and service in ("*", of)
            and path in ("*", name, short, "write" if write else "read")
        ):
            out.append(i)
    return out


def counts(view: View, tags: Tags) -> np.ndarray:
    """Requests by outcome and latency bucket that the tags select; int64 (OUTCOMES, BUCKETS)."""
    window, ops = tags.get("window", ""), tuple(operations(view, tags))
    if (window, ops) not in view.tables:
        total = np.zeros(view.trace.hist.shape[2:], dtype=np.int64)
        for g in np.flatnonzero(view.segments(window)):
            for o in ops:
                total += view.trace.hist[g, o]
        view.tables[window, ops] = total
    out = view.tables[window, ops].copy()
    allowed = STATUS.get(tags.get("status", "*"), ())
    out[[o for o in _ALL if o not in allowed]] = 0
    return out


def by_outcome(view: View, tags: Tags) -> np.ndarray:
    """Requests by outcome; int64 (OUTCOMES,)."""
    return counts(view, tags).sum(axis=1)


def _trend(view: View, tags: Tags, zero: tuple[int, ...]) -> Sample:
    """A latency sample; the outcomes in `zero` count with 0 s, whatever was waited."""
    table = counts(view, tags)
    segments = view.segments(tags.get("window", ""))
    sums = view.trace.latency_sum_s[segments][:, operations(view, tags)].sum(axis=(0, 1))
    allowed = STATUS.get(tags.get("status", "*"), ())
    timed = [o for o in _FINISHED if o not in zero and o in allowed]
    weights = table[timed].sum(axis=0)
    zeros = int(table[list(zero)].sum()) if zero else 0
    return Sample(
        values=np.concatenate([[0.0], bucket_edges_s()]),
        weights=np.concatenate([[zeros], weights]),
        total=float(sums[timed].sum()),
    )


def http_req_duration(view: View, tags: Tags) -> Sample:
    """k6: 0 where the entry refused or stayed silent; every other finished request as waited."""
    return _trend(view, tags, (NO_ENTRY,))


def latency(view: View, tags: Tags) -> Sample:
    """What the user waited: connect and retries included, failed requests too."""
    return _trend(view, tags, ())


def http_req_failed(view: View, tags: Tags) -> Sample:
    """k6: the share of finished requests without a status of 200 to 399."""
    n = by_outcome(view, tags)
    return Sample(count=float(n[list(_FAILED)].sum()), of=float(n[list(_FINISHED)].sum()))


def http_reqs(view: View, tags: Tags) -> Sample:
    """Requests that began, those still open at the end included; rate is per second."""
    n = by_outcome(view, tags)
    return Sample(count=float(n.sum()), of=view.seconds(tags.get("window", "")))


def failed_requests(view: View, tags: Tags) -> Sample:
    """Requests that failed; `first` to the second, from the first fault."""
    n = by_outcome(view, tags)
    first = math.nan
    if "failed" in view.trace.per_second:
        failed = view.trace.per_second["failed"][:, operations(view, tags)].sum(axis=1)
        first = first_after_fault(view, failed)
    seconds = view.seconds(tags.get("window", ""))
    return Sample(count=float(n[list(_FAILED)].sum()), of=seconds, first_s=first)


def interrupted(view: View, tags: Tags) -> Sample:
    """Requests still open when the run ended."""
    n = by_outcome(view, tags)
    return Sample(count=float(n[OPEN]), of=view.seconds(tags.get("window", "")))


def availability_by_requests(view: View, tags: Tags) -> Sample:
    """The share of requests served: 4xx is the client's mistake, an open request is not served."""
    n = by_outcome(view, tags)
    total = float(n.sum())
    return Sample(values=np.array([float(n[OK] + n[CLIENT_4XX]) / total]) if total else np.empty(0))


def error_budget(view: View, tags: Tags) -> Sample:
    """The share of an SLO's error budget that this run uses up: (1 - availability) x duration.

    slo is `99.9%` or `0.999`; per is a duration such as `30d`.
    """
    slo, per_s = parse_slo(tags)
    share = availability_by_requests(view, {}).values
    return Sample(values=(1.0 - share) * view.trace.duration_s / ((1.0 - slo) * per_s))


def parse_slo(tags: Tags) -> tuple[float, float]:
    """(SLO as a fraction, period in seconds). Raises ValueError with a message for the user."""
    text, period = tags.get("slo", "99.9%"), tags.get("per", "30d")
    try:
        slo = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        slo = math.nan
    if not 0.0 < slo < 1.0:
        raise ValueError(f"cannot read slo {text!r}; write it like 99.9%")
    return slo, parse_duration_s(period)


def parse_duration_s(text: str) -> float:
    """`60s`, `5m`, `30d` in seconds. Raises ValueError with a message for the user."""
    factors = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number = text.rstrip("mshd")
    try:
        seconds = float(number) * factors[text[len(number) :]]
    except (ValueError, KeyError):
        raise ValueError(f"cannot read duration {text!r}; write it like 60s") from None
    if not 0.0 < seconds < math.inf:
        raise ValueError(f"a duration of {text!r} makes no sense here")
    return seconds


def first_after_fault(view: View, per_second: np.ndarray) -> float:
    """Seconds from the first fault to the first second with a count; inf if there is none."""
    since = view.first_fault_s if view.faults else 0.0
    hits = np.flatnonzero(per_second[int(since) :] > 0)
    return max(float(int(since) + hits[0]) - since, 0.0) if len(hits) else math.inf


def _per_second(view: View, name: str, tags: Tags) -> np.ndarray:
    column = view.trace.per_second.get(name)
    if column is None:
        return np.empty(0)
    return column[view.inside(np.arange(len(column), dtype=float), tags.get("window", ""))]


def dropped_iterations(view: View, tags: Tags) -> Sample:
    """k6: iterations of an arrival-rate executor that found no free user."""
    column = _per_second(view, "dropped_iterations", tags)
    if not len(column):
        return Sample()
    first = first_after_fault(view, view.trace.per_second["dropped_iterations"])
    return Sample(count=float(column.sum()), of=float(len(column)), first_s=first)


def iterations(view: View, tags: Tags) -> Sample:
    """k6: finished iterations of the whole run."""
    count = view.trace.counters.get("iterations")
    if count is None or "window" in tags:
        return Sample()
    return Sample(count=float(count), of=view.trace.duration_s)


def vus(view: View, tags: Tags) -> Sample:
    """k6: users at work, second by second."""
    return Sample(values=_per_second(view, "vus", tags))
