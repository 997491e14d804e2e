"""The rows of the capacity table: containers of one kind, what they have now, what they may use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hasim.model import Instance, Route, Stack
from hasim.plan.capacity_types import Amount
from hasim.scenario import Scenario
from hasim.source import Span


@dataclass(frozen=True)
class Group:
    """Containers (or plain processes) of one kind.

    members: without the processes inside of others; processes: those whose use counts for it, per
    member. workers: the most cores that one member can use.
    """

    name: str
    members: tuple[Instance, ...]
    processes: tuple[tuple[str, ...], ...]
    services: tuple[str, ...]
    workers: float

    @property
    def given(self) -> Amount:
        """Instances, and the limits of the largest one; 0: no limit."""
        cores = max(m.cpus for m in self.members)
        memory = max(m.mem_limit_bytes for m in self.members)
        return Amount(len(self.members), cores, memory, known=bool(cores and memory))

    @property
    def source(self) -> str:
        """Where the limits stand, "" if there are none."""
        found = [m.where.get(f) for m in self.members for f in ("cpus", "mem_limit_bytes")]
        return next((f"{s.file}:{s.line}" for s in found if isinstance(s, Span)), "")

    @property
    def containers(self) -> tuple[str, ...]:
        """Names in the compose files, of plain processes their own."""
        return tuple(m.compose_service or m.name for m in self.members)

    def settings(self, cores: float = 0.0, memory_bytes: int = 0) -> dict[str, str]:
        """Knobs that give each member these limits; 0 leaves one as it is."""
        made = {}
        for member in self.members:
            if not member.compose_service:
                continue
            if cores:
                made[f"compose.{member.compose_service}.cpus"] = f"{cores:g}"
            if memory_bytes:
                made[f"compose.{member.compose_service}.mem_limit"] = f"{memory_bytes >> 20}m"
        return made

    @property
    def replica_knob(self) -> str:
        """The knob that says how many members there are."""
        return f"replicas.{self.name}"


def groups(stack: Stack) -> list[Group]:
    """All of them, in the order of their first container."""
    named: dict[str, list[Instance]] = {}
    for one in stack.instances:
        if not one.inside:
            named.setdefault(group_name(one), []).append(one)
    return [_group(stack, name, members) for name, members in named.items()]


def group_name(one: Instance) -> str:
    """The service of profile.yaml, else the kind of software, else the name without a number."""
    if one.service:
        return one.service
    if one.kind != "other":
        return one.kind
    return re.sub(r"[-_](\d+|[a-z])$", "", one.compose_service or one.name)


def _group(stack: Stack, name: str, members: Sequence[Instance]) -> Group:
    inside: dict[str, list[Instance]] = {m.name: [m] for m in members}
    for one in stack.instances:
        if one.inside in inside:
            inside[one.inside].append(one)
    services = [s for m in members for i in inside[m.name] if (s := i.service)]
    known = {s.name: s for s in stack.services}
    profile = known.get(members[0].service)
    only = members[0].kind == "service" and profile is not None
    return Group(
        name=name,
        members=tuple(members),
        processes=tuple(tuple(i.name for i in inside[m.name]) for m in members),
        services=tuple(dict.fromkeys(services)),
        workers=float(profile.workers) if only and profile else float("inf"),
    )


def loaded(stack: Stack, over: Sequence[Scenario]) -> list[str]:
    """Services that requests of the scenarios reach, directly or through others."""
    todo = [
        op.partition("/")[0]
        for s in over
        for step in s.load.flow
        for op, weight in step.mix
        if weight > 0
    ]
    known = {s.name: s for s in stack.services}
    found: dict[str, None] = {}
    while todo:
        name = todo.pop()
        if name in found or name not in known:
            continue
        found[name] = None
        for op in known[name].ops:
            for step in op.steps:
                way: Route | None = stack.call_routes.get(f"{name}->{step.target}")
                if step.kind == "call" and way is not None:
                    todo.append(way.service)
    return sorted(found)
