"""What a standby has received and replayed: a fluid, worked out only when somebody looks.

The primary's commits leave at once, travel one way, and pass two bottlenecks: the link (bytes a
second) and the one process that replays. Nothing happens between two looks that could change the
result, except what ends a stream; that calls stop() at its instant.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from hasim.lineage import Position
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.postgres.wal import History

STEP_NS = NS  # source: our choice; a burst shorter than this is spread over it


class Flow:
    """The WAL of one standby. Times are env.now; bytes are WAL positions.

    source(t): what has arrived by t if the link were endlessly wide; None: nothing flows.
    """

    def __init__(self, history: History, start: Position | None, replay_bytes_s: float):
        self.history, self.replay_bytes_s = history, replay_bytes_s
        self.link_bytes_s: Callable[[], float] = lambda: inf
        self.source: Callable[[int], Position | None] | None = None
        self.received = self.replayed = start
        self.received_bytes = self.replayed_bytes = history.bytes_of(start)
        self.t_ns = history.cluster.now()
        self.held_until_ns = -1  # replay waits behind a query until then
        self.apply_delay_ns = 0  # recovery_min_apply_delay

    def start(self, source: Callable[[int], Position | None]) -> None:
        """WAL flows from now on."""
        self.advance()
        self.source = source

    def stop(self) -> None:
        """Nothing more arrives: what is on the way now is gone."""
        self.advance()
        self.source = None

    def set_base(self, position: Position | None) -> None:
        """A base backup was restored: it holds this much."""
        self.received = self.replayed = position
        self.received_bytes = self.replayed_bytes = self.history.bytes_of(position)
        self.t_ns = self.history.cluster.now()

    def advance(self) -> None:
        """Bring both positions up to now."""
        now = self.history.cluster.now()
        while self.t_ns < now:
            step = min(STEP_NS, now - self.t_ns)
            self.t_ns += step
            self._step(self.t_ns, step)

    def _step(self, until_ns: int, step_ns: int) -> None:
        there = self.source(until_ns) if self.source else None
        if there is not None:
            self._receive(there, self.link_bytes_s() * step_ns / NS)
        free_ns = until_ns - max(self.held_until_ns, until_ns - step_ns)
        if free_ns > 0:
            self._replay(self.replay_bytes_s * free_ns / NS, until_ns)

    def _receive(self, there: Position, budget_bytes: float) -> None:
        at = self.history.bytes_of(there)
        if at <= self.received_bytes + budget_bytes:
            if at >= self.received_bytes:
                self.received, self.received_bytes = there, at
            return
        self.received_bytes += budget_bytes
        self.received = self.history.position_at(there.branch, self.received_bytes)

    def _replay(self, budget_bytes: float, until_ns: int) -> None:
        due, due_bytes = self._due(until_ns)
        if due is None or due_bytes <= self.replayed_bytes:
            return
        if due_bytes <= self.replayed_bytes + budget_bytes:
            self.replayed, self.replayed_bytes = due, due_bytes
            return
        self.replayed_bytes += budget_bytes
        self.replayed = self.history.position_at(due.branch, self.replayed_bytes)

    def _due(self, until_ns: int) -> tuple[Position | None, float]:
        """What may be replayed by then: all that is here, unless commits must be of an age."""
        here = self.received
        if here is None or not self.apply_delay_ns:
            return here, self.received_bytes
        old = self.history.count_at(here.branch, until_ns - self.apply_delay_ns)
        due = Position(here.branch, min(old, here.count))
        return due, self.history.bytes_of(due)

    # ---- views -------------------------------------------------------------------------------
    @property
    def backlog_bytes(self) -> float:
        """Received and not replayed yet."""
        return self.received_bytes - self.replayed_bytes

    def unsent_bytes(self, upstream: Position | None) -> float:
        """What the upstream has and this standby has not received yet."""
        return max(0.0, self.history.bytes_of(upstream) - self.received_bytes)
