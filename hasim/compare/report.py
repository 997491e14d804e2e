"""A comparison as text, JSON (schema 1) or markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from hasim.compare.rows import (
    CauseChange,
    Comparison,
    Difference,
    FileChange,
    KnobChange,
    Move,
    ScenarioChange,
)
from hasim.report import numbers
from hasim.report.json_ import dumps, number, place
from hasim.report.markdown import cell, code, table
from hasim.report.text import columns
from hasim.units import counted

MOST_DIFF = 60  # lines of one file's diff in the text
MOST_CAUSES = 8
MOST_METRICS = 8


# ---- text ----------------------------------------------------------------------------------------
def text(found: Comparison) -> str:
    """For a terminal."""
    return "".join(line.rstrip() + "\n" for line in _lines(found))


def _lines(found: Comparison) -> Iterator[str]:
    luck = ""
    if found.seeds is not None:
        same = found.seeds[0] == found.seeds[1]
        luck = f"   seed {found.seeds[0]}, paired" if same else "   not paired"
    yield f"{found.before} -> {found.after}{luck}"
    yield from (f"note: {note}" for note in found.notes)
    if found.files:
        yield ""
        yield f"{counted(len(found.files), 'file')} differ{'s' if len(found.files) == 1 else ''}"
    for f in found.files:
        yield from _file(f)
    if found.knobs:
        rows = [(k.name + times, f"{k.before or '-'} -> {k.after or '-'}", k.effect)
                for k, times in grouped(found.knobs)]  # fmt: skip
        yield ""
        yield f"{counted(len(found.knobs), 'knob')} changed"
        yield from columns(rows, "  ")
    for s in found.scenarios:
        yield ""
        yield from _scenario(s)
    yield ""
    yield summary(found)


def summary(found: Comparison) -> str:
    """`1 file changed, 2 of 5 scenarios moved`, or `nothing differs`."""
    if not found.differs:
        return "nothing differs" + (" beyond the intervals" if found.scenarios else "")
    parts = [f"{counted(len(found.files), 'file')} changed"] if found.files else []
    moved = sum(s.moved for s in found.scenarios)
    if moved:
        parts.append(f"{moved} of {counted(len(found.scenarios), 'scenario')} moved")
    return ", ".join(parts)


def _file(f: FileChange) -> Iterator[str]:
    yield f"  {f.path}   {f.kind}" + (f" ({f.note})" if f.note else "")
    lines = f.diff.splitlines()[2:] if f.kind == "changed" else []
    yield from (f"    {line}" for line in lines[:MOST_DIFF])
    if len(lines) > MOST_DIFF:
        yield f"    ... {len(lines) - MOST_DIFF} more lines"


def _scenario(s: ScenarioChange) -> Iterator[str]:
    if not s.verdict_before or not s.verdict_after:
        side = "before" if s.verdict_before else "after"
        yield f"{s.name}   only {side}: {(s.verdict_before or s.verdict_after).upper()}"
        return
    words = dict.fromkeys([s.verdict_before.upper(), s.verdict_after.upper()])
    runs = dict.fromkeys(map(str, s.replications))
    yield f"{s.name}   {' -> '.join(words)}   {' and '.join(runs)} replications"
    yield from columns([_budget(m) for m in s.budgets if not _quiet(m)], "  ")
    if s.metrics:
        more = len(s.metrics) - MOST_METRICS
        yield from columns([_budget(m)[1:] for m in s.metrics[:MOST_METRICS]], "     also  ")
        if more > 0:
            yield f"     also  {more} more"
    rows = sorted(s.causes, key=lambda c: -abs(c.seconds_after - c.seconds_before))[:MOST_CAUSES]
    for i, c in enumerate(c for c in s.causes if c in rows):
        yield f"  {'why' if i == 0 else '   '}  {_cause(c)}" + (f"   {c.span}" if c.span else "")


def _quiet(m: Move) -> bool:
    """A built-in row that did not move is not worth a line."""
    return m.metric.startswith(numbers.BUILT_IN) and not m.moved


def _budget(m: Move) -> tuple[str, ...]:
    unit = numbers.dimension(m.metric, m.aggregate)
    was, now = (numbers.show(x, unit) for x in (m.before, m.after))
    words = [w for w in dict.fromkeys([m.verdict_before, m.verdict_after]) if w]
    if m.threshold and not (m.verdict_before and m.verdict_after):
        words = [f"only {'before' if m.verdict_before else 'after'}", *words]
    mark = "!" if m.moved else " "
    what = m.threshold or m.aggregate
    seen = f"{was} -> {now}" if was != now else was
    return mark, m.name, what, seen, _difference(m.difference, unit), " -> ".join(words)


def _difference(d: Difference | None, unit: str) -> str:
    if d is None:
        return ""
    if d.mean == d.low == d.high == 0:
        return "unchanged"
    mean, low, high = (numbers.signed(x, unit) for x in (d.mean, d.low, d.high))
    ends = f"{mean} [{low}, {high}]"
    if not d.paired:
        return f"{ends} unpaired"
    return ends + (f" r {d.correlation:.2f}" if not math.isnan(d.correlation) else "")


def _cause(c: CauseChange) -> str:
    if c.kind != "changed":
        return f"{c.kind}: {c.text}"
    moved = []
    if c.seconds_before != c.seconds_after:
        moved.append(f"{c.seconds_before:.1f} s -> {c.seconds_after:.1f} s")
    if c.requests_before != c.requests_after:
        moved.append(f"{c.requests_before} -> {c.requests_after} requests")
    return f"{', '.join(moved)}: {c.text}"


def grouped(changes: Iterable[KnobChange]) -> list[tuple[KnobChange, str]]:
    """Equal changes of numbered peers as one, with ` (x 3)`."""
    found: dict[tuple[str, ...], list[KnobChange]] = {}
    for k in changes:
        key = (re.sub(r"\d+", "#", k.name), k.before, k.after, k.effect)
        found.setdefault(key, []).append(k)
    return [(rows[0], f" (x {len(rows)})" if len(rows) > 1 else "") for rows in found.values()]


# ---- json ----------------------------------------------------------------------------------------
def json(found: Comparison) -> str:
    """For programs: plain keys, SI units, null for what is not finite."""
    document = {
        "schema": 1,
        "before": found.before,
        "after": found.after,
        "seeds": list(found.seeds) if found.seeds else None,
        "differs": found.differs,
        "notes": list(found.notes),
        "files": [
            {"path": f.path, "kind": f.kind, "note": f.note or None, "diff": f.diff}
            for f in found.files
        ],
        "knobs": [
            {
                "name": k.name,
                "before": k.before,
                "after": k.after,
                "effect": k.effect,
                **place(k.span),
            }
            for k in found.knobs
        ],
        "scenarios": [_scenario_json(s) for s in found.scenarios],
    }
    return dumps(document)


def _scenario_json(s: ScenarioChange) -> dict[str, Any]:
    return {
        "name": s.name,
        "verdict": [s.verdict_before or None, s.verdict_after or None],
        "replications": list(s.replications),
        "moved": s.moved,
        "budgets": [_move_json(m) for m in s.budgets],
        "metrics": [_move_json(m) for m in s.metrics],
        "causes": [
            {
                "kind": c.kind,
                "text": c.text,
                **place(c.span),
                "seconds": [number(c.seconds_before), number(c.seconds_after)],
                "requests": [c.requests_before, c.requests_after],
            }
            for c in s.causes
        ],
    }


def _move_json(m: Move) -> dict[str, Any]:
    d = m.difference
    return {
        "metric": m.metric,
        "tags": dict(m.tags),
        "aggregate": m.aggregate,
        "threshold": m.threshold or None,
        "observed": [number(m.before), number(m.after)],
        "verdict": [m.verdict_before or None, m.verdict_after or None],
        "moved": m.moved,
        "difference": None
        if d is None
        else {
            "mean": number(d.mean),
            "ci": [number(d.low), number(d.high)],
            "correlation": number(d.correlation),
            "n": d.n,
            "paired": d.paired,
        },
    }


# ---- markdown ------------------------------------------------------------------------------------
def markdown(found: Comparison) -> str:
    """For a merge request."""
    out = [f"## {cell(found.before)} → {cell(found.after)}", "", f"**{summary(found)}**", ""]
    out += [f"- {cell(note)}" for note in found.notes] + ([""] if found.notes else [])
    if found.knobs:
        rows = [(code(k.name) + times, code(k.before or "-"), code(k.after or "-"), k.effect)
                for k, times in grouped(found.knobs)]  # fmt: skip
        out += [*table(("knob", "before", "after", "takes effect by"), rows), ""]
    for s in found.scenarios:
        words = dict.fromkeys(w.upper() or "not run" for w in (s.verdict_before, s.verdict_after))
        out += [f"### {cell(s.name)}: {' → '.join(words)}", ""]
        moves = [_budget(m) for m in (*s.budgets, *s.metrics) if not _quiet(m)]
        if moves:
            heads = ("", "", "asked", "observed", "difference", "verdict")
            cells = ((m.strip(), code(name), *map(cell, rest)) for m, name, *rest in moves)
            out += [*table(heads, cells), ""]
        if s.causes:
            out += [f"- {cell(_cause(c))}" + (f" {code(str(c.span))}" if c.span else "")
                    for c in s.causes]  # fmt: skip
            out.append("")
    for f in found.files:
        note = f" ({f.note})" if f.note else ""
        out += [f"{code(f.path)} {f.kind}{note}", ""]
        if f.diff:
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", f.diff)), default=0))
            out += [f"{fence}diff", f.diff.rstrip("\n"), fence, ""]
    return "\n".join(out).rstrip("\n") + "\n"
