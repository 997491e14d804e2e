"""Findings about Sentinels that need no simulation (HA180-HA189, HA250).

Source: reference/guide-audit.md, RD-2, RD-3 and RD-10; reference/redis-sentinel.md sections 12, 15.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hasim.components.sentinel.config import MasterConfig
from hasim.errors import Finding
from hasim.model import Instance, Stack


def lint(stack: Stack) -> Iterable[Finding]:
    """All of them."""
    sentinels = [i for i in stack.instances if i.kind == "sentinel" and i.config is not None]
    for one in sentinels:
        if one.config.single_file:
            text = f"'{one.name}' cannot save its state: {one.config.file} is mounted as a file"
            hint = "RD-2: mount a writable directory of its own; identity and votes are kept there"
            yield Finding("warning", "HA181", text, one.span, hint)
    yield from _shared(sentinels)
    groups: dict[str, list[tuple[Instance, MasterConfig]]] = {}
    for one in sentinels:
        for master in one.config.masters:
            groups.setdefault(master.name, []).append((one, master))
    for name, group in groups.items():
        yield from _majority(name, group)
        yield from _passwords(stack, name, group)


def _shared(sentinels: list[Instance]) -> Iterable[Finding]:
    seen: dict[str, str] = {}
    for one in sentinels:
        state = one.config.state
        if state and state in seen:
            text = f"'{one.name}' and '{seen[state]}' write the same {one.config.file}"
            hint = "they get one myid and never see each other: one directory each (RD-2)"
            yield Finding("warning", "HA182", text, one.span, hint)
        elif state:
            seen[state] = one.name


def _passwords(
    stack: Stack, name: str, group: list[tuple[Instance, MasterConfig]]
) -> Iterable[Finding]:
    """Source: measured on 7.0.15: PING is answered NOAUTH, +sdown follows after down-after."""
    for one, master in group:
        target = one.peers.get(f"{master.host}:{master.port}", "")
        redis = next((i.config for i in stack.instances if i.name == target), None)
        if redis is not None and getattr(redis, "password", False) and not master.auth:
            text = f"'{one.name}' has no auth-pass for '{name}', which asks for a password"
            hint = "it takes the master for down for ever; hasim lets it in: mend it first"
            yield Finding("warning", "HA250", text, master.span, hint)


def _majority(name: str, group: list[tuple[Instance, MasterConfig]]) -> Iterable[Finding]:
    count = len(group)
    majority = count // 2 + 1
    for _, master in group:
        if master.quorum > count:
            text = f"quorum {master.quorum} of '{name}' is more than its {count} Sentinels"
            yield Finding("warning", "HA188", text, master.span, "O_DOWN is never reached")
    first = group[0][1]
    if count < 3:
        text = f"{count} Sentinel{'s' * (count > 1)} for '{name}': none may be lost"
        hint = "a majority of all Sentinels ever seen must vote; use three"
        yield Finding("warning", "HA188", text, first.span, hint)
    hosts = Counter(one.host for one, _ in group)
    host, most = hosts.most_common(1)[0]
    if count - most < max(majority, first.quorum) and count > 1:
        text = f"{most} of {count} Sentinels of '{name}' are on {host}: with it goes the majority"
        yield Finding("warning", "HA185", text, first.span, "RD-10: one Sentinel on each host")
