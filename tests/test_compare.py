"""hasim compare: known shifts are found by intervals that cover them; equal things differ by 0."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hasim.cli import app
from hasim.compare import Comparison, report, runs, stacks
from hasim.compare.changes import causes, difference
from hasim.errors import InputError
from hasim.runner import run

SCENARIO = """
version: 1
stack: three-servers
seed: 7
replications: 12
coverage: 0.7
loads:
  open:
    executor: constant-arrival-rate
    rate: 20
    duration: 60s
    preAllocatedVUs: 50
    maxVUs: 2000
    client: one-shot
    arrivals: poisson
    mix: {get: 100%}
scenarios:
  crash:
    load: open
    recover_within: 15s
    faults:
      - {at: 20s, do: crash, target: web-1, for: 20s}
    budgets:
      "time_to_detect{by:haproxy}": ["avg<4s"]
      "http_req_failed{window:fault}": ["rate<20%"]
  steady:
    load: open
    budgets:
      http_req_duration: ["avg<1s"]
"""
SECRET = "hunter2hunter2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """a: three servers; b: checked twice as often; c: 10 ms slower; d: another secret."""
    top = tmp_path_factory.mktemp("compare")
    (top / "scenarios.yaml").write_text(SCENARIO.replace("three-servers", "a"))
    for name in "abcd":
        shutil.copytree(models / "three-servers", top / name)
        (top / name / "scenarios.yaml").unlink()
        wait = "{exp: 29ms}" if name == "c" else "{exp: 19ms}"
        edit(
            top / name / "profile.yaml",
            lambda text, wait=wait: text.replace("io: 19ms", f"io: {wait}"),
        )
    users = f"\nuserlist people\n    user admin insecure-password {SECRET}\n"
    for name in "abcd":
        edit(top / name / "haproxy.cfg", lambda text: text + users)
    edit(top / "b/haproxy.cfg", lambda text: text.replace("inter 2000", "inter 1000"))
    edit(top / "d/haproxy.cfg", lambda text: text.replace(SECRET, "correct-horse-77"))
    return top


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def measured(folder: Path, name: str, seed: int = 7, scenarios: tuple[str, ...] = ()) -> Path:
    out = folder / f"run-{name}-{seed}{'-'.join(scenarios)}"
    if not out.exists():
        run(folder / "scenarios.yaml", scenarios, out=out, stack=folder / name, seed=seed, jobs=1)
    return out


@pytest.fixture(scope="module")
def faster(folder: Path) -> Comparison:
    return runs(measured(folder, "a"), measured(folder, "b"))


def budget(found: Comparison, scenario: str, metric: str):
    rows = next(s for s in found.scenarios if s.name == scenario).budgets
    return next(m for m in rows if m.metric == metric)


# ---- two runs --------------------------------------------------------------------------------
def test_what_differs_is_told_with_what_it_moved(faster: Comparison) -> None:
    assert [(f.path, f.kind) for f in faster.files] == [("haproxy.cfg", "changed")]
    assert "-    server web-1 10.0.1.11:8080 check inter 2000" in faster.files[0].diff
    assert "+    server web-1 10.0.1.11:8080 check inter 1000" in faster.files[0].diff
    assert [(k.name, k.before, k.after, k.effect) for k in faster.knobs] == [
        (f"haproxy.backend.web.web-{i}.inter", "2000", "1000", "reload") for i in (1, 2, 3)
    ]
    detect = budget(faster, "crash", "time_to_detect")
    assert (detect.verdict_before, detect.verdict_after) == ("fail", "pass")
    assert detect.moved
    assert faster.differs
    assert budget(faster, "steady", "http_req_duration").verdict_before != ""


def test_halving_the_check_interval_halves_detection(faster: Comparison) -> None:
    """(inter - phase) + (fall - 1) x inter: 4 to 6 s, mean 5, become 2 to 3 s, mean 2.5."""
    found = budget(faster, "crash", "time_to_detect").difference
    assert found is not None
    assert found.paired
    assert found.n == 12
    assert found.low <= -2.5 <= found.high
    assert found.high - found.low < 1.0


def test_a_known_shift_is_covered_and_pairs_are_narrower(folder: Path) -> None:
    """10 ms more of waiting: the same requests under the same luck are 10 ms slower on average."""
    same = runs(measured(folder, "a"), measured(folder, "c"))
    other = runs(measured(folder, "a"), measured(folder, "c", seed=8))
    paired = budget(same, "steady", "http_req_duration").difference
    unpaired = budget(other, "steady", "http_req_duration").difference
    assert paired is not None
    assert unpaired is not None
    assert paired.paired
    assert not unpaired.paired
    assert paired.correlation > 0.8
    assert paired.low <= 0.010 <= paired.high
    assert unpaired.low <= 0.010 <= unpaired.high
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)
    assert any("not the same luck" in note for note in other.notes)


def test_the_causes_say_why(faster: Comparison) -> None:
    [stay] = [
        c
        for s in faster.scenarios
        for c in s.causes
        if "stayed in rotation" in c.text and s.name == "crash"
    ]
    assert stay.kind == "changed"
    assert stay.seconds_after < stay.seconds_before
    assert str(stay.span) == "haproxy.cfg:19:45"
    assert "inter 1000" in stay.text


def test_a_run_and_itself_differ_in_nothing(folder: Path) -> None:
    found = runs(measured(folder, "a"), measured(folder, "a"))
    assert not found.differs
    assert not found.files
    assert not found.knobs
    for s in found.scenarios:
        assert not s.causes
        assert not s.metrics
        for m in s.budgets:
            assert m.before == m.after or (np.isnan(m.before) and np.isnan(m.after))
            assert m.difference is not None
            assert (m.difference.mean, m.difference.low, m.difference.high) == (0.0, 0.0, 0.0)


def test_scenarios_of_one_side_only_are_said(folder: Path) -> None:
    part = measured(folder, "a", scenarios=("steady",))
    found = runs(measured(folder, "a"), part)
    assert any("only in" in note and note.endswith(": crash") for note in found.notes)
    crash = next(s for s in found.scenarios if s.name == "crash")
    assert (crash.verdict_before, crash.verdict_after) == ("fail", "")
    assert "only before: FAIL" in report.text(found)


def test_runs_without_the_numbers_of_replications_are_compared_by_intervals(
    folder: Path, tmp_path: Path, faster: Comparison
) -> None:
    old = tmp_path / "old"
    shutil.copytree(measured(folder, "a"), old)
    for name in ("replications.jsonl.gz", "SHA256SUMS"):
        (old / name).unlink()
    found = runs(old, measured(folder, "b"))
    wide = budget(found, "crash", "time_to_detect").difference
    sharp = budget(faster, "crash", "time_to_detect").difference
    assert wide is not None
    assert sharp is not None
    assert wide.n == 0
    assert wide.low < sharp.low
    assert wide.high > sharp.high
    assert any("no replications.jsonl.gz" in note for note in found.notes)


def test_a_run_that_was_edited_is_said(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "edited"
    shutil.copytree(measured(folder, "a"), copy)
    edit(copy / "junit.xml", lambda text: text + "\n")
    found = runs(measured(folder, "a"), copy)
    assert any("was edited after the run: changed: junit.xml" in note for note in found.notes)


def test_another_hasim_is_said(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "older"
    shutil.copytree(measured(folder, "a"), copy)
    edit(copy / "verdict.json", lambda t: t.replace('"hasim": "', '"hasim": "0.0.1-', 1))
    found = runs(copy, measured(folder, "a"))
    assert any("a difference may be hasim's own" in note for note in found.notes)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "hasim": "0.1.0"}',
     '{"schema": 1, "hasim": "x", "seed": 1, "inputs": [{}], "scenarios": []}',
     '{"schema": 1, "hasim": "x", "seed": 1, "inputs": [], "scenarios": [7]}',
     '{"schema": 1, "hasim": "x", "seed": 1, "inputs": [], "scenarios": {}}'],
)  # fmt: skip
def test_a_foreign_folder_is_an_input_error(folder: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "verdict.json").write_text(text)
    with pytest.raises(InputError, match="is no run folder of hasim"):
        runs(measured(folder, "a"), tmp_path)


# ---- two stacks ------------------------------------------------------------------------------
def test_two_stacks_say_the_same_as_their_runs(folder: Path, faster: Comparison) -> None:
    found = stacks(folder / "a", folder / "b", folder / "scenarios.yaml", ["crash"], jobs=1)
    assert found.seeds == (7, 7)
    assert [f.path for f in found.files] == ["haproxy.cfg"]
    assert found.knobs == faster.knobs
    ours = budget(found, "crash", "time_to_detect")
    theirs = budget(faster, "crash", "time_to_detect")
    assert ours.difference == theirs.difference
    assert (ours.verdict_before, ours.verdict_after) == ("fail", "pass")


def test_equal_stacks_differ_in_nothing(folder: Path) -> None:
    found = stacks(folder / "a", folder / "a", folder / "scenarios.yaml", ["steady"], jobs=1)
    assert not found.differs
    assert found.scenarios[0].budgets[0].difference is not None
    assert found.scenarios[0].budgets[0].difference.high == 0.0


def test_without_scenarios_only_files_are_compared(folder: Path) -> None:
    found = stacks(folder / "a", folder / "c")
    assert [f.path for f in found.files] == ["profile.yaml"]
    assert not found.scenarios
    assert found.differs


def test_a_changed_secret_is_a_difference_that_is_not_shown(folder: Path) -> None:
    found = stacks(folder / "a", folder / "d")
    [change] = found.files
    assert (change.path, change.diff) == ("haproxy.cfg", "")
    assert change.note == "only in what is redacted"
    for form in (report.text, report.json, report.markdown):
        assert SECRET not in form(found)
        assert "correct-horse-77" not in form(found)


def test_the_command_ends_with_1_if_anything_differs(folder: Path) -> None:
    invoke = CliRunner().invoke
    a, b, c = (str(measured(folder, x)) for x in "abc")
    assert invoke(app, ["compare", a, a]).exit_code == 0
    differs = invoke(app, ["compare", a, b])
    assert differs.exit_code == 1
    assert "crash   FAIL -> PASS   12 replications" in differs.stdout
    assert "nothing differs" in invoke(app, ["compare", a, a]).stdout
    assert invoke(app, ["compare", a, str(folder / "a")]).exit_code == 104
    assert invoke(app, ["compare", a, c, "--seed", "3"]).exit_code == 2
    assert invoke(app, ["compare", str(folder / "a"), str(folder / "gone")]).exit_code == 104


def test_json_is_whole_and_stable(folder: Path, faster: Comparison) -> None:
    document = json.loads(report.json(faster))
    assert list(document) == [
        "schema", "before", "after", "seeds", "differs", "notes", "files", "knobs", "scenarios",
    ]  # fmt: skip
    assert report.json(runs(measured(folder, "a"), measured(folder, "b"))) == report.json(faster)
    move = document["scenarios"][0]["budgets"][0]
    assert list(move["difference"]) == ["mean", "ci", "correlation", "n", "paired"]


def test_markdown_has_a_row_for_each_budget(faster: Comparison) -> None:
    text = report.markdown(faster)
    assert "### crash: FAIL → PASS" in text
    assert "| ! | `time_to_detect{by:haproxy}` | avg\\<4s |" in text
    assert "```diff" in text


# ---- numbers ---------------------------------------------------------------------------------
def test_pairs_are_made_by_replication() -> None:
    found = difference({0: 1.0, 1: 5.0, 2: 9.0}, {2: 10.0, 1: 6.0, 3: 99.0}, True)
    assert found is not None
    assert (found.mean, found.n) == (1.0, 2)


def test_never_on_both_sides_is_no_difference() -> None:
    never = {0: np.inf, 1: 2.0}
    same = difference(never, never, True)
    assert same is not None
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    worse = difference({0: 1.0, 1: 2.0}, never, True)
    assert worse is not None
    assert worse.low == np.inf
    assert worse.certain


def test_no_samples_on_a_side_are_no_difference() -> None:
    assert difference({0: np.nan}, {0: 1.0}, True) is None
    assert difference({}, {0: 1.0}, False) is None


def test_paired_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng, hit, n = np.random.default_rng(1), 0, 400
    for _ in range(n):
        luck = rng.normal(10.0, 3.0, 20)
        after = luck + 0.5 + rng.normal(0.0, 0.5, 20)
        found = difference(dict(enumerate(luck)), dict(enumerate(after)), True)
        assert found is not None
        hit += found.low <= 0.5 <= found.high
    assert 0.92 <= hit / n <= 0.98


def test_causes_are_matched_by_their_words() -> None:
    row = {"text": "l09-1 stayed in rotation 11.2 s: inter 2000", "file": "h", "line": 1, "col": 2,
           "seconds": 11.2, "requests": 0}  # fmt: skip
    half = {**row, "text": "l09-1 stayed in rotation 5.6 s: inter 1000", "seconds": 5.6}
    other = {**row, "text": "10 requests gave up", "seconds": 0, "requests": 10}
    judged = {**row, "text": "http_req_failed rate<1%: violated in 3 of 40 replications"}
    found = list(causes([row, other, judged], [half]))
    assert [(c.kind, c.seconds_before, c.seconds_after) for c in found] == [
        ("changed", 11.2, 5.6),
        ("vanished", 0, 0.0),
    ]
    assert not list(causes([row, other], [row, other]))


def test_a_knob_that_only_follows_is_left_out(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "a", tmp_path / "a")
    edit(
        tmp_path / "a/haproxy.cfg",
        lambda text: text.replace("timeout server  50000", "timeout server  5s"),
    )
    found = stacks(folder / "a", tmp_path / "a")
    assert [k.name for k in found.knobs] == ["haproxy.defaults.timeout_server"]
    assert replace(found.knobs[0], span=None).after == "5s"
