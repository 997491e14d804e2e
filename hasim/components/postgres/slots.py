"""Physical replication slots as a manager such as Patroni keeps them.

Source: slot.c (ReplicationSlotReserveWal), slotfuncs.c of PostgreSQL 15; patroni 4.1.5,
patroni/postgresql/slots.py (sync_replication_slots: a slot for every other member, on each member).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hasim.components.postgres.senders import add_slot

if TYPE_CHECKING:
    from hasim.components.postgres.server import Postmaster


def keep_slots(server: Postmaster, wanted: Mapping[str, float]) -> None:
    """Make the slots that are missing, drop those that nobody wants or uses, and move the unused
    ones of a standby on to the positions that the leader's have (0: not known).
    """
    slots = server.kept.slots
    for name in [n for n, slot in slots.items() if n not in wanted and not slot.active]:
        del slots[name]
    for name, at_bytes in wanted.items():
        slot = slots.get(name) or add_slot(server, name)
        if slot.restart_bytes is None:  # immediately_reserve: from the last checkpoint on
            slot.restart_bytes = max(server.kept.redo_bytes, _checkpoint_bytes(server))
        if server.primary is None and not slot.active:
            here = min(at_bytes, server.received_bytes())
            slot.restart_bytes = max(slot.restart_bytes, here)


def _checkpoint_bytes(server: Postmaster) -> float:
    """The latest checkpoint that the server has."""
    at = server.position()
    return float(server.history.checkpoint_before(at)) if at is not None else 0.0


def slot_positions(server: Postmaster) -> dict[str, float]:
    """pg_replication_slots: the restart_lsn of each slot."""
    rows = {row.slot: row.flow for row in server.senders.rows.values()}
    found = {}
    for name, slot in server.kept.slots.items():
        at_bytes = slot.restart_bytes or 0.0
        if name in rows:
            rows[name].advance()
            at_bytes = max(at_bytes, rows[name].received_bytes)
        found[name] = at_bytes
    return found
