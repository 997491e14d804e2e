"""Each box of the checklist with a proof and without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from deploys import deploy_of

from hasim.export.base import Box, Check, Deploy
from hasim.export.checklist import OPERATIONAL, boxes

CHECKS = (
    Check("hosts/host-a/haproxy.cfg", "haproxy -c 2.6", "passed"),
    Check("prometheus/alerts.yml", "promtool check rules 2.42", "passed"),
)


@pytest.fixture(scope="module")
def good() -> Deploy:
    """The repaired stack, every scenario passed."""
    deploy = deploy_of("story-portal")
    rows = [{"name": s.name, "verdict": "pass", "study": False, "budgets": []}
            for s in deploy.scenarios.scenarios if s.kind == "run"]  # fmt: skip
    return replace(deploy, verdict={"scenarios": rows})


def box(deploy: Deploy, word: str, checks: tuple[Check, ...] = CHECKS) -> Box:
    return next(b for b in boxes(deploy, checks) if word in b.text)


def failing(deploy: Deploy, which: Callable[[str], bool], **more: Any) -> Deploy:
    """The same run with other verdicts."""
    rows = [
        {**r, "verdict": "fail", **more} if which(r["name"]) else r
        for r in deploy.verdict["scenarios"]
    ]
    return replace(deploy, verdict={"scenarios": rows})


def test_all_that_can_be_proved_is_ticked(good: Deploy) -> None:
    found = boxes(good, CHECKS)
    open_ = [b.text for b in found if not b.ticked]
    assert open_ == ["Backup and recovery tested", *(text for text, _ in OPERATIONAL)]
    assert all(b.proof for b in found)


def test_nothing_is_ticked_by_an_empty_run(good: Deploy) -> None:
    empty = replace(good, verdict={"scenarios": []})
    ticked = [b.text for b in boxes(empty, ()) if b.ticked]
    assert ticked == ["3+ l09-api-gateway instances", "All services have health check endpoints"]


@pytest.mark.parametrize(
    ("word", "needed"),
    [
        ("PostgreSQL", lambda n: n.startswith(("postgres-primary", "patroni", "node-loss"))),
        ("Sentinel", lambda n: n.startswith(("redis", "sentinel", "node-loss"))),
        ("Rolling", lambda n: n == "rolling-update"),
        ("Rolling", lambda n: n == "rolling-update-bad-image"),
        ("Chaos", lambda n: n.startswith("node-loss") or "power-off" in n),
        ("Load", lambda n: n.startswith(("steady", "overload", "dns"))),
    ],
)
def test_a_box_opens_without_the_run_that_proves_it(
    good: Deploy, word: str, needed: Callable[[str], bool]
) -> None:
    proved = box(good, word)
    assert proved.ticked
    broken = box(failing(good, needed), word)
    assert not broken.ticked
    assert broken.proof


def test_a_standby_that_is_lost_does_not_prove_replication(good: Deploy) -> None:
    only = failing(good, lambda n: n != "replica-loss")
    assert not box(only, "PostgreSQL").ticked


def test_three_hosts_lost_in_turn_do(good: Deploy) -> None:
    only = failing(good, lambda n: not n.startswith("node-loss"))
    assert box(only, "PostgreSQL").ticked
    assert not box(failing(only, lambda n: n.endswith("[host-b]")), "PostgreSQL").ticked


def test_a_study_proves_nothing(good: Deploy) -> None:
    rows = [{**r, "study": True} for r in good.verdict["scenarios"]]
    assert not box(replace(good, verdict={"scenarios": rows}), "Chaos").ticked


def test_an_excuse_is_named(good: Deploy) -> None:
    gap = [{"metric": "outage_duration", "waived_by": "no spare"}]
    rows = [{**r, "budgets": gap} for r in good.verdict["scenarios"]]
    said = box(replace(good, verdict={"scenarios": rows}), "Chaos")
    assert "gateway-crash (excused: outage_duration)" in said.proof


@pytest.mark.parametrize(("word", "at"), [("HAProxy configured", 0), ("alerts", 1)])
def test_a_validator_that_refuses_or_is_absent_opens_the_box(
    good: Deploy, word: str, at: int
) -> None:
    for status in ("failed", "not validated"):
        checks = tuple(replace(c, status=status) if n == at else c for n, c in enumerate(CHECKS))
        assert not box(good, word, checks).ticked


def test_the_guide_has_too_little_of_some_things() -> None:
    guide = deploy_of("story-portal-guide-bootable")
    assert not box(guide, "alerts").ticked  # rules, and nobody who runs them
    assert not box(guide, "PostgreSQL").ticked
    assert not box(guide, "health check endpoints").ticked or box(guide, "HAProxy configured")


def test_rules_that_can_never_fire_leave_the_box_open(good: Deploy) -> None:
    """MO-1, MO-2: promtool accepts names that no exporter shows."""
    guide = deploy_of("story-portal-guide-bootable").stack
    rules = next(i for i in guide.instances if i.kind == "prometheus").config.groups
    instances = tuple(
        replace(i, config=replace(i.config, groups=rules)) if i.kind == "prometheus" else i
        for i in good.stack.instances
    )
    said = box(replace(good, stack=replace(good.stack, instances=instances)), "alerts")
    assert not said.ticked
    assert "LoadBalancerUnhealthy can never fire" in said.proof


def test_a_server_without_a_check_opens_the_first_box(good: Deploy) -> None:
    balancer = good.stack.balancers[0]
    backend = balancer.backends[0]
    bare = replace(backend, servers=(replace(backend.servers[0], check=None),))
    stack = replace(good.stack, balancers=(replace(balancer, backends=(bare,)),))
    said = box(replace(good, stack=stack), "HAProxy configured")
    assert not said.ticked
    assert backend.servers[0].name in said.proof


def test_two_gateways_are_too_few(good: Deploy) -> None:
    few = tuple(i for i in good.stack.instances if i.name != "l09-api-gateway-3")
    said = box(replace(good, stack=replace(good.stack, instances=few)), "instances")
    assert (said.ticked, said.proof) == (False, "2 instances of l09-api-gateway on 2 hosts")
