"""Checkpoints, and what they do to WAL: full page images, crash recovery, slots, a full disk.

Source: checkpointer.c, xlog.c (CreateCheckPoint, KeepLogSeg), slot.c
(InvalidateObsoleteReplicationSlots) of PostgreSQL 15; manual 30.5 "WAL Configuration".
"""

from __future__ import annotations

from collections.abc import Generator
from math import inf
from typing import TYPE_CHECKING

from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.postgres.primary import Primary
    from hasim.components.postgres.server import Postmaster


# How often the WAL written is compared with max_wal_size, a slot's limit and the disk: when half
# of what is left would be used up, within these bounds. Source: our choice.
LOOK_S = (1.0, 60.0)

# WAL is removed in whole files. Source: manual 20.17, wal_segment_size (initdb's default).
SEGMENT_BYTES = 16 * 1024 * 1024


class Retention:
    """One checkpointer and the space that WAL takes."""

    def __init__(self, server: Postmaster, primary: Primary):
        self.server, self.primary = server, primary
        self._looked = (0, 0.0)

    def start(self) -> None:
        """The server has become a primary: its WAL begins with a checkpoint."""
        kept = self.server.kept
        self.here_bytes = self.server.received_bytes()
        kept.redo_bytes = max(kept.redo_bytes, self.here_bytes)
        kept.removed_bytes = min(kept.removed_bytes, kept.redo_bytes)
        self.last_ns = self.server.now
        self.last_bytes = self.here_bytes
        self._looked = (self.server.now, self.here_bytes)
        self._image_again()
        self.server.world.spawn(self._run(), f"checkpointer {self.server.name}")

    def _run(self) -> Generator:
        server, config = self.server, self.server.config
        timeout_s = config.seconds("checkpoint_timeout")
        share = 1 + float(config.get("checkpoint_completion_target"))
        most = config.get("max_wal_size") / share
        while server.p.alive and not server.stopping:
            rate = self._rate()
            due_s = timeout_s - (server.now - self.last_ns) / NS
            left = min(most - (server.received_bytes() - self.last_bytes), self._free_bytes())
            look_s = min(max(left / rate / 2, LOOK_S[0]), LOOK_S[1]) if rate else LOOK_S[1]
            yield server.world.seconds(max(1e-3, min(due_s, look_s)))
            yield from server.p.awake()
            if not server.p.alive or server.stopping:
                return
            server.history.remember(server.name)
            if self._free_bytes() <= 0:
                server.kept.full = True
                server.panic(server.blame)
                return
            if server.now - self.last_ns >= timeout_s * NS or self._written() >= most:
                self._checkpoint()

    def _image_again(self) -> None:
        """After a checkpoint the first change of every page writes its image."""
        history, branch = self.server.history, self.primary.branch
        history.lines[branch.number].checkpoint(history.cluster.count(branch))

    def _written(self) -> float:
        return self.server.received_bytes() - self.last_bytes

    def _rate(self) -> float:
        """WAL bytes a second since the last look."""
        now, here = self.server.now, self.server.received_bytes()
        then, before = self._looked
        self._looked = (now, here)
        return (here - before) / (now - then) * NS if now > then else 0.0

    def _free_bytes(self) -> float:
        """What the file system of pg_wal can still take."""
        here = self.server.received_bytes()
        needed = here - min(self._needed_from(here), here)
        return self.server.config.free_disk_bytes - needed

    def _needed_from(self, here: float) -> float:
        """The oldest WAL that must stay."""
        kept = self.server.kept
        oldest = min(kept.redo_bytes, here - self.server.config.get("wal_keep_size"))
        for slot in kept.slots.values():
            if slot.restart_bytes is not None and not slot.lost:
                oldest = min(oldest, self._restart(slot.name, slot.restart_bytes))
        return max(0.0, oldest)

    def _restart(self, name: str, before: float) -> float:
        for row in self.server.senders.rows.values():
            if row.slot == name:
                row.flow.advance()
                return max(before, row.flow.received_bytes)
        return before

    def _checkpoint(self) -> None:
        """The redo point moves on; WAL that nobody needs is removed. An idle server skips it."""
        server, kept = self.server, self.server.kept
        here = server.received_bytes()
        self.last_ns = server.now
        if here <= self.last_bytes:
            return
        self.last_bytes = here
        self._image_again()
        before, kept.redo_bytes = kept.redo_bytes, here
        self._limit_slots(here)
        unused = min(before, self._needed_from(here))
        kept.removed_bytes = max(kept.removed_bytes, unused // SEGMENT_BYTES * SEGMENT_BYTES)

    def _limit_slots(self, here: float) -> None:
        """max_slot_wal_keep_size: a slot that holds more than this is invalidated."""
        server = self.server
        limit = server.config.get("max_slot_wal_keep_size")
        if limit == inf:
            return
        for slot in server.kept.slots.values():
            if slot.restart_bytes is None or slot.lost:
                continue
            if here - self._restart(slot.name, slot.restart_bytes) > limit:
                slot.lost, slot.active = True, False
                text = f'invalidating obsolete replication slot "{slot.name}"'
                origin = server.config.origin("max_slot_wal_keep_size")
                server.log(text, cause=server.blame, origin=origin)
                for row in tuple(server.senders.rows.values()):
                    if row.slot == slot.name:
                        row.conn.hang_up()
                        server.senders.drop(row)
