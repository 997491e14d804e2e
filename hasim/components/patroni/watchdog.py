"""The watchdog: the host is reset when nobody has fed it for ttl - safety_margin.

Source: patroni/watchdog/base.py, Patroni documentation "Watchdog support"; the device (softdog)
lives in the kernel and keeps counting when Patroni is stopped or killed.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.patroni.node import Node


class Watchdog:
    """One device of one host."""

    def __init__(self, node: Node):
        self.node = node
        self.running = False
        self.due_ns = 0
        self.number = 0

    @property
    def usable(self) -> bool:
        """Is there a device, and shall it be used?"""
        return self.node.config.watchdog_device and self.node.config.watchdog != "off"

    @property
    def healthy(self) -> bool:
        """May this member be promoted as far as the watchdog is concerned?"""
        return self.usable or self.node.config.watchdog != "required"

    def activate(self) -> bool:
        """Before a promotion; False: it is required and cannot be had."""
        if self.usable and not self.running:
            key = f"watchdog:{self.node.name}"
            before: Any = self.node.machine.disks.get(key)
            if before is not None and before is not self:
                before.disable()  # the device is opened again, which feeds it
            self.node.machine.disks[key] = self
            self.running = True
            self.number += 1
            self.keepalive()
            self.node.world.spawn(self._count(self.number), f"{self.node.name} watchdog")
        return self.healthy

    def keepalive(self) -> None:
        """Fed after each good update of the lock."""
        timeout_s = self.node.dynamic.ttl - self.node.config.safety_margin
        self.due_ns = int(self.node.env.now) + round(timeout_s * NS)

    def disable(self) -> None:
        """Closed in an orderly way."""
        self.running = False

    def _count(self, number: int) -> Generator[Any, Any, None]:
        """Sleeps until the device can have run out, asks again if it was fed meanwhile."""
        node, env = self.node, self.node.env
        host = node.machine.containers[node.name].spec.host
        while self.running and self.number == number:
            if env.now < self.due_ns:
                yield env.timeout(self.due_ns - env.now)
                continue
            if not node.machine.powered(host):
                return
            mark = node.world.log(host, "watchdog resets the host", node.name)
            machine: Any = node.machine
            machine.power_off(host, mark)
            state = machine.hosts[host]
            boot_s = machine.sample(state.spec.boot, f"boot host {host}", state.outages, "boot")
            yield node.world.seconds(boot_s)
            mark = node.world.log(host, "host booted", cause=mark)
            machine.power_on(host, mark)
            machine.docker.boot_host(host, mark)
            return
