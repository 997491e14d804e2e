"""Patroni: a member that keeps a PostgreSQL server, and the cluster's leader lock in etcd.

config, refusals   what the files mean; what does not start
client, cache      requests to etcd with Patroni's time-outs and retries; the watched copy of keys
node               a member's state: its server, its lock, what its REST API answers
ha, race           the HA loop; the leader race
actions, recovery  promote, demote, start, stop; crash recovery, rewind, rejoin
sync               synchronous_mode
Source: Patroni 4.1.5; reference/postgres-patroni.md section 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hasim.components.base import Component, Configured, Folder, Machine, Placed, Process
from hasim.components.patroni.config import PatroniConfig, meaning
from hasim.components.patroni.refusals import failures, knobs
from hasim.components.patroni.slots import slot_name
from hasim.errors import Finding
from hasim.model import Endpoint, Instance, Service, Stack, image_name
from hasim.read.patroni_conf import read
from hasim.source import Span

if TYPE_CHECKING:
    from hasim.read.compose_types import ComposeService
    from hasim.sim.world import World

# What the REST API offers to health checks. Source: Patroni, "Patroni REST API".
URLS = (
    "/", "/primary", "/read-write", "/leader", "/master", "/replica", "/read-only", "/synchronous",
    "/sync", "/asynchronous", "/async", "/health", "/liveness", "/readiness", "/patroni",
)  # fmt: skip


class Patroni(Component):
    """PID 1 of a database container; the server is its inner process `<name>.postgres`."""

    kind = "patroni"
    reads = ("patroni.yml", "PATRONI_*")

    def recognises(self, service: ComposeService) -> bool:
        """By its image, its command, a PATRONI_* variable or a mounted patroni.yml."""
        image = image_name(service.image)
        words = service.words
        return (
            "patroni" in image
            or image.startswith("spilo")
            or any(w.rpartition("/")[2] == "patroni" for w in words)
            or any(k.startswith("PATRONI_") for k in service.environment)
            or any(_is_file(m.target) for m in service.volumes if m.kind == "bind")
        )

    def configure(self, one: Placed, folder: Folder) -> Configured:
        """patroni.yml as mounted, the variables over it."""
        service, here = one.service, one.instance.span
        where = dict(service.where) if service else {}
        origin = here or Span(one.name, 1, 1)
        environment = {
            k: (v, where.get(f"environment.{k}") or origin)
            for k, v in one.environment.items()
            if v is not None
        }
        path = _path(service)
        found = folder.mounted(one, path) if path else None
        text = folder.text(found[0]) if found else None
        conf, findings = read(text, found[0] if found else "", environment)
        config, more = meaning(conf, one.name)
        span = Span(found[0], 1, 1) if text is not None and found else here
        image = where.get("image") if one.instance.image.startswith("patroni/patroni") else None
        dials = [*config.hosts, config.rest, config.postgres]
        return Configured(
            config=replace(config, watchdog_device=_has_watchdog(service)),
            findings=(*findings, *more),
            knobs=tuple(knobs(conf, config)),
            failures=tuple(failures(conf, config, one.name, span, image)),
            inside=(_server(one, config),),
            ports=(config.rest_listen,),
            dials=tuple(d for d in dials if d[0]),
        )

    def lint(self, stack: Stack) -> Iterable[Finding]:
        """A member whose scope nobody shares makes a cluster of its own."""
        members = [i for i in stack.instances if i.kind == self.kind and i.config is not None]
        scopes = Counter(i.config.scope for i in members)
        usual, most = next(iter(scopes.most_common(1)), ("", 0))
        for one in members:
            scope = one.config.scope
            if scope and scopes[scope] == 1 and most > 1:
                text = f"'{one.name}' has scope '{scope}', the others '{usual}'"
                hint = "it makes a cluster of its own and never follows their leader"
                yield Finding("warning", "HA251", text, one.span, hint)

    def station(self, service: Service, instance: Instance) -> Service:
        """The REST API's health URLs; what they answer is set while it runs."""
        known = {e.url for e in service.health}
        more = tuple(Endpoint(url) for url in URLS if url not in known)
        return replace(service, health=(*service.health, *more))

    def daemon(self, p: Process, world: World, machine: Machine) -> Generator:
        """Start, run the HA loop, leave at a signal."""
        from hasim.components.patroni.node import run

        config = machine.containers[p.instance].spec.config or PatroniConfig()
        return run(p, world, machine, config, URLS)

    def settled(self, p: Process, machine: Machine) -> bool:
        """The cluster has a leader that writes, and this member's server accepts connections."""
        node: Any = p.data
        return bool(node.settled())


def _is_file(target: str) -> bool:
    name = target.rpartition("/")[2]
    return "patroni" in target and name.endswith((".yml", ".yaml"))


def _path(service: ComposeService | None) -> str:
    """Where in the container the configuration is: the command's last word, else a mount."""
    if service is None:
        return ""
    words = service.words
    stated = [w for w in words if w.endswith((".yml", ".yaml"))]
    stated += [m.target for m in service.volumes if m.kind == "bind" and _is_file(m.target)]
    return stated[0] if stated else "/etc/patroni.yml"


def _has_watchdog(service: ComposeService | None) -> bool:
    """Is a watchdog device handed to the container (mounted; compose's devices are not read)?"""
    return service is not None and any("/dev/watchdog" in m.target for m in service.volumes)


def _parameters(config: PatroniConfig) -> dict:
    """What the server is started with; a standby uses the slot that bears its member's name."""
    made = dict(config.parameters)
    if config.dynamic.use_slots:
        made["primary_slot_name"] = slot_name(config.name), config.where["use_slots"]
    return made


def _server(one: Placed, config: PatroniConfig) -> Instance:
    return Instance(
        name=f"{one.name}.postgres",
        kind="postgres",
        host=one.instance.host,
        listen_ports=(config.postgres_listen,),
        inside=one.name,
        config=_parameters(config),
        span=one.instance.span,
    )


COMPONENT = Patroni()
