"""One etcd member: raft's leader election and the clients' requests. Leases are in lessor.py.

Read beside etcd 3.4 raft/raft.go. Heartbeats are no events: a follower hears of it when its
leader can no longer be heard (Machine.watch and notice) and counts its election timeout from the
last heartbeat that it would have got.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

from hasim.components.base import Machine, Process
from hasim.components.etcd.config import EtcdConfig
from hasim.components.etcd.lessor import MIN_TTL_TIMEOUTS, Lessor
from hasim.components.etcd.requests import FSYNC_S, Requests
from hasim.components.etcd.store import (
    Change,
    Command,
    Delete,
    Grant,
    Keys,
    Put,
    Revoke,
    Store,
)
from hasim.sim.world import CONNECTS
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.sim.world import World


class Member:
    """The state of one running member (Process.data); `store` is what the cluster committed."""

    def __init__(self, p: Process, world: World, machine: Machine, config: EtcdConfig):
        self.p, self.world, self.machine, self.config = p, world, machine, config
        self.name, self.env = p.instance, p.env
        self.others = self._others()
        key = f"etcd:{config.cluster}:{','.join(sorted([self.name, *self.others]))}"
        self.store: Store = machine.disks.setdefault(key, Store())
        position = machine.disks.setdefault(f"{key}:{self.name}", {"log": 0, "term": 0})
        self.position: dict[str, int] = position
        self.keys = Keys()
        self.applied = 0
        self.leader = ""  # whom this member follows; itself when it leads
        self.silent_ns = p.env.now  # since when it has not heard of a leader
        self.ready = False
        self.round = 0  # number of its present wait for an election
        self.watchers: list[tuple[Any, str, Callable[[Change], None]]] = []
        self.lessor = Lessor(self)
        self.requests = Requests(self)
        self.elections = 0
        self.fresh = not self.store.term

    def _others(self) -> list[str]:
        found = (self.machine.peer(self.name, h, port) for _, h, port in self.config.peers)
        return sorted({n for n in found if n and n != self.name})

    @property
    def quorum(self) -> int:
        """How many members must agree."""
        return len(self.config.peers) // 2 + 1

    @property
    def leads(self) -> bool:
        """Is it the leader, of the newest term? (One that is cut off may not know better.)"""
        mine = self.position["term"] == self.store.term
        return mine and self.leader == self.name and self.p.alive

    # ---- who hears whom ----------------------------------------------------------------------
    def member(self, name: str) -> Member | None:
        """Another member's state, None if it does not run."""
        if name == self.name:
            return self
        p = self.machine.containers[name].process
        return p.data if p is not None and p.listening else None

    def hears(self, name: str) -> bool:
        """Do messages of another member arrive now?"""
        if name == self.name:
            return True
        there = self.member(name)
        if there is None or there.p.frozen:
            return False
        # a message needs one way; the connections that carry it need both
        return self.machine.reach(self.name, name) == CONNECTS and (
            self.machine.reach(name, self.name) == CONNECTS
        )

    def near(self) -> list[Member]:
        """The other members that it can talk to."""
        return [m for n in self.others if self.hears(n) and (m := self.member(n)) is not None]

    def has_quorum(self) -> bool:
        """Can it reach a majority, itself included?"""
        return 1 + len(self.near()) >= self.quorum

    def leader_heard(self) -> bool:
        if not self.leader or not self.hears(self.leader):
            return False
        there = self.member(self.leader)
        return there is not None and there.leads

    # ---- elections ---------------------------------------------------------------------------
    def start(self) -> None:
        """Follow what changes around it, and look for a leader."""
        for name in self.others:
            self.machine.notice(name, self._look)
            for a, b in ((self.name, name), (name, self.name)):
                self.machine.watch(a, b, lambda _reach: self._look())
        self.machine.notice(self.name, self._look)
        self._look()

    def _look(self) -> None:
        """Something has changed: is there still a leader, a quorum?"""
        if not self.p.alive or self.p.frozen:
            return
        if self.leads:
            if not self.has_quorum():
                self._wait(self._step_down(), "check quorum")
            else:
                self._lead_on()
            return
        if self.leader_heard():
            self._follow(self.leader)
            return
        leader = next((n for n in self.others if self.hears(n) and self._is_leader(n)), "")
        if leader:
            self._meet(leader)
        elif self.leader or self.round == 0:
            self._lose_leader()
        elif self.has_quorum():
            self._wait(self._campaign(), "election")

    def _is_leader(self, name: str) -> bool:
        there = self.member(name)
        return there is not None and there.leads

    def _wait(self, process: Generator, why: str) -> None:
        self.round += 1
        self.world.spawn(process, f"{self.name} {why}")

    def _lose_leader(self) -> None:
        if self.leader:
            beat = self.config.heartbeat_s * self._draw("heartbeat")
            self.silent_ns = self.env.now - round(beat * NS)
        self.leader = ""
        if self.has_quorum():
            self._wait(self._campaign(), "election")
        else:
            self.round += 1

    def _draw(self, purpose: str) -> float:
        self.elections += 1
        return self.world.draw(f"etcd {self.name}", self.elections, purpose)

    def _timeout_s(self) -> float:
        """Source: raft/raft.go resetRandomizedElectionTimeout: uniform in 1..2 timeouts."""
        return self.config.election_s * (1 + self._draw("election timeout"))

    def _campaign(self) -> Generator:
        """Wait the random timeout out, ask for votes, and again until there is a leader."""
        number = self.round
        due = self.silent_ns + round(self._timeout_s() * NS)
        if self.fresh and len(self.config.peers) == 1:
            due = self.env.now  # a new cluster of one does not wait; measured, 3.4.23: 0.2 s
        due = max(due, self.env.now)
        while self._undecided(number):
            if due > self.env.now:
                yield self.env.timeout(due - self.env.now)
            yield from self.p.awake()
            if not self._undecided(number) or not self.has_quorum():
                return
            voters = [m for m in self.near() if m.grants(self)]
            if not self.config.pre_vote or 1 + len(voters) >= self.quorum:
                self.position["term"] = max(self.position["term"], self.store.term) + 1
            if 1 + len(voters) >= self.quorum:
                yield self.world.seconds(self.majority_s() + FSYNC_S)
                if self._undecided(number) and self.has_quorum():
                    self._become_leader()
                return
            due = self.env.now + round(self._timeout_s() * NS)

    def _undecided(self, number: int) -> bool:
        return self.p.alive and self.round == number and not self.leader

    def grants(self, candidate: Member) -> bool:
        """A vote: not while it hears a leader, and only for one whose log is as long as its own.

        Source: raft/raft.go (Step: inLease with CheckQuorum; isUpToDate).
        """
        if self.leader and self.leader_heard():
            return False
        quiet_s = (self.env.now - self.silent_ns) / NS
        if self.leader and quiet_s < self.config.election_s:
            return False
        return candidate.position["log"] >= self.position["log"]

    def majority_s(self) -> float:
        """Round trip to the member that completes a majority."""
        trips = sorted(2 * self.machine.one_way_s(self.name, m.name) for m in self.near())
        return trips[self.quorum - 2] if self.quorum > 1 else 0.0

    def _become_leader(self) -> None:
        self.store.term = self.position["term"]
        self.leader = self.name
        self.round += 1
        self._catch_up()
        self.world.log(self.name, f"became leader at term {self.store.term}", "etcd")
        self.store.promote(self.env.now, self.config.election_s)
        self.lessor.lead()
        for other in self.near():
            other._follow(self.name)
        self.requests.serve_parked()

    def _meet(self, leader: str) -> None:
        """A leader is heard of again. One that has campaigned alone has a higher term, which
        makes the leader step down (raft/raft.go Step, with CheckQuorum and without PreVote).
        """
        there = self.member(leader)
        if there is not None and self.position["term"] > self.store.term:
            there.step_down("a member with a higher term is back")
            self._lose_leader()
        else:
            self._follow(leader)

    def _follow(self, leader: str) -> None:
        if self.leader != leader:
            self.round += 1
        self.leader = leader
        self.position["term"] = self.store.term
        self._catch_up()
        self.requests.serve_parked()

    def _step_down(self) -> Generator:
        """Source: raft/raft.go (CheckQuorum): looked at once each election timeout."""
        number = self.round
        yield self.world.seconds(self._timeout_s())
        yield from self.p.awake()
        believes = self.p.alive and self.round == number and self.leader == self.name
        if believes and not self.has_quorum():
            self.step_down("quorum is not active")

    def step_down(self, why: str) -> None:
        """The leader, or who takes itself for it, becomes a follower without a leader."""
        if self.leader != self.name:
            return
        self.world.log(self.name, "stepped down to follower", f"etcd: {why}")
        self.leader = ""
        self.silent_ns = self.env.now
        self.round += 1
        self._look()
        for other in self.near():
            other._look()

    def hand_over(self) -> None:
        """A leader that is stopped lets another member with a whole log campaign at once.

        Source: etcdserver/server.go (TransferLeadership), raft/raft.go (MsgTimeoutNow).
        """
        heirs = [m for m in self.near() if m.position["log"] >= self.position["log"]]
        if self.leads and heirs:
            self.leader = ""
            heirs[0].position["term"] = self.store.term + 1
            heirs[0]._become_leader()

    def _lead_on(self) -> None:
        self.round += 1
        for other in self.near():
            if other.leader != self.name:
                other._look()
        self.requests.serve_parked()

    # ---- requests ----------------------------------------------------------------------------
    def propose(self, command: Command) -> Any:
        """An event with ("ok", answer) or ("error", text), once a majority has the command."""
        return self.requests.enqueue(command)

    def put(self, key: str, value: Any, lease: int = 0, **conditions: Any) -> Any:
        """Write a key; conditions as in store.Put."""
        return self.propose(Put(key, value, lease, **conditions))

    def delete(self, key: str, value: Any = None) -> Any:
        """Delete a key if it has this value (None: whatever it has)."""
        return self.propose(Delete(key, value))

    def grant(self, ttl_s: float) -> Any:
        """A new lease."""
        return self.propose(Grant(max(ttl_s, ceil(MIN_TTL_TIMEOUTS * self.config.election_s))))

    def renew(self, lease: int) -> Any:
        """Lease keepalive: the leader's clock counts; nothing is written. Value: found or not."""
        return self.requests.enqueue(lambda: ("ok", self.store.renew(lease, self.env.now)))

    def range(self, prefix: str) -> Any:
        """A serializable read: what this member has applied. An event: nothing is served before
        the member has once had a leader.
        """
        done = self.env.event()
        if self.ready:
            return done.succeed(("ok", (self.keys.under(prefix), self.keys.revision)))
        self.requests.park(lambda: ("ok", (self.keys.under(prefix), self.keys.revision)), done)
        return done

    def watch(
        self, conn: Any, prefix: str, hear: Callable[[Change], None], after: int = 1 << 62
    ) -> None:
        """hear(change) at the client of the connection for every change of a key after a
        revision.
        """
        self.watchers = [w for w in self.watchers if not w[0].hung_up.triggered]
        self.watchers.append((conn, prefix, hear))
        for change in self.store.log[: self.applied]:
            if change.mod > after and change.key.startswith(prefix):
                conn.tell(lambda _, c=change: hear(c), back=True)

    def members(self) -> tuple[str, ...]:
        """The member list, answered from its own copy (3.4 asks nobody)."""
        return (self.name, *self.others)

    def commit(self, command: Command) -> tuple[str, Any]:
        """The leader has a majority for the command: apply it everywhere."""
        answer = self.store.apply(command, self.env.now)
        if isinstance(command, Grant | Revoke):
            self.lessor.wake()
        self._catch_up()
        for other in self.near():
            timer = self.world.seconds(self.machine.one_way_s(self.name, other.name))
            timer.callbacks.append(partial(other._applies, self.name))
        return answer

    def _applies(self, leader: str, _event: Any = None) -> None:
        if self.p.alive and not self.p.frozen and self.leader == leader:
            self._catch_up()

    def _catch_up(self) -> None:
        """Apply what is committed and tell the watchers."""
        changes = self.store.log[self.applied :]
        self.applied = len(self.store.log)
        self.position["log"] = self.applied
        for change in changes:
            self.keys.take(change)
            for conn, prefix, hear in self.watchers:
                if change.key.startswith(prefix):
                    conn.tell(lambda _, h=hear, c=change: h(c), back=True)
