"""Pictures of one scenario: the timeline above, requests and latency below, on one time axis.

Drawn with matplotlib without constrained layout (0.2 s of CPU): the same code serves the report,
notebooks and PNG files, so that a picture looks the same wherever it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hasim.model import Stack
from hasim.report import charts_data, style
from hasim.report.charts_data import Picture
from hasim.scenario import Scenario
from hasim.sim.trace import Trace
from hasim.verdict import ScenarioVerdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LEFT, RIGHT, TOP, BOTTOM, GAP = 8.6, 1.75, 0.15, 0.3, 0.45, 0.36  # inches
ROW, PLOT = 0.19, 1.15  # height of one row of text, and of one plot
LONGEST = 27  # characters in the margin


def scenario_figure(
    traces: Sequence[Trace],
    stack: Stack,
    scenario: Scenario | ScenarioVerdict | None = None,
    worst: int | None = None,
) -> Figure:
    """Who was up, who noticed what, requests and failures per second, p50 and p99.

    traces: replications of one scenario, slim ones will do. scenario: draws its latency budgets.
    worst: the replication to show (default: the first); the others are a band behind it.
    """
    found = charts_data.picture(traces, scenario, worst)
    return empty("nothing ran") if found is None else draw(found)


@style.used()
def draw(found: Picture) -> Figure:
    """The figure of a picture's data."""
    parts = [(_rates, PLOT), (_latency, PLOT)]
    if found.moments:
        parts.insert(0, (_moments, ROW * len(found.moments) + 0.1))
    if found.bars:
        parts.insert(0, (_bars, ROW * len(found.bars) + 0.1))
    figure, panels = _panels([height for _, height in parts])
    faults = found.trace.faults
    for (part, _), ax in zip(parts, panels, strict=True):
        style.shade_faults(ax, faults, found.end_s)
        part(ax, found)
    panels[-1].set_xlim(found.start_s, found.end_s)
    words = "; shaded: from the fault to its repair" if faults else ""
    panels[-1].set_xlabel(f"seconds since the load began{words}")
    return figure


def instance_limits(stack: Stack) -> dict[str, tuple[str, float, float]]:
    """Instance -> (service, cores, bytes): its limits, or its host's size where it has none."""
    hosts = {h.name: h for h in stack.hosts}
    made = {}
    for i in stack.instances:
        host = hosts.get(i.host)
        cores = i.cpus or (host.cores if host else 0.0)
        size = i.mem_limit_bytes or (host.memory_bytes if host else 0)
        if cores > 0 and size > 0:
            made[i.name] = (i.service or i.name, float(cores), float(size))
    return made


@style.used()
def empty(text: str) -> Figure:
    """A figure that says why there is none."""
    figure, (ax,) = style.figure(WIDTH, 0.8, constrained=False)
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
    return figure


# ---- panels ------------------------------------------------------------------------------------
def _panels(
    heights: Sequence[float], left: float = LEFT, right: float = RIGHT
) -> tuple[Figure, list[Axes]]:
    """Panels of these heights, with places computed in inches: twice as fast as a layout engine."""
    total = TOP + sum(heights) + GAP * (len(heights) - 1) + BOTTOM
    figure, panels = style.figure(WIDTH, total, rows=heights, constrained=False)
    at, wide = total - TOP, (WIDTH - left - right) / WIDTH
    for ax, height in zip(panels, heights, strict=True):
        ax.set_position((left / WIDTH, (at - height) / total, wide, height / total))
        at -= height + GAP
    return figure, panels


def _bars(ax: Axes, found: Picture) -> None:
    """One row per thing that went away or came back."""
    for row, bar in enumerate(found.bars):
        ax.broken_barh([(a, b - a) for a, b in bar.up], (row - 0.3, 0.6), color=style.OK, lw=0)
        if bar.hit:
            hit = [(a, b - a) for a, b in bar.hit]
            ax.broken_barh(
                hit, (row - 0.18, 0.36), facecolor="none", edgecolor=style.FAILED, lw=1.2, ls="--"
            )
    _rows(ax, [bar.name for bar in found.bars])
    held = any(bar.hit for bar in found.bars)
    how = "bar: in use; dashed: held by the fault" if held else "bar: in rotation"
    ax.set_title(f"who was up ({how})")


def _moments(ax: Axes, found: Picture) -> None:
    """One row per moment: a dot, and the daemon's words beside it."""
    middle = found.start_s + 0.55 * (found.end_s - found.start_s)
    pad = 0.01 * (found.end_s - found.start_s)
    for row, moment in enumerate(found.moments):
        ax.plot([moment.t_s], [row], "o", ms=4, color=style.FAILED)
        after = "" if math.isnan(moment.after_s) else f"  +{moment.after_s:.1f} s"
        text = f"{short(moment.text, 44)}{after}"
        right = moment.t_s <= middle
        where = moment.t_s + pad if right else moment.t_s - pad
        place = "left" if right else "right"
        ax.text(where, row, text, ha=place, va="center_baseline", fontsize=8, parse_math=False)
    _rows(ax, [moment.who for moment in found.moments])
    ax.set_title("who noticed what (seconds after the fault)")


def _rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks(range(len(names)), [short(n, LONGEST) for n in names], parse_math=False)
    ax.grid(False)


def _rates(ax: Axes, found: Picture) -> None:
    """Answered and failed requests: the replication that is shown, all others behind it."""
    margin = []
    for name, word, colour in (("ok", "answered", style.OK), ("failed", "failed", style.FAILED)):
        seen, low, high = found.rates[name]
        if found.replications > 1:
            ax.fill_between(found.t_s, low, high, step="post", color=colour, alpha=0.18, lw=0)
        ax.step(found.t_s, seen, where="post", color=colour)
        margin.append((word, colour))
    ax.set_ylim(0, None)
    band = f"; band: 90 % of {found.replications} replications" if found.replications > 1 else ""
    ax.set_title(f"requests per second (replication {found.trace.replication}{band})")
    _legend(ax, margin)


def _latency(ax: Axes, found: Picture) -> None:
    """p50 and p99 of requests that ended in a second, on a scale of powers of ten."""
    ax.set_yscale("log")
    known = [found.latency_s[q] for q in ("p50", "p99")]
    values = np.concatenate([v[~np.isnan(v) & (v >= 0.001)] for v in known])
    lowest, highest = (values.min(), values.max()) if len(values) else (0.001, 1.0)
    for q, colour in (("p50", style.CYCLE[2]), ("p99", style.CYCLE[3])):
        ax.step(found.t_s, found.latency_s[q], where="post", color=colour)
    for limit in found.limits_s:
        ax.axhline(limit, color=style.INK, lw=0.9, ls="--")
    limits = [limit for limit in found.limits_s if limit > 0]
    low = 10 ** math.floor(math.log10(min([lowest, *limits]) * 0.9))
    high = 10 ** math.ceil(math.log10(max([highest, *limits]) * 1.1))
    ax.set_ylim(low, high)
    ax.minorticks_off()
    decades = range(round(math.log10(low)), round(math.log10(high)) + 1)
    ax.set_yticks([10.0**d for d in decades], [_seconds(10.0**d) for d in decades])
    ax.set_title("latency" + (" (dashed: budget)" if found.limits_s else ""))
    _legend(ax, [("p50", style.CYCLE[2]), ("p99", style.CYCLE[3])])


def _legend(ax: Axes, names: Sequence[tuple[str, str]]) -> None:
    """The names of lines, in the margin: a stroke in their colour, the word in that of text."""
    for row, (name, colour) in enumerate(names):
        at, wide = 0.78 - 0.24 * row, 1 / (WIDTH - LEFT - RIGHT)
        line = [-1.62 * wide, -1.42 * wide]
        ax.plot(line, [at, at], color=colour, lw=2.2, transform=ax.transAxes, clip_on=False)
        ax.text(-1.35 * wide, at, name, fontsize=8, va="center_baseline", transform=ax.transAxes)


def _seconds(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"


def short(text: str, most: int) -> str:
    """At most so many characters; what is left out is in the middle."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[head + 1 - most :]}"


def alt(found: Picture) -> str:
    """The picture in words, for whoever does not see it."""
    failed = int(sum(t.sum() for t in [found.trace.per_second["failed"]]))
    words = [f"replication {found.trace.replication}: {failed} requests failed"]
    for fault in found.trace.faults:
        until = "not repaired" if math.isnan(fault.repair_s) else f"to {fault.repair_s:.0f} s"
        words.append(f"{fault.do} {fault.target} from {fault.start_s:.0f} s {until}")
    for moment in found.moments:
        words.append(f"{moment.who}: {moment.text} at {moment.t_s:.1f} s")
    return "; ".join(words)
