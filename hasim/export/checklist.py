"""The guide's pre-production checklist, each box ticked by the run or validator that proves it.

A box without a proof stays open and says what is missing. A simulation proves what scenarios ask;
what needs the real machines (restores, people) is never ticked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hasim.components.prometheus import lint
from hasim.export.base import Box, Check, Deploy
from hasim.scenario import Fault, Scenario
from hasim.targets import LEADS, resolve

GATEWAYS = 3  # guide, section 10: "3+ L09 API Gateway instances"
SENTINELS = 3  # fewer have no majority once one is lost (reference/redis-sentinel.md section 12)

# Verbs that end a process, that leave it silent, and that take a whole host (audit, CT-2).
CHAOS = {
    "a process that ends": ("crash", "stop", "docker-kill", "kill-process"),
    "a process that hangs or falls silent": ("pause", "blackhole", "partition"),
    "a host that is lost": ("power-off",),
}
_VERBS = tuple(v for verbs in CHAOS.values() for v in verbs)
OPERATIONAL = (
    ("Monitor HAProxy stats", "a task for as long as it runs; extra/ has the alerts"),
    ("Check replication lag daily", "a daily task; hasim sees no production system"),
    ("Test failover monthly", "a monthly task on the real machines; simulated runs do not replace"),
    ("Review capacity quarterly", "a quarterly task: `hasim capacity` with the load of that day"),
    ("Update disaster recovery plan", "a task for people"),
)


@dataclass(frozen=True)
class Proof:
    """What is known: the verdicts of the run, the scenarios, what validators said."""

    deploy: Deploy
    checks: Sequence[Check]

    @property
    def passed(self) -> list[Scenario]:
        """Scenarios of the file that passed in this run, studies excluded."""
        rows = self.deploy.verdict.get("scenarios", ())
        good = {r["name"] for r in rows if r["verdict"] == "pass" and not r.get("study")}
        return [s for s in self.deploy.scenarios.scenarios if s.name in good]

    def cite(self, scenarios: Iterable[Scenario]) -> str:
        """Names of scenarios with what they were excused from."""
        rows: Mapping[str, Any] = {r["name"]: r for r in self.deploy.verdict.get("scenarios", ())}
        names = []
        for one in scenarios:
            budgets = rows.get(one.name, {}).get("budgets", ())
            gaps = [b["metric"] for b in budgets if b.get("waived_by")]
            names.append(f"{one.name} (excused: {', '.join(gaps)})" if gaps else one.name)
        return ", ".join(names)

    def struck(self, fault: Fault, kinds: Sequence[str]) -> tuple[set[str], bool]:
        """The instances of the kinds that a fault may end, silence or take along with their host,
        and whether it goes for the one that leads.
        """
        chosen, _ = resolve(self.deploy.stack, fault.target) if fault.target else (None, [])
        if chosen is None or fault.do not in _VERBS:
            return set(), False
        found = {
            one.name
            for one in self.deploy.stack.instances
            if one.kind in kinds
            and (one.host if chosen.kind == "host" else one.name) in chosen.names
        }
        return found, bool(found) and chosen.kind == "role" and chosen.role in LEADS

    def survived(self, kinds: Sequence[str]) -> list[Scenario]:
        """Passed scenarios that lose the leader among these kinds; or, without any, those that
        lose every one of them in turn.
        """
        members = {i.name for i in self.deploy.stack.instances if i.kind in kinds}
        hits = [(s, *self.struck(f, kinds)) for s in self.passed for f in s.faults]
        leading = [s for s, _, leads in hits if leads]
        if leading:
            return leading
        lost = set().union(*(names for _, names, _ in hits)) if hits else set()
        return [s for s, names, _ in hits if names] if members and lost >= members else []

    def tool(self, word: str) -> list[Check]:
        """What validators with this word in their name said."""
        return [c for c in self.checks if word in c.tool]

    def validated(self, word: str) -> str:
        """ "" if a validator accepted every file that it saw, else why that is not so."""
        said = self.tool(word)
        failed = [c.artefact for c in said if c.status == "failed"]
        if failed:
            return f"{word} refuses {', '.join(failed)}"
        if not any(c.status == "passed" for c in said):
            return f"{word} was not run: it is not installed here"
        return ""


def boxes(deploy: Deploy, checks: Sequence[Check]) -> list[Box]:
    """The pre-production list in the guide's order, then the operational one."""
    proof = Proof(deploy, checks)
    made = [_box(text, rule(proof)) for text, rule in _rules(proof)]
    return [*made, *(Box(text, False, why) for text, why in OPERATIONAL)]


def _box(text: str, found: tuple[bool, str]) -> Box:
    return Box(text, *found)


def _health_checks(proof: Proof) -> tuple[bool, str]:
    servers = [(b.file, s) for b in proof.deploy.stack.balancers for e in b.backends
               for s in e.servers]  # fmt: skip
    if not servers:
        return False, "no HAProxy with servers is part of this stack"
    bare = sorted({s.name for _, s in servers if s.check is None})
    if bare:
        return False, f"without a check: {', '.join(bare)}"
    missing = proof.validated("haproxy -c")
    if missing:
        return False, missing
    names = sorted({s.name for _, s in servers})
    return True, f"every server is checked ({', '.join(names)}); haproxy -c accepts the file"


def _gateways(proof: Proof) -> tuple[bool, str]:
    name = entry_service(proof.deploy)
    members = [i for i in proof.deploy.stack.instances if i.service == name]
    hosts = sorted({i.host for i in members})
    said = f"{len(members)} instances of {name} on {len(hosts)} host{'s'[: len(hosts) != 1]}"
    return len(members) >= GATEWAYS, said


def entry_service(deploy: Deploy) -> str:
    """The service that most kinds of user requests meet first; "" without any."""
    ways = [r.service for r in deploy.stack.op_entries.values()]
    gateways = [s for s in ways if "gateway" in s]
    found = gateways or ways
    return max(sorted(set(found)), key=found.count) if found else ""


def _postgres(proof: Proof) -> tuple[bool, str]:
    members = [i for i in proof.deploy.stack.instances if i.kind == "postgres"]
    if len(members) < 2:
        return False, f"{len(members)} PostgreSQL server: nothing replicates"
    return _failover(proof, ("patroni", "postgres"), f"{len(members)} servers")


def _sentinel(proof: Proof) -> tuple[bool, str]:
    sentinels = [i for i in proof.deploy.stack.instances if i.kind == "sentinel"]
    if len(sentinels) < SENTINELS:
        return False, f"{len(sentinels)} Sentinels: {SENTINELS} are the least with a majority"
    return _failover(proof, ("redis",), f"{len(sentinels)} Sentinels")


def _failover(proof: Proof, kinds: Sequence[str], what: str) -> tuple[bool, str]:
    """A passed scenario in which such a server is lost shows that the others take over."""
    scenarios = proof.survived(kinds)
    if not scenarios:
        return False, f"{what}, but no passed scenario loses the one that leads"
    return True, f"{what}; passed: {proof.cite(scenarios)}"


def _endpoints(proof: Proof) -> tuple[bool, str]:
    stack = proof.deploy.stack
    named = {i.service for i in stack.instances if i.kind == "service"}
    bare = sorted(s.name for s in stack.services if s.name in named and not s.health)
    if bare:
        return False, f"no health endpoint known of: {', '.join(bare)}"
    if not named:
        return False, "no service is part of this stack"
    asked = {s.instance for b in stack.balancers for e in b.backends for s in e.servers if s.check}
    asked |= {i.name for i in stack.instances if i.healthcheck is not None}
    lone = sorted(i.name for i in stack.instances if i.service in named and i.name not in asked)
    if lone:
        return False, f"nobody asks the health endpoint of: {', '.join(lone)}"
    return True, f"{', '.join(sorted(named))}: named in profile.yaml, asked by HAProxy or Docker"


def _alerts(proof: Proof) -> tuple[bool, str]:
    found = [i for i in proof.deploy.stack.instances if i.kind == "prometheus"]
    rules = [r.alert for i in found for g in i.config.groups for r in g.rules if r.alert]
    if not rules:
        return False, "no alert rule is part of this stack"
    missing = proof.validated("promtool")
    if missing:
        return False, missing
    dead = [f.message for f in lint.findings(proof.deploy.stack) if f.code in lint.DEAD]
    if dead:
        return False, f"promtool accepts the rules, but {'; '.join(dead)}"
    stand_in = [i.name for i in found if not i.image]
    if stand_in:
        return False, f"{len(rules)} rules, but no container runs Prometheus"
    return True, f"{', '.join(rules)}; promtool accepts them, and exporters show what they ask for"


def _rolling(proof: Proof) -> tuple[bool, str]:
    good, bad = [], []
    for one in proof.passed:
        images = {f.args.get("image", "same") for f in one.faults if f.do == "rolling-update"}
        good += [one] if "same" in images else []
        bad += [one] if images & {"never-healthy", "never-starts"} else []
    if not good:
        return False, "no passed scenario updates a service (do: rolling-update)"
    if not bad:
        return False, f"{proof.cite(good)} passed; no passed scenario updates to a bad image"
    return True, f"simulated: good image: {proof.cite(good)}; bad image: {proof.cite(bad)}"


def _chaos(proof: Proof) -> tuple[bool, str]:
    found = {}
    for what, verbs in CHAOS.items():
        found[what] = [s for s in proof.passed if any(f.do in verbs for f in s.faults)]
    missing = [what for what, scenarios in found.items() if not scenarios]
    if missing:
        return False, f"no passed scenario with {'; '.join(missing)}"
    names = dict.fromkeys(s.name for scenarios in found.values() for s in scenarios)
    chosen = [s for s in proof.passed if s.name in names]
    return True, f"simulated: {proof.cite(chosen)}"


def _load(proof: Proof) -> tuple[bool, str]:
    calm = [s for s in proof.passed if not s.faults and s.budgets]
    if not calm:
        return False, "no passed scenario without a fault has budgets"
    lost = [s for s in proof.passed if s.faults and s.budgets]
    if not lost:
        return False, f"{proof.cite(calm)} passed; no scenario with a fault passed under load"
    peak = max(level for s in calm for _, level in s.load.stages)
    shown = f"simulated, up to {peak:g} at once or per time unit: {proof.cite(calm)}"
    return True, f"{shown}; with a fault: {proof.cite(lost)}"


def _backup(proof: Proof) -> tuple[bool, str]:
    return False, (
        "hasim cannot test restores: run extra/backup.sh, then extra/restore.sh on a spare machine"
    )


Rule = Callable[[Proof], tuple[bool, str]]


def _rules(proof: Proof) -> list[tuple[str, Rule]]:
    service = entry_service(proof.deploy) or "gateway"
    return [
        ("HAProxy configured with health checks", _health_checks),
        (f"{GATEWAYS}+ {service} instances", _gateways),
        ("PostgreSQL replication configured", _postgres),
        ("Redis Sentinel mode enabled", _sentinel),
        ("All services have health check endpoints", _endpoints),
        ("Prometheus alerts configured", _alerts),
        ("Rolling update script tested", _rolling),
        ("Backup and recovery tested", _backup),
        ("Chaos testing completed", _chaos),
        ("Load testing passed with HA", _load),
    ]
