"""`hasim sweep`: options to a sweep, its folder, the report, and what to do next."""

from __future__ import annotations

from pathlib import Path

from hasim import cli_plan
from hasim.errors import Exit
from hasim.plan import sweep_files, sweep_report
from hasim.plan.sweep import SweepResult, run_sweep
from hasim.project import open_project


def run(options: cli_plan.Options) -> Exit:
    """Sweep, write the folder, print; 0 if a passing point was found, 99 if none, 3 undecided."""
    project = open_project(options.scenarios, options.stack)
    sweep_files.check_out(options.out, project.folder)
    watch = cli_plan.Watch(options.quiet)
    result = run_sweep(
        project,
        options.name,
        seed=options.seed,
        jobs=options.jobs,
        journal=cli_plan.journal(options),
        tell=watch.tell,
        begin=watch.begin,
        say=watch.say,
    )
    sweep_files.write(result, options.out)
    if result.outcome == "pass" and result.plan.export:
        sweep_files.export(result, Path(result.plan.export))
    cli_plan.show(sweep_report, options.formats, result)
    if not options.quiet:
        for line in _next(options, result):
            watch.say(line)
    return cli_plan.EXITS[result.outcome]


def _next(options: cli_plan.Options, result: SweepResult) -> list[str]:
    """Where everything is, and the commands that come next."""
    out = [f"results are in {options.out}/"]
    if result.outcome == "pass" and result.best and result.best.settings:
        stack = result.plan.export or f"{options.out}/stack"
        names = " ".join(result.scenarios)
        run_folder = f"{options.out}-run"
        out += [
            "next, to make sure and to deploy:",
            f"  hasim run {options.scenarios} --stack {stack} --out {run_folder}"
            f"    # or only: {names}",
            f"  hasim export {run_folder} --base {result.stack.folder}",
        ]
    return out
