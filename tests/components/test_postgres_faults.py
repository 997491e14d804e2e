"""PostgreSQL servers: other upstreams, killed backends, slow disks, jumping clocks."""

from __future__ import annotations

import pytest
from postgres_lab import Lab


# ---- another upstream ----------------------------------------------------------------------------
def test_a_standby_turns_to_another_upstream_at_once() -> None:
    lab = Lab(3).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    lab.machine.docker.kill("pg-1")
    lab.run(1)
    lab.pg("pg-2").promote()
    lab.run(1)
    lab.world.write("pg-2", 100)
    begun = lab.world.now_s
    lab.pg("pg-3").follow("pg-2")
    lab.run(3)
    assert lab.said("started streaming")[-1][0] - begun < 0.1
    assert lab.pg("pg-2").streaming() == (("pg-3", "streaming", False),)
    assert lab.pg("pg-3").timeline == 2
    lab.pg("pg-3").follow("")
    said = len(lab.said(""))
    lab.run(60)
    assert lab.pg("pg-2").streaming() == ()
    assert len(lab.said("")) == said  # without primary_conninfo there is nothing to say
    lab.pg("pg-3").follow("pg-2")
    lab.run(1)
    assert lab.pg("pg-2").streaming() == (("pg-3", "streaming", False),)


def test_the_name_of_a_stopped_container_cannot_be_resolved() -> None:
    lab = Lab(2, same_host=True, instance={"restart": "no"}).up()
    lab.machine.docker.kill("pg-1")
    lab.run(30)
    told = [t for t, event, _ in lab.said("could not connect to the primary server")]
    assert len(told) == 1  # the same failure every 5 s is one row
    assert lab.said('could not translate host name "pg-1" to address: Name or service not known')
    begun = lab.world.now_s
    lab.machine.docker.start("pg-1")
    lab.run(10)
    assert lab.said("started streaming")[-1][0] - begun < 5.5


def test_a_standby_may_follow_a_standby() -> None:
    lab = Lab(3, rtt_s=0.2).up()
    lab.pg("pg-3").follow("pg-2")
    lab.world.write("pg-1", 100)
    lab.run(10)
    assert lab.pg("pg-2").streaming() == (("pg-3", "streaming", False),)
    assert lab.pg("pg-3").received.count == pytest.approx(1000 - 20, abs=1)


# ---- less common ---------------------------------------------------------------------------------
def test_a_killed_backend_ends_all_sessions_and_the_same_postmaster_recovers() -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    p = lab.machine.containers["pg-1"].process
    lab.machine.kill_child("pg-1")
    lab.run(10)
    assert lab.machine.containers["pg-1"].process is p
    assert lab.pg("pg-1").writable
    assert lab.said("reinitializing")
    assert lab.pg("pg-1").streaming() == (("pg-2", "streaming", False),)
    assert len(lab.cluster.branches) == 1
    assert lab.cluster.branches[0].gaps
    assert lab.cluster.commits("pg-1") > 1200


def test_a_killed_backend_of_a_standby_starts_the_walreceiver_again() -> None:
    lab = Lab(2).up()
    lab.machine.kill_child("pg-2")
    lab.run(10)
    assert lab.pg("pg-1").streaming() == (("pg-2", "streaming", False),)


def test_a_delayed_standby_shows_commits_of_an_age_and_catches_up_when_promoted() -> None:
    lab = Lab(2, standby={"recovery_min_apply_delay": "30s"}).up()
    lab.world.write("pg-1", 100)
    lab.run(100)
    assert lab.gauge("pg-2", "replication_lag") == pytest.approx(30, abs=0.1)
    lab.machine.docker.kill("pg-1")
    lab.run(1)
    lab.pg("pg-2").promote()
    lab.run(3)
    assert lab.cluster.lost() == 0


def test_synchronous_commit_off_loses_the_latest_commits_in_a_crash() -> None:
    """At most three times wal_writer_delay; the standby never had them either."""
    lost = []
    for seed in range(8):
        lab = Lab(2, primary={"synchronous_commit": "off"}, seed=seed).up()
        lab.world.write("pg-1", 1000)
        lab.run(5)
        lab.machine.exit(lab.machine.containers["pg-1"].process, 137)
        lab.run(5)
        lab.world.write("pg-1", 0)
        lost.append(lab.cluster.lost())
    assert 0 < max(lost) <= 600
    assert len(set(lost)) > 4


def test_a_slow_disk_makes_commits_slower_here_and_by_a_synchronous_standby() -> None:
    lab = Lab(2, rtt_s=0.04, primary={"synchronous_standby_names": "pg-2"}).up()
    lab.pg("pg-2").disk_slow(10.0)
    assert lab.world.commit_waits[-1][2] == pytest.approx(0.04 + 50e-6 + 0.01, abs=1e-6)
    lab.pg("pg-2").disk_slow(1.0)
    lab.pg("pg-1").disk_slow(5.0)
    assert lab.world.commit_waits[-1][2] == pytest.approx(0.04 + 50e-6 + 0.001 + 0.004, abs=1e-6)


def test_a_clock_that_jumps_shows_a_lag_that_is_not_there() -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    lab.pg("pg-2").clock_jump(120.0)
    assert lab.gauge("pg-2", "pg_replication_lag") > 119
    assert lab.gauge("pg-2", "replication_lag") < 0.1
    lab.pg("pg-2").clock_jump(-240.0)
    assert lab.gauge("pg-2", "pg_replication_lag") == 0.0


def test_wal_goes_in_whole_files_so_a_slow_primary_keeps_what_it_wrote() -> None:
    lab = Lab(2, wal_bytes=1000, primary={"full_page_writes": "off"}, instance={"restart": "no"})
    lab.up()
    lab.world.write("pg-1", 10)  # 16 MiB take half an hour
    lab.run(10)
    lab.machine.docker.kill("pg-2")
    lab.run(1200)  # four checkpoints
    lab.machine.docker.start("pg-2")
    lab.run(10)
    assert lab.pg("pg-1").streaming() == (("pg-2", "streaming", False),)


def test_a_standby_recovers_from_its_last_restartpoint() -> None:
    lab = Lab(
        2, wal_bytes=10_000, primary={"full_page_writes": "off", "max_wal_size": "100GB"}
    ).up()
    lab.world.write("pg-1", 1000)
    lab.run(1000)  # 10 GB, of which less than 300 s are behind the last checkpoint
    lab.machine.docker.kill("pg-2")
    lab.machine.docker.start("pg-2")
    lab.run(60)
    recovered = lab.said("interrupted while in recovery")[-1][2]
    assert 0 < float(recovered.split(" MB")[0]) < 10 * 300


def test_a_manager_keeps_a_slot_for_each_member_and_moves_it_on_a_standby() -> None:
    lab = Lab(2, wal_bytes=10_000, primary={"full_page_writes": "off"}, standby={}).up()
    lab.world.write("pg-1", 1000)
    lab.run(5)
    primary, standby = lab.pg("pg-1"), lab.pg("pg-2")
    primary.keep_slots({"pg_2": 0.0, "pg_3": 0.0})
    standby.keep_slots({"pg_3": 0.0})
    begun = standby.slot_positions()["pg_3"]
    assert begun > 0  # from its last checkpoint on
    lab.run(5)
    standby.keep_slots({"pg_3": begun + 1e7})
    assert standby.slot_positions() == {"pg_3": begun + 1e7}
    standby.keep_slots({"pg_3": 1e15})  # never beyond what it has itself
    assert standby.slot_positions()["pg_3"] <= standby.received_bytes()
    primary.keep_slots({"pg_2": 0.0})
    assert list(primary.slot_positions()) == ["pg_2"]


def test_the_same_seed_gives_the_same_timeline() -> None:
    def rows(seed):
        lab = Lab(3, seed=seed).up()
        lab.world.write("pg-1", 100)
        lab.run(5)
        lab.machine.power_off("host-1")
        lab.run(70)
        lab.pg("pg-3").promote()
        lab.pg("pg-2").follow("pg-3")
        lab.run(10)
        return lab.world.rows

    assert rows(7) == rows(7)
    assert rows(7) != rows(8)


def test_a_restarted_primary_does_not_inherit_the_stall_of_its_last_life() -> None:
    lab = Lab(2, primary={"synchronous_standby_names": "pg-2"}).up()
    lab.machine.docker.kill("pg-2")
    lab.run(1)
    lab.pg("pg-1").set_sync((), "")
    assert lab.world.commit_waits[-1][2] == 0.0
    lab.machine.exit(lab.machine.containers["pg-1"].process, 137)
    lab.run(5)
    assert lab.world.commit_waits[-1][2] is None  # the file still names pg-2
