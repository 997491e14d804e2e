"""Step programs: what each operation and health URL does, and the way users take to it."""

from __future__ import annotations

import math

from hasim.model import ZERO, Instance, Service, Stack
from hasim.sim.kernel import layout as L
from hasim.sim.tables import (
    Tables,
    add_edge,
    direct_backend,
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
        for step in op.steps:
            _step(t, service, step, number)
        t.add("rows", code=L.OP_END)
        entry = entered.get(name)
        be, way, keep = -1, -1, L.FOREVER
        if entry and entry.balancer:
            be = t.backend_of.get((entry.balancer, entry.backend), -1)
            way = entry_edges[entry.balancer]
            keep = ns(_keep_alive(stack, entry.balancer, entry.frontend))
        elif entry:
            be = direct_backend(t, "users", "", service_name)
        t.add("ops", pc=pc, be=be, entry=way, write=op.write, status=OK, http=200, keep_alive=keep)
    for instance in t.stations:
        _health_operations(t, instance)


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


def _step(t: Tables, service: Service, step, number: dict[str, int]) -> None:
    if step.kind != "call":
        code = L.OP_CPU if step.kind == "cpu" else L.OP_IO
        t.add("rows", code=code, dist=t.dist(step.dist), pool=-1)
        return
    target = step.target.partition("/")[0]
    be, callee = _call_target(t, service, target)
    on_error = OK if step.on_error == "skip" else status_outcome(int(step.on_error))
    t.add(
        "rows",
        code=L.OP_CALL,
        be=be,
        op=number[f"{callee}/{step.op}"],
        on_error=on_error,
        pool=_pool(t, service, target),
        timeout=ns(step.timeout_s),
    )


def _call_target(t: Tables, service: Service, target: str) -> tuple[int, str]:
    """The backend that a call goes to, and the service behind it."""
    for balancer in t.stack.balancers:
        for b in balancer.backends:
            if b.name == target and b.servers and b.servers[0].instance:
                callee = t.stack.instance(b.servers[0].instance).service
                return t.backend_of[balancer.instance, b.name], callee
    for instance in t.stations:
        if target in (instance.service, instance.name, instance.compose_service):
            first = next((i for i in t.stations if i.service == service.name), None)
            host = first.host if first else ""
            return direct_backend(t, service.name, host, target), instance.service
    raise KeyError(target)


def _pool(t: Tables, service: Service, target: str) -> int:
    """The first of the service's pools to this target: one pool per instance, in station order."""
    for p in service.pools:
        if p.to == target:
            key = (service.name, target)
            if key not in t.pool_of:
                t.pool_of[key] = len(t.rows.get("pools", []))
                for _ in [i for i in t.stations if i.service == service.name]:
                    size = p.size + p.overflow
                    t.add("pools", size=size, queue=t.queue(), wait=ns(p.wait_s))
            return t.pool_of[key]
    return -1


def _health_operations(t: Tables, instance: Instance) -> None:
    """Each instance has its own row per health URL: `unhealthy` changes one instance's answer.

    URL "" answers 200 at no cost (a service whose profile names no health URL), "404" is every
    URL that a profile with health URLs does not know.
    """
    service = next((s for s in t.stack.services if s.name == instance.service), None)
    known = [(e.url, t.dist(e.cpu), e.status) for e in (service.health if service else ())]
    zero = t.dist(ZERO)
    for url, dist, status in [*known, ("", zero, 200), ("404", zero, 404)]:
        pc = len(t.rows.get("rows", []))
        t.add("rows", code=L.OP_CPU, dist=dist, pool=-1)
        t.add("rows", code=L.OP_END)
        outcome = status_outcome(status)
        row = {"pc": pc, "be": -1, "entry": -1, "status": outcome, "http": status}
        t.health_op[instance.name, url] = t.add("ops", **row)


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
