"""The waits between a fault and a new leader, and the setting behind each.

The rows of the timeline are the steps; the setting behind a wait is the origin that the daemon
logged, else the knob that its word is known to wait for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from hasim.causes_text import Cause, of_mark
from hasim.metrics_data import NOTICED, PROMOTED, Failover, group_of, said
from hasim.metrics_probes import UP, server_name
from hasim.metrics_view import View
from hasim.model import Knob
from hasim.sim.trace import FaultSpan, Mark
from hasim.source import Origin, Span

SHOWN_S = 0.3  # shorter waits are not what makes an outage long
EPSILON_S = 1e-9
# Patroni's members run for the lock from here on: what follows is no wait for its lease.
RACE = re.compile(r"following a different leader|Lock owner: None|[Ll]eader key released")
ASKED_S = 2.0  # source: patroni/ha.py (fetch_node_status)
ASKED = " (the race waits 2 s for members that do not answer)"
LED = re.compile(r"\+promoted-slave ")  # source: sentinel.c (sentinelRefreshInstanceInfo)
# What a daemon's word waited for, where it does not say so itself: names of knobs, by their end.
WAITED = (
    (re.compile(r"\+sdown"), "down-after-milliseconds"),
    (re.compile(r"\+odown"), "quorum"),
    (re.compile(r"\+(?:try|new)-failover|\+vote-for-leader|failover-abort"), "failover-timeout"),
    (re.compile(r"startup is taking too long|startup timeout"), "primary_start_timeout"),
    (re.compile(r"promoted self to leader by|Lock owner: None|following a different"), "ttl"),
    (re.compile(r"DCS is not accessible|communicating with DCS"), "retry_timeout"),
    (re.compile(r"maximum replication lag|exceeds maximum"), "maximum_lag_on_failover"),
    (re.compile(r"Entering MASTER STATE"), "advert_int"),
    (re.compile(r"starting primary after failure"), "loop_wait"),
)


def first_of_each(changes: list[Failover]) -> list[Failover]:
    """The first change of every group."""
    return list({(c.by, c.group): c for c in reversed(changes)}.values())[::-1]


def follows(view: View, mark: Mark, fault: FaultSpan) -> bool:
    """Does the row descend from the fault, or else come between it and the next one?"""
    if mark.t_s < fault.start_s - EPSILON_S:
        return False
    later = [f.start_s for f in view.faults if f.start_s > fault.start_s + EPSILON_S]
    if view.descends(mark, fault.mark):
        return True
    others = any(view.descends(mark, f.mark) for f in view.faults)
    return not others and mark.t_s < min(later, default=math.inf)


def steps(view: View, fault: FaultSpan, change: Failover) -> Iterator[Cause]:
    """One sentence per long wait between the rows that lead to the change."""
    rows = _chain(view, fault, change)
    total_s = change.mark.t_s - fault.start_s
    if not rows or total_s < SHOWN_S:
        return
    what = f"took over from {change.old}" if change.old else "took over"
    what = "led again" if change.old == change.new else what
    text = f"{change.group or change.new}: {change.new} {what} {total_s:.1f} s after the fault"
    yield Cause(text, of_mark(change.mark), total_s)
    yield from waits(view, rows, fault.start_s, change.group)


def waits(view: View, rows: list[Mark], since_s: float, group: str = "") -> Iterator[Cause]:
    """One sentence for the long waits between rows; those before the same words together."""
    found: dict[tuple[str, str], list[float]] = {}
    first: dict[tuple[str, str], Mark] = {}
    at_s, races, asked = since_s, False, set()
    for row in rows:
        wait_s, at_s = row.t_s - at_s, max(at_s, row.t_s)
        key = row.component, row.event
        races = races or bool(RACE.search(said(row)))
        if races and PROMOTED.search(said(row)):
            asked.add(key)
        if wait_s >= SHOWN_S:
            found.setdefault(key, []).append(wait_s)
            first.setdefault(key, row)
    for key, waits in found.items():
        span, why = waited_for(view, first[key], group)
        if key in asked:
            span, why = None, ASKED if sum(waits) >= ASKED_S else ""
        times = f" {len(waits)} times" if len(waits) > 1 else ""
        head = f"of these {sum(waits):.1f} s until {key[0]} said '{shown(first[key])}'{times}"
        yield Cause(head + why, span, sum(waits))


def then(view: View, change: Failover) -> Iterator[Cause]:
    """From the promotion to the first balancer that sends requests to the new leader."""
    ways = {
        f"{b.name}/{s.name}"
        for balancer in view.stack.balancers
        for b in balancer.backends
        for s in b.servers
        if s.instance in view.instances
        and change.new in (s.instance, view.instances[s.instance].inside)
    }
    for mark in view.trace.timeline:
        if mark.t_s > change.mark.t_s and UP.match(mark.event) and server_name(mark) in ways:
            wait_s = mark.t_s - change.mark.t_s
            span, why = waited_for(view, mark)
            text = f"{wait_s:.1f} s more until {mark.component} sent requests to {change.new}"
            yield Cause(text + why, span, wait_s)
            return


def _chain(view: View, fault: FaultSpan, change: Failover) -> list[Mark]:
    """The first notice, what the new leader's row descends from, and that row; in time order."""
    led = _led(view, fault, change)
    rows = {change.mark.id: change.mark, led.id: led}
    at = view.marks.get(led.parent)
    while at is not None and at.id not in rows and at.id != fault.mark:
        if at.t_s >= fault.start_s - EPSILON_S:
            rows[at.id] = at
        at = view.marks.get(at.parent)
    word = NOTICED.get(change.by)
    for mark in view.trace.timeline:
        mine = change.group in (group_of(view, mark.component), "") or change.group in said(mark)
        if led is not change.mark:  # the others' notices did not lead here
            mine = mark.component == led.component and "+sdown master" in said(mark)
        gave_up = mark.component == change.old != change.new
        mine = mine and (not gave_up or "released" in mark.event)
        between = fault.start_s - EPSILON_S <= mark.t_s <= change.mark.t_s
        if word is not None and mine and between and word.search(said(mark)):
            rows[mark.id] = mark
            break
    return sorted(rows.values(), key=lambda m: (m.t_s, m.id))


def _led(view: View, fault: FaultSpan, change: Failover) -> Mark:
    """The Sentinel that leads a failover says +promoted-slave; the others, who hear of it, are
    the first to say +switch-master. Everybody else's own row is the one.
    """
    found = change.mark
    for mark in view.trace.timeline:
        between = fault.start_s - EPSILON_S <= mark.t_s <= change.mark.t_s
        if change.by == "sentinel" and between and LED.search(said(mark)):
            found = mark if change.group in said(mark).split() else found
    return found


def shown(mark: Mark) -> str:
    """A row, cut to a readable length."""
    text = said(mark)
    return text if len(text) <= 60 else text[:57] + "..."


def waited_for(view: View, row: Mark, group: str = "") -> tuple[Span | None, str]:
    """The setting that a row waited for: (place, `: name value`)."""
    span = of_mark(row)
    knob = next((k for k in view.stack.knobs if span is not None and _is_at(k.origin, span)), None)
    if span is None and not row.default:
        words = next((names for word, names in WAITED if word.search(said(row))), "")
        knob = knob_of(view, words, row.component, group) if words else None
        span = knob.origin if knob is not None and isinstance(knob.origin, Span) else None
    if knob is not None:
        name = knob.name.rpartition(".")[2]
        note = "" if isinstance(knob.origin, Span) else f" (default, {knob.origin.source})"
        return span or knob.insert, f": {name} {knob.value}{note}"
    if row.default:
        return None, f" (default, {row.default})"
    return span, ""


def _is_at(origin: Origin, span: Span) -> bool:
    return isinstance(origin, Span) and (origin.file, origin.line) == (span.file, span.line)


def knob_of(view: View, name: str, *about: str) -> Knob | None:
    """The knob of that last name; one of what it is about goes before all others."""
    found = [k for k in view.stack.knobs if k.name.rpartition(".")[2] == name]
    for word in about:
        named = [k for k in found if word and word in k.name.split(".")]
        if named:
            return named[0]
    return found[0] if found else None
