"""A server that does not run: bootstrap, start in place, crash recovery, rewind, rejoin.

Read beside patroni/ha.py (recover, bootstrap, _handle_rewind_or_reinitialize, post_recover) and
patroni/postgresql/rewind.py, 4.1.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasim.components.patroni import actions, race
from hasim.components.patroni.dcs import Steps
from hasim.lineage import common

if TYPE_CHECKING:
    from hasim.components.patroni.ha import HaLoop
    from hasim.components.patroni.node import Node

CRASH_RECOVERY = "doing crash recovery in a single user mode"

# initdb with its settings and users; a base backup of little data. Source: assumption; both took 1
# to 3 s in the laboratory.
INITDB_S = 2.0
BACKUP_S = 2.0

# A start in place has a helper process in front. Source: measured, postgres-patroni.csv, pm_kill
# at low load: outage - (loop_wait - phase) is 0.5 to 1.8 s, 0.3 s of it the server's own start.
HELPER_S = (0.2, 1.5)

# Single-user crash recovery, and pg_rewind, of little data. Source: measured, postgres-patroni.csv,
# rejoin_s of node_kill at low load: 6 to 13 s from the return of the node to its replication, a
# wait for the next cycle included.
SINGLE_USER_S = 2.0
REWIND_S = 2.0


def bootstrap(node: Node) -> Steps:
    """No data: the first member makes the cluster, the others copy the leader."""
    if not node.view.unlocked:
        leader = node.view.leader_data
        if leader is None or leader.state != "running":
            return "waiting for leader to bootstrap"
        what = f"trying to bootstrap from leader '{node.view.leader}'"
        node.job(f"bootstrap from leader '{node.view.leader}'", _clone(node, leader.server))
        return what
    if node.view.system or node.config.nofailover:
        return "waiting for leader to bootstrap"
    if not (yield from node.dcs.write("initialize", node.config.scope, create=0)):
        return "failed to acquire initialize lock"
    node.job("bootstrap", _initdb(node))
    return "trying to bootstrap a new cluster"


def _initdb(node: Node) -> Steps:
    yield from node.sleep(INITDB_S)
    node.new_disk(system=node.config.scope)
    node.role = "primary"
    node.bootstrapping = yield from node.start_server()


def after_bootstrap(loop: HaLoop) -> Steps:
    """post_bootstrap(): the lock and the settings of the new cluster."""
    node = loop.node
    node.bootstrapping = False
    node.watchdog.activate()
    got = yield from node.dcs.acquire()
    node.set_leader(got)
    yield from node.dcs.write("config", node.config.dynamic)
    yield from loop.load()
    return "initialized a new cluster"


def _clone(node: Node, source: str) -> Steps:
    """pg_basebackup; what the primary writes meanwhile comes along."""
    yield from node.sleep(BACKUP_S)
    p = node.machine.containers[source].process
    if p is None or p.data is None or not p.data.ready:
        return
    system = node.view.system or node.config.scope
    node.new_disk(
        system=system,
        timeline=p.data.timeline,
        position=p.data.received,
        standby=True,
        follow=source,
    )
    node.log("replica has been created using basebackup")
    yield from node.start_server()


def recover(loop: HaLoop) -> Steps:
    """recover(): the server has died, or Patroni has just started."""
    node = loop.node
    kept = False
    if node.has_lock and (yield from loop.update_lock()):
        kept = node.dynamic.primary_start_timeout > 0
        if not kept and (yield from race.failover_possible(node)):
            node.log("Primary crashed. Failing over.")
            yield from actions.demote(node, "immediate")
            return "stopped PostgreSQL to fail over after a crash"
    if kept and node.state == "crashed" and node.role == "primary" and not node.disk.standby:
        node.recovering = True
        node.job("starting primary after failure", _start_primary(node))
        return "starting primary after failure"
    node.watchdog.disable()
    disk = node.disk
    rewind = node.dynamic.use_pg_rewind
    dirty = not disk.standby and not disk.clean and not node.crash_recovered
    if dirty and (node.view.unlocked or rewind):
        node.job(CRASH_RECOVERY, _single_user(node))
        return CRASH_RECOVERY
    yield from loop.load()
    if node.has_lock:
        node.job("restarting after failure", actions.start_standby(node, ""))
        return "starting as readonly because i had the session lock"
    node.rewind_check = True
    message = rewind_or_reinitialize(node)
    if message:
        return message
    node.job("restarting after failure", actions.start_standby(node, node.upstream()))
    return "starting as a secondary"


def after_recovery(node: Node) -> Steps:
    """post_recover(): a leader whose server cannot be started gives the lock back."""
    if node.running:
        node.crash_recovered = False
        return None
    if node.has_lock:
        yield from actions.release(node)
        return "removed leader key after trying and failing to start postgres"
    return "failed to start postgres"


def _start_primary(node: Node) -> Steps:
    low, high = HELPER_S
    yield from node.sleep(low + (high - low) * node.draw("helper"))
    yield from node.start_server()


def _single_user(node: Node) -> Steps:
    """postgres --single: replays the WAL and stops cleanly. Its checkpoints are WAL that no other
    member has: if there is another leader by then, a rewind follows.
    """
    yield from node.sleep(SINGLE_USER_S)
    node.crash_recovered = True
    if node.disk is not None:
        node.disk.clean = node.disk.diverged = True


def rewind_or_reinitialize(node: Node) -> str:
    """The message, if a rewind or a new copy has been started."""
    upstream = node.upstream()
    leader = node.view.leader_data
    if not node.rewind_check or not upstream or leader is None:
        return ""
    p = node.machine.containers[upstream].process
    if p is None or p.data is None or not p.data.ready or p.data.role != "primary":
        return ""  # the leader is not there yet; look again at the next cycle
    if not node.diverged(upstream):
        node.rewind_check = False
        return ""
    if node.dynamic.use_pg_rewind:
        node.job(f"running pg_rewind from {leader.name}", _rewind(node, upstream))
        return f"running pg_rewind from {leader.name}"
    if node.config.remove_diverged:
        node.job("reinitializing due to diverged timelines", _reinitialize(node, upstream))
        return "reinitializing due to diverged timelines"
    return ""


def _rewind(node: Node, upstream: str) -> Steps:
    """Stop, take back what the leader does not have, start as its replica."""
    yield from node.stop_server("fast")
    yield from node.sleep(REWIND_S)
    p = node.machine.containers[upstream].process
    disk = node.disk
    if p is None or p.data is None or disk is None:
        return
    disk.position = common(disk.position, p.data.received)
    disk.timeline, disk.diverged, disk.clean = p.data.timeline, False, True
    node.rewind_check = False
    node.role = "replica"
    yield from actions.start_standby(node, upstream)


def _reinitialize(node: Node, upstream: str) -> Steps:
    yield from node.stop_server("immediate")
    node.rewind_check = False
    node.role = "replica"
    yield from _clone(node, upstream)
