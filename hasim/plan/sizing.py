"""The least replicas, cores and memory that keep the budgets, with every host and after any loss.

First replicas, every process as wide as its workers allow: fewer and fewer, judged by simulation.
Then cores and memory by the utilisation law from what that simulation used, then a simulation with
exactly these limits, which decides; what it breaks gets more until it holds. Where no number of
replicas keeps the budgets because the hosts themselves are full, the law alone has to answer, from
what the largest load that passes used; such sizes are said to be unproved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hasim.model import Stack
from hasim.plan.capacity_probe import Probe, Prober, holds
from hasim.plan.capacity_search import smallest
from hasim.plan.capacity_types import Amount
from hasim.plan.sizing_groups import Group, groups, loaded

CORES_TARGET = 0.80  # of a limit in the busiest minute, where no budget says it
MEMORY_TARGET = 0.85
CORES_STEP, MEMORY_STEP = 0.05, 16 << 20
FEW = 2  # replications while searching
ROUNDS = 16  # of giving more
GROW = 1.1  # what breaks a budget gets a tenth more
MORE = 1.25  # recommended is a quarter more than needed
MOST_REPLICAS = 32
FULL = 0.85  # of a host's cores: more processes would only share them
# Sizes that people write into compose files.
CORES = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
MIB = (64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 32768)


@dataclass(frozen=True)
class Needed:
    """What keeps the budgets. amounts and recommended: by group; only of groups that were sized.

    met, recommended_met: whether simulation confirmed them; else they are by the law alone. use:
    (cores in the busiest minute, bytes) of the busiest member. probe: the one that broke, if not
    met. probes: what `use` was read from, one per state, for the next larger load.
    """

    amounts: Mapping[str, Amount]
    recommended: Mapping[str, Amount]
    use: Mapping[str, tuple[float, float]]
    met: bool
    recommended_met: bool
    probe: Probe | None
    probes: tuple[Probe, ...]
    counts: Mapping[str, int]  # of what is recommended


def cores_needed(minute: float, second: float, target: float) -> float:
    """Cores per instance by the utilisation law: the busiest minute uses less than `target` of
    them, and 99 % of all seconds fit. In steps of 0.05.

    >>> cores_needed(minute=0.8, second=0.9, target=0.8)
    1.05
    """
    steps = math.ceil(max(minute / target, second) / CORES_STEP + 1e-6)
    return round(max(steps, 1) * CORES_STEP, 2)


def memory_needed(most_bytes: float, target: float) -> int:
    """Bytes per instance, in steps of 16 MiB."""
    return max(math.ceil(most_bytes / target / MEMORY_STEP - 1e-6), 1) * MEMORY_STEP


def cores_recommended(needed: float, most: float) -> float:
    """The next usual size with a quarter to spare; never more than the workers can use."""
    wanted = needed * MORE - 1e-9
    step = next((float(c) for c in CORES if c >= wanted), float(math.ceil(wanted)))
    return max(min(step, most), needed)


def memory_recommended(needed: int) -> int:
    """The next usual size with a quarter to spare."""
    wanted = needed * MORE
    return next((m << 20 for m in MIB if m << 20 >= wanted), math.ceil(wanted / 2**30) << 30)


def instances_needed(alive: int, hosts: int) -> int:
    """The least number of which `alive` are left when one of the hosts that share them is lost.

    >>> instances_needed(2, hosts=3), instances_needed(4, hosts=2), instances_needed(4, hosts=0)
    (3, 8, 4)
    """
    if hosts < 2:
        return alive
    return next(n for n in range(alive, 3 * alive + 2) if n - math.ceil(n / hosts) >= alive)


class Sizer:
    """Sizes one stack for one load. states: "" and the hosts that may be lost."""

    def __init__(
        self,
        prober: Prober,
        users: float,
        states: Sequence[str],
        replications: int,
        known: Sequence[Probe] = (),
        least: int = 1,
    ):
        self.prober, self.users, self.states = prober, users, states
        self.known = known  # probes of a smaller load that passed
        self.least = least  # replicas to recommend: one alone is lost with its host
        self.replications = replications
        self.few = min(FEW, replications)
        self.names = loaded(prober.stack, prober.over)
        self.cores = max(h.cores for h in prober.stack.hosts)
        self.memory = min(h.memory_bytes for h in prober.stack.hosts)

    # ---- stacks --------------------------------------------------------------------------------
    @cached_property
    def sized(self) -> list[str]:
        """Groups that the load reaches and whose containers have limits to set."""
        known = groups(self.prober.stack)
        return [g.name for g in known if set(g.services) & set(self.names) and g.settings(1.0)]

    @cached_property
    def knobs(self) -> list[str]:
        """Of these, those whose number of instances is a knob."""
        have = {k.name for k in self.prober.stack.knobs}
        known = groups(self.prober.stack)
        return [g.name for g in known if g.name in self.sized and g.replica_knob in have]

    def given_counts(self) -> dict[str, int]:
        """Instances now, of groups with a knob."""
        return {g.name: len(g.members) for g in groups(self.prober.stack) if g.name in self.knobs}

    def stack(self, counts: Mapping[str, int]) -> Stack:
        """The stack with that many replicas."""
        return self.prober.stack_with(self._replicas(counts))

    def groups(self, counts: Mapping[str, int]) -> list[Group]:
        """Groups that are sized, with that many replicas."""
        return [g for g in groups(self.stack(counts)) if g.name in self.sized]

    def _replicas(self, counts: Mapping[str, int]) -> dict[str, str]:
        given = self.given_counts()
        return {f"replicas.{g}": str(n) for g, n in counts.items() if n != given[g]}

    def settings(self, counts: Mapping[str, int], amounts: Mapping[str, Amount]) -> dict[str, str]:
        """Knobs that make the stack like that."""
        made = self._replicas(counts)
        for group in self.groups(counts):
            amount = amounts[group.name]
            made |= group.settings(amount.cores, amount.memory_bytes)
        return made

    def wide(self, counts: Mapping[str, int]) -> dict[str, Amount]:
        """Limits that nothing meets: only workers and hosts bound what a process can use."""
        return {
            g.name: Amount(len(g.members), self.widest(g), self.memory) for g in self.groups(counts)
        }

    def widest(self, group: Group) -> float:
        """The most cores that one instance can use."""
        return min(group.workers, self.cores)

    # ---- judging -------------------------------------------------------------------------------
    def tried(
        self, counts: Mapping[str, int], amounts: Mapping[str, Amount], replications: int
    ) -> list[Probe]:
        """Probes of every state, up to the first one that fails; a loss fails soonest."""
        settings, made = self.settings(counts, amounts), []
        for lost in (*[s for s in self.states if s], ""):
            made.append(self.prober.one(self.users, lost, replications, settings))
            if not made[-1].passed:
                break
        return made

    def meets(self, counts: Mapping[str, int]) -> bool:
        """Do that many replicas do, if cores and memory are no question?"""
        return self.tried(counts, self.wide(counts), self.few)[-1].passed

    # ---- the answer ----------------------------------------------------------------------------
    def run(self) -> Needed:
        """Replicas, then limits, then a margin."""
        counts, met = self.enough(self.given_counts())
        if not met:
            return self.unproved(self.tried(counts, self.wide(counts), self.few))
        counts = self.fewest(counts)
        probes = self.tried(counts, self.wide(counts), self.few)
        amounts, failed = self.confirmed(counts, self.law(counts, probes))
        more = {name: max(n, self.least) for name, n in counts.items()}
        recommended = self.rounded(more, amounts)
        good = failed is None and self.tried(more, recommended, self.replications)[-1].passed
        return Needed(
            amounts=amounts,
            recommended=recommended,
            use=self.used(counts, probes),
            met=failed is None,
            recommended_met=good,
            probe=failed,
            probes=tuple(probes),
            counts=more,
        )

    def rounded(
        self, counts: Mapping[str, int], amounts: Mapping[str, Amount]
    ) -> dict[str, Amount]:
        """The amounts with a margin, in usual sizes."""
        return {
            g.name: Amount(
                instances=max(counts.get(g.name, 0), amounts[g.name].instances),
                cores=cores_recommended(amounts[g.name].cores, self.widest(g)),
                memory_bytes=memory_recommended(amounts[g.name].memory_bytes),
            )
            for g in self.groups(counts)
        }

    def used(
        self, counts: Mapping[str, int], probes: Sequence[Probe]
    ) -> dict[str, tuple[float, float]]:
        """(cores in the busiest minute, bytes) by group."""
        use = self.use(counts, probes)
        return {name: (minute, most) for name, (minute, _, most) in use.items()}

    def unproved(self, probes: Sequence[Probe]) -> Needed:
        """By the law alone: what a smaller load used, in proportion."""
        given, amounts, counts = self.given_counts(), {}, {}
        if not self.known:
            return Needed({}, {}, {}, False, False, probes[-1], (), given)
        hosts = len(self.prober.stack.hosts)
        for group in self.groups(given):
            name, target = group.name, self.target(group, "cpu_utilization")
            minute, total, most = self.demand(group.name)
            n = len(group.members)
            if name in self.knobs:
                alive = max(math.ceil(total / (target * self.widest(group)) - 1e-6), 1)
                n = instances_needed(alive, hosts if len(self.states) > 1 else 0)
                minute = total / alive
                counts[name] = max(n, self.least)
            memory = memory_needed(most, self.target(group, "memory_utilization"))
            amounts[name] = Amount(n, cores_needed(minute, 0.0, target), memory)
        use = {g: (self.demand(g)[0], self.demand(g)[2]) for g in amounts}
        rounded = self.rounded(counts, amounts)
        return Needed(amounts, rounded, use, False, False, probes[-1], tuple(self.known), counts)

    def demand(self, name: str) -> tuple[float, float, float]:
        """(cores of the busiest member, of all members, bytes) at this load, in proportion to the
        probes of a smaller one.
        """
        best = [0.0, 0.0, 0.0]
        for probe in self.known:
            group = next(
                g for g in groups(self.prober.stack_with(dict(probe.settings))) if g.name == name
            )
            factor = self.users / probe.users
            each = [
                sum(probe.use[n].minute_cores for n in names if n in probe.use) * factor
                for names in group.processes
            ]
            sizes = [
                sum(probe.use[n].memory_bytes for n in names if n in probe.use)
                for names in group.processes
            ]
            best = [
                max(a, b) for a, b in zip(best, (max(each), sum(each), max(sizes)), strict=True)
            ]
        return best[0], best[1], best[2]

    def enough(self, counts: dict[str, int]) -> tuple[dict[str, int], bool]:
        """Replicas with which the budgets hold: those given, or more of what is busiest."""
        for _ in range(ROUNDS):
            probes = self.tried(counts, self.wide(counts), self.few)
            if probes[-1].passed:
                return counts, True
            if max(probes[-1].hosts.values(), default=0.0) >= FULL:
                break  # no room for more
            use = self.use(counts, [probes[-1]])
            busy = {
                g.name: use[g.name][0] / self.widest(g)
                for g in self.groups(counts)
                if g.name in self.knobs
            }
            name = max(busy, key=lambda n: busy[n], default="")
            if not name or busy[name] < 0.5 or counts[name] >= MOST_REPLICAS:
                break
            grown = max(counts[name] + 1, math.ceil(counts[name] * busy[name] * MORE))
            counts = {**counts, name: grown}
        return counts, False

    def fewest(self, counts: dict[str, int]) -> dict[str, int]:
        """One group after the other gets as few replicas as keep the budgets."""
        for name in self.knobs:
            use = self.use(counts, self.tried(counts, self.wide(counts), self.few))[name][0]
            group = next(g for g in self.groups(counts) if g.name == name)
            least = max(math.ceil(use * counts[name] / self.widest(group) / 2 - 1e-6), 1)

            def fits(n: int, name: str = name, so_far: dict[str, int] = counts) -> bool:
                return n == so_far[name] or self.meets({**so_far, name: n})

            found = smallest(fits, min(least, counts[name]), counts[name])
            counts = {**counts, name: found or counts[name]}
        return counts

    def use(
        self, counts: Mapping[str, int], probes: Sequence[Probe]
    ) -> dict[str, tuple[float, float, float]]:
        """(cores in the busiest minute, in the busiest second, bytes) of the busiest member."""
        made = {}
        for group in self.groups(counts):
            best = [0.0, 0.0, 0.0]
            for probe in probes:
                for names in group.processes:
                    uses = [probe.use[n] for n in names if n in probe.use]
                    sums = (
                        sum(u.minute_cores for u in uses),
                        sum(u.second_cores for u in uses),
                        sum(u.memory_bytes for u in uses),
                    )
                    best = [max(a, b) for a, b in zip(best, sums, strict=True)]
            made[group.name] = (best[0], best[1], best[2])
        return made

    def law(self, counts: Mapping[str, int], probes: Sequence[Probe]) -> dict[str, Amount]:
        """Cores and memory of one instance from what was used."""
        made = {}
        use = self.use(counts, probes)
        for group in self.groups(counts):
            minute, second, most = use[group.name]
            cores = cores_needed(minute, second, self.target(group, "cpu_utilization"))
            memory = memory_needed(most, self.target(group, "memory_utilization"))
            made[group.name] = Amount(len(group.members), min(cores, self.widest(group)), memory)
        return made

    def target(self, group: Group, metric: str) -> float:
        """The share of a limit that the budgets allow."""
        found = [CORES_TARGET if metric == "cpu_utilization" else MEMORY_TARGET]
        for scenario in self.prober.over:
            for budget in scenario.budgets:
                service = dict(budget.tags).get("service", "*")
                named = service == "*" or service in group.services or service in group.containers
                if budget.metric == metric and named and "<" in budget.threshold.operator:
                    found.append(budget.threshold.limit)
        return min(found[1:], default=found[0])

    def confirmed(
        self, counts: Mapping[str, int], amounts: dict[str, Amount]
    ) -> tuple[dict[str, Amount], Probe | None]:
        """The limits with which simulation keeps every budget, or the probe that fails."""
        probe: Probe | None = None
        for _ in range(ROUNDS):
            probe = self.tried(counts, amounts, self.replications)[-1]
            if probe.passed:
                return amounts, None
            grown = self.grown(counts, amounts, probe)
            if grown == amounts:
                break
            amounts = grown
        return amounts, probe

    def grown(
        self, counts: Mapping[str, int], amounts: dict[str, Amount], probe: Probe
    ) -> dict[str, Amount]:
        """A tenth more for what a broken budget names, else for what is nearest to its limit."""
        broken = [r for s, r in probe.rows if not holds(s, r)]
        known = self.groups(counts)
        room = {g.name: amounts[g.name].cores < self.widest(g) for g in known}
        use = self.use(counts, [probe])
        made = dict(amounts)
        for row in broken:
            service = dict(row.tags).get("service", "")
            if row.metric in ("memory_utilization", "oom_kills"):
                hit = [g for g in known if not service or service in g.services] or known
                fullest = max(hit, key=lambda g: use[g.name][2] / amounts[g.name].memory_bytes)
                one = amounts[fullest.name]
                more = memory_needed(one.memory_bytes * GROW, 1.0)
                made[fullest.name] = replace(one, memory_bytes=min(more, self.memory))
        if made != amounts:
            return made
        named = {dict(r.tags).get("service") for r in broken if r.metric == "cpu_utilization"}
        hit = [g for g in known if room[g.name] and named & {*g.services, *g.containers}]
        hit = hit or [g for g in known if room[g.name]]
        if hit:
            tightest = max(hit, key=lambda g: use[g.name][1] / amounts[g.name].cores)
            one = amounts[tightest.name]
            cores = cores_needed(one.cores * GROW, 0.0, 1.0)
            made[tightest.name] = replace(one, cores=min(cores, self.widest(tightest)))
        return made
