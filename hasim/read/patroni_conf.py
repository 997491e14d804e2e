"""patroni.yml and the PATRONI_* variables: one tree of values, each with the place that says it.

Source: Patroni documentation, "YAML configuration settings" and "Environment configuration
settings"; variables win over the file (patroni/config.py `_load_config_file`, 4.1.5). Nothing is
checked here for its meaning. Secrets are not kept: their value reads as SECRET.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hasim.errors import Finding
from hasim.read.yaml12 import Node, parse, plain
from hasim.source import Span

Path = tuple[str, ...]
SECRET = "********"
_SECRETS = ("password", "keyfile_password", "token", "auth_data", "sslpassword", "key_password")

_TOP = ("name", "namespace", "scope", "thread_pool_size", "thread_stack_size")
_SECTIONS: dict[str, tuple[str, ...]] = {
    "restapi": (
        "listen", "connect_address", "certfile", "keyfile", "keyfile_password", "cafile",
        "ciphers", "verify_client", "http_extra_headers", "https_extra_headers", "allowlist",
        "allowlist_include_members", "request_queue_size", "server_tokens", "username", "password",
    ),
    "ctl": (
        "insecure", "cacert", "certfile", "keyfile", "keyfile_password", "username", "password",
    ),
    "postgresql": (
        "listen", "connect_address", "proxy_address", "config_dir", "data_dir", "pgpass",
        "bin_dir", "bin_pg_ctl", "bin_initdb", "bin_pg_controldata", "bin_pg_basebackup",
        "bin_postgres", "bin_pg_isready", "bin_pg_rewind",
    ),
    "log": (
        "type", "level", "traceback_level", "format", "dateformat", "static_fields",
        "max_queue_size", "dir", "mode", "file_size", "file_num", "loggers",
        "deduplicate_heartbeat_logs",
    ),
    "raft": ("data_dir", "self_addr", "partner_addrs", "password", "bind_addr"),
}  # fmt: skip
_USERS = ("replication", "superuser", "rewind")
_DCS = ("etcd3", "etcd", "consul", "zookeeper", "exhibitor", "kubernetes", "citus")
_LISTS = ("hosts", "ports", "checks", "service_tags", "partner_addrs", "allowlist")
_OTHER = ("configuration", "config_variables", "loglevel", "logformat", "log_datefmt")


@dataclass(frozen=True, slots=True)
class Value:
    """A value as Python data; span is where it is written, key where its name is."""

    value: Any
    span: Span
    key: Span | None = None


@dataclass(frozen=True, slots=True)
class PatroniConf:
    """path -> value of every scalar and list; maps: where each section's name is written.

    file: the YAML file; insert: section -> place of its first key, where a new key can go, with
    the blanks before it.
    """

    file: str = ""
    values: Mapping[Path, Value] = field(default_factory=dict)
    maps: Mapping[Path, Span] = field(default_factory=dict)
    insert: Mapping[Path, tuple[Span, str]] = field(default_factory=dict)

    def get(self, *path: str) -> Value | None:
        """The value at a path, or None."""
        return self.values.get(path)

    def below(self, *path: str) -> Iterator[tuple[str, Value]]:
        """(name, value) of the scalars right below a section, in order."""
        n = len(path)
        for key, value in self.values.items():
            if key[:n] == path and len(key) == n + 1:
                yield key[n], value

    def has(self, *path: str) -> bool:
        """Is anything written at or below the path?"""
        n = len(path)
        return path in self.maps or any(key[:n] == path for key in self.values)


def read(
    text: str | None, file: str, environment: Mapping[str, tuple[str, Span]]
) -> tuple[PatroniConf, list[Finding]]:
    """The file (None: there is none) with the variables over it. Never raises."""
    values: dict[Path, Value] = {}
    maps: dict[Path, Span] = {}
    insert: dict[Path, tuple[Span, str]] = {}
    found: list[Finding] = []
    if text is not None:
        node, found = parse(text, file)
        if node is not None and node.kind != "map":
            message = "patroni.yml must be a map of sections"
            found.append(Finding("error", "HA195", message, node.span))
        elif node is not None:
            _walk(node, (), values, maps, insert)
    found += _environment(environment, values, maps)
    return PatroniConf(file if text is not None else "", values, maps, insert), found


def _walk(
    node: Node,
    path: Path,
    values: dict[Path, Value],
    maps: dict[Path, Span],
    insert: dict[Path, tuple[Span, str]],
) -> None:
    """YAML is no deeper than the parser's limit, so recursion is bounded."""
    for name, child in node.items():
        here = (*path, name)
        key = node.key(name)
        if path not in insert and node.style == "block" and key is not None:
            at = key.span
            place = Span(at.file, at.line, 1, at.start - at.col + 1, at.start - at.col + 1)
            insert[path] = place, " " * (at.col - 1)
        if child.kind == "map":
            maps[here] = key.span if key else child.span
            _walk(child, here, values, maps, insert)
        elif child.is_null:
            maps[here] = key.span if key else child.span
        else:
            value = SECRET if name in _SECRETS else plain(child)
            values[here] = Value(value, child.span, key.span if key else None)


def _environment(
    environment: Mapping[str, tuple[str, Span]], values: dict[Path, Value], maps: dict[Path, Span]
) -> list[Finding]:
    found = []
    for name, (text, span) in environment.items():
        if not name.startswith("PATRONI_") or not text:
            continue
        path = path_of(name)
        if path is None:
            message = f"Patroni knows no variable {name}"
            hint = "see Patroni's documentation, Environment configuration settings"
            found.append(Finding("warning", "HA195", message, span, hint))
        elif path:
            values[path] = Value(_env_value(path[-1], text), span)
            for i in range(1, len(path)):
                maps.setdefault(path[:i], span)
    return found


def path_of(variable: str) -> Path | None:
    """Where a variable goes; () for one that says nothing of the configuration, None: unknown.

    >>> path_of("PATRONI_ETCD3_HOSTS"), path_of("PATRONI_SUPERUSER_USERNAME")
    (('etcd3', 'hosts'), ('postgresql', 'authentication', 'superuser', 'username'))
    """
    rest = variable.removeprefix("PATRONI_").lower()
    if rest in _TOP:
        return (rest,)
    if rest in _OTHER:
        return ()
    section, _, name = rest.partition("_")
    if name in _SECTIONS.get(section, ()):
        if name in ("username", "password") and section in ("restapi", "ctl"):
            return section, "authentication", name
        if name.startswith("bin_") and name != "bin_dir":
            return section, "bin_name", name.removeprefix("bin_")
        return section, name
    if section in _USERS and name:
        return "postgresql", "authentication", section, name
    if section in _DCS and name:
        return section, name
    return None


def _env_value(name: str, text: str) -> Any:
    if name in _SECRETS:
        return SECRET
    if name in _LISTS and not text.strip().startswith(("-", "[")):
        return [part.strip().strip("'\"") for part in text.split(",") if part.strip()]
    node, _ = parse(text, "environment")
    return text if node is None or node.kind == "map" or node.is_null else plain(node)
