"""A sweep from end to end on three servers: what it finds, writes, survives, and never does."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hasim.cli import app
from hasim.cli_plan import journal as kept
from hasim.cli_plan import options
from hasim.plan import screening, sweep_files
from hasim.plan.screening import Screened
from hasim.plan.sweep import run_sweep
from hasim.plan.sweep_desk import Desk, holds
from hasim.plan.trials import Bench
from hasim.project import open_project
from hasim.stack import patched

HEAD = """\
version: 1
stack: stack
seed: 7
replications: 8
loads:
  open: {executor: constant-arrival-rate, rate: 50, duration: 40s, preAllocatedVUs: 50,
         maxVUs: 500, client: one-shot, mix: {get: 100%}}
scenarios:
  crash:
    load: open
    faults: [{at: 20s, do: crash, target: web-1, for: 10s}]
    budgets: {"http_req_failed{window:fault}": ["rate<1%"]}
  blackhole:
    load: open
    faults: [{at: 20s, do: blackhole, target: web-1, for: 10s}]
    budgets: {"http_req_duration{window:fault}": ["p(95)<900ms"]}
"""
SWEEP = (
    HEAD
    + """\
  tune:
    kind: sweep
    over: [crash, blackhole]
    knobs:
      haproxy.backend.web.*.inter: [500ms, 2s]
      haproxy.backend.web.*.fall: [2, 3]
      haproxy.defaults.timeout_connect: [500ms, 5s]
      haproxy.defaults.option_redispatch: ["off", "on"]
    method: {keep: 4, replications: 4}
    minimise: [failed_requests.count, "http_req_duration{window:fault}.p(95)", probe_load.rate]
    export: out/tuned
"""
)
FILES = ("sweep.json", "candidates.csv", "pareto.png", "CHANGES.diff", "stack/haproxy.cfg")


@pytest.fixture
def here(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the stack of three servers and a sweep."""
    shutil.copytree(models / "three-servers", tmp_path / "stack")
    (tmp_path / "stack" / "scenarios.yaml").unlink()
    (tmp_path / "scenarios.yaml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(*words: str, code: int) -> tuple[str, str]:
    done = CliRunner().invoke(app, ["sweep", "scenarios.yaml", "tune", *words])
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    return done.stdout, done.stderr


def read(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in FILES]


def test_from_files_that_fail_to_settings_that_pass(here: Path, haproxy: str) -> None:
    text, err = sweep("--jobs", "2", code=0)
    found = json.loads(Path("out/scenarios-tune/sweep.json").read_text())
    best = found["best"]
    assert found["outcome"] == "pass"
    assert best["settings"]["haproxy.defaults.option_redispatch"] == "on"
    assert not found["before"]["passed"]
    assert found["before"]["failing"]
    assert {v["verdict"] for v in found["verdicts"]} == {"pass"}
    assert best["settings"] in [c["settings"] for c in found["candidates"]]
    assert [c["knob"] for c in found["changes"]].count("haproxy.defaults.option_redispatch") == 1
    assert sorted(c["knob"] for c in found["changes"]) == sorted(best["settings"])
    assert "Recommended" in text
    assert "hasim run scenarios.yaml --stack out/tuned" in err

    # what all changes bought together is what the end differs from the files
    total = sum(c["objectives"]["failed_requests.count"]["difference"] for c in found["changes"])
    ends = [found[k]["objectives"]["failed_requests.count"]["mean"] for k in ("before", "best")]
    assert total == pytest.approx(ends[1] - ends[0], abs=1e-6)

    # the folder: only values and added lines of haproxy.cfg, everything else byte for byte
    old, new = Path("stack"), Path("out/tuned")
    for path in sorted(p.relative_to(old) for p in old.rglob("*") if p.is_file()):
        same = (old / path).read_bytes() == (new / path).read_bytes()
        assert same == (path.name != "haproxy.cfg"), path
    before = (old / "haproxy.cfg").read_text().splitlines()
    after = (new / "haproxy.cfg").read_text().splitlines()
    assert len(after) >= len(before)
    for line in set(after) - set(before):
        assert line.split()[0] in ("timeout", "server", "option")
    done = subprocess.run([haproxy, "-c", "-f", new / "haproxy.cfg"], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert read(Path("out/scenarios-tune"))[4] == (new / "haproxy.cfg").read_bytes()
    diff = Path("out/scenarios-tune/CHANGES.diff").read_text()
    patched = subprocess.run(
        ["patch", "-p1", "-s", "-o", "-", "haproxy.cfg"],
        cwd=old, input=diff, capture_output=True, text=True,
    ) if shutil.which("patch") else None  # fmt: skip
    assert patched is None or patched.stdout == (new / "haproxy.cfg").read_text()


def test_killed_and_started_again_with_another_number_of_jobs(here: Path) -> None:
    sweep("--quiet", "--jobs", "1", "--out", "whole", code=0)
    runs = (here / "whole" / "journal.jsonl").read_bytes().count(b"\n")
    words = [sys.executable, "-m", "hasim", "sweep", "scenarios.yaml", "tune", "--out", "torn"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    child = subprocess.Popen([*words, "--jobs", "2"], env=env, stderr=subprocess.DEVNULL)
    journal = here / "torn" / "journal.jsonl"
    for _ in range(3000):
        if journal.exists() and journal.read_bytes().count(b"\n") > runs // 3:
            break
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (here / "torn" / "sweep.json").exists()
    before = journal.read_bytes().count(b"\n")
    assert runs // 3 < before < runs
    sweep("--quiet", "--jobs", "2", "--out", "torn", code=0)
    assert read(here / "torn") == read(here / "whole")
    assert journal.read_bytes().count(b"\n") == runs  # none twice
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    assert len({(key, m["replication"]) for key, m in lines}) == runs
    again = options(Path(), "tune", None, None, None, here / "torn", None, True, True)
    assert not kept(again).exists(), "--fresh forgets"


TUNED = {
    "haproxy.backend.l09-api-gateway.*.inter": "500ms",
    "haproxy.backend.l09-api-gateway.*.fall": "2",
    "haproxy.defaults.timeout_connect": "500ms",
    "haproxy.defaults.timeout_server": "2s",
    "haproxy.defaults.option_redispatch": "on",
    "haproxy.defaults.retry_on": "conn-failure empty-response response-timeout",
}


def test_what_the_sweep_of_the_guide_finds(models: Path, haproxy: str, tmp_path: Path) -> None:
    """Its settings are in the grid, keep the budgets that the guide's break, and HAProxy takes
    them: values and added lines only.
    """
    folder = models / "story-portal-guide-bootable"
    bench = Bench(jobs=1)
    made = Desk(open_project(folder / "scenarios.yaml"), "timeouts", None, bench)
    best = next(c for c in made.grid() if dict(c) == TUNED)
    with bench:
        runs = made.runs([(), best], 2)
    assert [holds(v) for v in made.verdicts(runs[()])] == [False] * 3
    assert [holds(v) for v in made.verdicts(runs[best])] == [True] * 3

    before = (folder / "haproxy.cfg").read_text()
    changed = {p: t for p, t in patched(folder, TUNED).items() if t != (folder / p).read_text()}
    assert list(changed) == ["haproxy.cfg"]
    after = changed["haproxy.cfg"]
    old, new = before.splitlines(), after.splitlines()
    match = SequenceMatcher(None, old, new, autojunk=False)
    for kind, i, j, k, m in match.get_opcodes():
        assert kind in ("equal", "insert", "replace")
        if kind == "replace":  # the same words but for the values
            pairs = list(zip(old[i:j], new[m - (j - i) : m], strict=True))
            assert all(a.split()[:2] == b.split()[:2] for a, b in pairs), (old[i:j], new[k:m])
    path = tmp_path / "haproxy.cfg"
    path.write_text(re.sub(r"(l09-api-gateway|platform-ui)-\d:", "127.0.0.1:", after))
    done = subprocess.run([haproxy, "-c", "-f", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_passes(here: Path) -> None:
    text = SWEEP.replace("rate<1%", "rate<-1%").replace("keep: 4", "keep: 2")
    Path("scenarios.yaml").write_text(text)
    out, _ = sweep("--jobs", "1", code=99)
    assert "No passing settings" in out
    assert "http_req_failed{window:fault} rate<-1%" in out
    assert not Path("out/tuned").exists()
    found = json.loads(Path("out/scenarios-tune/sweep.json").read_text())
    assert found["best"] is None
    assert all(not c["passed"] for c in found["candidates"])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("timeout_connect", "timeout_conect", "did you mean"),
        ("[500ms, 2s]", "[500ms, soon]", "soon"),
        ("failed_requests.count", "failovers.count", "nothing to say|has anything to say"),
        ("over: [crash, blackhole]", "over: [crash, blackhol]", "blackhol"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    here: Path, old: str, new: str, says: str
) -> None:
    assert old in SWEEP
    Path("scenarios.yaml").write_text(SWEEP.replace(old, new))
    _, err = sweep(code=104)
    assert any(word in err for word in says.split("|")), err
    assert not Path("out").exists()


def test_other_folders_are_left_alone(here: Path) -> None:
    Path("out/scenarios-tune").mkdir(parents=True)
    Path("out/scenarios-tune/thesis.tex").write_text("mine")
    assert "left alone" in sweep(code=104)[1]
    assert "stack's folder" in sweep("--out", "stack/x", code=104)[1]
    assert Path("out/scenarios-tune/thesis.tex").read_text() == "mine"


def test_the_stack_is_copied_without_what_leads_out_of_it(here: Path, tmp_path: Path) -> None:
    (here / "secret").write_text("outside")
    os.symlink(here / "secret", here / "stack" / "leak")
    os.symlink(here, here / "stack" / "up")
    sweep_files.write_stack(Path("stack"), {"haproxy.cfg": "patched\n"}, Path("made/stack"))
    assert not (here / "made/stack/leak").exists()
    assert not (here / "made/stack/up").exists()
    assert (here / "made/stack/haproxy.cfg").read_text() == "patched\n"
    assert {p.name for p in (here / "made").iterdir()} == {"stack"}


# ---- screening -----------------------------------------------------------------------------------
def desk(text: str) -> tuple[Desk, Bench]:
    Path("scenarios.yaml").write_text(text)
    bench = Bench(jobs=1)
    return Desk(open_project("scenarios.yaml"), "tune", None, bench), bench


def test_the_control_plane_is_asked_which_knobs_it_answers_to(here: Path) -> None:
    knobs = SWEEP.replace("haproxy.defaults.option_redispatch", "haproxy.defaults.timeout_server")
    made, bench = desk(knobs.replace('["off", "on"]', "[30s, 50s]"))
    with bench:
        loud, breaking = screening.answers(made)
    assert loud["haproxy.backend.web.*.inter"]
    assert loud["haproxy.backend.web.*.fall"]
    assert not loud["haproxy.defaults.timeout_server"]
    assert breaking == []  # both budgets are about requests


def test_no_candidate_goes_for_what_the_screen_cannot_see(here: Path) -> None:
    """An objective and a budget about memory: a short run cannot judge them."""
    text = SWEEP.replace('"http_req_failed{window:fault}": ["rate<1%"]',
                         '"memory_utilization{service:web}": ["max<0.0001%"]')  # fmt: skip
    text = text.replace('"http_req_duration{window:fault}": ["p(95)<900ms"]',
                        'http_req_failed: ["rate<0.0001%"]')  # fmt: skip
    text = text.replace("probe_load.rate", '"memory_bytes{service:web}.max"')
    made, bench = desk(text)
    with bench:
        found = screening.screen(made, made.grid(), lambda stage: None)
    assert found.dropped == {}
    assert any("cannot see memory_bytes" in note for note in found.notes)


def test_the_screen_keeps_the_best_of_what_it_can_see(here: Path) -> None:
    text = SWEEP.replace("keep: 4", "keep: 3, screen: control-plane")
    text = text.replace('failed_requests.count, "http_req_duration{window:fault}.p(95)"',
                        '"time_to_detect{by:haproxy}.max"')  # fmt: skip
    made, bench = desk(text)
    with bench:
        found = screening.screen(made, made.grid(), lambda stage: None)
    left = [c for c in made.grid() if c not in found.dropped]
    assert len(left) == 3
    seen = {c: found.seen[c]["time_to_detect{by:haproxy}.max"] for c in made.grid()}
    assert min(seen.values()) == min(seen[c] for c in left)
    assert isinstance(found, Screened)


def test_a_combination_that_cannot_be_read_is_dropped_not_fatal(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hasim.errors import Finding, InputError
    from hasim.plan import trials

    real = trials.stack_of

    def stack_of(folder, sha256, settings):
        if len(settings) == 4:
            raise InputError([Finding("error", "HA999", "these do not go together", None)])
        return real(folder, sha256, settings)

    monkeypatch.setattr(trials, "stack_of", stack_of)
    Path("scenarios.yaml").write_text(SWEEP.replace("keep: 4", "keep: 99, screen: none"))
    project = open_project("scenarios.yaml")
    result = run_sweep(project, "tune", jobs=1)
    [lost] = [c for c in result.candidates if len(c.settings) == 4]
    assert "cannot be read: HA999" in lost.dropped
    assert result.best is not None
    assert result.best.passed
    assert np.isfinite(result.best.objectives["failed_requests.count"].mean)
