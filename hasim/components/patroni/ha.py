"""The HA loop: one cycle every loop_wait on a fixed schedule, or at once when something happens.

Read beside patroni/__main__.py (schedule_next_run) and patroni/ha.py (_run_cycle), 4.1.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasim.components.patroni import actions, race, recovery
from hasim.components.patroni.client import DcsError
from hasim.components.patroni.dcs import Steps
from hasim.components.patroni.rest import ask, failsafe_of
from hasim.components.patroni.slots import sync_slots
from hasim.components.patroni.sync import before_promotion, process_sync
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.patroni.node import Node


# Members without the lock sleep this much longer. Source: patroni/dcs/etcd3.py (watch).
FOLLOWER_S = 0.5
LATE_S = 0.001  # source: patroni/__main__.py (schedule_next_run: time.sleep(0.001))

# From the start of a cycle to its first request to etcd: queries to its own server, python.
# Source: measured, reference/measured/postgres-patroni.csv: key gone to lock taken 0.11 s (median
# of 44 trials), keepalive 0.15 s after the cycle's start.
WORK_S = 0.1
# How old its own position is when it asks the others for theirs. Source: assumption; "a few ms",
# reference/postgres-patroni.md 2.3; two of three races with a living primary ended in deference.
AGE_S = 0.015


class HaLoop:
    """The main thread of a member."""

    def __init__(self, node: Node):
        self.node = node
        self.moved = node.env.event()
        if node.machine.booted:
            self._pin()
        else:
            node.machine.on_boot.append(self._pin)

    def run(self) -> Steps:
        """Cycle, sleep until the next one is due, again."""
        node = self.node
        node.next_run_ns = int(node.env.now)
        while True:
            yield from self.cycle()
            node.next_run_ns += node.dynamic.loop_wait * NS
            if node.next_run_ns <= node.env.now:
                node.next_run_ns = int(node.env.now)
                yield from node.sleep(LATE_S)
            elif (yield from self._nap()):
                node.next_run_ns = int(node.env.now)

    def _pin(self) -> None:
        """`phases: {<member>: v}`: a cycle begins v seconds after the start of the load; the gap
        before it is stretched or cut short. A v in the past has no effect.
        """
        node = self.node
        pin = node.world.scenario.phases.get(node.name)
        due = None if pin is None else node.world.start_ns + round(pin * NS)
        if due is not None and due >= node.env.now and node.p.alive:
            node.next_run_ns = due
            bell, self.moved = self.moved, node.env.event()
            bell.succeed()

    def _nap(self) -> Steps:
        """dcs.watch(): until the next cycle is due, or something wakes it (True)."""
        node = self.node
        node.dcs.refreshed_ns = -(10**18)
        waits = not node.busy and not node.view.unlocked and not node.has_lock
        extra = round(FOLLOWER_S * NS) if waits else 0
        while not node.woken and node.env.now < node.next_run_ns + extra:
            if node.bell.triggered:
                node.bell = node.env.event()
            due = node.env.timeout(node.next_run_ns + extra - node.env.now)
            yield node.env.any_of([node.bell, due, self.moved])
            yield from node.awake()
        woken, node.woken = node.woken, False
        return woken

    def cycle(self) -> Steps:
        """run_cycle(): what it logs is only written down when it is news."""
        node = self.node
        try:
            message = yield from self._cycle()
        except DcsError:
            message = yield from self._dcs_error()
        else:
            if node.is_leader:
                node.failsafe_until_ns = 0
            sync_slots(node)
            yield from node.dcs.touch_member(node.member_data())
        if message and message != node.said_last and not message.startswith("no action"):
            node.log(message)
        node.said_last = message

    def _cycle(self) -> Steps:
        node = self.node
        yield from self.load()
        if node.config.name not in node.view.members:
            yield from node.dcs.touch_member(node.member_data())
        if node.has_lock and node.view.config is None:
            yield from node.dcs.write("config", node.config.dynamic)
        if node.busy:
            return (yield from self._busy())
        if node.bootstrapping:
            return (yield from recovery.after_bootstrap(self))
        if node.recovering:
            node.recovering = False
            message = yield from recovery.after_recovery(node)
            if message:
                return message
        if node.disk is None:
            return (yield from recovery.bootstrap(node))
        if not node.running:
            if node.state in ("running", "starting"):
                node.state = "crashed"
            return (yield from recovery.recover(self))
        if node.zombie or not node.ready:
            return (yield from self._not_answering())
        node.state = "running"
        if node.has_lock or node.view.unlocked:  # for the others nothing hangs on these moments
            yield from node.sleep(WORK_S - AGE_S)
            node.seen_lsn = node.lsn()
            yield from node.sleep(AGE_S)
        if not node.ready:
            return "Error communicating with PostgreSQL. Will try again later"
        if node.view.unlocked:
            return (yield from self._unlocked())
        return (yield from self._locked())

    def load(self) -> Steps:
        """load_cluster_from_dcs(): the keys, and the settings that they hold."""
        node = self.node
        view = yield from node.dcs.cluster()
        if not view.unlocked or not node.old_view.members:
            node.old_view = view
        if view.unlocked and node.dynamic.failsafe_mode and node.env.now < node.failsafe_until_ns:
            view = view.with_leader(node.failsafe_leader)
        node.view = view
        if view.config is not None:
            node.dynamic = view.config
        if not node.has_lock and node.is_leader:
            node.set_leader(False)
        node.show()

    # ---- with and without a leader -------------------------------------------------------------
    def _unlocked(self) -> Steps:
        """process_unhealthy_cluster()."""
        node = self.node
        node.expired = node.old_view.leader not in node.view.members
        if not (yield from race.healthiest(node)):
            return (yield from self.follow("i am not the healthiest node"))
        got = yield from node.dcs.acquire()
        node.set_leader(got)
        if not got:
            return (yield from self.follow("trying and failing to obtain lock"))
        yield from node.dcs.clear_failover()
        yield from self.load()
        return (
            yield from self._enforce(
                "acquired session lock as a leader",
                "promoted self to leader by acquiring session lock",
            )
        )

    def _locked(self) -> Steps:
        """process_healthy_cluster()."""
        node = self.node
        if not node.has_lock:
            return (yield from self.follow("I do not have the lock and I was a leader"))
        if not (yield from self.update_lock(True)):
            if node.is_primary:
                yield from actions.demote(node, "immediate-nolock")
                return "demoted self because failed to update leader lock in DCS"
            return "not promoting because failed to update leader lock in DCS"
        message = yield from actions.asked_switchover(node)
        if message:
            return message
        name = node.config.name
        return (
            yield from self._enforce(
                f"no action. I am ({name}), the leader with the lock",
                "promoted self to leader because I had the session lock",
            )
        )

    def update_lock(self, status: bool = False) -> Steps:
        """update_lock(): keepalive of the lease, the position, the watchdog."""
        node = self.node
        lsn = node.seen_lsn if status and node.ready else None
        good = yield from node.dcs.update_leader(node.view, lsn)
        node.set_leader(good)
        if good:
            node.watchdog.keepalive()
        return good

    def _enforce(self, message: str, promoted: str) -> Steps:
        """enforce_primary_role(): promote, or see to synchronous replication."""
        node = self.node
        if not node.watchdog.activate():
            if node.is_primary:
                yield from actions.demote(node, "immediate")
                return "Demoting self because watchdog could not be activated"
            yield from actions.release(node)
            return "Not promoting self because watchdog could not be activated"
        if node.is_primary or node.role in ("primary", "promoted"):
            node.role = "primary" if node.is_primary else node.role
            yield from process_sync(node)
            return message
        if not (yield from before_promotion(node)):
            return "Postponing promotion because synchronous replication state was updated"
        node.failsafe_until_ns = 0
        mark = node.log(promoted)
        node.said_last = promoted
        node.job("promote", actions.promote(node, mark))
        return promoted

    def follow(self, why: str) -> Steps:
        """follow(): a primary without the lock is demoted, a replica turns to the leader."""
        node = self.node
        if why not in ("I do not have the lock and I was a leader",):
            yield from self.load()
        if node.is_primary:
            node.log(f"demoting self because {why}")
            yield from actions.demote(node, "immediate-nolock")
            return f"demoting self because {why}"
        message = recovery.rewind_or_reinitialize(node)
        if message:
            return message
        upstream = node.upstream()
        if node.disk.follow != upstream:
            node.server.follow(upstream, node.blame)
            node.rewind_check = True
        if node.view.unlocked:
            return f"following a different leader because {why}"
        leader = node.view.leader
        return (
            f"no action. I am ({node.config.name}), a secondary, and following a leader ({leader})"
        )

    # ---- while something else is going on -------------------------------------------------------
    def _busy(self) -> Steps:
        """handle_long_action_in_progress()."""
        node, action = self.node, self.node.busy
        waited_s = (node.env.now - node.busy_since_ns) / NS
        if node.has_lock and (yield from self.update_lock()):
            slow = action in ("starting primary after failure", recovery.CRASH_RECOVERY)
            late = slow and waited_s >= node.dynamic.primary_start_timeout
            if late and (yield from race.failover_possible(node)):
                node.log("Demoting self because primary startup is taking too long")
                node.busy = ""
                yield from actions.demote(node, "immediate")
                return "stopped PostgreSQL because of startup timeout"
            return f"updated leader lock during {action}"
        if node.is_primary and not node.has_lock and action != "promote":
            node.busy = ""
            yield from actions.demote(node, "immediate-nolock")
            return f"lost leader lock during {action}"
        return f"{action} in progress"

    def _not_answering(self) -> Steps:
        """The server is starting, or a zombie: the lock is kept, nothing else is done. What it was
        last counts (postgresql.is_primary falls back to the cached role).
        """
        node = self.node
        if node.role == "primary" and not node.has_lock and not node.view.unlocked:
            yield from actions.demote(node, "immediate-nolock")
            return "demoting self because I do not have the lock and I was a leader"
        if node.has_lock:
            yield from node.sleep(WORK_S)
            yield from self.update_lock()
        if node.zombie:
            # Source: patroni/postgresql/connection.py: a query is tried for retry_timeout / 2
            yield from node.sleep(node.dynamic.retry_timeout / 2)
            return "Error communicating with PostgreSQL. Will try again later"
        return "PostgreSQL is still starting up"

    def _dcs_error(self) -> Steps:
        """_handle_dcs_error(): a primary without the DCS demotes itself."""
        node = self.node
        node.log("Error communicating with DCS")
        if not node.running or not node.is_primary:
            return "DCS is not accessible"
        if node.dynamic.failsafe_mode and (yield from self._failsafe()):
            node.set_leader(True)
            node.watchdog.keepalive()
            return (
                "continue to run as a leader because failsafe mode is enabled and all members "
                "are accessible"
            )
        node.log("demoting self because DCS is not accessible and I was a leader")
        yield from actions.demote(node, "offline")
        return "demoted self because DCS is not accessible and I was a leader"

    def _failsafe(self) -> Steps:
        """check_failsafe_topology(): every member of the /failsafe key must accept."""
        node, accepted = self.node, []
        members = {k: v for k, v in node.view.failsafe.items() if k != node.config.name}
        name, ttl_s = node.config.name, float(node.dynamic.ttl)

        def one(api: str) -> Steps:
            accepted.append((yield from ask(node, api, lambda p: failsafe_of(p, name, ttl_s))))

        asked = [node.world.spawn(one(a), f"{node.name} failsafe {m}") for m, a in members.items()]
        if asked:
            yield node.env.all_of(asked)
            yield from node.awake()
        known = node.config.name in node.view.failsafe
        return known and len(accepted) == len(members) and all(accepted)
