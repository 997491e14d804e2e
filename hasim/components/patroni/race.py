"""The leader race: may this member take the lock?

Read beside patroni/ha.py (is_healthiest_node, _is_healthiest_node, is_failover_possible,
manual_failover_process_no_leader), 4.1.5.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

from hasim.components.patroni.client import Gone
from hasim.components.patroni.dcs import Steps
from hasim.components.patroni.rest import Status, ask, status_of
from hasim.components.patroni.view import MemberData

if TYPE_CHECKING:
    from hasim.components.patroni.node import Node


def healthiest(node: Node) -> Steps:
    """True: try to take the lock."""
    server = node.server
    if server is None or not node.ready:
        return False
    if node.is_primary:
        known = max((m.timeline for m in node.old_view.members.values()), default=0)
        behind = server.timeline < known
        if behind:
            node.log(f"My timeline {server.timeline} is behind last known cluster timeline {known}")
        return not behind
    if node.config.nofailover:
        return False
    sync, synchronous = node.view.sync, node.dynamic.synchronous and node.view.sync.leader
    mine = node.config.name in (*sync.members, sync.leader)
    if node.view.failover is not None:
        if synchronous and not mine:
            return False
        return (yield from _asked_for(node))
    if not node.watchdog.healthy:
        node.log("Watchdog device is not usable")
        return False
    if synchronous and node.dynamic.synchronous_mode == "on" and not mine:
        return False
    members = _others(node)
    if synchronous and node.dynamic.synchronous_mode == "on":
        members = [m for m in members if m.name in (*sync.members, sync.leader)]
    return (yield from _best(node, members))


def _others(node: Node) -> list[MemberData]:
    """Every member that is known, from now or from when there was a leader."""
    known = {**node.old_view.members, **node.view.members}
    if node.dynamic.failsafe_mode:
        for name, api in node.view.failsafe.items():
            known.setdefault(name, MemberData(name, api, ""))
    return [m for m in known.values() if m.name != node.config.name]


def _best(node: Node, members: Iterable[MemberData], check_lag: bool = True) -> Steps:
    """Nobody is a running primary, nobody is ahead; and this one is not too far behind."""
    lsn = node.seen_lsn  # read at the start of the cycle, older than what the others answer
    behind = node.view.last_lsn - lsn
    if check_lag and behind > node.dynamic.maximum_lag_on_failover:
        node.log("My wal position exceeds maximum replication lag", f"{behind:.0f} bytes behind")
        return False
    if node.dynamic.check_timeline:
        leader = node.old_view.leader_data
        if leader is not None and node.server.timeline < leader.timeline:
            node.log("My timeline is behind last known cluster timeline")
            return False
    statuses = yield from statuses_of(node, [m for m in members if not m.nofailover])
    votes, ahead = 0, 0
    former = node.old_view.leader
    synchronous = node.dynamic.synchronous and node.view.sync.leader
    for status in statuses:
        if status.cannot:
            continue
        if not status.in_recovery:
            node.log(f"Primary ({status.name}) is still alive")
            return False
        if lsn < status.lsn:
            ahead += 1
            node.log(f"Wal position of {status.name} is ahead of my wal position")
            if not synchronous or status.name != node.view.sync.leader:
                return False
        elif status.name in node.view.sync.members:
            votes += 1
        low = lsn == status.lsn and node.config.failover_priority < status.failover_priority
        if low and status.name != former:
            return False
    if node.dynamic.synchronous_mode == "quorum" and synchronous:
        return _quorum(node, votes, ahead)
    return True


def _quorum(node: Node, votes: int, ahead: int) -> bool:
    """synchronous_mode: quorum: enough of the voters must not be ahead."""
    sync = node.view.sync
    votes += node.config.name in sync.members
    needed = len(sync.members) - node.dynamic.synchronous_node_count + 1
    return votes >= needed or (ahead == 0 and sync.leader == node.config.name)


def statuses_of(node: Node, members: Iterable[MemberData]) -> Steps:
    """GET /patroni of all of them in parallel, 2 s at most."""
    found: list[Status] = []

    def one(member: MemberData) -> Generator[Any, Any, None]:
        try:
            status = yield from ask(node, member.api, status_of)
        except Gone:
            return
        found.append(status or Status(member.name))

    asked = [node.world.spawn(one(m), f"{node.name} asks {m.name}") for m in members]
    if asked:
        yield node.env.all_of(asked)
        yield from node.awake()
    return sorted(found, key=lambda s: s.name)


def _asked_for(node: Node) -> Steps:
    """A switchover is under way: the candidate takes the lock; others only if it cannot."""
    failover = node.view.failover
    if failover is None:
        return False
    if failover.candidate == node.config.name:
        return (yield from _best(node, (), check_lag=failover.leader != ""))
    if failover.candidate:
        member = node.view.members.get(failover.candidate)
        statuses = yield from statuses_of(node, [member] if member else [])
        if any(not s.cannot for s in statuses):
            return False
        return (yield from _best(node, _others(node)))
    if failover.leader == node.config.name:
        return False
    return (yield from _best(node, _others(node)))


def failover_possible(node: Node, lsn: float = 0.0) -> Steps:
    """Is there a member that may be promoted (and has received everything up to lsn)?"""
    members = [m for m in _others(node) if m.name in node.view.members and not m.nofailover]
    if node.dynamic.synchronous and node.view.sync.leader:
        members = [m for m in members if m.name in node.view.sync.members]
    failover = node.view.failover
    if failover is not None and failover.candidate:
        members = [m for m in members if m.name == failover.candidate]
    statuses = yield from statuses_of(node, members)
    limit = node.dynamic.maximum_lag_on_failover
    for status in statuses:
        if status.cannot:
            continue
        if lsn and status.lsn < lsn:
            node.log(f"Member {status.name} has not received the shutdown checkpoint yet")
        elif not lsn and node.view.last_lsn - status.lsn > limit:
            node.log(f"Member {status.name} exceeds maximum replication lag")
        else:
            return True
    return False
