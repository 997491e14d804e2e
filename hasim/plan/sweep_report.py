"""A sweep for people and for programs: text, Markdown, JSON, CSV, and the picture of the front."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import hasim
from hasim.plan.sensitivity import Change
from hasim.plan.sweep import Candidate, SweepResult
from hasim.plan.sweep_desk import named, short_names
from hasim.report.json_ import dumps, number
from hasim.report.markdown import cell, table
from hasim.report.numbers import dimension, show
from hasim.report.text import columns
from hasim.scenario import Objective
from hasim.stats import Estimate, Paired

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cells = Sequence[str]


@dataclass(frozen=True)
class Part:
    """A part of the report: a title, sentences, and a table (its first row the heading)."""

    title: str
    lines: tuple[str, ...] = ()
    table: tuple[Cells, ...] = ()


def text(result: SweepResult) -> str:
    """For a terminal."""
    out = [_head(result), ""]
    for part in parts(result):
        out.append(part.title)
        out += [f"  {line}" for line in part.lines]
        out += [*columns(part.table, "  "), ""]
    return "\n".join(out)


def markdown(result: SweepResult) -> str:
    """The same as Markdown."""
    out = [f"# {_head(result)}", ""]
    for part in parts(result):
        out += [f"## {part.title}", ""]
        out += [f"- {cell(line)}" for line in part.lines] + [""] * bool(part.lines)
        if part.table:
            heads, *rows = ([cell(c) for c in row] for row in part.table)
            out += [*table(heads, rows), ""]
    return "\n".join(out)


def json(result: SweepResult) -> str:
    """For programs: docs/sweep.md describes it."""
    made = {
        "schema": 1,
        "hasim": hasim.__version__,
        "name": result.name,
        "seed": result.seed,
        "stack_sha256": result.stack.sha256,
        "outcome": result.outcome,
        "reason": result.reason,
        "scenarios": list(result.scenarios),
        "objectives": [o.text for o in result.plan.minimise],
        "knobs": [
            {"name": k.name, "value": k.value, "values": list(k.values), "effect": k.effect}
            for k in result.knobs
        ],
        "before": _candidate(result.before),
        "best": _candidate(result.best) if result.best else None,
        "verdicts": [
            {"name": v.name, "verdict": v.verdict, "replications": v.replications}
            for v in result.verdicts
        ],
        "pareto": [c.settings for c in result.pareto],
        "changes": [_change(c) for c in result.changes],
        "left_out": [_change(c) for c in result.left_out],
        "sensitivity": [
            {
                "knob": e.knob,
                "chosen": e.chosen,
                "value": e.value,
                "keeps": e.keeps,
                "breaks": list(e.breaks),
                "matters": e.matters,
                "objectives": {k: _paired(p) for k, p in e.objectives.items()},
            }
            for e in result.sensitivity
        ],
        "screening": list(result.screening),
        "nearest": _candidate(result.nearest) if result.nearest else None,
        "candidates": [_candidate(c) for c in result.candidates],
    }
    return dumps(made)


def candidates_csv(result: SweepResult) -> str:
    """One row per candidate: its settings, objectives, and what became of it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    texts = [o.text for o in result.plan.minimise]
    head = [k.name for k in result.knobs]
    ends = [f"{t} {e}".strip() for t in texts for e in ("", "low", "high")]
    seen = [f"screened {t}" for t in texts]
    writer.writerow([*head, "passed", "pareto", "best", "replications", *ends, *seen, "dropped"])
    front = [c.settings for c in result.pareto]
    for c in result.candidates:
        row: list[object] = [c.settings.get(k.name, k.value) for k in result.knobs]
        row += [int(c.passed), int(c.settings in front), int(c is result.best), c.replications]
        for t in texts:
            e = c.objectives.get(t)
            row += [_digits(x) for x in (e.mean, e.low, e.high)] if e else ["", "", ""]
        row += [_digits(c.screened[t]) if t in c.screened else "" for t in texts]
        writer.writerow([*row, c.dropped])
    return out.getvalue()


# ---- parts ---------------------------------------------------------------------------------------
def _head(result: SweepResult) -> str:
    n = len(result.candidates)
    return (
        f"hasim {hasim.__version__}   sweep {result.name}   stack {result.stack.name}   "
        f"{n} candidates   {len(result.scenarios)} scenarios   seed {result.seed}"
    )


def parts(result: SweepResult) -> Iterator[Part]:
    """What every form of the report shows, in this order."""
    yield _recommended(result)
    if result.best is not None and result.best.settings:
        yield _bought(result)
    if result.pareto:
        yield _front(result)
    if result.sensitivity:
        yield _sensitivity(result)
    yield _gone(result)


def _recommended(result: SweepResult) -> Part:
    best = result.best
    if best is None:
        lines = [result.reason]
        if result.nearest is not None:
            lines.append(f"nearest: {_brief(result, result.nearest)}")
            for name, failed in result.nearest.failing.items():
                lines.append(f"it breaks {name}: {', '.join(failed)}")
        return Part("No passing settings", tuple(lines))
    lines = [f"why: {result.reason}"]
    for v in result.verdicts:
        lines.append(f"{v.name}: {v.verdict}, {v.replications} runs")
    for name, failed in result.before.failing.items():
        lines.append(f"before: {name} broke {', '.join(failed)}")
    rows: list[Cells] = [("knob", "from", "to", "takes effect by")]
    for knob in result.knobs:
        if knob.name in best.settings:
            rows.append(
                (knob.name, knob.value or "(several)", best.settings[knob.name], knob.effect)
            )
        else:
            rows.append((knob.name, knob.value or "(several)", "stays", ""))
    title = "Recommended" if result.outcome == "pass" else "Best so far, undecided"
    return Part(title, tuple(lines), tuple(rows))


def _bought(result: SweepResult) -> Part:
    texts = [o.text for o in _others(result)]
    rows: list[Cells] = [("change", "outage", "failed requests", *texts)]
    for c in result.changes:
        rows.append(_bought_row(result, c, ""))
    for c in result.left_out:
        rows.append(_bought_row(result, c, "left out: "))
    line = (
        "in this order, each on top of those before it; summed over one run of each scenario; "
        "95 % intervals of paired runs"
    )
    return Part("What each change buys", (line,), tuple(rows))


def _bought_row(result: SweepResult, c: Change, prefix: str) -> Cells:
    objectives = [_moved(c.objectives[o.text], _unit(o)) for o in _others(result)]
    what = f"{prefix}{_short(result)[c.knob]} {c.before or '(several)'} -> {c.after}"
    return (what, _moved(c.outage_s, "time"), _moved(c.failed, "count"), *objectives)


def _others(result: SweepResult) -> list[Objective]:
    """The objectives that have no column of their own in the table of changes."""
    own = ("outage_duration.max", "failed_requests.count")
    return [o for o in result.plan.minimise if o.text not in own]


def _short(result: SweepResult) -> dict[str, str]:
    return short_names([k.name for k in result.knobs])


def _brief(result: SweepResult, c: Candidate) -> str:
    return named(c.settings, _short(result))


def _front(result: SweepResult) -> Part:
    texts = [o.text for o in result.plan.minimise]
    rows: list[Cells] = [("", *texts, "settings")]
    off = [result.best] if result.best and result.best not in result.pareto else []
    for c in [*result.pareto, *off]:
        mark = "*" if result.best and c.settings == result.best.settings else ""
        rows.append((mark, *_seen(result, c), _brief(result, c)))
    if all(c.settings for c in result.pareto):
        rows.append(("before", *_seen(result, result.before), "as in the files"))
    lines = [f"{len(result.pareto)} keep the budgets and are beaten by no other in every objective"]
    if off:
        lines.append("* is within the noise of one of them, with fewer changes")
    return Part("Pareto set", tuple(lines), tuple(rows))


def _seen(result: SweepResult, c: Candidate) -> list[str]:
    return [
        _observed(c.objectives[o.text], _unit(o)) if o.text in c.objectives else "-"
        for o in result.plan.minimise
    ]


def _sensitivity(result: SweepResult) -> Part:
    texts, short = [o.text for o in result.plan.minimise], _short(result)
    rows: list[Cells] = [("knob", "value", "instead of", "budgets", *texts)]
    for e in result.sensitivity:
        value = e.value or next(k.value for k in result.knobs if k.name == e.knob) or "(several)"
        moved = [_moved(e.objectives[o.text], _unit(o)) for o in result.plan.minimise]
        lost = f"break ({e.breaks[0]})" if e.breaks else "hold"
        rows.append((short[e.knob], value, e.chosen, lost, *moved))
    felt = {e.knob for e in result.sensitivity if e.matters}
    matter = [short[k.name] for k in result.knobs if k.name in felt]
    rest = [short[k.name] for k in result.knobs if k.name not in felt]
    lines = (
        "one knob at a time, everything else as recommended",
        f"matters: {', '.join(matter) or 'none'}",
        f"may stay as it is: {', '.join(rest) or 'none'}",
    )
    return Part("Sensitivity", lines, tuple(rows))


def _gone(result: SweepResult) -> Part:
    stages = Counter(c.dropped.partition(":")[0] for c in result.candidates if c.dropped)
    lines = list(result.screening)
    lines += [
        f"dropped by {stage}: {n}" for stage, n in stages.items() if stage != "not in the grid"
    ]
    reasons = Counter(c.dropped for c in result.candidates if c.dropped and c.settings)
    rows: list[Cells] = [("candidates", "dropped because of")]
    rows += [(str(n), why) for why, n in reasons.most_common(8)]
    return Part("What was dropped", tuple(lines), tuple(rows) if len(rows) > 1 else ())


# ---- numbers -------------------------------------------------------------------------------------
def _unit(o: Objective) -> str:
    return "count" if o.metric == "cost" else dimension(o.metric, o.aggregate)


def _observed(e: Estimate, unit: str) -> str:
    return f"{show(e.mean, unit)} [{show(e.low, unit)}, {show(e.high, unit)}]"


def _moved(p: Paired, unit: str) -> str:
    """`-1.2s [-1.5s, -0.9s]`, `none` for no difference at all."""
    if p.difference == p.low == p.high == 0:
        return "none"
    sign = "+" if p.difference > 0 else ""
    if math.isinf(p.difference):
        return f"{sign}inf"
    return f"{sign}{show(p.difference, unit)} [{show(p.low, unit)}, {show(p.high, unit)}]"


def _digits(value: float) -> str:
    return f"{value:.6g}"


def _estimate(e: Estimate) -> dict[str, Any]:
    return {"mean": number(e.mean), "low": number(e.low), "high": number(e.high), "n": e.n}


def _paired(p: Paired) -> dict[str, Any]:
    return {
        "difference": number(p.difference),
        "low": number(p.low),
        "high": number(p.high),
        "correlation": number(p.correlation),
        "n": p.n,
    }


def _candidate(c: Candidate) -> dict[str, Any]:
    return {
        "settings": c.settings,
        "passed": c.passed,
        "replications": c.replications,
        "objectives": {k: _estimate(e) for k, e in c.objectives.items()},
        "screened": {k: number(v) for k, v in c.screened.items()},
        "failing": {k: list(v) for k, v in c.failing.items()},
        "dropped": c.dropped,
    }


def _change(c: Change) -> dict[str, Any]:
    return {
        "knob": c.knob,
        "before": c.before,
        "after": c.after,
        "outage_s": _paired(c.outage_s),
        "failed": _paired(c.failed),
        "objectives": {k: _paired(p) for k, p in c.objectives.items()},
        "scenarios": {
            k: {"outage_s": _paired(a), "failed": _paired(b)} for k, (a, b) in c.scenarios.items()
        },
    }


def figure(result: SweepResult) -> Figure:
    """The candidates by the first two objectives; the front, the recommended point, the files."""
    from hasim.plan.sweep_figure import draw

    return draw(result)
