"""What runs where, as `docker compose` sees it, now and after, with the files that it mounts."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Talk:
    """How to ask a HAProxy: a command for `sh -c` inside of its container. admin: it reads
    commands from standard input at admin level; else it prints the statistics and no more.
    """

    command: str
    admin: bool


@dataclass(frozen=True, slots=True)
class Behind:
    """The server lines of an instance: HOST/BALANCER/BACKEND/SERVER of those that can be watched.

    drains: all of them can be drained. settle_s: after so long HAProxy has found out that what it
    believes is not so.
    """

    servers: tuple[str, ...]
    drains: bool
    settle_s: int


def places(found: Sequence[HostView]) -> dict[str, tuple[str, str]]:
    """{instance: (host, container)} of everything that compose runs."""
    return {u.instance.name: (v.name, u.container) for v in found for u in v.units if u.instance}


def talks(deploy: Deploy) -> dict[str, Talk]:
    """{instance: how to ask it} of the HAProxies that can be asked in one way before and after."""
    old = {b.instance: b for b in deploy.old.balancers}
    found = {}
    for balancer in deploy.stack.balancers:
        before = old.get(balancer.instance, balancer)
        for read, admin in ((_socket, True), (_page, False)):
            command = read(balancer, deploy.texts)
            if command and command == read(before, deploy.before):
                found[balancer.instance] = Talk(command, admin)
                break
    return found


def behind(deploy: Deploy, found: Sequence[HostView], instance: str) -> Behind:
    """The server lines that lead to an instance."""
    at, ways = places(found), talks(deploy)
    servers, drains, settle_s = [], True, 0.0
    for balancer in deploy.stack.balancers:
        hits = [(b, s) for b in balancer.backends for s in b.servers if s.instance == instance]
        way = ways.get(balancer.instance) if balancer.instance in at else None
        if hits:
            drains = drains and way is not None and way.admin
        for backend, server in hits if way else ():
            servers.append("/".join((*at[balancer.instance], backend.name, server.name)))
            if server.check is not None:
                check = server.check
                each_s = check.inter_s + (check.timeout_check_s or check.inter_s)
                settle_s = max(settle_s, check.fall * each_s)
    return Behind(tuple(servers), bool(servers) and drains, math.ceil(settle_s) + 1)


def _socket(balancer: Balancer, texts: Mapping[str, str]) -> str:
    """The stats socket at admin level."""
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


def _page(balancer: Balancer, texts: Mapping[str, str]) -> str:
    """The statistics page, if it asks for no password."""
    text = texts.get(balancer.file, "")
    front = next((f for f in balancer.frontends if f.stats and f.binds), None)
    if front is None or re.search(r"^\s*stats\s+auth\s", text, re.MULTILINE):
        return ""
    uri = _URI.search(text)
    path = uri[1] if uri else "/haproxy?stats"
    return f"wget -q -O - 'http://127.0.0.1:{front.binds[0][1]}{path};csv'"
