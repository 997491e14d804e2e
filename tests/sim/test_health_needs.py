"""Health URLs that look at dependencies: each is asked in turn, any failure is a 503."""

from __future__ import annotations

import pytest
from data_plane import Plane, app, call, io, stack_of, steady

from hasim.model import INF, Endpoint, Instance, Op, Pool, Service, Stack
from hasim.sim.world import CONNECTS, L7TOUT, REFUSED, CheckPlan


def portal(timeout_s: float = INF, pools: tuple[Pool, ...] = (), busy_s: float = 0.01) -> Stack:
    health = (Endpoint("/live"), Endpoint("/ready", needs=("pg", "cache"), timeout_s=timeout_s))
    pg = Service("pg", 50, ops=(Op("write", (io(1.0),), write=True), Op("read", (io(busy_s),))))
    cache = Service("cache", 1, "async", ops=(Op("get", (io(0.002),)),))
    nodes = tuple(
        Instance(f"{name}-1", kind, "h", name)
        for name, kind in (("app", "service"), ("pg", "postgres"), ("cache", "redis"))
    )
    one = app(call("pg", "read"), health=health, pools=pools)
    return stack_of((one, pg, cache), nodes, ("app/q",))


def ask(plane: Plane, url: str, at_s: float, patience_s: float = 5.0) -> tuple[int, float]:
    """(result, seconds) of one check."""
    plane.until(at_s)
    env = plane.engine.env
    edge = next(e for e in plane.tables.edges if (e.source, e.target) == ("users", "app-1"))
    answer_by = int(env.now) + round(patience_s * 1e9)
    event = plane.engine.check(edge, CheckPlan("http", url, answer_by, answer_by))
    plane.engine.run_until_event(event)
    return event.value, env.now / 1e9 - at_s


def test_dependencies_are_asked_one_after_the_other() -> None:
    plane = Plane(portal(), steady("app/q", 1.0, 60.0))
    assert ask(plane, "/ready", 1.5) == (200, pytest.approx(0.012))
    assert ask(plane, "/live", 2.5) == (200, pytest.approx(0.0))


def test_a_dead_dependency_is_a_503_and_liveness_does_not_mind() -> None:
    plane = Plane(portal(), steady("app/q", 1.0, 60.0))
    plane.connect("cache-1", REFUSED)
    assert ask(plane, "/ready", 1.5)[0] == 503
    assert ask(plane, "/live", 2.5)[0] == 200
    plane.connect("cache-1", CONNECTS)
    assert ask(plane, "/ready", 3.5)[0] == 200


@pytest.mark.parametrize(("timeout_s", "result"), [(0.5, 503), (INF, L7TOUT)])
def test_a_dependency_that_hangs(timeout_s: float, result: int) -> None:
    """With a time limit of its own the check says so; without one it hangs with it."""
    plane = Plane(portal(timeout_s), steady("app/q", 1.0, 60.0))
    plane.until(1.0001)
    plane.engine.freeze("cache-1")
    code, took = ask(plane, "/ready", 1.5)
    assert code == result
    assert took == pytest.approx(0.51 if timeout_s < 1 else 5.0)


def test_a_starved_pool_delays_readiness() -> None:
    pools = (Pool("pg", 1, 0, wait_s=30.0),)
    plane = Plane(portal(pools=pools, busy_s=2.0), steady("app/q", 1.0, 60.0))
    code, took = ask(plane, "/ready", 1.5, patience_s=60.0)
    assert code == 200
    assert took > 4.0


def test_an_unhealthy_url_answers_its_status_whatever_it_needs() -> None:
    plane = Plane(portal(), steady("app/q", 1.0, 60.0))
    plane.engine.set_health("app-1", "/ready", 500)
    assert ask(plane, "/ready", 1.5)[0] == 500
    plane.engine.set_health("app-1", "/ready", 0)
    assert ask(plane, "/ready", 2.5)[0] == 200
