"""Compare two runs or two stacks: which files differ, which budgets moved, by how much, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import hasim
from hasim import stats
from hasim.causes import explain
from hasim.compare import changes
from hasim.compare.rows import (
    CauseChange,
    Comparison,
    Difference,
    FileChange,
    KnobChange,
    Move,
    ScenarioChange,
)
from hasim.compare.sides import Side, of_stack, read_run
from hasim.model import Stack
from hasim.plan.trials import Bench, Done, trial
from hasim.project import Project, open_project, root_seed
from hasim.report.redact import redact_all, scrub_all
from hasim.runner import make_tasks
from hasim.scenario import Scenario
from hasim.sim.run import replicate
from hasim.stack import load
from hasim.verdict import ScenarioVerdict, Verdict, assemble, decide
from hasim.verdict_measure import Measured

__all__ = [
    "CauseChange",
    "Comparison",
    "Difference",
    "FileChange",
    "KnobChange",
    "Move",
    "ScenarioChange",
    "judged",
    "runs",
    "stacks",
]


def runs(before: str | Path, after: str | Path) -> Comparison:
    """Compare two run folders. InputError if one is none.

    Runs under one seed are paired, replication by replication.
    """
    return _compared(read_run(Path(before)), read_run(Path(after)))


def stacks(
    before: str | Path,
    after: str | Path,
    scenarios: str | Path | None = None,
    names: Sequence[str] = (),
    *,
    seed: int | None = None,
    jobs: int = 0,
    tell: Callable[[Done], None] = lambda done: None,
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Compare two folders of config files; with a scenario file also what they live through.

    Both get the same scenarios (default: all of kind run), the same seed and as many replications
    as the first look of each. InputError with all that is wrong in a folder or for one of them.
    """
    if scenarios is None:
        loaded = [load(folder) for folder in (before, after)]
        return _of_stacks((before, after), loaded, (None, None), [_texts(s) for s in loaded])
    projects = [open_project(scenarios, folder) for folder in (before, after)]
    seed = root_seed(projects[0], seed)
    chosen = [[t.scenario for t in make_tasks(p, names, {}, seed)] for p in projects]
    with Bench(jobs=jobs, tell=tell, say=say) as bench:
        say(f"{len(chosen[0])} scenarios on two stacks")
        wanted = [
            (trial(_stack(p), s, seed), range(stats.looks(s.replications)[0]))
            for p, mine in zip(projects, chosen, strict=True)
            for s in mine
        ]
        found = bench.measure(wanted)
    half = len(chosen[0])
    verdicts = _verdicts(projects, chosen, (found[:half], found[half:]), seed)
    loaded = [_stack(p) for p in projects]
    return _of_stacks((before, after), loaded, verdicts, [_texts(s) for s in loaded])


def judged(
    stacks: Sequence[Stack], texts: Sequence[Mapping[str, str]], verdicts: Sequence[Verdict]
) -> Comparison:
    """Compare two stacks and what came of them in memory. texts: their files, as simulated."""
    return _of_stacks(("before", "after"), stacks, verdicts, texts)


def _stack(project: Project) -> Stack:
    assert project.stack is not None
    return project.stack


def _verdicts(
    projects: Sequence[Project],
    chosen: Sequence[Sequence[Scenario]],
    found: Sequence[Sequence[Sequence[Measured]]],
    seed: int,
) -> list[Verdict]:
    """Both judged; the causes of both are those of one replication: the worst of `before`."""
    worst: dict[str, int] = {}
    out = []
    for project, mine, numbers in zip(projects, chosen, found, strict=True):
        stack = _stack(project)
        tasks = make_tasks(project, [s.name for s in mine], {}, seed)
        rows: list[ScenarioVerdict] = []
        for task, scenario, measured in zip(tasks, mine, numbers, strict=True):
            own = task.stack
            one = decide(scenario, own, measured)
            number = worst.setdefault(scenario.name, one.worst)
            causes = explain(scenario, own, replicate(own, scenario, seed, number))
            rows.append(replace(one, causes=causes))
        out.append(assemble(stack, seed, rows, hasim.__version__))
    return out


def _of_stacks(
    names: Sequence[str | Path],
    loaded: Sequence[Stack],
    verdicts: Sequence[Verdict | None],
    texts: Sequence[Mapping[str, str]],
) -> Comparison:
    """Secrets of either side are taken out of both. texts: {path: text} of every file."""
    merged = {f"{i}/{p}": t for i, side in enumerate(texts) for p, t in side.items()}
    copies, secrets = redact_all(merged)
    before, after = (
        of_stack(str(name), stack, {p: copies[f"{i}/{p}"] for p in texts[i]}, verdict)
        for i, (name, stack, verdict) in enumerate(zip(names, loaded, verdicts, strict=True))
    )
    return cast(Comparison, scrub_all(_compared(before, after), secrets))


def _texts(stack: Stack) -> dict[str, str]:
    return {p: _text(Path(stack.folder) / p) for p, _ in stack.inputs}


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _compared(before: Side, after: Side) -> Comparison:
    seeds = None
    if before.verdict and after.verdict:
        seeds = (before.verdict["seed"], after.verdict["seed"])
    return Comparison(
        before.name,
        after.name,
        seeds,
        tuple(dict.fromkeys([*_notes(before, after), *before.notes, *after.notes])),
        tuple(changes.files(before, after)),
        tuple(changes.knobs(before.stack, after.stack)),
        tuple(changes.scenarios(before, after)),
    )


def _notes(before: Side, after: Side) -> list[str]:
    """What keeps the two from being compared in full."""
    out = []
    a, b = before.verdict, after.verdict
    if a.get("seed") != b.get("seed"):
        text = f"seeds {a['seed']} and {b['seed']}: not the same luck, so nothing is paired"
        out.append(f"{text} and intervals are wider")
    if a.get("hasim") != b.get("hasim"):
        out.append(f"hasim {a['hasim']} and {b['hasim']}: a difference may be hasim's own")
    elif (a.get("run") or {}).get("code_sha256") != (b.get("run") or {}).get("code_sha256"):
        out.append("not the same source of hasim: a difference may be hasim's own")
    for one, other, side in ((before, after, before.name), (after, before, after.name)):
        only = [n for n in one.scenarios if n not in other.scenarios]
        if only:
            out.append(f"only in {side}: {', '.join(only)}")
    for name, s in before.scenarios.items():
        now = after.scenarios.get(name)
        if now is not None and s.get("study") != now.get("study"):
            out.append(f"{name} is a study (`set:`) on one side")
    return out
