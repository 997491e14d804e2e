"""The first stage of a sweep: which candidates are worth whole runs.

1. Ask which knobs the control plane answers to: change one at a time, with next to no load.
2. If it answers to any: every candidate with next to no load. Who breaks a budget that these runs
   can see goes; if they can see everything, the best `keep` stay.
3. Else runs cut to the faults, with the whole load, of who is left; the best `keep` stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hasim.plan import pareto
from hasim.plan.screen import light, light_sees, short, short_sees
from hasim.plan.sweep_desk import Desk, Runs, Settings, rows_of, short_names
from hasim.scenario import Budget, Scenario
from hasim.verdict_rows import OPERATORS

RUNS = 2  # replications of a cheap run
SPARE = 4  # as long as candidates will be cheaply run again, at least so many times `keep` stay


@dataclass
class Screened:
    """dropped: why, by candidate; seen: what the cheap runs said; notes: sentences for people."""

    dropped: dict[Settings, str] = field(default_factory=dict)
    seen: dict[Settings, dict[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def screen(desk: Desk, grid: Sequence[Settings], begin: Callable[[str], None]) -> Screened:
    """Drop what whole runs need not look at."""
    how, out = desk.plan.screen, Screened()
    if how == "none" or len(grid) <= desk.plan.keep:
        out.notes = (f"no screening: {len(grid)} candidates",)
        return out
    left = list(grid)
    if how in ("auto", "control-plane"):
        begin("which knobs the control plane answers to")
        loud, breaking = answers(desk)
        brief = short_names([k.name for k in desk.knobs])
        out.notes += (_said({brief[k]: v for k, v in loud.items()}),)
        alone = how == "control-plane" or (all(loud.values()) and _all_light(desk))
        if any(loud.values()) and (alone or breaking):
            worth = desk.scenarios if alone else breaking
            left = _rounds(desk, left, out, begin, worth, control=True, cut=alone)
    if how in ("auto", "short") and len(left) > desk.plan.keep:
        left = _rounds(desk, left, out, begin, desk.scenarios, control=False, cut=True)
    return out


def _rounds(
    desk: Desk,
    left: list[Settings],
    out: Screened,
    begin: Callable[[str], None],
    worth: Sequence[Scenario],
    *,
    control: bool,
    cut: bool,
) -> list[Settings]:
    """One run of each, then another one of the best of them. Without `cut` one is enough: it only
    takes out who breaks a budget.
    """
    under = [light(short(s)) if control else short(s) for s in worth]
    for n in range(1, RUNS + 1 if cut else 2):
        kind = "the control plane" if control else "runs cut to the faults"
        begin(f"screening {len(left)} candidates by {kind}")
        most = desk.plan.keep * (1 if n == RUNS else SPARE)
        left = _stage(desk, left, out, under, n, control=control, most=most, cut=cut)
        if len(left) <= desk.plan.keep:
            break
    return left


def answers(desk: Desk) -> tuple[dict[str, bool], list[Scenario]]:
    """{knob: does anything change without the users' load when it alone is changed?}, and the
    scenarios in which some of these runs break a budget that they can judge.

    Asked, not listed: one replication, the same luck, every value of the knob.
    """
    under = [light(short(s)) for s in desk.scenarios]
    ones = {k.name: [((k.name, v),) for v in k.values] for k in desk.knobs}
    every: list[Settings] = [(), *(c for values in ones.values() for c in values)]
    runs = desk.runs(every, 1, under)
    told = {c: _words(desk, r) for c, r in runs.items()}
    loud = {name: any(told[c] != told[()] for c in values) for name, values in ones.items()}
    broken = " ".join(text for r in runs.values() for text in broken_in_all(desk, r, control=True))
    return loud, [s for s in desk.scenarios if f"{s.name}: " in broken]


def _words(desk: Desk, runs: Runs) -> list[object]:
    """What probes and control processes say of a run."""
    words: list[object] = []
    for scenario, measured in zip(runs.scenarios, runs.measured, strict=True):
        for m in measured:
            values = zip(scenario.budgets, m.values, strict=False)
            words += [repr(v) for b, v in values if light_sees(b.metric, order=True)]
            words += [
                (key, repr(v)) for key, v in m.summary.items() if light_sees(key[0], order=True)
            ]
            words.append(m.void)
    return words


def _all_light(desk: Desk) -> bool:
    objectives = [o.metric for o in desk.plan.minimise if o.metric != "cost"]
    budgets = [b.metric for s in desk.scenarios for b in desk.plain(s).budgets]
    return all(light_sees(m, order=True) for m in objectives) and all(map(light_sees, budgets))


def _stage(
    desk: Desk,
    left: Sequence[Settings],
    out: Screened,
    under: Sequence[Scenario],
    n: int,
    *,
    control: bool,
    most: int,
    cut: bool,
) -> list[Settings]:
    """One round of cheap runs. Who breaks a budget goes, as long as `most` stay; cut: no more than
    `most` stay, if every objective can be seen.
    """
    name = "control plane" if control else "short runs"
    runs = desk.runs(left, n, under)
    faults = {c: broken_in_all(desk, runs[c], control) for c in left}
    fine = [c for c in left if not faults[c]]
    for c in sorted((c for c in left if faults[c]), key=lambda c: len(faults[c])):
        if len(fine) < most:
            fine.append(c)
        else:
            out.dropped[c] = f"{name}: {faults[c][0]}"
    stay = [c for c in left if c in set(fine)]
    if cut:
        stay = _cut(desk, left, stay, out, runs, control=control, most=most)
    kinds = "with next to no load" if control else "cut to the faults"
    out.notes += (f"{name}: {len(left)} candidates {kinds}, {len(stay)} left",)
    if cut and n == 1 and not all(_seen(desk, control)):
        seen = zip(desk.plan.minimise, _seen(desk, control), strict=True)
        blind = ", ".join(o.text for o, s in seen if not s)
        out.notes += (f"{name}: cannot see {blind}, so no candidate went for being beaten",)
    return stay


def _cut(
    desk: Desk,
    left: Sequence[Settings],
    stay: Sequence[Settings],
    out: Screened,
    runs: dict[Settings, Runs],
    *,
    control: bool,
    most: int,
) -> list[Settings]:
    """The best `most` by the objectives, if such runs can see every one of them."""
    seen = _seen(desk, control)
    points = {c: _point(desk, runs[c], control) for c in left}
    texts = [o.text for o, s in zip(desk.plan.minimise, seen, strict=True) if s]
    for c in left:
        out.seen[c] = dict(zip(texts, points[c], strict=True))
    if not all(seen) or len(stay) <= most:
        return list(stay)
    best = {stay[i] for i in pareto.best([points[c] for c in stay], most)}
    name = "control plane" if control else "short runs"
    for c in stay:
        if c not in best:
            out.dropped[c] = f"{name}: others are better, or stand for it"
    return [c for c in stay if c in best]


def _seen(desk: Desk, control: bool) -> list[bool]:
    """Which objectives such runs can put candidates in order by."""
    return [
        o.metric == "cost"
        or (
            light_sees(o.metric, order=True)
            if control
            else all(short_sees(b, order=True) for b in rows_of(o))
        )
        for o in desk.plan.minimise
    ]


def _point(desk: Desk, runs: Runs, control: bool) -> tuple[float, ...]:
    seen = _seen(desk, control)
    with np.errstate(all="ignore"):
        means = desk.vectors(runs).mean(axis=1)
    return tuple(float(f"{m:.6g}") for m, s in zip(means, seen, strict=True) if s)


def broken_in_all(desk: Desk, runs: Runs, control: bool) -> list[str]:
    """Budgets that such runs can judge and that break in every replication, as sentences."""
    if desk.plan.require == "none":
        return []
    out = []
    for scenario, measured in zip(runs.scenarios, runs.measured, strict=True):
        excused = " ".join(gap.budget for gap in scenario.known_gaps).replace(" ", "")
        plain = desk.plain(scenario).budgets
        for i, budget in enumerate(plain):
            judged = light_sees(budget.metric) if control else short_sees(budget)
            if not judged or budget.name.replace(" ", "") in excused:
                continue
            if all(not m.void and _breaks(budget, m.values[i]) for m in measured):
                out.append(f"{scenario.name}: {budget.name} {budget.threshold.text}")
    return out


def _breaks(budget: Budget, value: float) -> bool:
    """Values that are missing break nothing here: a whole run will tell."""
    threshold = budget.threshold
    known = not np.isnan(value)
    return bool(known and not OPERATORS[threshold.operator](value, threshold.limit))


def _said(loud: dict[str, bool]) -> str:
    yes = ", ".join(k for k, v in loud.items() if v) or "none"
    no = ", ".join(k for k, v in loud.items() if not v) or "none"
    return f"control processes and probes answer to: {yes}; only requests can tell: {no}"
