"""profile.yaml: how each kind of process behaves under load, measured or assumed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from hasim.errors import Finding, did_you_mean
from hasim.model import INF, ZERO, Assumption, Dist, Endpoint, Op, Pool, Service, Step
from hasim.read.forms import (
    DistField,
    DurationOrNone,
    Form,
    FormError,
    Size,
    dist,
    place,
    problem,
    seconds,
    size,
    validate,
)
from hasim.read.yaml12 import Node, parse, plain
from hasim.source import Origin, Span

CALL_KEYS = ("timeout", "on_error")


def call(value: Any) -> Step:
    """`{l01: read, timeout: 2s, on_error: 500}` as a Step."""
    if not isinstance(value, Mapping):
        raise FormError("a call is needed here: {l01: read, timeout: 2s, on_error: 500}")
    targets = [k for k in value if k not in CALL_KEYS]
    if len(targets) != 1:
        raise FormError("a call names one service and its operation: {l01: read, timeout: 2s}")
    op = value[targets[0]]
    if not isinstance(op, str) or not op:
        raise FormError("the name of an operation is needed here", targets[0])
    timeout = value.get("timeout", "none")
    timeout_s = INF if timeout == "none" else seconds(timeout, "timeout", zero=False)
    on_error = value.get("on_error", 500)
    if on_error != "skip" and not (type(on_error) is int and 400 <= on_error <= 599):
        raise FormError("skip or a status 400..599 is needed here", "on_error")
    return Step("call", target=targets[0], op=op, timeout_s=timeout_s, on_error=str(on_error))


def step(value: Any) -> Step:
    """`{cpu: 5ms}`, `{io: 20ms}`, `{commit: 3ms, wal: 8KiB}` or a call."""
    if isinstance(value, Mapping) and "commit" in value:
        return commit(value)
    if isinstance(value, Mapping) and len(value) == 1:
        kind, inner = next(iter(value.items()))
        if kind in ("cpu", "io"):
            try:
                return Step(kind, dist(inner))
            except FormError as error:
                raise FormError(str(error), kind, *error.path) from None
        if kind == "call":
            return call(inner)
    return call(value)


def commit(value: Mapping[str, Any]) -> Step:
    """`{commit: 3ms, wal: 8KiB}`: the time of an fsync, and what it sends to standbys."""
    unknown = next((k for k in value if k not in ("commit", "wal")), None)
    if unknown is not None:
        raise FormError("beside commit there is only wal: {commit: 3ms, wal: 8KiB}", unknown)
    try:
        took = dist(value["commit"])
    except FormError as error:
        raise FormError(str(error), "commit", *error.path) from None
    try:
        return Step("commit", took, wal_bytes=size(value.get("wal", "0B")))
    except ValueError as error:
        raise FormError(str(error), "wal") from None


_CALL = WithJsonSchema({"type": "object", "examples": [{"l01": "read", "timeout": "2s"}]})
CallField = Annotated[Step, BeforeValidator(call), _CALL]
StepField = Annotated[Step, BeforeValidator(step), _CALL]


class SourceForm(Form):
    """Where the numbers come from."""

    assume: str = ""
    measured: str = ""
    n: int = Field(0, ge=0)
    date: str = Field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")


class OpForm(Form):
    """One operation: cpu, io, calls and commit in this order, or `steps` in any."""

    path: str = Field("/", pattern="^/")
    write: bool = False
    cpu: DistField | None = None
    io: DistField | None = None
    calls: list[CallField] = []
    commit: DistField | None = None
    wal: Size = 0
    steps: list[StepField] | None = None
    source: SourceForm | None = None


class EndpointForm(Form):
    """One health URL."""

    cpu: DistField = ZERO
    needs: list[str] = []
    timeout: DurationOrNone = INF
    status: int = Field(200, ge=100, le=599)


class SigtermForm(Form):
    """What a draining process does with new and with open requests."""

    listener: Literal["close", "keep"] = "close"
    in_flight: Literal["finish", "cut"] = "finish"


class PoolForm(Form):
    """A connection pool, in SQLAlchemy's words."""

    to: str
    size: int = Field(5, ge=1, le=100_000)
    overflow: int = Field(10, ge=0, le=100_000)
    wait: DurationOrNone = 30.0
    pre_ping: bool = False
    command_timeout: DurationOrNone = INF
    tcp_user_timeout: DurationOrNone = INF
    on_disconnect: Literal["invalidate-all", "invalidate-one"] = "invalidate-all"


class MemoryForm(Form):
    """Resident memory: a process, each worker, each connection, each request under way."""

    base: Size = 0
    per_worker: Size = 0
    per_connection: Size = 0
    per_request: Size = 0


class WaitForm(Form):
    """What clients of Redis send after each write: WAIT replicas timeout."""

    replicas: int = Field(1, ge=1, le=100)
    timeout: DurationOrNone = INF


def _sigterm(value: Any) -> Any:
    if value in ("exit", "ignore"):
        return value
    if not isinstance(value, Mapping):
        raise FormError("exit, ignore or {listener: close, in_flight: finish} is needed here")
    return SigtermForm.model_validate(value)


SigtermField = Annotated[
    Any,
    BeforeValidator(_sigterm),
    WithJsonSchema({"anyOf": [{"enum": ["exit", "ignore"]}, {"type": "object"}]}),
]


class ServiceForm(Form):
    """One kind of process."""

    workers: int = Field(1, ge=1, le=10_000)
    mode: Literal["sync", "async"] = "sync"
    boot: DistField = Dist("const", 5.0)
    on_sigterm: SigtermField = SigtermForm()
    ops: dict[str, OpForm] = {}
    health: dict[Annotated[str, Field(pattern="^/")], EndpointForm] = {}
    pool: PoolForm | None = None
    pools: list[PoolForm] = []
    memory: MemoryForm = MemoryForm()
    wait: WaitForm | None = None
    backlog: int = Field(2048, ge=1, le=1_000_000)
    source: SourceForm | None = None


# What is in force if the profile does not say it; each is listed as an assumption.
UNSTATED = {
    "workers": ("1", "one worker per container unless stated (guide audit, section 3)"),
    "boot": ("5s", "from start to listening (guide audit, section 3)"),
    "on_sigterm": ("close, finish", "the process drains: closes its listener, finishes requests"),
    "memory": ("0", "memory is not modelled unless stated"),
}


def read_profile(
    text: str | bytes, file: str
) -> tuple[tuple[Service, ...], tuple[Assumption, ...], list[Finding]]:
    """The services of a profile.yaml, the values that nobody measured, and every problem."""
    node, found = parse(text, file)
    if node is None:
        return (), (), found
    if node.kind != "map":
        return (), (), [*found, problem("a map of services is needed here", node.span)]
    source = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    services: list[Service] = []
    assumptions: list[Assumption] = []
    for name, inner in node.items():
        form, wrong = validate(ServiceForm, plain(inner), inner)
        found += wrong
        if form is not None:
            service, wrong = _service(name, form, inner)
            services.append(service)
            assumptions += _assumptions(name, form, inner, source)
            found += wrong
    found += _check_calls(services, node)
    return tuple(services), tuple(assumptions), found


def _service(name: str, form: ServiceForm, node: Node) -> tuple[Service, list[Finding]]:
    found = []
    for op, inner in form.ops.items():
        if inner.steps is not None and (inner.cpu or inner.io or inner.calls or inner.commit):
            text = "'steps' already says it all: no cpu, io, calls or commit beside it"
            found.append(problem(text, place(node, ("ops", op, "steps"), key=True)))
        if "/" in op or not op:
            found.append(problem(f"'{op}' is no name", place(node, ("ops", op), key=True)))
    if form.pool and form.pools:
        found.append(problem("either pool or pools", place(node, ("pools",), key=True)))
    if not form.ops and not form.health:
        found.append(problem(f"'{name}' has neither ops nor health", node.span))
    kind = form.on_sigterm if isinstance(form.on_sigterm, str) else "drain"
    drain = form.on_sigterm if isinstance(form.on_sigterm, SigtermForm) else SigtermForm()
    memory = form.memory
    made = Service(
        name=name,
        workers=form.workers,
        mode=form.mode,
        boot=form.boot,
        on_sigterm=kind,
        on_sigterm_listener=drain.listener,
        on_sigterm_in_flight=drain.in_flight,
        pools=_pools(form, node),
        worker_bytes=memory.per_worker,
        ops=tuple(_op(op, inner) for op, inner in form.ops.items()),
        health=tuple(
            Endpoint(url, e.cpu, tuple(e.needs), e.timeout, e.status)
            for url, e in form.health.items()
        ),
        backlog=form.backlog,
        base_bytes=memory.base,
        connection_bytes=memory.per_connection,
        request_bytes=memory.per_request,
        wait_replicas=form.wait.replicas if form.wait else 0,
        wait_timeout_s=form.wait.timeout if form.wait else INF,
        source=_source(form.source),
        where={},
    )
    return replace(made, where=_places(made, node)), found


def _places(service: Service, node: Node) -> dict[str, Origin]:
    """Key -> where its value stands; `call.<target>` is a call, `health.<url>` a health URL."""
    where: dict[str, Origin] = {key: inner.span for key, inner in node.items()}
    for op in service.ops:
        where[f"ops.{op.name}"] = place(node, ("ops", op.name))
        for one in op.steps:
            if one.kind == "call":
                where.setdefault(f"call.{one.target}", call_span(node, op.name, one))
    for endpoint in service.health:
        where[f"health.{endpoint.url}"] = place(node, ("health", endpoint.url))
    return where


def _op(name: str, form: OpForm) -> Op:
    if form.steps is not None:
        return Op(name, tuple(form.steps), form.write, form.path)
    steps = [Step("cpu", form.cpu)] if form.cpu else []
    steps += [Step("io", form.io)] if form.io else []
    steps += form.calls
    if form.commit:
        steps.append(Step("commit", form.commit, wal_bytes=form.wal))
    return Op(name, tuple(steps), form.write, form.path)


def _pools(form: ServiceForm, node: Node) -> tuple[Pool, ...]:
    rows = [(("pool",), form.pool)] if form.pool else []
    rows += [(("pools", i), p) for i, p in enumerate(form.pools)]  # type: ignore[misc]
    return tuple(
        Pool(
            to=p.to,
            size=p.size,
            overflow=p.overflow,
            wait_s=p.wait,
            pre_ping=p.pre_ping,
            command_timeout_s=p.command_timeout,
            tcp_user_timeout_s=p.tcp_user_timeout,
            on_disconnect=p.on_disconnect,
            span=place(node, loc),
        )
        for loc, p in rows
    )


def _source(form: SourceForm | None) -> str:
    if form is None:
        return "assume: no source stated"
    if form.measured:
        return f"measured: {form.measured}" + (f", n={form.n}" if form.n else "")
    return f"assume: {form.assume}" if form.assume else "assume: no source stated"


def _assumptions(name: str, form: ServiceForm, node: Node, text: str) -> list[Assumption]:
    """One row for every stated value without a measurement and for every unstated one."""
    made = []
    default = _source(form.source)
    for key, inner in node.items():
        if key == "source":
            continue
        if key not in ("ops", "health"):
            made.append((f"{name}.{key}", inner, default))
            continue
        for sub, value in inner.items():
            own = form.ops[sub].source if key == "ops" else None
            made.append((f"{name}.{key}.{sub}", value, _source(own) if own else default))
    rows = [
        Assumption(label, _shown(inner, text), source)
        for label, inner, source in made
        if not source.startswith("measured")
    ]
    stated = {key for key, _ in node.items()}
    rows += [
        Assumption(f"{name}.{key}", value, f"default: {why}")
        for key, (value, why) in UNSTATED.items()
        if key not in stated
    ]
    return rows


def _shown(node: Node, text: str) -> str:
    """The value as written, on one line."""
    written = re.sub(r"(^|\s)#.*", "", text[node.span.start : node.span.end])
    return " ".join(written.split())


def _check_calls(services: list[Service], node: Node) -> list[Finding]:
    """Calls to a service of this file must name one of its operations."""
    found = []
    by_name = {s.name: s for s in services}
    for service in services:
        for op in service.ops:
            calls = [s for s in op.steps if s.kind == "call" and s.target in by_name]
            for one in calls:
                names = [o.name for o in by_name[one.target].ops]
                if one.op not in names:
                    hint = did_you_mean(one.op, names) or f"it has {', '.join(names) or 'none'}"
                    text = f"'{one.target}' has no operation '{one.op}'"
                    root = node.get(service.name) or node
                    found.append(problem(text, call_span(root, op.name, one), hint))
    found += _circles(services, node)
    return found


def call_span(node: Node, op: str, one: Step) -> Span:
    """Where a call of an operation is written in a service's part of the file."""
    for key in ("calls", "steps"):
        rows: Node | None = node
        for part in ("ops", op, key):
            rows = rows.get(part) if rows is not None else None
        for row in rows.value if rows is not None and rows.kind == "seq" else ():
            target = (row.get("call") or row).get(one.target)
            if target is not None and target.value == one.op:
                return target.span
    return place(node, ("ops", op))


def _circles(services: list[Service], node: Node) -> list[Finding]:
    """Operations that call themselves in the end would never return."""
    calls = {
        (s.name, o.name): [(c.target, c.op) for c in o.steps if c.kind == "call"]
        for s in services
        for o in s.ops
    }
    found = []
    for start in calls:
        seen, todo = set(), list(calls[start])
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += calls.get(one, [])
        if start in seen:
            text = f"{start[0]}/{start[1]} calls itself in the end"
            found.append(problem(text, place(node, (start[0], "ops", start[1]), key=True)))
    return found
