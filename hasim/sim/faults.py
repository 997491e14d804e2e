"""The fault verbs of design.md section 2: when they strike, what they do, how they are repaired.

Targets come resolved: `resolve("gateway[1]")` gives [(kind, name)] with kind instance | host |
balancer | server. `[?]` is left to this module: one of `[*]` at random per replication.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from math import nan, prod
from typing import Any

from hasim.errors import Finding, InputError
from hasim.model import Stack
from hasim.scenario import Fault
from hasim.sim.instances import Machine, quantile
from hasim.sim.rolling import Plan, RollingUpdate
from hasim.sim.trace import FaultSpan
from hasim.sim.world import NS, World
from hasim.targets import resolve as select

Target = tuple[str, str]
Resolve = Callable[[str], Sequence[Target]]
Repair = Callable[[int], None]

# A name server that answers later than HAProxy waits (`timeout retry`) is as good as silent.
# Source: reference/haproxy.md section 6.1.
DNS_PATIENCE_S = 1.0

# The status of a failing health URL where the scenario gives none. Source: reference/haproxy.md
# section 5 ("health 5xx").
UNHEALTHY_STATUS = 503

# How often the return of a killed process is looked for. Source: our choice, far below a boot.
LOOK_S = 0.01


class Faults:
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
            names = self._instances(self.targets(fault, 0, 0))
            if not any(health_urls(self.machine, n, url) for n in names):
                text = f"no health URL of {fault.target} is '{url}'"
        elif fault.do == "slow" and "cpu" in fault.args:
            names = self._instances(self.targets(fault, 0, 0))
            if all(self.machine.containers[n].spec.kind == "haproxy" for n in names):
                text = "HAProxy's own CPU is not in this version"
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
        names = ", ".join(name for _, name in targets) or "all resolvers"
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
            return [t for side in fault.between for t in self.resolve(side)]
        if not fault.target:
            return []
        if fault.target.endswith(("[?]", ":?")):
            members = list(self.resolve(fault.target.replace("?", "*")))
            u = self.world.draw(f"fault {number}", n, "target")
            return [members[int(u * len(members))]]
        return list(self.resolve(fault.target))

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

    def _do_kill_process(self, fault: Fault, targets: list[Target], cause: int) -> Generator:
        """Repaired once the supervisors have processes that listen again."""
        names = self._instances(targets)
        for name in names:
            self.machine.kill_child(name, cause)
        while not all(_listens(self.machine, name) for name in names):
            yield self.world.seconds(LOOK_S)

    def _do_power_off(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        for host in _hosts(targets):
            self.machine.power_off(host, cause)

        def repair(mark: int) -> None:
            for host in _hosts(targets):
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

    def _do_blackhole(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        names = _hosts(targets) + self._instances([t for t in targets if t[0] != "host"])
        for name in names:
            self.network.blackhole(name, True, cause)

        def repair(mark: int) -> None:
            for name in names:
                self.network.blackhole(name, False, mark)

        return repair

    def _do_pause(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        held = [(n, self.machine.containers[n].process) for n in self._instances(targets)]
        for name, _ in held:
            self.machine.freeze(name, cause)

        def repair(mark: int) -> None:
            for name, p in held:
                if p is not None and p is self.machine.containers[name].process:
                    self.machine.thaw(name, mark)

        return repair

    def _do_partition(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        a, b = (_hosts(self.resolve(side)) for side in fault.between)
        cut = self.network.cut(a, b, cause)
        return lambda mark: self.network.heal(cut, mark)

    def _do_delay(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """Each direction adds its latency once to a round trip."""
        a, b = (_hosts(self.resolve(side)) for side in fault.between)
        extra_s = float(fault.args["latency"]) * (2 if fault.direction == "both" else 1)
        edges = self.network.between(a, b)
        self.network.late(edges, extra_s)
        return lambda mark: self.network.late(edges, -extra_s)

    def _do_slow(self, fault: Fault, targets: list[Target], cause: int) -> Repair:
        """cpu: work takes that many times longer; latency: answers come later."""
        names = self._instances(targets)
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


def _listens(machine: Machine, name: str) -> bool:
    p = machine.containers[name].process
    return p is not None and p.listening


def of_stack(stack: Stack) -> Resolve:
    """The targets of hasim.targets; what it cannot find was reported when the file was read."""

    def resolve(target: str) -> list[Target]:
        chosen, findings = select(stack, target, "rolling-update")
        if chosen is None:
            raise InputError(findings)
        kind = "host" if chosen.kind == "host" else "instance"
        return [(kind, name) for name in chosen.names]

    return resolve


def _method(verb: str) -> str:
    return "_do_" + verb.replace("-", "_")


def _hosts(targets: Sequence[Target]) -> list[str]:
    return [name for kind, name in targets if kind == "host"]


def instances_of(machine: Machine, targets: Sequence[Target]) -> list[str]:
    """Instance names: a host stands for all its containers, a server line for its instance."""
    names: list[str] = []
    for kind, name in targets:
        if kind == "host":
            names += [n for n, c in machine.containers.items() if c.spec.host == name]
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


def health_urls(machine: Machine, name: str, url: str) -> list[str]:
    """The health URLs that `url` (live | ready | both | a path) means for an instance."""
    known = machine.health_urls(name)
    if url == "both":
        return list(known)
    return [u for u in known if u == url or u.rstrip("/").rsplit("/", 1)[-1] == url]


def _arguments(fault: Fault) -> str:
    shown = " ".join(f"{k}={v}" for k, v in sorted(fault.args.items()))
    return f" ({shown})" if shown else ""
