"""What a haproxy.cfg means: checks, servers, back ends, front ends, resolvers. Frozen.

The part of hasim.model that speaks HAProxy's words; import it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hasim.source import Origin, Span

INF = float("inf")


@dataclass(frozen=True, slots=True)
class Check:
    """A HAProxy health check of one server line (all durations in seconds).

    kind: "http" (option httpchk) or "tcp". timeout_check_s None: unset. fastinter/downinter
    are already resolved to inter where unset. port 0 and addr "": those of the server.
    """

    kind: str
    url: str
    expect_status: tuple[int, ...]  # empty: any 2xx or 3xx
    inter_s: float
    fastinter_s: float
    downinter_s: float
    rise: int
    fall: int
    timeout_check_s: float | None
    timeout_connect_s: float
    spread_checks: float = 0.0  # fraction
    method: str = "OPTIONS"
    port: int = 0
    addr: str = ""
    tls: bool = False
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Server:
    """A HAProxy `server` line. `instance` is the name of what it resolves to, or "" if nothing.

    reach: bridge | published | host | overlay | none. observe: "" | layer4 | layer7.
    check_instance: what answers at the check's own address or port, "" if it has none.
    """

    name: str
    address: str
    port: int
    instance: str
    reach: str
    check: Check | None
    check_instance: str = ""
    weight: int = 1
    backup: bool = False
    disabled: bool = False
    maxconn: int = 0
    maxqueue: int = 0
    slowstart_s: float = 0.0
    observe: str = ""
    error_limit: int = 10
    on_error: str = "fail-check"
    on_marked_down: str = ""
    resolvers: str = ""
    init_addr: tuple[str, ...] = ("last", "libc")
    minconn: int = 0
    on_marked_up: str = ""
    resolve_prefer: str = "ipv6"
    tls: bool = False
    span: Span | None = None
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Backend:
    """A HAProxy `backend` (or the back half of `listen`). Unset timeouts are INF."""

    name: str
    mode: str
    balance: str
    servers: tuple[Server, ...]
    retries: int = 3
    redispatch: bool = False
    redispatch_interval: int = -1
    retry_on: tuple[str, ...] = ("conn-failure",)
    timeout_connect_s: float = INF
    timeout_server_s: float = INF
    timeout_queue_s: float = INF
    http_reuse: str = "safe"
    allbackups: bool = False
    abortonclose: bool = False
    log_health_checks: bool = False
    disable_on_404: bool = False
    no_post_replay: bool = False  # http-request disable-l7-retry if METH_POST
    timeout_tunnel_s: float = INF
    fullconn: int = 0  # 0: a tenth of the maxconn of the frontends that lead here
    persist: bool = False
    connection_mode: str = "keep-alive"  # | server-close | close
    disabled: bool = False
    state_from_file: str = "none"  # | local | global
    span: Span | None = None
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Frontend:
    """A HAProxy `frontend` (or the front half of `listen`)."""

    name: str
    mode: str
    binds: tuple[tuple[str, int], ...]
    default_backend: str
    timeout_client_s: float = INF
    timeout_http_keep_alive_s: float = INF
    timeout_http_request_s: float = INF
    maxconn: int = 0
    # (match, backend) of the `use_backend` rules, in order; match is "/prefix" (path_beg; "" is
    # every request), "=/path" (exact) or "host:name" (the Host header).
    routes: tuple[tuple[str, str], ...] = ()
    connection_mode: str = "keep-alive"  # | server-close | close
    disabled: bool = False
    stats: bool = False  # answers the statistics page itself
    metrics: bool = False  # answers Prometheus (http-request use-service prometheus-exporter)
    span: Span | None = None
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Resolver:
    """A HAProxy `resolvers` section (seconds). Source of defaults: manual 5.3.2 and measurement."""

    name: str
    nameservers: tuple[str, ...] = ()
    resolve_retries: int = 3
    timeout_resolve_s: float = 1.0
    timeout_retry_s: float = 1.0
    hold_valid_s: float = 10.0
    hold_nx_s: float = 30.0
    hold_timeout_s: float = 30.0
    hold_refused_s: float = 30.0
    hold_other_s: float = 30.0
    hold_obsolete_s: float = 0.0
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Balancer:
    """One HAProxy process: its configuration, resolved against the stack."""

    instance: str
    version: tuple[int, int, int]
    maxconn: int
    frontends: tuple[Frontend, ...]
    backends: tuple[Backend, ...]
    resolvers: tuple[Resolver, ...] = ()
    max_spread_checks_s: float = INF
    hard_stop_after_s: float = INF
    file: str = ""
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)
