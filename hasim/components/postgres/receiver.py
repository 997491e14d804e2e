"""The standby's walreceiver and the loop that starts it again.

Source: xlogrecovery.c (WaitForWALToBecomeAvailable) and walreceiver.c of PostgreSQL 15.
"""

from __future__ import annotations

from collections.abc import Generator
from math import inf
from typing import TYPE_CHECKING, Any

from hasim.components.postgres.names import looked_up
from hasim.components.postgres.senders import Refusal, Request, Sender
from hasim.components.postgres.stream import Stream
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.base import Conn, Process
    from hasim.components.postgres.server import Postmaster


# Starting a walreceiver process and its failing connect. Source: measured, a promotion in 143 met
# such an attempt (reference/postgres-patroni.md 1.6), which comes every 5 s.
ATTEMPT_S = 0.035

_WORDS = {1: "Connection refused", 2: "Connection timed out", 3: "No route to host"}


class Receiver:
    """Keeps a standby connected to its upstream until halt() is called or the process ends."""

    def __init__(self, server: Postmaster, upstream: str):
        self.server, self.upstream = server, upstream
        self.stream: Stream | None = None
        self.trying = self.halted = False
        self.bell = server.world.env.event()
        self.ended = server.world.env.event()
        self._failed_ns: float = -inf
        self._said = ""
        self._turned = False
        self._tick = 0

    @property
    def active(self) -> bool:
        """Is the standby still looking for WAL?"""
        return not self.halted and self.server.p.alive

    def run(self) -> Generator:
        """Stream; when that ends wait out wal_retrieve_retry_interval since the last failure."""
        server = self.server
        retry_s = server.config.seconds("wal_retrieve_retry_interval")
        while self.active:
            yield from server.p.awake()
            if not self.active:
                break
            yield from self._attempt()
            wait_ns = self._failed_ns + retry_s * NS - server.now
            if wait_ns > 0 and self.active:
                yield self._any(server.world.env.timeout(round(wait_ns)))
            if self._turned:
                self._turned, self._failed_ns = False, -inf
            else:
                self._failed_ns = server.now
        if not self.ended.triggered:
            self.ended.succeed()

    def halt(self) -> Any:
        """No more WAL is wanted (promotion): an event that fires when the loop has ended.

        An attempt that is just failing is not interrupted, and its wait is slept out.
        """
        if self.trying:
            self.server.world.spawn(self._halt_late(), f"halt {self.server.name}")
        else:
            self._halt()
        return self.ended

    def _halt(self) -> None:
        self.halted = True
        self._close()
        self.ring()

    def _halt_late(self) -> Generator:
        yield self.bell  # the attempt's end rings
        if self.stream is None:
            wait_ns = self._failed_ns + self._retry_ns() - self.server.now
            yield self.server.world.env.timeout(max(0, round(wait_ns)))
        self._halt()

    def _retry_ns(self) -> float:
        return self.server.config.seconds("wal_retrieve_retry_interval") * NS

    def turn_to(self, upstream: str, cause: int) -> None:
        """Another upstream: the walreceiver is stopped and starts again."""
        if upstream != self.upstream or self.stream is None:
            self.upstream, self._turned, self._said = upstream, True, ""
            self.server.blame = cause if cause >= 0 else self.server.blame
            self._close()
            self.ring()

    def ring(self) -> None:
        """Wake the loop."""
        bell, self.bell = self.bell, self.server.world.env.event()
        bell.succeed()

    def _any(self, event: Any) -> Any:
        return self.server.world.env.any_of([event, self.bell])

    def _close(self) -> None:
        if self.stream is not None:
            stream, self.stream = self.stream, None
            stream.end()
            stream.conn.close()

    # ---- one attempt -------------------------------------------------------------------------
    def _attempt(self) -> Generator:
        server, upstream = self.server, self.upstream
        if not upstream:
            yield self.bell
            return
        if upstream not in server.machine.containers:
            self._fail(f'could not translate host name "{upstream}" to address')
            return
        why = yield from looked_up(self, upstream)
        if not self.active:
            return
        if why:
            self.trying = True
            yield server.world.seconds(ATTEMPT_S)
            self._tried(f"could not connect to the primary server: {why}")
            return
        dial = server.machine.connect(server.p, upstream)
        early = server.world.seconds(ATTEMPT_S)
        yield server.world.env.any_of([dial, self.bell])
        if not dial.triggered:
            return  # a connect that hangs is given up at once
        conn = dial.value
        if isinstance(conn, int):
            self.trying = True
            yield early
            self._tried(f"could not connect to the primary server: {_WORDS[conn]}")
            return
        yield from self._stream(conn)

    def _tried(self, why: str) -> None:
        self._fail(why)
        self.trying = False
        self.ring()

    def _fail(self, why: str) -> None:
        """The same failure every 5 s is one row."""
        if why != self._said:
            self._said = why
            self.server.log(why, f"upstream {self.upstream}", cause=self.server.blame)

    def _stream(self, conn: Conn) -> Generator:
        server = self.server
        self._tick += 1
        stream = Stream(server, self.upstream, conn, self._tick)
        request = self._request(stream)
        answer = conn.ask(lambda peer: _accept(peer, request, conn))
        yield server.world.env.any_of([answer, self.bell])
        if not self.active or not answer.triggered:
            conn.close()
            return
        if not isinstance(answer.value, Sender):
            conn.close()
            refusal = answer.value
            text = refusal.text if isinstance(refusal, Refusal) else "server closed the connection"
            server.disk.diverged = server.disk.diverged or "forked off" in text
            self._tried(text)
            return
        self._said, server.kept.seen_off = "", None
        self.stream = stream
        stream.begin(answer.value)
        text = f"started streaming WAL from primary on timeline {server.disk.timeline}"
        server.log(text, f"upstream {self.upstream}", cause=server.blame)
        self.ring()
        yield from self._watch(stream)

    def _request(self, stream: Stream) -> Request:
        server = self.server
        return Request(
            server.name, server.application, server.config.get("primary_slot_name"),
            server.disk.system, server.timeline, server.position(), stream,
            server.machine.containers[server.name].spec.host, server.user,
            bool(server.disk.diverged),
        )  # fmt: skip

    def _watch(self, stream: Stream) -> Generator:
        """Until the connection ends, wal_receiver_timeout passes in silence, or it is given up."""
        server = self.server
        while self.active and self.stream is stream:
            ends = [stream.conn.closed, stream.bell, self.bell]
            if stream.due_ns is not None:
                ends.append(server.world.env.timeout(max(0, stream.due_ns - server.now)))
            yield server.world.env.any_of(ends)
            yield from server.p.awake()
            if not self.active or self.stream is not stream:
                return
            if stream.conn.closed.triggered:
                self._lost(stream, "could not receive data from WAL stream")
            elif stream.due_ns is not None and server.now >= stream.due_ns:
                origin = server.config.origin("wal_receiver_timeout")
                self._lost(stream, "terminating walreceiver due to timeout", origin)

    def _lost(self, stream: Stream, why: str, origin: Any = None) -> None:
        server = self.server
        server.log(why, f"upstream {self.upstream}", cause=stream.cause, origin=origin)
        self._close()


def _accept(peer: Process, request: Request, conn: Conn) -> Sender | Refusal:
    server = peer.data
    if server is None or not hasattr(server, "senders"):
        return Refusal("the database system is starting up")
    return server.senders.accept(request, conn)
