"""One Sentinel process: its timer, what it hears, and how it sleeps while nothing can happen.

A tick is a plain function of the state. While no tick can have an effect that anybody sees, none is
scheduled: `next_effect` says when one could, and whatever changes in the meantime (a process, the
way to it, another Sentinel) calls `poke`, which first runs the ticks that were left out.
Source: src/sentinel.c 7.0.15 (sentinelTimer, sentinelHandleRedisInstance); server.c (serverCron).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from hasim.components.base import Machine, Process
from hasim.components.sentinel import (
    clock,
    down,
    election,
    failover,
    hello,
    info,
    memory,
    outlook,
    sleep,
)
from hasim.components.sentinel.clock import Host
from hasim.components.sentinel.config import SentinelConfig, is_ip
from hasim.components.sentinel.entries import UPDATE, Entry, Master, snapshot_of
from hasim.components.sentinel.link import MS, NEVER, PING_NS, PUBLISH_NS, View
from hasim.sim.world import CONNECTS, NO_ROUTE, REFUSED

if TYPE_CHECKING:
    from hasim.sim.world import World
    from hasim.source import Origin

HZ = 10  # source: server.h CONFIG_DEFAULT_HZ; sentinelTimer draws hz from 10 to 19 after each tick
# One lookup at a resolver that does not answer. Source: resolv.conf(5), timeout 5 s and 2 attempts;
# measured, reference/redis-sentinel.md section 15: S_DOWN of a hung master at 12.8 to 13.6 s, which
# is a ping, half of down-after (the link is recycled) and one such lookup.
LOOKUP_NS = 10_000 * MS


class Sentinel(Host):
    """The state of one Sentinel process (Process.data)."""

    def __init__(self, p: Process, world: World, machine: Machine, config: SentinelConfig):
        self.p, self.world, self.machine, self.config = p, world, machine, config
        self.name, self.stream = p.instance, f"sentinel {p.instance} {p.epoch}"
        self.now = int(p.env.now)  # the moment that is being worked on, at most env.now
        self.due = self.now
        self.busy_until = 0
        self.ticks = self.draws = self.flushes = 0
        self.previous = NEVER
        self.tilt, self.tilt_start = False, 0
        self.epoch = 0
        self.masters: list[Master] = []
        self.views: dict[str, View] = {}
        self.nodes: dict[str, Any] = {}  # what INFO of a data node says
        self.opinions: dict[str, tuple[str, ...]] = {}  # masters that another Sentinel has down
        self.delays: dict[str, int] = {}
        self.fixed: dict[str, bool] = {}  # does a re-created container keep its address?
        self.observers: list[Callable[[], None]] = []
        self.mail: list[Callable[[], None]] = []
        self.outbox: list[tuple[str, Callable[[], None]]] = []
        self.blocked = self.looking = False  # a lookup begins; a tick waits for one
        self.stopped = self.working = self.ticking = self.told = False
        self.late: list[str] = []  # effects after their time: none unless `outlook` is wrong
        self.eager = False  # never sleep (tests)
        self.bell = p.env.event()
        self.others: list[str] | None = None
        self._watched: set[str] = set()
        self.id = memory.wake_up(self)
        machine.notice(self.name, self._self_changed)
        self.dns_silent = False  # does no resolver answer?
        if config.resolve_hostnames:  # with addresses alone nothing is ever looked up
            self.dns_silent = self._no_dns()
            machine.watchers.append(self._names_changed)

    # ---- the loop ------------------------------------------------------------------------------
    def run(self) -> Generator:
        """From the start of the process to its end."""
        env = self.p.env
        self.due = self.now + round(self.draw("start") * 100) * MS  # source: server.c, first cron
        self.look()
        while self.p.alive:
            if self.p.frozen:
                yield from self.p.awake()
                continue
            self.advance(int(env.now))
            at = outlook.everything(self) if self.eager else outlook.next_effect(self)
            waits = [self.bell, self.p.bell]
            if at is not None:
                waits.append(env.timeout(max(0, at - int(env.now))))
            yield env.any_of(waits)
            if self.bell.triggered:
                self.bell = env.event()
            yield from self.p.awake()
            if self.p.alive and self.p.inbox:
                what, cause = self.p.take()
                if what not in ("child", "SIGHUP"):
                    mark = self.world.log(self.name, "User requested shutdown", what, cause=cause)
                    self.machine.exit(self.p, 0, mark)

    def advance(self, until: int, inclusive: bool = True) -> None:
        """Run every tick up to a moment, and take what has arrived by then."""
        if self.working or self.stopped:
            return
        self.working = True
        if until - self.due > sleep.LONG_NS:
            sleep.jump(self, until)
        while self.due < until or (inclusive and self.due == until):
            self._tick(self.due)
        self._settle(until)
        self.working = False
        if self.told:
            self.told = False
            for call in tuple(self.observers):
                call()

    def poke(self) -> None:
        """Something outside has changed: up to now it was as before."""
        if not self.p.alive or self.working:
            return
        self.advance(int(self.p.env.now), inclusive=False)
        self.look()
        self.ring()

    def _names_changed(self) -> None:
        """A lookup that fails at once costs nothing; only silence matters."""
        if self.p.alive and self.dns_silent != self._no_dns():
            self.advance(int(self.p.env.now), inclusive=False)
            self.dns_silent = self._no_dns()
            self.poke()

    def ring(self) -> None:
        """The loop asks again when the next effect may come."""
        if not self.bell.triggered:
            self.bell.succeed()

    def tell(self) -> None:
        """Other Sentinels shall look at this one again."""
        self.told = True

    def _self_changed(self) -> None:
        """This process was stopped, goes on, or ends."""
        if not self.p.alive or self.machine.containers[self.name].process is not self.p:
            return
        if self.p.frozen and not self.stopped:
            self.advance(int(self.p.env.now), inclusive=False)
            self.stopped = True
        elif self.stopped and not self.p.frozen:
            self.stopped = False
            self.now = self.due = int(self.p.env.now)
            self.look()
            mail, self.mail = self.mail, []
            for call in mail:
                call()
            self.ring()

    def receive(self, call: Callable[[], None]) -> None:
        """A message arrives: handled now, or once the process is no longer stopped or busy."""
        if not self.p.alive:
            return
        now = int(self.p.env.now)
        if self.p.frozen:
            self.mail.append(call)
        elif now < self.busy_until:
            self._later(self.busy_until - now, lambda: self.receive(call))
        else:
            self.advance(now, inclusive=False)
            self.now = now
            call()
            self.tell()
            self.advance(now, inclusive=False)
            self.ring()

    def _later(self, wait: int, call: Callable[[], None]) -> None:
        timer = self.p.env.timeout(wait)
        timer.callbacks.append(lambda _: call())

    def send(self, target: str, call: Callable[[], None]) -> None:
        """call() one way later. Sockets are written to after the timer has run, with all that it
        writes to disk.
        """
        if self.ticking:
            self.outbox.append((target, call))
            return
        wait = max(0, self.busy_until - self.now) + self.delay(target) // 2
        self._later(wait, call)

    # ---- one tick ------------------------------------------------------------------------------
    def _tick(self, t: int) -> None:
        self._settle(t)
        self.now = t
        self.ticking = True
        if not self.looking:
            self.ticks += 1
            clock.check(self, t)
        self._handle_all()
        if self.blocked:  # the rest of this tick comes after the lookup
            self.blocked, self.looking = False, True
            self.due = self.busy_until = t + LOOKUP_NS
            return
        self.looking = False
        self._write()
        hz = HZ + int(self.draw("hz") * HZ)
        self.due = max(self.now, self.busy_until) + 1000 // hz * MS

    def _handle_all(self) -> None:
        for master in self.masters:
            self._handle(master, master.entry)
            for entry in (*master.slaves.values(), *master.sentinels):
                if not outlook.idle(self, master, entry):
                    self._handle(master, entry)
            if master.state == UPDATE:
                failover.switch_to_promoted(self, master)

    def _write(self) -> None:
        """What the tick has said goes out."""
        self.ticking = False
        outbox, self.outbox = self.outbox, []
        for target, call in outbox:
            self.send(target, call)

    def _handle(self, master: Master, entry: Entry) -> None:
        """Source: sentinelHandleRedisInstance."""
        if self.blocked or not self._reconnect(entry):
            return
        self._periodic(master, entry)
        if not clock.over(self):
            return
        down.subjectively(self, master, entry)
        if entry.kind == "master":
            down.objectively(self, master)
            if failover.start_if_needed(self, master):
                election.ask(self, master, forced=True)
            failover.step(self, master)
            election.ask(self, master, forced=False)

    def _reconnect(self, entry: Entry) -> bool:
        """False: the whole process waits for a resolver that does not answer."""
        link = entry.link
        if not link.disconnected or not link.may_reconnect(self.now):
            return True
        if entry.by_name and self.dns_silent and not self.looking:
            self.blocked = True
            return False
        link.reconnect(self.now, self.view(entry), self.delay(entry.name))
        if self.looking and entry.by_name:
            link.last_reconn = self.now - LOOKUP_NS  # the attempt began before the lookup
        return True

    def _no_dns(self) -> bool:
        return getattr(self.machine, "dns_mode", "ok") == "silent"

    def _periodic(self, master: Master, entry: Entry) -> None:
        """Source: sentinelSendPeriodicCommands."""
        link, t = entry.link, self.now
        if link.disconnected:
            return
        view, rtt = self.view(entry), self.delay(entry.name)
        if entry.kind != "sentinel" and t - entry.info > info.period(master, entry):
            link.send("info", t, view, rtt)
        period = min(PING_NS, master.down_after)
        if t - link.last_pong > period and t - link.last_ping > period // 2:
            link.ping(t, view, rtt)
        if t - entry.pub > PUBLISH_NS:
            hello.publish(self, master, entry)

    # ---- replies -------------------------------------------------------------------------------
    def _settle(self, t: int) -> None:
        """Connections and replies of all links up to t, replies in the order of arrival."""
        came: list[tuple[int, int, str, Master, Entry]] = []
        number = 0
        for master in self.masters:
            for entry in master.entries():
                link = entry.link
                if link.fails_at <= t or link.opens_at <= t:
                    link.settle(t, self.view(entry), self.delay(entry.name))
                for kind in tuple(link.due) if link.due else ():
                    if link.due[kind] <= t:
                        came.append((link.due.pop(kind), number, kind, master, entry))
                number += 1
        for arrival, _, kind, master, entry in sorted(came, key=_order):
            self.now = max(self.now, arrival)
            if kind == "ping":
                self._pong(entry, arrival)
            elif kind == "pub":
                entry.pub = arrival
            elif entry in master.entries():
                info.refresh(self, master, entry)

    def _pong(self, entry: Entry, t: int) -> None:
        view = self.view(entry)
        entry.link.pong(t, not view.sick)
        if not view.sick and not view.loading:
            entry.reboot_since = 0

    # ---- what is outside -----------------------------------------------------------------------
    def view(self, entry: Entry) -> View:
        """What is known here of the way to an instance and of its process."""
        found = self.views.get(entry.name)
        return self._from(entry, found if found is not None else self._watch(entry.name))

    def _from(self, entry: Entry, view: View) -> View:
        """Nobody answers at an address that a re-created container has left."""
        if entry.by_name or entry.address == memory.address_of(self, entry.name):
            return view
        return View(NO_ROUTE)

    def delay(self, name: str) -> int:
        """Round trip to an instance, ns."""
        return self.delays.get(name, 0)

    def _watch(self, name: str) -> View:
        if name not in self._watched:
            self._watched.add(name)
            self.machine.watch(self.name, name, lambda _: self.poke())
            self.machine.notice(name, self.poke)
            self.machine.disks.setdefault(f"redis:{name}:watchers", []).append(self.poke)
        self.views[name] = self._seen(name)
        self._note(name)
        return self.views[name]

    def _seen(self, name: str) -> View:
        reach = self.machine.reach(self.name, name)
        p = self.machine.containers[name].process
        data: Any = getattr(p, "data", None)
        loading = getattr(data, "loading", False)
        if loading and reach == REFUSED:  # the data plane's word for -LOADING
            reach = CONNECTS
        frozen = p is not None and p.frozen
        return View(reach, p, frozen, not getattr(data, "pongs", True), loading)

    def _note(self, name: str) -> None:
        """Remember what a data node says, and be told when that changes."""
        p = self.machine.containers[name].process
        data: Any = getattr(p, "data", None)
        observers = getattr(data, "observers", None)
        if observers is not None and self.poke not in observers:
            observers.append(self.poke)
        self.nodes[name] = snapshot_of(p)
        self.opinions[name] = data.thinks_down() if hasattr(data, "thinks_down") else ()
        self.delays[name] = round(2e9 * self.machine.one_way_s(self.name, name))

    def look(self) -> None:
        """Take over what has changed outside."""
        self.now = max(self.now, int(self.p.env.now))
        for name in tuple(self.views):
            old, new = self.views[name], self._seen(name)
            self._note(name)
            if old == new:
                continue
            self.views[name] = new
            for master in self.masters:
                for entry in master.entries():
                    if entry.name == name:
                        before, after = self._from(entry, old), self._from(entry, new)
                        for call in entry.link.changed(self.now, before, after, self.delay(name)):
                            self.send(name, call)
        memory.watch_fellows(self)

    # ---- tools ---------------------------------------------------------------------------------
    def draw(self, purpose: str) -> float:
        """A uniform number named by the tick."""
        return self.world.draw(self.stream, self.ticks, purpose)

    def say(self, event: str, detail: str, cause: int = -1, origin: Origin | None = None) -> int:
        """A line of the log."""
        if abs(int(self.p.env.now) - self.now) > 2 * MS and self.now >= self.busy_until:
            self.late.append(f"{event} {detail}")
        return self.world.log(self.name, event, detail, cause=cause, origin=origin)

    def flush(self) -> None:
        """Rewrite the configuration file; nothing else happens in the process meanwhile."""
        self.flushes += 1
        took = self.machine.sample(self.config.rewrite, self.stream, self.flushes, "rewrite")
        self.busy_until = max(self.busy_until, self.now) + round(took * self.slow * 1e9)
        if not self.full:
            memory.save(self)

    def thinks_down(self) -> tuple[str, ...]:
        """Of whom `is-master-down-by-addr` is answered yes: of nobody in TILT (sentinelCommand)."""
        return () if self.tilt else tuple(m.entry.name for m in self.masters if m.entry.s_down)

    @property
    def live(self) -> bool:
        """Is the moment that is being worked on the present?"""
        return int(self.p.env.now) - self.now < MS

    def named(self, name: str) -> bool:
        """Is this address a name that is resolved at each reconnect?"""
        return self.config.resolve_hostnames and not is_ip(name)


def _order(row: tuple[int, int, str, Master, Entry]) -> tuple[int, int]:
    return row[0], row[1]
