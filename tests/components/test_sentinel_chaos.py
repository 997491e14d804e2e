"""Whatever happens to servers, Sentinels and the network: once it is over, they agree again."""

from __future__ import annotations

import random

import pytest
from redis_lab import NODES, Lab

from hasim.model import Dist, Service

APART = {"redis-1": "a", "s1": "a", "app": "a", "redis-2": "b", "s2": "b", "redis-3": "c"} | {
    "s3": "c"
}
VERBS = (
    *("kill", "back", "freeze", "thaw", "hole", "cut", "heal", "move", "dns", "power"),
    *("full", "clock", "load"),
)
WAITS_S = (0.01, 0.3, 2.0, 6.0, 15.0, 40.0)


class Chaos:
    """One random history, and its end."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        redis = {"appendonly": True, "rewritable": bool(seed % 5)} if seed % 4 else {}
        self.lab = Lab(
            seed=seed,
            warm_s=20.0,
            hosts=APART,
            network="host" if seed % 3 else "bridge",
            redis={"min_replicas": 1} if seed % 7 == 0 else redis,
            sentinel={"resolve_hostnames": not seed % 3},
            discovery="sentinel:mymaster",
        )
        self.machine, self.cuts, self.at_s = self.lab.machine, [], 0.0
        self.everyone = (*NODES, *self.lab.names)

    def act(self) -> None:
        """Something happens to somebody."""
        name = self.rng.choice(self.everyone)
        running, machine = self.lab.process(name) is not None, self.machine
        host = APART[name]
        match self.rng.choice(VERBS):
            case "kill" if running:
                self.lab.kill(name)
            case "back" if not running:
                self.lab.back(name)
            case "freeze":
                machine.freeze(name)
            case "thaw":
                machine.thaw(name)
            case "hole":
                self.lab.hole(name, not machine.network.holes[name])
            case "cut" if not self.cuts:
                self.cuts.append(machine.network.cut((self.rng.choice("abc"),), tuple("abc")))
            case "heal" if self.cuts:
                machine.network.heal(self.cuts.pop())
            case "move" if running:
                self.lab.kill(name)
                machine.new_address(name)
                self.lab.back(name)
            case "dns":
                machine.set_dns(self.rng.choice(("ok", "silent", "nx")))
            case "full" if running and self.lab.data(name) is not None:
                self.lab.data(name).disk_full(self.rng.random() < 0.5, -1)
            case "clock" if running and hasattr(self.lab.data(name), "clock_jump"):
                self.lab.data(name).clock_jump(self.rng.choice((-90.0, -1.0, 1.5, 30.0)))
            case "load" if name in NODES:
                boot = Dist("const", self.rng.choice((0.1, 3.0, 20.0)))
                machine.containers[name].service = Service("redis", boot=boot)
            case "power" if machine.powered(host):
                machine.power_off(host)
            case "power":
                machine.power_on(host)
        self.at_s += self.rng.choice(WAITS_S)
        self.lab.run(self.at_s)

    def repair(self) -> None:
        """Everything is mended; some minutes pass."""
        machine = self.machine
        machine.set_dns("ok")
        for cut in self.cuts:
            machine.network.heal(cut)
        for host in "abc":
            if not machine.powered(host):
                machine.power_on(host)
        for name in self.everyone:
            machine.thaw(name)
            if machine.network.holes[name]:
                self.lab.hole(name, False)
            if self.lab.process(name) is None:
                self.lab.back(name)
            elif self.lab.data(name) is not None:
                self.lab.data(name).disk_full(False, -1)
        self.lab.run(self.at_s + 400.0)


@pytest.mark.parametrize("seed", range(1, 9))
def test_they_agree_again(seed) -> None:
    chaos = Chaos(seed)
    for _ in range(12):
        chaos.act()
    chaos.repair()
    lab = chaos.lab
    named = {lab.data(n).masters[0].entry.name for n in lab.names}
    assert len(named) == 1
    assert [n for n in NODES if lab.data(n).writable] == list(named)
    replicas = [lab.data(n).follower for n in NODES if n not in named]
    assert all(f.up and f.master in named for f in replicas)
    usable = [e.target for e in lab.world.edges() if lab.world.rotation.get(e.name, (0,))[0]]
    assert usable == list(named)
    assert not any(lab.data(n).late for n in lab.names)
