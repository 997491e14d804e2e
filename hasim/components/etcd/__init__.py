"""etcd: members, quorum, leases and watches, as far as Patroni's fate depends on them.

Source: etcd 3.4 documentation; reference/postgres-patroni.md section 3.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from hasim.components.base import Component, Configured, Folder, Machine, Placed, Process
from hasim.components.etcd.config import EtcdConfig, meaning
from hasim.model import image_name
from hasim.read.etcd_conf import config_file, read
from hasim.source import Span

if TYPE_CHECKING:
    from hasim.read.compose_types import ComposeService
    from hasim.sim.world import World

# From exec until the member talks to others and accepts connections. Source: measured, etcd
# 3.4.23, `etcd` to the first answer of a new member: 0.22 s, of one with data 0.4 s before its
# election timeout.
START_NEW_S = 0.2
START_S = 0.4


class Etcd(Component):
    """One member of an etcd cluster."""

    kind = "etcd"
    reads = ("etcd.conf.yml", "etcd flags", "ETCD_*")

    def recognises(self, service: ComposeService) -> bool:
        """By the image's name, or by a command that starts etcd."""
        image = image_name(service.image)
        words = service.words
        first = words[0].rpartition("/")[2] if words else ""
        return image == "etcd" or first == "etcd" or image.startswith("etcd-")

    def configure(self, one: Placed, folder: Folder) -> Configured:
        """Flags of the command, ETCD_* variables or the configuration file."""
        service = one.service
        words: tuple[str, ...] = ()
        here = one.instance.span or Span(one.name, 1, 1)
        span, where = here, {}
        if service is not None:
            words = service.words
            span = service.where.get("command") or here
            where = dict(service.where)
        environment = {
            k: (v, where.get(f"environment.{k}") or here)
            for k, v in one.environment.items()
            if v is not None
        }
        path = config_file(words, environment)
        found = folder.mounted(one, path) if path else None
        text = folder.text(found[0]) if found else None
        conf, findings = read(words, span, environment, text, found[0] if found else "")
        config, more, failures, knobs = meaning(conf, one.name, here)
        dials = tuple((h, port) for name, h, port in config.peers if name != config.name)
        return Configured(
            config=config,
            findings=(*findings, *more),
            knobs=tuple(knobs),
            failures=tuple(failures),
            ports=(config.client_port, config.peer_port),
            dials=dials,
        )

    def daemon(self, p: Process, world: World, machine: Machine) -> Generator:
        """Start, serve, and leave at a signal."""
        from hasim.components.etcd.member import Member

        config = machine.containers[p.instance].spec.config or EtcdConfig()
        member = p.data = Member(p, world, machine, config)
        yield world.seconds(START_NEW_S if member.fresh else START_S)
        yield from p.awake()
        if not p.alive:
            return
        machine.listen(p, True)
        member.silent_ns = int(p.env.now)
        member.start()
        while (signal := (yield from p.signal())) is not None:
            what, cause = signal
            if what != "child":
                # Source: embed/etcd.go Close: listeners close, the process ends at once (a
                # leader first hands over; 3.4 tries so for at most its request timeout).
                mark = world.log(p.instance, "received signal; shutting down", what, cause=cause)
                member.hand_over()
                machine.exit(p, 0, mark)

    def settled(self, p: Process, machine: Machine) -> bool:
        """It follows a leader or leads."""
        member: Any = p.data
        return bool(member.leader)


COMPONENT = Etcd()
