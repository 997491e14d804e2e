"""What may be exported: every refusal with its message, and every way to cheat."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hasim.cli import app
from hasim.errors import InputError, Refused
from hasim.export import gate
from hasim.project import open_project
from hasim.report import runfolder
from hasim.report.seal import seal
from hasim.runner import run

RUN = Path("out/scenarios")


def edit(change: Callable[[dict], None], again: bool = True) -> None:
    """Change verdict.json; `again`: with a new seal."""
    path = RUN / "verdict.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if again:
        seal(RUN)


def refused() -> Refused:
    with pytest.raises(Refused) as caught:
        gate.examine(RUN, jobs=1)
    return caught.value


def put(key: str, value: object) -> Callable[[dict], None]:
    return lambda document: document.__setitem__(key, value)


def put_in_run(key: str, value: object) -> Callable[[dict], None]:
    return lambda document: document["run"].__setitem__(key, value)


def put_in_scenario(key: str, value: object) -> Callable[[dict], None]:
    return lambda document: document["scenarios"][1].__setitem__(key, value)


def test_a_run_that_passed_may_be_exported(place: Path) -> None:
    proof = gate.examine(RUN, jobs=1)
    assert proof.replayed == len(list(RUN.glob("replays/*.series.csv.gz")))
    assert proof.document["scenarios"][1]["name"] == "crash"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (put_in_scenario("verdict", "fail"), 99, ["failed: crash", "mend the stack"]),
        (put_in_scenario("verdict", "void"), 3, ["void: crash", "--only-boot"]),
        (put_in_scenario("verdict", "inconclusive"), 3, ["inconclusive: crash", "--replications"]),
        (put_in_scenario("verdict", "stale-gap"), 3, ["stale-gap: crash", "remove the known gap"]),
        (put_in_scenario("study", True), 3, ["study: crash", "run without --set"]),
        (put_in_run("provisional", True), 3, ["provisional: the run used --quick"]),
        (put_in_run("code_sha256", "0" * 64), 4, ["stale: another hasim", "with other code"]),
        (put("hasim", "0.0.9"), 4, ["stale: another hasim made the run (0.0.9; this is"]),
        (put("stack_sha256", "0" * 64), 4, ["stale: the files in 'stack' are not those"]),
        (put("schema", 2), 4, ["tampered: verdict.json: schema"]),
        (put("scenarios", []), 4, ["tampered: verdict.json: scenarios"]),
        (put("seed", "7"), 4, ["tampered: verdict.json: seed"]),
        (put("seed", 8), 4, ["tampered: simulated again"]),
        (lambda d: d["scenarios"].pop(), 3, ["incomplete: 1 of 2 scenarios did not run: crash"]),
        (lambda d: d["scenarios"].append(d["scenarios"][0]), 4, ["tampered: the run has"]),
    ],
)  # fmt: skip
def test_each_refusal_says_why_and_what_would_mend_it(
    place: Path, change: Callable[[dict], None], code: int, words: list[str]
) -> None:
    edit(change)
    error = refused()
    assert error.exit_code == code, error
    assert all(word in str(error) for word in words), error


def test_all_reasons_come_at_once_and_the_gravest_decides(place: Path) -> None:
    edit(put_in_scenario("verdict", "fail"), again=False)
    edit(put_in_run("provisional", True), again=False)
    text = Path("stack/haproxy.cfg").read_text()
    Path("stack/haproxy.cfg").write_text(text + "# changed\n")
    done = CliRunner().invoke(app, ["export", str(RUN)])
    assert done.exit_code == 99
    kinds = [line.strip().partition(":")[0] for line in done.stderr.splitlines()]
    assert [k for k in kinds if k in ("failed", "tampered", "stale", "provisional")] == [
        "failed",
        "tampered",
        "stale",
        "provisional",
    ]
    assert "changed: haproxy.cfg" in done.stderr
    assert not Path("out/deploy").exists()


@pytest.mark.parametrize("again", [False, True])
def test_one_edited_number_is_found_also_under_a_new_seal(place: Path, again: bool) -> None:
    def change(document: dict) -> None:
        document["scenarios"][0]["metrics"][0]["mean"] += 1

    edit(change, again)
    error = refused()
    assert error.exit_code == 4
    found = "does not follow from the replications" if again else "changed: verdict.json"
    assert found in str(error)


def test_a_number_of_a_replication_that_was_edited_too_is_found(place: Path) -> None:
    """The verdict made again agrees; the simulation does not."""
    path = RUN / "replications.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    name, fields = json.loads(lines[0])
    fields["simulated_s"] += 1.0
    lines[0] = json.dumps([name, fields])
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))

    def follow(document: dict) -> None:
        document["scenarios"][0]["simulated_s"] += 1

    edit(follow)
    error = refused()
    assert error.exit_code == 4
    assert "replications.jsonl.gz: calm, replication 0" in str(error)
    assert "verdict.json" not in str(error)


def test_fewer_replications_than_a_look_are_no_evidence(place: Path) -> None:
    path = RUN / "replications.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:1] + lines[5:]), mtime=0))
    seal(RUN)
    assert "replications.jsonl.gz: calm" in str(refused())


@pytest.mark.parametrize("data", [None, b"", b"[1]\n", b"x", b'["calm", {}]\n', b'["calm", []]\n'])
def test_numbers_that_cannot_be_read(place: Path, data: bytes | None) -> None:
    packed = b"no gzip" if data is None else gzip.compress(data)
    (RUN / "replications.jsonl.gz").write_bytes(packed)
    seal(RUN)
    assert refused().exit_code == 4


def test_a_replaced_replay_is_found(place: Path) -> None:
    replay = RUN / "replays" / "crash-0000.timeline.csv.gz"
    replay.write_bytes((RUN / "replays" / "calm-0000.timeline.csv.gz").read_bytes())
    assert "changed: replays/crash-0000.timeline.csv.gz" in str(refused())
    seal(RUN)
    assert "gives something else: replays/crash-0000.timeline.csv.gz" in str(refused())


@pytest.mark.parametrize("file", ["stack/haproxy.cfg", "stack/profile.yaml", "scenarios.yaml"])
def test_a_changed_input_is_stale(place: Path, file: str) -> None:
    Path(file).write_text(Path(file).read_text() + "# changed\n")
    error = refused()
    assert error.exit_code == 4
    assert f"changed: {file.removeprefix('stack/')}" in str(error)


def test_the_files_may_have_moved(place: Path) -> None:
    Path("stack").rename("elsewhere")
    with pytest.raises(InputError):
        gate.examine(RUN, jobs=1)
    assert gate.examine(RUN, Path("elsewhere"), jobs=1).project.folder == Path("elsewhere")


@pytest.mark.parametrize("named", ["tuned", "./tuned", "ABSOLUTE"])
def test_the_stack_that_a_run_was_told_is_found_again(place: Path, named: str) -> None:
    shutil.copytree("stack", "tuned")
    Path("stack/haproxy.cfg").write_text("broken\n")
    folder = place / "tuned" if named == "ABSOLUTE" else Path(named)
    run("scenarios.yaml", out=RUN, jobs=1, stack=folder)
    assert gate.examine(RUN, jobs=1).project.folder == Path("tuned")
    assert str(place) not in (RUN / "verdict.json").read_text()


def test_a_real_run_that_is_quick_a_study_or_a_part(place: Path) -> None:
    run("scenarios.yaml", out=RUN, jobs=1, quick=True)
    assert "provisional" in str(refused())
    run("scenarios.yaml", ["calm"], out=RUN, jobs=1)
    assert "incomplete: 1 of 2 scenarios did not run: crash" in str(refused())
    run("scenarios.yaml", out=RUN, jobs=1, settings={"haproxy.defaults.timeout_server": "9s"})
    assert "study: calm, crash" in str(refused())
    run("scenarios.yaml", out=RUN, jobs=1, replications=6)
    assert gate.examine(RUN, jobs=1).document["run"]["replications"] == 6


def test_a_real_run_that_failed_names_its_budgets(place: Path) -> None:
    text = Path("scenarios.yaml").read_text()
    Path("scenarios.yaml").write_text(text.replace("rate<30%", "rate<0.01%"))
    run("scenarios.yaml", out=RUN, jobs=1)
    error = refused()
    assert error.exit_code == 99
    assert "failed: crash" in str(error)
    assert "budgets: crash: http_req_failed rate<0.01%" in str(error)


def test_a_gap_whose_day_is_over_excuses_nothing(place: Path) -> None:
    text = Path("scenarios.yaml").read_text()
    dated = text.replace('no spare"}', 'no spare", until: 2026-11-24}')
    assert dated != text
    Path("scenarios.yaml").write_text(dated)
    project = open_project("scenarios.yaml")
    assert list(gate.expired(project, "2026-11-24")) == []  # its last day
    (reason,) = gate.expired(project, "2026-11-25")
    assert (reason.kind, reason.code) == ("expired", 99)
    assert reason.text == "crash: outage_duration was excused until 2026-11-24"
    Path("scenarios.yaml").write_text(dated.replace("2026-11-24", "1999-12-31"))
    run("scenarios.yaml", out=RUN, jobs=1)
    error = refused()
    assert error.exit_code == 99
    assert "expired: crash: outage_duration was excused until 1999-12-31" in str(error)


def test_numbers_that_unpack_to_more_than_memory_holds(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runfolder, "MOST_LINE_BYTES", 1 << 12)
    (RUN / "replications.jsonl.gz").write_bytes(gzip.compress(b'["' + b"a" * (1 << 13)))
    seal(RUN)
    assert "replications.jsonl.gz (ValueError)" in str(refused())
    monkeypatch.setattr(gate, "MOST_BYTES", 1 << 10)
    assert "verdict.json: it is too large" in str(refused())


def test_what_is_no_run_folder(place: Path) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        gate.examine(Path("stack"))
    Path("scenarios.yaml").rename("other.yaml")
    with pytest.raises(InputError, match="the scenario file of the run"):
        gate.examine(RUN)


def test_no_word_of_a_file_that_the_run_did_not_read_is_shown(place: Path) -> None:
    (place.parent / "shadow").write_text("root:verysecret: 1\n")
    for name in ("../shadow", str(place.parent / "shadow")):
        edit(put_in_run("file", name))
        error = refused()
        assert error.exit_code == 4
        assert "stale: the scenario file is not that of the run" in str(error)
        assert "verysecret" not in str(error)


def test_a_scenario_file_from_elsewhere_does_not_pass_for_the_runs(place: Path) -> None:
    edit(put_in_run("file", "stack/stack.yaml"))
    with pytest.raises(InputError):
        gate.examine(RUN)


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_no_flipped_bit_is_passed_over(made: Path, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        path = data.draw(st.sampled_from(sorted(p for p in RUN.rglob("*") if p.is_file())))
        before = path.read_bytes()
        at = data.draw(st.integers(0, len(before) - 1))
        bit = 1 << data.draw(st.integers(0, 7))
        path.write_bytes(before[:at] + bytes([before[at] ^ bit]) + before[at + 1 :])
        try:
            with pytest.raises((Refused, InputError)):
                gate.examine(RUN, jobs=1)
        finally:
            path.write_bytes(before)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"[" * 100000, b"\xff", b"null"])
def test_any_verdict_json_is_refused_in_words(place: Path, data: bytes) -> None:
    (RUN / "verdict.json").write_bytes(data)
    assert "tampered: verdict.json: " in str(refused())
