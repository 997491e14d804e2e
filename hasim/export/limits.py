"""Resource limits of a capacity result, put into the user's compose files and run again.

The evidence is about the bytes that are exported. So other limits mean another run of every
scenario, with the seed and the replications of the one that was handed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hasim.errors import Finding, InputError, SimulationBug
from hasim.export import gate
from hasim.export.verdict_form import read_verdict
from hasim.model import Stack
from hasim.project import Project, open_project
from hasim.report import json_
from hasim.runner import Progress, run

Say = Callable[[str], None]


class _Amount(BaseModel):
    model_config = ConfigDict(extra="ignore")
    instances: int = Field(ge=0)
    cores: float = Field(ge=0, allow_inf_nan=False)
    memory_bytes: int = Field(ge=0)


class _Size(BaseModel):
    model_config = ConfigDict(extra="ignore")
    service: str
    given: _Amount
    needed: _Amount | None
    recommended: _Amount
    containers: list[str]


class _Sizing(BaseModel):
    model_config = ConfigDict(extra="ignore")
    sizes: list[_Size]


class _Capacity(BaseModel):
    model_config = ConfigDict(extra="ignore")
    sizings: list[_Sizing] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """sizes: {service: (cpus, memory_bytes)}. settings: {knob: value} that bring them about.

    notes: what no limit can do, as sentences.
    """

    sizes: dict[str, tuple[float, int]]
    settings: dict[str, str]
    notes: tuple[str, ...]


def read(path: Path, stack: Stack) -> Limits:
    """The limits of a capacity result (its folder, or capacity.json). InputError if it is none."""
    path = path / "capacity.json" if path.is_dir() else path
    try:
        sizes = _Capacity.model_validate(json.loads(path.read_bytes())).sizings[0].sizes
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        text = f"'{path}' is no result of `hasim capacity` ({type(error).__name__})"
        raise InputError([Finding("error", "HA104", text)]) from None
    wanted = [s for s in sizes if s.needed is not None]
    notes = [
        f"{s.service}: {s.recommended.instances} instances are recommended, not"
        f" {s.given.instances}; `set: {{replicas.{s.service}: {s.recommended.instances}}}` tries it"
        for s in wanted
        if s.recommended.instances != s.given.instances
    ]
    made = {s.service: (s.recommended.cores, s.recommended.memory_bytes) for s in wanted}
    settings = {k: v for s in wanted for k, v in _settings(s, stack)}
    return Limits(made, settings, tuple(notes))


def _settings(size: _Size, stack: Stack) -> Iterator[tuple[str, str]]:
    """Only what differs: a value that stays keeps the text that the user gave it."""
    known = {k.name for k in stack.knobs}
    of = {i.compose_service or i.name: i for i in stack.instances}
    for name in size.containers:
        one, to = of.get(name), size.recommended
        if one is None:
            continue
        knob = f"compose.{name}.cpus"
        if knob in known and to.cores > 0 and one.cpus != to.cores:
            yield knob, f"{to.cores:g}"
        knob = f"compose.{name}.mem_limit"
        if knob in known and to.memory_bytes > 0 and one.mem_limit_bytes != to.memory_bytes:
            yield knob, str(to.memory_bytes)


def run_again(proof: gate.Proof, folder: Path, jobs: int, say: Say) -> gate.Proof:
    """The proof for the files in `folder`: every scenario runs. Refused if one does not pass."""
    path = proof.project.path
    if path is None:
        raise SimulationBug("a proof without a scenario file")
    project = open_project(path, folder)
    document = _run(project, proof.document, jobs, say)
    return gate.Proof(document, _named(project, proof.project), 0)


def _run(project: Project, said: dict[str, Any], jobs: int, say: Say) -> dict[str, Any]:
    def tell(news: Progress) -> None:
        if news.verdict is not None:
            say(f"{news.scenario}: {news.verdict.verdict}")

    say("running every scenario with these limits")
    asked = said["run"]["replications"]
    verdict = run(project, seed=said["seed"], replications=asked, jobs=jobs, progress=tell, say=say)
    document, form = read_verdict(json_.render(verdict).encode())
    reasons = list(gate.judged(form, document))
    if reasons:
        gate.refuse("the run with the limits of the capacity result", reasons)
    return document


def _named(project: Project, before: Project) -> Project:
    """The stack keeps the name that its folder gave it."""
    assert project.stack is not None
    assert before.stack is not None
    return replace(project, stack=replace(project.stack, name=before.stack.name))
