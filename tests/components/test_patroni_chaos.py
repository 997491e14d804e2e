"""Whatever happens to members and etcd: nothing breaks, and once all is repaired there is one
primary, every replica streams, and with the DCS's rules kept there never were two for long.
"""

from __future__ import annotations

import random

import pytest

from hasim.components.patroni.config import Dynamic
from tests.components.patroni_lab import Lab

ALL = Dynamic(use_pg_rewind=True)


class Chaos:
    """Random faults, each repaired before the end."""

    def __init__(self, lab: Lab, seed: int):
        self.lab, self.dice = lab, random.Random(seed)
        self.silent: set[str] = set()
        self.frozen: set[str] = set()
        self.off: set[str] = set()

    def step(self) -> str:
        lab, machine = self.lab, self.lab.machine
        names = [n for n, c in machine.containers.items() if c.spec.kind in ("patroni", "etcd")]
        name = self.dice.choice(names)
        host = lab.host(name)
        what = self.dice.choice(("kill", "start", "silence", "heal", "freeze", "thaw", "stop",
                                 "postmaster", "power", "boot", "switchover"))  # fmt: skip
        if what == "kill":
            machine.docker.kill(name)
        elif what == "start":
            machine.docker.start(name)
        elif what == "silence" and host not in self.silent:
            self.silent.add(host)
            machine.network.blackhole(host, True)
        elif what == "heal" and host in self.silent:
            self.silent.discard(host)
            machine.network.blackhole(host, False)
        elif what == "freeze":
            machine.freeze(name)
        elif what == "thaw":
            machine.thaw(name)
        elif what == "stop":
            lab.world.env.process(machine.docker.stop(name))
        elif what == "power":
            machine.power_off(host)
        elif what == "boot":
            machine.power_on(host)
        else:
            self._database(what, name)
        return f"{what} {name}"

    def _database(self, what: str, name: str) -> None:
        lab, machine = self.lab, self.lab.machine
        inner = machine.containers.get(f"{name}.postgres")
        if what == "postmaster" and inner is not None and inner.process is not None:
            machine.exit(inner.process, 137)
        leader = lab.leader()
        if what == "switchover" and leader:
            lab.primary = leader
            lab.switchover()

    def repair(self) -> None:
        machine = self.lab.machine
        for host in sorted(self.silent):
            machine.network.blackhole(host, False)
        for host in machine.hosts:
            machine.power_on(host)
        outer = [n for n, c in machine.containers.items() if not c.spec.inside]
        for name in outer:
            machine.thaw(name)
        self.lab.run(15)  # what is being stopped has gone by then
        for name in outer:
            machine.docker.start(name)


@pytest.mark.parametrize("seed", range(12))
def test_after_any_chaos_there_is_one_primary_and_all_replicas_stream(seed: int) -> None:
    lab = Lab(n=3, etcd=3, together=seed % 2 == 0, dynamic=ALL, seed=seed + 1)
    chaos, done = Chaos(lab, seed), []
    for _ in range(25):
        done.append(f"{lab.world.now_s:.1f} {chaos.step()}")
        lab.run(chaos.dice.choice((0.01, 1, 7, 23, 40)))
    chaos.repair()
    done.append(f"{lab.world.now_s:.1f} repair")
    lab.run(240)
    assert len(lab.writable()) == 1, done
    leader = lab.leader()
    assert lab.writable() == [leader], done
    rows = lab.server(leader).streaming()
    assert sorted(state for _, state, _ in rows) == ["streaming", "streaming"], (rows, done)
    assert lab.machine.containers["etcd-1"].process.data.leader == lab.etcd_leader()


@pytest.mark.parametrize("seed", range(4))
def test_the_same_seed_gives_the_same_history(seed: int) -> None:
    def history() -> list:
        lab = Lab(n=3, etcd=3, dynamic=ALL, seed=seed + 1)
        chaos = Chaos(lab, seed)
        for _ in range(10):
            chaos.step()
            lab.run(chaos.dice.choice((1, 13)))
        return lab.world.rows

    assert history() == history()
