"""Clients that find the master through Sentinel: which address a new connection takes.

Source: redis-py, Sentinel.discover_master: the Sentinels are asked in the order of the list; one
that cannot be reached, or whose master is s_down or o_down, is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasim.sim.world import CONNECTS

if TYPE_CHECKING:
    from hasim.components.base import Machine
    from hasim.sim.world import Edge, World

KEY = "sentinel clients"  # in Machine.disks: one for the whole replication
PREFIX = "sentinel:"


class Clients:
    """Keeps `set_rotation` of every edge with discovery "sentinel:<master>@<sentinels>" true.
    Without a list every Sentinel of the stack is asked.
    """

    def __init__(self, world: World, machine: Machine):
        self.world, self.machine = world, machine
        self.edges = [e for e in world.edges() if e.discovery.startswith(PREFIX)]
        self.shown: dict[Edge, bool] = {}
        self.sentinels = [n for n, c in machine.containers.items() if c.spec.kind == "sentinel"]
        pairs = dict.fromkeys((e.source, s) for e in self.edges for s in self.sentinels)
        for source, name in pairs:
            if source in machine.containers:
                machine.watch(source, name, lambda _: self.refresh())
        for name in self.sentinels if self.edges else ():
            machine.notice(name, self.refresh)

    def refresh(self) -> None:
        """Look at all edges again."""
        answers: dict[tuple[str, str], str] = {}
        for edge in self.edges:
            key = edge.source, edge.discovery[len(PREFIX) :]
            if key not in answers:
                answers[key] = self._discover(*key)
            usable = edge.target == answers[key]
            if self.shown.get(edge, False) != usable:
                self.shown[edge] = usable
                self.world.set_rotation(edge, usable, usable)

    def _discover(self, source: str, wanted: str) -> str:
        """The instance that discover_master gives; "" for MasterNotFoundError."""
        master, _, listed = wanted.partition("@")
        for name in listed.split(",") if listed else self.sentinels:
            p = self.machine.containers[name].process
            if p is None or p.frozen or p.data is None or not p.listening:
                continue
            known = source not in self.machine.containers
            if not known and self.machine.reach(source, name) != CONNECTS:
                continue
            for one in p.data.masters:
                if one.name == master and not one.entry.s_down and not one.entry.o_down:
                    return one.entry.name
        return ""


def clients(world: World, machine: Machine) -> Clients:
    """The one Clients of a replication."""
    found = machine.disks.get(KEY)
    if found is None:
        found = machine.disks[KEY] = Clients(world, machine)
    return found
