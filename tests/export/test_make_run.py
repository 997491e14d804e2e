"""`make run`: the run, then the export; how it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HASIM = """\
#!/bin/sh
echo "$@" >> called
[ "$1" = run ] && exit "$RAN"
exit "$EXPORTED"
"""


@pytest.mark.parametrize(
    ("ran", "exported", "code", "called"),
    [
        (0, 0, 0, True),
        (0, 4, 4, True),  # nothing was exported although all passed: not hidden
        (99, 99, 99, True),  # the export says why not
        (3, 3, 3, True),
        (99, 4, 99, True),  # the exit code is that of the run
        (104, 0, 104, False),  # there is no run of these files
        (105, 0, 105, False),
        (70, 0, 70, False),
    ],
)
def test_make_run(
    tmp_path: Path, root: Path, ran: int, exported: int, code: int, called: bool
) -> None:
    if not shutil.which("make"):
        pytest.skip("no make on this machine")
    shutil.copy(root / "Makefile", tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for file in ("requirements/run.txt", "pyproject.toml"):
        (tmp_path / file).touch()
        os.utime(tmp_path / file, (1, 1))
    (tmp_path / ".venv/run.ok").touch()
    (tmp_path / ".venv/bin/hasim").write_text(HASIM)
    (tmp_path / ".venv/bin/hasim").chmod(0o755)
    env = {"PATH": os.environ["PATH"], "RAN": str(ran), "EXPORTED": str(exported)}
    done = subprocess.run(["make", "run"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == (2 if code else 0)  # make's own word for any failure
    assert (f"Error {code}" in done.stderr) == bool(code), done.stderr
    lines = (tmp_path / "called").read_text().splitlines()
    assert lines == ["run scenarios.yaml", *(["export out/scenarios"] if called else [])]
    assert ".venv/bin/hasim run scenarios.yaml" in done.stdout
