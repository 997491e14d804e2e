"""What HAProxy's own exporter shows of its servers.

Source: addons/promex (2.6.12), measured on a dump of /metrics: active and backup servers are those
in rotation; a status is one series per state, 1 for the state at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hasim.components.haproxy.servers import ServerState, Worker
    from hasim.model import Backend

# States of haproxy_server_status. Source: promex_srv_st in addons/promex.
STATES = ("DOWN", "UP", "MAINT", "DRAIN", "NOLB")


@dataclass(slots=True)
class Gauge:
    """A value of one process, and the row of the timeline that changed it last."""

    worker: Worker
    rows: list[ServerState]
    read: Callable[[], float]

    def __call__(self) -> float | None:
        """None once the process has ended."""
        return self.read() if self.worker.process.alive else None

    def mark(self) -> int:
        """The last transition of the servers behind the value; -1: none."""
        return max((row.last_mark for row in self.rows), default=-1)


def show(worker: Worker) -> None:
    """Register the gauges of a process; a newer process takes the places of an older one."""
    for backend in worker.balancer.backends:
        rows = [r for r in worker.rows if r.backend is backend]
        _backend(worker, backend, rows)
        for row in rows:
            for state in STATES:
                labels = (("proxy", backend.name), ("server", row.server.name), ("state", state))
                read = _is_in(row, state)
                _put(worker, "haproxy_server_status", labels, Gauge(worker, [row], read))


def _backend(worker: Worker, backend: Backend, rows: list[ServerState]) -> None:
    proxy = ("proxy", backend.name)
    for which, kind in enumerate(("active", "backup")):
        metric = f"haproxy_backend_{kind}_servers"
        _put(worker, metric, (proxy,), Gauge(worker, rows, _left(worker, backend, which)))
    for state in ("UP", "DOWN"):
        gauge = Gauge(worker, rows, _serves(worker, backend, state == "UP"))
        _put(worker, "haproxy_backend_status", (proxy, ("state", state)), gauge)


def _left(worker: Worker, backend: Backend, which: int) -> Callable[[], float]:
    return lambda: float(worker.left(backend)[which])


def _serves(worker: Worker, backend: Backend, up: bool) -> Callable[[], float]:
    return lambda: float((worker.left(backend) != (0, 0)) == up)


def _is_in(row: ServerState, state: str) -> Callable[[], float]:
    def read() -> float:
        status = row.status.split()[0]
        if status == "no":  # "no check": the exporter says UP
            status = "UP"
        return float(status == state)

    return read


def _put(worker: Worker, metric: str, labels: tuple[tuple[str, str], ...], gauge: Gauge) -> None:
    worker.machine.gauges[worker.instance, metric, labels] = gauge
