"""A World without a data plane: it records commands and answers checks from what edges show.

`responses[instance]` is what a health check of the instance gets once connected: (status, delay
in s); a delay of None never answers.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import simpy

from hasim.model import (
    Backend,
    Balancer,
    Check,
    Dist,
    Endpoint,
    Host,
    Instance,
    Link,
    Server,
    Service,
    Stack,
)
from hasim.scenario import Load, Scenario
from hasim.sim.world import (
    CONNECTS,
    L4CON,
    L4TOUT,
    L7RSP,
    L7TOUT,
    NS,
    REFUSED,
    SILENT,
    CheckPlan,
    Edge,
    Pace,
    Repeated,
    World,
)
from hasim.source import Span

NAMES = {0: "connects", 1: "refused", 2: "silent", 3: "no route"}


class FakeWorld(World):
    def __init__(self, stack: Stack, edges: list[Edge], phases: dict | None = None, seed: int = 1):
        self.env = simpy.Environment(initial_time=0)
        self.stack, self.seed = stack, seed
        self.scenario = Scenario(
            "test", "", Load("l", "constant-vus", ((600.0, 1.0),), 1.0), phases=phases or {}
        )
        self.start_ns = 0
        self._edges = edges
        self.rows: list[tuple] = []
        self.commands: list[tuple] = []
        self.shown: dict[Edge, list[tuple[float, str]]] = defaultdict(list)
        self.connect: dict[Edge, int] = {}
        self.rotation: dict[str, tuple[bool, bool]] = {}
        self.rotations: list[tuple[float, str, bool, bool]] = []
        self.responses: dict[str, tuple[int, float | None]] = {}
        self.frozen: set[str] = set()
        self.inflights: dict[str, int] = defaultdict(int)
        self.drains: dict[str, list[simpy.Event]] = defaultdict(list)
        self.checks: list[tuple[float, str]] = []
        self.observing: dict[Edge, simpy.Event] = {}
        self.ooms: dict[str, simpy.Event] = {}
        self.segments: list[float] = []
        self.waiting: list[tuple[str, simpy.Event]] = []
        self.frozen_checks: list[tuple[str, simpy.Event]] = []
        self.stores: dict[str, Store] = defaultdict(Store)
        self.measures: list[tuple] = []
        self.commit_waits: list[tuple[float, str, float | None]] = []

    # ---- randomness, time, timeline ------------------------------------------------------------
    def draw(self, process: str, tick: int, purpose: str = "") -> float:
        digest = hashlib.blake2b(f"{self.seed}/{process}/{tick}/{purpose}".encode(), digest_size=8)
        return int.from_bytes(digest.digest(), "big") / 2**64

    @property
    def now_s(self) -> float:
        return round((self.env.now - self.start_ns) / NS, 9)

    def log(self, component, event, detail="", *, cause=-1, origin=None):
        self.rows.append((len(self.rows), cause, self.now_s, component, event, detail))
        mark = len(self.rows) - 1
        for text, waiter in list(self.waiting):
            if text in event and not waiter.triggered:
                waiter.succeed(mark)
                self.waiting.remove((text, waiter))
        return mark

    def logged(self, text: str):
        event = self.env.event()
        self.waiting.append((text, event))
        return event

    def seconds(self, s):
        return self.env.timeout(round(s * NS))

    def spawn(self, process, name):
        return self.env.process(process)

    def segment(self):
        self.segments.append(self.now_s)

    # ---- data nodes ----------------------------------------------------------------------------
    def set_writable(self, instance, on):
        self._note("set_writable", instance, on)
        self.stores[instance].change(int(self.env.now), writable=on)

    def set_commit(self, instance, extra_s):
        self.commit_waits.append((self.now_s, instance, extra_s))
        self.stores[instance].change(int(self.env.now), stalled=extra_s is None)

    def cut(self, instance):
        self._note("cut", instance)

    def write(self, instance, per_second):
        """For tests: clients of this node commit at this rate from now on, while it lets them."""
        self.stores[instance].change(int(self.env.now), rate=per_second)

    def commits(self, instance):
        return int(self.stores[instance].at(int(self.env.now)) + 1e-6)

    def commits_since(self, instance, t_ns):
        store = self.stores[instance]
        return self.commits(instance) - int(store.at(min(t_ns, int(self.env.now))) + 1e-6)

    def measure(self, metric, value, **tags):
        self.measures.append((self.now_s, metric, tuple(sorted(tags.items())), value))

    # ---- instances -----------------------------------------------------------------------------
    def crash(self, instance):
        self._note("crash", instance)
        self.stores[instance].change(int(self.env.now), writable=False)
        self.inflights[instance] = 0
        self._drained(instance)
        for name, event in [w for w in self.frozen_checks if w[0] == instance]:
            self.frozen_checks.remove((name, event))
            event.succeed(L7RSP)

    def freeze(self, instance):
        self._note("freeze", instance)
        self.frozen.add(instance)
        self.stores[instance].change(int(self.env.now), frozen=True)

    def thaw(self, instance):
        self._note("thaw", instance)
        self.frozen.discard(instance)
        self.stores[instance].change(int(self.env.now), frozen=False)
        for name, event in [w for w in self.frozen_checks if w[0] == instance]:
            self.frozen_checks.remove((name, event))
            if not event.triggered:
                event.succeed(200)

    def close_idle(self, instance):
        self._note("close_idle", instance)

    def drained(self, instance):
        event = self.env.event()
        if self.inflights[instance] == 0:
            event.succeed()
        else:
            self.drains[instance].append(event)
        return event

    def finish_requests(self, instance):
        self.inflights[instance] = 0
        self._drained(instance)

    def _drained(self, instance):
        for event in self.drains.pop(instance, []):
            event.succeed()

    def set_speed(self, instance, factor):
        self._note("set_speed", instance, factor)

    def set_health(self, instance, url, status):
        self._note("set_health", instance, url, status)
        self.responses[instance] = (status or 200, 0.001)

    def oom(self, instance):
        return self.ooms.setdefault(instance, self.env.event())

    # ---- edges ---------------------------------------------------------------------------------
    def edges(self):
        return list(self._edges)

    def set_connect(self, edge, outcome):
        self.connect[edge] = outcome
        self.shown[edge].append((self.now_s, NAMES[outcome]))

    def set_delay(self, edge, extra_s):
        self._note("set_delay", edge.name, extra_s)

    def set_rotation(self, edge, usable, running):
        self.rotation[edge.name] = (usable, running)
        self.rotations.append((self.now_s, edge.name, usable, running))

    def set_weight(self, edge, sixteenths):
        self._note("set_weight", edge.name, sixteenths)

    def set_maxconn(self, edge, maxconn):
        self._note("set_maxconn", edge.name, maxconn)

    def shutdown_sessions(self, edge):
        self._note("shutdown_sessions", edge.name)

    def repeat_check(self, edge, kind, url, pace: Pace, due_ns, tick):
        """Nothing is repeated here: every check goes through the control plane."""
        return self.env.event().succeed(Repeated(tick, due_ns, 0, None))

    def stop_repeat(self, edge):
        pass

    def observed(self, edge):
        self.observing[edge] = self.env.event()
        return self.observing[edge]

    def inflight(self, instance):
        return self.inflights[instance]

    def rss_bytes(self, instance):
        return 0

    def check(self, edge, plan: CheckPlan):
        self.checks.append((self.now_s, edge.name))
        event = self.env.event()
        self.env.process(self._check(edge, plan, event))
        return event

    def _check(self, edge, plan, event):
        """Connect (SYN retransmits 1, 2, 3, 4 s), then the answer of the instance."""
        start = self.env.now
        for after in (0, 1, 2, 3, 4):
            at = start + after * NS
            if plan.connect_by and at >= plan.connect_by:
                break
            yield self.env.timeout(at - self.env.now)
            if self.connect[edge] == REFUSED:
                event.succeed(L4CON)
                return
            if self.connect[edge] == CONNECTS:
                yield from self._answer(edge, plan, event)
                return
        yield self.env.timeout(max(0, plan.connect_by - self.env.now))
        event.succeed(L4TOUT)

    def _answer(self, edge, plan, event):
        by = plan.answer_by or self.env.now + plan.answer_within
        status, delay_s = self.responses.get(edge.target, (200, 0.001))
        reply = self.env.event()
        if edge.target in self.frozen:
            self.frozen_checks.append((edge.target, reply))
        elif delay_s is not None:
            self.env.process(self._later(reply, delay_s, status))
        yield self.env.any_of([reply, self.env.timeout(by - self.env.now)])
        if reply.triggered:
            event.succeed(reply.value)
        else:
            event.succeed(L7TOUT)

    def _later(self, reply, delay_s, status):
        yield self.seconds(delay_s)
        if not reply.triggered:
            reply.succeed(status)

    # ---- for tests -----------------------------------------------------------------------------
    def _note(self, *words):
        self.commands.append((self.now_s, *words))

    def run(self, until_s):
        self.env.run(until=self.start_ns + round(until_s * NS))

    def events(self, text=""):
        """[(time, event, detail)] of timeline rows that contain the text."""
        return [(t, e, d) for _, _, t, _, e, d in self.rows if text in e]


class Store:
    """Commits of a node: a piecewise linear count, growing while it accepts writes."""

    def __init__(self):
        self.state = {"rate": 0.0, "writable": False, "stalled": False, "frozen": False}
        self.knots = [(0, 0.0, 0.0)]  # (t_ns, commits until then, rate from then on)

    def change(self, now, **state):
        total = self.at(now)
        self.state.update(state)
        idle = not self.state["writable"] or self.state["stalled"] or self.state["frozen"]
        self.knots.append((now, total, 0.0 if idle else self.state["rate"]))

    def at(self, t_ns):
        begun, total, rate = next(k for k in reversed(self.knots) if k[0] <= t_ns or k[0] == 0)
        return total + rate * (t_ns - begun) / NS


def span(line: int) -> Span:
    return Span("haproxy.cfg", line, 1)


def check_of(**changes) -> Check:
    base = {
        "kind": "http", "url": "/health/live", "expect_status": (200,), "inter_s": 2.0,
        "fastinter_s": 2.0, "downinter_s": 2.0, "rise": 2, "fall": 3, "timeout_check_s": None,
        "timeout_connect_s": 5.0,
    }  # fmt: skip
    return Check(**{**base, **changes})


def make_stack(
    n: int = 3,
    reach: str = "published",
    check: dict | None = None,
    server: dict | None = None,
    backend: dict | None = None,
    instance: dict | None = None,
    service: dict | None = None,
    balancer: dict | None = None,
    hosts: int = 4,
    resolvers: tuple = (),
    link: str = "l2",
) -> tuple[Stack, list[Edge]]:
    """HAProxy `haproxy` on host-1 before n gateways `gw-1`.. on host-2..; users from outside."""
    names = [f"host-{i + 1}" for i in range(hosts)]
    where = [names[(1 + i) % hosts] if reach != "bridge" else names[0] for i in range(n)]
    kinds = instance or {}
    gateways = tuple(
        Instance(f"gw-{i + 1}", "service", where[i], service="gw", **kinds) for i in range(n)
    )
    profile = Service(
        "gw",
        **{
            "boot": Dist("const", 5.0),
            "health": (Endpoint("/health/live"), Endpoint("/health/ready")),
            **(service or {}),
        },
    )
    checked, more = check_of(**(check or {})), server or {}
    servers = tuple(
        Server(f"s{i}", f"gw-{i}", 8009, f"gw-{i}", reach, checked, span=span(9 + i), **more)
        for i in range(1, n + 1)
    )
    back = Backend("gw", "http", "roundrobin", servers, **(backend or {}))
    proxy = Balancer(
        "haproxy", (2, 6, 12), 4096, (), (back,), resolvers=resolvers, **(balancer or {})
    )
    stack = Stack(
        ".",
        "test",
        "",
        (),
        tuple(Host(h, 8, 2**34, Dist("const", 45.0)) for h in names),
        tuple(Link(a, b, 0.0005, link) for i, a in enumerate(names) for b in names[i + 1 :]),
        (
            Instance("haproxy", "haproxy", names[0], restart="always", stop_signal="SIGUSR1"),
            *gateways,
        ),
        (profile,),
        (proxy,),
        (),
        {},
    )
    edges = [Edge("users", "haproxy", "", "published", "", names[0])]
    edges += [
        Edge("haproxy/gw", f"gw-{i + 1}", f"gw/s{i + 1}", reach, names[0], where[i])
        for i in range(n)
    ]
    return stack, edges


__all__ = ["CONNECTS", "REFUSED", "SILENT", "FakeWorld", "check_of", "make_stack"]
