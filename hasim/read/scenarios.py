"""scenarios.yaml to typed scenarios; every problem of the file is a Finding with its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hasim.errors import Finding, did_you_mean
from hasim.model import Dist
from hasim.read.budget_lists import BudgetReader
from hasim.read.forms import Loc, place, problem, validate
from hasim.read.k6 import K6Script, read_script
from hasim.read.loads import make_load
from hasim.read.plan_forms import CapacityForm, SweepForm, make_capacity, make_sweep
from hasim.read.scenario_faults import make_fault
from hasim.read.scenario_forms import (
    FileForm,
    GapForm,
    LaterForm,
    LoadForm,
    ScenarioForm,
    schema,
)
from hasim.read.stackfile import names_of_hosts_and_groups
from hasim.read.yaml12 import Node, parse, plain
from hasim.scenario import (
    Budget,
    Capacity,
    Fault,
    KnownGap,
    Load,
    Scenario,
    ScenarioFile,
    Sweep,
)

__all__ = ["read_scenarios", "schema", "select"]
NO_LOAD = Load(name="", executor="", stages=())


def read_scenarios(
    path: str | Path, root: str | Path | None = None
) -> tuple[ScenarioFile | None, list[Finding]]:
    """The scenarios of one file, and every problem found; None if there is an error.

    Paths in spans are relative to `root` (default: the path as given). Names of operations,
    targets and knobs are not looked up here: that needs the stack (hasim.stack.bind).
    """
    path = Path(path)
    shown = _shown(path, root)
    try:
        data = path.read_bytes()
    except OSError as error:
        return None, [problem(f"cannot read '{shown}': {error.strerror}", None)]
    node, found = parse(data, shown)
    if node is None or any(f.severity == "error" for f in found):
        return None, found
    form, wrong = validate(FileForm, plain(node), node)
    if form is None:
        return None, found + wrong
    reader = _Reader(path, shown, node, form)
    scenarios = reader.scenarios()
    found += list(dict.fromkeys(reader.findings))  # a budget list used twice is wrong once
    if any(f.severity == "error" for f in found):
        return None, found
    digest = hashlib.sha256(data).hexdigest()
    return ScenarioFile(shown, digest, form.stack, form.seed, tuple(scenarios)), found


def _shown(path: Path, root: str | Path | None) -> str:
    """The path without anything of this machine in it."""
    if root is None and not path.is_absolute():
        return path.as_posix()
    root = Path(root or Path.cwd()).absolute()
    inside = path.absolute().is_relative_to(root)
    return path.absolute().relative_to(root).as_posix() if inside else path.name


def select(file: ScenarioFile, names: Iterable[str]) -> tuple[list[Scenario], list[Finding]]:
    """The scenarios to run: those named (`node-loss` means all its `node-loss[host-a]`), else
    all of kind `run`. Unknown names and kinds of later versions are Findings."""
    names = list(names)
    if not names:
        return [s for s in file.scenarios if s.kind == "run"], []
    chosen, found = [], []
    known = [s.name for s in file.scenarios]
    for name in names:
        hits = [s for s in file.scenarios if name in (s.name, s.name.partition("[")[0])]
        if not hits:
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            found.append(problem(f"scenario '{name}' is not defined", None, hint))
        for hit in hits:
            if hit.kind != "run":
                found.append(_other_kind(hit))
            elif hit not in chosen:
                chosen.append(hit)
    return chosen, found


def _other_kind(scenario: Scenario) -> Finding:
    if scenario.plan is None:
        text = f"scenario '{scenario.name}': kind '{scenario.kind}' is not in this version"
        return problem(text, scenario.span)
    text = f"scenario '{scenario.name}' is of kind {scenario.kind}"
    return problem(text, scenario.span, f"`hasim {scenario.kind}` answers it")


class _Reader(BudgetReader):
    """One scenarios.yaml under way from forms to scenarios."""

    def __init__(self, path: Path, shown: str, node: Node, form: FileForm):
        super().__init__(node, form.budgets)
        self.path, self.shown, self.form = path, shown, form
        self.scripts: dict[str, tuple[K6Script | None, list[Finding]]] = {}
        self.loads = {n: self.load(n, f, ("loads", n)) for n, f in form.loads.items()}
        for name in form.budgets:
            self.budgets(form.budgets[name], ("budgets", name))

    # ---- loads -----------------------------------------------------------------------------
    def load(self, name: str, form: LoadForm, loc: Loc) -> Load | None:
        made, found = make_load(name, form, self.node, loc, self.script)
        self.findings += found
        return made

    def script(self, name: str) -> tuple[K6Script | None, list[Finding]]:
        """The k6 script, looked for beside this file, then in the folder of the stack."""
        if name not in self.scripts:
            here = self.path.parent
            shown_here = Path(self.shown).parent
            self.scripts[name] = (None, [])
            for folder in ("", self.form.stack):
                file = here / folder / name
                if file.is_file():
                    shown = (shown_here / folder / name).as_posix()
                    text = file.read_text(encoding="utf-8", errors="replace")
                    self.scripts[name] = read_script(text, shown)
                    break
        return self.scripts[name]

    def named_load(self, value: str | LoadForm, scenario: str, loc: Loc) -> Load | None:
        if isinstance(value, LoadForm):
            return self.load(scenario, value, loc)
        if value not in self.form.loads:
            hint = did_you_mean(value, self.form.loads)
            self.wrong(f"load '{value}' is not defined", loc, hint)
        return self.loads.get(value)

    # ---- scenarios -------------------------------------------------------------------------
    def scenarios(self) -> list[Scenario]:
        made: list[Scenario] = []
        for name, form in self.form.scenarios.items():
            loc: Loc = ("scenarios", name)
            if "[" in name or "/" in name:
                self.wrong(f"the name '{name}' has a [ or / in it", loc, key=True)
            if isinstance(form, ScenarioForm):
                made += self.scenario(name, form, loc)
            else:
                made.append(self.planned(name, form, loc))
        return made

    def planned(self, name: str, form: SweepForm | CapacityForm | LaterForm, loc: Loc) -> Scenario:
        """A question over other scenarios; it has no load of its own."""
        plan: Sweep | Capacity | None = None
        if isinstance(form, LaterForm):
            doc = ""
        else:
            doc = form.doc.strip()
            self.check_over(form.over, (*loc, "over"))
            if isinstance(form, CapacityForm):
                plan = make_capacity(form)
            else:
                plan = make_sweep(
                    form, lambda text, at, hint="": self.wrong(text, (*loc, *at), hint)
                )
        span = place(self.node, loc, key=True)
        return Scenario(name, doc, NO_LOAD, kind=form.kind, plan=plan, span=span)

    def check_over(self, names: list[str], loc: Loc) -> None:
        known = [n for n, f in self.form.scenarios.items() if isinstance(f, ScenarioForm)]
        for i, name in enumerate(names):
            if name.partition("[")[0] not in known:
                hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
                self.wrong(f"scenario '{name}' of kind run is not defined", (*loc, i), hint)

    def scenario(self, name: str, form: ScenarioForm, loc: Loc) -> list[Scenario]:
        before = len(self.findings)
        load = self.named_load(form.load, name, (*loc, "load"))
        faults = self.faults(form, load, loc)
        budgets = self.budgets(form.budgets, (*loc, "budgets"))
        own = form.steady_state is not None
        steady = form.steady_state if own else self.form.steady_state
        held = self.budgets(steady, (*loc, "steady_state") if own else ("steady_state",))
        gaps = self.gaps(form.known_gaps, budgets, (*loc, "known_gaps"))
        each, at = self.each(form, loc)
        ones = self.unrolled(each, at) if each else []
        if load is None or any(f.severity == "error" for f in self.findings[before:]):
            return []
        top = self.form
        made = Scenario(
            name=name,
            doc=form.doc.strip(),
            load=load,
            faults=faults,
            budgets=budgets,
            steady_state=held,
            known_gaps=gaps,
            settings={k: _text(v) for k, v in form.set_.items()},
            phases=form.phases,
            recover_within_s=_first(form.recover_within, top.recover_within, 120.0),
            probe_timeout_s=_first(form.probe_timeout, top.probe_timeout, _latency(budgets)),
            replications=_first(form.replications, top.replications, 0),
            coverage=_first(form.coverage, top.coverage, 0.90),
            confidence=_first(form.confidence, top.confidence, 0.95),
            span=place(self.node, loc, key=True),
        )
        self.check_shares(made, loc)
        return [_for_each(made, each, one) for one in ones] if each else [made]

    def check_shares(self, made: Scenario, loc: Loc) -> None:
        for key, value in (("coverage", made.coverage), ("confidence", made.confidence)):
            if not 0.5 <= value < 1:
                self.wrong(f"{key} must be at least 50 % and below 100 %", (*loc, key))
        if made.probe_timeout_s <= 0:
            self.wrong("probe_timeout must be longer than zero", (*loc, "probe_timeout"))

    def faults(self, form: ScenarioForm, load: Load | None, loc: Loc) -> tuple[Fault, ...]:
        made = []
        for i, one in enumerate(form.faults):
            at: Loc = (*loc, "faults", i)
            fault, found = make_fault(one, self.node, at)
            self.findings += found
            if fault is None:
                continue
            made.append(fault)
            if load is not None:
                self.check_times(fault, load, at)
        return tuple(made)

    def check_times(self, fault: Fault, load: Load, loc: Loc) -> None:
        """A fault must begin and be repaired while the load is there to see it."""
        if fault.at.event:
            return
        ends = f"the load ends at {load.duration_s:g} s"
        again = (fault.repeat_times - 1) * fault.repeat_every_s
        begin = _latest(fault.at.offset) + again
        if begin >= load.duration_s:
            self.wrong(f"the fault begins at {begin:g} s, but {ends}", (*loc, "at"))
        elif fault.lasts is not None and begin + _latest(fault.lasts) > load.duration_s:
            self.wrong(
                f"the fault is repaired at {begin + _latest(fault.lasts):g} s, but {ends}",
                (*loc, "for"),
                "a longer load, an earlier fault, or no 'for' if nobody repairs it",
            )
        lasts = _latest(fault.lasts) if fault.lasts is not None else 0.0
        if fault.repeat_times > 1 and lasts >= fault.repeat_every_s:
            self.wrong("the fault comes again before it is repaired", (*loc, "repeat"))

    def gaps(
        self, forms: list[GapForm], budgets: tuple[Budget, ...], loc: Loc
    ) -> tuple[KnownGap, ...]:
        names = [b.name for b in budgets]
        texts = [f"{b.name} {b.threshold.text}" for b in budgets]
        made = []
        for i, gap in enumerate(forms):
            if gap.budget not in names and gap.budget not in texts:
                hint = did_you_mean(gap.budget, [*names, *texts])
                self.wrong(f"this scenario has no budget '{gap.budget}'", (*loc, i, "budget"), hint)
            span = place(self.node, (*loc, i))
            made.append(KnownGap(gap.budget, gap.reason, gap.host, gap.until, span))
        return tuple(made)

    def each(self, form: ScenarioForm, loc: Loc) -> tuple[str, Loc]:
        """The `each` of the scenario or of its faults, and where it stands; "" without one."""
        found: list[tuple[str, Loc]] = [(form.each, (*loc, "each"))] if form.each else []
        for i, fault in enumerate(form.faults):
            if fault.each:
                found.append((fault.each, (*loc, "faults", i, "each")))
        for other, at in found[1:]:
            if other != found[0][0]:
                self.wrong("one scenario has only one 'each'", at, f"the first is '{found[0][0]}'")
        if form.each and not any(form.each in (f.target, f.each, *f.between) for f in form.faults):
            self.wrong(f"no fault has the target '{form.each}'", (*loc, "each"))
        return found[0] if found else ("", loc)

    def unrolled(self, each: str, loc: Loc) -> list[str]:
        """The targets that `each` stands for."""
        hosts, groups = names_of_hosts_and_groups(self.path.parent / self.form.stack)
        if each == "host:*":
            return [f"host:{h}" for h in hosts]
        if each.endswith("[*]") and each[:-3] in groups:
            return list(groups[each[:-3]])
        known = ["host:*", *(f"{g}[*]" for g in groups)]
        hint = did_you_mean(each, known) or f"one of {', '.join(known)}"
        self.wrong(f"'{each}' selects nothing", loc, hint)
        return []


def _for_each(scenario: Scenario, each: str, one: str) -> Scenario:
    """`scenario` with the target `each` replaced by one of what it selects, and named after it."""
    short = one.removeprefix("host:")
    faults = tuple(
        replace(
            f,
            target=one if f.target == each else f.target,
            between=tuple(one if b == each else b for b in f.between),
        )
        for f in scenario.faults
    )
    gaps = tuple(g for g in scenario.known_gaps if g.host in ("", short, one))
    return replace(scenario, name=f"{scenario.name}[{short}]", faults=faults, known_gaps=gaps)


def _latency(budgets: tuple[Budget, ...]) -> float:
    """The latency budget of http_req_duration p(99), else 1 s."""
    for budget in budgets:
        limit = budget.threshold
        plain_p99 = budget.name == "http_req_duration" and abs(limit.q - 0.99) < 1e-9
        if plain_p99 and limit.operator in ("<", "<=") and limit.limit > 0:
            return limit.limit
    return 1.0


def _latest(dist: Dist) -> float:
    return dist.b if dist.kind == "uniform" else dist.a


def _first(*values: Any) -> Any:
    return next(v for v in values if v is not None)


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
