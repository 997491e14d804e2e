"""PostgreSQL as a process: start, serve as primary or standby, stop. p.data is a Postmaster.

What a container's files mean is in configure.py, what the roles do in server.py and its parts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from hasim.components.base import Component, Configured, Folder, Machine, Placed, Process

if TYPE_CHECKING:
    from hasim.errors import Finding
    from hasim.model import Instance, Service, Stack
    from hasim.read.compose_types import ComposeService
    from hasim.sim.world import World

# How much longer the boot of a `slow-boot` image takes. Source: assumption, as for services
# (hasim.components.service).
SLOW_BOOT_S = 25.0


class Postgres(Component):
    """One PostgreSQL server, in a container of its own or below a manager such as Patroni."""

    kind = "postgres"
    reads = ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "*.sql", "profile.yaml")

    def recognises(self, service: ComposeService) -> bool:
        from hasim.components.postgres.configure import recognises

        return recognises(service)

    def configure(self, one: Placed, folder: Folder) -> Configured:
        from hasim.components.postgres.configure import configure

        return configure(one, folder)

    def station(self, service: Service, instance: Instance) -> Service:
        """One backend process per connection, at most max_connections."""
        from hasim.components.postgres.config import config_of

        config = config_of(instance.config)
        most = int(config.get("max_connections"))
        changes: dict = {"workers": most, "mode": "sync"}
        if hasattr(service, "max_connections"):
            changes["max_connections"] = most - int(config.get("superuser_reserved_connections"))
        return replace(service, **changes)

    def daemon(self, p: Process, world: World, machine: Machine) -> Generator:
        from hasim.components.postgres.gauges import show
        from hasim.components.postgres.server import Postmaster, register
        from hasim.components.postgres.shutdown import MODES
        from hasim.components.postgres.startup import restart_after_crash, start

        container = machine.containers[p.instance]
        if container.image == "never-starts":
            machine.exit(p, 1, world.log(p.instance, "exits at start", cause=container.blame))
            return
        server = p.data = Postmaster(p, world, machine)
        register(server)
        show(server)
        world.set_writable(p.instance, False)
        if container.image == "slow-boot":
            yield world.seconds(SLOW_BOOT_S)
        world.spawn(start(server), f"startup {p.instance}")
        while (signal := (yield from p.signal())) is not None:
            what, cause = signal
            if what == "SIGHUP":
                server.log("received SIGHUP, reloading configuration files", cause=cause)
            elif what == "child":
                world.spawn(restart_after_crash(server, cause), f"restart {p.instance}")
            else:
                server.stop(MODES.get(what, "immediate"), cause)

    def settled(self, p: Process, machine: Machine) -> bool:
        """A standby has found its upstream, if that one runs."""
        server = p.data
        if server is None or server.receiver is None:
            return True
        target = machine.containers.get(server.receiver.upstream)
        if target is None or target.process is None:
            return True
        return server.receiver.stream is not None

    def lint(self, stack: Stack) -> Iterable[Finding]:
        from hasim.components.postgres.lint import lint

        return lint(stack)


COMPONENT = Postgres()
