"""A scenario file and its stack as one: everything read, every finding, before anything runs.

Findings name files as seen from where the user stands; a Verdict names files of the stack as seen
from the stack's folder, so that the same stack gives the same bytes wherever it lies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hasim.bind import bind
from hasim.boot import REFUSALS
from hasim.errors import Finding, InputError, did_you_mean
from hasim.model import Instance, Stack
from hasim.read.scenarios import read_scenarios, select
from hasim.read.yaml12 import parse, plain
from hasim.scenario import Scenario, ScenarioFile
from hasim.source import Span
from hasim.stack import load_lenient


@dataclass(frozen=True, slots=True)
class Project:
    """What was read. file is None for a bare stack, stack is None if its files are unusable.

    findings: all of them, spans relative to the working directory. folder: the stack's folder;
    prefix: what goes before the name of a file of the stack ("" or "models/story-portal/").
    path: the scenario file as it was named.
    """

    file: ScenarioFile | None
    stack: Stack | None
    findings: tuple[Finding, ...]
    folder: Path
    prefix: str = ""
    path: Path | None = None

    @property
    def errors(self) -> list[Finding]:
        """Why the files cannot be used. What only keeps the stack from booting is none."""
        return [f for f in self.findings if f.severity == "error" and f.code not in REFUSALS]

    @property
    def warnings(self) -> list[Finding]:
        """Findings that stop nothing."""
        return [f for f in self.findings if f.severity == "warning"]

    @property
    def not_simulated(self) -> list[Instance]:
        """Containers that only hold their ports and names: no profile says what they do."""
        return [i for i in self.stack.instances if i.kind == "other"] if self.stack else []

    def here(self, span: Span | None) -> Span | None:
        """A span of a file of the stack as seen from the working directory."""
        known = dict(self.stack.inputs) if self.stack else {}
        if span is None or span.file not in known or self.prefix == "":
            return span
        return replace(span, file=self.prefix + span.file)


def check(
    path: str | Path, stack: str | Path | None = None, env: Mapping[str, str] | None = None
) -> Project:
    """Read a scenario file with its stack (or with the one in folder `stack`), or a bare stack.

    Never raises for what is in the files: see Project.errors. InputError if there is no `path`.
    """
    path = Path(path)
    if path.is_dir():
        return _read(None, [], path, None, env or {})
    if not path.exists():
        raise InputError([Finding("error", "HA104", f"there is no file or folder '{path}'")])
    if not path.is_file():  # a pipe: it is read more than once, and may never end
        raise InputError([Finding("error", "HA104", f"'{path}' is no regular file")])
    file, found = read_scenarios(path)
    named = stack if stack is not None else _stack_of(file, path)
    if named is None:
        return Project(None, None, tuple(found), path.parent, path=path)
    folder = Path(named) if stack is not None else path.parent / named
    return _read(file, found, folder, path, env or {})


def open_project(
    path: str | Path, stack: str | Path | None = None, env: Mapping[str, str] | None = None
) -> Project:
    """As `check`, but InputError with every error if there is any."""
    project = check(path, stack, env)
    if project.errors:
        raise InputError(project.errors)
    return project


def scenario_file(project: Project) -> ScenarioFile:
    """The scenario file of a project; InputError for a bare folder, which has none."""
    if project.file is not None:
        return project.file
    text = f"'{project.folder}' is a folder: name a scenario file"
    beside = project.folder / "scenarios.yaml"
    hint = f"{beside} is one" if beside.is_file() else "`hasim check` reads a folder without one"
    raise InputError([Finding("error", "HA104", text, None, hint)])


def root_seed(project: Project, asked: int | None) -> int:
    """The seed that was asked for, or else that of the scenario file."""
    return scenario_file(project).seed if asked is None else asked


def planned(project: Project, name: str, kind: str) -> tuple[Scenario, list[Scenario]]:
    """The scenario of kind `kind` of that name, and those of kind run that it is over.

    InputError if there is none, with the names there are.
    """
    file = scenario_file(project)
    known = [s for s in file.scenarios if s.kind == kind and s.plan is not None]
    hit = next((s for s in known if s.name == name), None)
    if hit is None or hit.plan is None:
        names = [s.name for s in known]
        text = f"{file.path} has no scenario '{name}' of kind {kind}"
        other = next((s.kind for s in file.scenarios if s.name == name), "")
        hint = did_you_mean(name, names) or f"known: {', '.join(names) or 'none'}"
        if other:
            text = f"scenario '{name}' of {file.path} is of kind {other}, not {kind}"
            hint = f"`hasim {other}` answers it; of kind {kind}: {', '.join(names) or 'none'}"
        raise InputError([Finding("error", "HA104", text, None, hint)])
    over, found = select(file, hit.plan.over)
    if found:
        raise InputError(found)
    return hit, over


def _read(
    file: ScenarioFile | None,
    found: list[Finding],
    folder: Path,
    path: Path | None,
    env: Mapping[str, str],
) -> Project:
    stack, of_stack = load_lenient(folder, env)
    prefix = _prefix(folder)
    seen = [replace(f, span=_prefixed(f.span, prefix)) for f in of_stack]
    project = Project(file, stack, (*found, *seen), folder, prefix, path)
    if file is None or stack is None or project.errors:
        return project
    file, bound = bind(file, stack)
    return replace(project, file=file, findings=tuple(dict.fromkeys([*found, *seen, *bound])))


def _prefix(folder: Path) -> str:
    """The folder as seen from the working directory; nothing of the machine above it."""
    here = Path.cwd()
    if folder.is_absolute():
        if not folder.is_relative_to(here):
            return ""
        folder = folder.relative_to(here)
    text = folder.as_posix()
    return "" if text == "." else f"{text}/"


def _prefixed(span: Span | None, prefix: str) -> Span | None:
    return replace(span, file=prefix + span.file) if span and prefix else span


# ---- inputs --------------------------------------------------------------------------------------
def inputs(project: Project) -> list[tuple[str, str, str]]:
    """(path, text, sha256) of every file that was read.

    Files of the stack are named from its folder, others from the working directory. OSError if one
    has gone in the meantime.
    """
    assert project.stack is not None
    stack = project.stack.inputs
    found = [_input(name, project.folder / name) for name, _ in stack]
    if project.file is None or project.path is None:
        return found
    known = {(project.folder / name).resolve() for name, _ in stack}
    here = Path(project.file.path).parent
    for path in [project.path, *_scripts(project.path)]:
        if path.resolve() not in known:
            shown = here / path.relative_to(project.path.parent)
            found.append(_input(shown.as_posix(), path))
    return found


def _stack_of(file: ScenarioFile | None, path: Path) -> str | None:
    """The folder that a scenario file names, even if the rest of it cannot be used."""
    if file is not None:
        return file.stack
    tree = _tree(path)
    named = tree.get("stack") if isinstance(tree, dict) else None
    return named if isinstance(named, str) and "\0" not in named else None


def _tree(path: Path) -> Any:
    """A YAML file as plain dicts and lists, as far as it can be read."""
    try:
        node, _ = parse(path.read_bytes(), path.name)
    except OSError:
        return None
    return plain(node) if node else None


def _scripts(path: Path) -> list[Path]:
    """The k6 scripts that loads and budgets come `from`: beside the file, or in its stack."""
    tree = _tree(path)
    names = dict.fromkeys(_values(tree, "from"))
    places = ("", tree["stack"]) if isinstance(tree, dict) else ()
    found = []
    for name in names:
        hits = [path.parent / folder / name for folder in places]
        found += [hit for hit in hits if hit.is_file()][:1]
    return found


def _values(tree: Any, key: str) -> Iterator[str]:
    """The texts under a key, anywhere in a tree."""
    if isinstance(tree, dict):
        if isinstance(tree.get(key), str):
            yield tree[key]
        tree = list(tree.values())
    if isinstance(tree, list):
        for child in tree:
            yield from _values(child, key)


def _input(name: str, path: Path) -> tuple[str, str, str]:
    data = path.read_bytes()
    return name, data.decode("utf-8", "surrogateescape"), hashlib.sha256(data).hexdigest()
