"""Findings about Redis servers that need no simulation (HA180-HA189).

Source: reference/guide-audit.md, RD-5 to RD-9 and RD-11.
"""

from __future__ import annotations

from collections.abc import Iterable

from hasim.components.redis.config import RedisConfig
from hasim.errors import Finding
from hasim.model import Instance, Stack
from hasim.source import Origin, Span


def lint(stack: Stack) -> Iterable[Finding]:
    """All of them, instance by instance."""
    servers = [i for i in stack.instances if i.kind == "redis" and i.config is not None]
    for one in servers:
        config: RedisConfig = one.config
        others = any(s is not one for s in servers)
        yield from _persistence(one, config)
        if others and not (config.min_replicas and config.max_lag_s):
            yield _warn(
                "HA184", one, f"'{one.name}' takes writes that no replica receives", config,
                "min-replicas-to-write",
                "RD-7: min-replicas-to-write 1 and min-replicas-max-lag 10 bound what a partition"
                " loses",
            )  # fmt: skip
        yield from _memory(one, config)
        if config.password_span is not None:
            text = f"the password of '{one.name}' stands in its command (docker inspect, ps)"
            hint = "RD-11: put it into a configuration file or a secret"
            yield Finding("warning", "HA187", text, config.password_span, hint)
        if config.cluster_enabled and config.replicaof is not None:
            yield _warn(
                "HA189", one, f"'{one.name}': replicaof is not allowed in cluster mode", config,
                "cluster-enabled", "RD-8: Redis Cluster and Sentinel exclude each other",
            )  # fmt: skip


def _warn(code: str, one: Instance, text: str, config: RedisConfig, key: str, hint: str) -> Finding:
    origin: Origin | None = config.where.get(key)
    span = origin if isinstance(origin, Span) else one.span
    return Finding("warning", code, text, span, hint)


def _persistence(one: Instance, config: RedisConfig) -> Iterable[Finding]:
    """RD-5: a restart that nobody notices wipes every copy."""
    if config.appendonly or not one.restart or one.restart == "no":
        return
    text = f"'{one.name}' restarts by itself, and what came after its last snapshot is gone then"
    yield _warn(
        "HA183", one, text, config, "appendonly",
        "RD-5: appendonly yes; a master that is back within down-after is never replaced, and its"
        " replicas copy what it lost",
    )  # fmt: skip


def _memory(one: Instance, config: RedisConfig) -> Iterable[Finding]:
    if one.mem_limit_bytes and not config.maxmemory_bytes:
        text = f"'{one.name}' has a memory limit and no maxmemory"
        hint = "RD-9: the OOM killer takes it; maxmemory at about 60 % leaves room for a fork"
        yield _warn("HA186", one, text, config, "maxmemory", hint)
