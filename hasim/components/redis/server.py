"""One redis-server process: its role, its dataset as a position in history, what INFO says.

Source: src/replication.c and src/server.c 7.0.15; reference/redis-sentinel.md sections 11 and 13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hasim.components.base import Machine, Process
from hasim.components.redis import disk
from hasim.components.redis.config import RedisConfig
from hasim.components.redis.disk import Disk
from hasim.components.redis.follow import Follower
from hasim.components.redis.guard import Guard
from hasim.components.redis.storage import Storage
from hasim.components.redis.waits import Waits
from hasim.lineage import Branch, Cluster, Position

if TYPE_CHECKING:
    from hasim.sim.world import World


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The part of INFO that Sentinel and exporters read. role: master | slave."""

    run_id: str
    role: str
    priority: int
    offset: Callable[[], int]
    replicas: tuple[tuple[str, str, int], ...] = ()
    master: str = ""
    master_text: str = ""
    link_up: bool = False
    link_down_since: int | None = None


class Server:
    """Process.data of a Redis server.

    branch: the writes that it accepts; held: what it holds while it accepts none. synced_ns: since
    when save points count.
    """

    def __init__(self, p: Process, world: World, machine: Machine, config: RedisConfig):
        self.p, self.world, self.machine, self.config = p, world, machine, config
        self.name = p.instance
        self.run_id = f"{int(world.draw(f'redis {self.name}', p.epoch, 'run id') * 2**160):040x}"
        self.phase_ns = round(1e9 * world.draw(f"redis {self.name}", p.epoch, "cron"))
        self.disk: Disk = machine.disks.setdefault(f"redis:{self.name}", Disk())
        self.role = "master"
        self.branch: Branch | None = None
        self.held: Position | None = self.disk.position
        self.replid = self.run_id  # of the history that it writes or follows
        self.history = {self.run_id}  # ids of which a replica may ask to go on
        self.chosen = False  # by SLAVEOF NO ONE
        self.graceful = self.left = self.loading = False
        self.replicas: dict[str, Server] = {}
        self.syncing: dict[str, Server] = {}  # they wait for their full resync
        self.observers: list[Callable[[], None]] = []
        self.follower: Follower | None = None
        self.guard, self.storage, self.waits = Guard(self), Storage(self), Waits(self)
        self.synced_ns = int(p.env.now)
        self.synced = False  # it has had a role since its start
        self.mark = -1
        name = cluster_name(machine, self.name)
        self.cluster: Cluster = machine.clusters.setdefault(
            name, Cluster(name, world.commits, lambda: int(world.env.now))
        )

    # ---- views ---------------------------------------------------------------------------------
    @property
    def now(self) -> int:
        return int(self.world.env.now)

    def waiters(self) -> None:
        """Sentinels that wait for this instance look at it, though it serves nobody yet."""
        for call in tuple(self.machine.disks.get(f"redis:{self.name}:watchers", ())):
            call()

    def snapshot(self) -> Snapshot:
        """What INFO says now."""
        follower, to = self.follower, self._told() if self.loading else None
        if to:
            return Snapshot(self.run_id, "slave", self.config.priority, self.offset, (), *to[:2])
        if self.role == "master" or follower is None:
            rows = [
                (name, server.config.announce_ip or server.address, server.port)
                for name, server in {**self.syncing, **self.replicas}.items()
            ]
            return Snapshot(self.run_id, "master", self.config.priority, self.offset, tuple(rows))
        return Snapshot(
            self.run_id, "slave", self.config.priority, self.offset,
            master=follower.master, master_text=follower.text, link_up=follower.up,
            link_down_since=follower.down_since,
        )  # fmt: skip

    @property
    def address(self) -> str:
        """How Sentinel calls it where nothing is announced: the address stands for the instance."""
        return self.name

    @property
    def port(self) -> int:
        return self.config.announce_port or self.config.port

    @property
    def writable(self) -> bool:
        """Does it take writes?"""
        return self.branch is not None

    @property
    def pongs(self) -> bool:
        """Is PING answered with something that Sentinel takes for an answer?"""
        return not self.storage.error

    def position(self) -> Position | None:
        """What it holds now; None: nothing."""
        if self.branch is not None:
            return Position(self.branch, self.cluster.count(self.branch))
        if self.follower is not None:
            return self.follower.position()
        return self.held

    def offset(self) -> int:
        """The replication offset, in writes."""
        at, total = self.position(), 0
        while at is not None:
            total, at = total + at.count, at.branch.fork
        return total

    def changed(self) -> None:
        """Sentinels and replicas look again."""
        for call in tuple(self.observers):
            call()

    def say(self, event: str, detail: str = "", cause: int = -1, origin: Any = None) -> int:
        """A line of the log."""
        self.mark = self.world.log(self.name, event, detail, cause=cause, origin=origin)
        return self.mark

    def disk_full(self, on: bool, cause: int = -1) -> None:
        """No space is left on its disk, or there is some again."""
        self.storage.disk_full(on, cause)

    # ---- roles ---------------------------------------------------------------------------------
    def _told(self) -> tuple[str, str, int] | None:
        """Whom to follow: as CONFIG REWRITE saved it, else as the files say."""
        saved = self.disk.replicaof
        if saved is None and self.config.replicaof is not None:
            host, port = self.config.replicaof
            return self.machine.peer(self.name, host, port), host, port
        return saved or None

    def begin(self) -> None:
        """The role of the files, or the one that CONFIG REWRITE saved."""
        to = self._told()
        if to:
            self._follow(*to)
        else:
            self.accept()

    def accept(self) -> None:
        """Begin to take writes, on top of what is there."""
        self.synced = True
        if self.branch is None and self.guard.enough() and not self.storage.error:
            self.branch = self._open()
        self.world.set_writable(self.name, self.branch is not None)
        self.waits.look()

    def _open(self) -> Branch:
        """The branch that goes on: its own if it has all of it, else a new one."""
        held, cluster = self.held, self.cluster
        own = held.branch if held is not None and held.branch.node == self.name else None
        if own is not None and held is not None and own.closed == held.count:
            cluster.reopen(own)
            return own
        return cluster.open(self.name, held, aside=not self.chosen and self._replaced())

    def _replaced(self) -> bool:
        """Has another node become the master meanwhile, and is it there?"""
        branches = self.cluster.branches
        if not branches or branches[-1].node == self.name:
            return False
        p = self.machine.containers[branches[-1].node].process
        return p is not None and getattr(p.data, "role", "") == "master"

    def refuse(self) -> None:
        """Take no more writes."""
        if self.branch is not None:
            self.held = self.position()
            self.cluster.close(self.branch)
            self.branch = None
        self.world.set_writable(self.name, False)
        self.waits.look()

    def slaveof(self, to: tuple[str, str, int] | None, cause: int = -1) -> None:
        """SLAVEOF and CONFIG REWRITE by Sentinel; its normal and pub/sub clients are killed."""
        if self.loading:
            return  # -LOADING
        if self.config.rewritable:
            self.disk.replicaof = to or ()
        if to is None:
            self._promote(cause)
        else:
            self._demote(to, cause)
        self.world.cut(self.name)
        self.changed()

    def _promote(self, cause: int) -> None:
        if self.role == "master":
            return
        self.held = self.position()
        if self.follower is not None:
            self.follower.stop()
        self.follower, self.role, self.chosen = None, "master", True
        # a new history; the old one stays its second id (replication.c, shiftReplicationId)
        self.history = {self.replid, f"{self.run_id}+{self.now}"}
        self.replid = f"{self.run_id}+{self.now}"
        self.say("MASTER MODE enabled", "by SLAVEOF NO ONE", cause)
        self.drop_replicas()
        self.synced_ns = self.now
        self.accept()

    def _demote(self, to: tuple[str, str, int], cause: int) -> None:
        follower = self.follower
        if follower is not None and (follower.master, follower.text) == to[:2]:
            return
        self.refuse()
        if follower is not None:
            self.held = follower.position()
            follower.stop()
        self.role = "slave"
        self.drop_replicas()
        self.say("REPLICAOF enabled", f"{to[1]}:{to[2]}", cause)
        self._follow(*to)

    def _follow(self, master: str, text: str, port: int) -> None:
        if self.role == "master" and self.disk.replid and self.branch is None and not self.synced:
            self.replid = self.disk.replid  # an RDB file remembers whose history it is
        self.role, self.synced = "slave", True
        self.world.set_writable(self.name, False)
        self.follower = Follower(self, master, text, port, self.held)
        self.follower.start()

    def drop_replicas(self) -> None:
        """A change of role disconnects every replica (they come back for a partial resync)."""
        for server in tuple(self.replicas.values()):
            if server.follower is not None:
                server.follower.lost("role change of the master")
        self.replicas.clear()
        self._replicas_changed()

    # ---- replicas ------------------------------------------------------------------------------
    def attach(self, replica: Server) -> None:
        """A replica is in sync with this server."""
        self.replicas[replica.name] = replica
        self._replicas_changed()
        self.changed()

    def detach(self, replica: Server) -> None:
        """Its connection is gone, and this end knows it."""
        if self.replicas.get(replica.name) is replica:
            del self.replicas[replica.name]
            self._replicas_changed()
            self.changed()

    def _replicas_changed(self) -> None:
        self.guard.look()
        self.waits.look()

    # ---- the end -------------------------------------------------------------------------------
    def saves_at_exit(self) -> bool:
        """SIGTERM writes a snapshot where save points are set, and flushes the append-only file."""
        return bool(self.config.save) or self.config.appendonly

    def leave(self, graceful: bool, power_cut: bool = False) -> None:
        """The process ends: what is left on disk."""
        before = self.held if self.branch is None else self.branch.fork
        if graceful and self.saves_at_exit():
            self.disk.position = self.position()
        elif self.branch is not None:
            kept = disk.kept(
                self.world, self.config, self.branch, self.synced_ns, power_cut, self.disk.full
            )
            if kept is not None:
                self.disk.position = Position(self.branch, kept)
            elif self.config.appendonly:
                self.disk.position = before
        elif self.config.appendonly:
            self.disk.position = self.position()
        elif self.follower is not None:
            self.disk.position = self.follower.on_disk() or self.disk.position
        if self.branch is not None:
            self.held = self.position()
            self.cluster.close(self.branch)
            self.branch = None
        if self.follower is not None:
            self.follower.stop()
        for server in tuple(self.replicas.values()):
            if server.follower is not None:
                server.follower.look()


def cluster_name(machine: Machine, name: str) -> str:
    """The set of nodes that one master's files lead to, named by that master."""
    seen = []
    while name not in seen:
        seen.append(name)
        container = machine.containers.get(name)
        config = container.spec.config if container is not None else None
        if not isinstance(config, RedisConfig) or config.replicaof is None:
            break
        target = machine.peer(name, *config.replicaof)
        if target not in machine.containers:
            break
        name = target
    return f"redis:{name}"
