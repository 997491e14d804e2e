"""PostgreSQL servers: roles, replication, timeouts and stops, in the operator's words."""

from __future__ import annotations

import pytest
from postgres_lab import Lab

from hasim.components.base import components


def primary_of(lab, name="pg-1"):
    return lab.pg(name)


# ---- roles and streaming ------------------------------------------------------------------------
def test_a_standby_is_filled_by_a_base_backup_and_streams() -> None:
    lab = Lab(3).up()
    assert primary_of(lab).writable
    assert sorted(lab.pg("pg-1").streaming()) == [
        ("pg-2", "streaming", False),
        ("pg-3", "streaming", False),
    ]
    for name in ("pg-2", "pg-3"):
        assert lab.pg(name).role == "standby"
        assert lab.pg(name).ready
        assert not lab.pg(name).writable
    assert lab.said("base backup completed")


def test_a_healthy_standby_is_one_way_behind() -> None:
    lab = Lab(2, rtt_s=0.2).up()
    lab.world.write("pg-1", 400)
    lab.run(5)
    assert lab.pg("pg-2").received.count == 2000 - 40
    assert lab.gauge("pg-2", "replication_lag") == pytest.approx(0.1, abs=0.005)
    assert lab.gauge("pg-1", "pg_stat_replication_count") == 1.0


def test_nothing_promotes_a_standby_by_itself() -> None:
    lab = Lab(2, instance={"restart": "no"}).up()
    lab.machine.docker.kill("pg-1")
    lab.run(600)
    assert lab.pg("pg-2").role == "standby"
    assert not lab.pg("pg-2").writable
    assert len(lab.said("Connection refused")) == 1  # every 5 s the same: one row


def test_an_idle_stack_costs_no_control_events() -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 200)
    events = 0
    stop = lab.world.env.now + 900 * 10**9
    while lab.world.env.peek() < stop:
        lab.world.env.step()
        events += 1
    assert events < 200


# ---- a standby goes on after its primary was away -----------------------------------------------
def test_a_killed_primary_is_noticed_at_once_and_found_again_within_five_seconds() -> None:
    lab = Lab(2).up()
    begun = lab.world.now_s
    lab.machine.exit(lab.machine.containers["pg-1"].process, 137)
    lab.run(10)
    lost = lab.said("could not receive data from WAL stream")[0][0]
    again = lab.said("started streaming")[-1][0]
    assert lost - begun == pytest.approx(0.0002, abs=0.001)
    assert 0 < again - begun <= 5.3


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_a_silent_link_is_noticed_only_by_the_timeouts(busy) -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 100 if busy else 0)
    lab.run(5)
    begun = lab.world.now_s
    lab.machine.network.cut(["host-1"], ["host-2"])
    lab.run(100)
    sender = lab.said("replication timeout")[0][0] - begun
    receiver = lab.said("walreceiver due to timeout")[0][0] - begun
    if busy:
        assert sender == pytest.approx(60.0, abs=0.02)
        assert receiver == pytest.approx(60.0, abs=0.02)
    else:  # the standby reports every 10 s, and pings after 30 s without a message
        assert 50.0 <= sender <= 60.0
        assert 30.0 <= receiver <= 60.0
    assert lab.pg("pg-1").streaming() == ()


def test_a_short_silence_goes_unnoticed() -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    cut = lab.machine.network.cut(["host-1"], ["host-2"])
    lab.run(20)
    assert lab.gauge("pg-2", "replication_lag") == pytest.approx(20.0, abs=0.05)
    assert lab.gauge("pg-1", "pg_stat_replication_count") == 1.0
    lab.machine.network.heal(cut)
    lab.run(20)
    assert lab.pg("pg-1").streaming() == (("pg-2", "streaming", False),)
    assert lab.gauge("pg-2", "replication_lag") < 0.05
    assert not lab.said("timeout")


def test_a_standby_that_lost_power_leaves_pg_stat_replication_after_the_timeout() -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    lab.machine.power_off("host-2")
    lab.run(50)
    assert lab.gauge("pg-1", "pg_stat_replication_count") == 1.0
    lab.run(15)
    assert lab.gauge("pg-1", "pg_stat_replication_count") == 0.0


def test_a_fourth_walsender_is_refused() -> None:
    lab = Lab(4, primary={"max_wal_senders": "3"})
    lab.machine.docker.start("pg-1")
    lab.run(1)
    for name in ("pg-2", "pg-3", "pg-4"):  # a base backup takes two: one after the other
        lab.machine.docker.start(name)
        lab.run(3)
    assert len(lab.pg("pg-1").streaming()) == 2
    assert "exceeds max_wal_senders" in lab.said("pg_basebackup: error")[0][2]


# ---- stops --------------------------------------------------------------------------------------
def test_docker_stop_is_a_fast_shutdown_that_loses_nothing() -> None:
    lab = Lab(2, rtt_s=0.05).up()
    lab.world.write("pg-1", 400)
    lab.run(2)
    begun = lab.world.now_s
    lab.world.spawn(lab.machine.docker.stop("pg-1"), "stop")
    lab.run(5)
    ended = lab.said("database system is shut down")[0][0] - begun
    assert lab.said("received fast shutdown request")
    assert 0.05 < ended < 1.0
    lab.pg("pg-2").promote()
    lab.run(2)
    assert lab.cluster.lost() == 0
    assert lab.pg("pg-2").writable


def test_a_fast_stop_waits_for_a_standby_that_does_not_answer() -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 100)
    lab.run(2)
    lab.machine.network.cut(["host-1"], ["host-2"])
    begun = lab.world.now_s
    lab.pg("pg-1").stop("fast")
    lab.run(50)
    assert not lab.pg("pg-1").writable
    assert lab.said("shutdown waits for a walsender")
    lab.run(20)
    assert lab.said("database system is shut down")[0][0] - begun == pytest.approx(60.0, abs=0.2)


def test_a_fast_stop_goes_on_when_the_link_is_back() -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 100)
    lab.run(2)
    cut = lab.machine.network.cut(["host-1"], ["host-2"])
    done = lab.pg("pg-1").stop("fast")
    lab.run(10)
    assert not done.triggered
    lab.machine.network.heal(cut)
    lab.run(10)
    assert done.triggered


def test_sigterm_waits_for_clients_and_sigquit_does_not() -> None:
    lab = Lab(2, instance={"restart": "no"}).up()
    lab.world.inflights["pg-1"] = 1
    p = lab.machine.containers["pg-1"].process
    p.send("SIGTERM")
    lab.run(30)
    assert p.alive
    p.send("SIGQUIT")
    lab.run(1)
    assert not p.alive
    assert lab.machine.disks["pgdata:pg-1"].clean is False


def test_crash_recovery_reads_the_wal_since_the_last_checkpoint() -> None:
    lab = Lab(1, wal_bytes=8192, primary={"redo_bytes_s": 1e6, "full_page_writes": "off"}).up()
    lab.world.write("pg-1", 100)
    lab.run(60)
    written = lab.cluster.commits("pg-1") * 8192
    lab.machine.exit(lab.machine.containers["pg-1"].process, 137)
    begun = lab.world.now_s
    lab.run(200)
    took = lab.said("ready to accept connections")[-1][0] - begun
    assert took == pytest.approx(0.1 + 0.38 + written / 1e6, abs=0.2)
    assert [b.gaps for b in lab.cluster.branches] != [[]]  # the same branch goes on
    assert lab.cluster.lost() == 0


# ---- the old primary returns --------------------------------------------------------------------
def test_the_old_primary_simply_started_is_a_second_primary() -> None:
    lab = Lab(2, instance={"restart": "no"}).up()
    lab.world.write("pg-1", 200)
    lab.run(5)
    lab.machine.docker.kill("pg-1")
    lab.run(1)
    lab.pg("pg-2").promote()
    lab.world.write("pg-2", 100)
    lab.run(5)
    assert lab.cluster.split_brain_s() == 0
    lab.machine.docker.start("pg-1")
    lab.run(10)
    assert lab.pg("pg-1").writable
    assert lab.pg("pg-2").writable
    split = lab.cluster.split_brain_s()
    assert split == pytest.approx(9.5, abs=0.3)
    assert lab.cluster.lost() == pytest.approx(200 * split, rel=0.01)


def test_the_old_primary_as_a_standby_of_the_new_one_is_diverged() -> None:
    lab = Lab(2, rtt_s=0.1, instance={"restart": "no"}).up()
    lab.world.write("pg-1", 200)
    lab.run(5)
    lab.machine.power_off("host-1")
    lab.pg("pg-2").promote()
    lab.run(3)
    lab.machine.power_on("host-1")
    disk = lab.machine.disks["pgdata:pg-1"]
    disk.standby, disk.follow = True, "pg-2"
    lab.machine.docker.start("pg-1")
    lab.run(10)
    assert lab.said("forked off current database system timeline")
    assert disk.diverged
    assert lab.pg("pg-1").receiver.stream is None


@pytest.mark.parametrize("cut", [False, True])
def test_a_stopped_primary_has_a_checkpoint_that_a_standby_behind_a_cut_has_not(cut) -> None:
    lab = Lab(2, primary={"wal_sender_timeout": "5s"}, instance={"restart": "no"}).up()
    gap = lab.machine.network.cut(["host-1"], ["host-2"]) if cut else None
    lab.run(75)
    lab.pg("pg-1").stop("fast")
    lab.run(10)
    if gap is not None:
        lab.machine.network.heal(gap)
    lab.pg("pg-2").promote()
    lab.run(3)
    disk = lab.machine.disks["pgdata:pg-1"]
    disk.standby, disk.follow = True, "pg-2"
    lab.machine.docker.start("pg-1")
    lab.run(10)
    assert bool(lab.said("forked off current database system timeline")) == cut
    assert bool(lab.pg("pg-2").streaming()) != cut


def test_a_rewound_primary_follows_the_new_one() -> None:
    lab = Lab(2, rtt_s=0.1, instance={"restart": "no"}).up()
    lab.world.write("pg-1", 200)
    lab.run(5)
    lab.machine.power_off("host-1")
    lab.pg("pg-2").promote()
    lab.world.write("pg-2", 50)
    lab.run(3)
    lab.machine.power_on("host-1")
    disk = lab.machine.disks["pgdata:pg-1"]
    disk.standby, disk.follow, disk.clean = True, "pg-2", True
    disk.position = lab.pg("pg-2").primary.branch.fork  # pg_rewind
    lab.machine.docker.start("pg-1")
    lab.run(10)
    assert lab.pg("pg-2").streaming() == (("pg-1", "streaming", False),)
    assert disk.timeline == 2
    assert lab.pg("pg-1").received.branch.node == "pg-2"


def test_a_stopped_primary_is_not_a_second_one_until_it_goes_on() -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 200)
    lab.run(2)
    lab.machine.freeze("pg-1")
    lab.pg("pg-2").promote()
    lab.run(20)
    assert lab.cluster.split_brain_s() == 0
    lab.machine.thaw("pg-1")
    lab.run(3)
    assert lab.cluster.split_brain_s() == pytest.approx(3.0, abs=0.01)


# ---- inside of a manager's container ------------------------------------------------------------
def test_a_server_takes_a_plain_mapping_as_its_configuration() -> None:
    from hasim.components.postgres.config import config_of
    from hasim.source import Default

    config = config_of(
        {"max_connections": (200, Default("x")), "Hot_Standby": (True, Default("x"))}
    )
    assert config.get("max_connections") == 200
    assert config.get("hot_standby") is True
    assert config.get("wal_sender_timeout") == 60.0
    assert config_of(None).get("max_connections") == 100


def test_the_station_has_one_worker_per_connection() -> None:
    from hasim.components.postgres.config import from_parameters
    from hasim.model import Instance, Service

    kind = components()["postgres"]
    one = Instance("pg", "postgres", "h", config=from_parameters({"max_connections": (40, None)}))
    assert kind.station(Service("pg"), one).workers == 40
