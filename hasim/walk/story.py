"""The timeline of one replication as a story: who noticed what when, and what set the delay."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hasim.causes_failover import waited_for
from hasim.causes_rotation import OBSERVED, STARTED, server_lines
from hasim.causes_text import place
from hasim.metrics_data import said
from hasim.metrics_probes import DOWN, UP, server_name
from hasim.metrics_view import View
from hasim.sim.trace import Mark
from hasim.source import Span
from hasim.walk.rows import Moment

FAULT, USERS = "fault", "users"
EPSILON_S = 1e-9
TICK_S = 0.5  # probes of several paths notice the same thing within this time
FELT_S = 0.95  # a shorter outage is told by its requests, if any failed
TOGETHER_S = 15.0  # the same words from another mouth within this time are one moment
MOST = 48
LONG = 72  # letters of a row
ERRORS = -1_000_000  # ids of moments that are no row of the timeline are negative
CHECKED = re.compile(r"Health check for server (\S+) (failed|succeeded)")
# What changes who serves, in the daemons' own words.
TOLD = re.compile(
    r"did not boot|oom|OOM|[Ss]erver \S+ is (?:going |DOWN|UP)|has no server|commits wait"
    r"|promoted self|following a different leader|demot|[Ll]eader key|Lock owner: None|DCS is not"
    r"|pg_rewind from|crash recovery|starting primary after|accept (?:read-only )?connections"
    r"|synchronous standby status|accepts writes|MASTER STATE|BACKUP STATE|MASTER MODE"
    r"|container (?:die|start|kill)|host booted|^listening|exits|draining|Reloading|Updating"
    r"|rolled back|drain state|^ALERTS firing|^resolved|Ready to accept|too many clients"
)
# A failover of Sentinel has a dozen rows; these are its turns.
SENTINEL = re.compile(
    r"^(?:\+sdown master|\+odown|\+try-failover|\+elected-leader|\+selected-slave|\+promoted-slave"
    r"|\+switch-master|-failover-abort|failover-abort|\+convert-to-slave)"
)
# Less than this is dropped first when the story gets too long.
SIDE = re.compile(r"container (?:start|die|kill)|^listening|^ALERTS|^resolved|synchronous standby")


@dataclass
class _Told:
    """A row that is told, with the same words of others."""

    mark: Mark
    also: list[Mark] = field(default_factory=list)


def moments(view: View) -> tuple[Moment, ...]:
    """The story in time order; a parent stands before its children."""
    told = _shortened(_folded(view))
    home = {m.id: t.mark.id for t in told for m in (t.mark, *t.also)}
    turns = [t.mark for t in told if t.mark.component == FAULT]
    out = []
    for one in told:
        parent = _parent(view, one.mark, told, home, turns)
        out.append(_moment(view, one, parent))
    out += [*_felt(view, turns), *_errors(view, turns)]
    order = {m.id: i for i, m in enumerate(sorted(turns, key=lambda m: m.t_s))}
    return tuple(sorted(out, key=lambda m: (m.t_s, m.id not in order, m.id < 0, m.id)))


def _wanted(mark: Mark) -> bool:
    text = said(mark)
    if mark.component == FAULT or SENTINEL.search(text):
        return True
    if text.startswith(("+", "-")) or CHECKED.match(mark.event) or mark.event.startswith("alert "):
        return False
    return bool(TOLD.search(mark.event) or mark.file or mark.default)


def _folded(view: View) -> list[_Told]:
    """The rows since the first fault; the same words within TOGETHER_S are one."""
    since = view.first_fault_s if view.faults else 0.0
    out: list[_Told] = []
    last: dict[tuple[str, ...], _Told] = {}
    for mark in sorted(view.trace.timeline, key=lambda m: (m.t_s, m.id)):
        if mark.t_s < since - EPSILON_S or not _wanted(mark):
            continue
        if mark.component == FAULT:
            last.clear()
        key = _key(mark)
        known = last.get(key)
        if known is not None and mark.t_s - known.mark.t_s <= TOGETHER_S:
            known.also.append(mark)
            continue
        one = _Told(mark)
        out.append(one)
        last[key] = one
    return out


def _key(mark: Mark) -> tuple[str, ...]:
    """What makes two rows the same event: containers of one moment, one word of several peers."""
    if mark.component == "docker":
        return "docker", mark.event, f"{mark.t_s:.3f}"
    if mark.event.startswith(("+", "-")):
        return "", mark.event, mark.detail.partition(" #")[0]
    return "", re.sub(r"\d+ active.*|after [\d.]+s", "", mark.event), mark.detail[:0]


def _shortened(told: list[_Told]) -> list[_Told]:
    """At most MOST rows: containers and alerts go first, then what comes last."""
    if len(told) <= MOST:
        return told
    short = [t for t in told if t.mark.component == FAULT or not SIDE.search(t.mark.event)]
    turns = [t for t in short if t.mark.component == FAULT]
    kept = {id(t) for t in [*turns, *short][: MOST + len(turns)]}
    return [t for t in short if id(t) in kept]


# ---- causes --------------------------------------------------------------------------------------
def _parent(
    view: View, mark: Mark, told: list[_Told], home: dict[int, int], turns: list[Mark]
) -> Mark | None:
    """The told row that a row came from: up its chain, else what changed the server that it is
    about, else the last fault or repair before it.
    """
    if mark.component == FAULT:
        return view.marks.get(mark.parent) if mark.parent in home else None
    at, seen = view.marks.get(mark.parent), {mark.id}
    while at is not None and at.id not in seen:
        if home.get(at.id, mark.id) != mark.id:
            return _earlier(view.marks[home[at.id]], at, mark)
        seen.add(at.id)
        at = view.marks.get(at.parent)
    before = [t.mark for t in told if (t.mark.t_s, t.mark.id) < (mark.t_s, mark.id)]
    behind = _behind(view, mark)
    near = [m for m in before if m.component in behind or _began(m, mark)]
    return near[-1] if near else next((t for t in reversed(turns) if t in before), None)


def _began(row: Mark, mark: Mark) -> bool:
    """Is the row about the start of the balancer that speaks, which takes each server for UP?"""
    return bool(server_name(mark)) and (row.component, row.event) == (mark.component, STARTED)


def _earlier(home: Mark, at: Mark, mark: Mark) -> Mark:
    """The told row stands for a folded one; it must not come after its child."""
    return home if (home.t_s, home.id) < (mark.t_s, mark.id) else at


def _behind(view: View, mark: Mark) -> set[str]:
    """The instances behind the server that a DOWN or UP is about."""
    wanted = server_name(mark)
    for balancer in view.stack.balancers:
        for backend in balancer.backends:
            for server in backend.servers:
                if wanted == f"{backend.name}/{server.name}":
                    known = view.instances.get(server.instance)
                    inner = [known.inside] if known is not None and known.inside else []
                    outer = [i.name for i in view.stack.instances if i.inside == server.instance]
                    return {server.instance, *inner, *outer}
    return set()


# ---- words ---------------------------------------------------------------------------------------
def _moment(view: View, one: _Told, parent: Mark | None) -> Moment:
    mark = one.mark
    span, why = _waited_for(view, mark)
    default = mark.default.rstrip(": ") if span is None else ""
    if span is not None and why and " (default, " in why:
        why, _, default = why.partition(" (default, ")
        default = default.removesuffix(")")
    also = {m.component: m.t_s for m in reversed(one.also) if m.component != mark.component}
    return Moment(
        id=mark.id,
        parent=parent.id if parent is not None else -1,
        t_s=mark.t_s,
        after_s=mark.t_s - parent.t_s if parent is not None else 0.0,
        who=mark.component,
        text=_text(view, one),
        setting=why.removeprefix(": ") if why.startswith(": ") else "",
        span=span,
        default=default,
        also=tuple(sorted(also.items(), key=lambda row: (row[1], row[0]))),
    )


def _waited_for(view: View, mark: Mark) -> tuple[Span | None, str]:
    """(place, `: inter 2000`): the setting that the row waited for; of a server that its own
    requests took out, `observe`.
    """
    if mark.component == FAULT:
        return None, ""
    if OBSERVED in mark.detail and server_name(mark) in (lines := server_lines(view)):
        server = lines[server_name(mark)][1]
        span, note = place(server.where, "observe", fallback=server.span)
        return span, f": observe {server.observe}, error-limit {server.error_limit}{note}"
    return waited_for(view, mark)


def _text(view: View, one: _Told) -> str:
    mark = one.mark
    if mark.component == FAULT:
        return f"{mark.event}: {mark.detail}" if mark.detail else mark.event
    if mark.component == "docker":
        names = [d.partition(" ")[0] for d in (mark.detail, *(m.detail for m in one.also))]
        more = f" and {len(names) - 4} more" if len(names) > 5 else ""
        return f"{mark.event}: {', '.join(names[:4] if more else names)}{more}"
    if DOWN.match(mark.event) or UP.match(mark.event):
        return f"{mark.event}{_checks(view, mark)}"
    if mark.event.startswith(("+", "-")) or not mark.detail:
        return _cut(said(mark))
    return _cut(f"{mark.event}: {mark.detail}")


def _cut(text: str) -> str:
    return text if len(text) <= LONG else text[: LONG - 3] + "..."


def _checks(view: View, mark: Mark) -> str:
    """`: Layer4 timeout, 3 checks since 02:03.2`: the checks that led to a DOWN or UP."""
    name, down = server_name(mark), bool(DOWN.match(mark.event))
    times: list[float] = []
    for other in view.trace.timeline:
        found = CHECKED.match(other.event) if other.component == mark.component else None
        if (other.t_s, other.id) > (mark.t_s, mark.id):
            break
        if found and found[1] == name:
            times = [*times, other.t_s] if (found[2] == "failed") == down else []
        elif server_name(other) == name and other.id != mark.id:
            times = []
    reason = mark.detail.removeprefix("reason: ").partition(",")[0]
    if not reason or "check duration" in reason:
        return ""
    if OBSERVED in reason:
        return f": {reason}"
    n = len(times)
    if n < 2:
        return f": {reason}"
    return f": {reason}, {n} checks in {times[-1] - times[0]:.1f} s"


# ---- what users felt -----------------------------------------------------------------------------
def outages(view: View) -> Iterator[tuple[str, float, float]]:
    """(path, last good probe before, first good probe after or inf) of every outage, in seconds."""
    for path, (starts, good) in view.probes.items():
        edges = np.diff(np.concatenate([[False], ~good, [False]]).astype(int))
        ends = np.flatnonzero(edges == -1).tolist()
        for first, after in zip(np.flatnonzero(edges == 1).tolist(), ends, strict=True):
            end = float(starts[after]) if after < len(starts) else math.inf
            yield path, float(starts[max(first - 1, 0)]), end


def _felt(view: View, turns: list[Mark]) -> Iterator[Moment]:
    """The longest outage of each path: one moment for those that begin together, one for each end
    that paths share.
    """
    longest: dict[str, tuple[float, float]] = {}
    for path, begin, end in outages(view):
        known = longest.get(path, (0.0, 0.0))
        if end - begin > max(known[1] - known[0], FELT_S):
            longest[path] = (begin, end)
    groups: dict[float, dict[float, list[str]]] = {}
    for path, (begin, end) in sorted(longest.items(), key=lambda row: (row[1], row[0])):
        first = next((b for b in groups if begin - b <= TICK_S), begin)
        ends = groups.setdefault(first, {})
        last = next((e for e in ends if e == end or end - e <= TICK_S), end)
        ends.setdefault(last, []).append(path.rpartition("/")[2])
    ids = iter(range(-2, ERRORS, -1))
    for begin, ends in groups.items():
        cause = next((t for t in reversed(turns) if t.t_s <= begin + TICK_S), None)
        t_s = max(begin, cause.t_s) if cause is not None else begin
        parent, at_s = (cause.id, cause.t_s) if cause is not None else (-1, t_s)
        names = ", ".join(p for paths in ends.values() for p in paths)
        home = next(ids)
        yield Moment(home, parent, t_s, t_s - at_s, USERS, f"{names}: no good answer from here on")
        for end, paths in ends.items():
            if math.isfinite(end):
                text = f"{', '.join(paths)}: answered again, outage {end - begin:.1f} s"
                yield Moment(next(ids), home, end, end - t_s, USERS, text)


def _errors(view: View, turns: list[Mark]) -> Iterator[Moment]:
    """From the first to the last second in which requests failed, since the first fault."""
    failed: np.ndarray = view.trace.per_second["failed"].sum(axis=1)
    since = view.first_fault_s if view.faults else 0.0
    hit = [int(s) for s in np.flatnonzero(failed) if s + 1 > since]
    if not hit:
        return
    first, last = max(float(hit[0]), since), float(hit[-1] + 1)
    cause = next((t for t in reversed(turns) if t.t_s <= first + EPSILON_S), None)
    parent, at = (cause.id, cause.t_s) if cause is not None else (-1, first)
    n = int(sum(failed[s] for s in hit))
    yield Moment(ERRORS, parent, first, first - at, USERS, "requests begin to fail")
    if last - first > 1.0:
        text = f"the last of {n} failed requests"
        yield Moment(ERRORS - 1, ERRORS, last, last - first, USERS, text)
