"""A replication slot for every other member, on each member, so that none misses WAL.

Read beside patroni/dcs/__init__.py (slot_name_from_member_name, _get_members_slots) and
patroni/postgresql/slots.py (sync_replication_slots), 4.1.5.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.patroni.node import Node

# A member's slot outlives its key so long. Source: Patroni, member_slots_ttl: 30min.
MEMBER_SLOTS_TTL_S = 1800
MOST = 63  # source: PostgreSQL manual, NAMEDATALEN - 1


def slot_name(member: str) -> str:
    """The slot of a member.

    >>> slot_name("PG-1.a b")
    'pg_1_au0020b'
    """

    def instead(found: re.Match[str]) -> str:
        return "_" if found[0] in "-." else f"u{ord(found[0]):04d}"

    return re.sub("[^a-z0-9_]", instead, member.lower())[:MOST]


def sync_slots(node: Node) -> None:
    """Once a cycle."""
    if node.server is None or not node.ready or not node.dynamic.use_slots:
        return
    now = int(node.env.now)
    node.slots_seen.update(dict.fromkeys(node.view.members, now))
    oldest = now - MEMBER_SLOTS_TTL_S * NS
    others = [m for m, t in node.slots_seen.items() if t >= oldest and m != node.config.name]
    if node.config.nofailover:
        others = []
    node.server.keep_slots({slot_name(m): node.view.slots.get(slot_name(m), 0.0) for m in others})
