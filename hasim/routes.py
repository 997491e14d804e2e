"""Who enters where: the users' way to each operation, and each service's way to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hasim.containers import Placed
from hasim.errors import Finding, did_you_mean
from hasim.linking import WILDCARDS, Names, claims, exposed, is_address, overlap, urls
from hasim.model import Assumption, Backend, Balancer, Entry, Frontend, Op, Route, Service
from hasim.source import Span


def serves(backend: Backend, placed: Mapping[str, Placed]) -> tuple[str, ...]:
    """The services behind a backend, in the order of its servers."""
    found = (placed[s.instance].instance.service for s in backend.servers if s.instance in placed)
    return tuple(dict.fromkeys(s for s in found if s))


def backend_of(frontend: Frontend, op: Op, balancer: Balancer) -> Backend | None:
    """The backend that a frontend chooses for the path of an operation."""
    rules = [backend for prefix, backend in frontend.routes if op.path.startswith(prefix)]
    wanted = next(iter([*rules, frontend.default_backend]))
    return next((b for b in balancer.backends if b.name == wanted), None)


def op_entries(
    entries: Sequence[Entry],
    services: Sequence[Service],
    balancers: Sequence[Balancer],
    names: Names,
) -> dict[str, Route]:
    """ "service/op" -> Route, for every operation that users may ask for; the first way wins."""
    found: dict[str, Route] = {}
    placed = {p.name: p for p in names.placed}
    for entry in entries:
        for balancer in balancers:
            one = placed[balancer.instance]
            for frontend, address, _ in exposed(balancer, one.instance):
                if not _reaches(entry, one.instance.host, address, names):
                    continue
                for service in services:
                    for op in service.ops:
                        backend = backend_of(frontend, op, balancer)
                        if backend is None or service.name not in serves(backend, placed):
                            continue
                        way = Route(entry.via, one.name, frontend.name, backend.name, service.name)
                        found.setdefault(f"{service.name}/{op.name}", way)
    for entry in entries:
        for service in services:
            if _direct(entry, service.name, names):
                for op in service.ops:
                    way = Route(entry.via, "", "", "", service.name)
                    found.setdefault(f"{service.name}/{op.name}", way)
    return found


def _reaches(entry: Entry, host: str, address: str, names: Names) -> bool:
    """Whether something that listens at `address` of `host` answers at the entry."""
    if entry.target in names.hosts:
        return entry.target == host
    if not is_address(entry.target):
        return True  # a name outside of these files: it may lead anywhere
    if entry.target in names.hosts[host]:
        return overlap(entry.target, address)
    owned = any(entry.target in addresses for addresses in names.hosts.values())
    return not owned and (address in WILDCARDS or address == entry.target)


def _direct(entry: Entry, service: str, names: Names) -> bool:
    return any(
        _reaches(entry, one.instance.host, port.host_ip, names)
        for one in names.placed
        if one.instance.service == service
        for port in claims(one.instance)
    )


def call_routes(
    services: Sequence[Service], balancers: Sequence[Balancer], names: Names
) -> tuple[dict[str, Route], list[Assumption], list[Finding]]:
    """ "caller->target" -> Route for every call in the profile.

    The URLs in the caller's environment decide; where none leads to the target, the backend that
    serves it does, and without one its instances are called directly. Both are assumptions.
    """
    found: dict[str, Route] = {}
    assumed: list[Assumption] = []
    problems: list[Finding] = []
    known = {s.name: s for s in services}
    for caller in services:
        steps = [s for op in caller.ops for s in op.steps if s.kind == "call"]
        for target, op in dict.fromkeys((s.target, s.op) for s in steps):
            key = f"{caller.name}->{target}"
            way = found.get(key) or _stated(caller.name, target, balancers, names)
            if way is None:
                way = _assumed(target, known, balancers, names)
                if way is not None:
                    text = f"through {way.backend}" if way.backend else "any instance, directly"
                    why = f"no URL in the environment of {caller.name} leads there"
                    assumed.append(Assumption(f"calls.{key}", text, why))
            ops = [o.name for o in known[way.service].ops] if way else []
            if way is None:
                words = [*known, *(b.name for x in balancers for b in x.backends)]
                text = f"{caller.name} calls '{target}', which is no service of this stack"
                hint = did_you_mean(target, words) or "databases are not in this version"
                problems.append(_problem(caller, text, hint, f"call.{target}"))
            elif op not in ops:
                text = f"{caller.name} calls '{op}' of {way.service}, which has {', '.join(ops)}"
                problems.append(_problem(caller, text, did_you_mean(op, ops), f"call.{target}"))
            if way is not None:
                found[key] = way
    return found, list(dict.fromkeys(assumed)), list(dict.fromkeys(problems))


def unmet(services: Sequence[Service]) -> list[Finding]:
    """Pools and health URLs that need something which is no service of this stack."""
    known = [s.name for s in services]
    found = []
    for service in services:
        rows = [(f"{e.url} needs", n, f"health.{e.url}") for e in service.health for n in e.needs]
        rows += [("a pool goes to", p.to, "pool") for p in service.pools]
        for what, name, key in rows:
            if name not in known:
                text = f"{service.name}: {what} '{name}', which is no service of this stack"
                hint = did_you_mean(name, known) or "databases are not in this version"
                found.append(_problem(service, text, hint, key))
    return found


def _problem(caller: Service, text: str, hint: str, key: str) -> Finding:
    span = caller.where.get(key) or caller.where.get("pools")
    return Finding("error", "HA104", text, span if isinstance(span, Span) else None, hint)


def _backends(
    target: str, balancers: Iterable[Balancer], placed: Mapping[str, Placed]
) -> Iterable[tuple[Balancer, Frontend | None, Backend, str]]:
    """Every backend called `target` or serving it, with a frontend that leads to it."""
    for balancer in balancers:
        for backend in balancer.backends:
            behind = serves(backend, placed)
            if not behind or (target not in behind and target != backend.name):
                continue
            leads = [
                f
                for f in balancer.frontends
                if backend.name in (f.default_backend, *(b for _, b in f.routes))
            ]
            service = target if target in behind else behind[0]
            yield balancer, leads[0] if leads else None, backend, service


def _stated(caller: str, target: str, balancers: Sequence[Balancer], names: Names) -> Route | None:
    """The way that a URL in the environment of the caller's first instance states."""
    placed = {p.name: p for p in names.placed}
    source = next((p for p in names.placed if p.instance.service == caller), None)
    if source is None:
        return None
    for host, port in urls(source.environment):
        name, _ = names.find(source, host, port)
        if name and placed[name].instance.service == target:
            return Route("call", "", "", "", target)
        for balancer in balancers:
            if balancer.instance != name:
                continue
            inner = _container_port(placed[name], port)
            for frontend in balancer.frontends:
                if inner not in [p for _, p in frontend.binds]:
                    continue
                for _, _, backend, service in _backends(target, [balancer], placed):
                    if backend.name in (frontend.default_backend, *(b for _, b in frontend.routes)):
                        return Route("call", name, frontend.name, backend.name, service)
    return None


def _container_port(one: Placed, port: int) -> int:
    """The port inside of the container that a dialled port leads to."""
    mapped = [p.container_port for p in one.instance.ports if p.host_port == port]
    return mapped[0] if mapped else port


def _assumed(
    target: str, known: Mapping[str, Service], balancers: Sequence[Balancer], names: Names
) -> Route | None:
    placed = {p.name: p for p in names.placed}
    for balancer, frontend, backend, service in _backends(target, balancers, placed):
        name = frontend.name if frontend else ""
        return Route("call", balancer.instance, name, backend.name, service)
    used = {p.instance.service for p in names.placed}
    return Route("call", "", "", "", target) if target in known and target in used else None
