"""Who of a server's peers answers it now, and when to look again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hasim.sim.world import CONNECTS

if TYPE_CHECKING:
    from hasim.components.redis.server import Server


def speaks(server: Server, name: str) -> bool:
    """Does the peer run, and does what it sends arrive?"""
    p = server.machine.containers[name].process
    if p is None or p.frozen:
        return False
    return server.machine.reach(server.name, name) == CONNECTS


class Watched:
    """The peers at which `look` is called whenever one of them or the way to it changes."""

    def __init__(self, server: Server, look: Callable[[], None]):
        self.server, self.look = server, look
        self._names: set[str] = set()

    def add(self, name: str) -> None:
        """Watch this one, too."""
        if name not in self._names:
            self._names.add(name)
            machine = self.server.machine
            machine.watch(self.server.name, name, lambda _: self.look())
            machine.notice(name, self.look)
