"""One VRRP instance of one keepalived process: BACKUP, MASTER, FAULT, and what others hear of it.

Adverts are no events: a master's adverts go out at base + k x advert_int, and whoever hears them
computes the age of the last one when they stop. Only changes cost events (segment.py).
Source of the rules: keepalived 2.2.7, vrrp.c and vrrp_scheduler.c, read through their log and
packets on a bridge of two network namespaces; RFC 3768 and 5798.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from hasim.components.keepalived.addresses import address
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.components.base import Machine, Process
    from hasim.components.keepalived.config import Script, Vrrp
    from hasim.components.keepalived.segment import Segment
    from hasim.sim.world import World

# The skew of version 2 is in seconds, that of version 3 in advert intervals; priorities of routers
# that do not own the address end at 254. Source: RFC 3768 and RFC 5798, 6.1; 2.2.7 clamps to 1-254.
SCALE = 256
LOWEST, HIGHEST = 1, 254

INIT, BACKUP, MASTER, FAULT, STOPPED = "INIT", "BACKUP", "MASTER", "FAULT", "STOPPED"


class Router:
    """The state of one vrrp_instance. base_ns: its first advert since it became master.

    heard: masters whose adverts it accepts now. last_ns: when its timer was last set.
    """

    def __init__(self, p: Process, world: World, machine: Machine, vrrp: Vrrp, segment: Segment):
        self.p, self.world, self.machine = p, world, machine
        self.vrrp, self.segment = vrrp, segment
        self.instance = p.instance
        self.host = machine.containers[p.instance].spec.host
        self.source = vrrp.source or segment.address_of(self.host)
        self.state = INIT
        self.priority = vrrp.priority
        self.failing: dict[str, bool | None] = {s.name: None for s in vrrp.tracks}
        self.link = True
        self.base_ns = self.last_ns = 0
        self.advert_s = vrrp.advert_s  # the one in force: version 3 takes the master's
        self.short = False  # an advert of priority 0 came: only the skew is waited for
        self.heard: list[Router] = []
        self._timer = 0
        self._preempt_ns = -1
        self.addresses = [address(a, world, machine) for a in vrrp.addresses]

    # ---- what others ask ---------------------------------------------------------------------
    @property
    def rank(self) -> tuple[int, int, str]:
        """Who wins between two masters. Source: RFC 5798, 6.4.3."""
        number = int(ip_address(self.source)) if self.source else 0
        return self.priority, number, self.instance

    @property
    def faulty(self) -> bool:
        """Does its link or something that it tracks forbid it to hold the address?"""
        return not self.link or any(self._faults(s) for s in self.vrrp.tracks)

    @property
    def sends(self) -> bool:
        """Does it send adverts now?"""
        return self.state == MASTER and self.p.alive and not self.p.frozen

    def last_advert(self, t_ns: int) -> int:
        """When it sent its latest advert up to t_ns."""
        step = round(self.vrrp.advert_s * NS)
        return self.base_ns + max(0, (t_ns - self.base_ns) // step) * step

    def next_advert(self, t_ns: int) -> int:
        """When its first advert after t_ns goes out."""
        step = round(self.vrrp.advert_s * NS)
        return self.base_ns + (max(-1, (t_ns - self.base_ns) // step) + 1) * step

    def down_ns(self) -> int:
        """The master-down timer. Source: RFC 5798, 6.1; a priority 0 leaves the skew alone."""
        unit_s = self.advert_s if self.vrrp.version == 3 else 1.0
        skew_s = (SCALE - self.priority) / SCALE * unit_s
        waits_s = 0.0 if self.short else self.vrrp.down_adverts * self.advert_s
        return round((waits_s + skew_s) * NS)

    # ---- life --------------------------------------------------------------------------------
    def start(self, cause: int) -> None:
        """The daemon starts: addresses that an earlier one left are removed (measured, 2.2.7)."""
        for one in self.addresses:
            one.remove(self.host, cause)
        self.judge(cause)

    def judge(self, cause: int) -> None:
        """BACKUP or FAULT by the link and what is tracked; the effective priority."""
        if self.state == STOPPED:
            return
        self._weigh(cause)
        faulty = self.faulty
        waiting = any(bad is None for bad in self.failing.values())
        if faulty and self.state in (BACKUP, MASTER):
            cause = self._say("Entering FAULT STATE", cause)
            self._leave(FAULT, cause)
        elif faulty:
            self.state = FAULT
        elif self.state in (INIT, FAULT) and not waiting:
            self._back(self._say("Entering BACKUP STATE", cause))

    def _faults(self, script: Script) -> bool:
        return script.weight == 0 and bool(self.failing[script.name])

    def _weigh(self, cause: int) -> None:
        """Weights of what is tracked change the priority. Source: keepalived.conf(5)."""
        total = self.vrrp.priority
        for script in self.vrrp.tracks:
            bad = self.failing[script.name]
            if (script.weight < 0 and bad) or (script.weight > 0 and bad is False):
                total += script.weight
        total = min(max(total, LOWEST), HIGHEST)
        if self.vrrp.priority > HIGHEST:
            total = self.vrrp.priority
        if total == self.priority:
            return
        text = f"Changing effective priority from {self.priority} to {total}"
        cause = self._say(text, cause)
        self.segment.settle(self, cause)
        self.priority = total
        self.segment.refresh(cause)
        self._arm(cause)

    def stop(self, cause: int) -> None:
        """SIGTERM: priority 0, and the addresses go."""
        if self.state in (BACKUP, MASTER):
            self._leave(STOPPED, cause)
        self.state = STOPPED

    def ended(self, cause: int) -> None:
        """The process is gone: no packet says so, and the addresses stay on the interface."""
        self._timer += 1
        self.segment.settle(self, cause)
        self.heard = []
        self.state = STOPPED
        for one in self.addresses:
            one.look(cause)

    def resumed(self, cause: int) -> None:
        """SIGCONT. What waits in the socket is read before an overdue timer acts (measured)."""
        if self.state == MASTER:
            self.base_ns = int(self.world.env.now)
        self.segment.refresh(cause)
        self.segment.unread(self, cause)
        self._arm(cause)

    def _leave(self, state: str, cause: int) -> None:
        """From BACKUP or MASTER to FAULT or to the end."""
        was, self.heard = self.state, []
        self._timer += 1
        if was == MASTER:
            self.segment.goodbye(self, self._say("sent 0 priority", cause))
        self.state = state
        self.segment.refresh(cause)
        for one in self.addresses:
            one.remove(self.host, cause)

    # ---- the backup --------------------------------------------------------------------------
    def _back(self, cause: int) -> None:
        """BACKUP from now on, with the whole master-down timer."""
        self.state, self.short = BACKUP, False
        self.last_ns = int(self.world.env.now)
        self._preempt_ns = -1
        self.segment.listen(self, cause)
        if self.vrrp.priority > HIGHEST:
            self._become_master(cause)  # the owner of the address waits for nobody
        else:
            self._arm(cause)

    def _arm(self, cause: int) -> None:
        """The timer runs while no accepted advert comes."""
        self._timer += 1
        if self.state != BACKUP or self.heard or not self.p.alive:
            return
        due = max(0, self.last_ns + self.down_ns() - int(self.world.env.now))
        self._after(due, self._expired, self._timer, cause)

    def _after(self, wait_ns: int, call: Any, *arguments: Any) -> None:
        timer = self.world.env.timeout(wait_ns)
        timer.callbacks.append(lambda _: call(*arguments))

    def _expired(self, number: int, cause: int) -> None:
        if number == self._timer and self.p.alive and not self.p.frozen:
            self._become_master(self._say("Receive advertisement timeout", cause))

    def _become_master(self, cause: int) -> None:
        cause = self._say("Entering MASTER STATE", cause, ", ".join(self.vrrp.addresses))
        self.state, self.heard, self.short = MASTER, [], False
        self._timer += 1
        self.advert_s = self.vrrp.advert_s
        for one in self.addresses:
            one.add(self.host, self.vrrp.garp_refresh_s)
        self._announce(cause)
        delay_ns = round(self.vrrp.garp_delay_s * NS)
        if delay_ns:
            self._after(delay_ns, self._again, self._timer, cause)
        self.segment.advertise(self, cause)

    def _again(self, number: int, cause: int) -> None:
        """The second batch of gratuitous ARP. Source: keepalived.conf(5), garp_master_delay."""
        if number == self._timer and self.sends:
            self._announce(cause)

    def _announce(self, cause: int) -> None:
        for one in self.addresses:
            one.announce(self.host, cause)

    # ---- adverts that arrive -----------------------------------------------------------------
    def hears(self, other: Router, cause: int) -> None:
        """An advert arrives, the first of those that the other sends in its present state."""
        if not self.p.alive or self.p.frozen:
            return
        if self.state == MASTER:
            self._rival(other, cause)
        elif self.state == BACKUP:
            self._advert(other, cause)

    def _advert(self, other: Router, cause: int) -> None:
        lower = other.priority < self.priority and not self.vrrp.nopreempt
        if lower and not self._waits(other, cause):
            text = f"received lower priority ({other.priority}) advert from {other.source}"
            self._say(f"{text} - discarding", cause)
            return
        self._accept(other)

    def _accept(self, other: Router) -> None:
        if self.vrrp.version == 3:
            self.advert_s = other.vrrp.advert_s
        self.last_ns, self.short = int(self.world.env.now), False
        if other not in self.heard:
            self.heard.append(other)
        self._timer += 1

    def _waits(self, other: Router, cause: int) -> bool:
        """preempt_delay: adverts of a lower priority count until it has passed."""
        delay_ns = round(self.vrrp.preempt_delay_s * NS)
        now = int(self.world.env.now)
        if self._preempt_ns < 0:
            self._preempt_ns = now + delay_ns
            if delay_ns:
                self._after(delay_ns, self._impatient, other, cause)
        return now < self._preempt_ns

    def _impatient(self, other: Router, cause: int) -> None:
        if self.p.alive and self.state == BACKUP and other in self.heard:
            self.gone(other, int(self.world.env.now), cause)

    def _rival(self, other: Router, cause: int) -> None:
        """Two masters hear each other."""
        if other.rank > self.rank:
            text = f"Master received advert from {other.source} with higher priority"
            cause = self._say(f"{text} {other.priority}, ours {self.priority}", cause)
            cause = self._say("Entering BACKUP STATE", cause)
            self.state, self.last_ns = BACKUP, int(self.world.env.now)
            self._preempt_ns = -1
            self._accept(other)
            self.segment.refresh(cause)
            for one in self.addresses:
                one.remove(self.host, cause)
            return
        text = f"Received advert from {other.source} with lower priority {other.priority}, "
        cause = self._say(f"{text}ours {self.priority}, forcing new election", cause)
        self._announce(cause)
        self.segment.advertise(self, cause)

    def farewell(self, other: Router, cause: int) -> None:
        """An advert of priority 0 arrives. Source: RFC 5798, 6.4.2: the timer is the skew."""
        if not self.p.alive or self.p.frozen or self.state != BACKUP:
            return
        cause = self._say("Backup received priority 0 advertisement", cause)
        if other in self.heard:
            self.heard.remove(other)
        self.last_ns, self.short = int(self.world.env.now), True
        self._arm(cause)

    def gone(self, other: Router, last_ns: int, cause: int) -> None:
        """The adverts of a master stop coming; the last one came at last_ns."""
        if other in self.heard:
            self.heard.remove(other)
            self.last_ns = max(self.last_ns, last_ns)
            self._arm(cause)

    def _say(self, event: str, cause: int, detail: str = "") -> int:
        text = f"({self.vrrp.name}) {event}"
        return self.world.log(self.instance, text, detail, cause=cause, origin=self.vrrp.span)
