"""Who enters where: the users' way to each operation, and each service's way to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hasim.containers import Placed
from hasim.errors import Finding, did_you_mean
from hasim.linking import WILDCARDS, Names, claims, exposed, is_address, overlap
from hasim.model import Assumption, Backend, Balancer, Entry, Frontend, Op, Route, Service
from hasim.read.client_urls import ClientUrl, client_urls
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
        for target, op in _asked(caller, known):
            key = f"{caller.name}->{target}"
            if not op and any(k.startswith(f"{caller.name}->") and w.service == target
                              for k, w in found.items()):  # fmt: skip
                continue  # the health URL goes the way of the calls
            way = found.get(key) or _stated(caller.name, target, balancers, names)
            if way is None:
                way = _assumed(target, known, balancers, names)
                if way is not None:
                    text = f"through {way.backend}" if way.backend else "any instance, directly"
                    why = f"no URL in the environment of {caller.name} leads there"
                    assumed.append(Assumption(f"calls.{key}", text, why))
            ops = [o.name for o in known[way.service].ops] if way else []
            if way is not None:
                found[key] = way
            if way is None and op:
                words = [*known, *(b.name for x in balancers for b in x.backends)]
                text = f"{caller.name} calls '{target}', which is no service of this stack"
                hint = did_you_mean(target, words)
                problems.append(_problem(caller, text, hint, f"call.{target}"))
            elif way is not None and op and op not in ops:
                text = f"{caller.name} calls '{op}' of {way.service}, which has {', '.join(ops)}"
                problems.append(_problem(caller, text, did_you_mean(op, ops), f"call.{target}"))
    return found, list(dict.fromkeys(assumed)), list(dict.fromkeys(problems))


def _asked(caller: Service, known: Mapping[str, Service]) -> list[tuple[str, str]]:
    """(target, operation) of each call; operation "" for what a health URL needs besides."""
    steps = [s for op in caller.ops for s in op.steps if s.kind == "call"]
    calls = dict.fromkeys((s.target, s.op) for s in steps)
    targets = {target for target, _ in calls}
    needed = [n for e in caller.health for n in e.needs if n not in targets and n in known]
    return [*calls, *dict.fromkeys((n, "") for n in needed)]


def unmet(services: Sequence[Service], balancers: Sequence[Balancer] = ()) -> list[Finding]:
    """Pools and health URLs that need something which is no service of this stack."""
    known = [s.name for s in services]
    known += [b.name for balancer in balancers for b in balancer.backends]
    found = []
    for service in services:
        rows = [(f"{e.url} needs", n, f"health.{e.url}")
                for e in service.health for n in e.needs if n != "self"]  # fmt: skip
        rows += [("a pool goes to", p.to, "pool") for p in service.pools]
        for what, name, key in rows:
            if name not in known:
                text = f"{service.name}: {what} '{name}', which is no service of this stack"
                found.append(_problem(service, text, did_you_mean(name, known), key))
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
    source = next((p for p in names.placed if p.instance.service == caller), None)
    if source is None:
        return None
    for url in client_urls(source.environment):
        way = _direct_way(url, source, target, names)
        for host, port in () if way else url.hosts:
            way = way or _proxied_way(source, target, (host, port), balancers, names)
        if way is not None:
            return way
    return None


def _direct_way(url: ClientUrl, source: Placed, target: str, names: Names) -> Route | None:
    """The instances of the target that a URL names, and how the client chooses among them."""
    if url.is_sentinel:
        nodes = [p.instance for p in names.placed if p.instance.service == target]
        asked = [names.find(source, host, port)[0] for host, port in url.hosts]
        if not any(asked) or not nodes or any(i.kind != "redis" for i in nodes):
            return None
        hosts = tuple(i.name for i in nodes)
        discovery = f"sentinel:{url.master}@{','.join(name for name in asked if name)}"
        return Route("call", "", "", "", target, discovery, hosts)
    found_at = {h: _ends(source, h, p, target, names) for h, p in url.hosts}
    hosts = tuple(dict.fromkeys(name for ends in found_at.values() for name in ends))
    if not hosts:
        return None
    discovery = "multihost" if url.is_libpq and (len(hosts) > 1 or url.read_write) else ""
    timeout_s = url.connect_timeout_s
    return Route("call", "", "", "", target, discovery, hosts, timeout_s, url.read_write)


def _ends(source: Placed, host: str, port: int, target: str, names: Names) -> list[str]:
    """The instances of the target that answer there: one, or all that share a name."""
    name, _ = names.find(source, host, port)
    for one in names.placed:
        if one.instance.service != target:
            continue
        if one.name == name:
            same = [p.name for p in names.placed
                    if p.instance.service == target and host in p.names]  # fmt: skip
            return same if name in same else [name]
        if name and one.instance.inside == name:
            return [one.name]
    return []


def _proxied_way(
    source: Placed,
    target: str,
    at: tuple[str, int],
    balancers: Sequence[Balancer],
    names: Names,
) -> Route | None:
    """The frontend at an address, if it leads to the target."""
    placed = {p.name: p for p in names.placed}
    name, _ = names.find(source, *at)
    for balancer in balancers:
        if balancer.instance != name:
            continue
        inner = _container_port(placed[name], at[1])
        for frontend in balancer.frontends:
            if inner not in [p for _, p in frontend.binds]:
                continue
            for _, _, backend, service in _backends(target, [balancer], placed):
                if backend.name in (frontend.default_backend, *(b for _, b in frontend.routes)):
                    address = at[0] if names.virtual(at[0]) else ""
                    way = Route("call", name, frontend.name, backend.name, service)
                    return way._replace(address=address)
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
