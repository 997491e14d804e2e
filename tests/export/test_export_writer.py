"""The exported folder: byte for byte, whole or not at all, the same every time, no secrets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from deploys import ROOT, deploy_of

from hasim.errors import InputError, Refused, SimulationBug
from hasim.export import evidence, gate, validators, writer
from hasim.export.base import Artefact, Check
from hasim.export.files import gather
from hasim.export.validators_list import NO_DRY_RUN
from hasim.report.diff import changes, secrets_of
from hasim.report.seal import hashes
from hasim.stack import load

RUN, OUT = Path("out/scenarios"), Path("out/deploy")


def content(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def export(**options: object) -> writer.Exported:
    return writer.export(RUN, OUT, jobs=1, **options)  # type: ignore[arg-type]


def test_the_users_files_are_there_byte_for_byte(place: Path) -> None:
    Path("stack/rolling.sh").write_text("#!/bin/sh\n")
    Path("stack/rolling.sh").chmod(0o755)
    done = export()
    own = {p.removeprefix("stack/"): d for p, d in content(OUT).items() if p.startswith("stack/")}
    assert own == {p: (Path("stack") / p).read_bytes() for p in own}
    assert {"haproxy.cfg", "profile.yaml", "stack.yaml"} <= set(own)
    assert load(OUT / "stack").sha256 == load("stack").sha256
    assert done.changes.text == "" == (OUT / "CHANGES.diff").read_text()
    assert 'id="changes"' in (OUT / "report.html").read_text(encoding="utf-8")
    assert sorted(p.name for p in Path("out").iterdir()) == ["deploy", "scenarios"]


def test_evidence_says_what_was_proved(place: Path) -> None:
    export()
    said = json.loads((OUT / "EVIDENCE.json").read_text())
    run = json.loads((RUN / "verdict.json").read_text())
    assert list(said)[:3] == ["schema", "known_gaps", "assumptions"]
    assert said["stack_sha256"] == said["before_sha256"] == run["stack_sha256"]
    assert said["inputs"] == run["inputs"]
    assert [g["reason"] for g in said["known_gaps"]] == ["the laboratory has no spare"]
    assert [s["verdict"] for s in said["run"]["scenarios"]] == ["pass", "pass"]
    assert said["run"]["seed"] == 7
    for ours, theirs in zip(said["run"]["scenarios"], run["scenarios"], strict=True):
        assert ours["budgets"] == theirs["budgets"]
    found = hashes(OUT)
    del found["EVIDENCE.json"]
    assert said["files"] == found
    text = (OUT / "EVIDENCE.json").read_text()
    assert str(place) not in text
    assert str(Path.cwd()) not in "".join(d.decode() for d in content(OUT).values())


def test_the_same_bytes_every_time_and_the_old_folder_is_kept(place: Path) -> None:
    export()
    first = content(OUT)
    export()
    assert content(OUT) == first
    assert content(Path("out/deploy.prev")) == first
    assert not list(Path("out").glob(".deploy*"))


def test_the_diff_is_against_what_is_deployed_now(place: Path) -> None:
    shutil.copytree("stack", "now")
    old = Path("now/haproxy.cfg").read_text()
    now = old.replace("timeout server", "timeout  server", 1)
    assert now != old
    Path("now/haproxy.cfg").write_text(now)
    before = content(Path("now"))
    done = export(base=Path("now"))
    assert done.changes.files == (("haproxy.cfg", 1, 1),)
    patch = (OUT / "CHANGES.diff").read_bytes()
    subprocess.run(["patch", "-p1", "-s"], cwd="now", input=patch, check=True)
    assert Path("now/haproxy.cfg").read_text() == old
    assert set(before) == set(content(Path("now")))


def test_a_refusal_of_a_validator_leaves_the_old_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export()
    before = content(OUT)
    words = Check("stack/haproxy.cfg", "haproxy -c (2.6)", "failed", "line 3: unknown keyword")
    monkeypatch.setattr(validators, "run", lambda folder, deploy: [words])
    with pytest.raises(Refused) as caught:
        export()
    assert caught.value.exit_code == 99
    assert "not valid: stack/haproxy.cfg: haproxy -c (2.6) refuses it" in str(caught.value)
    assert "line 3: unknown keyword" in str(caught.value)
    absent = Check("stack/haproxy.cfg", "haproxy -c", "not validated", "not installed")
    monkeypatch.setattr(validators, "run", lambda folder, deploy: [absent])
    with pytest.raises(Refused) as caught:
        export(require_validators=True)
    assert caught.value.exit_code == 3
    assert "not validated: stack/haproxy.cfg (haproxy -c)" in str(caught.value)
    assert content(OUT) == before
    assert not list(Path("out").glob(".deploy*"))
    export()
    said = json.loads((OUT / "EVIDENCE.json").read_text())
    assert said["validators"][0]["status"] == "not validated"
    serves = Check("stack/redis.conf", "redis-server", "not validated", NO_DRY_RUN)
    monkeypatch.setattr(validators, "run", lambda folder, deploy: [serves])
    export(require_validators=True)  # nobody can install what is not there


def test_what_is_no_export_is_left_alone(place: Path) -> None:
    OUT.mkdir()
    (OUT / "mine").write_text("x")
    with pytest.raises(InputError, match="is no export; it is left alone"):
        export()
    assert content(OUT) == {"mine": b"x"}
    for bad in ("stack/deploy", "out", "out/scenarios", "/", "."):
        with pytest.raises(InputError):
            writer.export(RUN, Path(bad), jobs=1)
    assert not (place / "stack" / "deploy").exists()


def test_an_artefact_cannot_leave_the_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("../x", "/x", "", "stack/haproxy.cfg"):
        monkeypatch.setattr(writer.artefacts, "make", lambda deploy, p=path: [Artefact(p, "")])
        with pytest.raises(SimulationBug):
            export()
    assert not OUT.exists()


def test_files_that_the_stack_mounts_or_builds_are_deployed_too(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    shutil.copytree(ROOT / "models/three-servers", folder)
    (tmp_path / "outside.conf").write_text("x")
    (folder / "docker-compose.yml").write_text(
        "services:\n  extra:\n    build: app\n    env_file: [.env]\n"
        "    volumes: [./conf:/etc/app, ./big.bin:/b, ../outside.conf:/o, ./.:/all]\n"
    )
    (folder / "conf").mkdir()
    (folder / "conf/a.conf").write_text("include b.conf\n")
    (folder / "app").mkdir()
    (folder / "app/Dockerfile").write_text("FROM scratch\n")
    (folder / ".env").write_text("A=1\n")
    (folder / "big.bin").write_bytes(b"\xff\xfe")
    (folder / "unrelated.txt").write_text("x")
    stack = replace(load(folder), inputs=(("docker-compose.yml", ""), ("haproxy.cfg", "")))
    texts, left = gather(folder, stack)
    assert list(texts) == [
        ".env",
        "app/Dockerfile",
        "conf/a.conf",
        "docker-compose.yml",
        "haproxy.cfg",
    ]
    assert left == ["big.bin"]
    assert texts["app/Dockerfile"] == "FROM scratch\n"


def test_a_programs_bit_stays(place: Path, tmp_path: Path) -> None:
    Path("stack/go.sh").write_text("true\n")
    Path("stack/go.sh").chmod(0o755)
    Path("new").mkdir()
    writer._write_own(Path("new"), Path("stack"), {"go.sh": "true\n", "haproxy.cfg": "x"})
    assert Path("new/stack/go.sh").stat().st_mode & stat.S_IXUSR
    assert not Path("new/stack/haproxy.cfg").stat().st_mode & stat.S_IXUSR


# ---- secrets -------------------------------------------------------------------------------------
def test_no_secret_outside_of_the_users_own_files(tmp_path: Path) -> None:
    """Everything but copies of the user's files, with a diff that touches every secret."""
    deploy = deploy_of("story-portal")
    secrets = secrets_of(deploy.texts)
    assert len(secrets) >= 3
    before = {path: text + "# x\n" for path, text in deploy.texts.items()}
    for secret in secrets:
        before = {path: text.replace(secret, f"{secret}old") for path, text in before.items()}
    deploy = replace(deploy, before=before, verdict=document(deploy.stack.sha256))
    made = [
        Artefact("CHANGES.diff", changes(deploy.before, deploy.texts).text),
        *writer._artefacts(deploy),
    ]
    for one in made:
        writer._write(tmp_path, one, secrets)
    text = writer.evidence.render(evidence.document(deploy, [], {}, 0))
    writer._write(tmp_path, Artefact("EVIDENCE.json", text), secrets)
    own = {t.encode() for t in deploy.texts.values()}
    for path, data in content(tmp_path).items():
        if data not in own:
            assert not [s for s in secrets if s.encode() in data], path
    assert "<redacted>" in (tmp_path / "CHANGES.diff").read_text()


def document(sha: str) -> dict:
    return {
        "schema": 1,
        "hasim": "0.1.0",
        "seed": 1,
        "stack_sha256": sha,
        "inputs": [],
        "run": {"file": "scenarios.yaml", "replications": 0, "provisional": False},
        "scenarios": [],
    }


# ---- kill -9 -------------------------------------------------------------------------------------
WATCHED = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}


def in_a_child(work: Callable[[], object], kill_at: int | None) -> int:
    """Fork, do the work, die by SIGKILL before step number `kill_at`; the number of steps."""
    reader, pipe = os.pipe()
    pid = os.fork()
    if pid == 0:
        steps = 0

        def hook(event: str, args: tuple) -> None:
            nonlocal steps
            if event not in WATCHED or "out" not in str(args[0]) or not str(args[0]).strip("."):
                return
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1

        sys.addaudithook(hook)
        try:
            work()
            os.write(pipe, str(steps).encode())
        finally:
            os._exit(0)
    os.close(pipe)
    said = os.read(reader, 20)
    os.close(reader)
    os.waitpid(pid, 0)
    return int(said or b"-1")


@pytest.mark.parametrize("had", [True, False])
def test_a_kill_leaves_the_old_folder_or_the_new_one(
    place: Path, monkeypatch: pytest.MonkeyPatch, had: bool
) -> None:
    proof = gate.examine(RUN, jobs=1)
    monkeypatch.setattr(gate, "examine", lambda *args, **options: proof)
    monkeypatch.setattr(validators, "run", lambda folder, deploy: [])
    monkeypatch.setattr(writer, "_artefacts", lambda deploy: [Artefact("extra/which", "old")])
    export()
    old = content(OUT)
    monkeypatch.setattr(writer, "_artefacts", lambda deploy: [Artefact("extra/which", "new")])
    export()
    new = content(OUT)
    shutil.rmtree("out/deploy.prev")

    def reset() -> None:
        for left in (OUT, Path("out/deploy.prev"), *Path("out").glob(".deploy*")):
            shutil.rmtree(left, ignore_errors=True)
        for path, data in (old if had else {}).items():
            (OUT / path).parent.mkdir(parents=True, exist_ok=True)
            (OUT / path).write_bytes(data)

    reset()
    steps = in_a_child(export, None)
    assert content(OUT) == new
    assert steps > 20
    seen = set()
    for step in range(steps):
        reset()
        assert in_a_child(export, step) == -1
        found = content(OUT)
        assert found in ((old, new) if had else ({}, new)), step
        seen.add(found == new)
    assert seen == {False, True} if had else {False} <= seen
    reset()
    export()
    assert not list(Path("out").glob(".deploy*"))  # the next one clears up
