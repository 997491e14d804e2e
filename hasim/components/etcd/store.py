"""What etcd keeps: keys with revisions, and leases. Pure: no time of its own, no network.

Source: etcd 3.4 API guide (KV, Lease, Watch); lease/lessor.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hasim.units import NS


@dataclass(frozen=True, slots=True)
class Entry:
    """One key. create and mod are revisions; lease 0: none."""

    key: str
    value: Any
    create: int
    mod: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch: the new entry, or None when the key was deleted (then `mod` says
    at which revision).
    """

    key: str
    entry: Entry | None
    mod: int


@dataclass(slots=True)
class Lease:
    """Granted for ttl_s. expires_ns is meaningful on the leader only."""

    number: int
    ttl_s: float
    expires_ns: int
    keys: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key if the conditions hold. create: create_revision must be this (0: the key must
    not exist); mod: mod_revision; held_by: the present value must be this, or the key be absent.
    """

    key: str
    value: Any
    lease: int = 0
    create: int | None = None
    mod: int | None = None
    held_by: Any = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key if its value is `value` (None: whatever it is)."""

    key: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Grant:
    """A new lease."""

    ttl_s: float


@dataclass(frozen=True, slots=True)
class Revoke:
    """End a lease: its keys are deleted."""

    lease: int


Command = Put | Delete | Grant | Revoke
NO_LEASE = ("error", "requested lease not found")


@dataclass(slots=True)
class Keys:
    """The keys as one member has applied them."""

    revision: int = 1
    entries: dict[str, Entry] = field(default_factory=dict)

    def under(self, prefix: str) -> dict[str, Entry]:
        """Every key that starts with the prefix."""
        return {k: e for k, e in self.entries.items() if k.startswith(prefix)}

    def take(self, change: Change) -> None:
        """Apply a change that the cluster has committed."""
        self.revision = change.mod
        if change.entry is None:
            self.entries.pop(change.key, None)
        else:
            self.entries[change.key] = change.entry


class Store:
    """The committed state: what a majority has on disk. It survives its processes."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.leases: dict[int, Lease] = {}
        self.granted = 0
        self.term = 0
        self.log: list[Change] = []

    def apply(self, command: Command, now_ns: int) -> tuple[str, Any]:
        """("ok", answer) or ("error", text). A condition that does not hold answers ok, None."""
        if isinstance(command, Grant):
            self.granted += 1
            lease = Lease(self.granted, command.ttl_s, now_ns + round(command.ttl_s * NS))
            self.leases[lease.number] = lease
            return "ok", lease.number
        if isinstance(command, Revoke):
            return self._revoke(command.lease)
        if isinstance(command, Delete):
            return self._delete(command)
        return self._put(command)

    def _put(self, put: Put) -> tuple[str, Any]:
        if put.lease and put.lease not in self.leases:
            return NO_LEASE
        old = self.keys.entries.get(put.key)
        if put.create is not None and (old.create if old else 0) != put.create:
            return "ok", None
        if put.mod is not None and (old.mod if old else 0) != put.mod:
            return "ok", None
        if put.held_by is not None and old is not None and old.value != put.held_by:
            return "ok", None
        mod = self.keys.revision + 1
        entry = Entry(put.key, put.value, old.create if old else mod, mod, put.lease)
        if old is not None and old.lease in self.leases:
            self.leases[old.lease].keys.remove(put.key)
        if put.lease:
            self.leases[put.lease].keys.append(put.key)
        self._log(Change(put.key, entry, mod))
        return "ok", mod

    def _delete(self, command: Delete) -> tuple[str, Any]:
        old = self.keys.entries.get(command.key)
        if old is None or (command.value is not None and old.value != command.value):
            return "ok", None
        if old.lease in self.leases:
            self.leases[old.lease].keys.remove(command.key)
        mod = self.keys.revision + 1
        self._log(Change(command.key, None, mod))
        return "ok", mod

    def _revoke(self, number: int) -> tuple[str, Any]:
        lease = self.leases.pop(number, None)
        if lease is None:
            return NO_LEASE
        mod = self.keys.revision + 1
        for key in sorted(lease.keys):
            self._log(Change(key, None, mod))
        return "ok", mod

    def _log(self, change: Change) -> None:
        self.keys.take(change)
        self.log.append(change)

    def renew(self, number: int, now_ns: int) -> bool:
        """Keepalive: expiry := now + TTL. False: there is no such lease."""
        lease = self.leases.get(number)
        if lease is None:
            return False
        lease.expires_ns = now_ns + round(lease.ttl_s * NS)
        return True

    def promote(self, now_ns: int, extend_s: float) -> None:
        """A new leader gives every lease its whole TTL and `extend_s` more.

        Source: lease/lessor.go (Promote: refresh(extend)); lease checkpoints are off in 3.4.
        """
        for lease in self.leases.values():
            lease.expires_ns = now_ns + round((lease.ttl_s + extend_s) * NS)

    def next_expiry_ns(self) -> int | None:
        """When the first lease expires."""
        return min((x.expires_ns for x in self.leases.values()), default=None)

    def expired(self, now_ns: int) -> list[int]:
        """Leases that have expired, the oldest first."""
        due = [x for x in self.leases.values() if x.expires_ns <= now_ns]
        return [x.number for x in sorted(due, key=lambda x: (x.expires_ns, x.number))]
