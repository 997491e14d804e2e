"""hasim run --only-boot: boot each stack once, without load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hasim.model import Stack
from hasim.project import Project, root_seed
from hasim.runner import make_tasks
from hasim.scenario import Scenario
from hasim.sim import arrays
from hasim.sim.engine import Engine
from hasim.sim.instances import Machine
from hasim.sim.programs import compile_stack
from hasim.sim.run import why_void
from hasim.sim.up import boot
from hasim.source import Span
from hasim.units import NS
from hasim.workers import warm


@dataclass(frozen=True, slots=True)
class Booted:
    """One instance: up with its time from power on, or down with the reason and its place."""

    name: str
    host: str
    up: bool
    after_s: float
    why: str = ""
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Boot:
    """One stack. others: (reason, place) of what concerns no single instance. void: why no load
    could start."""

    name: str
    instances: tuple[Booted, ...]
    others: tuple[tuple[str, Span | None], ...]
    void: str


def boot_stacks(
    project: Project,
    names: Sequence[str],
    settings: Mapping[str, str],
    seed: int | None,
    say: Callable[[str], None],
) -> list[Boot]:
    """Boot every different stack of the chosen scenarios, with replication 0's phases."""
    seed = root_seed(project, seed)
    tasks = make_tasks(project, names, settings, seed)
    warm(say)
    different: dict[tuple[tuple[str, str], ...], tuple[Stack, Scenario]] = {}
    for task in tasks:
        key = tuple(sorted(task.scenario.settings.items()))
        different.setdefault(key, (task.stack, task.scenario))
    return [_boot(stack, scenario, seed) for stack, scenario in different.values()]


def _boot(stack: Stack, scenario: Scenario, seed: int) -> Boot:
    tables = compile_stack(stack)
    arrays.load_rows(tables, scenario)
    engine = Engine(tables, scenario, seed, 0)
    machine = Machine(engine)
    engine.run_until_event(boot(engine, machine))
    marks = engine.timeline()
    reasons = {m.component: m for m in marks if m.event == "did not boot"}
    instances = []
    for name, container in machine.containers.items():
        host, p = container.spec.host, container.process
        if p is not None and p.listening:
            instances.append(Booted(name, host, True, p.listened_ns / NS))
            continue
        mark = reasons.get(name)
        span = Span(mark.file, mark.line, mark.col) if mark and mark.file else container.spec.span
        why = mark.detail if mark else f"it exits again and again (code {container.exit_code})"
        instances.append(Booted(name, host, False, 0.0, why, span))
    others = [(f.reason, f.span) for f in stack.boot_failures if f.instance.startswith("host:")]
    label = stack.name + "".join(f" {k}={v}" for k, v in scenario.settings.items())
    return Boot(label, tuple(instances), tuple(others), why_void(engine))
