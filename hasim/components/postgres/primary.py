"""The primary's half: its branch of history, when commits may answer, checkpoints, WAL on disk."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from hasim.components.postgres.retention import Retention
from hasim.components.postgres.senders import Sender
from hasim.components.postgres.sync import Rule, candidates, parse_rule, wait_s
from hasim.lineage import Position
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.postgres.server import Postmaster


# A standby writes a message, and replays one. Source: assumption; a write into the page cache and
# a few records of WAL, both far below a flush.
WRITE_S = 50e-6
REPLAY_S = 100e-6

# A flush where no profile has a `commit` step. Source: assumption; an SSD with a power-safe cache.
FLUSH_S = 1e-3

LEVELS = ("remote_write", "on", "remote_apply")
CHANGES_LINKS = ("delay", "bandwidth", "loss")


class Primary:
    """What a server does from the moment at which it accepts writes."""

    def __init__(self, server: Postmaster, fork: Position | None):
        self.server = server
        self.waits_ns = 0  # a commit's WAL leaves so long before its answer
        self._waiting: float | None = 0.0
        self.rule, self.level = _rule(server), str(server.config.get("synchronous_commit"))
        self.waits_ns = -self._unflushed_ns()
        self.retention = Retention(server, self)
        self.branch = self._open(fork)

    def _open(self, fork: Position | None):
        """Go on with the own branch if nothing was written since, else begin one."""
        server, cluster = self.server, self.server.history.cluster
        mine = fork is not None and fork.branch.node == server.name and not server.promoted
        if fork is not None and mine and fork.branch.closed == fork.count:
            lost = self._unflushed(fork)
            if not lost:
                cluster.reopen(fork.branch)
                return fork.branch
            fork = Position(fork.branch, fork.count - lost)
        branch = cluster.open(server.name, fork)
        images = bool(server.config.get("full_page_writes"))
        server.history.begin(branch, server.commit_wal_bytes(), images)
        return branch

    def _unflushed(self, end: Position) -> int:
        """synchronous_commit = off: commits that a crash of this server itself has taken along."""
        server = self.server
        newest = server.history.cluster.branches[-1] is end.branch
        if server.disk.clean or self.level != "off" or not newest:
            return 0
        window_s = 3 * server.config.seconds("wal_writer_delay")
        window_s *= server.world.draw(f"wal writer {server.name}", server.p.epoch, "window")
        since_ns = end.branch.closed_ns - round(window_s * NS)
        return end.count - server.history.count_at(end.branch, since_ns)

    def start(self, cause: int) -> None:
        """Writes are accepted from now on."""
        server = self.server
        self.retention.start()
        self._accept(cause)
        if any(f.do in CHANGES_LINKS for f in server.world.scenario.faults):
            server.world.spawn(self._follow_queue(), f"sync queue {server.name}")

    def go_on(self, cause: int) -> None:
        """After a crash of a backend: the same branch."""
        self.server.history.cluster.reopen(self.branch)
        self._accept(cause)

    def _accept(self, cause: int) -> None:
        self.server.world.set_writable(self.server.name, True)
        self._waiting = -1.0  # whatever an earlier process has left there
        self.review_commit(cause)

    def close(self) -> None:
        """No more writes: the process is gone, or shuts down."""
        self.server.history.cluster.close(self.branch)

    def hold(self, stopped: bool) -> None:
        """A stopped process (SIGSTOP) accepts nothing until it goes on."""
        cluster, server = self.server.history.cluster, self.server
        if stopped:
            cluster.close(self.branch)
        elif server.ready and not server.stopping:
            cluster.reopen(self.branch)

    def position_at(self, t_ns: int) -> Position:
        """What the branch held at a time."""
        return Position(self.branch, self.server.history.count_at(self.branch, t_ns))

    # ---- synchronous commits -----------------------------------------------------------------
    def set_sync(self, names: tuple[str, ...], mode: str, cause: int) -> None:
        """Another synchronous_standby_names; a level of synchronous_commit may be in mode."""
        words = mode.split()
        levels = [w for w in words if w in (*LEVELS, "local", "off")]
        if levels:
            self.level = levels[0]
        number = next((int(w) for w in words if w.isdigit()), 1)
        method = "any" if "any" in (w.lower() for w in words) else "first"
        self.rule = Rule(method, number, tuple(names))
        shown = ",".join(names)
        self.server.log("synchronous_standby_names", f'"{shown}"', cause=cause)
        self.review_commit(cause)

    def sync_rows(self) -> list[Sender]:
        """The walsenders whose answers commits wait for."""
        if not self.rule.names:
            return []
        rows = [r for r in self.server.senders.rows.values() if r.state == "streaming"]
        return candidates(self.rule, rows, lambda row: row.names)

    def review_commit(self, cause: int) -> None:
        """Tell the data plane how long a commit waits now."""
        server = self.server
        extra_s: float | None = 0.0
        if self.rule.names and self.level in LEVELS:
            extra_s = wait_s(self.rule, [self._answer_s(row) for row in self.sync_rows()])
        if extra_s is not None and server.flush_factor != 1.0:
            extra_s += server.flush_s(server.name) * (1 - 1 / server.flush_factor)
        if extra_s == self._waiting:
            return
        if extra_s is None:
            origin = server.config.origin("synchronous_standby_names")
            server.log("commits wait", "no synchronous standby answers", cause=cause, origin=origin)
        elif self._waiting is None or (self._waiting < 0 and extra_s):
            server.log("commits go on", f"after {extra_s * 1000:.3g} ms each", cause=cause)
        if extra_s is not None:
            self.waits_ns = round(extra_s * NS) - self._unflushed_ns()
        self._waiting = extra_s
        if server.p.alive:
            server.world.set_commit(server.name, extra_s)

    def _unflushed_ns(self) -> int:
        """With synchronous_commit = off a walsender has to wait for the WAL writer."""
        if self.level != "off":
            return 0
        return round(self.server.config.seconds("wal_writer_delay") * NS)

    def _answer_s(self, row: Sender) -> float:
        """One message there, the work that the level asks for, one message back."""
        server = self.server
        if row.silent or row.gone:
            return float("inf")
        there = server.machine.one_way_s(server.name, row.standby)
        back = server.machine.one_way_s(row.standby, server.name)
        row.flow.advance()
        queue_s = row.flow.unsent_bytes(server.position()) / row.flow.link_bytes_s()
        work_s = WRITE_S
        if self.level in ("on", "remote_apply"):
            work_s += server.flush_s(row.standby)
        if self.level == "remote_apply":
            work_s += REPLAY_S + row.flow.backlog_bytes / row.flow.replay_bytes_s
        return there + queue_s + work_s + back

    def _follow_queue(self) -> Generator:
        """Links that change, and standbys that fall behind, change a commit's wait without a sound:
        look once a second, in scenarios where that can happen.
        """
        server = self.server
        while server.p.alive and not server.stopping:
            yield server.world.seconds(1.0)
            if self.rule.names:
                self.review_commit(server.blame)


def _rule(server: Postmaster) -> Rule:
    try:
        return parse_rule(str(server.config.get("synchronous_standby_names")))
    except ValueError:
        return Rule()
