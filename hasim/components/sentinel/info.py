"""What Sentinel reads in the INFO of masters and replicas, and what it does about it.

Source: src/sentinel.c 7.0.15, sentinelRefreshInstanceInfo; reference/redis-sentinel.md sections 2,
8, 9 and 11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hasim.components.sentinel import failover, memory, orders
from hasim.components.sentinel.config import is_ip
from hasim.components.sentinel.entries import NONE, WAIT_PROMOTION, Entry, Master
from hasim.components.sentinel.link import MS

if TYPE_CHECKING:
    from hasim.components.sentinel.daemon import Sentinel

INFO_NS = 10_000 * MS  # source: sentinel.c, sentinel_info_period
INFO_FAST_NS = 1000 * MS  # source: sentinelSendPeriodicCommands, replicas in trouble
ROLE_WAIT_NS = 4 * 2000 * MS  # source: sentinelRefreshInstanceInfo, four hello periods


def period(master: Master, entry: Entry) -> int:
    """How old INFO of this entry may become."""
    trouble = master.entry.o_down or master.state != NONE or entry.link_down_ms != 0
    return INFO_FAST_NS if entry.kind == "slave" and trouble else INFO_NS


def refresh(sentinel: Sentinel, master: Master, entry: Entry) -> None:
    """A reply to INFO has arrived."""
    node = sentinel.nodes.get(entry.name)
    if node is None:
        return
    t = sentinel.now
    entry.info = t
    if entry.run_id != node.run_id:
        if entry.run_id:
            sentinel.say("+reboot", master.describe(entry), master.mark)
            if entry.kind == "master" and master.config.reboot_ms:
                entry.reboot_since = t
        entry.run_id = node.run_id
    if entry.kind == "master":
        _replicas(sentinel, master, node)
    _read(entry, node, t)
    if node.role != entry.role:
        entry.role, entry.role_time = node.role, t
        if node.role == "slave":
            entry.conf_time = t
    if not sentinel.tilt and entry.kind == "slave":
        _act(sentinel, master, entry)


def _read(entry: Entry, node: Any, t: int) -> None:
    entry.link_down_ms = 0
    if node.role != "slave":
        return
    if not node.link_up:
        since = node.link_down_since
        entry.link_down_ms = -1000 if since is None else (t - since) // (1000 * MS) * 1000
    if (entry.master, entry.master_text) != (node.master, node.master_text):
        entry.master, entry.master_text, entry.conf_time = node.master, node.master_text, t
    entry.link_up, entry.priority, entry.offset = node.link_up, node.priority, node.offset()


def _replicas(sentinel: Sentinel, master: Master, node: Any) -> None:
    for name, host, port in node.replicas:
        if unknown(sentinel, master, name):
            slave = memory.entry(sentinel, "slave", name, host, port)
            master.slaves[name] = slave
            sentinel.say("+slave", master.describe(slave), master.mark)
            sentinel.flush()


def unknown(sentinel: Sentinel, master: Master, name: str) -> bool:
    """Is this replica not known, or known at an address that its container has left?"""
    known = master.slaves.get(name)
    moved = known is not None and known.address != memory.address_of(sentinel, name)
    return (known is None or moved) and name != master.entry.name


def _act(sentinel: Sentinel, master: Master, slave: Entry) -> None:
    if slave.role == "master":
        if slave.promoted and master.state == WAIT_PROMOTION:
            failover.promoted(sentinel, master, slave)
        elif not slave.promoted and may_convert(sentinel, master, slave):
            mark = sentinel.say("+convert-to-slave", master.describe(slave), master.mark)
            orders.slaveof(sentinel, master, slave, master.entry, mark)
        return
    if wrong_master(sentinel, master, slave):
        waited = sentinel.now - slave.conf_time > master.timeout
        quiet = slave.no_down_for(sentinel.now, master.timeout)
        if master.sane(sentinel.now, INFO_NS) and quiet and waited:
            mark = sentinel.say("+fix-slave-config", master.describe(slave), master.mark)
            orders.slaveof(sentinel, master, slave, master.entry, mark)
    _reconfigured(sentinel, master, slave)


def may_convert(sentinel: Sentinel, master: Master, slave: Entry) -> bool:
    """May a replica that calls itself master be turned back now?"""
    return (
        master.sane(sentinel.now, INFO_NS)
        and slave.no_down_for(sentinel.now, ROLE_WAIT_NS)
        and sentinel.now - slave.role_time > ROLE_WAIT_NS
    )


def wrong_master(sentinel: Sentinel, master: Master, slave: Entry) -> bool:
    """Does it follow somebody else, or the right one under another name? Without
    resolve-hostnames a name and an address are different texts.
    """
    if slave.master != master.entry.name:
        return True
    text = slave.master_text
    return not sentinel.config.resolve_hostnames and not is_ip(text) and text != master.entry.host


def _reconfigured(sentinel: Sentinel, master: Master, slave: Entry) -> None:
    chosen = master.promoted
    if slave.reconf == "sent" and chosen is not None and slave.master == chosen.name:
        slave.reconf = "inprog"
        sentinel.say("+slave-reconf-inprog", master.describe(slave), master.mark)
    if slave.reconf == "inprog" and slave.link_up:
        slave.reconf = "done"
        sentinel.say("+slave-reconf-done", master.describe(slave), master.mark)
