"""pg_basebackup in a container's start script: fill an empty directory from a running server.

Source: pg_basebackup manual; basebackup.c of PostgreSQL 15.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hasim.components.base import request
from hasim.components.postgres.config import BACKUP_BYTES, BACKUP_BYTES_S
from hasim.components.postgres.senders import add_slot
from hasim.source import Span

if TYPE_CHECKING:
    from hasim.components.base import Process
    from hasim.components.postgres.server import Postmaster

# Walsenders that a base backup takes. Source: pg_basebackup manual, `-X stream` is the default.
BACKUP_SENDERS = 2


@dataclass(frozen=True, slots=True)
class Refused:
    """The upstream refuses a base backup, now and next time, and the line that makes it."""

    text: str
    origin: Any = None


def base_backup(server: Postmaster) -> Generator:
    """The copy; without one there is no data directory and the container ends."""
    p, disk = server.p, server.disk
    upstream = server.upstream()
    answer: tuple = ("no such host", None)
    if upstream in server.machine.containers:
        answer = yield from request(server.machine, p, upstream, lambda peer: _offer(server, peer))
    if not p.alive:
        return
    if not isinstance(answer[1], tuple):
        _fail(server, upstream, answer[1] or answer[0])
        return
    system, timeline, size = answer[1]
    yield server.world.seconds(size / min(BACKUP_BYTES_S, server.link_bytes_s(upstream)))
    yield from p.awake()
    if not p.alive:
        return
    peer = server.machine.containers[upstream].process
    if peer is None or peer.data is None or not peer.data.ready:
        _fail(server, upstream, "could not receive data")
        return
    position = peer.data.position()
    disk.system, disk.timeline, disk.position = system, timeline, position
    disk.standby, disk.follow, disk.clean = server.config.standby, upstream, True
    server.kept.redo_bytes = server.history.bytes_of(position)
    server.log("pg_basebackup: base backup completed", cause=server.blame)


def _fail(server: Postmaster, upstream: str, answer: str | Refused) -> None:
    p = server.p
    origin = answer.origin if isinstance(answer, Refused) else None
    why = answer.text if isinstance(answer, Refused) else f"connection to {upstream}: {answer}"
    mark = server.log("pg_basebackup: error", why, cause=server.blame, origin=origin)
    if isinstance(answer, Refused) and not server.kept.told:
        server.kept.told = True
        mark = server.log("did not boot", f"pg_basebackup: {why}", cause=mark, origin=origin)
    server.machine.exit(p, 1, mark)


def _offer(server: Postmaster, peer: Process) -> tuple | str | Refused:
    """The upstream's answer: its system, timeline and size, or why not."""
    there = peer.data
    if there is None or not there.ready:
        return "FATAL: the database system is starting up"
    origin = there.config.refuses(server.user)
    if origin is not None:
        if not isinstance(origin, Span):  # no file says it: the container that lacks the line
            origin = there.machine.containers[there.name].spec.span
        text = f'no pg_hba.conf entry for replication connection, user "{server.user}" (PG-4)'
        return Refused(f"FATAL: {text}", origin)
    limit = there.config.get("max_wal_senders")
    if len(there.senders.rows) + BACKUP_SENDERS > limit:
        text = "number of requested standby connections exceeds max_wal_senders"
        origin = there.config.origin("max_wal_senders")
        return Refused(f"FATAL: {text} (currently {limit})", origin)
    return _slot(server, there) or (there.disk.system, there.timeline, BACKUP_BYTES)


def _slot(server: Postmaster, there: Postmaster) -> Refused | None:
    backup = server.config.backup
    if backup is None or not backup.slot:
        return None
    known = backup.slot in there.kept.slots
    if backup.creates_slot and known:
        return Refused(f'ERROR: replication slot "{backup.slot}" already exists', backup.span)
    if not backup.creates_slot and not known:
        return Refused(f'ERROR: replication slot "{backup.slot}" does not exist', backup.span)
    add_slot(there, backup.slot).restart_bytes = there.received_bytes()
    return None
