"""Patroni's measured failovers, replayed one by one with what they recorded."""

from __future__ import annotations

from statistics import median

import pytest

from tests.fidelity.patroni_trials import LAB_REAP_S, Replay, Trial, trials

TOLERANCE_S = 0.3
KEYS = ("key_gone", "lock_acquired", "new_rw")
FAILOVERS = (*trials("node_kill"), *trials("power_off"))
LAB_OUTAGE_S = 45.0  # how long etcd was away in etcd_down


@pytest.fixture(scope="module")
def replayed() -> dict[str, dict[str, float]]:
    return {repr(t): Replay(t, seed=i + 1).failover() for i, t in enumerate(FAILOVERS)}


@pytest.mark.parametrize("trial", FAILOVERS, ids=repr)
def test_key_lock_and_first_write_come_when_they_came(trial: Trial, replayed) -> None:
    found = replayed[repr(trial)]
    errors = {key: found[key] - getattr(trial, key) for key in KEYS}
    assert all(abs(e) <= TOLERANCE_S for e in errors.values()), errors


def test_a_ttl_of_5_s_less_is_noticed_in_every_trial() -> None:
    for trial in FAILOVERS[:4]:
        if trial.ttl < 25:
            continue
        found = Replay(trial, ttl_more=-5).failover()
        assert all(abs(found[key] - getattr(trial, key)) > TOLERANCE_S for key in KEYS)


def test_haproxy_sees_the_new_primary_3_to_6_s_after_the_lock(replayed) -> None:
    waits = [
        replayed[repr(t)]["hap_new_up"] - replayed[repr(t)]["lock_acquired"] for t in FAILOVERS
    ]
    assert all(2.99 <= w <= 6.1 for w in waits)
    measured = [t.hap_new_up - t.lock_acquired for t in FAILOVERS]
    assert abs(median(waits) - median(measured)) < 0.8  # 41 uniform draws of 3 s on either side


@pytest.mark.parametrize(("fault", "low", "high"), [("node_kill", 6, 9), ("power_off", 15, 18)])
def test_haproxy_sees_the_old_primary_go(fault, low, high, replayed) -> None:
    seen = [replayed[repr(t)]["hap_old_down"] for t in trials(fault)]
    assert all(low - 0.01 <= s <= high + 0.3 for s in seen)
    measured = [t.hap_old_down for t in trials(fault)]
    assert all(low - 0.01 <= s <= high + 0.3 for s in measured)


def medians(fault: str, call: str) -> dict[str, tuple[float, float]]:
    """name -> (median of the replays, median of the trials)."""
    names = ("key_gone", "lock_acquired", "new_rw", "old_not_rw", "hap_old_down")
    found = [Replay(t, seed=i + 1).failover(call) for i, t in enumerate(trials(fault))]
    return {n: (median(f[n] for f in found), _recorded(fault, n)) for n in names}


def _recorded(fault: str, name: str) -> float:
    return median(v for t in trials(fault) if (v := getattr(t, name)) is not None)


def test_a_graceful_stop_takes_2_5_to_3_s_whatever_ttl_and_loop_wait() -> None:
    found = medians("sigterm_patroni", "sigterm")
    for name, (got, measured) in found.items():
        assert abs(got - measured) <= TOLERANCE_S, (name, got, measured)
    assert 2.4 <= found["new_rw"][0] <= 3.0


def test_a_switchover_is_as_short_as_it_was() -> None:
    found = medians("switchover", "switchover")
    for name in ("key_gone", "lock_acquired", "new_rw", "old_not_rw"):
        got, measured = found[name]
        assert abs(got - measured) <= TOLERANCE_S, (name, got, measured)


@pytest.mark.parametrize("trial", trials("etcd_down"), ids=repr)
def test_without_etcd_the_primary_gives_up_when_it_did(trial: Trial) -> None:
    replay = Replay(trial)
    replay.lab.machine.docker.kill("etcd-1")
    gone = replay.when(lambda: not replay.lab.writable())
    assert abs(gone - trial.old_not_rw) <= TOLERANCE_S


def test_after_etcd_is_back_a_primary_follows_within_4_s() -> None:
    back = []
    for i, trial in enumerate(trials("etcd_down")):
        replay = Replay(trial, seed=i + 1)
        replay.lab.machine.docker.kill("etcd-1")
        replay.lab.until(replay.t0 + LAB_OUTAGE_S)
        replay.lab.start("etcd-1")
        back.append(replay.when(replay.lab.writable) - LAB_OUTAGE_S)
    measured = [t.promote_done - LAB_OUTAGE_S for t in trials("etcd_down")]
    assert all(0.9 <= b <= 3.7 for b in back)
    assert abs(median(back) - median(measured)) < 0.6  # five elections of 1 to 2 s each


@pytest.mark.parametrize("trial", [t for t in trials("pm_kill") if t.load1 < 15], ids=repr)
def test_a_killed_postmaster_is_started_in_place_at_the_next_cycle(trial: Trial) -> None:
    """Start-up alone took 0.5 to 1.8 s in the quiet trials; in busy ones up to 7 s."""
    replay = Replay(trial, reap_s=LAB_REAP_S)
    lab = replay.lab
    lab.pm_kill()
    lab.run(0.01)
    outage = replay.when(lab.writable)
    assert abs(outage - trial.direct_outage) <= 1.4
    assert lab.primary == lab.leader()
    assert lab.lost() == 0


def test_a_zombie_costs_one_more_cycle() -> None:
    """The trial of phase 8.73: 1.27 s were left to the cycle, the zombie lived longer."""
    trial = next(t for t in trials("pm_kill") if t.phase == 8.731)
    slow = Replay(trial, reap_s=LAB_REAP_S)
    slow.lab.pm_kill()
    slow.lab.run(0.01)
    quick = Replay(trial)
    quick.lab.pm_kill()
    quick.lab.run(0.01)
    late = slow.when(slow.lab.writable) - quick.when(quick.lab.writable)
    assert late == pytest.approx(trial.loop_wait, abs=0.5)
    assert trial.direct_outage > trial.loop_wait
