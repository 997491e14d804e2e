"""Clients' requests at one member: through the leader and a majority, or waiting for one.

Source: etcd 3.4 etcdserver/v3_server.go (processInternalRaftRequest, LeaseRenew, waitLeader).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hasim.components.etcd.store import Command

if TYPE_CHECKING:
    from hasim.components.etcd.member import Member

# A write waits for the disks of a majority. Source: etcd documentation, "Hardware
# recommendations" (wal_fsync p99 below 10 ms); measured, etcd 3.4.23 on the laboratory's disk.
FSYNC_S = 0.002

# How long a request may wait for a leader or a quorum. Source: etcdserver/config.go ReqTimeout
# (5 s and twice the election timeout).
REQUEST_S = 5.0

What = Command | Callable[[], Any]


class Requests:
    """What clients have asked this member and it has not answered yet."""

    def __init__(self, member: Member):
        self.member = member
        self.parked: list[tuple[What, Any]] = []

    def enqueue(self, what: What) -> Any:
        """("ok", value) or ("error", text), or an event with one of them."""
        if callable(what) and self.member.leads and self.member.has_quorum():
            return what()
        done = self.member.env.event()
        if not self._route(what, done):
            self.park(what, done)
        return done

    def park(self, what: Any, done: Any) -> None:
        """Wait for a leader with a quorum; not for ever."""
        self.parked.append((what, done))
        limit_s = REQUEST_S + 2 * self.member.config.election_s
        timer = self.member.world.seconds(limit_s)
        timer.callbacks.append(lambda _: self._expire(done))

    def _expire(self, done: Any) -> None:
        if not done.triggered:
            self.parked = [x for x in self.parked if x[1] is not done]
            done.succeed(("error", "etcdserver: request timed out"))

    def serve_parked(self) -> None:
        """There may be a leader now."""
        if not self.member.leader:
            return
        self.member.ready = True
        waiting, self.parked = self.parked, []
        for what, done in waiting:
            if not done.triggered and not self._route(what, done):
                self.parked.append((what, done))

    def _route(self, what: What, done: Any) -> bool:
        """Send a request on its way through the leader; False: there is none now."""
        member = self.member
        if not member.leader or not (member.leads or member.leader_heard()):
            return False
        leader = member.member(member.leader)
        if leader is None or not leader.has_quorum():
            return False
        takes_s = 0.0
        if not member.leads:
            takes_s = 2 * member.machine.one_way_s(member.name, member.leader)
        if not callable(what):
            takes_s += leader.majority_s() + FSYNC_S
        if not takes_s:
            self._decide(what, done)
            return True
        timer = member.world.seconds(takes_s)
        timer.callbacks.append(lambda _: self._decide(what, done))
        return True

    def _decide(self, what: What, done: Any) -> None:
        """The request has been to the leader and back; what became of it?"""
        if done.triggered or not self.member.p.alive:
            return
        leader = self.member.member(self.member.leader) if self.member.leader else None
        if leader is None or not leader.leads or not leader.has_quorum():
            self.park(what, done)
        else:
            done.succeed(what() if callable(what) else leader.commit(what))
