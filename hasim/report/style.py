"""One look for every picture: a figure without pyplot, colours that everybody can tell apart.

>>> @used()                                                     # doctest: +SKIP
... def picture(trace):
...     figure, (above, below) = style.figure(8, 4, rows=2)
...     shade_faults(above, trace.faults)
...     above.plot(trace.per_second["vus"], color=style.OK)
...     return figure

`svg` gives text for a page, `png` bytes for a file; both are the same bytes every time.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hasim.sim.trace import FaultSpan

# Okabe and Ito's colours without yellow and black: safe for the colour-blind, on white and on dark.
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6f6f6c")
OK, FAILED, THIRD = CYCLE[:3]
INK, QUIET, GRID, SHADE = "#1f1f1e", "#8a8a86", "#d9d8d4", "#eceae4"
# What a page may decide: the role's CSS, with the colour of a light page as the fallback.
_ROLES = {
    INK: "currentColor",
    QUIET: f"var(--quiet, {QUIET})",
    GRID: f"var(--grid, {GRID})",
    SHADE: f"var(--shade, {SHADE})",
    **{colour: f"var(--hue{i}, {colour})" for i, colour in enumerate(CYCLE)},
}


@contextmanager
def used() -> Iterator[None]:
    """The style, for the length of a `with` block; as a decorator, of a function that draws."""
    import matplotlib

    with matplotlib.rc_context(_settings()):
        yield


@cache
def _settings() -> Any:
    import matplotlib

    path = Path(__file__).with_name("hasim.mplstyle")
    return matplotlib.rc_params_from_file(path, use_default_template=False)


def figure(
    width: float, height: float, rows: int | Sequence[float] = 1, constrained: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure (inches) and its panels, which share the x axis; rows: how many, or their heights.

    constrained: room for labels is found, at twice the cost; without it you give the margins.
    Text and lines that are added outside of `used` have matplotlib's own sizes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [1.0] * rows if isinstance(rows, int) else list(rows)
    with used():
        made = Figure(figsize=(width, height), layout="constrained" if constrained else None)
        FigureCanvasAgg(made)
        ratios = {"height_ratios": heights}
        panels = made.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw=ratios)
        return made, list(panels[:, 0])


def shade_faults(ax: Axes, faults: Iterable[FaultSpan], end_s: float = math.nan) -> None:
    """Shade from each fault to its repair; one that is never repaired lasts until `end_s`."""
    for fault in faults:
        end = end_s if math.isnan(fault.repair_s) else fault.repair_s
        end = fault.start_s if math.isnan(end) else end
        ax.axvspan(fault.start_s, end, color=SHADE, lw=0, zorder=0)


# ---- output --------------------------------------------------------------------------------------
def svg(figure: Figure, alt: str = "", prefix: str = "") -> str:
    """The figure as an element for a page: text stays text, the page decides light or dark.

    alt: what the picture shows, for who does not see it. prefix: unique on the page, if the page
    has several pictures.
    """
    raw = io.StringIO()
    with used(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page has its own font
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(raw, format="svg", metadata=metadata, transparent=True)
    text = raw.getvalue()
    width, height = _size(figure)
    label = f' role="img" aria-label="{escape(alt)}"' if alt else ' aria-hidden="true"'
    head = f'<svg class="chart" viewBox="0 0 {width:g} {height:g}"{label}>'
    body = text[text.index("<defs>") if "<defs>" in text else text.index("<g ") :]
    body = re.sub(r'<style type="text/css">.*?</style>', "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\n?", "", body, flags=re.DOTALL)
    body = re.sub(r">\s+<", "><", body)
    return head + re.sub(r"<[^>]+>", lambda m: _tag(m[0]), _named(body, prefix))


def png(figure: Figure) -> bytes:
    """The figure as a PNG of 100 dots per inch."""
    raw = io.BytesIO()
    with used():
        figure.savefig(raw, format="png", dpi=100, metadata={"Software": None})
    return raw.getvalue()


def _size(figure: Figure) -> tuple[float, float]:
    """Points, as matplotlib's SVG has them."""
    width, height = figure.get_size_inches()
    return float(width) * 72, float(height) * 72


def _tag(tag: str) -> str:
    """One tag for a page: tenths of points, roles for colours, the page's own font."""
    tag = re.sub(r"\s+", " ", tag).replace("xlink:href", "href")
    tag = re.sub(r"\d+\.\d+", lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), tag)
    tag = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--chart-font, sans-serif)", tag)
    for colour, role in _ROLES.items():
        tag = tag.replace(f": {colour}", f": {role}")
    return tag


def _named(body: str, prefix: str) -> str:
    """Only ids that something refers to, each with the prefix."""
    wanted = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))

    def ours(match: re.Match[str]) -> str:
        return f' id="{prefix}{match[1]}"' if match[1] in wanted else ""

    body = re.sub(r' id="([^"]*)"', ours, body)
    return re.sub(r'(href="#|url\(#)', lambda m: m[1] + prefix, body)
