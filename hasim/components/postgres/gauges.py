"""What an exporter shows of a server, with the traps of its formulas, and the true staleness.

Source: postgres_exporter collector/pg_replication.go (the newer formula), its old queries.yaml (the
older one); reference/postgres-patroni.md 1.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hasim.components.postgres.datadir import kept
from hasim.components.postgres.primary import REPLAY_S, WRITE_S
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.base import Machine
    from hasim.components.postgres.senders import Sender
    from hasim.components.postgres.server import Postmaster
    from hasim.lineage import Position


def show(server: Postmaster) -> None:
    """Register the gauges of an instance, once; they always look at its latest process."""
    machine, name = server.machine, server.name

    def gauge(
        metric: str, read: Callable[[Postmaster], float | None], down: float | None = None
    ) -> None:
        key = (name, metric, ())
        machine.gauges.setdefault(key, lambda: _of_running(machine, name, read, down))

    gauge("pg_up", lambda s: 1.0, 0.0)
    gauge("pg_replication_is_replica", lambda s: float(s.role == "standby"))
    gauge("pg_replication_lag_seconds", lambda s: timestamp_lag_s(s, zero_when_replayed=True))
    gauge("pg_replication_lag", lambda s: timestamp_lag_s(s, zero_when_replayed=False))
    gauge("pg_stat_replication_count", lambda s: float(len(s.senders.rows)))
    gauge("pg_stat_replication_write_lag_seconds", lambda s: worst_lag_s(s, 0))
    gauge("pg_stat_replication_flush_lag_seconds", lambda s: worst_lag_s(s, 1))
    gauge("pg_stat_replication_replay_lag_seconds", lambda s: worst_lag_s(s, 2))
    gauge("pg_replication_slots_retained_bytes", retained_bytes)
    gauge("replication_lag", lambda s: staleness_s(s) if s.flow is not None else None)


def _of_running(
    machine: Machine,
    name: str,
    read: Callable[[Postmaster], float | None],
    down: float | None,
) -> float | None:
    """The value; `down` when the exporter cannot ask the server."""
    from hasim.components.postgres.server import servers

    server = servers(machine)[name]
    if not server.p.alive or server.p.frozen or not server.ready:
        return down
    return read(server)


def timestamp_lag_s(server: Postmaster, *, zero_when_replayed: bool) -> float | None:
    """now() - pg_last_xact_replay_timestamp(): None before the first replayed transaction."""
    flow = server.flow
    if flow is None:
        return 0.0
    flow.advance()
    if zero_when_replayed and flow.replayed_bytes >= flow.received_bytes:
        return 0.0
    at = flow.replayed
    while at is not None and at.count == 0:
        at = at.branch.fork
    if at is None:
        return None
    age_s = (server.now - server.history.time_of(at.branch, at.count)) / NS
    ahead_s = server.kept.clock_s - kept(server.machine, at.branch.node).clock_s
    return max(0.0, age_s + ahead_s)


def staleness_s(server: Postmaster) -> float:
    """Age of the oldest acknowledged write of the newest primary that this standby cannot show."""
    flow, history = server.flow, server.history
    if flow is None:
        return 0.0
    flow.advance()
    if history.cluster.branches:
        history.remember(history.cluster.branches[-1].node)
    missing = first_missing(server)
    return 0.0 if missing is None else (server.now - history.time_of(*missing)) / NS


def first_missing(server: Postmaster):
    """(branch, number) of the first write that the standby has not replayed; None: it has all."""
    cluster, at = server.history.cluster, server.flow.replayed if server.flow else None
    if not cluster.branches:
        return None
    branch = cluster.branches[-1]
    upto = cluster.count(branch)
    found = None
    while True:
        known = at.count if at is not None and at.branch is branch else 0
        if known < upto:
            found = branch, known + 1
        if (at is not None and at.branch is branch) or branch.fork is None:
            return found
        branch, upto = branch.fork.branch, branch.fork.count


def retained_bytes(server: Postmaster) -> float | None:
    """The most that a slot of this primary holds back."""
    if server.primary is None:
        return None
    here, slots = server.received_bytes(), server.kept.slots
    held = [
        here - at_bytes
        for name, at_bytes in server.slot_positions().items()
        if slots[name].restart_bytes is not None and not slots[name].lost
    ]
    return max(held, default=0.0)


def worst_lag_s(server: Postmaster, column: int) -> float | None:
    """The largest write, flush or replay lag among the standbys; None: the columns are NULL."""
    rows = [reported_lags_s(server, row) for row in server.senders.rows.values()]
    return max((lags[column] for lags in rows if lags is not None), default=None)


def reported_lags_s(server: Postmaster, row: Sender) -> tuple[float, float, float] | None:
    """write_lag, flush_lag, replay_lag of pg_stat_replication: the age of the confirmed position
    when its reply arrives; None when the standby has all and nothing was written for 10 s.
    """
    flow, primary = row.flow, server.primary
    if primary is None or row.silent or row.gone:
        return None
    flow.advance()
    latest = server.last_commit_ns()
    if latest is None or (server.now - latest > 10 * NS and not flow.backlog_bytes):
        return None
    there_s = server.machine.one_way_s(server.name, row.standby)
    back_s = server.machine.one_way_s(row.standby, server.name)
    whole = flow.unsent_bytes(server.position()) <= 0  # what arrives now was written one way ago
    write_s = (there_s if whole else _age_s(server, flow.received)) + WRITE_S + back_s
    flush_s = write_s + server.flush_s(row.standby)
    behind_s = _age_s(server, flow.replayed) - _age_s(server, flow.received)
    return write_s, flush_s, flush_s + REPLAY_S + max(0.0, behind_s)


def _age_s(server: Postmaster, at: Position | None) -> float:
    """How long ago the position was written here, which is when it went out."""
    primary = server.primary
    if at is None or primary is None or at.count == 0:
        return 0.0
    return (server.now - server.history.time_of(at.branch, at.count) + primary.waits_ns) / NS
