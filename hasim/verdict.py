"""From Traces to a verdict: pass, fail, inconclusive or void, by the rules of design.md section 4.

`judge` is `measure` of every replication, then `decide`. A worker may call `measure` where the
trace is and send back only the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hasim import stats
from hasim.causes import Cause, boot_causes, explain
from hasim.errors import Exit
from hasim.model import Assumption, Stack
from hasim.scenario import Budget, KnownGap, Scenario, Threshold
from hasim.sim.trace import Trace
from hasim.source import Span
from hasim.verdict_measure import STEADY_PROBES, Key, Measured, in_steady_state, measure
from hasim.verdict_rows import Row, judge_row


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric over all replications; the interval is Student-t, two-sided."""

    metric: str
    tags: tuple[tuple[str, str], ...]
    aggregate: str
    mean: float
    ci: tuple[float, float]
    min: float
    max: float
    n: int


@dataclass(frozen=True, slots=True)
class ScenarioVerdict:
    """How one scenario was judged. verdict: pass | fail | inconclusive | void | stale-gap.

    reason: one sentence for whatever no budget row says. worst: the replication that `causes`
    explains. looks: numbers of replications at which a verdict may be formed. measured: the numbers
    of every replication, of which the rest is made.
    """

    name: str
    doc: str
    verdict: str
    reason: str
    study: bool
    replications: int
    simulated_s: float
    requests: int
    budgets: tuple[Row, ...]
    metrics: tuple[Summary, ...]
    causes: tuple[Cause, ...]
    assumptions: tuple[Assumption, ...]
    worst: int
    looks: tuple[int, ...]
    span: Span | None = None
    measured: tuple[Measured, ...] = field(default=(), repr=False, compare=False)

    def needs_more(self, look: int) -> bool:
        """After look number `look` (from 0): is the next one needed to settle the scenario?"""
        return self.verdict == "inconclusive" and look + 1 < len(self.looks)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All scenarios of one run over one stack.

    file: the scenario file, named as in `inputs`. folder: the stack's, from the working directory,
    "" if it lies outside. asked: replications of every scenario, 0: its
    own. code_sha256: of the hasim that ran.
    """

    hasim: str
    seed: int
    stack: str
    stack_sha256: str
    inputs: tuple[tuple[str, str], ...]
    scenarios: tuple[ScenarioVerdict, ...]
    hosts: int = 0
    containers: int = 0
    provisional: bool = False
    file: str = ""
    folder: str = ""
    asked: int = 0
    code_sha256: str = ""

    @property
    def exit_code(self) -> Exit:
        """99 before 3 before 0 (design.md section 5); provisional counts as undecided."""
        found = {s.verdict for s in self.scenarios}
        if "fail" in found:
            return Exit.BUDGET
        return Exit.UNDECIDED if self.provisional or found - {"pass"} else Exit.OK


def assemble(
    stack: Stack,
    seed: int,
    scenarios: Sequence[ScenarioVerdict],
    version: str,
    inputs: Sequence[tuple[str, str]] = (),
    provisional: bool = False,
) -> Verdict:
    """Put scenario verdicts together; `inputs` are files besides the stack's: (path, sha256)."""
    return Verdict(
        hasim=version,
        seed=seed,
        stack=stack.name,
        stack_sha256=stack.sha256,
        inputs=tuple(sorted({*stack.inputs, *inputs})),
        scenarios=tuple(scenarios),
        hosts=len(stack.hosts),
        containers=len(stack.instances),
        provisional=provisional,
    )


def judge(
    scenario: Scenario, stack: Stack, traces: Sequence[Trace], confidence: float | None = None
) -> ScenarioVerdict:
    """Judge one scenario on all replications of one look. Raises ValueError without any."""
    measured = [measure(scenario, stack, trace) for trace in traces]
    verdict = decide(scenario, stack, measured, confidence)
    worst = next(t for t in traces if t.replication == verdict.worst)
    if verdict.verdict == "void" and worst.void:
        causes = boot_causes(stack, worst)
    else:
        causes = explain(scenario, stack, worst)
    return replace(verdict, causes=(*verdict.causes, *causes))


def decide(
    scenario: Scenario,
    stack: Stack,
    measured: Sequence[Measured],
    confidence: float | None = None,
) -> ScenarioVerdict:
    """Judge the numbers of all replications. Raises ValueError without any."""
    if not measured:
        raise ValueError(f"scenario {scenario.name}: no replications")
    confidence = scenario.confidence if confidence is None else confidence
    error = stats.error_per_bound(confidence, scenario.replications)
    ran = [m for m in measured if not m.void]
    rows: list[Row] = []
    stale: list[str] = []
    if len(ran) == len(measured):
        rows = _built_in(scenario, ran, error)
        rows += [
            judge_row(b, [m.values[i] for m in ran], _names(ran), scenario.coverage, error)
            for i, b in enumerate(scenario.budgets)
        ]
        rows, stale = apply_gaps(scenario, rows)
        verdict, reason = _overall(rows, stale)
    else:
        lost = next(m for m in measured if m.void)
        verdict, reason = "void", lost.void
    return ScenarioVerdict(
        name=scenario.name,
        doc=scenario.doc,
        verdict=verdict,
        reason=reason,
        study=bool(scenario.settings),
        replications=len(measured),
        simulated_s=float(sum(m.simulated_s for m in measured)),
        requests=sum(m.requests for m in measured),
        budgets=tuple(rows),
        metrics=_summaries(ran, (1.0 - confidence) / 2),
        causes=_row_causes(scenario, rows, reason, len(measured)),
        assumptions=stack.assumptions,
        worst=_worst(rows, measured),
        looks=stats.looks(scenario.replications),
        span=scenario.span,
        measured=tuple(sorted(measured, key=lambda m: m.replication)),
    )


def _names(measured: Sequence[Measured]) -> list[tuple[int, int]]:
    return [(m.replication, m.seed) for m in measured]


def _built_in(scenario: Scenario, ran: Sequence[Measured], error: float) -> list[Row]:
    """Steady before the fault, by probes and by `steady_state`; recovered after the repair."""
    rows, names, coverage = [], _names(ran), scenario.coverage
    steady = [m.steady for m in ran]
    if not np.isnan(steady).all():
        text = f"last {STEADY_PROBES} probes good"
        budget = Budget("steady_state", (), Threshold(text, "min", ">=", 1.0), scenario.span)
        rows.append(judge_row(budget, steady, names, coverage, error))
    for i, wanted in enumerate(scenario.steady_state):
        values = [m.steady_values[i] for m in ran]
        row = judge_row(in_steady_state(wanted), values, names, coverage, error)
        rows.append(replace(row, metric=f"steady_state {row.metric}"))
    rows = [replace(r, verdict="void") if r.verdict == "fail" else r for r in rows]
    recovered = [m.recovered_s for m in ran if m.recovered_s is not None]
    if recovered:
        within = scenario.recover_within_s
        threshold = Threshold(f"within {within:g}s of the last repair", "max", "<=", within)
        budget = Budget("recovered", (), threshold, scenario.span)
        row = judge_row(budget, recovered, names[: len(recovered)], coverage, error)
        if row.verdict == "void":
            row = replace(row, note=f"the run ends within {within:g}s of the last repair")
        rows.append(row)
    return rows


def apply_gaps(scenario: Scenario, rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Mark rows excused by known gaps; returns the rows and the gaps that excuse nothing.

    A gap names a budget as written (`http_req_failed{window:fault}`), or that and a threshold
    (`outage_duration: max<15s`). It is stale once everything that it names passes.
    """
    out, stale = list(rows), []
    for gap in scenario.known_gaps:
        if gap.host and not _about_host(scenario, gap):
            continue
        named = [i for i, row in enumerate(out) if _names_row(gap, row)]
        if not named or all(out[i].verdict == "pass" for i in named):
            stale.append(gap.budget)
        for i in named:
            if out[i].verdict in ("fail", "inconclusive"):
                out[i] = replace(out[i], waived_by=gap.reason or "known gap")
    return out, stale


def _about_host(scenario: Scenario, gap: KnownGap) -> bool:
    targets = {f.target.removeprefix("host:") for f in scenario.faults}
    return gap.host.removeprefix("host:") in targets


def _names_row(gap: KnownGap, row: Row) -> bool:
    wanted = gap.budget.replace(" ", "")
    name = row.name.replace(" ", "")
    return wanted in (name, f"{name}:{row.threshold}".replace(" ", ""))


def _overall(rows: Sequence[Row], stale: Sequence[str]) -> tuple[str, str]:
    """The verdict of a scenario from its rows: void, fail, inconclusive, stale-gap, pass."""
    void = [r for r in rows if r.verdict == "void"]
    if any(r.metric.startswith("steady_state") for r in void):
        return "void", "the steady state did not hold before the fault"
    unexcused = [r for r in rows if not r.waived_by]
    failed = [r for r in unexcused if r.verdict == "fail"]
    if failed:
        metastable = any(r.metric == "recovered" for r in failed)
        return "fail", "not recovered after the last repair" if metastable else ""
    if void:
        return "void", f"{void[0].name}: {void[0].note}"
    if any(r.verdict == "inconclusive" for r in unexcused):
        return "inconclusive", ""
    if stale:
        return "stale-gap", f"known gap passes now, remove it: {', '.join(stale)}"
    return "pass", ""


def _row_causes(
    scenario: Scenario, rows: Sequence[Row], reason: str, replications: int
) -> tuple[Cause, ...]:
    """The reason of the verdict and the violating replications, as sentences."""
    out = [Cause(reason, span=scenario.span)] if reason else []
    for row in rows:
        if row.violations and row.verdict != "pass":
            every = len(row.violations) == replications
            runs = ", ".join(str(r) for r, _ in row.violations[: 1 if every else 10])
            runs += ", ..." if 10 < len(row.violations) < replications else ""
            count = f"{'all' if every else f'{len(row.violations)} of'} {replications} replications"
            text = f"{row.name} {row.threshold}: violated in {count}, worst first: {runs}"
            text = text.replace("worst first", "the worst is") if every else text
            out.append(Cause(f"{text} (seed {row.violations[0][1]})", span=row.span))
    return tuple(out)


def _worst(rows: Sequence[Row], measured: Sequence[Measured]) -> int:
    """The replication to explain: of the first failed row, else the longest outage."""
    lost = [m.replication for m in measured if m.void]
    if lost:
        return lost[0]
    order = {"void": 0, "fail": 1, "inconclusive": 2}
    for row in sorted(rows, key=lambda r: order.get(r.verdict, 9)):
        if row.verdict in order and row.worst >= 0:
            return row.worst
    longest = [
        max((v for (m, *_), v in r.summary.items() if m == "outage_duration"), default=0.0)
        for r in measured
    ]
    return measured[int(np.argmax(longest))].replication


def _summaries(ran: Sequence[Measured], error: float) -> tuple[Summary, ...]:
    keys: dict[Key, None] = {}
    for m in ran:
        keys.update(dict.fromkeys(m.summary))
    out = []
    for key in keys:
        x = np.array([m.summary[key] for m in ran if key in m.summary])
        mean = stats.t_interval(x, error)
        ends = (mean.low, mean.high)
        out.append(Summary(*key, mean.mean, ends, float(x.min()), float(x.max()), len(x)))
    return tuple(out)
