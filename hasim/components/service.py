"""Gateways and other plain services: boot, serve, and what they do with a stop signal.

Facts come from profile.yaml (`boot`, `on_sigterm`); the requests themselves are the data plane's.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from hasim.components.base import Component, Machine, Process
from hasim.model import Service

if TYPE_CHECKING:
    from hasim.sim.world import World

# How much longer the boot of a `slow-boot` image takes. Source: assumption; reference/guide-audit
# section 3 sweeps the boot of a gateway from 5 s (default) to 30 s.
SLOW_BOOT = 6.0


class ServiceComponent(Component):
    """A process that answers requests; one boot time, one way to stop."""

    kind = "service"
    reads = ("profile.yaml",)

    def daemon(self, p: Process, world: World, machine: Machine) -> Generator:
        container = machine.containers[p.instance]
        service = container.service or Service(p.instance)
        if container.image == "never-starts":
            machine.exit(p, 1, world.log(p.instance, "exits at start", cause=container.blame))
            return
        yield from self._serve(p, world, machine, service, container.blame)
        while (signal := (yield from p.signal())) is not None:
            what, cause = signal
            if what == "child":
                yield from self._respawn(p, world, machine, service, cause)
            elif what == "SIGHUP":
                world.log(p.instance, "reload", cause=cause)  # nothing to read again
            else:
                yield from self._terminate(p, world, machine, service, cause)

    def _serve(
        self, p: Process, world: World, machine: Machine, service: Service, cause: int
    ) -> Generator:
        """Boot, then listen. A signal that arrives while booting waits until the app runs,
        except that one which ends the app at once does so now.
        """
        container = machine.containers[p.instance]
        boot_s = machine.sample(service.boot, f"boot {p.instance}", p.epoch * 64 + p.boots, "boot")
        if container.image == "slow-boot":
            boot_s *= SLOW_BOOT
        p.boots += 1
        ready = world.seconds(boot_s)
        while not ready.processed:
            yield world.env.any_of([ready, p.bell])
            if p.alive and p.bell.triggered and service.on_sigterm != "ignore":
                what, cause = p.take()
                if what != "child":  # no handler is installed yet: the default action
                    machine.exit(p, 143, world.log(p.instance, what, "while booting", cause=cause))
            elif p.bell.triggered:
                p.take()
            if not p.alive:
                return
        yield from p.awake()
        if p.alive:
            mark = world.log(p.instance, "listening", f"after {boot_s:.3f}s", cause=cause)
            machine.listen(p, True, mark)

    def _respawn(
        self, p: Process, world: World, machine: Machine, service: Service, cause: int
    ) -> Generator:
        """The supervisor (PID 1) starts its child again; nothing listens meanwhile."""
        cause = world.log(p.instance, "child died", "supervisor starts it again", cause=cause)
        yield from self._serve(p, world, machine, service, cause)

    def _terminate(
        self, p: Process, world: World, machine: Machine, service: Service, cause: int
    ) -> Generator:
        """`on_sigterm`: exit | ignore | drain (listener close or keep, in flight finish or cut)."""
        if service.on_sigterm == "ignore":
            world.log(p.instance, "SIGTERM ignored", cause=cause)
            return
        if service.on_sigterm == "exit":
            machine.exit(p, 143, world.log(p.instance, "exits", "SIGTERM", cause=cause))
            return
        mark = world.log(p.instance, "draining", "SIGTERM", cause=cause)
        if service.on_sigterm_listener == "close":
            machine.listen(p, False, mark)
        world.close_idle(p.instance)
        if service.on_sigterm_in_flight == "finish":
            yield world.drained(p.instance)
            yield from p.awake()
        if p.alive:
            machine.exit(p, 0, world.log(p.instance, "exits", "drained", cause=mark))


COMPONENT = ServiceComponent()
