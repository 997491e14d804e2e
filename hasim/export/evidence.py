"""EVIDENCE.json (schema 1, docs/export.md): what was proved, by which run, for which bytes.

No time of day, no path of the machine, no secret. `check` compares files with it later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

import hasim
from hasim.errors import Exit, Finding, InputError, Refused
from hasim.export.base import Check, Deploy
from hasim.read.scenarios import select
from hasim.report.json_ import dumps
from hasim.report.seal import code_hash, differences, hashes
from hasim.report.verdict_form import SHA256, read_form
from hasim.stack import load_lenient

NAME = "EVIDENCE.json"
SCHEMA = 1
OWN = "stack/"  # the user's own files, inside of an export
# of a budget row of verdict.json, what the evidence repeats
ROW = ("metric", "tags", "threshold", "observed", "ci", "limit", "margin", "verdict", "waived_by")


def document(
    deploy: Deploy, checks: Sequence[Check], files: Mapping[str, str], replayed: int
) -> dict[str, Any]:
    """EVIDENCE.json as plain dicts and lists. files: {path in the export: sha256}."""
    said = deploy.verdict
    out: dict[str, Any] = {
        "schema": SCHEMA,
        "known_gaps": gaps(deploy),
        "assumptions": assumptions(said),
        "hasim": hasim.__version__,
        "code_sha256": code_hash(),
        "stack": deploy.stack.name,
        "stack_sha256": deploy.stack.sha256,
        "before_sha256": deploy.old.sha256,
        "inputs": said["inputs"],
        "run": {
            "file": said["run"]["file"],
            "seed": said["seed"],
            "replayed": replayed,
            "scenarios": [_scenario(s) for s in said["scenarios"]],
        },
        "rollout": deploy.rollout and dict(deploy.rollout),
        "validators": [asdict(c) for c in checks],
        "files": dict(sorted(files.items())),
    }
    out["evidence_sha256"] = own_hash(out)
    return out


def render(evidence: Mapping[str, Any]) -> str:
    """The text of EVIDENCE.json."""
    return dumps(evidence)


def own_hash(evidence: Mapping[str, Any]) -> str:
    """The hash of the evidence itself, without the field that holds it."""
    rest = {k: v for k, v in evidence.items() if k != "evidence_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def gaps(deploy: Deploy) -> list[dict[str, Any]]:
    """Budgets that fail and are excused, with the reason and its last day ("": none is set)."""
    known = {
        (scenario.name, gap.reason): gap.until
        for scenario in select(deploy.scenarios, ())[0]
        for gap in scenario.known_gaps
    }
    return [
        {
            "scenario": s["name"],
            **{k: row[k] for k in ("metric", "tags", "threshold", "observed", "verdict")},
            "reason": row["waived_by"],
            "until": known.get((s["name"], row["waived_by"]), ""),
        }
        for s in deploy.verdict["scenarios"]
        for row in s["budgets"]
        if row["waived_by"]
    ]


def assumptions(verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Values that nobody measured, each once."""
    found = {json.dumps(a): a for s in verdict["scenarios"] for a in s["assumptions"]}
    return list(found.values())


def _scenario(said: Mapping[str, Any]) -> dict[str, Any]:
    out = {k: said[k] for k in ("name", "verdict", "replications", "simulated_s", "requests")}
    return {**out, "budgets": [{k: row[k] for k in ROW} for row in said["budgets"]]}


# ---- later, in CI --------------------------------------------------------------------------------
class _Form(BaseModel):
    """EVIDENCE.json as somebody hands it in, as far as `check` looks at it."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")
    schema_: Literal[1] = Field(alias="schema")
    stack_sha256: str = Field(pattern=SHA256)
    files: dict[str, str] = Field(min_length=1)
    evidence_sha256: str = Field(pattern=SHA256)


def check(folder: Path, deployed: Path | None = None) -> list[str]:
    """`changed: FILE`, `missing: FILE`, `extra: FILE`; empty if all is as the evidence says.

    deployed: a folder with the user's files as they run, instead of the export itself. There a
    file is extra if hasim would read it. Refused (4) if the evidence is none.
    """
    files = _files(folder)
    if deployed is None:
        found = hashes(folder)
        found.pop(NAME, None)
        return differences(files, found)
    if not deployed.is_dir():
        raise InputError([Finding("error", "HA104", f"there is no folder '{deployed}'")])
    wanted = {path[len(OWN) :]: sha for path, sha in files.items() if path.startswith(OWN)}
    stack, _ = load_lenient(deployed)
    read = {path for path, _ in stack.inputs} if stack else set()
    there = hashes(deployed, {*wanted, *read})
    return differences(wanted, there)


def _files(folder: Path) -> dict[str, str]:
    """{path: sha256} of the evidence of a folder."""
    path = folder / NAME
    if not path.is_file():
        text = f"'{folder}' is no export: it has no {NAME}"
        raise InputError([Finding("error", "HA104", text, None, "`hasim export` writes one")])
    try:
        document, form = read_form(path.read_bytes(), _Form)
        why = "" if own_hash(document) == form.evidence_sha256 else "it was edited"
    except ValueError as error:
        why = str(error)
    if why:
        raise Refused(f"{path} is no valid evidence: {why}\n  export again", Exit.REFUSED)
    return form.files
