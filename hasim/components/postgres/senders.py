"""Walsenders: who streams from this server, whom it turns away, and how it notices silence.

Source: walsender.c (StartReplication, WalSndCheckTimeOut) and walreceiver.c of PostgreSQL 15.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hasim.components.postgres.datadir import Slot
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.base import Conn
    from hasim.components.postgres.flow import Flow
    from hasim.components.postgres.server import Postmaster
    from hasim.lineage import Position


# A walsender sends at most this much in one message, and a standby that far behind is caught up.
# Source: walsender.c, MAX_SEND_SIZE (16 blocks).
MESSAGE_BYTES = 128 * 1024

# How often a standby that is far behind is looked at. Source: our choice; the brief's one a second.
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a standby asks for when it connects."""

    standby: str
    application: str
    slot: str
    system: str
    timeline: int
    position: Position | None
    stream: Any
    host: str
    user: str
    diverged: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the server does not stream."""

    text: str


@dataclass(slots=True, eq=False)
class Sender:
    """One row of pg_stat_replication."""

    standby: str
    application: str
    slot: str
    flow: Flow
    stream: Any
    conn: Conn
    since_ns: int
    state: str = "catchup"
    silent: bool = False
    gone: bool = False
    epoch: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """What synchronous_standby_names may call it: its name, or its container's."""
        return self.application, self.standby, self.standby.rpartition(".")[0] or self.standby


class Senders:
    """All walsenders of one running server."""

    def __init__(self, server: Postmaster):
        self.server = server
        self.rows: dict[str, Sender] = {}
        self.changed = server.world.env.event()  # fires at each change; re-armed

    # ---- a connection comes in ---------------------------------------------------------------
    def accept(self, request: Request, conn: Conn) -> Sender | Refusal:
        """Turn a standby away, or stream to it from now on."""
        why = self._refusal(request)
        if why is not None:
            return why
        server = self.server
        old = self.rows.get(request.standby)
        if old is not None:
            self.drop(old)
        sender = Sender(
            request.standby, request.application, request.slot, request.stream.flow,
            request.stream, conn, server.now,
        )  # fmt: skip
        self.rows[request.standby] = sender
        conn.hung_up.callbacks.append(lambda _: self.drop(sender))
        slot = server.kept.slots.get(request.slot)
        if slot is not None:
            slot.active = True
        server.world.spawn(self._catch_up(sender), f"catchup {request.standby}")
        return sender

    def _refusal(self, request: Request) -> Refusal | None:
        server = self.server
        if server.stopping:
            return Refusal("the database system is shutting down")
        if not server.ready:
            return Refusal("the database system is starting up")
        if server.config.refuses(request.user) is not None:
            who = f'host "{request.host}", user "{request.user}"'
            return Refusal(f"no pg_hba.conf entry for replication connection from {who}")
        limit = server.config.get("max_wal_senders")
        if len(self.rows) - (request.standby in self.rows) >= limit:
            text = "number of requested standby connections exceeds max_wal_senders"
            return Refusal(f"{text} (currently {limit})")
        return self._slot_refusal(request) or self._history_refusal(request)

    def _slot_refusal(self, request: Request) -> Refusal | None:
        if not request.slot:
            return None
        slot = self.server.kept.slots.get(request.slot)
        if slot is None:
            return Refusal(f'replication slot "{request.slot}" does not exist')
        if slot.lost:  # source: measured, PostgreSQL 15: no word of the slot
            return self._removed(slot.restart_bytes or 0.0)
        return None

    def _removed(self, at_bytes: float) -> Refusal:
        name = segment(self.server.timeline, at_bytes)
        return Refusal(f"requested WAL segment {name} has already been removed")

    def _history_refusal(self, request: Request) -> Refusal | None:
        server = self.server
        if request.system and request.system != server.disk.system:
            text = "database system identifier differs between the primary and standby"
            return Refusal(text)
        if request.timeline > server.timeline:
            text = f"highest timeline {server.timeline} of the primary is behind recovery timeline"
            return Refusal(f"{text} {request.timeline}")
        if request.position is None:
            return None
        end = server.position()
        known = end is not None and server.history.cluster.contains(end, request.position)
        if not known or (request.diverged and request.timeline < server.timeline):
            text = f"new timeline {server.timeline} forked off current database system timeline"
            return Refusal(f"{text} {request.timeline} before current recovery point")
        at = server.history.bytes_of(request.position)
        if at < server.kept.removed_bytes:
            return self._removed(at)
        return None

    def _catch_up(self, sender: Sender) -> Generator:
        """catchup becomes streaming once the standby has what the server has."""
        server = self.server
        rtt_s = 2 * server.machine.one_way_s(sender.standby, server.name)
        yield server.world.seconds(rtt_s)
        while not sender.gone:
            sender.flow.advance()
            left = sender.flow.unsent_bytes(server.position())
            if not sender.silent and left <= MESSAGE_BYTES:
                sender.state = "streaming"
                self.review(server.blame)
                return
            rate = sender.flow.link_bytes_s()
            yield server.world.seconds(max(rtt_s, min(LOOK_S, left / rate)) or LOOK_S)

    # ---- and goes ----------------------------------------------------------------------------
    def drop(self, sender: Sender) -> None:
        """The walsender ends: its row vanishes, its slot stays where it is."""
        if sender.gone:
            return
        sender.gone = True
        if self.rows.get(sender.standby) is sender:
            del self.rows[sender.standby]
        slot = self.server.kept.slots.get(sender.slot)
        if slot is not None:
            slot.active = False
            slot.restart_bytes = sender.flow.received_bytes
        self.review(self.server.blame)

    def fall_silent(self, sender: Sender, last_reply_ns: int, cause: int) -> None:
        """Nothing comes from the standby any more; wal_sender_timeout runs from its last reply."""
        sender.silent, sender.epoch = True, sender.epoch + 1
        limit_s = self.server.config.seconds("wal_sender_timeout")
        if limit_s < float("inf"):
            due_ns = last_reply_ns + round(limit_s * NS)
            timer = self._time_out(sender, sender.epoch, due_ns, cause)
            self.server.world.spawn(timer, f"wal_sender_timeout {sender.standby}")
        self.review(cause)

    def speak_again(self, sender: Sender, cause: int) -> None:
        """The standby answers again."""
        sender.silent, sender.epoch = False, sender.epoch + 1
        self.review(cause)

    def _time_out(self, sender: Sender, epoch: int, due_ns: int, cause: int) -> Generator:
        server = self.server
        yield server.world.env.timeout(max(0, due_ns - server.now))
        yield from server.p.awake()
        if not server.p.alive or sender.gone or sender.epoch != epoch or not sender.silent:
            return
        text = "terminating walsender process due to replication timeout"
        origin = server.config.origin("wal_sender_timeout")
        server.log(text, sender.standby, cause=cause, origin=origin)
        sender.conn.hang_up()
        self.drop(sender)

    def close_all(self) -> None:
        """The server ends."""
        for sender in tuple(self.rows.values()):
            sender.gone = True
        self.rows.clear()

    def review(self, cause: int) -> None:
        """Who streams has changed: commits may wait differently now."""
        changed, self.changed = self.changed, self.server.world.env.event()
        changed.succeed()
        if self.server.primary is not None:
            self.server.primary.review_commit(cause)


def add_slot(server: Postmaster, name: str) -> Slot:
    """pg_create_physical_replication_slot: nothing is reserved until a standby uses it."""
    return server.kept.slots.setdefault(name, Slot(name))


def segment(timeline: int, at_bytes: float) -> str:
    """The name of the 16 MiB file that holds a position. Source: manual 30.6, XLogFileName."""
    number = int(at_bytes) >> 24
    return f"{timeline:08X}{number >> 8:08X}{number & 0xFF:08X}"
