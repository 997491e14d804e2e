"""`resolvers` sections (manual 5.3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hasim.components.haproxy.config_values import RESOLVER_DEFAULTS, Notes, manual
from hasim.model import Backend, Resolver
from hasim.read import haproxy_words as hw
from hasim.read.haproxy import Line, Section, Tree
from hasim.source import Origin

_RESOLVER_WHERE = {
    name: manual("5.3.2", f"{key}: {text}") for key, (text, name) in RESOLVER_DEFAULTS.items()
}


def resolvers(tree: Tree, backends: Iterable[Backend], notes: Notes) -> tuple[Resolver, ...]:
    """All `resolvers` sections, and `default` if servers use it without one.

    HAProxy makes that one itself at start, out of /etc/resolv.conf (since 2.6).
    """
    sections = [s for s in tree.sections if s.kind == "resolvers"]
    out = [_resolver(s, notes) for s in sections]
    used = {s.resolvers for b in backends for s in b.servers}
    if "default" in used - {r.name for r in out}:
        where: dict[str, Origin] = dict(_RESOLVER_WHERE)
        where["nameservers"] = manual("5.3.2", "resolvers default: /etc/resolv.conf")
        out.append(Resolver("default", where=where))
    return tuple(out)


def _resolver(section: Section, notes: Notes) -> Resolver:
    """A `resolvers` section (manual 5.3.2)."""
    made = Resolver(section.name)
    where: dict[str, Origin] = dict(_RESOLVER_WHERE)
    nameservers: list[str] = []
    for line in section.lines:
        first = line.texts[0]
        if not line.live or first not in hw.RESOLVERS:
            continue
        if first == "nameserver":
            if (rest := notes.arguments(line, 1, 2, 64)) is not None:
                nameservers.append(rest[1].text)
                where.setdefault("nameservers", rest[1].span)
        elif first in ("hold", "timeout"):
            made = _resolver_time(line, made, where, notes)
        elif first == "resolve_retries":
            rest = notes.arguments(line, 1, 1, 1)
            number = notes.count(rest[0], first, 1) if rest else None
            if rest and number is not None:
                made, where[first] = replace(made, resolve_retries=number), rest[0].span
    return replace(made, nameservers=tuple(nameservers), where=where)


def _resolver_time(line: Line, made: Resolver, where: dict[str, Origin], notes: Notes) -> Resolver:
    first = line.texts[0]
    known = hw.HOLDS if first == "hold" else ("resolve", "retry")
    if (rest := notes.arguments(line, 1, 2, 2)) is None:
        return made
    if not notes.one_of(rest[0], known, first):
        return made
    value = notes.duration(rest[1], f"{first} {rest[0].text}")
    if value is None:
        return made
    name = RESOLVER_DEFAULTS[f"{first} {rest[0].text}"][1]
    where[name] = rest[1].span
    return replace(made, **{name: value})  # type: ignore[arg-type]
