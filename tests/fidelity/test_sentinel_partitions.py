"""Rules marked [M] of reference/redis-sentinel.md, section 13: what a partition loses."""

from __future__ import annotations

import pytest
import sentinel_lab  # noqa: F401  (puts redis_lab on the path)
from redis_lab import Lab

APART = {"redis-1": "a", "s1": "a", "app": "a", "redis-2": "b", "s2": "b", "redis-3": "c"} | {
    "s3": "c"
}


def partitioned(heal_s: float, seed: int = 1, **changes) -> Lab:
    """The master, one Sentinel and the writing clients on host a; then a is cut off and healed."""
    lab = Lab(seed=seed, warm_s=40.0, hosts=APART, **changes)
    cut = lab.machine.network.cut(("a",), ("b", "c"))
    lab.run(heal_s)
    lab.machine.network.heal(cut)
    lab.run(heal_s + 40.0)
    return lab


@pytest.mark.parametrize("heal_s", [12.0, 20.0, 45.0])
def test_split_brain_loses_the_rate_times_heal_plus_demotion(heal_s) -> None:
    for seed in (1, 2, 3):
        lab = partitioned(heal_s, seed)
        demoted = lab.first("+convert-to-slave")
        assert 10.0 < demoted - heal_s < 12.8
        assert lab.cluster.lost() == pytest.approx(100.0 * demoted, rel=0.03)
        assert lab.cluster.split_brain_s() == pytest.approx(
            demoted - lab.first("MASTER MODE enabled"), rel=0.03
        )


def test_a_stopped_master_has_no_part_in_split_brain_until_it_goes_on() -> None:
    lab = Lab(seed=1, warm_s=30.0)
    lab.machine.freeze("redis-1")
    lab.run(30.0)
    assert lab.first("MASTER MODE enabled") < 8.0
    assert lab.cluster.split_brain_s() == 0.0
    lab.machine.thaw("redis-1")
    lab.run(60.0)
    back = lab.first("+convert-to-slave") - 30.0
    assert lab.cluster.split_brain_s() == pytest.approx(back, abs=0.1)


def test_min_replicas_bounds_what_a_partition_loses() -> None:
    """The window closes L + 0 to 2 s after the isolation, once and for all."""
    for seed in range(5):
        lab = partitioned(30.0, seed, redis={"min_replicas": 1, "max_lag_s": 10})
        closed = lab.first("NOREPLICAS")
        assert 10.0 < closed < 12.0
        assert lab.cluster.lost() == pytest.approx(100.0 * closed, rel=0.03)


def test_the_isolated_sentinel_goes_on_naming_the_old_master() -> None:
    lab = Lab(seed=1, warm_s=40.0, hosts=APART)
    lab.machine.network.cut(("a",), ("b", "c"))
    lab.run(20.0)
    assert lab.data("s1").masters[0].entry.name == "redis-1"
    assert lab.data("s2").masters[0].entry.name != "redis-1"
