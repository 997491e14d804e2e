"""What a PostgreSQL server keeps on disk: it survives its processes and those of its host.

`machine.disks["pgdata:<instance>"]` is the directory as a manager (Patroni, pg_rewind,
pg_basebackup) may edit it between two starts; `pgslots:<instance>` is what only the server writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hasim.lineage import DataDir

if TYPE_CHECKING:
    from hasim.components.base import Machine


@dataclass(slots=True)
class Slot:
    """A physical replication slot. restart_bytes: WAL is kept from here on; None: not reserved."""

    name: str
    restart_bytes: float | None = None
    active: bool = False
    lost: bool = False


@dataclass(slots=True)
class Kept:
    """The server's own part of its disk.

    redo_bytes: where crash recovery begins (redo point of the last complete checkpoint).
    removed_bytes: WAL before this point is gone. full: nothing can be written any more. seen_off:
    the standbys that have the checkpoint of its last stop as a primary, None: it wrote none.
    """

    redo_bytes: float = 0.0
    removed_bytes: float = 0.0
    full: bool = False
    clock_s: float = 0.0  # how far its host's clock is ahead
    told: bool = False  # a start that can never work was reported
    seen_off: tuple[str, ...] | None = None
    slots: dict[str, Slot] = field(default_factory=dict)


def kept(machine: Machine, name: str) -> Kept:
    """The server's own part of the disk of an instance."""
    return machine.disks.setdefault(f"pgslots:{name}", Kept())


def data_dir(machine: Machine, name: str) -> DataDir:
    """The data directory of an instance; an empty one if nobody has made it yet."""
    return machine.disks.setdefault(f"pgdata:{name}", DataDir())


def exists(machine: Machine, name: str) -> bool:
    """Has the directory been made (by initdb, a base backup, a manager)?"""
    disk = machine.disks.get(f"pgdata:{name}")
    return disk is not None and bool(disk.system)
