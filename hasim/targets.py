"""What a fault's target selects: names from the files and groups to instances or hosts.

l09-api-gateway-1            an instance, by container or compose service name
l09-api-gateway/l09-1        what stands behind a server line (backend/server)
gateway[1]  gateway[1,3]     members of a group, of a service or of a scaled compose service
gateway[*]  gateway[?]       all of them at once; one at random per replication
host:host-a  host:a,b  host:*
users                        the balancers that a kind of user enters through
redis:master                 who has that role when the fault strikes; postgres:standby[?] one of
                             several; patroni:leader, etcd:leader, keepalived:master
container:NAME               as the docker command finds it: by the container's name alone
vip:10.0.0.10                the balancer on the host that answers for the address at that moment
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hasim.errors import Finding, did_you_mean
from hasim.model import Balancer, Stack
from hasim.source import Span

# Roles by kind of software: the words of its own manual for who leads and who follows.
ROLES = {
    "postgres": ("primary", "standby"),
    "patroni": ("leader", "replica"),
    "etcd": ("leader", "follower"),
    "redis": ("master", "replica"),
    "keepalived": ("master", "backup"),
}
LEADS = ("primary", "leader", "master")
WHOLE = ("rolling-update", "dns", "reload")  # verbs that take a group without an index


@dataclass(frozen=True, slots=True)
class Selection:
    """kind: instance | host | stack | role | vip. random: one of `names` per replication, else all.

    role and vip: `names` are those that it may be; who it is depends on the moment of the fault.
    """

    kind: str
    names: tuple[str, ...]
    random: bool = False
    role: str = ""


def resolve(
    stack: Stack, target: str, verb: str = "", span: Span | None = None
) -> tuple[Selection | None, list[Finding]]:
    """What `target` selects in the stack, or None and why not."""
    if not target:
        return Selection("stack", tuple(i.name for i in stack.instances)), []
    if target.startswith("host:"):
        return _hosts(stack, target[5:], span)
    if target.startswith("vip:"):
        return _vip(stack, target[4:], span)
    if target.startswith("container:"):
        return _container(stack, target[10:], span)
    if role := re.fullmatch(r"([a-z]+):([a-z]+)(\[\?\]|\[\*\])?", target):
        return _role(stack, role[1], role[2], role[3] == "[?]", span)
    if "/" in target:
        return _server(stack, target, span)
    match = re.fullmatch(r"([^\[\]]+)(?:\[([^\[\]]*)\])?", target)
    name, index = (match[1], match[2]) if match else (target, None)
    members, several = _members(stack, name)
    if not members:
        return None, [_unknown(stack, target, span)]
    if index is None:
        if several and len(members) > 1 and verb not in WHOLE:
            hint = f"{name}[1], {name}[*] all at once or {name}[?] one at random"
            text = f"'{name}' is {len(members)} instances: which?"
            return None, [Finding("error", "HA104", text, span, hint)]
        return Selection("instance", members), []
    if index in ("*", "?"):
        return Selection("instance", members, random=index == "?"), []
    return _indexed(name, index, members, span)


def _indexed(
    name: str, index: str, members: tuple[str, ...], span: Span | None
) -> tuple[Selection | None, list[Finding]]:
    """Members by number, counted from 1."""
    chosen = []
    for part in index.split(","):
        part = part.strip()
        if not (part.isascii() and part.isdigit() and 1 <= int(part[:9]) <= len(members)):
            text = f"'{name}[{index}]': numbers go from 1 to {len(members)}"
            return None, [Finding("error", "HA104", text, span, f"or {name}[*], {name}[?]")]
        chosen.append(members[int(part) - 1])
    return Selection("instance", tuple(dict.fromkeys(chosen))), []


def _members(stack: Stack, name: str) -> tuple[tuple[str, ...], bool]:
    """(instances that a name stands for, whether it is the name of several)."""
    named = tuple(i.name for i in stack.instances if i.name == name)
    if named:
        return named, False
    composed = tuple(i.name for i in stack.instances if i.compose_service == name)
    if composed:
        return composed, len(composed) > 1
    if name in stack.groups:
        return stack.groups[name], True
    of_service = tuple(i.name for i in stack.instances if i.service == name)
    if of_service:
        return of_service, True
    via = {e.name: e.via for e in stack.entries}.get(name)
    behind = (r.balancer for r in stack.op_entries.values() if r.via == via and r.balancer)
    return tuple(dict.fromkeys(behind)), False


def _hosts(stack: Stack, text: str, span: Span | None) -> tuple[Selection | None, list[Finding]]:
    known = [h.name for h in stack.hosts]
    if text in ("*", "?"):
        return Selection("host", tuple(known), random=text == "?"), []
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    wrong = [n for n in names if n not in known]
    found = [
        Finding("error", "HA104", f"host '{n}' is not defined", span, did_you_mean(n, known))
        for n in wrong
    ]
    return (None if wrong else Selection("host", names)), found


def _container(stack: Stack, name: str, span: Span | None) -> tuple[Selection, list[Finding]]:
    """What `docker stop NAME` stops; nothing if no container is called so (CT-1)."""
    known = [i.name for i in stack.instances if not i.inside]
    if name in known:
        return Selection("instance", (name,)), []
    text = f"no container is called '{name}': docker says so and does nothing"
    return Selection("instance", ()), [Finding("warning", "HA220", text, span, _like(name, known))]


def _like(name: str, known: list[str]) -> str:
    """The container that was meant, perhaps."""
    return did_you_mean(name, known) or next((f"or {k}?" for k in known if name in k), "")


def _role(
    stack: Stack, kind: str, role: str, one: bool, span: Span | None
) -> tuple[Selection | None, list[Finding]]:
    """Every instance of a kind that may have the role."""
    names = tuple(i.name for i in stack.instances if i.kind == kind)
    if kind not in ROLES or not names:
        known = [f"{k}:{ROLES[k][0]}" for k in ROLES if any(i.kind == k for i in stack.instances)]
        text = f"nothing of this stack is a '{kind}' with roles"
        hint = did_you_mean(f"{kind}:{role}", known) or " ".join(known)
        return None, [Finding("error", "HA104", text, span, hint)]
    if role not in ROLES[kind] and role not in LEADS:
        text = f"'{kind}' has no role '{role}'"
        return None, [Finding("error", "HA104", text, span, " or ".join(ROLES[kind]))]
    role = ROLES[kind][0] if role in LEADS else role
    return Selection("role", names, one, role), []


def _vip(stack: Stack, address: str, span: Span | None) -> tuple[Selection | None, list[Finding]]:
    """The balancers on the hosts that may hold a virtual address."""
    moved = moved_addresses(stack)
    if address not in moved:
        text = f"no keepalived of this stack moves '{address}'"
        return None, [Finding("error", "HA104", text, span, did_you_mean(address, moved))]
    names = tuple(b.instance for b in stack.balancers if _host(stack, b) in moved[address])
    return Selection("vip", names, role=address), []


def _host(stack: Stack, balancer: Balancer) -> str:
    return next((i.host for i in stack.instances if i.name == balancer.instance), "")


def moved_addresses(stack: Stack) -> dict[str, tuple[str, ...]]:
    """Virtual addresses and the hosts between which keepalived moves them."""
    found: dict[str, tuple[str, ...]] = {}
    for one in stack.instances:
        if one.kind == "keepalived" and one.config is not None:
            for address in (a for v in one.config.instances for a in v.addresses):
                found[address] = (*found.get(address, ()), one.host)
    return found


def _server(stack: Stack, target: str, span: Span | None) -> tuple[Selection | None, list[Finding]]:
    behind = {
        f"{b.name}/{s.name}": s.instance
        for balancer in stack.balancers
        for b in balancer.backends
        for s in b.servers
    }
    if target not in behind:
        return None, [_unknown(stack, target, span)]
    if not behind[target]:
        text = f"nothing of this stack stands behind '{target}'"
        return None, [Finding("error", "HA104", text, span)]
    return Selection("instance", (behind[target],)), []


def _unknown(stack: Stack, target: str, span: Span | None) -> Finding:
    hint = did_you_mean(target, [t for t, _ in list_targets(stack)])
    text = f"target '{target}' is not defined"
    return Finding("error", "HA104", text, span, hint or "hasim list targets shows all of them")


def list_targets(stack: Stack) -> list[tuple[str, str]]:
    """(target, what it selects) for everything that can be named, in file order."""
    rows = [(i.name, f"{i.service or i.image or i.kind} on {i.host}") for i in stack.instances]
    rows += [
        (f"{b.name}/{s.name}", s.instance or "nothing")
        for balancer in stack.balancers
        for b in balancer.backends
        for s in b.servers
    ]
    names = [i.name for i in stack.instances]
    several = [*stack.groups, *(s.name for s in stack.services)]
    several += [i.compose_service for i in stack.instances if i.compose_service]
    for name in dict.fromkeys(several):
        members, many = _members(stack, name)
        if many and name not in names:
            rows += [(f"{name}[{i}]", member) for i, member in enumerate(members, 1)]
            rows += [(f"{name}[*]", ", ".join(members)), (f"{name}[?]", "one of them at random")]
        elif members and name not in names:
            rows.append((name, members[0]))
    rows += [(f"host:{h.name}", _on(stack, h.name)) for h in stack.hosts]
    rows += [(e.name, ", ".join(_members(stack, e.name)[0])) for e in stack.entries]
    for kind, (leads, follows) in ROLES.items():
        of_kind = [i.name for i in stack.instances if i.kind == kind]
        if of_kind:
            rows.append((f"{kind}:{leads}", f"at that moment: {' or '.join(of_kind)}"))
        if len(of_kind) > 1:
            rows.append((f"{kind}:{follows}", "all of them at that moment"))
            rows.append((f"{kind}:{follows}[?]", "one of them at random"))
    for address, where in moved_addresses(stack).items():
        rows.append((f"vip:{address}", f"the balancer that holds it: on {' or '.join(where)}"))
    return [(target, what) for target, what in dict(reversed(rows)).items()][::-1]


def _on(stack: Stack, host: str) -> str:
    return ", ".join(i.name for i in stack.instances if i.host == host)
