"""The seal of a folder, and how one folder takes the place of another."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hasim.report import seal
from hasim.report.seal import broken, hashes, put_in_place


def folder(path: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (path / "in").mkdir(parents=True, exist_ok=True)
        (path / "in" / name).write_text(text)
    return path


def test_a_seal_names_each_difference(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", a="1", b="2", c="3")
    assert broken(run) == ["missing: SHA256SUMS"]
    seal.seal(run)
    assert broken(run) == []
    (run / "in/a").write_text("changed")
    (run / "in/b").unlink()
    (run / "d").write_text("more")
    assert broken(run) == ["extra: d", "changed: in/a", "missing: in/b"]
    (run / "SHA256SUMS").write_text("no sums\n\n  \n")
    assert broken(run)


def test_sha256sum_reads_it(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", a="1", b="2")
    seal.seal(run)
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=run)
    assert done.returncode == 0


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_the_old_folder_becomes_prev_or_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool, keep: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(seal, "_exchange", lambda a, b: False)
    for text in "123":
        put_in_place(folder(tmp_path / "new", a=text), tmp_path / "run", keep)
    there = ["run", "run.prev"] if keep else ["run"]
    assert sorted(p.name for p in tmp_path.iterdir()) == there
    assert [(tmp_path / n / "in/a").read_text() for n in there] == ["3", "2"][: len(there)]


def test_what_a_dead_command_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, alive = (tmp_path / f".run.new-{pid}-x" for pid in (ended.pid, os.getpid()))
    left.mkdir()
    alive.mkdir()
    with seal.fresh(tmp_path / "run") as new:
        assert new.is_dir()
        assert not left.exists()
    assert list(tmp_path.iterdir()) == [alive]


def test_hashes_of_chosen_files_follow_links(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", a="1")
    (run / "link").symlink_to(run / "in/a")
    assert list(hashes(run)) == ["in/a"]
    assert list(hashes(run, ["link", "in/a", "gone"])) == ["in/a", "link"]
