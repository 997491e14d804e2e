"""`hasim export` and `hasim export --check` at the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hasim.cli import app
from hasim.export import evidence, validators

OUT = Path("out/deploy")


def hasim_(*words: str, code: int) -> tuple[str, str]:
    done = CliRunner().invoke(app, ["export", *words])
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    assert "Traceback" not in done.output
    return done.stdout, done.stderr


@pytest.fixture
def exported(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(validators, "run", lambda folder, deploy: [])
    hasim_("out/scenarios", "--quiet", code=0)
    return place


def test_it_says_first_what_all_rests_on(place: Path) -> None:
    out, err = hasim_("out/scenarios", code=0)
    lines = out.splitlines()
    gap = "known gap: crash: outage_duration max<1ms (the laboratory has no spare)"
    assert lines[0] == gap
    assert lines[1].startswith("assumed: ")
    kinds = list(dict.fromkeys(line.partition(":")[0] for line in lines))
    assert kinds[:3] == ["known gap", "assumed", "written"]
    assert kinds[-1] == "next"
    assert "simulating the replays" in err
    assert gap.removeprefix("known gap: ") in (OUT / "README.md").read_text()


def test_equal_files_are_equal(exported: Path) -> None:
    out, _ = hasim_("--check", str(OUT), code=0)
    assert "every file is as in" in out
    out, _ = hasim_("--check", str(OUT), "--stack", "stack", code=0)
    assert out.startswith("stack: every file is as in")


def test_each_difference_is_named(exported: Path) -> None:
    (OUT / "stack/haproxy.cfg").write_text("x")
    (OUT / "stack/profile.yaml").unlink()
    (OUT / "more").write_text("x")
    out, _ = hasim_("--check", str(OUT), code=1)
    assert out.splitlines()[:3] == [
        "extra: more",
        "changed: stack/haproxy.cfg",
        "missing: stack/profile.yaml",
    ]


def test_deployed_files_are_compared_with_the_users_own(exported: Path) -> None:
    shutil.copytree("stack", "deployed")
    Path("deployed/notes.txt").write_text("nobody reads it")
    hasim_("--check", str(OUT), "--stack", "deployed", code=0)
    with Path("deployed/haproxy.cfg").open("a") as file:
        file.write("# by hand\n")
    Path("deployed/docker-compose.yml").write_text("services: {}\n")
    Path("deployed/profile.yaml").rename("deployed/other.yaml")
    out, _ = hasim_("--check", str(OUT), "--stack", "deployed", code=1)
    assert {"changed: haproxy.cfg", "missing: profile.yaml"} <= set(out.splitlines())
    hasim_("--check", str(OUT), "--stack", "nowhere", code=104)


def test_evidence_that_is_none(exported: Path) -> None:
    hasim_("--check", "stack", code=104)
    path = OUT / "EVIDENCE.json"
    good = json.loads(path.read_text())
    edited = {**good, "files": {**good["files"], "stack/haproxy.cfg": "0" * 64}}
    bare = {"schema": 1, "stack_sha256": "0" * 64, "files": {}, "evidence_sha256": "0" * 64}
    for bad in (edited, bare, {**good, "schema": 2}, {}, [], None):
        path.write_text(json.dumps(bad))
        _, err = hasim_("--check", str(OUT), code=4)
        assert "is no valid evidence" in err
    path.write_bytes(b"\xff")
    assert "it is no JSON" in hasim_("--check", str(OUT), code=4)[1]
    again = {**edited, "evidence_sha256": evidence.own_hash(edited)}
    path.write_text(json.dumps(again))  # valid in itself, but not what lies there
    assert "changed: stack/haproxy.cfg" in hasim_("--check", str(OUT), code=1)[0]


def test_a_refusal_says_that_the_old_export_stays(exported: Path) -> None:
    with Path("stack/haproxy.cfg").open("a") as file:
        file.write("# changed\n")
    _, err = hasim_("out/scenarios", code=4)
    assert "out/deploy/ stays as it was, the export of another run" in err
    hasim_("--check", str(OUT), code=0)


def test_wrong_words(place: Path) -> None:
    hasim_(code=2)
    hasim_("out/scenarios", "--check", "out", code=2)
    _, err = hasim_("stack", code=104)
    assert "is no run folder" in err
    _, err = hasim_("out/scenarios", "--capacity", "stack", code=104)
    assert "no result of `hasim capacity`" in err
    _, err = hasim_("out/scenarios", "--base", "nowhere", code=104)
    assert "nowhere" in err
    assert not OUT.exists()
