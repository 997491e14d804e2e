"""When a Sentinel's next tick or reply could have an effect that anybody sees.

Too early costs an event, too late would be wrong: every doubt is answered with the next tick. What
comes from outside (crash, freeze, silence, another Sentinel's opinion) is told by `poke`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasim.components.sentinel import clock, down, election, hello, info, memory
from hasim.components.sentinel.entries import NONE, Entry, Master
from hasim.components.sentinel.link import FAR, MS, NEVER, PING_NS, PUBLISH_NS, RECONNECT_NS, Link

if TYPE_CHECKING:
    from hasim.components.sentinel.daemon import Sentinel


def next_effect(sentinel: Sentinel) -> int | None:
    """The time of the next possible effect; None: none without a change outside."""
    best = FAR
    first = sentinel.previous == NEVER
    if sentinel.looking or first or clock.tilted(sentinel.previous, sentinel.due):
        best = sentinel.due
    for master in sentinel.masters:
        if sentinel.dns_silent and any(e.by_name for e in master.entries()):
            best = sentinel.due
        best = min(best, _of_master(sentinel, master))
        if best <= sentinel.due:
            break
    if sentinel.tilt:
        best = max(best, sentinel.due) if best < FAR else FAR
        best = min(best, max(sentinel.due, sentinel.tilt_start + clock.TILT_NS))
    arrival = _next_news(sentinel)
    best = min(best, arrival)
    return None if best >= FAR else best


def _of_master(sentinel: Sentinel, master: Master) -> int:
    soon = sentinel.due
    if master.state != NONE:
        return soon
    best = _of_opinions(sentinel, master)
    for entry in master.entries():
        if best <= soon:
            return soon
        best = min(best, _of_down(sentinel, master, entry))
        if entry.kind != "sentinel":
            best = min(best, _of_info(sentinel, master, entry))
    return min(best, _of_hello(sentinel, master))


def _of_opinions(sentinel: Sentinel, master: Master) -> int:
    """O_DOWN, and the next attempt at a failover."""
    entry, soon, best = master.entry, sentinel.due, FAR
    count = down.agreeing(master)
    if (entry.s_down and count >= master.config.quorum) != entry.o_down:
        return soon
    if entry.o_down:
        best = max(soon, master.start + 2 * master.timeout)
    if not entry.s_down:
        return best
    for peer in master.sentinels:
        view = sentinel.view(peer)
        says = entry.name in sentinel.opinions.get(peer.name, ())
        if view.answers and says != peer.says_down:
            best = min(best, max(soon, peer.reply + election.ASK_NS))
        if not view.answers and peer.says_down:
            best = min(best, max(soon, peer.reply + 5000 * MS))
    return best


def _of_down(sentinel: Sentinel, master: Master, entry: Entry) -> int:
    """The onset or the end of S_DOWN."""
    soon, view, link = sentinel.due, sentinel.view(entry), entry.link
    if entry.s_down:
        if down.wrong_role(master, entry, sentinel.now):
            return FAR
        if view.loading and down.rebooting(master, entry, sentinel.now):
            return FAR
        return _reconnects(sentinel, link) if view.pongs else FAR
    best = FAR
    if entry.kind == "master" and entry.role == "slave":
        best = max(soon, entry.role_time + master.down_after + down.WRONG_ROLE_NS)
    if entry.reboot_since and view.loading:
        best = max(soon, entry.reboot_since + master.config.reboot_ms * MS)
    since = down.clock(entry)
    if since is None and not view.pongs:  # the next ping is the first without an answer
        since = link.last_pong + min(1000 * MS, master.down_after)
    if link.disconnected and not link.act_ping:  # it opens first, if a clock was set back
        since = min(link.last_avail, _reconnects(sentinel, link))
    if since is None:
        return best
    late = since + master.down_after
    if view.pongs and link.answer_by(sentinel.now, sentinel.delay(entry.name)) < late:
        return best
    return min(best, max(soon, late))


def _reconnects(sentinel: Sentinel, link: Link) -> int:
    """The tick that opens a closed link; the next one if it is open."""
    return max(sentinel.due, link.last_reconn + RECONNECT_NS if link.disconnected else NEVER)


def _of_info(sentinel: Sentinel, master: Master, entry: Entry) -> int:
    """An INFO that will say something new, or about which something is to be done."""
    view, node, soon = sentinel.view(entry), sentinel.nodes.get(entry.name), sentinel.due
    if node is None or not view.answers or not _unread(sentinel, master, entry, node):
        return FAR
    link = entry.link
    if "info" in link.due:
        return link.due["info"]
    if link.disconnected:
        return _reconnects(sentinel, link)
    if not link.open or entry.info == NEVER or "info" in link.queued:
        return min(soon, link.opens_at)
    return max(soon, entry.info + info.period(master, entry))


def _unread(sentinel: Sentinel, master: Master, entry: Entry, node) -> bool:
    if (entry.run_id, entry.role) != (node.run_id, node.role):
        return True
    if entry.kind == "master":
        return any(info.unknown(sentinel, master, name) for name, _, _ in node.replicas)
    if entry.role == "master":
        return True
    if (entry.master, entry.link_up) != (node.master, node.link_up):
        return True
    return bool(entry.reconf in ("sent", "inprog")) or info.wrong_master(sentinel, master, entry)


def _of_hello(sentinel: Sentinel, master: Master) -> int:
    """A hello that will tell somebody something new."""
    best = FAR
    if sentinel.tilt:
        return best
    for fellow in memory.fellows(sentinel, master.name):
        if not hello.news(sentinel, master, fellow):
            continue
        for entry in master.entries():
            if entry.kind == "sentinel":
                usable = entry.name == fellow.name and sentinel.view(entry).answers
            else:
                theirs = fellow.views.get(entry.name)
                usable = sentinel.view(entry).answers and theirs is not None and theirs.answers
            if usable:
                best = min(best, max(sentinel.due, entry.pub + 2000 * MS))
    return best


def _next_news(sentinel: Sentinel) -> int:
    """An INFO under way that matters is read when it arrives, not at the next tick."""
    best = FAR
    for master in sentinel.masters:
        for entry in master.entries():
            link = entry.link
            arrival = link.opens_at if "info" in link.queued else link.due.get("info", FAR)
            if arrival < FAR and entry.kind != "sentinel":
                node = sentinel.nodes.get(entry.name)
                if node is not None and (
                    master.state != NONE or _unread(sentinel, master, entry, node)
                ):
                    best = min(best, arrival)
    return best


def idle(sentinel: Sentinel, master: Master, entry: Entry) -> bool:
    """Has this tick nothing to do for a replica or another Sentinel? Most have not."""
    link, t = entry.link, sentinel.now
    return not (
        link.disconnected
        or link.act_ping
        or entry.s_down
        or sentinel.tilt
        or t - link.last_pong > min(PING_NS, master.down_after)
        or t - entry.pub > PUBLISH_NS
        or (entry.kind == "slave" and t - entry.info > info.period(master, entry))
    )


def everything(sentinel: Sentinel) -> int:
    """The next tick or reply, whether it matters or not (for tests)."""
    links = [e.link for m in sentinel.masters for e in m.entries()]
    replies = (t for x in links for t in (*x.due.values(), x.opens_at, x.fails_at))
    return min(sentinel.due, min(replies, default=FAR))
