"""`up`: compose starts the containers of every host, and the replication waits until they serve.

What cannot come up (Stack.boot_failures) is logged with its place in the files and stays down.
"""

from __future__ import annotations

from collections.abc import Generator

import simpy

from hasim.sim.instances import Machine
from hasim.sim.world import World
from hasim.units import NS

# How often compose looks at the containers that others wait for. Source: docker/compose,
# pkg/compose/start.go (500 ms).
POLL_S = 0.5

# A container that Docker restarts again and again counts as "will not come up" after this many
# exits; whatever is not settled after the limit is left as it is. Source: our choice.
TRIES = 8
LIMIT_S = 900.0
SETTLE_LIMIT_S = 120.0

# The load starts at a random moment of everybody's schedule: a uniform wait, long against the
# intervals of checks. Source: design.md section 2, "one random phase per replication".
PHASE_S = 60.0


def boot(world: World, machine: Machine) -> simpy.Process:
    """Start everything; the event fires when all that can come up is up and HAProxy agrees."""
    return world.spawn(_up(world, machine), "up")


def _up(world: World, machine: Machine) -> Generator:
    for failure in world.stack.boot_failures:
        world.log(failure.instance, "did not boot", failure.reason, origin=failure.span)
    starts = [
        world.spawn(_start(world, machine, name), f"up {name}")
        for name in _in_order(machine)
        if name not in machine.broken
    ]
    begun = world.env.now
    limit = begun + round(LIMIT_S * NS)
    yield world.env.any_of([world.env.all_of(starts), world.seconds(LIMIT_S)])
    while not all(_serves(machine, n) for n in machine.containers) and world.env.now < limit:
        yield world.seconds(POLL_S)
    limit = world.env.now + round(SETTLE_LIMIT_S * NS)
    while not all(_settled(machine, n) for n in machine.containers) and world.env.now < limit:
        yield world.seconds(POLL_S)
    yield world.seconds(PHASE_S * world.draw("up", 0, "phase"))
    world.log("up", "booted", f"{sum(listens(machine, n) for n in machine.containers)} listening")


def _in_order(machine: Machine) -> list[str]:
    """Host by host in the order of compose; what no project names comes last."""
    order = [n for groups in machine.stack.boot_order.values() for group in groups for n in group]
    known = machine.containers  # processes inside of a container are its PID 1's to start
    names = dict.fromkeys([*order, *known])
    return [n for n in names if n in known and not known[n].spec.inside]


def _start(world: World, machine: Machine, name: str) -> Generator:
    """Start one container once the conditions of its `depends_on` hold."""
    container = machine.containers[name]
    for other, condition in container.spec.depends_on:
        while (state := _condition(machine, other, condition)) == "wait":
            yield world.seconds(POLL_S)
        if state != "ok":
            where = container.spec.where.get("depends_on") or container.spec.span
            world.log(name, "did not boot", f"dependency failed to start: {state}", origin=where)
            machine.broken[name] = state
            return
    machine.docker.start(name)


def _condition(machine: Machine, name: str, condition: str) -> str:
    """ "ok", "wait", or why the condition can never hold."""
    container = machine.containers.get(name)
    if container is None:
        return "ok"
    if condition == "service_completed_successfully":
        if container.process is None and container.exits:
            code = container.exit_code
            return "ok" if code == 0 else f"container {name} exited ({code})"
        return f"{name} did not boot" if name in machine.broken else "wait"
    if name in machine.broken:
        return "ok" if condition == "service_started" else f"{name} did not boot"
    if condition == "service_healthy":
        if container.spec.healthcheck is None:
            return f"container {name} has no healthcheck configured"
        if container.health == "unhealthy":
            return f"container {name} is unhealthy"
        return "ok" if container.health == "healthy" else "wait"
    return "ok" if container.epoch else "wait"


def listens(machine: Machine, name: str) -> bool:
    """Has the container a process that accepts connections?"""
    p = machine.containers[name].process
    return p is not None and p.listening


def _serves(machine: Machine, name: str) -> bool:
    """It listens, or it never will: broken, given up, not to be restarted."""
    container = machine.containers[name]
    if name in machine.broken or listens(machine, name) or container.spec.inside:
        return True
    if container.exits >= TRIES:
        return True
    if container.process is None and container.exits:
        return not machine.docker.wants_restart(container, container.exit_code)
    return False


def _settled(machine: Machine, name: str) -> bool:
    container = machine.containers[name]
    p = container.process
    if p is None or not p.listening:
        return True
    kind = machine.kinds.get(container.spec.kind)
    return kind is None or kind.settled(p, machine)
