"""Which program judges which file of an export."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hasim.components.prometheus.config import Config
from hasim.export.artefacts import alerts, k6
from hasim.export.artefacts.compose import projects, variables
from hasim.export.base import Check, Deploy
from hasim.export.validators_jobs import ABSENT, Job, ask, program
from hasim.folder import COMPOSE
from hasim.read.yaml12 import parse
from hasim.source import Patch, Span, apply_patches

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


@cache
def _has_v2() -> bool:
    path = program("docker")
    return path is not None and ask([path, "compose", "version"], Path.cwd(), {})[0] == 0


def _prometheus(files: list[str], deploy: Deploy) -> Iterator[Job]:
    main, rules = [], []
    for one in deploy.stack.instances:
        if isinstance(one.config, Config):
            rules += [g.span.file for g in one.config.groups if g.span]
            main += [j.span.file for j in one.config.jobs or () if j.span]
    rules = list(dict.fromkeys(rules))
    for path in dict.fromkeys(main):
        for place in _places(files, path):
            beside = tuple(p for r in rules for p in _places(files, r) if _top(p) == _top(place))
            yield _promtool("check config", place, beside)
    for path in rules:
        for place in _places(files, path):
            yield _promtool("check rules", place)
    if alerts.PATH in files:
        yield _promtool("check rules", alerts.PATH)
    if alerts.TESTS in files:
        yield _promtool("test rules", alerts.TESTS, (alerts.PATH,))


def _promtool(what: str, path: str, needs: tuple[str, ...] = ()) -> Job:
    words = ("promtool", *what.split(), "{file}")
    return Job(path, f"promtool {what}", words, posixpath.dirname(path), needs=needs)


def _top(path: str) -> str:
    """stack or hosts/<host>."""
    return path.split("/")[1] if path.startswith("hosts/") else path.split("/")[0]


def _others(copy: Path, files: list[str], deploy: Deploy) -> Iterator[Job]:
    for path in _read_by("patroni", deploy):
        for place in _places(files, path):
            yield _patroni(copy, place)
    for path in _read_by("keepalived", deploy):
        for place in _places(files, path):
            yield Job(place, "keepalived -t", ("keepalived", "-t", "-f", "{file}"))
    for path in files:
        if re.fullmatch(r"hosts/[^/]+/[^/]+/postgresql\.conf", path):
            words = ("postgres", "-C", "max_connections", "-D", ".")
            yield Job(path, "postgres -C", words, posixpath.dirname(path))
    if k6.PATH in files:
        yield Job(k6.PATH, "k6 inspect", ("k6", "inspect", "{file}"))
    yield from _scripts(copy, files, deploy)


# Daemons that read their file only to serve with it. No option makes them installed.
_SERVES = {"redis": "redis-server", "sentinel": "redis-sentinel", "etcd": "etcd"}
NO_DRY_RUN = "it has no dry run; hasim's tests start it with files that are made like this one"


def without_dry_run(copy: Path, deploy: Deploy) -> Iterator[Check]:
    """The files that no program judges without running with them: they are not validated."""
    files = sorted(p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file())
    for kind, program_ in _SERVES.items():
        names = [i.name for i in deploy.stack.instances if i.kind == kind]
        made = rf"hosts/[^/]+/(?:{'|'.join(map(re.escape, names))})/(?:redis|sentinel)\.conf"
        own = [place for path in _read_by(kind, deploy) for place in _places(files, path)]
        more = [f for f in files if names and re.fullmatch(made, f)]
        for place in dict.fromkeys([*own, *more]):
            yield Check(place, program_, ABSENT, NO_DRY_RUN)


# What --validate-config says of ports of this machine, which are not those of the host.
_ELSEWHERE = r"is not reachable|already in use|Name or service not known|Temporary failure in name"

_ENDPOINTS = re.compile(r"[^\s:,]+:\d+(?:,\s*[^\s:,]+:\d+)*")


def _patroni(copy: Path, place: str) -> Job:
    """--validate-config looks for PostgreSQL's programs in bin_dir and dials every etcd: here it
    gets those of this machine, and an etcd that refuses at once in place of seconds of silence.
    """
    text = (copy / place).read_text(encoding="utf-8")
    postgres = program("pg_controldata")
    here = Path(postgres).parent.as_posix() if postgres else ""
    changed = re.sub(r"(?m)^(\s*bin_dir:[ \t]*).*$", rf"\g<1>{here}", text) if here else text
    node, _ = parse(changed, place)
    section = (node.get("etcd3") or node.get("etcd")) if node is not None else None
    hosts = (section.get("hosts") or section.get("host")) if section is not None else None
    if hosts is not None:
        listed = hosts.value if hosts.kind == "seq" else (hosts,)
        sound = [h for h in listed if _ENDPOINTS.fullmatch(h.raw)]
        changed = apply_patches(changed, [Patch(h.span, "127.0.0.1:9") for h in sound])
    why = "bin_dir is this machine's and etcd is not asked, for the check only"
    name, words = "patroni --validate-config", ("patroni", "--validate-config", "{file}")
    asked = ("pg_controldata",)
    return Job(place, name, words, ".", {}, changed, why, programs=asked, passing=_ELSEWHERE)


def _read_by(kind: str, deploy: Deploy) -> list[str]:
    """The files of the stack out of which instances of a kind take their settings."""
    found: dict[str, None] = {}
    for one in deploy.stack.instances:
        if one.kind == kind:
            found |= dict.fromkeys(sorted(spans_in(one.config)))
    return [f for f in found if f in deploy.texts and not COMPOSE.fullmatch(Path(f).name)]


def spans_in(value: Any, depth: int = 6) -> set[str]:
    """Names of the files that a configuration points to."""
    if isinstance(value, Span):
        return {value.file}
    if depth == 0 or isinstance(value, str | int | float | None):
        return set()
    if isinstance(value, Mapping):
        below = list(value.values())
    elif isinstance(value, tuple | list | frozenset):
        below = list(value)
    elif is_dataclass(value):
        below = [getattr(value, f.name) for f in fields(value)]
    else:
        return set()
    return set().union(*(spans_in(v, depth - 1) for v in below)) if below else set()


def _scripts(copy: Path, files: list[str], deploy: Deploy) -> Iterator[Job]:
    """Ours must be without a remark; of the user's only what is an error counts."""
    theirs = set(deploy.texts.values())
    for path in files:
        if Path(path).suffix not in ("", ".sh", ".bash"):
            continue
        text = (copy / path).read_text(encoding="utf-8", errors="replace")
        shell = re.match(r"#!.*\b(ba|da|k)?sh\b", text)
        if not shell and not path.endswith((".sh", ".bash")):
            continue
        grade = "error" if text in theirs else "style"
        yield Job(path, "bash -n", ("bash", "-n", "{file}"))
        yield Job(path, f"shellcheck -S {grade}", ("shellcheck", "-S", grade, "{file}"))
