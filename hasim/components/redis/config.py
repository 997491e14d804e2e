"""What the files of a Redis server say: redis.conf, flags of its command, and what it refuses.

Source: redis.conf of Redis 7.0 (defaults), src/config.c 7.0.15 (ranges, names).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hasim.errors import did_you_mean
from hasim.read.redis_conf import Line, Start
from hasim.read.redis_values import Values, size_bytes, whole, yes
from hasim.source import Default, Origin, Span

MANUAL = "Redis 7.0 redis.conf"
# When a snapshot is written, if no `save` says otherwise. Source: redis.conf, SNAPSHOTTING.
SAVE = ((3600, 1), (300, 100), (60, 10000))
# Every directive of redis-server 7.0.15. Source: `CONFIG GET *`, and config.c for those that are
# not parameters.
_NAMES = """acl-pubsub-default aclfile acllog-max-len active-defrag-cycle-max
    active-defrag-cycle-min active-defrag-ignore-bytes active-defrag-max-scan-fields
    active-defrag-threshold-lower active-defrag-threshold-upper active-expire-effort activedefrag
    activerehashing always-show-logo aof-disable-auto-gc aof-load-truncated
    aof-rewrite-incremental-fsync aof-timestamp-enabled aof-use-rdb-preamble aof_rewrite_cpulist
    appenddirname appendfilename appendfsync appendonly auto-aof-rewrite-min-size
    auto-aof-rewrite-percentage bgsave_cpulist bind bind-source-addr bio_cpulist
    busy-reply-threshold client-output-buffer-limit client-query-buffer-limit
    cluster-allow-pubsubshard-when-down cluster-allow-reads-when-down
    cluster-allow-replica-migration cluster-announce-bus-port cluster-announce-hostname
    cluster-announce-ip cluster-announce-port cluster-announce-tls-port cluster-config-file
    cluster-enabled cluster-link-sendbuf-limit cluster-migration-barrier cluster-node-timeout
    cluster-port cluster-preferred-endpoint-type cluster-replica-no-failover
    cluster-replica-validity-factor cluster-require-full-coverage cluster-slave-no-failover
    cluster-slave-validity-factor crash-log-enabled crash-memcheck-enabled daemonize databases
    dbfilename dir disable-thp dynamic-hz enable-debug-command enable-module-command
    enable-protected-configs hash-max-listpack-entries hash-max-listpack-value
    hash-max-ziplist-entries hash-max-ziplist-value hll-sparse-max-bytes hz ignore-warnings
    io-threads io-threads-do-reads jemalloc-bg-thread latency-monitor-threshold latency-tracking
    latency-tracking-info-percentiles lazyfree-lazy-eviction lazyfree-lazy-expire
    lazyfree-lazy-server-del lazyfree-lazy-user-del lazyfree-lazy-user-flush lfu-decay-time
    lfu-log-factor list-compress-depth list-max-listpack-size list-max-ziplist-size logfile
    loglevel lua-time-limit masterauth masteruser maxclients maxmemory maxmemory-clients
    maxmemory-eviction-tenacity maxmemory-policy maxmemory-samples min-replicas-max-lag
    min-replicas-to-write min-slaves-max-lag min-slaves-to-write no-appendfsync-on-rewrite
    notify-keyspace-events oom-score-adj oom-score-adj-values pidfile port proc-title-template
    propagation-error-behavior protected-mode proto-max-bulk-len rdb-del-sync-files
    rdb-save-incremental-fsync rdbchecksum rdbcompression repl-backlog-size repl-backlog-ttl
    repl-disable-tcp-nodelay repl-diskless-load repl-diskless-sync repl-diskless-sync-delay
    repl-diskless-sync-max-replicas repl-ping-replica-period repl-ping-slave-period repl-timeout
    replica-announce-ip replica-announce-port replica-announced replica-ignore-disk-write-errors
    replica-ignore-maxmemory replica-lazy-flush replica-priority replica-read-only
    replica-serve-stale-data replicaof requirepass sanitize-dump-payload save server_cpulist
    set-max-intset-entries set-proc-title shutdown-on-sigint shutdown-on-sigterm shutdown-timeout
    slave-announce-ip slave-announce-port slave-ignore-maxmemory slave-lazy-flush slave-priority
    slave-read-only slave-serve-stale-data slaveof slowlog-log-slower-than slowlog-max-len
    socket-mark-id stop-writes-on-bgsave-error stream-node-max-bytes stream-node-max-entries
    supervised syslog-enabled syslog-facility syslog-ident tcp-backlog tcp-keepalive timeout
    tls-auth-clients tls-ca-cert-dir tls-ca-cert-file tls-cert-file tls-ciphers tls-ciphersuites
    tls-client-cert-file tls-client-key-file tls-client-key-file-pass tls-cluster
    tls-dh-params-file tls-key-file tls-key-file-pass tls-port tls-prefer-server-ciphers
    tls-protocols tls-replication tls-session-cache-size tls-session-cache-timeout
    tls-session-caching tracking-table-max-keys unixsocket unixsocketperm
    zset-max-listpack-entries zset-max-listpack-value zset-max-ziplist-entries
    zset-max-ziplist-value include rename-command user loadmodule"""
NAMES = frozenset(_NAMES.split())


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """One Redis server. replicaof: (address, port), None for a master. save: (seconds, writes)."""

    port: int = 6379
    replicaof: tuple[str, int] | None = None
    appendonly: bool = False
    appendfsync: str = "everysec"
    save: tuple[tuple[int, int], ...] = SAVE
    stop_writes: bool = True  # when a snapshot has failed
    ignore_disk_errors: bool = False  # a replica that cannot write to disk goes on
    min_replicas: int = 0
    max_lag_s: int = 10
    repl_timeout_s: int = 60
    ping_period_s: int = 10
    diskless: bool = True
    diskless_delay_s: int = 5
    backlog_bytes: int = 2**20
    maxmemory_bytes: int = 0
    maxmemory_policy: str = "noeviction"
    priority: int = 100
    announce_ip: str = ""
    announce_port: int = 0
    cluster_enabled: bool = False
    shutdown_timeout_s: int = 10
    tcp_backlog: int = 511
    maxclients: int = 10000
    password: bool = False
    password_span: Span | None = None  # of a password that `docker inspect` shows
    file: str = ""  # its configuration file, in the stack's folder
    rewritable: bool = False  # CONFIG REWRITE can save a new role in that file
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


def meaning(values: Values, start: Start, rewritable: bool) -> RedisConfig:
    """The configuration out of the directives. What Redis refuses is in values.refused."""
    _known(values)
    v = values.value
    return RedisConfig(
        port=v("port", "6379", MANUAL, whole(0, 65535), "restart", patch=False),
        replicaof=_replicaof(values),
        appendonly=v("appendonly", "no", MANUAL, yes),
        appendfsync=v("appendfsync", "everysec", MANUAL, _one_of("always", "everysec", "no")),
        save=_save(values),
        stop_writes=v("stop-writes-on-bgsave-error", "yes", MANUAL, yes),
        ignore_disk_errors=v("replica-ignore-disk-write-errors", "no", MANUAL, yes),
        min_replicas=v(
            "min-replicas-to-write min-slaves-to-write", "0", MANUAL, whole(0, 2**31 - 1)
        ),
        max_lag_s=v("min-replicas-max-lag min-slaves-max-lag", "10", MANUAL, whole(0, 2**31 - 1)),
        repl_timeout_s=v("repl-timeout", "60", MANUAL, whole(1, 2**31 - 1)),
        ping_period_s=v(
            "repl-ping-replica-period repl-ping-slave-period", "10", MANUAL, whole(1, 2**31 - 1)
        ),
        diskless=v("repl-diskless-sync", "yes", MANUAL, yes),
        diskless_delay_s=v("repl-diskless-sync-delay", "5", MANUAL, whole(0, 2**31 - 1)),
        backlog_bytes=v("repl-backlog-size", "1mb", MANUAL, size_bytes),
        maxmemory_bytes=v("maxmemory", "0", MANUAL, size_bytes),
        maxmemory_policy=v("maxmemory-policy", "noeviction", MANUAL, str.lower),
        priority=v("replica-priority slave-priority", "100", MANUAL, whole(0, 2**31 - 1)),
        announce_ip=v("replica-announce-ip slave-announce-ip", "", MANUAL, str, patch=False),
        announce_port=v(
            "replica-announce-port slave-announce-port", "0", MANUAL, whole(0, 65535), patch=False
        ),
        cluster_enabled=v("cluster-enabled", "no", MANUAL, yes, patch=False),
        shutdown_timeout_s=v("shutdown-timeout", "10", MANUAL, whole(0, 2**31 - 1)),
        tcp_backlog=v("tcp-backlog", "511", MANUAL, whole(0, 2**31 - 1), "restart"),
        maxclients=v("maxclients", "10000", MANUAL, whole(1, 2**31 - 1)),
        password=values.last(("requirepass",)) is not None,
        password_span=_in_command(start),
        file=values.file,
        rewritable=rewritable,
        where=values.where,
    )


def _known(values: Values) -> None:
    for line in values.lines:
        if line.name not in NAMES:
            hint = did_you_mean(line.name, NAMES)
            reason = f"bad directive '{line.name[:40]}'" + (f" ({hint})" if hint else "")
            values.refuse(reason, line.words[0].span)


def _one_of(*words: str):
    def read_value(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(text)
        return text.lower()

    return read_value


def _replicaof(values: Values) -> tuple[str, int] | None:
    line = values.last(("replicaof", "slaveof"))
    values.where["replicaof"] = line.span if line else Default(f"{MANUAL}: a master")
    if line is None:
        return None
    args = line.args
    if args and tuple(a.lower() for a in args) in (("no", "one"), ("",)):
        return None
    try:
        host, port = args
        return host, whole(1, 65535)(port)
    except ValueError:
        values.refuse("replicaof needs a host and a port", line.span)
        return None


def _save(values: Values) -> tuple[tuple[int, int], ...]:
    """`save <seconds> <changes> ...`; `save ""` forgets what came before."""
    found = [x for x in values.lines if x.name == "save"]
    values.where["save"] = (
        found[-1].span if found else Default(f"{MANUAL}: 3600 1 300 100 60 10000")
    )
    if not found:
        return SAVE
    rules: list[tuple[int, int]] = []
    for line in found:
        if line.args == ("",):
            rules = []
            continue
        rules += _rules(values, line)
    return tuple(rules)


def _rules(values: Values, line: Line) -> list[tuple[int, int]]:
    try:
        numbers = [whole(0, 2**31 - 1)(a) for a in line.args]
    except ValueError:
        numbers = []
    if not numbers or len(numbers) % 2:
        values.refuse("invalid save parameters", line.span)
        return []
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _in_command(start: Start) -> Span | None:
    for line in start.flags:
        if line.name in ("requirepass", "masterauth") and len(line.words) > 1:
            return line.words[0].span
    return None
