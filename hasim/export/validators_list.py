"""Which program judges which file of an export."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from hasim.export.artefacts.compose import projects, variables
from hasim.export.base import Deploy
from hasim.export.validators_jobs import Job, program

_STAND_IN = "hasim-validator"


def jobs(copy: Path, deploy: Deploy) -> Iterator[Job]:
    """Every question, in the order of the report."""
    files = sorted(p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file())
    yield from _haproxy(files, deploy)
    yield from _compose(copy, files, deploy)
    yield from _prometheus(files, deploy)
    yield from _others(copy, files, deploy)


def _places(files: list[str], path: str) -> list[str]:
    """Where a file of the stack is in the export: under stack/ and under hosts/<host>/."""
    found = [
        f
        for f in files
        if f == f"stack/{path}" or re.fullmatch(rf"hosts/[^/]+/{re.escape(path)}", f)
    ]
    return sorted(found, key=lambda f: (not f.startswith("stack/"), f))


def _haproxy(files: list[str], deploy: Deploy) -> Iterator[Job]:
    # -dr: a name that does not resolve on this machine disables its server, as the file is read
    for path in sorted({b.file for b in deploy.stack.balancers}):
        for place in _places(files, path):
            words = ("haproxy", "-c", "-dr", "-f", "{file}")
            why = "-dr: names that only resolve where it is deployed are passed over"
            yield Job(place, "haproxy -c -dr", words, why=why)


def _compose(copy: Path, files: list[str], deploy: Deploy) -> Iterator[Job]:
    listed: list[tuple[str, str, tuple[str, ...]]] = []
    for project in projects(deploy):
        names = [f"stack/{f}" for f in project.files]
        if all(n in files for n in names):
            listed.append((names[0], "stack", tuple(names[1:])))
    listed += [(f, posixpath.dirname(f), ()) for f in files
               if re.fullmatch(r"hosts/[^/]+/docker-compose\.yml", f)]  # fmt: skip
    listed += [(f, "stack", ()) for f in files if f == "extra/docker-compose.all.yml"]
    for path, folder, more in listed:
        text = "".join((copy / p).read_text(encoding="utf-8") for p in (path, *more))
        env = dict.fromkeys(sorted(set(variables(text))), _STAND_IN)
        flags = [w for p in more for w in ("-f", posixpath.relpath(p, folder))]
        tail = ("--project-directory", ".", "-f", "{file}", *flags, "config", "-q")
        if program("docker-compose") or not _has_v2():
            words = ("docker-compose", *tail)
            yield Job(path, "docker-compose config", words, folder, env, needs=more)
        if _has_v2():
            words = ("docker", "compose", *tail)
            yield Job(path, "docker compose config", words, folder, env, needs=more)


def _has_v2() -> bool:
    from hasim.export.validators_jobs import ask

    path = program("docker")
    return path is not None and ask([path, "compose", "version"], Path.cwd(), {})[0] == 0


def _prometheus(files: list[str], deploy: Deploy) -> Iterator[Job]:
    return iter(())


def _others(copy: Path, files: list[str], deploy: Deploy) -> Iterator[Job]:
    return iter(())
