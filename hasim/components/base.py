"""What a kind of software looks like to hasim, and how all kinds are found.

A component is one module or package in this folder with a value named COMPONENT. Its control
processes are SimPy generators that act on requests only through World (sim/world.py) and on
containers only through Machine, the state machine of sim/instances.py as components see it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from math import inf
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hasim.errors import Finding
    from hasim.lineage import Cluster
    from hasim.model import BootFailure, Dist, Instance, Knob, Service, Stack
    from hasim.read.compose_types import ComposeService
    from hasim.sim.world import Edge, World


class Process:
    """PID 1 of a container, from exec to exit. A new start is a new Process.

    Its control processes ask `alive` after every wait and end when it is False. `data` is the
    daemon's own state (for HAProxy its servers). listening: a connect is accepted (a frozen
    process counts: its kernel accepts). inbox holds signals that were not taken yet.
    """

    __slots__ = (
        "alive", "bell", "boots", "data", "ended", "env", "epoch", "exit_code", "frozen", "inbox",
        "instance", "listened_ns", "listening", "resumed", "started_ns",
    )  # fmt: skip

    def __init__(self, env: Any, instance: str, epoch: int):
        self.env, self.instance, self.epoch = env, instance, epoch
        self.alive, self.listening, self.frozen = True, False, False
        self.started_ns, self.exit_code, self.boots = env.now, 0, 0
        self.listened_ns = 0  # when it last began to listen
        self.inbox: list[tuple[str, int]] = []
        self.bell, self.ended, self.resumed = env.event(), env.event(), env.event()
        self.data: Any = None

    def send(self, signal: str, cause: int = -1) -> None:
        """Deliver a signal ("SIGTERM") or "child" (a process below PID 1 died)."""
        self.inbox.append((signal, cause))
        if not self.bell.triggered:
            self.bell.succeed()

    def take(self) -> tuple[str, int]:
        """The oldest signal and its cause; re-arms the bell."""
        found = self.inbox.pop(0)
        self.bell = self.env.event()
        if self.inbox:
            self.bell.succeed()
        return found

    def signal(self) -> Generator[Any, Any, tuple[str, int] | None]:
        """Wait for the next signal and take it, once the process is not stopped; None: it ended.

        `while (signal := (yield from p.signal())) is not None:` is a daemon's main loop.
        """
        if self.alive:
            yield self.bell
            yield from self.awake()
        return self.take() if self.alive else None

    def awake(self) -> Generator:
        """Wait while the process is stopped (SIGSTOP): its timers act only when it runs again."""
        while self.alive and self.frozen:
            yield self.resumed


@dataclass(frozen=True, slots=True)
class Placed:
    """An Instance with what only its files say: names on networks, environment, its config file.

    names: what other containers of its networks may call it. static: network -> fixed address.
    """

    instance: Instance
    names: tuple[str, ...] = ()
    static: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str | None] = field(default_factory=dict)
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    service: ComposeService | None = None
    overlays: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The name of the instance."""
        return self.instance.name


# What `Conn.ask` gives when the connection ended before the answer came.
LOST = object()


class Conn(Protocol):
    """One TCP connection between two control processes, made by Machine.connect.

    A message sent into silence arrives by a TCP retransmit once the silence ends; one that reaches
    a stopped process is taken when it runs again; one on a closed connection is lost.
    closed: fires at the client once it hears of the end (FIN, RST, its own close()).
    hung_up: the same at the server. A silent death is heard by neither.
    """

    client: Process
    server: Process
    closed: Any
    hung_up: Any

    def ask(self, serve: Callable[[Process], Any]) -> Any:
        """Send a request: serve(server process) runs when it arrives. The event that is returned
        has the value that serve returned, one way later; LOST if the connection ends before. If
        serve returns an event, the answer leaves when that one fires, with its value.
        """
        ...

    def tell(self, hear: Callable[[Process], None], *, back: bool = False) -> None:
        """A message without an answer; back: from the server to the client."""

    def close(self) -> None:
        """The client closes; the server hears of it one way later."""

    def hang_up(self) -> None:
        """The server closes; the client hears of it one way later."""


@dataclass(frozen=True, slots=True)
class Configured:
    """What the files say about one container of a kind; made by Component.configure.

    config: the component's own frozen value, kept as Instance.config. failures: what the daemon
    itself refuses at start. inside: further processes of the container, started by its PID 1 with
    Machine.exec (Instance.inside names the container). ports: where PID 1 listens inside of the
    container. dials: (address, port) that it dials, resolved for Machine.peer. serves: the service
    of profile.yaml that it is, "" to go by name and kind.
    """

    config: Any = None
    findings: tuple[Finding, ...] = ()
    knobs: tuple[Knob, ...] = ()
    failures: tuple[BootFailure, ...] = ()
    inside: tuple[Instance, ...] = ()
    ports: tuple[int, ...] = ()
    dials: tuple[tuple[str, int], ...] = ()
    serves: str = ""


class Folder(Protocol):
    """The stack's folder as a component's configure sees it."""

    def text(self, path: str, optional: bool = False) -> str | None:
        """The text of a file of the folder; None (and a finding of ours) if it cannot be read.

        optional: no finding if there is none.
        """
        ...

    def mounted(self, one: Placed, path: str) -> tuple[str, bool] | None:
        """The folder's file behind a path inside of a container, and whether it is mounted as a
        single file (else its directory is); None if no bind mount holds it.
        """
        ...


class Container(Protocol):
    """A container as components see it: what was asked for and what it is now."""

    spec: Instance
    service: Service | None
    process: Process | None
    address: int  # number of its network address; a re-created container has another one
    stopped_by_hand: bool
    health: str  # "" without a healthcheck, else starting | healthy | unhealthy
    image: str  # same | never-healthy | never-starts | slow-boot
    blame: int  # the timeline row that changed it last
    epoch: int  # how often a process 1 was started
    restarts: int  # by the restart policy, in a row
    backoff_s: float  # before the next of them


class Machine(Protocol):
    """Hosts, containers and names as components see them (implemented by sim/instances.py)."""

    dns_blame: int
    stack: Stack
    docker: Any
    booted: bool  # everything that can come up is up: the load may start
    on_boot: list[Callable[[], None]]  # called at that instant, with World.start_ns set
    watchers: list[Callable[[], None]]  # called when an answer of DNS may have changed
    unhealthy: dict[tuple[str, str], int]  # (instance, URL) -> status it answers
    broken: dict[str, Any]  # instances that cannot start -> model.BootFailure
    disks: dict[str, Any]  # what a kind keeps on disk: survives its processes; keys are its own
    clusters: dict[str, Cluster]  # replicated sets of nodes by name (hasim.lineage)
    gauges: dict[tuple[str, str, tuple[tuple[str, str], ...]], Callable[[], float | None]]
    # ^ (instance, metric, labels) -> value now, None: no sample. What an exporter of the instance
    # shows; the sampler and Prometheus read them.

    @property
    def containers(self) -> Mapping[str, Container]:
        """By instance."""
        ...

    def exec(self, name: str, cause: int = -1) -> Process | None:
        """Start PID 1 of a container; None if it runs or its host is off."""
        ...

    def exit(self, p: Process, code: int, cause: int = -1) -> None:
        """PID 1 ends: connections are cut, the address goes, Docker hears of it."""

    def listen(self, p: Process, on: bool, cause: int = -1) -> None:
        """The process opens or closes its listening sockets."""

    def powered(self, host: str) -> bool:
        """Does the host have power and has it booted?"""
        ...

    def sample(self, dist: Dist, process: str, tick: int, purpose: str) -> float:
        """One value of a distribution from a named stream."""
        ...

    def new_address(self, name: str) -> None:
        """A re-created container gets another address."""

    def set_unhealthy(self, name: str, url: str, status: int) -> None:
        """A health URL answers this status from now on (0: what the profile says)."""

    def health_urls(self, name: str) -> tuple[str, ...]:
        """The health URLs of an instance's profile."""
        ...

    def lookup(self, edge: Edge) -> tuple[str, int]:
        """What the name behind an edge resolves to: ("ok", address) | ("nx" | "silent", -1)."""
        ...

    def pin(self, edge: Edge, address: int | None) -> None:
        """The client end of this edge uses this address from now on (None: looks it up)."""

    def peer(self, source: str, address: str, port: int) -> str:
        """The instance that answers at an address of the source's files (Configured.dials); ""."""
        ...

    def reach(self, source: str, target: str) -> int:
        """What a connect between two instances meets now: CONNECTS, REFUSED, SILENT, NO_ROUTE."""
        ...

    def one_way_s(self, source: str, target: str) -> float:
        """Latency of one packet between two instances."""
        ...

    def passes(self, source: str, target: str) -> bool:
        """Does a packet that asks for no answer get from one host to another ("": to users)?"""
        ...

    def lost(self, source: str, target: str) -> float:
        """The share of packets from one host to another that is lost (fault `loss`)."""
        ...

    def on_loss(self, call: Callable[[], None]) -> None:
        """call() when such a share changes."""

    def bandwidth_bytes_s(self, source: str, target: str) -> float:
        """What bulk transfer from one instance to another gets; inf: nothing says so."""
        ...

    def watch(self, source: str, target: str, call: Callable[[int], None]) -> Callable[[], None]:
        """call(reach) at each change of reach; returns what ends it."""
        ...

    def connect(self, p: Process, target: str, timeout_s: float = inf) -> Any:
        """A TCP connect: an event whose value is a Conn, or REFUSED, SILENT (timed out) or
        NO_ROUTE. A stopped process still accepts (its kernel does).
        """
        ...

    def notice(self, name: str, call: Callable[[], None]) -> None:
        """call() whenever the instance's process starts, ends, stops, goes on, opens or closes its
        listening sockets.
        """

    def vip_holder(self, address: str) -> str | None:
        """The host that answers for a virtual address."""
        ...

    def move_vip(self, address: str, host: str | None, cause: int = -1) -> None:
        """From now on this host answers for the address (None: nobody does)."""

    def blame(self, edge: Edge) -> int:
        """The timeline row that last changed what a connect over the edge meets; -1: none."""
        ...


class Component:
    """One kind of software. `kind` is the Instance.kind it understands.

    reads: names of the files it takes its meaning from, for documentation.
    """

    kind = ""
    reads: tuple[str, ...] = ()

    def recognises(self, service: ComposeService) -> bool:
        """Is this compose service software of this kind (by its image, command, entrypoint)?"""
        return False

    def stand_in(self, files: Sequence[str], host: str) -> Placed | None:
        """What a stack without a container of this kind must run, going by the paths in its
        folder; None: nothing. It becomes an assumption.
        """
        return None

    def configure(self, one: Placed, folder: Folder) -> Configured:
        """The meaning of the files that this container reads. Never raises for bad input."""
        return Configured()

    def station(self, service: Service, instance: Instance) -> Service:
        """The profile of an instance as its configuration bounds it (workers, connections)."""
        return service

    def daemon(self, p: Process, world: World, machine: Machine) -> Generator:
        """What PID 1 does from exec on; it ends by machine.exit or goes on until it is killed."""
        raise NotImplementedError

    def settled(self, p: Process, machine: Machine) -> bool:
        """Has the daemon done all that it does after a start (asked once it listens)?"""
        return True

    def knobs(self, stack: Stack) -> Iterable[Knob]:
        """Tunable values found in the stack's files."""
        return ()

    def lint(self, stack: Stack) -> Iterable[Finding]:
        """Findings that need no simulation."""
        return ()


def request(
    machine: Machine,
    p: Process,
    target: str,
    serve: Callable[[Process], Any],
    connect_s: float = inf,
    answer_s: float = inf,
) -> Generator[Any, Any, tuple[str, Any]]:
    """One request on a connection of its own. ("ok", answer), or ("refused" | "timeout" |
    "no route" | "reset", None). answer_s counts from the connect's end.
    """
    conn = yield machine.connect(p, target, connect_s)
    if isinstance(conn, int):
        return ("", "refused", "timeout", "no route")[conn], None
    answer = conn.ask(serve)
    ends = [answer]
    if answer_s < inf:
        ends.append(p.env.timeout(round(answer_s * 1e9)))
    yield p.env.any_of(ends)
    late = not answer.triggered
    conn.close()
    if late:
        return "timeout", None
    return ("reset", None) if answer.value is LOST else ("ok", answer.value)


@cache
def components() -> dict[str, Component]:
    """Every registered kind by name, in the sorted order of the files that define them."""
    import hasim.components as here

    found: dict[str, Component] = {}
    for name in sorted(m.name for m in iter_modules(here.__path__)):
        component = getattr(import_module(f"{here.__name__}.{name}"), "COMPONENT", None)
        if component is not None:
            found[component.kind] = component
    return found
