"""pg_hba.conf: who may connect, from where, to what; with spans. No name is resolved.

Source: PostgreSQL manual 21.1 "The pg_hba.conf File"; hba.c (check_hba, check_db) of 15.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from hasim.errors import Finding, did_you_mean
from hasim.source import Span, Text

TYPES = ("local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc")
METHODS = (
    "trust", "reject", "scram-sha-256", "md5", "password", "gss", "sspi", "ident", "peer", "ldap",
    "radius", "cert", "pam", "bsd", "oauth",
)  # fmt: skip
_WORD = re.compile(r'"[^"\n]*"|[^\s",#]+|,')


@dataclass(frozen=True, slots=True)
class HbaRule:
    """One line. address: "" for local; "all", a network, a name, samehost or samenet."""

    kind: str
    databases: tuple[str, ...]
    users: tuple[str, ...]
    address: str
    method: str
    span: Span | None = None


def read(text: str, file: str) -> tuple[list[HbaRule], list[Finding]]:
    """The rules in their order and every line that the server would not take."""
    source = Text(file, text)
    rules: list[HbaRule] = []
    found: list[Finding] = []
    at = 0
    for line in text.split("\n"):
        fields = _fields(line)
        if fields and not fields[0][0].startswith("include"):
            span = source.span(at + len(line) - len(line.lstrip()), at + len(line.rstrip()))
            rule = rule_of(fields, span)
            if isinstance(rule, Finding):
                found.append(rule)
            else:
                rules.append(rule)
        at += len(line) + 1
    return rules, found


def _fields(line: str) -> list[list[str]]:
    """Blank-separated fields; each a comma-separated list."""
    fields: list[list[str]] = []
    joined = False
    at = 0
    for match in _WORD.finditer(line.partition("#")[0]):
        if match[0] == ",":
            joined = True
        elif fields and (joined or (match.start() == at and line[at - 1 : at] == ",")):
            fields[-1].append(match[0])
            joined = False
        else:
            fields.append([match[0]])
        at = match.end()
    return fields


def rule_of(fields: list[list[str]], span: Span | None) -> HbaRule | Finding:
    """The rule of one line, or what is wrong with it."""
    kind = fields[0][0]
    if kind not in TYPES:
        hint = did_you_mean(kind, TYPES)
        return Finding("warning", "HA191", f"invalid connection type '{kind}'", span, hint)
    need = 4 if kind == "local" else 5
    words = [[_bare(w) for w in field] for field in fields]
    if kind != "local" and len(words) > 5 and re.fullmatch(r"[\d.]+|[\da-fA-F:]+", words[4][0]):
        address, method = f"{words[3][0]}/{words[4][0]}", words[5][0]
    elif len(words) < need:
        return Finding("warning", "HA191", f"end-of-line in a '{kind}' line", span)
    else:
        address, method = ("" if kind == "local" else words[3][0]), words[need - 1][0]
    if method not in METHODS:
        hint = did_you_mean(method, METHODS)
        text = f"invalid authentication method '{method}'"
        return Finding("warning", "HA191", text, span, hint)
    return HbaRule(kind, tuple(fields[1]), tuple(fields[2]), address, method, span)


def _bare(word: str) -> str:
    return word.strip('"')


def replication_rule(rules: list[HbaRule], user: str) -> HbaRule | None:
    """The first rule that a replication connection of the user from another host meets.

    The database field must say `replication`: `all` does not mean it. A quoted "replication" is
    a database of that name.
    """
    for rule in rules:
        if rule.kind == "local" or "replication" not in rule.databases:
            continue
        named = any(u == "all" or _bare(u) == user or u.startswith(("+", "/")) for u in rule.users)
        if named and _from_elsewhere(rule.address):
            return rule
    return None


def loopback_rule(rules: list[HbaRule], user: str, database: str) -> HbaRule | None:
    """The first rule that an ordinary TCP connection from 127.0.0.1 without TLS meets."""
    for rule in rules:
        if rule.kind not in ("host", "hostnossl", "hostnogssenc"):
            continue
        named = any(u == "all" or _bare(u) == user or u.startswith(("+", "/")) for u in rule.users)
        there = any(d in ("all", "sameuser", "samerole") or _bare(d) == database
                    or d.startswith("/") for d in rule.databases)  # fmt: skip
        if named and there and _from_loopback(rule.address):
            return rule
    return None


def _from_loopback(address: str) -> bool:
    """Does 127.0.0.1 fit? A name may mean it."""
    if address in ("all", "samehost", "samenet"):
        return True
    try:
        net = ip_network(address, strict=False)
    except ValueError:
        return True
    return ip_address("127.0.0.1") in net if net.version == 4 else False


def _from_elsewhere(address: str) -> bool:
    """May another host's address fit? Names and networks may; loopback and samehost do not."""
    if address == "samehost" or address in ("localhost", "ip6-localhost"):
        return False
    try:
        return not ip_network(address, strict=False).is_loopback
    except ValueError:
        return True
