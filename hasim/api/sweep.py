"""A sweep with frames: what was tried, what is recommended, what each change bought."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hasim.api import draw, frames
from hasim.api.stack import Stack, load
from hasim.api.work import line, project_of, told
from hasim.errors import Finding, InputError
from hasim.plan import sweep_report
from hasim.plan.sensitivity import Change
from hasim.plan.sweep import Candidate, SweepResult, run_sweep
from hasim.stats import Paired

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class Sweep:
    """What a sweep found. result: the frozen value behind it (hasim.plan.sweep.SweepResult)."""

    stack: Stack
    result: SweepResult

    @property
    def passed(self) -> bool:
        """Was a candidate found that keeps every budget, and confirmed?"""
        return self.result.outcome == "pass"

    @property
    def best(self) -> Stack:
        """The stack with the recommended settings; InputError if no candidate keeps the budgets."""
        found = self.result.best
        if found is None:
            hint = "`candidates` says what was dropped, and why"
            raise InputError([Finding("error", "HA104", self.result.reason, None, hint)])
        return self.stack.set(found.settings) if found.settings else self.stack

    @property
    def candidates(self) -> DataFrame:
        """A row per candidate: a column per knob, passed, pareto, best, replications, a column per
        objective (mean; empty: never run in whole), dropped (why).
        """
        of = self.result
        knobs, texts = [k.name for k in of.knobs], [o.text for o in of.plan.minimise]
        front = [c.settings for c in of.pareto]
        rows = [
            [c.settings.get(k.name, k.value) for k in of.knobs]
            + [c.passed, c.settings in front, c is of.best, c.replications]
            + [*_means(c, texts), c.dropped]
            for c in of.candidates
        ]
        columns = [*knobs, "passed", "pareto", "best", "replications", *texts, "dropped"]
        return frames.frame(columns, rows, knobs)

    @property
    def changes(self) -> DataFrame:
        """What each recommended change bought, in this order from the files as they are: knob,
        before, after, outage_s and failed_requests (after - before) with _low and _high.
        """
        return _bought(self.result.changes)

    @property
    def left_out(self) -> DataFrame:
        """The same of changes that bought nothing."""
        return _bought(self.result.left_out)

    @property
    def sensitivity(self) -> DataFrame:
        """knob, chosen, value, keeps (the budgets), matters, objective, change, ci_low, ci_high:
        another value of one knob, everything else as recommended.
        """
        rows = [
            (e.knob, e.chosen, e.value, e.keeps, e.matters, text, *_change(p))
            for e in self.result.sensitivity
            for text, p in e.objectives.items()
        ]
        columns = ("knob", "chosen", "value", "keeps", "matters", "objective")
        return frames.frame((*columns, "change", "ci_low", "ci_high"), rows, ("knob", "objective"))

    @draw.figure
    def plot(self) -> Figure:
        """Every candidate that was run in whole, by two objectives."""
        return sweep_report.figure(self.result)

    def __repr__(self) -> str:
        return sweep_report.text(self.result).rstrip("\n")

    def _repr_html_(self) -> str:
        parts = []
        for part in sweep_report.parts(self.result):
            parts.append(f"<p><b>{draw.escape(part.title)}</b></p>")
            parts += [f"<p>{draw.escape(text)}</p>" for text in part.lines]
            if part.table:
                parts.append(draw.table(part.table[0], part.table[1:]))
        return "".join(parts)


def sweep(
    stack: Stack | str | Path,
    scenarios: str | Path,
    name: str,
    *,
    seed: int | None = None,
    jobs: int = 0,
    journal: str | Path | None = None,
) -> Sweep:
    """Find settings that keep the budgets: `hasim sweep`.

    name: a scenario of kind sweep. journal: a file that remembers finished replications, so that
    an interrupted call goes on where it was. A sweep starts from files: InputError for a stack with
    knobs that were set.

    >>> text = Path("models/three-servers/scenarios.yaml").read_text()
    >>> Path("sweep.yaml").write_text(text.replace("stack: .", "stack: models/three-servers") + '''
    ...   checks:
    ...     kind: sweep
    ...     over: [crash]
    ...     knobs:
    ...       haproxy.backend.web.*.inter: [2000, 500]
    ...       haproxy.backend.web.*.fall: [3, 2]
    ...     method: {replications: 4}
    ...     minimise: [failed_requests.count, probe_load.rate]
    ... ''') > 0
    True
    >>> found = ha.sweep("models/three-servers", "sweep.yaml", "checks")
    >>> found.passed, len(found.candidates)
    (True, 4)
    >>> found.best.settings
    {'haproxy.backend.web.*.fall': '2'}
    """
    stack = stack if isinstance(stack, Stack) else load(stack)
    if stack.settings:
        text = f"knobs are set on {stack.name}: a sweep starts from files"
        hint = "export it, load that folder, or give the values to the sweep's own grid"
        raise InputError([Finding("error", "HA104", text, None, hint)])
    with line() as tell:
        project = project_of(stack, scenarios)
        where = Path(journal) if journal is not None else None
        found = run_sweep(project, name, seed=seed, jobs=jobs, journal=where, tell=told(tell))
    return Sweep(stack, found)


def _means(of: Candidate, texts: Iterable[str]) -> list[float]:
    return [of.objectives[t].mean if t in of.objectives else math.nan for t in texts]


def _bought(found: Iterable[Change]) -> DataFrame:
    rows = ((c.knob, c.before, c.after, *_change(c.outage_s), *_change(c.failed)) for c in found)
    ends = ("", "_low", "_high")
    columns = ("knob", "before", "after", *(f"outage_s{e}" for e in ends))
    return frames.frame((*columns, *(f"failed_requests{e}" for e in ends)), rows, ())


def _change(of: Paired) -> tuple[Any, ...]:
    return of.difference, of.low, of.high
