"""Fault verbs on the network: what is lost, late or slow between hosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from hasim.sim.network import Cut
from hasim.tcp import RTO_NS
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.scenario import Fault
    from hasim.sim.instances import Machine
    from hasim.sim.network import Network
    from hasim.sim.world import World

Target = tuple[str, str]
Repair = Callable[[int], None]


class NetworkFaults:
    """The verbs; mixed into Faults."""

    world: World
    machine: Machine
    network: Network
    _instances: Callable[[Sequence[Target]], list[str]]
    _hosts: Callable[[Sequence[Target]], list[str]]
    sides: Callable[[Fault], tuple[list[str], list[str]]]

    def _do_blackhole(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """link: down: the hosts see that they have no carrier, and tell their daemons."""
        names = self._hosts(targets) if targets and targets[0][0] == "host" else []
        names += self._instances([t for t in targets if t[0] != "host"])
        down = fault.args.get("link") == "down"

        def turn(on: bool, mark: int) -> None:
            if down and not on:
                self._link(names, True, mark)
            for name in names:
                self.network.blackhole(name, on, mark)
            if down and on:
                self._link(names, False, mark)

        turn(True, cause)
        return lambda mark: turn(False, mark)

    def _link(self, hosts: list[str], up: bool, cause: int) -> None:
        """Netlink tells the processes on the hosts' own network."""
        for container in self.machine.containers.values():
            p = container.process
            if container.spec.host in hosts and container.spec.network_mode == "host" and p:
                call = getattr(p.data, "link", None)
                if callable(call):
                    call(up, cause)

    def _do_partition(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """One direction is enough to stop a connection; what asks for no answer gets through the
        other way (adverts of VRRP).
        """
        a, b = self.sides(fault)
        cut = self.network.cut(a, b, cause, fault.direction)
        return partial(self.network.heal, cut)

    def _do_delay(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """Each direction adds its latency once to a round trip."""
        extra_s = float(fault.args["latency"]) * (2 if fault.direction == "both" else 1)
        return self._late(fault, extra_s)

    def _do_loss(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """Requests and connections: the mean of what TCP's retransmissions add to a round trip, as
        a packet that is lost n times in a row waits for n timeouts (without their doubling). What
        TCP does not carry, adverts of VRRP, is lost one by one.
        """
        share = float(fault.args["fraction"])
        a, b = self.sides(fault)
        ways = 2 if fault.direction == "both" else 1
        cut = Cut(frozenset(a), frozenset(b), fault.direction)
        self.network.lose(cut, share, True)
        repair = self._late(fault, ways * share / (1 - share) * (RTO_NS / NS))

        def mend(mark: int) -> None:
            self.network.lose(cut, share, False)
            repair(mark)

        return mend

    def _do_bandwidth(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """Bulk transfer (replication, base backups) asks Machine.bandwidth_bytes_s. Requests are
        small and go on.
        """
        a, b = self.sides(fault)
        rate = float(fault.args["rate"])
        cut = Cut(frozenset(a), frozenset(b), fault.direction)
        self.network.narrow(cut, rate, True)
        return lambda mark: self.network.narrow(cut, rate, False)

    def _late(self, fault: Fault, extra_s: float) -> Repair:
        a, b = self.sides(fault)
        cut = Cut(frozenset(a), frozenset(b))
        self.network.delay(cut, extra_s, True)
        return lambda mark: self.network.delay(cut, extra_s, False)
