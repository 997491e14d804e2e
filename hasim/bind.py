"""Scenarios meet their stack: every name in them must lead to something.

Operations, requests of k6 scripts, targets, knobs and tags are looked up; an operation is written
as "service/op" from here on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from hasim.errors import Finding, InputError, did_you_mean
from hasim.model import Stack
from hasim.read.scenarios import read_scenarios
from hasim.scenario import Budget, Capacity, FlowStep, Load, Scenario, ScenarioFile, Sweep
from hasim.source import Span
from hasim.stack import knobs_named, load
from hasim.targets import resolve


def load_scenarios(
    path: str | Path,
    root: str | Path | None = None,
    folder: str | Path | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[ScenarioFile, Stack]:
    """A scenario file and the stack it names (or the one in `folder`), bound to each other.

    InputError with every error of the scenario file, or else of the stack, or else of both.
    """
    file, found = read_scenarios(path, root)
    if file is None:
        raise InputError([f for f in found if f.severity == "error"])
    stack = load(folder or Path(path).parent / file.stack, env)
    file, found = bind(file, stack)
    errors = [f for f in found if f.severity == "error"]
    if errors:
        raise InputError(errors)
    return file, stack


def bind(file: ScenarioFile, stack: Stack) -> tuple[ScenarioFile, list[Finding]]:
    """The file with its operations named "service/op", and every name that leads nowhere."""
    found: list[Finding] = []
    bound = [_scenario(s, stack, found) for s in file.scenarios]
    return replace(file, scenarios=tuple(bound)), list(dict.fromkeys(found))


def _error(found: list[Finding], text: str, span: Span | None, hint: str = "") -> None:
    found.append(Finding("error", "HA104", text, span, hint))


def _scenario(scenario: Scenario, stack: Stack, found: list[Finding]) -> Scenario:
    if isinstance(scenario.plan, Sweep):
        _knobs([name for name, _ in scenario.plan.knobs], stack, scenario.span, found)
    hosts = [h.name for h in stack.hosts]
    if isinstance(scenario.plan, Capacity):
        for target in scenario.plan.lose:
            name = target.removeprefix("host:")
            if name not in ("*", *hosts):
                hint = did_you_mean(name, hosts)
                _error(found, f"host '{name}' is not defined", scenario.span, hint)
    if scenario.kind != "run":
        return scenario
    for fault in scenario.faults:
        for target in fault.between or (fault.target,):
            found += resolve(stack, target, fault.do, fault.span)[1]
    for budget in (*scenario.budgets, *scenario.steady_state):
        _tags(budget, stack, found)
    for gap in scenario.known_gaps:
        if gap.host and gap.host.removeprefix("host:") not in hosts:
            hint = did_you_mean(gap.host, hosts)
            _error(found, f"host '{gap.host}' is not defined", gap.span, hint)
    _knobs(scenario.settings, stack, scenario.span, found)
    return replace(scenario, load=_load(scenario.load, stack, found))


def _knobs(names: Iterable[str], stack: Stack, span: Span | None, found: list[Finding]) -> None:
    known = [k.name for k in stack.knobs]
    for name in names:
        if not knobs_named(stack.knobs, name):
            _error(found, f"unknown knob '{name}'", span, did_you_mean(name, known))


def _load(load_: Load, stack: Stack, found: list[Finding]) -> Load:
    steps = []
    for step in load_.flow:
        mix: dict[str, float] = {}
        for name, weight in step.mix:
            op = _operation(name, stack, load_.span, found)
            mix[op] = mix.get(op, 0.0) + weight
        steps.append(FlowStep(tuple(mix.items()), step.think))
    return replace(load_, flow=tuple(steps))


def _operation(name: str, stack: Stack, span: Span | None, found: list[Finding]) -> str:
    """ "service/op" for an operation as written, or for "GET /path" of a k6 script."""
    method, _, path = name.partition(" ")
    if path.startswith(("/", "{")):
        hit = _by_path(method, path, stack)
        if not hit:
            text = f"no operation of profile.yaml answers {name}"
            _error(found, text, span, f"give one 'path: {path}', or state a mix")
        return hit or name
    ways = list(stack.op_entries)
    if name in ways:
        return name
    hits = [w for w in ways if w.partition("/")[2] == name]
    if len(hits) == 1:
        return hits[0]
    if hits:
        _error(found, f"'{name}' is an operation of several services", span, " or ".join(hits))
        return name
    offered = [f"{s.name}/{o.name}" for s in stack.services for o in s.ops]
    if name in [*offered, *(o.partition("/")[2] for o in offered)]:
        text = f"users cannot reach the operation '{name}' through any entry"
        _error(found, text, span)
    else:
        words = [*ways, *(w.partition("/")[2] for w in ways)]
        _error(found, f"operation '{name}' is not defined", span, did_you_mean(name, words))
    return name


def _by_path(method: str, path: str, stack: Stack) -> str:
    """The operation whose path is the longest beginning of the requested one, or ""."""
    asked = [p for p in path.partition("?")[0].split("/") if p]
    best, best_rank = "", (-1, False)
    for name in stack.op_entries:
        service, _, op_name = name.partition("/")
        op = next(o for o in stack.service(service).ops if o.name == op_name)
        parts = [p for p in op.path.split("/") if p]
        if op.write == (method in ("GET", "HEAD", "OPTIONS")) or len(parts) > len(asked):
            continue
        if all("{" in a + b or a == b for a, b in zip(parts, asked, strict=False)):
            rank = (len(parts), len(parts) == len(asked))
            if rank > best_rank:
                best, best_rank = name, rank
    return best


def _tags(budget: Budget, stack: Stack, found: list[Finding]) -> None:
    """Names in tags: a budget for an operation that does not exist would never be judged."""
    offered = [f"{s.name}/{o.name}" for s in stack.services for o in s.ops]
    ops = [*offered, *(o.partition("/")[2] for o in offered)]
    known = {
        "op": ops,
        "service": [*(s.name for s in stack.services), *(i.name for i in stack.instances)],
        "host": [h.name for h in stack.hosts],
        "path": ["read", "write", *ops],
    }
    for tag, value in budget.tags:
        if tag in known and value != "*" and value not in known[tag]:
            hint = did_you_mean(value, known[tag])
            _error(found, f"{budget.name}: {tag} '{value}' is not defined", budget.span, hint)
