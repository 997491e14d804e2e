"""keepalived: moves a virtual address between load balancers by VRRP.

It runs beside what it watches: a container with `network_mode: host` (and `pid: host`, to see
HAProxy's process). Source: keepalived.conf(5) 2.2, reference on keepalived.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING

from hasim.components.base import Component, Configured, Folder, Machine, Placed, Process
from hasim.errors import Finding
from hasim.model import Knob, image_name
from hasim.source import Span

if TYPE_CHECKING:
    from hasim.components.keepalived.config import Config
    from hasim.model import Stack
    from hasim.read.compose_types import ComposeService
    from hasim.sim.world import World

# Where the daemon looks for its file, its own default first, then that of a well-known image.
# Source: keepalived(8), -f; image osixia/keepalived.
FILES = (
    "/etc/keepalived/keepalived.conf",
    "/usr/local/etc/keepalived/keepalived.conf",
    "/container/service/keepalived/assets/keepalived.conf",
)


class Keepalived(Component):
    """The VRRP daemon of one host."""

    kind = "keepalived"
    reads = ("keepalived.conf",)

    def recognises(self, service: ComposeService) -> bool:
        words = service.words
        named = image_name(service.image)
        runs = words[0].rpartition("/")[2] if words else ""
        return "keepalived" in named or runs == "keepalived" or (
            not service.image and "keepalived" in service.name
        )  # fmt: skip

    def configure(self, one: Placed, folder: Folder) -> Configured:
        from hasim.components.keepalived.config import build
        from hasim.components.keepalived.scripts import looks

        found = _file(one, folder)
        if not found:
            span = one.instance.span
            text = f"'{one.name}' mounts no configuration at {FILES[0]}"
            return Configured(findings=(Finding("error", "HA174", text, span),))
        text_of = folder.text(found)
        if text_of is None:
            return Configured()
        service = one.service
        sees = service is None or service.pid == "host"
        config, findings = build(text_of, found, _asked(one, folder, looks), sees)
        return Configured(config, tuple(findings), tuple(_knobs(one.name, config)))

    def daemon(self, p: Process, world: World, machine: Machine) -> Generator:
        from hasim.components.keepalived.node import Node

        container = machine.containers[p.instance]
        config: Config | None = container.spec.config
        cause = world.log(p.instance, "Starting Keepalived", cause=container.blame)
        machine.listen(p, True, cause)
        if config is None:
            return
        p.data = Node(p, world, machine, config)
        if config.startup_delay_s:
            yield world.seconds(config.startup_delay_s)
            yield from p.awake()
        if p.alive:
            p.data.start(cause)
        while (signal := (yield from p.signal())) is not None:
            self._signal(p, world, machine, config, *signal)

    def _signal(
        self, p: Process, world: World, machine: Machine, config: Config, what: str, cause: int
    ) -> None:
        """SIGTERM: priority 0 and the end. "child": the parent starts the VRRP process again, which
        removes the addresses that the dead one left (measured, 2.2.7). SIGHUP keeps the states.
        """
        from hasim.components.keepalived.node import Node

        if what in ("SIGTERM", "SIGINT"):
            mark = world.log(p.instance, "Stopping", what, cause=cause)
            p.data.stop(mark)
            machine.exit(p, 0, mark)
        elif what == "child":
            for router in p.data.routers:
                router.ended(cause)
            mark = world.log(p.instance, "Keepalived_vrrp exited; Respawning", cause=cause)
            p.data = Node(p, world, machine, config)
            machine.listen(p, True, mark)
            p.data.start(mark)
        elif what == "SIGHUP":
            world.log(p.instance, "Reloading", cause=cause)
        else:
            machine.exit(p, 0, world.log(p.instance, "Stopping", what, cause=cause))

    def settled(self, p: Process, machine: Machine) -> bool:
        """Somebody holds each address, and every backup hears him."""
        return p.data is None or p.data.segment.settled()

    def lint(self, stack: Stack) -> Iterable[Finding]:
        from hasim.components.keepalived.lint import lint

        return lint(stack)


def _file(one: Placed, folder: Folder) -> str:
    """The file of the stack's folder that the daemon reads; "" if none is mounted."""
    service = one.service
    words = service.words if service else ()
    paths = list(FILES)
    for flag, value in zip(words, words[1:], strict=False):
        if flag in ("-f", "--use-file"):
            paths.insert(0, value)
    paths += [w.partition("=")[2] for w in words if w.startswith("--use-file=")]
    for path in paths:
        if found := folder.mounted(one, path):
            return found[0]
    return ""


def _asked(one: Placed, folder: Folder, looks):
    """looks(command), which also opens a script of the folder that the command runs."""

    def asks(command: str) -> str:
        found = looks(command)
        path = command.split()[0] if command else ""
        if found or not path.startswith("/"):
            return found
        mounted = folder.mounted(one, path)
        text = folder.text(mounted[0]) if mounted else None
        lines = [ln for ln in (text or "").splitlines() if not ln.lstrip().startswith("#")]
        return next((hit for ln in lines if (hit := looks(ln))), "")

    return asks


# field -> (word, text of the value). Source: keepalived.conf(5).
_INSTANCE = {
    "priority": "priority",
    "advert_s": "advert_int",
    "preempt_delay_s": "preempt_delay",
    "garp_delay_s": "garp_master_delay",
    "garp_refresh_s": "garp_master_refresh",
}
_SCRIPT = {
    "interval_s": "interval",
    "timeout_s": "timeout",
    "rise": "rise",
    "fall": "fall",
    "weight": "weight",
}


def _knobs(container: str, config: Config) -> Iterator[Knob]:
    """keepalived.<container>.<instance or script>.<word>; a reload puts them in force."""
    for vrrp in config.instances:
        yield from _of(f"keepalived.{container}.{vrrp.name}", vrrp, _INSTANCE)
    scripts = {s.name: s for v in config.instances for s in v.tracks if s.interval_s}
    for script in scripts.values():
        yield from _of(f"keepalived.{container}.{script.name}", script, _SCRIPT)


def _of(prefix: str, one, words: dict[str, str]) -> Iterator[Knob]:
    for field, word in words.items():
        origin = one.where.get(field)
        value = getattr(one, field)
        text = f"{value:g}"
        if isinstance(origin, Span) and origin.start >= 0:
            yield Knob(f"{prefix}.{word}", text, "keepalived", origin, "reload")
        elif origin is not None and one.end is not None and not isinstance(origin, Span):
            line = f"    {word} {{value}}\n" + " " * (one.end.col - 1)
            name = f"{prefix}.{word}"
            yield Knob(name, text, "keepalived", origin, "reload", one.end, line.lstrip(" "))


COMPONENT = Keepalived()
