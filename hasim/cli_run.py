"""`hasim run`: options to a run, progress on stderr, the report in the wanted formats."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hasim.cli_exit import check_stopped, say, usage
from hasim.cli_plan import default_folder, outputs, write
from hasim.errors import Exit, InputError, SimulationBug
from hasim.project import Project, open_project
from hasim.runner import Progress
from hasim.runner import run as simulate
from hasim.verdict import Verdict
from hasim.workers import ReplicationBug

FORMATS = ("text", "json", "junit", "github", "markdown", "html")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says, as typed."""

    scenarios: Path
    names: tuple[str, ...] = ()
    stack: Path | None = None
    seed: int | None = None
    replications: int = 0
    jobs: int = 0
    set_: tuple[str, ...] = ()
    out: Path | None = None
    formats: tuple[str, ...] = ()
    quick: bool = False
    quiet: bool = False
    no_color: bool = False
    requests: bool = False
    everything: bool = False
    strict: bool = False

    @property
    def settings(self) -> dict[str, str]:
        """--set as a map; exit 2 if one is no KNOB=VALUE."""
        made = {}
        for text in self.set_:
            knob, equals, value = text.partition("=")
            if not (knob.strip() and equals):
                usage(f"--set {text}: write KNOB=VALUE; `hasim list knobs` shows the knobs")
            made[knob.strip()] = value.strip()
        return made

    @property
    def outputs(self) -> list[tuple[str, str]]:
        """(format, file or "" for stdout); text unless told, and annotations beside it in CI."""
        made = list(outputs(self.formats, FORMATS))
        alone = [name for name, file in made if not file] == ["text"]
        if os.environ.get("CI") and alone:  # never into JSON for a program
            made.append(("github", ""))
        return made

    @property
    def folder(self) -> Path:
        """The run folder: --out, or out/ and the name of the scenario file."""
        return self.out or default_folder(self.scenarios)


def run(options: Options) -> Exit:
    """Simulate, judge, write, print; the exit code of the verdict."""
    wanted, settings = options.outputs, options.settings
    project = opened(options)
    with _Watch(options) as watch:
        try:
            verdict = simulate(
                project,
                options.names,
                out=options.folder,
                settings=settings,
                seed=options.seed,
                replications=options.replications,
                quick=options.quick,
                jobs=options.jobs,
                keep_requests=options.requests,
                everything=options.everything,
                progress=watch.tell,
                say=watch.say,
            )
        except SimulationBug as bug:
            if isinstance(bug, ReplicationBug):
                bug.add_note(f"to see it again: {replay_command(options, project, bug)}")
            raise
    for name, file in wanted:
        if name == "html":
            write((options.folder / "report.html").read_text(encoding="utf-8"), file)
        else:
            _print(verdict, project, name, file, options.no_color)
    if not options.quiet:
        say(f"results are in {options.folder}/")
    return verdict.exit_code


def opened(options: Options) -> Project:
    """The files; warnings go to stderr, with --strict they end the run."""
    project = open_project(options.scenarios, options.stack)
    if options.strict and project.warnings:
        raise InputError(project.warnings)
    if project.warnings and not options.quiet:
        n = len(project.warnings)
        say(f"{n} warning{'s' if n > 1 else ''}: `hasim check {options.scenarios}` shows them")
    return project


def replay_command(options: Options, project: Project, bug: ReplicationBug) -> str:
    """The command that stops at the same bug: one scenario, up to the replication, no workers."""
    assert project.file is not None
    seed = project.file.seed if options.seed is None else options.seed
    words = ["hasim", "run", str(options.scenarios), bug.scenario]
    if options.stack is not None:
        words += ["--stack", str(options.stack)]
    for text in options.set_:
        words += ["--set", text]
    return shlex.join(
        [*words, "--seed", str(seed), "--replications", str(bug.replication + 1), "--jobs", "1"]
    )


# ---- output --------------------------------------------------------------------------------------
def _print(verdict: Verdict, project: Project, name: str, file: str, no_color: bool) -> None:
    """One format to stdout or to a file."""
    from hasim.report import text

    if name == "text" and not file:
        plain = no_color or os.environ.get("NO_COLOR")
        text.write(verdict, sys.stdout, False if plain else None)
        return
    write(rendered(verdict, project, name), file)


def rendered(verdict: Verdict, project: Project, name: str) -> str:
    """The report in one format. Annotations name files as the checkout sees them."""
    from importlib import import_module

    module = import_module(f"hasim.report.{'json_' if name == 'json' else name}")
    return module.render(located(verdict, project) if name == "github" else verdict)


def located(verdict: Verdict, project: Project) -> Verdict:
    """The verdict with spans as seen from the working directory."""
    moved = []
    for s in verdict.scenarios:
        causes = tuple(replace(c, span=project.here(c.span)) for c in s.causes)
        moved.append(replace(s, causes=causes))
    return replace(verdict, scenarios=tuple(moved))


# ---- progress ------------------------------------------------------------------------------------
class _Watch:
    """Progress on stderr: a bar on a terminal, else one line per finished scenario."""

    def __init__(self, options: Options):
        self.quiet = options.quiet
        self.begun = time.monotonic()
        plain = options.no_color or bool(os.environ.get("NO_COLOR"))
        self.bars = _bars(plain) if sys.stderr.isatty() and not options.quiet else None
        self.rows: dict[str, int] = {}

    def __enter__(self) -> _Watch:
        if self.bars is not None:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def say(self, text: str) -> None:
        """A sentence for whoever waits."""
        if self.bars is not None:
            self.bars.console.print(text, highlight=False, markup=False)
        elif not self.quiet:
            say(text)

    def tell(self, news: Progress) -> None:
        """Called for every piece of work that is done."""
        check_stopped()
        if self.bars is not None:
            if news.scenario not in self.rows:
                self.rows[news.scenario] = self.bars.add_task(news.scenario, total=news.wanted)
            row = self.rows[news.scenario]
            self.bars.update(row, completed=news.done, total=news.wanted)
            if news.verdict is not None:
                self.bars.remove_task(row)
                self.bars.refresh()
        if news.verdict is not None:
            took = time.monotonic() - self.begun
            word = news.verdict.verdict
            self.say(f"{news.scenario}: {word}, {news.done} replications ({took:.0f} s)")


def _bars(plain: bool):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, no_color=plain or None)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True)


# ---- --only-boot ---------------------------------------------------------------------------------
def only_boot(options: Options) -> Exit:
    """Boot each stack of the chosen scenarios once, and tell what came up and what did not."""
    from hasim.only_boot import boot_stacks

    project = opened(options)
    watch = _Watch(replace(options, quiet=True))
    boots = boot_stacks(project, options.names, options.settings, options.seed, watch.say)
    for line in boot_lines(project, boots):
        print(line)
    return Exit.UNDECIDED if any(b.void for b in boots) else Exit.OK


def boot_lines(project: Project, boots: Iterable) -> Iterable[str]:
    """What came up and what did not, with the line that says why."""
    for boot in boots:
        up = [i for i in boot.instances if i.up]
        yield f"{boot.name}: {len(up)} of {len(boot.instances)} up"
        width = max((len(i.name) for i in boot.instances), default=0)
        for one in boot.instances:
            if one.up:
                yield f"  up    {one.name:<{width}}  on {one.host} after {one.after_s:.1f} s"
            else:
                where = project.here(one.span)
                yield f"  DOWN  {one.name:<{width}}  {one.why}" + (f"   {where}" if where else "")
        for why, span in boot.others:
            where = project.here(span)
            yield f"        {why}" + (f"   {where}" if where else "")
        if boot.void:
            yield f"  void: {boot.void}"
