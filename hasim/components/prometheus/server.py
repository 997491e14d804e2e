"""One Prometheus process at work: scrapes and evaluations at their own pace, alerts that change.

Read beside Prometheus' scrape/target.go (offset) and rules/manager.go (Group.run, EvalTimestamp):
every target and every group has a fixed place within its interval.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from hasim.components.base import Machine, Process
from hasim.components.prometheus.alerts import Change, RuleState
from hasim.components.prometheus.config import Config
from hasim.components.prometheus.evaluate import EvaluationError, Labels, evaluate
from hasim.components.prometheus.scrape import Scraped, Scraper, Store, Target, relevant, targets
from hasim.read.prometheus_ast import selectors
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.read.prometheus import Group
    from hasim.sim.world import World
    from hasim.source import Origin


class Server:
    """It begins with the load, and then as if it had been at work for long: a stack's alerts at
    boot are nobody's concern here.
    """

    def __init__(self, p: Process, world: World, machine: Machine, config: Config):
        self.p, self.world, self.machine, self.config = p, world, machine, config
        key = f"prometheus:{p.instance}"
        self.store: Store = machine.disks.setdefault(key, Store(config.lookback_s))
        one = machine.containers[p.instance].spec
        self.targets = relevant(config, targets(config, one, machine.stack))
        names = frozenset(s.name for rule in config.rules for s in selectors(rule.expr))
        self.scraper = Scraper(p, machine, names)
        self.rules = {
            group.name: [RuleState(rule) for rule in group.rules] for group in config.groups
        }
        self.failed: set[str] = set()

    def start(self) -> None:
        """At once, or when everything has booted."""
        if self.machine.booted:
            self._begin(False)
        else:
            self.machine.on_boot.append(lambda: self._begin(True))

    def _begin(self, at_boot: bool) -> None:
        if not self.p.alive:
            return
        for i, target in enumerate(self.targets):
            self.world.spawn(self._scrape(target, i, at_boot), f"scrape {self.p.instance} {i}")
        for group in self.config.groups:
            self.world.spawn(self._judge(group), f"rules {self.p.instance} {group.name}")

    def _first_ns(self, stream: str, interval_s: float, *pins: str) -> int:
        """Its place within the interval, which `phases:` may pin (s from the load's start)."""
        phases = self.world.scenario.phases
        pin = next((phases[name] for name in pins if name in phases), None)
        step = round(interval_s * NS)
        if pin is None:
            place = int(self.world.draw(f"{self.p.instance} {stream}", 0, "phase") * step)
        else:
            place = round(pin * NS)
        since = int(self.p.env.now) - self.world.start_ns
        return self.world.start_ns + place + max(0, -(-(since - place) // step)) * step

    # ---- scrapes -----------------------------------------------------------------------------
    def _scrape(self, target: Target, number: int, at_boot: bool) -> Generator:
        env, step = self.p.env, round(target.interval_s * NS)
        due = self._first_ns(f"scrape {number}", target.interval_s, f"{self.p.instance}.scrape")
        if at_boot:
            self._stored(target, due - step, self.scraper.look(target) == "ok")
        while True:
            yield env.timeout(due - env.now)
            yield from self.p.awake()
            if not self.p.alive:
                return
            begun = int(env.now)
            good = yield from self.scraper.fetch(target)
            yield from self.p.awake()
            if not self.p.alive:
                return
            self._stored(target, begun, good)
            due += step
            while due < env.now:  # a ticker drops what its reader missed
                due += step

    def _stored(self, target: Target, at_ns: int, good: bool) -> None:
        found = self.scraper.read(target) if good else Scraped(at_ns, 0.0)
        found.at_ns = at_ns
        self.store.scraped[target] = found

    # ---- rules -------------------------------------------------------------------------------
    def _judge(self, group: Group) -> Generator:
        env, step = self.p.env, round(group.interval_s * NS)
        pins = f"{self.p.instance}/{group.name}", self.p.instance
        due = self._first_ns(f"rules {group.name}", group.interval_s, *pins)
        while True:
            yield env.timeout(due - env.now)
            yield from self.p.awake()
            if not self.p.alive:
                return
            self._evaluate(group)
            due += step
            while due < env.now:
                due += step

    def _evaluate(self, group: Group) -> None:
        at_s = int(self.p.env.now) / NS
        for state in self.rules[group.name]:
            try:
                changes = state.update(evaluate(state.rule.expr, self.store, at_s), at_s)
            except EvaluationError as problem:
                self._failed(state, str(problem))
                continue
            for change in changes:
                self._tell(state, change)

    def _failed(self, state: RuleState, problem: str) -> None:
        """Once per rule: Prometheus repeats it at each evaluation."""
        if state.rule.alert not in self.failed:
            self.failed.add(state.rule.alert)
            detail = f"{state.rule.alert}: {problem}"
            self.world.log(
                self.p.instance, "Evaluating rule failed", detail, origin=state.rule.span
            )

    def _tell(self, state: RuleState, change: Change) -> None:
        alert, rule = change.alert, state.rule
        cause = alert.mark if alert.mark >= 0 else self._cause(alert.source)
        origin: Origin | None = rule.where.get("for") or rule.span
        detail = f"{described(alert.labels)} value {alert.value:g}"
        alert.mark = self.world.log(
            self.p.instance, change.what, detail, cause=cause, origin=origin
        )

    def _cause(self, source: Labels) -> int:
        """The row behind a sample: its gauge's own, else what last changed its instance."""
        target, mark = self.store.mark(source)
        if mark >= 0 or target is None:
            return mark
        container = self.machine.containers.get(target.instance)
        return container.blame if container else -1


def described(labels: Labels) -> str:
    """`Name{job="l09",severity="page"}` of an alert's labels."""
    have = dict(labels)
    name = have.pop("alertname", "")
    inner = ",".join(f'{k}="{v}"' for k, v in sorted(have.items()))
    return f"{name}{{{inner}}}"
