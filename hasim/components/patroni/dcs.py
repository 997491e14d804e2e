"""The member's session with etcd: its lease, the leader lock, and the keys that it writes.

Read beside patroni/dcs/etcd3.py (class Etcd3) and patroni/dcs/__init__.py (update_leader), 4.1.5.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from hasim.components.patroni.client import DcsError
from hasim.components.patroni.view import Entry, Failover, View, view_of
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.patroni.node import Node

Steps = Generator[Any, Any, Any]


class Dcs:
    """Every method is a generator; DcsError when etcd cannot be reached in time."""

    def __init__(self, node: Node):
        self.node = node
        self.lease = 0
        self.refreshed_ns = -(10**18)
        self.status = -1.0
        self.failsafe: dict[str, str] = {}

    # ---- reading -----------------------------------------------------------------------------
    def cluster(self) -> Steps:
        """The watched copy of the keys; waits up to retry_timeout for it to be there."""
        cache, node = self.node.cache, self.node
        limit = (
            node.env.timeout(round(node.dynamic.retry_timeout * NS)) if not cache.ready else None
        )
        while not cache.ready:
            if limit is None or limit.processed:
                raise DcsError
            yield node.env.any_of([cache.changed, limit])
            yield from node.awake()
        return view_of(cache.entries)

    # ---- the lease ---------------------------------------------------------------------------
    def refresh_lease(self, force: bool = False) -> Steps:
        """Keepalive, or a new lease. Without force at most once in loop_wait."""
        age_s = (self.node.env.now - self.refreshed_ns) / NS
        if not force and self.lease and age_s < self.node.dynamic.loop_wait:
            return
        client = self.node.client
        if self.lease:
            lease = self.lease
            _, alive = yield from client.call(lambda m: m.renew(lease))
            if not alive:
                self.lease = 0
        if not self.lease:
            ttl_s = float(self.node.dynamic.ttl)
            _, self.lease = yield from client.call(lambda m: m.grant(ttl_s))
        self.refreshed_ns = int(self.node.env.now)

    # ---- the leader lock ---------------------------------------------------------------------
    def acquire(self) -> Steps:
        """Create the leader key, if there is none. True: this member has it now."""
        yield from self.refresh_lease()
        got = yield from self._create_leader()
        if got is None:  # the lease had expired
            self.lease = 0
            yield from self.refresh_lease()
            got = yield from self._create_leader()
        return bool(got)

    def _create_leader(self) -> Steps:
        status, mod = yield from self._put("leader", self.node.config.name, self.lease, create=0)
        return None if status == "error" else bool(mod)

    def update_leader(self, view: View, lsn: float | None) -> Steps:
        """Refresh the lease, then take the key along to a new lease if need be; then /status and
        /failsafe. False: somebody else has the lock.
        """
        yield from self.refresh_lease(force=True)
        if view.lease != self.lease:
            name = self.node.config.name
            status, mod = yield from self._put("leader", name, self.lease, held_by=name)
            if status == "error" or not mod:
                return False
        if lsn is not None and lsn != self.status:
            self.status = lsn
            yield from self._write_status(lsn)
        if self.node.dynamic.failsafe_mode:
            members = {m.name: m.api for m in view.members.values()}
            members[self.node.config.name] = self.node.name
            if members != view.failsafe:
                yield from self.write("failsafe", members)
        return True

    def _write_status(self, lsn: float) -> Steps:
        server = self.node.server if self.node.dynamic.use_slots else None
        slots = server.slot_positions() if server is not None else self.node.view.slots
        yield from self.write("status", (lsn, tuple(slots.items())))

    def delete_leader(self, lsn: float | None = None) -> Steps:
        """Give the lock back, the last position first, so that the others know how far it went."""
        if lsn is not None:
            yield from self._write_status(lsn)
        name = self.node.config.name
        try:
            yield from self.node.client.once(lambda m: m.delete(self._key("leader"), name))
        except DcsError:
            return False
        self.node.cache.put("leader", None)
        return True

    # ---- other keys --------------------------------------------------------------------------
    def write(self, key: str, value: Any, create: int | None = None) -> Steps:
        """Write a key once, without retries; the revision, or 0 if it did not work out."""
        where = self._key(key)
        try:
            status, revision = yield from self.node.client.once(
                lambda m: m.put(where, value, create=create)
            )
        except DcsError:
            return 0
        if status == "ok" and revision:
            self._remember(key, value, 0, revision)
            return revision
        return 0

    def touch_member(self, data: Any) -> Steps:
        """Keep the lease, and the member's key if something in it is new."""
        key = f"members/{self.node.config.name}"
        try:
            yield from self.refresh_lease()
            old = self.node.cache.entries.get(key)
            if old is not None and old.value == data and old.lease == self.lease:
                return
            where, lease = self._key(key), self.lease
            status, revision = yield from self.node.client.once(lambda m: m.put(where, data, lease))
        except DcsError:
            return
        if status == "error":
            self.lease = 0
        elif revision:
            self._remember(key, data, self.lease, revision)

    def clear_failover(self) -> Steps:
        """The request has been dealt with."""
        if self.node.view.failover is not None:
            yield from self.write("failover", None)

    def ask_failover(self, leader: str, candidate: str) -> Steps:
        """What POST /switchover writes."""
        return (yield from self.write("failover", Failover(leader, candidate)))

    def _put(
        self, key: str, value: Any, lease: int, create: int | None = None, held_by: Any = None
    ) -> Steps:
        where = self._key(key)
        status, revision = yield from self.node.client.call(
            lambda m: m.put(where, value, lease, create=create, held_by=held_by)
        )
        if status == "ok" and revision:
            self._remember(key, value, lease, revision)
        elif status == "ok":
            self.node.cache.restart()  # the copy is stale
        return status, revision

    def _key(self, key: str) -> str:
        return self.node.config.prefix + key

    def _remember(self, key: str, value: Any, lease: int, mod: int) -> None:
        self.node.cache.put(key, Entry(value, lease, mod))
