"""synchronous_mode: which replicas a commit waits for, and who may take the lock.

Read beside patroni/ha.py (_process_multisync_replication, process_sync_replication_prepromote) and
patroni/postgresql/sync.py, 4.1.5. The order of the two writes keeps this true: whoever stands in
/sync has everything that was acknowledged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasim.components.patroni.dcs import Steps
from hasim.components.patroni.view import SyncState

if TYPE_CHECKING:
    from hasim.components.patroni.node import Node


# Source: patroni/ha.py: time.sleep(2) for the server to enable synchronous mode.
SETTLE_S = 2.0


def process_sync(node: Node) -> Steps:
    """Once a cycle on the leader."""
    if not node.is_primary or node.server is None:
        return
    if not node.dynamic.synchronous:
        if node.view.sync.mod and node.view.sync.leader:
            yield from _write(node, "", ())
            _names(node, ())
        return
    sync = node.view.sync
    picked, confirmed = _current(node)
    if sync.leader != node.config.name:
        if not (yield from _write(node, node.config.name, ())):
            return
        sync = SyncState(node.config.name, (), 1)
    set_now = node.sync_names
    if picked == sync.members == set_now:
        return
    common = tuple(m for m in sync.members if m in confirmed)
    if common != sync.members:
        node.log("Updating synchronous privilege temporarily", _shown(common))
        if not (yield from _write(node, node.config.name, common)):
            return
    wanted = picked
    if node.dynamic.synchronous_mode_strict and not picked:
        wanted = ("*",)
        node.log("No standbys available!")
    if wanted != set_now:
        node.log("Assigning synchronous standby status to " + _shown(wanted))
        _names(node, wanted)
    if picked and confirmed != picked:
        yield from node.sleep(SETTLE_S)
        if node.server is None:
            return
        _, confirmed = _current(node)
    news = bool(confirmed) and confirmed != common
    if news and (yield from _write(node, node.config.name, confirmed)):
        node.log("Synchronous standby status assigned to " + _shown(confirmed))


def before_promotion(node: Node) -> Steps:
    """The new leader alone stands in /sync until replicas have connected."""
    if not node.dynamic.synchronous:
        return True
    node.sync_names = ("*",) if node.dynamic.synchronous_mode_strict else ()
    return bool((yield from _write(node, node.config.name, ())))


def _current(node: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(members to pick, those of them that are synchronous now), in order of choice.

    Source: patroni/postgresql/sync.py (_ReplicaList): streaming, with a member key that says
    running, not nosync; those that are synchronous already come first.
    """
    known = node.view.members.values()
    members = {m.server: m for m in known if m.state == "running" and not m.nosync}
    rows = [
        (members[name].name, state, is_sync)
        for name, state, is_sync in node.server.streaming()
        if name in members
    ]
    streaming = [r for r in rows if r[1] == "streaming"]
    streaming.sort(key=lambda r: (not r[2], r[0] not in node.view.sync.members, r[0]))
    chosen = streaming
    if node.dynamic.synchronous_mode == "on":
        chosen = streaming[: node.dynamic.synchronous_node_count]
    picked = tuple(sorted(r[0] for r in chosen))
    return picked, tuple(sorted(r[0] for r in chosen if r[2]))


def _names(node: Node, members: tuple[str, ...]) -> None:
    """synchronous_standby_names, and a reload."""
    node.sync_names = members
    count = max(1, min(node.dynamic.synchronous_node_count, len(members)))
    mode = f"ANY {count}" if node.dynamic.synchronous_mode == "quorum" else f"FIRST {count}"
    servers = tuple(m if m == "*" else node.server_of(m) for m in members)
    node.server.set_sync(servers, mode if len(members) > 1 else "", node.blame)


def _write(node: Node, leader: str, members: tuple[str, ...]) -> Steps:
    return (yield from node.dcs.write("sync", (leader, members)))


def _shown(members: tuple[str, ...]) -> str:
    return "[" + ", ".join(members) + "]"
