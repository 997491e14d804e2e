"""TILT: a Sentinel that has lost its sense of time does not act for half a minute."""

from __future__ import annotations

import pytest
from redis_lab import Lab


def set_clocks(lab: Lab, by_s: float, names: tuple[str, ...] = ()) -> None:
    for name in names or lab.names:
        lab.data(name).clock_jump(by_s)


def tilts(lab: Lab) -> set[str]:
    return {who for _, who, _ in lab.rows("+tilt")}


@pytest.mark.parametrize("by_s", [2.5, 3600.0, -0.5, -3600.0])
def test_a_clock_that_is_set_puts_a_sentinel_into_tilt_for_30_s(by_s) -> None:
    lab = Lab(warm_s=30.0)
    set_clocks(lab, by_s, ("s2",))
    lab.run(60.0)
    assert tilts(lab) == {"s2"}
    assert 0.0 < lab.first("+tilt") < 0.1
    assert 30.0 < lab.first("-tilt") - lab.first("+tilt") < 30.2
    assert not lab.rows("+sdown")


def test_one_and_a_half_seconds_forward_are_not_noticed() -> None:
    lab = Lab(warm_s=30.0)
    set_clocks(lab, 1.5)
    lab.run(60.0)
    assert not lab.rows("+tilt")
    assert not lab.rows("+sdown")


def test_a_master_killed_in_tilt_is_replaced_half_a_minute_late() -> None:
    lab = Lab(warm_s=30.0)
    set_clocks(lab, 600.0)
    lab.run(1.0)
    lab.kill("redis-1")
    lab.run(60.0)
    assert tilts(lab) == set(lab.names)
    assert 30.0 < lab.first("+sdown", "master ") < 30.3
    assert 30.0 < lab.first("+switch-master") < 33.0


def test_one_sentinel_in_tilt_is_one_vote_for_down_less_but_still_a_vote() -> None:
    """Two of three with quorum 2 go on; its own opinion does not count, its vote does."""
    lab = Lab(warm_s=30.0)
    set_clocks(lab, 600.0, ("s3",))
    lab.run(1.0)
    lab.kill("redis-1")
    lab.run(20.0)
    assert lab.first("+switch-master") < 9.0
    assert {who for _, who, _ in lab.rows("+vote-for-leader")} >= {"s3"}
    assert not lab.rows("+sdown", by="s3", about="master ")
    assert lab.rows("+switch-master", by="s3")  # a hello still updates it


def test_two_sentinels_in_tilt_of_three_are_no_quorum() -> None:
    lab = Lab(warm_s=30.0)
    set_clocks(lab, -10.0, ("s1", "s2"))
    lab.run(1.0)
    lab.kill("redis-1")
    lab.run(29.0)
    assert lab.rows("+sdown", by="s3", about="master ")
    assert not lab.rows("+odown")
    lab.run(50.0)
    assert lab.rows("+odown")


@pytest.mark.parametrize("back_s", [40.0, 50.0])
def test_a_clock_that_is_set_back_makes_blind_for_hangs_until_it_has_caught_up(back_s) -> None:
    """The last pong lies in the future: no ping before it, so nothing that could be late."""
    lab = Lab(warm_s=30.0)
    set_clocks(lab, -back_s)
    lab.run(1.0)
    lab.machine.freeze("redis-1")
    lab.run(back_s + 20.0)
    assert lab.first("-tilt") < 31.0
    assert back_s + 4.0 < lab.first("+sdown", "master ") < back_s + 6.5
    assert lab.first("+switch-master") < back_s + 8.5
    assert not any(lab.data(n).late for n in lab.names)


@pytest.mark.parametrize(("warm_s", "down_s"), [(100.0, 30.0), (20.0, 46.0)])
def test_a_killed_master_is_seen_once_the_link_may_be_opened_again(warm_s, down_s) -> None:
    """A link that is older than the jump is reopened at once; a younger one, when the clock has
    caught up with its last opening.
    """
    lab = Lab(warm_s=warm_s)
    set_clocks(lab, -60.0)
    lab.run(1.0)
    lab.kill("redis-1")
    lab.run(80.0)
    assert down_s < lab.first("+sdown", "master ") < down_s + 1.3
    assert not any(lab.data(n).late for n in lab.names)


def test_blindness_costs_no_events() -> None:
    lab = Lab(warm_s=30.0)
    set_clocks(lab, -3600.0)
    before = next(lab.world.env._eid)
    lab.run(1.0)
    lab.kill("redis-1")
    lab.run(20.0)
    lab.back("redis-1")
    lab.run(600.0)
    assert next(lab.world.env._eid) - before < 500


@pytest.mark.parametrize(("stop_s", "tilt"), [(1.5, False), (2.2, True)])
def test_a_suspended_vm_tilts_its_sentinel_after_two_seconds(stop_s, tilt) -> None:
    lab = Lab(warm_s=30.0)
    lab.machine.freeze("s1")
    lab.run(stop_s)
    lab.machine.thaw("s1")
    lab.run(stop_s + 40.0)
    assert bool(lab.rows("+tilt")) is tilt
    assert tilts(lab) <= {"s1"}


def test_a_silent_resolver_tilts_a_sentinel_that_has_to_look_a_name_up() -> None:
    """The master is dead and its address a name: getaddrinfo blocks the whole process."""
    lab = Lab(warm_s=60.0, sentinel={"resolve_hostnames": True})
    lab.machine.set_dns("silent")
    lab.kill("redis-1")
    lab.run(30.0)
    assert tilts(lab) == set(lab.names)
    assert not lab.rows("+switch-master")


def test_a_silent_resolver_is_nothing_to_sentinels_with_addresses() -> None:
    lab = Lab(warm_s=60.0)
    lab.machine.set_dns("silent")
    lab.kill("redis-1")
    lab.run(12.0)
    assert not lab.rows("+tilt")
    assert lab.first("+switch-master") < 7.0


def test_a_sentinel_with_addresses_is_not_woken_by_starts_of_other_containers() -> None:
    lab = Lab(warm_s=30.0)
    called = []
    for name in lab.names:
        lab.data(name).advance = lambda *a, **k: called.append(1)
    lab.machine.exit(lab.process("app"), 0)
    assert not called
