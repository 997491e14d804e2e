"""TCP connections between control processes (sentinels, Patroni, etcd, replication).

The data plane carries users' requests; what daemons say to each other is a few messages a second
and travels here, over the same network state (sim/network.py) with the same meaning of silence.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from math import inf
from typing import TYPE_CHECKING, Any

from hasim.components.base import LOST, Process
from hasim.sim.tables import rtt_between
from hasim.sim.world import CONNECTS, NO_ROUTE, REFUSED, SILENT
from hasim.tcp import NO_ROUTE_NS, SYN_NS, retransmit_ns
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.sim.instances import Machine

# A message between two processes of one host. Source: our choice; loopback round trips take some
# tens of microseconds, far below everything that daemons measure.
LOCAL_S = 25e-6

FORWARD, BACK = 0, 1


class Wire:
    """One connection (components.base.Conn). Both ends keep their own idea of whether it lives."""

    def __init__(self, wires: Wires, client: Process, server: Process):
        self.wires, self.client, self.server = wires, client, server
        self.env = client.env
        self.closed, self.hung_up = self.env.event(), self.env.event()
        self.dead = [False, False]  # the process at this end is gone, or has closed
        self.stuck: list[tuple[int, Callable[[], None]]] = []
        self.stuck_ns = 0
        self._answers: list[Any] = []

    # ---- components.base.Conn ----------------------------------------------------------------
    def ask(self, serve: Callable[[Process], Any]) -> Any:
        answer = self.env.event()
        if self.closed.triggered or self.dead[FORWARD]:
            return answer.succeed(LOST)
        self._answers.append(answer)
        self._send(FORWARD, lambda: self._serve(serve, answer))
        return answer

    def tell(self, hear: Callable[[Process], None], *, back: bool = False) -> None:
        way = BACK if back else FORWARD
        if not self.dead[way]:
            self._send(way, lambda: hear(self._end(1 - way)))

    def close(self) -> None:
        self._shut(FORWARD)

    def hang_up(self) -> None:
        self._shut(BACK)

    # ---- inside ------------------------------------------------------------------------------
    def _end(self, side: int) -> Process:
        return self.client if side == FORWARD else self.server

    def _serve(self, serve: Callable[[Process], Any], answer: Any) -> None:
        value = serve(self.server)
        if hasattr(value, "callbacks"):  # an event: the answer leaves when it fires
            if value.callbacks is None:
                self._reply(answer, value.value)
            else:
                value.callbacks.append(lambda event: self._reply(answer, event.value))
        else:
            self._reply(answer, value)

    def _reply(self, answer: Any, value: Any) -> None:
        if not self.dead[BACK]:
            self._send(BACK, lambda: self._settle(answer, value))

    def _settle(self, answer: Any, value: Any) -> None:
        if answer in self._answers:
            self._answers.remove(answer)
            answer.succeed(value)

    def _send(self, way: int, arrive: Callable[[], None]) -> None:
        """A message on its way; into silence it waits for a retransmit."""
        if self.wires.silent(self.client, self.server):
            if not self.stuck:
                self.stuck_ns = int(self.env.now)
            self.stuck.append((way, arrive))
            return
        late = self.wires.machine.one_way_s(self.client.instance, self.server.instance)
        timer = self.env.timeout(round(late * NS))
        timer.callbacks.append(lambda _: self._arrive(way, arrive))

    def _arrive(self, way: int, arrive: Callable[[], None]) -> None:
        there = self._end(1 - way)
        if not there.alive or self.dead[1 - way]:
            self._heard(way)  # its kernel answers with a reset
        elif there.frozen:
            there.resumed.callbacks.append(lambda _: self._arrive(way, arrive))
        else:
            arrive()

    def _shut(self, side: int) -> None:
        """This end closes: the other hears FIN one way later."""
        if self.dead[side]:
            return
        self.dead[side] = True
        self._heard(side)
        if not self.wires.silent(self.client, self.server):
            late = self.wires.machine.one_way_s(self.client.instance, self.server.instance)
            timer = self.env.timeout(round(late * NS))
            timer.callbacks.append(lambda _: self._heard(1 - side))

    def ended(self, p: Process) -> None:
        """The process at one end is gone; its kernel says so, if a packet gets through."""
        self._shut(FORWARD if p is self.client else BACK)

    def _heard(self, side: int) -> None:
        """The end `side` knows that the connection is over."""
        event = self.closed if side == FORWARD else self.hung_up
        if event.triggered:
            return
        event.succeed()
        if side == FORWARD:
            answers, self._answers = self._answers, []
            for answer in answers:
                answer.succeed(LOST)
        self.dead[side] = True
        if self.closed.triggered and self.hung_up.triggered:
            self.wires.drop(self)

    def path_changed(self, look: int) -> None:
        """The silence has ended: what is stuck goes with the next retransmit."""
        if self.stuck and look in (CONNECTS, REFUSED):
            due = retransmit_ns(self.stuck_ns, int(self.env.now))
            timer = self.env.timeout(due - self.env.now)
            timer.callbacks.append(lambda _: self._flush())

    def _flush(self) -> None:
        if self.stuck and not self.wires.silent(self.client, self.server):
            waiting, self.stuck = self.stuck, []
            for way, arrive in waiting:
                if not self.dead[way]:
                    self._arrive(way, arrive)


class Wires:
    """All connections of one replication, by the instances at their ends."""

    def __init__(self, machine: Machine):
        self.machine = machine
        self.open: dict[tuple[str, str], list[Wire]] = {}
        self._watched: set[tuple[str, str]] = set()

    def silent(self, client: Process, server: Process) -> bool:
        """Do packets between the two vanish? A client whose host lost power sends no FIN either."""
        machine = self.machine
        if not machine.powered(machine.containers[client.instance].spec.host):
            return True
        return machine.reach(client.instance, server.instance) in (SILENT, NO_ROUTE)

    def connect(self, p: Process, target: str, timeout_s: float = inf) -> Any:
        """The event of Machine.connect."""
        return self.machine.world.spawn(self._dial(p, target, timeout_s), f"dial {target}")

    def _dial(self, p: Process, target: str, timeout_s: float) -> Generator[Any, Any, Any]:
        env, machine = p.env, self.machine
        begun, tries = env.now, 0
        rtt_ns = round(2 * machine.one_way_s(p.instance, target) * NS)
        while True:
            look = machine.reach(p.instance, target)
            left_ns = inf if timeout_s == inf else begun + round(timeout_s * NS) - env.now
            if look in (CONNECTS, REFUSED):
                yield env.timeout(rtt_ns)
                server = machine.containers[target].process
                if look == REFUSED or server is None or not server.listening or not p.alive:
                    return REFUSED
                return self._made(p, server)
            wait_ns = NO_ROUTE_NS
            if look == SILENT:
                wait_ns = max(0, int(begun) + SYN_NS[tries] - int(env.now))
                tries += 1
            if wait_ns >= left_ns:
                yield env.timeout(max(0, int(left_ns)))
                return SILENT
            yield env.timeout(wait_ns)
            if look == NO_ROUTE:
                return NO_ROUTE
            if tries == len(SYN_NS):
                return SILENT

    def _made(self, client: Process, server: Process) -> Wire:
        wire = Wire(self, client, server)
        pair = client.instance, server.instance
        self.open.setdefault(pair, []).append(wire)
        if pair not in self._watched:
            self._watched.add(pair)
            self.machine.watch(*pair, lambda look: self._path_changed(pair, look))
        return wire

    def _path_changed(self, pair: tuple[str, str], look: int) -> None:
        for wire in tuple(self.open.get(pair, ())):
            wire.path_changed(look)

    def ended(self, p: Process) -> None:
        """A process is gone (called before its address goes, after silence has begun)."""
        for pair in tuple(self.open):
            if p.instance in pair:
                for wire in tuple(self.open.get(pair, ())):
                    if p in (wire.client, wire.server):
                        wire.ended(p)

    def drop(self, wire: Wire) -> None:
        """Both ends know that it is over."""
        wires = self.open.get((wire.client.instance, wire.server.instance), [])
        if wire in wires:
            wires.remove(wire)


def one_way_s(machine: Machine, source: str, target: str) -> float:
    """Half the round trip between two instances, as links and faults have it now."""
    a, b = machine.containers[source].spec.host, machine.containers[target].spec.host
    if a == b:
        return LOCAL_S
    return rtt_between(machine.stack, a, b) / 2 + machine.network.extra_one_way_s(source, target)
