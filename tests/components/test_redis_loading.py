"""A master that restarts with a large dataset: up to Sentinel, of no use to its clients."""

from __future__ import annotations

import pytest
from redis_lab import Lab

from hasim.model import Dist, Service

AOF = {"appendonly": True}


def restarted(load_s: float, reboot_ms: int = 0, until_s: float = 60.0, **changes) -> Lab:
    """Its process is killed and back within a second; loading takes long."""
    lab = Lab(**{"warm_s": 30.0, "redis": AOF, **changes})
    for name in lab.names:
        for master in lab.data(name).config.masters:
            object.__setattr__(master, "reboot_ms", reboot_ms)
    for name in lab.nodes:
        lab.machine.containers[name].service = Service("redis", boot=Dist("const", load_s))
    lab.kill("redis-1")
    lab.run(0.5)
    lab.back("redis-1")
    lab.run(until_s)
    assert not any(lab.data(n).late for n in lab.names)
    return lab


@pytest.mark.parametrize("load_s", [20.0, 50.0])
def test_while_it_loads_nobody_writes_and_nobody_fails_over(load_s) -> None:
    """LOADING is a valid answer: the outage is as long as the dataset, whatever down-after says."""
    lab = restarted(load_s)
    assert not lab.rows("+sdown")
    assert lab.master() == "redis-1"
    assert lab.first("Ready to accept connections") == pytest.approx(0.5 + load_s, abs=0.01)
    assert lab.rows("+reboot")
    silent = [s for s in lab.world.spans["redis-1"] if s[1] != -1]
    assert (lab.world.spans["redis-1"][-1][0] - silent[-1][1]) / 1e9 >= load_s
    assert lab.cluster.lost() == 0


def test_a_short_boot_is_not_loading() -> None:
    lab = restarted(0.3)
    assert not lab.rows("LOADING")
    assert lab.first("Ready to accept connections") == pytest.approx(0.8)


def test_master_reboot_down_after_period_replaces_a_master_that_loads_too_long() -> None:
    """It counts from the INFO that shows the new run id: 0 to 10 s after the restart."""
    lab = restarted(50.0, reboot_ms=10_000)
    reboot = lab.first("+reboot")
    assert 0.5 < reboot < 11.0
    assert 0.0 < lab.first("+sdown", "master ") - reboot - 10.0 < 0.2
    assert lab.rows("+switch-master")
    assert lab.master() not in ("", "redis-1")


def test_a_master_that_has_loaded_in_time_is_not_replaced() -> None:
    lab = restarted(8.0, reboot_ms=10_000)
    assert lab.rows("+reboot")
    assert not lab.rows("+sdown")


def test_s_down_by_loading_ends_with_the_first_pong() -> None:
    """No replica to promote: it goes on as the master once it has loaded."""
    lab = restarted(40.0, reboot_ms=5_000, replicas=0)
    assert lab.rows("+sdown", about="master ")
    assert 40.5 < lab.first("-sdown", "master ") < 42.0
    assert lab.master() == "redis-1"


def test_a_loading_replica_is_up_and_follows_afterwards() -> None:
    lab = Lab(warm_s=30.0, redis=AOF)
    lab.machine.containers["redis-2"].service = Service("redis", boot=Dist("const", 30.0))
    lab.kill("redis-2")
    lab.run(0.5)
    lab.back("redis-2")
    lab.run(60.0)
    assert not lab.rows("+sdown")
    assert lab.data("redis-2").follower.up


def test_loading_costs_few_events() -> None:
    lab = Lab(warm_s=30.0, redis=AOF)
    before = next(lab.world.env._eid)
    lab.machine.containers["redis-1"].service = Service("redis", boot=Dist("const", 300.0))
    lab.kill("redis-1")
    lab.run(0.5)
    lab.back("redis-1")
    lab.run(320.0)
    assert next(lab.world.env._eid) - before < 1500
