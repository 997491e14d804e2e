"""What a sweep works with: its candidates, and their numbers as asked for.

An objective is one more number of each replication; the worst scenario counts, replication by
replication, so that candidates may be compared pair by pair.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from hasim import stats
from hasim.errors import Finding, InputError, did_you_mean
from hasim.metrics import budget_findings
from hasim.model import Knob
from hasim.plan.trials import Bench, trial
from hasim.project import Project, planned, root_seed
from hasim.read.plan_forms import COST
from hasim.scenario import Budget, Objective, Scenario, Sweep, Threshold
from hasim.stack import knobs_named, with_settings
from hasim.verdict import ScenarioVerdict, decide
from hasim.verdict_measure import Measured

Settings = tuple[tuple[str, str], ...]  # what differs from the files, in the order of the knobs
GRID = 10_000  # more candidates than this are a mistake
GIB_PER_CORE = 4  # `cost`: this much reserved memory counts as one reserved core
_NUMBER = re.compile(r"(-?[0-9.]+)(us|ms|s|m|h|d)?")
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6, "d": 8.64e7}


@dataclass(frozen=True)
class KnobInfo:
    """One knob of the grid. value: in the files now, "" where the files say different things."""

    name: str
    value: str
    values: tuple[str, ...]
    effect: str


@dataclass(frozen=True)
class Runs:
    """One candidate's replications under each scenario: {scenario: its replications in order}."""

    scenarios: tuple[Scenario, ...]
    measured: tuple[tuple[Measured, ...], ...]

    @property
    def n(self) -> int:
        """How many replications each scenario has."""
        return len(self.measured[0])


class Desk:
    """A sweep's scenarios and knobs, checked, and a bench to measure on."""

    def __init__(self, project: Project, name: str, seed: int | None, bench: Bench):
        self.bench = bench
        self.scenario, over = planned(project, name, "sweep")
        assert isinstance(self.scenario.plan, Sweep)
        assert project.stack is not None
        self.plan, self.stack = self.scenario.plan, project.stack
        self.seed = root_seed(project, seed)
        found = _studies(over, name)
        self.knobs = self._knobs(found)
        self.scenarios = tuple(self._with_objectives(s) for s in over)
        found += self._objectives_unmet()
        for one in over:
            found += budget_findings(one, self.stack)
        if found:
            raise InputError([replace(f, span=project.here(f.span)) for f in dict.fromkeys(found)])

    # ---- what there is to try -------------------------------------------------------------------
    def _knobs(self, found: list[Finding]) -> tuple[KnobInfo, ...]:
        made, span = [], self.scenario.span
        for name, values in self.plan.knobs:
            hit = knobs_named(self.stack.knobs, name)
            if not hit:
                hint = did_you_mean(name, [k.name for k in self.stack.knobs])
                hint = hint or "`hasim list knobs` shows them"
                found.append(Finding("error", "HA104", f"unknown knob '{name}'", span, hint))
                continue
            value, effect = _in_force(hit)
            for text in values:
                try:
                    if not same(text, value):
                        with_settings(self.stack.folder, {name: text})
                except InputError as error:
                    found += [replace(f, span=f.span or span) for f in error.findings]
            made.append(KnobInfo(name, value, values, effect))
        count = math.prod(len(v) for _, v in self.plan.knobs)
        if count > GRID:
            text = f"{count} candidates; at most {GRID}"
            found.append(Finding("error", "HA104", text, span, "give fewer values"))
        return tuple(made)

    def grid(self) -> list[Settings]:
        """Every combination, as what it changes; the files as they are come first."""
        made: dict[Settings, None] = {(): None}
        for values in product(*(knob.values for knob in self.knobs)):
            chosen = zip(self.knobs, values, strict=True)
            made[tuple((k.name, v) for k, v in chosen if not same(v, k.value))] = None
        return list(made)

    @property
    def in_grid(self) -> bool:
        """Are the files as they are a point of the grid?"""
        return all(any(same(v, k.value) for v in k.values) for k in self.knobs)

    def brief(self, c: Settings) -> str:
        """A candidate in a few words."""
        return named(c, short_names([k.name for k in self.knobs]))

    # ---- objectives -----------------------------------------------------------------------------
    def _with_objectives(self, scenario: Scenario) -> Scenario:
        extra = [b for o in self.plan.minimise for b in rows_of(o)]
        known = [
            b for b in extra if not budget_findings(replace(scenario, budgets=(b,)), self.stack)
        ]
        return replace(scenario, budgets=(*scenario.budgets, *known))

    def _objectives_unmet(self) -> list[Finding]:
        have = {b for s in self.scenarios for b in s.budgets}
        out = []
        for objective in self.plan.minimise:
            if not have.issuperset(rows_of(objective)):
                text = f"no scenario of the sweep has anything to say about {objective.text}"
                hint = "its metric or a tag of it is not in the stack, or there is no fault"
                out.append(Finding("error", "HA104", text, self.scenario.span, hint))
        return out

    def plain(self, scenario: Scenario) -> Scenario:
        """A scenario without the rows that the objectives need."""
        extra = {b for o in self.plan.minimise for b in rows_of(o)}
        return replace(scenario, budgets=tuple(b for b in scenario.budgets if b not in extra))

    def objective(self, runs: Runs, objective: Objective) -> np.ndarray:
        """One value per replication: the worst of the scenarios; inf where one was void."""
        each = [
            self._values(s, m, objective)
            for s, m in zip(runs.scenarios, runs.measured, strict=True)
        ]
        table = np.array([v for v in each if v is not None])
        with np.errstate(all="ignore"):
            known = np.where(np.isnan(table), -math.inf, table).max(axis=0)
        return np.where(np.isneginf(known), math.nan, known)

    def _values(
        self, scenario: Scenario, measured: Sequence[Measured], objective: Objective
    ) -> np.ndarray | None:
        rows = [scenario.budgets.index(b) for b in rows_of(objective) if b in scenario.budgets]
        if not rows:
            return None
        table = np.array(
            [[m.values[i] if not m.void else math.inf for i in rows] for m in measured]
        )
        if objective.metric != COST:
            return table[:, 0]
        return table[:, 0] + table[:, 1] / 2**30 / GIB_PER_CORE

    def vectors(self, runs: Runs) -> np.ndarray:
        """(objectives, replications)."""
        return np.array([self.objective(runs, o) for o in self.plan.minimise])

    # ---- measuring ------------------------------------------------------------------------------
    def runs(
        self,
        candidates: Iterable[Settings],
        replications: int,
        scenarios: Sequence[Scenario] = (),
    ) -> dict[Settings, Runs]:
        """Replications 0 to n-1 of every candidate under every scenario (default: whole ones)."""
        under, todo = tuple(scenarios or self.scenarios), list(dict.fromkeys(candidates))
        wanted = [
            (trial(self.stack, s, self.seed, dict(c)), range(replications))
            for c in todo
            for s in under
        ]
        found = iter(self.bench.measure(wanted, lenient=True))
        return {c: Runs(under, tuple(tuple(next(found)) for _ in under)) for c in todo}

    def verdicts(self, runs: Runs, looks: int = 1) -> list[ScenarioVerdict]:
        """Each scenario judged on what was run, alpha shared by that many looks."""
        out = []
        for scenario, measured in zip(runs.scenarios, runs.measured, strict=True):
            confidence = 1.0 - (1.0 - scenario.confidence) / looks
            one = replace(self.plain(scenario), replications=runs.n, confidence=confidence)
            out.append(decide(one, self.stack, measured))
        return out


def rows_of(objective: Objective) -> list[Budget]:
    """The budgets, without a limit, whose values make the objective."""
    none = Threshold(objective.text, objective.aggregate, "<=", math.inf, objective.q)
    if objective.metric != COST:
        return [Budget(objective.metric, objective.tags, none)]
    value = replace(none, aggregate="value")
    return [Budget(m, (), value) for m in ("cpu_reserved_cores", "memory_reserved_bytes")]


def holds(verdict: ScenarioVerdict) -> bool:
    """Does every budget hold as far as its point estimate says?"""
    if verdict.verdict in ("pass", "stale-gap"):
        return True
    return not broken(verdict) and verdict.verdict == "inconclusive"


def broken(verdict: ScenarioVerdict) -> list[str]:
    """The budgets that do not hold, as far as their point estimates say: `metric threshold`."""
    out = []
    for row in verdict.budgets:
        fine = row.verdict == "pass" or (
            row.verdict == "inconclusive" and (not row.violations or row.margin >= 0)
        )
        if not fine and not row.waived_by:
            out.append(f"{row.name} {row.threshold}")
    return out or ([verdict.reason] if verdict.verdict == "void" else [])


def same(a: str, b: str) -> bool:
    """Two ways to write one value: 2000 (ms, as HAProxy reads it) and 2s, 1.0 and 1.

    >>> same("2s", "2000"), same("on", "off")
    (True, False)
    """
    x, y = _NUMBER.fullmatch(a), _NUMBER.fullmatch(b)
    try:
        if x and y:
            return math.isclose(
                float(x[1]) * _MS.get(x[2] or "", 1.0), float(y[1]) * _MS.get(y[2] or "", 1.0)
            )
    except ValueError:
        pass
    return a == b


def difference(a: np.ndarray, b: np.ndarray, error: float) -> stats.Paired:
    """b - a, pair by pair; two infinite values are equal."""
    with np.errstate(invalid="ignore"):
        d = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, b - a)
    if np.isnan(d).any():
        return stats.Paired(math.nan, -math.inf, math.inf, math.nan, len(d))
    if not np.isfinite(a).all() or not np.isfinite(b).all():
        e = stats.t_interval(d, error)
        return stats.Paired(e.mean, e.low, e.high, math.nan, e.n)
    return stats.paired(a.tolist(), b.tolist(), error)


def estimate(values: np.ndarray, confidence: float = 0.95) -> stats.Estimate:
    """The mean over replications and its two-sided interval."""
    return stats.t_interval(values, (1.0 - confidence) / 2)


def _in_force(hit: Sequence[Knob]) -> tuple[str, str]:
    """(the value that all of them have or "", how it takes effect)."""
    first = hit[0]
    return (first.value if all(same(k.value, first.value) for k in hit) else ""), first.effect


def _studies(over: Sequence[Scenario], name: str) -> list[Finding]:
    hint = "put the settings into the files, or into the grid"
    return [
        Finding("error", "HA104", f"{s.name} has `set:`; {name} cannot be over it", s.span, hint)
        for s in over
        if s.settings
    ]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Each knob's name without the front parts that are not needed to tell it from the others.

    >>> short_names(["haproxy.backend.web.*.inter", "haproxy.defaults.retries", "a.retries"])
    {'haproxy.backend.web.*.inter': 'inter', 'haproxy.defaults.retries': 'defaults.retries', \
'a.retries': 'a.retries'}
    """
    out = {}
    for name in names:
        parts = name.split(".")
        ends = [".".join(parts[-i:]) for i in range(1, len(parts) + 1)]
        others = [f".{other}" for other in names if other != name]
        out[name] = next((e for e in ends if not any(o.endswith(f".{e}") for o in others)), name)
    return out


def named(settings: Settings | Mapping[str, str], short: Mapping[str, str]) -> str:
    """`inter=500ms fall=2`, or `as in the files`."""
    items = settings.items() if isinstance(settings, Mapping) else settings
    return " ".join(f"{short.get(k, k)}={v}" for k, v in items) or "as in the files"
