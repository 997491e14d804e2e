"""Redis Sentinel: watches masters, agrees with its like that one is down, promotes a replica.

Read beside reference/redis-sentinel.md (src/sentinel.c 7.0.15).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

from hasim.components.base import Component, Configured, Folder, Machine, Placed, Process
from hasim.components.sentinel.config import NO_NAMES, SentinelConfig, meaning
from hasim.model import BootFailure, Service, Stack
from hasim.read.redis_values import Values, launch
from hasim.source import Span

if TYPE_CHECKING:
    from hasim.errors import Finding
    from hasim.model import Instance
    from hasim.read.compose_types import ComposeService
    from hasim.read.redis_conf import Start
    from hasim.sim.world import World

# From exec to the open port. Source: measured on 7.0.15, 8 starts: 23 to 55 ms, median 36.
START_S = 0.036
RD_NAMES, RD_STATE = "RD-1", "RD-2"  # ids of reference/guide-audit.md


class SentinelComponent(Component):
    """One redis-sentinel process."""

    kind = "sentinel"
    reads = ("sentinel.conf",)

    def recognises(self, service: ComposeService) -> bool:
        start = launch(service, service.span)
        return start is not None and start.sentinel

    def configure(self, one: Placed, folder: Folder) -> Configured:
        """sentinel.conf, and whether Sentinel can rewrite it."""
        here = one.instance.span or Span(one.name, 1, 1)
        start = launch(one.service, here)
        if start is None:
            return Configured()
        values = Values(f"sentinel.{one.name}")
        found = folder.mounted(one, start.copied or start.path) if start.path else None
        text = folder.text(found[0]) if found else None
        if found is None or text is None:
            failure = BootFailure(
                one.name, "Sentinel needs config file on disk, none is mounted", here
            )
            return Configured(SentinelConfig(), failures=(failure,), ports=(26379,))
        values.read_file(text, found[0])
        values.lines += start.flags
        state = _state(one, start, found)
        config = meaning(values, state, found[1] and not start.copied)
        failures = [_failure(one, reason, span) for reason, span in values.refused]
        if not start.copied and _read_only(one, start.path):
            reason = "Sentinel config file is not writable: Permission denied. Exiting..."
            failures.append(BootFailure(one.name, reason, here, RD_STATE))
        return Configured(
            config=config,
            findings=tuple(values.findings),
            knobs=tuple(values.knobs),
            failures=tuple(failures),
            ports=(config.port,),
            dials=tuple((m.host, m.port) for m in config.masters),
        )

    def station(self, service: Service, instance: Instance) -> Service:
        return service

    def daemon(self, p: Process, world: World, machine: Machine) -> Generator:
        """Start, then the timer."""
        from hasim.components.sentinel.clients import clients
        from hasim.components.sentinel.daemon import Sentinel

        config = machine.containers[p.instance].spec.config or SentinelConfig()
        yield world.seconds(START_S)
        yield from p.awake()
        if not p.alive:
            return
        sentinel = p.data = Sentinel(p, world, machine, config)
        sentinel.observers.append(clients(world, machine).refresh)
        _show(machine, p.instance)
        blame = machine.containers[p.instance].blame
        machine.listen(p, True, blame)
        clients(world, machine).refresh()
        yield from sentinel.run()

    def settled(self, p: Process, machine: Machine) -> bool:
        """It has met the replicas of each master and every other Sentinel that runs."""
        from hasim.components.sentinel.memory import fellows

        if p.data is None:
            return False
        for master in p.data.masters:
            node = p.data.nodes.get(master.entry.name)
            others = {f.id for f in fellows(p.data, master.name)} - {p.data.id}
            if node is not None and len(node.replicas) > len(master.slaves):
                return False
            if not others <= {e.id for e in master.sentinels}:
                return False
        return True

    def lint(self, stack: Stack) -> Iterable[Finding]:
        from hasim.components.sentinel.lint import lint

        return lint(stack)


def _failure(one: Placed, reason: str, span: Span) -> BootFailure:
    return BootFailure(one.name, reason, span, RD_NAMES if reason == NO_NAMES else "")


def _state(one: Placed, start: Start, found: tuple[str, bool]) -> str:
    """Where the rewritten file is kept: "" if it cannot be (a single file cannot be renamed over,
    and a copy made at each start is made again).
    """
    if start.copied:
        return one.name if start.keeps else ""
    return "" if found[1] else f"{one.instance.host}:{found[0]}"


def _read_only(one: Placed, path: str) -> bool:
    if one.service is None:
        return False
    mounts = [m for m in one.service.volumes if path.startswith(m.target.rstrip("/"))]
    return bool(mounts) and max(mounts, key=lambda m: len(m.target)).read_only


def _show(machine: Machine, name: str) -> None:
    """Gauges of redis_exporter for a Sentinel."""

    def gauge(metric: str, master: str, read: Any) -> None:
        def now() -> float | None:
            p = machine.containers[name].process
            found = None if p is None or p.data is None or p.frozen else p.data.masters
            one = next((m for m in found or () if m.name == master), None)
            return None if one is None else float(read(one))

        machine.gauges[name, metric, (("master_name", master),)] = now

    config = machine.containers[name].spec.config
    for one in config.masters if config else ():
        gauge("redis_sentinel_master_status", one.name, lambda m: not m.entry.o_down)
        gauge("redis_sentinel_master_slaves", one.name, lambda m: len(m.slaves))
        gauge("redis_sentinel_master_sentinels", one.name, lambda m: len(m.sentinels) + 1)
        gauge(
            "redis_sentinel_master_ok_sentinels",
            one.name,
            lambda m: 1 + sum(not s.s_down for s in m.sentinels),
        )


COMPONENT = SentinelComponent()
