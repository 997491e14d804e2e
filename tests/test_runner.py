"""The runner: looks, chunks, slim traces, what happens when it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_cli import FAULT, HEAD, OPEN, PASS, here  # noqa: F401 - a fixture

import hasim
from hasim import runner, workers
from hasim.bind import load_scenarios
from hasim.errors import InputError
from hasim.project import check, open_project
from hasim.sim.run import simulate
from hasim.verdict import decide, judge
from hasim.verdict_measure import measure


@pytest.fixture
def project(here: Path):  # noqa: F811
    Path("scenarios.yaml").write_text(HEAD + PASS + FAULT + OPEN)
    return open_project("scenarios.yaml")


def test_import_costs_nothing(root: Path) -> None:
    text = "import sys; n = len(sys.modules); import hasim; print(len(sys.modules) - n)"
    done = subprocess.run([sys.executable, "-c", text], cwd=root, capture_output=True, text=True)
    assert int(done.stdout) <= 8, done.stderr  # hasim, typing and what belongs to it


def test_version_is_that_of_the_package(root: Path) -> None:
    stated = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert hasim.__version__ == stated


def test_inputs_are_all_files_that_were_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    from hasim.project import inputs

    names = [name for name, _, _ in inputs(check("scenarios.yaml"))]
    assert "haproxy.cfg" in names
    assert names[-2:] == ["scenarios.yaml", "models/story-portal/load.k6.js"]


def test_slim_traces_and_measures_give_the_verdict_of_whole_ones(project) -> None:
    tasks = runner.make_tasks(project, ["crash"], {}, 7)
    whole = [workers._replicate(tasks[0], r) for r in range(2)]
    judged = judge(tasks[0].scenario, tasks[0].stack, whole)
    with workers.Pool(tasks, 1) as pool:
        ((verdict, traces),) = runner.judge_all(tasks, pool, lambda news: None)
    assert verdict == judged
    assert all(t.hist.size == 0 for t in traces)
    assert np.array_equal(traces[0].per_second["ok"], whole[0].per_second["ok"])


def test_looks_go_on_only_while_undecided(project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which replications are simulated: 40 for what is settled, all 120 for what is not."""
    tasks = runner.make_tasks(project, ["calm", "open"], {}, 7)
    tasks = [replace(t, scenario=replace(t.scenario, replications=0)) for t in tasks]
    seen: list[tuple[str, int]] = []
    trace = workers._replicate(tasks[0], 0)

    def replicate(stack, scenario, seed, number, keep):
        seen.append((scenario.name, number))
        return replace(trace, scenario=scenario.name, replication=number)

    def value(view, budget):  # 6 of 40, 8 of 80, ... violations: neither above nor below 90 %
        return float(budget.metric == "outage_duration" and view.trace.replication % 9 == 0) * 2

    monkeypatch.setattr(workers, "replicate", replicate)
    monkeypatch.setattr("hasim.verdict_measure.value", value)
    news = []
    with workers.Pool(tasks, 1) as pool:
        found = list(runner.judge_all(tasks, pool, news.append))
    assert [(v.name, v.verdict, len(t)) for v, t in found] == [
        ("calm", "pass", 40),
        ("open", "inconclusive", 120),
    ]
    assert [t.replication for t in found[1][1]] == list(range(120))
    assert sorted(n for s, n in seen if s == "calm") == sorted([*range(40), found[0][0].worst])
    assert [n.verdict.name for n in news if n.verdict] == ["calm", "open"]


def test_chunks_are_long_enough_and_leave_nobody_idle() -> None:
    def work(pace_s: float, left: int) -> runner._Work:
        of = runner._Work(0, None, (40,), runner.deque(range(left)))  # type: ignore[arg-type]
        of.pace_s = pace_s
        return of

    assert len(work(0.0, 40).next_chunk(2)) == 1  # the first one is timed
    assert len(work(1.0, 40).next_chunk(2)) == 1
    assert len(work(0.01, 40).next_chunk(2)) == 10
    assert len(work(0.001, 40).next_chunk(2)) == 20
    assert work(0.001, 1).next_chunk(2) == [0]


def test_quick_and_replications() -> None:
    from synthetic import scenario

    def looks(replications: int, quick: bool, own: int = 0) -> int:
        of = replace(scenario(), replications=own)
        return runner._adapted(of, {}, replications, quick).replications

    assert looks(0, False) == 0
    assert looks(0, True) == 4
    assert looks(200, True) == 20
    assert looks(7, False, own=50) == 7
    assert looks(0, True, own=3) == 2


def test_errors_of_all_scenarios_come_together(project) -> None:
    with pytest.raises(InputError) as caught:
        runner.make_tasks(project, ["clam", "calm"], {"no.such.knob": "1"}, 7)
    texts = [f.message for f in caught.value.findings]
    assert texts == ["scenario 'clam' is not defined", "unknown knob 'no.such.knob'"]


def test_python_interface(here: Path) -> None:  # noqa: F811
    Path("scenarios.yaml").write_text(HEAD + PASS)
    verdict = hasim.run("scenarios.yaml", ["calm"], replications=3, jobs=1)
    assert verdict.scenarios[0].verdict == "pass"
    assert verdict.scenarios[0].replications == 3
    assert not Path("out").exists()
    file, stack = load_scenarios("scenarios.yaml")
    traces = list(simulate(stack, file.scenarios[0], 7, range(3)))
    numbers = [measure(file.scenarios[0], stack, t) for t in traces]
    again = decide(replace(file.scenarios[0], replications=3), stack, numbers)
    assert again.budgets == verdict.scenarios[0].budgets


# ---- stopping ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("jobs", "sent"), [("1", signal.SIGINT), ("2", signal.SIGINT), ("2", signal.SIGTERM)]
)
def test_stopped_runs_leave_nothing(
    here: Path,  # noqa: F811
    root: Path,
    jobs: str,
    sent: int,
) -> None:
    long = HEAD.replace("replications: 2", "replications: 5000")
    Path("scenarios.yaml").write_text(long + PASS.replace("calm", "long"))
    body = (HEAD + PASS).replace("replications: 2", "replications: 1")
    Path("short.yaml").write_text(body)
    env = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    command = [sys.executable, "-m", "hasim", "run"]
    first = [*command, "short.yaml", "--out", "out/long", "--replications", "2", "--quiet"]
    assert subprocess.run(first, env=env, stdout=subprocess.DEVNULL).returncode == 0
    before = {p: p.read_bytes() for p in Path("out").rglob("*") if p.is_file()}
    with subprocess.Popen(
        [*command, "scenarios.yaml", "--jobs", jobs, "--out", "out/long"],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
        preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),  # `make test &` ignores SIGINT
    ) as process:  # fmt: skip
        while not list(Path("out").glob(".long.new-*")):
            assert process.poll() is None
        workers_ = children(process.pid, int(jobs) if jobs != "1" else 0)
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 105, err
    assert out == ""
    assert err == "interrupted\n"
    assert {p: p.read_bytes() for p in Path("out").rglob("*") if p.is_file()} == before
    assert [p.name for p in Path("out").iterdir()] == ["long"]
    assert not [pid for pid in workers_ if alive(pid)]


LOST = """
import signal
from hasim import cli_exit

class Closing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

@cli_exit.guarded
def command():
    Closing()
    cli_exit.check_stopped()

try:
    command()
except cli_exit.typer.Exit as end:
    raise SystemExit(end.exit_code)
"""


def test_an_interrupt_lost_in_a_destructor_ends_the_command(root: Path) -> None:
    command = [sys.executable, "-c", LOST]  # its own process: pytest has a hook of its own
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (105, "", "interrupted\n")


def test_a_signal_is_heard_while_the_pool_works_and_ends_it(project) -> None:
    task = runner.make_tasks(project, ["calm"], {}, 7)[0]
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), workers.Pool([task], 2) as pool:  # noqa: PT012
        children_ = pool._children
        workers.first_done([pool.submit(time.sleep, 60)])
    assert time.monotonic() - begun < 30
    assert not [child for child in children_ if child.is_alive()]


def test_a_signal_that_another_thread_takes_waits_for_the_end_of_the_block() -> None:
    idle = threading.Event()
    other = threading.Thread(target=idle.wait)  # blocks no signal
    other.start()
    reached = False
    try:
        with pytest.raises(KeyboardInterrupt), workers.undisturbed():  # noqa: PT012
            signal.pthread_kill(other.ident or 0, signal.SIGINT)
            time.sleep(0.2)
            reached = True
    finally:
        idle.set()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def children(pid: int, wanted: int) -> list[int]:
    """Child processes of a process, once there are as many as wanted."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        return []
    found: list[int] = []
    while len(found) < wanted:
        found = [int(word) for word in path.read_text().split()]
    return found


def alive(pid: int) -> bool:
    """Does the process run (a zombie does not)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
