"""One replication connection: what silence, a stopped process or a closed socket do to it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.base import Conn, Process
    from hasim.components.postgres.senders import Sender
    from hasim.components.postgres.server import Postmaster

SILENT, NO_ROUTE = 2, 3  # source: hasim.sim.world, what a connect meets


class Stream:
    """Both ends of one connection between a walsender and a walreceiver.

    due_ns: when wal_receiver_timeout expires; None while messages arrive.
    """

    def __init__(self, server: Postmaster, upstream: str, conn: Conn, tick: int):
        self.server, self.upstream, self.conn, self.tick = server, upstream, conn, tick
        self.flow = server.flow
        self.sender: Sender | None = None
        self.due_ns: int | None = None
        self.bell = server.world.env.event()
        self.cause = server.blame
        self._by_path = False
        self._unwatch: list[Any] = []

    @property
    def peer(self) -> Postmaster:
        """The server at the other end."""
        return self.conn.server.data

    def begin(self, sender: Sender) -> None:
        """WAL flows. An empty standby has just been filled by a base backup."""
        self.sender = sender
        server, peer = self.server, self.peer
        if server.disk.timeline < peer.disk.timeline:
            server.disk.timeline = peer.disk.timeline
        machine = server.machine
        for pair in ((server.name, self.upstream), (self.upstream, server.name)):
            self._unwatch.append(machine.watch(*pair, lambda _: self.check()))
        if self.flow is not None:
            self.flow.link_bytes_s = self._link_bytes_s
            if self.flow.received is None:
                self.flow.set_base(peer.position())
            self.flow.start(lambda t_ns: peer.sent(t_ns, self._late_ns()))
        self.check()

    def end(self) -> None:
        """This connection is over: nothing arrives by it any more."""
        for call in self._unwatch:
            call()
        self._unwatch.clear()
        if self.flow is not None and self.sender is not None:
            self.flow.stop()

    def check(self) -> None:
        """Something about the path or one of the two processes has changed."""
        if self.sender is None or self.conn.closed.triggered or not self._unwatch:
            return
        path, stopped = self._path_silent(), self._stopped()
        if (path or stopped) and self.due_ns is None:
            self._fall_silent(path)
        elif not (path or stopped) and self.due_ns is not None and not self._by_path:
            self._resume()

    def _path_silent(self) -> bool:
        """Packets vanish; the death of a process is told by its kernel, not by silence."""
        machine = self.server.machine
        for end in (self.conn.client, self.conn.server):
            host = machine.containers[end.instance].spec.host
            if not end.alive:
                return not machine.powered(host)
            if not machine.powered(host):
                return True
        looks = (
            machine.reach(self.server.name, self.upstream),
            machine.reach(self.upstream, self.server.name),
        )
        return any(look in (SILENT, NO_ROUTE) for look in looks)

    def _stopped(self) -> bool:
        return self.conn.client.frozen or self.conn.server.frozen

    def _fall_silent(self, by_path: bool) -> None:
        if self.flow is not None:
            self.flow.stop()
        server, peer, sender = self.server, self.peer, self.sender
        assert sender is not None
        self._by_path = by_path
        self.cause = max(server.blame, self._blame())
        limit_s = server.config.seconds("wal_receiver_timeout")
        heard_ns, replied_ns = self._last_heard(peer)
        due = heard_ns + limit_s * NS
        self.due_ns = round(due) if due < inf else 2**62
        if not sender.gone and peer.p.alive:
            peer.senders.fall_silent(sender, replied_ns, self.cause)
        if by_path:  # both ends go on sending: a retransmit tells that the silence is over
            self.conn.tell(lambda _: self._heard(), back=True)
            self.conn.tell(_nothing)
        self._ring()

    def _blame(self) -> int:
        containers = self.server.machine.containers
        return max(containers[n].blame for n in (self.server.name, self.upstream))

    def _last_heard(self, peer: Postmaster) -> tuple[int, int]:
        """Last message at the standby, last reply at the sender: the latest commit's, or the idle
        chatter (standby reports every wal_receiver_status_interval, pings at half its timeout).
        """
        server, world = self.server, self.server.world
        name = f"chatter {server.name}"
        every_s = server.config.seconds("wal_receiver_status_interval")
        half_s = server.config.seconds("wal_receiver_timeout") / 2
        tick = self.tick * 1024 + (self.sender.epoch if self.sender else 0)
        replied = server.now - min(every_s, 3600.0) * NS * world.draw(name, tick, "status")
        heard = server.now - min(half_s, 3600.0) * NS * world.draw(name, tick, "ping")
        latest = peer.last_commit_ns()
        if latest is not None:
            heard = max(heard, latest + self._late_ns())
            replied = max(replied, latest + 2 * self._late_ns())
        return min(server.now, round(heard)), min(server.now, round(replied))

    def _heard(self) -> None:
        self._by_path = False
        self.check()

    def _resume(self) -> None:
        """Messages arrive again; what waited in the sockets comes first."""
        self.due_ns = None
        peer, sender = self.peer, self.sender
        assert sender is not None
        if self.flow is not None and not sender.gone:
            self.flow.start(lambda t_ns: peer.sent(t_ns, self._late_ns()))
        if not sender.gone and peer.p.alive:
            peer.senders.speak_again(sender, self.server.blame)
        self._ring()

    def _ring(self) -> None:
        bell, self.bell = self.bell, self.server.world.env.event()
        bell.succeed()

    def _late_ns(self) -> int:
        return round(self.server.machine.one_way_s(self.upstream, self.server.name) * NS)

    def _link_bytes_s(self) -> float:
        return self.server.link_bytes_s(self.upstream)


def _nothing(_: Process) -> None:
    """A status message that nobody waits for; if the peer is gone, it brings back a reset."""
