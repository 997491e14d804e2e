"""Promotion: replay what was received, take a new timeline, open for writes.

Source: xlogrecovery.c (CheckForStandbyTrigger), xlog.c (StartupXLOG, PerformRecoveryXLogAction).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from hasim.components.postgres.primary import Primary
from hasim.model import Dist

if TYPE_CHECKING:
    from hasim.components.postgres.server import Postmaster

# From the request to the first write with nothing left to replay. Source: measured,
# tests/measured/postgres-loss.csv, promote_to_write_s of 25 promotions: median 0.12, 95 % 0.26 s.
PROMOTE = Dist("lognormal", 0.12, 0.5)


def promote(server: Postmaster, cause: int, done: Any) -> Generator:
    """What the startup process does after pg_promote(); `done` fires once writes are accepted."""
    mark = server.log("received promote request", cause=cause)
    flow = server.flow
    if server.receiver is not None:
        yield server.receiver.halt()
    yield from server.p.awake()
    while server.p.alive and flow is not None:
        flow.advance()
        flow.apply_delay_ns = 0  # a triggered recovery waits no more
        if flow.backlog_bytes <= 0:
            break
        held_s = max(0, flow.held_until_ns - server.now) * 1e-9
        yield server.world.seconds(held_s + flow.backlog_bytes / flow.replay_bytes_s + 1e-6)
        yield from server.p.awake()
    if server.p.alive:
        text = f"selected new timeline ID: {server.timeline + 1}"
        mark = server.log(text, cause=mark)
        name, tick = f"promote {server.name}", server.p.epoch * 64 + server.timeline
        yield server.world.seconds(server.machine.sample(PROMOTE, name, tick, "promote"))
        yield from server.p.awake()
    if server.p.alive and not server.stopping:
        become_primary(server, mark)
        done.succeed()


def leave_behind(server: Postmaster) -> None:
    """A former primary whose last checkpoint this server has not got can follow it only after a
    pg_rewind, even if no acknowledged write is missing. Source: timeline.c (tliSwitchPoint).
    """
    disks = server.machine.disks
    for name in [k[8:] for k in disks if k.startswith("pgslots:")]:
        seen, disk = disks[f"pgslots:{name}"].seen_off, disks.get(f"pgdata:{name}")
        if disk is None or disk.system != server.disk.system or seen is None:
            continue
        if server.name not in (*seen, name):
            disk.diverged = True


def hold_replay(server: Postmaster, query_s: float, cause: int) -> None:
    """A conflict with recovery: all replay waits for the query, but not beyond the limit, which
    counts from the receipt of the WAL that is applied. Source: standby.c (GetStandbyLimitTime).
    """
    flow = server.flow
    if flow is None:
        return
    flow.advance()
    limit_s = server.config.seconds("max_standby_streaming_delay")
    limit_ns = server.receipt_ns() + min(limit_s, 1e9) * 1e9
    wanted_ns = server.now + query_s * 1e9
    mark = server.log("recovery still waiting", "recovery conflict", cause=cause)
    flow.held_until_ns = max(flow.held_until_ns, round(min(wanted_ns, max(limit_ns, server.now))))
    if wanted_ns > limit_ns:
        server.world.spawn(_cancel(server, mark), f"conflict {server.name}")


def _cancel(server: Postmaster, cause: int) -> Generator:
    flow = server.flow
    if flow is not None:
        yield server.world.env.timeout(max(0, flow.held_until_ns - server.now))
    if server.p.alive and server.flow is flow:
        origin = server.config.origin("max_standby_streaming_delay")
        text = "canceling statement due to conflict with recovery"
        server.log(text, "SQLSTATE 40001", cause=cause, origin=origin)


def become_primary(server: Postmaster, cause: int) -> None:
    """End of recovery on a standby: a new timeline begins where its WAL ends."""
    fork = server.position()
    leave_behind(server)
    server.disk.standby, server.disk.follow = False, ""
    server.disk.timeline = server.timeline + 1
    server.flow, server.receiver = None, None
    server.role, server.promoted, server.kept.seen_off = "primary", True, None
    server.primary = Primary(server, fork)
    server.ready = True
    mark = server.log("database system is ready to accept connections", "promoted", cause=cause)
    server.primary.start(mark)
