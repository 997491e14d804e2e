"""Compose files without `extends`: one for each host, and one for all where one engine can.

They say what the user's files say, resolved as compose does it; variables stay variables, a
literal secret becomes one, and a service without limits gets those of the capacity result.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from hasim.export.artefacts.secret_names import SecretNames
from hasim.export.base import Deploy
from hasim.folder import not_extended
from hasim.model import Instance
from hasim.read.compose_load import Loader
from hasim.read.stackfile import read_stackfile
from hasim.read.yaml_node import Node
from hasim.source import Span

_NOWHERE = Span("", 0, 0)
_MIB = 1024**2
_PATHS = ("volumes", "env_file", "build")  # fields of a service that name files beside it


@dataclass(frozen=True)
class Project:
    """The compose project of one host. root: its merged tree; files: as stack.yaml names them.

    folder: what relative paths are relative to, in the stack's folder; "" is its top.
    """

    host: str
    files: tuple[str, ...]
    folder: str
    root: Node


@dataclass
class Resolved:
    """One compose file as text. sources: paths in the stack's folder that it needs beside it."""

    text: str = ""
    sources: list[str] = field(default_factory=list)


def projects(deploy: Deploy) -> list[Project]:
    """The projects of all hosts, in the order of stack.yaml."""
    stated, _ = read_stackfile(deploy.texts.get("stack.yaml", ""), "stack.yaml")
    place = stated.place
    if not place and (files := not_extended(deploy.texts)):
        place = ((deploy.stack.hosts[0].name, tuple(files)),)
    made = []
    for host, names in place:
        loader = Loader(deploy.texts.__getitem__, {}, interpolate=False)
        tree = loader.project(names)
        if tree is not None:
            made.append(Project(host, tuple(names), posixpath.dirname(names[0]), tree.root))
    return made


def resolve(project: Project, deploy: Deploy, names: SecretNames, head: str) -> Resolved:
    """The compose file of a host, with `head` as comment lines at its top."""
    out = Resolved()
    pairs = []
    for key, value in project.root.value:
        if key.raw.startswith("x-") or key.raw in ("name", "version"):
            continue  # anchors for extends; v1 refuses `name`, v2 warns of `version`
        if key.raw == "services":
            value = _services(project, value, deploy, names, out)
        elif key.raw in ("secrets", "configs"):
            value = _with_files(project, value, out)
        pairs.append((key, value))
    out.text = head + dump(replace(project.root, value=tuple(pairs)))
    return out


def together(made: list[Project], deploy: Deploy) -> tuple[Project | None, str]:
    """All projects as one, or None and why one engine cannot hold them."""
    if len(made) == 1:
        return made[0], ""
    why = _clash(made, deploy)
    if why:
        return None, why
    tops: dict[str, dict[str, tuple[Node, Node]]] = {}
    for project in made:
        for key, value in project.root.value:
            for name, one in value.value if value.kind == "map" else ():
                tops.setdefault(key.raw, {}).setdefault(name.raw, (name, one))
    pairs = tuple((_word(k), _map(tuple(v.values()))) for k, v in tops.items())
    files = tuple(dict.fromkeys(f for p in made for f in p.files))
    return Project("all", files, made[0].folder, _map(pairs)), ""


def _clash(made: list[Project], deploy: Deploy) -> str:
    """Why the projects cannot run on one engine; "" if they can."""
    if len({p.folder for p in made}) > 1:
        return "their compose files lie in different folders"
    hosts = {p.host: p for p in made}
    for what in ("services", "volumes"):
        seen: dict[str, str] = {}
        for host, project in hosts.items():
            node = project.root.get(what)
            for name, value in node.items() if node is not None else ():
                external = value.get("external") is not None
                if name in seen and not external:
                    return f"{what[:-1]} '{name}' is on {seen[name]} and on {host}"
                seen[name] = host
    taken: dict[tuple[str, int], str] = {}
    for one in deploy.stack.instances:
        for port in one.ports if one.host in hosts else ():
            key = port.host_ip, port.host_port
            if port.host_port and taken.setdefault(key, one.name) != one.name:
                return f"{taken[key]} and {one.name} publish the same port {port.host_port}"
    own = {p.host_ip: one.host for one in deploy.stack.instances for p in one.ports}
    own = {ip: host for ip, host in own.items() if ip not in ("", "0.0.0.0", "127.0.0.1", "::")}
    if len(set(own.values())) > 1:
        ips = ", ".join(sorted(own))
        return f"their ports are published on addresses of different machines ({ips})"
    modes = [i for i in deploy.stack.instances if i.network_mode == "host" and i.kind == "haproxy"]
    if len(modes) > 1:
        return f"{modes[0].name} and {modes[1].name} listen on the same ports of their host"
    return ""


def _services(
    project: Project, node: Node, deploy: Deploy, names: SecretNames, out: Resolved
) -> Node:
    pairs = []
    by_service = {
        i.compose_service: i
        for i in deploy.stack.instances
        if project.host in (i.host, "all") and not i.inside
    }
    for key, service in node.value:
        if service.kind == "map":
            limits = _limits(by_service.get(key.raw), deploy)
            fields = [
                (k, _field(k.raw, v, project, names, out)) for k, v in (*service.value, *limits)
            ]
            service = replace(service, value=tuple(fields))
        pairs.append((key, service))
    return replace(node, value=tuple(pairs))


def _field(name: str, value: Node, project: Project, names: SecretNames, out: Resolved) -> Node:
    if name in _PATHS:
        value = _pathed(name, value, project, out)
    if name in ("volumes", "ports", "expose", "env_file"):
        value = _once(value, by_target=name == "volumes")
    if name == "depends_on" and value.kind == "map":
        started = _map(((_word("condition"), _word("service_started")),))
        value = replace(
            value, value=tuple((k, started if v.is_null else v) for k, v in value.value)
        )
    return _hidden(name, value, names)


def _hidden(key: str, node: Node, names: SecretNames) -> Node:
    """The value with its literal secrets as references."""
    if node.kind == "map":
        return replace(node, value=tuple((k, _hidden(k.raw, v, names)) for k, v in node.value))
    if node.kind == "seq":
        words, before, made = node.value, key, []
        for item in words:
            made.append(_hidden(before, item, names))
            flag = item.kind == "scalar" and item.raw.startswith("--")
            before = item.raw.lstrip("-") if flag else key
        return replace(node, value=tuple(made))
    if node.is_null:
        return node
    raw = names.hide(key, node.raw)
    return node if raw == node.raw else replace(node, raw=raw, value=raw, style=node.style or '"')


def _limits(one: Instance | None, deploy: Deploy) -> list[tuple[Node, Node]]:
    """The limits that the capacity result gives where the user's files say none."""
    if one is None:
        return []
    inner = [i.service for i in deploy.stack.instances if i.inside == one.name]
    names = [n for n in (one.service, one.compose_service, *inner) if n in deploy.sizes]
    cores, memory_bytes = deploy.sizes[names[-1]] if names else (0.0, 0)
    made = []
    if cores and not one.cpus:
        made.append((_word("cpus"), _word(f"{cores:g}")))
    if memory_bytes and not one.mem_limit_bytes:
        made.append((_word("mem_limit"), _word(f"{-(-memory_bytes // _MIB)}m")))
    return made


def _once(node: Node, by_target: bool) -> Node:
    """A list without repeated items (v1 refuses them); of volumes the last at a place counts."""
    if node.kind != "seq":
        return node
    kept: dict[str, Node] = {}
    for i, item in enumerate(node.value):
        key = item.raw if item.kind == "scalar" else f"#{i}"
        if by_target:
            parts = key.split(":")
            target = item.get("target") if item.kind == "map" else None
            key = target.raw if target is not None else parts[min(1, len(parts) - 1)]
        kept[key] = item
    return replace(node, value=tuple(kept.values()))


def _pathed(field_name: str, node: Node, project: Project, out: Resolved) -> Node:
    """The value with its relative paths as they are beside the exported file."""

    def moved(item: Node, raw: str, suffix: str = "") -> Node:
        path = _path(item, raw, project)
        if path is None:
            return item
        out.sources.append(path)
        text = f"./{path}{suffix}" if path != "." else f".{suffix}"
        return replace(item, raw=text, value=text)

    if field_name == "volumes":
        return replace(node, value=tuple(_volume(v, moved) for v in node.value))
    if node.kind == "seq":
        return replace(node, value=tuple(moved(v, v.raw) for v in node.value))
    if node.kind == "map":
        pairs = [(k, moved(v, v.raw) if k.raw in ("context", "path") else v) for k, v in node.value]
        return replace(node, value=tuple(pairs))
    return moved(node, node.raw)


def _volume(item: Node, moved: Any) -> Node:
    if item.kind == "map":
        kind = item.get("type")
        bind = kind is not None and kind.raw == "bind"
        pairs = [(k, moved(v, v.raw) if bind and k.raw == "source" else v) for k, v in item.value]
        return replace(item, value=tuple(pairs))
    source, colon, rest = item.raw.partition(":")
    return moved(item, source, colon + rest) if colon and source.startswith(".") else item


def _path(item: Node, raw: str, project: Project) -> str | None:
    """A relative path as seen from the stack's folder; None for what is no path inside of it."""
    if raw.startswith(("/", "~", "$")) or "://" in raw or not raw:
        return None
    file = item.span.file
    base = project.folder if file in project.files else posixpath.dirname(file)
    path = posixpath.normpath(posixpath.join(base, raw))
    return None if path.startswith("..") else path


def _with_files(project: Project, node: Node, out: Resolved) -> Node:
    """Top-level secrets and configs, which name files."""
    pairs = []
    for key, value in node.value if node.kind == "map" else ():
        file = value.get("file")
        path = _path(file, file.raw, project) if file is not None else None
        if file is not None and path is not None:
            out.sources.append(path)
            moved = replace(file, raw=f"./{path}", value=f"./{path}")
            fields = tuple((k, moved if k.raw == "file" else v) for k, v in value.value)
            value = replace(value, value=fields)
        pairs.append((key, value))
    return replace(node, value=tuple(pairs))


def variables(text: str) -> Iterator[str]:
    """Names of the variables of a compose file, as written."""
    for match in re.finditer(r"(?<!\$)(?:\$\$)*\$\{?(\w+)", text):
        yield match[1]


def _word(text: str) -> Node:
    return Node("scalar", text, _NOWHERE, raw=text)


def _map(pairs: tuple[tuple[Node, Node], ...]) -> Node:
    return Node("map", pairs, _NOWHERE, style="block")


def dump(node: Node) -> str:
    """The tree as YAML that every version of compose reads alike."""
    text: str = yaml.serialize(_yaml(node), width=1_000_000, allow_unicode=True)
    return text


def _yaml(node: Node) -> yaml.Node:
    if node.kind == "map":
        pairs = [(_yaml(k), _yaml(v)) for k, v in node.value]
        return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=not pairs)
    if node.kind == "seq":
        items = [_yaml(v) for v in node.value]
        return yaml.SequenceNode("tag:yaml.org,2002:seq", items, flow_style=not items)
    if node.is_null:
        return yaml.ScalarNode("tag:yaml.org,2002:null", "", style="")
    if node.style in ("", None) and "\n" not in node.raw:
        tag = yaml.SafeLoader("").resolve(yaml.ScalarNode, node.raw, (True, False))
        return yaml.ScalarNode(tag, node.raw)
    style = "|" if "\n" in node.raw.rstrip("\n") else '"'
    return yaml.ScalarNode("tag:yaml.org,2002:str", node.raw, style=style)
