"""From exec to accepting connections: first start, base backup, recovery.

Source: docker-library/postgres docker-entrypoint.sh; xlogrecovery.c and postmaster.c of 15.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from hasim.components.postgres.backup import base_backup
from hasim.components.postgres.datadir import exists
from hasim.components.postgres.flow import Flow
from hasim.components.postgres.primary import Primary
from hasim.components.postgres.receiver import Receiver
from hasim.components.postgres.senders import add_slot
from hasim.source import Span

if TYPE_CHECKING:
    from hasim.components.postgres.server import Postmaster

# The postmaster and its startup process until a cleanly stopped server takes connections. Source:
# measured for the simulator, PostgreSQL 15: 0.05 to 0.15 s, 10 starts.
START_S = 0.08

# After a crash every file of the directory is synced before the redo, and a checkpoint is written
# after it. Source: measured, median of the quiet pm_kill trials (postgres-patroni.csv); about 1000
# files took 0.6 s on another machine, 3.6 s when most of them had just been written. xlog.c
# (StartupXLOG, SyncDataDirectory).
SYNC_S = 0.3


def start(server: Postmaster) -> Generator:
    """Everything before the first connection; the process may exit on the way."""
    p, disk, config = server.p, server.disk, server.config
    if server.kept.full:
        text = 'could not create lock file "postmaster.pid": No space left on device'
        server.machine.exit(p, 1, server.log("FATAL", text, cause=server.blame))
        return
    if not exists(server.machine, server.name):
        if config.backup is not None or config.standby:
            yield from base_backup(server)
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


def restart_after_crash(server: Postmaster, cause: int) -> Generator:
    """A backend was killed (SIGKILL, OOM): all sessions end, and the same postmaster recovers.

    Source: manual 20.13 restart_after_crash; postmaster.c (HandleChildCrash).
    """
    p = server.p
    mark = server.log("all server processes terminated; reinitializing", cause=cause)
    server.ready, server.disk.position = False, server.position()
    server.world.set_writable(server.name, False)
    server.world.cut(server.name)
    server.machine.listen(p, False, mark)
    for row in tuple(server.senders.rows.values()):
        row.conn.hang_up()
        server.senders.drop(row)
    if server.primary is not None:
        server.primary.close()
    elif server.receiver is not None:
        server.receiver.halt()
        server.receiver = None
    yield from _recover(server)
    yield from p.awake()
    if not p.alive or server.stopping:
        return
    server.ready = True
    mark = server.log("database system is ready to accept connections", cause=mark)
    server.machine.listen(p, True, mark)
    if server.primary is not None:
        server.primary.go_on(mark)
    else:
        follow(server)


def _recover(server: Postmaster) -> Generator:
    """A server that was not stopped cleanly replays its WAL since the last checkpoint; a standby
    makes a restartpoint of each that it replays. Source: xlog.c (CreateRestartPoint).
    """
    disk = server.disk
    yield server.world.seconds(start_s(server))
    yield from server.p.awake()
    if not server.p.alive or disk.clean or disk.position is None:
        return
    end = server.history.bytes_of(disk.position)
    text = "database system was not properly shut down; automatic recovery in progress"
    if disk.standby:
        text = "database system was interrupted while in recovery"
        last = server.history.checkpoint_before(disk.position)
        server.kept.redo_bytes = max(server.kept.redo_bytes, last)
    wal = max(0.0, end - server.kept.redo_bytes)
    took_s = wal / server.config.redo_bytes_s
    server.log(text, f"{wal / 1e6:.3g} MB of WAL, {took_s:.3g}s", cause=server.blame)
    yield server.world.seconds(SYNC_S + took_s)


def start_s(server: Postmaster) -> float:
    """The profile's `boot`, if it states one."""
    service = server.machine.containers[server.name].service
    if service is None or not isinstance(service.where.get("boot"), Span):
        return START_S
    name, tick = f"boot {server.name}", server.p.epoch * 64 + server.p.boots
    server.p.boots += 1
    return server.machine.sample(service.boot, name, tick, "boot")


def _lead(server: Postmaster) -> None:
    server.machine.listen(server.p, True, server.blame)
    if not server.p.alive:  # its disk is full
        return
    server.role, server.kept.seen_off = "primary", None
    server.primary = Primary(server, server.disk.position)
    server.ready = True
    mark = server.log("database system is ready to accept connections", cause=server.blame)
    server.primary.start(mark)
    server.disk.clean = False


def _stand_by(server: Postmaster) -> None:
    server.role = "standby"
    server.flow = Flow(server.history, server.disk.position, server.config.replay_bytes_s)
    delay_s = server.config.seconds("recovery_min_apply_delay")
    server.flow.apply_delay_ns = round(delay_s * 1e9)
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
