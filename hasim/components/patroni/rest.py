"""Patroni's REST API: what health checks get, and what members ask each other.

Source: patroni/api.py (do_GET, do_GET_liveness, _readiness, do_POST_failsafe), 4.1.5.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hasim.components.base import request
from hasim.units import NS, parse_size_bytes

if TYPE_CHECKING:
    from hasim.components.base import Process
    from hasim.components.patroni.node import Node

PROBE_S = 2.0  # source: patroni/ha.py (fetch_node_status, call_failsafe_member: timeout=2)
_LEADER = ("/", "/primary", "/read-write", "/leader", "/master")
UNAVAILABLE = 503  # source: patroni/api.py


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to GET /patroni, as the leader race reads it (_MemberStatus)."""

    name: str
    in_recovery: bool | None = None  # None: the server does not answer
    lsn: float = 0.0
    timeline: int = 0
    nofailover: bool = False
    failover_priority: int = 1
    watchdog_failed: bool = False

    @property
    def cannot(self) -> bool:
        """failover_limitation(): not reachable, no_failover, watchdog."""
        return self.in_recovery is None or self.nofailover or self.watchdog_failed


class Rest:
    """The health URLs of one member."""

    def __init__(self, node: Node, urls: tuple[str, ...]):
        self.node = node
        asked = (
            server.check.url
            for balancer in node.machine.stack.balancers
            for backend in balancer.backends
            for server in backend.servers
            if server.check is not None and server.check_instance == node.name
        )  # such as /replica?lag=1MB
        self.urls = tuple(
            dict.fromkeys((*urls, *(u for u in asked if u.partition("?")[0] in urls)))
        )
        known = node.machine.unhealthy  # what an earlier process of this container left
        self.shown = {url: known.get((node.name, url), 0) for url in self.urls}

    def show(self) -> None:
        """Tell health checks what has changed."""
        for url in self.urls:
            status = self.status(url)
            if self.shown[url] != status:
                self.shown[url] = status
                self.node.machine.set_unhealthy(self.node.name, url, status)

    def status(self, url: str) -> int:
        """0 for 200, else the status that a GET gets now."""
        return 0 if self._good(url) else UNAVAILABLE

    def _good(self, full: str) -> bool:
        node = self.node
        url, _, query = full.partition("?")
        running = node.ready and node.state != "stopping"
        replica = running and not node.is_primary and not node.config.noloadbalance
        replica = replica and self._replayed(query)
        chosen = node.config.name in node.view.sync.members
        if url in _LEADER:
            return node.is_leader
        if url == "/liveness":
            limit = node.dynamic.ttl * (1 if node.is_primary else 2)
            return node.next_run_ns + limit * NS > node.env.now
        if url == "/readiness":
            return node.is_leader or (running and self._near())
        if url in ("/synchronous", "/sync"):
            return replica and chosen
        if url in ("/asynchronous", "/async"):
            return replica and not chosen
        answers = {"/replica": replica, "/read-only": node.is_leader or replica}
        return answers.get(url, running if url == "/health" else True)

    def _replayed(self, query: str) -> bool:
        """`lag=1MB`: replayed so far behind the position in /status at most."""
        limit = next((p[4:] for p in query.split("&") if p.startswith("lag=")), "")
        if not limit:
            return True
        try:
            most = parse_size_bytes(limit, "pg", zero=True, unit_bytes=1)
        except ValueError:
            return True  # source: patroni/api.py: what is no size sets no limit
        return self.node.view.last_lsn - self.node.lsn() <= most

    def _near(self) -> bool:
        """No further behind than a replica that may be promoted."""
        behind = self.node.view.last_lsn - self.node.lsn()
        return behind <= self.node.dynamic.maximum_lag_on_failover

    def later(self, seconds: float) -> None:
        """Something that only time changes: a belief, the liveness of a loop that hangs."""
        timer = self.node.world.seconds(seconds)
        timer.callbacks.append(lambda _: self.show() if self.node.p.alive else None)


# ---- asked by other members ---------------------------------------------------------------------


def status_of(p: Process) -> Any:
    """GET /patroni at the member that is asked; one that is stopping does not answer."""
    node: Any = p.data
    if node.stopping:
        return node.env.event()
    config = node.config
    failed = config.watchdog == "required" and not config.watchdog_device
    if not node.ready or node.state == "stopping":
        return Status(config.name, None)
    return Status(
        config.name,
        not node.is_primary,
        node.lsn(),
        node.server.timeline,
        config.nofailover,
        config.failover_priority,
        failed,
    )


def failsafe_of(p: Process, leader: str, ttl_s: float) -> bool:
    """POST /failsafe: accepted unless this member is a leader itself."""
    node: Any = p.data
    if node.is_leader:
        return False
    node.failsafe_leader = leader
    node.failsafe_until_ns = int(node.env.now) + round(ttl_s * NS)
    return True


def ask(node: Node, api: str, serve: Any) -> Generator[Any, Any, Any]:
    """One REST request with a limit of 2 s for the connect and 2 s for the answer, no retry."""
    if not api or api not in node.machine.containers:
        return None
    how, value = yield from request(node.machine, node.p, api, serve, PROBE_S, PROBE_S)
    return value if how == "ok" else None
