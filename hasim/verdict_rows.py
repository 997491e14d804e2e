"""One row of a verdict: one threshold against one value per replication."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hasim import stats
from hasim.scenario import Budget, Threshold, metric_name
from hasim.source import Span

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
# Metrics of single incidents: a threshold on them asks how often it holds, not for a mean.
PER_INCIDENT = {
    "outage_duration",
    "time_to_recover",
    "time_to_detect",
    "steady_state",
    "recovered",
    "oom_kills",
    "failovers",
    "false_failovers",
    "split_brain_seconds",
    "acked_writes_lost",
    "alert_fired",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A budget judged. verdict: pass | fail | inconclusive | void (no samples).

    observed, ci, limit are in the metric's SI unit. margin: room up to the limit as a share of
    the limit (negative: beyond it; a difference where the limit is 0). violations: (replication,
    seed) that broke the threshold, worst first; worst: the replication to explain (-1: none).
    """

    metric: str
    tags: tuple[tuple[str, str], ...]
    threshold: str
    observed: float
    ci: tuple[float, float]
    limit: float
    margin: float
    verdict: str
    waived_by: str = ""
    note: str = ""
    violations: tuple[tuple[int, int], ...] = ()
    worst: int = -1
    span: Span | None = None

    @property
    def name(self) -> str:
        """The metric as written: `http_req_failed{window:fault}`."""
        return metric_name(self.metric, self.tags)


def kind(metric: str, threshold: Threshold) -> str:
    """How a threshold is judged: absolute | proportion | mean (design.md section 4, Rules)."""
    name, sign = threshold.aggregate, threshold.operator
    if sign == "==" and threshold.limit == 0 and name in ("count", "value"):
        return "absolute"
    if name in ("max", "min", "first") or sign in ("==", "!="):
        return "proportion"
    return "proportion" if metric in PER_INCIDENT and name not in ("avg", "rate") else "mean"


def judge_row(
    budget: Budget,
    values: Sequence[float],
    runs: Sequence[tuple[int, int]],
    coverage: float,
    error: float,
) -> Row:
    """Judge one budget. values: one per replication, nan without samples; runs: their names.

    Each bound of the interval is wrong with probability `error` at most.
    """
    x = np.asarray(values, dtype=float)
    threshold = budget.threshold
    known = ~np.isnan(x)
    names = [run for run, ok in zip(runs, known, strict=True) if ok]
    missing = int(len(x) - known.sum())
    x = x[known]
    if not len(x):
        nan = math.nan
        ends = (nan, nan)
        return _row(budget, nan, ends, "void", "no samples in any replication", (), -1)
    holds = np.array([OPERATORS[threshold.operator](v, threshold.limit) for v in x])
    how = kind(budget.metric, threshold)
    if how == "mean":
        observed, ci, verdict, note = _by_mean(x, threshold, error)
    else:
        observed, ci, verdict, note = _by_share(x, holds, threshold, coverage, error)
        if how == "absolute" and not holds.all():
            observed = float(x[np.argmax(np.abs(x))])
            verdict, note = "fail", f"broken in {int((~holds).sum())} of {len(x)} runs"
    if missing:
        verdict = "inconclusive" if verdict == "pass" else verdict
        note = f"no samples in {missing} of {missing + len(x)} runs; {note}".rstrip("; ")
    badness = _badness(x, threshold)
    order = np.argsort(-badness, kind="stable")
    violations = tuple(names[i] for i in order if not holds[i])
    return _row(budget, observed, ci, verdict, note, violations, names[order[0]][0])


def _badness(x: np.ndarray, threshold: Threshold) -> np.ndarray:
    if threshold.operator in ("<", "<="):
        return x
    if threshold.operator in (">", ">="):
        return -x
    away = np.abs(x - threshold.limit)
    return away if threshold.operator == "==" else -away


def _by_mean(
    x: np.ndarray, threshold: Threshold, error: float
) -> tuple[float, tuple[float, float], str, str]:
    """Means, rates and request quantiles: Student-t over replications."""
    mean = stats.t_interval(x, error)
    ci = (mean.low, mean.high)
    if len(x) == 1:
        return mean.mean, ci, "inconclusive", "one replication has no interval"
    return mean.mean, ci, _clears(ci, threshold), ""


def _clears(ci: tuple[float, float], threshold: Threshold) -> str:
    """pass: both ends hold; fail: neither does; else inconclusive. NaN ends never hold."""
    holds = [OPERATORS[threshold.operator](end, threshold.limit) for end in ci]
    if all(holds):
        return "pass"
    return "inconclusive" if any(holds) else "fail"


def _by_share(
    x: np.ndarray, holds: np.ndarray, threshold: Threshold, coverage: float, error: float
) -> tuple[float, tuple[float, float], str, str]:
    """P(it holds in a run) by its exact interval, against `coverage`.

    Shown is the same statement in the unit of the metric: the value that a share `coverage` of
    runs keeps, with its exact interval; == and != (other than zero) have no such interval.
    """
    held, n = int(holds.sum()), len(x)
    low, high = stats.clopper_pearson(held, n, error)
    verdict = "inconclusive"
    if low >= coverage:
        verdict = "pass"
    elif high < coverage:
        verdict = "fail"
    note = f"holds in {held} of {n} runs: P in [{100 * low:.1f}, {100 * high:.1f}] %"
    note += f", asked {100 * coverage:g} %"
    if threshold.operator in ("<", "<=") or (threshold.operator == "==" and threshold.limit == 0):
        observed, least, most = stats.quantile_interval(x, coverage, error)
    elif threshold.operator in (">", ">="):
        observed, most, least = (-v for v in stats.quantile_interval(-x, coverage, error))
    else:
        broken = x[~holds]
        return float(broken[0] if len(broken) else x[0]), (math.nan, math.nan), verdict, note
    if threshold.aggregate == "p":
        # The user also named a quantile: what was seen must keep to it before it passes.
        q = threshold.q if threshold.operator in ("<", "<=") else 1.0 - threshold.q
        seen = stats.quantile(x, q)
        if verdict == "pass" and not OPERATORS[threshold.operator](seen, threshold.limit):
            verdict = "inconclusive"
    return observed, (least, most), verdict, note


def _row(
    budget: Budget,
    observed: float,
    ci: tuple[float, float],
    verdict: str,
    note: str,
    violations: tuple[tuple[int, int], ...],
    worst: int,
) -> Row:
    threshold = budget.threshold
    room = threshold.limit - observed
    if threshold.operator in (">", ">="):
        room = -room
    elif threshold.operator in ("==", "!="):
        room = -abs(room) if threshold.operator == "==" else abs(room)
    margin = room / abs(threshold.limit) if threshold.limit else room
    return Row(
        metric=budget.metric,
        tags=budget.tags,
        threshold=threshold.text,
        observed=observed,
        ci=ci,
        limit=threshold.limit,
        margin=margin + 0.0,
        verdict=verdict,
        note=note,
        violations=violations,
        worst=worst,
        span=budget.span,
    )
