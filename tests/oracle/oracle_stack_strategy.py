"""Random small stacks, loads and command lists for the differential test."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from oracle_choices import Choices, between, flag
from oracle_clock import SECOND
from oracle_command_strategy import some_commands
from oracle_compare import Case

from hasim.model import (
    INF,
    ZERO,
    Backend,
    Balancer,
    Dist,
    Endpoint,
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


FSYNC = (ZERO, Dist("const", 0.0057), Dist("exp", 0.0113))


def _steps(draw: Choices, calls: tuple[str, ...]) -> tuple[Step, ...]:
    steps = []
    last = "call" if calls else "commit"
    for _ in range(draw((1, 2, 3, 1, 2, 0))):
        kind = draw(("cpu", last, "io", last))
        if kind == "commit":
            steps.append(Step("commit", draw(FSYNC)))
        elif kind == "call":
            timeout = draw((INF, 0.0511, 0.3173, 1.2391))
            on_error = draw(("500", "skip", "404", "503"))
            steps.append(
                Step(
                    "call",
                    target=draw(calls),
                    op=draw(("q", "q", "r")),
                    timeout_s=timeout,
                    on_error=on_error,
                )
            )
        else:
            steps.append(Step(kind, draw(CPU if kind == "cpu" else IO)))
    return tuple(steps)


def _service(draw: Choices, name: str, calls: tuple[str, ...]) -> Service:
    names = ("q", "r") if not calls else ("a", "b")[: draw(between(1, 2))]
    writes = [draw((False, False, True)) and n != "r" for n in names]
    ops = tuple(Op(n, _steps(draw, calls), write=w) for n, w in zip(names, writes, strict=True))
    pools = tuple(_pool(draw, to) for to in calls if draw((True, True, False)))
    most = draw((0, 0, 0, 1, 3)) if not calls else 0
    return Service(
        name,
        workers=draw(between(1, 3)),
        mode=draw(("sync", "async")),
        backlog=draw((2048, 2048, 1, 3)),
        ops=ops,
        pools=pools,
        health=_health(draw, calls),
        max_connections=most,
    )


def _health(draw: Choices, calls: tuple[str, ...]) -> tuple[Endpoint, ...]:
    needs = draw(((), calls[:1], calls[1:], calls))
    timeout = draw((INF, 0.0433, 0.3371))
    return (Endpoint("/h", draw((ZERO, *CPU)), needs, timeout, draw((200, 200, 503))),)


def _pool(draw: Choices, to: str) -> Pool:
    return Pool(
        to,
        draw((1, 2, 5)),
        draw(between(0, 2)),
        draw((30.0, 0.0717)),
        pre_ping=draw(flag),
        command_timeout_s=draw((INF, INF, 0.0579, 0.2957)),
        tcp_user_timeout_s=draw((INF, 0.1213, 0.4111)),
        on_disconnect=draw(("invalidate-all", "invalidate-one")),
    )


def _instances(draw: Choices, service: str, most: int, kind: str) -> list[Instance]:
    return [
        Instance(
            f"{service}-{n}", kind, draw(("h1", "h2")), service, f"{service}-{n}",
            cpus=draw((0.0, 0.0, 0.5, 1.3, 2.0)), cpu_shares=draw((1024, 1024, 300)),
        )
        for n in range(1, draw((most, 2, 1)) + 1)
    ]  # fmt: skip


def _backend(draw: Choices, name: str, instances: list[Instance], mode: str) -> Backend:
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
        mode,
        draw(ALGORITHMS),
        servers,
        retries=draw((3, 1, 2, 0)),
        redispatch=draw((True, False, True)),
        redispatch_interval=draw((-1, -1, -2, 1, 2, 0)),
        retry_on=draw(RETRY_ON),
        timeout_connect_s=draw((0.1037, 0.5171, 1.5019, INF)),
        timeout_server_s=draw((0.9107, 0.2213, INF, INF)),
        timeout_tunnel_s=draw((INF, INF, 0.1333)) if mode == "tcp" else INF,
        timeout_queue_s=draw((INF, 0.0819, 0.4723)),
        http_reuse=draw(("safe", "always", "never")),
        allbackups=draw(flag),
        abortonclose=draw((False, False, True)),
        connection_mode=draw(("keep-alive", "keep-alive", "server-close")),
        no_post_replay=draw((False, False, True)),
    )


def stacks(draw: Choices) -> Stack:
    """One or two services on two hosts, behind one HAProxy or dialled directly."""
    kind = draw(("service", "postgres", "redis"))
    apps, dbs = _instances(draw, "app", 3, "service"), _instances(draw, "db", 2, kind)
    mode = draw(("http", "tcp"))
    backends = (_backend(draw, "web", apps, "http"), _backend(draw, "data", dbs, mode))
    services = (
        _service(draw, "app", ("db", "data")),
        _service(draw, "db", ()),
    )
    keep = draw((INF, INF, 0.1511))
    frontend = Frontend(
        "fe", "http", (("", 80),), "web", timeout_http_keep_alive_s=keep,
        connection_mode=draw(("keep-alive", "keep-alive", "close")),
    )  # fmt: skip
    inner = Frontend(
        "fd", mode, (("", 5000),), "data", timeout_client_s=draw((INF, 0.0671, 0.3099))
    )
    balancer = Balancer(
        "lb", draw(((2, 6, 12), (3, 0, 0))), draw((0, 0, 2, 4)), (frontend, inner), backends
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
        services, (balancer,), (), {}, op_entries=entries, call_routes=_routes(draw, dbs),
    )  # fmt: skip


def _routes(draw: Choices, dbs: list[Instance]) -> dict[str, Route]:
    hosts = tuple(i.name for i in dbs)
    direct = Route(
        "call", "", "", "", "db",
        draw(("", "multihost", "sentinel:m")), draw((hosts, hosts[::-1])),
        connect_timeout_s=draw((INF, 0.2333)), read_write=draw(flag),
    )  # fmt: skip
    if draw((True, False, False)):
        direct = Route("call", "", "", "", "db")
    if dbs[0].kind == "service":
        direct = direct._replace(discovery="", read_write=False)
    return {"app->db": direct, "app->data": Route("call", "lb", "fd", "data", "db")}


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


def build(data: bytes) -> Case:
    """A whole case out of its bytes."""
    draw = Choices(data)
    stack = stacks(draw)
    load = _load(draw, stack)
    end_ns = round((load.duration_s + draw(((0.0, 3.0)))) * SECOND) + 1
    commands = some_commands(draw, stack, end_ns)
    return Case(stack, Scenario("s", "", load), commands, draw(between(0, 99)), 0, end_ns)


def cases() -> st.SearchStrategy[Case]:
    """Cases by bytes: hypothesis shrinks bytes well and makes them evenly."""
    return st.binary(min_size=SIZE, max_size=SIZE).map(build)
