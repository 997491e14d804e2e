"""What each change and each knob does, by paired re-runs around the recommended settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hasim import stats
from hasim.plan.sweep_desk import Desk, Runs, Settings, difference, same
from hasim.stats import Paired


@dataclass(frozen=True)
class Change:
    """One setting put in force. Differences are after - before, summed over one run of each
    scenario: seconds of the longest outage, failed requests; and of each objective.
    """

    knob: str
    before: str
    after: str
    outage_s: Paired
    failed: Paired
    objectives: dict[str, Paired]
    scenarios: dict[str, tuple[Paired, Paired]]


@dataclass(frozen=True)
class Effect:
    """What another value of one knob would do to the recommended settings.

    value: "" is the one in the files. breaks: the budgets that would not hold. matters: some
    objective changes for sure, or a budget breaks.
    """

    knob: str
    chosen: str
    value: str
    breaks: tuple[str, ...]
    matters: bool
    objectives: dict[str, Paired]

    @property
    def keeps(self) -> bool:
        """Every budget would hold."""
        return not self.breaks


Breaks = Callable[[Runs], tuple[str, ...]]  # the budgets that do not hold, as sentences


def reduced(desk: Desk, best: Settings, breaks: Breaks) -> tuple[Settings, tuple[Change, ...]]:
    """Backward elimination: leave out, one at a time, the change that is missed least, as long as
    the budgets hold and no objective gets clearly worse.
    """
    n, kept = desk.plan.replications, best
    left_out: list[Change] = []
    while kept:
        without = [tuple(s for s in kept if s != change) for change in kept]
        runs = desk.runs([best, kept, *without], n)
        error = 0.05 / len(best) / len(desk.plan.minimise)
        able = [
            c
            for c in without
            if not breaks(runs[c]) and not _worse(desk, runs[best], runs[c], error)
        ]
        if not able:
            break
        least = min(able, key=lambda c: (_harm(desk, runs[kept], runs[c]), -without.index(c)))
        left_out += _steps(desk, [least, kept], runs)
        kept = least
    return kept, tuple(left_out)


def path(desk: Desk, best: Settings) -> tuple[Change, ...]:
    """From the files to the recommended settings, one change at a time; first comes what would be
    missed most if it alone were left out.
    """
    n = desk.plan.replications
    without = {change: tuple(s for s in best if s != change) for change in best}
    runs = desk.runs([best, *without.values()], n)
    order = sorted(best, key=lambda s: -_harm(desk, runs[best], runs[without[s]]))
    points: list[Settings] = [()]
    for i in range(len(order)):
        taken = set(order[: i + 1])
        points.append(tuple(s for s in best if s in taken))
    return tuple(_steps(desk, points, desk.runs(points, n)))


def effects(desk: Desk, best: Settings, breaks: Breaks) -> tuple[Effect, ...]:
    """Every other value of every knob, one at a time, everything else as recommended."""
    n, chosen = desk.plan.replications, dict(best)
    others: list[tuple[str, str, Settings]] = []
    for knob in desk.knobs:
        now = chosen.get(knob.name, knob.value)
        for value in dict.fromkeys(["", *knob.values]):
            real = knob.value if value == "" else value
            if same(real, now) or (value and same(value, knob.value)):
                continue
            others.append((knob.name, value, _with(desk, chosen, knob.name, value)))
    runs = desk.runs([best, *(c for _, _, c in others)], n)
    error = stats.ERROR / max(1, len(others)) / len(desk.plan.minimise)
    out = []
    for name, value, c in others:
        info = next(k for k in desk.knobs if k.name == name)
        pairs = _objectives(desk, runs[best], runs[c], error)
        lost = breaks(runs[c])
        matters = bool(lost) or any(p.low > 0 or p.high < 0 for p in pairs.values())
        out.append(Effect(name, chosen.get(name, info.value), value, lost, matters, pairs))
    return tuple(out)


def _with(desk: Desk, chosen: dict[str, str], name: str, value: str) -> Settings:
    made = {**chosen, name: value}
    return tuple((k.name, made[k.name]) for k in desk.knobs if made.get(k.name))


def _worse(desk: Desk, before: Runs, after: Runs, error: float) -> bool:
    """Is some objective clearly larger than before?"""
    return any(p.low > 0 for p in _objectives(desk, before, after, error).values())


def _harm(desk: Desk, before: Runs, after: Runs) -> float:
    """How much larger the objectives and the failed requests are, each as a share of its size."""
    a, b = desk.vectors(before), desk.vectors(after)
    a = np.vstack([a, totals(before)[1]])
    b = np.vstack([b, totals(after)[1]])
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(a.mean(axis=1)), np.abs(b.mean(axis=1)))
        share = np.where(size > 0, (b.mean(axis=1) - a.mean(axis=1)) / size, 0.0)
    return float(np.where(np.isnan(share), 1.0, share).sum())


def _objectives(desk: Desk, before: Runs, after: Runs, error: float) -> dict[str, Paired]:
    pairs = zip(desk.plan.minimise, desk.vectors(before), desk.vectors(after), strict=True)
    return {o.text: difference(a, b, error) for o, a, b in pairs}


def _steps(desk: Desk, points: Sequence[Settings], runs: dict[Settings, Runs]) -> list[Change]:
    """The changes between neighbours, of which each holds one setting more."""
    out = []
    for a, b in zip(points, points[1:], strict=False):
        [(knob, value)] = [s for s in b if s not in a]
        info = next(k for k in desk.knobs if k.name == knob)
        x, y = totals(runs[a]), totals(runs[b])
        each = {
            s.name: tuple(
                difference(p, q, stats.ERROR)
                for p, q in zip(_of_scenario(runs[a], i), _of_scenario(runs[b], i), strict=True)
            )
            for i, s in enumerate(desk.scenarios)
        }
        out.append(
            Change(
                knob,
                info.value,
                value,
                difference(x[0], y[0], stats.ERROR),
                difference(x[1], y[1], stats.ERROR),
                _objectives(desk, runs[a], runs[b], stats.ERROR),
                each,  # type: ignore[arg-type]
            )
        )
    return out


def totals(runs: Runs) -> np.ndarray:
    """(longest outage in seconds, failed requests) x replications, summed over the scenarios."""
    return np.sum([_of_scenario(runs, i) for i in range(len(runs.measured))], axis=0)


def _of_scenario(runs: Runs, i: int) -> np.ndarray:
    outage = [
        max((v for (m, *_), v in r.summary.items() if m == "outage_duration"), default=0.0)
        for r in runs.measured[i]
    ]
    failed = [r.summary.get(("failed_requests", (), "count"), 0.0) for r in runs.measured[i]]
    return np.array([outage, failed])
