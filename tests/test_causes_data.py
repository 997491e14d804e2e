"""Which line makes a failover so long, or why there is none, from timelines made by hand."""

from __future__ import annotations

from dataclasses import replace

from synthetic import END_S, FAULT_S, REPAIR_S, budget, probes, scenario, threshold, trace
from test_metrics_data import NEW_OLD, OLD_NEW, SWITCH, TOOK, Config, node, tier

from hasim.causes import explain
from hasim.model import BootFailure, Knob, Pool, Route, Stack
from hasim.read.prometheus import read_rules
from hasim.sim.trace import FaultSpan, Mark
from hasim.source import Default, Span

DOWN_AFTER = Span("redis-sentinel.conf", 3, 44)
TTL = Span("patroni.yml", 7, 8)
KNOBS = (
    Knob("sentinel.mymaster.down-after-milliseconds", "5000", "redis", DOWN_AFTER, "sentinel-set"),
    Knob("sentinel.mymaster.quorum", "2", "redis", Span("redis-sentinel.conf", 2, 40), "live"),
    Knob("patroni.other.ttl", "99", "patroni", Span("other.yml", 1, 1), "dcs-edit"),
    Knob("patroni.portal.ttl", "30", "patroni", TTL, "dcs-edit"),
    Knob("patroni.portal.synchronous_mode", "off", "patroni", Default("Patroni manual"), "dcs-edit",
         Span("patroni.yml", 5, 1)),
    Knob("redis.redis-1.min-replicas-to-write", "0", "redis", Default("redis.conf"), "live"),
)  # fmt: skip


def told(
    *marks: tuple[float, str, str, str, int],
    fault: str,
    do: str = "crash",
    of: Stack | None = None,
    bad: list | None = None,
    budgets: tuple = (),
    origins: dict[int, Span] | None = None,
    knobs: tuple[Knob, ...] = KNOBS,
    **changes,
) -> list[str]:
    """The sentences about rows (t_s, component, event, detail, parent); row 0 is the fault."""
    rows = [Mark(0, -1, FAULT_S, "fault", f"fault: {do}", fault)]
    for i, (t, who, event, detail, parent) in enumerate(marks, 1):
        at = (origins or {}).get(i)
        where = (at.file, at.line, at.col) if at else ("", 0, 0)
        rows.append(Mark(i, parent, t, who, event, detail, *where))
    faults = (FaultSpan(do, fault, FAULT_S, REPAIR_S, 0),)
    made = trace(timeline=tuple(rows), faults=faults, terminations=(), **changes)
    made = replace(made, **probes(bad if bad is not None else [(FAULT_S, END_S)]))
    stack = replace(of or tier(), knobs=knobs, balancers=())
    return [f"{c.text} @{c.span}" for c in explain(scenario(*budgets), stack, made)]


def test_the_waits_of_sentinel_name_their_settings() -> None:
    found = told(
        (105.2, "sentinel-2", "+sdown", "master mymaster 10.0.0.5 6379", 0),
        (105.3, "sentinel-2", "+odown", "master mymaster 10.0.0.5 6379 #quorum 2/2", 1),
        (106.4, "sentinel-2", "+promoted-slave", "slave 10.0.0.6:6379", 2),
        (107.5, "sentinel-2", SWITCH, OLD_NEW, 3),
        fault="redis-1",
        origins={1: DOWN_AFTER},
    )
    assert found[0].startswith("mymaster: redis-2 took over from redis-1 7.5 s after the fault")
    assert (
        "of these 5.2 s until sentinel-2 said '+sdown master mymaster 10.0.0.5 6379': "
        "down-after-milliseconds 5000 @redis-sentinel.conf:3:44"
    ) in found
    assert any(t.startswith("of these 1.1 s until sentinel-2 said '+promoted-slave") for t in found)
    assert not any("+odown" in t for t in found)  # 0.1 s


def test_the_waits_are_those_of_the_sentinel_that_led() -> None:
    """One on the wrong side of a partition notices too, and followers switch before the leader."""
    found = told(
        (105.0, "sentinel-1", "+sdown", "slave 10.0.0.6:6379 10.0.0.6 6379 @ mymaster", 0),
        (105.4, "sentinel-2", "+sdown", "master mymaster 10.0.0.5 6379", 0),
        (105.9, "sentinel-3", "+sdown", "master mymaster 10.0.0.5 6379", 0),
        (106.0, "sentinel-3", "+odown", "master mymaster 10.0.0.5 6379 #quorum 2/2", 3),
        (107.0, "sentinel-3", "+promoted-slave", "slave 10.0.0.6:6379 @ mymaster 10.0.0.5", 4),
        (107.1, "sentinel-2", SWITCH, OLD_NEW, 2),
        fault="redis-1",
    )
    waits = [text for text in found if text.startswith("of these")]
    assert [text.partition(" said")[0] for text in waits] == [
        "of these 5.9 s until sentinel-3",
        "of these 1.0 s until sentinel-3",
    ]


def test_the_lease_of_patroni_is_found_by_its_knob() -> None:
    found = told(
        (-30.0, "pg-1", TOOK, "", -1),
        (121.0, "pg-2", TOOK, "", -1),
        fault="pg-1",
        do="power-off",
    )
    assert "portal: pg-2 took over from pg-1 21.0 s after the fault @None" in found
    assert f"of these 21.0 s until pg-2 said '{TOOK}': ttl 30 @patroni.yml:7:8" in found


def test_the_race_is_no_wait_for_the_lease_nor_is_a_demotion_on_the_other_side() -> None:
    found = told(
        (-30.0, "pg-1", TOOK, "", -1),
        (110.0, "pg-1", "demoting self because DCS is not accessible and I was a leader", "", 0),
        (129.5, "pg-3", "following a different leader because i am not the healthiest node", "", 0),
        (131.5, "pg-2", TOOK, "", -1),
        fault="pg-1",
        do="partition",
    )
    assert any("29.5 s until pg-3" in t and "ttl 30" in t for t in found)
    assert any("2.0 s until pg-2" in t and "the race waits 2 s" in t for t in found)
    assert not any("until pg-1 said" in t for t in found)


def test_a_lock_that_was_given_back_did_not_expire() -> None:
    found = told(
        (-30.0, "pg-1", TOOK, "", -1),
        (102.3, "pg-1", "Leader key released", "", 0),
        (102.4, "pg-3", "following a different leader because i am not the healthiest node", "", 1),
        (102.7, "pg-2", TOOK, "", 1),
        fault="pg-1",
        do="stop",
    )
    assert any("2.3 s until pg-1 said 'Leader key released'" in t for t in found)
    assert not any("ttl" in t for t in found)


def test_a_second_failover_back_is_not_explained_twice() -> None:
    found = told(
        (106.0, "sentinel-1", SWITCH, OLD_NEW, 0),
        (300.0, "sentinel-1", SWITCH, NEW_OLD, -1),
        fault="redis-1",
    )
    assert sum("took over" in t for t in found) == 1


def test_a_primary_that_nobody_supervises() -> None:
    base = tier()
    keep = [i for i in base.instances if i.kind not in ("patroni", "postgres")]
    alone = node("agentic-postgres", "postgres")
    found = told(fault="agentic-postgres", do="stop", of=replace(base, instances=(*keep, alone)))
    assert (
        "agentic-postgres was lost and nothing promoted another: "
        "no Patroni supervises agentic-postgres @compose.yml:5:3"
    ) in found


def test_sentinels_that_did_not_start() -> None:
    where = Span("redis-sentinel.conf", 2, 1)
    why = "Can't resolve instance hostname"
    broken = tuple(BootFailure(f"sentinel-{i}", why, where) for i in (1, 2, 3))
    found = told(fault="redis-1", of=replace(tier(), boot_failures=broken))
    assert (
        f"redis-1 was lost and nothing promoted another: no Sentinel runs: {why} "
        "@redis-sentinel.conf:2:1"
    ) in found
    assert f"sentinel-1 did not boot: {why} @redis-sentinel.conf:2:1" in found


def test_sentinels_that_could_not_agree() -> None:
    alone = told((105.0, "sentinel-1", "+sdown", "master mymaster 10.0.0.5 6379", 0),
                 fault="redis-1")  # fmt: skip
    assert any(
        "no quorum or no majority of the Sentinels agreed (all 3 ran): quorum 2" in t for t in alone
    )
    reason = told((116.0, "sentinel-1", "-failover-abort-no-good-slave", "master mymaster", 0),
                  fault="redis-1")  # fmt: skip
    assert any("sentinel-1 said '-failover-abort-no-good-slave master" in t for t in reason)
    late = told((105.0, "sentinel-1", "+sdown", "master mymaster 10.0.0.5 6379", 0),
                fault="redis-1", bad=[(FAULT_S, REPAIR_S + 1)])  # fmt: skip
    assert any("nothing promoted another" in t for t in late)  # it came back by the repair only
    short = told(fault="redis-1", bad=[(FAULT_S, 102.0)])
    assert not any("nothing promoted" in t for t in short)  # it came back in its place


def test_a_member_that_may_not_be_promoted_says_why() -> None:
    found = told(
        (-30.0, "pg-1", TOOK, "", -1),
        (130.0, "pg-2", "My wal position exceeds maximum replication lag", "9 bytes behind", -1),
        fault="pg-1",
    )
    text = "pg-1 was lost and nothing promoted another: pg-2 said 'My wal position exceeds maximum"
    assert any(t.startswith(text) for t in found)


def test_clients_with_a_fixed_address_stay_behind() -> None:
    base = tier()
    caller = replace(
        base.instances[0], where={"environment.REDIS_URL": Span("docker-compose.app.yml", 12, 18)}
    )
    ways = {
        "gw->redis": Route("call", "", "", "", "redis", "", ("redis-1",)),
        "lb->redis": Route("call", "", "", "", "redis", "sentinel:mymaster", ("redis-1",)),
    }
    stack = replace(base, instances=(caller, *base.instances[1:]), call_routes=ways)
    found = told((106.0, "sentinel-1", SWITCH, OLD_NEW, 0), fault="redis-1", of=stack)
    assert [t for t in found if "dials" in t] == [
        "gw dials redis-1 itself (REDIS_URL): a fixed address does not follow a failover to redis-2"
        " @docker-compose.app.yml:12:18"
    ]


def test_a_pool_without_time_limits_holds_on_to_silence() -> None:
    base = tier()
    pool = Pool("redis", span=Span("profile.yaml", 30, 9))
    stack = replace(base, services=(replace(base.services[0], pools=(pool,)),))
    silent = told(fault="redis-1", do="power-off", of=stack)
    words = (
        "was held until TCP gave up: no tcp_user_timeout and no command_timeout @profile.yaml:30"
    )
    assert any(words in t for t in silent)
    assert not any("tcp_user_timeout" in t for t in told(fault="redis-1", of=stack))  # a reset
    limited = replace(pool, tcp_user_timeout_s=5.0)
    stack = replace(base, services=(replace(base.services[0], pools=(limited,)),))
    assert not any("tcp_user" in t for t in told(fault="redis-1", do="power-off", of=stack))


def test_losses_name_the_setting_that_allows_them() -> None:
    rows = (
        (END_S, "acked_writes_lost", (("cluster", "portal"),), 12.0),
        (END_S, "split_brain_seconds", (("cluster", "cache"),), 11.5),
        (END_S, "acked_writes_lost", (("cluster", "cache"),), 0.0),
    )
    found = told(fault="gw-1", do="slow", measures=rows)
    assert (
        "12 acknowledged writes of portal are gone: synchronous_mode off (default, Patroni manual)"
        " @patroni.yml:5:1"
    ) in found
    assert any(
        t.startswith("two nodes of cache took writes at once for 11.5 s: min-replicas-to-write 0")
        for t in found
    )
    assert len([t for t in found if "cache" in t]) == 1


def test_the_window_that_bounds_what_a_store_loses() -> None:
    rows = ((END_S, "acked_writes_lost", (("cluster", "redis:redis-1"),), 89.0),)
    bound = Span("redis.conf", 9, 22)
    lag = Knob("redis.redis-1.min-replicas-max-lag", "10", "redis", bound, "live")
    floor = replace(KNOBS[-1], value="1")
    text = "89 acknowledged writes of redis:redis-1 are gone: min-replicas-"
    found = told(fault="gw-1", do="slow", measures=rows, knobs=(*KNOBS[:-1], floor, lag))
    assert f"{text}max-lag 10 @redis.conf:9:22" in found
    found = told(fault="gw-1", do="slow", measures=rows, knobs=(*KNOBS, lag))
    assert f"{text}to-write 0 (default, redis.conf) @None" in found


def test_a_pause_that_no_watchdog_ends() -> None:
    rows = ((END_S, "split_brain_seconds", (("cluster", "portal"),), 28.3),)
    found = told(fault="gw-1", do="slow", measures=rows)
    assert (
        "two nodes of portal took writes at once for 28.3 s: no watchdog device in pg-1: nothing "
        "ends a primary whose Patroni stands still @compose.yml:5:3"
    ) in found


def test_a_primary_that_is_started_again_in_its_place() -> None:
    found = told(
        (-30.0, "pg-1", TOOK, "", -1),
        (109.0, "pg-1", "starting primary after failure", "", -1),
        (112.4, "pg-1.postgres", "database system is ready to accept connections", "", 2),
        fault="pg-1.postgres",
        do="kill-process",
        bad=[(FAULT_S, 113.0)],
    )
    assert "pg-1.postgres was back in its place 12.4 s after the fault @None" in found
    assert any(
        "of these 9.0 s until pg-1 said 'starting primary after failure'" in t for t in found
    )
    assert any(
        "of these 3.4 s until pg-1.postgres said 'database system is ready" in t for t in found
    )
    assert not any("nothing promoted" in t for t in found)


def test_a_killed_postmaster_is_started_again_and_not_repaired() -> None:
    found = told(
        (-30.0, "pg-1", TOOK, "", -1),
        (109.0, "pg-1", "starting primary after failure", "", 0),
        (REPAIR_S, "pg-1", "database system is ready to accept connections", "", 2),
        fault="pg-1",
        do="kill-process",
    )
    assert not any("by its repair" in t for t in found)


def test_a_container_that_has_another_name() -> None:
    base = tier()
    where = {"container_name": Span("docker-compose.ha.yml", 141, 21)}
    master = replace(node("agentic-redis-master", "redis"), compose_service="redis-master",
                     where=where)  # fmt: skip
    stack = replace(base, instances=(*base.instances, master))
    made = trace(
        timeline=(Mark(0, -1, FAULT_S, "fault", "stop", "No such container: redis-master"),),
        faults=(FaultSpan("stop", "container:redis-master", FAULT_S, REPAIR_S, 0),),
        terminations=(),
    )
    found = [f"{c.text} @{c.span}" for c in explain(scenario(), stack, made)]
    assert found[0] == (
        "stop struck nothing: No such container: redis-master; the container of service "
        "redis-master is named agentic-redis-master @docker-compose.ha.yml:141:21"
    )


def test_the_same_wait_many_times_is_one_sentence() -> None:
    lost = "Error communicating with DCS"
    found = told(
        (-30.0, "pg-1", TOOK, "", -1),
        *((110.0 + 10 * i, "pg-1", lost, "", i + 1 if i else 0) for i in range(4)),
        (141.0, "pg-1", "promoted self to leader because I had the session lock", "", 5),
        fault="etcd-1",
    )
    assert "portal: pg-1 led again 41.0 s after the fault @None" in found
    assert any(t.startswith(f"of these 40.0 s until pg-1 said '{lost}' 4 times") for t in found)


RULES = """\
groups:
  - name: g
    rules:
      - {alert: Few, expr: 'haproxy_backend_up{backend="gw"} < 2'}
      - alert: Down
        expr: up{job="gw"} == 0
        for: 2m
"""


def test_an_alert_that_stays_silent_says_why() -> None:
    base = tier()
    groups, _ = read_rules(RULES, "alerts.yml")
    from hasim.components.prometheus.config import Config as Prometheus

    config = Prometheus(groups=groups, jobs=None)
    keep = [i for i in base.instances if i.kind != "prometheus"]
    stack = replace(base, instances=(*keep, node("prometheus", "prometheus", config=config)))
    more = threshold("count>=1", "count", ">=", 1.0)
    asked = (budget("alert_fired", more, alert="Few"), budget("alert_fired", more, alert="Down"))
    found = told(fault="gw-1", of=stack, budgets=asked)
    assert any(
        t.startswith("alert Few can never fire: no exporter of this stack shows")
        and t.endswith("@alerts.yml:4:28")
        for t in found
    )
    assert 'alert Down did not fire: up{job="gw"} == 0 never held @alerts.yml:6:15' in found
    late = told((130.0, "prometheus", "alert pending", "Down{}", 0), fault="gw-1", of=stack,
                budgets=asked)  # fmt: skip
    words = "alert Down was pending but did not fire: for 120s was not reached @alerts.yml:7:14"
    assert words in late


def test_configs_without_these_fields_do_no_harm() -> None:
    bare = replace(tier(), instances=(node("x", "postgres", config=Config()),))
    assert told(fault="x", of=bare)[0].startswith("x was lost and nothing promoted another")
