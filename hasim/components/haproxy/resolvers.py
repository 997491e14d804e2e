"""HAProxy and names: what `init-addr` allows at start, and `resolvers` at run time.

Read beside configuration manual 5.3 and reference/haproxy.md section 6.1 (measured there).
"""

from __future__ import annotations

from collections.abc import Generator
from ipaddress import ip_address
from typing import TYPE_CHECKING

from hasim.model import Resolver
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.base import Machine
    from hasim.components.haproxy.servers import ServerState, Worker
    from hasim.model import Balancer, Server
    from hasim.sim.world import World


# A silent resolver is noticed this much after its hold time. Source: measured, 31.2 s with 30 s.
SILENCE_EXTRA_S = 1.2

# From the name resolving again to UP, uniform. Source: measured, reference 6.1.
RESOLVES_AGAIN_S = (0.1, 0.2)

REASONS = {"nx": "DNS NX status", "silent": "DNS timeout status"}


def is_name(address: str) -> bool:
    """Does a server's address have to be resolved?"""
    try:
        ip_address(address.strip("[]"))
    except ValueError:
        return not address.startswith(("/", "unix@"))
    return False


def resolve_at_start(
    world: World, machine: Machine, balancer: Balancer
) -> tuple[list[tuple[str, str]], list[Server]]:
    """Resolve every name once, as a starting process does, and remember the addresses.

    Returns the (backend, server) names without address whose `init-addr` allows that (they start
    in MAINT) and the servers because of which the process refuses to start.
    """
    from hasim.components.haproxy.servers import server_edges

    edges = server_edges(world, balancer)
    waiting, refused, found = [], [], []
    for backend in balancer.backends:
        for server in backend.servers:
            edge = edges.get((backend.name, server.name))
            if edge is None or not is_name(server.address):
                continue
            answer, address = machine.lookup(edge)
            if answer == "ok":
                found.append((edge, address))
            elif "none" in server.init_addr:
                waiting.append((backend.name, server.name))
            else:
                refused.append(server)
    if not refused:
        for edge, address in found:
            machine.pin(edge, address)
    return waiting, refused


class Resolution:
    """The run-time resolution of one server (src/resolvers.c)."""

    def __init__(self, row: ServerState, resolver: Resolver):
        self.row, self.resolver, self.worker = row, resolver, row.worker
        self.address: int | None = None
        self.valid_ns = self.worker.world.env.now
        self.bell = self.worker.world.env.event()
        self.count = 0

    def run(self) -> Generator:
        """Ask every `timeout resolve`; hold times decide how long a bad answer is borne."""
        worker = self.worker
        world = worker.world
        while worker.alive:
            wait_s = self.resolver.timeout_resolve_s
            answer, address = worker.machine.lookup(self.row.edge)
            if answer == "ok":
                yield from self._good(address)
                self.valid_ns = world.env.now
            else:
                left_s = self._bad(answer)
                wait_s = min(wait_s, left_s) if left_s > 0 else wait_s
            yield world.env.any_of([world.seconds(wait_s), self.bell])
            yield from worker.process.awake()

    def _good(self, address: int) -> Generator:
        row, worker = self.row, self.worker
        if row.unresolved:
            low, high = RESOLVES_AGAIN_S
            self.count += 1
            u = worker.world.draw(f"resolve {worker.instance} {row.edge.name}", self.count)
            yield worker.world.seconds(low + (high - low) * u)
            if not worker.alive or worker.machine.lookup(row.edge)[0] != "ok":
                return
            address = worker.machine.lookup(row.edge)[1]
        cause = worker.machine.blame(row.edge)
        if self.address is not None and address != self.address:
            event = f"{row.edge.name} changed its IP"
            detail = f"by {self.resolver.name}"
            cause = worker.world.log(worker.instance, event, detail, cause=cause)
        if address != self.address:
            self.address = address
            worker.machine.pin(row.edge, address)
        if row.unresolved:
            row.leave_maintenance(cause)

    def _bad(self, answer: str) -> float:
        """Into MAINT once the hold time is over; returns what is left of it in seconds."""
        row = self.row
        if row.unresolved:
            return 0.0
        hold_s = self.resolver.hold_nx_s
        if answer == "silent":
            hold_s = self.resolver.hold_timeout_s + SILENCE_EXTRA_S
        left_ns = self.valid_ns + round(hold_s * NS) - self.worker.world.env.now
        if left_ns > 0:
            return left_ns / NS
        machine = self.worker.machine
        cause = max(machine.blame(row.edge), machine.dns_blame)
        row.enter_maintenance(REASONS[answer], cause)
        return 0.0

    def changed(self) -> None:
        """Something about names has changed: a server in MAINT looks again at once."""
        if self.row.unresolved and self.worker.alive:
            bell, self.bell = self.bell, self.worker.world.env.event()
            bell.succeed()


def start_resolvers(worker: Worker) -> None:
    """One process per server that names a `resolvers` section."""
    known = {r.name: r for r in worker.balancer.resolvers}
    for row in worker.rows:
        resolver = known.get(row.server.resolvers)
        if resolver is None or not is_name(row.server.address):
            continue
        resolution = Resolution(row, resolver)
        answer, address = worker.machine.lookup(row.edge)
        if answer == "ok" and not row.unresolved:
            resolution.address = address
        worker.machine.watchers.append(resolution.changed)
        worker.world.spawn(resolution.run(), f"resolve {row.edge.name}")
