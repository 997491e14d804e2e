"""Random commands of the control plane at random instants."""

from __future__ import annotations

from oracle_choices import Choices, between, flag
from oracle_clock import SECOND

from hasim.model import Stack

VERBS = (
    "set_connect", "set_connect", "set_rotation", "set_rotation", "set_delay", "set_maxconn",
    "shutdown_sessions", "set_speed", "freeze", "freeze", "thaw", "thaw", "crash", *("die",) * 8,
    "no server", *("data",) * 8, *("check",) * 3,
)  # fmt: skip


def some_commands(draw: Choices, stack: Stack, end_ns: int) -> tuple[tuple, ...]:
    """Commands in their order; the first ones give a Sentinel's clients a master."""
    servers = [f"{b.name}/{s.name}" for b in stack.balancers[0].backends for s in b.servers]
    nodes = [i.name for i in stack.instances if i.kind != "haproxy"]
    ways = [*servers, "users->lb", *_direct_ways(stack)]
    out = list(_masters(draw, stack, 0)) if draw((True, True, True, False)) else []
    count = draw((4, 8, 2, 6, 1, 3, 0))  # a list would be empty or short most of the time
    times = [draw(between(1, 199)) * (end_ns // 200) for _ in range(count)]
    for at in sorted(times):
        verb = draw(VERBS)
        if verb == "set_connect":
            out.append((at, verb, draw(ways), draw(between(0, 3))))
        elif verb == "set_rotation":
            usable = draw(flag)
            out.append((at, verb, draw(servers), usable, usable))
        elif verb == "set_delay":
            out.append((at, verb, draw(ways), draw((0.0031, 0.0713))))
        elif verb == "set_maxconn":
            out.append((at, verb, draw(servers), draw(between(0, 3))))
        elif verb == "shutdown_sessions":
            out.append((at, verb, draw(servers)))
        elif verb == "set_speed":
            out.append((at, verb, draw(nodes), draw((0.25, 0.5, 1.0, 3.0))))
        elif verb == "no server":
            of = draw(("web/", "data/"))
            out += [(at, "set_rotation", s, False, False) for s in servers if s.startswith(of)]
            back = at + SECOND // 2
            out += [(back, "set_rotation", s, True, True) for s in servers if s.startswith(of)]
        elif verb == "die":
            out += _die(draw, stack, at, ways)
        elif verb == "check":
            out.append(_check(draw, at, servers))
        elif verb == "data":
            out += _data(draw, stack, at)
        else:
            out.append((at, verb, draw((*nodes, "lb"))))
    return tuple(sorted((c for c in out if c[0] <= end_ns), key=lambda c: c[0]))


def _direct_ways(stack: Stack) -> list[str]:
    """The ways of callers and users that dial an instance themselves."""
    apps = [i.name for i in stack.instances if i.service == "app"]
    dbs = [i.name for i in stack.instances if i.service == "db"]
    steps = [s for service in stack.services for op in service.ops for s in op.steps]
    out = []
    if any(s.target == "db" for s in steps):
        hosts = stack.call_routes["app->db"].hosts or dbs
        out += [f"{a}->{b}" for a in apps for b in hosts]
    if any(not r.balancer for r in stack.op_entries.values()):
        out += [f"users->{a}" for a in apps]
    return out


def _check(draw: Choices, at: int, servers: list[str]) -> tuple:
    connect_by, answer_by = draw((0, at + 40_000_001)), draw((0, at + 2 * SECOND + 1))
    within = draw((0, 90_000_001))
    return (at, "check", draw(servers), draw(("http", "http", "tcp")), "/h", connect_by, answer_by,
            within)  # fmt: skip


def _data(draw: Choices, stack: Stack, at: int) -> list[tuple]:
    """What happens to a database or store."""
    node = draw([i.name for i in stack.instances if i.service == "db"])
    verb = draw(("cut", "set_writable", "set_commit", "master"))
    if verb == "cut":
        return [(at, verb, node)]
    back = at + draw((SECOND // 4, SECOND))
    if verb == "set_writable":
        return [(at, verb, node, False), (back, verb, node, True)]
    if verb == "set_commit":
        return [(at, verb, node, draw((0.0171, None, None))), (back, verb, node, 0.0)]
    return _masters(draw, stack, at)


def _masters(draw: Choices, stack: Stack, at: int) -> list[tuple]:
    """Sentinel says which node new connections go to; the callers hear of it at once."""
    way = stack.call_routes["app->db"]
    direct = [w for w in _direct_ways(stack) if not w.startswith("users")]
    if not way.discovery.startswith("sentinel") or not direct:
        return []
    chosen = draw(way.hosts)
    ons = [(w, w.endswith(f"->{chosen}")) for w in direct]
    return [(at, "set_rotation", w, on, on) for w, on in ons]


def _die(draw: Choices, stack: Stack, at: int, ways: list[str]) -> list[tuple]:
    """A process dies: its ways are refused, silent or without a route, and come back later."""
    victim = draw([i.name for i in stack.instances])
    meets = draw(between(1, 3))
    back = at + draw((SECOND // 3, 3 * SECOND // 2, 9 * SECOND))
    names = [w for w in ways if w.endswith(f"->{victim}")]
    for b in stack.balancers[0].backends:
        names += [f"{b.name}/{s.name}" for s in b.servers if s.instance == victim]
    before = draw(flag)  # the way goes first: the peer never hears of the crash
    crash = [(at, "crash", victim)]
    ways_go = [(at, "set_connect", w, meets) for w in names]
    down = [*ways_go, *crash] if before else [*crash, *ways_go]
    return [*down, *((back, "set_connect", w, 0) for w in names)]
