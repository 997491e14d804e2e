"""One Sentinel's connection to one instance: pings, replies, silence, reconnects.

Nothing here is an event: a Link is brought up to date when its Sentinel looks at it. Times are ns.
Source: src/sentinel.c 7.0.15 (instanceLink, sentinelReconnectInstance, sentinelSendPing,
sentinelPingReplyCallback); reference/redis-sentinel.md sections 2, 3 and 13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hasim.sim.world import CONNECTS, NO_ROUTE, REFUSED, SILENT
from hasim.tcp import NO_ROUTE_NS, SYN_NS, retransmit_ns

MS = 1_000_000  # source: definition, ns in a millisecond
NEVER = -(10**18)  # source: our choice, before every time
FAR = 10**18  # source: our choice, after every time

PING_NS = 1000 * MS  # source: sentinel.c, sentinel_ping_period
PUBLISH_NS = 2000 * MS  # source: sentinel.c, sentinel_publish_period
RECONNECT_NS = 1000 * MS  # source: sentinel.c, SENTINEL_PING_PERIOD (constant, not down-after)
MIN_LINK_NS = 15_000 * MS  # source: sentinel.c, SENTINEL_MIN_LINK_RECONNECT_PERIOD

TICK_MAX_NS = 200 * MS  # source: our choice, more than two timer periods (100 ms at most)

# How much longer a reply to INFO takes than one to PING or PUBLISH of the same tick. Source:
# assumption; it comes after them (no race of section 8 in 600 measured switches).
INFO_NS = 100_000
# While nothing is answered each tick sends another INFO and PUBLISH, at most 100 commands wait, and
# the age of INFO counts from the reply to the last one. Source: sentinelSendPeriodicCommands,
# SENTINEL_MAX_PENDING_COMMANDS; measured on 7.0.15, 6 links after 9 s of SIGSTOP: 7 to 16 ms for
# all of it (3 with 2.5 % of a CPU: 122 to 320 ms).
MAX_PENDING = 100
PER_TICK = 2
TICK_NS = 71_300_000
SERVED_NS = 100_000


@dataclass(frozen=True, slots=True)
class View:
    """What a Sentinel's packets to an instance meet: reach, and the process that answers. sick: it
    answers PING with an error (MISCONF); loading: with LOADING, which counts.
    """

    reach: int
    process: Any = None
    frozen: bool = False
    sick: bool = False
    loading: bool = False

    @property
    def answers(self) -> bool:
        """Is a request answered?"""
        return self.reach == CONNECTS and self.process is not None and not self.frozen

    @property
    def pongs(self) -> bool:
        """Is a PING answered so that it counts: PONG, LOADING or MASTERDOWN?"""
        return self.answers and not self.sick


@dataclass(slots=True)
class Link:
    """The command connection (the pub/sub connection shares its fate).

    queued: what waits in a socket of ours or theirs -> when it was first sent. due: the arrival of
    the reply by kind of request ("ping", "info", "pub"). calls: commands with an effect that wait.
    """

    born: int
    disconnected: bool = True
    open: bool = False
    process: Any = None
    last_reconn: int = NEVER
    conn_time: int = 0
    syn_at: int = 0  # the first SYN; unlike conn_time no clock that is set moves it
    opens_at: int = FAR
    fails_at: int = FAR
    act_ping: int = 0
    last_ping: int = NEVER
    last_pong: int = 0
    last_avail: int = 0
    queued: dict[str, int] = field(default_factory=dict)
    due: dict[str, int] = field(default_factory=dict)
    calls: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # the clock of S_DOWN runs from the start, should no connection ever come about
        self.act_ping = self.last_pong = self.last_avail = self.born

    def may_reconnect(self, t: int) -> bool:
        """Is the link closed, and the last attempt a second ago?"""
        return self.disconnected and t - self.last_reconn >= RECONNECT_NS

    def reconnect(self, t: int, view: View, rtt: int) -> None:
        """Open the link; a PING is queued at once."""
        self.last_reconn = self.conn_time = self.syn_at = t
        self.disconnected, self.open, self.process = False, False, None
        self._connecting(t, t, view, rtt)
        self.ping(t, view, rtt)

    def _connecting(self, sent: int, t: int, view: View, rtt: int) -> None:
        """When the SYN that goes out at `sent` or later is answered, as things stand at t."""
        self.opens_at = self.fails_at = FAR
        if view.reach == CONNECTS:
            self.opens_at = sent + rtt
        elif view.reach == REFUSED:
            self.fails_at = sent + rtt
        elif view.reach == NO_ROUTE:
            self.fails_at = max(t, self.syn_at + NO_ROUTE_NS)

    def ping(self, t: int, view: View, rtt: int) -> None:
        """Send a PING; the clock of S_DOWN starts if no other is outstanding."""
        self.last_ping = t
        if self.act_ping == 0:
            self.act_ping = t
        self.send("ping", t, view, rtt)

    def send(self, kind: str, t: int, view: View, rtt: int) -> None:
        """Send a request whose reply is told by `arrivals`."""
        if self.disconnected:
            return
        if self.open and view.answers and view.process is self.process:
            self.due.setdefault(kind, t + rtt + (INFO_NS if kind == "info" else 0))
        else:
            self.queued.setdefault(kind, t)

    def close(self) -> None:
        """The connection is gone at our end; what waited is lost. act_ping goes on."""
        self.disconnected, self.open, self.process = True, False, None
        self.opens_at = self.fails_at = FAR
        self.queued.clear()
        self.due.clear()
        self.calls.clear()

    def settle(self, t: int, view: View, rtt: int) -> None:
        """Connects that have come about or failed by t."""
        if self.fails_at <= t:
            self.close()
        elif self.opens_at <= t:
            opened, self.opens_at = self.opens_at, FAR
            self.open, self.process = True, view.process
            if view.answers:
                self._flush(opened + rtt)

    def _flush(self, arrival: int, waited: int = 0) -> None:
        backlog = min(MAX_PENDING, PER_TICK * waited // TICK_NS) * SERVED_NS
        for kind in self.queued:
            self.due.setdefault(kind, arrival + backlog * (kind == "info"))
        self.queued.clear()

    def pong(self, t: int, valid: bool = True) -> None:
        """A reply to a PING; only a valid one stops the clock of S_DOWN."""
        self.last_pong = t
        if valid:
            self.last_avail, self.act_ping = t, 0

    def recycle(self, t: int, down_after: int) -> None:
        """Close an old link on which a PING has been waiting for half of down-after."""
        half = down_after // 2
        waited = self.act_ping and t - self.act_ping > half and t - self.last_pong > half
        if not self.disconnected and waited and t - self.conn_time > MIN_LINK_NS:
            self.close()

    def changed(self, t: int, old: View, new: View, rtt: int) -> list[Callable[[], None]]:
        """The other end or the way to it has changed; returns commands that now arrive."""
        if self.disconnected:
            return []
        if not self.open:
            if new.reach == CONNECTS and self.opens_at < FAR:
                return []
            self._connecting(self._next_syn(t), t, new, rtt)
            return []
        if new.process is not self.process:
            heard = REFUSED in (old.reach, new.reach) or CONNECTS in (old.reach, new.reach)
            if heard:  # FIN or RST of the old process, or an RST to the next packet
                self.close()
            else:
                self._hold(t)
            return []
        if not new.answers:
            self._hold(t)
        elif not old.answers:
            first = min(self.queued.values(), default=t)
            silent = old.reach in (SILENT, NO_ROUTE)
            self._flush((retransmit_ns(first, t) if silent else t) + rtt, t - first)
            calls, self.calls = self.calls, []
            return calls
        return []

    def _hold(self, t: int) -> None:
        """No reply comes any more: requests under way wait for better times."""
        for kind, arrival in tuple(self.due.items()):
            if arrival > t:
                del self.due[kind]
                self.queued.setdefault(kind, t)

    def _next_syn(self, t: int) -> int:
        return next((at for ns in SYN_NS if (at := self.syn_at + ns) >= t), FAR)

    def answer_by(self, now: int, rtt: int) -> int:
        """When the outstanding PING is answered at the latest, if the other end answers."""
        if self.disconnected:
            return max(now, self.last_reconn + RECONNECT_NS) + TICK_MAX_NS + 2 * rtt
        if "ping" in self.due:
            return self.due["ping"]
        return self.opens_at + rtt
