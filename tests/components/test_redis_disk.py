"""A full disk (MISCONF) and a slow one, each rule as measured on 7.0.15 with a full tmpfs."""

from __future__ import annotations

from statistics import mean

import pytest
from redis_lab import Lab

AOF = {"appendonly": True}
GURU = "Guru Meditation: Replica was unable to write command to disk."
SOLVED = "AOF write error looks solved, Redis can write again."


def full(name: str = "redis-1", seed: int = 1, **changes) -> Lab:
    lab = Lab(seed=seed, **{"warm_s": 30.0, **changes})
    lab.data(name).disk_full(True, -1)
    return lab


def test_a_master_without_space_for_its_append_only_file_refuses_writes() -> None:
    lab = full(redis=AOF)
    lab.run(0.1)
    assert lab.rows("MISCONF", by="redis-1")
    assert lab.data("redis-1").role == "master"
    assert not lab.data("redis-1").writable


def test_without_writes_nothing_happens() -> None:
    lab = full(redis=AOF, rate=0.0)
    lab.run(20.0)
    assert not lab.rows("MISCONF")
    lab.world.ask("redis-1", 100.0)
    lab.run(22.0)
    assert lab.rows("MISCONF")


def test_nothing_to_persist_is_nothing_to_a_full_disk() -> None:
    lab = full(redis={"save": ()})
    lab.run(30.0)
    assert not lab.rows("MISCONF")
    assert lab.master() == "redis-1"


def test_sentinel_replaces_a_master_that_answers_ping_with_misconf_and_nothing_is_lost() -> None:
    """As a hang: the clock starts at the first PING that is answered so."""
    downs = []
    for seed in range(6):
        lab = full(seed=seed, redis=AOF)
        lab.run(12.0)
        rows = lab.rows("+sdown", about="master ")
        downs += [t - 5.0 for t, _, _ in rows]
        assert len(rows) == 3
        assert lab.master() not in ("", "redis-1")
        assert lab.cluster.lost() == 0
        assert not any(lab.data(n).late for n in lab.names)
    assert all(0.0 < t < 1.25 for t in downs)
    assert mean(downs) == pytest.approx(0.52 + 0.037, abs=0.15)


def test_the_default_down_after_of_30_s_is_no_exception() -> None:
    lab = full(redis=AOF, down_after_ms=30_000)
    lab.run(33.0)
    assert all(30.0 < t < 31.25 for t, _, _ in lab.rows("+sdown", about="master "))
    assert lab.rows("+switch-master")


def test_space_before_down_after_is_no_failover() -> None:
    lab = full(redis=AOF)
    lab.run(3.0)
    lab.data("redis-1").disk_full(False, -1)
    lab.run(30.0)
    assert 3.0 < lab.first(SOLVED) < 4.0
    assert not lab.rows("+sdown")
    assert lab.master() == "redis-1"


def test_appendfsync_always_ends_the_process() -> None:
    lab = full(redis={**AOF, "appendfsync": "always"})
    lab.run(0.1)
    assert lab.process("redis-1") is None
    assert any("exitCode=1)" in d for _, _, d in lab.rows("container die"))


def test_a_replica_aborts_at_the_next_write_of_its_master() -> None:
    lab = full("redis-2", redis=AOF)
    lab.run(2.0)
    assert lab.rows(GURU, by="redis-2")
    assert lab.process("redis-2") is None
    assert lab.master() == "redis-1"


def test_unless_it_is_told_to_ignore_that() -> None:
    lab = full("redis-2", redis={**AOF, "ignore_disk_errors": True})
    lab.run(30.0)
    assert lab.process("redis-2") is not None
    assert len(lab.rows("MISCONF", by="redis-2")) == 1


def test_the_old_master_is_demoted_and_then_aborts_as_a_replica() -> None:
    lab = full(redis=AOF)
    lab.run(10.0)
    lab.world.ask(lab.master(), 100.0)
    lab.run(40.0)
    assert 10.0 < lab.first("+convert-to-slave") < 40.0
    assert lab.first(GURU, by="redis-1") > lab.first("+convert-to-slave")


@pytest.mark.parametrize("seed", range(3))
def test_one_sentinel_demotes_it_as_measured(seed) -> None:
    """Real daemons, one trial: after the switch +sdown of the old master at 5.06 s, and
    +convert-to-slave, which waits until that is 8 s old and the third INFO comes, at 20.19 s.
    """
    lab = full(seed=seed, redis=AOF, sentinels=1, quorum=1, replicas=1)
    lab.run(30.0)
    switch = lab.first("+switch-master")
    assert lab.first("+sdown", "slave ") - switch == pytest.approx(5.06, abs=0.1)
    assert lab.first("+convert-to-slave") - switch == pytest.approx(20.19, abs=0.15)


@pytest.mark.parametrize("stop", [True, False])
def test_a_snapshot_that_fails_stops_writes_unless_told_otherwise(stop) -> None:
    """100 writes in 10 s are met all the time: the first save point after the disk is full."""
    rules = {"save": ((10, 100),), "stop_writes": stop}
    lab = full(redis=rules)
    lab.run(12.0)
    assert bool(lab.rows("MISCONF", by="redis-1")) is stop
    if stop:
        assert 0.0 < lab.first("MISCONF", by="redis-1") < 11.1


def test_the_next_snapshot_is_tried_after_six_seconds() -> None:
    lab = full(redis={"save": ((10, 100),)}, down_after_ms=60_000)
    lab.run(15.0)
    failed = lab.first("MISCONF", by="redis-1")
    lab.data("redis-1").disk_full(False, -1)
    lab.run(40.0)
    healed = lab.first("Background saving terminated with success")
    assert 15.0 < healed <= 21.0
    assert (healed - failed) % 6.0 == pytest.approx(0.0, abs=0.01)
    assert lab.master() == "redis-1"


def test_what_was_written_after_the_last_snapshot_is_gone_with_the_process() -> None:
    """stop-writes-on-bgsave-error no: it goes on for a minute and is then killed."""
    rules = {"save": ((10, 100),), "stop_writes": False}
    lab = full(redis=rules, replicas=0)
    lab.run(60.0)
    lab.kill("redis-1")
    lab.run(61.0)
    lab.back("redis-1")
    lab.run(62.0)
    assert 60 * 100 <= lab.cluster.lost() <= 71 * 100


def test_no_full_resync_to_a_full_disk() -> None:
    lab = Lab(warm_s=30.0, redis=AOF)
    lab.kill("redis-2")
    lab.run(1.0)
    lab.back("redis-2")
    lab.run(1.1)
    lab.data("redis-2").disk_full(True, -1)
    lab.run(20.0)
    assert not lab.data("redis-2").follower.up
    lab.data("redis-2").disk_full(False, -1)
    lab.run(30.0)
    assert lab.data("redis-2").follower.up


# ---- Sentinel's own disk -------------------------------------------------------------------------
def test_a_slow_disk_makes_every_vote_slower() -> None:
    """Two rewrites before the answer: a candidate hears of votes later, and others contend."""
    elected = []
    for factor in (1.0, 100.0):
        lab = Lab(seed=3, warm_s=30.0)
        for name in lab.names:
            lab.data(name).disk_slow(factor, -1)
        lab.kill("redis-1")
        lab.run(30.0)
        elected.append(lab.first("+elected-leader") - lab.first("+try-failover"))
        assert lab.rows("+switch-master")
    assert elected[0] < 0.12
    assert elected[1] > 0.3


def test_a_rewrite_of_more_than_two_seconds_is_tilt() -> None:
    lab = Lab(seed=3, warm_s=30.0)
    for name in lab.names:
        lab.data(name).disk_slow(1500.0, -1)
    lab.kill("redis-1")
    lab.run(40.0)
    assert lab.rows("+tilt")
    assert not lab.rows("+switch-master")


def test_a_sentinel_whose_disk_is_full_votes_and_forgets() -> None:
    lab = Lab(seed=1, warm_s=30.0)
    for name in lab.names:
        lab.data(name).disk_full(True, -1)
    lab.kill("redis-1")
    lab.run(16.0)
    assert lab.rows("+switch-master")
    for name in lab.names:
        lab.kill(name)
        lab.run(lab.now_s + 0.1)
        lab.back(name)
    lab.run(18.0)
    assert {lab.data(n).masters[0].entry.name for n in lab.names} == {"redis-1"}
