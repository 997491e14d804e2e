"""What commands share: options, progress with the time left, output in the wanted formats."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hasim.cli_exit import check_stopped, say, usage
from hasim.errors import Exit
from hasim.plan.journal import NAME as JOURNAL

if TYPE_CHECKING:
    from hasim.plan.trials import Done

FORMATS = ("text", "json", "markdown")
EXITS = {"pass": Exit.OK, "fail": Exit.BUDGET, "undecided": Exit.UNDECIDED}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says, as typed."""

    scenarios: Path
    name: str
    stack: Path | None
    seed: int | None
    jobs: int
    out: Path
    formats: tuple[tuple[str, str], ...]  # (format, file or "" for stdout)
    fresh: bool
    quiet: bool


def options(
    scenarios: Path,
    name: str,
    stack: Path | None,
    seed: int | None,
    jobs: int | None,
    out: Path | None,
    formats: Sequence[str] | None,
    fresh: bool,
    quiet: bool,
) -> Options:
    """The options with their defaults; exit 2 for an unknown format."""
    out = out or default_folder(scenarios, name)
    made = outputs(formats)
    return Options(scenarios, name, stack, seed, jobs or 0, out, made, fresh, quiet)


def default_folder(scenarios: Path, name: str = "") -> Path:
    """out/ and the names of the scenario file, of its folder if it is elsewhere, and of the plan.

    With the folder's name the scenarios.yaml of two stacks do not replace each other's results.
    """
    home = scenarios.resolve().parent
    names = ["" if home == Path.cwd() else home.name, scenarios.stem, name]
    return Path("out") / "-".join(filter(None, names))


def journal(options: Options) -> Path:
    """Where finished runs are kept, so that a command goes on where it was killed."""
    path = options.out / JOURNAL
    if options.fresh:
        path.unlink(missing_ok=True)
    return path


def outputs(
    formats: Sequence[str] | None, known: Sequence[str] = FORMATS
) -> tuple[tuple[str, str], ...]:
    """(format, file or "" for stdout) of each `--format`; text unless told. Exit 2: unknown."""
    made = []
    for text in formats or ():
        form, _, file = text.partition("=")
        if form not in known:
            usage(f"--format {form}: one of {', '.join(known)}")
        made.append((form, file))
    if all(file for _, file in made):
        made.append(("text", ""))
    return tuple(made)


def show(report: Any, formats: Sequence[tuple[str, str]], *found: Any) -> None:
    """Each wanted format of a report module, whose functions have the formats' names."""
    for form, file in formats:
        write(getattr(report, form)(*found), file)


def write(rendered: str, file: str) -> None:
    """One rendered report to stdout, or to a file."""
    if not file:
        sys.stdout.write(rendered)
        return
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(rendered, encoding="utf-8", errors="surrogateescape")


class Watch:
    """Progress on stderr: a line that is rewritten on a terminal, else one every ten seconds."""

    EVERY_S = 10.0

    def __init__(self, quiet: bool):
        self.quiet = quiet
        self.live = sys.stderr.isatty() and not quiet
        self.told = time.monotonic()
        self.stage = ""

    def begin(self, stage: str) -> None:
        """A new stage of the work, in a few words."""
        self.stage = stage
        self.say(stage)

    def say(self, text: str) -> None:
        """A sentence for whoever waits."""
        if not self.quiet:
            say(f"\r\x1b[K{text}" if self.live else text)

    def tell(self, done: Done) -> None:
        """Called after every piece of work."""
        check_stopped()
        now = time.monotonic()
        if self.quiet or now - self.told < (0.2 if self.live else self.EVERY_S):
            return
        self.told = now
        text = f"{self.stage}: {done.done} of {done.wanted} runs, about {done.left_s:.0f} s left"
        if self.live:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        else:
            say(text)
