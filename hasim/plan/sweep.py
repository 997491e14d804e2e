"""hasim sweep: from a grid of settings to one that keeps the budgets, and what each change buys.

Stages: screen (cheap runs), race (whole runs in rounds, paired), choose (Pareto set, knee, fewest
changes, confirmed at the scenarios' own looks), and then what each knob does. Decisions are made
after whole rounds only, so the number of workers changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hasim import stats
from hasim.model import Stack
from hasim.plan import pareto
from hasim.plan.screening import screen
from hasim.plan.sensitivity import Change, Effect, effects, path, reduced
from hasim.plan.sweep_desk import (
    Desk,
    KnobInfo,
    Runs,
    Settings,
    broken,
    difference,
    estimate,
    holds,
)
from hasim.plan.trials import Bench, Done
from hasim.project import Project
from hasim.scenario import Sweep
from hasim.stats import Estimate
from hasim.verdict import ScenarioVerdict

TRIES = 4  # candidates that are confirmed one after the other, until one passes


@dataclass(frozen=True)
class Candidate:
    """One point of the grid. settings: what it changes; {} is the files as they are.

    passed: every budget of every scenario held in the whole runs, by point estimates if they are
    few (`provisional`). objectives: over whole runs; empty if it had none. dropped: why it went no
    further, "" for who stayed to the end. failing: {scenario: budgets that broke}.
    """

    settings: dict[str, str]
    passed: bool = False
    objectives: dict[str, Estimate] = field(default_factory=dict)
    dropped: str = ""
    replications: int = 0
    failing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    screened: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found. outcome: pass | fail | undecided.

    best: the recommended candidate or None; `verdicts` are its real ones, one per scenario.
    pareto: candidates that passed and that no other one beats in every objective. before: the
    files as they are. changes: what each change of `best` bought, in this order from `before`.
    left_out: changes that bought nothing. nearest: if nothing passed, who broke the fewest budgets.
    """

    name: str
    doc: str
    stack: Stack
    seed: int
    plan: Sweep
    scenarios: tuple[str, ...]
    knobs: tuple[KnobInfo, ...]
    candidates: tuple[Candidate, ...]
    before: Candidate
    best: Candidate | None
    verdicts: tuple[ScenarioVerdict, ...]
    reason: str
    pareto: tuple[Candidate, ...]
    changes: tuple[Change, ...]
    left_out: tuple[Change, ...]
    sensitivity: tuple[Effect, ...]
    screening: tuple[str, ...]
    nearest: Candidate | None
    outcome: str


def run_sweep(
    project: Project,
    name: str,
    *,
    seed: int | None = None,
    jobs: int = 0,
    journal: Path | None = None,
    tell: Callable[[Done], None] = lambda done: None,
    begin: Callable[[str], None] = lambda stage: None,
    say: Callable[[str], None] = lambda text: None,
) -> SweepResult:
    """The sweep `name` of a project. journal: where finished runs are kept, to go on after a kill.

    tell, begin, say: progress (hasim.cli_plan.Watch). InputError with everything that is wrong
    with the sweep before anything runs; ReplicationBug names the trial.
    """
    bench = Bench(jobs, journal, tell, say)
    desk = Desk(project, name, seed, bench)
    with bench:
        return _Sweep(desk, begin).result()


class _Sweep:
    """One sweep under way: the candidates, and what is known of them so far."""

    def __init__(self, desk: Desk, begin: Callable[[str], None]):
        self.desk, self.begin, self.plan = desk, begin, desk.plan
        self.grid = desk.grid()
        self.dropped: dict[Settings, str] = {} if desk.in_grid else {(): "not in the grid"}
        self.runs: dict[Settings, Runs] = {}
        self.verdicts: dict[Settings, list[ScenarioVerdict]] = {}
        self.screened: dict[Settings, dict[str, float]] = {}

    def expect(self, *stages: str) -> None:
        """Tell the bench about how much is to come, for the time left."""
        n, k = self.plan.replications, len(self.desk.knobs)
        values = sum(len(knob.values) for knob in self.desk.knobs)
        able = len([c for c in self.grid if c not in self.dropped])
        runs = {
            "screen": 2 * able + values,
            "race": (1 + min(self.plan.keep, able)) * n,
            "choose": (k + 1) * n + stats.LOOKS[0],
            "after": (k + values) * n,
        }
        self.desk.bench.expect(len(self.desk.scenarios) * sum(runs[s] for s in stages))

    # ---- race -----------------------------------------------------------------------------------
    def race(self) -> None:
        """Whole runs in rounds; who breaks a budget for sure, or is clearly beaten, stops there."""
        n = self.plan.replications
        rounds = sorted({max(2, math.ceil(n / 2)), n})
        for i, size in enumerate(rounds, 1):
            left = [c for c in self.grid if c not in self.dropped]
            self.begin(f"whole runs, round {i} of {len(rounds)}: {len(left)} candidates")
            self.runs |= self.desk.runs([(), *left], size)
            for c in dict.fromkeys([(), *left]):
                self.verdicts[c] = self.desk.verdicts(self.runs[c], len(rounds))
            self._drop_broken(left)
            self._drop_beaten([c for c in left if c not in self.dropped], len(rounds))

    def _drop_broken(self, left: Sequence[Settings]) -> None:
        if self.plan.require == "none":
            return
        for c in left:
            for verdict in self.verdicts[c]:
                if verdict.verdict in ("fail", "void") and c not in self.dropped:
                    what = (broken(verdict) or [verdict.reason])[0]
                    self.dropped[c] = f"whole runs: {verdict.name}: {what}"

    def _drop_beaten(self, left: Sequence[Settings], looks: int) -> None:
        """The paired interval of every objective, alpha shared by looks and by rivals."""
        error = stats.ERROR / looks / max(1, len(left) - 1) / len(self.plan.minimise)
        vectors = {c: self.desk.vectors(self.runs[c]) for c in left}
        for c in left:
            for rival in left:
                if rival is c or rival in self.dropped or not self.keeps(rival):
                    continue
                if clearly_beats(vectors[rival], vectors[c], error):
                    self.dropped[c] = f"whole runs: clearly beaten by {self.desk.brief(rival)}"
                    break

    def keeps(self, c: Settings) -> bool:
        """Every budget holds as far as the point estimates say, or none has to."""
        return self.plan.require == "none" or all(map(holds, self.verdicts[c]))

    # ---- choose ---------------------------------------------------------------------------------
    def means(self, c: Settings) -> tuple[float, ...]:
        """The objectives of a candidate, rounded to what can be told apart."""
        return tuple(float(f"{e.mean:.6g}") for e in map(estimate, self.desk.vectors(self.runs[c])))

    def ranked(self) -> list[Settings]:
        """Candidates that may be recommended, the best first."""
        able = [c for c in self.grid if c not in self.dropped and self.keeps(c)]
        if not able:
            return []
        points = [self.means(c) for c in able]
        scores = self.scores(able, points)
        rank = {i: k for k, layer in enumerate(pareto.fronts(points)) for i in layer}
        order = sorted(range(len(able)), key=lambda i: (rank[i], scores[i], len(able[i]), i))
        return [able[i] for i in order]

    def scores(self, able: Sequence[Settings], points: Sequence[tuple[float, ...]]) -> list[float]:
        """The knee, or the objective that the file names."""
        texts = [o.text for o in self.plan.minimise]
        if self.plan.choose != "knee":
            return [p[texts.index(self.plan.choose)] for p in points]
        vectors = [self.desk.vectors(self.runs[c]) for c in able]
        return pareto.knee_scores(
            points, [_flat([v[k] for v in vectors]) for k in range(len(texts))]
        )

    def confirmed(self, c: Settings) -> list[ScenarioVerdict]:
        """Real verdicts: each scenario at its own looks, until it is settled."""
        out = []
        for scenario in self.desk.scenarios:
            fixed = scenario.replications if scenario.replications >= stats.LOOKS[0] else 0
            found = stats.looks(fixed)
            for look in found:
                self.begin(f"confirming {self.desk.brief(c)}: {scenario.name}, {look} runs")
                runs = self.desk.runs([c], look, [scenario])[c]
                [verdict] = self.desk.verdicts(runs, len(found))
                if verdict.verdict != "inconclusive":
                    break
            out.append(verdict)
            if self.plan.require != "none" and verdict.verdict not in ("pass", "stale-gap"):
                break
        return out

    def choose(self, ranked: Sequence[Settings]) -> _Choice:
        """The first that passes; each with its needless changes left out, or else whole."""
        undecided: _Choice | None = None
        for c in ranked[:TRIES]:
            self.begin(f"which changes of {self.desk.brief(c)} are needed")
            less, left_out = reduced(self.desk, c, self.breaks)
            for settings, out in [(less, left_out)] + [(c, ())] * (less != c):
                verdicts = self.confirmed(settings)
                words = {v.verdict for v in verdicts}
                if words <= {"pass", "stale-gap"} or self.plan.require == "none":
                    return _Choice(settings, out, tuple(verdicts), "pass")
                if not words & {"fail", "void"} and undecided is None:
                    undecided = _Choice(settings, out, tuple(verdicts), "undecided")
                self.dropped.setdefault(settings, _refuted(verdicts))
        return undecided or _Choice(None, (), (), "fail")

    def breaks(self, runs: Runs) -> tuple[str, ...]:
        """The budgets that do not hold in runs of any candidate; none if none has to."""
        if self.plan.require == "none":
            return ()
        lost = [v for v in self.desk.verdicts(runs) if not holds(v)]
        return tuple(f"{v.name}: {text}" for v in lost for text in broken(v) or [v.verdict])

    # ---- result ---------------------------------------------------------------------------------
    def result(self) -> SweepResult:
        """All stages, one after the other."""
        self.expect("screen", "race", "choose", "after")
        screened = screen(self.desk, [c for c in self.grid if c not in self.dropped], self.begin)
        self.dropped |= {c: why for c, why in screened.dropped.items() if c not in self.dropped}
        self.screened = screened.seen
        self.expect("race", "choose", "after")
        self.race()
        ranked = self.ranked()
        self.expect("choose", "after")
        choice = self.choose(ranked)
        changes: tuple[Change, ...] = ()
        felt: tuple[Effect, ...] = ()
        n = self.plan.replications
        if choice.settings is not None:
            self.expect("after")
            self.runs |= self.desk.runs([choice.settings], n)
            self.verdicts[choice.settings] = self.desk.verdicts(self.runs[choice.settings])
            self.begin("what each change buys")
            changes = path(self.desk, choice.settings)
            self.begin("what each knob does")
            felt = effects(self.desk, choice.settings, self.breaks)
        return self._assemble(choice, ranked, changes, felt, screened.notes)

    def _assemble(
        self,
        choice: _Choice,
        ranked: Sequence[Settings],
        changes: tuple[Change, ...],
        felt: tuple[Effect, ...],
        notes: tuple[str, ...],
    ) -> SweepResult:
        desk, best = self.desk, choice.settings
        known = list(dict.fromkeys([*self.grid, *([best] if best is not None else [])]))
        made = {c: self._candidate(c) for c in known}
        able = [c for c in ranked if c not in self.dropped or c == best]
        able += [best] if best is not None and best not in able else []
        shown = self._front(able, best)
        order = {c: i for i, c in enumerate(known)}
        return SweepResult(
            name=desk.scenario.name,
            doc=desk.scenario.doc,
            stack=desk.stack,
            seed=desk.seed,
            plan=self.plan,
            scenarios=tuple(s.name for s in desk.scenarios),
            knobs=desk.knobs,
            candidates=tuple(made.values()),
            before=made[()],
            best=made[best] if best is not None else None,
            verdicts=choice.verdicts,
            reason=self._reason(choice, shown),
            pareto=tuple(made[c] for c in sorted(shown, key=order.__getitem__)),
            changes=changes,
            left_out=choice.left_out,
            sensitivity=felt,
            screening=notes,
            nearest=None if best is not None else self._nearest(made),
            outcome=choice.outcome,
        )

    def _front(self, able: Sequence[Settings], best: Settings | None) -> list[Settings]:
        """The Pareto set; of candidates that nothing tells apart the one with fewest changes."""
        points = [self.means(c) for c in able]
        front = pareto.front(points)
        order = sorted(front, key=lambda i: (able[i] != best, len(able[i]), i))
        first: dict[tuple[float, ...], int] = {}
        for i in order:
            first.setdefault(points[i], i)
        return [able[i] for i in first.values()]

    def _candidate(self, c: Settings) -> Candidate:
        runs, dropped = self.runs.get(c), self.dropped.get(c, "")
        if runs is None:
            return Candidate(dict(c), dropped=dropped, screened=self.screened.get(c, {}))
        vectors = self.desk.vectors(runs)
        texts = [o.text for o in self.plan.minimise]
        verdicts = self.verdicts[c]
        return Candidate(
            settings=dict(c),
            passed=all(map(holds, verdicts)) and not dropped.startswith("confirmation"),
            objectives={t: estimate(v) for t, v in zip(texts, vectors, strict=True)},
            dropped=dropped,
            replications=runs.n,
            failing={v.name: tuple(broken(v)) for v in verdicts if not holds(v)},
            screened=self.screened.get(c, {}),
        )

    def _nearest(self, made: dict[Settings, Candidate]) -> Candidate:
        ran = [c for c in made.values() if c.replications]
        return min(ran, key=lambda c: sum(map(len, c.failing.values())))

    def _reason(self, choice: _Choice, shown: Sequence[Settings]) -> str:
        best = choice.settings
        if best is None:
            return "no candidate keeps every budget"
        if not best:
            return "the files as they are keep every budget, and no change is clearly better"
        why = (
            "the best compromise of all objectives (knee of the Pareto set)"
            if self.plan.choose == "knee"
            else f"the smallest {self.plan.choose}"
        )
        if len(shown) == 1:
            why = "best in every objective"
        left = len(choice.left_out)
        more = f"; {left} change{'s' * (left > 1)} bought nothing and was left out" if left else ""
        more = more.replace("was", "were") if left > 1 else more
        return f"{why} among the candidates that keep the budgets{more}"


@dataclass(frozen=True)
class _Choice:
    settings: Settings | None
    left_out: tuple[Change, ...]
    verdicts: tuple[ScenarioVerdict, ...]
    outcome: str


def clearly_beats(a: np.ndarray, b: np.ndarray, error: float) -> bool:
    """a is better than b in an objective, and not worse in any, each with error at most `error`.

    a, b: (objectives, replications), the same luck.
    """
    pairs = [difference(x, y, error) for x, y in zip(a, b, strict=True)]
    return all(p.low >= 0 for p in pairs) and any(p.low > 0 for p in pairs)


def _flat(vectors: Sequence[np.ndarray]) -> bool:
    """Is the difference between the best and the worst candidate in one objective noise?"""
    means = [float(v.mean()) for v in vectors]
    a, b = vectors[int(np.argmin(means))], vectors[int(np.argmax(means))]
    return difference(a, b, stats.ERROR).low <= 0.0


def _refuted(verdicts: Sequence[ScenarioVerdict]) -> str:
    last = verdicts[-1]
    what = (broken(last) or [last.reason or f"not settled by {last.replications} runs"])[0]
    return f"confirmation: {last.name} {last.verdict}: {what}"
