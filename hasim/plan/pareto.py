"""Choosing among points by several objectives, all of them to be small. Numbers in, indexes out."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = Sequence[float]


def dominates(a: Point, b: Point) -> bool:
    """a is nowhere worse than b and somewhere better.

    >>> dominates((1, 2), (1, 3)), dominates((1, 2), (1, 2)), dominates((1, 2), (0, 3))
    (True, False, False)
    """
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def front(points: Sequence[Point]) -> list[int]:
    """The points that no other one dominates, in their order. Equal points stay together."""
    return [i for i, p in enumerate(points) if not any(dominates(q, p) for q in points)]


def fronts(points: Sequence[Point]) -> list[list[int]]:
    """The front, the front of what is left without it, and so on, until every point has a place."""
    left, out = list(range(len(points))), []
    while left:
        first = [left[i] for i in front([points[i] for i in left])]
        out.append(first)
        left = [i for i in left if i not in set(first)]
    return out


def best(points: Sequence[Point], n: int) -> list[int]:
    """n points or less: front by front, of the last one that fits only in part those that stand
    farthest from their neighbours, so that the ends and the whole width of it stay in sight.
    """
    chosen: list[int] = []
    for layer in fronts(points):
        room = n - len(chosen)
        if room <= 0:
            break
        if len(layer) > room:
            alone = _room_around([points[i] for i in layer])
            order = sorted(range(len(layer)), key=lambda k: (-alone[k], k))
            layer = [layer[k] for k in order[:room]]
        chosen += layer
    return sorted(chosen)


def _room_around(points: Sequence[Point]) -> list[float]:
    """How far the neighbours of each point are apart, summed over the objectives; ends: inf."""
    room = [0.0] * len(points)
    for axis in range(len(points[0])):
        order = sorted(range(len(points)), key=lambda i: points[i][axis])
        low, high = points[order[0]][axis], points[order[-1]][axis]
        if not low < high:
            continue
        room[order[0]] = room[order[-1]] = math.inf
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            gap = points[after][axis] - points[before][axis]
            room[here] += gap / (high - low) if math.isfinite(high) else 0.0
    return room


def knee_scores(points: Sequence[Point], flat: Sequence[bool] = ()) -> list[float]:
    """How good a compromise each point is, 0 the best thinkable: every objective scaled to 0..1
    between the smallest and largest value seen, then added up.

    On a front of two objectives the smallest sum is the point that lies farthest below the line
    through its ends: the knee. flat: objectives whose differences are noise, left out.
    """
    scores = [0.0] * len(points)
    for axis in range(len(points[0]) if points else 0):
        if axis < len(flat) and flat[axis]:
            continue
        seen = [p[axis] for p in points if math.isfinite(p[axis])]
        low, high = min(seen, default=0.0), max(seen, default=0.0)
        for i, p in enumerate(points):
            if not math.isfinite(p[axis]):
                scores[i] += 2.0
            elif high > low:
                scores[i] += (p[axis] - low) / (high - low)
    return scores
