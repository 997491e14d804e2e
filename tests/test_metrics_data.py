"""Metrics of the data tier against timelines whose truth is known by construction."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from synthetic import END_S, FAULT_S, REPAIR_S, bucket, budget, scenario, stack, threshold, trace

from hasim.budgets import parse_metric
from hasim.metrics import View, aggregate, budget_findings, sample
from hasim.metrics_data import alert_of, failovers_of
from hasim.model import Host, Instance, Pool, Stack
from hasim.sim.trace import BUCKETS, FaultSpan, Mark
from hasim.source import Span


@dataclass(frozen=True)
class Config:
    """What a component keeps of its files, as far as metrics look at it."""

    scope: str = ""
    cluster: str = ""
    alerts: tuple[str, ...] = ()


def node(name: str, kind: str, host: str = "host-a", **more: object) -> Instance:
    place = Span("compose.yml", 5, 3)
    return Instance(name, kind, host, kind, name, span=place, **more)  # type: ignore[arg-type]


def tier() -> Stack:
    base = stack()
    pg = Config(scope="portal", cluster="portal")
    sentinels = {"peers": {"10.0.0.5:6379": "redis-1", "10.0.0.6:6379": "redis-2"}}
    nodes = [
        *(node(f"pg-{i}", "patroni", f"host-{i}", config=pg) for i in (1, 2, 3)),
        *(node(f"pg-{i}.postgres", "postgres", f"host-{i}", inside=f"pg-{i}") for i in (1, 2, 3)),
        *(node(f"redis-{i}", "redis", config=Config(cluster="cache")) for i in (1, 2)),
        *(node(f"sentinel-{i}", "sentinel", **sentinels) for i in (1, 2, 3)),
        *(node(f"vrrp-{i}", "keepalived") for i in (1, 2)),
        node("prometheus", "prometheus", config=Config(alerts=("RedisDown", "Lag"))),
    ]
    gateway = replace(base.services[0], pools=(Pool("postgres-rw"),))
    return replace(base, instances=(*base.instances, *nodes), services=(gateway,))


def view(
    *marks: tuple[float, str, str, str, int], fault: str = "redis-1", do: str = "crash", **changes
) -> View:
    """Rows (t_s, component, event, detail, parent); row 0 is the fault at 100 s."""
    rows = [Mark(0, -1, FAULT_S, "fault", f"fault: {do}", fault)]
    rows += [
        Mark(i, parent, t, who, event, detail)
        for i, (t, who, event, detail, parent) in enumerate(marks, 1)
    ]
    faults = (FaultSpan(do, fault, FAULT_S, REPAIR_S, 0),)
    return View(trace(timeline=tuple(rows), faults=faults, **changes), scenario(), tier())


def get(v: View, metric: str, name: str, q: float = 0.0, **tags: str) -> float:
    return aggregate(sample(v, metric, tags), name, q)


SWITCH = "+switch-master"
OLD_NEW = "mymaster 10.0.0.5 6379 10.0.0.6 6379"
NEW_OLD = "mymaster 10.0.0.6 6379 10.0.0.5 6379"
TOOK = "promoted self to leader by acquiring session lock"


def test_one_failover_however_many_sentinels_tell_of_it() -> None:
    told = [(106.0 + i / 10, f"sentinel-{i}", SWITCH, OLD_NEW, 0) for i in (1, 2, 3)]
    v = view(*told)
    assert [(f.old, f.new, f.by) for f in failovers_of(v)] == [("redis-1", "redis-2", "sentinel")]
    assert get(v, "failovers", "count") == 1
    assert get(v, "failovers", "first") == pytest.approx(6.1)
    assert get(v, "false_failovers", "count") == 0
    back = view(*told, (300.0, "sentinel-2", SWITCH, NEW_OLD, -1))
    assert get(back, "failovers", "count") == 2
    # the way back is from redis-2, which no fault has hit
    assert get(back, "false_failovers", "count") == 1
    whole = view((106.0, "sentinel-1", f"{SWITCH} {OLD_NEW}", "", 0))
    assert get(whole, "failovers", "count", service="mymaster", by="sentinel") == 1
    assert get(whole, "failovers", "count", service="redis") == 1
    assert get(whole, "failovers", "count", by="patroni") == 0


def test_a_bootstrap_is_no_failover_and_a_promotion_is_one() -> None:
    boot = (-40.0, "pg-1", TOOK, "", -1)
    confirmed = (50.0, "pg-1", "no action. I am (pg-1), the leader with the lock", "", -1)
    v = view(boot, confirmed, (121.0, "pg-2", TOOK, "", 0), fault="pg-1", do="power-off")
    assert [(f.old, f.new, f.group) for f in failovers_of(v)] == [("pg-1", "pg-2", "portal")]
    assert get(v, "failovers", "count", service="portal") == 1
    assert get(v, "false_failovers", "count") == 0


@pytest.mark.parametrize(
    ("do", "fault", "false"),
    [
        ("power-off", "host:host-1", 0),
        ("partition", "host-1 | host-2, host-3", 0),
        ("kill-process", "pg-1.postgres", 0),
        ("slow", "pg-1", 1),
        ("stop", "pg-3", 1),
        ("crash", "etcd-1", 1),
    ],
)
def test_a_failover_is_false_if_nothing_deadly_hit_the_leader(do, fault, false) -> None:
    v = view((-40.0, "pg-1", TOOK, "", -1), (121.0, "pg-2", TOOK, "", 0), fault=fault, do=do)
    assert get(v, "failovers", "count") == 1
    assert get(v, "false_failovers", "count") == false


def test_a_failover_before_the_fault_is_false() -> None:
    v = view((-40.0, "pg-1", TOOK, "", -1), (60.0, "pg-2", TOOK, "", -1), fault="pg-1")
    assert get(v, "false_failovers", "count") == 1
    assert get(v, "failovers", "first") == math.inf  # counted from the fault


def test_a_leader_that_leads_again_is_no_change() -> None:
    again = "promoted self to leader because I had the session lock"
    v = view((-40.0, "pg-1", TOOK, "", -1), (161.0, "pg-1", again, "", 0), fault="etcd-1")
    assert get(v, "failovers", "count") == 0
    assert [(f.old, f.new) for f in failovers_of(v)] == [("pg-1", "pg-1")]


def test_an_address_is_found_by_its_host_and_port() -> None:
    base = tier()
    nodes = [
        Instance("redis-7", "redis", "host-7", listen_ports=(6379,)),
        Instance("sentinel-7", "sentinel", "host-7", listen_ports=(26379,)),
    ]
    hosts = (*base.hosts, Host("host-7", 4, 2**33, addresses=("10.0.0.7",)))
    made = replace(base, hosts=hosts, instances=(*base.instances, *nodes))
    told = view((106.0, "sentinel-1", SWITCH, OLD_NEW.replace("10.0.0.6", "10.0.0.7"), 0))
    v = View(told.trace, told.scenario, made)
    assert [f.new for f in failovers_of(v)] == ["redis-7"]


def test_the_address_that_moves_is_a_failover_too() -> None:
    v = view(
        (-9.0, "vrrp-1", "(VI_1) Entering MASTER STATE", "", -1),
        (103.6, "vrrp-2", "(VI_1) Entering MASTER STATE", "", 0),
        fault="vrrp-1",
    )
    assert get(v, "failovers", "count", by="vrrp") == 1
    assert get(v, "time_to_detect", "max", by="vrrp") == pytest.approx(3.6)


def test_each_watcher_notices_in_its_own_words() -> None:
    v = view(
        (104.9, "sentinel-2", "+sdown", "master mymaster 10.0.0.5 6379", 0),
        (105.4, "sentinel-1", "+sdown", "master mymaster 10.0.0.5 6379", 0),
        (120.0, "pg-2", TOOK, "", 0),
        (130.0, "prometheus", "alert pending", 'RedisDown{instance="redis-1"}', 0),
        (160.0, "prometheus", "ALERTS firing", 'RedisDown{instance="redis-1"}', 4),
    )
    assert get(v, "time_to_detect", "max", by="sentinel") == pytest.approx(4.9)
    assert get(v, "time_to_detect", "max", by="sentinel", service="sentinel-1") == pytest.approx(
        5.4
    )
    assert get(v, "time_to_detect", "max", by="patroni") == pytest.approx(20.0)
    assert get(v, "time_to_detect", "max", by="alert") == pytest.approx(60.0)
    assert get(v, "time_to_detect", "max", by="alert", alert="Lag") == math.inf
    assert get(v, "time_to_detect", "max", by="vrrp") == math.inf
    assert get(v, "time_to_detect", "max") == math.inf  # HAProxy has not


def test_an_alert_that_was_pending_before_does_not_notice_the_fault() -> None:
    v = view(
        (90.0, "prometheus", "alert pending", "Lag", -1),
        (110.0, "prometheus", "ALERTS firing", "Lag", 1),
    )
    assert get(v, "time_to_detect", "max", by="alert") == math.inf
    assert get(v, "alert_fired", "count") == 1
    assert get(v, "alert_fired", "first") == pytest.approx(10.0)


def test_alerts_are_counted_by_name_and_severity() -> None:
    page = 'RedisDown{instance="a b",severity="page"} value 0'
    v = view(
        (150.0, "prometheus", "ALERTS firing", page, -1),
        (150.0, "prometheus", "ALERTS firing", page.replace("a b", "c"), -1),
        (180.0, "prometheus", "resolved", page, -1),
        (151.0, "prometheus", "ALERTS firing", "Lag{} value 61", -1),
    )
    assert get(v, "alert_fired", "count") == 3
    assert get(v, "alert_fired", "count", alert="RedisDown") == 2
    assert get(v, "alert_fired", "count", alert="RedisDown", severity="page") == 2
    assert get(v, "alert_fired", "count", severity="ticket") == 0
    assert get(v, "alert_fired", "first", alert="Lag") == pytest.approx(51.0)
    assert get(v, "alert_fired", "first", alert="Other") == math.inf
    assert alert_of(v.trace.timeline[1]) == ("RedisDown", "page")


def test_loss_and_split_brain_are_what_the_clusters_say_at_the_end() -> None:
    rows = (
        (END_S, "acked_writes_lost", (("cluster", "portal"),), 7.0),
        (END_S, "acked_writes_lost", (("cluster", "cache"),), 5.0),
        (END_S, "split_brain_seconds", (("cluster", "portal"),), 0.0),
        (END_S, "split_brain_seconds", (("cluster", "cache"),), 12.5),
    )
    v = view(measures=rows)
    assert get(v, "acked_writes_lost", "count") == 12
    assert get(v, "acked_writes_lost", "count", cluster="portal") == 7
    assert get(v, "split_brain_seconds", "value") == 12.5
    assert get(v, "split_brain_seconds", "value", cluster="portal") == 0
    assert math.isnan(get(v, "acked_writes_lost", "count", cluster="other"))
    assert math.isnan(get(view(), "acked_writes_lost", "count"))  # no samples is no pass


def test_the_lag_is_that_of_the_furthest_replica_each_second() -> None:
    seconds = np.arange(400.0)
    gone = np.where(seconds < 200, 3.0, np.nan)
    gauges = {
        ("pg-2.postgres", "replication_lag", ()): np.where(seconds == 150, 80.0, 1.0),
        ("pg-3.postgres", "replication_lag", ()): gone,
        ("pg-3.postgres", "pg_up", ()): seconds,
    }
    v = view(gauges=gauges)
    assert get(v, "replication_lag", "max") == 80
    assert get(v, "replication_lag", "max", instance="pg-3.postgres") == 3
    assert get(v, "replication_lag", "med", instance="pg-3") == 3  # the container around it
    assert get(v, "replication_lag", "value") == 1
    assert get(v, "replication_lag", "avg") == pytest.approx((199 * 3 + 80 + 200) / 400)
    assert math.isnan(get(v, "replication_lag", "max", service="redis"))


def test_pools_and_refused_connections() -> None:
    hist = np.zeros((4, 2, BUCKETS), dtype=np.int64)
    hist[0, 0, 0] = 90
    hist[1, 0, bucket(30.0)] = 10
    hist[1, 1, bucket(1.0)] = 5
    refused = np.zeros((400, 3))
    refused[120:130, 1] = 2
    more = dict(trace().per_second) | {"db_refused": refused}
    pools = ("gw-1->postgres-rw", "gw-2->redis")
    v = view(pools=pools, pool_hist=hist, per_second=more)
    assert get(v, "pool_checkout_wait", "max", pool="postgres-rw") == pytest.approx(30, rel=0.02)
    assert get(v, "pool_checkout_wait", "med", pool="postgres-rw") < 1e-5
    assert get(v, "pool_checkout_wait", "max", service="gw-2") == pytest.approx(1, rel=0.02)
    assert get(v, "pool_checkout_wait", "max", window="before", service="gw") < 1e-5
    assert math.isnan(get(v, "pool_checkout_wait", "max", pool="other"))
    assert get(v, "db_refused_connections", "count") == 20
    assert get(v, "db_refused_connections", "first") == 20
    assert get(v, "db_refused_connections", "count", instance="gw-1") == 0


# ---- what a budget may be about ----------------------------------------------------------------
ZERO = threshold("count==0", "count", "==", 0.0)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("failovers", "there is no Sentinel, Patroni or keepalived in the stack"),
        ("acked_writes_lost", "there is no PostgreSQL or Redis in the stack"),
        ("alert_fired", "there is no alerting rule in the stack"),
        ("pool_checkout_wait", "no service of profile.yaml has a pool"),
        ("time_to_detect{by:sentinel}", "by 'sentinel': nothing of that kind is in the stack"),
    ],
)
def test_a_budget_about_nothing_is_an_input_error(metric: str, words: str) -> None:
    name, tags = parse_metric(metric)
    found = budget_findings(scenario(budget(name, ZERO, **dict(tags))), stack())
    assert [f.severity for f in found] == ["error"]
    assert words in found[0].message
    assert not budget_findings(scenario(budget(name, ZERO, **dict(tags))), tier())


@pytest.mark.parametrize(
    ("metric", "hint"),
    [
        ("alert_fired{alert:RedisDwn}", "did you mean 'RedisDown'?"),
        (
            "acked_writes_lost{cluster:postgres}",
            "there is cache, portal, redis:redis-1, redis:redis-2",
        ),
        ("pool_checkout_wait{pool:redis}", "there is postgres-rw"),
        ("replication_lag{instance:pg-9}", "did you mean 'pg-3'?"),
    ],
)
def test_a_wrong_name_says_what_there_is(metric: str, hint: str) -> None:
    name, tags = parse_metric(metric)
    found = budget_findings(scenario(budget(name, ZERO, **dict(tags))), tier())
    assert [hint in f.hint for f in found] == [True], found
