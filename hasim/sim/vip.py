"""Who comes in by a virtual address: users and calls, led to the HAProxy that holds it.

The rows of the data plane name one HAProxy; when the address moves they are rewritten to the same
backend of the HAProxy on the new holder, or to nobody. What was connected to the old one does not
know that: its next use meets a reset, as the new holder knows no such connection.

A call whose URL names the address goes by it; so do all calls of the same service to that backend.
HTTP calls of services have no way in of their own: theirs are only led on, without resets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hasim.model import Route, Stack
from hasim.sim.kernel import door
from hasim.sim.kernel import layout as L
from hasim.sim.tables import Tables, add_edge
from hasim.sim.world import Edge
from hasim.targets import moved_addresses

if TYPE_CHECKING:
    from hasim.sim.engine import Engine

# The epoch of a client connection whose far end has moved away: it equals no balancer's.
GONE = -1


@dataclass(slots=True)
class Way:
    """Edges from one kind of client to each HAProxy, and to nobody: first edge by instance name.

    count: they are `count` in a row, one for each instance of a calling service.
    """

    count: int
    first: dict[str, int]
    ops: list[int] = field(default_factory=list)  # of users
    rows: list[int] = field(default_factory=list)  # of calling services
    pools: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Virtual:
    """One address: its ways, the HAProxy of each host, and who holds it for the rows now."""

    address: str
    balancers: dict[str, str]  # host -> HAProxy
    users: Way | None = None
    calls: dict[str, Way] = field(default_factory=dict)  # by calling service
    http: list[tuple[int, str]] = field(default_factory=list)  # rows without a way, backend
    nowhere: int = -1  # a backend that nobody answers
    held: str = ""  # name of the HAProxy that the rows name, "" nobody


def virtuals(t: Tables) -> list[Virtual]:
    """The virtual addresses of a stack, with edges to nobody added to its tables."""
    found = []
    for address, hosts in moved_addresses(t.stack).items():
        by_host: dict[str, str] = {}
        for host in hosts:
            for b in t.stack.balancers:
                if t.stack.instance(b.instance).host == host:
                    by_host.setdefault(host, b.instance)
        one = Virtual(address, by_host)
        _users(t, one)
        _calls(t, one)
        if one.users or one.calls or one.http:
            found.append(one)
    return found


def _nobody(t: Tables, source: str, address: str, be: int = -1, st: int = -1) -> int:
    """An edge to the address while no host has it (Network: a place that swallows packets)."""
    edge = Edge(source, address, "", "published", "", "")
    return add_edge(t, edge, be, st, bal=-1, usable=1, running=1, weight=16)


def _users(t: Tables, one: Virtual) -> None:
    if not any(e.via == "vip" and e.target == one.address for e in t.stack.entries):
        return
    ways = t.stack.op_entries
    ops = [i for i, name in enumerate(t.ops) if name in ways and ways[name].via == "vip"]
    if not any(ways[t.ops[i]].balancer in one.balancers.values() for i in ops):
        return
    first = {e.target: n for e, n in t.edge_of.items() if e.source == "users"}
    first[""] = _nobody(t, "users", one.address)
    one.users = Way(1, first, ops=ops)
    one.held = ways[t.ops[ops[0]]].balancer


def _calls(t: Tables, one: Virtual) -> None:
    """Rows of services whose URLs name the address."""
    for key, way in t.stack.call_routes.items():
        if way.address != one.address or not way.balancer:
            continue
        caller, _, target = key.partition("->")
        one.held = one.held or way.balancer
        be = t.backend_of[way.balancer, way.backend]
        mine = [i for i, row in enumerate(t.rows["rows"]) if row.get("be") == be
                and row["code"] == L.OP_CALL]  # fmt: skip
        entry = t.call_entry.get((caller, way.balancer), -1)
        if entry < 0:
            one.http += [(i, way.backend) for i in mine if t.rows["rows"][i]["entry"] < 0]
            continue
        if caller not in one.calls:
            one.calls[caller] = _call_way(t, one, caller)
        rows = [i for i in mine if t.rows["rows"][i]["entry"] == entry]
        one.calls[caller].rows += rows
        pools = [i for i, name in enumerate(t.pools) if name.endswith(f"->{target}")]
        own = {i.name for i in t.stations if i.service == caller}
        one.calls[caller].pools += [i for i in pools if t.pools[i].partition("->")[0] in own]
    if one.http:
        st = next(iter(t.station_of.values()))
        be = t.add("backends", kind=L.DIRECT, bal=-1, first=len(t.edges), count=1,
                   algo=L.ROUNDROBIN, queue=t.queue(), t_connect=L.FOREVER, t_server=L.FOREVER,
                   t_queue=L.FOREVER)  # fmt: skip
        one.nowhere = be
        _nobody(t, "calls", one.address, be, st)


def _call_way(t: Tables, one: Virtual, caller: str) -> Way:
    from hasim.sim.calls import call_entry

    service = t.stack.service(caller)
    first = {name: call_entry(t, service, name) for name in one.balancers.values()}
    own = [i.name for i in t.stations if i.service == caller]
    edges = [_nobody(t, name, one.address) for name in own]
    return Way(len(own), {**first, "": edges[0]})


class VirtualEntries:
    """Keeps the rows of one replication where its virtual addresses are."""

    def __init__(self, engine: Engine, machine: Any, found: list[Virtual]):
        self.engine, self.machine = engine, machine
        self.stack: Stack = engine.stack
        self.found = {one.address: one for one in found}
        for one in found:
            machine.network.blackhole(one.address, True)
            machine.network.refresh([e for e in engine.tables.edges if e.target == one.address])
            self.moved(one.address)
        if found:
            machine.vip_watchers.append(self.moved)

    def moved(self, address: str) -> None:
        """The address is on another host, or on none."""
        one = self.found.get(address)
        if one is None:
            return
        host = self.machine.vip_holder(address)
        new = one.balancers.get(host or "", "")
        if new == one.held:
            return
        old, one.held = one.held, new
        if one.users is not None:
            self._lead_users(one.users, old, new)
        for way in one.calls.values():
            self._lead_calls(way, old, new)
        for row, backend in one.http:
            be = self.engine.tables.backend_of.get((new, backend), one.nowhere)
            self.engine.k.rows[row]["be"] = be

    def _lead_users(self, way: Way, old: str, new: str) -> None:
        engine, entry = self.engine, way.first[new]
        self._lose(way, old)
        k = engine.k
        for op in way.ops:
            route: Route = self.stack.op_entries[engine.tables.ops[op]]
            be = engine.tables.backend_of.get((new, route.backend), -1)
            k.ops[op]["be"] = be if be >= 0 else k.ops[op]["be"]
            k.ops[op]["entry"] = entry if be >= 0 else way.first[""]
        edge = k.edges[way.first[old]]
        mine = k.users["conn"] == way.first[old]
        alive = mine & (k.users["epoch"] == k.balancers["epoch"][edge["bal"]])
        unaware = mine if not old or edge["connect"] >= L.SILENT else alive
        self._forget(k, edge, int(alive.sum()) if old else 0)
        k.users["conn"][mine & ~unaware] = -1  # a FIN or RST told them
        k.users["epoch"][unaware] = GONE
        k.users["conn"][unaware] = entry
        self._redirect(way, old, new, np.isin(k.slots["op"], way.ops))

    def _lead_calls(self, way: Way, old: str, new: str) -> None:
        self._lose(way, old)
        k, tables = self.engine.k, self.engine.tables
        for row in way.rows:
            backend = next(n for (b, n), i in tables.backend_of.items() if i == k.rows[row]["be"])
            be = tables.backend_of.get((new, backend), -1)
            k.rows[row]["entry"] = way.first[new if be >= 0 else ""]
            k.rows[row]["be"] = be if be >= 0 else k.rows[row]["be"]
        bal = tables.balancer_of.get(old, -1)
        mine = np.isin(k.conns["pool"], way.pools) & (k.conns["bal"] == bal) & (bal >= 0)
        alive = mine & (k.conns["bal_epoch"] == k.balancers["epoch"][bal])
        self._forget(k, k.edges[way.first[old]], int(alive.sum()))
        k.conns["bal_epoch"][mine] = GONE
        self._redirect(way, old, new, np.ones(len(k.slots), bool))

    def _lose(self, way: Way, old: str) -> None:
        """Requests under way through a HAProxy that runs on: their answers lead nowhere."""
        if old:
            for i in range(way.count):
                self.engine._do(door.lose_clients, way.first[old] + i)

    def _forget(self, k, edge, count: int) -> None:
        """The old HAProxy closes these client connections in time; it is asked by nobody then."""
        if edge["bal"] >= 0:
            k.balancers[edge["bal"]]["conns"] -= count

    def _redirect(self, way: Way, old: str, new: str, of_way: np.ndarray) -> None:
        """What is on its way in arrives at, or is sent again to, the new holder."""
        k = self.engine.k
        for i in range(way.count):
            here = (k.slots["phase"] == L.ENTRY) & (k.slots["entry"] == way.first[old] + i) & of_way
            for s in np.flatnonzero(here):
                slot = k.slots[s]
                slot["entry"] = way.first[new] + i
                slot["be"] = self._backend(int(slot["be"]), new)

    def _backend(self, be: int, balancer: str) -> int:
        """The backend of the same name on a HAProxy; the same one if it has none."""
        tables = self.engine.tables
        name = next((n for (b, n), i in tables.backend_of.items() if i == be), "")
        return tables.backend_of.get((balancer, name), be)
