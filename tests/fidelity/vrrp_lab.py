"""Two load balancers of one segment with keepalived, as the reference measured them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sim"))

from fake_world import FakeWorld

from hasim.components.keepalived.config import build
from hasim.components.keepalived.scripts import looks
from hasim.model import Dist, Host, Instance, Link, Stack
from hasim.scenario import Fault, When
from hasim.sim.faults import Faults
from hasim.sim.instances import Machine
from hasim.sim.up import boot

VIP = "10.0.0.10"
ADDRESS = {"a": "10.0.0.11", "b": "10.0.0.12"}


def conf(node: str, advert: float = 1.0, weight: int = 0, **more) -> str:
    """keepalived.conf of the reference: a MASTER 101, b BACKUP 100, VRRP 3."""
    own = {"state": "MASTER" if node == "a" else "BACKUP", "priority": 101 if node == "a" else 100}
    own |= {"version": 3, "interval": 2, "fall": 1, "extra": "", "script": "killall -0 haproxy"}
    own |= {k: v[node] if isinstance(v, dict) else v for k, v in more.items()}
    peer = ADDRESS["b" if node == "a" else "a"]
    return f"""
vrrp_script chk {{
    script "{own["script"]}"
    interval {own["interval"]}
    fall {own["fall"]}
    rise 1
    weight {weight}
}}
vrrp_instance VI_1 {{
    state {own["state"]}
    interface eth0
    virtual_router_id 51
    priority {own["priority"]}
    version {own["version"]}
    advert_int {advert:g}
    unicast_src_ip {ADDRESS[node]}
    unicast_peer {{
        {peer}
    }}
    virtual_ipaddress {{
        {VIP}/24
    }}
    track_script {{
        chk
    }}
    {own["extra"]}
}}
"""


class Lab:
    """A replication: booted, settled, time 0 is the start of the load."""

    def __init__(self, seed: int = 1, faults: tuple[Fault, ...] = (), **settings):
        instances = []
        for node in "ab":
            config, findings = build(conf(node, **settings), f"keepalived-{node}.conf", looks)
            assert not [f for f in findings if f.severity == "error"], findings
            host = f"host-{node}"
            instances.append(Instance(f"haproxy-{node}", "haproxy", host, network_mode="host"))
            keeper = Instance(f"keep-{node}", "keepalived", host, network_mode="host")
            instances.append(replace(keeper, config=config))
        hosts = tuple(
            Host(f"host-{n}", 8, 2**34, Dist("const", 45.0), addresses=(ADDRESS[n], VIP))
            for n in "ab"
        )
        link = Link("host-a", "host-b", 0.0005)
        stack = Stack(".", "vrrp", "", (), hosts, (link,), tuple(instances), (), (), (), {})
        self.world = FakeWorld(stack, [], seed=seed)
        self.world.start_ns = 10**15
        self.world.scenario = replace(self.world.scenario, faults=faults)
        self.machine = Machine(self.world)
        self.moves: list[tuple[float, str | None]] = []
        self.machine.vip_watchers.append(self._moved)
        self.world.env.run(until=boot(self.world, self.machine))
        booted = self.when("Entering MASTER STATE", "a", -(10.0**9))
        self.world.start_ns = int(self.world.env.now)
        # when a's adverts began, on the clock of the load
        self.began = round(booted[0] + 10**6 - self.world.start_ns / 1e9, 9) if booted else 0.0
        self.faults = Faults(self.world, self.machine)
        self.faults.start()

    def _moved(self, address: str) -> None:
        self.moves.append((self.world.now_s, self.machine.vip_holder(address)))

    def run(self, until_s: float) -> Lab:
        self.world.run(until_s)
        return self

    @property
    def holder(self) -> str | None:
        return self.machine.vip_holder(VIP)

    def when(self, text: str, node: str = "", after: float = 0.0) -> list[float]:
        """Times of timeline rows of a node that contain the text."""
        return [
            t
            for _, _, t, component, event, _ in self.world.rows
            if text in event and t >= after and component.endswith(f"-{node}" if node else "")
        ]

    def master(self, node: str, after: float) -> float:
        """When the node next becomes master."""
        return self.when("Entering MASTER STATE", node, after)[0]

    def silence(self, since: float) -> float:
        """Seconds in which nobody answered for the address, after a moment."""
        known = [(0.0, "host-a"), *[m for m in self.moves if m[0] >= since]]
        ends = [*[t for t, _ in known[1:]], self.world.now_s]
        return sum(
            e - max(t, since) for (t, who), e in zip(known, ends, strict=True) if who is None
        )


def at(verb: str, target: str, when: float, lasts: float | None = None, **more) -> Fault:
    span = None if lasts is None else Dist("const", lasts)
    return Fault(verb, target, When(Dist("const", when)), span, **more)


def between(verb: str, when: float, lasts: float | None = None, **more) -> Fault:
    return at(verb, "", when, lasts, between=("host:host-a", "host:host-b"), **more)
