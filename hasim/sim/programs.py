"""Step programs: what each operation and health URL does, and the way users take to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from hasim.model import ZERO, Endpoint, Instance, Op, Service, Stack, Step
from hasim.sim.calls import (
    DATA_KINDS,
    call_entry,
    connect_timeout_s,
    direct_backend,
    direct_backends,
    pool_of,
)
from hasim.sim.kernel import layout as L
from hasim.sim.tables import (
    Tables,
    add_edge,
    host_of,
    ns,
    servers_and_stations,
    status_outcome,
)
from hasim.sim.trace import OK
from hasim.sim.world import Edge


def compile_stack(stack: Stack) -> Tables:
    """All rows that depend on the stack alone."""
    tables = servers_and_stations(stack)
    _operations(tables)
    return tables


def _operations(t: Tables) -> None:
    """Step programs of all operations and health URLs; callers' backends as they are met."""
    stack = t.stack
    entered = dict(stack.op_entries.items())
    names = list(entered)
    for service in stack.services:
        names += [f"{service.name}/{op.name}" for op in service.ops]
    t.ops = list(dict.fromkeys(names))
    t.user_ops = len(t.ops)
    number = {name: i for i, name in enumerate(t.ops)}
    entry_edges = _entry_edges(t)
    for name in t.ops:
        service_name, _, op_name = name.partition("/")
        service = stack.service(service_name)
        op = next(o for o in service.ops if o.name == op_name)
        pc = len(t.rows.get("rows", []))
        writes = _writes(t, service_name, op)
        for step in op.steps:
            _step(t, service, step, number)
        if writes and not any(step.kind == "commit" for step in op.steps):
            t.add("rows", code=L.OP_COMMIT, pool=-1)
        t.add("rows", code=L.OP_END)
        entry = entered.get(name)
        be, way, keep = -1, -1, L.FOREVER
        if entry and entry.balancer:
            be = t.backend_of.get((entry.balancer, entry.backend), -1)
            way = entry_edges[entry.balancer]
            keep = ns(_keep_alive(stack, entry.balancer, entry.frontend))
        elif entry:
            be = direct_backend(t, "users", "", service_name)
        t.add(
            "ops", pc=pc, be=be, entry=way, write=op.write, status=OK, http=200, fails=500,
            commits=writes, keep_alive=keep,
        )  # fmt: skip
    for instance in t.stations:
        _health_operations(t, instance, number)


def _writes(t: Tables, service: str, op: Op) -> bool:
    """Does the operation commit: by a step that says so, or as a write on a data node?"""
    if any(step.kind == "commit" for step in op.steps):
        return True
    kinds = {i.kind for i in t.stations if i.service == service}
    return op.write and bool(kinds & set(DATA_KINDS))


def _entry_edges(t: Tables) -> dict[str, int]:
    """users -> each HAProxy."""
    edges = {}
    for b, balancer in enumerate(t.stack.balancers):
        host = host_of(t.stack, balancer.instance)
        edge = Edge("users", balancer.instance, "", "published", "", host)
        edges[balancer.instance] = add_edge(t, edge, -1, -1, bal=b, usable=1, running=1, weight=16)
    return edges


def _keep_alive(stack: Stack, balancer: str, frontend: str) -> float:
    for b in stack.balancers:
        for f in b.frontends:
            if b.instance == balancer and f.name == frontend:
                if f.connection_mode == "close":
                    return 0.0
                return f.timeout_http_keep_alive_s
    return math.inf


def _step(t: Tables, service: Service, step: Step, number: dict[str, int]) -> None:
    if step.kind == "call":
        on_error = OK if step.on_error == "skip" else status_outcome(int(step.on_error))
        _call(t, service, step.target.partition("/")[0], step.op, step.timeout_s, on_error, number)
        return
    if step.kind != "commit" or step.dist != ZERO:
        code = L.OP_CPU if step.kind == "cpu" else L.OP_IO
        t.add("rows", code=code, dist=t.dist(step.dist), pool=-1)
    if step.kind == "commit":
        t.add("rows", code=L.OP_COMMIT, pool=-1)


def _call(
    t: Tables,
    service: Service,
    target: str,
    op: str,
    timeout_s: float,
    on_error: int,
    number: dict[str, int],
) -> None:
    be, per, callee = _call_target(t, service, target)
    way = t.stack.call_routes.get(f"{service.name}->{target}")
    backend = t.rows["backends"][be]
    entry = -1
    if backend.get("tcp"):
        entry = call_entry(t, service, t.stack.balancers[backend["bal"]].instance)
    t.add(
        "rows",
        code=L.OP_CALL,
        be=be,
        per=per,
        op=number[f"{callee}/{op or _cheap(t.stack, callee)}"],
        on_error=on_error,
        pool=pool_of(t, service, target, be, way),
        entry=entry,
        timeout=ns(timeout_s),
        connect=ns(connect_timeout_s(way, True)),
    )


def _cheap(stack: Stack, callee: str) -> str:
    """What a health URL asks of a dependency: its first operation that is no write."""
    ops = stack.service(callee).ops
    return next((o.name for o in ops if not o.write), ops[0].name)


def _call_target(t: Tables, service: Service, target: str) -> tuple[int, int, str]:
    """(backend that a call goes to, 1 if each caller has its own, the service behind it)."""
    way = t.stack.call_routes.get(f"{service.name}->{target}")
    if way is not None and way.balancer:
        return t.backend_of[way.balancer, way.backend], 0, way.service
    for balancer in t.stack.balancers if way is None else ():
        for b in balancer.backends:
            if b.name == target and b.servers and b.servers[0].instance:
                callee = t.stack.instance(b.servers[0].instance).service
                return t.backend_of[balancer.instance, b.name], 0, callee
    for instance in t.stations:
        if target in (instance.service, instance.name, instance.compose_service):
            if not any(i.service == service.name for i in t.stations):
                return direct_backend(t, service.name, "", target, way), 0, instance.service
            return direct_backends(t, service, target, way), 1, instance.service
    raise KeyError(target)


def _health_operations(t: Tables, instance: Instance, number: dict[str, int]) -> None:
    """Each instance has its own row per health URL: `unhealthy` changes one instance's answer.

    URL "" answers 200 at no cost (a service whose profile names no health URL), "404" is every
    URL that a profile with health URLs does not know.
    """
    service = next((s for s in t.stack.services if s.name == instance.service), None)
    plain = [Endpoint(""), Endpoint("404", status=404)]
    known = service.health if service else ()
    for endpoint in [*known, *_with_query(t.stack, instance, known), *plain]:
        needs = [n for n in endpoint.needs if n != "self"]
        pc = len(t.rows.get("rows", []))
        t.add("rows", code=L.OP_CPU, dist=t.dist(endpoint.cpu), pool=-1)
        for need in needs:
            assert service is not None
            target = _needed(t.stack, service, need)
            _call(t, service, target, "", endpoint.timeout_s, status_outcome(503), number)
        t.add("rows", code=L.OP_END)
        outcome = status_outcome(endpoint.status)
        row = {"pc": pc, "be": -1, "entry": -1, "status": outcome, "http": endpoint.status}
        row["fails"] = 503 if needs else 500
        t.health_op[instance.name, endpoint.url] = t.add("ops", **row)


def _with_query(stack: Stack, instance: Instance, known: Sequence[Endpoint]) -> list[Endpoint]:
    """URLs of health checks that ask a known one for more (`/replica?lag=1MB`)."""
    servers = [s for b in stack.balancers for back in b.backends for s in back.servers]
    urls = [
        s.check.url
        for s in servers
        if s.check is not None and instance.name in (s.check_instance, s.instance)
    ]
    plain = {e.url: e for e in known}
    asked = dict.fromkeys(u for u in urls if "?" in u and u not in plain)
    return [replace(plain[b], url=u) for u in asked if (b := u.partition("?")[0]) in plain]


def _needed(stack: Stack, service: Service, need: str) -> str:
    """The target by which a service reaches what a health URL needs: as its calls do."""
    steps = (step for op in service.ops for step in op.steps if step.kind == "call")
    targets = list(dict.fromkeys([*(p.to for p in service.pools), *(s.target for s in steps)]))
    if need in targets:
        return need
    ways = [(target, stack.call_routes.get(f"{service.name}->{target}")) for target in targets]
    return next((target for target, way in ways if way and way.service == need), need)


def health_operation(t: Tables, instance: str, url: str) -> int:
    """The operation that answers a health URL on an instance."""
    if (instance, url) in t.health_op:
        return t.health_op[instance, url]
    inst = t.stack.instance(instance)
    service = next((s for s in t.stack.services if s.name == inst.service), None)
    for op in service.ops if service else ():
        if op.path == url:
            return t.ops.index(f"{inst.service}/{op.name}")
    return t.health_op[instance, "404" if service and service.health else ""]
