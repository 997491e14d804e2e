"""What every call has in common: a stack with its scenarios, and a word to whoever waits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hasim.api.stack import Stack, load
from hasim.plan.trials import Done
from hasim.project import Project, open_project, scenario_file


def project_of(stack: Stack | str | Path, scenarios: str | Path) -> Project:
    """The scenarios of a file bound to a stack, the knobs that were set on it in force."""
    stack = stack if isinstance(stack, Stack) else load(stack)
    project = open_project(scenarios, stack.folder)
    if not stack.settings:
        return project
    file = scenario_file(project)
    runs = (replace(s, settings={**s.settings, **stack.settings}) for s in file.scenarios)
    return replace(project, stack=stack.model, file=replace(file, scenarios=tuple(runs)))


@contextmanager
def line() -> Iterator[Callable[[str], None]]:
    """One line on stderr, rewritten; nothing where stderr is no terminal, as in notebooks."""
    live = sys.stderr.isatty()

    def tell(text: str) -> None:
        if live:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    try:
        yield tell
    finally:
        tell("")


def told(tell: Callable[[str], None]) -> Callable[[Done], None]:
    """Progress of a Bench."""
    return lambda d: tell(f"{d.done} of {d.wanted} runs, about {d.left_s:.0f} s left")
