"""`hasim explain` and `hasim compare`: options to answers, and answers in the wanted formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hasim.cli_exit import usage
from hasim.cli_plan import Watch, outputs, show
from hasim.errors import Exit, Finding, InputError
from hasim.project import open_project


def explain(
    scenarios: Path,
    name: str,
    replication: int | None,
    stack: Path | None,
    seed: int | None,
    jobs: int | None,
    formats: Sequence[str] | None,
    quiet: bool,
) -> Exit:
    """Walk one replication and print it; 0 whatever it tells."""
    from hasim.walk import report, walk

    wanted = outputs(formats)
    project = open_project(scenarios, stack)
    watch = Watch(quiet)
    told = walk(
        project, name, replication, seed=seed, jobs=jobs or 0, tell=watch.tell, say=watch.begin
    )
    show(report, wanted, told, project.here)
    return Exit.OK


def compare(
    before: Path,
    after: Path,
    scenarios: Path | None,
    names: Sequence[str],
    seed: int | None,
    jobs: int | None,
    formats: Sequence[str] | None,
    quiet: bool,
) -> Exit:
    """Compare two runs or two stacks; 1 if anything differs."""
    from hasim.compare import report, runs, stacks

    wanted = outputs(formats)
    ran = [(folder / "verdict.json").is_file() for folder in (before, after)]
    if all(ran):
        if scenarios is not None or names or seed is not None:
            usage("--scenarios, --scenario and --seed are for two stacks; these are two runs")
        found = runs(before, after)
    elif any(ran):
        run, other = (before, after) if ran[0] else (after, before)
        text = f"'{run}' is a run folder, '{other}' is none"
        raise InputError([Finding("error", "HA104", text, None, "name two of one kind")])
    else:
        watch = Watch(quiet)
        found = stacks(
            before, after, scenarios, names, seed=seed, jobs=jobs or 0,
            tell=watch.tell, say=watch.begin,
        )  # fmt: skip
    show(report, wanted, found)
    return Exit.DIFFERENCE if found.differs else Exit.OK
