"""One keepalived process: its VRRP instances and the scripts that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasim.components.keepalived.router import Router
from hasim.components.keepalived.scripts import Check, targets
from hasim.components.keepalived.segment import segment

if TYPE_CHECKING:
    from hasim.components.base import Machine, Process
    from hasim.components.keepalived.config import Config, Script
    from hasim.sim.world import World


class Node:
    """What a keepalived process keeps in memory (Process.data)."""

    def __init__(self, p: Process, world: World, machine: Machine, config: Config):
        self.p, self.world, self.machine, self.config = p, world, machine, config
        self.segment = segment(world, machine)
        self.routers = [Router(p, world, machine, v, self.segment) for v in config.instances]
        self.checks = [self._check(s) for s in self._scripts()]
        self.frozen = self.over = False

    @property
    def role(self) -> str:
        """master where it holds an address, else backup (for targets of faults)."""
        return "master" if any(r.state == "MASTER" for r in self.routers) else "backup"

    def _scripts(self) -> list[Script]:
        """Each once: instances share a script's runs."""
        found = {s.name: s for v in self.config.instances for s in v.tracks}
        return list(found.values())

    def _check(self, script: Script) -> Check:
        own = self.machine.containers[self.p.instance].spec
        asked = targets(script, own, self.config.sees_host, self.machine.stack)
        return Check(self.p, self.world, self.machine, script, asked, self._told)

    def start(self, cause: int) -> None:
        """The daemon starts: BACKUP once its scripts have run."""
        self.segment.join(self)
        self.segment.refresh(cause)  # a master that is there already sends its next advert here too
        for router in self.routers:
            router.start(cause)
        for check in self.checks:
            check.start(cause)
        heard = self.machine.disks.setdefault("vrrp scripts", {})
        for check in self.checks:
            for name in check.targets or ():
                if (self.p.instance, name) not in heard:
                    heard[self.p.instance, name] = True
                    self._hear(name)

    def _hear(self, name: str) -> None:
        """Once for an instance: later processes of this container are told, too."""
        nodes, own = self.segment.nodes, self.p.instance
        self.machine.notice(name, lambda: nodes[own].look())

    def look(self) -> None:
        """Something that a script may ask after has changed."""
        for check in self.checks:
            check.changed()

    def _told(self, check: Check, cause: int) -> None:
        for router in self.routers:
            for script in router.vrrp.tracks:
                if script.name == check.script.name:
                    router.failing[script.name] = bool(check.good) == script.reverse
            router.judge(cause)

    def link(self, up: bool, cause: int) -> None:
        """Netlink says that the host's interface went down or came up."""
        word = "up" if up else "down"
        interfaces = dict.fromkeys(r.vrrp.interface for r in self.routers)
        for name in interfaces:
            cause = self.world.log(self.p.instance, f"Netlink reports {name} {word}", cause=cause)
        for router in self.routers:
            router.link = up
            router.judge(cause)

    def stop(self, cause: int) -> None:
        """SIGTERM."""
        for router in self.routers:
            router.stop(cause)

    def noticed(self, cause: int) -> None:
        """The process ended, was stopped or goes on."""
        if not self.p.alive and not self.over:
            self.over = True
            for router in self.routers:
                router.ended(cause)
        elif self.p.frozen != self.frozen:
            self.frozen = self.p.frozen
            if self.frozen:
                self.segment.refresh(cause)
                return
            for check in self.checks:
                check.resumed()
            for router in self.routers:
                router.resumed(cause)
