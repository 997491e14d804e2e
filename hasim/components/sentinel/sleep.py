"""After a long sleep: the state of the timers is drawn, the last seconds are replayed.

While nothing happens, the age of the last ping, INFO and hello is uniform over its period, one
phase for all instances of a Sentinel (they were all found in the same tick).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasim.components.sentinel import info
from hasim.components.sentinel.link import FAR, MIN_LINK_NS, MS, RECONNECT_NS
from hasim.sim.world import NO_ROUTE, NS, REFUSED
from hasim.tcp import NO_ROUTE_NS

if TYPE_CHECKING:
    from hasim.components.sentinel.daemon import Sentinel
    from hasim.components.sentinel.entries import Entry, Master

LONG_NS = 15_000 * MS  # source: our choice; a longer sleep is not replayed as a whole
REPLAY_NS = 3000 * MS  # source: our choice; more than one of every period but INFO's
TICK_NS = 71_300_000  # source: reference/redis-sentinel.md section 0, the mean timer period


def jump(sentinel: Sentinel, now: int) -> None:
    """Be in a moment some seconds before now, with phases drawn for this sleep."""
    sentinel.ticks += 1
    start, pinned = now - REPLAY_NS, _pin(sentinel, now)
    draws = {k: sentinel.draw(f"age of {k}") for k in ("tick", "ping", "info", "pub", "try")}
    if pinned is not None:
        start = pinned
        draws = dict.fromkeys(draws, 1.0) | {"tick": 0.0}
    asleep, sentinel.due = sentinel.due, start + round(draws["tick"] * TICK_NS)
    sentinel.previous = start - round((1 - draws["tick"]) * TICK_NS)
    sentinel.now = start
    for master in sentinel.masters:
        for entry in master.entries():
            _wait(sentinel, master, entry, asleep, start)
            _place(sentinel, master, entry, start, draws)


def _pin(sentinel: Sentinel, now: int) -> int | None:
    """`phases: {sentinel-1: 3.2}`: its tick at 3.2 s of the load sends everything."""
    pin = sentinel.world.scenario.phases.get(sentinel.name)
    if pin is None:
        return None
    at = sentinel.world.start_ns + round(pin * NS)
    return at if now - LONG_NS <= at <= now else None


def _wait(sentinel: Sentinel, master: Master, entry: Entry, asleep: int, start: int) -> None:
    """Since when a PING has been waiting that was sent while nobody looked; `asleep`: the first
    tick of that time.
    """
    link = entry.link
    if sentinel.view(entry).pongs or link.act_ping:
        return
    if link.disconnected:
        sent = max(asleep, link.last_reconn + RECONNECT_NS)
    else:
        period = min(RECONNECT_NS, master.down_after)
        sent = max(asleep, link.last_pong + period, link.last_ping + period // 2)
    if sent < start:
        link.act_ping = link.last_ping = sent


def _place(
    sentinel: Sentinel, master: Master, entry: Entry, start: int, draws: dict[str, float]
) -> None:
    link, view = entry.link, sentinel.view(entry)

    def age(kind: str, period: int) -> int:
        return round(draws[kind] * (period + TICK_NS // 2 + sentinel.delay(entry.name)))

    def since(old: int, kind: str, period: int) -> int:
        return old if old > start else start - age(kind, period)  # later: a clock was set back

    entry.reply = since(entry.reply, "ping", RECONNECT_NS)
    if view.answers and link.disconnected and link.last_reconn > start - RECONNECT_NS:
        return  # a clock that was set back keeps it closed
    if view.answers:  # for seconds by now: connected, and everything is answered
        link.disconnected, link.open, link.process = False, True, view.process
        link.opens_at = link.fails_at = FAR
        link.due.clear()
        link.queued.clear()
        link.last_pong = since(link.last_pong, "ping", RECONNECT_NS)
        if not view.sick:
            link.act_ping, link.last_avail = 0, link.last_pong
        link.last_ping = link.last_pong - sentinel.delay(entry.name)
        entry.pub = since(entry.pub, "pub", 2 * RECONNECT_NS)
        if entry.kind != "sentinel":
            entry.info = since(entry.info, "info", info.period(master, entry))
        return
    link.last_reconn = since(link.last_reconn, "try", RECONNECT_NS)
    if view.reach == NO_ROUTE:
        link.conn_time = link.syn_at = start - age("try", NO_ROUTE_NS)
        if not link.disconnected:
            link.fails_at = link.syn_at + NO_ROUTE_NS
    elif view.reach == REFUSED:
        link.close()
    else:
        link.conn_time = link.syn_at = start - age("try", MIN_LINK_NS)
    if link.opens_at < FAR:
        link.opens_at = min(link.opens_at, start)
