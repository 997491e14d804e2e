"""The state machine of hosts, containers and their first processes: who is up, listens, hangs.

Nothing here knows a kind of software: what PID 1 does is its component's `daemon`, what becomes of
a container whose PID 1 has ended is Docker's business. Every change reaches the data plane at the
instant at which it happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from hasim.components.base import Process, components
from hasim.components.docker import Docker
from hasim.lineage import Cluster
from hasim.model import Dist, Host, Instance, Service
from hasim.sim import wires
from hasim.sim.network import Network
from hasim.sim.world import Edge, World


@dataclass(slots=True)
class ContainerState:
    """One container: what the files ask for and what it is now (see components.base.Container)."""

    spec: Instance
    service: Service | None
    process: Process | None = None
    address: int = 0
    stopped_by_hand: bool = False
    health: str = ""
    image: str = "same"
    blame: int = -1
    epoch: int = 0
    restarts: int = 0
    backoff_s: float = 0.0
    exits: int = 0
    exit_code: int = 0


@dataclass(slots=True)
class HostState:
    """One host. power: it has power and its kernel runs. outages counts losses of power."""

    spec: Host
    power: bool = True
    outages: int = 0
    blame: int = -1


class Machine:
    """Hosts, containers, processes and names of one replication."""

    def __init__(self, world: World):
        stack = world.stack
        self.world, self.stack = world, stack
        self.hosts = {h.name: HostState(h) for h in stack.hosts}
        profiles = {s.name: s for s in stack.services}
        self.containers: dict[str, ContainerState] = {
            i.name: ContainerState(i, profiles.get(i.service)) for i in stack.instances
        }
        self.kinds = components()
        self.broken: dict[str, Any] = {f.instance: f for f in stack.boot_failures}
        self.booted = False
        self.dns_mode = "ok"  # ok | nx | silent, for every resolver
        self.dns_blame = -1
        self.watchers: list[Callable[[], None]] = []  # called when an answer of DNS may change
        self.on_boot: list[Callable[[], None]] = []
        self.unhealthy: dict[tuple[str, str], int] = {}
        self.disks: dict[str, Any] = {}
        self.clusters: dict[str, Cluster] = {}
        self.gauges: dict[Any, Callable[[], float | None]] = {}
        self.vips: dict[str, str | None] = {}  # address -> host that answers for it
        self.vip_watchers: list[Callable[[str], None]] = []
        self._notices: dict[str, list[Callable[[], None]]] = {}
        self.docker = Docker(world, self)
        world.on_oom = self.out_of_memory  # type: ignore[attr-defined]
        self.network = Network(world, self)
        self.wires = wires.Wires(self)
        self.network.refresh()

    # ---- PID 1 -------------------------------------------------------------------------------
    def exec(self, name: str, cause: int = -1) -> Process | None:
        """Start PID 1 of a container, or a process inside of one; None if it runs, its host is off
        or its container is down.
        """
        container = self.containers[name]
        if container.process is not None or not self.powered(container.spec.host):
            return None
        if container.spec.inside and self.containers[container.spec.inside].process is None:
            return None
        container.epoch += 1
        container.blame = cause
        p = container.process = Process(self.world.env, name, container.epoch)
        kind = self.kinds.get(container.spec.kind) or self.kinds["service"]
        self.network.refresh(self.network.of_instance(name), cause)
        self._names_changed()
        self.world.spawn(kind.daemon(p, self.world, self), f"{name} {p.epoch}")
        self._noticed(name)
        return p

    def exit(self, p: Process, code: int, cause: int = -1) -> None:
        """PID 1 ends. Its sockets close first (peers see FIN or RST), then its address goes."""
        container = self._end(p, code, cause)
        if container is None:
            return
        for inner in self._inside(p.instance):  # the kernel ends what is left of the container
            if (left := self.containers[inner].process) is not None:
                self._gone(left, 137, cause)
        self._take_apart(p)
        self.network.refresh(self.network.of_instance(p.instance), cause)
        self._names_changed()
        if container.spec.inside:
            outer = self.containers[container.spec.inside].process
            if outer is not None:
                outer.send("child", cause)
        else:
            self.docker.exited(p, cause)

    def _gone(self, p: Process, code: int, cause: int) -> None:
        """A process ends without anybody to hear of it."""
        if self._end(p, code, cause) is not None:
            self._take_apart(p)

    def _take_apart(self, p: Process) -> None:
        """The data plane loses the process; what starts next there is not stopped."""
        self.world.crash(p.instance)
        if p.frozen:
            self.world.thaw(p.instance)

    def _inside(self, name: str) -> list[str]:
        return self.network.inside.get(name, [])

    def _end(self, p: Process, code: int, cause: int) -> ContainerState | None:
        """The bookkeeping of an exit; None if the process has ended before."""
        if not p.alive:
            return None
        container = self.containers[p.instance]
        p.alive, p.listening, p.exit_code = False, False, code
        container.process, container.blame = None, cause
        container.exits += 1
        container.exit_code = code
        p.ended.succeed(code)
        if p.frozen:
            p.resumed.succeed()
        self.wires.ended(p)
        self._noticed(p.instance)
        return container

    def listen(self, p: Process, on: bool, cause: int = -1) -> None:
        """The process opens or closes its listening sockets."""
        if p.alive and p.listening != on:
            p.listening = on
            p.listened_ns = int(self.world.env.now) if on else p.listened_ns
            if cause >= 0:
                self.containers[p.instance].blame = cause
            self.network.refresh(self.network.of_instance(p.instance), cause)
            self._noticed(p.instance)

    def freeze(self, name: str, cause: int = -1, *, alone: bool = False) -> None:
        """SIGSTOP of all processes of a container (alone: of this one): the kernel accepts, nothing
        is answered. No effect without a process.
        """
        p = self.containers[name].process
        if p is not None and not p.frozen:
            p.frozen = True
            self.containers[name].blame = cause
            self.world.freeze(name)
            self._noticed(name)
        for inner in [] if alone else self._inside(name):
            self.freeze(inner, cause)

    def thaw(self, name: str, cause: int = -1, *, alone: bool = False) -> None:
        """SIGCONT."""
        p = self.containers[name].process
        if p is not None and p.frozen:
            p.frozen = False
            self.containers[name].blame = cause
            self.world.thaw(name)
            resumed, p.resumed = p.resumed, self.world.env.event()
            resumed.succeed()
            self._noticed(name)
        for inner in [] if alone else self._inside(name):
            self.thaw(inner, cause)

    def notice(self, name: str, call: Callable[[], None]) -> None:
        """call() whenever the instance's process starts, ends, stops, goes on, opens or closes its
        listening sockets.
        """
        self._notices.setdefault(name, []).append(call)

    def _noticed(self, name: str) -> None:
        for call in tuple(self._notices.get(name, ())):
            call()

    def kill_child(self, name: str, cause: int = -1) -> None:
        """The serving process below the supervisor (PID 1) dies: refused, the address stays."""
        p = self.containers[name].process
        if p is None:
            return
        self.world.crash(name)
        self.listen(p, False, cause)
        p.send("child", cause)

    def out_of_memory(self, name: str) -> None:
        """The OOM killer takes the largest process: a worker if there are several, else PID 1."""
        container = self.containers[name]
        if container.process is None:
            return
        cause = self.world.log(name, "oom-kill", "memory limit of the container")
        if container.service is not None and container.service.workers > 1:
            self.kill_child(name, cause)
        else:
            self.exit(container.process, 137, cause)

    # ---- hosts -------------------------------------------------------------------------------
    def powered(self, host: str) -> bool:
        """Does the host have power and has its kernel booted? An unknown host always has."""
        state = self.hosts.get(host)
        return state is None or state.power

    def power_off(self, host: str, cause: int = -1) -> None:
        """Everything on the host ends at once and nobody hears of it: silence comes first, so
        that no FIN gets out.
        """
        state = self.hosts[host]
        if not state.power:
            return
        state.power = False
        state.outages += 1
        state.blame = cause
        self.network.refresh(self.network.of_host(host), cause)
        for container in self.containers.values():
            if container.spec.host == host and container.process is not None:
                self._gone(container.process, 137, cause)
        self._names_changed()

    def power_on(self, host: str, cause: int = -1) -> None:
        """The host's kernel runs again; what Docker then starts is Docker's business."""
        state = self.hosts[host]
        state.power = True
        state.blame = cause
        self.network.refresh(self.network.of_host(host), cause)

    def departures(self, name: str) -> int:
        """How often an instance has gone so far: a tick for random draws."""
        container = self.containers.get(name)
        if container is None:
            return 0
        host = self.hosts.get(container.spec.host)
        return container.exits * 1024 + (host.outages if host else 0)

    # ---- names -------------------------------------------------------------------------------
    def lookup(self, edge: Edge) -> tuple[str, int]:
        """What the name behind an edge resolves to: ("ok", address) | ("nx" | "silent", -1).

        Docker's resolver knows running containers of the same engine or overlay; names of
        published addresses are host names, which a file or a zone keeps.
        """
        if self.dns_mode != "ok":
            return self.dns_mode, -1
        if edge.reach in ("published", "host"):
            return "ok", 0
        container = self.containers.get(edge.target)
        if container is None or container.process is None:
            return "nx", -1
        return "ok", container.address

    def set_dns(self, mode: str, cause: int = -1) -> None:
        """Every resolver answers like this from now on: ok | nx | silent."""
        self.dns_mode, self.dns_blame = mode, cause
        self._names_changed()

    def new_address(self, name: str) -> None:
        """A re-created container gets another address."""
        self.containers[name].address += 1

    def pin(self, edge: Edge, address: int | None) -> None:
        """The client end of this edge uses this address from now on (None: looks it up)."""
        self.network.pin(edge, address)

    def _names_changed(self) -> None:
        for call in tuple(self.watchers):
            call()

    # ---- daemons that talk to each other ------------------------------------------------------
    def peer(self, source: str, address: str, port: int) -> str:
        """The instance that answers at an address of the source's files; "" if nobody does."""
        return self.containers[source].spec.peers.get(f"{address}:{port}", "")

    def reach(self, source: str, target: str) -> int:
        """What a connect between two instances meets now."""
        return self.network.shown[self.network.talk(source, target)]

    def one_way_s(self, source: str, target: str) -> float:
        """Latency of one packet between two instances."""
        return wires.one_way_s(self, source, target)

    def watch(self, source: str, target: str, call: Callable[[int], None]) -> Callable[[], None]:
        """call(reach) at each change of reach; returns what ends it."""
        listeners = self.network.listeners.setdefault(self.network.talk(source, target), [])
        listeners.append(call)
        return lambda: listeners.remove(call) if call in listeners else None

    def passes(self, source: str, target: str) -> bool:
        """Does a packet without an answer get from one host to another?"""
        return self.network.passes(source, target)

    def lost(self, source: str, target: str) -> float:
        """The share of packets from one host to another that is lost."""
        return self.network.lost(source, target)

    def on_loss(self, call: Callable[[], None]) -> None:
        """call() when a share of lost packets changes."""
        self.network.loss_calls.append(call)

    def bandwidth_bytes_s(self, source: str, target: str) -> float:
        """What bulk transfer between two instances gets; inf: nothing says so."""
        return self.network.rate(*(self.containers[n].spec.host for n in (source, target)))

    def connect(self, p: Process, target: str, timeout_s: float = inf) -> Any:
        """A TCP connect; see components.base.Machine."""
        return self.wires.connect(p, target, timeout_s)

    def vip_holder(self, address: str) -> str | None:
        """The host that answers for a virtual address."""
        return self.vips.get(address)

    def move_vip(self, address: str, host: str | None, cause: int = -1) -> None:
        """From now on this host answers for the address (None: nobody does)."""
        if self.vips.get(address, "") != host:
            self.vips[address] = host
            for call in tuple(self.vip_watchers):
                call(address)

    # ---- for components ----------------------------------------------------------------------
    def blame(self, edge: Edge) -> int:
        """The timeline row that last changed what a request over the edge meets; -1: none."""
        container = self.containers.get(edge.target)
        host = self.hosts.get(edge.target_host)
        return max(
            self.network.blamed.get(edge, -1),
            container.blame if container else -1,
            host.blame if host else -1,
        )

    def sample(self, dist: Dist, process: str, tick: int, purpose: str) -> float:
        """One value of a distribution from a named stream (inverse CDF, one uniform)."""
        return quantile(dist, self.world.draw(process, tick, purpose))

    def set_unhealthy(self, name: str, url: str, status: int) -> None:
        """A health URL answers this status from now on (0: what the profile says)."""
        if status:
            self.unhealthy[name, url] = status
        else:
            self.unhealthy.pop((name, url), None)
        self.world.set_health(name, url, status)

    def health_urls(self, name: str) -> tuple[str, ...]:
        """The health URLs of an instance's profile."""
        service = self.containers[name].service
        return tuple(e.url for e in service.health) if service else ()

    def load_started(self) -> None:
        """World.start_ns has just been set: pinned phases are known from now on."""
        if not self.booted:
            self.booted = True
            for call in tuple(self.on_boot):
                call()


def quantile(dist: Dist, u: float) -> float:
    """The inverse CDF of a Dist at u in [0, 1); same shapes as model.Dist names them.

    >>> quantile(Dist("uniform", 2.0, 4.0), 0.5)
    3.0
    """
    from math import exp, log1p
    from statistics import NormalDist

    if dist.kind == "const":
        return dist.a
    if dist.kind == "exp":
        return -dist.a * log1p(-u)
    if dist.kind == "uniform":
        return dist.a + (dist.b - dist.a) * u
    if dist.kind == "lognormal":
        z = NormalDist().inv_cdf(min(max(u, 1e-12), 1 - 1e-12))
        return dist.a * exp(dist.b * z)
    if dist.kind == "quantiles":
        for (p, x), (q, y) in zip(dist.table, dist.table[1:], strict=False):
            if u <= q:
                return x + (y - x) * (u - p) / (q - p) if q > p else y
        return dist.table[-1][1]
    raise ValueError(f"no inverse CDF for a {dist.kind} distribution")
