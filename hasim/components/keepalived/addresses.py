"""A virtual address: which hosts have it, and which of them its clients send their packets to.

Clients know one hardware address at a time. Only a gratuitous ARP of a host that they hear changes
it, or their own neighbour entry when it fails. So two hosts may have the address while one is
used, and all packets may go to a host that has it no longer (the healed partition).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hasim.tcp import neighbour_fails_s
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.base import Machine
    from hasim.sim.world import World


class Address:
    """One virtual address of one replication. hosts: those that have it, in order of time."""

    def __init__(self, text: str, world: World, machine: Machine):
        self.text, self.world, self.machine = text, world, machine
        self.hosts: list[str] = []
        self.used = ""  # the host whose hardware address the clients know
        self._round, self._asked = 0, False  # is a client's neighbour entry on its way to fail?
        self._refreshed: dict[str, tuple[int, int]] = {}

    def add(self, host: str, refresh_s: float = 0.0) -> None:
        """The host configures the address on its interface; refresh_s: it repeats its gratuitous
        ARP that often (0: never).
        """
        self._refreshed[host] = int(self.world.env.now), round(refresh_s * NS)
        if host not in self.hosts:
            self.hosts.append(host)

    def remove(self, host: str, cause: int) -> None:
        """The host has it no longer. Nobody tells the clients."""
        if host in self.hosts:
            self.hosts.remove(host)
        self._show(cause)

    def announce(self, host: str, cause: int) -> None:
        """A gratuitous ARP: clients that hear the host send to it from now on."""
        if host in self.hosts and self.machine.passes(host, ""):
            self.used = host
        self._show(cause)

    def look(self, cause: int) -> None:
        """Something about hosts or links has changed: those without power have lost it."""
        self.hosts = [h for h in self.hosts if self.machine.powered(h)]
        self._show(cause)

    def _show(self, cause: int) -> None:
        holds = self.used if self.used in self.hosts else None
        self.machine.move_vip(self.text, holds, cause)
        if holds is not None or not self.hosts:
            self._round, self._asked = self._round + 1, False
        elif not self._asked:
            self._round, self._asked = self._round + 1, True
            self.world.spawn(self._revalidated(self._round, cause), f"neighbour {self.text}")
            for host in self.hosts:
                self._refresh(host, self._round, cause)

    def _refresh(self, host: str, number: int, cause: int) -> None:
        """garp_master_refresh. Source: keepalived.conf(5)."""
        since, step = self._refreshed[host]
        if step == 0:
            return
        now = int(self.world.env.now)
        timer = self.world.env.timeout(step - (now - since) % step)
        timer.callbacks.append(lambda _: self._repeat(host, number, cause))

    def _repeat(self, host: str, number: int, cause: int) -> None:
        if number == self._round and host in self.hosts and self.used not in self.hosts:
            if self.machine.passes(host, ""):
                self.announce(host, cause)
            else:
                self._refresh(host, number, cause)

    def _revalidated(self, number: int, cause: int) -> Any:
        """Some host has the address, but the clients send to another one: in the end their entry
        fails and they ask who has it.
        """
        if self.used:
            u = self.world.draw(f"neighbour {self.text}", number, "reachable")
            yield self.world.seconds(neighbour_fails_s(u))
        if number != self._round:
            return
        self._asked = False
        self.used = ""
        heard = [h for h in self.hosts if self.machine.passes(h, "")]
        if heard:
            self.used = heard[0]
            text = f"{self.text} is at {self.used}"
            self._show(self.world.log("clients", "neighbour entry renewed", text, cause=cause))


def address(text: str, world: World, machine: Machine) -> Address:
    """One of them."""
    known: dict[str, Address] = machine.disks.setdefault("vrrp addresses", {})
    if text not in known:
        known[text] = Address(text, world, machine)
    return known[text]
