"""The files of one folder under way to a Stack: read once, every problem and assumption kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from hasim import boot
from hasim.components.base import Configured, components
from hasim.components.haproxy.config import build
from hasim.containers import Placed, mounted, place_plain, place_project, unique
from hasim.errors import Finding, did_you_mean
from hasim.folder import Files
from hasim.linking import is_address
from hasim.model import (
    Assumption,
    Balancer,
    BootFailure,
    Entry,
    Host,
    Instance,
    Knob,
    Link,
    Service,
)
from hasim.read import haproxy
from hasim.read.compose import read_project
from hasim.read.compose_knobs import knobs
from hasim.read.compose_types import ComposeProject
from hasim.read.profile import read_profile
from hasim.read.stackfile import DEFAULT_HOST, RTT_S, StackFile, read_stackfile
from hasim.source import Span

VERSION = (2, 8, 0)  # the long-term release of the guide's image


class Loading:
    """One folder under way to a Stack."""

    def __init__(self, files: Files, env: Mapping[str, str]):
        self.files, self.env = files, env
        self.findings: list[Finding] = []
        self.assumptions: list[Assumption] = []
        self.knobs: list[Knob] = []
        self.stackfile = StackFile()
        self.services: tuple[Service, ...] = ()
        self.projects: dict[str, ComposeProject] = {}
        self.refusals: dict[str, list[Finding]] = {}
        self.failures: list[BootFailure] = []  # what daemons refuse at start
        self.dials: dict[str, tuple[tuple[str, int], ...]] = {}

    def error(self, message: str, span: Span | None = None, hint: str = "") -> None:
        self.findings.append(Finding("error", "HA104", message, span, hint))

    def warn(self, code: str, message: str, span: Span | None = None, hint: str = "") -> None:
        self.findings.append(Finding("warning", code, message, span, hint))

    def assume(self, name: str, value: str, source: str) -> None:
        self.assumptions.append(Assumption(name, value, source))

    def read_own(self) -> None:
        """stack.yaml and profile.yaml."""
        text = self._own("stack.yaml")
        if text is not None:
            self.stackfile, found = read_stackfile(text, "stack.yaml")
            self.findings += found
            self.assumptions += self.stackfile.assumptions
        text = self._own("profile.yaml")
        if text is None:
            if not any(f.span and f.span.file == "profile.yaml" for f in self.findings):
                text = "there is no profile.yaml: how do the services behave under load?"
                hint = "name the folder that holds it, or a scenario file; models/ has examples"
                self.error(text, None, hint)
            return
        self.services, assumed, found = read_profile(text, "profile.yaml")
        self.findings += found
        self.assumptions += assumed

    def _own(self, name: str) -> str | None:
        try:
            return self.files.optional(name)
        except ValueError as error:
            self.error(str(error), Span(name, 1, 1))
            return None

    def hosts(self) -> tuple[Host, ...]:
        """The stated hosts; without any, one assumed host."""
        if self.stackfile.hosts:
            return self.stackfile.hosts
        if not any(f.span and f.span.file == "stack.yaml" for f in self.findings):
            self.warn("HA204", "no host is stated in stack.yaml: one host 'host-1' is assumed")
        self.assume("hosts.host-1", "8 cores, 16 GiB", "no host is stated")
        return (DEFAULT_HOST,)

    def placed(self, hosts: tuple[Host, ...]) -> list[Placed]:
        """Every instance: compose projects first, host by host, then plain processes."""
        profiles = {s.name: s for s in self.services}
        place = self.stackfile.place
        if not place and (names := self.files.compose_files()):
            place = ((hosts[0].name, tuple(names)),)
            if len(hosts) > 1:
                self.warn("HA204", f"no 'place': all compose files are on '{hosts[0].name}'")
            self.assume("place", f"{hosts[0].name}: {', '.join(names)}", "no 'place' is stated")
        placed: list[Placed] = []
        known = {h.name for h in hosts}
        for host, names_ in place:
            if host not in known:
                continue  # an error of stack.yaml that is already reported
            project, found = read_project(names_, self.files.text, self.env)
            self.projects[host] = project
            self.refusals[host] = [f for f in found if f.code in boot.REFUSALS]
            self.findings += found
            self.knobs += knobs(project)
            made, found = place_project(host, project, profiles)
            self.findings += found
            placed += made
        made, found = place_plain(self.stackfile, profiles)
        self.findings += found
        placed += [p for p in made if p.instance.host in known]
        if not placed and not any(f.severity == "error" for f in self.findings):
            self.error("nothing to simulate: no compose service and no 'plain' process")
        return unique(placed + self._stand_ins(placed, hosts[0].name))

    def _stand_ins(self, placed: list[Placed], host: str) -> list[Placed]:
        """What no file starts, yet files of the folder are for (rules without a Prometheus)."""
        here = {p.instance.kind for p in placed}
        names = self.files.names()
        kinds = [one for kind, one in components().items() if kind not in here]
        made = [one for kind in kinds if (one := kind.stand_in(names, host))]
        for one in made:
            self.assume(
                f"{one.name}.host", host, f"no file starts it, {one.instance.span} needs it"
            )
        return made

    def configure(self, placed: Iterable[Placed]) -> list[Placed]:
        """Each container with what its component reads of its files, and its inner processes."""
        kinds, out = components(), []
        for one in placed:
            kind = kinds.get(one.instance.kind)
            made = kind.configure(one, MountedFiles(self, one)) if kind else Configured()
            self.findings += made.findings
            self.knobs += made.knobs
            self.failures += made.failures
            self.dials[one.name] = made.dials
            ports = tuple(sorted({*one.instance.listen_ports, *made.ports}))
            instance = replace(one.instance, config=made.config, listen_ports=ports)
            out.append(replace(one, instance=self._serving(instance, made.serves)))
            for inner in made.inside:
                outer = one.instance
                shared = replace(
                    inner,
                    host=outer.host,
                    inside=outer.name,
                    networks=outer.networks,
                    network_mode=outer.network_mode,
                    cpus=outer.cpus,
                    cpu_shares=outer.cpu_shares,
                    mem_limit_bytes=outer.mem_limit_bytes,
                    span=inner.span or outer.span,
                )
                out.append(Placed(self._serving(shared, ""), environment=one.environment))
        return out

    def _serving(self, instance: Instance, stated: str) -> Instance:
        """The instance with the service that it is, as its configuration bounds that service."""
        kind = components().get(instance.kind)
        if kind is None or instance.kind in ("service", "haproxy"):
            return instance
        known = {s.name: s for s in self.services}
        name = stated or instance.service or instance.kind
        bounded = kind.station(known.get(name, Service(name)), instance)
        if name not in known and bounded == Service(name):
            return instance
        known[name] = bounded
        self.services = tuple(known.values())
        return replace(instance, service=name)

    def balancers(self, placed: Iterable[Placed]) -> list[tuple[Placed, Balancer]]:
        """Each HAProxy with its configuration; servers not linked yet."""
        made = []
        read: set[str] = set()
        for one in placed:
            if one.instance.kind != "haproxy" or not one.config:
                continue
            try:
                text = self.files.text(one.config)
            except (OSError, ValueError) as error:
                self.error(*_unreadable(one.config, one.instance.span, error))
                continue
            env = dict(self.env) | {k: v for k, v in one.environment.items() if v is not None}
            tree, found = haproxy.read(text, one.config, env)
            balancer, more, settable = build(tree, self._version(one), one.config)
            made.append((one, balancer))
            if one.config not in read:
                self.findings += [*found, *more]
                self.knobs += settable
            read.add(one.config)
        return made

    def _version(self, one: Placed) -> tuple[int, int, int]:
        """HAProxy's version: from the image tag, made exact by stack.yaml's `versions`."""
        tag = _version(one.instance.image.rpartition("/")[2].partition(":")[2])
        stated_text = self.stackfile.versions.get("haproxy", "")
        stated = _version(stated_text)
        span = self.stackfile.span("versions", "haproxy")
        if stated_text and not stated:
            self.error(f"'{stated_text}' is no version", span, "write it like 2.8.5")
        if tag and stated and tag[:2] != stated[:2]:
            image = one.instance.image
            self.error(f"the image {image} of '{one.name}' says another version", span)
        if stated or tag:
            return stated or tag or VERSION
        self.assume(f"{one.name}.version", "2.8.0", "no image tag and no 'versions' say it")
        return VERSION

    def links(self, hosts: tuple[Host, ...]) -> tuple[Link, ...]:
        """A link for every two hosts; what is not stated is assumed."""
        made = list(self.stackfile.links)
        known = {frozenset((ln.a, ln.b)) for ln in made}
        for i, a in enumerate(hosts):
            for b in hosts[i + 1 :]:
                if frozenset((a.name, b.name)) not in known:
                    made.append(Link(a.name, b.name, RTT_S))
                    self.assume(f"links.{a.name}-{b.name}", "0.5 ms, l2", "no link is stated")
        return tuple(made)

    def entries(
        self, addresses: Mapping[str, tuple[str, ...]], balancers: list[tuple[Placed, Balancer]]
    ) -> tuple[Entry, ...]:
        """The stated ways in, else the host of the first balancer."""
        if self.stackfile.entries:
            for entry in self.stackfile.entries:
                owned = any(entry.target in a for a in addresses.values())
                if entry.via == "address" and entry.target not in addresses and not owned:
                    kind = "address" if is_address(entry.target) else "name"
                    text = f"no host has the {kind} '{entry.target}'"
                    self.error(text, entry.span, did_you_mean(entry.target, addresses))
            return self.stackfile.entries
        host = balancers[0][0].instance.host if balancers else next(iter(addresses))
        self.assume("entry.users", f"address {host}", "no 'entry' is stated")
        return (Entry("users", "address", host),)

    def check_ports(self, balancers: Iterable[Balancer], placed: Iterable[Placed]) -> None:
        """A server line must lead to something that is simulated, at a port that it listens on."""
        by_name = {p.name: p.instance for p in placed}
        for server in (s for x in balancers for b in x.backends for s in b.servers):
            one = by_name.get(server.instance)
            if one is None:
                continue
            if one.kind == "other":
                text = f"server {server.name} leads to '{one.name}', which profile.yaml leaves out"
                self.error(text, server.span, f"add '{one.compose_service}' to profile.yaml")
            elif server.reach in ("bridge", "overlay") and server.port not in one.listen_ports:
                ports = ", ".join(map(str, one.listen_ports))
                text = f"no file says that '{one.name}' listens on {server.port} (only {ports})"
                self.warn("HA206", text, server.span)

    def check_servers(self, balancers: Iterable[Balancer]) -> None:
        """A server line with an address that leads nowhere: its server is down from the start."""
        for server in (s for x in balancers for b in x.backends for s in b.servers):
            if not server.instance and not server.disabled and is_address(server.address):
                where = f"{server.address}:{server.port}"
                text = f"nothing in this stack listens on {where}; server {server.name} is dead"
                hint = "compare it with the addresses and ports in stack.yaml and the compose files"
                self.warn("HA208", text, server.span, hint)

    def check_workers(self, placed: Iterable[Placed]) -> None:
        """WEB_CONCURRENCY (read by gunicorn and uvicorn) and `workers` must not disagree."""
        services = {s.name: s for s in self.services}
        for one in placed:
            value = one.environment.get("WEB_CONCURRENCY") or ""
            service = services.get(one.instance.service)
            if service is None or not value.isdigit() or not 0 < int(value[:6]) <= 10_000:
                continue
            span = service.where.get("workers")
            if span is None:
                services[service.name] = replace(service, workers=int(value))
                self.assumptions = [
                    a for a in self.assumptions if a.name != f"{service.name}.workers"
                ]
                continue
            place = span if isinstance(span, Span) else None
            hint = "leave 'workers' out: the compose file says it"
            text = f"its containers have WEB_CONCURRENCY={value}"
            if int(value) != service.workers:
                self.error(f"workers is {service.workers}, but {text}", place, hint)
            else:
                self.warn("HA207", f"workers is stated twice: {text}", place, hint)
        self.services = tuple(services.values())

    def groups(self, placed: list[Placed]) -> dict[str, tuple[str, ...]]:
        """Groups of instance names; members may be written as service or container names."""
        made = {}
        for group, members in self.stackfile.groups.items():
            found: list[str] = []
            for i, member in enumerate(members):
                hits = [p.name for p in placed if member in (p.name, p.instance.compose_service)]
                if not hits:
                    hint = did_you_mean(member, [p.name for p in placed])
                    span = self.stackfile.span("groups", group, i)
                    self.error(f"'{member}' is no instance of this stack", span, hint)
                found += hits
            made[group] = tuple(dict.fromkeys(found))
        return made


class MountedFiles:
    """The stack's folder as one container sees it (components.base.Folder)."""

    def __init__(self, work: Loading, one: Placed):
        self.work, self.one = work, one

    def text(self, path: str, optional: bool = False) -> str | None:
        """The text of a file; None if it cannot be read, which is reported.

        optional: that there is none is no problem.
        """
        try:
            return self.work.files.text(path)
        except (OSError, ValueError) as error:
            if not (optional and isinstance(error, FileNotFoundError)):
                self.work.error(*_unreadable(path, self.one.instance.span, error))
            return None

    def mounted(self, one: Placed, path: str) -> tuple[str, bool] | None:
        """The folder's file behind a path of the container, and whether it is a file mount."""
        if one.service is None:
            return None
        return mounted(one.service, path)


def _unreadable(path: str, span: Span | None, error: Exception) -> tuple[str, Span | None, str]:
    """Message, place and hint for a file that a container is to read and cannot."""
    why, hint = getattr(error, "strerror", None) or str(error), ""
    if isinstance(error, FileNotFoundError):
        hint = "check the path; Docker makes an empty directory of a bind mount's missing source"
    elif isinstance(error, IsADirectoryError):
        hint = "put a file there: a daemon cannot read a directory as its configuration"
    elif isinstance(error, ValueError):
        hint = "put a regular file of UTF-8 text into the stack's folder"
    return f"cannot read '{path}': {why}", span, hint


def _version(text: str) -> tuple[int, int, int] | None:
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None
