"""A disk that is full: a Redis server refuses writes and PING (MISCONF), or gives up.

Sentinel takes MISCONF for no answer, so that a master with a full disk is replaced.
Source: src/server.c 7.0.15 (processCommand, writeCommandsDeniedByDiskError, serverCron),
src/aof.c (flushAppendOnlyFile); each rule measured on 7.0.15 with a full tmpfs.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from hasim.components.redis.disk import FAR, last_snapshot
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.redis.server import Server
    from hasim.lineage import Branch

# After a failed snapshot the next try comes when more than 5 whole seconds have passed. Source:
# server.h, CONFIG_BGSAVE_RETRY_DELAY; measured, 6 s from try to try.
RETRY_NS = 6 * NS
NO_SPACE = "No space left on device"
ABORT = 134  # source: measured, "Guru Meditation: Replica was unable to write command to disk."


class Storage:
    """error: why writes are refused, "" | "aof" | "rdb"."""

    def __init__(self, server: Server):
        self.server = server
        self.full, self.error = False, ""
        self.since_ns = self.failed_ns = 0
        self.cause = -1
        self._no_longer_full()  # a fault that lasts tells every process that starts

    def disk_full(self, on: bool, cause: int) -> None:
        """The disk has no space left, or has some again."""
        if on == self.full:
            return
        server, self.full, self.cause = self.server, on, cause
        if on:
            self.since_ns = server.now
            server.disk.full.append((server.now, FAR))
            server.world.spawn(self._fill(), f"full disk {server.name}")
            return
        self._no_longer_full()
        if self.error:
            server.world.spawn(self._heal(), f"disk {server.name}")

    def _no_longer_full(self) -> None:
        spans = self.server.disk.full
        if spans and spans[-1][1] == FAR:
            spans[-1] = (spans[-1][0], self.server.now)

    # ---- full ----------------------------------------------------------------------------------
    def _fill(self) -> Generator:
        """Nothing happens before something is to be written."""
        server, since = self.server, self.since_ns
        while server.p.alive and self.full and self.since_ns == since:
            yield from server.p.awake()
            if not self.full or self.since_ns != since:
                return
            kind = self._fails()
            if kind and not (self.error and server.config.ignore_disk_errors):
                self._failed(kind)
            yield server.world.seconds(1.0)

    def _fails(self) -> str:
        """What could not be written by now, or within the next second at the present rate."""
        server = self.server
        branch, config = self._written(), server.config
        if not server.p.alive or branch is None:
            return ""
        if config.appendonly and server.world.commits_since(branch.node, server.now - NS):
            return "aof"
        if not config.stop_writes:
            return ""
        start = server.synced_ns
        due = last_snapshot(server.world, config, branch, start, server.now)
        return "rdb" if due is not None and due >= self.since_ns else ""

    def _written(self) -> Branch | None:
        """The branch whose writes arrive here."""
        server = self.server
        if server.branch is not None:
            return server.branch
        follower = server.follower
        up = follower.upstream if follower is not None and follower.up else None
        return up.branch if up is not None else None

    def _failed(self, kind: str) -> None:
        server, config = self.server, self.server.config
        self.error, self.failed_ns = kind, server.now
        key = "appendonly" if kind == "aof" else "save"
        if server.role != "master" and not config.ignore_disk_errors:
            self._exit(ABORT, "Guru Meditation: Replica was unable to write command to disk.", key)
        elif kind == "aof" and config.appendfsync == "always":
            what = "Can't recover from AOF write error when the AOF fsync policy is 'always'."
            self._exit(1, what, "appendfsync")
        else:
            what = "writing to the AOF file" if kind == "aof" else "saving an RDB snapshot"
            self._say("MISCONF", f"Errors {what}: {NO_SPACE}", key)
            if server.role == "master":
                server.refuse()
            server.changed()

    def _say(self, event: str, detail: str, key: str) -> int:
        return self.server.say(event, detail, self.cause, self.server.config.where.get(key))

    def _exit(self, code: int, why: str, key: str) -> None:
        self.server.machine.exit(self.server.p, code, self._say(why, NO_SPACE, key))

    # ---- space again ---------------------------------------------------------------------------
    def _heal(self) -> Generator:
        """The append-only file is tried once a second, a snapshot every six."""
        server = self.server
        if self.error == "aof":
            wait = NS - (server.now - server.phase_ns) % NS
        else:
            wait = RETRY_NS - (server.now - self.failed_ns) % RETRY_NS
        yield server.world.env.timeout(wait)
        yield from server.p.awake()
        if not server.p.alive or self.full:
            return
        what = "AOF write error looks solved, Redis can write again."
        if self.error == "rdb":
            what = "Background saving terminated with success"
        self.error = ""
        server.say(what, "", self.cause)
        if server.role == "master":
            server.accept()
        server.changed()
