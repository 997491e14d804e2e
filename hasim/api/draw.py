"""How values draw themselves in a notebook: plain tables, nothing that runs, no machine names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, wraps
from html import escape
from typing import TYPE_CHECKING, Any

from hasim.model import Instance, Route, Stack
from hasim.report import style
from hasim.report.numbers import MARKS, interval, margin, observed, show, status
from hasim.source import Origin, Span
from hasim.units import counted
from hasim.verdict import ScenarioVerdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Text(str):
    """Text that a notebook, or a prompt, shows as it is."""

    def __repr__(self) -> str:
        return str(self)


def figure(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """A function that draws; a notebook shows its Figure without any set-up of matplotlib."""

    @wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        made = draw(*args, **kwargs)
        # IPython asks the object itself; its own support for figures needs pyplot's global state.
        made._repr_png_ = partial(style.png, made)  # type: ignore[attr-defined]
        return made

    return drawn


@figure
@style.used()
def against(
    simulated: Mapping[str, Iterable[float]], measured: Mapping[str, Iterable[float]]
) -> Figure:
    """A Figure: one panel per name, the simulated distribution as a line, measurements as dots.

    Both: {name: seconds}. How many runs stay below each time, as a share.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(7.0, 1.6 * len(simulated)), layout="constrained")
    FigureCanvasAgg(made)
    panels = made.subplots(len(simulated), 1, squeeze=False)[:, 0]
    for ax, (name, values) in zip(panels, simulated.items(), strict=True):
        for times, line in ((values, True), (measured[name], False)):
            x = sorted(float(t) for t in times if math.isfinite(t))
            share = [(i + 1) / len(x) for i in range(len(x))]
            if line:
                ax.step([x[0], *x], [0, *share], where="post", label=f"simulated, {len(x)} runs")
            else:
                ax.plot(x, share, "o", ms=4, color=style.FAILED, label=f"measured, {len(x)} trials")
        ax.set_title(name)
        ax.set_ylim(0, 1.05)
        ax.margins(x=0.08)
        ax.legend(loc="lower right")
    panels[-1].set_xlabel("seconds from the fault")
    return made


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """An HTML table; every cell is escaped."""
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def where(origin: Origin | None) -> str:
    """`haproxy.cfg:14`, or nothing."""
    return f"{origin.file}:{origin.line}" if isinstance(origin, Span) else ""


def folded(title: str, inner: str) -> str:
    """What is shown on a click."""
    return f"<details><summary>{escape(title)}</summary>{inner}</details>"


# ---- a stack -------------------------------------------------------------------------------------
def stack(of: Stack, settings: Iterable[tuple[str, str]]) -> str:
    """Hosts with what runs there, the ways of requests, the limits; each with its place."""
    found = counted(len(of.findings), "finding")
    parts = [f"<p><b>{escape(of.name)}</b>: {size(of)}, {found}</p>"]
    changed = list(settings)
    if changed:
        parts.append(table(("knob that was set", "to"), changed))
    parts.append(table(("host", "cores", "memory", "runs", "where"), map(_host(of), of.hosts)))
    ways = [("users", op, route) for op, route in of.op_entries.items()]
    ways += [(*name.split("->", 1), r) for name, r in of.call_routes.items()]  # type: ignore[misc]
    rows = [(who, to, _way(r), _backend(of, r)) for who, to, r in ways]
    parts.append(folded(f"{len(rows)} routes", table(("who", "asks for", "by", "where"), rows)))
    limits = [(*_limits(i), where(i.span)) for i in _containers(of)]
    columns = ("container", "host", "cores", "memory", "restart", "where")
    parts.append(folded("limits of the containers", table(columns, limits)))
    return "".join(parts)


def size(of: Stack) -> str:
    """`10 files, 1 host, 20 containers`."""
    counts = (len(of.inputs), "file"), (len(of.hosts), "host"), (len(_containers(of)), "container")
    return ", ".join(counted(n, word) for n, word in counts)


def _containers(of: Stack) -> list[Instance]:
    return [i for i in of.instances if not i.inside]


def _host(of: Stack) -> Callable[[Any], tuple[Any, ...]]:
    def row(host: Any) -> tuple[Any, ...]:
        runs = ", ".join(i.name for i in _containers(of) if i.host == host.name)
        return (
            host.name,
            f"{host.cores:g}",
            show(host.memory_bytes, "bytes"),
            runs,
            where(host.span),
        )

    return row


def _limits(one: Instance) -> tuple[str, ...]:
    cores = f"{one.cpus:g}" if one.cpus else "no limit"
    memory = show(one.mem_limit_bytes, "bytes") if one.mem_limit_bytes else "no limit"
    return one.name, one.host, cores, memory, one.restart


def _way(route: Route) -> str:
    if route.balancer:
        return f"{route.balancer}: {route.frontend} → {route.backend}"
    how = route.discovery.partition(":")[0] or "directly"
    return f"{route.service}, {how}"


def _backend(of: Stack, route: Route) -> str:
    spans = {(bal.instance, b.name): b.span for bal in of.balancers for b in bal.backends}
    return where(spans.get((route.balancer, route.backend)))


# ---- a run ---------------------------------------------------------------------------------------
def run(of: ScenarioVerdict) -> str:
    """The verdict, its budgets and why."""
    study = ", a study: knobs were set" if of.study else ""
    said = f"<b>{escape(of.name)}: {of.verdict}</b>, {of.replications} replications{study}"
    rows = [
        (MARKS[r.verdict], r.name, r.threshold, observed(r), interval(r), margin(r), status(r))
        for r in of.budgets
    ]
    columns = ("", "budget", "threshold", "observed", "interval", "margin", "verdict")
    causes = [(c.text, where(c.span)) for c in of.causes]
    why = folded("why", table(("cause", "where"), causes)) if causes else ""
    doc = f"<br>{escape(of.doc)}" if of.doc else ""
    return f"<p>{said}{doc}</p>{table(columns, rows)}{why}"
