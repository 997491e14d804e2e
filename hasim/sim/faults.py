"""The fault verbs of design.md section 2: when they strike, what they do, how they are repaired.

Targets come resolved: `resolve("gateway[1]")` gives [(kind, name)] with kind instance | host |
balancer | server; role:<role> and vip:<address> for those that it may be, of which this module
takes the ones that it is when the fault strikes. `[?]` is left to this module, too: one of `[*]` at
random per replication.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from math import nan, prod
from typing import Any

from hasim.errors import Finding, InputError
from hasim.model import Stack
from hasim.scenario import Fault
from hasim.sim.fault_daemons import (
    DaemonFaults,
    has_role,
    health_urls,
    inner_process,
    with_inner,
)
from hasim.sim.fault_network import NetworkFaults, Repair, Target
from hasim.sim.instances import Machine, quantile
from hasim.sim.rolling import Plan, RollingUpdate
from hasim.sim.trace import FaultSpan
from hasim.sim.world import World
from hasim.targets import resolve as select
from hasim.units import NS

Resolve = Callable[[str], Sequence[Target]]

# Verbs that need a host, and those that Docker does to a container, not to a process inside of it.
ON_HOSTS = ("power-off",)
BY_DOCKER = ("stop", "docker-kill", "restart", "recreate", "reload", "rolling-update")
CONTAINERS = (*BY_DOCKER, "crash", "pause", "blackhole", "slow")


class Faults(NetworkFaults, DaemonFaults):
    """All faults of one scenario in one replication. `start()` once the load has started."""

    def __init__(self, world: World, machine: Machine, resolve: Resolve | None = None):
        self.world, self.machine = world, machine
        self.resolve = resolve or of_stack(world.stack)
        self.docker, self.network = machine.docker, machine.network
        self._spans: list[list[Any]] = []
        self._slow: dict[str, list[float]] = {}  # factors in force, by instance
        self._waiting: list[tuple[str, Any]] = []
        problems = [p for f in world.scenario.faults for p in self._problems(f)]
        if problems:
            raise InputError(problems)
        if any(f.at.event for f in world.scenario.faults):
            self._hear_log()

    @property
    def spans(self) -> tuple[FaultSpan, ...]:
        """Every fault so far as it happened, in order of its start."""
        return tuple(FaultSpan(*row) for row in self._spans)

    def start(self) -> None:
        """World.start_ns is set: from now on times of faults have a meaning."""
        self.machine.load_started()
        for number, fault in enumerate(self.world.scenario.faults):
            self.world.spawn(self._run(number, fault), f"fault {number}")

    def _problems(self, fault: Fault) -> list[Finding]:
        """What would otherwise be a fault without any effect."""
        text = ""
        if not hasattr(self, _method(fault.do)):
            text = f"'{fault.do}' is not in this version"
        elif fault.do == "unhealthy":
            url = fault.args.get("url", "both")
            names = self._instances(self._candidates(fault))
            if not any(health_urls(self.machine, n, url) for n in names):
                text = f"no health URL of {fault.target} is '{url}'"
        elif fault.do == "slow" and "cpu" in fault.args:
            names = self._instances(self._candidates(fault))
            if all(self.machine.containers[n].spec.kind == "haproxy" for n in names):
                text = "HAProxy's own CPU is not in this version"
        elif fault.do in BY_DOCKER and not _dynamic(fault.target):
            for name in self._instances(self._candidates(fault)):
                outer = self.machine.containers[name].spec.inside
                text = text or (f"'{name}' is a process inside of '{outer}'" if outer else "")
        else:
            text = self.daemon_problem(fault, self._candidates(fault))
        return [Finding("error", "HA104", text, fault.span)] if text else []

    # ---- when --------------------------------------------------------------------------------
    def _run(self, number: int, fault: Fault) -> Generator:
        name = f"fault {number}"
        offset_s = quantile(fault.at.offset, self.world.draw(name, 0, "at"))
        if fault.at.event:
            yield self._logged(fault.at.event)
            yield self.world.seconds(offset_s)
        else:
            due = self.world.start_ns + round(offset_s * NS)
            yield self.world.env.timeout(max(0, due - int(self.world.env.now)))
        for n in range(fault.repeat_times):
            self.world.spawn(self._once(number, n, fault), f"{name} {n}")
            yield self.world.seconds(fault.repeat_every_s)

    def _once(self, number: int, n: int, fault: Fault) -> Generator:
        """Strike; wait; repair."""
        targets = self.targets(fault, number, n)
        lasts_s = nan
        if fault.lasts is not None:
            lasts_s = quantile(fault.lasts, self.world.draw(f"fault {number}", n, "for"))
        nobody = "all resolvers" if fault.do == "dns" else "nobody at this moment"
        if fault.target.startswith("container:"):  # source: Docker's own words
            nobody = f"No such container: {fault.target[10:]}"
        names = ", ".join(name for _, name in targets) or nobody
        cause = self._mark(fault.do, names + _arguments(fault))
        span = [fault.do, fault.target or " | ".join(fault.between), self._now_s(), nan, cause]
        self._spans.append(span)
        act = getattr(self, _method(fault.do))
        result = act(fault, targets, cause)
        if isinstance(result, Generator):  # a procedure that ends by itself
            yield from result
            span[3] = self._now_s()
            self._mark(f"{fault.do} finished", names, cause)
            return
        if fault.lasts is None or result is None:
            return
        yield self.world.seconds(lasts_s)
        mark = self._mark(f"{fault.do} repaired", names, cause)
        span[3] = self._now_s()
        result(mark)

    def targets(self, fault: Fault, number: int, n: int) -> list[Target]:
        """What the fault strikes; `group[?]` picks one member per replication and repetition."""
        if fault.between:
            return [("host", h) for side in self.sides(fault) for h in side]
        found = self._now(self._candidates(fault))
        if fault.target.endswith(("[?]", ":?")) and found:
            u = self.world.draw(f"fault {number}", n, "target")
            found = [found[int(u * len(found))]]
        if fault.do in ON_HOSTS:
            return [("host", h) for h in self._hosts(found)]
        if fault.do in CONTAINERS and _dynamic(fault.target):
            specs = [self.machine.containers[name].spec for _, name in found]
            found = [("instance", spec.inside or spec.name) for spec in specs]
        return found

    def _candidates(self, fault: Fault) -> list[Target]:
        """Everything that the target may turn out to be."""
        if fault.between or not fault.target:
            return []
        target = fault.target
        return list(self.resolve(target.replace("?", "*") if target[-3:] == "[?]" or
                                 target[-2:] == ":?" else target))  # fmt: skip

    def _now(self, targets: Sequence[Target]) -> list[Target]:
        """Those of a role that have it, and the balancers of the host that holds an address."""
        found = []
        for kind, name in targets:
            word, _, value = kind.partition(":")
            spec = self.machine.containers[name].spec if value else None
            if word == "role" and not has_role(self.machine, name, value):
                continue
            if spec and word == "vip" and self.machine.vip_holder(value) != spec.host:
                continue
            found.append(("instance", name) if value else (kind, name))
        return found

    def sides(self, fault: Fault) -> tuple[list[str], list[str]]:
        """The hosts of the two sides of `between`, as they are now."""
        a, b = (self._hosts(self._now(self.resolve(side))) for side in fault.between)
        return a, b

    def _hosts(self, targets: Sequence[Target]) -> list[str]:
        """The hosts among the targets, and those of the instances among them."""
        containers = self.machine.containers
        names = [n if kind == "host" else containers[n].spec.host for kind, n in targets]
        return list(dict.fromkeys(names))

    def _mark(self, event: str, detail: str, cause: int = -1) -> int:
        """A row of the timeline and a boundary of the windows in which requests are counted."""
        self.world.segment()
        return self.world.log("fault", event, detail, cause=cause)

    def _now_s(self) -> float:
        return (int(self.world.env.now) - self.world.start_ns) / NS

    # ---- after an event ------------------------------------------------------------------------
    # wanted: World.logged(text) -> Event, fires with the id of the next timeline row whose event
    # contains text. Until World has it, its `log` is listened to here.
    def _hear_log(self) -> None:
        say = self.world.log

        def log(component: str, event: str, detail: str = "", **more: Any) -> int:
            mark = say(component, event, detail, **more)
            for row in [w for w in self._waiting if w[0] in event]:
                self._waiting.remove(row)
                row[1].succeed(mark)
            return mark

        self.world.log = log  # type: ignore[method-assign]

    def _logged(self, text: str) -> Any:
        event = self.world.env.event()
        self._waiting.append((text, event))
        return event

    # ---- the verbs; each returns what repairs it, a procedure that ends by itself, or None -----
    def _instances(self, targets: Sequence[Target]) -> list[str]:
        return instances_of(self.machine, targets)

    def _each(self, targets: Sequence[Target], make: Callable[[str], Generator]) -> None:
        for name in self._instances(targets):
            self.world.spawn(make(name), name)

    def _restart_them(self, targets: Sequence[Target]) -> Repair:
        def repair(cause: int) -> None:
            self._each(targets, lambda name: self._start_again(name, cause))

        return repair

    def _start_again(self, name: str, cause: int) -> Generator:
        """`docker start`, after a stop that is still under way has ended."""
        container = self.machine.containers[name]
        if container.process is not None and container.stopped_by_hand:
            yield container.process.ended
        self.docker.start(name, cause)

    def _do_stop(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        grace = float(fault.args["grace"]) if "grace" in fault.args else None
        self._each(targets, lambda name: self.docker.stop(name, grace, cause))
        return self._restart_them(targets)

    def _do_crash(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """PID 1 exits with an error; the repair only acts if no restart policy has."""
        for name in self._instances(targets):
            p = self.machine.containers[name].process
            if p is not None:
                self.machine.exit(p, 1, cause)
        return self._restart_them(targets)

    def _do_docker_kill(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        for name in self._instances(targets):
            self.docker.kill(name, cause)
        return self._restart_them(targets)

    def _do_power_off(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        for host in self._hosts(targets):
            self.machine.power_off(host, cause)

        def repair(mark: int) -> None:
            for host in self._hosts(targets):
                self.world.spawn(self._boot_host(host, mark), f"boot {host}")

        return repair

    def _boot_host(self, host: str, cause: int) -> Generator:
        state = self.machine.hosts[host]
        tick = state.outages
        yield self.world.seconds(
            self.machine.sample(state.spec.boot, f"boot host {host}", tick, "boot")
        )
        if not state.power and state.outages == tick:
            mark = self.world.log(host, "host booted", cause=cause)
            self.machine.power_on(host, mark)
            self.docker.boot_host(host, mark)

    def _do_pause(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """All processes of a container, as `docker pause`; with process: that one alone."""
        process = fault.args.get("process", "")
        names = [inner_process(self.machine, n, process) or n for n in self._instances(targets)]
        held = [(n, self.machine.containers[n].process) for n in names]
        for name, _ in held:
            self.machine.freeze(name, cause, alone=bool(process))

        def repair(mark: int) -> None:
            for name, p in held:
                if p is not None and p is self.machine.containers[name].process:
                    self.machine.thaw(name, mark, alone=bool(process))

        return repair

    def _do_slow(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """cpu: work takes that many times longer; latency: answers come later."""
        names = with_inner(self.machine, self._instances(targets))
        factor = float(fault.args.get("cpu", 1.0))
        extra_s = float(fault.args.get("latency", 0.0))
        edges = [e for e in self.network.edges if e.target in names]
        balancers = {b.instance for b in self.machine.stack.balancers}

        def turn(on: bool, mark: int) -> None:
            for name in names:
                self.machine.containers[name].blame = mark
                if factor != 1.0 and name not in balancers:
                    factors = self._slow.setdefault(name, [])
                    (factors.append if on else factors.remove)(factor)
                    self.world.set_speed(name, 1 / prod(factors))
            if extra_s:
                self.network.late(edges, extra_s if on else -extra_s)

        turn(True, cause)
        return lambda mark: turn(False, mark)

    def _do_recreate(self, fault: Fault, targets: list[Target], cause: int) -> Generator:
        same = fault.args.get("address") == "same"
        return self._all(targets, lambda name: self.docker.recreate(name, cause, same_address=same))

    def _do_restart(self, fault: Fault, targets: list[Target], cause: int) -> Generator:
        grace = float(fault.args["grace"]) if "grace" in fault.args else None
        return self._all(targets, lambda name: self.docker.restart(name, grace, cause))

    def _all(self, targets: list[Target], make: Callable[[str], Generator]) -> Generator:
        jobs = [self.world.spawn(make(n), n) for n in self._instances(targets)]
        yield self.world.env.all_of(jobs)

    def _do_reload(self, fault: Fault, targets: list[Target], cause: int) -> Generator:
        """Repaired at once: the new process has taken over."""
        for name in self._instances(targets):
            p = self.machine.containers[name].process
            if p is not None:
                p.send("SIGHUP", cause)
        yield self.world.seconds(0)

    def _do_rolling_update(self, fault: Fault, targets: list[Target], cause: int) -> Generator:
        names = self._instances(targets)
        return RollingUpdate(self.world, self.machine, names, Plan.of(fault.args)).run(cause)


def of_stack(stack: Stack) -> Resolve:
    """The targets of hasim.targets; what it cannot find was reported when the file was read."""

    def resolve(target: str) -> list[Target]:
        chosen, findings = select(stack, target, "rolling-update")
        if chosen is None:
            raise InputError(findings)
        kind = chosen.kind if chosen.kind in ("host", "role", "vip") else "instance"
        kind += f":{chosen.role}" if chosen.role else ""
        return [(kind, name) for name in chosen.names]

    return resolve


def _method(verb: str) -> str:
    return "_do_" + verb.replace("-", "_")


def _dynamic(target: str) -> bool:
    """Does the target name a role or an address that somebody has at the moment?"""
    return ":" in target and not target.startswith("host:")


def instances_of(machine: Machine, targets: Sequence[Target]) -> list[str]:
    """Instance names: a host stands for all its containers, a server line for its instance."""
    names: list[str] = []
    for kind, name in targets:
        if kind == "host":
            specs = [c.spec for c in machine.containers.values()]
            names += [i.name for i in specs if i.host == name and not i.inside]
        elif kind == "server":
            names += [
                s.instance
                for b in machine.stack.balancers
                for back in b.backends
                for s in back.servers
                if f"{back.name}/{s.name}" == name
            ]
        else:
            names.append(name)
    return [n for n in dict.fromkeys(names) if n in machine.containers]


def _arguments(fault: Fault) -> str:
    shown = " ".join(f"{k}={v}" for k, v in sorted(fault.args.items()))
    return f" ({shown})" if shown else ""
