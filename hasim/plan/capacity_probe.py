"""One load tried: trials of every scenario at that level, judged by their budgets.

With few replications a budget holds if what was seen keeps the limit: good enough to search by. It
is *shown* to hold if its interval does too; thresholds on single runs must then hold in every run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hasim.causes import explain
from hasim.model import Stack
from hasim.plan.capacity_load import GAUGES, at_level, level, with_gauges
from hasim.plan.capacity_types import Broken, Point
from hasim.plan.trials import Bench, stack_of, trial
from hasim.scenario import Budget, Scenario
from hasim.sim.run import replicate
from hasim.source import Span
from hasim.verdict import decide
from hasim.verdict_measure import Measured
from hasim.verdict_rows import OPERATORS, Row, kind

Settings = Mapping[str, str]


@dataclass(frozen=True)
class Use:
    """Of one process in the worst scenario and replication: cores in its busiest minute and
    second (99 %), bytes at most.
    """

    minute_cores: float
    second_cores: float
    memory_bytes: float


@dataclass(frozen=True)
class Probe:
    """What one load did. rows: (scenario, row) of every budget; void: why a run could not start.

    use: by process. hosts: {host: share of its cores used in the busiest minute}.
    """

    users: float
    lost: str
    settings: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Scenario, Row], ...]
    void: str
    use: Mapping[str, Use]
    hosts: Mapping[str, float]
    p99_s: float
    failed: float
    replications: int

    @property
    def passed(self) -> bool:
        """Does every budget hold, by what was seen?"""
        return not self.void and all(holds(s, r) for s, r in self.rows)

    @property
    def shown(self) -> bool:
        """Does every budget hold by its interval, and every threshold on runs in every run?"""
        return not self.void and all(_shown(s, r) for s, r in self.rows)

    @property
    def refuted(self) -> bool:
        """Is some budget shown not to hold?"""
        return bool(self.void) or any(_refuted(s, r) for s, r in self.rows)

    @property
    def point(self) -> Point:
        """For the figure."""
        return Point(self.users, self.passed, self.p99_s, self.failed, self.replications)


def holds(scenario: Scenario, row: Row) -> bool:
    """Is the limit kept by what was seen, or the row excused? Without samples it is not."""
    if row.waived_by:
        return True
    if row.verdict == "void" or math.isnan(row.observed):
        return False
    budget = _budget(scenario, row)
    if budget is None:  # a condition that every scenario has
        return row.margin >= 0.0
    return OPERATORS[budget.threshold.operator](row.observed, row.limit)


def _budget(scenario: Scenario, row: Row) -> Budget | None:
    wanted = (row.metric, row.tags, row.threshold)
    known = ((b, (b.metric, b.tags, b.threshold.text)) for b in scenario.budgets)
    return next((b for b, named in known if named == wanted), None)


def _per_run(scenario: Scenario, row: Row) -> bool:
    budget = _budget(scenario, row)
    return budget is None or kind(budget.metric, budget.threshold) != "mean"


def _shown(scenario: Scenario, row: Row) -> bool:
    if row.waived_by or row.verdict == "pass":
        return True
    return _per_run(scenario, row) and holds(scenario, row) and not row.violations


def _refuted(scenario: Scenario, row: Row) -> bool:
    if row.waived_by:
        return False
    often = _per_run(scenario, row) and not holds(scenario, row)
    return row.verdict in ("fail", "void") or often


class Prober:
    """Tries loads. users are those of the reference load; others keep their proportion to it."""

    def __init__(
        self,
        bench: Bench,
        stack: Stack,
        over: Sequence[Scenario],
        bases: Mapping[str, float],
        asked: float,
        seed: int,
    ):
        self.bench, self.stack, self.seed = bench, stack, seed
        self.over, self.bases, self.asked = over, bases, asked

    def scenarios(self, users: float, lost: str = "") -> list[Scenario]:
        """The scenarios at that level; with a host lost those that have no faults themselves."""
        chosen = [s for s in self.over if not (lost and s.faults)]
        return [at_level(s, self.bases[s.name] * users / self.asked, lost) for s in chosen]

    def many(
        self, users: float, states: Sequence[str], replications: int, settings: Settings
    ) -> list[Probe]:
        """One probe per state ("" or a lost host), all at once."""
        wanted, made = [], {}
        for lost in states:
            stack = self.stack_with(settings)
            names = [i.name for i in stack.instances if i.service]
            scenarios = [replace(s, replications=replications) for s in self.scenarios(users, lost)]
            made[lost] = (stack, names, scenarios)
            for s in scenarios:
                one = trial(self.stack, with_gauges(s, names), self.seed, settings)
                wanted.append((one, range(replications)))
        found = iter(self.bench.measure(wanted))
        return [
            _judged(users, lost, settings, *made[lost], [next(found) for _ in made[lost][2]])
            for lost in states
        ]

    def one(
        self, users: float, lost: str, replications: int, settings: Settings | None = None
    ) -> Probe:
        """One probe."""
        return self.many(users, [lost], replications, settings or {})[0]

    def stack_with(self, settings: Settings) -> Stack:
        """The stack with knobs changed."""
        if not settings:
            return self.stack
        return stack_of(self.stack.folder, self.stack.sha256, tuple(sorted(settings.items())))

    # ---- what breaks -----------------------------------------------------------------------------
    def broken(self, bad: Probe, good: Probe | None = None) -> Broken | None:
        """The budget that breaks first between a probe that passes and one that does not."""
        if bad.void:
            return Broken("", bad.void, "", math.nan, math.nan, bad.users)
        room = {(s.name, r.name, r.threshold): r.margin for s, r in good.rows} if good else {}
        lost = [(s, r) for s, r in bad.rows if not holds(s, r)] or [
            (s, r) for s, r in bad.rows if _refuted(s, r)
        ]
        if not lost:
            return None

        def crossing(pair: tuple[Scenario, Row]) -> float:
            """Where between the two the margin became negative, 0 to 1."""
            before = room.get((pair[0].name, pair[1].name, pair[1].threshold), math.nan)
            step = before - pair[1].margin
            return before / step if step > 0 and before > 0 else 0.0

        scenario, row = min(lost, key=crossing)
        text, span = self._cause(bad, scenario, row)
        where = (span.file, span.line, span.col) if span else ("", 0, 0)
        return Broken(
            scenario.name, row.name, row.threshold, row.observed, row.limit, bad.users, text, *where
        )

    def _cause(self, bad: Probe, scenario: Scenario, row: Row) -> tuple[str, Span | None]:
        """What is full; else what the verdict's causes say of the worst replication."""
        stack = self.stack_with(dict(bad.settings))
        full = bottleneck(stack, bad, dict(row.tags).get("service", ""))
        if full is not None and (full[0] >= BUSY or row.metric == "cpu_utilization"):
            return full[1], full[2]
        which = row.worst if row.worst >= 0 else 0
        trace = replicate(stack, scenario, self.seed, which)
        for cause in explain(scenario, stack, trace):
            if cause.span is not None:
                return cause.text, cause.span
        return (full[1], full[2]) if full is not None else ("", None)


BUSY = 0.85  # of what a process can use: from here on queues in front of it are long


def bottleneck(stack: Stack, probe: Probe, service: str = "") -> tuple[float, str, Span | None]:
    """(how busy, sentence, place) of the process nearest to what it can use."""
    found: list[tuple[float, str, Span | None]] = [(0.0, "", None)]
    cores = {h.name: h.cores for h in stack.hosts}
    for one in stack.instances:
        use = probe.use.get(one.name)
        if use is None or (service and service not in (one.service, one.name)):
            continue
        outer = next((i for i in stack.instances if i.name == one.inside), one)
        workers = worker_cores(stack, one.service)
        limit = min(one.cpus or math.inf, workers, cores.get(one.host, math.inf))
        share = use.minute_cores / limit
        spent = f"{one.name} uses {use.minute_cores:.2f} of {limit:g} cores"
        place = outer.where.get("cpus") or outer.span
        why = "its CPU limit"
        if not one.cpus or limit < one.cpus:
            why = "its workers" if limit == workers else f"all that {one.host} has"
            place = stack.service(one.service).where.get("workers") if limit == workers else place
        text = f"{spent} ({why})"
        found.append((share, text, place if isinstance(place, Span) else outer.span))
    for host in stack.hosts:
        share = probe.hosts.get(host.name, 0.0)
        if not service:
            text = f"{host.name} uses {share * host.cores:.2f} of its {host.cores:g} cores"
            found.append((share, text, host.span))
    return max(found, key=lambda f: f[0])


def worker_cores(stack: Stack, service: str) -> float:
    """The most cores that one instance can use: a worker runs on one core at a time."""
    known = next((s for s in stack.services if s.name == service), None)
    return float(known.workers) if known else math.inf


# ---- numbers -------------------------------------------------------------------------------------
def _judged(
    users: float,
    lost: str,
    settings: Settings,
    stack: Stack,
    names: Sequence[str],
    scenarios: Sequence[Scenario],
    measured: Sequence[Sequence[Measured]],
) -> Probe:
    rows: list[tuple[Scenario, Row]] = []
    void = ""
    for scenario, runs in zip(scenarios, measured, strict=True):
        void = void or next((m.void for m in runs if m.void), "")
        verdict = decide(scenario, stack, runs)
        rows += [(scenario, row) for row in verdict.budgets]
    every = [m for runs in measured for m in runs if not m.void]
    return Probe(
        users=users,
        lost=lost,
        settings=tuple(sorted(settings.items())),
        rows=tuple(rows),
        void=void,
        use=_use(stack, names, scenarios, measured),
        hosts={h.name: _worst(every, ("cpu_utilization", h.name)) for h in stack.hosts},
        p99_s=_mean(every, "http_req_duration", "p(99)"),
        failed=_mean(every, "http_req_failed", "rate"),
        replications=len(measured[0]) if measured else 0,
    )


def _use(
    stack: Stack,
    names: Sequence[str],
    scenarios: Sequence[Scenario],
    measured: Sequence[Sequence[Measured]],
) -> dict[str, Use]:
    """Gauges are the values after those of the budgets (with_gauges)."""
    hosts = {h.name: h for h in stack.hosts}
    made = {}
    for i, name in enumerate(names):
        one = stack.instance(name)
        cores = one.cpus or hosts[one.host].cores
        size = one.mem_limit_bytes or hosts[one.host].memory_bytes
        most = [0.0] * len(GAUGES)
        for scenario, runs in zip(scenarios, measured, strict=True):
            first = len(scenario.budgets) + i * len(GAUGES)
            for m in (m for m in runs if not m.void):
                seen = m.values[first : first + len(GAUGES)]
                known = (0.0 if math.isnan(v) else v for v in seen)
                most = [max(a, b) for a, b in zip(most, known, strict=True)]
        made[name] = Use(most[0] * cores, most[1] * cores, most[2] * size)
    return made


def _worst(measured: Sequence[Measured], of: tuple[str, str]) -> float:
    key = (of[0], (("host", of[1]),), "max")
    return max((m.summary.get(key, 0.0) for m in measured), default=0.0)


def _mean(measured: Sequence[Measured], metric: str, aggregate: str) -> float:
    seen = [v for m in measured if (v := m.summary.get((metric, (), aggregate))) is not None]
    return sum(seen) / len(seen) if seen else math.nan


def reference(over: Sequence[Scenario]) -> Scenario:
    """The scenario whose load is meant by `users`: the first one without faults, else the first."""
    return next((s for s in over if not s.faults), over[0])


def peak(scenario: Scenario) -> float:
    """The level that a scenario itself asks for."""
    return level(scenario.load)
