"""What applying an export costs in requests: the steps of apply.sh, simulated one after the other.

Each step strikes the exported stack under the steadiest load of the scenario file; what its
replications lose against the same ones left in peace is what it costs. So is the exported
rolling-update.sh, as written. A value set in a running process touches no connection: no run.
What cannot be simulated is said to be so, and the sum is then the least.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hasim.errors import Finding, InputError
from hasim.export.apply_steps import DRAIN_S, Step, plan
from hasim.export.base import Deploy
from hasim.export.scripts import balanced
from hasim.model import Dist
from hasim.plan.trials import Bench, Trial, trial
from hasim.scenario import Fault, Load, Scenario, ScenarioFile, When
from hasim.stats import ERROR, Estimate, t_interval
from hasim.verdict_measure import Measured

REPLICATIONS = 8
BEFORE_S = 20.0
AFTER_S = {"reload": 30.0}
LONG_S = 70.0  # what other steps get to end and settle in
PAUSE_S = 5.0  # between instances, as in shell/rolling-update.body.sh
EACH_S = 45.0  # of a rolling update, per instance
VOID = "the stack did not come up"
UNKNOWN = "not simulated"  # how the notes of such steps begin
UNTOUCHED = "takes effect in the running process: no connection is touched"


@dataclass(frozen=True)
class Case:
    """One thing to simulate: a step, or the update of a service. note: why it needs no run.

    Cases of one name are the same thing, and simulated once.
    """

    name: str
    scenario: Scenario
    about: Mapping[str, Any]
    note: str = ""


def cost(
    deploy: Deploy,
    *,
    seed: int,
    jobs: int = 0,
    replications: int = REPLICATIONS,
) -> dict[str, Any]:
    """What the rollout costs, as plain dicts and lists (EVIDENCE.json, key `rollout`).

    steps: in the order of apply.sh over the hosts; failed, p99_s, outage_s are [mean, low, high]
    (95 %), failed is what the step adds to an untroubled run, `calm` is that run.
    The same for any number of jobs. InputError without a scenario of kind run.
    """
    rollout = plan(deploy)
    if not rollout.all:
        text = "nothing changes: no request is touched"
        if rollout.notes:
            text = f"no script applies this, so nothing was simulated: {'; '.join(rollout.notes)}"
        return {"changed": bool(rollout.notes), "text": text, "steps": [], "rolling_update": []}
    base = steadiest(deploy.scenarios)
    cases = [_case(base, s) for s in rollout.all]
    updates = [_update(base, deploy, name) for name in balanced(deploy)]
    struck = [c for c in cases if c.scenario.faults] + updates
    with Bench(jobs) as bench:
        found = _measured(bench, deploy, struck, seed, replications)
    rows = [_row(c, found.get(c.name)) for c in cases]
    first = next(iter(found.values()), [])
    calm = {"p99_s": _interval([_p99((c, c)) for _, c in first]),
            "outage_s": _interval([_outage((c, c)) for _, c in first])}  # fmt: skip
    total = _total([found[c.name] for c in cases if c.name in found], replications)
    unknown = sum(c.note.startswith(UNKNOWN) for c in cases)
    if unknown and not any(c.name in found for c in cases):
        total = [None, None, None]
    return {
        "changed": True,
        "text": _text(rows, total, calm["outage_s"][0], unknown),
        "load": _load_text(base.load),
        "scenario": base.name,
        "replications": replications,
        "seed": seed,
        "failed": total,
        "not_simulated": unknown,
        "calm": calm,
        "longest_outage_s": max((r["outage_s"][0] or 0.0 for r in rows), default=0.0),
        "steps": rows,
        "rolling_update": [_row(c, found[c.name]) for c in updates],
        "by_hand": list(rollout.notes),
    }


def steadiest(file: ScenarioFile) -> Scenario:
    """The scenario whose load the rollout meets: without a fault if there is one, at the level
    that lasts longest.
    """
    runs = [s for s in file.scenarios if s.kind == "run" and s.load.stages]
    if not runs:
        text = f"{file.path} has no scenario of kind run: no load to roll out under"
        raise InputError([Finding("error", "HA104", text)])
    return min(runs, key=lambda s: (len(s.faults), len(s.load.stages)))


def constant(load: Load, duration_s: float) -> Load:
    """The level that lasts longest in a load, for so long."""
    _, level = max(load.stages, key=lambda stage: (stage[0], stage[1]))
    kind = "constant-arrival-rate" if "arrival" in load.executor else "constant-vus"
    return replace(load, executor=kind, start=level, stages=((duration_s, level),))


def _scenario(base: Scenario, name: str, after_s: float, faults: Iterable[Fault]) -> Scenario:
    return replace(
        base,
        name=name,
        doc="",
        load=constant(base.load, BEFORE_S + after_s),
        faults=tuple(faults),
        budgets=(),
        steady_state=(),
        known_gaps=(),
        settings={},
        span=None,
    )


def _case(base: Scenario, step: Step) -> Case:
    after_s = AFTER_S.get(step.do, LONG_S)
    at = When(Dist("const", BEFORE_S))
    faults = [Fault(step.do, step.target, at, args=dict(step.with_))] if step.do else []
    about = {"host": step.host, "step": step.text, "do": step.do, "target": step.target}
    name = f"{step.do} {step.target} {' '.join(step.with_.values())}" if step.do else step.text
    note = step.note or UNTOUCHED
    return Case(name, _scenario(base, name, after_s, faults), about, "" if step.do else note)


def _update(base: Scenario, deploy: Deploy, service: str) -> Case:
    """rolling-update.sh of one service (hasim.export.scripts)."""
    members = balanced(deploy)[service]
    pause_s = PAUSE_S + max(m.lines.settle_s for m in members)
    args = {"via": "serial", "drain": str(float(DRAIN_S)), "wait": "haproxy-up",
            "wait_limit": "120.0", "on_timeout": "rollback", "pause": str(pause_s)}  # fmt: skip
    fault = Fault("rolling-update", service, When(Dist("const", BEFORE_S)), args=args)
    name = f"rolling-update {service}"
    scenario = _scenario(base, name, EACH_S * (len(members) + 1), [fault])
    return Case(name, scenario, {"service": service, "instances": len(members)})


def _measured(
    bench: Bench, deploy: Deploy, cases: Sequence[Case], seed: int, replications: int
) -> dict[str, list[tuple[Measured, Measured]]]:
    """{case: (with the step, without it) per replication}; equal lengths share the calm run."""
    numbers = range(replications)
    wanted: dict[str, Trial] = {}
    for case in cases:
        wanted[case.name] = trial(deploy.stack, case.scenario, seed)
        wanted.setdefault(_calm(case), _peace(deploy, case, seed))
    found = dict(zip(wanted, bench.measure([(t, numbers) for t in wanted.values()]), strict=True))
    return {c.name: list(zip(found[c.name], found[_calm(c)], strict=True)) for c in cases}


def _calm(case: Case) -> str:
    return f"calm {case.scenario.load.duration_s:g}"


def _peace(deploy: Deploy, case: Case, seed: int) -> Trial:
    return trial(deploy.stack, replace(case.scenario, name=_calm(case), faults=()), seed)


# ---- numbers -------------------------------------------------------------------------------------
def _failed(pair: tuple[Measured, Measured]) -> float:
    """Requests that fail because of the step; a stack that does not come up costs them all."""
    struck, calm = pair
    key: Any = ("failed_requests", (), "count")
    return struck.summary.get(key, 0.0) - calm.summary.get(key, 0.0)


def _p99(pair: tuple[Measured, Measured]) -> float:
    return pair[0].summary.get(("http_req_duration", (), "p(99)"), math.nan)


def _outage(pair: tuple[Measured, Measured]) -> float:
    rows = pair[0].summary.items()
    return max((v for (metric, _, _), v in rows if metric == "outage_duration"), default=0.0)


def _interval(values: Sequence[float]) -> list[float | None]:
    """[mean, low, high]; None for what is not finite (JSON has no word for it)."""
    if any(math.isnan(v) for v in values) or not values:
        return [None, None, None]
    found: Estimate = t_interval(values, ERROR)
    return [round(v, 6) if math.isfinite(v) else None for v in (found.mean, found.low, found.high)]


def _row(case: Case, pairs: Sequence[tuple[Measured, Measured]] | None) -> dict[str, Any]:
    out = dict(case.about)
    if pairs is None:
        zero = [None] * 3 if case.note.startswith(UNKNOWN) else [0.0] * 3
        return out | {"failed": zero, "p99_s": [None] * 3, "outage_s": zero, "note": case.note}
    void = sorted({m.void for pair in pairs for m in pair if m.void})
    if void:
        return out | {"failed": [None] * 3, "p99_s": [None] * 3, "outage_s": [None] * 3,
                      "note": f"{VOID}: {void[0]}"}  # fmt: skip
    return out | {
        "failed": _interval([_failed(p) for p in pairs]),
        "p99_s": _interval([_p99(p) for p in pairs]),
        "outage_s": _interval([_outage(p) for p in pairs]),
        "note": "",
    }


def _total(found: Sequence[Sequence[tuple[Measured, Measured]]], n: int) -> list[float | None]:
    if any(m.void for pairs in found for pair in pairs for m in pair):
        return [None, None, None]
    return _interval([sum(_failed(pairs[r]) for pairs in found) for r in range(n)])


def _text(
    rows: Sequence[Mapping[str, Any]],
    total: Sequence[float | None],
    calm_s: float | None,
    unknown: int,
) -> str:
    steps = f"{len(rows)} step{'s'[: len(rows) != 1]}"
    mean, low, high = total
    void = next((r["note"] for r in rows if r["note"].startswith(VOID)), "")
    if void or mean is None or low is None or high is None:
        why = void or f"{unknown} are not simulated"
        return f"{steps}: cannot say what they cost: {why}"
    longest = max((r["outage_s"][0] or 0.0 for r in rows), default=0.0)
    least = "at least " if unknown else ""
    said = f"{steps}: {least}{mean:.4g} requests fail because of them [{low:.4g}, {high:.4g}]"
    said += f", the longest outage lasts {least}{longest:.3g} s"
    said += f" ({calm_s or 0.0:.3g} s without any step)"
    return f"{said}; {unknown} not simulated" if unknown else said


def cost_text(row: Mapping[str, Any]) -> str:
    """What one step costs, in words (ROLLOUT.md)."""
    mean, low, high = row["failed"]
    if row["note"] or mean is None:
        return str(row["note"])
    return f"{mean:.4g} failed requests [{low:.4g}, {high:.4g}], outage {row['outage_s'][0]:.3g} s"


def _load_text(load: Load) -> str:
    _, level = max(load.stages, key=lambda stage: (stage[0], stage[1]))
    what = "arrivals" if "arrival" in load.executor else "users"
    per = f" per {load.time_unit_s:g} s" if what == "arrivals" else ""
    return f"{level:g} {what}{per}"
