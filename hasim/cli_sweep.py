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
        before, run_folder = result.stack.folder, f"{options.out}-run"
        names = "".join(f" --scenario {name}" for name in result.scenarios)
        out += [
            "next: what moved and why; then prove all scenarios of the file, and deploy:",
            f"  hasim compare {before} {stack} --scenarios {options.scenarios}{names}",
            f"  hasim run {options.scenarios} --stack {stack} --out {run_folder}",
            f"  hasim export {run_folder} --base {before}",
        ]
    return out
