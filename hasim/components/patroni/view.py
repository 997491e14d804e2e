"""The cluster as the keys in the DCS describe it.

Source: patroni/dcs/etcd3.py (_cluster_from_nodes), patroni/dcs/__init__.py (Cluster), 4.1.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hasim.components.patroni.config import Dynamic


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of our own copy, as far as Patroni looks at it."""

    value: Any
    lease: int
    mod: int


@dataclass(frozen=True, slots=True)
class MemberData:
    """Key members/<name>. api and server: instances. The WAL position that Patroni keeps there,
    too, is left out: nobody decides by it, and it would be a write in every cycle.
    """

    name: str
    api: str
    server: str
    role: str = "replica"
    state: str = "stopped"
    timeline: int = 0
    nofailover: bool = False
    nosync: bool = False


@dataclass(frozen=True, slots=True)
class SyncState:
    """Key sync: the leader and the members that may follow it. mod: its revision, 0: no key."""

    leader: str = ""
    members: tuple[str, ...] = ()
    mod: int = 0


@dataclass(frozen=True, slots=True)
class Failover:
    """Key failover: a switchover or failover that somebody asked for."""

    leader: str = ""
    candidate: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """One reading of all keys. lease and mod are of the leader key."""

    leader: str = ""
    lease: int = 0
    mod: int = 0
    members: Mapping[str, MemberData] = field(default_factory=dict)
    last_lsn: float = 0.0
    slots: Mapping[str, float] = field(default_factory=dict)  # positions of the leader's
    sync: SyncState = SyncState()
    failover: Failover | None = None
    failsafe: Mapping[str, str] = field(default_factory=dict)
    system: str = ""
    config: Dynamic | None = None

    @property
    def unlocked(self) -> bool:
        """Has nobody the leader lock?"""
        return not self.leader

    @property
    def leader_data(self) -> MemberData | None:
        """What the leader says of itself."""
        return self.members.get(self.leader)

    def with_leader(self, name: str) -> View:
        """The same with another leader (failsafe mode injects the real one)."""
        return replace(self, leader=name, lease=0)


def view_of(entries: Mapping[str, Any]) -> View:
    """The view behind a copy of the keys (without their common prefix)."""

    def value(key: str, default: Any = None) -> Any:
        return entries[key].value if key in entries else default

    lock = entries.get("leader")
    leader, members = value("sync", ("", ()))
    last_lsn, slots = value("status", (0.0, ()))
    return View(
        leader=lock.value if lock else "",
        lease=lock.lease if lock else 0,
        mod=lock.mod if lock else 0,
        members={k[8:]: e.value for k, e in sorted(entries.items()) if k.startswith("members/")},
        last_lsn=last_lsn,
        slots=dict(slots),
        sync=SyncState(leader, members, entries["sync"].mod if "sync" in entries else 0),
        failover=value("failover"),
        failsafe=value("failsafe", {}),
        system=value("initialize", ""),
        config=value("config"),
    )
