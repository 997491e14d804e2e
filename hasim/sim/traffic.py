"""Load shapes: a k6 executor as spans of virtual users, or as pieces of an arrival rate.

source: k6 documentation, "Executors"; lib/executor/ramping_vus.go: a user starts and stops at the
moments at which the linear level crosses a whole number, the last started stops first.
"""

from __future__ import annotations

from hasim.scenario import Load
from hasim.sim.kernel.layout import FOREVER, NS


def is_open_loop(load: Load) -> bool:
    """Do iterations begin by rate, whatever the users do?"""
    return load.executor.endswith("arrival-rate")


def user_spans(load: Load, start_ns: int) -> list[list[tuple[int, int, int]]]:
    """For each virtual user its (start, stop, kill) times in ns.

    At `stop` the user ends with its iteration, at `kill` (gracefulRampDown, or gracefulStop at
    the end) the iteration is interrupted.
    """
    spans: list[list[tuple[int, int, int]]] = []
    active: list[int] = []  # start times of the users now active; user number = index
    level, t = load.start, 0.0
    for _ in range(round(level)):
        active.append(start_ns)
    for duration, target in load.stages:
        crossings = _crossings(level, target, t, duration)
        for when, up in crossings:
            at = start_ns + round(when * NS)
            if up:
                active.append(at)
            else:
                number = len(active) - 1
                _put(spans, number, (active.pop(), at, at + _ns(load.graceful_ramp_down_s)))
        level, t = target, t + duration
    end = start_ns + round(t * NS)
    while active:
        number = len(active) - 1
        _put(spans, number, (active.pop(), end, end + _ns(load.graceful_stop_s)))
    for own in spans:
        own.sort()
    return spans


def _ns(seconds: float) -> int:
    return FOREVER // 4 if seconds > 1e9 else round(seconds * NS)


def _put(spans: list, number: int, span: tuple[int, int, int]) -> None:
    while len(spans) <= number:
        spans.append([])
    spans[number].append(span)


def _crossings(a: float, b: float, t: float, duration: float) -> list[tuple[float, bool]]:
    """When a level that moves linearly from a to b passes whole numbers, and which way."""
    if a == b:
        return []
    if duration <= 0:
        steps = range(round(abs(b - a)))
        return [(t, b > a) for _ in steps]
    slope = (b - a) / duration
    if b > a:
        return [(t + (n - a) / slope, True) for n in range(int(a) + 1, int(b) + 1)]
    first = int(a) if a == int(a) else int(a) + 1
    return [(t + (n - 1 - a) / slope, False) for n in range(first, int(b), -1)]


def rate_pieces(load: Load, start_ns: int) -> list[dict[str, float]]:
    """Linear pieces of the arrival rate per second, with the cumulative count at each start."""
    pieces: list[dict[str, float]] = []
    rate, t, total = load.start / load.time_unit_s, float(start_ns), 0.0
    for duration, target in load.stages:
        goal = target / load.time_unit_s
        if duration > 0:
            slope = (goal - rate) / duration
            piece = {"t0": t, "t1": t + duration * NS, "r0": rate, "slope": slope, "sum0": total}
            pieces.append(piece)
            total += 0.5 * (rate + goal) * duration
        rate, t = goal, t + duration * NS
    return pieces
