"""Fault verbs that daemons take part in: disks, clocks, inner processes, orderly hand-over.

Duck-typed: a daemon that reacts has the method on Process.data: disk_full(on, cause),
disk_slow(factor, cause), clock_jump(seconds), switchover(cause), link(up, cause), role.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hasim.errors import did_you_mean
from hasim.sim.fault_network import Repair, Target
from hasim.sim.up import listens
from hasim.targets import LEADS, ROLES

if TYPE_CHECKING:
    from hasim.scenario import Fault
    from hasim.sim.instances import Machine
    from hasim.sim.world import World

# A name server that answers later than HAProxy waits (`timeout retry`) is as good as silent.
# Source: reference/haproxy.md section 6.1.
DNS_PATIENCE_S = 1.0

# The status of a failing health URL where the scenario gives none. Source: reference/haproxy.md
# section 5 ("health 5xx").
UNHEALTHY_STATUS = 503

# What each verb calls on a daemon.
CALLS = {
    "disk-full": "disk_full",
    "disk-slow": "disk_slow",
    "clock-jump": "clock_jump",
    "switchover": "switchover",
}
# Words for "the serving process below PID 1" where the files name no process of its own.
CHILDREN = ("", "worker", "child")


class DaemonFaults:
    """The verbs; mixed into Faults."""

    world: World
    machine: Machine
    _instances: Callable[[Sequence[Target]], list[str]]

    def _do_disk_full(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        return self._disk("disk_full", targets, True, False, cause)

    def _do_disk_slow(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        return self._disk("disk_slow", targets, float(fault.args["factor"]), 1.0, cause)

    def _disk(self, method: str, targets: list[Target], bad: Any, good: Any, cause: int) -> Repair:
        """The state of a disk outlives the process: one that starts later is told, too."""
        state: dict[str, Any] = {"value": bad, "cause": cause}
        names = with_inner(self.machine, self._instances(targets))

        def tell(name: str) -> None:
            p = self.machine.containers[name].process
            call = getattr(p.data, method, None) if p is not None else None
            if callable(call):
                call(state["value"], state["cause"])

        def again(name: str) -> Callable[[], None]:
            told = self.machine.containers[name].process

            def call() -> None:
                nonlocal told
                p = self.machine.containers[name].process
                if p is not None and p is not told and p.data is not None:
                    told = p
                    if state["value"] == bad:
                        tell(name)

            return call

        for name in names:
            tell(name)
            self.machine.notice(name, again(name))

        def repair(mark: int) -> None:
            state.update(value=good, cause=mark)
            for name in names:
                tell(name)

        return repair

    def _do_clock_jump(self, fault: Fault, targets: list[Target], cause: int) -> Generator:
        for p in self._with(targets, "clock_jump"):
            p.data.clock_jump(float(fault.args["by"]))
        yield self.world.seconds(0)

    def _do_switchover(self, fault: Fault, targets: list[Target], cause: int) -> Generator:
        for p in self._with(targets, "switchover"):
            p.data.switchover(cause)
        yield self.world.seconds(0)

    def _with(self, targets: Sequence[Target], method: str) -> Iterator[Any]:
        """The running processes among the targets whose daemon has the method."""
        for name in with_inner(self.machine, self._instances(targets)):
            p = self.machine.containers[name].process
            if p is not None and callable(getattr(p.data, method, None)):
                yield p

    def _do_kill_process(self, fault: Fault, targets: list[Target], cause: int) -> Generator:
        """SIGKILL to a process below PID 1; over once the supervisors have one that listens."""
        victims = []
        for name in self._instances(targets):
            inner = inner_process(self.machine, name, fault.args.get("process", ""))
            victims.append(inner or name)
            p = self.machine.containers[inner or name].process
            if inner and p is not None:
                self.machine.exit(p, 137, cause)
            elif not inner:
                self.machine.kill_child(name, cause)
        yield self._listening(victims)

    def _listening(self, names: list[str]) -> Any:
        """An event: all of them listen (again)."""
        event = self.world.env.event()

        def look() -> None:
            if not event.triggered and all(listens(self.machine, name) for name in names):
                event.succeed()

        for name in names:
            self.machine.notice(name, look)
        look()
        return event

    def _do_unhealthy(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """It serves, but the health URL fails. url: live | ready | both | a path."""
        status = int(fault.args.get("status", UNHEALTHY_STATUS))
        names = self._instances(targets)

        def turn(code: int, mark: int) -> None:
            for name in names:
                self.machine.containers[name].blame = mark
                for url in health_urls(self.machine, name, fault.args.get("url", "both")):
                    self.machine.set_unhealthy(name, url, code)

        turn(status, cause)
        return lambda mark: turn(0, mark)

    def _do_dns(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """silent | nx | slow, at every resolver."""
        mode = fault.args.get("mode", "silent")
        if mode == "slow":
            late = float(fault.args.get("latency", DNS_PATIENCE_S))
            mode = "silent" if late >= DNS_PATIENCE_S else "ok"
        self.machine.set_dns(mode, cause)
        return lambda mark: self.machine.set_dns("ok", mark)

    # ---- what is wrong with a fault before it strikes ------------------------------------------
    def daemon_problem(self, fault: Fault, targets: Sequence[Target]) -> str:
        """Why the fault would have no effect; "" if it has one."""
        names = self._instances(targets)
        process = fault.args.get("process", "")
        if fault.do == "kill-process":
            return self._no_process(names, process)
        if fault.do == "pause" and process:
            own = {self.machine.containers[n].spec.kind for n in names}
            return "" if process in own else self._no_process(names, process)
        method = CALLS.get(fault.do)
        running = [self.machine.containers[n].process for n in with_inner(self.machine, names)]
        if method is None or any(p is None for p in running) or list(self._with(targets, method)):
            return ""
        kinds = dict.fromkeys(self.machine.containers[n].spec.kind for n in names)
        return f"'{fault.do}' does nothing to {', '.join(kinds)} in this version"

    def _no_process(self, names: list[str], process: str) -> str:
        for name in names:
            known = self.machine.network.inside.get(name, [])
            if process in CHILDREN or inner_process(self.machine, name, process) or not known:
                continue
            short = [n.rpartition(".")[2] for n in known]
            hint = did_you_mean(process, short) or f"it has {', '.join(short)}"
            return f"'{name}' runs no process '{process}': {hint}"
        return ""


def health_urls(machine: Machine, name: str, url: str) -> list[str]:
    """The health URLs that `url` (live | ready | both | a path) means for an instance."""
    known = machine.health_urls(name)
    if url == "both":
        return list(known)
    return [u for u in known if u == url or u.rstrip("/").rsplit("/", 1)[-1] == url]


def inner_process(machine: Machine, name: str, process: str) -> str:
    """The instance of a process inside of a container; "" if the files name none."""
    spec = machine.containers[name].spec
    if spec.inside and process in ("", spec.kind):
        return name
    for inner in machine.network.inside.get(name, []):
        if process in (inner.rpartition(".")[2], machine.containers[inner].spec.kind):
            return inner
    return ""


def with_inner(machine: Machine, names: Sequence[str]) -> list[str]:
    """Instances and the processes inside of them."""
    found = [m for n in names for m in (n, *machine.network.inside.get(n, []))]
    return list(dict.fromkeys(found))


def has_role(machine: Machine, name: str, role: str) -> bool:
    """Has the instance's process this role now (targets.ROLES)?"""
    container = machine.containers[name]
    if container.process is None:
        return False
    data, kind = container.process.data, container.spec.kind
    leads = getattr(data, "is_leader", getattr(data, "leads", None))
    if not isinstance(leads, bool):
        leads = getattr(data, "role", "") in LEADS
    return leads == (role == ROLES[kind][0])
