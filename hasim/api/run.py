"""One scenario simulated and judged as `hasim run` does it, with frames of what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hasim.api import draw, frames
from hasim.api.seen import Requests, Seen, Windows, keep, keep_requests, quantiles
from hasim.api.stack import Stack, load
from hasim.api.work import line, project_of
from hasim.errors import Finding, InputError
from hasim.project import root_seed
from hasim.runner import Progress, judge_all, make_tasks
from hasim.scenario import Scenario
from hasim.sim.run import default_jobs
from hasim.verdict import ScenarioVerdict
from hasim.workers import Pool, Task, result_of, simulate_chunk, warm

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series


@dataclass(frozen=True, repr=False)
class Run:
    """All replications of one scenario and how it was judged.

    judged: the frozen verdict behind the frames (hasim.verdict.ScenarioVerdict).

    >>> file = "models/three-servers/scenarios.yaml"
    >>> run = ha.simulate("models/three-servers", file, "steady", replications=3)
    >>> run
    <Run steady: pass, 3 replications>
    >>> run.verdict[["budget", "threshold", "verdict"]]
                  budget    threshold verdict
    0    http_req_failed    rate<0.1%    pass
    1  http_req_duration  p(99)<200ms    pass
    """

    stack: Stack
    scenario: Scenario
    judged: ScenarioVerdict
    task: Task = field(repr=False)
    seen: tuple[Seen, ...] = field(repr=False)
    jobs: int = 0

    @property
    def passed(self) -> bool:
        """Did every budget pass, or is it excused by a known gap?"""
        return self.judged.verdict == "pass"

    # ---- judged ----------------------------------------------------------------------------------
    @property
    def verdict(self) -> DataFrame:
        """The budgets: scenario, budget, threshold, limit, observed, ci_low, ci_high, margin,
        verdict, waived_by; limits and what was seen in SI units, margin a share of the limit.
        """
        return frames.verdict(self.judged)

    @property
    def metrics(self) -> DataFrame:
        """The standard numbers: metric, aggregate, mean, ci_low, ci_high, min, max, n."""
        return frames.metrics(self.judged)

    @property
    def causes(self) -> DataFrame:
        """Why, from the replication that is explained: text, seconds, requests, file, line."""
        return frames.causes(self.judged)

    @property
    def replications(self) -> DataFrame:
        """replication, budget, value: the number that each budget is judged by."""
        return frames.replications(self.judged, budget_names(self.scenario))

    # ---- seen ------------------------------------------------------------------------------------
    @cached_property
    def requests(self) -> DataFrame:
        """Raw requests of all replications: replication, start_s, op, window, server, status,
        termination, retries, latency_s (empty: still open at the end).

        They are many; unless `simulate` was told to keep them, the replications are simulated once
        more for them. window is where a request began: before, fault, recovery (after the repair,
        not all paths work yet), after. For quantiles `latency` is faster.

        >>> file = "models/three-servers/scenarios.yaml"
        >>> run = ha.simulate("models/three-servers", file, "steady", replications=2)
        >>> run.requests.groupby("op", observed=True).latency_s.quantile(0.5).round(3).to_dict()
        {'web/get': 0.021}
        """
        if any(s.requests is None for s in self.seen):
            numbers = [s.trace.replication for s in self.seen]
            found = _look_again(replace(self.task, keep=keep_requests), numbers, self.jobs)
        else:
            found = [s.requests for s in self.seen if s.requests is not None]
        return Requests.frame(found)

    def latency(
        self, q: float | Sequence[float] = (0.5, 0.95, 0.99), by: Sequence[str] = ("op",)
    ) -> DataFrame:
        """Quantiles of what users waited, over all replications: by..., q, latency_s, requests.

        by: any of "op", "window" (before, fault, impact, after, as in budgets: fault and impact
        overlap) and "status" (class). From histograms: the upper edge of a bucket 1.6 % wide.
        Requests still open at the end have no latency and are left out.

        >>> file = "models/three-servers/scenarios.yaml"
        >>> run = ha.simulate("models/three-servers", file, "crash", replications=2)
        >>> run.latency(0.5, by=["window"])[["window", "q", "requests"]].head(2)
           window    q  requests
        0  before  0.5      3000
        1   fault  0.5      6000
        """
        wanted = [q] if isinstance(q, float | int) else list(q)
        names = [by] if isinstance(by, str) else list(by)
        return quantiles(self._merged, self.seen[0].trace.ops, wanted, names)

    def timeline(self, replication: int | None = None) -> DataFrame:
        """One replication (default: the one that `causes` explains), a row per transition.

        replication, id, t_s, component, event, detail, cause_id, cause, file, line.
        """
        wanted = self.judged.worst if replication is None else replication
        trace = next((s.trace for s in self.seen if s.trace.replication == wanted), None)
        if trace is None:
            raise ValueError(f"replication {wanted}: there are 0 to {len(self.seen) - 1}")
        return frames.timeline(trace)

    def since_fault(self, event: str) -> Series:
        """Seconds from the first fault to the first row of the timeline whose event has this text;
        by replication, nan where it never came.

        >>> file = "models/three-servers/scenarios.yaml"
        >>> run = ha.simulate("models/three-servers", file, "crash", replications=3)
        >>> bool(run.since_fault("is DOWN").between(4, 6.1).all())
        True
        """
        return frames.since_fault([s.trace for s in self.seen], event)

    def series(self, everything: bool = False) -> DataFrame:
        """Second by second over all replications: t_s, service, metric, mean, p05, p50, p95, worst.

        everything: per container and server instead of per service and backend.
        """
        return frames.series([s.trace for s in self.seen], self.task.stack, everything)

    @draw.figure
    def plot(self) -> Figure:
        """A Figure: requests, failures and latency by second, who was up, who noticed when."""
        from hasim.report.charts import scenario_figure

        return scenario_figure(
            [s.trace for s in self.seen], self.task.stack, self.scenario, self.judged.worst
        )

    @cached_property
    def _merged(self) -> np.ndarray:
        return Windows.merged([s.windows for s in self.seen])

    def __repr__(self) -> str:
        of = self.judged
        return f"<Run {of.name}: {of.verdict}, {of.replications} replications>"

    def _repr_html_(self) -> str:
        return draw.run(self.judged)


def simulate(
    stack: Stack | str | Path,
    scenarios: str | Path,
    name: str,
    *,
    seed: int | None = None,
    replications: int = 0,
    jobs: int = 0,
    keep_requests: bool = False,
) -> Run:
    """Simulate one scenario of a file on a stack, and judge it.

    stack: loaded or a folder; it stands in for the one that the file names. Knobs that were set
    make the run a study. seed None: that of the file. replications 0: the looks of the scenario.
    jobs 0: one per core. InputError with all that is wrong with the files.

    >>> stack = ha.load("models/three-servers").set({"haproxy.backend.web.*.inter": "500ms"})
    >>> run = ha.simulate(stack, "models/three-servers/scenarios.yaml", "crash", replications=2)
    >>> run.judged.study
    True
    >>> bool(run.metrics.set_index("metric")["max"]["time_to_detect{by:haproxy}"] < 2)
    True
    """
    stack = stack if isinstance(stack, Stack) else load(stack)
    project = project_of(stack, scenarios)
    seed = root_seed(project, seed)
    task = _one(make_tasks(project, [name], {}, seed, replications), name)
    task = replace(task, keep=keep, requests=keep_requests)
    jobs = jobs or default_jobs()
    with line() as tell:
        warm(tell)
        with Pool([task], jobs) as pool:
            [(judged, seen)] = judge_all([task], pool, lambda p: tell(_words(p)))
    return Run(stack, task.scenario, judged, task, tuple(seen), jobs)  # type: ignore[arg-type]


def _one(tasks: Sequence[Task], name: str) -> Task:
    if len(tasks) == 1:
        return tasks[0]
    text = f"'{name}' is {len(tasks)} scenarios"
    hint = "name one: " + ", ".join(t.scenario.name for t in tasks)
    raise InputError([Finding("error", "HA104", text, None, hint)])


def _words(news: Progress) -> str:
    return f"{news.scenario}: {news.done} of {news.wanted} replications"


def budget_names(scenario: Scenario) -> list[str]:
    """`http_req_failed{window:fault} rate<1%`, in the order of Measured.values."""
    return [f"{b.name} {b.threshold.text}" for b in scenario.budgets]


def _look_again(task: Task, numbers: Sequence[int], jobs: int) -> list[Requests]:
    """The raw requests of these replications, in their order."""
    task = replace(task, requests=True)
    with Pool([task], jobs) as pool:
        waiting: list[Future] = [pool.submit(simulate_chunk, 0, [n]) for n in numbers]
        return [result_of(future).traces[0] for future in waiting]
