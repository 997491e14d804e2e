"""What a kind of software looks like to hasim, and how all kinds are found.

A component is one module or package in this folder with a value named COMPONENT. Its control
processes are SimPy generators that act on requests only through World (sim/world.py) and on
containers only through Machine, the state machine of sim/instances.py as components see it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hasim.errors import Finding
    from hasim.model import Dist, Instance, Knob, Service, Stack
    from hasim.sim.world import Edge, World


class Process:
    """PID 1 of a container, from exec to exit. A new start is a new Process.

    Its control processes ask `alive` after every wait and end when it is False. `data` is the
    daemon's own state (for HAProxy its servers). listening: a connect is accepted (a frozen
    process counts: its kernel accepts). inbox holds signals that were not taken yet.
    """

    __slots__ = (
        "alive", "bell", "boots", "data", "ended", "env", "epoch", "exit_code", "frozen", "inbox",
        "instance", "listening", "resumed", "started_ns",
    )  # fmt: skip

    def __init__(self, env: Any, instance: str, epoch: int):
        self.env, self.instance, self.epoch = env, instance, epoch
        self.alive, self.listening, self.frozen = True, False, False
        self.started_ns, self.exit_code, self.boots = env.now, 0, 0
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

    def awake(self) -> Generator:
        """Wait while the process is stopped (SIGSTOP): its timers act only when it runs again."""
        while self.alive and self.frozen:
            yield self.resumed


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


class Machine(Protocol):
    """Hosts, containers and names as components see them (implemented by sim/instances.py)."""

    dns_blame: int
    stack: Stack
    containers: dict[str, Any]
    docker: Any
    booted: bool  # everything that can come up is up: the load may start
    on_boot: list[Callable[[], None]]  # called at that instant, with World.start_ns set
    watchers: list[Callable[[], None]]  # called when an answer of DNS may have changed
    unhealthy: dict[tuple[str, str], int]  # (instance, URL) -> status it answers
    broken: dict[str, Any]  # instances that cannot start -> model.BootFailure

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

    def blame(self, edge: Edge) -> int:
        """The timeline row that last changed what a connect over the edge meets; -1: none."""
        ...


class Component:
    """One kind of software. `kind` is the Instance.kind it understands.

    reads: names of the files it takes its meaning from, for documentation.
    """

    kind = ""
    reads: tuple[str, ...] = ()

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
