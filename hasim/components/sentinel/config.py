"""What a Sentinel's file says: whom it watches, its times, what it refuses, whether it can save.

Source: sentinel.conf of Redis 7.0 (defaults), src/sentinel.c 7.0.15 (sentinelHandleConfiguration,
queueSentinelConfig: options are applied before `monitor`, wherever they stand).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from hasim.model import Dist
from hasim.read.redis_conf import Line
from hasim.read.redis_values import Values, whole, yes
from hasim.source import Default, Origin, Span

MANUAL = "Redis 7.0 sentinel.conf"
DOWN_AFTER_MS = 30_000  # source: sentinel.c, sentinel_default_down_after
FAILOVER_TIMEOUT_MS = 180_000  # source: sentinel.c, sentinel_default_failover_timeout
PARALLEL_SYNCS = 1  # source: sentinel.c, SENTINEL_DEFAULT_PARALLEL_SYNCS

REBOOT = "master-reboot-down-after-period"  # source: sentinel.conf 7.0, default 0 (off)

# One rewrite of the configuration file with its two fsyncs, s. Source: measured on an idle
# machine, 1 to 3 ms (reference/redis-sentinel.md section 6).
REWRITE = Dist("lognormal", 0.002, 0.35)

# What 7.0.15 says of a host name without `resolve-hostnames yes` (guide audit, RD-1).
NO_NAMES = "Can't resolve instance hostname."

_OPTIONS = """announce-ip announce-port announce-hostnames resolve-hostnames myid current-epoch
    deny-scripts-reconfig sentinel-user sentinel-pass"""
_GLOBAL = frozenset(_OPTIONS.split())
_MASTER_OPTIONS = """down-after-milliseconds failover-timeout parallel-syncs auth-pass auth-user
    notification-script client-reconfig-script rename-command config-epoch leader-epoch
    known-replica known-slave known-sentinel master-reboot-down-after-period"""
_PER_MASTER = frozenset(_MASTER_OPTIONS.split())


@dataclass(frozen=True, slots=True)
class MasterConfig:
    """One `sentinel monitor` with its options."""

    name: str
    host: str
    port: int
    quorum: int
    down_after_ms: int = DOWN_AFTER_MS
    failover_timeout_ms: int = FAILOVER_TIMEOUT_MS
    parallel_syncs: int = PARALLEL_SYNCS
    reboot_ms: int = 0  # master-reboot-down-after-period; 0: however long it loads
    auth: bool = False  # auth-pass is stated (its value is nobody's business)
    span: Span | None = None
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class SentinelConfig:
    """One Sentinel. state: where what it rewrites is kept, "" if it cannot save; two containers
    with one state file share an identity. rewrite: the time of one save.
    """

    port: int = 26379
    masters: tuple[MasterConfig, ...] = ()
    resolve_hostnames: bool = False
    announce_hostnames: bool = False
    announce_ip: str = ""
    announce_port: int = 0
    myid: str = ""
    file: str = ""
    state: str = ""
    single_file: bool = False
    rewrite: Dist = REWRITE
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


def meaning(values: Values, state: str, single_file: bool) -> SentinelConfig:
    """The configuration out of the directives. What Sentinel refuses is in values.refused."""
    v = values.value
    _options(values)
    resolve = v("resolve-hostnames", "no", MANUAL, yes, patch=False)
    return SentinelConfig(
        port=v("port", "26379", MANUAL, whole(1, 65535), "restart", patch=False),
        masters=_masters(values, resolve),
        resolve_hostnames=resolve,
        announce_hostnames=v("announce-hostnames", "no", MANUAL, yes, patch=False),
        announce_ip=v("announce-ip", "", MANUAL, str, patch=False),
        announce_port=v("announce-port", "0", MANUAL, whole(0, 65535), patch=False),
        myid=v("myid", "", MANUAL, str, patch=False),
        file=values.file,
        state=state,
        single_file=single_file,
        where=values.where,
    )


def _options(values: Values) -> None:
    """`sentinel <option> <value>` of the whole process becomes a directive of that name."""
    for line in tuple(values.lines):
        if line.name == "sentinel" and line.args and line.args[0].lower() in _GLOBAL:
            values.lines.append(Line(line.words[1:]))


def _masters(values: Values, resolve: bool) -> tuple[MasterConfig, ...]:
    out: dict[str, MasterConfig] = {}
    for line in values.lines:
        if line.name != "sentinel" or not line.args:
            continue
        word = line.args[0].lower()
        if word == "monitor":
            one = _monitor(values, line, resolve, out)
            if one is not None:
                out[one.name] = one
        elif word in _PER_MASTER:
            if len(line.args) < 3 or line.args[1] not in {**out, **_named(values)}:
                values.refuse("No such master with specified name", line.span)
        elif word not in _GLOBAL:
            values.refuse(f"Unrecognized sentinel configuration statement '{word}'", line.span)
    return tuple(_timed(values, one) for one in out.values())


def _named(values: Values) -> dict[str, None]:
    """Names of all `monitor` lines: they are read before the lines that refer to them."""
    return {
        x.args[1]: None
        for x in values.lines
        if x.name == "sentinel" and len(x.args) > 1 and x.args[0].lower() == "monitor"
    }


def _monitor(
    values: Values, line: Line, resolve: bool, seen: Mapping[str, MasterConfig]
) -> MasterConfig | None:
    """One `sentinel monitor <name> <host> <port> <quorum>`, or why Sentinel refuses it."""
    if len(line.args) != 5:
        values.refuse("wrong number of arguments for 'sentinel monitor'", line.span)
        return None
    _, name, host, port, quorum = line.args
    if not quorum.isdecimal() or int(quorum) < 1:
        values.refuse("Quorum must be 1 or greater.", line.words[5].span)
    elif not port.isdecimal() or not 0 < int(port) < 65536:
        values.refuse("Invalid port number", line.words[4].span)
    elif name in seen:
        values.refuse("Duplicated master name.", line.words[2].span)
    elif not resolve and not is_ip(host):
        # RD-1: measured, 7.0.15 refuses names that resolve, too
        values.refuse(NO_NAMES, line.span)
        return MasterConfig(name, host, int(port), int(quorum), span=line.span)
    else:
        return MasterConfig(name, host, int(port), int(quorum), span=line.span)
    return None


def is_ip(text: str) -> bool:
    """Is it a literal address (which Sentinel takes without resolving)?"""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _timed(values: Values, one: MasterConfig) -> MasterConfig:
    """The master's own times; each is a knob that `SENTINEL SET` changes in a running process."""
    made = {}
    for word, field_name, default in (
        ("down-after-milliseconds", "down_after_ms", DOWN_AFTER_MS),
        ("failover-timeout", "failover_timeout_ms", FAILOVER_TIMEOUT_MS),
        ("parallel-syncs", "parallel_syncs", PARALLEL_SYNCS),
    ):
        made[field_name] = _option(values, one, word, default)
    knob = f"{one.name}.quorum"
    line = next(x for x in values.lines if x.span == one.span)
    values.knob(knob, str(one.quorum), line.words[5].span, "sentinel-set")
    if _given(values, one, REBOOT):
        made["reboot_ms"] = _option(values, one, REBOOT, 0, least=0)
    auth = _given(values, one, "auth-pass") is not None
    where = {k: values.where[f"{one.name}.{k}"] for k in ("down-after-milliseconds",)}
    where |= {k: values.where[f"{one.name}.{k}"] for k in ("failover-timeout", "parallel-syncs")}
    return MasterConfig(
        one.name, one.host, one.port, one.quorum, auth=auth, span=one.span, where=where, **made
    )


def _given(values: Values, one: MasterConfig, word: str) -> Line | None:
    """The last line that sets this option of the master."""
    found = None
    for line in values.lines:
        args = line.args
        if line.name == "sentinel" and len(args) == 3 and args[0].lower() == word:
            found = line if args[1] == one.name else found
    return found


def _option(values: Values, one: MasterConfig, word: str, default: int, least: int = 1) -> int:
    found = _given(values, one, word)
    value, origin = default, None
    if found is not None:
        try:
            value, origin = whole(least, 2**62)(found.args[2]), found.words[3].span
        except ValueError:
            values.refuse("negative or zero time parameter.", found.words[3].span)
    name = f"{one.name}.{word}"
    values.where[name] = origin or Default(f"{MANUAL}: {default}")
    values.knob(name, str(value), values.where[name], "sentinel-set", f"sentinel {word} {one.name}")
    return value
