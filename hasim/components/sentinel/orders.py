"""SLAVEOF by Sentinel: the transaction that changes a node's role and kills its clients.

Source: src/sentinel.c 7.0.15, sentinelSendSlaveOf (MULTI, SLAVEOF, CONFIG REWRITE, CLIENT KILL
TYPE normal, CLIENT KILL TYPE pubsub, EXEC).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasim.components.sentinel import memory
from hasim.components.sentinel.entries import Entry, Master

if TYPE_CHECKING:
    from hasim.components.sentinel.daemon import Sentinel


def slaveof(
    sentinel: Sentinel, master: Master, entry: Entry, target: Entry | None, cause: int
) -> None:
    """Send the order; target None: be a master."""
    machine = sentinel.machine
    name, process = entry.name, entry.link.process
    to = None if target is None else (target.name, target.host, target.port)

    def arrived() -> None:
        p = machine.containers[name].process
        if p is None or p is not process or not hasattr(p.data, "slaveof"):
            return
        if p.frozen:  # it waits in the socket
            p.resumed.callbacks.append(lambda _: arrived())
            return
        p.data.slaveof(to, cause)
        for fellow in memory.fellows(sentinel, master.name):  # their links are clients, too
            _kill_link(fellow, name)

    view = sentinel.view(entry)
    if entry.link.open and view.answers and view.process is process:
        sentinel.send(name, arrived)
    else:
        entry.link.calls.append(arrived)


def _kill_link(sentinel: Sentinel, name: str) -> None:
    if sentinel.stopped or not sentinel.p.alive:
        return
    sentinel.advance(int(sentinel.p.env.now), inclusive=False)
    for master in sentinel.masters:
        for entry in master.entries():
            if entry.name == name and entry.link.open:
                entry.link.close()
    sentinel.ring()
