"""pg_ctl stop, SIGTERM, SIGINT, SIGQUIT.

Source: PostgreSQL manual 19.5 "Shutting Down the Server"; postmaster.c (PostmasterStateMachine).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hasim.components.postgres.server import Postmaster

# source: manual 19.5
MODES = {"SIGTERM": "smart", "SIGINT": "fast", "SIGQUIT": "immediate"}

# Ending the sessions, and the shutdown checkpoint. Source: measured for the simulator, PostgreSQL
# 15: a fast stop takes 0.02 to 0.09 s when idle, an immediate one 0.01 s (10 and 6 stops); with
# dirty buffers the checkpoint writes them, for which the upper end is taken.
END_SESSIONS_S = 0.01
CHECKPOINT_S = 0.1
IMMEDIATE_S = 0.01


def stop(server: Postmaster, mode: str, cause: int) -> Generator:
    """One of the three ways; a harsher one overtakes a milder one that is under way."""
    p = server.p
    if not p.alive:
        return
    mark = server.log(f"received {mode} shutdown request", cause=cause)
    if mode == "immediate":
        yield server.world.seconds(IMMEDIATE_S)
        _exit(server, mark)
        return
    if mode == "smart":
        server.machine.listen(p, False, mark)
        pooled = any(service.pools for service in server.machine.stack.services)
        yield p.ended if pooled else server.world.drained(server.name)  # a pool never leaves
        yield from p.awake()
    if p.alive and not server.stopping:
        yield from _fast(server, mark)


def _fast(server: Postmaster, cause: int) -> Generator:
    """Sessions end, a checkpoint is written, the walsenders see it through to every standby."""
    p = server.p
    server.stopping = True
    server.ready = False
    server.world.set_writable(server.name, False)
    server.world.cut(server.name)
    server.machine.listen(p, False, cause)
    if server.primary is not None:
        server.primary.close()
        server.world.set_commit(server.name, 0.0)  # who waits is told that it is committed here
    yield server.world.seconds(END_SESSIONS_S)
    yield from p.awake()
    if server.receiver is not None and p.alive:
        server.receiver.halt()
    yield server.world.seconds(CHECKPOINT_S)
    yield from p.awake()
    if p.alive:
        yield from _see_off(server, cause)
    if p.alive:
        server.clean = True
        if server.primary is not None:
            server.kept.seen_off = tuple(server.senders.rows)
            newest = server.history.cluster.branches[-1]
            server.disk.diverged |= newest is not server.primary.branch
        server.kept.redo_bytes = server.received_bytes()
        _exit(server, cause)


def _see_off(server: Postmaster, cause: int) -> Generator:
    """Wait until each standby has all; a silent one holds the stop up to wal_sender_timeout."""
    told = False
    while server.p.alive and server.senders.rows:
        rows = tuple(server.senders.rows.values())
        silent = [row for row in rows if row.silent]
        if silent and not told:
            told = True
            names = ", ".join(row.standby for row in silent)
            server.log("shutdown waits for a walsender", f"no answer from {names}", cause=cause)
        if silent:
            yield server.senders.changed
            continue
        wait_s = max(_left_s(server, row) for row in rows)
        if wait_s == 0:
            return
        yield server.world.env.any_of([server.senders.changed, server.world.seconds(wait_s)])
    yield from server.p.awake()


def _left_s(server: Postmaster, row) -> float:
    """Seconds until this standby has confirmed everything; 0: it has."""
    row.flow.advance()
    left = row.flow.unsent_bytes(server.position())
    if left <= 0:
        return 0.0
    rtt_s = 2 * server.machine.one_way_s(row.standby, server.name)
    return rtt_s + left / row.flow.link_bytes_s()


def _exit(server: Postmaster, cause: int) -> None:
    if server.p.alive:
        mark = server.log("database system is shut down", cause=cause)
        server.machine.exit(server.p, 0, mark)
