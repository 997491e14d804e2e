"""A Sentinel's clock and disk: TILT, and what a clock that is set does to what is remembered.

All times that a Sentinel remembers are wall clock; only its timer is not (ae.c 7.0 uses the
monotonic clock). Source: src/sentinel.c 7.0.15, sentinelCheckTiltCondition and mstime();
reference/redis-sentinel.md section 14.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hasim.components.sentinel.link import MS, NEVER

if TYPE_CHECKING:
    from hasim.components.base import Process
    from hasim.components.sentinel.daemon import Sentinel

TRIGGER_NS = 2000 * MS  # source: sentinel.c, sentinel_tilt_trigger
TILT_NS = 30_000 * MS  # source: sentinel.c, sentinel_tilt_period (30 ping periods)

_OF_ENTRY = ("role_time", "conf_time", "info", "pub", "reconf_time", "reply")
_OF_ENTRY_IF_SET = ("s_down_since", "o_down_since", "reboot_since")
_OF_LINK = ("last_reconn", "conn_time", "last_ping", "last_pong", "last_avail")
_OF_LINK_IF_SET = ("act_ping",)
_OF_MASTER = ("state_time", "start")


class Host:
    """What a fault may do to the clock and the disk of a Sentinel; mixed into Sentinel."""

    p: Process
    advance: Callable[..., None]
    ring: Callable[[], None]
    slow = 1.0
    full = False

    def clock_jump(self, by_s: float) -> None:
        """The clock of its host is set."""
        self.advance(int(self.p.env.now), inclusive=False)
        jump(self, by_s)
        self.ring()

    def disk_slow(self, factor: float, cause: int = -1) -> None:
        """Its disk takes that many times longer."""
        self.slow = factor

    def disk_full(self, on: bool, cause: int = -1) -> None:
        """It goes on, but what it decides is not kept (sentinelFlushConfig only warns)."""
        self.full = on


def tilted(previous: int, t: int) -> bool:
    """Does a tick at t, with the one before at `previous`, start TILT?"""
    return previous != NEVER and not 0 <= t - previous <= TRIGGER_NS


def check(sentinel: Sentinel, t: int) -> None:
    """At the start of a tick: did too much time pass since the last one, or did it go back?"""
    late, sentinel.previous = tilted(sentinel.previous, t), t
    if not late:
        return
    sentinel.tilt, sentinel.tilt_start = True, t
    machine = sentinel.machine
    cause = machine.containers[sentinel.name].blame
    if sentinel.dns_silent:
        cause = machine.dns_blame
    sentinel.say("+tilt", "#tilt mode entered", cause)
    sentinel.tell()


def over(sentinel: Sentinel) -> bool:
    """Does this Sentinel act? It leaves TILT after 30 s."""
    if sentinel.tilt:
        if sentinel.now - sentinel.tilt_start < TILT_NS:
            return False
        sentinel.tilt = False
        sentinel.say("-tilt", "#tilt mode exited")
        sentinel.tell()
    return True


def jump(sentinel: Any, by_s: float) -> None:
    """The host's clock is set forward (back, if negative): what was remembered is that much
    longer ago, or lies in the future.
    """
    by = round(by_s * 1e9)
    for name in ("previous", "tilt_start"):
        _shift(sentinel, name, by)
    for master in sentinel.masters:
        for name in _OF_MASTER:
            _shift(master, name, by)
        for entry in master.entries():
            _shift_all(entry, _OF_ENTRY, _OF_ENTRY_IF_SET, by)
            _shift_all(entry.link, _OF_LINK, _OF_LINK_IF_SET, by)


def _shift_all(what: Any, names: tuple[str, ...], if_set: tuple[str, ...], by: int) -> None:
    for name in names:
        _shift(what, name, by)
    for name in if_set:
        if getattr(what, name):
            _shift(what, name, by)


def _shift(what: Any, name: str, by: int) -> None:
    if getattr(what, name) != NEVER:
        setattr(what, name, getattr(what, name) - by)
