"""S_DOWN and O_DOWN.

Source: src/sentinel.c 7.0.15, sentinelCheckSubjectivelyDown and sentinelCheckObjectivelyDown;
reference/redis-sentinel.md sections 3 and 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasim.components.sentinel.entries import Entry, Master
from hasim.components.sentinel.link import MS

if TYPE_CHECKING:
    from hasim.components.sentinel.daemon import Sentinel

# A configured master that says it is a replica is down after down-after and two INFO periods.
# Source: sentinelCheckSubjectivelyDown.
WRONG_ROLE_NS = 20_000 * MS


def clock(entry: Entry) -> int | None:
    """Since when nothing valid has come; None while everything is answered."""
    link = entry.link
    if link.act_ping:
        return link.act_ping
    return link.last_avail if link.disconnected else None


def wrong_role(master: Master, entry: Entry, t: int) -> bool:
    """Has the master called itself a replica for too long?"""
    if entry.kind != "master" or entry.role != "slave":
        return False
    return t - entry.role_time > master.down_after + WRONG_ROLE_NS


def rebooting(master: Master, entry: Entry, t: int) -> bool:
    """Does a master that has restarted load its dataset for too long
    (master-reboot-down-after-period)?
    """
    return bool(entry.reboot_since) and t - entry.reboot_since > master.config.reboot_ms * MS


def subjectively(sentinel: Sentinel, master: Master, entry: Entry) -> None:
    """Set or clear S_DOWN of one entry."""
    t = sentinel.now
    since = clock(entry)
    elapsed = t - since if since is not None else 0
    entry.link.recycle(t, master.down_after)
    down = elapsed > master.down_after or wrong_role(master, entry, t)
    down = down or rebooting(master, entry, t)
    if down == entry.s_down:
        return
    entry.s_down = down
    if down:
        entry.s_down_since = t
        blame = sentinel.machine.containers[entry.name].blame
        event, cause, origin = "+sdown", blame, master.config.where.get("down-after-milliseconds")
    else:
        event, cause, origin = "-sdown", entry.mark, None
    entry.mark = sentinel.say(event, master.describe(entry), cause, origin)
    if entry.kind == "master":
        master.mark = entry.mark
    sentinel.tell()


def agreeing(master: Master) -> int:
    """How many Sentinels, this one included, say that the master is down."""
    return 1 + sum(s.says_down for s in master.sentinels)


def objectively(sentinel: Sentinel, master: Master) -> None:
    """Set or clear O_DOWN of a master."""
    entry = master.entry
    count = agreeing(master)
    down = entry.s_down and count >= master.config.quorum
    if down == entry.o_down:
        return
    entry.o_down = down
    text = master.describe(entry)
    if down:
        entry.o_down_since = sentinel.now
        quorum = f" #quorum {count}/{master.config.quorum}"
        entry.mark = sentinel.say("+odown", text + quorum, entry.mark, master.config.span)
    else:
        entry.mark = sentinel.say("-odown", text, entry.mark)
    master.mark = entry.mark
    sentinel.tell()
