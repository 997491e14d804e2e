"""etcd: quorum, elections, leases, watches (reference/postgres-patroni.md, section 3)."""

from __future__ import annotations

import pytest

from hasim.components.etcd.store import Delete, Grant, Put, Revoke, Store
from hasim.components.patroni.config import Dynamic
from tests.components.patroni_lab import Lab

NS = 1_000_000_000


# ---- the store -----------------------------------------------------------------------------------


def test_a_put_may_ask_for_a_key_that_does_not_exist() -> None:
    store = Store()
    assert store.apply(Put("a", 1, create=0), 0) == ("ok", 2)
    assert store.apply(Put("a", 2, create=0), 0) == ("ok", None)
    assert store.keys.entries["a"].value == 1


def test_a_put_may_ask_who_holds_the_key() -> None:
    store = Store()
    assert store.apply(Put("leader", "x", held_by="x"), 0)[1]
    assert store.apply(Put("leader", "y", held_by="y"), 0) == ("ok", None)
    assert store.apply(Delete("leader", "y"), 0) == ("ok", None)
    assert store.apply(Delete("leader", "x"), 0)[1]


def test_keys_go_with_their_lease() -> None:
    store = Store()
    _, lease = store.apply(Grant(10.0), 0)
    store.apply(Put("a", 1, lease), 0)
    store.apply(Put("b", 1, lease), 0)
    store.apply(Put("b", 2), 0)  # not of the lease any more
    store.apply(Revoke(lease), 0)
    assert sorted(store.keys.entries) == ["b"]
    assert store.apply(Put("a", 1, lease), 0)[0] == "error"


def test_a_keepalive_sets_the_whole_ttl_and_a_new_leader_one_election_more() -> None:
    store = Store()
    _, lease = store.apply(Grant(30.0), 0)
    assert store.renew(lease, 5 * NS)
    assert store.next_expiry_ns() == 35 * NS
    store.promote(6 * NS, 1.0)
    assert store.next_expiry_ns() == 37 * NS
    assert store.expired(37 * NS) == [lease]
    assert not store.renew(99, 0)


# ---- elections -----------------------------------------------------------------------------------


def lab3(**kw) -> Lab:
    lab = Lab(n=3, etcd=3, together=True, **kw)
    lab.cycle()
    lab.zero()
    return lab


def elections(lab: Lab) -> list[float]:
    rows = lab.world.rows[lab.begun[0] :]
    return [t for _, _, t, _, event, _ in rows if "became leader" in event]


def test_a_new_leader_is_there_1_to_2_s_after_the_old_one_is_lost() -> None:
    for seed in range(1, 9):
        for fault in ("kill", "freeze", "blackhole"):
            lab = lab3(seed=seed)
            leader = lab.etcd_leader()
            if fault == "kill":
                lab.machine.docker.kill(leader)
            elif fault == "freeze":
                lab.machine.freeze(leader)
            else:
                lab.machine.network.blackhole(leader, True)
            lab.run(6)
            assert 0.9 <= elections(lab)[0] <= 2.1, (seed, fault)
            assert len(elections(lab)) == 1


def test_an_idle_cluster_elects_nobody() -> None:
    lab = lab3()
    lab.run(300)
    assert elections(lab) == []


def test_one_of_one_is_everything_and_one_of_three_is_nothing() -> None:
    lab = Lab()
    lab.machine.docker.kill("etcd-1")
    lab.run(40)
    assert lab.writable() == []
    for name in ("etcd-1", "etcd-2", "etcd-3"):
        lab = lab3()
        lab.machine.docker.kill(name)
        lab.run(60)
        assert lab.writable() == [lab.primary]
        assert not lab.said("Error communicating with DCS")


def test_two_of_three_are_the_same_as_all() -> None:
    lab = lab3()
    lab.machine.docker.kill("etcd-1")
    lab.machine.docker.kill("etcd-2")
    lab.run(40)
    assert lab.writable() == []
    lab.start("etcd-1")
    assert lab.when(lab.writable) < 46


def test_an_isolated_leader_steps_down_and_the_majority_goes_on() -> None:
    lab = lab3()
    leader = lab.etcd_leader()
    lab.machine.network.blackhole(leader, True)
    lab.run(5)
    assert 0.9 <= lab.at("stepped down", leader) <= 2.1
    assert lab.etcd_leader() not in ("", leader)
    lab.machine.network.blackhole(leader, False)
    lab.run(5)
    assert lab.machine.containers[leader].process.data.leader == lab.etcd_leader()


def test_a_stopped_leader_hands_over_at_once() -> None:
    lab = lab3()
    leader = lab.etcd_leader()
    lab.world.env.process(lab.machine.docker.stop(leader))
    lab.run(0.5)
    assert lab.etcd_leader() not in ("", leader)


# ---- leases --------------------------------------------------------------------------------------


def test_a_lease_goes_at_the_first_scan_after_its_end() -> None:
    gaps = []
    for seed in range(1, 13):
        lab = Lab(seed=seed)
        lab.cycle()
        end = lab.lease_expiry()
        lab.node_kill()
        gone = lab.when(lambda lab=lab: lab.locked() != lab.primary, step_s=0.005)
        gaps.append(gone - (end - lab.world.start_ns) / NS)
    assert 0 <= min(gaps) < 0.15
    assert 0.3 < max(gaps) <= 0.52


def test_a_change_of_etcds_leader_gives_the_lost_primary_its_whole_ttl_again() -> None:
    """ttl + about 2.5 s whatever the phase, when the lost node also led etcd."""
    for seed, phase in ((1, 2.0), (2, 6.0), (3, 9.0)):
        lab = Lab(n=3, etcd=3, together=True, seed=seed)
        if lab.host(lab.etcd_leader()) != lab.host(lab.primary):
            lab.machine.docker.kill(lab.etcd_leader())
            lab.when(lambda lab=lab: lab.etcd_leader())
            lab.run(20)
        if lab.host(lab.etcd_leader()) != lab.host(lab.primary):
            continue
        lab.cycle()
        lab.run(phase)
        lab.zero()
        lab.power_off()
        old = lab.primary
        back = lab.when(lambda lab=lab, old=old: any(w != old for w in lab.writable()))
        assert 32.0 <= back - 2.0 <= 34.0  # 2 s for the probe of a silent host


def test_a_lost_etcd_follower_changes_nothing_for_the_lease() -> None:
    lab = lab3(seed=4)
    assert lab.host(lab.etcd_leader()) != lab.host(lab.primary)
    lab.run(4)
    lab.power_off()
    old = lab.primary
    back = lab.when(lambda: any(w != old for w in lab.writable()))
    assert 30 + 2.2 <= back <= 30 + 3.3


def test_the_least_ttl_is_one_and_a_half_election_timeouts() -> None:
    lab = Lab(dynamic=Dynamic())
    member = lab.machine.containers["etcd-1"].process.data
    event = member.grant(0.5)
    lab.run(1)
    assert member.store.leases[event.value[1]].ttl_s == 2.0


@pytest.mark.parametrize("name", ["etcd-1", "etcd-2", "etcd-3"])
def test_watchers_hear_through_every_member(name) -> None:
    lab = lab3()
    heard = []
    p = lab.machine.containers["pg-1"].process

    def watch():
        conn = yield lab.machine.connect(p, name)
        conn.tell(lambda s: s.data.watch(conn, "/x", heard.append))

    lab.world.env.process(watch())
    lab.run(1)
    lab.machine.containers["etcd-2"].process.data.put("/x/1", "a")
    lab.run(1)
    assert [c.entry.value for c in heard] == ["a"]
