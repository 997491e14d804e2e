"""One side of a comparison: a run folder as it was written, or a stack that was just run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hasim.errors import Finding, InputError
from hasim.model import Stack
from hasim.report.json_ import SCHEMA, document
from hasim.report.runfolder import REPLICATIONS, inside, read_measures
from hasim.report.seal import SUMS, broken
from hasim.stack import load_lenient
from hasim.verdict import Verdict
from hasim.verdict_measure import Measured

TOP = ("hasim", "seed", "inputs", "scenarios")  # keys of verdict.json


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
        verdict = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _foreign(folder, "it has no verdict.json that can be read") from error
    if not isinstance(verdict, dict) or verdict.get("schema") != SCHEMA:
        raise _foreign(folder, f"its verdict.json is not of schema {SCHEMA}")
    if missing := _missing(verdict):
        raise _foreign(folder, f"its verdict.json has no {missing}")
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
    if (verdict.get("run") or {}).get("provisional"):
        notes.append(f"{folder} is provisional (--quick)")
    stack, _ = load_lenient(folder / "inputs")
    if stack is None:
        notes.append(f"{folder}: its copies do not read as a stack, so knobs are not compared")
    return Side(str(folder), verdict, measured, files, hashes, stack, tuple(notes))


def _missing(verdict: Mapping[str, Any]) -> str:
    """The first key that is read from a verdict.json and is not there, or ""."""
    rows = {
        "inputs": ("path", "sha256"),
        "scenarios": ("name", "verdict", "replications", "budgets", "causes"),
        "budgets": ("metric", "tags", "threshold", "observed", "ci", "verdict"),
        "causes": ("text", "file", "line", "col", "seconds", "requests"),
    }
    todo: list[tuple[Any, tuple[str, ...]]] = [(verdict, TOP)]
    for found, keys in todo:
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                return key
            if key in rows and isinstance(found[key], list):
                todo += [(row, rows[key]) for row in found[key]]
            elif key in rows:
                return key
    return ""


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
