"""A replica's link to its master: connect, partial or full resync, stream, loss.

Source: src/replication.c 7.0.15 (replicationCron, masterTryPartialResync, syncCommand,
shouldStartChildReplication, replicationHandleMasterDisconnection).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from hasim.components.redis.disk import count_at, last_snapshot
from hasim.components.redis.peers import speaks
from hasim.lineage import Position
from hasim.sim.world import CONNECTS, REFUSED
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.base import Process
    from hasim.components.redis.server import Server

HEARS = (CONNECTS, REFUSED)  # packets arrive. source: hasim.sim.world
CRON_NS = NS  # source: server.c, run_with_period(1000) replicationCron()
HANDSHAKE_NS = 5_000_000  # source: assumption; seven short messages and a fork-free reply
TRANSFER_NS = 60_000_000  # source: assumption; a small dataset sent and loaded
NO_SPACE = "needed for MASTER <-> REPLICA synchronization: No space left on device"
WRITE_BYTES = 100  # source: assumption; one SET in the replication stream


class Follower:
    """REPLICAOF one master. held: what the replica has while it does not stream."""

    def __init__(self, server: Server, master: str, text: str, port: int, held: Position | None):
        self.server, self.master, self.text, self.port = server, master, text, port
        self.held, self.replid = held, server.replid
        self.up = False
        self.down_since: int | None = None
        self.upstream: Server | None = None
        self.process: Process | None = None
        self.stuck: Position | None = None
        self.quiet_since: int | None = None  # nothing comes: silence, or a stopped master
        self.stopped = False
        self.first = True
        self.bell = server.world.env.event()
        self._ends: Any = None

    # ---- life ----------------------------------------------------------------------------------
    def start(self) -> None:
        """Connect, and go on connecting."""
        machine, name = self.server.machine, self.server.name
        if self.master not in machine.containers:
            return  # the name leads to nobody of the stack
        self._ends = machine.watch(name, self.master, lambda _: self.look())
        machine.notice(self.master, self.look)
        self.server.world.spawn(self._run(), f"replication {name}")

    def stop(self) -> None:
        """Another role, or the end of the process."""
        self.held = self.position()
        self.stopped = True
        if self._ends is not None:
            self._ends()
        if self.upstream is not None:
            self._leave(self.upstream)
        self.up, self.upstream = False, None
        self._ring()

    def _ring(self) -> None:
        if not self.bell.triggered:
            self.bell.succeed()

    @property
    def hopeless(self) -> bool:
        """Nobody of the stack answers at the master's address."""
        return self.master not in self.server.machine.containers

    @property
    def _alive(self) -> bool:
        return not self.stopped and self.server.p.alive

    def _run(self) -> Generator:
        server = self.server
        while self._alive:
            yield from server.p.awake()
            master = self._ready()
            if master is None or self.up:
                yield from self._wait(None)
            elif not _serves(master):
                yield from self._wait(self._to_cron(server))
            elif self.first or (yield from self._wait(self._to_cron(server))):
                self.first = False
                yield from self._sync(master)

    def _wait(self, wait_ns: int | None) -> Generator[Any, Any, bool]:
        """Until something changes, or for a time; was it the time?"""
        if self.bell.triggered:
            self.bell = self.server.world.env.event()
        env = self.server.world.env
        if wait_ns is None:
            yield self.bell
            return False
        timer = env.timeout(wait_ns)
        yield env.any_of([timer, self.bell])
        return timer.processed and self._alive

    def _to_cron(self, server: Server) -> int:
        return CRON_NS - (server.now - server.phase_ns) % CRON_NS

    def _ready(self) -> Server | None:
        """The master's process, if it would answer now."""
        p = self.server.machine.containers[self.master].process
        if p is None or not p.listening or not speaks(self.server, self.master):
            return None
        return p.data if hasattr(p.data, "replicas") else None

    # ---- resync --------------------------------------------------------------------------------
    def _sync(self, master: Server) -> Generator:
        server = self.server
        partial = self.can_resume(master)
        word = "Partial" if partial else "Full"
        wait = HANDSHAKE_NS
        if not partial:
            wait += self._full_ns(master)
        master.syncing[server.name] = server
        master.changed()
        done = yield from self._stay(master, server.now + wait)
        master.syncing.pop(server.name, None)
        if done and not partial and (server.storage.full or not self._saved_by(master)):
            server.say("Write error writing the DB dump file", NO_SPACE, server.storage.cause)
        elif done:
            event = f"MASTER <-> REPLICA sync: {word} resynchronization"
            server.say(event, f"with {self.master}", master.mark)
            self._connected(master, partial)

    def _saved_by(self, master: Server) -> bool:
        """Could the master write its dump file, if it needs one?"""
        return master.config.diskless or not master.storage.full

    def _stay(self, master: Server, until: int) -> Generator[Any, Any, bool]:
        """Wait with the master in reach; False if it goes away before."""
        while self.server.now < until and self._alive:
            yield from self._wait(until - self.server.now)
            if self._ready() is not master:
                return False
        yield from self.server.p.awake()
        return self._alive and self._ready() is master

    def can_resume(self, master: Server) -> bool:
        """Is what the replica has part of the master's history, and the rest in its backlog?"""
        if not self.replid or self.replid not in master.history:
            return False
        theirs, mine = master.position(), self.held
        if theirs is None or mine is None:
            return theirs is mine
        if not master.cluster.contains(theirs, mine):
            return False
        behind = master.offset() - self.server.offset()
        return behind * WRITE_BYTES <= master.config.backlog_bytes

    def _full_ns(self, master: Server) -> int:
        """Diskless: the delay in whole seconds, looked at once a second; then the transfer."""
        if not master.config.diskless:
            return TRANSFER_NS
        delay = master.config.diskless_delay_s * NS
        start = master.now + HANDSHAKE_NS + delay
        return delay + CRON_NS - (start - master.phase_ns) % CRON_NS + TRANSFER_NS

    def _connected(self, master: Server, partial: bool) -> None:
        server = self.server
        self.up, self.down_since, self.upstream, self.process = True, None, master, master.p
        self.stuck = self.quiet_since = None
        self.replid = server.replid = master.replid
        if not partial:
            if master.branch is not None and master.cluster.branches[-1] is not master.branch:
                master.cluster.prefer(master.branch)
            server.synced_ns = server.now
            server.disk.position = master.position()
            server.disk.replid = "" if server.config.appendonly else master.replid
        master.attach(server)
        server.changed()

    # ---- streaming -----------------------------------------------------------------------------
    def position(self) -> Position | None:
        """What has arrived."""
        up = self.upstream
        if not self.up or up is None:
            return self.held
        if self.stuck is not None:
            return self.stuck
        if up.branch is None:
            return up.position()
        server = self.server
        late = round(1e9 * server.machine.one_way_s(self.master, server.name))
        return Position(up.branch, count_at(server.world, up.branch, server.now - late))

    def look(self) -> None:
        """The master or the way to it has changed."""
        if not self._alive:
            return
        if not self.up:
            self._ring()
            return
        machine = self.server.machine
        p = machine.containers[self.master].process
        reach = machine.reach(self.server.name, self.master)
        silent = reach not in HEARS
        if p is not self.process:
            if self.stuck is None or not silent:
                self._delivered()
                self.lost("connection closed by the master")
            return
        quiet = silent or (p is not None and p.frozen)
        if quiet and self.quiet_since is None:
            self.quiet_since = self.server.now
            self.stuck = self.position() if silent else None
            self.server.world.spawn(self._time_out(self.quiet_since), "repl-timeout")
        elif not quiet:
            self.quiet_since, self.stuck = None, None

    def _delivered(self) -> None:
        """A killed process: its kernel still sends what was written to the socket."""
        up = self.upstream
        if self.stuck is None and up is not None and up.branch is not None:
            self.stuck = Position(up.branch, up.cluster.count(up.branch))

    def _time_out(self, since: int) -> Generator:
        yield self.server.world.seconds(self.server.config.repl_timeout_s)
        yield from self.server.p.awake()
        if self._alive and self.up and self.quiet_since == since:
            self.lost("MASTER timeout: no data nor PING received")

    def lost(self, why: str) -> None:
        """The connection is gone; the next attempt comes at once, then every second."""
        if not self.up:
            return
        self.held = self.position()
        up, self.upstream = self.upstream, None
        self.up, self.first, self.down_since = False, True, self.server.now
        self.stuck = self.quiet_since = None
        self.server.say("Connection with master lost", why, up.mark if up else -1)
        if up is not None:
            self._leave(up)
        self.server.changed()
        self._ring()

    def _leave(self, up: Server) -> None:
        """The master hears of the end now, or when the silence ends, or after repl-timeout."""
        server, machine = self.server, self.server.machine
        if machine.reach(self.master, server.name) in HEARS:
            up.detach(server)
            return

        def heard(reach: int) -> None:
            if reach in HEARS:
                gone()

        def gone() -> None:
            ends()
            if not (server.follower and server.follower.upstream is up):
                up.detach(server)

        ends = machine.watch(self.master, server.name, heard)
        timer = server.world.seconds(up.config.repl_timeout_s)
        timer.callbacks.append(lambda _: gone())

    def on_disk(self) -> Position | None:
        """What the replica's own snapshots hold; None: only what its last full resync left."""
        up, server = self.upstream, self.server
        if up is None or up.branch is None or server.config.appendonly:
            return None
        world, config, full = server.world, server.config, server.disk.full
        saved = last_snapshot(world, config, up.branch, server.synced_ns, server.now, full)
        if saved is None:
            return None
        return Position(up.branch, count_at(server.world, up.branch, saved))


def _serves(master: Server) -> bool:
    """May it be followed? "Can't SYNC while not connected with my master" (syncCommand): so no
    two replicas follow each other.
    """
    return master.follower is None or master.follower.up
