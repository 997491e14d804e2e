"""track_script and track_process: when a keepalived process notices what happens beside it.

A script runs at every interval from the start of the process; runs that change nothing are no
events. What it asks for is looked up when something about it changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hasim.model import image_name
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.base import Machine, Process
    from hasim.components.keepalived.config import Script
    from hasim.model import Instance
    from hasim.sim.world import World


class Check:
    """One script of one process. good: its state as keepalived knows it, None before the first
    result. told(good, cause) is called when that changes.
    """

    def __init__(
        self,
        p: Process,
        world: World,
        machine: Machine,
        script: Script,
        targets: tuple[str, ...] | None,
        told: Callable[[Check, int], None],
    ):
        self.p, self.world, self.machine = p, world, machine
        self.script, self.targets, self.told = script, targets, told
        self.good: bool | None = None
        self.base_ns = int(world.env.now)
        self._raw = True
        self._since_ns = self.base_ns
        self._last, self._count = True, 0  # outcome of the latest run, how often in a row
        self._number = 0

    def start(self, cause: int) -> None:
        """The first run comes with the start; its result counts at once (measured, 2.2.7)."""
        self._raw = self._last = self._look()
        self._count = 1
        self._settle(self._raw, cause)

    def changed(self) -> None:
        """Something about a target may have changed."""
        raw = self._look()
        if raw == self._raw or not self.p.alive or self.p.frozen:
            return
        now = int(self.world.env.now)
        seen = self._runs(now) - self._runs(self._since_ns)
        if seen:
            self._count = seen + (self._count if self._last == self._raw else 0)
            self._last = self._raw
        self._raw, self._since_ns = raw, now
        self._plan()

    def resumed(self) -> None:
        """The process was stopped: its scripts run again from now on."""
        self.base_ns = int(self.world.env.now)
        self._since_ns, self._count = self.base_ns, 0
        self._raw = self._look()
        self._plan(self.base_ns)

    def _runs(self, t_ns: int) -> int:
        """Runs up to t_ns."""
        step = round(self.script.interval_s * NS)
        return (t_ns - self.base_ns) // step + 1 if step else 0

    def _plan(self, first_ns: int = -1) -> None:
        """When the new outcome becomes the state: after fall or rise runs in a row."""
        self._number += 1
        if self._raw == self.good:
            return
        now, step = int(self.world.env.now), round(self.script.interval_s * NS)
        needs = self.script.rise if self._raw else self.script.fall
        if step == 0:  # a tracked process: its end is an event of the kernel
            self._later(0)
            return
        if first_ns < 0:
            first_ns = self.base_ns + self._runs(now) * step
        ran = self._count if self._last == self._raw else 0
        due = first_ns + max(0, needs - 1 - ran) * step
        if not self._raw and self._hangs():
            due += round((self.script.timeout_s or self.script.interval_s) * NS)
        self._later(due - now)

    def _later(self, wait_ns: int) -> None:
        number = self._number
        timer = self.world.env.timeout(max(0, wait_ns))
        timer.callbacks.append(lambda _: self._due(number))

    def _due(self, number: int) -> None:
        if number == self._number and self.p.alive and not self.p.frozen:
            self._settle(self._raw, self._blame())

    def _settle(self, good: bool, cause: int) -> None:
        self.good = good
        word = "succeeded" if good else "failed"
        kind = "VRRP_Script" if self.script.interval_s else "Process"
        where = self.script.where.get("command") or self.script.span
        text = f"{kind}({self.script.name}) {word}"
        mark = self.world.log(self.p.instance, text, cause=cause, origin=where)
        self.told(self, mark)

    # ---- what it asks for ----------------------------------------------------------------------
    def _look(self) -> bool:
        """The outcome of a run now."""
        if self.targets is None:
            return True
        by_port = self.script.looks.startswith("port")
        for name in self.targets:
            p = self.machine.containers[name].process
            if p is not None and (not by_port or (p.listening and not p.frozen)):
                return True
        return False

    def _hangs(self) -> bool:
        """A request to a stopped process: connected, never answered."""
        held = (self.machine.containers[n].process for n in self.targets or ())
        return self.script.looks.startswith("port") and any(p and p.frozen for p in held)

    def _blame(self) -> int:
        return max((self.machine.containers[n].blame for n in self.targets or ()), default=-1)


def targets(script: Script, own: Instance, sees_host: bool, stack: Any) -> tuple[str, ...] | None:
    """The instances that a script asks after; None: it always succeeds, (): it never does."""
    what, _, value = script.looks.partition(" ")
    here = [i for i in stack.instances if i.host == own.host and i.name != own.name]
    if what == "process":
        named = tuple(i.name for i in here if _is(i, value))
        return named if sees_host else ()
    if what == "port":
        return tuple(i.name for i in here if int(value) in _ports(i, stack))
    return None


def _is(one: Instance, process: str) -> bool:
    """Is this the name of the instance's process?"""
    image = image_name(one.image)
    return process in (one.kind, image, one.name, one.service)


def _ports(one: Instance, stack: Any) -> set[int]:
    """Ports of its host that an instance takes."""
    if one.network_mode != "host":
        return {p.host_port for p in one.ports}
    binds = [
        port
        for b in stack.balancers
        if b.instance == one.name
        for f in b.frontends
        for _, port in f.binds
    ]
    return {*one.listen_ports, *binds}


def looks(command: str) -> str:
    """What a script asks for, as far as its command tells: see Script.looks.

    >>> looks("/usr/bin/killall -0 haproxy")
    'process haproxy'
    >>> looks("curl -fs http://127.0.0.1:8009/health")
    'port 8009'
    """
    import re

    text = " ".join(command.split())
    for pattern in (
        r"(?:killall|pkill) (?:-q |-e )*-(?:0|s 0)(?: -x| -q)* ([\w.-]+)",
        r"(?:pgrep|pidof)(?: -\w+)* ([\w.-]+)",
        r"kill -0 [^|;&]*?(?:pidof|pgrep)(?: -\w+)* ([\w.-]+)",
        r"kill -0 [^|;&]*?([\w-]+)\.pid",
    ):
        if match := re.search(pattern, text):
            return f"process {match[1]}"
    local = r"(?:localhost|127\.0\.0\.1|\[::1\])"
    for pattern in (
        rf"(?:curl|wget) .*?https?://{local}:(\d+)",
        rf"nc(?: -\w+(?: \d+)?)* {local} (\d+)",
        rf"/dev/tcp/{local}/(\d+)",
    ):
        if match := re.search(pattern, text):
            return f"port {match[1]}"
    match = re.search(rf"(?:curl|wget) .*?(https?)://{local}(?:/|\s|$)", text)
    return f"port {443 if match[1] == 'https' else 80}" if match else ""
