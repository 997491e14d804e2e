"""Which acknowledged writes survive: branches of history of one replicated set of nodes.

A node that starts to accept writes opens a branch, forked from another branch after so many of its
writes. At the end the newest branch and its ancestors are what is left; every other write that was
acknowledged is lost. Two open branches at once are split brain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hasim.units import NS


@dataclass(frozen=True, slots=True)
class Position:
    """A point of history: so many writes of a branch (and all that the branch was forked from)."""

    branch: Branch
    count: int


@dataclass(slots=True, eq=False)
class Branch:
    """The writes that one node accepted between two of its role changes.

    fork: what it began with, None for an empty node. base: World.commits of the node at its begin.
    closed: its number of writes, None while it is open (`count` asks the data plane then).
    confirms: (writes so far, is each following one confirmed by as many replicas as was asked).
    """

    number: int
    node: str
    fork: Position | None
    base: int
    began_ns: int
    closed: int | None = None
    closed_ns: int = -1
    gaps: list[tuple[int, int]] = field(default_factory=list)  # (closed, reopened) in ns
    confirms: list[tuple[int, bool]] = field(default_factory=list)

    def confirmed(self, first: int, last: int) -> int:
        """How many of the writes first < n <= last were confirmed."""
        ends = [n for n, _ in self.confirms[1:]] + [last]
        rows = zip(self.confirms, ends, strict=False)
        return sum(max(0, min(end, last) - max(n, first)) for (n, on), end in rows if on)


@dataclass(slots=True)
class DataDir:
    """What a PostgreSQL server finds on disk; a manager makes and edits it between two starts.

    system: the replicated set that it belongs to (its system identifier), "" before initdb.
    position: what it holds, None: nothing of its own yet (a fresh initdb, or a standby whose base
    backup comes from `follow`). standby: standby.signal is there. follow: the instance that
    primary_conninfo leads to. clean: the last stop wrote a shutdown checkpoint. diverged: it has
    writes that its upstream does not have.
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


@dataclass(slots=True)
class Cluster:
    """One replicated set. commits: World.commits; now: the control plane's clock in ns."""

    name: str
    commits: Callable[[str], int]
    now: Callable[[], int]
    branches: list[Branch] = field(default_factory=list)

    def open(self, node: str, fork: Position | None, *, aside: bool = False) -> Branch:
        """The node accepts writes from now on, on top of `fork` (None: it is empty). aside: it is
        an old master that has come back and will be demoted: another branch stays the newest.
        """
        branch = Branch(len(self.branches), node, fork, self.commits(node), self.now())
        self.branches.insert(len(self.branches) - aside, branch)
        return branch

    def prefer(self, branch: Branch) -> None:
        """The others have thrown away theirs and copied this one: it is the newest."""
        self.branches.remove(branch)
        self.branches.append(branch)

    def close(self, branch: Branch) -> None:
        """The node accepts no more (it is dead, demoted, stopped). Closing twice is harmless."""
        if branch.closed is None:
            branch.closed = self.count(branch)
            branch.closed_ns = self.now()

    def reopen(self, branch: Branch) -> None:
        """The node accepts writes again on top of all that it had: the same branch goes on."""
        if branch.closed is not None:
            branch.gaps.append((branch.closed_ns, self.now()))
            branch.closed, branch.closed_ns = None, -1

    def count(self, branch: Branch) -> int:
        """Writes acknowledged on the branch so far."""
        if branch.closed is not None:
            return branch.closed
        return self.commits(branch.node) - branch.base

    def contains(self, position: Position, other: Position) -> bool:
        """Is `other` part of the history that leads to `position`?"""
        at: Position | None = position
        while at is not None:
            if at.branch is other.branch:
                return other.count <= at.count
            at = at.branch.fork
        return False

    def confirm(self, branch: Branch, on: bool) -> None:
        """From now on each write of the branch is (not) confirmed by the replicas asked for."""
        if not branch.confirms or branch.confirms[-1][1] != on:
            branch.confirms.append((self.count(branch), on))

    def lost(self) -> int:
        """Acknowledged writes that the newest branch does not hold."""
        kept = self._kept()
        return sum(max(0, self.count(b) - kept.get(b.number, 0)) for b in self.branches)

    def lost_confirmed(self) -> int:
        """Those of them of which enough replicas had said that they have them (Redis: WAIT)."""
        kept = self._kept()
        return sum(b.confirmed(kept.get(b.number, 0), self.count(b)) for b in self.branches)

    def _kept(self) -> dict[int, int]:
        """Branch -> how many of its writes the newest one holds."""
        if not self.branches:
            return {}
        newest = self.branches[-1]
        kept = {newest.number: self.count(newest)}
        at = newest.fork
        while at is not None:
            kept[at.branch.number] = at.count
            at = at.branch.fork
        return kept

    def split_brain_s(self, since_ns: int = 0) -> float:
        """Seconds after since_ns in which two or more branches were open."""
        marks = []
        for b in self.branches:
            end = self.now() if b.closed is None else b.closed_ns
            edges = [b.began_ns, *(t for gap in b.gaps for t in gap), end]
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                if stop > max(since_ns, start):
                    marks += [(max(since_ns, start), 1), (stop, -1)]
        total, open_now, last = 0, 0, 0
        for t, step in sorted(marks):
            total += t - last if open_now > 1 else 0
            open_now, last = open_now + step, t
        return total / NS
