"""The data directory as Patroni handles it, and which history lies in it."""

from __future__ import annotations

from dataclasses import dataclass

from hasim.lineage import Position


@dataclass(slots=True)
class DataDir:
    """What a PostgreSQL server finds on disk (machine.disks["pgdata:<instance>"]); the fields that
    its component reads, here so that kinds of software need not know each other.
    """

    system: str = ""
    timeline: int = 1
    position: Position | None = None
    standby: bool = False
    follow: str = ""
    clean: bool = True
    diverged: bool = False


def common(a: Position | None, b: Position | None) -> Position | None:
    """The last point of history that two positions share; None: nothing."""
    mine = a
    while mine is not None:
        at = b
        while at is not None:
            if at.branch is mine.branch:
                return Position(at.branch, min(at.count, mine.count))
            at = at.branch.fork
        mine = mine.branch.fork
    return None


def is_behind(mine: Position | None, leader: Position | None) -> bool:
    """Is all of `mine` part of the leader's history? True as well for what is not known."""
    if mine is None or leader is None:
        return True
    shared = common(mine, leader)
    return shared is not None and shared.branch is mine.branch and shared.count == mine.count
