"""Clients that discover the master through Sentinel (redis-py, discover_master)."""

from __future__ import annotations

import pytest
from redis_lab import Lab


def usable(lab: Lab) -> list[str]:
    """The servers that a new connection of the application takes."""
    return [e.target for e in lab.world.edges() if lab.world.rotation.get(e.name, (False,))[0]]


def test_they_take_the_master_then_nobody_then_the_new_master() -> None:
    """Between S_DOWN and +switch-master of the Sentinel they ask: MasterNotFoundError."""
    lab = Lab(warm_s=30.0, discovery=True)
    assert usable(lab) == ["redis-1"]
    lab.kill("redis-1")
    lab.run(15.0)
    assert usable(lab) == [lab.master()]
    shift = lab.zero_ns / 1e9
    changes = [(t - shift, n, on) for t, n, on, _ in lab.world.rotations if t >= shift]
    off = next(t for t, n, on in changes if n == "app->redis-1" and not on)
    back = next(t for t, n, on in changes if n == f"app->{lab.master()}" and on)
    downs = sorted(t for t, _, _ in lab.rows("+sdown", about="master "))
    assert off == pytest.approx(downs[-1], abs=1e-6)  # the last one that still named it
    assert back == pytest.approx(lab.first("+switch-master"), abs=1e-6)


def test_a_sentinel_that_hangs_or_is_dead_is_passed_over() -> None:
    lab = Lab(warm_s=30.0, discovery=True)
    lab.kill("s1")
    lab.machine.freeze("s2")
    lab.run(1.0)
    assert usable(lab) == ["redis-1"]
    lab.kill("s3")
    lab.run(2.0)
    assert usable(lab) == []


def test_on_the_isolated_side_they_go_on_with_the_old_master() -> None:
    hosts = {"redis-1": "a", "s1": "a", "app": "a", "redis-2": "b", "s2": "b", "redis-3": "c"}
    lab = Lab(warm_s=40.0, discovery=True, hosts={**hosts, "s3": "c"}, quorum=2)
    lab.machine.network.cut(("a",), ("b", "c"))
    lab.run(20.0)
    assert lab.data("s2").masters[0].entry.name != "redis-1"
    assert usable(lab) == ["redis-1"]
