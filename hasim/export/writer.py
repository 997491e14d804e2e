"""Writes the folder of an export beside its place, and puts it there in one step when whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from hasim.errors import Exit, SimulationBug
from hasim.export import apply, artefacts, checklist, evidence, gate, index, rollout, validators
from hasim.export.base import Artefact, Box, Check, Deploy
from hasim.export.files import gather
from hasim.export.limits import read as read_limits
from hasim.export.limits import resized, run_again
from hasim.export.validators_list import NO_DRY_RUN
from hasim.model import Knob, Stack
from hasim.project import scenario_file
from hasim.report import html, redact
from hasim.report.diff import Changes, changes, secrets_of
from hasim.report.seal import check_ours, fresh, hashes, put_in_place, refuse_out
from hasim.stack import load
from hasim.workers import undisturbed

Say = Callable[[str], None]
KEEPS = ("stack/", "hosts/")  # copies of the user's own files, with what they hold


@dataclass(frozen=True, slots=True)
class Exported:
    """An export that was written. evidence: EVIDENCE.json, read back. left_out: paths that the
    files mention and that are too large, or no text.
    """

    folder: Path
    evidence: Mapping[str, Any]
    changes: Changes
    checks: tuple[Check, ...]
    boxes: tuple[Box, ...]
    left_out: tuple[str, ...]


def export(
    run_folder: Path,
    out: Path,
    *,
    stack: Path | None = None,
    base: Path | None = None,
    capacity: Path | None = None,
    require_validators: bool = False,
    jobs: int = 0,
    say: Say = lambda text: None,
) -> Exported:
    """Write the deployable files of a run that passed into the folder `out`.

    stack: where the files of the run are, if not where its scenario file says. base: the files as
    they are deployed now, for the diff. capacity: a result of `hasim capacity`. jobs 0: one per
    core. Refused with every reason; the old folder then stays as it was.
    """
    proof = gate.examine(run_folder, stack, jobs=jobs, say=say)
    check_out(out, [proof.project.folder, run_folder, *([base] if base else ())])
    with fresh(out) as temp:
        deploy, left, proof = prepare(proof, base, capacity, temp, jobs, say)
        read_back(temp / "stack", deploy.stack)
        deploy = replace(deploy, rollout=_rollout(deploy, jobs, say))
        secrets = secrets_of(deploy.texts, deploy.before)
        made = _artefacts(deploy)
        for one in made:
            _write(temp, one, secrets)
        diff = changes(deploy.before, deploy.texts)
        _write(temp, Artefact("CHANGES.diff", diff.text), secrets)
        for page in _report(run_folder, deploy, diff, secrets):
            _write(temp, page, secrets)
        say("asking the validators")
        checks = validators.run(temp, deploy)
        _validated(run_folder, checks, require_validators)
        boxes = checklist.boxes(deploy, checks)
        _write(temp, Artefact("CHECKLIST.md", index.checklist(boxes)), secrets)
        text = index.readme(deploy, made, checks, diff, left)
        _write(temp, Artefact("README.md", text), secrets)
        document = evidence.document(deploy, checks, hashes(temp), proof.replayed)
        text = redact.scrub(evidence.render(document), secrets)
        (temp / evidence.NAME).write_text(_rehashed(text), encoding="utf-8")
        document = json.loads((temp / evidence.NAME).read_text(encoding="utf-8"))
        with undisturbed():
            put_in_place(temp, out)
    return Exported(out, document, diff, tuple(checks), tuple(boxes), tuple(left))


def prepare(
    proof: gate.Proof, base: Path | None, capacity: Path | None, temp: Path, jobs: int, say: Say
) -> tuple[Deploy, list[str], gate.Proof]:
    """Write the user's own files; (what makers of artefacts look at, paths left out, the proof).

    With the sizes of a capacity result the files are others, and so is the proof.
    """
    folder, stack = proof.project.folder, proof.project.stack
    assert stack is not None
    given, left = gather(folder, stack)
    before, old, texts = given, stack, given
    sizes: dict[str, tuple[float, int]] = {}
    if base is not None:
        old = load(base)
        before, _ = gather(base, old)
    if capacity is not None:
        limits = read_limits(capacity, stack)
        sizes, texts = limits.sizes, {**given, **resized(limits, folder, stack)}
        for note in limits.notes:
            say(note)
    _write_own(temp, folder, texts)
    if texts != given:
        proof = run_again(proof, temp / "stack", jobs, say)
        stack = proof.project.stack
        assert stack is not None
    file = scenario_file(proof.project)
    changed = moved(old, stack)
    deploy = Deploy(texts, before, stack, old, changed, proof.document, file, sizes)
    return deploy, left, proof


def _report(
    run_folder: Path, deploy: Deploy, diff: Changes, secrets: Collection[str]
) -> Iterator[Artefact]:
    """The run's page with what the export changes, if the run was about these very files."""
    page = run_folder / "report.html"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if deploy.stack.sha256 in text:
        yield Artefact("report.html", html.with_diff(text, diff.text, secrets))


def moved(old: Stack, new: Stack) -> tuple[Knob, ...]:
    """The knobs of `old` that have another value in `new`, or are not there."""

    def numbered(stack: Stack) -> dict[tuple[str, int], Knob]:
        seen: dict[str, int] = {}
        out = {}
        for knob in stack.knobs:
            seen[knob.name] = seen.get(knob.name, -1) + 1
            out[knob.name, seen[knob.name]] = knob
        return out

    after = numbered(new)
    return tuple(
        knob
        for key, knob in numbered(old).items()
        if key not in after or after[key].value != knob.value
    )


def read_back(folder: Path, simulated: Stack) -> None:
    """SimulationBug if the written files do not mean what was simulated."""
    again = load(folder)
    same = replace(again, folder=simulated.folder, name=simulated.name) == simulated
    if again.sha256 != simulated.sha256 or not same:
        raise SimulationBug("the exported files do not read back to the stack that was simulated")


# ---- what others make ----------------------------------------------------------------------------
def _artefacts(deploy: Deploy) -> list[Artefact]:
    made = [*artefacts.make(deploy), *apply.make(deploy)]
    return sorted(made, key=lambda one: one.path)


def _rollout(deploy: Deploy, jobs: int, say: Say) -> Mapping[str, Any]:
    if deploy.texts != deploy.before:
        say("simulating the rollout")
    return rollout.cost(deploy, seed=deploy.verdict["seed"], jobs=jobs)


def _validated(run_folder: Path, checks: Sequence[Check], required: bool) -> None:
    """Refused if a validator said no (99), or is absent and was required (3). What has no dry run
    cannot be required.
    """
    reasons = [
        gate.Reason(
            "not valid",
            Exit.BUDGET,
            f"{c.artefact}: {c.tool} refuses it",
            c.detail.replace("\n", "\n    "),
        )
        for c in checks
        if c.status == "failed"
    ]
    absent = [c for c in checks if c.status == "not validated" and c.detail != NO_DRY_RUN]
    if required and absent:
        names = ", ".join(sorted({f"{c.artefact} ({c.tool})" for c in absent}))
        mend = "install the programs, or export without --require-validators"
        reasons.append(gate.Reason("not validated", Exit.UNDECIDED, names, mend))
    if reasons:
        gate.refuse(run_folder, reasons)


# ---- files ---------------------------------------------------------------------------------------
def check_out(out: Path, others: Sequence[Path]) -> None:
    """InputError if writing the export would touch anything that is not an export."""
    if not out.name:
        refuse_out(f"'{out}' is no name of a folder to write")
    here = out.resolve()
    for other in (o.resolve() for o in others):
        if here.is_relative_to(other) and other != Path.cwd() or other.is_relative_to(here):
            refuse_out(f"'{out}' and '{other.name}', which is read, lie in each other")
    for folder in (out, out.with_name(f"{out.name}.prev")):
        check_ours(folder, "export", lambda f: (f / evidence.NAME).is_file())


def _write_own(temp: Path, folder: Path, texts: Mapping[str, str]) -> None:
    """The user's own files, byte for byte as they are to be deployed."""
    for path, text in texts.items():
        program = (folder / path).stat().st_mode & 0o100 != 0
        _write(temp, Artefact(f"stack/{path}", text, executable=program), ())


def _write(temp: Path, one: Artefact, secrets: Sequence[str] | frozenset[str]) -> None:
    """One file; what is no copy of the user's own never holds a secret of theirs."""
    parts = PurePosixPath(one.path).parts
    if not parts or one.path.startswith("/") or ".." in parts:
        raise SimulationBug(f"artefact '{one.path}' leads out of the folder")
    path = temp / one.path
    if path.exists():
        raise SimulationBug(f"artefact '{one.path}' is made twice")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = one.text if one.path.startswith(KEEPS) else redact.scrub(one.text, secrets)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(0o755 if one.executable else 0o644)


def _rehashed(text: str) -> str:
    """Evidence after redaction, with its hash made again."""
    document = json.loads(text)
    document["evidence_sha256"] = evidence.own_hash(document)
    return evidence.render(document)
