"""Patroni's copy of the cluster's keys, kept by a watch; its changes wake the HA loop.

Read beside patroni/dcs/etcd3.py (KVCache, PatroniEtcd3Client.get_cluster), 4.1.5.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from hasim.components.patroni.client import FIRST_DELAY_S, DcsError, Retry
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.patroni.node import Node

AGAIN_S = 1.0  # source: patroni/dcs/etcd3.py (KVCache.run: time.sleep(1) after a failure)
_REFUSED = 1  # source: sim.world REFUSED


class Cache:
    """entries: key -> etcd's entry, without the prefix."""

    def __init__(self, node: Node):
        self.node = node
        self.entries: dict[str, Any] = {}
        self.ready = False
        self.changed = node.env.event()
        self.cancel = node.env.event()
        node.client.broken = self.restart

    def restart(self) -> None:
        """Drop the watch and read everything again."""
        if not self.cancel.triggered:
            self.cancel.succeed()

    def run(self) -> Generator[Any, Any, None]:
        """Read, watch, again; a failed read pauses for a second."""
        node, prefix = self.node, self.node.config.prefix
        while True:
            yield from self._until_not_refused()
            try:
                _, (entries, revision) = yield from node.client.call(lambda m: m.range(prefix))
            except DcsError:
                yield from node.sleep(AGAIN_S)
                continue
            self.entries = {k[len(prefix) :]: e for k, e in entries.items()}
            self._set_ready(True)
            yield from self._watch(revision)
            self._set_ready(False)

    def _set_ready(self, on: bool) -> None:
        self.ready = on
        done, self.changed = self.changed, self.node.env.event()
        done.succeed()

    def _watch(self, revision: int) -> Generator[Any, Any, None]:
        node = self.node
        self.cancel = node.env.event()
        name, prefix = node.client.base, node.config.prefix
        conn = yield node.machine.connect(node.p, name, node.dynamic.retry_timeout)
        yield from node.awake()
        if isinstance(conn, int):
            return
        conn.tell(lambda p: p.data.watch(conn, prefix, self._hear, revision))
        yield node.env.any_of([conn.closed, self.cancel])
        conn.close()
        yield from node.awake()

    def _hear(self, change: Any) -> None:
        """A key has changed. Source: KVCache._process_event for what wakes the HA loop."""
        if not self.node.p.alive:
            return
        key = change.key[len(self.node.config.prefix) :]
        old = self.entries.get(key)
        if old is not None and old.mod >= change.mod:
            return
        if change.entry is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = change.entry
        value = change.entry.value if change.entry else None
        if value == (old.value if old else None):
            return
        leader = self.entries.get("leader")
        mine = leader is not None and leader.value == self.node.config.name
        config = key == "config" and old is not None and value is not None
        if key == "leader" or config or (key == "status" and value is not None and not mine):
            self.node.wake()

    def put(self, key: str, entry: Any) -> None:
        """Our own write is in the copy at once (call_rpc)."""
        old = self.entries.get(key)
        if entry is None:
            self.entries.pop(key, None)
        elif old is None or old.mod < entry.mod:
            self.entries[key] = entry

    def _until_not_refused(self) -> Generator[Any, Any, None]:
        """While every member refuses, a try takes no time and changes nothing: sleep until that
        is different, then act at the moment of the try that comes next.
        """
        node = self.node
        begun = int(node.env.now)
        if not self._all_refused():
            return
        while self._all_refused():
            bell = node.env.event()
            ring = partial(_ring, bell)
            ends = [node.machine.watch(node.name, m, ring) for m in node.client.order() if m]
            yield node.env.any_of([bell, node.p.ended])
            for end in ends:
                end()
            yield from node.awake()
        at, retry = begun, Retry(node, node.dynamic.retry_timeout)
        retry.stop_ns = at + round(retry.deadline_s * NS)
        while at < node.env.now:
            sleep_s = retry.sleep_s()
            if (retry.stop_ns - at) / NS - sleep_s < 1:
                at += round(AGAIN_S * NS)
                retry.delay_s, retry.stop_ns = FIRST_DELAY_S, at + round(retry.deadline_s * NS)
            else:
                at += round(sleep_s * NS)
                retry.update()
        yield from node.sleep((at - int(node.env.now)) / NS)

    def _all_refused(self) -> bool:
        names = [m for m in self.node.client.order() if m]
        reach = self.node.machine.reach
        return bool(names) and all(reach(self.node.name, m) == _REFUSED for m in names)


def _ring(bell: Any, _reach: int) -> None:
    if not bell.triggered:
        bell.succeed()
