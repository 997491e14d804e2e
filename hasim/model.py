"""What a stack means: hosts, instances, balancers, services. Frozen; no files, no time.

Text units end in the readers: here durations are seconds (`_s`), sizes bytes (`_bytes`), CPU cores.
`where` maps a field name to its origin: a Span (file:line:col) or a Default (citation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hasim.errors import Finding
from hasim.model_haproxy import INF as INF
from hasim.model_haproxy import Backend as Backend
from hasim.model_haproxy import Balancer as Balancer
from hasim.model_haproxy import Check as Check
from hasim.model_haproxy import Frontend as Frontend
from hasim.model_haproxy import Resolver as Resolver
from hasim.model_haproxy import Server as Server
from hasim.source import Origin, Span


@dataclass(frozen=True, slots=True)
class Dist:
    """A distribution with one inverse CDF; `a` and `b` by kind, all in the unit of the field.

    const: a; exp: mean a; uniform: [a, b]; lognormal: median a, sigma b (of the logarithm);
    quantiles: table of (p, value), linear in between, first p is 0 and last p is 1;
    hyperexp: table of (weight, mean).
    """

    kind: str
    a: float = 0.0
    b: float = 0.0
    table: tuple[tuple[float, float], ...] = ()


ZERO = Dist("const", 0.0)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an operation. kind: cpu | io | call | commit.

    cpu and io: `dist` in seconds; a sync worker is held in both, an async one only in cpu.
    commit: `dist` is the time of its fsync; the standbys' answers come on top (World.set_commit);
    wal_bytes is what it sends to them.
    call: `target` names a service or backend, `op` its operation; on_error "skip" or a status.
    """

    kind: str
    dist: Dist = ZERO
    target: str = ""
    op: str = ""
    timeout_s: float = INF
    on_error: str = "500"
    wal_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Op:
    """One operation that a service offers. write=True sends a non-idempotent POST."""

    name: str
    steps: tuple[Step, ...]
    write: bool = False
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A health URL: its cost, the dependencies it looks at and its own timeout on them.

    needs: services or backends; each one is asked for its first operation that is no write, one
    after the other, and any failure is a 503.
    """

    url: str
    cpu: Dist = ZERO
    needs: tuple[str, ...] = ()
    timeout_s: float = INF
    status: int = 200


@dataclass(frozen=True, slots=True)
class Pool:
    """A connection pool of a service towards `to` (SQLAlchemy's words: size, overflow, wait)."""

    to: str
    size: int = 5
    overflow: int = 10
    wait_s: float = 30.0
    pre_ping: bool = False
    command_timeout_s: float = INF
    tcp_user_timeout_s: float = INF
    on_disconnect: str = "invalidate-all"  # | invalidate-one
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """How one kind of process behaves under load; from profile.yaml (assumed or measured).

    on_sigterm: exit (at once) | drain (stop as the two fields below say, exit when idle) | ignore.
    base_bytes is per process, worker_bytes per worker; the rest per connection and per request.
    wait_replicas: Redis clients follow each write with WAIT; 0: they do not.
    """

    name: str
    workers: int = 1
    mode: str = "sync"  # sync: a worker is held for the whole request; async: only during CPU
    boot: Dist = ZERO
    on_sigterm: str = "drain"
    on_sigterm_listener: str = "close"  # close | keep
    on_sigterm_in_flight: str = "finish"  # finish | cut
    pools: tuple[Pool, ...] = ()
    worker_bytes: int = 0
    ops: tuple[Op, ...] = ()
    health: tuple[Endpoint, ...] = ()
    backlog: int = 2048
    base_bytes: int = 0
    connection_bytes: int = 0
    request_bytes: int = 0
    max_connections: int = 0  # a database refuses more ordinary clients than this; 0: no limit
    wait_replicas: int = 0
    wait_timeout_s: float = INF
    source: str = ""
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A Docker healthcheck; used by depends_on conditions and scripts, never restarts anything."""

    test: tuple[str, ...]
    interval_s: float = 30.0
    timeout_s: float = 30.0
    retries: int = 3
    start_period_s: float = 0.0
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Port:
    """A published port: host_ip:host_port on the host leads to container_port."""

    host_ip: str
    host_port: int
    container_port: int
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """One container (or plain process) on one host.

    kind is the component that understands it ("haproxy", "service"); restart is Docker's policy
    ("no", "always", "unless-stopped", "on-failure[:n]"); cpus 0, mem_limit_bytes 0: no limit.
    """

    name: str
    kind: str
    host: str
    service: str = ""
    compose_service: str = ""
    image: str = ""
    ports: tuple[Port, ...] = ()
    network_mode: str = "bridge"
    networks: tuple[str, ...] = ()
    listen_ports: tuple[int, ...] = ()
    cpus: float = 0.0
    cpu_shares: int = 1024
    mem_limit_bytes: int = 0
    restart: str = "no"
    stop_signal: str = "SIGTERM"
    stop_grace_s: float = 10.0
    init: bool = False
    depends_on: tuple[tuple[str, str], ...] = ()  # (instance, condition)
    inside: str = ""  # a process of this container (instance name) which its PID 1 starts
    config: Any = None  # frozen value of the component, from its own files
    peers: Mapping[str, str] = field(default_factory=dict)  # "address:port" dialled -> instance
    healthcheck: HealthCheck | None = None
    span: Span | None = None
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine. boot: from power to Docker running."""

    name: str
    cores: float
    memory_bytes: int
    boot: Dist = Dist("const", 60.0)
    span: Span | None = None
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """The network between two hosts. kind: l2 | routed."""

    a: str
    b: str
    rtt_s: float
    kind: str = "l2"


@dataclass(frozen=True, slots=True)
class Entry:
    """How a kind of user reaches the stack: via vip | dns | address | direct, target text."""

    name: str
    via: str
    target: str
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Assumption:
    """A value that nobody measured; listed with every verdict that rests on it."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Knob:
    """One tunable value of one file: `haproxy.backend.l09-api-gateway.l09-1.inter`.

    value: the text in force. dialect: the units grammar of that file ("haproxy", "compose", ...).
    origin: a Span that can be patched, or the Default in force. effect: reload | restart |
    recreate | dcs-edit | sentinel-set | live. insert: where to write it when it is a default, or
    inherited from another place that serves others too; when set, it goes before origin.
    """

    name: str
    value: str
    dialect: str
    origin: Origin
    effect: str
    insert: Span | None = None
    insert_text: str = ""  # with {value}; written at insert.start when insert is set


@dataclass(frozen=True, slots=True)
class BootFailure:
    """Something of the stack that cannot come up: which instance, why, and where it says so."""

    instance: str
    reason: str
    span: Span | None
    audit_id: str = ""


@dataclass(frozen=True, slots=True)
class StatedSize:
    """What somebody's capacity table gives a service, where no compose file sets a limit.

    cores and memory_bytes are per instance. service need not exist in the files.
    """

    service: str
    instances: int
    cores: float
    memory_bytes: int
    source: str = ""


class Route(NamedTuple):
    """The way to the operations of one service, for users or for a calling service.

    via: vip | dns | address for users, call for services. balancer, frontend and backend are ""
    when the instances of the service are reached directly.
    discovery, of a direct way: "" (any of `hosts` in turn), "multihost" (libpq: the first of
    `hosts` that takes a connection, and writes if read_write) or "sentinel:<master name>@<sentinels
    in the order of the URL>".
    hosts: instances in the order of the URL; empty: all of the service. connect_timeout_s: the
    URL's own for each host, INF if it has none. address: the virtual one that a call's URL names.
    """

    via: str
    balancer: str
    frontend: str
    backend: str
    service: str
    discovery: str = ""
    hosts: tuple[str, ...] = ()
    connect_timeout_s: float = INF
    read_write: bool = False
    address: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything that the files of one folder say, resolved. `load()` in hasim.stack makes it."""

    folder: str
    name: str
    sha256: str
    inputs: tuple[tuple[str, str], ...]  # (path, sha256) in path order
    hosts: tuple[Host, ...]
    links: tuple[Link, ...]
    instances: tuple[Instance, ...]
    services: tuple[Service, ...]
    balancers: tuple[Balancer, ...]
    entries: tuple[Entry, ...]
    groups: Mapping[str, tuple[str, ...]]
    assumptions: tuple[Assumption, ...] = ()
    findings: tuple[Finding, ...] = ()
    boot_failures: tuple[BootFailure, ...] = ()
    knobs: tuple[Knob, ...] = ()
    op_entries: Mapping[str, Route] = field(default_factory=dict)  # "service/op" -> users' way
    call_routes: Mapping[str, Route] = field(default_factory=dict)  # "caller->target" -> way
    boot_order: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)  # by host
    kernel: Mapping[str, float] = field(default_factory=dict)  # sysctl values of stack.yaml
    sizes: tuple[StatedSize, ...] = ()  # a capacity table; nothing is simulated with it

    def instance(self, name: str) -> Instance:
        """The instance of that name; KeyError if there is none."""
        return next(i for i in self.instances if i.name == name)

    def service(self, name: str) -> Service:
        """The service profile of that name; StopIteration if there is none."""
        return next(s for s in self.services if s.name == name)


def image_name(image: str) -> str:
    """The last part of an image's name, without tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]
