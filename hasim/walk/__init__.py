"""Walk one replication: who noticed what when, which line set each delay, what it cost, and what
one step of that setting would buy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from hasim.causes import explain
from hasim.causes_text import Cause
from hasim.errors import Finding, InputError, did_you_mean
from hasim.metrics import budget_findings
from hasim.metrics_requests import by_outcome
from hasim.metrics_view import View
from hasim.model import Stack
from hasim.plan.trials import Bench, Done, trial
from hasim.project import Project, inputs, root_seed, scenario_file
from hasim.report.redact import redact_all, scrub_all
from hasim.scenario import Scenario
from hasim.sim.run import replicate
from hasim.sim.trace import OK, OPEN, OUTCOMES
from hasim.stack import with_settings
from hasim.verdict import decide
from hasim.verdict_measure import Measured
from hasim.walk.rows import Moment, Setting, Step, Walk
from hasim.walk.settings import settings_behind
from hasim.walk.steps import outage_s, try_steps
from hasim.walk.story import moments, outages

__all__ = ["Moment", "Setting", "Step", "Walk", "walk"]

REPLICATIONS = 10  # of which the worst is told, and over which a step is compared


def walk(
    project: Project,
    name: str,
    replication: int | None = None,
    *,
    seed: int | None = None,
    jobs: int = 0,
    tell: Callable[[Done], None] = lambda done: None,
    say: Callable[[str], None] = lambda text: None,
) -> Walk:
    """Tell one replication of a scenario of kind run: by default the worst of ten.

    InputError for an unknown scenario or a budget about what the stack does not have.
    """
    scenario, stack = _chosen(project, name)
    seed = root_seed(project, seed)
    hidden = redact_all({path: text for path, text, _ in inputs(project)})[1]

    with Bench(jobs=jobs, tell=tell, say=say) as bench:
        say(f"{name}: {REPLICATIONS} replications")
        numbers = range(REPLICATIONS)
        [before] = bench.measure([(trial(stack, scenario, seed), numbers)])
        number, chosen = _which(scenario, stack, before, replication)
        trace = replicate(stack, scenario, seed, number)
        causes = explain(scenario, stack, trace)
        story: tuple[Moment, ...] = ()
        costs: list[Cause] = []
        steps: tuple[Step, ...] = ()
        if not trace.void and not any(m.void for m in before):
            view = View(trace, scenario, stack)
            story, costs = moments(view), _costs(view)
            say(f"{name}: one step of each setting that set a delay")
            behind = settings_behind(stack, causes, story)
            steps = try_steps(bench, stack, scenario, seed, before, behind)
    told = Walk(
        scenario=scenario.name,
        doc=" ".join(scenario.doc.split()),
        stack=stack.name,
        seed=seed,
        replication=number,
        replications=REPLICATIONS,
        chosen=chosen,
        void=trace.void,
        simulated_s=trace.duration_s,
        moments=story,
        costs=(*costs, *(c for c in causes if c.requests)),
        delays=tuple(c for c in causes if not c.requests),
        steps=steps,
    )
    return cast(Walk, scrub_all(told, hidden))


def _chosen(project: Project, name: str) -> tuple[Scenario, Stack]:
    """The scenario and its stack, the settings of a study in force."""
    file = scenario_file(project)
    assert project.stack is not None
    known = [s.name for s in file.scenarios if s.kind == "run"]
    scenario = next((s for s in file.scenarios if s.name == name and s.kind == "run"), None)
    if scenario is None:
        text = f"{file.path} has no scenario '{name}' of kind run"
        hint = did_you_mean(name, known) or f"known: {', '.join(known) or 'none'}"
        raise InputError([Finding("error", "HA104", text, None, hint)])
    stack = project.stack
    if scenario.settings:
        stack = with_settings(project.folder, scenario.settings)
    if found := budget_findings(scenario, stack):
        raise InputError(found)
    return scenario, stack


def _which(
    scenario: Scenario, stack: Stack, before: Sequence[Measured], wanted: int | None
) -> tuple[int, str]:
    """(replication, why this one)."""
    if wanted is not None:
        return wanted, "as asked"
    of = f"of {len(before)}"
    void = next((m.replication for m in before if m.void), None)
    if void is not None:
        return void, f"void, the first {of}"
    rows = [r for r in decide(scenario, stack, before).budgets if r.violations]
    if rows:
        row = max(rows, key=lambda r: (len(r.violations), -rows.index(r)))
        return row.violations[0][0], f"the worst {of} by {row.name} {row.threshold}"
    longest = max(before, key=lambda m: (outage_s(m), -m.replication))
    if outage_s(longest) > 0:
        return longest.replication, f"the longest outage {of}"
    return before[0].replication, "the first; no budget broken and no outage"


def _costs(view: View) -> list[Cause]:
    """What users lost: seconds without a good answer per path, requests by how they ended."""
    out = []
    spans: dict[str, list[float]] = {}
    for path, begin, end in outages(view):
        spans.setdefault(path, []).append(min(end, view.trace.duration_s) - begin)
    for path, lengths in spans.items():
        many = f" in {len(lengths)} outages, the longest {max(lengths):.1f} s"
        text = f"{path}: {sum(lengths):.1f} s without a good answer"
        out.append(Cause(text + (many if len(lengths) > 1 else ""), None, sum(lengths)))
    counts = by_outcome(view, {})
    bad = [(int(n), w) for i, (n, w) in enumerate(zip(counts, OUTCOMES, strict=True)) if i != OK]
    total = int(sum(counts))
    lost = sum(n for n, w in bad if w != OUTCOMES[OPEN])
    words = ", ".join(f"{n} {w}" for n, w in bad if n)
    out.append(
        Cause(
            f"{lost} of {total} requests failed" + (f": {words}" if words else ""), None, 0.0, lost
        )
    )
    return out
