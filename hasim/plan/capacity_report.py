"""A capacity result for people and programs: text, markdown, JSON; the figure is beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hasim.plan.capacity_types import Amount, Boundary, Broken, CapacityResult, Size, Sizing
from hasim.plan.sizing_table import totals
from hasim.report.json_ import dumps
from hasim.report.markdown import cell, table
from hasim.report.numbers import dimension, show
from hasim.report.text import columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GIB, MIB = 1024**3, 1024**2
HEADS = ("service", "given", "needed", "recommended", "judgement")
HOSTS = ("host", "has", "given", "recommended", "")
STATES = ("everything on", "has", "given", "recommended")


def json(result: CapacityResult) -> str:
    """`capacity.json`, schema 1 (docs/capacity.md)."""
    made = asdict(result)
    for boundary in made["boundaries"]:
        boundary["lost"] = boundary["lost"] or None
    for sizing, found in zip(made["sizings"], result.sizings, strict=True):
        sums = {w: totals(found.sizes, w) for w in ("given", "needed", "recommended")}
        sizing["totals"] = {w: {"cores": c, "memory_bytes": m} for w, (c, m) in sums.items()}
        for host, known in zip(sizing["hosts"], found.hosts, strict=True):
            host["fits"] = known.fits
        for left in sizing["left"]:
            left["lost"] = left["lost"] or None
    return dumps(_plain({"schema": 1, **made}))


def _plain(value: Any) -> Any:
    """Infinite and absent numbers are null."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def figure(result: CapacityResult) -> Figure:
    """Users against p99 and errors, and what each service is given and needs."""
    from hasim.plan.capacity_figure import draw

    return draw(result)


def png(result: CapacityResult) -> bytes:
    """The figure as a file."""
    from hasim.report import style

    return style.png(figure(result))


# ---- words -----------------------------------------------------------------------------------
def state(lost: str) -> str:
    """Which hosts are there."""
    return f"without {lost}" if lost else "with all hosts"


def load(users: float) -> str:
    """A level without its unit."""
    return f"{users:g}" if users < 1e6 else f"{users:.0f}"


def reach(boundary: Boundary) -> str:
    """`1490 (fails at 1520)`."""
    if math.isinf(boundary.fails_at):
        return f"{load(boundary.users)} or more"
    return f"{load(boundary.users)} (fails at {load(boundary.fails_at)})"


def broken(found: Broken | None) -> str:
    """The budget that breaks and what was seen."""
    if found is None:
        return ""
    if not found.threshold:
        return found.metric
    word = found.threshold.partition("<")[0].partition(">")[0].partition("(")[0]
    unit = dimension(found.metric.partition("{")[0], word)
    seen = show(found.observed, unit)
    return f"{found.metric} {found.threshold}: {seen} at {load(found.users)} ({found.scenario})"


def cause(found: Broken | None) -> str:
    """Why, with its place."""
    if found is None or not found.cause:
        return ""
    where = f"{found.file}:{found.line}:{found.col}" if found.file else ""
    return f"{found.cause} {where}".rstrip()


def amount(of: Amount | None) -> str:
    """`3 x 2 cores, 1 GiB`."""
    if of is None:
        return "-"
    if not (of.cores or of.memory_bytes):
        return f"{of.instances} x no limit"
    cores = f"{of.cores:g} cores" if of.cores else "no limit"
    return f"{of.instances} x {cores}, {memory(of.memory_bytes) if of.memory_bytes else 'no limit'}"


def memory(size: float) -> str:
    """In MiB below one GiB."""
    return f"{size / MIB:.0f} MiB" if size < GIB else f"{round(size / GIB, 2):g} GiB"


def verdict(result: CapacityResult) -> str:
    """The answer in one sentence."""
    asked = f"{load(result.asked)} {result.unit}"
    worst = min(result.boundaries, key=lambda b: b.users)
    more = ""
    if result.growth:
        kept = "is" if worst.users >= result.growth else "is not"
        more = f"; the growth to {load(result.growth)} {kept}"
    if result.verdict == "pass":
        return f"pass: {asked} are carried, {state(worst.lost)} up to {load(worst.users)}" + more
    if result.verdict == "undecided":
        return f"undecided: whether {asked} are carried cannot be shown, {state(worst.lost)}"
    fails = next(b for b in result.boundaries if b.fails_at <= result.asked)
    return f"fail: {asked} are not carried, {state(fails.lost)}"


def _rows(sizing: Sizing) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (s.service, amount(s.given), amount(s.needed), amount(s.recommended), s.judgement)
        for s in sizing.sizes
    ]
    sums = [totals(sizing.sizes, w) for w in ("given", "needed", "recommended")]
    rows.append(("total", *(f"{c:g} cores, {memory(m)}" for c, m in sums), ""))
    return rows


def _met(sizing: Sizing) -> str:
    if sizing.not_survived:
        names = ", ".join(sizing.not_survived)
        return f"{_proof(sizing)} (without {names} no load passes, whatever the sizes)"
    return _proof(sizing)


def _proof(sizing: Sizing) -> str:
    if not sizing.met:
        return "by the utilisation law alone: on these hosts no sizes keep the budgets"
    extra = "so do" if sizing.recommended_met else "not so"
    return f"simulated: the needed limits keep every budget, {extra} the recommended ones"


def _loads(result: CapacityResult) -> list[tuple[str, ...]]:
    return [
        (state(b.lost), reach(b), f"{b.headroom:.2f}", broken(b.first_broken) or b.note)
        for b in result.boundaries
    ]


def _sums(sizing: Sizing) -> list[tuple[str, ...]]:
    return [
        (
            h.host,
            f"{h.cores:g} cores, {memory(h.memory_bytes)}",
            f"{h.given_cores:g} cores, {memory(h.given_memory_bytes)}",
            f"{h.recommended_cores:g} cores, {memory(h.recommended_memory_bytes)}",
            "fits" if h.fits else "does not fit",
        )
        for h in sizing.hosts
    ]


def _left(sizing: Sizing) -> list[tuple[str, ...]]:
    words = {True: "fits", False: "does not fit"}
    return [
        (
            state(one.lost),
            f"{one.cores:g} cores, {memory(one.memory_bytes)}",
            words[one.given_fits],
            words[one.recommended_fits],
        )
        for one in sizing.left
    ]


def _remarks(sizes: Sequence[Size]) -> list[str]:
    """Notes, services with the same one together."""
    by_note: dict[str, list[str]] = {}
    for size in sizes:
        if size.note:
            by_note.setdefault(size.note, []).append(size.service)
    return [f"{', '.join(names)}: {note}" for note, names in by_note.items()]


# ---- text ------------------------------------------------------------------------------------
def text(result: CapacityResult) -> str:
    """For a terminal."""
    out = [f"{result.name} · {result.stack}", verdict(result), ""]
    heads = ("", f"largest load ({result.unit})", "headroom", "breaks first")
    out += columns([heads, *_loads(result)], "  ")
    for boundary in result.boundaries:
        why = cause(boundary.first_broken)
        out += [f"  {state(boundary.lost)}: {why}"] if why else []
    for sizing in result.sizings:
        out += ["", f"For {load(sizing.users)} {result.unit}, {_met(sizing)}:"]
        out += [f"  {broken(sizing.broken)}"] if sizing.broken else []
        out += [f"  {cause(sizing.broken)}"] if cause(sizing.broken) else []
        out += columns([HEADS, *_rows(sizing)], "  ")
        out += [f"  {line}" for line in _remarks(sizing.sizes)]
        out += ["", *columns([HOSTS, *_sums(sizing)], "  ")]
        out += ["", *columns([STATES, *_left(sizing)], "  ")]
        out += [f"  {line}" for line in sizing.missing]
    out += ["", *(f"note: {n}" for n in result.notes), _closing(result)]
    return "\n".join(line.rstrip() for line in out) + "\n"


def _closing(result: CapacityResult) -> str:
    return (
        f"{result.replications} replications on both sides of each boundary, seed {result.seed}; "
        f"{result.assumptions} assumed values (`hasim check` lists them)"
    )


# ---- markdown ----------------------------------------------------------------------------------
def markdown(result: CapacityResult) -> str:
    """For a page."""
    out = [f"# {result.name}: {result.stack}", "", f"**{verdict(result)}**", ""]
    out += [result.doc, ""] if result.doc else []
    out += ["![capacity](capacity.png)", ""]
    heads = ("hosts", f"largest load ({result.unit})", "headroom", "breaks first", "because")
    loads = zip(_loads(result), result.boundaries, strict=True)
    out += table(heads, _cells((*row, cause(b.first_broken)) for row, b in loads))
    for sizing in result.sizings:
        proof = _met(sizing)
        out += ["", f"## For {load(sizing.users)} {result.unit}", ""]
        out += [f"{proof[:1].upper()}{proof[1:]}.", ""]
        out += [f"{broken(sizing.broken)}: {cause(sizing.broken)}", ""] if sizing.broken else []
        out += table(HEADS, _cells(_rows(sizing)))
        out += ["", *(f"- {line}" for line in _remarks(sizing.sizes)), ""]
        out += table(HOSTS, _cells(_sums(sizing)))
        out += ["", *table(STATES, _cells(_left(sizing)))]
        out += ["", *(f"- {line}" for line in sizing.missing)]
    out += ["", "## Notes", "", *(f"- {n}" for n in result.notes), f"- {_closing(result)}"]
    return "\n".join(out) + "\n"


def _cells(rows: Iterable[Sequence[str]]) -> Iterable[Sequence[str]]:
    return ([cell(c) for c in row] for row in rows)
