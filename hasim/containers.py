"""From compose services and plain processes to Instances: who runs where, as which service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from hasim.components.base import Placed as Placed
from hasim.components.base import components
from hasim.errors import Finding, did_you_mean
from hasim.model import HealthCheck, Instance, Port, Service, image_name
from hasim.read.compose_types import ComposeProject, ComposeService
from hasim.read.stackfile import StackFile
from hasim.source import Default, Origin

CONFIG = "/usr/local/etc/haproxy/haproxy.cfg"  # source: image haproxy, its default command
# Docker's defaults. Source: Docker documentation, "HEALTHCHECK" and "docker stop".
HEALTH = {"interval_s": 30.0, "timeout_s": 30.0, "retries": 3, "start_period_s": 0.0}
GRACE_S = 10.0


def is_haproxy(image: str) -> bool:
    """Whether an image is HAProxy's, by the last part of its name."""
    return "haproxy" in image_name(image)


def profile_of(service: ComposeService, profiles: Iterable[str]) -> str:
    """The service of profile.yaml that a compose service runs, or "".

    By its own name, its container's, the one that it extends, or its name less a number.
    """
    known = set(profiles)
    tries = [service.name, service.container_name, *(name for _, name in service.extends)]
    tries.append(re.sub(r"[-_]\d+$", "", service.name))
    return next((t for t in tries if t in known), "")


def place_project(
    host: str, project: ComposeProject, profiles: Mapping[str, Service]
) -> tuple[list[Placed], list[Finding]]:
    """The instances of one compose project on one host, in file order."""
    placed, found = [], []
    for service in project.services.values():
        if service.profiles:
            text = f"service '{service.name}' has profiles: it is not started by default"
            found.append(Finding("warning", "HA201", text, service.where.get("profiles")))
            continue
        named = profile_of(service, profiles)
        one = _place(host, project, service, named)
        if one.instance.kind == "other":
            text = f"'{service.name}' ({service.image or 'built'}) is not simulated"
            hint = f"profile.yaml says nothing of '{service.name}'"
            found.append(Finding("warning", "HA202", text, service.span, hint))
        if one.instance.kind == "haproxy" and not one.config:
            text = f"'{service.name}' mounts no configuration at {CONFIG}"
            found.append(Finding("error", "HA203", text, service.span))
        count = service.replicas
        for i in range(1, count + 1):
            name = one.name if count == 1 else f"{one.name}-{i}"
            placed.append(replace(one, instance=replace(one.instance, name=name)))
    return placed, found


def _place(host: str, project: ComposeProject, service: ComposeService, named: str) -> Placed:
    kind = _kind(service, named)
    networks = _networks(project, service)
    ports = tuple(
        Port(p.host_ip, p.host_port, p.container_port, p.span)
        for p in service.ports
        if p.protocol == "tcp"
    )
    listens = sorted({p.container_port for p in ports} | set(service.expose))
    where: dict[str, Origin] = dict(service.where)
    for key, text in (("restart", "no"), ("stop_grace_period", "10 s"), ("stop_signal", "SIGTERM")):
        where.setdefault(key, Default(f"Docker: {text}"))
    instance = Instance(
        name=service.container_name or service.name,
        kind=kind,
        host=host,
        service=named,
        compose_service=service.name,
        image=service.image,
        ports=ports,
        network_mode=service.network_mode or "bridge",
        networks=tuple(networks),
        listen_ports=tuple(listens),
        cpus=service.cpus,
        cpu_shares=service.cpu_shares or 1024,
        mem_limit_bytes=service.mem_limit_bytes,
        restart=service.restart or "no",
        stop_signal=service.stop_signal or "SIGTERM",
        stop_grace_s=GRACE_S if service.stop_grace_s is None else service.stop_grace_s,
        init=service.init,
        depends_on=tuple((d.service, d.condition) for d in service.depends_on),
        healthcheck=_health(service),
        span=service.span,
        where=where,
    )
    aliases = [a for use in service.networks for a in use.aliases]
    names = dict.fromkeys((service.name, service.container_name, service.hostname, *aliases))
    return Placed(
        instance,
        names=tuple(n for n in names if n),
        static={networks[i]: u.ipv4_address for i, u in enumerate(service.networks) if networks},
        environment=service.environment,
        extra_hosts=service.extra_hosts,
        config=_config(service) if kind == "haproxy" else "",
        service=service,
        overlays=frozenset(r.real_name for r in project.networks.values() if r.driver == "overlay"),
    )


def _kind(service: ComposeService, named: str) -> str:
    """The component that understands a container; `other`: none does."""
    if is_haproxy(service.image):
        return "haproxy"
    found = (kind for kind, one in components().items() if one.recognises(service))
    return next(found, "service" if named else "other")


def _networks(project: ComposeProject, service: ComposeService) -> list[str]:
    """The engine's names of a service's networks."""
    if service.network_mode:
        return []
    uses = [u.network for u in service.networks] or ["default"]
    known = project.networks
    return [known[n].real_name if n in known else f"{project.name}_{n}" for n in uses]


def _health(service: ComposeService) -> HealthCheck | None:
    check = service.healthcheck
    if check is None or check.disable or check.test[:1] == ("NONE",) or not check.test:
        return None
    where: dict[str, Origin] = {}
    values = {}
    for key, default in HEALTH.items():
        stated = getattr(check, key)
        values[key] = default if stated is None else stated
        name = key.removesuffix("_s")
        span = service.where.get(f"healthcheck.{name}")
        where[key] = span or Default(f"Docker HEALTHCHECK --{name.replace('_', '-')}")
    return HealthCheck(check.test, **values, where=where)  # type: ignore[arg-type]


def _config(service: ComposeService) -> str:
    """The file in the stack's folder that HAProxy reads, or ""."""
    words = service.words
    path = CONFIG
    for flag, value in zip(words, words[1:], strict=False):
        if flag == "-f":
            path = value
    found = mounted(service, path)
    return found[0] if found else ""


def mounted(service: ComposeService, path: str) -> tuple[str, bool] | None:
    """(file of the stack's folder behind a path inside of a container, is it mounted as a single
    file?); None if no bind mount of the folder holds it.
    """
    best: tuple[str, bool] | None = None
    longest = -1
    for mount in service.volumes:
        inner = mount.target.rstrip("/")
        holds = mount.kind == "bind" and (path == inner or path.startswith(inner + "/"))
        if holds and len(inner) > longest:
            best = _clean(mount.source) + path[len(inner) :], path == inner
            longest = len(inner)
    return best


def _clean(path: str) -> str:
    return path[2:] if path.startswith("./") else path


def place_plain(
    stackfile: StackFile, profiles: Mapping[str, Service]
) -> tuple[list[Placed], list[Finding]]:
    """The processes of stack.yaml's `plain:`; they use their host's network."""
    placed, found = [], []
    for process in stackfile.plain:
        if process.service and process.service not in profiles:
            text = f"service '{process.service}' is not in profile.yaml"
            span = stackfile.span("plain", process.name, "service")
            found.append(
                Finding("error", "HA104", text, span, did_you_mean(process.service, profiles))
            )
            continue
        instance = Instance(
            name=process.name,
            kind="haproxy" if process.haproxy else "service",
            host=process.host,
            service=process.service,
            network_mode="host",
            listen_ports=(process.port,) if process.port else (),
            restart="always" if process.restart else "no",
            span=process.span,
        )
        placed.append(Placed(instance, names=(process.name,), config=process.haproxy))
    return placed, found


def unique(placed: list[Placed]) -> list[Placed]:
    """Names that two hosts share become `name@host`; dependencies become instance names."""
    names = [p.name for p in placed]
    renamed: list[Placed] = []
    used: set[str] = set()
    for p in placed:
        name = p.name if names.count(p.name) == 1 else f"{p.name}@{p.instance.host}"
        number = 2
        while name in used:  # refused by compose (HA147), yet each needs a name of its own
            name = f"{p.name}@{p.instance.host}#{number}"
            number += 1
        used.add(name)
        renamed.append(replace(p, instance=replace(p.instance, name=name)))
    return [replace(p, instance=_depending(p.instance, renamed)) for p in renamed]


def _depending(instance: Instance, placed: list[Placed]) -> Instance:
    if not instance.depends_on:
        return instance
    wanted = tuple(
        (p.name, condition)
        for service, condition in instance.depends_on
        for p in placed
        if p.instance.host == instance.host and p.instance.compose_service == service
    )
    return replace(instance, depends_on=wanted)
