"""WAIT: clients that ask after each write how many replicas have it.

The reply comes when the k-th replica has acknowledged (it is asked at once, REPLCONF GETACK), or
after the timeout; the write stands in either case, only its writer knows better.
Source: src/replication.c 7.0.15, waitCommand and processClientsWaitingReplicas;
reference/redis-sentinel.md section 13.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from hasim.components.redis.peers import Watched, speaks

if TYPE_CHECKING:
    from hasim.components.redis.server import Server


class Waits:
    """`wait` of profile.yaml: so many replicas, and for how long clients wait for them."""

    def __init__(self, server: Server):
        self.server = server
        service = server.machine.containers[server.name].service
        self.replicas: int = service.wait_replicas if service is not None else 0
        self.timeout_s: float = service.wait_timeout_s if service is not None else inf
        self.shown: float | None = 0.0
        self._watched = Watched(server, self.look)

    def look(self) -> None:
        """A replica has come, gone, fallen silent or spoken again, or the role has changed."""
        server = self.server
        if not self.replicas or not server.p.alive:
            return
        for name in server.replicas:
            self._watched.add(name)
        late = self.late_s()
        met = late < inf
        extra = late if met else self.timeout_s
        if server.branch is not None:
            server.cluster.confirm(server.branch, met)
        else:
            extra = 0.0  # it takes no writes
        wanted = None if extra == inf else extra
        if wanted != self.shown:
            self.shown = wanted
            server.world.set_commit(server.name, wanted)

    def late_s(self) -> float:
        """When the k-th replica's answer comes; inf: it does not."""
        trips = sorted(self._trip_s(name) for name in self.server.replicas)
        return trips[self.replicas - 1] if len(trips) >= self.replicas else inf

    def _trip_s(self, name: str) -> float:
        server, machine = self.server, self.server.machine
        if not speaks(server, name):
            return inf
        return machine.one_way_s(server.name, name) + machine.one_way_s(name, server.name)
