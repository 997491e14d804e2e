"""Intervals over replications, written by hand so that a run needs no scipy (tests compare).

Every interval takes `error`: the chance that *one* of its bounds is wrong. A two-sided 95 %
interval has error 0.025. The unit is the replication: errors within one run come in bursts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# The only numbers of replications at which a verdict may be formed (design.md section 4).
LOOKS = (40, 80, 120)
ERROR = 0.025  # of one bound of an interval of 95 %


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its interval; n replications."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Paired:
    """b - a under the same luck; `correlation` says how much the shared luck helped."""

    difference: float
    low: float
    high: float
    correlation: float
    n: int


def looks(replications: int) -> tuple[int, ...]:
    """The looks of a scenario: the three default ones, or the one that it fixes."""
    return (replications,) if replications else LOOKS


def error_per_bound(confidence: float, replications: int) -> float:
    """alpha shared by the looks: over all of them a bound is wrong with at most 1 - confidence."""
    return (1.0 - confidence) / len(looks(replications))


def betainc(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1.0) / (a + b + 2.0):  # the fraction converges fast on the other side
        return 1.0 - betainc(b, a, 1.0 - x)
    log_front = a * math.log(x) + b * math.log1p(-x)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) * _beta_fraction(a, b, x) / a


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Lentz's method for the continued fraction of the incomplete beta function."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    out = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + term / c
            c = c if abs(c) > tiny else tiny
            out *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return out


def _bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """The root of an increasing function between low and high, to the last bit or so."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if function(middle) < 0.0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@lru_cache(maxsize=4096)
def beta_quantile(p: float, a: float, b: float) -> float:
    """The p-quantile of the beta distribution with parameters a and b."""
    return _bisect(lambda x: betainc(a, b, x) - p, 0.0, 1.0)


@lru_cache(maxsize=4096)
def t_quantile(p: float, freedom: int) -> float:
    """The p-quantile of Student's t with that many degrees of freedom."""
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1.0 - p, freedom)
    # P(|T| > t) = I_x(v/2, 1/2) with x = v / (v + t^2)
    x = beta_quantile(2.0 * (1.0 - p), freedom / 2.0, 0.5)
    return math.sqrt(freedom * (1.0 - x) / x) if x > 0.0 else math.inf


def t_interval(values: Sequence[float] | np.ndarray, error: float) -> Estimate:
    """Student-t interval for the mean of one value per replication.

    One value alone has the interval (-inf, inf). One infinite value (never recovered, say) is a
    proof that the mean is infinite.
    Raises ValueError without values.
    """
    x = np.asarray(values, dtype=float)
    n = len(x)
    if n == 0:
        raise ValueError("no samples")
    if not np.isfinite(x).all():
        worst = math.inf if (x == math.inf).any() else -math.inf
        return Estimate(worst, worst, worst, n)
    mean = float(x.mean())
    if n == 1:
        return Estimate(mean, -math.inf, math.inf, n)
    half = t_quantile(1.0 - error, n - 1) * float(x.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


@lru_cache(maxsize=4096)
def clopper_pearson(successes: int, n: int, error: float) -> tuple[float, float]:
    """The exact interval of a probability after `successes` of n; each bound errs with `error`."""
    low = 0.0 if successes == 0 else beta_quantile(error, successes, n - successes + 1)
    high = 1.0 if successes == n else beta_quantile(1.0 - error, successes + 1, n - successes)
    return low, high


@lru_cache(maxsize=1024)
def _ranks(n: int, coverage: float, error: float) -> tuple[int, int]:
    """(largest count that proves p < coverage or -1, smallest that proves p >= coverage or n+1)."""
    below = above = 0
    while below <= n and clopper_pearson(below, n, error)[1] < coverage:
        below += 1
    while above <= n and clopper_pearson(above, n, error)[0] < coverage:
        above += 1
    return below - 1, above


def quantile_interval(
    values: Sequence[float] | np.ndarray, coverage: float, error: float
) -> tuple[float, float, float]:
    """(quantile, low, high): the value that a share `coverage` of runs stays below or at.

    The bounds are order statistics and turn the exact interval of P(value < limit) into the unit
    of the value: high < limit exactly when that probability's lower bound reaches `coverage`,
    low >= limit exactly when its upper bound is below it. No distribution is assumed.
    """
    x = np.sort(np.asarray(values, dtype=float))
    n = len(x)
    if n == 0:
        raise ValueError("no samples")
    below, above = _ranks(n, coverage, error)
    low = float(x[below]) if below >= 0 else -math.inf
    high = float(x[above - 1]) if above <= n else math.inf
    return quantile(x, coverage), low, high


def quantile(values: Sequence[float] | np.ndarray, q: float) -> float:
    """The smallest value that at least a share q of the values does not exceed (no blending)."""
    x = np.sort(np.asarray(values, dtype=float))
    if len(x) == 0:
        return math.nan
    return float(x[max(math.ceil(q * len(x) - 1e-9), 1) - 1])


def weighted_quantile(values: np.ndarray, weights: np.ndarray, q: float) -> float:
    """`quantile` of values that occur `weights` times; nan without any weight."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    if len(total) == 0 or total[-1] <= 0:
        return math.nan
    rank = max(math.ceil(q * float(total[-1]) - 1e-9), 1)
    return float(values[order][np.searchsorted(total, rank)])


def paired(a: Sequence[float], b: Sequence[float], error: float) -> Paired:
    """Compare two configurations, replication by replication (common random numbers).

    Where both are infinite (neither recovered), nothing has changed.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape:
        raise ValueError(f"{len(x)} replications against {len(y)}: not the same luck")
    never = np.isinf(x) & (x == y)
    x, y = np.where(never, 0.0, x), np.where(never, 0.0, y)
    estimate = t_interval(y - x, error)
    known = len(x) > 1 and np.isfinite(x).all() and np.isfinite(y).all()
    spread = float(x.std() * y.std()) if known else 0.0
    correlation = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread else math.nan
    return Paired(estimate.mean, estimate.low, estimate.high, correlation, len(x))


def unpaired(a: Sequence[float], b: Sequence[float], error: float) -> Estimate:
    """b - a of two configurations with different luck (Welch's interval); n: the smaller sample.

    A side of one value alone has the interval (-inf, inf). Raises ValueError without values.
    """
    x, y = t_interval(a, error), t_interval(b, error)
    n, mean = min(x.n, y.n), y.mean - x.mean
    if math.isinf(x.mean) or math.isinf(y.mean):
        mean = 0.0 if x.mean == y.mean else mean
        return Estimate(mean, mean, mean, n)
    if n == 1:
        return Estimate(mean, -math.inf, math.inf, n)
    parts = [(float(np.var(v, ddof=1)) / len(v), len(v) - 1) for v in (a, b)]
    square = sum(v for v, _ in parts)
    if square == 0.0:
        return Estimate(mean, mean, mean, n)
    freedom = square**2 / sum(v**2 / f for v, f in parts)
    half = t_quantile(1.0 - error, max(math.floor(freedom), 1)) * math.sqrt(square)
    return Estimate(mean, mean - half, mean + half, n)


def bootstrap(
    values: Sequence[float] | np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    error: float,
    seed: int = 0,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Percentile bootstrap of a statistic over replications.

    statistic maps shape (resamples, n) to shape (resamples,).
    """
    x = np.asarray(values, dtype=float)
    if len(x) == 0:
        raise ValueError("no samples")
    picks = np.random.default_rng(seed).integers(0, len(x), size=(resamples, len(x)))
    found = statistic(x[picks])
    return quantile(found, error), quantile(found, 1.0 - error)
