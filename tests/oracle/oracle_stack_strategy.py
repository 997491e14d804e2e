"""Random small stacks, loads and command lists for the differential test."""

from __future__ import annotations

from dataclasses import replace

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

pick = st.sampled_from
flag = st.booleans()

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


@st.composite
def _steps(draw, calls: tuple[str, ...]) -> tuple[Step, ...]:
    steps = []
    for kind in draw(st.lists(pick(("cpu", "io", *("call",) * bool(calls))), max_size=3)):
        if kind == "call":
            timeout = draw(pick((INF, 0.0511, 0.3173)))
            on_error = draw(pick(("500", "skip", "404", "503")))
            steps.append(
                Step("call", target=draw(pick(calls)), op="q", timeout_s=timeout, on_error=on_error)
            )
        else:
            steps.append(Step(kind, draw(pick(CPU if kind == "cpu" else IO))))
    return tuple(steps)


@st.composite
def _service(draw, name: str, calls: tuple[str, ...]) -> Service:
    names = ("q",) if not calls else ("a", "b")[: draw(st.integers(1, 2))]
    ops = tuple(Op(n, draw(_steps(calls)), write=draw(pick((False, False, True)))) for n in names)
    pools = ()
    if calls and draw(flag):
        wait = draw(pick((30.0, 0.0717)))
        pools = (Pool(draw(pick(calls)), draw(st.integers(1, 2)), draw(st.integers(0, 1)), wait),)
    return Service(
        name,
        workers=draw(st.integers(1, 3)),
        mode=draw(pick(("sync", "async"))),
        backlog=draw(pick((2048, 2048, 1, 3))),
        ops=ops,
        pools=pools,
    )


@st.composite
def _instances(draw, service: str, most: int) -> list[Instance]:
    return [
        Instance(
            f"{service}-{n}", "service", draw(pick(("h1", "h2"))), service, f"{service}-{n}",
            cpus=draw(pick((0.0, 0.0, 0.5, 1.3, 2.0))), cpu_shares=draw(pick((1024, 1024, 300))),
        )
        for n in range(1, draw(st.integers(1, most)) + 1)
    ]  # fmt: skip


@st.composite
def _backend(draw, name: str, instances: list[Instance]) -> Backend:
    servers = tuple(
        Server(
            f"s{n}", i.name, 80, i.name, "bridge", None,
            weight=draw(pick((1, 1, 1, 2, 3))), backup=draw(pick((False, False, False, True))),
            maxconn=draw(pick((0, 0, 1, 2))), maxqueue=draw(pick((0, 0, 1))),
        )
        for n, i in enumerate(instances)
    )  # fmt: skip
    return Backend(
        name,
        "http",
        draw(pick(ALGORITHMS)),
        servers,
        retries=draw(st.integers(0, 3)),
        redispatch=draw(flag),
        redispatch_interval=draw(pick((-1, -1, -2, 1, 2, 0))),
        retry_on=draw(pick(RETRY_ON)),
        timeout_connect_s=draw(pick((0.1037, 0.5171, 1.5019, INF))),
        timeout_server_s=draw(pick((0.2213, 0.9107, INF))),
        timeout_queue_s=draw(pick((INF, 0.0819, 0.4723))),
        http_reuse=draw(pick(("safe", "always", "never"))),
        allbackups=draw(flag),
        abortonclose=draw(pick((False, False, True))),
        connection_mode=draw(pick(("keep-alive", "keep-alive", "server-close"))),
        no_post_replay=draw(pick((False, False, True))),
    )


@st.composite
def stacks(draw) -> Stack:
    """One or two services on two hosts, behind one HAProxy or dialled directly."""
    apps, dbs = draw(_instances("app", 3)), draw(_instances("db", 2))
    backends = (draw(_backend("web", apps)), draw(_backend("data", dbs)))
    services = (
        draw(_service("app", ("db", "data"))),
        draw(_service("db", ())),
    )
    keep = draw(pick((INF, INF, 0.1511)))
    frontend = Frontend(
        "fe", "http", (("", 80),), "web", timeout_http_keep_alive_s=keep,
        connection_mode=draw(pick(("keep-alive", "keep-alive", "close"))),
    )  # fmt: skip
    balancer = Balancer(
        "lb", draw(pick(((2, 6, 12), (3, 0, 0)))), draw(pick((0, 0, 2, 4))), (frontend,), backends
    )
    behind = Route("address", "lb", "fe", "web", "app")
    direct = Route("address", "", "", "", "app")
    entries = {}
    for op in services[0].ops:
        entries[f"app/{op.name}"] = draw(pick((behind, behind, behind, direct)))
    return Stack(
        "x", "x", "", (),
        tuple(Host(h, draw(pick((64.0, 64.0, 1.0, 2.5))), 1 << 34) for h in ("h1", "h2")),
        (Link("h1", "h2", draw(pick((0.0, 0.0, 0.00137, 0.0291)))),),
        (*apps, *dbs, Instance("lb", "haproxy", "h1", "lb")),
        services, (balancer,), (), {}, op_entries=entries,
    )  # fmt: skip


@st.composite
def _client(draw) -> Client:
    keep = draw(pick((True, True, True, False)))
    return Client(
        "k6" if keep else "one-shot",
        timeout_s=draw(pick((60.0, 0.1319, 0.7331, 2.017))),
        connect_timeout_s=draw(pick((30.0, 0.2719, 1.0173))),
        keep_alive=keep,
        replay=keep and draw(pick((True, True, False))),
        retries=draw(pick((0, 0, 1, 2))),
        backoff_s=draw(pick((0.0, 0.0271, 0.313))),
        jitter=draw(pick((0.0, 0.5))),
    )


@st.composite
def _load(draw, stack: Stack) -> Load:
    ops = list(stack.op_entries)
    flow = []
    for _ in range(draw(st.integers(1, 2))):
        mix = ((ops[0], 0.3), (ops[1], 0.7)) if len(ops) > 1 else ((ops[0], 1.0),)
        flow.append(FlowStep(mix, draw(pick(THINK))))
    executor = draw(pick(("constant-vus", "constant-vus", "ramping-vus", "arrivals", "arrivals")))
    graceful = {"graceful_stop_s": draw(pick((30.0, 0.5))), "flow": tuple(flow)}
    graceful |= {"graceful_ramp_down_s": draw(pick((30.0, 0.1))), "client": draw(_client())}
    n, seconds = draw(st.integers(1, 9)), draw(pick((1.0, 2.0, 4.0)))
    if executor == "constant-vus":
        return Load("l", executor, ((seconds, n),), n, **graceful)
    if executor == "ramping-vus":
        stages = ((seconds, n), (0.3, draw(st.integers(0, 9))), (seconds, 0))
        return Load("l", executor, stages, draw(st.integers(0, 3)), **graceful)
    rate = draw(pick((3.0, 17.0, 40.0)))
    stages = ((seconds, rate), (seconds, draw(pick((rate, 0.0, 2 * rate)))))
    start = draw(pick((rate, 0.0)))
    if draw(flag):
        graceful["flow"] = (*flow[:-1], replace(flow[-1], think=Dist("const", 0.0)))
    return Load(
        "l", "ramping-arrival-rate", stages, start, max_vus=draw(pick((100, 2, 5))),
        arrivals=draw(pick(("even", "poisson"))), **graceful,
    )  # fmt: skip


@st.composite
def _commands(draw, stack: Stack, end_ns: int) -> tuple[tuple, ...]:
    servers = [f"{b.name}/{s.name}" for b in stack.balancers[0].backends for s in b.servers]
    apps = [i.name for i in stack.instances if i.kind == "service"]
    direct = any(not r.balancer for r in stack.op_entries.values())
    ways = [*servers, "users->lb"]
    if direct:
        ways += [f"users->{i}" for i in apps if i.startswith("app")]
    times = [n * (end_ns // 200) for n in draw(st.lists(st.integers(1, 199), max_size=8))]
    out: list[tuple] = []
    for at in sorted(times):
        verb = draw(pick(VERBS))
        if verb == "set_connect":
            out.append((at, verb, draw(pick(ways)), draw(st.integers(0, 3))))
        elif verb == "set_rotation":
            usable = draw(flag)
            out.append((at, verb, draw(pick(servers)), usable, usable))
        elif verb == "set_delay":
            out.append((at, verb, draw(pick(ways)), draw(pick((0.0031, 0.0713)))))
        elif verb == "set_maxconn":
            out.append((at, verb, draw(pick(servers)), draw(st.integers(0, 3))))
        elif verb == "shutdown_sessions":
            out.append((at, verb, draw(pick(servers))))
        elif verb == "set_speed":
            out.append((at, verb, draw(pick(apps)), draw(pick((0.25, 0.5, 1.0, 3.0)))))
        elif verb == "no server":
            of = draw(pick(("web/", "data/")))
            out += [(at, "set_rotation", s, False, False) for s in servers if s.startswith(of)]
            back = at + SECOND // 2
            out += [(back, "set_rotation", s, True, True) for s in servers if s.startswith(of)]
        elif verb == "die":
            out += _die(draw, stack, at, ways)
        else:
            out.append((at, verb, draw(pick((*apps, "lb")))))
    return tuple(sorted((c for c in out if c[0] <= end_ns), key=lambda c: c[0]))


VERBS = (
    "set_connect", "set_connect", "set_rotation", "set_rotation", "set_delay", "set_maxconn",
    "shutdown_sessions", "set_speed", "freeze", "freeze", "thaw", "thaw", "crash", "die", "die",
    "no server",
)  # fmt: skip


def _die(draw, stack: Stack, at: int, ways: list[str]) -> list[tuple]:
    """A process dies: its ways are refused, silent or without a route, and come back later."""
    victim = draw(pick([i.name for i in stack.instances]))
    meets = draw(st.integers(1, 3))
    back = at + draw(pick((SECOND // 3, 3 * SECOND // 2, 9 * SECOND)))
    names = [w for w in ways if w == f"users->{victim}"]
    for b in stack.balancers[0].backends:
        names += [f"{b.name}/{s.name}" for s in b.servers if s.instance == victim]
    before = draw(flag)  # the way goes first: the peer never hears of the crash
    crash = [(at, "crash", victim)]
    ways_go = [(at, "set_connect", w, meets) for w in names]
    down = [*ways_go, *crash] if before else [*crash, *ways_go]
    return [*down, *((back, "set_connect", w, 0) for w in names)]


@st.composite
def cases(draw) -> Case:
    """A whole case."""
    stack = draw(stacks())
    load = draw(_load(stack))
    end_ns = round((load.duration_s + draw(pick((0.0, 3.0)))) * SECOND) + 1
    commands = draw(_commands(stack, end_ns))
    return Case(stack, Scenario("s", "", load), commands, draw(st.integers(0, 99)), 0, end_ns)
