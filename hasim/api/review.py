"""Two runs side by side, and (later) sweep, capacity, export and explanation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hasim.api import draw, frames
from hasim.api.run import Run, budget_names

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two runs of one scenario under the same luck."""

    before: Run
    after: Run

    @property
    def budgets(self) -> DataFrame:
        """budget, before, after, change, ci_low, ci_high, correlation, n."""
        return frames.moved(_values(self.before), _values(self.after))

    def __repr__(self) -> str:
        return f"<Comparison {self.before.judged.name}>\n{self.budgets}"

    def _repr_html_(self) -> str:
        table = self.budgets
        rows = [[r[0], *(frames.short(x) for x in r[1:])] for r in table.itertuples(index=False)]
        return draw.table(list(table.columns), rows)


def compare(before: Run, after: Run) -> Comparison:
    """What moved between two runs, by how much: paired by replication, 95 % intervals.

    ValueError unless both ran the same scenario with the same seed.

    >>> stack, file = ha.load("models/three-servers"), "models/three-servers/scenarios.yaml"
    >>> slow = ha.simulate(stack, file, "crash", replications=3)
    >>> quick = stack.set({"haproxy.backend.web.*.inter": "500ms"})
    >>> moved = ha.compare(slow, ha.simulate(quick, file, "crash", replications=3))
    >>> moved.budgets[["budget", "before", "after", "change"]].round(2)
                                      budget  before  after  change
    0    time_to_detect{by:haproxy} max<6.1s    4.74   1.23   -3.50
    1  http_req_failed{window:fault} rate<5%    0.03   0.01   -0.02
    """
    if (before.judged.name, before.task.seed) != (after.judged.name, after.task.seed):
        raise ValueError("the runs are of different scenarios or seeds: not the same luck")
    return Comparison(before, after)


def _values(run: Run) -> Mapping[str, Mapping[int, float]]:
    names = budget_names(run.scenario)
    found = run.judged.measured
    return {n: {m.replication: m.values[i] for m in found} for i, n in enumerate(names)}
