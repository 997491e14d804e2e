"""Postmaster: one running server, primary or standby, as Patroni, peers and tests see it (p.data).

The roles live in primary.py and receiver.py; this is what they share, and the commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import TYPE_CHECKING, Any

from hasim.components.postgres.config import config_of
from hasim.components.postgres.datadir import data_dir, kept
from hasim.components.postgres.senders import Senders
from hasim.components.postgres.wal import WAL_PER_COMMIT_BYTES, history

if TYPE_CHECKING:
    from hasim.components.base import Machine, Process
    from hasim.components.postgres.flow import Flow
    from hasim.components.postgres.primary import Primary
    from hasim.components.postgres.receiver import Receiver
    from hasim.lineage import Position
    from hasim.model import Dist
    from hasim.sim.world import World
    from hasim.source import Default, Span


class Postmaster:
    """The state of one server process. Every command takes the timeline row that caused it."""

    def __init__(self, p: Process, world: World, machine: Machine):
        self.p, self.world, self.machine, self.name = p, world, machine, p.instance
        self.config = config_of(machine.containers[p.instance].spec.config)
        self.disk = data_dir(machine, self.name)
        self.kept = kept(machine, self.name)
        self.role = "standby" if self.disk.standby else "primary"
        self.ready = self.stopping = self.clean = self.finished = False
        self.promoted = False  # it was a standby when this process began
        self.primary: Primary | None = None
        self.flow: Flow | None = None
        self.receiver: Receiver | None = None
        self.blame = machine.containers[p.instance].blame
        self.senders = Senders(self)
        self.flush_factor = 1.0
        self._asked = False
        self._promotion: Any = None

    # ---- views -------------------------------------------------------------------------------
    @property
    def now(self) -> int:
        """The clock in ns."""
        return int(self.world.env.now)

    @property
    def history(self) -> Any:
        """The WAL of the replicated set that this server belongs to."""
        return history(self.machine, self.world, self.disk.system)

    @property
    def timeline(self) -> int:
        """The timeline that it writes or follows."""
        return int(self.disk.timeline)

    @property
    def writable(self) -> bool:
        """Does it accept writes?"""
        return self.primary is not None and self.ready and not self.stopping and self.p.alive

    @property
    def received(self) -> Position | None:
        """What is safe on this server's disk."""
        return self.position()

    @property
    def replayed(self) -> Position | None:
        """What a query on this server sees."""
        if self.flow is None:
            return self.position()
        self.flow.advance()
        return self.flow.replayed

    def position(self) -> Position | None:
        """The end of this server's WAL."""
        if self.primary is not None:
            return self.history.end(self.primary.branch)
        if self.flow is not None:
            self.flow.advance()
            return self.flow.received
        return self.disk.position

    def received_bytes(self) -> float:
        """The end of its WAL as a byte position (LSN)."""
        return self.history.bytes_of(self.position()) if self.disk.system else 0.0

    def sent(self, t_ns: int, late_ns: int) -> Position | None:
        """What has arrived by t_ns on a link of that latency.

        A commit that waited for a standby was on its way all that time before its answer left.
        """
        if self.primary is None:
            return self._relayed(t_ns - late_ns)
        waited_ns = self.primary.waits_ns
        return self.primary.position_at(min(self.now, t_ns - late_ns + waited_ns))

    def _relayed(self, t_ns: int) -> Position | None:
        """What this standby had by then and has passed on."""
        here = self.position()
        if self.flow is None or self.flow.source is None or self._asked:
            return here
        self._asked = True  # two standbys may follow each other: a circle holds nothing new
        then = self.flow.source(t_ns)
        self._asked = False
        behind = self.history.bytes_of(then) <= self.flow.received_bytes
        return then if then is not None and behind else here

    def streaming(self) -> tuple[tuple[str, str, bool], ...]:
        """pg_stat_replication: (standby, state, is synchronous)."""
        chosen = self.primary.sync_rows() if self.primary is not None else []
        rows = self.senders.rows.values()
        return tuple((r.standby, r.state, any(r is c for c in chosen)) for r in rows)

    # ---- commands ----------------------------------------------------------------------------
    def promote(self, cause: int = -1) -> Any:
        """pg_promote(): an event that fires once the server is writable (at once, if it is)."""
        from hasim.components.postgres.promotion import promote

        if self._promotion is None:
            self._promotion = self.world.env.event()
            if self.primary is not None:
                self._promotion.succeed()
            else:
                self.world.spawn(promote(self, cause, self._promotion), f"promote {self.name}")
        return self._promotion

    def stop(self, mode: str = "fast", cause: int = -1) -> Any:
        """pg_ctl stop -m fast | immediate | smart: an event that fires once the process is gone."""
        from hasim.components.postgres.shutdown import stop

        self.world.spawn(stop(self, mode, cause), f"stop {self.name}")
        return self.p.ended

    def follow(self, upstream: str, cause: int = -1) -> None:
        """Another primary_conninfo and a reload: the standby streams from there ("": nowhere)."""
        from hasim.components.postgres.startup import follow

        self.disk.follow = upstream
        if self.receiver is not None:
            self.receiver.turn_to(self.resolve(upstream), cause)
        elif self.flow is not None and upstream:
            self.blame = cause if cause >= 0 else self.blame
            follow(self)

    def set_sync(self, names: tuple[str, ...], mode: str = "", cause: int = -1) -> None:
        """synchronous_standby_names and a reload. mode: "ANY 1", "FIRST 2", "2", "" for FIRST 1;
        a level of synchronous_commit ("remote_apply") may stand there too.
        """
        if self.primary is not None:
            self.primary.set_sync(names, mode, cause)

    def keep_slots(self, wanted: Mapping[str, float]) -> None:
        """A manager's slots: name -> position that the leader's slot has (0: not known)."""
        from hasim.components.postgres.slots import keep_slots

        keep_slots(self, wanted)

    def slot_positions(self) -> dict[str, float]:
        """The restart position of each slot."""
        from hasim.components.postgres.slots import slot_positions

        return slot_positions(self)

    def conflict(self, query_s: float, cause: int = -1) -> None:
        """A query of so many seconds on this standby stands in the way of replay, now."""
        from hasim.components.postgres.promotion import hold_replay

        hold_replay(self, query_s, cause)

    def disk_full(self, on: bool, cause: int = -1) -> None:
        """The file system of pg_wal is full (or not any more): a primary that writes panics."""
        if on and self.p.alive:
            self.panic(cause)

    def disk_slow(self, factor: float, cause: int = -1) -> None:
        """Every flush takes so many times as long: of commits here, or of answers from here."""
        self.flush_factor = factor
        if self.primary is not None:
            self.primary.review_commit(cause)
        elif self.receiver is not None and self.receiver.stream is not None:
            self.receiver.stream.peer.senders.review(cause)

    def clock_jump(self, by_s: float) -> None:
        """The clock of the host jumps: ages of commit timestamps are wrong from now on."""
        self.kept.clock_s += by_s

    def panic(self, cause: int) -> None:
        """No WAL can be written. Source: manual 30.5 and xlog.c (XLogFileInitInternal)."""
        text = 'could not write to file "pg_wal/xlogtemp": No space left on device'
        mark = self.log("PANIC", text, cause=cause)
        self.machine.exit(self.p, 1, mark)

    # ---- facts -------------------------------------------------------------------------------
    @property
    def conninfo(self) -> dict[str, str]:
        """The words of primary_conninfo."""
        from hasim.read.pg_conf import conninfo_words

        return conninfo_words(str(self.config.get("primary_conninfo")))

    @property
    def application(self) -> str:
        """How the standby names itself: application_name, else cluster_name, else walreceiver."""
        named = self.conninfo.get("application_name") or self.config.get("cluster_name")
        return str(named or "walreceiver")

    @property
    def user(self) -> str:
        """The user of the replication connection."""
        backup = self.config.backup
        return self.conninfo.get("user") or (backup.user if backup is not None else "postgres")

    def upstream(self) -> str:
        """The instance that this standby follows; "" if none is known."""
        if self.disk.follow:
            return self.resolve(self.disk.follow)
        if self.config.upstream is None:
            return ""
        return self.machine.peer(self.name, *self.config.upstream)

    def link_bytes_s(self, upstream: str) -> float:
        """Usable bytes a second from the upstream to this server."""
        return float(self.machine.bandwidth_bytes_s(upstream, self.name))

    def commit_wal_bytes(self) -> float:
        """WAL of one commit without page images: the mean over the profile's write operations."""
        service = self.machine.containers[self.name].service
        sizes = [
            getattr(step, "wal_bytes", 0) or WAL_PER_COMMIT_BYTES
            for op in (service.ops if service is not None else ())
            for step in op.steps
            if step.kind == "commit"
        ]
        return sum(sizes) / len(sizes) if sizes else WAL_PER_COMMIT_BYTES

    def flush_s(self, standby: str) -> float:
        """A flush on a standby: the mean of its profile's `commit` step."""
        from hasim.components.postgres.primary import FLUSH_S

        service = self.machine.containers[standby].service
        there = self.machine.containers[standby].process
        factor = there.data.flush_factor if there is not None and there.data is not None else 1.0
        for op in service.ops if service is not None else ():
            for step in op.steps:
                if step.kind == "commit":
                    return mean_s(step.dist) * factor
        return FLUSH_S * factor

    def receipt_ns(self) -> int:
        """When this standby received what it replays next: now, if it has replayed all."""
        flow = self.flow
        at = flow.replayed if flow is not None else None
        if flow is None or at is None or flow.backlog_bytes <= 0:
            return self.now
        return min(self.now, self.history.time_of(at.branch, at.count + 1))

    def last_commit_ns(self) -> int | None:
        """When the latest write was acknowledged here; None: never."""
        if self.primary is None:
            return None
        count = self.history.cluster.count(self.primary.branch)
        return self.history.time_of(self.primary.branch, count) if count else None

    # ---- inside ------------------------------------------------------------------------------
    def resolve(self, upstream: str) -> str:
        """The instance of a server that is named itself or by its container."""
        inner = f"{upstream}.postgres"
        return inner if inner in self.machine.containers else upstream

    def log(
        self,
        event: str,
        detail: str = "",
        *,
        cause: int = -1,
        origin: Span | Default | None = None,
    ) -> int:
        """A timeline row of this server; what it does next is to blame on it."""
        self.blame = self.world.log(self.name, event, detail, cause=cause, origin=origin)
        return self.blame

    def noticed(self) -> None:
        """The process has stopped, gone on, or ended."""
        if not self.p.alive:
            self.finish()
        elif self.primary is not None:
            self.primary.hold(self.p.frozen)
        for sender in tuple(self.senders.rows.values()):
            sender.stream.check()
        if self.receiver is not None and self.receiver.stream is not None:
            self.receiver.stream.check()

    def finish(self) -> None:
        """The process has ended: what it leaves on disk."""
        if self.finished:
            return
        self.finished = True
        self.disk.position = self.position()
        self.disk.clean = self.clean
        self.ready = False
        if self.primary is not None:
            self.primary.close()
        if self.flow is not None:
            self.flow.stop()
        self.senders.close_all()


def servers(machine: Machine) -> dict[str, Postmaster]:
    """The latest server process of each instance; one watcher for each name serves them all."""
    return machine.disks.setdefault("pgservers:", {})


def register(server: Postmaster) -> None:
    """From now on this is the server of its instance."""
    known = servers(server.machine)
    first = server.name not in known
    known[server.name] = server
    if first:
        server.machine.notice(server.name, lambda: known[server.name].noticed())


def mean_s(dist: Dist) -> float:
    """The mean of a distribution."""
    if dist.kind == "uniform":
        return (dist.a + dist.b) / 2
    if dist.kind == "lognormal":
        return dist.a * exp(dist.b**2 / 2)
    if dist.kind == "quantiles":
        pairs = zip(dist.table, dist.table[1:], strict=False)
        return sum((q - p) * (x + y) / 2 for (p, x), (q, y) in pairs)
    if dist.kind == "hyperexp":
        return sum(weight * mean for weight, mean in dist.table)
    return dist.a
