"""One question to one program: how it is asked, what its answer means."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PASSED, FAILED, ABSENT = "passed", "failed", "not validated"
LIMIT_S = 20.0
DETAIL_LINES = 12
_SHOWS = {"haproxy": "-v", "keepalived": "-v", "k6": "version", "docker-compose": "version"}


@dataclass(frozen=True)
class Job:
    """A validator and a file. words: the command, {file} is the file's name.

    artefact: path in the export; cwd: folder of the copy where it runs. environment: added to an
    empty one. changed: text put in the file's place in the copy; why: what was done otherwise than
    where it is deployed. needs: other files that count; programs: others that it asks.
    passing: lines of the answer that only tell of this machine; all others are refusals.
    """

    artefact: str
    tool: str
    words: tuple[str, ...]
    cwd: str = "."
    environment: Mapping[str, str] = field(default_factory=dict)
    changed: str | None = None
    why: str = ""
    needs: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    passing: str = ""

    def key(self, copy: Path) -> str:
        """Equal for questions whose answer must be the same."""
        texts = [(copy / p).read_bytes() for p in (self.artefact, *self.needs)]
        if self.needs or self.tool.startswith("docker"):
            texts.append(self.artefact.encode())
        name = Path(self.artefact).suffix
        parts = [self.tool, name, *self.words, *(hashlib.sha256(t).hexdigest() for t in texts)]
        return "\0".join(parts)


def judge(job: Job, copy: Path) -> tuple[str, str, str]:
    """(status, tool with its version, the tool's own words)."""
    missing = [w for w in (job.words[0], *job.programs) if program(w) is None]
    path = program(job.words[0])
    if path is None or missing:
        return ABSENT, job.tool, f"not installed here: {', '.join(missing)}"
    name = f"{job.tool} ({version(job.words[0])})"
    if job.changed is not None:
        (copy / job.artefact).write_text(job.changed, encoding="utf-8")
    file = os.path.relpath(copy / job.artefact, copy / job.cwd)
    words = [path, *(w.replace("{file}", file) for w in job.words[1:])]
    code, said = ask(words, copy / job.cwd, job.environment)
    said = said.replace(f"{copy}/", "").replace(str(copy), ".")
    lines = [ln.rstrip() for ln in said.splitlines() if ln.strip()]
    wrong = [ln for ln in lines if not (job.passing and re.search(job.passing, ln))]
    if code == 0 or (code is not None and lines and not wrong):
        return PASSED, name, job.why
    return FAILED, name, "\n".join(wrong[:DETAIL_LINES]) or f"exit code {code}"


def ask(words: list[str], cwd: Path, environment: Mapping[str, str]) -> tuple[int | None, str]:
    """(exit code, all that it said); code None: no answer within LIMIT_S."""
    env = {"PATH": search_path(), "HOME": str(cwd), "LC_ALL": "C.UTF-8", **environment}
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {LIMIT_S:g} s"
    except OSError as error:
        return None, error.strerror or str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def search_path() -> str:
    """PATH with the folders of this Python and of daemons, which users' PATHs leave out."""
    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    more = [Path(sys.executable).parent.as_posix(), "/usr/sbin", "/sbin", *map(str, postgres)]
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *more])


def program(name: str) -> str | None:
    """Where a program is; None if it is nowhere."""
    return shutil.which(name, path=search_path())


@cache
def version(name: str) -> str:
    """The version that a program says it has, "?" if it does not."""
    path = program(name)
    if path is None:
        return "?"
    _, said = ask([path, _SHOWS.get(name, "--version")], Path.cwd(), {})
    found = re.search(r"v?(\d+\.\d+(?:\.\d+)?)", said)
    return found[1] if found else "?"
