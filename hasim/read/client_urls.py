"""The URLs by which services reach each other, out of their environment.

`redis://:pw@h:6379/0`, `redis+sentinel://h1:26379,h2:26379/mymaster`,
`postgresql://u:p@h1:5432,h2:5432/db?target_session_attrs=read-write&connect_timeout=2`,
`http://h:8009`. A password never leaves this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

# Ports that a URL without one means. Source: RFC 9110 (http), PostgreSQL manual 34.1.2 (5432),
# Redis and Sentinel configuration (6379, 26379).
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "postgres": 5432, "redis": 6379,
         "rediss": 6379, "redis+sentinel": 26379, "sentinel": 26379}  # fmt: skip

# Source: PostgreSQL 14 manual, 34.1.2 "target_session_attrs": these two ask for a writable session
WRITABLE = ("read-write", "primary")
# Source: PostgreSQL manual, 34.1.2 "connect_timeout": the minimum is 2 s, 0 and less mean none
LEAST_CONNECT_TIMEOUT_S = 2

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[^/@\s]*@)?"
    r"(?P<hosts>[A-Za-z0-9_.:\[\]-]+(?:,(?![a-z][a-z0-9+.-]*://)[A-Za-z0-9_.:\[\]-]+)*)"
    r"(?:/(?P<path>[^?\s\"']*))?(?:\?(?P<query>[^\s\"']*))?"
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_.-]+)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class ClientUrl:
    """One URL: where it leads, in its order, and how the client chooses among the hosts."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    master: str = ""  # of a Sentinel URL
    read_write: bool = False
    connect_timeout_s: float = float("inf")

    @property
    def is_sentinel(self) -> bool:
        """Do its hosts tell where the master is?"""
        return self.scheme in ("redis+sentinel", "sentinel")

    @property
    def is_libpq(self) -> bool:
        """Is it read by libpq (or a driver that follows its rules)?"""
        return self.scheme.partition("+")[0] in ("postgresql", "postgres")


def client_urls(environment: Mapping[str, str | None]) -> list[ClientUrl]:
    """Every URL of an environment, in its order; what names no known port is passed over."""
    found = []
    for value in environment.values():
        for m in _URL.finditer(value or ""):
            scheme = m["scheme"]
            port = PORTS.get(scheme, PORTS.get(scheme.partition("+")[0], 0))
            hosts = []
            for one in m["hosts"].split(","):
                part = _HOST.fullmatch(one)
                if part and (part[2] or port):
                    hosts.append((part[1], int(part[2] or port)))
            if hosts:
                found.append(_made(scheme, tuple(hosts), m["path"] or "", m["query"] or ""))
    return found


def _made(scheme: str, hosts: tuple[tuple[str, int], ...], path: str, query: str) -> ClientUrl:
    words = dict(parse_qsl(query))
    master = ""
    if scheme in ("redis+sentinel", "sentinel"):
        master = words.get("service_name", "") or path.partition("/")[0]
    timeout = words.get("connect_timeout", "")
    timeout_s = float("inf")
    if timeout.isdigit() and int(timeout) > 0:
        timeout_s = float(max(LEAST_CONNECT_TIMEOUT_S, int(timeout)))
    writes = words.get("target_session_attrs", "any") in WRITABLE
    return ClientUrl(scheme, hosts, master, writes, timeout_s)
