"""The picture of a capacity result: what the load does, and what each service is given and needs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hasim.plan.capacity_types import CapacityResult, Sizing
from hasim.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_IN = (10.0, 7.5)


@style.used()
def draw(result: CapacityResult) -> Figure:
    """p99 and errors by load (left), cores and memory by service (right)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=SIZE_IN, layout="constrained")
    FigureCanvasAgg(made)
    panels = made.subplots(2, 2)
    made.suptitle(f"{result.name}: {result.stack}")
    _loads(result, panels[0, 0], panels[1, 0])
    _bars(result.sizings[0], panels[0, 1], "cores", result)
    _bars(result.sizings[0], panels[1, 1], "memory", result)
    return made


def _loads(result: CapacityResult, above: Axes, below: Axes) -> None:
    names = ["all hosts", *(f"without {b.lost}" for b in result.boundaries[1:])]
    for i, (boundary, name) in enumerate(zip(result.boundaries, names, strict=True)):
        hue = style.CYCLE[i % len(style.CYCLE)]
        x = [p.users for p in boundary.points]
        p99 = [p.p99_s * 1000 for p in boundary.points]
        above.plot(x, p99, color=hue, marker="o", ms=3, lw=1.2, label=name)
        below.plot(x, [p.failed * 100 for p in boundary.points], color=hue, marker="o", ms=3, lw=1.2)
        for ax in (above, below):
            ax.axvline(boundary.users, color=hue, lw=0.8, ls=":")
    for ax in (above, below):
        ax.axvline(result.asked, color=style.INK, lw=0.8, ls="--")
        if result.growth:
            ax.axvline(result.growth, color=style.QUIET, lw=0.8, ls="--")
        ax.set_xscale("log")
        ax.set_xlabel(f"{result.unit} (dashed: asked for; dotted: largest that passes)")
    if any(p.p99_s > 0 for b in result.boundaries for p in b.points):
        above.set_yscale("log")
    above.set_ylabel("p99 (ms)")
    below.set_ylabel("failed (%)")
    below.set_yscale("symlog", linthresh=0.1)
    below.set_ylim(bottom=0)
    above.legend(loc="upper left")
    for metric, ax, factor in (("http_req_duration", above, 1000), ("http_req_failed", below, 100)):
        limit = _limit(result, metric)
        if math.isfinite(limit):
            ax.axhline(limit * factor, color=style.FAILED, lw=0.8)


def _limit(result: CapacityResult, metric: str) -> float:
    """The budget of a metric, if it is the one that breaks anywhere."""
    hits = [b.first_broken for b in result.boundaries if b.first_broken is not None]
    return next((h.limit for h in hits if h.metric == metric), math.nan)


def _bars(sizing: Sizing, ax: Axes, what: str, result: CapacityResult) -> None:
    rows = [s for s in sizing.sizes if s.needed is not None][::-1]
    for shift, name, hue in (
        (0.25, "given", style.QUIET),
        (0.0, "needed", style.OK),
        (-0.25, "recommended", style.THIRD),
    ):
        amounts = [getattr(s, name) for s in rows]
        if what == "cores":
            values = [a.total_cores for a in amounts]
        else:
            values = [a.total_memory_bytes / 2**30 for a in amounts]
        ax.barh([i + shift for i in range(len(rows))], values, 0.22, color=hue, label=name)
    ax.set_yticks(range(len(rows)), [s.service for s in rows])
    unit = "cores" if what == "cores" else "memory (GiB)"
    ax.set_xlabel(f"{unit} of all instances, for {sizing.users:g} {result.unit}")
    ax.legend(loc="best")
