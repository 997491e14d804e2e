"""Where a caller finds a service of the stack: addresses and ports as its files and routes say."""

from __future__ import annotations

from collections.abc import Iterator

from hasim.linking import WILDCARDS, exposed
from hasim.model import Entry, Instance, Route, Stack

PORTS = {"postgres": 5432, "redis": 6379}  # source: PostgreSQL and Redis manuals, default ports


def address(stack: Stack, host: str) -> str:
    """An address of a host; its name where no file says one."""
    return next((h.addresses[0] for h in stack.hosts if h.name == host and h.addresses), host)


def users_at(stack: Stack, way: Route) -> str:
    """ "address:port" that users of this way dial; "" if no file says it."""
    entry = next((e for e in stack.entries if e.via == way.via), None)
    if entry is None:
        return ""
    return _through(stack, way, entry) if way.balancer else _direct(stack, way, entry)


def _target(stack: Stack, entry: Entry) -> str:
    return address(stack, entry.target)


def _through(stack: Stack, way: Route, entry: Entry) -> str:
    balancer = next(b for b in stack.balancers if b.instance == way.balancer)
    for frontend, _, port in exposed(balancer, stack.instance(way.balancer)):
        if frontend.name == way.frontend:
            return f"{_target(stack, entry)}:{port}"
    return ""


def _direct(stack: Stack, way: Route, entry: Entry) -> str:
    for one in stack.instances:
        if one.service == way.service:
            for port in one.ports:
                return f"{_target(stack, entry)}:{port.host_port}"
            if one.network_mode == "host" and one.listen_ports:
                return f"{_target(stack, entry)}:{one.listen_ports[0]}"
    return ""


def calls_at(stack: Stack, way: Route) -> str:
    """ "address:port" that a calling service dials through a balancer; "" if it dials no one."""
    balancer = next((b for b in stack.balancers if b.instance == way.balancer), None)
    if balancer is None:
        return ""
    one = stack.instance(way.balancer)
    for frontend in balancer.frontends:
        if frontend.name == way.frontend:
            if way.address:
                return f"{way.address}:{frontend.binds[0][1]}"
            if one.networks:
                return f"{one.compose_service or one.name}:{frontend.binds[0][1]}"
            return f"{address(stack, one.host)}:{frontend.binds[0][1]}"
    return ""


def endpoint(stack: Stack, one: Instance) -> str:
    """ "address:port" of an instance: its published port, else its name on its network.

    Without ":port" where no file says on which it listens.
    """
    outer = stack.instance(one.inside) if one.inside else one
    ports = one.listen_ports or (PORTS.get(one.kind, 0),)
    for port in outer.ports:
        if not one.inside or port.container_port in ports:
            host = port.host_ip if port.host_ip not in WILDCARDS else address(stack, one.host)
            return f"{host}:{port.host_port}"
    port_number = ports[0] or PORTS.get(one.kind, 0)
    if outer.network_mode == "host":
        return f"{address(stack, one.host)}:{port_number}"
    name = outer.compose_service or outer.name
    return f"{name}:{port_number}" if port_number else name


def of_kind(stack: Stack, kind: str) -> Iterator[Instance]:
    """The instances of a kind, in the order of the files."""
    return (i for i in stack.instances if i.kind == kind)
