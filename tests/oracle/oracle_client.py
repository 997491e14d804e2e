"""The oracle's clients: virtual users, their requests, and arrivals by rate."""

from __future__ import annotations

import math
from typing import Any

from oracle_clock import NEVER, SECOND, Timed
from oracle_path import Request
from oracle_random import Demand, philox, quantile_ns, unit
from oracle_tcp import CLIENT

from hasim.sim.trace import EOF, NO_ENTRY, OK, OPEN, TIMEOUT

ARRIVALS = 1 << 40
OWN_RETRIES = 1 << 63  # the path word of the jitter: those of nested calls are far below
CYCLE = SECOND // 10_000  # a load generator's own time per iteration


class User(Timed):
    """A virtual user."""

    def __init__(self, sim: Any, number: int, spans: list[tuple[int, int, int]]) -> None:
        self.sim, self.clock, self.number, self.spans = sim, sim.clock, number, spans
        self.state = "off"
        self.request: Request | None = None
        self.connection: Any = None  # the Way or direct Backend that a connection is kept to
        self.life = 0
        self.last_answer = 0
        self.step = 0  # of the iteration
        self.ordinal = 0
        self.think = 0

    def ring(self) -> None:
        """Begin, go on, stop, or be interrupted."""
        now = self.clock.now
        if self.state == "busy":
            self.interrupted()
            return
        if self.sim.open_loop:
            if self.step == 0:
                self.sim.free_users.append(self)
            else:
                req = self.begin(self.ordinal * len(self.sim.flow) + self.step, ARRIVALS)
                req.soon(req.enter, CLIENT)
            return
        if self.state == "off":
            self.state = "thinking"
        elif (now >= self.spans[0][1] and self.step == 0) or now >= self.spans[0][2]:
            self.state, self.step = "off", 0
            self.hang_up()
            self.spans.pop(0)
            if self.spans:
                self.clock.set_alarm(self, self.spans[0][0])
            return
        ordinal = self.ordinal
        self.ordinal += 1
        req = self.begin(ordinal, self.number + 1)
        self.clock.set_alarm(self, self.spans[0][2])
        req.enter()

    def begin(self, ordinal: int, entity: int) -> Request:
        """One request: which operation, and how long the pause after it."""
        sim, step = self.sim, self.sim.flow[self.step]
        demand = Demand(sim.key, ordinal, entity)
        x, upto = unit(demand.first[0]), 0.0
        name = step.mix[-1][0]
        for op, weight in step.mix:
            upto += weight
            if x < upto:
                name = op
                break
        self.think = quantile_ns(step.think, demand.first[1])
        self.state = "busy"
        req = self.request = Request(sim, sim.operations[name], demand)
        req.user = self
        req.caller_at = self.clock.now + sim.timeout
        sim.count["requests"] += 1
        return req

    def interrupted(self) -> None:
        """The end of gracefulStop or gracefulRampDown."""
        req = self.request
        if req.tell_caller(OPEN, same=False):
            return
        req.caller_at = NEVER
        if req.stage in ("entry", "backlog", "backoff"):
            req.let_go()
        else:
            req.set_alarm()

    def answered(self, req: Request, outcome: int, same: bool) -> bool:
        """The answer to a request, or what stands for one."""
        sim = self.sim
        if outcome in (EOF, TIMEOUT, OPEN, NO_ENTRY) or not sim.client.keep_alive:
            self.hang_up()
        again = self.try_again(req, outcome, same)
        if again is not None:
            return again is req
        sim.record(req, outcome)
        req.orphan, req.user, self.request = True, None, None
        self.last_answer = self.clock.now
        if outcome == OPEN:
            sim.count["interrupted"] += 1
        self.next(self.clock.now - req.began)
        return False

    def try_again(self, req: Request, outcome: int, same: bool) -> Request | None:
        """k6's silent replay (section 6.3), or the client's own retries with back-off."""
        client = self.sim.client
        replay = outcome == EOF and client.replay and req.later
        replay = replay and not req.operation.write and not req.replayed
        if not replay and (outcome in (OK, OPEN) or req.own_tries >= client.retries):
            return None
        new = req if same else req.twin()
        new.later = new.reused = new.present = new.redispatched = False
        new.doomed = new.overdue = False
        new.held, new.server, new.backend = None, None, None
        new.first_error, new.letters, new.retries, new.outcome = "", "", 0, OK
        new.demand = new.demand.again()
        new.next_at = new.haproxy_at = NEVER
        new.caller_at = self.clock.now + self.sim.timeout
        self.clock.set_alarm(new, NEVER)
        if replay:
            new.replayed = True
            self.sim.count["replays"] += 1
            new.soon(new.enter, CLIENT)
            return new
        tries = new.own_tries
        new.own_tries += 1
        self.sim.count["client_retries"] += 1
        d = new.demand
        word = philox((d.ordinal, d.entity, OWN_RETRIES, tries), d.key)[0]
        factor = 1.0 + round(client.jitter * 1e6) * 1e-6 * (2.0 * unit(word) - 1.0)
        pause = int(round(client.backoff_s * SECOND) * (1 << min(tries, 16)) * factor)
        new.caller_at = NEVER
        new.wait(self.clock.now + pause, lambda: self.after_backoff(new), "backoff")
        return new

    def after_backoff(self, req: Request) -> None:
        """The next try of the client."""
        req.caller_at = self.clock.now + self.sim.timeout
        req.soon(req.enter, CLIENT)

    def next(self, took: int) -> None:
        """Think, or give the user back to the arrivals.

        Even a client that does not think and is refused at once needs some time to try again.
        """
        self.step += 1
        if self.step >= len(self.sim.flow):
            self.step = 0
            self.sim.count["iterations"] += 1
            if self.sim.open_loop and self.think <= 0:
                self.state = "thinking"
                self.sim.free_users.append(self)
                return
        self.state = "thinking"
        pause = max(self.think, 0 if took > 0 else CYCLE)
        self.clock.set_alarm(self, self.clock.now + pause)

    def hang_up(self) -> None:
        """Close the kept connection."""
        way, self.connection = self.connection, None
        balancer = way.balancer if way is not None else None  # none in front of a direct backend
        if balancer is not None and balancer.life == self.life:
            balancer.leave()


class Arrivals(Timed):
    """Iterations by rate, evenly spaced in the integral of the rate or Poisson."""

    def __init__(self, sim: Any, pieces: list[dict[str, float]], poisson: bool) -> None:
        self.sim, self.clock, self.pieces, self.poisson = sim, sim.clock, pieces, poisson
        self.number, self.total = 0, 0.0

    def set_next(self) -> None:
        """When the next one comes."""
        if self.poisson:
            word = philox((self.number, ARRIVALS + 1, 0, 0), self.sim.key)[0]
            self.total += -math.log(1.0 - unit(word))
        else:
            self.total = float(self.number)
        self.clock.set_alarm(self, self.time_of(self.total))

    def time_of(self, need: float) -> int:
        """When the integral of the rate reaches `need`."""
        for p in self.pieces:
            span = (round(p["t1"]) - round(p["t0"])) * 1e-9
            if need <= p["sum0"] + p["r0"] * span + 0.5 * p["slope"] * span * span:
                x = need - p["sum0"]
                root = math.sqrt(max(0.0, p["r0"] ** 2 + 2.0 * p["slope"] * x))
                dt = 2.0 * x / (p["r0"] + root) if p["r0"] + root > 0.0 else 0.0
                return round(p["t0"]) + int(dt * 1e9)
        return NEVER

    def ring(self) -> None:
        """An iteration is due."""
        sim, number = self.sim, self.number
        self.number += 1
        self.set_next()
        if sim.free_users:
            user = sim.free_users.pop()
        elif len(sim.users) < sim.most_users:
            user = User(sim, len(sim.users), [])
            sim.users.append(user)
        else:
            sim.count["dropped_iterations"] += 1
            return
        user.ordinal = number
        req = user.begin(number * len(sim.flow), ARRIVALS)
        req.soon(req.enter, CLIENT)
