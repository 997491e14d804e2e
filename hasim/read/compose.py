"""docker-compose files: merged, extended and interpolated as compose v2 does it.

compose_load makes one tree of all files (compose_env, compose_merge), compose_service and
compose_values read the services out of it, compose_check says what compose would refuse.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence

from hasim.errors import Finding
from hasim.read.compose_check import (
    check_circles,
    check_names,
    check_references,
    check_top,
    misplaced,
)
from hasim.read.compose_load import Loader, Tree
from hasim.read.compose_service import read_service
from hasim.read.compose_types import ComposeProject, Resource
from hasim.read.yaml_node import Node, as_bool, as_str


def read_project(
    paths: Sequence[str], read_text: Callable[[str], str], env: Mapping[str, str]
) -> tuple[ComposeProject, list[Finding]]:
    """The project of these files (`docker compose -f a -f b`) and every problem found.

    paths are relative names with "/"; read_text gives the text of one (OSError if there is none).
    `env` is the shell's environment; a `.env` file beside the first file stands behind it.
    """
    loader = Loader(read_text, env)
    folder = posixpath.dirname(paths[0]) if paths else ""
    tree = loader.project(paths) if paths else None
    if tree is None:
        if not loader.findings:
            loader.findings.append(Finding("error", "HA140", "no compose file to read"))
        return ComposeProject(_name("", folder), tuple(loader.texts), {}, {}, {}), loader.findings
    for path in list(loader.texts):
        root = loader.root(path, None) if path in loader.roots else None
        if root is not None:
            check_top(root, loader.findings)
    project = _project(tree, loader, folder, tuple(paths))
    secrets = tree.root.get("secrets")
    known = frozenset(name for name, _ in secrets.items()) if secrets else frozenset()
    check_references(project, known, loader.findings)
    check_names(project, loader.findings)
    check_circles(project, loader.findings)
    return project, list(dict.fromkeys(loader.findings))


def _project(tree: Tree, loader: Loader, folder: str, paths: tuple[str, ...]) -> ComposeProject:
    given = as_str(tree.root.get("name"), "name", loader.findings)
    name = _name(loader.lookup("COMPOSE_PROJECT_NAME") or given, folder)
    services = {}
    node = tree.root.get("services")
    for key, value in node.value if node is not None and node.kind == "map" else ():
        if value.kind == "map":
            own, chain = tree.own.get(key.raw, ()), tree.chains.get(key.raw, ())
            services[key.raw] = read_service(key.raw, key, value, own, chain, loader, folder, paths)
    return ComposeProject(
        name,
        tuple(loader.texts),
        services,
        _resources("networks", tree.root, name, loader.findings),
        _resources("volumes", tree.root, name, loader.findings),
        tuple(loader.tags),
        misplaced(tree.root),
        {key: value.span for key, value in tree.root.items()},
    )


def _name(given: str, folder: str) -> str:
    """The project's name as compose makes it from a folder; "project" if there is none."""
    base = given or posixpath.basename(posixpath.normpath(folder)) if folder or given else ""
    return re.sub(r"[^a-z0-9_-]", "", base.lower()).lstrip("_-") or "project"


def _resources(
    field: str, root: Node, project: str, findings: list[Finding]
) -> dict[str, Resource]:
    node = root.get(field)
    out = {}
    for key, value in node.value if node is not None and node.kind == "map" else ():
        name, external = key.raw, value.get("external")
        if value.kind != "map" and not value.is_null:
            message = f"{field}.{name} must be a map or empty"
            findings.append(Finding("error", "HA143", message, value.span))
        outside = external is not None and (
            external.kind == "map" or as_bool(external, f"{field}.{name}.external", findings)
        )
        old = external.get("name") if external is not None else None  # before the format 3.5
        real = as_str(value.get("name") or old, f"{field}.{name}.name", findings)
        driver = as_str(value.get("driver"), f"{field}.{name}.driver", findings)
        real = real or (name if outside else f"{project}_{name}")
        subnets = _subnets(value, findings)
        out[name] = Resource(name, real, outside, driver, subnets, key.span)
    return out


def _subnets(network: Node, findings: list[Finding]) -> tuple[str, ...]:
    ipam = network.get("ipam")
    config = ipam.get("config") if ipam else None
    items = config.value if config is not None and config.kind == "seq" else ()
    found = (as_str(item.get("subnet"), "subnet", findings) for item in items)
    return tuple(text for text in found if text)
