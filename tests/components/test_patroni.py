"""Patroni under faults, in an operator's words (reference/postgres-patroni.md, section 2)."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest

from hasim.components.patroni.config import Dynamic
from hasim.source import Default
from tests.components.patroni_lab import WRITES, Lab, lab_at, new_primary

DEFAULTS = Dynamic(use_pg_rewind=True)
T, L, R = DEFAULTS.ttl, DEFAULTS.loop_wait, DEFAULTS.retry_timeout


def test_it_starts_with_one_primary_and_streaming_replicas() -> None:
    lab = Lab(n=3)
    assert len(lab.writable()) == 1
    rows = lab.server(lab.primary).streaming()
    assert sorted(state for _, state, _ in rows) == ["streaming", "streaming"]
    assert lab.node(lab.primary).settled()


def test_an_idle_cluster_costs_few_events() -> None:
    for kw in ({}, {"n": 3, "etcd": 3, "together": True}):
        assert Lab(**kw).events(900) < 9_000


def test_a_quarter_of_an_hour_without_etcd_costs_few_events() -> None:
    lab = Lab()
    lab.machine.docker.kill("etcd-1")
    assert lab.events(900) < 4_000


@pytest.mark.parametrize("phase", [0.5, 5.0, 9.5])
def test_a_killed_node_is_replaced_when_its_lease_is_over(phase) -> None:
    lab = lab_at(phase)
    lab.node_kill()
    assert T - phase + 0.15 <= new_primary(lab) <= T - phase + 1.3
    assert lab.said("promoted self to leader by acquiring session lock")


def test_a_dead_host_costs_the_2_s_probe_on_top() -> None:
    times = []
    for fault in ("node_kill", "power_off"):
        lab = lab_at(4.0)
        getattr(lab, fault)()
        times.append(new_primary(lab))
    assert times[1] - times[0] == pytest.approx(2.0, abs=0.05)


def failovers(dynamic: Dynamic, seeds: range) -> list[float]:
    found = []
    for seed in seeds:
        lab = Lab(seed=seed, dynamic=dynamic, settle_s=40 + 3.7 * seed)
        lab.node_kill()
        found.append(new_primary(lab))
    return found


def test_the_time_to_fail_over_is_the_rest_of_the_lease_and_half_a_second() -> None:
    """t_rw = (T - phi) + e_etcd + e_race + t_promote with phi uniform in 0..L."""
    found = failovers(DEFAULTS, range(1, 25))
    assert min(found) >= T - L + 0.2
    assert max(found) <= T + 1.2
    assert mean(found) == pytest.approx(T - L / 2 + 0.55, abs=1.6)  # 24 draws of U(0, 10)


def test_a_shorter_loop_wait_alone_makes_failovers_longer() -> None:
    """mean = T - L/2 + const: lowering loop_wait narrows the distribution upwards."""
    short = failovers(replace(DEFAULTS, ttl=20, loop_wait=1, retry_timeout=5), range(1, 9))
    long = failovers(replace(DEFAULTS, ttl=20, loop_wait=10, retry_timeout=5), range(1, 9))
    assert min(short) > 19.1
    assert mean(short) > mean(long) + 2


def test_with_a_living_old_primary_two_replicas_can_defer_to_each_other() -> None:
    """Then nobody is promoted for one more loop_wait. Not possible with one replica."""
    slow = 0
    for seed in range(1, 7):
        lab = lab_at(2.0, n=3, seed=seed, writes=100)
        lab.freeze()
        late = new_primary(lab) - (T - 2.0)
        assert late < 4 or L < late < L + 5
        slow += late > L
    assert slow >= 2
    lab = lab_at(2.0, n=2, writes=100)
    lab.freeze()
    assert new_primary(lab) < T - 2.0 + 4


# ---- the postmaster ------------------------------------------------------------------------------


def test_a_killed_postmaster_is_started_in_place_and_the_lock_stays() -> None:
    lab = lab_at(3.0)
    lab.pm_kill()
    lab.run(0.01)
    back = lab.when(lab.writable)
    assert L - 3.0 + 0.3 <= back <= L - 3.0 + 2.5
    assert lab.writable() == [lab.primary]
    assert lab.said("starting primary after failure")
    assert lab.world.urls[lab.primary, "/primary"] == 200
    assert lab.server(lab.primary).timeline == 1
    assert lab.lost() == 0


def test_primary_start_timeout_0_prefers_a_failover() -> None:
    lab = lab_at(3.0, dynamic=replace(DEFAULTS, primary_start_timeout=0))
    lab.pm_kill()
    lab.run(0.01)
    assert L - 3.0 <= new_primary(lab) <= L - 3.0 + 1.5


def test_a_server_that_cannot_start_gives_the_lock_away() -> None:
    lab = lab_at(3.0)
    lab.server(lab.primary).kept.full = True
    lab.pm_kill()
    lab.run(0.01)
    assert L - 3 < new_primary(lab) < 2 * L + 2


# ---- Patroni itself ------------------------------------------------------------------------------


def test_a_frozen_patroni_means_two_primaries_until_it_resumes() -> None:
    lab = lab_at(4.0)
    old = lab.primary
    lab.freeze()
    promoted = new_primary(lab)
    assert promoted == pytest.approx(T - 4.0 + 2.0 + 0.6, abs=0.6)
    lab.until(45)
    assert sorted(lab.writable()) == lab.members()
    lab.thaw()
    lab.run(1)
    assert lab.said("Demoting self (immediate-nolock)")
    assert old not in lab.writable()
    lab.until(70)
    assert lab.said("running pg_rewind from")
    assert lab.server(old).timeline == 2
    lost_s = 45.1 - promoted  # every row of the old branch after the fork, until it is demoted
    assert lab.lost() == pytest.approx(WRITES * lost_s, rel=0.03)
    assert lab.split_s() == pytest.approx(lost_s, abs=0.3)


def test_a_watchdog_resets_the_host_before_the_key_expires() -> None:
    lab = lab_at(4.0, watchdog_device=True)
    old, host = lab.primary, lab.host(lab.primary)
    lab.freeze()
    new_primary(lab)
    assert lab.at("watchdog resets the host", host) == pytest.approx(T - 5 - 4.0, abs=0.1)
    assert lab.split_s() == 0
    assert old not in lab.writable()


def test_no_watchdog_where_one_is_required_means_no_primary() -> None:
    lab = Lab(watchdog="required", watchdog_device=True)
    config = replace(lab.node(lab.other()).config, watchdog_device=False)
    lab.node(lab.other()).config = config
    lab.node_kill()
    assert new_primary(lab) == float("inf")
    assert lab.said("Watchdog device is not usable")


@pytest.mark.parametrize("dynamic", [DEFAULTS, replace(DEFAULTS, ttl=20, loop_wait=2,
                                                       retry_timeout=5)])  # fmt: skip
def test_docker_stop_hands_over_in_3_s_without_loss(dynamic) -> None:
    lab = lab_at(1.5, dynamic=dynamic)
    lab.sigterm()
    assert 2.3 <= new_primary(lab) <= 3.3
    lab.run(5)
    assert lab.lost() == 0
    assert lab.machine.containers[lab.primary].process is None


def test_docker_stop_of_a_replica_changes_nothing_for_the_primary() -> None:
    lab = Lab()
    lab.world.env.process(lab.machine.docker.stop(lab.other()))
    lab.run(40)
    assert lab.writable() == [lab.primary]


def test_a_switchover_goes_to_whom_it_was_asked_for() -> None:
    lab = lab_at(4.0, n=3)
    wanted = lab.members()[-1] if lab.members()[-1] != lab.primary else lab.members()[0]
    lab.switchover(wanted)
    assert 2.6 <= new_primary(lab) <= 3.6
    assert lab.writable() == [wanted]
    lab.run(15)
    assert lab.server(lab.primary).role == "standby"
    assert lab.lost() == 0


def test_a_container_that_is_back_within_ttl_leads_again_on_a_new_timeline() -> None:
    lab = lab_at(4.0)
    lab.node_kill()
    lab.run(3)
    lab.start(lab.primary)
    back = lab.when(lab.writable)
    assert back < 12
    assert lab.writable() == [lab.primary]
    assert lab.server(lab.primary).timeline == 2


def test_a_returned_primary_rewinds_what_the_new_one_does_not_have() -> None:
    lab = lab_at(4.0)
    old = lab.primary
    lab.silence()
    new_primary(lab)
    lab.until(40)
    lab.silence(False)
    lab.until(75)
    assert lab.said("running pg_rewind from")
    assert lab.server(old).role == "standby"
    assert lab.server(lab.leader()).streaming() == ((f"{old}.postgres", "streaming", False),)


def test_without_pg_rewind_a_diverged_primary_never_replicates_again() -> None:
    lab = lab_at(4.0, dynamic=replace(DEFAULTS, use_pg_rewind=False))
    lab.silence()
    new_primary(lab)
    lab.until(40)
    lab.silence(False)
    lab.until(100)
    assert lab.server(lab.leader()).streaming() == ()
    assert not lab.said("running pg_rewind")


# ---- who may be promoted -------------------------------------------------------------------------


def test_nobody_is_promoted_who_is_further_behind_than_maximum_lag_on_failover() -> None:
    lab = Lab(dynamic=replace(DEFAULTS, maximum_lag_on_failover=0))
    replica = lab.other()
    lab.silence(name=replica)
    lab.run(25)
    lab.power_off()
    lab.silence(False, replica)
    assert new_primary(lab) == float("inf")
    assert lab.said("My wal position exceeds maximum replication lag")


def test_a_nofailover_member_never_leads() -> None:
    lab = Lab()
    other = lab.node(lab.other())
    other.config = replace(other.config, nofailover=True)
    lab.node_kill()
    assert new_primary(lab) == float("inf")


# ---- what health checks see ----------------------------------------------------------------------


def test_each_url_says_what_the_member_is() -> None:
    lab = Lab()
    urls, replica = lab.world.urls, lab.other()

    def good(name: str) -> set[str]:
        some = ("/primary", "/replica", "/read-only", "/health", "/liveness", "/readiness", "/sync")
        return {u for u in some if urls.get((name, u), 200) == 200}

    assert good(lab.primary) == {"/primary", "/read-only", "/health", "/liveness", "/readiness"}
    assert good(replica) == {"/replica", "/read-only", "/health", "/liveness", "/readiness"}


def test_primary_turns_200_with_the_lock_not_with_the_promotion() -> None:
    lab = lab_at(4.0)
    lab.node_kill()
    other = lab.other()
    shown = lab.when(lambda: lab.world.urls[other, "/primary"] == 200, step_s=0.002)
    assert not lab.server(other).writable
    assert new_primary(lab) > shown + 0.05


def test_haproxy_may_send_writes_to_two_primaries_when_patroni_hangs_and_ttl_is_20() -> None:
    dynamic = replace(DEFAULTS, ttl=20, loop_wait=5, retry_timeout=5)
    lab = lab_at(4.0, dynamic=dynamic, haproxy=True)
    lab.freeze()
    lab.run(40)
    old = f"pg/pg{lab.primary[-1]}"
    seen = [(t, n == old, up) for t, n, up, _ in lab.world.rotations[lab.begun[2] :]]
    down = next(t for t, is_old, up in seen if is_old and not up)
    new = next(t for t, is_old, up in seen if not is_old and up)
    assert 21 <= down <= 24.2
    assert lab.at("promoted self to leader") < down
    assert new < down + 4


def test_a_line_names_the_setting_behind_it() -> None:
    lab = lab_at(4.0)
    ttl = Default("ttl of the test")
    for name in lab.members():
        node = lab.node(name)
        node.config = replace(node.config, where={"ttl": ttl})
    origins = []
    logged = lab.world.log

    def log(component, event, detail="", *, cause=-1, origin=None):
        origins.append((event, origin))
        return logged(component, event, detail, cause=cause, origin=origin)

    lab.world.log = log
    lab.node_kill()
    new_primary(lab)
    assert ("promoted self to leader by acquiring session lock", ttl) in origins


def test_a_start_of_more_than_primary_start_timeout_ends_in_a_failover() -> None:
    """Worst case loop_wait + primary_start_timeout + loop_wait."""
    lab = lab_at(3.0, dynamic=replace(DEFAULTS, primary_start_timeout=60))
    server = lab.server(lab.primary)
    server.kept.redo_bytes = server.received_bytes() - 300 * server.config.redo_bytes_s
    lab.pm_kill()
    lab.run(0.01)
    assert 60 < new_primary(lab) < L + 60 + L + 2


def test_phases_pin_the_cycle_of_a_member() -> None:
    lab = Lab(phases={"pg-1": 5.0, "pg-2": 5.0})
    before = lab.lease_expiry()
    lab.until(4.9)
    assert lab.lease_expiry() == before
    lab.until(5.2)
    assert lab.lease_expiry() - lab.world.start_ns == pytest.approx((5.1 + T) * 1e9, abs=2e7)


def test_a_check_of_a_replica_may_set_a_limit_to_its_lag(monkeypatch) -> None:
    from tests.components import patroni_lab

    monkeypatch.setitem(patroni_lab.CHECK, "url", "/replica?lag=10kB")
    lab = Lab(n=2, haproxy=True)
    lab.run(11)
    url, replica = "/replica?lag=10kB", lab.other()
    assert lab.world.urls.get((replica, url), 200) == 200
    lab.machine.network.cut(["h1"], ["h2"])  # the replica still sees etcd
    lab.run(30)
    assert lab.world.urls[replica, url] == 503
    assert lab.world.urls.get((replica, "/replica"), 200) == 200


def test_every_member_keeps_a_slot_for_every_other_even_for_half_an_hour_after_it_is_gone() -> None:
    lab = Lab()
    lab.run(30.0)
    names = sorted(lab.members())
    for name in names:
        others = {n.replace("-", "_") for n in names if n != name}
        assert set(lab.server(name).slot_positions()) == others
    gone = next(n for n in names if n != lab.leader())
    lab.power_off(gone)
    lab.run(600.0)
    kept = lab.server(lab.leader()).slot_positions()
    assert kept[gone.replace("-", "_")] > 0
    lab.run(1500.0)
    assert gone.replace("-", "_") not in lab.server(lab.leader()).slot_positions()
