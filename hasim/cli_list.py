"""`hasim list`: what can be named in a scenario file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hasim.source import Span

if TYPE_CHECKING:
    from hasim.model import Stack
    from hasim.project import Project


def show(what: str, path: Path, stack: Path | None) -> None:
    """Print one list, a row each, columns aligned."""
    rows = {
        "components": components,
        "metrics": metrics,
        "faults": faults,
    }.get(what)
    if rows is not None:
        _print(rows())
        return
    from hasim.project import open_project

    project = open_project(path, stack)
    if what == "scenarios":
        _print(scenarios(project))
    elif project.stack is not None:
        _print(targets(project.stack) if what == "targets" else knobs(project, project.stack))


def _print(rows: Iterable[Sequence[str]]) -> None:
    from hasim.report.text import columns

    for line in columns(rows):
        print(line)


def scenarios(project: Project) -> Iterable[Sequence[str]]:
    """name, kind, doc."""
    from hasim.project import scenario_file

    for s in scenario_file(project).scenarios:
        later = s.kind != "run" and s.plan is None
        yield s.name, s.kind, "not in this version" if later else " ".join(s.doc.split())


def targets(stack: Stack) -> Iterable[Sequence[str]]:
    """target, what it selects."""
    from hasim.targets import list_targets

    return list_targets(stack)


def knobs(project: Project, stack: Stack) -> Iterable[Sequence[str]]:
    """knob, value in force, how a change takes effect, where it stands."""
    for k in stack.knobs:
        origin = project.here(k.origin) if isinstance(k.origin, Span) else k.origin
        yield k.name, k.value, k.effect, str(origin)


def components() -> Iterable[Sequence[str]]:
    """kind, the files it reads."""
    from hasim.components.base import components as found

    for kind, component in found().items():
        yield kind, ", ".join(component.reads)


def metrics() -> Iterable[Sequence[str]]:
    """metric, aggregates, tags, meaning; those of later versions are left out."""
    from hasim.budgets import METRICS
    from hasim.metrics import MEASURES

    for m in METRICS.values():
        if not m.later and m.name in MEASURES:
            aggregates = " ".join("p(..)" if a == "p" else a for a in m.aggregates)
            yield m.name, aggregates, " ".join(m.tags), m.doc


def faults() -> Iterable[Sequence[str]]:
    """verb, its arguments, meaning."""
    from hasim.read.scenario_faults import VERBS

    for name, verb in VERBS.items():
        yield name, " ".join(verb.args), verb.doc
