"""reference/redis-sentinel.md section 12, row by row: who may declare a master down, and act."""

from __future__ import annotations

import pytest
import sentinel_lab
from redis_lab import Lab


def without_sentinels(dead: tuple[str, ...], **changes) -> Lab:
    """The Sentinels die, then the master."""
    lab = Lab(warm_s=30.0, **changes)
    for name in dead:
        lab.kill(name)
    lab.run(1.0)
    lab.zero()
    lab.kill("redis-1")
    return lab


@pytest.mark.parametrize(
    ("sentinels", "quorum", "dead"),
    [(3, 2, ()), (3, 2, ("s1",)), (3, 3, ()), (5, 3, ("s1", "s2")), (5, 2, ("s1", "s2"))],
)
def test_enough_alive_for_quorum_and_majority_fails_over(sentinels, quorum, dead) -> None:
    lab = without_sentinels(dead, sentinels=sentinels, quorum=quorum)
    lab.run(15.0)
    assert lab.master() in ("redis-2", "redis-3")
    assert lab.first("+switch-master") < 8.0


def test_quorum_1_without_a_majority_declares_down_and_never_acts() -> None:
    """One of three alive, Q=1: try-failover, abort after 10 to 11 s, again every 20 to 21 s."""
    lab = without_sentinels(("s1", "s2"), quorum=1)
    lab.run(70.0)
    tries = [t for t, _, _ in lab.rows("+try-failover")]
    aborts = [t for t, _, _ in lab.rows("-failover-abort-not-elected")]
    assert lab.first("+odown") < 5.3
    assert len(tries) == 4
    assert len(aborts) == 3
    assert all(10.0 < b - a < 11.2 for a, b in zip(tries, aborts, strict=False))
    assert all(20.0 < b - a < 21.2 for a, b in zip(tries, tries[1:], strict=False))
    assert not lab.rows("+switch-master")


@pytest.mark.parametrize(("quorum", "dead"), [(2, ("s1", "s2")), (3, ("s1",))])
def test_fewer_alive_than_the_quorum_see_it_down_and_do_nothing(quorum, dead) -> None:
    lab = without_sentinels(dead, quorum=quorum)
    lab.run(60.0)
    assert lab.rows("+sdown", about="master ")
    assert not lab.rows("+odown")
    assert not lab.rows("+try-failover")


@pytest.mark.parametrize(("quorum", "declared"), [(1, True), (2, False)])
def test_two_sentinels_cannot_lose_one(quorum, declared) -> None:
    lab = without_sentinels(("s1",), sentinels=2, quorum=quorum)
    lab.run(60.0)
    assert bool(lab.rows("+odown")) == declared
    assert not lab.rows("+switch-master")


def test_sentinels_that_return_count_from_their_own_start() -> None:
    """Failover down-after + about 1 s after the second one's start (measured: 1.3 s), as INFO of
    the replicas comes each second by then.
    """
    lab = without_sentinels(("s2", "s3"))
    lab.run(20.0)
    assert not lab.rows("+odown")
    lab.back("s2")
    lab.run(40.0)
    down = lab.first("+sdown", "master ", by="s2")
    assert 25.0 < down < 25.3
    assert 25.2 < lab.first("+switch-master") < 26.9


def test_the_quorum_speeds_up_the_declaration_only() -> None:
    """Q=1: O_DOWN in the tick of S_DOWN; Q=N: the slowest Sentinel decides (a hang)."""
    for quorum in (1, 2, 3):
        lab = Lab(quorum=quorum, warm_s=30.0, seed=4)
        lab.machine.freeze("redis-1")
        lab.run(12.0)
        downs = sorted(t for t, _, d in lab.rows("+sdown", about="master "))
        odown = lab.first("+odown")
        assert downs[quorum - 1] <= odown < downs[quorum - 1] + 0.25
        if quorum == 1:
            assert odown == downs[0]


def test_even_numbers_lose_elections_when_two_contend() -> None:
    """N=2, Q=1: each votes for itself; the next attempt comes after 2 x failover-timeout (measured:
    25.3 s instead of 5.1 s).
    """
    outcomes = set()
    for seed in range(12):
        lab = Lab(sentinels=2, quorum=1, seed=seed, warm_s=30.0, rewrite=sentinel_lab.STARVED)
        lab.kill("redis-1")
        lab.run(60.0)
        switch = lab.first("+switch-master")
        lost = bool(lab.rows("-failover-abort-not-elected"))
        assert (switch > 24.0) == lost
        if lost:
            assert 25.0 < lab.first("+elected-leader") < 47.0
        outcomes.add(lost)
    assert outcomes == {False, True}


def test_the_third_vote_decides_between_two_of_three() -> None:
    """Contention costs no time with three Sentinels."""
    contended = 0
    for seed in range(20):
        lab = Lab(seed=seed, warm_s=30.0, rewrite=sentinel_lab.STARVED)
        lab.kill("redis-1")
        lab.run(12.0)
        contended += len(lab.rows("+try-failover")) > 1
        assert lab.first("+switch-master") - lab.first("+odown") < 1.5
    assert contended >= 2
