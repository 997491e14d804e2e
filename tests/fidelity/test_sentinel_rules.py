"""The rules marked [M] of reference/redis-sentinel.md, in the operator's words."""

from __future__ import annotations

from statistics import mean

import pytest
import sentinel_lab  # noqa: F401  (puts redis_lab on the path)
from redis_lab import Lab

SEEDS = range(6)


def killed(seed: int = 1, until_s: float = 16.0, **changes) -> Lab:
    lab = Lab(seed=seed, warm_s=30.0, **changes)
    lab.kill("redis-1")
    lab.run(until_s)
    return lab


# ---- section 3: S_DOWN ---------------------------------------------------------------------------
def test_a_killed_master_is_down_after_down_after_whatever_the_ping_phase() -> None:
    """da + 20 to 170 ms, mean 74, for every Sentinel; all within 0.15 s of each other."""
    late = []
    for seed in SEEDS:
        downs = [t for t, _, _ in killed(seed, 7.0).rows("+sdown", about="master ")]
        assert len(downs) == 3
        assert max(downs) - min(downs) < 0.15
        late += [t - 5.0 for t in downs]
    assert all(0.0 < t < 0.2 for t in late)
    assert mean(late) == pytest.approx(0.074, abs=0.02)


def test_a_hung_master_is_down_one_ping_later() -> None:
    """U(0, 1.04 s) + da + a residual tick, independent across Sentinels."""
    late = []
    for seed in range(14):
        lab = Lab(seed=seed, warm_s=30.0)
        lab.machine.freeze("redis-1")
        lab.run(8.0)
        late += [t - 5.0 for t, _, _ in lab.rows("+sdown", about="master ")]
    assert all(0.0 < t < 1.25 for t in late)
    assert mean(late) == pytest.approx(0.52 + 0.037, abs=0.12)


@pytest.mark.parametrize("down_after_ms", [2000, 5000, 30000])
def test_a_black_hole_is_noticed_like_a_hang(down_after_ms) -> None:
    lab = Lab(seed=3, warm_s=60.0, down_after_ms=down_after_ms)
    lab.hole("redis-1")
    lab.run(down_after_ms / 1000 + 5.0)
    downs = lab.rows("+sdown", about="master ")
    assert len(downs) == 3
    for t, _, _ in downs:
        assert 0 < t - down_after_ms / 1000 < 1.25


# ---- sections 4 to 9: the failover ---------------------------------------------------------------
def test_o_down_is_the_second_sentinel_plus_one_tick() -> None:
    for seed in SEEDS:
        lab = killed(seed, 8.0)
        downs = sorted(t for t, _, _ in lab.rows("+sdown", about="master "))
        assert 0.03 < lab.first("+odown") - downs[1] < 0.13


def test_the_failover_starts_in_the_tick_of_o_down() -> None:
    for seed in SEEDS:
        lab = killed(seed, 8.0)
        assert lab.first("+try-failover") == lab.first("+odown")
        steps = ["+odown", "+elected-leader", "+selected-slave", "+failover-state-wait-promotion"]
        times = [lab.first(s) for s in steps]
        assert all(0.05 < b - a < 0.2 for a, b in zip(times, times[1:], strict=False))


def test_a_vote_is_given_by_who_does_not_see_the_master_down() -> None:
    """One of three is asked before its own S_DOWN, and votes."""
    lab = Lab(seed=2, warm_s=30.0)
    lab.machine.freeze("redis-1")
    lab.run(8.0)
    votes = {who: t for t, who, _ in lab.rows("+vote-for-leader")}
    downs = {who: t for t, who, _ in lab.rows("+sdown", about="master ")}
    assert len(votes) == 3
    assert any(votes[who] < downs[who] for who in votes)


def test_with_equal_offsets_the_smaller_run_id_wins() -> None:
    for seed in SEEDS:
        lab = killed(seed, 8.0)
        smaller = min(("redis-2", "redis-3"), key=lambda n: lab.data(n).run_id)
        assert lab.master() == smaller


def test_a_lower_priority_comes_before_everything() -> None:
    for seed in range(4):
        lab = Lab(seed=seed, start=False)
        spec = lab.machine.containers["redis-3"].spec
        object.__setattr__(spec.config, "priority", 10)
        lab.start(warm_s=30.0)
        lab.kill("redis-1")
        lab.run(8.0)
        assert lab.master() == "redis-3"


def test_the_replica_that_has_received_more_wins_and_nothing_is_lost() -> None:
    for seed in range(6):
        lab = Lab(seed=seed, warm_s=30.0)
        lab.hole("redis-2")
        lab.run(0.5)
        lab.kill("redis-1")
        lab.run(1.0)
        lab.hole("redis-2", False)
        lab.run(15.0)
        assert lab.master() == "redis-3"
        assert lab.cluster.lost() == 0


def test_no_good_replica_means_no_failover() -> None:
    lab = Lab(seed=1, warm_s=30.0, redis={"priority": 0})
    lab.kill("redis-1")
    lab.run(40.0)
    aborts = [t for t, _, _ in lab.rows("-failover-abort-no-good-slave")]
    assert len(aborts) == 2
    assert 20.0 < aborts[1] - aborts[0] < 21.5
    assert not lab.rows("+switch-master")


def test_the_others_switch_a_tick_after_the_promotion_and_the_leader_a_second_later() -> None:
    for seed in SEEDS:
        lab = killed(seed, 12.0)
        promoted = lab.first("+promoted-slave")
        leader = lab.rows("+promoted-slave")[0][1]
        for t, who, _ in lab.rows("+switch-master"):
            if who == leader:
                assert 0.95 < t - promoted < 1.35
            else:
                assert 0.05 < t - promoted < 0.13


def test_the_other_replica_needs_no_full_resync() -> None:
    lab = killed(3, 12.0)
    assert lab.rows("+slave-reconf-done")
    assert lab.rows("MASTER <-> REPLICA sync: Partial resynchronization")
    assert not lab.rows("MASTER <-> REPLICA sync: Full resynchronization")


@pytest.mark.parametrize(("parallel", "apart_s"), [(1, 0.9), (2, 0.0)])
def test_parallel_syncs_bounds_how_many_are_reconfigured_at_once(parallel, apart_s) -> None:
    import redis_lab

    nodes = redis_lab.NODES
    redis_lab.NODES = (*nodes, "redis-4")
    try:
        lab = Lab(seed=1, warm_s=30.0, replicas=3, parallel_syncs=parallel)
        lab.kill("redis-1")
        lab.run(15.0)
        sent = [t for t, _, _ in lab.rows("+slave-reconf-sent")]
    finally:
        redis_lab.NODES = nodes
    assert len(sent) == 2
    assert sent[1] - sent[0] >= apart_s
    assert (sent[1] == sent[0]) == (parallel == 2)


def test_a_second_failover_is_possible_at_once() -> None:
    lab = killed(1, 12.0)
    first = lab.master()
    lab.kill(first)
    lab.run(30.0)
    assert lab.master() not in (first, "")
    assert lab.last("+switch-master") - 12.0 < 8.5


def test_an_isolated_sentinel_switches_soon_after_the_partition_heals() -> None:
    """Measured: 0.3 to 1.1 s; a hello comes every 2 s from each of two over several channels."""
    lab = Lab(seed=1, warm_s=30.0)
    lab.hole("s3")
    lab.run(1.0)
    lab.kill("redis-1")
    lab.run(20.0)
    assert not lab.rows("+switch-master", by="s3")
    lab.hole("s3", False)
    lab.run(40.0)
    assert 20.0 < lab.first("+switch-master", by="s3") < 25.0


# ---- section 11: the old master comes back -------------------------------------------------------
def test_the_old_master_is_demoted_10_to_11_s_after_its_return() -> None:
    for seed in SEEDS:
        lab = killed(seed)
        lab.back("redis-1")
        lab.run(40.0)
        assert 10.0 < lab.first("+convert-to-slave") - 16.0 < 11.2
        link = lab.last("MASTER <-> REPLICA sync: Full resynchronization")
        assert 5.0 < link - lab.first("+convert-to-slave") < 6.3
        assert lab.data("redis-1").role == "slave"


def test_after_sigcont_it_is_demoted_after_10_0_to_10_3_s() -> None:
    for seed in SEEDS:
        lab = Lab(seed=seed, warm_s=30.0)
        lab.machine.freeze("redis-1")
        lab.run(16.0)
        lab.machine.thaw("redis-1")
        lab.run(30.0)
        assert 10.0 < lab.first("+convert-to-slave") - 16.0 < 10.3


def test_until_then_it_accepts_writes_that_are_lost() -> None:
    """Rate x (demotion) if clients still talk to it, with no network partition at all."""
    lab = Lab(seed=1, warm_s=30.0, rate=100.0)
    lab.machine.freeze("redis-1")
    lab.run(16.0)
    lab.machine.thaw("redis-1")
    lab.run(40.0)
    demoted = lab.first("+convert-to-slave") - 16.0
    assert lab.cluster.lost() == pytest.approx(100 * demoted, rel=0.03)


def test_a_replica_with_a_fixed_name_is_repaired_once_and_nobody_minds() -> None:
    """Started with --replicaof <hostname> under Sentinels that use addresses."""
    lab = Lab(start=False, sentinel={"resolve_hostnames": False})
    for name in lab.names:
        spec = lab.machine.containers[name].spec
        master = spec.config.masters[0]
        object.__setattr__(master, "host", "10.0.0.1")
        object.__setattr__(spec, "peers", {"10.0.0.1:6379": "redis-1"})
    lab.start(warm_s=40.0)
    fixes = [r for r in lab.world.rows if r[4] == "+fix-slave-config"]
    assert len({detail.split()[1] for *_, detail in fixes}) == 2
    assert all(9.0 < r[2] < 22.0 for r in fixes)
    assert lab.data("redis-1").role == "master"
    assert lab.data("redis-2").follower.text == "10.0.0.1"


# ---- section 14 and 15 ---------------------------------------------------------------------------
def test_a_stopped_sentinel_wakes_up_in_tilt_and_does_nothing_for_30_s() -> None:
    lab = Lab(seed=1, warm_s=30.0)
    for name in ("s1", "s2"):
        lab.machine.freeze(name)
    lab.run(5.0)
    for name in ("s1", "s2"):
        lab.machine.thaw(name)
    lab.run(6.0)
    assert {who for _, who, _ in lab.rows("+tilt")} == {"s1", "s2"}
    lab.kill("redis-1")
    lab.run(34.0)
    assert not lab.rows("+odown")
    lab.run(50.0)
    assert {who for _, who, _ in lab.rows("-tilt")} == {"s1", "s2"}
    assert 34.9 < lab.first("-tilt") < 35.3
    assert 35.0 < lab.first("+odown") < 36.5


def test_a_resolver_that_does_not_answer_stops_the_failover() -> None:
    """+sdown of a hung master at 12.8 to 13.6 s instead of 5.1, then TILT over and over."""
    lab = Lab(seed=2, warm_s=60.0, sentinel={"resolve_hostnames": True})
    lab.machine.set_dns("silent")
    lab.machine.freeze("redis-1")
    lab.run(75.0)
    downs = [t for t, _, _ in lab.rows("+sdown", about="master ")]
    assert len(downs) == 3
    assert all(12.5 < t < 13.9 for t in downs)
    assert len(lab.rows("+tilt")) >= 6
    assert not lab.rows("+switch-master")


def test_names_that_resolve_or_fail_fast_work_like_addresses() -> None:
    lab = Lab(seed=2, warm_s=60.0, sentinel={"resolve_hostnames": True}, network="bridge")
    lab.kill("redis-1")
    lab.run(12.0)
    assert lab.first("+switch-master") < 7.0


def test_sentinels_that_share_a_state_file_never_meet_and_never_fail_over() -> None:
    lab = Lab(seed=1, warm_s=30.0, sentinel={"state": "lab:sentinel.conf"})
    assert len({lab.data(n).id for n in lab.names}) == 1
    assert all(not lab.data(n).masters[0].sentinels for n in lab.names)
    lab.kill("redis-1")
    lab.run(60.0)
    assert len(lab.rows("+sdown", about="master ")) == 3
    assert not lab.rows("+odown")
    assert not lab.rows("+try-failover")


def test_an_unsaved_file_costs_the_identity_and_the_memory_of_the_failover() -> None:
    """RD-2: after a restart of everything the Sentinels name the old master again, and what was
    written since the failover is gone on all nodes.
    """
    lab = Lab(seed=1, warm_s=30.0, sentinel={"state": ""})
    lab.kill("redis-1")
    lab.run(16.0)
    new, ids = lab.master(), {lab.data(n).id for n in lab.names}
    lab.world.ask("redis-1", 0.0)
    lab.world.ask(new, 100.0)
    lab.run(18.0)
    everything = [n for n in (*lab.nodes, *lab.names) if n != "redis-1"]
    for name in everything:
        lab.kill(name)
    lab.run(19.0)
    for name in ("redis-1", *everything):
        lab.back(name)
    lab.run(20.0)
    assert not ids & {lab.data(n).id for n in lab.names}
    assert {lab.data(n).masters[0].entry.name for n in lab.names} == {"redis-1"}
    assert new != "redis-1"
    lab.run(60.0)
    assert [lab.data(n).role for n in lab.nodes] == ["master", "slave", "slave"]
    assert all(lab.data(n).follower.up for n in lab.nodes[1:])
    assert lab.cluster.lost() == pytest.approx(100 * (30 + 2), rel=0.03)  # all there was


def test_a_saved_file_keeps_both() -> None:
    lab = killed(1)
    ids, new = {n: lab.data(n).id for n in lab.names}, lab.master()
    for name in lab.names:
        lab.kill(name)
    lab.run(18.0)
    for name in lab.names:
        lab.back(name)
    lab.run(20.0)
    assert {n: lab.data(n).id for n in lab.names} == ids
    assert {lab.data(n).masters[0].entry.name for n in lab.names} == {new}


@pytest.mark.parametrize(("network", "known"), [("host", 2), ("bridge", 3)])
def test_a_new_identity_at_a_new_address_leaves_a_ghost(network, known) -> None:
    """Same address: the old entry is replaced; a new one: it stays and inflates N (RD-3)."""
    lab = Lab(seed=1, warm_s=30.0, sentinel={"state": ""}, network=network)
    lab.kill("s3")
    lab.machine.new_address("s3")
    lab.run(2.0)
    lab.back("s3")
    lab.run(30.0)
    assert len(lab.data("s1").masters[0].sentinels) == known


# ---- section 3, the other way in -----------------------------------------------------------------
def test_a_configured_master_that_says_it_is_a_replica_is_down_after_da_plus_20_s() -> None:
    lab = Lab(start=False)
    for name in lab.names:
        spec = lab.machine.containers[name].spec
        object.__setattr__(spec, "peers", {"redis-1:6379": "redis-2"})
    lab.start(warm_s=24.0)
    assert not [r for r in lab.world.rows if r[4] == "+sdown"]
    lab.run(40.0)
    downs = [t + 24.0 for t, _, _ in lab.rows("+sdown", about="master ")]
    assert len(downs) == 3
    assert all(25.0 < t < 25.5 for t in downs)
    assert lab.rows("-failover-abort-no-good-slave")
