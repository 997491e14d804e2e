"""Requests to etcd as Patroni makes them: time-outs, tries per member, retries until a deadline.

Read beside patroni/dcs/etcd.py (AbstractEtcdClientWithFailover) and patroni/utils.py (Retry),
4.1.5. One generator per request; DcsError when Patroni gives up. Compared with the real client in
tests/fidelity/test_patroni_dcs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from hasim.components.base import LOST
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.patroni.node import Node

# Source: patroni/dcs/etcd.py (AbstractEtcd: Retry(max_delay=1); utils.Retry: 0.1 s doubled, up to
# 0.8 s of jitter in steps of 0.01 s).
FIRST_DELAY_S, MAX_DELAY_S, JITTER_STEPS = 0.1, 1.0, 81
MIN_TIMEOUT_S = 1.0  # source: patroni/dcs/etcd.py (_calculate_timeouts)


class DcsError(Exception):
    """Patroni's DCSError: etcd did not answer in time."""


class Gone(Exception):
    """The process has ended while one of its generators was waiting."""


def timeouts(members: int, left_s: float) -> tuple[int, float, int]:
    """(members to try, seconds for each try, tries of each) in the time that is left.

    Source: patroni/dcs/etcd.py (_calculate_timeouts).

    >>> timeouts(1, 10), timeouts(3, 10), timeouts(3, 2.5)
    ((1, 3.3333333333333335, 3), (3, 3.3333333333333335, 1), (2, 1.25, 1))
    """
    most, tries, each = 4 - min(members, 3), 1, left_s
    while members > 0:
        each = left_s / members
        if each >= MIN_TIMEOUT_S:
            while tries < most and each / (tries + 1) >= MIN_TIMEOUT_S:
                tries += 1
            return members, each / tries, tries
        members -= 1
        most = 1
    return 0, each, 1


class Retry:
    """patroni.utils.Retry: waits that double, with jitter, until a deadline."""

    def __init__(self, node: Node, deadline_s: float):
        self.node, self.deadline_s = node, deadline_s
        self.delay_s = FIRST_DELAY_S
        self.stop_ns = int(node.env.now) + round(deadline_s * NS)

    def sleep_s(self) -> float:
        """The next wait."""
        return self.delay_s + int(self.node.draw("retry") * JITTER_STEPS) / 100

    def update(self) -> None:
        """After a wait: the next one is twice as long."""
        self.delay_s = min(2 * self.delay_s, MAX_DELAY_S)

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return (self.stop_ns - int(self.node.env.now)) / NS


class Client:
    """The etcd client of one member. `members`: instances, as configured or as etcd lists them."""

    def __init__(self, node: Node, configured: tuple[str, ...]):
        self.node, self.configured = node, configured
        self.members = list(configured)
        self.base = configured[0] if configured else ""
        self.conns: dict[str, Any] = {}
        self.broken: Callable[[], None] = lambda: None  # restarts the watcher

    def order(self) -> list[str]:
        """The member used last comes first."""
        return sorted(self.members, key=lambda m: m != self.base)

    def call(self, serve: Callable[[Any], Any]) -> Generator[Any, Any, Any]:
        """A request with retries for retry_timeout. serve(member) runs there. The answer's
        ("ok" | "error", value).
        """
        node = self.node
        retry = Retry(node, node.dynamic.retry_timeout)
        nodes = self.order()
        _, total_s, tries = timeouts(len(nodes), node.dynamic.retry_timeout)
        while True:
            got = yield from self._round(nodes, serve, total_s, tries)
            if got is not None:
                return got
            yield from self._load_members()
            nodes = self.order()
            sleep_s = retry.sleep_s()
            count, total_s, tries = timeouts(len(nodes), retry.left_s() - sleep_s)
            if count == 0:
                self.broken()
                raise DcsError
            yield from node.sleep(sleep_s)
            retry.update()
            nodes = nodes[:count]

    def once(self, serve: Callable[[Any], Any]) -> Generator[Any, Any, Any]:
        """A request without retries, to one member only."""
        nodes = self.order()
        _, total_s, tries = timeouts(len(nodes), self.node.dynamic.retry_timeout)
        got = yield from self._http(nodes[0], serve, total_s, tries)
        if got is None:
            self.base = nodes[1] if len(nodes) > 1 else nodes[0]
            self.broken()
            raise DcsError
        return got

    def _round(
        self, nodes: list[str], serve: Callable[[Any], Any], total_s: float, tries: int
    ) -> Generator[Any, Any, Any]:
        """Each member in turn; None if none answers."""
        for i, name in enumerate(nodes):
            got = yield from self._http(name, serve, total_s, tries)
            if got is not None:
                if i:
                    self.base = name
                    self.broken()
                return got
        return None

    def _http(
        self, name: str, serve: Callable[[Any], Any], total_s: float, tries: int
    ) -> Generator[Any, Any, Any]:
        """One POST. A connect that fails is tried again, an answer that does not come is not
        (urllib3's Retry: POST is no idempotent method). None: it failed.
        """
        node = self.node
        conn = self.conns.get(name)
        if conn is None or conn.closed.triggered:
            conn = yield from self._connect(name, max(MIN_TIMEOUT_S, total_s / 2), tries)
        if conn is None:
            return None
        answer = conn.ask(lambda p: serve(p.data))
        yield node.env.any_of([answer, node.env.timeout(round(total_s * NS))])
        yield from node.awake()
        if not answer.triggered or answer.value is LOST:
            conn.close()
            self.conns.pop(name, None)
            return None
        status, value = answer.value
        if status == "error" and "timed out" in str(value):
            return None
        return status, value

    def _connect(self, name: str, connect_s: float, tries: int) -> Generator[Any, Any, Any]:
        if name:
            for _ in range(tries):
                conn = yield self.node.machine.connect(self.node.p, name, connect_s)
                yield from self.node.awake()
                if not isinstance(conn, int):
                    self.conns[name] = conn
                    return conn
        return None

    def _load_members(self) -> Generator[Any, Any, None]:
        """Ask for the member list, wherever it can be had."""
        _, total_s, tries = timeouts(len(self.members), self.node.dynamic.retry_timeout)
        for name in dict.fromkeys((*self.configured, *self.members)):
            got = yield from self._http(name, lambda m: ("ok", m.members()), total_s, tries)
            if got is not None:
                known = set(got[1])
                self.members = [m for m in self.configured if m in known]
                self.members += [m for m in got[1] if m not in self.members]
                return
