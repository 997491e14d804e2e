"""The capacity table: given, needed, recommended, judged; sums that must fit the hosts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hasim.model import Host, Stack
from hasim.plan.capacity_types import Amount, Broken, HostSum, Left, Size, Sizing
from hasim.plan.sizing import Needed
from hasim.plan.sizing_groups import Group, groups

OVER = 1.5  # this many times what is recommended is over-provisioned
GIB = 1024**3


def table(
    before: Stack,
    after: Stack,
    users: float,
    needed: Needed,
    reached: Sequence[str],
    broken: Broken | None = None,
) -> Sizing:
    """before: the stack as it is; after: with as many replicas as are needed."""
    now = {g.name: g for g in groups(before)}
    rows = [_row(g, before, needed, reached) for g in now.values()]
    rows += _beyond(before, now)
    hosts = _per_host(before, after, rows)
    left = _left(before.hosts, rows)
    return Sizing(
        users=users,
        met=needed.met,
        recommended_met=needed.recommended_met,
        sizes=tuple(rows),
        hosts=hosts,
        left=left,
        missing=tuple(_missing(before.hosts, rows, hosts, left)),
        broken=broken,
    )


def given(group: Group, stack: Stack) -> tuple[Amount, str]:
    """What the compose files say; where they say nothing, what `sizes:` of stack.yaml says."""
    amount = group.given
    stated = next((s for s in stack.sizes if s.service == group.name), None)
    if amount.known or stated is None:
        return amount, group.source
    cores = amount.cores or stated.cores
    memory = amount.memory_bytes or stated.memory_bytes
    return Amount(amount.instances, cores, memory), stated.source or "stack.yaml"


def _row(group: Group, stack: Stack, needed: Needed, reached: Sequence[str]) -> Size:
    now, source = given(group, stack)
    least = needed.amounts.get(group.name)
    use = needed.use.get(group.name, (0.0, 0.0))
    row = Size(
        service=group.name,
        given=now,
        given_source=source,
        needed=least if use[0] > 0 else None,
        recommended=needed.recommended.get(group.name, now) if use[0] > 0 else now,
        judgement="as given",
        note="",
        use_cores=use[0],
        use_memory_bytes=use[1],
        containers=group.containers,
    )
    if row.needed is None:
        return replace(row, note=_why_not(group, stack, reached, needed.amounts))
    notes = []
    if now.cores > group.workers:
        text = f"{now.cores:g} cores, but {group.workers:g} workers use {group.workers:g} at most"
        notes.append(f"{text} (CP-4)")
    if row.needed.cores > group.workers:
        text = f"{group.workers:g} workers use {group.workers:g} cores at most"
        notes.append(f"{text}: more workers or instances are needed")
    stated = next((s for s in stack.sizes if s.service == group.name), None)
    if stated is not None and stated.instances != now.instances:
        notes.append(f"the table says {stated.instances} instances, the files {now.instances}")
    return replace(row, judgement=judge(now, row.needed, row.recommended), note="; ".join(notes))


def judge(now: Amount, needed: Amount, recommended: Amount) -> str:
    """under-provisioned: less than needed of anything; over-provisioned: half as much again as
    recommended, of cores or memory together, and less than that of neither; no limit: nobody says
    what is given.
    """
    if not now.known:
        return "no limit"
    short = now.cores < needed.cores - 1e-9 or now.memory_bytes < needed.memory_bytes
    if short or now.instances < needed.instances:
        return "under-provisioned"
    cores = now.total_cores >= OVER * recommended.total_cores - 1e-9
    memory = now.total_memory_bytes >= OVER * recommended.total_memory_bytes
    thin = now.total_cores < recommended.total_cores - 1e-9
    thin = thin or now.total_memory_bytes < recommended.total_memory_bytes
    return "over-provisioned" if (cores or memory) and not thin else "right"


def _why_not(
    group: Group, stack: Stack, reached: Sequence[str], needed: Mapping[str, Amount]
) -> str:
    if not set(group.services) & {s.name for s in stack.services if s.ops}:
        return "taken as given: its CPU and memory are not simulated"
    if not set(group.services) & set(reached):
        return "taken as given: no request of these scenarios reaches it"
    if all(not m.compose_service for m in group.members):
        return "taken as given: no compose file, so no limit to set"
    if not needed:
        return "not sized: no load passes"
    return "taken as given: it did nothing"


def _beyond(stack: Stack, now: Mapping[str, Group]) -> list[Size]:
    """Rows of `sizes:` about something that the files do not define."""
    out = []
    for one in stack.sizes:
        if one.service not in now:
            amount = Amount(one.instances, one.cores, one.memory_bytes)
            note = "taken as given: no file defines it"
            out.append(
                Size(one.service, amount, one.source or "stack.yaml", None, amount, "as given",
                     note, 0.0, 0.0, ())
            )  # fmt: skip
    return out


# ---- sums ----------------------------------------------------------------------------------------
def _per_host(before: Stack, after: Stack, rows: Sequence[Size]) -> tuple[HostSum, ...]:
    known = {r.service: r for r in rows}
    out = []
    for host in before.hosts:
        sums = []
        for stack, now in ((before, True), (after, False)):
            placed = [
                known[g.name].given if now else known[g.name].recommended
                for g in groups(stack)
                for m in g.members
                if m.host == host.name
            ]
            sums += [sum(a.cores for a in placed), sum(a.memory_bytes for a in placed)]
        cores, memory, wanted, wanted_memory = sums
        out.append(
            HostSum(
                host.name,
                host.cores,
                host.memory_bytes,
                round(cores, 6),
                int(memory),
                round(wanted, 6),
                int(wanted_memory),
            )
        )
    return tuple(out)


def totals(rows: Sequence[Size], what: str) -> tuple[float, int]:
    """(cores, bytes) of all rows together; what: given | needed | recommended."""
    amounts = [getattr(r, what) or r.given for r in rows]
    cores = round(sum(a.total_cores for a in amounts), 6)
    return cores, sum(a.total_memory_bytes for a in amounts)


def _left(hosts: Sequence[Host], rows: Sequence[Size]) -> tuple[Left, ...]:
    sums = {what: totals(rows, what) for what in ("given", "recommended")}
    out = []
    for lost in ("", *(h.name for h in hosts)):
        cores = sum(h.cores for h in hosts if h.name != lost)
        memory = sum(h.memory_bytes for h in hosts if h.name != lost)
        fits = {w: c <= cores + 1e-9 and m <= memory for w, (c, m) in sums.items()}
        out.append(Left(lost, cores, memory, fits["given"], fits["recommended"]))
    return tuple(out)


def _missing(
    hosts: Sequence[Host], rows: Sequence[Size], sums: Sequence[HostSum], left: Sequence[Left]
) -> list[str]:
    """What the hosts lack, in words."""
    out = []
    for one in (s for s in sums if not s.fits):
        text = f"{one.host} is to hold {one.recommended_cores:g} of its {one.cores:g} cores"
        memory = f"{_gib(one.recommended_memory_bytes)} of its {_gib(one.memory_bytes)}"
        out.append(f"{text} and {memory}")
    for one in sums:
        if one.given_cores > one.cores + 1e-9 or one.given_memory_bytes > one.memory_bytes:
            text = f"{one.host} is given {one.given_cores:g} of its {one.cores:g} cores"
            memory = f"{_gib(one.given_memory_bytes)} of its {_gib(one.memory_bytes)}"
            out.append(f"{text} and {memory}")
    short = [one for one in left if one.lost and not one.recommended_fits]
    for what in ("given", "recommended"):
        lost = [one for one in left if not getattr(one, f"{what}_fits")]
        if lost and (what == "given" or short):
            out.append(_advice(hosts, totals(rows, what), lost, what))
    return list(dict.fromkeys(out))


def _advice(
    hosts: Sequence[Host], total: tuple[float, int], lost: Sequence[Left], what: str
) -> str:
    """How large hosts must be, or how many, to hold everything after losing one."""
    cores, memory = total
    worst = min(lost, key=lambda one: (one.cores, one.memory_bytes))
    n = max(len(hosts), 2)
    each = f"{math.ceil(10 * cores / (n - 1) - 1e-6) / 10:g} cores and {_gib(memory / (n - 1))}"
    largest = max(hosts, key=lambda h: (h.cores, h.memory_bytes))
    many = max(math.ceil(cores / largest.cores), math.ceil(memory / largest.memory_bytes)) + 1
    gone = f"losing {worst.lost}" if worst.lost else "with all hosts"
    size = f"hosts of {largest.cores:g} cores and {_gib(largest.memory_bytes)}"
    have = f"{worst.cores:g} cores and {_gib(worst.memory_bytes)} are there"
    have = have if worst.cores else "nothing is there"
    text = f"{gone}, {have} for the {cores:g} cores and {_gib(memory)} {what}: "
    return text + f"{n} hosts of {each} each would hold it, or {many} {size}"


def _gib(size: float) -> str:
    return f"{math.ceil(10 * size / GIB - 1e-6) / 10:g} GiB"
