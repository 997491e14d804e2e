"""Metrics against traces whose truth is known by construction."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from synthetic import END_S, FAULT_S, REPAIR_S, budget, scenario, stack, threshold, trace

from hasim.metrics import MEASURES, View, aggregate, budget_findings, sample
from hasim.metrics_probes import outages_s
from hasim.metrics_resources import mean, window_means
from hasim.metrics_view import good_run_start
from hasim.model import Dist
from hasim.scenario import Fault, When
from hasim.sim.trace import HTTP_504, NO_ENTRY, OPEN, TIMEOUT, FaultSpan, Mark


def view(**changes: object) -> View:
    return View(trace(**changes), scenario(), stack())  # type: ignore[arg-type]


def get(v: View, metric: str, name: str, q: float = 0.0, **tags: str) -> float:
    return aggregate(sample(v, metric, tags), name, q)


def test_failed_share_per_window() -> None:
    v = view(failed={HTTP_504: 40})
    assert get(v, "http_req_failed", "rate") == pytest.approx(40 / (8000 + 40))
    assert get(v, "http_req_failed", "rate", window="before") == 0
    # impact is one segment (2 ops x 1000), fault two
    assert get(v, "http_req_failed", "rate", window="impact") == pytest.approx(40 / 2040)
    assert get(v, "http_req_failed", "rate", window="fault") == pytest.approx(40 / 4040)
    assert get(v, "http_req_failed", "rate", window="after") == 0
    assert get(v, "failed_requests", "count", op="browse") == 40
    assert get(v, "failed_requests", "count", op="publish") == 0
    assert get(v, "failed_requests", "count", path="read") == 40
    assert get(v, "failed_requests", "count", service="gw", status="504") == 40
    assert get(v, "failed_requests", "count", status="5xx") == 40
    assert get(v, "failed_requests", "count", status="503") == 0


def test_windows_cover_the_run_once() -> None:
    v = view()
    masks = [v.segments(w) for w in ("before", "impact", "after")]
    fault = v.segments("fault")
    assert (np.sum(masks, axis=0) + (fault & ~masks[1]) == 1).all()
    assert v.seconds("before") == FAULT_S
    assert v.seconds("fault") == pytest.approx(REPAIR_S - FAULT_S)
    assert v.seconds("impact") == pytest.approx(10.9)
    assert v.seconds("") == END_S


def test_after_begins_when_both_repair_and_recovery_are_over() -> None:
    late = view(bad=[(FAULT_S, 250.0)])
    assert late.seconds("impact") == pytest.approx(150.0)
    assert late.seconds("after") == pytest.approx(END_S - 250.0)


def test_a_fault_without_effect_still_has_an_impact_window() -> None:
    v = view(bad=[])
    assert get(v, "time_to_recover", "max") == 0
    assert v.seconds("impact") == pytest.approx(REPAIR_S - FAULT_S)
    assert get(v, "http_req_failed", "rate", window="impact") == 0


def test_k6_counts_a_silent_entry_with_zero_and_the_user_waits() -> None:
    v = view(ok=0, failed={NO_ENTRY: 10})
    assert get(v, "http_req_duration", "max") == 0
    assert get(v, "http_req_duration", "avg") == 0
    assert get(v, "latency", "avg") == pytest.approx(50.0)
    assert get(v, "latency", "max") == pytest.approx(50.0, rel=0.017)
    assert get(v, "http_req_failed", "rate") == 1


def test_latency_is_judged_on_the_upper_edge_and_its_mean_is_exact() -> None:
    v = view(failed={TIMEOUT: 500})
    p99 = get(v, "http_req_duration", "p", 0.99)
    assert 50.0 <= p99 <= 50.0 * 65 / 64
    assert 0.010 <= get(v, "latency", "med") <= 0.010 * 65 / 64
    assert get(v, "latency", "avg") == pytest.approx((8000 * 0.01 + 500 * 50) / 8500)
    assert 0.010 <= get(v, "latency", "min") <= 0.010 * 65 / 64


def test_interrupted_requests_are_counted_and_have_no_latency() -> None:
    t = trace()
    t.hist[0, 0, OPEN, 0] = 7
    v = View(t, scenario(), stack())
    assert get(v, "interrupted", "count") == 7
    assert get(v, "http_reqs", "count") == 8007
    assert get(v, "http_req_failed", "rate") == 0
    assert get(v, "http_req_duration", "min") >= 0.010
    assert get(v, "availability", "value", by="requests") == pytest.approx(8000 / 8007)


def test_no_requests_are_no_samples() -> None:
    v = view(ok=0)
    for metric, name in (
        ("http_req_duration", "p"),
        ("latency", "avg"),
        ("http_req_failed", "rate"),
        ("availability", "value"),
    ):
        tags = {"by": "requests"} if metric == "availability" else {}
        assert math.isnan(get(v, metric, name, 0.95, **tags))


def test_outages_are_runs_between_two_good_probes() -> None:
    starts = np.arange(10) * 0.1
    good = np.array([1, 1, 0, 0, 1, 1, 0, 1, 1, 1], dtype=bool)
    assert outages_s(starts, good, 1.0) == pytest.approx([0.3, 0.2])
    assert outages_s(starts, ~good, 2.0) == pytest.approx([0.2, 0.3, 1.4])
    assert outages_s(starts, np.zeros(10, bool), 5.0) == pytest.approx([5.0])
    assert len(outages_s(starts, np.ones(10, bool), 1.0)) == 0


def test_outage_and_recovery_by_path() -> None:
    v = view(down_s=110.9)
    assert get(v, "outage_duration", "max", path="write") == pytest.approx(11.0)
    assert get(v, "outage_duration", "max", path="read") == 0
    assert get(v, "outage_duration", "max") == pytest.approx(11.0)
    assert math.isnan(get(v, "outage_duration", "max", path="login"))
    assert get(v, "time_to_recover", "max") == pytest.approx(10.9)
    assert get(v, "time_to_recover", "max", path="read") == 0
    assert get(v, "availability", "value", by="time") == pytest.approx(1 - 109 / 4000)


def test_recovery_needs_thirty_good_probes_in_a_row() -> None:
    flap = view(bad=[(FAULT_S, 105.0), (107.0, 108.0), (140.0, 141.0)])
    assert get(flap, "time_to_recover", "max") == pytest.approx(8.0)
    late = view(bad=[(FAULT_S + 10, FAULT_S + 12)])  # a stop bites after its grace period
    assert get(late, "time_to_recover", "max") == pytest.approx(12.0)
    never = view(bad=[(FAULT_S, END_S - 2)])
    assert get(never, "time_to_recover", "max") == math.inf


def test_good_run_start_by_brute_force() -> None:
    rng = np.random.default_rng(5)
    starts = np.arange(300) * 0.1
    for _ in range(100):
        good = rng.random(300) > rng.choice([0.02, 0.1, 0.3])
        after = float(rng.uniform(0, 25))
        bad = [i for i in range(300) if starts[i] >= after - 1e-9 and not good[i]]
        want = after
        if bad:
            runs = [i for i in range(bad[0], 271) if good[i : i + 30].all()]
            want = float(starts[runs[0]]) if runs else math.inf
        assert good_run_start(starts, good, after) == want


def test_damage_belongs_to_the_fault_it_follows() -> None:
    faults = (
        FaultSpan("pause", "gw-2", 50.0, 60.0, -5),
        FaultSpan("pause", "gw-1", FAULT_S, REPAIR_S, 0),
    )
    t = trace(faults=faults)
    t = replace(t, segment_start_s=np.array([0, 50, 60, 100, 110.9]))  # as many as the histogram
    t = replace(t, hist=np.resize(t.hist, (5, *t.hist.shape[1:])))
    values = sample(View(t, scenario(), stack()), "time_to_recover", {}).values
    assert values == pytest.approx([0.0, 10.9])


def test_detection_follows_the_chain_of_causes() -> None:
    assert get(view(down_s=110.9), "time_to_detect", "max", by="haproxy") == pytest.approx(10.9)
    assert get(view(), "time_to_detect", "first") == pytest.approx(10.9)
    t = trace()
    early = Mark(9, -1, 101.0, "gw/l09-2", "Server gw/l09-2 is DOWN", "L4CON")
    other = View(replace(t, timeline=(*t.timeline, early)), scenario(), stack())
    assert get(other, "time_to_detect", "max") == pytest.approx(10.9)
    unlinked = tuple(replace(m, parent=-1) for m in (*t.timeline, early))
    by_target = View(replace(t, timeline=unlinked), scenario(), stack())
    assert get(by_target, "time_to_detect", "max") == pytest.approx(10.9)
    silent = View(replace(t, timeline=t.timeline[:1]), scenario(), stack())
    assert get(silent, "time_to_detect", "max") == math.inf


def test_a_loop_of_causes_ends() -> None:
    t = trace()
    loop = (Mark(1, 2, 110.0, "x", "Server gw/l09-1 is DOWN", ""), Mark(2, 1, 109.0, "x", "y", ""))
    v = View(replace(t, timeline=loop), scenario(), stack())
    assert not v.descends(loop[0], 77)


def test_utilisation_is_of_the_limit_or_of_the_host() -> None:
    v = view()
    assert get(v, "cpu_utilization", "max", service="gw") == pytest.approx(0.5 / 2)
    assert get(v, "cpu_utilization", "max", service="lb") == pytest.approx(0.5 / 8)
    assert get(v, "cpu_utilization", "max", host="host-a") == pytest.approx(1.5 / 8)
    assert get(v, "cpu_utilization", "max", service="*") == pytest.approx(0.25)
    assert get(v, "memory_utilization", "max", service="gw") == pytest.approx(0.4)
    assert get(v, "memory_bytes", "max", service="gw") == 400
    assert get(v, "cpu_reserved_cores", "value") == 4
    assert get(v, "memory_reserved_bytes", "value", service="gw") == 2000
    assert get(v, "cpu_throttled", "max") == 0
    assert get(v, "connections", "value", service="gw") == 6
    assert math.isnan(get(v, "cpu_utilization", "max", service="nothing"))


def test_windows_of_utilisation_are_means() -> None:
    t = trace()
    t.per_second["cpu_s"][:, 0] = 0
    t.per_second["cpu_s"][120:150, 0] = 2.0
    v = View(t, scenario(), stack())
    assert get(v, "cpu_utilization", "max", instance="gw-1") == pytest.approx(0.5)
    assert get(v, "cpu_utilization", "max", instance="gw-1", over="30s") == pytest.approx(1.0)
    assert window_means(np.ones(7), 60).tolist() == [1.0]
    assert len(window_means(np.ones(130), 60)) == 2


def test_counters() -> None:
    v = view(failed={HTTP_504: 40})
    assert get(v, "retries", "count") == 8
    assert get(v, "retries", "rate") == pytest.approx(8 / 4000)
    assert get(v, "iterations", "rate") == pytest.approx(2000 / END_S)
    assert get(v, "http_reqs", "rate") == pytest.approx(8040 / END_S)
    assert get(v, "vus", "max") == 100
    assert get(v, "dropped_iterations", "count") == 0
    assert get(v, "dropped_iterations", "first") == math.inf
    assert get(v, "oom_kills", "count") == 0
    # 400 checks of 1 ms each out of 600 CPU seconds
    assert get(v, "probe_load", "rate") == pytest.approx(0.4 / 600)
    budget_used = (1 - 8000 / 8040) * END_S / (0.001 * 30 * 86400)
    assert get(v, "error_budget", "value", slo="99.9%", per="30d") == pytest.approx(budget_used)


def test_means_of_distributions() -> None:
    assert mean(Dist("const", 3)) == 3
    assert mean(Dist("uniform", 1, 3)) == 2
    assert mean(Dist("lognormal", 1, 0.5)) == pytest.approx(math.exp(0.125))
    assert mean(Dist("hyperexp", table=((0.9, 1.0), (0.1, 10.0)))) == pytest.approx(1.9)
    assert mean(Dist("quantiles", table=((0, 0.0), (0.5, 2.0), (1, 4.0)))) == pytest.approx(2.0)


def test_every_metric_of_this_version_is_measured() -> None:
    budgets = pytest.importorskip("hasim.budgets")
    known = {m.name for m in budgets.METRICS.values() if not m.later}
    assert known - set(MEASURES) <= {"queue_wait"}
    v = view()
    for metric in MEASURES:
        sample(v, metric, {})  # none raises


def test_budgets_that_cannot_have_samples_are_found_before_the_run() -> None:
    rate = threshold("rate<1%", "rate", "<", 0.01)
    high = threshold("max<80%", "max", "<", 0.8)
    wrong = (
        budget("http_req_failed", rate, op="borwse"),
        budget("cpu_utilization", high, service="gww"),
        budget("cpu_utilization", high, host="host-z"),
        budget("cpu_utilization", high, over="soon"),
        budget("error_budget", high, slo="two nines"),
        budget("queue_wait", high),
        budget("outage_duration", high, path="logni"),
    )
    found = budget_findings(scenario(*wrong), stack())
    assert len(found) == len(wrong)
    assert all(f.span is not None for f in found)
    assert "did you mean 'gw'?" in found[1].hint
    window = scenario(budget("http_req_failed", rate, window="fault"), faults=())
    assert len(budget_findings(window, stack())) == 1
    assert not budget_findings(scenario(budget("http_req_failed", rate, window="fault")), stack())


def test_a_fault_without_repair_lasts_to_the_end() -> None:
    t = trace(faults=(FaultSpan("crash", "gw-1", FAULT_S, math.nan, 0),))
    never = scenario(faults=(Fault("crash", "gw-1", When(Dist("const", FAULT_S))),))
    v = View(t, never, stack())
    assert v.seconds("fault") == END_S - FAULT_S
    assert v.seconds("after") == 0
    assert math.isnan(v.last_repair_s)
