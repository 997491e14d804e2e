"""The oracle's clock: a heap of alarms, and what goes on at once in the present instant."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

NEVER = 1 << 62
SECOND = 1_000_000_000


class Timed:
    """Anything that has one alarm: a request, a user, an arrival stream, a container."""

    ticket = 0  # of the alarm that counts; 0: none is set

    def ring(self) -> None:
        """The alarm goes off."""
        raise NotImplementedError


class Clock:
    """Time in whole ns. Alarms of one instant ring in the order in which they were set."""

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[tuple[int, int, Timed]] = []
        self._tickets = 0
        self._ready: deque[Callable[[], None]] = deque()
        self.before_each: Callable[[], None] = lambda: None

    def set_alarm(self, who: Timed, at: int) -> None:
        """Set (or move) the one alarm of `who`; NEVER takes it away."""
        who.ticket = 0
        if at < NEVER:
            self._tickets += 1
            who.ticket = self._tickets
            heapq.heappush(self._heap, (max(at, self.now), who.ticket, who))

    def soon(self, what: Callable[[], None]) -> None:
        """Do `what` in this instant, after what is already waiting to be done in it."""
        self._ready.append(what)

    def settle(self) -> None:
        """Do everything that goes on in the present instant."""
        while self._ready:
            self._ready.popleft()()

    def run_until(self, end: int) -> None:
        """Let time pass up to `end`; alarms set for `end` itself do not ring yet."""
        self.settle()
        while self._heap and self._heap[0][0] < end:
            self.before_each()
            at, ticket, who = heapq.heappop(self._heap)
            if ticket == who.ticket:
                self.now = at
                who.ticket = 0
                who.ring()
                self.settle()
        self.now = end
