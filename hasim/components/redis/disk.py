"""What a Redis server keeps: snapshots, the append-only file, the role that was rewritten.

Source: Redis documentation, "Redis persistence"; src/rdb.c, src/aof.c and src/server.c
(serverCron, save points) 7.0.15.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hasim.components.redis.config import RedisConfig
from hasim.lineage import Position
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.lineage import Branch
    from hasim.sim.world import World

FAR = 10**18  # source: our choice, after every time
# appendfsync everysec: what a power cut takes. Source: redis.conf, APPEND ONLY MODE.
FSYNC_NS = NS


@dataclass(slots=True)
class Disk:
    """Machine.disks["redis:<instance>"]. position: the dataset, None: there is none.

    replid: run id of the history that an RDB file remembers, so that a replica can resume with a
    partial resync. replicaof: the role that CONFIG REWRITE saved; None: as the files say. full:
    (from, to) in which there was no space for a snapshot.
    """

    position: Position | None = None
    replid: str = ""
    replicaof: tuple[str, str, int] | tuple[()] | None = None
    full: list[tuple[int, int]] = field(default_factory=list)


def count_at(world: World, branch: Branch, t_ns: int) -> int:
    """Writes of an open branch that were acknowledged by t_ns."""
    total = world.commits(branch.node) - branch.base
    return max(0, total - world.commits_since(branch.node, t_ns))


def kept(
    world: World,
    config: RedisConfig,
    branch: Branch,
    since_ns: int,
    power_cut: bool,
    full: Sequence[tuple[int, int]] = (),
) -> int | None:
    """How many writes of its branch a master finds again after it was killed; None: it keeps
    nothing of its own (no append-only file, no snapshot yet).
    """
    now = int(world.env.now)
    if config.appendonly:
        if not power_cut or config.appendfsync == "always":
            return count_at(world, branch, now)
        lost = FSYNC_NS if config.appendfsync == "everysec" else 30 * FSYNC_NS
        return count_at(world, branch, now - lost)
    saved = last_snapshot(world, config, branch, since_ns, now, full)
    return None if saved is None else count_at(world, branch, saved)


def last_snapshot(
    world: World,
    config: RedisConfig,
    branch: Branch,
    since_ns: int,
    now: int,
    full: Sequence[tuple[int, int]] = (),
) -> int | None:
    """When the last snapshot was taken: a `save` rule asks for some seconds and some writes. None
    is while the disk is full.
    """
    last, found = since_ns, None
    for _ in range(1000):
        times = [_met(world, branch, last, now, s, n) for s, n in config.save]
        due = min((t for t in times if t is not None), default=None)
        due = next((b for a, b in full if due is not None and a <= due < b), due)
        if due is None or due > now:
            return found
        last = found = due
    return found


def _met(
    world: World, branch: Branch, last: int, now: int, seconds: int, writes: int
) -> int | None:
    """The first moment at which a rule holds; None if it does not by now."""
    base, low, high = count_at(world, branch, last), last, now
    if count_at(world, branch, now) - base < writes or last + seconds * NS > now:
        return None
    while high - low > NS // 10:
        middle = (low + high) // 2
        if count_at(world, branch, middle) - base >= writes:
            high = middle
        else:
            low = middle
    return max(high, last + seconds * NS)
