"""The largest step of a ladder that passes: bracket, then bisect.

>>> largest(lambda step: step <= 7, 0, -50, 50)
(7, 8)
"""

from __future__ import annotations

from collections.abc import Callable

STEP = 1.02  # neighbouring loads differ by 2 %
DOUBLE = 35  # steps that double a load


def rung(asked: float, step: int, whole: bool) -> float:
    """The load `step` steps of 2 % above (below) the asked one; whole users, at least one."""
    load = asked * STEP**step
    return float(max(round(load), 1)) if whole else float(f"{load:.4g}")


def largest(
    passes: Callable[[int], bool], start: int, least: int, most: int, stride: int = DOUBLE
) -> tuple[int | None, int | None]:
    """(last step that passes or None, first that fails or None) within least..most.

    passes must be true up to some step and false above it. Looked at are `start`, then steps
    further and further away until both answers are known, then the middle of what is left.
    """
    start = min(max(start, least), most)
    good: int | None = None
    bad: int | None = None
    at = start
    while True:
        if passes(at):
            good = at
            if at == most or bad is not None:
                break
            at = min(at + stride, most)
        else:
            bad = at
            if at == least or good is not None:
                break
            at = max(at - stride, least)
    while good is not None and bad is not None and bad - good > 1:
        middle = (good + bad) // 2
        if passes(middle):
            good = middle
        else:
            bad = middle
    return good, bad


def smallest(passes: Callable[[int], bool], least: int, most: int) -> int | None:
    """The least number in least..most that passes, None if none does; above it all must pass.

    >>> smallest(lambda n: n >= 3, 1, 9)
    3
    """
    return largest(lambda n: not passes(n), least, least, most, stride=1)[1]
