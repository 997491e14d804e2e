"""Queueing theory that the simulator must reproduce; rates per second, times in seconds.

Sources: Kleinrock, "Queueing Systems" vol. 1 (M/M/1, M/M/c, Pollaczek-Khinchine); Erlang 1909
(waiting time of M/D/1); Kleinrock 1967 (processor sharing); Reiser and Lavenberg, "Mean-value
analysis of closed multichain queuing networks", 1980, with marginal probabilities for several
servers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import coo_matrix, eye
from scipy.sparse.linalg import spsolve


def quantile(tail: Callable[[float], float], p: float, top: float) -> float:
    """Where the decreasing tail P(T > t) equals 1 - p, between 0 and top."""
    low, high = 0.0, top
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if tail(middle) > 1.0 - p else (low, middle)
    return 0.5 * (low + high)


def erlang_c(rate: float, mu: float, c: int) -> float:
    """The chance that all c servers are busy when a customer comes."""
    a = rate / mu
    blocked = 1.0
    for k in range(1, c + 1):  # Erlang B by its recursion
        blocked = a * blocked / (k + a * blocked)
    return blocked / (1.0 - a / c * (1.0 - blocked))


def mmc(rate: float, mu: float, c: int, p: float = 0.99) -> tuple[float, float]:
    """(mean, p-quantile) of the time in an M/M/c system, first come first served."""
    wait, theta = erlang_c(rate, mu, c), c * mu - rate
    mean = 1.0 / mu + wait / theta
    if abs(theta - mu) < 1e-9 * mu:
        return mean, quantile(lambda t: math.exp(-mu * t) * (1.0 + wait * mu * t), p, 99 * mean)

    def tail(t: float) -> float:
        both = (theta * math.exp(-mu * t) - mu * math.exp(-theta * t)) / (theta - mu)
        return (1.0 - wait) * math.exp(-mu * t) + wait * both

    return mean, quantile(tail, p, 99 * mean)


def mg1(rate: float, mean: float, square: float) -> float:
    """Mean time in an M/G/1 system, first come first served; square is E[S^2]."""
    return mean + rate * square / (2.0 * (1.0 - rate * mean))


def md1_quantile(rate: float, work: float, p: float) -> float:
    """p-quantile of the time in an M/D/1 system (Erlang's series, for moderate loads)."""

    def tail(t: float) -> float:
        x, total = t - work, 0.0
        if x < 0.0:
            return 1.0
        for k in range(int(x / work) + 1):
            u = rate * (x - k * work)
            total += (-u) ** k / math.factorial(k) * math.exp(u)
        return 1.0 - (1.0 - rate * work) * total

    return quantile(tail, p, 15 * work)


def processor_sharing(rate: float, mean: float) -> float:
    """Mean time in an M/G/1 system with processor sharing: only the mean demand matters."""
    return mean / (1.0 - rate * mean)


def closed_network(
    users: int,
    think: float,
    stations: Sequence[tuple[float, int]],
    visits: Sequence[float] | None = None,
) -> tuple[float, float]:
    """(response time, throughput) of `users` who think and pass through the stations.

    stations: (mean service time, servers) each; exponential, first come first served.
    visits: how often a request comes to each station on average (once).
    """
    often = [1.0] * len(stations) if visits is None else list(visits)
    marginal = [np.eye(1, c).ravel() for _, c in stations]  # P(j at the station), j < servers
    queue = [0.0] * len(stations)
    response, throughput = 0.0, 0.0
    for n in range(1, users + 1):
        times = []
        for i, (service, c) in enumerate(stations):
            idle = sum((c - 1 - j) * marginal[i][j] for j in range(c - 1))
            times.append(service / c * (1.0 + queue[i] + idle))
        response = sum(v * t for v, t in zip(often, times, strict=True))
        throughput = n / (think + response)
        for i, (service, c) in enumerate(stations):
            flow = throughput * often[i]
            queue[i] = flow * times[i]
            old = marginal[i].copy()
            for j in range(1, c):
                marginal[i][j] = service * flow / j * old[j - 1]
            busy = sum((c - j) * marginal[i][j] for j in range(1, c))
            marginal[i][0] = max(0.0, 1.0 - (service * flow + busy) / c)
    return response, throughput


def two_classes(
    rates: tuple[float, float], mus: tuple[float, float], share: float, size: int = 120
) -> tuple[float, float]:
    """Mean times of two Poisson classes on one core that they divide share : 1 - share.

    A class alone has the whole core. Exponential demands; the numbers in the system are a Markov
    chain, cut off at `size` of each class (the load must be moderate) and solved numerically.
    """
    a, b = np.divmod(np.arange(size * size), size)
    part = np.where(b == 0, 1.0, share)
    moves = (
        (size, np.where(a < size - 1, rates[0], 0.0)),
        (1, np.where(b < size - 1, rates[1], 0.0)),
        (-size, np.where(a > 0, mus[0] * part, 0.0)),
        (-1, np.where(b > 0, mus[1] * np.where(a == 0, 1.0, 1.0 - share), 0.0)),
    )
    n = size * size
    flow = np.zeros(n)
    rows, columns, values = [], [], []
    for step, rate in moves:
        here = np.flatnonzero(rate > 0)
        rows.append(here + step)
        columns.append(here)
        values.append(rate[here])
        flow += rate
    into = coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (n, n)
    )
    balance = (into - eye(n).multiply(flow)).tocsc()
    # P(empty) is set to 1 and its equation left out; what follows is scaled
    right = -balance[1:, [0]].toarray().ravel()
    p = np.concatenate([[1.0], spsolve(balance[1:, 1:], right)])
    p /= p.sum()
    return float(p @ a) / rates[0], float(p @ b) / rates[1]


def docker_restarts(up: float, boot: float, backoff: float, limit: float, reset: float) -> float:
    """Availability of a process that crashes at the moments of a Poisson process (mean gap `up`).

    From each start the next crash is exponentially far, booting or not, so starts are renewals:
    useful time is what is left after the boot, dead time the back-off, which doubles while runs
    stay shorter than `reset`. Crashes during a back-off meet nobody.
    """
    short = 1.0 - math.exp(-reset / up)
    dead = sum((1 - short) * short**n * min(backoff * 2.0**n, limit) for n in range(200))
    return up * math.exp(-boot / up) / (up + dead)
