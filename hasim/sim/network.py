"""What a connect over each edge meets: state of the instance x reach x state of the hosts.

The table of design.md section 2 ("What a peer sees") is `Network._look`. Everything else here
keeps the answer up to date in the data plane: only edges that a change can touch are looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING

from hasim.sim.world import CONNECTS, NO_ROUTE, REFUSED, SILENT, Edge, World
from hasim.tcp import neighbour_fails_s
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.sim.instances import Machine

# Nobody answers at that address: silence, then "no route" once the neighbour entry has failed.
ABSENT = -1


@dataclass(frozen=True, slots=True)
class Cut:
    """No packet between two groups of hosts. The direction does not matter to a connect: its
    handshake needs both ways, and so does every answer.
    """

    a: frozenset[str]
    b: frozenset[str]
    direction: str = "both"  # forward: only packets from a to b are lost; backward: from b to a

    def holds(self, x: str, y: str) -> bool:
        return (x in self.a and y in self.b) or (x in self.b and y in self.a)

    def stops(self, x: str, y: str) -> bool:
        """Is a packet from x to y lost?"""
        ahead = self.direction != "backward" and x in self.a and y in self.b
        return ahead or (self.direction != "forward" and x in self.b and y in self.a)


@dataclass(frozen=True, slots=True)
class Absence:
    """Since when an edge leads to nobody, and the time at which its neighbour entry fails."""

    fails_ns: int
    number: int


class Network:
    """Keeps `world.set_connect` and `world.set_delay` of every edge true."""

    def __init__(self, world: World, machine: Machine):
        self.world, self.machine = world, machine
        self.edges = tuple(world.edges())
        self.shown: dict[Edge, int] = {}
        self.heard: set[Edge] = set()  # a neighbour entry exists: somebody answered here
        self.pins: dict[Edge, int] = {}
        self.blamed: dict[Edge, int] = {}
        self.absences: dict[Edge, Absence] = {}
        self.cuts: list[Cut] = []
        self.holes: Counter[str] = Counter()  # instances and hosts whose packets vanish
        self.link_kind = {frozenset((k.a, k.b)): k.kind for k in world.stack.links}
        self.extra_s: dict[Edge, float] = {}
        self._count = 0
        self.losses: list[tuple[Cut, float]] = []  # shares of packets that are lost
        self.rates: list[tuple[Cut, float]] = []  # bytes/s
        self.delays: list[tuple[Cut, float]] = []  # s, on the round trip
        self.loss_calls: list[Callable[[], None]] = []
        self.known = set(self.edges)
        # edges of the control plane: daemons that talk to each other, made when first asked for
        self.talks: dict[tuple[str, str], Edge] = {}
        self.listeners: dict[Edge, list[Callable[[int], None]]] = {}
        self._by_name: dict[str, list[Edge]] = {}
        self.inside: dict[str, list[str]] = {}
        for name, one in machine.containers.items():
            if one.spec.inside:
                self.inside.setdefault(one.spec.inside, []).append(name)
        for edge in self.edges:
            self._index(edge)

    # ---- what the fault verbs and the machine call -------------------------------------------
    def refresh(self, edges: Iterable[Edge] | None = None, cause: int = -1) -> None:
        """Look again at these edges (all if None) and tell the data plane what changed."""
        for edge in self._all() if edges is None else edges:
            self._show(edge, self._look(edge), cause)

    def of_instance(self, name: str) -> list[Edge]:
        """Edges into an instance and out of it, those of its inner processes included."""
        found = list(self._by_name.get(name, ()))
        for inner in self.inside.get(name, ()):
            found += self._by_name.get(inner, ())
        return list(dict.fromkeys(found))

    def of_host(self, name: str) -> list[Edge]:
        """Edges that begin or end on a host."""
        return [e for e in self._all() if name in (e.source_host, e.target_host)]

    def _all(self) -> tuple[Edge, ...]:
        return (*self.edges, *self.talks.values())

    def _index(self, edge: Edge) -> None:
        for name in dict.fromkeys((edge.target, root(edge))):
            self._by_name.setdefault(name, []).append(edge)

    def talk(self, source: str, target: str) -> Edge:
        """The control plane's edge between two instances."""
        edge = self.talks.get((source, target))
        if edge is None:
            a, b = (self.machine.containers[n].spec for n in (source, target))
            near = a.host == b.host and (not a.networks or set(a.networks) & set(b.networks))
            reach = "bridge" if near else "published"
            if b.network_mode == "host":
                reach = "host"
            edge = self.talks[source, target] = Edge(source, target, "", reach, a.host, b.host)
            self._index(edge)
            self._show(edge, self._look(edge), -1)
        return edge

    def extra_one_way_s(self, source: str, target: str) -> float:
        """What faults add to one packet between two instances."""
        return self._extra_s(self.talk(source, target)) / 2

    def cut(
        self, a: Iterable[str], b: Iterable[str], cause: int = -1, direction: str = "both"
    ) -> Cut:
        """Partition two groups of hosts; `heal` takes what this returns."""
        cut = Cut(frozenset(a), frozenset(b), direction)
        self.cuts.append(cut)
        self.refresh(self._across(cut), cause)
        return cut

    def heal(self, cut: Cut, cause: int = -1) -> None:
        """End a partition."""
        self.cuts.remove(cut)
        self.refresh(self._across(cut), cause)

    def blackhole(self, name: str, on: bool, cause: int = -1) -> None:
        """Packets to and from an instance or a host vanish (holes may overlap)."""
        self.holes[name] += 1 if on else -1
        self.refresh([*self.of_instance(name), *self.of_host(name)], cause)

    def passes(self, source: str, target: str) -> bool:
        """Does a packet without an answer get from one host to another ("": the users' side)?"""
        for host in (source, target):
            if self.holes[host] > 0 or not self.machine.powered(host):
                return False
        return source == target or not any(cut.stops(source, target) for cut in self.cuts)

    def lose(self, cut: Cut, share: float, on: bool) -> None:
        """A share of the packets across is lost (see fault_network for what that does)."""
        (self.losses.append if on else self.losses.remove)((cut, share))
        for call in tuple(self.loss_calls):
            call()

    def lost(self, source: str, target: str) -> float:
        """The share of packets from one host to another that is lost."""
        kept = [1 - share for cut, share in self.losses if cut.stops(source, target)]
        return 1 - prod(kept) if source != target else 0.0

    def narrow(self, cut: Cut, rate: float, on: bool) -> None:
        """Bulk transfer across gets this many bytes/s."""
        (self.rates.append if on else self.rates.remove)((cut, rate))

    def rate(self, source: str, target: str) -> float:
        """Bytes/s from one host to another; inf: nothing says so."""
        return min((r for cut, r in self.rates if cut.stops(source, target)), default=inf)

    def late(self, edges: Iterable[Edge], extra_s: float) -> None:
        """Add to the round trip of edges of the data plane (negative: take back)."""
        for edge in edges:
            total = self.extra_s.get(edge, 0.0) + extra_s
            self.extra_s[edge] = total if total > 1e-12 else 0.0
            self.world.set_delay(edge, self._extra_s(edge))

    def delay(self, cut: Cut, extra_s: float, on: bool) -> None:
        """Add to the round trip of everything across, whoever talks there first during it."""
        (self.delays.append if on else self.delays.remove)((cut, extra_s))
        for edge in self.edges:
            if cut.holds(edge.source_host, edge.target_host):
                self.world.set_delay(edge, self._extra_s(edge))

    def _extra_s(self, edge: Edge) -> float:
        ends = edge.source_host, edge.target_host
        across = sum(extra_s for cut, extra_s in self.delays if cut.holds(*ends))
        return self.extra_s.get(edge, 0.0) + across

    def pin(self, edge: Edge, address: int | None) -> None:
        """The client end uses this address from now on; None: it looks the name up each time."""
        if address is None:
            self.pins.pop(edge, None)
        else:
            self.pins[edge] = address
        self.refresh((edge,))

    # ---- the table ---------------------------------------------------------------------------
    def _look(self, edge: Edge) -> int:
        if self._lost(edge):
            return SILENT
        machine = self.machine
        if edge.target_host and not machine.powered(edge.target_host):
            return ABSENT if self._same_segment(edge) else SILENT
        container = machine.containers.get(edge.target)
        process = container.process if container else None
        outer = container
        if container is not None and container.spec.inside:
            outer = machine.containers[container.spec.inside]
        if edge.reach not in ("published", "host"):  # the container's own address
            if container is None or outer is None or outer.process is None:
                return ABSENT
            if self.pins.get(edge, container.address) != container.address:
                return ABSENT
        if process is None or not process.listening:
            return REFUSED
        return CONNECTS

    def _lost(self, edge: Edge) -> bool:
        """Do packets of this edge vanish on the way?"""
        here, there = edge.source_host, edge.target_host
        if self._in_hole(edge.target) or self._in_hole(root(edge)):
            return not self._same_container(edge)
        if here == there:
            return False
        if self.holes[here] > 0 or self.holes[there] > 0:
            return True
        return any(cut.holds(here, there) for cut in self.cuts)

    def _in_hole(self, name: str) -> bool:
        one = self.machine.containers.get(name)
        return self.holes[name] > 0 or (one is not None and self.holes[one.spec.inside] > 0)

    def _same_container(self, edge: Edge) -> bool:
        """Two processes of one container talk over its loopback."""
        ends = (self.machine.containers.get(n) for n in (root(edge), edge.target))
        a, b = (one.spec.inside or one.spec.name if one else "" for one in ends)
        return bool(a) and a == b

    def _same_segment(self, edge: Edge) -> bool:
        """l2 between two hosts of the stack (the default); clients outside come by a router."""
        known = self.machine.hosts
        if edge.source_host not in known or edge.target_host not in known:
            return False
        pair = frozenset((edge.source_host, edge.target_host))
        return self.link_kind.get(pair, "l2") == "l2"

    def _across(self, cut: Cut) -> list[Edge]:
        return [e for e in self._all() if cut.holds(e.source_host, e.target_host)]

    # ---- telling the data plane --------------------------------------------------------------
    def _show(self, edge: Edge, look: int, cause: int) -> None:
        if look == ABSENT:
            look = self._absent(edge)
        else:
            self.absences.pop(edge, None)
        if look in (CONNECTS, REFUSED):
            self.heard.add(edge)
        if self.shown.get(edge) == look:
            return
        self.shown[edge] = look
        if cause >= 0:
            self.blamed[edge] = cause
        if edge in self.known:
            self.world.set_connect(edge, look)
        for call in tuple(self.listeners.get(edge, ())):
            call(look)

    def _absent(self, edge: Edge) -> int:
        """SILENT until the neighbour entry fails, NO_ROUTE afterwards (or if there was none)."""
        absence = self.absences.get(edge)
        if absence is not None:
            return NO_ROUTE if self.world.env.now >= absence.fails_ns else SILENT
        self._count += 1
        silence_s = self._silence_s(edge) if edge in self.heard else 0.0
        self.heard.discard(edge)
        fails_ns = int(self.world.env.now) + round(silence_s * NS)
        absence = self.absences[edge] = Absence(fails_ns, self._count)
        if silence_s == 0.0:
            return NO_ROUTE
        self.world.spawn(self._fails(edge, absence, silence_s), f"neighbour {edge.name}")
        return SILENT

    def _silence_s(self, edge: Edge) -> float:
        """One draw per peer and absence: all edges between the same two ends agree."""
        tick = self.machine.departures(edge.target)
        name = f"neighbour {root(edge)}->{edge.target}"
        return neighbour_fails_s(self.world.draw(name, tick, "reachable"))

    def _fails(self, edge: Edge, absence: Absence, silence_s: float):
        yield self.world.seconds(silence_s)
        if self.absences.get(edge) is absence and self._look(edge) == ABSENT:
            self._show(edge, ABSENT, -1)


def root(edge: Edge) -> str:
    """The instance at which an edge begins: a server line belongs to its balancer's."""
    return edge.source.split("/", 1)[0]
