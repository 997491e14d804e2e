"""hasim run: simulate the scenarios of a file, look after 40, 80, 120 replications, judge, write.

Work of all scenarios goes through one pool of workers, the earliest scenario first, so that no
core waits for the end of a scenario. Results depend on files, scenario, seed and replication only.
"""

from __future__ import annotations

import math
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import hasim
from hasim import stats
from hasim.errors import Finding, InputError, SimulationBug
from hasim.metrics import budget_findings
from hasim.model import Stack
from hasim.project import Project, inputs, open_project, root_seed, scenario_file
from hasim.read.scenarios import select
from hasim.report import tables
from hasim.report.runfolder import RunFolder
from hasim.report.seal import check_ours, code_hash, refuse_out
from hasim.scenario import Scenario
from hasim.sim.run import default_jobs
from hasim.sim.trace import Trace
from hasim.stack import with_settings
from hasim.verdict import ScenarioVerdict, Verdict, assemble, decide
from hasim.verdict_measure import Measured
from hasim.workers import (
    STOPS,
    Pool,
    Task,
    explain_one,
    first_done,
    listen,
    result_of,
    simulate_chunk,
    undisturbed,
    warm,
)

CHUNK_S = 0.1  # less than this and workers wait for work to be handed over
QUICK = 10  # --quick: one replication in so many


@dataclass(frozen=True, slots=True)
class Progress:
    """What a progress callback is told. verdict: set once the scenario is judged."""

    scenario: str
    done: int
    wanted: int
    verdict: ScenarioVerdict | None = None


Tell = Callable[[Progress], None]


def run(
    project: Project | str | Path,
    names: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    stack: str | Path | None = None,
    settings: Mapping[str, str] | None = None,
    seed: int | None = None,
    replications: int = 0,
    quick: bool = False,
    jobs: int = 0,
    keep_requests: bool = False,
    everything: bool = False,
    progress: Tell | None = None,
    say: Callable[[str], None] | None = None,
) -> Verdict:
    """Simulate and judge the named scenarios (default: all of kind `run`) of a scenario file.

    out: the run folder to write (docs/results.md); None writes nothing. settings: knobs to set,
    which makes every scenario a study. replications 0: the looks of each scenario. quick: a tenth
    of them, provisional. jobs 0: one per core. say: told once if the kernel must be compiled first.
    InputError with everything that is wrong; SimulationBug names the replication.
    """
    if not isinstance(project, Project):
        project = open_project(project, stack)
    assert project.stack is not None
    seed = root_seed(project, seed)
    tasks = make_tasks(project, names, settings or {}, seed, replications, quick)
    files = inputs(project)
    with ExitStack() as held:
        held.callback(listen, {number: signal.getsignal(number) for number in STOPS})
        folder: _Folder | None = None
        if out is not None:
            check_out(Path(out))
            texts = {path: text for path, text, _ in files}
            folder = _Folder(Path(out), texts, everything)
            with undisturbed():  # a folder that nobody removes must not stay
                held.enter_context(folder)
            if keep_requests:
                tasks = [replace(task, spool=folder.spool()) for task in tasks]
        # a signal that comes while the run folder is renamed, or removed, comes too late
        held.callback(listen, dict.fromkeys(STOPS, signal.SIG_IGN))
        warm(say or (lambda text: None))
        judged = []
        with Pool(tasks, jobs or default_jobs()) as pool:
            for verdict, traces in judge_all(tasks, pool, progress or (lambda news: None)):
                judged.append(verdict)
                if folder is not None:
                    folder.add(verdict, traces, project.stack)
        also = [(path, sha) for path, _, sha in files[len(project.stack.inputs) :]]
        whole = assemble(project.stack, seed, judged, hasim.__version__, also, quick)
        named = scenario_file(project).path
        where = _from_here(project.folder)
        whole = replace(whole, file=named, folder=where, asked=replications)
        whole = replace(whole, code_sha256=code_hash())
        if folder is not None:
            folder.finish(whole)
            folder.join_requests()
    return whole


def _from_here(folder: Path) -> str:
    """A folder as seen from the working directory; "" if it is named by a place of the machine."""
    if not folder.is_absolute():
        return folder.as_posix()
    here = Path.cwd()
    return folder.relative_to(here).as_posix() if folder.is_relative_to(here) else ""


# ---- before the run ----------------------------------------------------------------------------
def make_tasks(
    project: Project,
    names: Sequence[str],
    settings: Mapping[str, str],
    seed: int,
    replications: int = 0,
    quick: bool = False,
) -> list[Task]:
    """The chosen scenarios with their stacks. InputError with all that is wrong with them."""
    file = scenario_file(project)
    chosen, found = select(file, names)
    if not chosen and not found:
        text = f"{file.path} has no scenario of kind 'run'"
        found.append(Finding("error", "HA104", text, None, "name one"))
    stacks: dict[tuple[tuple[str, str], ...], Stack] = {}
    tasks = []
    for scenario in chosen:
        scenario = _adapted(scenario, settings, replications, quick)
        key = tuple(sorted(scenario.settings.items()))
        try:
            if key not in stacks:
                stacks[key] = _stack(project, scenario)
        except InputError as error:
            found += [replace(f, span=project.here(f.span)) for f in error.findings]
            continue
        found += budget_findings(scenario, stacks[key])
        tasks.append(Task(stacks[key], scenario, seed))
    if found:
        raise InputError(dict.fromkeys(found))
    return tasks


def _adapted(
    scenario: Scenario, settings: Mapping[str, str], replications: int, quick: bool
) -> Scenario:
    """The scenario with what the command line says."""
    if settings:
        scenario = replace(scenario, settings={**scenario.settings, **settings})
    if replications:
        scenario = replace(scenario, replications=replications)
    if quick:
        tenth = math.ceil(stats.looks(scenario.replications)[0] / QUICK)
        scenario = replace(scenario, replications=max(2, tenth))
    return scenario


def _stack(project: Project, scenario: Scenario) -> Stack:
    assert project.stack is not None
    if not scenario.settings:
        return project.stack
    return with_settings(project.folder, scenario.settings)


class _Folder(RunFolder):
    """A run folder whose raw requests come from files that the workers wrote."""

    _spool: Path | None = None

    def spool(self) -> Path:
        """The folder for raw requests, a part of the unfinished run folder."""
        self._spool = self._temp / ".requests"
        self._spool.mkdir(exist_ok=True)
        return self._spool

    def join_requests(self) -> None:
        """requests.csv.gz: one gzip member per replication, in their order."""
        if self._spool is None:
            return
        with (self._temp / "requests.csv.gz").open("wb") as out:
            out.write(tables.pack(tables.REQUESTS, []))
            for part in sorted(self._spool.iterdir()):
                out.write(part.read_bytes())
        shutil.rmtree(self._spool)


def check_out(out: Path) -> None:
    """InputError if writing the run folder would move or remove something else."""
    if not out.name:
        refuse_out(f"'{out}' is there and is no run folder; it is left alone")
    for folder in (out, out.with_name(f"{out.name}.prev")):
        check_ours(folder, "run folder", lambda f: (f / "verdict.json").is_file())


# ---- the run -----------------------------------------------------------------------------------
@dataclass
class _Work:
    """One scenario under way."""

    index: int
    task: Task
    looks: tuple[int, ...]
    todo: deque[int]
    look: int = 0
    results: dict[int, tuple[Measured, Trace]] = field(default_factory=dict)
    pace_s: float = 0.0
    verdict: ScenarioVerdict | None = None
    explaining: bool = False
    settled: bool = False

    def next_chunk(self, jobs: int) -> list[int]:
        """The next replications: at least CHUNK_S of work, but no worker idle at the end."""
        size = 1
        if 0 < self.pace_s < CHUNK_S:
            size = max(1, min(math.ceil(CHUNK_S / self.pace_s), len(self.todo) // jobs))
        return [self.todo.popleft() for _ in range(min(size, len(self.todo)))]

    def judge(self) -> None:
        """After a look: a verdict, or the replications of the next look."""
        if len(self.results) < self.looks[self.look]:
            return
        measured = [self.results[r][0] for r in sorted(self.results)]
        verdict = decide(self.task.scenario, self.task.stack, measured)
        if verdict.needs_more(self.look):
            self.todo.extend(range(self.looks[self.look], self.looks[self.look + 1]))
            self.look += 1
        else:
            self.verdict = verdict


def judge_all(
    tasks: Sequence[Task], pool: Pool, tell: Tell
) -> Iterator[tuple[ScenarioVerdict, list[Trace]]]:
    """(verdict, slim traces) of each scenario, in their order, as they are settled."""
    works = []
    for i, task in enumerate(tasks):
        looks = stats.looks(task.scenario.replications)
        works.append(_Work(i, task, looks, deque(range(looks[0]))))
    running: dict[Future, _Work] = {}
    at = 0
    while at < len(works):
        while len(running) < pool.jobs + (pool.jobs > 1):
            if not _submit_next(works[at:], pool, running):
                break
        for future in first_done(running):
            _take(running.pop(future), future, tell)
        while at < len(works) and works[at].settled:
            work = works[at]
            assert work.verdict is not None
            yield work.verdict, [work.results[r][1] for r in sorted(work.results)]
            work.results.clear()
            at += 1


def _submit_next(works: Sequence[_Work], pool: Pool, running: dict[Future, _Work]) -> bool:
    """Hand out the next piece of work, the earliest scenario first; False if there is none."""
    for work in works:
        if work.verdict is not None and not work.explaining:
            work.explaining = True
            running[pool.submit(explain_one, work.index, work.verdict.worst)] = work
            return True
        if work.todo:
            numbers = work.next_chunk(pool.jobs)
            running[pool.submit(simulate_chunk, work.index, numbers)] = work
            return True
    return False


def _take(work: _Work, future: Future, tell: Tell) -> None:
    """Put a result where it belongs."""
    try:
        result = result_of(future)
    except BrokenProcessPool:
        raise SimulationBug("a worker process was killed; was there too little memory?") from None
    name, wanted = work.task.scenario.name, work.looks[work.look]
    if work.verdict is not None:
        causes = (*work.verdict.causes, *result)
        work.verdict, work.settled = replace(work.verdict, causes=causes), True
        tell(Progress(name, len(work.results), wanted, work.verdict))
        return
    for measured, trace in zip(result.measured, result.traces, strict=True):
        work.results[measured.replication] = (measured, trace)
    work.pace_s = result.elapsed_s / len(result.measured)
    work.judge()
    tell(Progress(name, len(work.results), work.looks[work.look]))
