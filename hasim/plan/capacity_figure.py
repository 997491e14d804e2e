"""The picture of a capacity result: what the load does, what services are given and need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        look: dict[str, Any] = {"color": hue, "marker": "o", "ms": 3, "lw": 1.2, "label": name}
        x = [p.users for p in boundary.points]
        above.plot(x, [p.p99_s * 1000 for p in boundary.points], **look)
        below.plot(x, [p.failed * 100 for p in boundary.points], **look)
        for ax in (above, below):
            ax.axvline(boundary.users, color=hue, lw=0.8, ls=":")
    for ax in (above, below):
        ax.axvline(result.asked, color=style.INK, lw=0.8, ls="--")
        ax.set_xlim(left=0, right=max(ax.get_xlim()[1], result.growth * 1.05))
        if result.growth:
            ax.axvline(result.growth, color=style.QUIET, lw=0.8, ls="--")
        ax.set_xlabel(f"{result.unit} (dashed: asked for, growth; dotted: largest that passes)")
    limits = {limit.metric: limit.limit for limit in result.limits}
    if any(p.p99_s > 0 for b in result.boundaries for p in b.points):
        above.set_yscale("log")
    _limit(above, limits.get("http_req_duration", 0.0) * 1000)
    below.set_yscale("symlog", linthresh=0.1)
    _limit(below, limits.get("http_req_failed", 0.0) * 100)
    above.set_ylabel("p99 (ms)")
    below.set_ylabel("failed (%)")
    below.set_ylim(bottom=0, top=max(1.0, below.get_ylim()[1]))
    for ax in (above, below):
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(lambda value, place: "")
    above.legend(loc="best")


def _limit(ax: Axes, limit: float) -> None:
    """The budget, where there is one."""
    if limit > 0:
        ax.axhline(limit, color=style.INK, lw=1.0)
        place = ax.get_yaxis_transform()
        ax.text(0.99, limit, "budget ", transform=place, ha="right", va="bottom", fontsize=8)


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
