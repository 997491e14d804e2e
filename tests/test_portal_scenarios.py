"""What a fault of each part of the repaired Story Portal must come to, in one replication each.

The limits are those of the real daemons (reference pages of Patroni, Sentinel and keepalived);
`make run` judges the same scenarios over all their replications.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from hasim.bind import load_scenarios
from hasim.metrics import View, aggregate, sample
from hasim.sim.run import replicate

ROOT = Path(__file__).parent.parent
PORTAL = "story-portal"


@cache
def project():
    return load_scenarios(ROOT / "scenarios.yaml")


@cache
def view(name: str) -> View:
    file, stack = project()
    scenario = next(s for s in file.scenarios if s.name == name)
    trace = replicate(stack, scenario, file.seed, 0)
    assert not trace.void
    return View(trace, scenario, stack)


def value(name: str, metric: str, of: str = "max", **tags: str) -> float:
    return aggregate(sample(view(name), metric, tags), of)


def said(name: str, text: str) -> list:
    return [m for m in view(name).trace.timeline if m.t_s > 0 and text in f"{m.event} {m.detail}"]


# ttl 30, loop_wait 10: the key goes 20 to 30 s after the leader was last heard of, half a second
# more for etcd, 2 s for the probe of a silent member, then HAProxy's 3 to 6 s.
@pytest.mark.parametrize(
    ("name", "least_s", "most_s"),
    [
        ("postgres-primary-power-off", 25.0, 45.0),
        ("postgres-primary-pause", 25.0, 45.0),
        ("postgres-primary-stop", 2.0, 15.0),
    ],
)
def test_another_member_takes_over(name, least_s, most_s):
    assert value(name, "failovers", "count", by="patroni") == 1
    assert least_s < value(name, "outage_duration", path="publish") < most_s
    assert value(name, "acked_writes_lost", "count", cluster=PORTAL) == 0
    assert value(name, "split_brain_seconds", "max", cluster=PORTAL) < 1


def test_a_killed_postmaster_is_started_in_place():
    name = "postgres-primary-kill"
    assert value(name, "failovers", "count", by="patroni") == 0
    assert said(name, "starting primary after failure")
    assert value(name, "outage_duration", path="publish") < 25
    assert value(name, "outage_duration", path="browse") < 2  # replicas go on


def test_without_a_watchdog_a_stopped_patroni_leaves_two_primaries_but_no_lost_write():
    assert 20 < value("patroni-pause", "split_brain_seconds", cluster=PORTAL) < 45
    assert value("patroni-pause", "acked_writes_lost", "count", cluster=PORTAL) == 0
    assert value("patroni-pause", "failovers", "count", by="patroni") == 1


def test_one_etcd_member_is_not_missed_and_two_are():
    assert value("etcd-member-loss", "http_req_failed", "rate") < 0.001
    assert value("etcd-member-loss", "failovers", "count") == 0
    assert said("etcd-quorum-loss", "demoted self because DCS is not accessible")
    assert 40 < value("etcd-quorum-loss", "outage_duration", path="publish") < 70
    assert value("etcd-quorum-loss", "outage_duration", path="browse") < 2


@pytest.mark.parametrize("name", ["redis-master-kill", "redis-master-pause"])
def test_sentinel_finds_another_master(name):
    assert value(name, "failovers", "count", by="sentinel") == 1
    assert 5.0 < value(name, "time_to_detect", by="sentinel") < 6.3
    assert 6.0 < value(name, "outage_duration", path="session") < 9.0
    assert value(name, "outage_duration", path="browse") < 1  # the cache is skipped


def test_a_master_that_restarts_at_once_keeps_its_place_and_its_data():
    name = "redis-restart-fast"
    assert value(name, "failovers", "count", by="sentinel") == 0
    assert value(name, "acked_writes_lost", "count") == 0
    assert value(name, "outage_duration", path="session") < 3


def test_min_replicas_bounds_what_a_partition_loses():
    """The master takes writes for max-lag 10 s and up to 2 s more once its replicas are silent."""
    lost = value("redis-partition", "acked_writes_lost", "count")
    file, _ = project()
    load = next(s for s in file.scenarios if s.name == "redis-partition").load
    share = 0.3 + 0.1  # publish and session write to Redis; a third of the gateways is on its side
    users_a_second = load.stages[0][1] / 1.0
    assert 0 < lost < users_a_second * share * 12.0


def test_sentinels_need_a_majority():
    assert value("sentinel-minority-loss", "failovers", "count", by="sentinel") == 1
    assert value("sentinel-quorum-loss", "failovers", "count", by="sentinel") == 0
    assert value("sentinel-quorum-loss", "outage_duration", path="session") > 55


def test_the_virtual_address_moves_and_stays():
    assert value("lb-loss", "failovers", "count", by="vrrp") == 1
    assert 0.6 < value("lb-loss", "outage_duration") < 4  # script up to 2 s, then the skew


def test_a_host_that_comes_back_takes_no_address():
    rows = said("node-loss[host-b]", "Entering MASTER STATE")
    assert not rows
    assert value("node-loss[host-b]", "failovers", "count", by="vrrp") == 0
