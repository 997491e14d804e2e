"""What runs where, as `docker compose` sees it, now and after, with the files that it mounts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hasim.export.base import Deploy
from hasim.folder import not_extended
from hasim.model import Balancer, Instance
from hasim.read.compose import read_project
from hasim.read.compose_types import ComposeProject, ComposeService
from hasim.read.stackfile import read_stackfile
from hasim.source import Span

_SPANS = re.compile(r"Span\([^)]*\)")
_NOWHERE = Span("", 0, 0)


@dataclass(frozen=True, slots=True)
class Unit:
    """One compose service of a host. instance: None if hasim does not know it."""

    service: ComposeService
    instance: Instance | None

    @property
    def container(self) -> str:
        """The container as apply.sh names it."""
        return self.service.container_name or f"service:{self.service.name}"

    @property
    def kind(self) -> str:
        """The kind of software; "other" if hasim does not know it."""
        return self.instance.kind if self.instance else "other"

    def inside(self, path: str) -> str:
        """Where a file of the folder is inside of the container; "" if it is not mounted."""
        for mount in self.service.volumes:
            source = mount.source.removeprefix("./").rstrip("/")
            if mount.kind == "bind" and (path == source or path.startswith(f"{source}/")):
                return mount.target.rstrip("/") + path[len(source) :]
        return ""


@dataclass(frozen=True, slots=True)
class HostView:
    """A host: its compose files and services. old: the services as they are now."""

    name: str
    files: tuple[str, ...]
    read: tuple[str, ...]  # every compose file of it, extended ones included
    units: tuple[Unit, ...]
    old: Mapping[str, ComposeService]

    def of_kind(self, kind: str) -> list[Unit]:
        """The services that run this kind of software."""
        return [u for u in self.units if u.kind == kind]


def views(deploy: Deploy) -> list[HostView]:
    """Every host of the stack, in the order of stack.yaml."""
    now, then = _projects(deploy.texts, deploy), _projects(deploy.before, deploy)
    made = []
    for host in deploy.stack.hosts:
        files, project = now.get(host.name, ((), None))
        _, before = then.get(host.name, ((), None))
        known = {
            i.compose_service: i
            for i in deploy.stack.instances
            if i.host == host.name and not i.inside
        }
        services = project.services if project else {}
        units = tuple(Unit(s, known.get(name)) for name, s in services.items())
        read = tuple(dict.fromkeys((*(project.files if project else ()),
                                    *(before.files if before else ()))))  # fmt: skip
        made.append(HostView(host.name, files, read, units, before.services if before else {}))
    return made


def _projects(
    texts: Mapping[str, str], deploy: Deploy
) -> dict[str, tuple[tuple[str, ...], ComposeProject]]:
    stated, _ = read_stackfile(texts.get("stack.yaml", ""), "stack.yaml")
    place = stated.place
    if not place and (files := not_extended(texts)):
        place = ((deploy.stack.hosts[0].name, tuple(files)),)

    def text(name: str) -> str:
        if name not in texts:
            raise FileNotFoundError(name)
        return texts[name]

    return {host: (tuple(names), read_project(names, text, {})[0]) for host, names in place}


def meaning(service: ComposeService) -> str:
    """What a service says, wherever it says it: equal texts make compose leave it alone."""
    health = service.healthcheck
    plain = replace(
        service,
        own=(),
        insert=None,
        span=_NOWHERE,
        file="",
        extends=(),
        healthcheck=replace(health, insert=None) if health else None,
    )
    return _SPANS.sub("", repr(plain))


def sha(text: str | None) -> str:
    """The sha256 of a file's bytes as apply.sh computes it; "absent" without one."""
    if text is None:
        return "absent"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


# ---- how to talk to a HAProxy ----------------------------------------------------------------
_SOCKET = re.compile(r"^\s*stats\s+socket\s+(\S+)([^\n#]*)", re.MULTILINE)
_URI = re.compile(r"^\s*stats\s+uri\s+(\S+)", re.MULTILINE)


def admin_socket(balancer: Balancer, texts: Mapping[str, str]) -> str:
    """A command for `sh -c` inside of its container that speaks to the stats socket at admin
    level; "" if the configuration opens none.
    """
    for address, rest in _SOCKET.findall(texts.get(balancer.file, "")):
        if "level admin" not in " ".join(rest.split()):
            continue
        place = re.sub(r"^(ipv4@|unix@)", "", address)
        if place.startswith("/"):
            return f"socat - UNIX-CONNECT:{place}"
        host, _, port = place.rpartition(":")
        if port.isdigit():
            return f"nc {'127.0.0.1' if host in ('', '*', '0.0.0.0') else host} {port}"
    return ""


def stats_page(balancer: Balancer, texts: Mapping[str, str]) -> str:
    """The same for its statistics page, which can only be read; "" if it has none or asks for a
    password.
    """
    text = texts.get(balancer.file, "")
    front = next((f for f in balancer.frontends if f.stats and f.binds), None)
    if front is None or re.search(r"^\s*stats\s+auth\s", text, re.MULTILINE):
        return ""
    uri = _URI.search(text)
    path = uri[1] if uri else "/haproxy?stats"
    return f"wget -q -O - 'http://127.0.0.1:{front.binds[0][1]}{path};csv'"
