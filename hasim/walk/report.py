"""A walk as text, JSON (schema 1) or markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hasim.causes_text import Cause
from hasim.report.json_ import dumps, number, place
from hasim.report.markdown import cell, code, table
from hasim.source import Span
from hasim.stats import Paired
from hasim.walk.rows import Moment, Step, Walk

Where = Callable[[Span | None], Span | None]
WIDE = 88
UNCHANGED = "unchanged"


def as_is(span: Span | None) -> Span | None:
    """Files as seen from the stack's folder."""
    return span


def clock(t_s: float) -> str:
    """`02:03.2`: minutes and seconds since the load began."""
    tenths = round(abs(t_s) * 10)
    sign = "-" if t_s < 0 and tenths else ""
    return f"{sign}{tenths // 600:02d}:{tenths % 600 / 10:04.1f}"


# ---- text ----------------------------------------------------------------------------------------
def text(walk: Walk, here: Where = as_is) -> str:
    """For a terminal; `here` says how a file is named from the working directory."""
    return "".join(line.rstrip() + "\n" for line in _lines(walk, here))


def _lines(walk: Walk, here: Where) -> Iterator[str]:
    yield f"{walk.scenario}   replication {walk.replication} ({walk.chosen})   seed {walk.seed}"
    if walk.doc:
        yield f"  {walk.doc}"
    if walk.void:
        yield f"  void: {walk.void}"
    if walk.moments:
        yield ""
        yield from _story(walk, here)
    for title, causes in (("what it cost", walk.costs), ("what it was made of", walk.delays)):
        if causes:
            yield ""
            yield title
            yield from (f"  {c.text}{_at(c.span, here)}" for c in causes)
    if walk.steps:
        yield ""
        n = walk.replications
        yield f"one step of each setting: {n} pairs of runs, 95 % intervals, r the correlation"
        yield "  outage: the longest; recovery: fault until all works; failed, served: requests"
        yield from _steps(walk, here)


def _story(walk: Walk, here: Where) -> Iterator[str]:
    who = max(len(m.who) for m in walk.moments)
    for m in walk.moments:
        delay = f"+{m.after_s:.1f} s" if m.parent != -1 else ""
        line = f"  {clock(m.t_s)} {delay:>9}  {m.who:<{who}}  {m.text}"
        tail = "; ".join(filter(None, (_setting(m, here), _also(m))))
        yield f"{line:<{WIDE}}   {tail}" if tail else line


def _setting(m: Moment, here: Where) -> str:
    if m.default:
        return f"{m.setting} (default, {m.default})".strip()
    return f"{m.setting}{_at(m.span, here)}".strip() if m.span else m.setting


def _also(m: Moment) -> str:
    return ", ".join(f"{who} {t_s - m.t_s:+.1f} s" for who, t_s in m.also)


def _at(span: Span | None, here: Where) -> str:
    return f"   {here(span)}" if span is not None else ""


def _steps(walk: Walk, here: Where) -> Iterator[str]:
    tried = [s for s in walk.steps if not s.refused]
    for s in sorted(tried, key=_no_difference):
        same = _no_difference(s)
        yield f"  {_change(s)}   {'no difference   ' if same else ''}{_place(s, here)}"
        if not same:
            yield f"      {_columns(s)}"
        yield from (f"      mends: {text}" for text in s.mended)
        yield from (f"      BREAKS: {text}" for text in s.broken)
        yield from (f"      but: {text}" for text in s.warnings)
    for s in walk.steps:
        if s.refused:
            yield f"  {_change(s)}   not tried: {s.refused}"


def _columns(s: Step) -> str:
    """What moved, of four numbers."""
    found = {
        "outage": _seconds(s.outage),
        "recovery": _seconds(s.recovery),
        "failed": _count(s.failed),
        "served": _count(s.served),
    }
    moved = [f"{name} {text}" for name, text in found.items() if text != UNCHANGED]
    return "   ".join(moved) or "nothing moved"


def _no_difference(s: Step) -> bool:
    """Neither saves nor costs, as far as these replications can tell."""
    rows = [p for p in (s.outage, s.recovery, s.failed, s.served) if p is not None]
    return not s.mended and not s.broken and all(p.low <= 0 <= p.high for p in rows)


def _change(s: Step) -> str:
    return f"{s.setting.label}: {s.setting.value or '(empty)'} -> {s.value}"


def _place(s: Step, here: Where) -> str:
    if s.setting.default:
        return f"(default, {s.setting.default})"
    return str(here(s.setting.span)) if s.setting.span else ""


def _seconds(p: Paired | None) -> str:
    return _difference(p, lambda x: f"{round(x, 1) + 0.0:+.1f}", " s")


def _count(p: Paired | None) -> str:
    return _difference(p, lambda x: f"{round(x) + 0:+d}", "")


def _difference(p: Paired | None, show: Callable[[float], str], unit: str) -> str:
    """`-5.0 s [-5.2, -4.8] r 0.98`; `unchanged` where every pair is equal."""
    if p is None:
        return "-"
    if p.difference == p.low == p.high == 0:
        return UNCHANGED
    luck = f" r {p.correlation:.2f}" if p.correlation == p.correlation else ""
    return f"{show(p.difference)}{unit} [{show(p.low)}, {show(p.high)}]{luck}"


# ---- json ----------------------------------------------------------------------------------------
def json(walk: Walk, here: Where = as_is) -> str:
    """For programs: plain keys, SI units, null for what is not finite."""
    document = {
        "schema": 1,
        "scenario": walk.scenario,
        "stack": walk.stack,
        "seed": walk.seed,
        "replication": walk.replication,
        "chosen": walk.chosen,
        "void": walk.void or None,
        "simulated_s": number(walk.simulated_s),
        "moments": [_moment_json(m, here) for m in walk.moments],
        "costs": [_cause_json(c, here) for c in walk.costs],
        "delays": [_cause_json(c, here) for c in walk.delays],
        "replications": walk.replications,
        "steps": [_step_json(s, here) for s in walk.steps],
    }
    return dumps(document)


def _moment_json(m: Moment, here: Where) -> dict[str, Any]:
    return {
        "id": m.id,
        "parent": m.parent if m.parent != -1 else None,
        "t_s": number(round(m.t_s, 6)),
        "after_s": number(round(m.after_s, 6)),
        "who": m.who,
        "text": m.text,
        "setting": m.setting or None,
        **place(here(m.span)),
        "default": m.default or None,
        "also": [{"who": who, "t_s": number(round(t_s, 6))} for who, t_s in m.also],
    }


def _cause_json(c: Cause, here: Where) -> dict[str, Any]:
    seconds = number(c.seconds)
    return {"text": c.text, **place(here(c.span)), "seconds": seconds, "requests": c.requests}


def _step_json(s: Step, here: Where) -> dict[str, Any]:
    return {
        "knobs": list(s.setting.names),
        "from": s.setting.value,
        "to": s.value,
        **place(here(s.setting.span)),
        "default": s.setting.default or None,
        "because": s.setting.because,
        "outage_s": _paired_json(s.outage),
        "recovery_s": _paired_json(s.recovery),
        "failed_requests": _paired_json(s.failed),
        "served_requests": _paired_json(s.served),
        "mends": list(s.mended),
        "breaks": list(s.broken),
        "warnings": list(s.warnings),
        "refused": s.refused or None,
    }


def _paired_json(p: Paired | None) -> dict[str, Any] | None:
    if p is None:
        return None
    return {
        "difference": number(p.difference),
        "ci": [number(p.low), number(p.high)],
        "correlation": number(p.correlation),
        "n": p.n,
    }


# ---- markdown ------------------------------------------------------------------------------------
def markdown(walk: Walk, here: Where = as_is) -> str:
    """For a merge request."""
    out = [
        f"## {cell(walk.scenario)}: replication {walk.replication}",
        "",
        f"{cell(walk.chosen)}; seed {walk.seed}",
        "",
    ]
    if walk.void:
        out += [f"**Void**: {cell(walk.void)}", ""]
    if walk.moments:
        out += ["| time | after | who | what | set by |", "|--:|--:|---|---|---|"]
        for m in walk.moments:
            delay = f"+{m.after_s:.1f} s" if m.parent != -1 else ""
            tail = "; ".join(filter(None, (_setting(m, here), _also(m))))
            cells = (delay, m.who, m.text, tail)
            out.append(f"| {clock(m.t_s)} | {' | '.join(map(cell, cells))} |")
        out.append("")
    for title, causes in (("What it cost", walk.costs), ("What it was made of", walk.delays)):
        if causes:
            out += [f"**{title}**", ""]
            for c in causes:
                out.append(f"- {cell(c.text)}" + (f" {code(str(here(c.span)))}" if c.span else ""))
            out.append("")
    if walk.steps:
        heads = ("one step", "outage", "recovery", "failed requests", "served requests", "notes")
        rows = []
        for s in walk.steps:
            notes = [*(f"mends {t}" for t in s.mended), *(f"**breaks** {t}" for t in s.broken)]
            notes = [*map(_keep_bold, notes), *map(cell, s.warnings), *filter(None, [s.refused])]
            moved = (_seconds(s.outage), _seconds(s.recovery), _count(s.failed), _count(s.served))
            what = f"{code(_change(s))} {cell(_place(s, here))}"
            rows.append((what, *map(cell, moved), "; ".join(notes)))
        out += [*table(heads, rows), ""]
    return "\n".join(out).rstrip("\n") + "\n"


def _keep_bold(note: str) -> str:
    head, bold, rest = note.partition("**breaks** ")
    return f"{head}{bold}{cell(rest)}" if bold else cell(note)
