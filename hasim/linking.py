"""Which instance stands behind a name or an address, and over which kind of network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address

from hasim.containers import Placed
from hasim.model import Balancer, Frontend, Host, Instance, Port

WILDCARDS = ("", "0.0.0.0", "::", "*")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_address(text: str) -> bool:
    """Whether a text is an IP address and no name."""
    try:
        ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def overlap(a: str, b: str) -> bool:
    """Whether two listening addresses meet."""
    return a == b or a in WILDCARDS or b in WILDCARDS


@dataclass(frozen=True, slots=True)
class Names:
    """Everything that can be named or addressed in one stack."""

    placed: tuple[Placed, ...]
    hosts: Mapping[str, tuple[str, ...]]  # host -> its addresses
    binds: Mapping[str, tuple[tuple[str, int], ...]]  # haproxy instance -> what it listens on

    def find(self, source: Placed, address: str, port: int) -> tuple[str, str]:
        """(instance, reach) of address:port as `source` sees it; ("", "none") if nothing.

        A port that a process inside of the container listens on leads to that process.
        """
        name, reach = self._find(source, address, port)
        inner = [p for p in self.placed if p.instance.inside == name] if name else []
        if inner:
            ports = [p.container_port for p in self._ports(name) if p.host_port == port]
            asked = ports[0] if ports and reach == "published" else port
            name = next((p.name for p in inner if asked in p.instance.listen_ports), name)
        return name, reach

    def _ports(self, name: str) -> tuple[Port, ...]:
        return next(p.instance.ports for p in self.placed if p.name == name)

    def _find(self, source: Placed, address: str, port: int) -> tuple[str, str]:
        address = source.extra_hosts.get(address, address)
        if address == "host-gateway":
            return self.on_host(source.instance.host, "", port)
        if address in LOOPBACK:
            if source.instance.network_mode == "host":
                return self.on_host(source.instance.host, address, port)
            return "", "none"
        found = self._container(source, address)
        if found:
            return found
        for host, addresses in self.hosts.items():
            if address == host or address in addresses:
                return self.on_host(host, "" if address == host else address, port)
        for host in self.virtual(address):
            if (there := self.on_host(host, address, port))[0]:
                return there
        if source.instance.network_mode == "host" and not is_address(address):
            for one in self.placed:
                if address in one.names and one.instance.network_mode == "host":
                    return one.name, "host"
        return "", "none"

    def virtual(self, address: str) -> list[str]:
        """The hosts between which keepalived moves an address, the highest priority first."""
        found = []
        for one in self.placed:
            config = one.instance.config if one.instance.kind == "keepalived" else None
            for vrrp in config.instances if config else ():
                if address in vrrp.addresses:
                    found.append((-vrrp.priority, one.instance.host))
        return [host for _, host in sorted(found)]

    def resolves(self, source: Placed, address: str) -> bool:
        """Whether `source` can look the address up at all, whatever answers there."""
        sockets = ("/", "unix@", "abns@", "fd@", "sockpair@")
        return (
            is_address(address)
            or address in LOOPBACK
            or address.startswith(sockets)
            or address in source.extra_hosts
            or address in self.hosts
        )

    def _container(self, source: Placed, address: str) -> tuple[str, str] | None:
        """A container that shares a network: by name, alias or fixed address."""
        for one in self.placed:
            shared = [n for n in source.instance.networks if n in one.instance.networks]
            if address not in one.names:
                shared = [n for n in shared if one.static.get(n) == address]
            for network in shared:
                if network in source.overlays:
                    return one.name, "overlay"
                if one.instance.host == source.instance.host:
                    return one.name, "bridge"
        return None

    def on_host(self, host: str, address: str, port: int) -> tuple[str, str]:
        """Who answers at a port of a host: the first that claims it."""
        for one in self.placed:
            if one.instance.host != host:
                continue
            for claim in claims(one.instance, self.binds.get(one.name, ())):
                if claim.host_port == port and overlap(claim.host_ip, address):
                    host_mode = one.instance.network_mode == "host"
                    return one.name, "host" if host_mode else "published"
        return "", "none"


def claims(instance: Instance, binds: Iterable[tuple[str, int]] = ()) -> list[Port]:
    """The ports of its host that an instance takes."""
    if instance.network_mode != "host":
        return [p for p in instance.ports if p.host_port]
    own = [Port("", p, p, instance.span) for p in instance.listen_ports]
    return own + [Port(address, p, p, instance.span) for address, p in binds]


def host_addresses(
    hosts: Iterable[Host], stated: Iterable[tuple[str, str]], placed: Iterable[Placed]
) -> dict[str, tuple[str, ...]]:
    """The addresses of each host: stated ones, and those that its published ports name."""
    found: dict[str, dict[str, None]] = {h.name: {} for h in hosts}
    for address, host in stated:
        found[host][address] = None
    for one in placed:
        for port in one.instance.ports:
            if port.host_ip not in WILDCARDS and port.host_ip not in LOOPBACK:
                found[one.instance.host][port.host_ip] = None
    return {host: tuple(addresses) for host, addresses in found.items()}


def link(balancer: Balancer, source: Placed, names: Names) -> Balancer:
    """The balancer with every server led to its instance."""
    backends = []
    for backend in balancer.backends:
        servers = []
        for server in backend.servers:
            instance, reach = names.find(source, server.address, server.port)
            checked = ""
            if server.check is not None and (server.check.port or server.check.addr):
                where = server.check.addr or server.address, server.check.port or server.port
                checked = names.find(source, *where)[0]
            made = replace(server, instance=instance, reach=reach, check_instance=checked)
            servers.append(made)
        backends.append(replace(backend, servers=tuple(servers)))
    return replace(balancer, instance=source.name, backends=tuple(backends))


def dialling(one: Placed, dials: Iterable[tuple[str, int]], names: Names) -> Placed:
    """The container with the instances behind the addresses that its daemon dials."""
    peers = {f"{a}:{p}": names.find(one, a, p)[0] for a, p in dials}
    known = {where: name for where, name in peers.items() if name}
    return replace(one, instance=replace(one.instance, peers=known)) if known else one


def heard(placed: Iterable[Placed], balancers: Iterable[Balancer]) -> list[Placed]:
    """Containers whose files name no port listen where server lines look for them."""
    asked: dict[str, set[int]] = {}
    for backend in (b for balancer in balancers for b in balancer.backends):
        for server in backend.servers:
            if server.reach in ("bridge", "overlay"):
                asked.setdefault(server.instance, set()).add(server.port)
    return [
        replace(p, instance=replace(p.instance, listen_ports=tuple(sorted(asked[p.name]))))
        if p.name in asked and not p.instance.listen_ports
        else p
        for p in placed
    ]


def exposed(balancer: Balancer, instance: Instance) -> list[tuple[Frontend, str, int]]:
    """(frontend, host address, host port) of everything that users may dial."""
    out = []
    for frontend in balancer.frontends:
        for address, port in frontend.binds:
            if instance.network_mode == "host":
                out.append((frontend, address, port))
                continue
            for mapping in instance.ports:
                if mapping.container_port == port:
                    out.append((frontend, mapping.host_ip, mapping.host_port))
    return out


_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://)(?:[^/@\s]*@)?([A-Za-z0-9_.-]+|\[[0-9a-f:]+\]):(\d+)")


def urls(environment: Mapping[str, str | None]) -> list[tuple[str, int]]:
    """(host, port) of every URL in an environment, in its order."""
    return [
        (m[1], int(m[2])) for value in environment.values() if value for m in _URL.finditer(value)
    ]
