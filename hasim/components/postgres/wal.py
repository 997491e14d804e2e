"""WAL positions: how many bytes a branch's writes took, and when each was acknowledged.

A position counts commits (hasim.lineage); links, disks and replay count bytes. The two are tied by
one Line for each branch. The first change of a page after a checkpoint adds an image of the whole
page, so a commit is dearest right after one.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from math import exp
from typing import TYPE_CHECKING

from hasim.lineage import Position

if TYPE_CHECKING:
    from hasim.components.base import Machine
    from hasim.lineage import Branch, Cluster
    from hasim.sim.world import World

# Where the WAL of a new cluster begins. Source: measured, pg_current_wal_lsn() after initdb of
# PostgreSQL 15 lies in segment 000000010000000000000001, at about 0/1500000.
FIRST_BYTES = 0x1500000
PAGE_BYTES = 8192  # source: PostgreSQL manual, "Preset Options", block_size

# Pages that a commit changes, and pages that are changed again and again. Source: assumption; a
# row, an index entry and now and then another page; 32 MiB of hot pages.
PAGES_PER_COMMIT = 2.0
HOT_PAGES = 4096

# WAL of one commit where no profile says it. Source: assumption; a row of a few hundred bytes, its
# index entries and the commit record.
WAL_PER_COMMIT_BYTES = 1024.0

RING = 65_000  # source: World.commits_since is exact for the latest 65,536
STEP_NS = 500_000_000  # source: our choice; spacing of remembered (time, commits) points
GALLOP_NS = 1_000_000  # source: our choice; where the search for a commit's time begins
POINTS = 4096  # source: our choice; at one a second, more than an hour


@dataclass(slots=True)
class Line:
    """Bytes of WAL as a function of the commits of one branch."""

    start_bytes: float
    per_commit_bytes: float
    images: bool = True  # full_page_writes
    marks: list[tuple[int, float]] = field(default_factory=list)  # checkpoints: (count, bytes)

    def checkpoint(self, count: int) -> None:
        """From this commit on the first change of each page costs its image again."""
        self.marks.append((count, self.bytes_at(count)))

    def bytes_at(self, count: float) -> float:
        """The WAL position after so many commits."""
        at = bisect_right(self.marks, count, key=lambda mark: mark[0]) - 1
        begin, start = self.marks[at] if at >= 0 else (0, self.start_bytes)
        return start + self._cost(count - begin, at >= 0)

    def _cost(self, commits: float, after_checkpoint: bool) -> float:
        """Commits hit the hot pages at random: the share that is still to be imaged decays."""
        plain = commits * self.per_commit_bytes
        if not (self.images and after_checkpoint):
            return plain
        return plain + HOT_PAGES * PAGE_BYTES * (1 - exp(-PAGES_PER_COMMIT * commits / HOT_PAGES))

    def count_at(self, at_bytes: float) -> float:
        """How many commits lie whole before a WAL position."""
        at = bisect_right(self.marks, at_bytes, key=lambda mark: mark[1]) - 1
        begin, start = self.marks[at] if at >= 0 else (0, self.start_bytes)
        more = max(0.0, at_bytes - start)
        low, high = 0.0, more / self.per_commit_bytes
        while high - low > 1e-4:
            mid = (low + high) / 2
            low, high = (mid, high) if self._cost(mid, at >= 0) <= more else (low, mid)
        return begin + high


class History:
    """The WAL of one replicated set: its lines, and when each commit of a node was acknowledged."""

    def __init__(self, cluster: Cluster, world: World):
        self.cluster, self.world = cluster, world
        self.lines: dict[int, Line] = {}
        self._points: dict[str, list[tuple[int, int]]] = {}

    def begin(self, branch: Branch, per_commit_bytes: float, images: bool) -> None:
        """A branch's WAL goes on where its fork ends."""
        start = self.bytes_of(branch.fork) if branch.fork else float(FIRST_BYTES)
        self.lines[branch.number] = Line(start, per_commit_bytes, images)

    def bytes_of(self, position: Position | None) -> float:
        """The WAL position (LSN) of a point of history; comparable within one branch's past."""
        if position is None:
            return 0.0
        return self.lines[position.branch.number].bytes_at(position.count)

    def end(self, branch: Branch) -> Position:
        """All that the branch holds now."""
        return Position(branch, self.cluster.count(branch))

    def position_at(self, branch: Branch, at_bytes: float) -> Position:
        """The last whole commit before a WAL position, on the branch or what it was forked from."""
        while branch.fork is not None and at_bytes < self.lines[branch.number].start_bytes:
            branch = branch.fork.branch
        count = int(self.lines[branch.number].count_at(at_bytes) + 1e-3)
        return Position(branch, min(count, self.cluster.count(branch)))

    def checkpoint_before(self, position: Position) -> float:
        """Where the latest checkpoint at or before a point of history lies; 0: there is none."""
        at: Position | None = position
        while at is not None:
            marks = [b for n, b in self.lines[at.branch.number].marks if n <= at.count]
            if marks:
                return marks[-1]
            at = at.branch.fork
        return 0.0

    # ---- time --------------------------------------------------------------------------------
    def count_at(self, branch: Branch, t_ns: int) -> int:
        """Commits of the branch that were acknowledged by then."""
        return max(0, min(self._total(branch.node, t_ns) - branch.base, self._upto(branch)))

    def _upto(self, branch: Branch) -> int:
        return self.cluster.count(branch)

    def _total(self, node: str, t_ns: int) -> int:
        now = self.cluster.now()
        total = self.world.commits(node)
        if t_ns >= now:
            return total
        since = self.world.commits_since(node, t_ns)
        if since < RING:
            return total - since
        return self._remembered(node, t_ns)

    def _remembered(self, node: str, t_ns: int) -> int:
        """Older than the data plane's memory: between two remembered points."""
        points = self._points.get(node, [])
        at = bisect_right(points, t_ns, key=lambda point: point[0])
        t, n = points[at - 1] if at else (0, 0)
        u, m = points[at] if at < len(points) else (self.cluster.now(), self.world.commits(node))
        return n + (m - n) * (t_ns - t) // max(1, u - t)

    def remember(self, node: str) -> None:
        """Keep a point for later than the data plane's memory lasts."""
        points, now = self._points.setdefault(node, []), self.cluster.now()
        if not points or now - points[-1][0] >= STEP_NS:
            points.append((now, self.world.commits(node)))
            if len(points) > POINTS:
                del points[1::2]

    def time_of(self, branch: Branch, count: int) -> int:
        """When commit number `count` (from 1) of the branch was acknowledged."""
        wanted = branch.base + count
        low = high = self.cluster.now()
        back = GALLOP_NS
        while low > branch.began_ns and self._total(branch.node, low) >= wanted:
            high, low = low, max(branch.began_ns, low - back)
            back *= 4
        while high - low > 1000:
            mid = (low + high) // 2
            low, high = (low, mid) if self._total(branch.node, mid) >= wanted else (mid, high)
        return high


def history(machine: Machine, world: World, system: str) -> History:
    """The one History of a replicated set, with its Cluster in machine.clusters."""
    from hasim.lineage import Cluster

    if system not in machine.clusters:
        now = lambda: int(world.env.now)  # noqa: E731
        machine.clusters[system] = Cluster(system, world.commits, now)
    key = f"pgwal:{system}"
    if key not in machine.disks:
        machine.disks[key] = History(machine.clusters[system], world)
    return machine.disks[key]
