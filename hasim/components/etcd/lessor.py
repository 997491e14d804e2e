"""Leases: only the leader lets them expire, and only when its scan comes by.

Source: etcd 3.4 lease/lessor.go (runLoop, revokeExpiredLeases, Promote).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from hasim.components.etcd.store import Revoke
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.etcd.member import Member

SCAN_S = 0.5  # source: lease/lessor.go runLoop: time.After(500 * time.Millisecond)
# Source: lease/lessor.go: minLeaseTTL = ceil(3/2 x election timeout), in whole seconds.
MIN_TTL_TIMEOUTS = 1.5


class Lessor:
    """Sleeps until the first lease can have expired, then acts at its next scan."""

    def __init__(self, member: Member):
        self.member = member
        self.bell = member.env.event()
        self.running = False
        phase = member.world.draw(f"etcd {member.name}", member.p.epoch, "lease scan")
        self.scan_ns = int(member.env.now) + round(SCAN_S * phase * NS)

    def lead(self) -> None:
        """The member leads from now on."""
        if not self.running:
            self.running = True
            self.member.world.spawn(self._run(), f"{self.member.name} lessor")
        self.wake()

    def wake(self) -> None:
        """A lease is new or has gone."""
        if not self.bell.triggered:
            self.bell.succeed()

    def _run(self) -> Generator[Any, Any, None]:
        member = self.member
        env = member.env
        while member.p.alive:
            self.bell = env.event()
            due = self._due()
            waits = [self.bell] if due is None else [self.bell, env.timeout(due - env.now)]
            yield env.any_of(waits)
            yield from member.p.awake()
            if due is not None and env.now >= due and member.leads and member.has_quorum():
                yield from self._scan()

    def _due(self) -> int | None:
        """The first scan at or after the next expiry; a moment later if it could not act."""
        if not self.member.leads:
            return None
        expiry = self.member.store.next_expiry_ns()
        if expiry is None:
            return None
        step = round(SCAN_S * NS)
        at = max(expiry, int(self.member.env.now) + 1)
        return self.scan_ns + -(-(at - self.scan_ns) // step) * step

    def _scan(self) -> Generator[Any, Any, None]:
        member = self.member
        for number in member.store.expired(member.env.now):
            yield member.propose(Revoke(number))
