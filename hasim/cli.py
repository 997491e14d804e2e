"""The command line: a thin layer over hasim.runner and hasim.project.

Heavy modules are imported inside the commands, so that `hasim --help` and `hasim check` are quick.
Exit codes: hasim.errors.Exit.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hasim.cli_exit import guarded

app = typer.Typer(
    name="hasim",
    help="Simulates a highly available stack from its own config files and judges it by budgets.",
    epilog="Exit codes: 0 ok, 1 findings, 2 wrong flags, 3 undecided, 4 refused, 70 a bug of "
    "hasim, 99 a budget failed, 104 invalid input, 105 interrupted.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class FailOn(StrEnum):
    """From which severity on `check` ends with exit code 1."""

    error = "error"
    warning = "warning"
    never = "never"


class CheckFormat(StrEnum):
    """How `check` prints its findings."""

    text = "text"
    json = "json"
    github = "github"


class Series(StrEnum):
    """How much series.csv.gz and timeline.csv.gz hold."""

    services = "services"
    all = "all"


class What(StrEnum):
    """What `list` can list."""

    scenarios = "scenarios"
    targets = "targets"
    knobs = "knobs"
    components = "components"
    metrics = "metrics"
    faults = "faults"


def _version(wanted: bool) -> None:
    if wanted:
        import hasim

        typer.echo(f"hasim {hasim.__version__}")
        raise typer.Exit


@app.callback()
def hasim_(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Simulates a highly available stack from its own config files and judges it by budgets."""


ScenarioFile = Annotated[Path, typer.Argument(help="The scenario file, such as scenarios.yaml.")]
StackDir = Annotated[
    Path | None, typer.Option("--stack", metavar="DIR", help="Another folder of config files.")
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Run folder; by default out/[<folder>-]<file>.")
]
Seed = Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Root seed.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Worker processes; default: one per core.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
# Commands whose reports have no colour take it too: scripts give every command the same flags.
NoColor = Annotated[bool, typer.Option("--no-color", help="As NO_COLOR=1.")]
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", metavar="FORMAT[=FILE]", help="text, json or markdown; repeatable."),
]
PlanOut = Annotated[
    Path | None, typer.Option(metavar="DIR", help="By default out/[<folder>-]<file>-<name>.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run has finished.")]


@app.command()
@guarded
def run(
    scenarios: ScenarioFile,
    name: Annotated[
        list[str] | None, typer.Argument(help="Scenarios to run; by default all of kind 'run'.")
    ] = None,
    stack: StackDir = None,
    seed: Seed = None,
    replications: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="One look at N replications.")
    ] = None,
    jobs: Jobs = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KNOB=VALUE", help="Set a knob: makes the run a study."),
    ] = None,
    out: Out = None,
    format_: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT[=FILE]",
            help="text, json, junit, github, markdown or html; may be given more than once.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth; provisional.")] = False,
    quiet: Quiet = False,
    no_color: NoColor = False,
    only_boot: Annotated[
        bool, typer.Option("--only-boot", help="Boot once and tell what comes up; no load.")
    ] = False,
    requests: Annotated[bool, typer.Option("--requests", help="Write requests.csv.gz.")] = False,
    series: Annotated[
        Series, typer.Option(help="all: every container, server and timeline row.")
    ] = Series.services,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings of files are errors.")] = False,
) -> None:
    """Simulate the scenarios, judge their budgets and write the run folder."""
    from hasim import cli_run

    options = cli_run.Options(
        scenarios=scenarios,
        names=tuple(name or ()),
        stack=stack,
        seed=seed,
        replications=replications or 0,
        jobs=jobs or 0,
        set_=tuple(set_ or ()),
        out=out,
        formats=tuple(format_ or ()),
        quick=quick,
        quiet=quiet,
        no_color=no_color,
        requests=requests,
        everything=series is Series.all,
        strict=strict,
    )
    raise typer.Exit(cli_run.only_boot(options) if only_boot else cli_run.run(options))


@app.command()
@guarded
def sweep(
    scenarios: ScenarioFile,
    name: Annotated[str, typer.Argument(help="A scenario of kind sweep.")],
    stack: StackDir = None,
    seed: Seed = None,
    jobs: Jobs = None,
    out: PlanOut = None,
    format_: Formats = None,
    fresh: Fresh = False,
    quiet: Quiet = False,
    no_color: NoColor = False,
) -> None:
    """Find settings that meet the budgets: Pareto set, a recommended point, what each knob does."""
    from hasim import cli_plan, cli_sweep

    options = cli_plan.options(scenarios, name, stack, seed, jobs, out, format_, fresh, quiet)
    raise typer.Exit(cli_sweep.run(options))


@app.command()
@guarded
def capacity(
    scenarios: ScenarioFile,
    name: Annotated[str, typer.Argument(help="A scenario of kind capacity.")],
    stack: StackDir = None,
    seed: Seed = None,
    jobs: Jobs = None,
    out: PlanOut = None,
    format_: Formats = None,
    fresh: Fresh = False,
    quiet: Quiet = False,
    no_color: NoColor = False,
) -> None:
    """Say how much load the stack carries, which budget breaks first, and what it needs."""
    from hasim import cli_capacity, cli_plan

    options = cli_plan.options(scenarios, name, stack, seed, jobs, out, format_, fresh, quiet)
    raise typer.Exit(cli_capacity.run(options))


@app.command()
@guarded
def export(
    run_folder: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run folder that passed.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Where the deployable files go.")
    ] = Path("out/deploy"),
    stack: StackDir = None,
    base: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The files as deployed now, if they are not the run's."),
    ] = None,
    capacity: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take resource limits from this result.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Compare deployed files with the evidence.")
    ] = None,
    require_validators: Annotated[
        bool, typer.Option("--require-validators", help="An absent validator is a refusal.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write the deployable files of a run that passed, with diff, evidence and checklist."""
    from hasim import cli_export

    raise typer.Exit(
        cli_export.export(run_folder, out, stack, base, capacity, check, require_validators, quiet)
    )


@app.command()
@guarded
def explain(
    scenarios: ScenarioFile,
    name: Annotated[str, typer.Argument(help="A scenario of kind run.")],
    replication: Annotated[
        int | None, typer.Option(min=0, help="Which one; by default the worst of ten.")
    ] = None,
    stack: StackDir = None,
    seed: Seed = None,
    jobs: Jobs = None,
    format_: Formats = None,
    quiet: Quiet = False,
    no_color: NoColor = False,
) -> None:
    """Walk one replication: who noticed what when, which line set each delay, what it cost."""
    from hasim import cli_review

    raise typer.Exit(
        cli_review.explain(scenarios, name, replication, stack, seed, jobs, format_, quiet)
    )


@app.command()
@guarded
def compare(
    before: Annotated[Path, typer.Argument(help="A run folder, or a folder of config files.")],
    after: Annotated[Path, typer.Argument(help="The same kind of folder.")],
    scenarios: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For two stacks: the scenarios to run on both."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--scenario", metavar="NAME", help="Only these; repeatable.")
    ] = None,
    seed: Seed = None,
    jobs: Jobs = None,
    format_: Formats = None,
    quiet: Quiet = False,
    no_color: NoColor = False,
) -> None:
    """Say which files differ, which budgets moved, by how much, and why."""
    from hasim import cli_review

    raise typer.Exit(
        cli_review.compare(before, after, scenarios, tuple(name or ()), seed, jobs, format_, quiet)
    )


@app.command()
@guarded
def check(
    path: Annotated[Path, typer.Argument(help="A folder of config files, or a scenario file.")],
    stack: StackDir = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 from this severity on.")
    ] = FailOn.error,
    format_: Annotated[
        CheckFormat, typer.Option("--format", help="How to print.")
    ] = CheckFormat.text,
) -> None:
    """Read the files and tell what is wrong, what cannot boot, what is not simulated."""
    from hasim import cli_check

    raise typer.Exit(cli_check.check(path, stack, fail_on.value, format_.value))


@app.command("list")
@guarded
def list_(
    what: Annotated[What, typer.Argument(help="What to list.")],
    path: Annotated[
        Path, typer.Argument(help="Scenario file, or for targets and knobs a folder, too.")
    ] = Path("scenarios.yaml"),
    stack: StackDir = None,
) -> None:
    """List what can be named in a scenario file."""
    from hasim import cli_list

    cli_list.show(what.value, path, stack)


@app.command()
@guarded
def schema() -> None:
    """Print the JSON Schema of scenario files."""
    from importlib.resources import files

    typer.echo(files("hasim").joinpath("schema/scenarios.json").read_text("utf-8"), nl=False)
