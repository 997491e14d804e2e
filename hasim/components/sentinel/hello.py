"""Hello messages: how Sentinels meet, and how the new configuration spreads.

Only a message that tells its reader something new is an event.
Source: src/sentinel.c 7.0.15, sentinelSendHello and sentinelProcessHelloMessage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hasim.components.sentinel import failover, memory
from hasim.components.sentinel.entries import Entry, Master

if TYPE_CHECKING:
    from hasim.components.sentinel.daemon import Sentinel


@dataclass(frozen=True, slots=True)
class Hello:
    """One message: who, its epoch, and whom it takes for the master since which epoch."""

    id: str
    name: str
    address: int
    host: str
    port: int
    epoch: int
    master: str
    current: tuple[str, str, int]
    config_epoch: int


def publish(sentinel: Sentinel, master: Master, entry: Entry) -> None:
    """PUBLISH on an instance; its subscribers are the other Sentinels (or it is one itself)."""
    view, link = sentinel.view(entry), entry.link
    link.send("pub", sentinel.now, view, sentinel.delay(entry.name))
    if not link.open or not view.answers or view.process is not link.process:
        return
    if not sentinel.live:  # a tick that is made up for: nobody had anything to learn then
        return
    config, current = sentinel.config, master.current
    said = Hello(
        sentinel.id,
        sentinel.name,
        memory.address_of(sentinel, sentinel.name),
        config.announce_ip or sentinel.name,
        config.announce_port or config.port,
        sentinel.epoch,
        master.name,
        (current.name, current.host, current.port),
        master.epoch,
    )
    for fellow in memory.fellows(sentinel, master.name):
        if (entry.kind == "sentinel") != (entry.name == fellow.name):
            continue
        if not news(sentinel, master, fellow) or not _subscribed(fellow, entry):
            continue
        _deliver(sentinel, entry, fellow, said)


def _deliver(sentinel: Sentinel, entry: Entry, fellow: Sentinel, said: Hello) -> None:
    def arrives() -> None:
        fellow.receive(lambda: heard(fellow, said))

    if entry.kind == "sentinel":
        sentinel.send(entry.name, arrives)
    else:
        onward = fellow.delay(entry.name) // 2
        sentinel.send(entry.name, lambda: fellow._later(onward, arrives))


def _subscribed(fellow: Sentinel, entry: Entry) -> bool:
    if entry.kind == "sentinel":
        return True
    return any(
        e.name == entry.name and e.link.open and fellow.view(e).answers
        for m in fellow.masters
        for e in m.entries()
    )


def news(sentinel: Sentinel, master: Master, fellow: Sentinel) -> bool:
    """Would a hello of this Sentinel change anything in the other one?"""
    if fellow.id == sentinel.id:
        return False  # it takes the message for its own
    its = next((m for m in fellow.masters if m.name == master.name), None)
    if its is None or not fellow.p.alive:
        return False
    return sentinel.epoch > fellow.epoch or master.epoch > its.epoch or find(its, sentinel) is None


def find(master: Master, other: Sentinel) -> Entry | None:
    """The entry under which a master's sentinels have this one."""
    address = memory.address_of(other, other.name)
    for entry in master.sentinels:
        if (entry.id, entry.name, entry.address) == (other.id, other.name, address):
            return entry
    return None


def heard(sentinel: Sentinel, said: Hello) -> None:
    """sentinelProcessHelloMessage."""
    master = next((m for m in sentinel.masters if m.name == said.master), None)
    if master is None or said.id == sentinel.id:
        return
    _meet(sentinel, master, said)
    if said.epoch > sentinel.epoch:
        sentinel.epoch = said.epoch
        sentinel.flush()
        sentinel.say("+new-epoch", str(said.epoch), master.mark)
    if master.epoch < said.config_epoch:
        master.epoch = said.config_epoch
        name, host, port = said.current
        if name != master.entry.name:
            text = f"sentinel {said.id} {said.host} {said.port} @ {master.name}"
            sentinel.say("+config-update-from", text, master.mark)
            failover.switch(sentinel, master, name, host, port)


def _meet(sentinel: Sentinel, master: Master, said: Hello) -> None:
    """A Sentinel that was not known under this id and address."""
    here = (said.id, said.name, said.address)
    if any((e.id, e.name, e.address) == here for e in master.sentinels):
        return
    same = [e for e in master.sentinels if e.id == said.id]
    if same:
        master.sentinels = [e for e in master.sentinels if e.id != said.id]
        sentinel.say("+sentinel-address-switch", f"master {master.name} {said.id}", master.mark)
    else:
        # another identity at a known address replaces the old one (measured on 7.0.15)
        for entry in tuple(master.sentinels):
            if (entry.name, entry.address) == (said.name, said.address):
                sentinel.say("+sentinel-invalid-addr", master.describe(entry), master.mark)
                master.sentinels.remove(entry)
    peer = memory.entry(sentinel, "sentinel", said.name, said.host, said.port)
    peer.id, peer.address = said.id, said.address
    master.sentinels.append(peer)
    sentinel.say("+sentinel", master.describe(peer), master.mark)
    sentinel.flush()
