"""Clients that discover the master through Sentinel (redis-py, discover_master)."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis_lab import Lab

from hasim.bind import load_scenarios

ANY = "sentinel:mymaster"
TOP = Path(__file__).resolve().parents[2]


def usable(lab: Lab) -> list[str]:
    """The servers that a new connection of the application takes."""
    return [e.target for e in lab.world.edges() if lab.world.rotation.get(e.name, (False,))[0]]


def test_they_take_the_master_then_nobody_then_the_new_master() -> None:
    """Between S_DOWN and +switch-master of the Sentinel they ask: MasterNotFoundError."""
    lab = Lab(warm_s=30.0, discovery=ANY)
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
    lab = Lab(warm_s=30.0, discovery=ANY)
    lab.kill("s1")
    lab.machine.freeze("s2")
    lab.run(1.0)
    assert usable(lab) == ["redis-1"]
    lab.kill("s3")
    lab.run(2.0)
    assert usable(lab) == []


def test_on_the_isolated_side_they_go_on_with_the_old_master() -> None:
    hosts = {"redis-1": "a", "s1": "a", "app": "a", "redis-2": "b", "s2": "b", "redis-3": "c"}
    lab = Lab(warm_s=40.0, discovery=ANY, hosts={**hosts, "s3": "c"}, quorum=2)
    lab.machine.network.cut(("a",), ("b", "c"))
    lab.run(20.0)
    assert lab.data("s2").masters[0].entry.name != "redis-1"
    assert usable(lab) == ["redis-1"]


def test_only_the_sentinels_of_the_url_are_asked() -> None:
    """A URL with one Sentinel is a single point of failure, however many run."""
    lab = Lab(warm_s=30.0, discovery=f"{ANY}@s2")
    assert usable(lab) == ["redis-1"]
    lab.kill("s2")
    lab.run(1.0)
    assert usable(lab) == []
    lab.back("s2")
    lab.run(2.0)
    assert usable(lab) == ["redis-1"]


@pytest.mark.parametrize(("order", "old"), [("s1,s2,s3", True), ("s3,s2,s1", False)])
def test_they_are_asked_in_the_order_of_the_url(order, old) -> None:
    """s1 was isolated during the failover: it still names the old master, the others do not."""
    hosts = {"redis-1": "a", "s1": "a", "app": "d", "redis-2": "b", "s2": "b", "redis-3": "c"}
    lab = Lab(warm_s=40.0, discovery=f"{ANY}@{order}", hosts={**hosts, "s3": "c"})
    lab.machine.network.cut(("a",), ("b", "c"))
    lab.run(20.0)
    assert (usable(lab) == ["redis-1"]) is old


def test_a_stack_knows_the_order_of_its_urls() -> None:
    _, stack = load_scenarios(TOP / "scenarios.yaml")
    ways = {w.discovery for w in stack.call_routes.values() if w.discovery.startswith("sentinel")}
    names = [i.name for i in stack.instances if i.kind == "sentinel"]
    assert ways == {f"{ANY}@{','.join(names)}"}
