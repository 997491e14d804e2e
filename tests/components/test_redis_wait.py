"""WAIT: what a confirmation by k replicas costs, and which lost writes had one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from redis_lab import Lab

from hasim.bind import load_scenarios
from hasim.lineage import Cluster, Position
from hasim.model import Service
from hasim.read.profile import read_profile
from hasim.sim.run import replicate
from hasim.sim.trace import OK

TOP = Path(__file__).resolve().parents[2]
ALONE = {"redis-1": "a", "s1": "a", "app": "a", "redis-2": "b", "s2": "b"}
ALONE |= {"redis-3": "c", "s3": "c"}
WITH_ONE = ALONE | {"redis-2": "a"}
RTT_S = 0.0004


def waiting(replicas: int, timeout_s: float = 0.1, hosts=ALONE, **changes) -> Lab:
    lab = Lab(start=False, hosts=hosts, **changes)
    for name in lab.nodes:
        service = Service("redis", wait_replicas=replicas, wait_timeout_s=timeout_s)
        lab.machine.containers[name].service = service
    lab.start(warm_s=40.0)
    return lab


def waits(lab: Lab, name: str = "redis-1") -> list[float | None]:
    return [s for _, who, s in lab.world.commit_waits if who == name]


def cut_off(lab: Lab, heal_s: float = 20.0) -> Lab:
    cut = lab.machine.network.cut(("a",), ("b", "c"))
    lab.run(heal_s)
    lab.machine.network.heal(cut)
    lab.run(heal_s + 40.0)
    return lab


@pytest.mark.parametrize(("replicas", "cost_s"), [(1, 0.0), (2, RTT_S)])
def test_a_write_waits_for_the_kth_nearest_replica(replicas, cost_s) -> None:
    """One replica stands on the master's own host, the other one a round trip away."""
    assert waits(waiting(replicas, hosts=WITH_ONE))[-1] == pytest.approx(cost_s, abs=1e-4)


def test_without_enough_replicas_a_write_waits_for_the_timeout() -> None:
    lab = waiting(2)
    assert waits(lab)[-1] == pytest.approx(RTT_S)
    lab.machine.freeze("redis-2")
    assert waits(lab)[-1] == 0.1
    lab.machine.thaw("redis-2")
    assert waits(lab)[-1] == pytest.approx(RTT_S)
    lab.kill("redis-2")
    lab.run(0.1)
    assert waits(lab)[-1] == 0.1


def test_without_a_timeout_it_waits_for_ever() -> None:
    lab = waiting(2, float("inf"))
    lab.machine.freeze("redis-2")
    assert waits(lab)[-1] is None


def test_what_split_brain_loses_was_not_confirmed() -> None:
    """The isolated master goes on answering OK, and WAIT says 0 of each."""
    lab = cut_off(waiting(1))
    assert lab.cluster.lost() > 2000
    assert lab.cluster.lost_confirmed() == 0


@pytest.mark.parametrize(("replicas", "all_of_them"), [(1, True), (2, False)])
def test_one_replica_is_not_enough_if_another_one_is_promoted(replicas, all_of_them) -> None:
    """The replica on the master's side confirms; Sentinel promotes the one on the other side."""
    lab = cut_off(waiting(replicas, hosts=WITH_ONE))
    assert lab.cluster.lost() > 2000
    assert lab.cluster.lost_confirmed() == (lab.cluster.lost() if all_of_them else 0)


def test_who_does_not_ask_is_not_made_to_wait() -> None:
    lab = Lab(warm_s=30.0)
    assert not lab.world.commit_waits
    assert lab.cluster.lost_confirmed() == 0


def test_confirmations_of_a_branch_are_counted_by_writes() -> None:
    count = {"a": 0, "b": 0}
    cluster = Cluster("c", lambda n: count[n], lambda: 0)
    old = cluster.open("a", None)
    cluster.confirm(old, True)
    count["a"] = 10
    cluster.confirm(old, False)
    cluster.confirm(old, False)
    count["a"] = 15
    cluster.confirm(old, True)
    count["a"] = 18
    cluster.open("b", Position(old, 7))
    assert cluster.lost() == 11
    assert cluster.lost_confirmed() == 3 + 3


def test_the_profile_says_it() -> None:
    text = "redis:\n  ops: {set: {write: true}}\n  wait: {replicas: 2, timeout: 100ms}\n"
    (redis,), _, found = read_profile(text, "profile.yaml")
    assert not found
    assert (redis.wait_replicas, redis.wait_timeout_s) == (2, 0.1)
    (redis,), _, _ = read_profile(text.replace("wait", "backlog: 3 #"), "profile.yaml")
    assert redis.wait_replicas == 0


def test_requests_take_a_round_trip_more() -> None:
    """In the data plane: every session is a SET, host-a to host-b is 0.5 ms and back."""
    scenarios, stack = load_scenarios(TOP / "scenarios.yaml")
    scenario = next(s for s in scenarios.scenarios if s.name == "redis-master-kill")
    load = replace(scenario.load, stages=((20.0, 20.0),), start=20.0)
    scenario = replace(scenario, faults=(), load=load)
    means = []
    for replicas in (0, 1):
        services = tuple(
            replace(s, wait_replicas=replicas, wait_timeout_s=0.1) if s.name == "redis" else s
            for s in stack.services
        )
        trace = replicate(replace(stack, services=services), scenario, 1, 0)
        assert not trace.void
        op = next(i for i, name in enumerate(trace.ops) if name.endswith("/session"))
        answered = trace.hist[:, op, OK].sum()
        means.append(trace.latency_sum_s[:, op, OK].sum() / answered)
    assert means[1] - means[0] == pytest.approx(0.0005, abs=0.0001)
