"""What of a stack cannot come up, and why; and the order in which compose starts the rest.

Decided from the files alone. An instance named in a BootFailure stays down for the whole run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from hasim.containers import Placed
from hasim.errors import Finding
from hasim.linking import Names, claims, is_address, overlap
from hasim.model import Balancer, BootFailure, Port
from hasim.read.compose_types import ComposeProject
from hasim.source import Span

# Codes of hasim.read.compose: compose refuses the whole project, yet its services can be read.
REFUSALS = frozenset({"HA141", "HA144", "HA147", "HA148", "HA149"})
_AUDIT = (  # text of a refusal -> id of the guide audit
    (r"top level", "DC-4"),
    (r"undefined volume", "DC-5"),
    (r"undefined service", "DC-6"),
)
Order = dict[str, tuple[tuple[str, ...], ...]]


def check(
    placed: Sequence[Placed],
    balancers: Sequence[Balancer],
    projects: Mapping[str, ComposeProject],
    refusals: Mapping[str, Sequence[Finding]],
    names: Names,
) -> tuple[tuple[BootFailure, ...], Order, list[Finding]]:
    """(failures, boot order by host, warnings of things that must exist beforehand)."""
    order = boot_order(placed)
    rejected = [f for host in refusals for f in _rejected(host, refusals[host], placed)]
    own = _port_claims(placed, order, names) + _never_healthy(placed)
    own += _dependents(placed, own)
    own += _unresolved(placed, balancers, own, names)
    return tuple(dict.fromkeys(rejected + own)), order, _external(projects)


def boot_order(placed: Iterable[Placed]) -> Order:
    """host -> groups of instances; a group starts when those before it have been started.

    Compose starts what does not depend on each other side by side, in file order.
    """
    order: Order = {}
    by_host: dict[str, list[Placed]] = {}
    for one in placed:
        by_host.setdefault(one.instance.host, []).append(one)
    for host, here in by_host.items():
        left = {p.name: {d for d, _ in p.instance.depends_on} for p in here}
        groups: list[tuple[str, ...]] = []
        while left:
            ready = [n for n, needs in left.items() if not needs & set(left)]
            ready = ready or list(left)  # a circle: compose refuses it, see REFUSALS
            groups.append(tuple(ready))
            for name in ready:
                del left[name]
        order[host] = tuple(groups)
    return order


def _rejected(host: str, reasons: Sequence[Finding], placed: Sequence[Placed]) -> list[BootFailure]:
    """compose rejects the whole project: each reason, and every instance of it stays down."""
    if not reasons:
        return []
    made = []
    for reason in reasons:
        audit = next((i for pattern, i in _AUDIT if re.search(pattern, reason.message)), "")
        made.append(BootFailure(f"host:{host}", reason.message, reason.span, audit))
    first = made[0]
    more = f" (and {len(made) - 1} more reasons)" if len(made) > 1 else ""
    text = f"compose rejects the project: {first.reason}{more}"
    return made + [
        BootFailure(p.name, text, first.span, first.audit_id)
        for p in placed
        if p.instance.host == host and p.service is not None
    ]


def _port_claims(placed: Sequence[Placed], order: Order, names: Names) -> list[BootFailure]:
    """Two instances want one port of one host: the one that starts first has it."""
    by_name = {p.name: p for p in placed}
    made = []
    for groups in order.values():
        taken: list[tuple[Port, str]] = []
        for name in (n for group in groups for n in group):
            one = by_name[name]
            mine = claims(one.instance, names.binds.get(name, ()))
            clash = next(
                (
                    (port, other, owner)
                    for port in mine
                    for other, owner in taken
                    if port.host_port == other.host_port and overlap(port.host_ip, other.host_ip)
                ),
                None,
            )
            if clash is None:
                taken += [(port, name) for port in mine]
                continue
            port, other, owner = clash
            text = f"port {port.host_port} of {one.instance.host} is taken by {owner}"
            where = f" ({other.span})" if other.span else ""
            made.append(BootFailure(name, text + where, port.span or one.instance.span, "DC-1"))
    return made


def _never_healthy(placed: Sequence[Placed]) -> list[BootFailure]:
    """compose does not start what waits for the health of something without a healthcheck.

    An image may bring its own check; of the services of profile.yaml the files say it all.
    """
    by_name = {p.name: p.instance for p in placed}
    return [
        BootFailure(
            p.name,
            f"it waits for {name} to be healthy, which has no healthcheck",
            _depends_span(p, by_name[name].compose_service),
        )
        for p in placed
        for name, condition in p.instance.depends_on
        if condition == "service_healthy"
        and by_name[name].healthcheck is None
        and by_name[name].kind != "other"
    ]


def _depends_span(one: Placed, service: str) -> Span | None:
    needs = one.service.depends_on if one.service else ()
    return next((d.span for d in needs if d.service == service), one.instance.span)


def _dependents(placed: Sequence[Placed], failures: Sequence[BootFailure]) -> list[BootFailure]:
    """What depends on something that does not start is not started by compose either."""
    down = {f.instance for f in failures}
    by_name = {p.name: p.instance for p in placed}
    made: list[BootFailure] = []
    grown = True
    while grown:
        grown = False
        for one in placed:
            if one.name in down:
                continue
            missing = [d for d, _ in one.instance.depends_on if d in down]
            if missing:
                text = f"its dependency {missing[0]} does not start"
                span = _depends_span(one, by_name[missing[0]].compose_service)
                made.append(BootFailure(one.name, text, span))
                down.add(one.name)
                grown = True
    return made


def _unresolved(
    placed: Sequence[Placed],
    balancers: Sequence[Balancer],
    failures: Sequence[BootFailure],
    names: Names,
) -> list[BootFailure]:
    """HAProxy refuses to start over a server name that does not resolve (LB-7).

    source: HAProxy manual 5.2 "init-addr": without `none` a failure is fatal. Docker resolves
    names of running containers only.
    """
    by_name = {p.name: p for p in placed}
    down = {f.instance for f in failures}
    made = []
    for balancer in balancers:
        for server in (s for b in balancer.backends for s in b.servers):
            bridged = server.reach in ("bridge", "overlay")
            known = bool(server.instance) and not (bridged and server.instance in down)
            fatal = "none" not in server.init_addr and not any(map(is_address, server.init_addr))
            source = by_name[balancer.instance]
            if known or not fatal or names.resolves(source, server.address):
                continue
            text = f"could not resolve address '{server.address}' of server {server.name}"
            if server.instance:
                text += f": {server.instance} does not run"
            made.append(BootFailure(balancer.instance, text, server.span, "LB-7"))
    return made


def _external(projects: Mapping[str, ComposeProject]) -> list[Finding]:
    """External networks and volumes must be there before the first `up` (DC-13)."""
    found = []
    for project in projects.values():
        for kind, resources in (("network", project.networks), ("volume", project.volumes)):
            for one in resources.values():
                if one.external:
                    text = f"{kind} '{one.real_name}' is external: it must exist before `up`"
                    hint = f"docker {kind} create {one.real_name}"
                    found.append(Finding("warning", "HA205", text, one.span, hint))
    return found
