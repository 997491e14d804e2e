"""Redis: a server with a role, its replication and what it keeps on disk.

Read beside reference/redis-sentinel.md sections 11 and 13 (src/replication.c 7.0.15).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from hasim.components.base import Component, Configured, Folder, Machine, Placed, Process
from hasim.components.redis.config import RedisConfig, meaning
from hasim.model import BootFailure, Service, Stack
from hasim.read.redis_values import Values, launch
from hasim.source import Span

if TYPE_CHECKING:
    from hasim.errors import Finding
    from hasim.model import Instance
    from hasim.read.compose_types import ComposeService
    from hasim.sim.world import World

# From exec to the open port with a small dataset. Source: measured on 7.0.15, 8 starts: 22 to 74
# ms, median 42; profile.yaml's `boot` replaces it.
START_S = 0.042


# Shorter boots are the container's own; of longer ones the rest is the dataset that is loaded.
# Source: our choice.
LOADS_S = 1.0


class RedisComponent(Component):
    """One redis-server process."""

    kind = "redis"
    reads = ("redis.conf", "command of the compose service")

    def recognises(self, service: ComposeService) -> bool:
        start = launch(service, service.span)
        return start is not None and not start.sentinel

    def configure(self, one: Placed, folder: Folder) -> Configured:
        """redis.conf if one is named, then the flags of the command."""
        here = one.instance.span or Span(one.name, 1, 1)
        start = launch(one.service, here)
        if start is None:
            return Configured(RedisConfig(), ports=(6379,))
        values, failures, rewritable = Values(f"redis.{one.name}"), [], False
        if start.path:
            found = folder.mounted(one, start.copied or start.path)
            text = folder.text(found[0]) if found else None
            if found is None or text is None:
                reason = f"can't open config file '{start.path}'"
                failures.append(BootFailure(one.name, reason, here))
            else:
                values.read_file(text, found[0])
                rewritable = start.keeps if start.copied else not found[1]
        values.lines += start.flags
        config = meaning(values, start, rewritable)
        failures += [BootFailure(one.name, reason, span) for reason, span in values.refused]
        return Configured(
            config=config,
            findings=tuple(values.findings),
            knobs=tuple(values.knobs),
            failures=tuple(failures),
            ports=(config.port,),
            dials=(config.replicaof,) if config.replicaof else (),
        )

    def station(self, service: Service, instance: Instance) -> Service:
        """One thread serves all commands; the event loop accepts at once."""
        config = instance.config or RedisConfig()
        backlog = min(service.backlog, config.tcp_backlog)
        return replace(service, workers=1, mode="async", backlog=backlog)

    def daemon(self, p: Process, world: World, machine: Machine) -> Generator:
        """Load, listen, take the role, and leave at a signal."""
        from hasim.components.redis.server import Server

        container = machine.containers[p.instance]
        config = container.spec.config or RedisConfig()
        boot_s = _boot_s(machine, p)
        loads = boot_s >= LOADS_S
        yield world.seconds(START_S if loads else boot_s)
        yield from p.awake()
        if not p.alive:
            return
        server = p.data = Server(p, world, machine, config)
        if loads:
            yield from _load(server, boot_s - START_S)
            if not p.alive:
                return
        machine.notice(p.instance, lambda: _changed(server))
        machine.listen(p, True, server.say("Ready to accept connections", "", container.blame))
        server.begin()
        server.changed()
        _show(machine, p.instance)
        while (signal := (yield from p.signal())) is not None:
            what, cause = signal
            if what in ("SIGTERM", "SIGINT"):
                mark = server.say("User requested shutdown...", what, cause)
                server.graceful = True
                machine.exit(p, 0, mark)

    def settled(self, p: Process, machine: Machine) -> bool:
        """A replica streams; a master has begun to take writes or waits for its replicas."""
        server = p.data
        if server is None or server.loading:
            return False
        return server.role == "master" or server.follower.up or server.follower.hopeless

    def lint(self, stack: Stack) -> Iterable[Finding]:
        from hasim.components.redis.lint import lint

        return lint(stack)


def _boot_s(machine: Machine, p: Process) -> float:
    """From exec to the first request served: profile.yaml's `boot`, if it says anything."""
    service = machine.containers[p.instance].service
    if service is None:
        return START_S
    if service.boot.kind != "const":
        return machine.sample(service.boot, f"boot {p.instance}", p.epoch, "boot")
    return service.boot.a or START_S


def _load(server, seconds: float) -> Generator:
    """The dataset is read: the port is open and every command of a client gets -LOADING. To users
    that is the same as a closed port, to Sentinel the server is up.
    """
    server.loading = True
    server.say(
        "Loading the dataset", f"{seconds:.1f} s", server.machine.containers[server.name].blame
    )
    server.waiters()
    yield server.world.seconds(seconds)
    yield from server.p.awake()
    server.loading = False


def _changed(server) -> None:
    """The process goes on: it looks at its replicas. It is gone: what is on disk stays. While it is
    stopped it takes no writes, so it has no part in a split brain.
    """
    branch = server.branch
    if server.p.alive and server.p.frozen:
        if branch is not None:
            server.cluster.close(branch)
    elif server.p.alive:
        if branch is not None and branch.closed is not None:
            server.cluster.reopen(branch)
        server.guard.look()
    elif not server.p.alive and not server.left:
        server.left = True
        host = server.machine.containers[server.name].spec.host
        server.leave(server.graceful, not server.machine.powered(host))


def _show(machine: Machine, name: str) -> None:
    """Gauges of redis_exporter."""

    def server():
        p = machine.containers[name].process
        return None if p is None or p.frozen else p.data

    def up() -> float:
        return float(server() is not None)

    def replicas() -> float | None:
        one = server()
        return None if one is None else float(len(one.replicas))

    def link() -> float | None:
        one = server()
        return None if one is None or one.follower is None else float(one.follower.up)

    def master() -> float | None:
        one = server()
        return None if one is None else float(one.role == "master")

    for metric, read in (
        ("redis_up", up),
        ("redis_connected_slaves", replicas),
        ("redis_master_link_up", link),
        ("redis_is_master", master),
    ):
        machine.gauges[name, metric, ()] = read


COMPONENT = RedisComponent()
