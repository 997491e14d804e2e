"""The picture of a sweep: every candidate that was run in whole, by two objectives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hasim.report import style
from hasim.report.numbers import dimension

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hasim.plan.sweep import Candidate, SweepResult

UNITS = {"time": "s", "share": "share", "bytes": "bytes", "cores": "cores"}


def draw(result: SweepResult) -> Figure:
    """One panel: the first objective along x, the second along y (or the rank, if there is one)."""
    with style.used():
        made, [ax] = style.figure(7.6, 4.6)
        ran = [c for c in result.candidates if c.objectives]
        front = [c.settings for c in result.pareto]
        groups = [
            ("breaks a budget", [c for c in ran if not c.passed], style.QUIET, "x", 24),
            ("keeps the budgets", [c for c in ran if c.passed], style.OK, "o", 22),
            ("Pareto set", [c for c in ran if c.settings in front], style.THIRD, "D", 36),
            ("as in the files", [result.before], style.FAILED, "s", 48),
            ("recommended", [result.best] if result.best else [], style.INK, "*", 150),
        ]
        for label, candidates, colour, marker, size in groups:
            points = [p for c in candidates if (p := _point(result, c)) is not None]
            if points:
                x, y = zip(*points, strict=True)
                ax.scatter(x, y, s=size, c=colour, marker=marker, label=label, zorder=3)
        ax.set_xlabel(_label(result, 0))
        ax.set_ylabel(_label(result, 1) if len(result.plan.minimise) > 1 else "candidate")
        ax.set_title(f"{result.name}: {len(ran)} of {len(result.candidates)} run in whole")
        ax.margins(0.06)
        made.legend(loc="outside lower center", ncols=5)
        return made


def _point(result: SweepResult, c: Candidate) -> tuple[float, float] | None:
    means = [c.objectives[o.text].mean for o in result.plan.minimise if o.text in c.objectives]
    if not means:
        return None
    second = means[1] if len(means) > 1 else float(result.candidates.index(c))
    return (means[0], second) if math.isfinite(means[0]) and math.isfinite(second) else None


def _label(result: SweepResult, k: int) -> str:
    objective = result.plan.minimise[k]
    if objective.metric == "cost":
        return "cost (reserved cores, and 4 GiB as one)"
    unit = UNITS.get(dimension(objective.metric, objective.aggregate))
    return f"{objective.text} ({unit})" if unit else objective.text
