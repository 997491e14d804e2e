"""What a member does with its server: promote, demote, hand the lock over.

Read beside patroni/ha.py (demote, process_manual_failover_from_leader) and
patroni/postgresql/__init__.py (_do_stop, promote), 4.1.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasim.components.patroni import race
from hasim.components.patroni.dcs import Steps
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.patroni.node import Node


# From the lock to pg_ctl promote (a thread, a fork). Source: measured,
# reference/measured/postgres-patroni.csv, promote_req_s - lock_acquired_s and the rest of the
# median 0.2 s until writes are accepted that is not the server's own.
ASK_PROMOTE_S = 0.06

# From the decision to demote until the server gets its signal. Source: measured,
# reference/postgres-patroni.md 2.4: clients are cut about 0.3 s after the demotion starts.
BEFORE_STOP_S = 0.3

# A checkpoint before a graceful demotion. Source: measured, postgres-patroni.csv, switchover:
# old_not_rw_s is 0.4 s later than after SIGTERM.
CHECKPOINT_S = 0.3

# Source: patroni/postgresql/__init__.py (STOP_POLLING_INTERVAL) and patroni/ha.py (on_shutdown:
# time.sleep(1), demote: time.sleep(2)).
POLL_S = 1.0
CATCH_UP_S = 1.0
HAND_OVER_S = 2.0


def promote(node: Node, mark: int) -> Steps:
    """pg_ctl promote in the background."""
    yield from node.sleep(ASK_PROMOTE_S)
    server = node.server
    if server is None or not node.has_lock:
        return
    node.role = "promoted"
    done = server.promote(mark)
    yield node.env.any_of([done, server.p.ended])
    yield from node.awake()
    if done.triggered:
        node.role = "primary"
        node.disk.diverged = False
        node.rewind_check = False
        node.show()


def demote(node: Node, mode: str) -> Steps:
    """offline: the DCS is gone (fast stop, then read-only). immediate-nolock: somebody else has
    the lock. immediate: give it back at once.
    """
    node.log(f"Demoting self ({mode})")
    node.rewind_check = True
    node.watchdog.disable()
    _expire(node)
    if mode == "offline":
        yield from node.sleep(BEFORE_STOP_S)
        yield from node.stop_server("fast")
    else:
        yield from node.stop_server("immediate")
        if mode == "immediate-nolock" and node.disk is not None:
            node.disk.diverged = True  # it has written WAL that the new leader does not have
    node.role = "demoted"
    node.set_leader(False)
    if mode == "immediate":
        yield from release(node)
    upstream = ""
    if mode != "offline":
        node.view = yield from node.dcs.cluster()
        upstream = node.upstream()
    if mode == "offline":
        yield from start_standby(node, upstream)
    else:
        node.job("starting after demotion", start_standby(node, upstream))


def _expire(node: Node) -> None:
    """The old belief in the lock ends on its own while the stop takes its time."""
    left_s = (node.leader_until_ns - int(node.env.now)) / NS
    if node.rest is not None and left_s > 0:
        node.rest.later(left_s)


def start_standby(node: Node, upstream: str) -> Steps:
    """state_handler.follow(): standby.signal, primary_conninfo, start."""
    disk = node.disk
    if disk is None or node.process is not None:
        return
    disk.diverged = disk.diverged or node.diverged(upstream)
    disk.standby, disk.follow = True, upstream
    node.role, node.recovering = "replica", True
    yield from node.start_server()


def release(node: Node) -> Steps:
    """release_leader_key_voluntarily()."""
    node.set_leader(False)
    yield from node.dcs.delete_leader()
    yield from node.dcs.touch_member(node.member_data())
    node.log("Leader key released")


def stop_and_hand_over(node: Node) -> Steps:
    """A fast stop; once a replica has the shutdown checkpoint the lock is given up. True: it was.

    Patroni looks at pg_control once a second; if the postmaster is still there and says that it
    is shut down, the replicas get one more second. In the laboratory it was, being a zombie (the
    key went 2.3 to 2.7 s after the signal: postgres-patroni.csv, sigterm_patroni). Under an init
    that reaps at once it may have gone (measured, patroni 4.1.5: 1.1 to 1.6 s, four stops).
    """
    server = node.server
    if server is None:
        return False
    ended = server.stop("fast", node.blame)
    node.state = "stopping"
    node.watchdog.disable()
    polls = 0
    while polls == 0 or (node.process is not None and not _checkpointed(node)):
        yield from node.sleep(POLL_S)
        polls += 1
    lsn = node.disk_lsn(server)
    yield from node.sleep(CATCH_UP_S)
    released = False
    if (yield from race.failover_possible(node, lsn)):
        node.role = "demoted"
        node.set_leader(False)
        released = yield from node.dcs.delete_leader(lsn)
        node.log("Leader key released")
    yield ended
    yield from node.awake()
    node.state, node.role = "stopped", "demoted"
    if not released:
        node.set_leader(False)
        yield from node.dcs.delete_leader(lsn)
    node.show()
    return True


def _checkpointed(node: Node) -> bool:
    """pg_control says "shut down": only walsenders are left to wait for."""
    return node.server is not None and bool(node.server.stopping)


def asked_switchover(node: Node) -> Steps:
    """process_manual_failover_from_leader(): the message of the cycle, or None."""
    failover = node.view.failover
    if failover is None:
        return None
    if failover.leader and failover.leader != node.config.name:
        yield from node.dcs.clear_failover()
        return None
    if not (yield from race.failover_possible(node)):
        node.log("switchover is not possible")
        yield from node.dcs.clear_failover()
        return None
    node.job("switchover: demote", _graceful(node))
    return "switchover: demoting leader " + node.config.name


def _graceful(node: Node) -> Steps:
    """demote("graceful"): a checkpoint first, so that the stop is short."""
    node.log("Demoting self (graceful)")
    node.rewind_check = True
    yield from node.sleep(CHECKPOINT_S)
    yield from node.sleep(BEFORE_STOP_S)
    yield from stop_and_hand_over(node)
    yield from node.sleep(HAND_OVER_S)
    node.view = yield from node.dcs.cluster()
    yield from start_standby(node, node.upstream())
