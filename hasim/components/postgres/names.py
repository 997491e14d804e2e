"""The name in primary_conninfo: libpq looks it up for each attempt, and Docker's resolver knows
only containers that run.

Source: libpq, fe-connect.c (PQconnectPoll, pg_getaddrinfo_all); machine.lookup.
"""

from __future__ import annotations

from collections.abc import Generator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hasim.components.postgres.receiver import Receiver
    from hasim.components.postgres.server import Postmaster

# getaddrinfo at a resolver that says nothing. Source: resolv.conf(5), timeout 5 s and 2 attempts.
LOOKUP_S = 10.0
WORDS = {"nx": "Name or service not known", "silent": "Temporary failure in name resolution"}


def name_of(server: Postmaster, upstream: str) -> str:
    """The host name by which a standby's files know its upstream; "" for an address, or if a
    manager has told it.
    """
    config = server.config
    host = server.conninfo.get("host") or (config.backup.host if config.backup else "")
    if config.upstream is None or server.machine.peer(server.name, *config.upstream) != upstream:
        return ""
    try:
        ip_address(host)
    except ValueError:
        return host
    return ""


def looked_up(receiver: Receiver, upstream: str) -> Generator[Any, Any, str]:
    """ "" once the name is resolved (or there is none), else why it is not."""
    server, machine = receiver.server, receiver.server.machine
    name = name_of(server, upstream)
    answer = machine.lookup(_edge(server, upstream))[0] if name else "ok"
    if answer == "ok":
        return ""
    if answer == "silent":
        world = server.world
        yield world.env.any_of([world.seconds(LOOKUP_S), receiver.bell])
    return f'could not translate host name "{name}" to address: {WORDS[answer]}'


def _edge(server: Postmaster, upstream: str):
    from hasim.sim.world import Edge

    here, there = (server.machine.containers[n].spec for n in (server.name, upstream))
    shared = here.host == there.host and set(here.networks) & set(there.networks)
    reach = "bridge" if shared and there.network_mode != "host" else "published"
    return Edge(server.name, upstream, "", reach, here.host, there.host)
