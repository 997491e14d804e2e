"""What replicas hold, what a restart keeps, when a master refuses writes."""

from __future__ import annotations

import pytest
from redis_lab import Lab

FULL = "MASTER <-> REPLICA sync: Full resynchronization"
PARTIAL = "MASTER <-> REPLICA sync: Partial resynchronization"


def restarted(seconds: float = 1.0, before_s: float = 30.0, graceful: bool = False, **redis) -> Lab:
    """The master dies and is back within down-after."""
    lab = Lab(warm_s=before_s, redis=redis)
    lab.stop("redis-1") if graceful else lab.kill("redis-1")
    lab.run(seconds)
    lab.back("redis-1")
    lab.run(20.0)
    return lab


def test_a_fast_restart_without_persistence_empties_every_copy() -> None:
    """RD-5: no failover, the master comes back empty, the replicas copy that."""
    lab = restarted()
    assert not lab.rows("+sdown")
    assert not lab.rows("+switch-master")
    assert lab.rows(FULL)
    written = lab.cluster.branches[0].closed
    assert written > 2800
    assert lab.cluster.lost() == written
    assert lab.data("redis-1").position().branch.fork is None
    assert lab.data("redis-2").position().branch is lab.data("redis-1").branch


def test_a_fast_restart_with_an_append_only_file_loses_nothing() -> None:
    lab = restarted(appendonly=True)
    assert not lab.rows("+switch-master")
    assert lab.cluster.lost() == 0
    assert lab.data("redis-2").follower.up


def test_a_graceful_stop_saves_a_snapshot_where_save_points_are_set() -> None:
    """It hides RD-5: docker stop is not a crash."""
    assert restarted(graceful=True, save=((3600, 1),)).cluster.lost() == 0
    assert restarted(graceful=True).cluster.lost() > 0


def test_a_crash_finds_the_last_snapshot() -> None:
    """save 60 1: a snapshot a minute; what came after it is gone."""
    lab = restarted(before_s=150.0, save=((60, 1),))
    lost = lab.cluster.lost()
    assert 0 < lost < 100 * 61
    assert lab.data("redis-1").position().branch.fork is not None


def test_a_power_cut_takes_the_second_that_was_not_synced() -> None:
    lab = Lab(warm_s=30.0, redis={"appendonly": True}, hosts={"redis-1": "a"})
    lab.machine.power_off("a")
    lab.run(1.0)
    lab.machine.power_on("a")
    lab.back("redis-1")
    lab.run(20.0)
    assert lab.cluster.lost() == pytest.approx(100, abs=2)


def test_a_crash_of_the_process_loses_nothing_that_was_in_the_stream() -> None:
    """The kernel still delivers it; a power cut takes what was on its way."""
    lab = Lab(warm_s=30.0, hosts={"redis-1": "a"}, rate=100_000.0)
    lab.kill("redis-1")
    lab.run(10.0)
    assert lab.master()
    assert lab.cluster.lost() == 0
    lab = Lab(warm_s=30.0, hosts={"redis-1": "a"}, rate=100_000.0)
    lab.machine.power_off("a")
    lab.run(12.0)
    assert lab.master()
    assert lab.cluster.lost() == pytest.approx(100_000 * 0.0002, abs=3)


def test_a_replica_that_returns_goes_on_where_its_snapshot_ends() -> None:
    """Measured (kill_r): in sync again 0.06 to 0.24 s after its return."""
    lab = Lab(warm_s=30.0)
    lab.kill("redis-2")
    lab.run(12.0)
    lab.back("redis-2")
    lab.run(20.0)
    assert 12.0 < lab.first(PARTIAL) < 12.3
    assert not lab.rows(FULL)


def test_a_backlog_that_is_too_small_makes_it_a_full_resync() -> None:
    lab = Lab(warm_s=30.0, redis={"backlog_bytes": 20_000})
    lab.hole("redis-2")
    lab.run(70.0)  # repl-timeout 60 s
    lab.hole("redis-2", False)
    lab.run(90.0)
    assert lab.rows(FULL)


@pytest.mark.parametrize("delay_s", [0, 5, 20])
def test_a_full_resync_waits_for_the_diskless_delay(delay_s) -> None:
    lab = Lab(warm_s=60.0, redis={"diskless_delay_s": delay_s}, start=False)
    lab.start(warm_s=60.0)
    first = min(t for _, _, t, _, what, _ in lab.world.rows if what == FULL)
    assert delay_s <= first < delay_s + 1.3


def test_a_replica_of_a_hung_master_notices_nothing_for_repl_timeout() -> None:
    lab = Lab(warm_s=30.0, sentinels=0)
    lab.machine.freeze("redis-1")
    lab.run(59.0)
    assert lab.data("redis-2").follower.up
    lab.run(62.0)
    assert not lab.data("redis-2").follower.up


def test_min_replicas_refuses_when_replicas_die_and_accepts_when_they_return() -> None:
    lab = Lab(warm_s=30.0, redis={"min_replicas": 1, "max_lag_s": 10})
    assert lab.master() == "redis-1"
    lab.kill("redis-2")
    lab.run(1.0)
    assert lab.master() == "redis-1"
    lab.kill("redis-3")
    lab.run(2.0)
    assert lab.master() == ""
    assert 1.0 <= lab.first("NOREPLICAS") < 1.1
    lab.back("redis-3")
    lab.run(10.0)
    assert lab.master() == "redis-1"
    assert len(lab.cluster.branches) == 1
    assert lab.cluster.lost() == 0


def test_a_hung_master_refuses_once_it_runs_again() -> None:
    """Its replicas have left; nothing is lost although it takes itself for the master."""
    lab = Lab(warm_s=30.0, redis={"min_replicas": 1, "max_lag_s": 10})
    lab.machine.freeze("redis-1")
    lab.run(16.0)
    lab.machine.thaw("redis-1")
    lab.run(20.0)
    assert lab.first("NOREPLICAS") == 16.0
    lab.run(40.0)
    assert lab.cluster.lost() == 0


def test_a_hung_replica_stops_counting_after_max_lag() -> None:
    for seed in range(4):
        lab = Lab(warm_s=30.0, seed=seed, replicas=1, redis={"min_replicas": 1, "max_lag_s": 4})
        lab.machine.freeze("redis-2")
        lab.run(8.0)
        assert 4.0 < lab.first("NOREPLICAS") < 6.0
        lab.machine.thaw("redis-2")
        lab.run(11.0)
        assert lab.master() == "redis-1"


def test_a_role_that_was_saved_survives_a_restart() -> None:
    """CONFIG REWRITE in a file of its own; flags of a command come back (RD-6)."""
    for rewritable, role in ((True, "slave"), (False, "master")):
        lab = Lab(warm_s=30.0, redis={"rewritable": rewritable})
        lab.kill("redis-1")
        lab.run(8.0)
        lab.back("redis-1")
        lab.run(25.0)  # demoted, and saved where it can be
        assert lab.data("redis-1").role == "slave"
        lab.kill("redis-1")
        lab.run(26.0)
        lab.back("redis-1")
        lab.run(27.0)
        assert lab.data("redis-1").role == role


def test_slaveof_by_sentinel_cuts_clients() -> None:
    lab = Lab(warm_s=30.0)
    lab.kill("redis-1")
    lab.run(8.0)
    assert {n for _, n in lab.world.cuts} == {"redis-2", "redis-3"}


def test_exporters_see_roles_and_links() -> None:
    lab = Lab(warm_s=30.0)
    gauges = {(n, m): f for (n, m, _), f in lab.machine.gauges.items()}
    assert gauges["redis-1", "redis_connected_slaves"]() == 2
    assert gauges["redis-2", "redis_master_link_up"]() == 1
    assert gauges["s1", "redis_sentinel_master_status"]() == 1
    lab.kill("redis-1")
    lab.run(4.0)
    assert gauges["redis-1", "redis_up"]() == 0
    assert gauges["redis-2", "redis_master_link_up"]() == 0
