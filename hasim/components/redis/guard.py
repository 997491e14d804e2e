"""min-replicas-to-write: a master whose replicas have stopped acknowledging takes no writes.

Source: src/replication.c 7.0.15, refreshGoodSlavesCount and replicationCron: replicas acknowledge
once a second, lag is a difference of whole seconds, looked at once a second and whenever a replica
comes or goes; reference/redis-sentinel.md section 13.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hasim.components.redis.peers import Watched, speaks
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.redis.server import Server


class Guard:
    """Which replicas of a master count as good."""

    def __init__(self, server: Server):
        self.server = server
        self.active = bool(server.config.min_replicas and server.config.max_lag_s)
        self.quiet: dict[str, int] = {}  # replica -> since when no ACK comes
        self.lapsed: set[str] = set()
        self._watched = Watched(server, self.look)

    def enough(self) -> bool:
        """Are there enough replicas with a small lag?"""
        if not self.active:
            return True
        good = [n for n in self.server.replicas if n not in self.lapsed]
        return len(good) >= self.server.config.min_replicas

    def look(self) -> None:
        """A replica has come, gone, fallen silent or spoken again."""
        server = self.server
        if not self.active or not server.p.alive:
            return
        for name in (*self.quiet, *self.lapsed):
            if name not in server.replicas:
                self.quiet.pop(name, None)
                self.lapsed.discard(name)
        for name in server.replicas:
            self._watched.add(name)
            if speaks(server, name):
                if self.quiet.pop(name, None) is not None and name in self.lapsed:
                    self._at(self._next_good(name), partial(self._spoke, name))
            elif name not in self.quiet:
                self.quiet[name] = server.now
                self._at(self._lapse_ns(name), partial(self._lapse, name, server.now))
        self.apply()

    def apply(self) -> None:
        """Open or close the master for writes."""
        server = self.server
        if server.role != "master" or not server.p.alive or server.p.frozen:
            return  # a stopped process looks when it runs again
        if self.enough():
            if not server.writable and not server.storage.error:
                server.accept()
                server.say("accepts writes", "enough good replicas", server.mark)
        elif server.writable:
            server.refuse()
            where = server.config.where.get("min-replicas-to-write")
            server.say("NOREPLICAS", "Not enough good replicas to write.", server.mark, where)

    def _at(self, t_ns: int, call: Callable[[], None]) -> None:
        timer = self.server.world.env.timeout(max(0, t_ns - self.server.now))
        timer.callbacks.append(lambda _: call())

    def _second(self, t_ns: int) -> int:
        """The wall clock in whole seconds; all hosts' clocks agree."""
        offset = round(NS * self.server.world.draw("wall clock", 0, "second"))
        return (t_ns + offset) // NS

    def _lapse_ns(self, name: str) -> int:
        """The cron of the master that first sees a lag above the limit."""
        server = self.server
        acked = server.now - (server.now - server.replicas[name].phase_ns) % NS
        limit = self._second(acked) + server.config.max_lag_s
        tick = server.now + NS - (server.now - server.phase_ns) % NS
        while self._second(tick) <= limit:
            tick += NS
        return tick

    def _next_good(self, name: str) -> int:
        """The next ACK, then the master's next cron."""
        server = self.server
        acked = server.now + NS - (server.now - server.replicas[name].phase_ns) % NS
        return acked + NS - (acked - server.phase_ns) % NS

    def _lapse(self, name: str, since: int) -> None:
        if self.quiet.get(name) == since and self.server.p.alive:
            self.lapsed.add(name)
            self.apply()

    def _spoke(self, name: str) -> None:
        if name not in self.quiet and self.server.p.alive:
            self.lapsed.discard(name)
            self.apply()
