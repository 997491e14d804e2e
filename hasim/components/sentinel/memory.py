"""What a Sentinel's file remembers, and who else watches the same master.

Source: src/sentinel.c 7.0.15, sentinelFlushConfig and rewriteConfigSentinelOption; traps measured
in reference/redis-sentinel.md section 15 (file mounts, shared files).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hasim.components.sentinel.entries import Entry, Master

if TYPE_CHECKING:
    from hasim.components.sentinel.daemon import Sentinel


@dataclass(frozen=True, slots=True)
class SavedMaster:
    """What a file says of one master."""

    name: str
    host: str
    port: int
    epoch: int
    leader_epoch: int
    slaves: tuple[tuple[str, str, int], ...]
    sentinels: tuple[tuple[str, str, str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """A Sentinel's file as it was last written."""

    id: str
    epoch: int
    masters: dict[str, SavedMaster]


def wake_up(sentinel: Sentinel) -> str:
    """Read the file: the masters, what is known of them, and the identity that is returned."""
    config, machine = sentinel.config, sentinel.machine
    key = f"sentinel:{config.state}"
    saved: Saved | None = machine.disks.get(key) if config.state else None
    if saved is None:
        number = int(sentinel.world.draw(sentinel.stream, 0, "myid") * 2**52)
        drawn = f"{number:013x}{sentinel.name.encode().hex():0>27}"[:40]
        saved = Saved(config.myid or drawn, 0, {})
        if config.state:
            machine.disks[key] = saved
    sentinel.epoch = saved.epoch
    for one in config.masters:
        known = saved.masters.get(one.name)
        name = known.name if known else machine.peer(sentinel.name, one.host, one.port)
        if name not in machine.containers:
            continue
        host, port = (known.host, known.port) if known else (one.host, one.port)
        first = entry(sentinel, "master", name, host, port)
        master = Master(one, first)
        if known:
            _recall(sentinel, master, known)
        sentinel.masters.append(master)
        sentinel.say("+monitor", f"{master.describe(first)} quorum {one.quorum}")
    return saved.id


def _recall(sentinel: Sentinel, master: Master, known: SavedMaster) -> None:
    master.epoch, master.leader_epoch = known.epoch, known.leader_epoch
    for name, host, port in known.slaves:
        master.slaves[name] = entry(sentinel, "slave", name, host, port)
    for peer_id, name, host, port, address in known.sentinels:
        peer = entry(sentinel, "sentinel", name, host, port)
        peer.id, peer.address = peer_id, address
        master.sentinels.append(peer)


def address_of(sentinel: Sentinel, name: str) -> int:
    """The address of a container; 0 where it stays the same when the container is made again."""
    container = sentinel.machine.containers[name]
    fixed = sentinel.fixed.get(name)
    if fixed is None:
        spec = container.spec
        fixed = spec.network_mode == "host" or bool(getattr(spec.config, "announce_ip", ""))
        sentinel.fixed[name] = fixed
    return 0 if fixed else container.address


def entry(
    sentinel: Sentinel, kind: str, name: str, host: str, port: int, like: Entry | None = None
) -> Entry:
    """A new entry for an instance, at the address of another one or at its present one."""
    made = Entry(kind, name, host, port, sentinel.now)
    if like is not None:
        made.address, made.by_name = like.address, like.by_name
    else:  # what is found, not configured, is known by its address unless a name is announced
        made.address = address_of(sentinel, name)
        made.by_name = sentinel.named(host) and (kind == "master" or host != name)
    return made


def save(sentinel: Sentinel) -> None:
    """What a rewrite leaves on disk; nothing where the file cannot be replaced."""
    if not sentinel.config.state:
        return
    masters = {
        m.name: SavedMaster(
            m.current.name,
            m.current.host,
            m.current.port,
            m.epoch,
            m.leader_epoch,
            tuple(
                (s.name, s.host, s.port)
                for s in (*m.slaves.values(), m.entry)
                if s.name != m.current.name
            ),
            tuple((s.id, s.name, s.host, s.port, s.address) for s in m.sentinels),
        )
        for m in sentinel.masters
    }
    key = f"sentinel:{sentinel.config.state}"
    sentinel.machine.disks[key] = Saved(sentinel.id, sentinel.epoch, masters)


def names_of(sentinel: Sentinel) -> list[str]:
    """Every other container of this kind that watches a master of the same name."""
    if sentinel.others is not None:
        return sentinel.others
    mine = {m.name for m in sentinel.config.masters}
    sentinel.others = [
        name
        for name, one in sentinel.machine.containers.items()
        if one.spec.kind == "sentinel"
        and name != sentinel.name
        and one.spec.config is not None
        and mine & {m.name for m in one.spec.config.masters}
    ]
    return sentinel.others


def fellows(sentinel: Sentinel, master: str) -> list[Sentinel]:
    """The other Sentinel processes that run and watch this master."""
    out = []
    for name in names_of(sentinel):
        p = sentinel.machine.containers[name].process
        data = p.data if p is not None else None
        if data is not None and any(m.name == master for m in data.config.masters):
            out.append(data)
    return out


def watch_fellows(sentinel: Sentinel) -> None:
    """Hear of what changes in the others: their opinions, epochs, whom they know."""
    for name in names_of(sentinel):
        if name not in sentinel.views:
            sentinel._watch(name)
