"""From two sides to what is different: files, knobs, budgets, causes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hasim import stats
from hasim.compare.rows import (
    CauseChange,
    Difference,
    FileChange,
    KnobChange,
    Move,
    ScenarioChange,
)
from hasim.compare.sides import Side
from hasim.model import Knob, Stack
from hasim.report.diff import unified
from hasim.report.numbers import BUILT_IN
from hasim.source import Default, Span
from hasim.verdict_measure import Measured

# Standard numbers that are shown besides the budgets, if they moved.
ALSO = {
    "outage_duration": ("max",),
    "failed_requests": ("count",),
    "http_reqs": ("count",),
    "latency": ("p(95)", "p(99)", "max"),
    "time_to_detect": ("max",),
    "time_to_recover": ("max",),
    "false_failovers": ("count",),
    "acked_writes_lost": ("count",),
    "probe_load": ("rate",),
}
AROUND = 2  # unchanged lines on both sides of a change
SHOWN_S = 0.05  # causes that changed by less are the same
Values = Mapping[int, float]


# ---- files and knobs -----------------------------------------------------------------------------
def files(before: Side, after: Side) -> Iterator[FileChange]:
    """Files that are not the same, byte for byte, in path order."""
    for path in sorted({*before.hashes, *after.hashes}):
        a, b = before.files.get(path), after.files.get(path)
        if before.hashes.get(path) == after.hashes.get(path):
            continue
        if path not in after.hashes:
            yield FileChange(path, "removed", "".join(unified(path, a, None)))
        elif path not in before.hashes:
            yield FileChange(path, "added", "".join(unified(path, None, b)))
        elif a is None or b is None:
            yield FileChange(path, "changed", "", "no copy of it was kept")
        else:
            note = "only in what is redacted" if a == b else ""
            yield FileChange(path, "changed", "".join(unified(path, a, b, AROUND)), note)


def knobs(before: Stack | None, after: Stack | None) -> Iterator[KnobChange]:
    """Values that are not the same, in the order of the files. Left out is what only follows
    another (a backend's `timeout server` from the defaults), and a default of what is new or gone.
    """
    if before is None or after is None:
        return
    old, new = _by_name(before), _by_name(after)
    changed = {
        name: (_values(was), _values(now))
        for name in dict.fromkeys([*new, *old])
        if (was := old.get(name, [])) != (now := new.get(name, []))
        and [k.value for k in was] != [k.value for k in now]
    }
    for name, (was_text, now_text) in changed.items():
        known = (new.get(name) or old[name])[0]
        both = name in old and name in new
        if not both and isinstance(known.origin, Default):
            continue  # comes or goes with its software
        if both and _follows(known, old[name][0], name, changed, new):
            continue
        span = known.origin if isinstance(known.origin, Span) else None
        yield KnobChange(name, was_text, now_text, known.effect, span)


def _follows(
    knob: Knob,
    was: Knob,
    name: str,
    changed: Mapping[str, tuple[str, str]],
    new: Mapping[str, Sequence[Knob]],
) -> bool:
    """Is its value that of another knob which changed alike: inherited, or a default that is `as
    inter`?
    """
    alike = [other for other, texts in changed.items() if texts == changed[name] and other != name]
    written = [k for other in alike for k in new.get(other, ()) if isinstance(k.origin, Span)]
    if isinstance(knob.origin, Default):
        home = name.rpartition(".")[0]
        return isinstance(was.origin, Default) and any(
            k.name.rpartition(".")[0] == home for k in written
        )
    inherits = knob.insert is not None and was.insert is not None
    return inherits and any(k.insert is None and k.origin == knob.origin for k in written)


def _by_name(stack: Stack) -> dict[str, list[Knob]]:
    out: dict[str, list[Knob]] = {}
    for knob in stack.knobs:
        out.setdefault(knob.name, []).append(knob)
    return out


def _values(found: Sequence[Knob]) -> str:
    return ", ".join(dict.fromkeys(k.value or "(empty)" for k in found))


# ---- scenarios -----------------------------------------------------------------------------------
def scenarios(before: Side, after: Side) -> Iterator[ScenarioChange]:
    """Every scenario of either side, in the order of `after`."""
    same_luck = before.verdict.get("seed") == after.verdict.get("seed")
    old, new = before.scenarios, after.scenarios
    for name in dict.fromkeys([*new, *old]):
        a, b = old.get(name), new.get(name)
        was, now = before.measured.get(name, {}), after.measured.get(name, {})
        both = a is not None and b is not None
        yield ScenarioChange(
            name,
            a["verdict"] if a else "",
            b["verdict"] if b else "",
            (a["replications"] if a else 0, b["replications"] if b else 0),
            tuple(_budgets(name, a, b, was, now, same_luck)) if a and b else (),
            tuple(_metrics(name, was, now, same_luck)) if both else (),
            tuple(causes(a["causes"], b["causes"])) if a and b else (),
        )


Row = Mapping[str, Any]
Runs = Mapping[int, Measured]


def _budgets(name: str, a: Row, b: Row, was: Runs, now: Runs, same_luck: bool) -> Iterator[Move]:
    rows, other = _rows(a, was), _rows(b, now)
    for key in dict.fromkeys([*other, *rows]):
        (x, old), (y, new) = rows.get(key, (None, {})), other.get(key, (None, {}))
        metric, tags, threshold = key
        found = None
        if x is not None and y is not None:
            found = difference(old, new, same_luck) if old and new else _from_intervals(x, y)
        yield Move(
            name,
            metric,
            tags,
            re.split(r"[^a-z]", threshold)[0],
            threshold,
            _number(x),
            _number(y),
            x["verdict"] if x else "",
            y["verdict"] if y else "",
            found,
        )


def _rows(side: Row, runs: Runs) -> dict[tuple, tuple[Row, dict[int, float]]]:
    """(metric, tags, threshold) -> (row of the verdict, value per replication)."""
    out, i = {}, 0
    for row in side["budgets"]:
        key = (row["metric"], tuple(row["tags"].items()), row["threshold"])
        values: dict[int, float] = {}
        if row["metric"] == "recovered":
            values = {r: m.recovered_s for r, m in runs.items() if m.recovered_s is not None}
        elif not row["metric"].startswith(BUILT_IN):
            values = {r: m.values[i] for r, m in runs.items() if i < len(m.values)}
            i += 1
        elif row["metric"] == "steady_state":
            values = {r: m.steady for r, m in runs.items()}
        out[key] = (row, values)
    return out


def _metrics(name: str, was: Runs, now: Runs, same_luck: bool) -> Iterator[Move]:
    """Standard numbers that moved beyond their interval."""
    keys = [k for m in [*now.values()][:1] for k in m.summary if k[2] in ALSO.get(k[0], ())]
    for metric, tags, aggregate in keys:
        old, new = (
            {r: m.summary[metric, tags, aggregate] for r, m in side.items()
             if (metric, tags, aggregate) in m.summary}
            for side in (was, now)
        )  # fmt: skip
        found = difference(old, new, same_luck)
        if found is not None and found.certain:
            ends = (_mean(old), _mean(new))
            yield Move(name, metric, tags, aggregate, "", *ends, "", "", found)


def _mean(values: Values) -> float:
    return float(np.mean(list(values.values()))) if values else math.nan


def _number(row: Row | None) -> float:
    value = row["observed"] if row else None
    return math.nan if value is None else float(value)


def difference(before: Values, after: Values, same_luck: bool) -> Difference | None:
    """after - before of values by replication; None without values on a side.

    Replications that only one side has are left out of pairs.
    """
    old = {r: v for r, v in before.items() if not math.isnan(v)}
    new = {r: v for r, v in after.items() if not math.isnan(v)}
    common = sorted({*old} & {*new})
    if not old or not new or (same_luck and not common):
        return None
    if not same_luck:
        x, y = list(old.values()), list(new.values())
        e = stats.unpaired(x, y, stats.ERROR)
        return Difference(e.mean, e.low, e.high, math.nan, min(len(x), len(y)), False)
    p = stats.paired([old[r] for r in common], [new[r] for r in common], stats.ERROR)
    return Difference(p.difference, p.low, p.high, p.correlation, p.n, True)


def _from_intervals(x: Row, y: Row) -> Difference | None:
    """Without values per replication: what the two intervals allow, which is wider."""
    ends = [*x["ci"], *y["ci"], x["observed"], y["observed"]]
    if any(e is None for e in ends):
        return None
    low, high = y["ci"][0] - x["ci"][1], y["ci"][1] - x["ci"][0]
    return Difference(y["observed"] - x["observed"], low, high, math.nan, 0, False)


# ---- causes --------------------------------------------------------------------------------------
def causes(before: Sequence[Row], after: Sequence[Row]) -> Iterator[CauseChange]:
    """What appeared, vanished, or lasts another time; sentences are the same but for numbers."""
    old, new = _sentences(before), _sentences(after)
    for key in dict.fromkeys([*new, *old]):
        a, b = old.get(key), new.get(key)
        if a and b:
            by_s = abs(b["seconds"] - a["seconds"])
            if by_s < SHOWN_S and a["requests"] == b["requests"]:
                continue
            yield _change("changed", b, a, b)
        elif b:
            yield _change("appeared", b, None, b)
        elif a:
            yield _change("vanished", a, a, None)


def _sentences(rows: Sequence[Row]) -> dict[tuple[str, int], Row]:
    """(text with `#` for its numbers, which of them) -> row; verdicts on budgets are no causes."""
    out: dict[tuple[str, int], Row] = {}
    for row in rows:
        if ": violated in " in row["text"]:
            continue
        plain, n = re.sub(r"\d+(?:\.\d+)?", "#", row["text"]), 0
        while (plain, n) in out:
            n += 1
        out[plain, n] = {**row, "seconds": row["seconds"] or 0.0}
    return out


def _change(kind: str, shown: Row, a: Row | None, b: Row | None) -> CauseChange:
    span = Span(shown["file"], shown["line"], shown["col"]) if shown["file"] else None
    return CauseChange(
        kind,
        shown["text"],
        span,
        a["seconds"] if a else 0.0,
        b["seconds"] if b else 0.0,
        a["requests"] if a else 0,
        b["requests"] if b else 0,
    )
