"""What compose refuses in a whole project: misplaced services, names that lead nowhere, circles."""

from __future__ import annotations

from collections.abc import Iterable

from hasim.errors import Finding, did_you_mean
from hasim.read.compose_types import ComposeProject, ComposeService
from hasim.read.compose_words import SERVICE, TOP
from hasim.read.yaml_node import Node
from hasim.source import Span

_SERVICE_LIKE = ("image", "build", "extends", "container_name")


def misplaced(root: Node) -> tuple[tuple[str, Span], ...]:
    """Names at the top level that hold a service (guide defect DC-4)."""
    return tuple(
        (key.raw, key.span)
        for key, value in root.value
        if key.raw not in TOP
        and not key.raw.startswith("x-")
        and any(value.get(word) for word in _SERVICE_LIKE)
    )


def check_top(root: Node, findings: list[Finding]) -> None:
    """Words at the top of one file; a service there makes compose refuse it."""
    odd = misplaced(root)
    for key, _ in root.value:
        if key.raw in TOP or key.raw.startswith("x-"):
            if key.raw == "include":
                message = "include is not read in this version"
                findings.append(Finding("error", "HA150", message, key.span))
            continue
        if (key.raw, key.span) in odd:
            message = f"service '{key.raw}' stands at the top level; compose refuses the file"
            hint = "indent it under 'services:'"
        else:
            message = f"compose knows no '{key.raw}' at the top level; it refuses the file"
            hint = did_you_mean(key.raw, TOP)
        findings.append(Finding("error", "HA141", message, key.span, hint))
    for name in ("services", "networks", "volumes", "secrets"):
        node = root.get(name)
        if node is not None and node.kind != "map" and not node.is_null:
            findings.append(Finding("error", "HA141", f"'{name}' must be a map", node.span))
        elif name == "services" and node is not None:
            for key, value in node.value if node.kind == "map" else ():
                if value.kind != "map" and value.tag != "!reset":
                    message = f"service '{key.raw}' must be a map"
                    findings.append(Finding("error", "HA141", message, key.span))


def check_references(
    project: ComposeProject, secrets: frozenset[str], findings: list[Finding]
) -> None:
    """Volumes, networks, services and secrets that a service names must be there."""
    services, volumes, networks_known = (
        frozenset(known) for known in (project.services, project.volumes, project.networks)
    )
    for service in project.services.values():
        where = service.where
        named_volumes = [(m.source, m.span) for m in service.volumes if m.kind == "volume"]
        networks = [(n.network, n.span) for n in service.networks if n.network != "default"]
        needs = [(d.service, d.span) for d in service.depends_on if d.required]
        needs += [(link.split(":")[0], where.get("links")) for link in service.links]
        for field, mode in (("network_mode", service.network_mode), ("pid", service.pid)):
            if mode.startswith("service:"):
                needs.append((mode.removeprefix("service:"), where.get(field)))
        _undefined(service, "volume", named_volumes, volumes, findings)
        _undefined(service, "network", networks, networks_known, findings)
        _undefined(service, "service", needs, services, findings)
        wanted = [(name, where.get("secrets")) for name in service.secrets]
        _undefined(service, "secret", wanted, secrets, findings)
        if service.network_mode and service.networks:
            message = f"service '{service.name}' has both network_mode and networks"
            findings.append(Finding("error", "HA148", message, where.get("network_mode")))
        if not service.image and not {"build", "provider"} & set(where):
            message = f"service '{service.name}' has neither an image nor a build"
            hint = _typo(service)
            findings.append(Finding("error", "HA143", message, service.span, hint))


def _typo(service: ComposeService) -> str:
    odd = [name for name in service.where if "." not in name and name not in SERVICE]
    return next((f"'{n}' looks like 'image'" for n in odd if did_you_mean(n, ["image"])), "")


def _undefined(
    service: ComposeService,
    kind: str,
    named: Iterable[tuple[str, Span | None]],
    known: frozenset[str],
    findings: list[Finding],
) -> None:
    for name, span in named:
        if name in known:
            continue
        message = f"service '{service.name}' names the undefined {kind} '{name}'"
        hint = did_you_mean(name, known)
        if not hint and kind == "service" and service.extends:
            hint = "it comes with 'extends'; the named service must be in this project too"
        elif not hint and kind != "service":
            hint = f"declare it under '{kind}s:' at the top level"
        findings.append(Finding("error", "HA144", message, span, hint))


def check_names(project: ComposeProject, findings: list[Finding]) -> None:
    """container_name: once per engine, and of one container only."""
    seen: dict[str, ComposeService] = {}
    for service in project.services.values():
        name, span = service.container_name, service.where.get("container_name")
        if not name:
            continue
        if name in seen:
            message = f"container_name '{name}' is already that of service '{seen[name].name}'"
            findings.append(Finding("error", "HA147", message, span))
        if service.replicas > 1:
            message = f"container_name '{name}' cannot be that of {service.replicas} containers"
            findings.append(Finding("error", "HA147", message, span))
        seen.setdefault(name, service)


def check_circles(project: ComposeProject, findings: list[Finding]) -> None:
    """depends_on must not lead back; one Finding per circle, found without recursion."""
    services = project.services
    done: set[str] = set()
    for start in services:
        if start in done:
            continue
        path, trail = [start], [iter(services[start].depends_on)]
        while trail:
            need = next((d for d in trail[-1] if d.service in services), None)
            if need is None:
                trail.pop()
                done.add(path.pop())
            elif need.service in path:
                circle = " -> ".join([*path[path.index(need.service) :], need.service])
                message = f"depends_on goes in a circle: {circle}"
                findings.append(Finding("error", "HA149", message, need.span))
            elif need.service not in done:
                path.append(need.service)
                trail.append(iter(services[need.service].depends_on))
