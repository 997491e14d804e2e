"""hasim reads the compose files of the hosts again: do they mean what was simulated?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hasim.errors import InputError
from hasim.export.artefacts import hosts
from hasim.export.artefacts.compose import dump, projects, variables
from hasim.export.base import Check, Deploy
from hasim.model import Stack
from hasim.read.compose import read_project
from hasim.read.yaml12 import Node, parse
from hasim.source import Span
from hasim.stack import load

TOOL = "hasim load"
_NOWHERE = Span("", 0, 0)


def read_back(folder: Path, deploy: Deploy) -> list[Check]:
    """One Check per host that has a compose file: its instances against those of the Stack."""
    names = [p.host for p in projects(deploy) if (folder / _file(p.host)).is_file()]
    if not names:
        return []
    try:
        stack = again(folder, deploy)
    except InputError as error:
        text = "\n".join(str(f) for f in error.findings[:5])
        return [Check(_file(host), TOOL, "failed", text) for host in names]
    made = []
    for host in names:
        wrong = list(differences(deploy, stack, host))
        status = "failed" if wrong else "passed"
        made.append(Check(_file(host), TOOL, status, "\n".join(wrong[:5])))
    return made


def _file(host: str) -> str:
    return f"hosts/{host}/{hosts.COMPOSE}"


def again(folder: Path, deploy: Deploy) -> Stack:
    """The Stack that the files under hosts/ make, placed as stack.yaml places the user's."""
    with TemporaryDirectory(prefix="hasim-readback-") as scratch:
        top = Path(scratch)
        files = {p: t for p, t in deploy.texts.items() if p != "stack.yaml"}
        files["stack.yaml"] = _placed(deploy)
        for host in (h.name for h in deploy.stack.hosts):
            for path in sorted((folder / "hosts" / host).rglob("*")):
                if path.is_file() and path.name != ".env.example":
                    name = path.relative_to(folder).as_posix()
                    files[name] = path.read_text(encoding="utf-8", errors="replace")
        for name, text in files.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text, encoding="utf-8")
        written = "".join(t for p, t in files.items() if p.endswith(hosts.COMPOSE))
        env = dict.fromkeys(variables(written), "x") | _project(deploy)
        return load(top, env)


def _project(deploy: Deploy) -> dict[str, str]:
    """The project's name as the user's own files have it, so that networks are called the same."""
    made = projects(deploy)
    if not made:
        return {}
    project, _ = read_project(made[0].files, deploy.texts.__getitem__, {})
    return {"COMPOSE_PROJECT_NAME": project.name}


def _placed(deploy: Deploy) -> str:
    """stack.yaml with the exported files in `place`."""
    node, _ = parse(deploy.texts.get("stack.yaml", "{}"), "stack.yaml")
    top = node if node is not None and node.kind == "map" else _map(())
    place = tuple(
        (_word(p.host), Node("seq", (_word(_file(p.host)),), _NOWHERE)) for p in projects(deploy)
    )
    kept = tuple((k, v) for k, v in top.value if k.raw != "place")
    return dump(replace(top, value=(*kept, (_word("place"), _map(place)))))


def differences(deploy: Deploy, stack: Stack, host: str) -> Iterator[str]:
    """Where the instances of a host differ from those simulated, in words."""
    prefix = f"hosts/{host}/"
    before = {i.name: i for i in deploy.stack.instances if i.host == host}
    after = {i.name: i for i in stack.instances if i.host == host}
    for name in [*before, *(n for n in after if n not in before)]:
        a, b = before.get(name), after.get(name)
        if a is None or b is None:
            yield f"{name} is {'only in the exported' if a is None else 'not in the exported'} file"
            continue
        if deploy.sizes:  # limits were added where there was none
            cpus, memory = b.cpus if a.cpus else 0.0, b.mem_limit_bytes if a.mem_limit_bytes else 0
            b = replace(b, cpus=cpus, mem_limit_bytes=memory)
        for f in fields(a):
            old, new = meaning(getattr(a, f.name), prefix), meaning(getattr(b, f.name), prefix)
            if f.compare and old != new:
                yield f"{name}: {f.name} differs"
    ours = {b.instance: meaning(b, prefix) for b in deploy.stack.balancers if b.instance in before}
    theirs = {b.instance: meaning(b, prefix) for b in stack.balancers}
    yield from (
        f"{name}: its configuration differs" for name in ours if ours[name] != theirs.get(name)
    )


def meaning(value: Any, prefix: str) -> Any:
    """A value without its places in files and without the folder that the files moved to."""
    if isinstance(value, Span):
        return None
    if isinstance(value, str):
        return value.replace(prefix, "")
    if is_dataclass(value) and not isinstance(value, type):
        kept = [f for f in fields(value) if f.compare]
        return {f.name: meaning(getattr(value, f.name), prefix) for f in kept}
    if isinstance(value, Mapping):
        return {k: meaning(v, prefix) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [meaning(v, prefix) for v in value]
    return value


def _word(text: str) -> Node:
    return Node("scalar", text, _NOWHERE, raw=text)


def _map(pairs: tuple[tuple[Node, Node], ...]) -> Node:
    return Node("map", pairs, _NOWHERE, style="block")
