"""Findings about PostgreSQL that need no simulation; each rule has its own code.

Source: reference/guide-audit.md, PG-1 to PG-17.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from hasim.components.postgres.config import PostgresConfig
from hasim.components.postgres.parameters import PARAMETERS
from hasim.components.postgres.sync import parse_rule
from hasim.errors import Finding
from hasim.source import Span

if TYPE_CHECKING:
    from hasim.model import Instance, Stack

BACKUP = 2  # source: pg_basebackup manual, -X stream: a second connection for the WAL


def lint(stack: Stack | None) -> Iterable[Finding]:
    """Every warning of every server of the stack that its own files configure."""
    if stack is None:
        return
    servers = {i.name: i for i in stack.instances if isinstance(i.config, PostgresConfig)}
    yield from _shared_volumes(stack)
    for one in servers.values():
        upstream = upstream_of(one)
        if upstream in servers:
            yield from _standby(one, servers[upstream])
    for one in servers.values():
        standbys = [s for s in servers.values() if upstream_of(s) == one.name]
        if standbys:
            yield from _primary(one, standbys)
        if not upstream_of(one):
            yield from _pools(stack, one)


def upstream_of(one: Instance) -> str:
    """The instance that a standby follows, as far as the files say; "" for a primary."""
    if one.config.upstream is None:
        return ""
    host, port = one.config.upstream
    return one.peers.get(f"{host}:{port}", "")


def _warn(code: str, text: str, span: Span | None, hint: str = "") -> Finding:
    return Finding("warning", code, text, span, hint)


def _place(one: Instance, name: str) -> Span | None:
    origin = one.config.origin(name)
    return origin if isinstance(origin, Span) else one.span


# ---- a standby and its primary -------------------------------------------------------------------
def _standby(one: Instance, primary: Instance) -> Iterator[Finding]:
    config: PostgresConfig = one.config
    user = config.backup.user if config.backup is not None else "postgres"
    origin = primary.config.refuses(user)
    if origin is not None:
        text = f"'{primary.name}' has no pg_hba line for replication by '{user}' (PG-4)"
        hint = f"host replication {user} samenet scram-sha-256; `all` does not mean replication"
        yield _warn("HA230", text, origin if isinstance(origin, Span) else primary.span, hint)
    text = f"nothing promotes '{one.name}' when '{primary.name}' fails (PG-1)"
    yield _warn("HA231", text, one.span, "run both servers below Patroni, or promote by hand")
    if not config.get("primary_slot_name") and primary.config.get("wal_keep_size") == 0:
        text = (
            f"'{one.name}' has no replication slot and '{primary.name}' keeps no WAL for it: after"
        )
        text += " a longer stop it is cut off for good (PG-8)"
        hint = "primary_slot_name with max_slot_wal_keep_size, or wal_keep_size"
        yield _warn("HA232", text, _place(primary, "wal_keep_size"), hint)
    for name in ("max_connections", "max_wal_senders"):
        mine, theirs = config.get(name), primary.config.get(name)
        if mine < theirs:
            text = f"'{one.name}': {name} = {mine} is lower than on the primary ({theirs}):"
            yield _warn("HA233", f"{text} a hot standby refuses that", _place(one, name))


def _primary(one: Instance, standbys: list[Instance]) -> Iterator[Finding]:
    config: PostgresConfig = one.config
    yield from _synchronous(one, standbys)
    if not config.get("wal_log_hints") and not config.data_checksums:
        text = f"'{one.name}' cannot be rewound after a failover: no wal_log_hints, no checksums"
        yield _warn("HA234", f"{text} (PG-11)", _place(one, "wal_log_hints"), "wal_log_hints = on")
    slots = [s for s in standbys if s.config.get("primary_slot_name")]
    if slots and config.get("max_slot_wal_keep_size") == float("inf"):
        text = f"a replica that is gone fills the disk of '{one.name}': its slot keeps all WAL"
        yield _warn("HA235", text, _place(one, "max_slot_wal_keep_size"), "max_slot_wal_keep_size")
    for name in ("max_wal_senders", "max_replication_slots"):
        value, usual = config.get(name), int(PARAMETERS[name].default)
        if value < usual:
            text = f"{name} = {value} is less than the default {usual}"
            if name == "max_wal_senders" and len(standbys) + BACKUP >= value:
                text += f": {len(standbys)} standby and one base backup use all of them"
            yield _warn("HA194", f"{text} (PG-9)", _place(one, name), "leave the default")


def _synchronous(one: Instance, standbys: list[Instance]) -> Iterator[Finding]:
    config: PostgresConfig = one.config
    text = str(config.get("synchronous_standby_names"))
    try:
        rule = parse_rule(text)
    except ValueError:
        return
    place = _place(one, "synchronous_standby_names")
    if not rule.names:
        text = f"'{one.name}' replicates asynchronously: a failover loses acknowledged writes"
        yield _warn("HA236", f"{text} (PG-10)", place, "state an RPO, or synchronous_standby_names")
    elif len(standbys) <= rule.number:
        text = f"commits on '{one.name}' stall whenever one of {len(standbys)} standbys is away"
        yield _warn("HA237", text, place, "one standby more than the number that must answer")


# ---- volumes and pools ---------------------------------------------------------------------------
def _shared_volumes(stack: Stack) -> Iterator[Finding]:
    """Two postmasters on one directory; the lock file does not protect across containers."""
    seen: dict[str, Instance] = {}
    for one in stack.instances:
        volume = getattr(one.config, "data_volume", "")
        if volume and volume in seen:
            text = f"'{one.name}' and '{seen[volume].name}' share the volume"
            text += f" {volume.partition(':')[2]} as their data directory (PG-15)"
            yield _warn("HA238", text, one.span, "one volume per server")
        elif volume:
            seen[volume] = one


def _pools(stack: Stack, one: Instance) -> Iterator[Finding]:
    """Every pool of every instance may be full at once."""
    limit = one.config.get("max_connections") - one.config.get("superuser_reserved_connections")
    names = {one.name, one.compose_service, one.service}
    for backend in (b for balancer in stack.balancers for b in balancer.backends):
        if any(s.instance == one.name for s in backend.servers):
            names.add(backend.name)
    total, parts = 0, []
    for service in stack.services:
        count = sum(i.service == service.name for i in stack.instances)
        for pool in service.pools:
            if pool.to in names and count:
                total += count * (pool.size + pool.overflow)
                parts.append(f"{count} x {service.name} ({pool.size}+{pool.overflow})")
    if total > limit:
        text = f"pools may open {total} connections to '{one.name}', which takes {limit} (PG-17):"
        hint = "a smaller pool, or a pooler between them"
        yield _warn("HA239", f"{text} {', '.join(parts)}", _place(one, "max_connections"), hint)
