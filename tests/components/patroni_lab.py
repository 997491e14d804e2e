"""A laboratory like the one in which Patroni was measured: members, etcd, HAProxy, a writer.

The state machine, the network, Docker, etcd, Patroni, PostgreSQL and HAProxy are the real ones;
only the data plane is the fake world, with one address for each health URL.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from hasim.components.etcd.config import EtcdConfig
from hasim.components.patroni.client import Gone
from hasim.components.patroni.config import CMDLINE, Dynamic, PatroniConfig
from hasim.components.patroni.node import Node
from hasim.model import Backend, Balancer, Dist, Host, Instance, Link, Server, Stack
from hasim.sim.instances import Machine
from hasim.sim.world import NS, Edge
from hasim.source import Default
from tests.sim.fake_world import FakeWorld, check_of, span

WRITES = 50
# reference/measured: the lab's HAProxy: inter 3s, fall 3, rise 2, timeout check 5s, connect 10s
CHECK = {
    "url": "/primary", "inter_s": 3.0, "fastinter_s": 3.0, "downinter_s": 3.0, "fall": 3,
    "rise": 2, "timeout_check_s": 5.0, "timeout_connect_s": 10.0,
}  # fmt: skip


class LabWorld(FakeWorld):
    """Health checks get what their own URL answers; control events are counted."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.urls: dict[tuple[str, str], int] = {}

    def set_health(self, instance, url, status):
        self.urls[instance, url] = status or 200

    def _answer(self, edge, plan, event):
        status = self.urls.get((edge.target, plan.url), 200)
        self.responses[edge.target] = (status, 0.001)
        return super()._answer(edge, plan, event)


def lab_stack(
    n: int = 2, etcd: int = 1, together: bool = False, dynamic: Dynamic | None = None,
    haproxy: bool = False, **member,
) -> Stack:  # fmt: skip
    """n members, each on a host of its own; etcd on other hosts, or `together` on the same."""
    dynamic = dynamic or Dynamic(use_pg_rewind=True)
    homes = [f"h{i + 1}" for i in range(n)]
    etcd_homes = homes[:etcd] if together else [f"x{i + 1}" for i in range(etcd)]
    names = [f"etcd-{i + 1}" for i in range(etcd)]
    peers = tuple((f"e{i + 1}", name, 2380) for i, name in enumerate(names))
    instances = []
    for (member_name, _, _), name, home in zip(peers, names, etcd_homes, strict=True):
        config = EtcdConfig(name=member_name, peers=peers)
        known = {f"{other}:2380": other for other in names}
        instances.append(
            Instance(name, "etcd", home, network_mode="host", config=config, peers=known)
        )
    for i, home in enumerate(homes):
        name = f"pg-{i + 1}"
        config = PatroniConfig(
            name=name, scope="lab", hosts=tuple((e, 2379) for e in names), dynamic=dynamic,
            rest=(name, 8008), postgres=(name, 5432), **member,
        )  # fmt: skip
        known = {f"{e}:2379": e for e in names} | {f"{name}:8008": name}
        outer = Instance(name, "patroni", home, network_mode="host", config=config, peers=known)
        values = {k: (v, Default("lab")) for k, v in CMDLINE.items()}
        instances += [outer, replace(
            outer, name=f"{name}.postgres", kind="postgres", inside=name, config=values, peers={}
        )]  # fmt: skip
    return _with_haproxy(instances, homes, etcd_homes, n if haproxy else 0)


def _with_haproxy(instances: list, homes: list[str], etcd_homes: list[str], n: int) -> Stack:
    hosts = list(dict.fromkeys([*homes, *etcd_homes, "client"]))
    balancers = ()
    if n:
        servers = tuple(
            Server(f"pg{i + 1}", f"pg-{i + 1}", 5432, f"pg-{i + 1}.postgres", "host",
                   check_of(**CHECK), check_instance=f"pg-{i + 1}", span=span(10 + i))
            for i in range(n)
        )  # fmt: skip
        backend = Backend("pg", "tcp", "roundrobin", servers)
        balancers = (Balancer("haproxy", (2, 6, 12), 4096, (), (backend,)),)
        instances = [*instances, Instance("haproxy", "haproxy", "client", network_mode="host")]
    return Stack(
        ".", "lab", "", (), tuple(Host(h, 4, 1 << 30, Dist("const", 40.0)) for h in hosts),
        tuple(Link(a, b, 0.0005) for i, a in enumerate(hosts) for b in hosts[i + 1:]),
        tuple(instances), (), balancers, (), {},
    )  # fmt: skip


def _edges(stack: Stack) -> list[Edge]:
    made = []
    for server in (s for b in stack.balancers for back in b.backends for s in back.servers):
        home = stack.instance(server.instance).host
        made.append(
            Edge("haproxy/pg", server.instance, f"pg/{server.name}", "host", "client", home)
        )
        made.append(Edge("haproxy/pg", server.check_instance, "", "host", "client", home))
    return made


class Lab:
    """Up, settled, with a primary that is written to; then time zero."""

    def __init__(self, seed=1, settle_s=60.0, writes=WRITES, phases=None, **kw):
        stack = lab_stack(**kw)
        self.phases: dict[str, float] = phases or {}
        self.world = LabWorld(stack, _edges(stack), phases=self.phases, seed=seed)
        self.machine = Machine(self.world)
        for name, container in self.machine.containers.items():
            if not container.spec.inside:
                self.machine.docker.start(name)
        self.run(settle_s)
        self.primary = self.leader()
        assert self.primary, "nobody leads after the start"
        self.world.write(f"{self.primary}.postgres", writes)
        self.zero()

    def zero(self, **phases: float) -> None:
        """Times of the world count from now on; phases as in a scenario."""
        self.world.start_ns = int(self.world.env.now)
        self.phases.update(phases)
        world = self.world
        self.begun = len(world.rows), len(world.commit_waits), len(world.rotations)
        self.machine.load_started()

    # ---- time ----------------------------------------------------------------------------------
    def run(self, seconds: float) -> None:
        self.world.env.run(until=self.world.env.now + round(seconds * NS))

    def until(self, t_s: float) -> None:
        self.world.run(t_s)

    def events(self, seconds: float) -> int:
        """Control-plane events of so many seconds."""
        env, count = self.world.env, 0
        end = env.now + round(seconds * NS)
        while env.peek() < end:
            env.step()
            count += 1
        return count

    def when(self, condition, limit_s: float = 120.0, step_s: float = 0.01) -> float:
        """Run until a condition holds, looking every step; the time then (inf: it never did)."""
        end = self.world.now_s + limit_s
        while self.world.now_s < end:
            if condition():
                return self.world.now_s
            self.run(step_s)
        return float("inf")

    def cycle(self) -> float:
        """Run to the moment at which the leader has just refreshed its lease; that moment."""
        dcs = self.node(self.primary).dcs
        before = self.lease_expiry()
        while self.lease_expiry() == before:
            self.run(0.005)
        assert dcs.lease
        return self.world.now_s

    # ---- what there is -------------------------------------------------------------------------
    def node(self, name: str) -> Node | None:
        p = self.machine.containers[name].process
        return p.data if p is not None else None

    def server(self, name: str):
        p = self.machine.containers[f"{name}.postgres"].process
        return p.data if p is not None else None

    def members(self) -> list[str]:
        return [n for n, c in self.machine.containers.items() if c.spec.kind == "patroni"]

    def leader(self) -> str:
        found = [n for n in self.members() if (x := self.node(n)) and x.is_leader and x.is_primary]
        return found[0] if found else ""

    def writable(self) -> list[str]:
        return [n for n in self.members() if (s := self.server(n)) and s.writable]

    def other(self) -> str:
        return next(n for n in self.members() if n != self.primary)

    def host(self, name: str) -> str:
        return self.machine.containers[name].spec.host

    def etcd_leader(self) -> str:
        for name, c in self.machine.containers.items():
            if c.spec.kind == "etcd" and c.process and c.process.data.leads:
                return name
        return ""

    def store(self):
        return self.machine.containers[self.etcd_leader() or "etcd-1"].process.data.store

    def lease_expiry(self) -> int:
        node = self.node(self.primary)
        return self.store().leases[node.dcs.lease].expires_ns

    def locked(self) -> str:
        """Who has the leader key."""
        entry = self.store().keys.entries.get("/service/lab/leader")
        return entry.value if entry else ""

    def at(self, text: str, component: str = "", after: float = -1.0) -> float | None:
        """When a line with this text was logged first, since time zero."""
        for _, _, t, who, event, detail in self.world.rows[self.begun[0] :]:
            if t > after and component in who and text in f"{event} {detail}":
                return t
        return None

    def said(self, text: str) -> bool:
        return self.at(text) is not None

    def lost(self) -> int:
        return sum(c.lost() for c in self.machine.clusters.values())

    def split_s(self) -> float:
        return sum(c.split_brain_s(self.world.start_ns) for c in self.machine.clusters.values())

    # ---- faults, as the measured trials name them -----------------------------------------------
    def node_kill(self, name: str = "") -> None:
        self.machine.docker.kill(name or self.primary)

    def power_off(self, name: str = "") -> None:
        self.machine.power_off(self.host(name or self.primary))

    def pm_kill(self) -> None:
        self.machine.exit(self.machine.containers[f"{self.primary}.postgres"].process, 137)

    def sigterm(self) -> None:
        self.world.env.process(self.machine.docker.stop(self.primary))

    def freeze(self, name: str = "") -> None:
        """SIGSTOP of Patroni alone."""
        self.machine.freeze(name or self.primary, alone=True)

    def thaw(self, name: str = "") -> None:
        self.machine.thaw(name or self.primary, alone=True)

    def silence(self, on: bool = True, name: str = "") -> None:
        """The host's link is cut."""
        self.machine.network.blackhole(self.host(name or self.primary), on)

    def switchover(self, candidate: str = "") -> None:
        node = self.node(self.primary)

        def ask():
            with suppress(Gone):
                yield from node.dcs.ask_failover(node.config.name, candidate)
                node.wake()

        self.world.env.process(ask())

    def start(self, name: str) -> None:
        self.machine.docker.start(name)


def lab_at(phase_s: float, **kw) -> Lab:
    """The lease was refreshed phase_s ago; that moment is time zero."""
    lab = Lab(**kw)
    lab.cycle()
    lab.run(phase_s)
    lab.zero()
    return lab


def new_primary(lab: Lab) -> float:
    """When another member accepts writes."""
    old = lab.primary
    return lab.when(lambda: any(w != old for w in lab.writable()))
