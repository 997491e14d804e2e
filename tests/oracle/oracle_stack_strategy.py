"""Random small stacks, loads and command lists for the differential test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from oracle_clock import SECOND
from oracle_compare import Case

from hasim.model import (
    INF,
    Backend,
    Balancer,
    Dist,
    Frontend,
    Host,
    Instance,
    Link,
    Op,
    Pool,
    Route,
    Server,
    Service,
    Stack,
    Step,
)
from hasim.scenario import Client, FlowStep, Load, Scenario

flag = (False, True)


class Choices:
    """Choose one of n by the next bytes: all alike likely, the first one when they shrink to 0."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def __call__(self, options: Sequence) -> Any:
        word = self.data[self.at : self.at + 2]
        self.at += 2
        return options[int.from_bytes(word, "big") % len(options)]


def between(low: int, high: int) -> range:
    """The whole numbers from low to high."""
    return range(low, high + 1)


SIZE = 600  # bytes; what is beyond them is 0
CPU = (
    Dist("exp", 0.0121), Dist("exp", 0.0873), Dist("uniform", 0.0011, 0.0437),
    Dist("lognormal", 0.0103, 0.9), Dist("quantiles", table=((0, 0.001), (0.5, 0.011), (1, 0.4))),
    Dist("hyperexp", table=((9, 0.0043), (1, 0.31))),
)  # fmt: skip
IO = (*CPU, Dist("const", 0.0237), Dist("const", 0.4391), Dist("exp", 1.7))
THINK = (
    Dist("exp", 0.031), Dist("const", 0.0017), Dist("const", 0.1113), Dist("uniform", 0.01, 0.9),
    Dist("exp", 0.4),
)  # fmt: skip
ALGORITHMS = ("roundrobin", "leastconn", "first", "source")
RETRY_ON = (
    ("conn-failure",), ("conn-failure",), ("conn-failure", "empty-response"),
    ("conn-failure", "response-timeout"), ("conn-failure", "500"), ("all-retryable-errors",),
    ("none",), ("empty-response",),
)  # fmt: skip


def _steps(draw: Choices, calls: tuple[str, ...]) -> tuple[Step, ...]:
    steps = []
    for _ in range(draw((1, 2, 3, 1, 2, 0))):
        kind = draw(("cpu", "cpu", "io", *("call",) * bool(calls)))
        if kind == "call":
            timeout = draw((INF, 0.0511, 0.3173))
            on_error = draw(("500", "skip", "404", "503"))
            steps.append(
                Step("call", target=draw(calls), op="q", timeout_s=timeout, on_error=on_error)
            )
        else:
            steps.append(Step(kind, draw(CPU if kind == "cpu" else IO)))
    return tuple(steps)


def _service(draw: Choices, name: str, calls: tuple[str, ...]) -> Service:
    names = ("q",) if not calls else ("a", "b")[: draw(between(1, 2))]
    ops = tuple(Op(n, _steps(draw, calls), write=draw((False, False, True))) for n in names)
    pools = ()
    if calls and draw(flag):
        wait = draw((30.0, 0.0717))
        pools = (Pool(draw(calls), draw(between(1, 2)), draw(between(0, 1)), wait),)
    return Service(
        name,
        workers=draw(between(1, 3)),
        mode=draw(("sync", "async")),
        backlog=draw((2048, 2048, 1, 3)),
        ops=ops,
        pools=pools,
    )


def _instances(draw: Choices, service: str, most: int) -> list[Instance]:
    return [
        Instance(
            f"{service}-{n}", "service", draw(("h1", "h2")), service, f"{service}-{n}",
            cpus=draw((0.0, 0.0, 0.5, 1.3, 2.0)), cpu_shares=draw((1024, 1024, 300)),
        )
        for n in range(1, draw((most, 2, 1)) + 1)
    ]  # fmt: skip


def _backend(draw: Choices, name: str, instances: list[Instance]) -> Backend:
    servers = tuple(
        Server(
            f"s{n}", i.name, 80, i.name, "bridge", None,
            weight=draw((1, 1, 1, 2, 3)), backup=draw((False, False, False, True)),
            maxconn=draw((0, 0, 1, 2)), maxqueue=draw((0, 0, 1)),
        )
        for n, i in enumerate(instances)
    )  # fmt: skip
    return Backend(
        name,
        "http",
        draw(ALGORITHMS),
        servers,
        retries=draw((3, 1, 2, 0)),
        redispatch=draw((True, False, True)),
        redispatch_interval=draw((-1, -1, -2, 1, 2, 0)),
        retry_on=draw(RETRY_ON),
        timeout_connect_s=draw((0.1037, 0.5171, 1.5019, INF)),
        timeout_server_s=draw((0.9107, 0.2213, INF, INF)),
        timeout_queue_s=draw((INF, 0.0819, 0.4723)),
        http_reuse=draw(("safe", "always", "never")),
        allbackups=draw(flag),
        abortonclose=draw((False, False, True)),
        connection_mode=draw(("keep-alive", "keep-alive", "server-close")),
        no_post_replay=draw((False, False, True)),
    )


def stacks(draw: Choices) -> Stack:
    """One or two services on two hosts, behind one HAProxy or dialled directly."""
    apps, dbs = _instances(draw, "app", 3), _instances(draw, "db", 2)
    backends = (_backend(draw, "web", apps), _backend(draw, "data", dbs))
    services = (
        _service(draw, "app", ("db", "data")),
        _service(draw, "db", ()),
    )
    keep = draw((INF, INF, 0.1511))
    frontend = Frontend(
        "fe", "http", (("", 80),), "web", timeout_http_keep_alive_s=keep,
        connection_mode=draw(("keep-alive", "keep-alive", "close")),
    )  # fmt: skip
    balancer = Balancer(
        "lb", draw(((2, 6, 12), (3, 0, 0))), draw((0, 0, 2, 4)), (frontend,), backends
    )
    behind = Route("address", "lb", "fe", "web", "app")
    direct = Route("address", "", "", "", "app")
    entries = {}
    for op in services[0].ops:
        entries[f"app/{op.name}"] = draw((behind, behind, behind, direct))
    return Stack(
        "x", "x", "", (),
        tuple(Host(h, draw((64.0, 64.0, 1.0, 2.5)), 1 << 34) for h in ("h1", "h2")),
        (Link("h1", "h2", draw((0.0, 0.0, 0.00137, 0.0291))),),
        (*apps, *dbs, Instance("lb", "haproxy", "h1", "lb")),
        services, (balancer,), (), {}, op_entries=entries,
    )  # fmt: skip


def _client(draw: Choices) -> Client:
    keep = draw((True, True, True, False))
    return Client(
        "k6" if keep else "one-shot",
        timeout_s=draw((60.0, 60.0, 60.0, 0.1319, 0.7331, 2.017)),
        connect_timeout_s=draw((30.0, 0.2719, 1.0173)),
        keep_alive=keep,
        replay=keep and draw((True, True, False)),
        retries=draw((0, 0, 1, 2)),
        backoff_s=draw((0.0, 0.0271, 0.313)),
        jitter=draw((0.0, 0.5)),
    )


def _load(draw: Choices, stack: Stack) -> Load:
    ops = list(stack.op_entries)
    flow = []
    for _ in range(draw(between(1, 2))):
        mix = ((ops[0], 0.3), (ops[1], 0.7)) if len(ops) > 1 else ((ops[0], 1.0),)
        flow.append(FlowStep(mix, draw(THINK)))
    executor = draw(("constant-vus", "constant-vus", "ramping-vus", "arrivals", "arrivals"))
    graceful = {"graceful_stop_s": draw((30.0, 0.5)), "flow": tuple(flow)}
    graceful |= {"graceful_ramp_down_s": draw((30.0, 0.1)), "client": _client(draw)}
    n, seconds = draw((4, 9, 2, 6, 1)), draw((2.0, 1.0, 4.0))
    if executor == "constant-vus":
        return Load("l", executor, ((seconds, n),), n, **graceful)
    if executor == "ramping-vus":
        stages = ((seconds, n), (0.3, draw(between(0, 9))), (seconds, 0))
        return Load("l", executor, stages, draw(between(0, 3)), **graceful)
    rate = draw((3.0, 17.0, 40.0))
    stages = ((seconds, rate), (seconds, draw((rate, 0.0, 2 * rate))))
    start = draw((rate, 0.0))
    if draw(flag):
        graceful["flow"] = (*flow[:-1], replace(flow[-1], think=Dist("const", 0.0)))
    return Load(
        "l", "ramping-arrival-rate", stages, start, max_vus=draw((100, 2, 5)),
        arrivals=draw(("even", "poisson")), **graceful,
    )  # fmt: skip


def _commands(draw: Choices, stack: Stack, end_ns: int) -> tuple[tuple, ...]:
    servers = [f"{b.name}/{s.name}" for b in stack.balancers[0].backends for s in b.servers]
    apps = [i.name for i in stack.instances if i.kind == "service"]
    direct = any(not r.balancer for r in stack.op_entries.values())
    ways = [*servers, "users->lb"]
    if direct:
        ways += [f"users->{i}" for i in apps if i.startswith("app")]
    count = draw((4, 8, 2, 6, 1, 3, 0))  # a list would be empty or short most of the time
    times = [draw(between(1, 199)) * (end_ns // 200) for _ in range(count)]
    out: list[tuple] = []
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
            out.append((at, verb, draw(apps), draw((0.25, 0.5, 1.0, 3.0))))
        elif verb == "no server":
            of = draw(("web/", "data/"))
            out += [(at, "set_rotation", s, False, False) for s in servers if s.startswith(of)]
            back = at + SECOND // 2
            out += [(back, "set_rotation", s, True, True) for s in servers if s.startswith(of)]
        elif verb == "die":
            out += _die(draw, stack, at, ways)
        else:
            out.append((at, verb, draw((*apps, "lb"))))
    return tuple(sorted((c for c in out if c[0] <= end_ns), key=lambda c: c[0]))


VERBS = (
    "set_connect", "set_connect", "set_rotation", "set_rotation", "set_delay", "set_maxconn",
    "shutdown_sessions", "set_speed", "freeze", "freeze", "thaw", "thaw", "crash", *("die",) * 8,
    "no server",
)  # fmt: skip


def _die(draw: Choices, stack: Stack, at: int, ways: list[str]) -> list[tuple]:
    """A process dies: its ways are refused, silent or without a route, and come back later."""
    victim = draw([i.name for i in stack.instances])
    meets = draw(between(1, 3))
    back = at + draw((SECOND // 3, 3 * SECOND // 2, 9 * SECOND))
    names = [w for w in ways if w == f"users->{victim}"]
    for b in stack.balancers[0].backends:
        names += [f"{b.name}/{s.name}" for s in b.servers if s.instance == victim]
    before = draw(flag)  # the way goes first: the peer never hears of the crash
    crash = [(at, "crash", victim)]
    ways_go = [(at, "set_connect", w, meets) for w in names]
    down = [*ways_go, *crash] if before else [*crash, *ways_go]
    return [*down, *((back, "set_connect", w, 0) for w in names)]


def build(data: bytes) -> Case:
    """A whole case out of its bytes."""
    draw = Choices(data)
    stack = stacks(draw)
    load = _load(draw, stack)
    end_ns = round((load.duration_s + draw(((0.0, 3.0)))) * SECOND) + 1
    commands = _commands(draw, stack, end_ns)
    return Case(stack, Scenario("s", "", load), commands, draw(between(0, 99)), 0, end_ns)


def cases() -> st.SearchStrategy[Case]:
    """Cases by bytes: hypothesis shrinks bytes well and makes them evenly."""
    return st.binary(min_size=SIZE, max_size=SIZE).map(build)
