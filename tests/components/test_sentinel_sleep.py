"""A Sentinel that sleeps does what one that ticks all the time does, with far fewer events."""

from __future__ import annotations

import pytest
from redis_lab import NODES, Lab

from hasim.components.sentinel import sleep


def trouble(kind: str, lab: Lab) -> None:
    """Something that lasts from second 0 to second 12."""
    machine = lab.machine
    if kind in ("kill", "kill with a sentinel"):
        lab.kill("redis-1")
    if kind == "kill with a sentinel":
        lab.kill("s1")
    if kind == "hang":
        machine.freeze("redis-1")
    if kind in ("black hole", "black hole and a hanging sentinel"):
        lab.hole("redis-1")
    if kind == "black hole and a hanging sentinel":
        machine.freeze("s2")
    if kind == "replica":
        lab.kill("redis-2")
        lab.hole("s2")
    lab.run(12.0)
    for name in (*NODES, *lab.names):
        if lab.process(name) is None:
            lab.back(name)
        machine.thaw(name)
        if machine.network.holes[name]:
            lab.hole(name, False)
    lab.run(45.0)


KINDS = (
    "kill",
    "kill with a sentinel",
    "hang",
    "black hole",
    "black hole and a hanging sentinel",
    "replica",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1])
def test_sleeping_changes_nothing(kind, seed, monkeypatch) -> None:
    monkeypatch.setattr(sleep, "LONG_NS", 10**15)  # the same ticks in both
    logs, events = [], []
    for eager in (False, True):
        lab = Lab(seed=seed, eager=eager, warm_s=20.0)
        trouble(kind, lab)
        logs.append([row[2:] for row in lab.world.rows])
        events.append(next(lab.world.env._eid))
        assert not any(lab.data(n).late for n in lab.names)
    assert logs[0] == logs[1]
    assert events[0] * 5 < events[1]


def test_a_quiet_quarter_of_an_hour_costs_next_to_nothing() -> None:
    lab = Lab(warm_s=60.0)
    before = next(lab.world.env._eid)
    lab.run(900.0)
    assert next(lab.world.env._eid) - before < 50


@pytest.mark.parametrize("quorum", [1, 2, 3])
def test_a_quarter_of_an_hour_of_trouble_stays_within_the_budget(quorum) -> None:
    """A dead master that nobody can replace, then a failover every minute."""
    lab = Lab(warm_s=30.0, quorum=quorum)
    before = next(lab.world.env._eid)
    lab.kill("s1")
    lab.kill("s2")
    lab.kill("redis-1")
    lab.run(300.0)
    for name in ("s1", "s2", "redis-1"):
        lab.back(name)
    lab.run(301.0)
    for minute in range(5, 15):
        master = lab.master()
        if master:
            lab.kill(master)
        lab.run(minute * 60.0 + 30.0)
        if master:
            lab.back(master)
        lab.run(minute * 60.0 + 60.0)
    assert next(lab.world.env._eid) - before < 12_000
    assert not any(lab.data(n).late for n in lab.names)


def test_phases_pin_the_tick_that_sends_everything() -> None:
    """Pinned 0.2 s before a hang, the next ping is 0.8 s away, for all three."""
    phases = {"s1": 59.8, "s2": 59.8, "s3": 59.8}
    lab = Lab(seed=5, warm_s=60.0, phases=phases)
    lab.machine.freeze("redis-1")
    lab.run(8.0)
    downs = [t for t, _, _ in lab.rows("+sdown", about="master ")]
    assert len(downs) == 3
    assert all(5.8 < t < 6.05 for t in downs)
