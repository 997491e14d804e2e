"""Databases and stores: writable or not, commits that wait, connections that are cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from data_plane import Plane, app, call, io, stack_of, steady

from hasim.model import (
    Backend,
    Balancer,
    Dist,
    Frontend,
    Instance,
    Op,
    Route,
    Server,
    Service,
    Step,
)
from hasim.sim.kernel import layout as L

COMMIT = Step("commit", Dist("const", 0.003))


def database(write: tuple[Step, ...] = (io(0.01), COMMIT), kind: str = "postgres") -> Plane:
    pg = Service("pg", 900, ops=(Op("read", (io(0.01),)), Op("write", write, write=True)))
    nodes = (Instance("pg-1", kind, "h", "pg"),)
    ops = ("pg/read", "pg/write")
    return Plane(stack_of((pg,), nodes, ops), steady("", 100.0, 10.0, [(o, 0.5) for o in ops]))


def ends(plane: Plane, op: str) -> Counter:
    return Counter(line.outcome for line in plane.lines() if line.op == op)


def test_a_write_takes_its_commit_and_counts() -> None:
    plane = database().until(20)
    writes = [line for line in plane.lines() if line.op == "pg/write"]
    assert {round(w.latency_s, 9) for w in writes} == {0.013}
    assert plane.engine.commits("pg-1") == len(writes) > 300
    for t in (0, 3, 3.0075, 9.9, 20):
        after = sum(w.start_s + w.latency_s > t for w in writes)
        assert plane.engine.commits_since("pg-1", round(t * 1e9)) == after


@pytest.mark.parametrize(("kind", "counted"), [("redis", True), ("service", False)])
def test_writes_of_data_nodes_commit_without_saying_so(kind: str, counted: bool) -> None:
    plane = database(write=(io(0.01),), kind=kind).until(20)
    assert (plane.engine.commits("pg-1") > 300) is counted


def test_read_only_refuses_writes_at_once_and_serves_reads() -> None:
    plane = database().until(5.0001)
    plane.engine.set_writable("pg-1", False)
    before = plane.engine.commits("pg-1")
    plane.until(20)
    assert plane.engine.commits("pg-1") == before
    assert set(ends(plane, "pg/read")) == {"ok"}
    later = [w for w in plane.lines() if w.op == "pg/write" and w.start_s > 5.0001]
    assert {(w.outcome, w.latency_s) for w in later} == {("5xx", 0.0)}
    under_way = [w for w in plane.lines() if w.start_s < 5.0001 < w.start_s + w.latency_s]
    assert all(w.outcome == "5xx" for w in under_way if w.op == "pg/write")


def test_a_standby_makes_commits_wait_or_stall() -> None:
    plane = database().until(2)
    plane.engine.set_commit("pg-1", 0.02)
    plane.until(5)
    plane.engine.set_commit("pg-1", None)
    plane.until(6)
    assert plane.station("pg-1")["inflight"] > 40
    stalled = plane.engine.commits("pg-1")
    plane.until(6.5)
    assert plane.engine.commits("pg-1") == stalled
    plane.engine.set_commit("pg-1", 0.0)
    plane.until(20)
    writes = [w for w in plane.lines() if w.op == "pg/write"]
    assert {round(w.latency_s, 9) for w in writes if 2 < w.start_s < 4.9} == {0.033}
    waited = [w for w in writes if 5 < w.start_s < 6.48]
    assert all(w.start_s + w.latency_s == pytest.approx(6.5) for w in waited)
    assert {w.outcome for w in writes} == {"ok"}
    assert plane.engine.commits("pg-1") == len(writes)


def test_cut_ends_what_is_under_way_and_the_process_goes_on() -> None:
    plane = database().until(5.0005)
    open_ = int(plane.station("pg-1")["inflight"])
    plane.engine.cut("pg-1")
    plane.until(20)
    eof = [line for line in plane.lines() if line.outcome == "eof"]
    assert len(eof) == open_ > 0
    assert all(line.start_s <= 5.0005 for line in eof)
    assert plane.station("pg-1")["inflight"] == 0


def test_each_caller_has_edges_of_its_own() -> None:
    """A partition stops the callers on its side only."""
    pg = Service("pg", 10, ops=(Op("read", (io(0.01),)),))
    nodes = (
        Instance("app-1", "service", "a", "app"),
        Instance("app-2", "service", "b", "app"),
        Instance("pg-1", "postgres", "b", "pg"),
    )
    stack = stack_of((app(call("pg", "read", timeout_s=1.0)), pg), nodes, ("app/q",))
    plane = Plane(stack, steady("app/q", 20.0, 10.0))
    assert {"app-1->pg-1", "app-2->pg-1"} <= set(plane.edges)
    plane.until(2.01)
    plane.connect("app-1->pg-1", 2)
    plane.until(20)
    late = Counter(line.outcome for line in plane.lines() if line.start_s > 2.01)
    assert late["ok"] == pytest.approx(80, abs=2)
    assert late["5xx"] == pytest.approx(80, abs=2)


def test_work_that_nobody_waits_for_ends_and_frees_its_worker() -> None:
    """HAProxy answers 504 after `timeout server`; the service goes on and is free again."""
    servers = (Server("s1", "app-1", 80, "app-1", "bridge", None),)
    times = {"timeout_connect_s": 5.0, "timeout_server_s": 0.3}
    backend = Backend("web", "http", "roundrobin", servers, **times)
    balancer = Balancer("lb-1", (2, 8, 0), 0, (Frontend("in", "http", (), "web"),), (backend,))
    nodes = (Instance("app-1", "service", "h", "app"), Instance("lb-1", "haproxy", "h"))
    one = Service("app", 2, ops=(Op("q", (io(1.0),)),))
    stack = stack_of((one,), nodes, (), balancers=(balancer,))
    stack = replace(stack, op_entries={"app/q": Route("address", "lb-1", "in", "web", "app")})
    plane = Plane(stack, steady("app/q", 1.0, 5.0)).until(5.9)
    assert plane.station("app-1")["busy"] == 1
    plane.until(30)
    assert Counter(line.outcome for line in plane.lines()) == {"504": 6}
    assert (plane.station("app-1")["inflight"], plane.station("app-1")["busy"]) == (0, 0)
    assert plane.k.g[L.USED_SLOTS] == 0


@pytest.mark.parametrize("stopped", [True, False])
def test_what_waits_in_the_socket_of_a_stopped_process_costs_no_memory(stopped: bool) -> None:
    """It cannot fork a backend; one that runs and is slow can, until the OOM killer comes."""
    pg = Service("pg", 900, ops=(Op("read", (io(0.01 if stopped else 5.0),)),))
    pg = replace(pg, connection_bytes=1 << 20)
    node = Instance("pg-1", "postgres", "h", "pg", mem_limit_bytes=50 << 20)
    plane = Plane(stack_of((pg,), (node,), ("pg/read",)), steady("pg/read", 100.0, 10.0))
    killed: list[str] = []
    plane.engine.on_oom = killed.append
    plane.until(1)
    if stopped:
        plane.engine.freeze("pg-1")
    plane.until(9)
    assert killed == ([] if stopped else ["pg-1"])
