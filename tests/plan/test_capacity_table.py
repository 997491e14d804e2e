"""The capacity table: what is given, how it is judged, sums that must fit the hosts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from hasim.model import Stack
from hasim.plan.capacity import verdict_of as capacity_verdict
from hasim.plan.capacity_types import Amount, Boundary
from hasim.plan.sizing import Needed
from hasim.plan.sizing_groups import groups, loaded
from hasim.plan.sizing_table import judge, table, totals
from hasim.project import open_project
from hasim.read.stackfile import read_stackfile
from hasim.stack import load

GIB, MIB = 1 << 30, 1 << 20
NOTHING = Needed({}, {}, {}, False, False, None, (), {})


@pytest.fixture(scope="module")
def guide(models: Path) -> Stack:
    return load(models / "story-portal-guide-bootable")


@pytest.fixture(scope="module")
def portal(models: Path) -> Stack:
    return load(models / "story-portal")


def test_the_guides_table_adds_up_as_the_audit_says(guide: Stack) -> None:
    sizing = table(guide, guide, 500, NOTHING, [])
    cores, memory = totals(sizing.sizes, "given")
    assert cores == 35.5  # CP-1
    assert memory == 32.25 * GIB
    by_name = {s.service: s for s in sizing.sizes}
    assert by_name["redis"].given == Amount(3, 0.5, 512 * MIB)
    assert by_name["redis"].given_source == "the guide, section 8"
    assert by_name["other-services"].note == "taken as given: no file defines it"
    assert not by_name["platform-ui"].given.known


def test_losing_the_only_host_leaves_nothing(guide: Stack) -> None:
    sizing = table(guide, guide, 500, NOTHING, [])
    assert [(one.lost, one.given_fits) for one in sizing.left] == [("", True), ("host-a", False)]
    assert "2 hosts of 35.5 cores and 32.3 GiB each would hold it" in sizing.missing[0]


def test_three_hosts_sized_to_the_sum_do_not_hold_it_after_a_loss(guide: Stack) -> None:
    # CP-2: 35.5 cores on three hosts that hold just the sum; two of them would need 17.75 each
    [one] = guide.hosts
    hosts = tuple(
        replace(one, name=n, cores=11.84, memory_bytes=11 * GIB)
        for n in ("host-a", "host-b", "host-c")
    )
    stack = replace(guide, hosts=hosts)
    sizing = table(stack, stack, 500, NOTHING, [])
    assert [(x.lost, x.given_fits) for x in sizing.left] == [
        ("", True), ("host-a", False), ("host-b", False), ("host-c", False),
    ]  # fmt: skip
    assert "3 hosts of 17.8 cores and 16.2 GiB each" in sizing.missing[-1]


def test_sums_per_host_are_those_of_the_compose_limits(portal: Stack) -> None:
    sums = {h.host: h for h in table(portal, portal, 500, NOTHING, []).hosts}
    # haproxy, keepalived, gateway, UI, PostgreSQL, etcd, Redis, Sentinel, two exporters
    assert sums["host-a"].given_cores == pytest.approx(0.5 + 0.1 + 2 + 1 + 2 + 0.5 * 3 + 0.1 * 2)
    memory_mib = 256 + 64 + 1024 + 1024 + 2048 + 3 * 512 + 2 * 64
    assert sums["host-a"].given_memory_bytes == memory_mib * MIB
    assert sums["host-a"].fits
    assert not sums["host-b"].fits, "8.3 of 8 cores are reserved there"


def test_a_process_in_a_container_counts_for_the_container(portal: Stack) -> None:
    [patroni] = [g for g in groups(portal) if g.name == "patroni"]
    assert patroni.processes[0] == ("pg-1", "pg-1.postgres")
    assert patroni.services == ("patroni", "postgres")
    assert patroni.settings(1.5, 512 * MIB)["compose.pg-2.mem_limit"] == "512m"


def test_services_that_requests_reach(root: Path) -> None:
    file = open_project(root / "scenarios.yaml").file
    stack = open_project(root / "scenarios.yaml").stack
    assert file is not None
    assert stack is not None
    one = [s for s in file.scenarios if s.name == "steady-500-users"]
    assert loaded(stack, one) == ["l01-data-layer", "l09-api-gateway", "postgres", "redis"]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (Amount(2, 1.0, GIB), "right"),
        (Amount(1, 4.0, 4 * GIB), "under-provisioned"),
        (Amount(2, 0.4, GIB), "under-provisioned"),
        (Amount(2, 1.0, 300 * MIB), "under-provisioned"),
        (Amount(2, 1.5, GIB), "over-provisioned"),
        (Amount(3, 1.0, GIB), "over-provisioned"),
        (Amount(2, 0.0, 0, known=False), "no limit"),
    ],
)
def test_judgement(given: Amount, word: str) -> None:
    assert judge(given, Amount(2, 0.5, 512 * MIB), Amount(2, 1.0, GIB)) == word


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ([(980.0, 1000.0), (500.0, 510.0)], "pass"),
        ([(980.0, 1000.0), (0.0, 2.0)], "fail"),
        ([(490.0, 500.0)], "fail"),
        ([(490.0, 510.0)], "undecided"),
        ([(0.0, math.inf)], "undecided"),
    ],
)
def test_verdict_about_the_load_asked_for(found: list[tuple[float, float]], word: str) -> None:
    bounds = [Boundary("", users, fails, 1.0, None, ()) for users, fails in found]
    assert capacity_verdict(bounds, 500.0) == word


def test_sizes_in_stack_yaml() -> None:
    text = 'sizes:\n  web: {instances: 2, cpus: 0.5, memory: 1GiB, source: "a table"}\n'
    made, found = read_stackfile(text, "stack.yaml")
    assert not found
    assert [(s.service, s.instances, s.cores, s.memory_bytes) for s in made.sizes] == [
        ("web", 2, 0.5, GIB)
    ]
    _, found = read_stackfile("sizes:\n  web: {instances: 0, cpus: x}\n", "stack.yaml")
    assert [(f.span.line if f.span else 0) for f in found] == [2, 2, 2]
