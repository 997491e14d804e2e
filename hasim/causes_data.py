"""Why the data tier took so long: how a new leader came or why none did, and who stayed behind."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from hasim.causes_failover import (
    EPSILON_S,
    SHOWN_S,
    first_of_each,
    follows,
    knob_of,
    shown,
    steps,
    then,
    waited_for,
    waits,
)
from hasim.causes_text import Cause
from hasim.metrics_data import Failover, failovers_of, group_of, said
from hasim.metrics_view import View
from hasim.model import Instance
from hasim.sim.trace import FaultSpan, Mark
from hasim.source import Span

# Why a Patroni member or a Sentinel did not take over, in its own words.
REFUSED = re.compile(
    r"failover-abort|exceeds maximum|behind last known|is ahead of my|still alive|DCS is not acc"
    r"|communicating with DCS|[Ww]atchdog .*not|Not (?:healthy|promoting)"
    r"|switchover is not possible|waiting on etcd|Can not get cluster"
)
# What a database or store says once it takes requests again.
READY = re.compile(r"ready to accept connections|Ready to accept connections|^listening$")
NOBODY = "No such container: "  # Docker's own words
# Faults that are over when what they did has been made up for: no repair comes from outside.
OVER = ("kill-process", "restart", "recreate")
SILENT = ("power-off", "blackhole", "partition", "pause")
DEAD = ("stop", "crash", "docker-kill", "kill-process", "recreate", "restart", *SILENT)
MANAGERS = {"postgres": ("patroni", "Patroni"), "redis": ("sentinel", "Sentinel")}


def failover_causes(view: View, fault: FaultSpan) -> list[Cause]:
    """The waits up to each new leader, or why there is none; what clients did afterwards."""
    if missed := _missed(view, fault):
        return [missed]
    changes = first_of_each([f for f in failovers_of(view) if follows(view, f.mark, fault)])
    out: list[Cause] = []
    for change in changes:
        out += steps(view, fault, change)
        out += then(view, change)
        out += _left_behind(view, change)
    changed = {change.by for change in changes}
    for instance in _struck(view, fault):
        manager, word = MANAGERS[instance.kind]
        if manager not in changed:
            out += _restarted(view, fault, instance)
        if manager not in changed and _matters(view, fault, manager):
            out += _nobody(view, fault, instance, manager, word)
    return [*out, *_pools(view, fault)]


def _missed(view: View, fault: FaultSpan) -> Cause | None:
    """`docker stop NAME` of a service whose container has another name strikes nothing."""
    mark = view.marks.get(fault.mark)
    word, _, name = mark.detail.partition(NOBODY) if mark is not None else ("", "", "")
    if word or not name:
        return None
    for instance in view.stack.instances:
        if instance.compose_service == name:
            span = instance.where.get("container_name")
            text = f"{fault.do} struck nothing: {NOBODY}{name}; "
            text += f"the container of service {name} is named {instance.name}"
            return Cause(text, span if isinstance(span, Span) else instance.span)
    return Cause(f"{fault.do} struck nothing: {NOBODY}{name}", view.scenario.span)


# ---- nobody takes over -----------------------------------------------------------------------
def _struck(view: View, fault: FaultSpan) -> list[Instance]:
    """Databases and stores that could not take writes any more because of the fault."""
    if fault.do not in DEAD:
        return []
    hit = view.hit(fault) | {fault.target.removeprefix("host:")}
    nodes = [
        i
        for i in view.stack.instances
        if i.kind in MANAGERS and hit & {i.name, i.inside, i.host, i.compose_service}
    ]
    return [i for i in nodes if not _follows_another(view, i)]


def _follows_another(view: View, node: Instance) -> bool:
    """Is it a replica by its files (a member of Patroni: by who led when the run began)?"""
    if node.inside:
        led = [f.new for f in failovers_of(view)]
        boot = [
            m.component
            for m in view.trace.timeline
            if m.t_s < 0 and ("promoted self to leader" in m.event or "initialized a" in m.event)
        ]
        return bool(boot or led) and node.inside not in {*boot, *led}
    config = node.config
    return bool(getattr(config, "standby", False) or getattr(config, "replicaof", None))


def _restarted(view: View, fault: FaultSpan, node: Instance) -> Iterator[Cause]:
    """No new leader, since the old one was started again in its place."""
    names = {node.name, node.inside} - {""}
    rows = [
        m
        for m in view.trace.timeline
        if m.component in names and m.t_s > fault.start_s + EPSILON_S and follows(view, m, fault)
    ]
    ready = next((i for i, m in enumerate(rows) if READY.search(m.event)), None)
    if ready is not None and rows[ready].t_s - fault.start_s >= SHOWN_S:
        took_s = rows[ready].t_s - fault.start_s
        if rows[ready].t_s >= fault.repair_s and fault.do not in OVER:
            text = f"{node.name} came back only by its repair, {took_s:.1f} s after the fault"
            yield Cause(text, None, took_s)
            return
        yield Cause(
            f"{node.name} was back in its place {took_s:.1f} s after the fault", None, took_s
        )
        yield from waits(view, rows[: ready + 1], fault.start_s, group_of(view, node.name))


def _matters(view: View, fault: FaultSpan, manager: str) -> bool:
    """Was there an outage that a new leader would have ended? A manager that restarts the old one
    in its place has done its work; one whose old leader came back only by the repair has not.
    """
    took_s = view.recovered_s(fault) - fault.start_s
    if not any(i.kind == manager for i in view.stack.instances):
        return took_s > SHOWN_S
    repaired_s = math.inf if fault.do in OVER else fault.repair_s
    return math.isinf(took_s) or took_s >= repaired_s - fault.start_s > SHOWN_S


def running(view: View, kind: str, at_s: float) -> list[Instance]:
    """The instances of a kind that came up and that no fault held down at the moment."""
    down = {f.instance for f in view.stack.boot_failures}
    for fault in view.faults:
        if fault.do in DEAD and fault.start_s <= at_s and not fault.repair_s <= at_s:
            down |= view.hit(fault)
    same = [i for i in view.stack.instances if i.kind == kind]
    return [i for i in same if not down & {i.name, i.host, i.compose_service}]


def _nobody(
    view: View, fault: FaultSpan, node: Instance, manager: str, word: str
) -> Iterator[Cause]:
    name = node.inside or node.name
    lost = f"{name} was lost and nothing promoted another"
    same = [i for i in view.stack.instances if i.kind == manager]
    if manager == "patroni" and not node.inside:
        yield Cause(f"{lost}: no Patroni supervises {name}", node.span)
        return
    if not same:
        yield Cause(f"{lost}: there is no {word} in the stack", node.span)
        return
    alive = running(view, manager, fault.start_s)
    broken = {f.instance: f for f in view.stack.boot_failures}
    first = next((broken[i.name] for i in same if i.name in broken), None)
    if not alive and first is not None:
        yield Cause(f"{lost}: no {word} runs: {first.reason}", first.span)
        return
    told: dict[str, Mark] = {}
    names = {i.name for i in same}
    for mark in view.trace.timeline:
        after = mark.t_s >= fault.start_s and mark.component in names
        if after and REFUSED.search(said(mark)):
            told.setdefault(mark.event, mark)
    for mark in list(told.values())[:3]:
        span, why = waited_for(view, mark)
        yield Cause(f"{lost}: {mark.component} said '{shown(mark)}'{why}", span)
    if not told:
        yield Cause(*_no_quorum(view, fault, lost, word, len(alive), len(same)))


def _no_quorum(
    view: View, fault: FaultSpan, lost: str, word: str, alive: int, all_of: int
) -> tuple[str, Span | None]:
    """No reason was logged: too few agreed, or the fault was over before anybody noticed."""
    rows = [said(m) for m in view.trace.timeline if m.t_s >= fault.start_s]
    noticed = any("+sdown" in row for row in rows)
    name = "ttl"
    if word == "Sentinel":
        name = "quorum" if noticed else "down-after-milliseconds"
    knob = knob_of(view, name)
    what = f": {name} {knob.value}" if knob else ""
    span = knob.origin if knob is not None and isinstance(knob.origin, Span) else None
    run = f"{alive} of {all_of} ran" if alive < all_of else f"all {all_of} ran"
    if word == "Sentinel" and noticed:
        return f"{lost}: no quorum or no majority of the Sentinels agreed ({run}){what}", span
    return f"{lost}: no {word} noticed in time ({run}){what}", span


# ---- clients ---------------------------------------------------------------------------------
def _left_behind(view: View, change: Failover) -> Iterator[Cause]:
    """Clients whose address still leads to the old leader."""
    if change.by == "vrrp":
        return
    old = view.instances.get(change.old)
    names = {change.old} | {i.name for i in view.stack.instances if i.inside == change.old}
    for way, route in view.stack.call_routes.items():
        hosts = set(getattr(route, "hosts", ()))
        fixed = not route.balancer and not getattr(route, "discovery", "")
        if fixed and old is not None and hosts and hosts <= names:
            caller = way.partition("->")[0]
            span, variable = _address_of(view, caller, old)
            text = f"{caller} dials {change.old} itself{variable}: a fixed address does not follow"
            yield Cause(f"{text} a failover to {change.new}", span)


def _address_of(view: View, caller: str, target: Instance) -> tuple[Span | None, str]:
    """Where the caller's environment names the target: (place, ` (REDIS_URL)`)."""
    words = ("URL", "DSN", "URI", "HOST", "ADDR", "CONN", "SERVER")
    kinds = ("REDIS", "CACHE") if target.kind == "redis" else ("POSTGRES", "DATABASE", "PG", "DB")
    for instance in view.stack.instances:
        if instance.service != caller:
            continue
        for key, origin in instance.where.items():
            name = key.removeprefix("environment.")
            about = any(k in name.upper() for k in kinds)
            named = name != key and about and any(w in name.upper() for w in words)
            if named and isinstance(origin, Span):
                return origin, f" ({name})"
    return None, ""


def _pools(view: View, fault: FaultSpan) -> Iterator[Cause]:
    """Pooled connections into silence wait for TCP: nothing in the pool ends them before."""
    if fault.do not in SILENT:
        return
    hit = {i.service for i in _struck(view, fault)} | {i.name for i in _struck(view, fault)}
    backends = [b for balancer in view.stack.balancers for b in balancer.backends]
    by_name = view.instances
    reached = {
        b.name
        for b in backends
        for s in b.servers
        if s.instance in hit or (s.instance in by_name and by_name[s.instance].service in hit)
    }
    for service in view.stack.services:
        for pool in service.pools:
            endless = math.isinf(pool.tcp_user_timeout_s) and math.isinf(pool.command_timeout_s)
            if endless and pool.to in hit | reached:
                text = f"a connection of {service.name}'s pool to {pool.to} that got no answer"
                why = "no tcp_user_timeout and no command_timeout"
                yield Cause(f"{text} was held until TCP gave up: {why}", pool.span)
