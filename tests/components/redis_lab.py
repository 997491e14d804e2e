"""Three Redis servers and some Sentinels on the real state machine, with a constant write rate.

Times are seconds after `zero`, the moment of the first fault.
"""

from __future__ import annotations

from collections import defaultdict

from sim.fake_world import FakeWorld

from hasim.components.redis.config import RedisConfig
from hasim.components.sentinel import START_S
from hasim.components.sentinel.config import MasterConfig, SentinelConfig
from hasim.model import Dist, Host, Instance, Link, Stack
from hasim.sim.instances import Machine
from hasim.sim.world import NS, Edge

# One rewrite of a Sentinel's file on an idle machine, and in the starved laboratory (reference 6).
IDLE = Dist("lognormal", 0.002, 0.35)
STARVED = Dist(
    "quantiles", table=((0.0, 0.0015), (0.05, 0.002), (0.5, 0.008), (0.95, 0.029), (1.0, 0.06))
)
NODES = ("redis-1", "redis-2", "redis-3")


class RedisWorld(FakeWorld):
    """Adds data nodes: each node that takes writes and is asked acknowledges `rates` a second."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.rates: dict[str, float] = defaultdict(float)
        self.writable: dict[str, bool] = {}
        self.spans: dict[str, list[list[int]]] = defaultdict(list)  # times at which it takes them
        self.cuts: list[tuple[float, str]] = []
        self.running: dict[str, bool] = {}

    def _update(self, name: str) -> None:
        now, spans = int(self.env.now), self.spans[name]
        if spans and spans[-1][1] == -1:
            spans[-1][1] = now
        if self.writable.get(name) and name not in self.frozen and self.rates[name]:
            spans.append([now, -1])

    def ask(self, name: str, rate: float) -> None:
        """Clients write so many a second to a node from now on."""
        self.rates[name] = rate
        self._update(name)

    def set_writable(self, instance, on):
        self.writable[instance] = on
        self._update(instance)

    def crash(self, instance):
        super().crash(instance)
        self.writable[instance] = False
        self._update(instance)

    def freeze(self, instance):
        super().freeze(instance)
        self._update(instance)

    def thaw(self, instance):
        super().thaw(instance)
        self._update(instance)

    def cut(self, instance):
        self.cuts.append((self.now_s, instance))

    def commits(self, instance):
        return self.commits_since(instance, -1)

    def commits_since(self, instance, t_ns):
        now = int(self.env.now)
        spans = ((max(a, t_ns), now if b == -1 else b) for a, b in self.spans[instance])
        return sum(int((b - a) * self.rates[instance] / NS) for a, b in spans if b > a)


class Lab:
    """`sentinels` Sentinels over three servers; everything up and settled, then time zero."""

    def __init__(
        self,
        sentinels: int = 3,
        quorum: int = 2,
        down_after_ms: int = 5000,
        failover_timeout_ms: int = 10000,
        seed: int = 1,
        redis: dict | None = None,
        sentinel: dict | None = None,
        hosts: dict[str, str] | None = None,
        rewrite: Dist = IDLE,
        warm_s: float = 120.0,
        eager: bool = False,
        discovery: str = "",
        rate: float = 100.0,
        skip: tuple[str, ...] = (),
        start: bool = True,
        parallel_syncs: int = 1,
        replicas: int = 2,
        network: str = "host",
        phases: dict | None = None,
    ):
        self.nodes = NODES[: replicas + 1]
        self.names = tuple(f"s{i + 1}" for i in range(sentinels))
        where = defaultdict(lambda: "lab", hosts or {})
        options = {"network_mode": network, "restart": "no"}
        if network != "host":
            options["networks"] = ("net",)
        options["peers"] = {"redis-1:6379": "redis-1"}
        made = [self._server(n, where[n], redis or {}, options) for n in self.nodes]
        master = MasterConfig(
            "mymaster", "redis-1", 6379, quorum, down_after_ms, failover_timeout_ms, parallel_syncs
        )
        for name in self.names:
            settings = {"state": name, "rewrite": rewrite, **(sentinel or {})}
            config = SentinelConfig(masters=(master,), **settings)
            made.append(Instance(name, "sentinel", where[name], config=config, **options))
        made.append(Instance("app", "service", where["app"], **options))
        stack = self._stack(made)
        edges = [
            Edge("app", n, "", "host", where["app"], where[n], discovery)
            for n in (self.nodes if discovery else ())
        ]
        self.world = RedisWorld(stack, edges, phases=phases, seed=seed)
        self.machine = Machine(self.world)
        self.eager, self.rate, self.zero_ns = eager, rate, 0
        if start:
            self.start(skip, warm_s)

    def _server(self, name: str, host: str, settings: dict, options: dict) -> Instance:
        settings = {"save": (), **settings}
        if name != "redis-1":
            settings["replicaof"] = ("redis-1", 6379)
        return Instance(name, "redis", host, config=RedisConfig(**settings), **options)

    def _stack(self, made: list[Instance]) -> Stack:
        places = sorted({i.host for i in made})
        links = [Link(a, b, 0.0004) for i, a in enumerate(places) for b in places[i + 1 :]]
        hosts = tuple(Host(h, 8, 2**34, Dist("const", 1.0)) for h in places)
        return Stack(".", "lab", "", (), hosts, tuple(links), tuple(made), (), (), (), {})

    def start(self, skip: tuple[str, ...] = (), warm_s: float = 120.0) -> None:
        for name in (*self.nodes, *self.names, "app"):
            if name not in skip:
                self.machine.exec(name)
        self.world.run(START_S + 0.0001)
        for name in self.names:
            p = self.process(name)
            if p is not None and p.data is not None:
                p.data.eager = self.eager
        self.world.ask("redis-1", self.rate)
        self.world.run(warm_s)
        self.zero()

    def zero(self) -> None:
        """Now is time zero."""
        self.zero_ns = int(self.world.env.now)

    @property
    def now_s(self) -> float:
        return (int(self.world.env.now) - self.zero_ns) / NS

    def run(self, until_s: float) -> None:
        """Up to so many seconds after zero."""
        self.world.env.run(until=self.zero_ns + round(until_s * NS))

    def process(self, name: str):
        return self.machine.containers[name].process

    def data(self, name: str):
        return self.process(name).data

    # ---- faults --------------------------------------------------------------------------------
    def kill(self, name: str) -> None:
        """kill -9."""
        self.machine.exit(self.process(name), 137)

    def back(self, name: str) -> None:
        """Its process is started again."""
        self.machine.exec(name)

    def stop(self, name: str) -> None:
        """SIGTERM."""
        self.process(name).send("SIGTERM")

    def hole(self, name: str, on: bool = True) -> None:
        self.machine.network.blackhole(name, on)

    # ---- what happened -------------------------------------------------------------------------
    def rows(self, event: str, by: str = "", about: str = "") -> list[tuple[float, str, str]]:
        """(time after zero, who, detail) of an event."""
        shift = self.zero_ns / NS
        return [
            (t - shift, who, detail)
            for _, _, t, who, what, detail in self.world.rows
            if what == event and (not by or who == by) and detail.startswith(about) and t >= shift
        ]

    def first(self, event: str, about: str = "", by: str = "") -> float:
        found = self.rows(event, by, about)
        return found[0][0] if found else float("nan")

    def last(self, event: str, about: str = "", by: str = "") -> float:
        found = self.rows(event, by, about)
        return found[-1][0] if found else float("nan")

    @property
    def cluster(self):
        return self.machine.clusters["redis:redis-1"]

    def master(self) -> str:
        """The server that takes writes."""
        running = (n for n in self.nodes if self.process(n) and self.data(n) is not None)
        return next((n for n in running if self.data(n).writable), "")
