"""What the report shows of one scenario besides its verdict: the picture and three tables.

Made while the traces are at hand, so that they need not be kept until the page is written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hasim.causes_text import Cause
from hasim.metrics_resources import window_means
from hasim.model import Stack
from hasim.report import charts, charts_data, numbers, style
from hasim.sim.trace import Trace
from hasim.source import Span
from hasim.verdict import ScenarioVerdict
from hasim.verdict_rows import Row

# HAProxy's manual, "Session state at disconnection": who ended it, and in which state it was.
ENDED = {
    "C": "the client gave up",
    "S": "the server refused or closed",
    "P": "the proxy ended it",
    "R": "a resource of the proxy ran out",
    "I": "an error inside of the proxy",
    "D": "the server went down",
    "U": "a backup server came up",
    "K": "killed by the operator",
    "c": "the client's timeout",
    "s": "the server's timeout",
    "L": "answered by the proxy itself",
}
STATE = {
    "R": "before the request was complete",
    "Q": "in the queue",
    "C": "while connecting to the server",
    "H": "while waiting for the response's headers",
    "D": "while data was sent",
    "L": "while the last data went to the client",
    "T": "while it was tarpitted",
}
MOST_FAILURES, AROUND, LEAST_CORES = 12, 1, 0.005


@dataclass(frozen=True, slots=True)
class Failure:
    """Requests that ended in one way; count over all replications."""

    server: str
    status: str
    termination: str
    meaning: str
    count: int


@dataclass(frozen=True, slots=True)
class Resource:
    """The most that a container of a service used, in 60 s (CPU) or at any second (memory).

    cpu, memory: as shares of the container's limit, or of its host where it has none (`of`).
    """

    service: str
    instances: int
    cores: float
    cpu: float
    size_bytes: float
    memory: float
    of: str


@dataclass(frozen=True, slots=True)
class Exhibit:
    """Of one scenario. picture: SVG, or "" if nothing ran."""

    picture: str
    failures: tuple[Failure, ...]
    resources: tuple[Resource, ...]


def exhibit(
    verdict: ScenarioVerdict, traces: Sequence[Trace], stack: Stack, prefix: str = ""
) -> Exhibit:
    """Draw and count one scenario. traces may be slim; prefix: unique on the page."""
    found = charts_data.picture(traces, verdict, verdict.worst)
    picture = ""
    if found is not None:
        picture = style.svg(charts.draw(found), charts.alt(found), prefix)
    return Exhibit(picture, failures(traces), resources(traces, stack))


def failures(traces: Sequence[Trace]) -> tuple[Failure, ...]:
    """Requests that failed as HAProxy's log tells it, the most frequent first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for trace in traces:
        for key, count in trace.terminations:
            _, status, letters = key
            if status[:1] in ("4", "5", "-") or letters[:2].strip("-"):
                counts[key] += count
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Failure(*key, meaning(*key[1:]), n) for key, n in order[:MOST_FAILURES])


def meaning(status: str, letters: str) -> str:
    """`sH--` in words."""
    ended, state = ENDED.get(letters[:1]), STATE.get(letters[1:2])
    if ended is None and state is None:
        return "the server answered so" if status[:1] in "45" else ""
    return " ".join(part for part in (ended, state) if part)


def resources(traces: Sequence[Trace], stack: Stack) -> tuple[Resource, ...]:
    """The busiest container of every service over all replications.

    What uses too little to be simulated (an exporter, a Sentinel) is left out.
    """
    ran = [t for t in traces if not t.void and len(t.per_second.get("cpu_s", ()))]
    if not ran:
        return ()
    cpu = np.max([window_means(t.per_second["cpu_s"], 60).max(axis=0) for t in ran], axis=0)
    memory = np.max([t.per_second["rss_bytes"].max(axis=0) for t in ran], axis=0)
    limits = charts.instance_limits(stack)
    known = {i.name: i for i in stack.instances}
    columns: dict[str, list[int]] = {}
    for column, name in enumerate(ran[0].instances):
        if name in limits:
            columns.setdefault(limits[name][0], []).append(column)
    made = []
    for service, own in columns.items():
        if cpu[own].max() < LEAST_CORES and not memory[own].any():
            continue
        names = [ran[0].instances[c] for c in own]
        cores, sizes = (np.array([limits[n][i] for n in names]) for i in (1, 2))
        bare = [n for n in names if not (known[n].cpus and known[n].mem_limit_bytes)]
        made.append(
            Resource(
                service,
                len(own),
                float(cpu[own].max()),
                float((cpu[own] / cores).max()),
                float(memory[own].max()),
                float((memory[own] / sizes).max()),
                "its host" if bare else "its limit",
            )
        )
    return tuple(sorted(made, key=lambda r: (-max(r.cpu, r.memory), r.service)))


# ---- places in files -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Line:
    """One line of an excerpt; `value` is what decided, empty on the lines around it."""

    number: int
    before: str
    value: str
    after: str


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A few lines of a file and the sentences that rest on them."""

    place: str
    lines: tuple[Line, ...]
    causes: tuple[Cause, ...]


def excerpts(causes: Sequence[Cause], files: Mapping[str, str]) -> tuple[Excerpt, ...]:
    """The lines behind the causes, each place once. files: redacted copies by path."""
    places: dict[tuple[str, int], list[Cause]] = {}
    for cause in causes:
        if cause.span is not None and cause.span.file in files:
            places.setdefault((cause.span.file, cause.span.line), []).append(cause)
    made = []
    for told in places.values():
        span = told[0].span
        assert span is not None
        lines = excerpt(span, files[span.file])
        if lines:
            made.append(Excerpt(f"{span.file}:{span.line}", lines, tuple(told)))
    return tuple(made)


def excerpt(span: Span, text: str) -> tuple[Line, ...]:
    """The line of a span with its neighbours; none if the copy is shorter than the original."""
    lines = text.splitlines()
    if not 1 <= span.line <= len(lines):
        return ()
    made = []
    for number in range(max(1, span.line - AROUND), min(len(lines), span.line + AROUND) + 1):
        line = lines[number - 1]
        if number != span.line:
            made.append(Line(number, line, "", ""))
            continue
        start = max(span.col - 1, 0)
        rest = line[start:]
        width = span.end - span.start if span.end > span.start else len(rest.split(" ")[0])
        made.append(Line(number, line[:start], rest[:width], rest[width:]))
    return tuple(made)


# ---- margins -------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Gauge:
    """A margin as a bar: places in percent of its width. good: (from, to) of what keeps it."""

    limit: float
    low: float
    high: float
    seen: float
    good: tuple[float, float]


def gauge(row: Row) -> Gauge | None:
    """Where the interval of a row lies against its limit; None where there is none to show."""
    if math.isnan(row.observed) or math.isinf(row.limit) or numbers.built_in(row):
        return None
    low, high = (row.observed if math.isnan(end) else end for end in row.ci)
    finite = [abs(v) for v in (low, high, row.observed, row.limit) if math.isfinite(v)]
    top = max([1.25 * abs(row.limit), *(1.05 * v for v in finite)]) or 1.0

    def place(value: float) -> float:
        return round(100 * min(max(value / top, 0.0), 1.0), 1)

    limit = place(row.limit)
    good = (limit, 100.0) if ">" in row.threshold else (0.0, limit)
    return Gauge(limit, place(low), place(high), place(row.observed), good)
