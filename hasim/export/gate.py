"""May this run be exported? Everything that speaks against it, at once.

A run folder is not trusted. Its seal finds what was damaged or edited by hand; since a seal without
a key can be made again, the verdict is also made again from the numbers of every replication, and
the replications whose replays the folder holds are simulated again: same bytes or refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import hasim
from hasim import stats
from hasim.errors import Exit, Finding, InputError, Refused
from hasim.project import Project, inputs, open_project, scenario_file
from hasim.read.scenarios import select
from hasim.report import json_, redact
from hasim.report.runfolder import MOST_BYTES, REPLICATIONS, read_measures, replay_files
from hasim.report.seal import broken, code_hash, differences
from hasim.report.verdict_form import VerdictForm, read_form
from hasim.runner import make_tasks
from hasim.sim.run import default_jobs
from hasim.verdict import ScenarioVerdict, decide
from hasim.verdict_measure import Measured, to_json
from hasim.workers import Pool, Task, replay, result_of, warm

Say = Callable[[str], None]
# with several reasons the first of these is the exit code (design.md section 5)
ORDER = (Exit.BUG, Exit.INPUT, Exit.BUDGET, Exit.REFUSED, Exit.UNDECIDED)
SHOWN = 5  # names in one message


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that speaks against an export. kind: one word; mend: what would help."""

    kind: str
    code: Exit
    text: str
    mend: str


@dataclass(frozen=True, slots=True)
class Proof:
    """A run that may be exported. document: verdict.json. replayed: replications seen again."""

    document: dict[str, Any]
    project: Project
    replayed: int


def examine(
    run_folder: Path, stack: Path | None = None, *, jobs: int = 0, say: Say = lambda text: None
) -> Proof:
    """The proof that a run holds. Refused with every reason; InputError for what is no run folder.

    stack: where the files of the run are now, if not where its scenario file says.
    """
    document, form = _read(run_folder)
    reasons = [*judged(form), *_sealed(run_folder)]
    path = _scenarios_of(form)
    if not _listed(path, form):  # not read further: its words would stand in messages
        text = f"the scenario file is not that of the run: changed: {form.run.file}"
        mend = "run the scenarios again, or start where `hasim run` was started"
        refuse(run_folder, [*reasons, Reason("stale", Exit.REFUSED, text, mend)])
    project = _project(path, form, stack)
    reasons += [*_fresh(form, project), *_complete(form, project)]
    reasons += expired(project, date.today().isoformat())
    if not reasons:
        say("simulating the replays of the run again")
        reasons, replayed = _replayed(run_folder, document, form, project, jobs)
    if reasons:
        refuse(run_folder, reasons)
    return Proof(document, project, replayed)


def refuse(what: Path | str, reasons: Sequence[Reason]) -> NoReturn:
    """Raise Refused with all reasons."""
    lines = [f"no export of {what}:"]
    for reason in sorted(reasons, key=lambda r: ORDER.index(r.code)):
        lines += [f"  {reason.kind}: {reason.text}", f"    {reason.mend}"]
    code = next(code for code in ORDER if any(r.code is code for r in reasons))
    raise Refused("\n".join(lines), code)


# ---- what the folder says ------------------------------------------------------------------------
def _read(folder: Path) -> tuple[dict[str, Any], VerdictForm]:
    path = folder / "verdict.json"
    if not path.is_file():
        text = f"'{folder}' is no run folder: it has no verdict.json"
        hint = "`hasim run` writes one, by default out/<scenario file>"
        raise InputError([Finding("error", "HA104", text, None, hint)])
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        return read_form(path.read_bytes(), VerdictForm)
    except ValueError as error:
        mend = "run the scenarios again"
        refuse(folder, [Reason("tampered", Exit.REFUSED, f"verdict.json: {error}", mend)])


def judged(form: VerdictForm) -> Iterable[Reason]:
    """What the verdicts themselves say against an export."""
    for verdict, code, mend in (
        ("fail", Exit.BUDGET, "mend the stack, or excuse a budget by `known_gaps` with a reason"),
        (
            "void",
            Exit.UNDECIDED,
            "see its causes in verdict.json; `hasim run --only-boot` is quick",
        ),
        ("inconclusive", Exit.UNDECIDED, "run more replications (`--replications N`)"),
        ("stale-gap", Exit.UNDECIDED, "remove the known gap: what it excuses passes now"),
    ):
        hit = [s.name for s in form.scenarios if s.verdict == verdict]
        if hit:
            kind = {"fail": "failed"}.get(verdict, verdict)
            yield Reason(kind, code, _names(hit), mend)
            if verdict == "fail":
                yield from _failed_rows(form, code)
    studies = [s.name for s in form.scenarios if s.study]
    if studies:
        mend = "run without --set and `set:`; a study says nothing about the files as they are"
        yield Reason("study", Exit.UNDECIDED, _names(studies), mend)
    if form.run.provisional:
        text = "the run used --quick, a tenth of the replications"
        yield Reason("provisional", Exit.UNDECIDED, text, "run without --quick")


def _failed_rows(form: VerdictForm, code: Exit) -> Iterable[Reason]:
    """The failed budgets by name."""
    found = [
        f"{s.name}: {row.metric} {row.threshold}"
        for s in form.scenarios
        for row in s.budgets
        if row.verdict == "fail" and not row.waived_by
    ]
    if found:
        yield Reason("budgets", code, _names(found), "`hasim explain` shows what is behind one")


def _sealed(folder: Path) -> Iterable[Reason]:
    wrong = broken(folder)
    if wrong:
        text = f"the folder does not match its {'SHA256SUMS'}: {_names(wrong)}"
        yield Reason("tampered", Exit.REFUSED, text, "run the scenarios again")


# ---- what the disk says --------------------------------------------------------------------------
def _scenarios_of(form: VerdictForm) -> Path:
    path = Path(form.run.file)
    if not path.is_file():
        text = f"the scenario file of the run, '{path}', is not there"
        hint = "start `hasim export` in the folder of that file, or where `hasim run` was started"
        raise InputError([Finding("error", "HA104", text, None, hint)])
    return path


def _listed(path: Path, form: VerdictForm) -> bool:
    """Whether a file is among those that the run read, whatever its name."""
    if path.stat().st_size > MOST_BYTES:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() in {i.sha256 for i in form.inputs}


def _project(path: Path, form: VerdictForm, stack: Path | None) -> Project:
    if stack is None and form.run.stack:
        stack = Path(form.run.stack)
    return open_project(path, stack)


def _fresh(form: VerdictForm, project: Project) -> Iterable[Reason]:
    said = {i.path: i.sha256 for i in form.inputs}
    now = {path: sha for path, _, sha in inputs(project)}
    wrong = differences(said, now)
    assert project.stack is not None
    if wrong or project.stack.sha256 != form.stack_sha256:
        text = f"the files in '{project.folder}' are not those of the run: {_names(wrong)}"
        mend = "run the scenarios again, or say with --stack where the files of the run are"
        yield Reason("stale", Exit.REFUSED, text, mend)
    if form.hasim != hasim.__version__ or form.run.code_sha256 != code_hash():
        text = f"another hasim made the run ({form.hasim}; this is {hasim.__version__}"
        same = form.hasim == hasim.__version__
        text += " with other code)" if same else ")"
        yield Reason("stale", Exit.REFUSED, text, "run the scenarios again with this hasim")


def _complete(form: VerdictForm, project: Project) -> Iterable[Reason]:
    wanted = [s.name for s in select(scenario_file(project), ())[0]]
    ran = [s.name for s in form.scenarios]
    missing = [name for name in wanted if name not in ran]
    if missing:
        mend = "run all of them: `hasim run` without names"
        text = f"{len(missing)} of {len(wanted)} scenarios did not run: {_names(missing)}"
        yield Reason("incomplete", Exit.UNDECIDED, text, mend)
    elif ran != wanted:
        text = f"the run has scenarios that the file does not have, or twice: {_names(ran)}"
        yield Reason("tampered", Exit.REFUSED, text, "run the scenarios again")


def expired(project: Project, today: str) -> Iterable[Reason]:
    """Known gaps whose last day is over: they excuse nothing any more. today: 2026-11-25.

    The only place where hasim asks for the date; it stands in no file that is written.
    """
    scenarios = select(scenario_file(project), ())[0]
    late = [(s, gap) for s in scenarios for gap in s.known_gaps if gap.until and gap.until < today]
    if late:
        text = _names([f"{s.name}: {gap.budget} was excused until {gap.until}" for s, gap in late])
        mend = "mend what it excuses, or give the known gap another date"
        yield Reason("expired", Exit.BUDGET, text, mend)


# ---- once more -----------------------------------------------------------------------------------
def _replayed(
    folder: Path, document: dict[str, Any], form: VerdictForm, project: Project, jobs: int
) -> tuple[list[Reason], int]:
    """What differs when the run is judged and, in part, simulated again; replications seen."""
    tasks = make_tasks(project, (), {}, form.seed, form.run.replications)
    wrong: list[str] = []
    secrets = redact.redact_all({path: text for path, text, _ in inputs(project)})[1]
    warm(lambda text: None)
    try:
        known = read_measures(folder / REPLICATIONS)
    except ValueError as error:
        known, wrong = {}, [f"{REPLICATIONS} ({error})"]
    seen = 0
    with Pool(tasks, jobs or default_jobs()) as pool:
        works = []
        for i, task in enumerate(tasks):
            mine = known.get(task.scenario.name, [])
            verdict = _decided(task, mine)
            if verdict is None:
                wrong.append(f"{REPLICATIONS}: {task.scenario.name}")
                continue
            again = sorted({0, verdict.worst})
            works.append((task, mine, verdict, pool.submit(replay, i, again, verdict.worst)))
        said = {one["name"]: one for one in document["scenarios"]}
        for task, mine, verdict, work in works:
            found, causes = result_of(work)
            verdict = replace(verdict, causes=(*verdict.causes, *causes))
            name = task.scenario.name
            if said[name] != json.loads(json.dumps(json_.scenario(verdict))):
                wrong.append(f"verdict.json: {name} does not follow from the replications")
            for measured, trace in zip(found.measured, found.traces, strict=True):
                seen += 1
                wrong += _differs(folder, task, mine[measured.replication], measured)
                files = replay_files(trace, task.stack, secrets)
                wrong += [f for f, data in files.items() if _bytes(folder / f) != data]
    if not wrong:
        return [], seen
    text = f"simulated again, the run gives something else: {_names(wrong)}"
    return [Reason("tampered", Exit.REFUSED, text, "run the scenarios again")], seen


def _decided(task: Task, measured: Sequence[Measured]) -> ScenarioVerdict | None:
    """The verdict that these numbers give; None if they cannot be those of a run."""
    numbers = [m.replication for m in measured]
    whole = len(numbers) in stats.looks(task.scenario.replications)
    if not whole or numbers != list(range(len(numbers))):
        return None
    try:
        return decide(task.scenario, task.stack, measured)
    except (ValueError, TypeError, IndexError, KeyError):
        return None


def _differs(folder: Path, task: Task, said: Measured, found: Measured) -> list[str]:
    if json.dumps(to_json(said)) == json.dumps(to_json(found)):
        return []
    return [f"{REPLICATIONS}: {task.scenario.name}, replication {found.replication}"]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _names(found: Sequence[str]) -> str:
    shown = ", ".join(found[:SHOWN])
    return f"{shown} and {len(found) - SHOWN} more" if len(found) > SHOWN else shown
