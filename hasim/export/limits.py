"""Limits and numbers of instances of a capacity result, put into the user's files and run again.

The evidence is about the bytes that are exported. So other sizes mean another run of every
scenario, with the seed and the replications of the one that was handed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hasim.errors import Exit, Finding, InputError, SimulationBug
from hasim.export import gate
from hasim.model import Stack
from hasim.plan.sizing_groups import groups
from hasim.project import Project, open_project
from hasim.report import json_
from hasim.report.verdict_form import VerdictForm, read_form
from hasim.runner import Progress, run
from hasim.stack import patched, with_settings

Say = Callable[[str], None]
# Never given less memory than they have: their data grow for months, a simulation lasts minutes.
STORES = ("redis", "patroni", "postgres", "etcd")


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


class _Sizing(BaseModel):
    model_config = ConfigDict(extra="ignore")
    users: float = Field(allow_inf_nan=False)
    recommended_met: bool
    missing: list[str]
    not_survived: list[str]
    sizes: list[_Size]


class _Capacity(BaseModel):
    model_config = ConfigDict(extra="ignore")
    unit: str
    stack_sha256: str
    sizings: list[_Sizing] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is recommended. sizes: {service: (cpus, memory_bytes)}. counts: {knob: instances}, where
    another number is recommended. notes: what nobody but people can do, and what to know.
    """

    sizes: dict[str, tuple[float, int]]
    counts: dict[str, str]
    notes: tuple[str, ...]


def read(path: Path, stack: Stack) -> Limits:
    """The sizes of a capacity result (its folder, or capacity.json). InputError if it is none,
    Refused if no simulation has shown that they are enough.
    """
    path = path / "capacity.json" if path.is_dir() else path
    try:
        found = _Capacity.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        text = f"'{path}' is no result of `hasim capacity` ({type(error).__name__})"
        raise InputError([Finding("error", "HA104", text)]) from None
    sizing = found.sizings[0]
    load = f"{sizing.users:g} {found.unit}"
    if not sizing.recommended_met:
        text = f"no simulation shows that the recommended sizes keep the budgets at {load}"
        mend = "; ".join(sizing.missing) or "ask `hasim capacity` for fewer users"
        gate.refuse(path, [gate.Reason("not carried", Exit.BUDGET, text, mend)])
    wanted = [s for s in sizing.sizes if s.needed is not None]
    moved = [s for s in wanted if s.recommended.instances != s.given.instances]
    known = {k.name for k in stack.knobs}
    counts, notes = {}, []
    for one in moved:
        many = f"{one.recommended.instances} instances are recommended, not {one.given.instances}"
        if f"replicas.{one.service}" in known:
            counts[f"replicas.{one.service}"] = str(one.recommended.instances)
            notes.append(f"{one.service}: {many}: changed")
        else:
            notes.append(f"{one.service}: {many}: that is for you to do")
    if found.stack_sha256 != stack.sha256:
        notes.append("the capacity result is about other files than those of the run")
    if sizing.not_survived:
        notes.append(f"no size survives the loss of {', '.join(sizing.not_survived)}")
    made = {s.service: (s.recommended.cores, s.recommended.memory_bytes) for s in wanted}
    kinds = {group.name: group.members[0].kind for group in groups(stack)}
    for one in wanted:
        least = one.given.memory_bytes
        if kinds.get(one.service) in STORES and one.recommended.memory_bytes < least:
            made[one.service] = one.recommended.cores, least
            kept = f"keeps its {least >> 20} MiB: what it stores outgrows any simulation"
            notes.append(f"{one.service} {kept}")
    return Limits(made, counts, tuple(notes))


def resized(limits: Limits, folder: Path, stack: Stack) -> dict[str, str]:
    """{path: text} of every file that was read, with the sizes in it; the same where all fits."""
    stack = with_settings(folder, limits.counts) if limits.counts else stack
    return patched(folder, limits.counts | dict(settings(limits, stack)))


def settings(limits: Limits, stack: Stack) -> Iterator[tuple[str, str]]:
    """Only what differs: a value that stays keeps the text that the user gave it."""
    known = {k.name for k in stack.knobs}
    for group in groups(stack):
        cores, memory_bytes = limits.sizes.get(group.name, (0.0, 0))
        for one in group.members:
            knob = f"compose.{one.compose_service}.cpus"
            if knob in known and cores > 0 and one.cpus != cores:
                yield knob, f"{cores:g}"
            knob = f"compose.{one.compose_service}.mem_limit"
            if knob in known and memory_bytes > 0 and one.mem_limit_bytes != memory_bytes:
                yield knob, str(memory_bytes)


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

    say("running every scenario with these sizes")
    asked = said["run"]["replications"]
    verdict = run(project, seed=said["seed"], replications=asked, jobs=jobs, progress=tell, say=say)
    document, form = read_form(json_.render(verdict).encode(), VerdictForm)
    reasons = list(gate.judged(form))
    if reasons:
        gate.refuse("the run with the sizes of the capacity result", reasons)
    return document


def _named(project: Project, before: Project) -> Project:
    """The stack keeps the name that its folder gave it."""
    assert project.stack is not None
    assert before.stack is not None
    return replace(project, stack=replace(project.stack, name=before.stack.name))
