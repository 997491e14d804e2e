"""The failover: when it starts, one state a tick, the choice of a replica, the switch.

Source: src/sentinel.c 7.0.15 (sentinelStartFailoverIfNeeded, sentinelFailoverStateMachine,
sentinelSelectSlave, sentinelFailoverDetectEnd); reference/redis-sentinel.md sections 5 to 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasim.components.sentinel import election, memory, orders
from hasim.components.sentinel.entries import (
    NONE,
    RECONF,
    SELECT,
    SEND,
    UPDATE,
    WAIT_PROMOTION,
    WAIT_START,
    Entry,
    Master,
)
from hasim.components.sentinel.link import MS, NEVER

if TYPE_CHECKING:
    from hasim.components.sentinel.daemon import Sentinel

ELECTION_NS = 10_000 * MS  # source: sentinel.c, sentinel_election_timeout
RECONF_NS = 10_000 * MS  # source: sentinel.c, sentinel_slave_reconf_timeout
# How old what is known of a candidate may be. Source: sentinelSelectSlave, 5 ping periods while
# the master is in S_DOWN, else 3 INFO periods.
FRESH_NS = 5000 * MS
FRESH_UP_NS = 30_000 * MS


def start_if_needed(sentinel: Sentinel, master: Master) -> bool:
    """Start a failover if the master is in O_DOWN and the last attempt is long enough ago."""
    if not master.entry.o_down or master.state != NONE:
        return False
    if sentinel.now - master.start < 2 * master.timeout:
        return False
    sentinel.epoch += 1
    master.failover_epoch = sentinel.epoch
    _enter(sentinel, master, WAIT_START)
    sentinel.say("+new-epoch", str(sentinel.epoch), master.mark)
    origin = master.config.where.get("failover-timeout")
    master.mark = sentinel.say("+try-failover", master.describe(master.entry), master.mark, origin)
    master.start = sentinel.now + election.desync(sentinel)
    return True


def _enter(sentinel: Sentinel, master: Master, state: str) -> None:
    master.state, master.state_time = state, sentinel.now
    sentinel.tell()


def _say(sentinel: Sentinel, master: Master, event: str, entry: Entry | None = None) -> None:
    text = master.describe(entry or master.entry)
    master.mark = sentinel.say(event, text, master.mark)


def _abort(sentinel: Sentinel, master: Master, why: str) -> None:
    """Source: sentinelAbortFailover; the next attempt comes 2 x failover-timeout after this one."""
    _say(sentinel, master, f"-failover-abort-{why}")
    _enter(sentinel, master, NONE)
    if master.promoted is not None:
        master.promoted.promoted = False
        master.promoted = None


def step(sentinel: Sentinel, master: Master) -> None:
    """One state of the failover under way."""
    state = master.state
    if state == WAIT_START:
        _wait_start(sentinel, master)
    elif state == SELECT:
        _select(sentinel, master)
    elif state == SEND:
        _send(sentinel, master)
    elif state == WAIT_PROMOTION:
        if sentinel.now - master.state_time > master.timeout:
            _abort(sentinel, master, "slave-timeout")
    elif state == RECONF:
        _reconf(sentinel, master)


def _wait_start(sentinel: Sentinel, master: Master) -> None:
    if election.leader(sentinel, master) == sentinel.id:
        _say(sentinel, master, "+elected-leader")
        _enter(sentinel, master, SELECT)
        _say(sentinel, master, "+failover-state-select-slave")
    elif sentinel.now - master.start > min(ELECTION_NS, master.timeout):
        _abort(sentinel, master, "not-elected")


def _select(sentinel: Sentinel, master: Master) -> None:
    chosen = select(sentinel, master)
    if chosen is None:
        _abort(sentinel, master, "no-good-slave")
        return
    _say(sentinel, master, "+selected-slave", chosen)
    chosen.promoted = True
    master.promoted = chosen
    _enter(sentinel, master, SEND)
    _say(sentinel, master, "+failover-state-send-slaveof-noone", chosen)


def select(sentinel: Sentinel, master: Master) -> Entry | None:
    """The replica to promote: lower priority, larger offset, smaller run id."""
    good = [s for s in master.slaves.values() if _fit(sentinel, master, s)]
    return min(good, key=lambda s: (s.priority, -s.offset, s.run_id or "g"), default=None)


def _fit(sentinel: Sentinel, master: Master, slave: Entry) -> bool:
    t, entry = sentinel.now, master.entry
    longest = 10 * master.down_after
    if entry.s_down:
        longest += t - entry.s_down_since
    return not (
        slave.s_down
        or slave.o_down
        or slave.link.disconnected
        or t - slave.link.last_avail > FRESH_NS
        or slave.priority == 0
        or t - slave.info > (FRESH_NS if entry.s_down else FRESH_UP_NS)
        or slave.link_down_ms * MS > longest
    )


def _send(sentinel: Sentinel, master: Master) -> None:
    """SLAVEOF NO ONE to the chosen replica."""
    chosen = master.promoted
    assert chosen is not None
    if chosen.link.disconnected:
        if sentinel.now - master.state_time > master.timeout:
            _abort(sentinel, master, "slave-timeout")
        return
    _enter(sentinel, master, WAIT_PROMOTION)
    _say(sentinel, master, "+failover-state-wait-promotion", chosen)
    orders.slaveof(sentinel, master, chosen, None, master.mark)


def promoted(sentinel: Sentinel, master: Master, slave: Entry) -> None:
    """INFO has shown the new role (sentinelRefreshInstanceInfo)."""
    master.epoch = master.failover_epoch
    _enter(sentinel, master, RECONF)
    sentinel.flush()
    _say(sentinel, master, "+promoted-slave", slave)
    _say(sentinel, master, "+failover-state-reconf-slaves")
    for entry in master.entries():  # hellos at the next tick (sentinelForceHelloUpdateForMaster)
        entry.pub = min(entry.pub, sentinel.now - 2001 * MS)


def _reconf(sentinel: Sentinel, master: Master) -> None:
    """Point the other replicas at the new master, parallel-syncs at a time."""
    under_way = sum(s.reconf in ("sent", "inprog") for s in master.slaves.values())
    for slave in master.slaves.values():
        if under_way >= master.config.parallel_syncs:
            break
        if slave.promoted or slave.reconf == "done":
            continue
        if slave.reconf == "sent" and sentinel.now - slave.reconf_time > RECONF_NS:
            _say(sentinel, master, "-slave-reconf-sent-timeout", slave)
            slave.reconf = "done"
            continue
        if slave.reconf or slave.link.disconnected:
            continue
        slave.reconf, slave.reconf_time = "sent", sentinel.now
        _say(sentinel, master, "+slave-reconf-sent", slave)
        orders.slaveof(sentinel, master, slave, master.promoted, master.mark)
        under_way += 1
    _detect_end(sentinel, master)


def _detect_end(sentinel: Sentinel, master: Master) -> None:
    if master.promoted is None or master.promoted.s_down:
        return
    left = [
        s for s in master.slaves.values() if not s.promoted and s.reconf != "done" and not s.s_down
    ]
    late = sentinel.now - master.state_time > master.timeout
    if late:
        _say(sentinel, master, "+failover-end-for-timeout")
    if not left or late:
        _say(sentinel, master, "+failover-end")
        _enter(sentinel, master, UPDATE)
    if late:
        for slave in master.slaves.values():
            if not slave.promoted and not slave.reconf and not slave.link.disconnected:
                _say(sentinel, master, "+slave-reconf-sent-be", slave)
                slave.reconf = "sent"
                orders.slaveof(sentinel, master, slave, master.promoted, master.mark)


def switch_to_promoted(sentinel: Sentinel, master: Master) -> None:
    """The leader's own +switch-master."""
    chosen = master.promoted
    if chosen is not None:
        switch(sentinel, master, chosen.name, chosen.host, chosen.port)


def switch(sentinel: Sentinel, master: Master, name: str, host: str, port: int) -> None:
    """Another instance is the master now (sentinelResetMasterAndChangeAddress)."""
    old, t, like = master.entry, sentinel.now, master.slaves.get(name)
    text = f"{master.name} {old.host} {old.port} {host} {port}"
    master.mark = sentinel.say("+switch-master", text, master.mark)
    known = {s.name: s for s in master.slaves.values() if s.name != name}
    if old.name != name:
        known[old.name] = old
    master.entry = memory.entry(sentinel, "master", name, host, port, like)
    master.entry.mark = master.mark
    master.slaves = {
        n: memory.entry(sentinel, "slave", n, s.host, s.port, s) for n, s in known.items()
    }
    for slave in master.slaves.values():
        sentinel.say("+slave", master.describe(slave), master.mark)
    master.state, master.state_time, master.start = NONE, t, NEVER
    master.promoted, master.leader = None, ""
    sentinel.flush()
    sentinel.tell()
