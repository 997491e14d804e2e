"""What travels between the keepalived processes of a stack: whose adverts reach whom, and since
when. One for a replication.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hasim.components.keepalived.router import BACKUP, MASTER, Router

if TYPE_CHECKING:
    from hasim.components.base import Machine
    from hasim.components.keepalived.node import Node
    from hasim.sim.world import World

MS = 1_000_000  # source: definition
# How far a run of lost adverts is looked for at once. Source: our choice.
AHEAD = 1000


@dataclass(slots=True)
class Ear:
    """One router's adverts at another one. number: of the present state of hearing."""

    sender: Router
    receiver: Router
    on: bool = False
    number: int = 0


class Segment:
    """All keepalived processes of a replication."""

    def __init__(self, world: World, machine: Machine):
        self.world, self.machine = world, machine
        self.nodes: dict[str, Node] = {}
        self.ears: list[Ear] = []
        self._known: list[str] = []
        machine.on_loss(self._loss_changed)
        self._virtual = {
            a
            for c in machine.containers.values()
            if c.spec.kind == "keepalived" and c.spec.config is not None
            for v in c.spec.config.instances
            for a in v.addresses
        }

    # ---- who is there --------------------------------------------------------------------------
    def join(self, node: Node) -> None:
        """A keepalived process starts."""
        name = node.p.instance
        self.nodes[name] = node
        self.ears = [e for e in self.ears if name not in (e.sender.instance, e.receiver.instance)]
        others = [r for n, one in self.nodes.items() if n != name for r in one.routers]
        for mine in node.routers:
            for other in others:
                if self._listens(other, mine):
                    self.ears.append(Ear(mine, other))
                if self._listens(mine, other):
                    self.ears.append(Ear(other, mine))
        if name not in self._known:
            self._watch(name)

    def _watch(self, name: str) -> None:
        self.machine.notice(name, lambda: self._noticed(name))
        for other in self._known:
            for a, b in ((name, other), (other, name)):
                self.machine.watch(a, b, partial(self._changed, a, b))
        self._known.append(name)

    def address_of(self, host: str) -> str:
        """The own address of a host: the first that no keepalived.conf moves."""
        return next(iter(self._addresses(host)), "")

    def _addresses(self, host: str) -> list[str]:
        spec = next((h for h in self.machine.stack.hosts if h.name == host), None)
        return [a for a in (spec.addresses if spec else ()) if a not in self._virtual]

    def _listens(self, r: Router, s: Router) -> bool:
        """Would r take adverts of s? Source: RFC 5798, 7.1; keepalived 2.2.7 drops version,
        secret and (version 2) interval that differ from its own.
        """
        a, b = r.vrrp, s.vrrp
        if (a.router_id, a.version, a.secret, a.unicast) != (
            b.router_id, b.version, b.secret, b.unicast,
        ):  # fmt: skip
            return False
        if a.version == 2 and a.advert_s != b.advert_s:
            return False
        if b.unicast:
            return any(p in (r.source, *self._addresses(r.host)) for p in b.peers)
        pair = {r.host, s.host}
        return not any({k.a, k.b} == pair and k.kind != "l2" for k in self.machine.stack.links)

    # ---- what happened -------------------------------------------------------------------------
    def _noticed(self, name: str) -> None:
        """A keepalived process ended, was stopped or goes on."""
        node = self.nodes.get(name)
        if node is not None:
            node.noticed(self.machine.containers[name].blame)

    def _changed(self, a: str, b: str, _: int) -> None:
        """Packets between two of them get through, or do so no longer."""
        from hasim.sim.world import Edge

        spec, other = self.machine.containers[a].spec, self.machine.containers[b].spec
        edge = Edge(a, b, "", "host", spec.host, other.host)
        cause = self.machine.blame(edge)
        self.refresh(cause)
        for node in self.nodes.values():
            for router in node.routers:
                for one in router.addresses:
                    one.look(cause)

    def refresh(self, cause: int) -> None:
        """Look at all pairs again."""
        now = int(self.world.env.now)
        for ear in self.ears:
            s, r = ear.sender, ear.receiver
            on = s.sends and r.p.alive and self.machine.passes(s.host, r.host)
            if on and not ear.on:
                ear.on, ear.number = True, ear.number + 1
                self._await(ear, s.next_advert(now), cause)
            elif ear.on and not on:
                self._silent(ear, cause)

    def _await(self, ear: Ear, at_ns: int, cause: int) -> None:
        self._later(at_ns, self._arrives, ear, ear.number, cause)

    def _arrives(self, ear: Ear, number: int, cause: int) -> None:
        if not ear.on or ear.number != number:
            return
        now = int(self.world.env.now)
        if self._is_lost(ear, now):
            self._await(ear, ear.sender.next_advert(now), cause)
            return
        ear.receiver.hears(ear.sender, cause)
        if ear.on and ear.number == number and ear.sender in ear.receiver.heard:
            self._look_ahead(ear, now, cause)

    # ---- lost adverts --------------------------------------------------------------------------
    def _is_lost(self, ear: Ear, t_ns: int) -> bool:
        share = self.machine.lost(ear.sender.host, ear.receiver.host)
        name = f"advert {ear.sender.instance} {ear.sender.vrrp.name}>{ear.receiver.instance}"
        return share > 0 and self.world.draw(name, t_ns // MS, "lost") < share

    def _look_ahead(self, ear: Ear, last_ns: int, cause: int) -> None:
        """Find the next run of lost adverts that outlasts the timer; no event before it."""
        if self.machine.lost(ear.sender.host, ear.receiver.host) == 0:
            return
        s, number, at_ns = ear.sender, ear.number, last_ns
        for _ in range(AHEAD):
            at_ns = s.next_advert(at_ns)
            if at_ns > last_ns + ear.receiver.down_ns():
                self._later(last_ns + ear.receiver.down_ns(), self._missed, ear, number, last_ns)
                return
            if not self._is_lost(ear, at_ns):
                last_ns = at_ns
        self._later(last_ns, self._go_on, ear, number, cause)

    def _go_on(self, ear: Ear, number: int, cause: int) -> None:
        if ear.on and ear.number == number and ear.sender in ear.receiver.heard:
            self._look_ahead(ear, int(self.world.env.now), cause)

    def _missed(self, ear: Ear, number: int, last_ns: int) -> None:
        """The timer of the receiver ends before another advert gets through."""
        if not ear.on or ear.number != number or ear.sender not in ear.receiver.heard:
            return
        from hasim.sim.world import Edge

        spec, other = (self.machine.containers[r.instance].spec for r in (ear.sender, ear.receiver))
        cause = self.machine.blame(Edge(spec.name, other.name, "", "host", spec.host, other.host))
        ear.number += 1
        self._await(ear, ear.sender.next_advert(int(self.world.env.now)), cause)
        ear.receiver.gone(ear.sender, last_ns, cause)

    def _later(self, at_ns: int, call: Callable[..., None], *arguments: Any) -> None:
        timer = self.world.env.timeout(at_ns - int(self.world.env.now))
        timer.callbacks.append(lambda _: call(*arguments))

    def _loss_changed(self) -> None:
        """What was found ahead does not hold any more: hear everybody anew."""
        now = int(self.world.env.now)
        for ear in self.ears:
            if ear.on:
                ear.number += 1
                self._await(ear, ear.sender.next_advert(now), -1)
                ear.receiver.gone(ear.sender, ear.sender.last_advert(now), -1)

    def _silent(self, ear: Ear, cause: int) -> None:
        ear.on, ear.number = False, ear.number + 1
        last_ns = ear.sender.last_advert(int(self.world.env.now))
        ear.receiver.gone(ear.sender, last_ns, cause)

    # ---- what routers do -----------------------------------------------------------------------
    def settle(self, sender: Router, cause: int) -> None:
        """What the router's adverts say will change: the others have heard the old ones so far."""
        for ear in self.ears:
            if ear.sender is sender and ear.on:
                self._silent(ear, cause)

    def advertise(self, sender: Router, cause: int) -> None:
        """The router sends an advert now, and one each interval from now on."""
        self.settle(sender, cause)
        sender.base_ns = int(self.world.env.now)
        for ear in self.ears:
            r = ear.receiver
            if ear.sender is not sender or not sender.sends or not r.p.alive:
                continue
            if self.machine.passes(sender.host, r.host):
                ear.on, ear.number = True, ear.number + 1
                self._arrives(ear, ear.number, cause)

    def goodbye(self, sender: Router, cause: int) -> None:
        """An advert of priority 0, which a dead link swallows."""
        for ear in self.ears:
            if ear.sender is sender and ear.on:
                ear.receiver.farewell(sender, cause)

    def listen(self, receiver: Router, cause: int) -> None:
        """The router was deaf to adverts and is so no longer."""
        now = int(self.world.env.now)
        for ear in self.ears:
            if ear.receiver is receiver and ear.on:
                ear.number += 1
                self._await(ear, ear.sender.next_advert(now), cause)

    def unread(self, receiver: Router, cause: int) -> None:
        """The router reads what came while its process was stopped."""
        for ear in self.ears:
            if ear.receiver is receiver and ear.on:
                receiver.hears(ear.sender, cause)

    def settled(self) -> bool:
        """Is there a master that each backup hears?"""
        routers = [r for node in self.nodes.values() for r in node.routers if r.p.alive]
        return all(r.state == MASTER or (r.state == BACKUP and r.heard) or r.faulty
                   for r in routers)  # fmt: skip


def segment(world: World, machine: Machine) -> Segment:
    """The one of this replication, made when first asked for."""
    found = machine.disks.get("vrrp segment")
    if found is None:
        found = machine.disks["vrrp segment"] = Segment(world, machine)
    return found
