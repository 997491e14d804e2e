"""One side of a comparison: a run folder as it was written, or a stack that was just run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hasim.errors import Finding, InputError
from hasim.model import Stack
from hasim.report.json_ import document
from hasim.report.runfolder import REPLICATIONS, inside, read_measures
from hasim.report.seal import SUMS, broken
from hasim.report.verdict_form import VerdictForm, read_form
from hasim.stack import load_lenient
from hasim.verdict import Verdict
from hasim.verdict_measure import Measured


@dataclass(frozen=True)
class Side:
    """verdict: verdict.json as plain values. measured: scenario -> replication -> numbers.

    files: {path: redacted text}; hashes: {path: sha256 of the original}. stack: for its knobs.
    """

    name: str
    verdict: Mapping[str, Any]
    measured: Mapping[str, Mapping[int, Measured]]
    files: Mapping[str, str]
    hashes: Mapping[str, str]
    stack: Stack | None
    notes: tuple[str, ...] = field(default=())

    @property
    def scenarios(self) -> dict[str, Mapping[str, Any]]:
        """Scenarios of the verdict by name."""
        return {s["name"]: s for s in self.verdict.get("scenarios", ())}


def read_run(folder: Path) -> Side:
    """A run folder. InputError if it is none, or if another version of the format wrote it."""
    path = folder / "verdict.json"
    try:
        verdict, form = read_form(path.read_bytes(), VerdictForm)
    except OSError as error:
        raise _foreign(folder, "it has no verdict.json that can be read") from error
    except ValueError as error:
        raise _foreign(folder, f"verdict.json: {error}") from error
    hashes = {i["path"]: i["sha256"] for i in verdict["inputs"]}
    files = {}
    for name in hashes:
        copy = folder / "inputs" / inside(name)
        if copy.is_file():
            files[name] = copy.read_bytes().decode("utf-8", "surrogateescape")
    notes = []
    measured = _replications(folder)
    if not measured and verdict["scenarios"]:
        notes.append(f"{folder}: no {REPLICATIONS}, so differences come from two intervals")
    if (folder / SUMS).is_file() and (changed := broken(folder)):
        notes.append(f"{folder} was edited after the run: {', '.join(changed[:3])}")
    if form.run.provisional:
        notes.append(f"{folder} is provisional (--quick)")
    stack, _ = load_lenient(folder / "inputs")
    if stack is None:
        notes.append(f"{folder}: its copies do not read as a stack, so knobs are not compared")
    return Side(str(folder), verdict, measured, files, hashes, stack, tuple(notes))


def _foreign(folder: Path, why: str) -> InputError:
    text = f"'{folder}' is no run folder of hasim: {why}"
    hint = "`hasim run` writes one; two folders of config files are compared as stacks"
    return InputError([Finding("error", "HA104", text, None, hint)])


def _replications(folder: Path) -> dict[str, dict[int, Measured]]:
    """scenario -> replication -> numbers; empty if the file is not there or not whole."""
    try:
        found = read_measures(folder / REPLICATIONS)
    except ValueError:
        return {}
    return {name: {m.replication: m for m in runs} for name, runs in found.items()}


def of_stack(
    name: str, stack: Stack, files: Mapping[str, str], verdict: Verdict | None = None
) -> Side:
    """A stack and, if scenarios were run, what came of it. files: redacted copies."""
    told = document(verdict) if verdict is not None else {}
    judged = verdict.scenarios if verdict is not None else ()
    measured = {s.name: {m.replication: m for m in s.measured} for s in judged}
    return Side(name, told, measured, files, dict(stack.inputs), stack)
