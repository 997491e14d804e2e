"""synchronous_mode: what is promised, what a lost replica costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hasim.components.patroni.config import Dynamic
from tests.components.patroni_lab import Lab

SYNC = Dynamic(use_pg_rewind=True, synchronous_mode="on")


def sync_lab(**kw) -> Lab:
    lab = Lab(**{"dynamic": SYNC, "settle_s": 90.0, **kw})
    lab.run(1)
    return lab


def standby(lab: Lab) -> str:
    """The member that a commit waits for."""
    return lab.node(lab.primary).view.sync.members[0]


def stalls(lab: Lab) -> list[tuple[float, bool]]:
    """(time, do commits wait) from now on the primary."""
    rows = lab.world.commit_waits[lab.begun[1] :]
    return [(t, extra is None) for t, name, extra in rows if name == f"{lab.primary}.postgres"]


def test_one_replica_is_synchronous() -> None:
    lab = sync_lab(n=3)
    rows = lab.server(lab.primary).streaming()
    chosen = [name for name, _, is_sync in rows if is_sync]
    assert chosen == [f"{standby(lab)}.postgres"]
    assert lab.world.urls.get((standby(lab), "/sync"), 200) == 200
    other = next(m for m in lab.members() if m not in (lab.primary, standby(lab)))
    assert lab.world.urls[other, "/sync"] == 503


@pytest.mark.parametrize("fault", ["node_kill", "power_off"])
def test_no_acknowledged_write_is_lost(fault) -> None:
    for seed in (1, 2, 3):
        lab = sync_lab(n=3, seed=seed)
        heir = standby(lab)
        getattr(lab, fault)()
        lab.run(60)
        assert lab.writable() == [heir]
        assert lab.lost() == 0


def test_only_members_of_the_sync_key_may_take_the_lock() -> None:
    lab = sync_lab(n=3)
    heir = standby(lab)
    lab.node_kill(heir)
    lab.node_kill()
    lab.run(70)
    assert lab.writable() == []


def test_commits_stall_until_the_next_cycle_drops_a_dead_replica() -> None:
    lab = sync_lab(n=3)
    lab.cycle()
    lab.run(4.0)
    lab.zero()
    lab.node_kill(standby(lab))
    lab.run(20)
    waits = stalls(lab)
    begin = next(t for t, waiting in waits if waiting)
    end = next(t for t, waiting in waits if not waiting and t > begin)
    assert begin < 0.1
    assert end == pytest.approx(10 - 4.0, abs=0.2)


def test_a_silent_replica_stalls_commits_until_its_member_key_has_expired() -> None:
    """Its walsender would stay for 60 s; but without a member key it is not picked any more
    (patroni/postgresql/sync.py, _ReplicaList): the rest of its lease and the next cycle.
    """
    lab = sync_lab(n=3)
    lab.cycle()
    lab.zero()
    lab.silence(name=standby(lab))
    lab.run(85)
    waits = stalls(lab)
    begin = next(t for t, waiting in waits if waiting)
    end = next(t for t, waiting in waits if not waiting and t > begin)
    assert 19 < end - begin < 41


def test_two_nodes_go_on_alone_but_not_in_strict_mode() -> None:
    for strict in (False, True):
        lab = sync_lab(n=2, dynamic=replace(SYNC, synchronous_mode_strict=strict))
        lab.zero()
        lab.node_kill(lab.other())
        lab.run(30)
        assert stalls(lab)[-1][1] == strict
        assert lab.writable() == [lab.primary]


def test_switching_it_off_empties_the_names() -> None:
    lab = sync_lab(n=3)
    node = lab.node(lab.primary)

    def edit():
        yield from node.dcs.write("config", replace(SYNC, synchronous_mode="off"))

    lab.world.env.process(edit())
    lab.run(25)
    assert not any(is_sync for _, _, is_sync in lab.server(lab.primary).streaming())
    assert node.view.sync.leader == ""
