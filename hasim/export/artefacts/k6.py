"""extra/load.k6.js: the load of the scenario file with its budgets as thresholds, for real k6.

hasim's own reader (hasim.read.k6) reads the same load out of it: levels, requests, pauses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from hasim.budgets import METRICS
from hasim.export.artefacts.front import users_at
from hasim.export.base import Artefact, Deploy
from hasim.model import Dist, Op, Stack
from hasim.scenario import Budget, FlowStep, Load, Scenario
from hasim.units import format_duration

PATH = "extra/load.k6.js"
CYCLE_MAX = 20  # requests of an iteration that a mix is spread over
# Metrics that k6 itself has, and the tags that this script gives its requests.
_K6 = ("http_req_duration", "http_req_failed", "http_reqs", "iterations", "dropped_iterations")
_TAGS = ("op", "service")


@dataclass(frozen=True)
class Request:
    """One request of an iteration and the pause after it. op: "service/name"."""

    op: str
    path: str
    write: bool
    pause_s: float


def make(deploy: Deploy) -> list[Artefact]:
    """The script for the first scenario of kind run that has no fault; nothing without one."""
    chosen = scenario_of(deploy.scenarios.scenarios)
    if chosen is None:
        return []
    script = _script(chosen, deploy.stack)
    return [Artefact(PATH, script, f"load and budgets of {chosen.name}, for k6")]


def scenario_of(scenarios: Iterable[Scenario]) -> Scenario | None:
    """The scenario whose load the script repeats: without faults and study settings, if any."""
    runs = [s for s in scenarios if s.kind == "run" and s.load.flow]
    calm = [s for s in runs if not s.faults and not s.settings]
    return next(iter([*calm, *runs]), None)


def _script(scenario: Scenario, stack: Stack) -> str:
    load = scenario.load
    turns = [turn for step in load.flow for turn in _turns(step, stack)]
    bases = _bases(turns, stack)
    thresholds, left = _thresholds(scenario.budgets)
    options = {"scenarios": {_name(load.name): _shape(load, len(turns) if _spread(load) else 1)}}
    if thresholds:
        options["thresholds"] = thresholds  # type: ignore[assignment]
    lines = [
        f"// The load '{load.name}' of scenario '{scenario.name}', made by hasim.",
        "// k6 run extra/load.k6.js; another way in: -e BASE_URL=http://host:port",
        *(f"// Not in here, k6 cannot judge it: {text}" for text in left),
        "import http from 'k6/http';",
        "import { check, sleep } from 'k6';",
        "",
        f"export const options = {json.dumps(options, indent=2)};",
        "",
        *(f"const {const} = __ENV.{env} || '{at}';" for _, const, env, at in bases),
        "",
        "function ok(response) {",
        "  check(response, { 'status is 2xx or 3xx': (r) => r.status >= 200 && r.status < 400 });",
        "}",
        "",
        "export default function () {",
        *_calls(turns, {service: const for service, const, _, _ in bases}),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _bases(turns: list[Request], stack: Stack) -> list[tuple[str, str, str, str]]:
    """(service, constant, variable, URL) of each service that users ask."""
    out = []
    for i, service in enumerate(dict.fromkeys(t.op.partition("/")[0] for t in turns)):
        op = next(t.op for t in turns if t.op.startswith(f"{service}/"))
        at = users_at(stack, stack.op_entries[op]) or "127.0.0.1:80"
        more = "" if i == 0 else f"_{i + 1}"
        out.append((service, f"BASE{more}", f"BASE_URL{more}", f"http://{at}"))
    return out


def _calls(turns: list[Request], bases: dict[str, str]) -> Iterator[str]:
    for turn in turns:
        service, _, op = turn.op.partition("/")
        url = f"`${{{bases[service]}}}{turn.path}`"
        tags = f"{{ tags: {{ op: '{op}', service: '{service}' }} }}"
        if turn.write:
            yield f"  ok(http.post({url}, JSON.stringify({{ load: 'test' }}), {tags}));"
        else:
            yield f"  ok(http.get({url}, {tags}));"
        if turn.pause_s > 0:
            yield f"  sleep({turn.pause_s:g});"


def _turns(step: FlowStep, stack: Stack) -> list[Request]:
    """A step as requests: a mix becomes the shortest cycle that has its shares, spread evenly."""
    shares = [(op, Fraction(weight).limit_denominator(CYCLE_MAX)) for op, weight in step.mix]
    length = min(lcm(*(f.denominator for _, f in shares)), CYCLE_MAX * 5)
    wanted = {op: max(1, round(f * length)) for op, f in shares}
    total, credit = sum(wanted.values()), dict.fromkeys(wanted, 0)
    out = []
    for _ in range(total):  # smooth weighted round robin
        for asked in credit:
            credit[asked] += wanted[asked]
        name = max(credit, key=lambda asked: credit[asked])
        credit[name] -= total
        full, op = _operation(name, stack)
        out.append(Request(full, op.path, op.write, _mean_s(step.think)))
    return out


def _operation(name: str, stack: Stack) -> tuple[str, Op]:
    """("service/op", the operation) for a name with or without its service."""
    for full in stack.op_entries:
        service, _, op = full.partition("/")
        if name in (full, op):
            return full, next(o for o in stack.service(service).ops if o.name == op)
    raise KeyError(name)


def _mean_s(dist: Dist) -> float:
    """The mean of a pause: k6 scripts of hasim wait the same time each time."""
    if dist.kind == "uniform":
        return (dist.a + dist.b) / 2
    if dist.kind == "hyperexp":
        return sum(weight * mean for weight, mean in dist.table)
    if dist.kind == "quantiles":
        pairs = zip(dist.table, dist.table[1:], strict=False)
        return sum((q - p) * (a + b) / 2 for (p, a), (q, b) in pairs)
    return dist.a


def _spread(load: Load) -> bool:
    """Does one iteration stand for several of the scenario's, so that fewer must begin?"""
    return load.executor.endswith("arrival-rate") and len(load.flow) == 1


def _shape(load: Load, turns: int) -> dict[str, object]:
    """The k6 scenario. turns: requests that one iteration makes in place of one."""
    made: dict[str, object] = {"executor": load.executor}
    stages = [{"duration": _time(d), "target": round(target)} for d, target in load.stages]
    if load.executor == "constant-vus":
        made |= {"vus": round(load.start), "duration": _time(load.duration_s)}
    elif load.executor == "ramping-vus":
        made |= {"startVUs": round(load.start), "stages": stages}
        made["gracefulRampDown"] = _time(load.graceful_ramp_down_s)
    else:
        rate = {"timeUnit": _time(load.time_unit_s * turns)}
        constant = load.executor == "constant-arrival-rate"
        made |= {"rate": round(load.start)} if constant else {"startRate": round(load.start)}
        made |= rate | ({"duration": _time(load.duration_s)} if constant else {"stages": stages})
        made |= {"preAllocatedVUs": load.pre_allocated_vus, "maxVUs": load.max_vus}
    return made | {"gracefulStop": _time(load.graceful_stop_s)}


def _thresholds(budgets: Iterable[Budget]) -> tuple[dict[str, list[str]], list[str]]:
    """k6's thresholds, and the budgets that k6 has no word for."""
    made: dict[str, list[str]] = {}
    left: list[str] = []
    for budget in budgets:
        metric, threshold = METRICS[budget.metric], budget.threshold
        known = budget.metric in _K6 and all(tag in _TAGS for tag, _ in budget.tags)
        if not known or threshold.aggregate in ("first", "value"):
            left.append(f"{budget.name}: {threshold.text}")
            continue
        limit = threshold.limit * (1000 if metric.dimension == "time" else 1)
        what = f"p({threshold.q * 100:g})" if threshold.aggregate == "p" else threshold.aggregate
        made.setdefault(budget.name, []).append(f"{what}{threshold.operator}{limit:.12g}")
    return made, left


def _name(text: str) -> str:
    """A name that k6 takes for a scenario."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in text) or "load"


def _time(seconds: float) -> str:
    return format_duration(seconds, "go")
