"""What one step of a setting would buy: the same replications again with the setting changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hasim import stats
from hasim.errors import InputError
from hasim.model import Stack
from hasim.plan.trials import Bench, trial
from hasim.report import numbers
from hasim.scenario import Scenario
from hasim.stack import with_settings
from hasim.stats import Paired
from hasim.verdict_measure import Measured
from hasim.verdict_rows import OPERATORS
from hasim.walk.rows import Setting, Step
from hasim.walk.settings import one_step

MOST = 10  # settings that are tried, the longest delays first
MORE_LOAD = 1.05  # probe load that grows by less is not worth a word
# What a step may make worse though no budget asks: (metric, aggregate).
WATCHED = (("false_failovers", "count"), ("acked_writes_lost", "count"), ("oom_kills", "count"))


def try_steps(
    bench: Bench,
    stack: Stack,
    scenario: Scenario,
    seed: int,
    before: Sequence[Measured],
    settings: Sequence[Setting],
) -> tuple[Step, ...]:
    """One step of each setting against `before`, best first; refused values come last."""
    numbers_ = [m.replication for m in before]
    todo: list[tuple[Setting, str, tuple[str, ...]]] = []
    refused: list[Step] = []
    for setting in settings:
        value = one_step(setting, stack)
        if not value or len(todo) == MOST:
            continue
        why, warnings = _accepted(stack, scenario, setting, value)
        if why:
            refused.append(Step(setting, value, refused=why))
        else:
            todo.append((setting, value, tuple(warnings)))
    wanted = [
        (trial(stack, scenario, seed, dict.fromkeys(setting.names, value)), numbers_)
        for setting, value, _ in todo
    ]
    steps = [
        _compared(scenario, before, after, *row)
        for row, after in zip(todo, bench.measure(wanted), strict=True)
    ]
    return (*sorted(steps, key=_rank), *refused)


def _accepted(
    stack: Stack, scenario: Scenario, setting: Setting, value: str
) -> tuple[str, list[str]]:
    """(why the daemon refuses the value or "", what is newly wrong with the files)."""
    changed = {**scenario.settings, **dict.fromkeys(setting.names, value)}
    try:
        after = with_settings(stack.folder, changed)
    except InputError as error:
        return error.findings[0].message, []
    down = [b for b in after.boot_failures if b not in stack.boot_failures]
    if down:
        return f"{down[0].instance} would not start: {down[0].reason}", []
    new = dict.fromkeys(f.message for f in after.findings if f not in stack.findings)
    known = {f.message for f in stack.findings}
    return "", [text for text in new if text not in known]


def _compared(
    scenario: Scenario,
    before: Sequence[Measured],
    after: Sequence[Measured],
    setting: Setting,
    value: str,
    warnings: tuple[str, ...],
) -> Step:
    if any(m.void for m in after):
        void = next(m.void for m in after if m.void)
        return Step(setting, value, refused=f"void: {void}")
    mended, broken = _budgets(scenario, before, after)
    return Step(
        setting,
        value,
        outage=_paired(outage_s, before, after),
        recovery=_paired(recovery_s, before, after),
        failed=_paired(failed, before, after),
        served=_paired(served, before, after),
        mended=mended,
        broken=broken,
        warnings=(*_worse(before, after), *warnings),
    )


def _paired(
    of: Callable[[Measured], float], before: Sequence[Measured], after: Sequence[Measured]
) -> Paired:
    return stats.paired([of(m) for m in before], [of(m) for m in after], stats.ERROR)


def outage_s(m: Measured) -> float:
    """The longest outage of any path."""
    return max(
        (v for (metric, *_), v in m.summary.items() if metric == "outage_duration"), default=0
    )


def recovery_s(m: Measured) -> float:
    """From the fault until every path works again; inf: never."""
    return m.summary.get(("time_to_recover", (), "max"), 0.0)


def failed(m: Measured) -> float:
    """Requests that failed."""
    return m.summary.get(("failed_requests", (), "count"), 0.0)


def served(m: Measured) -> float:
    """Requests that were answered well: users who hang ask for less."""
    return m.summary.get(("http_reqs", (), "count"), 0.0) - failed(m)


def _budgets(
    scenario: Scenario, before: Sequence[Measured], after: Sequence[Measured]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Budgets that more than half of the runs break before and none after, and the reverse."""
    mended, broken = [], []
    for i, budget in enumerate(scenario.budgets):
        holds = OPERATORS[budget.threshold.operator]
        was, now = (
            sum(not holds(m.values[i], budget.threshold.limit) for m in side)
            for side in (before, after)
        )
        text = f"{budget.name} {budget.threshold.text}"
        if 2 * was > len(before) and now == 0:
            mended.append(text)
        elif was == 0 and 2 * now > len(after):
            broken.append(text)
        elif now - was > len(before) / 2:
            broken.append(f"{text} in {now} of {len(after)} runs")
    return tuple(mended), tuple(broken)


def _worse(before: Sequence[Measured], after: Sequence[Measured]) -> list[str]:
    out = []
    for metric, aggregate in WATCHED:
        key = (metric, (), aggregate)
        was, now = ([m.summary.get(key, 0.0) for m in side] for side in (before, after))
        if (not any(was) and any(now)) or stats.paired(was, now, stats.ERROR).low > 0:
            word = metric.replace("_", " ")
            out.append(f"{word}: {sum(was) / len(was):.3g} -> {sum(now) / len(now):.3g} per run")
    key = ("probe_load", (), "rate")
    load = [sum(m.summary.get(key, 0.0) for m in side) / len(side) for side in (before, after)]
    if load[1] > load[0] * MORE_LOAD:
        shown = " -> ".join(numbers.show(x, "share") for x in load)
        out.append(f"probe load {shown} of the CPU time used")
    return out


def _rank(step: Step) -> tuple[bool, float, float, float]:
    """The largest certain saving first: whole seconds of outage, then good answers, then errors."""
    outage, lost, more = map(_certain, (step.outage, step.failed, step.served))
    return not step.saves, round(outage), -more, lost


def _certain(p: Paired | None) -> float:
    if p is None or math.isnan(p.difference) or p.low <= 0 <= p.high:
        return 0.0
    return p.difference
