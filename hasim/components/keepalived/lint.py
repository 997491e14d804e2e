"""Findings on keepalived that need no simulation; each rule has its own code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from hasim.errors import Finding
from hasim.source import Span

if TYPE_CHECKING:
    from hasim.components.keepalived.config import Vrrp
    from hasim.model import Instance, Stack

Member = tuple["Instance", "Vrrp"]
NONLOCAL = "net.ipv4.ip_nonlocal_bind"


def lint(stack: Stack) -> Iterable[Finding]:
    """All findings of one stack."""
    groups: dict[int, list[Member]] = {}
    moved: dict[str, list[Member]] = {}
    for one in stack.instances:
        if one.kind != "keepalived" or one.config is None:
            continue
        yield from _container(one)
        for vrrp in one.config.instances:
            groups.setdefault(vrrp.router_id, []).append((one, vrrp))
            for address in vrrp.addresses:
                moved.setdefault(address, []).append((one, vrrp))
    for members in groups.values():
        yield from _pair(members, stack)
    for address, members in moved.items():
        yield from _standby(address, members, stack)
    for entry in stack.entries:
        if entry.via == "vip" and entry.target not in moved:
            text = (
                f"no keepalived of this stack moves {entry.target}: it is taken to be held always"
            )
            yield Finding("warning", "HA248", text, entry.span)


def _warn(code: str, text: str, origin: object, hint: str = "") -> Finding:
    return Finding("warning", code, text, origin if isinstance(origin, Span) else None, hint)


def _container(one: Instance) -> Iterator[Finding]:
    """keepalived in a container must see the interface and the processes of its host."""
    if one.network_mode != "host":
        where = one.where.get("network_mode") or one.span
        text = f"'{one.name}' is not on the host's network: the address stays in its container"
        yield _warn("HA249", text, where, "network_mode: host")
    if one.config.sees_host:
        return
    for script in {s.name: s for v in one.config.instances for s in v.tracks}.values():
        if script.looks.startswith("process"):
            text = f"'{script.name}' looks for a process that '{one.name}' cannot see: it fails"
            yield _warn("HA240", text, script.span, "pid: host in the compose file")


def _pair(members: list[Member], stack: Stack) -> Iterator[Finding]:
    """What the nodes of one virtual router must agree or differ on."""
    first, one = members[0]
    if len(members) == 1:
        text = f"({one.name}) virtual_router_id {one.router_id} has one node: nobody takes over"
        yield _warn("HA241", text, one.span)
        return
    for _, other in members[1:]:
        yield from _differences(one, other)
    ranked = sorted(members, key=lambda m: -m[1].priority)
    (_, best), (_, second) = ranked[0], ranked[1]
    if best.priority == second.priority:
        text = f"({second.name}) two nodes have priority {best.priority}: the higher address wins"
        yield _warn("HA242", text, second.where.get("priority"), "give each its own priority")
    if not best.nopreempt and any(v.nopreempt for _, v in members):
        text = f"({best.name}) takes the address back: nopreempt counts on the highest priority"
        yield _warn("HA243", text, best.span, "nopreempt and 'state BACKUP' on every node")
    if not one.garp_refresh_s:
        text = f"({one.name}) after a healed partition clients may send to the wrong node for 45 s"
        yield _warn("HA244", text, one.span, "garp_master_refresh repeats the gratuitous ARP")
    addresses = {a for h in stack.hosts for a in h.addresses}
    for host, vrrp in members:
        for peer in vrrp.peers:
            if peer not in addresses:
                text = f"({vrrp.name}) no host of this stack has the peer's address {peer}"
                yield _warn("HA245", text, vrrp.span, "compare it with `hosts` in stack.yaml")
        if not vrrp.unicast and _routed(host, members, stack):
            text = f"({vrrp.name}) multicast adverts do not cross a routed link: two masters"
            yield _warn("HA246", text, vrrp.span, "unicast_peer; most clouds filter multicast, too")


def _differences(a: Vrrp, b: Vrrp) -> Iterator[Finding]:
    """Adverts that the other node drops: both become master."""
    if a.version != b.version:
        text = f"({b.name}) version {b.version} here, {a.version} on the other node: two masters"
        yield _warn("HA176", text, b.where.get("version") or b.span)
    elif a.version == 2 and a.advert_s != b.advert_s:
        text = f"({b.name}) advert_int differs between the nodes: version 2 drops such adverts"
        yield _warn("HA176", text, b.where.get("advert_s") or b.span)
    if a.secret != b.secret:
        yield _warn("HA176", f"({b.name}) authentication differs: two masters", b.span)
    if a.unicast != b.unicast:
        text = f"({b.name}) one node sends unicast, the other multicast: two masters"
        yield _warn("HA176", text, b.span)
    if set(a.addresses) != set(b.addresses):
        text = f"({b.name}) the nodes list different virtual addresses"
        yield _warn("HA176", text, b.span)


def _routed(host: Instance, members: list[Member], stack: Stack) -> bool:
    others = {one.host for one, _ in members} - {host.host}
    return any(
        k.kind != "l2" and host.host in (k.a, k.b) and others & {k.a, k.b} for k in stack.links
    )


def _standby(address: str, members: list[Member], stack: Stack) -> Iterator[Finding]:
    """What binds to the address itself cannot start on the node that does not hold it."""
    if stack.kernel.get(NONLOCAL, 0):
        return
    hosts = {one.host for one, _ in members}
    for one in stack.instances:
        if one.host not in hosts:
            continue
        for port in one.ports:
            if port.host_ip == address:
                text = f"'{one.name}' cannot take {address}:{port.host_port} on a standby"
                yield _warn("HA177", text, port.span, f"0.0.0.0, or kernel: {{{NONLOCAL}: 1}}")
        if one.network_mode == "host":
            for frontend in (
                f for b in stack.balancers if b.instance == one.name for f in b.frontends
            ):
                if any(where == address for where, _ in frontend.binds):
                    text = f"{frontend.name} of '{one.name}' cannot bind {address} on a standby"
                    hint = f"bind to *, or kernel: {{{NONLOCAL}: 1}}"
                    yield _warn("HA177", text, frontend.where.get("binds"), hint)
