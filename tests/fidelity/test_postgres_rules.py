"""The rules of streaming replication in the operator's words, against their closed forms.

Source of each rule: reference/postgres-patroni.md section 1; the formulas stand here only.
"""

from __future__ import annotations

import postgres_path  # noqa: F401
import pytest
from postgres_lab import Lab

MB = 1e6
PLAIN = {"full_page_writes": "off", "checkpoint_timeout": "1h", "max_wal_size": "100GB"}


def when(lab, condition, limit_s, step_s=0.05):
    """Seconds until the condition holds."""
    begun = lab.world.now_s
    while lab.world.now_s - begun < limit_s:
        if condition():
            return lab.world.now_s - begun
        lab.run(step_s)
    raise AssertionError("it never happened")


# ---- 1.2, 1.3 what limits lag --------------------------------------------------------------------
def burst(rate=1000, wal_bytes=10_000, link=None, replay=1e12, **primary):
    lab = Lab(
        2,
        wal_bytes=wal_bytes,
        bandwidth=link,
        primary={**PLAIN, **primary},
        standby={"replay_bytes_s": replay},
    ).up(settle_s=30)  # the base backup takes the same link
    lab.world.write("pg-1", rate)
    return lab


@pytest.mark.parametrize("limit", ["link", "replay"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.25])
def test_the_sixty_second_alert_comes_after_60_over_1_less_m_over_w(limit, share) -> None:
    """W = 10 MB/s of WAL; the link or the replay takes m = share of it."""
    m = share * 10 * MB
    lab = burst(link=m) if limit == "link" else burst(replay=m)
    lag = lambda: lab.gauge("pg-2", "pg_replication_lag")  # noqa: E731
    took = when(lab, lambda: (lag() or 0) > 60, 700, step_s=0.5)
    assert took == pytest.approx(60 / (1 - share), rel=0.03)


def test_the_newer_formula_of_the_exporter_sees_a_slow_replay_but_not_a_slow_link() -> None:
    """It shows 0 while the receive position is the replay position (audit MO-2)."""
    lab = burst(link=5 * MB)
    lab.run(200)
    assert lab.gauge("pg-2", "pg_replication_lag_seconds") == 0.0
    assert lab.gauge("pg-2", "pg_replication_lag") > 60
    lab = burst(replay=5 * MB)
    lab.run(200)
    assert lab.gauge("pg-2", "pg_replication_lag_seconds") > 60


def test_below_the_limit_lag_is_a_round_trip() -> None:
    lab = burst(rate=100, link=5 * MB)  # 1 MB/s
    lab.run(300)
    assert lab.gauge("pg-2", "replication_lag") < 0.05


def test_a_backlog_drains_at_the_difference() -> None:
    """100 s of 10 MB/s over a link of 5 MB/s, then 1 MB/s: backlog / (m - W')."""
    lab = burst(link=5 * MB)
    for _ in range(100):  # the sampler looks once a second
        lab.run(1)
        lab.gauge("pg-2", "replication_lag")
    flow = lab.pg("pg-2").flow
    flow.advance()
    backlog = flow.unsent_bytes(lab.pg("pg-1").position())
    assert backlog == pytest.approx(100 * 5 * MB, rel=0.03)
    lab.world.write("pg-1", 100)
    took = when(lab, lambda: lab.gauge("pg-2", "replication_lag") < 0.5, 300, step_s=0.5)
    assert took == pytest.approx(backlog / (5 * MB - 1 * MB), rel=0.03)


def test_an_idle_primary_makes_the_older_formula_grow_and_the_newer_not() -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    lab.world.write("pg-1", 0)
    lab.run(90)
    assert lab.gauge("pg-2", "pg_replication_lag") == pytest.approx(90, abs=0.1)
    assert lab.gauge("pg-2", "pg_replication_lag_seconds") == 0.0
    assert lab.gauge("pg-2", "replication_lag") == 0.0


def test_a_dead_link_raises_the_alert_60_s_after_the_cut_in_the_older_formula_only() -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    lab.machine.network.cut(["host-1"], ["host-2"])
    took = when(lab, lambda: lab.gauge("pg-2", "pg_replication_lag") > 60, 100, 0.1)
    assert took == pytest.approx(60, abs=0.2)
    assert lab.gauge("pg-2", "pg_replication_lag_seconds") == 0.0
    assert lab.gauge("pg-2", "replication_lag") == pytest.approx(60, abs=0.2)


def test_right_after_a_checkpoint_a_commit_writes_several_times_the_wal() -> None:
    """Measured on PostgreSQL 15: 200,000 rows, updates at random: the first 20,000 after a
    checkpoint wrote 33 MB, the next 120,000 only 22 MB.
    """
    lab = Lab(1, wal_bytes=182).up()
    line = lab.pg("pg-1").history.lines[0]
    line.checkpoint(0)
    first = line.bytes_at(20_000) - line.bytes_at(0)
    later = line.bytes_at(140_000) - line.bytes_at(20_000)
    assert first == pytest.approx(33e6, rel=0.2)
    assert later == pytest.approx(22e6, rel=0.05)
    assert line.count_at(line.bytes_at(5000)) == pytest.approx(5000, abs=0.01)


# ---- 1.4 synchronous commits ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("level", "extra_s"),
    [
        ("off", 0.0),
        ("local", 0.0),
        ("remote_write", 0.04 + 50e-6),
        ("on", 0.04 + 50e-6 + 1e-3),
        ("remote_apply", 0.04 + 50e-6 + 1e-3 + 100e-6),
    ],
)
def test_a_commit_waits_a_round_trip_and_the_standbys_work(level, extra_s) -> None:
    names = {"synchronous_standby_names": "pg-2", "synchronous_commit": level}
    lab = Lab(2, rtt_s=0.04, primary=names).up()
    waits = [w for _, _, w in lab.world.commit_waits] or [0.0]
    assert waits[-1] == pytest.approx(extra_s, abs=1e-6)


def test_without_a_synchronous_standby_commits_wait_without_limit() -> None:
    lab = Lab(2, primary={"synchronous_standby_names": "pg-2"}).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    lab.machine.docker.kill("pg-2")
    lab.run(1)
    before = lab.cluster.commits("pg-1")
    lab.run(600)
    assert lab.cluster.commits("pg-1") == before
    lab.machine.docker.start("pg-2")
    lab.run(3)
    assert lab.cluster.commits("pg-1") > before


def test_a_silent_standby_stalls_commits_even_after_wal_sender_timeout() -> None:
    lab = Lab(2, primary={"synchronous_standby_names": "pg-2"}).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    cut = lab.machine.network.cut(["host-1"], ["host-2"])
    before = lab.cluster.commits("pg-1")
    lab.run(100)
    assert lab.pg("pg-1").streaming() == ()
    assert lab.cluster.commits("pg-1") == before
    lab.machine.network.heal(cut)
    lab.run(40)
    assert lab.cluster.commits("pg-1") > before


def test_a_reload_with_other_names_releases_the_waiters() -> None:
    lab = Lab(2, primary={"synchronous_standby_names": "pg-2"}).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    lab.machine.docker.kill("pg-2")
    lab.run(10)
    before = lab.cluster.commits("pg-1")
    lab.pg("pg-1").set_sync((), "", -1)
    lab.run(1)
    assert lab.cluster.commits("pg-1") == before + 100
    assert lab.said("commits go on")


@pytest.mark.parametrize(
    ("names", "goes_on"),
    [("FIRST 1 (pg-2, pg-3)", False), ("ANY 1 (pg-2, pg-3)", True), ("FIRST 1 (pg-3)", True)],
)
def test_priority_waits_for_a_silent_standby_a_quorum_does_not(names, goes_on) -> None:
    lab = Lab(3, primary={"synchronous_standby_names": names}).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    lab.machine.network.cut(["host-1"], ["host-2"])
    lab.run(0.1)
    before = lab.cluster.commits("pg-1")
    lab.run(30)
    assert (lab.cluster.commits("pg-1") > before) == goes_on
    lab.run(40)  # wal_sender_timeout: now pg-3 has its place
    assert lab.cluster.commits("pg-1") > before


def test_a_synchronous_standby_that_is_promoted_has_every_acknowledged_write() -> None:
    lab = Lab(2, rtt_s=0.2, primary={"synchronous_standby_names": "pg-2"}).up()
    lab.world.write("pg-1", 400)
    lab.run(5)
    lab.machine.power_off("host-1")
    lab.pg("pg-2").promote()
    lab.run(2)
    assert lab.cluster.lost() == 0


# ---- 1.6 promotion and loss ----------------------------------------------------------------------
def test_promotion_replays_what_was_received_first() -> None:
    """Backlog / C_replay + a constant; the received backlog is not lost."""
    lab = burst(rate=1000, replay=2 * MB)  # 10 MB/s
    lab.run(20)
    lab.machine.docker.kill("pg-1")
    lab.run(0.5)
    flow = lab.pg("pg-2").flow
    flow.advance()
    backlog = flow.backlog_bytes
    assert backlog > 100 * MB
    begun = lab.world.now_s
    lab.pg("pg-2").promote()
    lab.run(200)
    took = lab.said("ready to accept connections")[-1][0] - begun
    assert took == pytest.approx(backlog / (2 * MB) + 0.12, abs=0.5)
    assert lab.cluster.lost() == 0


def test_with_a_backlog_on_the_link_the_loss_is_rate_times_lag() -> None:
    lab = burst(rate=1000, link=5 * MB)
    lab.run(60)
    lag = lab.gauge("pg-2", "replication_lag")
    lab.machine.power_off("host-1")
    lab.pg("pg-2").promote()
    lab.run(2)
    assert lab.cluster.lost() == pytest.approx(1000 * lag, rel=0.03)


def test_a_promotion_in_the_middle_of_a_failing_attempt_sleeps_out_the_retry_interval() -> None:
    lab = Lab(2, instance={"restart": "no", "network_mode": "host"}).up()
    lab.machine.docker.kill("pg-1")
    lab.run(5.01)  # the second attempt has just been refused
    receiver = lab.pg("pg-2").receiver
    when(lab, lambda: receiver.trying, 10, 0.001)
    begun = lab.world.now_s
    lab.pg("pg-2").promote()
    lab.run(10)
    took = lab.said("ready to accept connections")[-1][0] - begun
    assert 4.9 < took < 5.6


# ---- 1.7 slots and retention ---------------------------------------------------------------------
def slotted(**primary):
    lab = Lab(
        2,
        wal_bytes=10_000,
        primary={"full_page_writes": "off", "slots": ("pg_2",), **primary},
        standby={"primary_slot_name": "pg_2"},
        instance={"restart": "no"},
    ).up()
    lab.world.write("pg-1", 1000)  # W = 10 MB/s
    lab.run(10)
    lab.machine.docker.kill("pg-2")
    return lab


def test_a_slot_without_its_replica_fills_the_disk_after_free_over_w() -> None:
    lab = slotted(free_disk_bytes=3e9)
    begun = lab.world.now_s
    lab.run(400)
    full = lab.said("PANIC")[0]
    assert full[0] - begun == pytest.approx(3e9 / (10 * MB), rel=0.03)
    assert lab.machine.containers["pg-1"].process is None
    lab.machine.docker.start("pg-1")
    lab.run(5)
    assert lab.said("FATAL")  # and it does not come back by itself


def test_a_slot_in_use_holds_nothing_back_and_an_unused_one_all() -> None:
    lab = slotted(free_disk_bytes=1e12)
    lab.run(100)
    held = lab.gauge("pg-1", "pg_replication_slots_retained_bytes")
    assert held == pytest.approx(100 * 10 * MB, rel=0.02)
    lab.machine.docker.start("pg-2")
    lab.run(60)
    assert lab.gauge("pg-1", "pg_replication_slots_retained_bytes") < 10 * MB


def test_a_limited_slot_is_lost_at_a_checkpoint_and_the_replica_needs_a_new_copy() -> None:
    lab = slotted(free_disk_bytes=1e12, max_slot_wal_keep_size="1GB")
    lab.run(400)
    assert lab.said('invalidating obsolete replication slot "pg_2"')
    lab.machine.docker.start("pg-2")
    lab.run(10)
    assert lab.said("has already been removed")
    assert lab.pg("pg-1").streaming() == ()
    assert not lab.said("PANIC")


def test_a_slot_keeps_the_wal_for_a_replica_that_was_away() -> None:
    lab = slotted(free_disk_bytes=1e12)
    lab.run(900)
    lab.machine.docker.start("pg-2")
    lab.run(10)
    assert lab.pg("pg-1").streaming() == (("pg-2", "streaming", False),)
    assert lab.cluster.lost() == 0


@pytest.mark.parametrize(
    ("keep", "away_s", "found"), [("0", 900, False), ("0", 10, True), ("20GB", 900, True)]
)
def test_without_a_slot_a_replica_that_was_away_too_long_finds_no_wal(keep, away_s, found) -> None:
    lab = Lab(
        2,
        wal_bytes=10_000,
        primary={"full_page_writes": "off", "wal_keep_size": keep, "free_disk_bytes": 1e12},
        instance={"restart": "no"},
    ).up()
    lab.world.write("pg-1", 1000)
    lab.run(10)
    lab.machine.docker.kill("pg-2")
    lab.run(away_s)
    lab.machine.docker.start("pg-2")
    lab.run(10)
    assert bool(lab.pg("pg-1").streaming()) == found
    assert bool(lab.said("has already been removed")) == (not found)


def test_a_full_disk_stops_the_primary_with_a_panic() -> None:
    lab = Lab(2).up()
    lab.pg("pg-1").disk_full(True)
    lab.run(0.05)
    assert lab.said("PANIC")
    assert lab.machine.containers["pg-1"].process is None


# ---- 1.8 hot standby conflicts -------------------------------------------------------------------
@pytest.mark.parametrize(
    ("delay", "query_s", "lag_s", "cancelled"),
    [("30s", 10, 10, False), ("30s", 300, 30, True), ("-1", 100, 100, False), ("5s", 60, 5, True)],
)
def test_a_conflict_adds_up_to_max_standby_streaming_delay(delay, query_s, lag_s, cancelled):
    lab = Lab(2, standby={"max_standby_streaming_delay": delay}).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    lab.pg("pg-2").conflict(query_s)
    worst = 0.0
    for _ in range(120):
        lab.run(1)
        worst = max(worst, lab.gauge("pg-2", "replication_lag"))
    assert worst == pytest.approx(lag_s, abs=1.0)
    assert bool(lab.said("canceling statement")) == cancelled
    assert lab.gauge("pg-2", "replication_lag") < 0.1


# ---- 1.2 the columns of pg_stat_replication ------------------------------------------------------
@pytest.mark.parametrize("sync", ["", "pg-2"], ids=["async", "sync"])
def test_write_flush_and_replay_lag_hold_a_whole_round_trip(sync) -> None:
    lab = Lab(2, rtt_s=0.04, primary={"synchronous_standby_names": sync}).up()
    lab.world.write("pg-1", 1000)
    lab.run(5)
    write, flush, replay = (
        lab.gauge("pg-1", f"pg_stat_replication_{name}_lag_seconds")
        for name in ("write", "flush", "replay")
    )
    assert write == pytest.approx(0.04 + 50e-6, abs=0.0025)
    assert flush == pytest.approx(write + 1e-3, abs=1e-4)
    assert replay == pytest.approx(flush + 1e-4, abs=1e-4)


def test_the_columns_become_null_on_an_idle_primary() -> None:
    lab = Lab(2).up()
    lab.world.write("pg-1", 100)
    lab.run(5)
    assert lab.gauge("pg-1", "pg_stat_replication_replay_lag_seconds") is not None
    lab.world.write("pg-1", 0)
    lab.run(11)
    assert lab.gauge("pg-1", "pg_stat_replication_replay_lag_seconds") is None


# ---- what is known and what is not ---------------------------------------------------------------
def test_the_first_commits_after_a_start_write_page_images_too() -> None:
    lab = Lab(1, wal_bytes=1024).up()
    before = lab.pg("pg-1").received_bytes()
    lab.world.write("pg-1", 1000)
    lab.run(1)
    first = lab.pg("pg-1").received_bytes() - before
    lab.run(30)
    before = lab.pg("pg-1").received_bytes()
    lab.run(1)
    later = lab.pg("pg-1").received_bytes() - before
    assert first > 5 * later
    assert later == pytest.approx(1000 * 1024, rel=0.01)
