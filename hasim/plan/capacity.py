"""How much load a stack carries, and what it needs: `hasim capacity`.

>>> result = review(project, "capacity")                          # doctest: +SKIP
>>> result.largest
{'': 1490.0, 'host-a': 1220.0}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hasim.errors import Finding, InputError
from hasim.model import Stack
from hasim.plan.capacity_load import INCIDENTS, by_users
from hasim.plan.capacity_probe import Probe, Prober, peak, reference
from hasim.plan.capacity_search import STEP, largest, rung
from hasim.plan.capacity_types import Boundary, CapacityResult, Limit, Sizing
from hasim.plan.sizing import Sizer
from hasim.plan.sizing_table import table
from hasim.plan.trials import Bench, Done
from hasim.project import Project, planned, root_seed
from hasim.scenario import Capacity, Scenario

SEARCH = 2  # replications per probe of the search
NEARBY = 8  # steps that the confirmation may go down or up from the boundary found
SMALLEST = 1 / 256  # of the load asked for: less than this is nothing


def review(
    project: Project,
    name: str,
    *,
    seed: int | None = None,
    jobs: int = 0,
    journal: Path | None = None,
    tell: Callable[[Done], None] = lambda done: None,
    begin: Callable[[str], None] = lambda stage: None,
    say: Callable[[str], None] = lambda text: None,
) -> CapacityResult:
    """The answer for the capacity scenario of that name; the same bytes for any `jobs`.

    InputError for a scenario that is not there, or if nothing could be judged.
    """
    chosen, over = planned(project, name, "capacity")
    plan, stack = chosen.plan, project.stack
    assert isinstance(plan, Capacity)
    assert stack is not None
    lost = _lost(plan, stack, over, chosen)
    first = reference(over)
    asked = plan.users or peak(first)
    bases = {s.name: peak(s) * asked / peak(first) if s.faults else asked for s in over}
    bases = {s.name: bases[s.name] if by_users(s.load) == by_users(first.load) else peak(s)
             for s in over}  # fmt: skip
    seed = root_seed(project, seed)
    with Bench(jobs, journal, tell, say) as bench:
        prober = Prober(bench, stack, over, bases, asked, seed)
        hunt = _Hunt(prober, plan, asked, by_users(first.load))
        begin(f"{name}: the largest load with all hosts")
        found = [hunt.boundary("", 0)]
        for host in lost:
            begin(f"{name}: the largest load without {host}")
            found.append(hunt.boundary(host, hunt.last))
        sizings: list[Sizing] = []
        known: Sequence[Probe] = list(hunt.good.values())
        hopeless = tuple(b.lost for b in found[1:] if b.users == 0)  # whatever the sizes
        states = tuple(b.lost for b in found if b.lost not in hopeless)
        for users in [asked, plan.growth] if plan.growth else [asked]:
            begin(f"{name}: what {users:g} {'users' if hunt.whole else 'iterations/s'} need")
            sizing, known = _sized(prober, users, states, plan, known)
            sizings.append(replace(sizing, not_survived=hopeless))
    return CapacityResult(
        name=name,
        doc=chosen.doc,
        stack=stack.name,
        stack_sha256=stack.sha256,
        seed=seed,
        unit="users" if by_users(first.load) else f"iterations per {first.load.time_unit_s:g} s",
        asked=asked,
        growth=plan.growth,
        over=tuple(s.name for s in over),
        limits=tuple(_limits(over)),
        replications=plan.replications,
        verdict=verdict_of(found, asked),
        boundaries=tuple(found),
        sizings=tuple(sizings),
        notes=tuple(_notes(over, lost, stack)),
        assumptions=len(stack.assumptions),
    )


def _lost(
    plan: Capacity, stack: Stack, over: Sequence[Scenario], chosen: Scenario
) -> tuple[str, ...]:
    """Hosts that may be lost, in the stack's order; InputError for what cannot be judged."""
    studies = [s for s in over if s.settings]
    if studies:
        message = f"scenario '{studies[0].name}' has `set:`: files are sized as they are"
        raise InputError([Finding("error", "HA104", message, studies[0].span)])
    wanted = {text.removeprefix("host:") for text in plan.lose}
    if wanted and all(s.faults for s in over):
        message = "with a host lost there is nothing to judge: every scenario of `over` has faults"
        hint = "add one without faults, or leave `lose` out"
        raise InputError([Finding("error", "HA104", message, chosen.span, hint)])
    return tuple(h.name for h in stack.hosts if wanted & {"*", h.name})


@dataclass
class _Hunt:
    """The search for boundaries. last: the step that the latest one found; good: by lost host, the
    probe of the largest load that passes.
    """

    prober: Prober
    plan: Capacity
    asked: float
    whole: bool
    last: int = 0
    good: dict[str, Probe] = field(default_factory=dict)

    def users(self, step: int) -> float:
        """The load of a step."""
        return rung(self.asked, step, self.whole)

    def boundary(self, lost: str, start: int) -> Boundary:
        """Bracket, bisect, then confirm on both sides."""
        seen: dict[float, Probe] = {}
        few, many = min(SEARCH, self.plan.replications), self.plan.replications

        def probe(step: int, replications: int) -> Probe:
            users = self.users(step)
            if users not in seen or seen[users].replications < replications:
                seen[users] = self.prober.one(users, lost, replications)
            return seen[users]

        most = math.floor(math.log(self.plan.at_most) / math.log(STEP) + 1e-9)
        least = math.ceil(math.log(SMALLEST) / math.log(STEP))
        low, high = largest(lambda k: probe(k, few).passed, start, least, most)
        for _ in range(NEARBY):
            if low is None or probe(low, many).shown:
                break
            low -= 1
        if low is not None and not probe(low, many).shown:
            low = None
        if high is None and low is not None and low < most:
            high = low + 1
        for _ in range(NEARBY):
            if high is None or high >= most or probe(high, many).refuted:
                break
            high += 1
        if high is not None and not probe(high, many).refuted:
            high = None
        self.last = low if low is not None else 0
        users = self.users(low) if low is not None else 0.0
        bad = probe(high, many) if high is not None else None
        good = probe(low, many) if low is not None else None
        if good is not None:
            self.good[lost] = good
        return Boundary(
            lost=lost,
            users=users,
            fails_at=self.users(high) if high is not None else math.inf,
            headroom=users / self.asked,
            first_broken=self.prober.broken(bad, good) if bad is not None else None,
            points=tuple(seen[u].point for u in sorted(seen)),
            note=_note(low, high, self.users(most), self.users(least)),
        )


def _note(low: int | None, high: int | None, most: float, least: float) -> str:
    if low is None and high is None:
        return "neither a load that passes nor one that fails could be shown"
    if low is None:
        return f"no load passes, not even {least:g}"
    return f"every load up to {most:g} passes" if high is None else ""


def _sized(
    prober: Prober, users: float, states: Sequence[str], plan: Capacity, known: Sequence[Probe]
) -> tuple[Sizing, Sequence[Probe]]:
    """What that load needs, and the probes from which a larger one may be guessed."""
    least = 2 if plan.lose else 1
    sizer = Sizer(prober, users, states, plan.replications, known, least)
    needed = sizer.run()
    broken = prober.broken(needed.probe) if needed.probe is not None else None
    after = sizer.stack(needed.counts)
    return table(prober.stack, after, users, needed, sizer.names, broken), needed.probes


def _limits(over: Sequence[Scenario]) -> Iterator[Limit]:
    """Budgets of the two metrics that the figure shows, the strictest of each."""
    for metric, aggregate in (("http_req_duration", "p(99)"), ("http_req_failed", "rate")):
        asked = [
            b.threshold.limit
            for s in over
            for b in s.budgets
            if b.name == metric and b.threshold.text.startswith(aggregate)
        ]
        if asked:
            yield Limit(metric, aggregate, min(asked))


def verdict_of(found: Sequence[Boundary], asked: float) -> str:
    """About the load asked for, with all hosts and after any loss."""
    if all(b.users >= asked for b in found):
        return "pass"
    return "fail" if any(b.fails_at <= asked for b in found) else "undecided"


def _notes(over: Sequence[Scenario], lost: Sequence[str], stack: Stack) -> list[str]:
    out = []
    plain = [s for s in over if not s.faults]
    if plain:
        names = ", ".join(s.name for s in plain)
        out.append(f"{names}: loads are shortened to 10 s of ramp and a plateau of whole minutes")
    kept = [s.name for s in over if s.faults]
    if kept:
        text = f"{', '.join(kept)}: run with their faults and times, only their level changes"
        out.append(text + ("; left out where a host is lost" if lost else ""))
    left = [b.name for s in plain for b in s.budgets if b.metric in INCIDENTS]
    if left and lost:
        names = ", ".join(dict.fromkeys(left))
        out.append(f"after a loss these are not judged, being about the failover itself: {names}")
    if any(i.kind == "haproxy" for i in stack.instances):
        out.append("HAProxy, etcd, Sentinel and keepalived use no CPU in the simulation")
    out.append(
        "memory is what profile.yaml says of processes, connections and requests: data on top"
    )
    return out
