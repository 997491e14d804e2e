"""The oracle's random numbers: Philox4x64-10 in whole numbers, and inverse CDFs.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011; test_oracle_differential.py
compares with numpy's Philox.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from hasim.model import Dist

FULL = (1 << 64) - 1
NORMAL = NormalDist()


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """One block of four 64-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (b >> 64) ^ c1 ^ k0, b & FULL, (a >> 64) ^ c3 ^ k1, a & FULL
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & FULL, (k1 + 0xBB67AE8584CAA73B) & FULL
    return c0, c1, c2, c3


def unit(word: int) -> float:
    """A word as a number in [0, 1)."""
    return (word >> 11) * 2.0**-53


class Demand:
    """The random numbers of one piece of demand: a user's n-th request, or a call inside it."""

    def __init__(self, key: tuple[int, int], ordinal: int, entity: int, path: int = 0) -> None:
        self.key, self.ordinal, self.entity, self.path = key, ordinal, entity, path
        self.first = self.block(0)
        self.steps = 0

    def block(self, number: int) -> tuple[int, int, int, int]:
        """Block `number` of this demand."""
        return philox((self.ordinal, self.entity, self.path, number), self.key)

    def again(self) -> Demand:
        """The same demand, asked once more."""
        return Demand(self.key, self.ordinal, self.entity, self.path)

    def child(self, row: int) -> Demand:
        """The demand of the call that step number `row` makes."""
        path = (self.path * 131 + row + 1) & FULL
        return Demand(self.key, self.ordinal, self.entity, path)

    def step_ns(self, dist: Dist) -> int:
        """The duration of the next step; a constant needs no random word."""
        if dist.kind == "const":
            return round(dist.a * 1e9)
        n = self.steps
        self.steps += 1
        word = self.first[2 + n] if n < 2 else self.block(1 + (n - 2) // 4)[(n - 2) % 4]
        return quantile_ns(dist, word)


def quantile_ns(dist: Dist, word: int) -> int:
    """The value of a distribution over seconds at one word, in whole ns."""
    u = unit(word)
    if dist.kind == "const":
        return round(dist.a * 1e9)
    if dist.kind == "exp":
        x = -math.log(1.0 - u) * (dist.a * 1e9)
    elif dist.kind == "uniform":
        a, b = dist.a * 1e9, dist.b * 1e9
        x = a + (b - a) * u
    elif dist.kind == "lognormal":
        x = dist.a * 1e9 * math.exp(dist.b * NORMAL.inv_cdf(max(u, 1e-17)))
    elif dist.kind == "quantiles":
        x = _between(dist.table, u) * 1.0
    elif dist.kind == "hyperexp":
        x = _hyperexponential(dist.table, u)
    else:
        raise ValueError(dist.kind)
    return int(x + 0.5)


def _between(table: tuple[tuple[float, float], ...], u: float) -> float:
    for (p0, v0), (p1, v1) in zip(table, table[1:], strict=False):
        if u < p1 or (p1, v1) == table[-1]:
            a, b = v0 * 1e9, v1 * 1e9
            return a if p1 <= p0 else a + (b - a) * (u - p0) / (p1 - p0)
    return table[-1][1] * 1e9


def _hyperexponential(table: tuple[tuple[float, float], ...], u: float) -> float:
    total = sum(w for w, _ in table)
    parts = [(w / total, mean * 1e9) for w, mean in table]
    low, high = 0.0, max(1.0, *(45.0 * mean for _, mean in parts))
    for _ in range(64):
        x = 0.5 * (low + high)
        if 1.0 - sum(w * math.exp(-x / mean) for w, mean in parts) < u:
            low = x
        else:
            high = x
    return 0.5 * (low + high)
