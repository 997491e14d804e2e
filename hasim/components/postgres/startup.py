"""From exec to accepting connections: first start, base backup, recovery.

Source: docker-library/postgres docker-entrypoint.sh; xlogrecovery.c and postmaster.c of 15.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from hasim.components.base import request
from hasim.components.postgres.config import BACKUP_BYTES, BACKUP_BYTES_S
from hasim.components.postgres.datadir import exists
from hasim.components.postgres.flow import Flow
from hasim.components.postgres.primary import Primary
from hasim.components.postgres.receiver import Receiver
from hasim.components.postgres.senders import add_slot

if TYPE_CHECKING:
    from hasim.components.base import Process
    from hasim.components.postgres.server import Postmaster
    from hasim.lineage import Position

# The postmaster and its startup process until a cleanly stopped server takes connections. Source:
# measured for the simulator, PostgreSQL 15: 0.05 to 0.15 s, 10 starts.
START_S = 0.08

# Walsenders that a base backup takes. Source: pg_basebackup, `-X stream` is the default.
BACKUP_SENDERS = 2


def start(server: Postmaster) -> Generator:
    """Everything before the first connection; the process may exit on the way."""
    p, disk, config = server.p, server.disk, server.config
    if server.kept.full:
        text = 'could not create lock file "postmaster.pid": No space left on device'
        server.machine.exit(p, 1, server.log("FATAL", text, cause=server.blame))
        return
    if not exists(server.machine, server.name):
        if config.backup is not None or config.standby:
            yield from _base_backup(server)
        else:
            yield server.world.seconds(config.first_start_s)
            disk.system = config.system or server.name
            for slot in config.slots:
                add_slot(server, slot)
    if p.alive:
        yield from _recover(server)
    yield from p.awake()
    if p.alive and not server.stopping:
        if disk.standby:
            _stand_by(server)
        else:
            _lead(server)


def _recover(server: Postmaster) -> Generator:
    """A server that was not stopped cleanly replays its WAL since the last checkpoint."""
    disk = server.disk
    yield server.world.seconds(START_S)
    yield from server.p.awake()
    if not server.p.alive or disk.clean or disk.position is None:
        return
    end = server.history.bytes_of(disk.position)
    wal = max(0.0, end - server.kept.redo_bytes)
    took_s = wal / server.config.redo_bytes_s
    text = "database system was interrupted; automatic recovery in progress"
    server.log(text, f"{wal / 1e6:.3g} MB of WAL, {took_s:.3g}s", cause=server.blame)
    yield server.world.seconds(took_s)


def _lead(server: Postmaster) -> None:
    server.role = "primary"
    server.primary = Primary(server, server.disk.position)
    server.ready = True
    mark = server.log("database system is ready to accept connections", cause=server.blame)
    server.primary.start(mark)
    server.disk.clean = False
    server.machine.listen(server.p, True, mark)


def _stand_by(server: Postmaster) -> None:
    server.role = "standby"
    server.flow = Flow(server.history, server.disk.position, server.config.replay_bytes_s)
    server.ready = bool(server.config.get("hot_standby"))
    text = "database system is ready to accept read-only connections"
    mark = server.log(text if server.ready else "entering standby mode", cause=server.blame)
    server.disk.clean = False
    if server.ready:
        server.machine.listen(server.p, True, mark)
    follow(server)


def follow(server: Postmaster) -> None:
    """Start the walreceiver's loop if the standby knows an upstream."""
    upstream = server.upstream()
    if upstream:
        server.receiver = Receiver(server, upstream)
        server.world.spawn(server.receiver.run(), f"walreceiver {server.name}")


def _base_backup(server: Postmaster) -> Generator:
    """pg_basebackup from the upstream; without one there is no directory and the server exits."""
    p, disk = server.p, server.disk
    upstream = server.upstream()
    answer: tuple = ("no such host", None)
    if upstream in server.machine.containers:
        answer = yield from request(server.machine, p, upstream, lambda peer: _offer(server, peer))
    if p.alive and isinstance(answer[1], str) or answer[1] is None:
        why = answer[1] or f"connection to server at {upstream or '?'} failed: {answer[0]}"
        mark = server.log("pg_basebackup: error", why, cause=server.blame)
        if p.alive:
            server.machine.exit(p, 1, mark)
        return
    system, timeline, size = answer[1]
    yield server.world.seconds(size / min(BACKUP_BYTES_S, server.link_bytes_s(upstream)))
    yield from p.awake()
    peer = server.machine.containers[upstream].process
    if not p.alive:
        return
    if peer is None or peer.data is None or not peer.data.ready:
        mark = server.log("pg_basebackup: error", "could not receive data", cause=server.blame)
        server.machine.exit(p, 1, mark)
        return
    position: Position | None = peer.data.position()
    disk.system, disk.timeline, disk.position = system, timeline, position
    disk.standby, disk.follow, disk.clean = server.config.standby, upstream, True
    server.kept.redo_bytes = server.history.bytes_of(position)
    server.log("pg_basebackup: base backup completed", cause=server.blame)


def _offer(server: Postmaster, peer: Process) -> tuple | str:
    """The upstream's answer to a base backup: what it is, or why not."""
    there = peer.data
    if there is None or not there.ready:
        return "FATAL: the database system is starting up"
    if there.config.refuses(server.user) is not None:
        return (
            f'FATAL: no pg_hba.conf entry for replication connection, user "{server.user}" (PG-4)'
        )
    if len(there.senders.rows) + BACKUP_SENDERS > there.config.get("max_wal_senders"):
        return "FATAL: number of requested standby connections exceeds max_wal_senders"
    backup = server.config.backup
    if backup is not None and backup.slot:
        if backup.creates_slot and backup.slot in there.kept.slots:
            return f'ERROR: replication slot "{backup.slot}" already exists'
        if backup.creates_slot:
            add_slot(there, backup.slot)
        if backup.slot not in there.kept.slots:
            return f'ERROR: replication slot "{backup.slot}" does not exist'
        there.kept.slots[backup.slot].restart_bytes = there.received_bytes()
    return there.disk.system, there.timeline, BACKUP_BYTES
