"""Prometheus: it scrapes its targets, evaluates alerting rules and says which alerts fire.

What Alertmanager does with them is not simulated. Source: Prometheus documentation and source, as
cited in the modules of this folder.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING

from hasim.components.base import Component, Configured, Folder, Machine, Placed, Process
from hasim.components.prometheus.config import configured
from hasim.components.prometheus.without_container import assumed, stand_in
from hasim.model import image_name

if TYPE_CHECKING:
    from hasim.errors import Finding
    from hasim.model import Stack
    from hasim.read.compose_types import ComposeService
    from hasim.sim.world import World


class Prometheus(Component):
    """One Prometheus server. Its Instance.config is a prometheus.config.Config."""

    kind = "prometheus"
    reads = ("prometheus.yml", "alerts.yml", "*.rules.yml")

    def recognises(self, service: ComposeService) -> bool:
        """The images prom/prometheus and their like, not the exporters."""
        return image_name(service.image) == "prometheus"

    def stand_in(self, files: Sequence[str], host: str) -> Placed | None:
        """Rules files ask for a Prometheus."""
        return stand_in(files, host)

    def configure(self, one: Placed, folder: Folder) -> Configured:
        if one.service is None and one.config:
            return assumed(one.config.split("\n"), folder)
        return configured(one, folder)

    def daemon(self, p: Process, world: World, machine: Machine) -> Generator:
        from hasim.components.prometheus.server import Server

        blame = machine.containers[p.instance].blame
        machine.listen(p, True, world.log(p.instance, "listening", cause=blame))
        config = machine.containers[p.instance].spec.config
        if config is not None:
            p.data = Server(p, world, machine, config)
            p.data.start()
        while (signal := (yield from p.signal())) is not None:
            what, cause = signal
            if what == "SIGHUP":
                world.log(p.instance, "Completed loading of configuration file", cause=cause)
            elif what != "child":
                machine.exit(p, 0, world.log(p.instance, "See you next time!", what, cause=cause))

    def lint(self, stack: Stack) -> Iterable[Finding]:
        from hasim.components.prometheus.lint import findings

        return findings(stack)


COMPONENT = Prometheus()
