"""Numbers for people: `12.9s`, `3.4%`, `1.2GiB`; the unit comes from the metric."""

from __future__ import annotations

import math

from hasim.budgets import METRICS
from hasim.verdict import ScenarioVerdict
from hasim.verdict_rows import Row

MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "void": "∅"}
BUILT_IN = ("steady_state", "recovered")  # conditions that every scenario has


def dimension(metric: str, aggregate: str) -> str:
    """time | share | count | bytes | cores; counts and rates of counters are plain numbers."""
    name = metric.rpartition(" ")[2]
    if name == "recovered":
        return "time"
    known = METRICS.get(name)
    if known is None or (aggregate == "count" and known.dimension != "count"):
        return "count"
    return "time" if aggregate == "first" else known.dimension


def show(value: float, unit: str) -> str:
    """A value with its unit, about three digits; `-` for nan, `never` for an infinite time."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "never" if unit == "time" and value > 0 else ("inf" if value > 0 else "-inf")
    if unit in ("time", "minutes"):
        return f"{_digits(value * 1000)}ms" if 0 < abs(value) < 1 else f"{_digits(value)}s"
    if unit == "share":
        return f"{_digits(value * 100)}%"
    if unit == "bytes":
        for name, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
            if abs(value) >= size:
                return f"{_digits(value / size)}{name}"
        return f"{value:.0f}B"
    return _digits(value)


def signed(value: float, unit: str) -> str:
    """`+1.2s`, `-0.4%`."""
    shown = show(value, unit)
    if shown == "never":
        shown = "inf"
    return shown if shown.startswith("-") or value == 0 else f"+{shown}"


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def observed(row: Row) -> str:
    """What was seen in a row."""
    return show(row.observed, dimension(row.metric, aggregate_of(row)))


def interval(row: Row) -> str:
    """`[3.1%, 3.7%]`, or nothing where there is no interval."""
    unit = dimension(row.metric, aggregate_of(row))
    if math.isnan(row.ci[0]):
        return ""
    return f"[{show(row.ci[0], unit)}, {show(row.ci[1], unit)}]"


def margin(row: Row) -> str:
    """Room up to the limit, `+36%` (negative: beyond it); a difference where the limit is 0."""
    if not math.isfinite(row.margin):
        return ""
    return f"{row.margin:+.0%}" if row.limit else f"{row.margin + 0.0:+.3g}"


def aggregate_of(row: Row) -> str:
    """The aggregate that a threshold's text begins with: `p`, `max`, `count`."""
    word = ""
    for char in row.threshold.strip():
        if not char.isalpha():
            break
        word += char
    return word


def status(row: Row) -> str:
    """The verdict of a row in one word, known gaps included."""
    if not row.waived_by:
        return row.verdict
    return "stale-gap" if row.verdict == "pass" else "known-gap"


def shown(scenario: ScenarioVerdict) -> list[Row]:
    """Rows to print: all that the user asked for, and built-in ones that do not pass."""
    return [r for r in scenario.budgets if not built_in(r) or r.verdict != "pass"]


def built_in(row: Row) -> bool:
    """Is it one that nobody wrote?"""
    return row.metric in BUILT_IN
