"""The rules of a verdict, and how often they are wrong when the truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from synthetic import FAULT_S, REPAIR_S, budget, scenario, stack, threshold, trace

from hasim import stats
from hasim.errors import Exit
from hasim.model import BootFailure
from hasim.scenario import KnownGap
from hasim.sim.trace import HTTP_504, Mark
from hasim.source import Span
from hasim.verdict import ScenarioVerdict, assemble, decide, judge, measure
from hasim.verdict_rows import judge_row, kind

RATE = threshold("rate<2%", "rate", "<", 0.02)
MAX = threshold("max<15s", "max", "<", 15.0)
NONE = threshold("count==0", "count", "==", 0.0)
ERROR = 0.05 / 3


def runs(n: int) -> list[tuple[int, int]]:
    return [(i, 7) for i in range(n)]


def row(values: list[float], of: object, metric: str = "outage_duration", error: float = ERROR):
    return judge_row(budget(metric, of), values, runs(len(values)), 0.9, error)


# ---- kinds of thresholds ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("metric", "aggregate", "operator", "limit", "want"),
    [
        ("http_req_failed", "rate", "<", 0.02, "mean"),
        ("http_req_duration", "p", "<", 1.0, "mean"),
        ("http_req_duration", "med", "<", 1.0, "mean"),
        ("http_req_duration", "max", "<", 1.0, "proportion"),
        ("outage_duration", "max", "<", 15.0, "proportion"),
        ("outage_duration", "avg", "<", 15.0, "mean"),
        ("time_to_recover", "p", "<", 30.0, "proportion"),
        ("time_to_detect", "first", "<", 30.0, "proportion"),
        ("failed_requests", "count", "==", 0.0, "absolute"),
        ("split_brain_seconds", "value", "==", 0.0, "absolute"),
        ("failed_requests", "count", "<", 100.0, "mean"),
        ("failovers", "count", "==", 1.0, "proportion"),
        ("alert_fired", "count", ">=", 1.0, "proportion"),
        ("availability", "value", ">=", 0.999, "mean"),
    ],
)
def test_kind_of_threshold(
    metric: str, aggregate: str, operator: str, limit: float, want: str
) -> None:
    assert kind(metric, threshold("", aggregate, operator, limit, 0.95)) == want


def test_per_incident_asks_how_often_it_holds() -> None:
    good = row([12.0] * 40, MAX)
    assert (good.verdict, good.violations) == ("pass", ())
    assert good.ci == (12.0, 12.0)
    assert good.margin == pytest.approx(0.2)
    one = row([12.0] * 39 + [20.0], MAX)
    assert one.verdict == "inconclusive"
    assert one.ci[0] == 12.0
    assert one.ci[1] == 20.0
    assert one.violations == ((39, 7),)
    assert one.worst == 39
    many = row([12.0] * 20 + [20.0] * 20, MAX)
    assert many.verdict == "fail"
    assert many.ci[0] >= 15.0


def test_the_interval_clears_the_limit_exactly_when_the_row_passes() -> None:
    rng = np.random.default_rng(6)
    for _ in range(200):
        got = row(list(rng.exponential(6.0, 40)), MAX)
        assert (got.verdict == "pass") == (got.ci[1] < 15.0)
        assert (got.verdict == "fail") == (got.ci[0] >= 15.0)
    at_least = threshold("min>=5", "min", ">=", 5.0)
    for _ in range(200):
        got = row(list(rng.normal(7.0, 1.5, 80)), at_least)
        assert got.ci[0] <= got.observed <= got.ci[1]
        assert (got.verdict == "pass") == (got.ci[0] >= 5.0)
        assert (got.verdict == "fail") == (got.ci[1] < 5.0)


def test_what_never_ends_is_a_violation() -> None:
    never = row([10.0] * 20 + [math.inf] * 20, MAX)
    assert never.verdict == "fail"
    assert never.observed == math.inf
    average = threshold("avg<15s", "avg", "<", 15.0)
    assert row([10.0] * 39 + [math.inf], average).verdict == "fail"


def test_means_use_student() -> None:
    values = [0.01, 0.012, 0.014] * 13
    got = row(values, RATE, "http_req_failed")
    want = stats.t_interval(values, ERROR)
    assert got.ci == (want.low, want.high)
    assert got.verdict == "pass"
    assert row([0.01, 0.03] * 20, RATE, "http_req_failed").verdict == "inconclusive"
    assert row([0.03, 0.031] * 20, RATE, "http_req_failed").verdict == "fail"
    assert row([0.01], RATE, "http_req_failed").verdict == "inconclusive"


def test_one_violation_of_an_absolute_is_a_proof() -> None:
    got = row([0.0] * 39 + [3.0], NONE, "failed_requests")
    assert (got.verdict, got.observed, got.violations) == ("fail", 3.0, ((39, 7),))
    assert row([0.0] * 40, NONE, "failed_requests").verdict == "pass"
    assert row([0.0] * 10, NONE, "failed_requests").verdict == "inconclusive"


def test_no_samples_never_pass() -> None:
    nothing = row([math.nan] * 40, MAX)
    assert nothing.verdict == "void"
    assert "no samples" in nothing.note
    some = row([12.0] * 60 + [math.nan], MAX)
    assert some.verdict == "inconclusive"
    assert "no samples in 1 of 61" in some.note


def test_a_named_quantile_must_be_seen_too() -> None:
    p99 = threshold("p(99)<15s", "p", "<", 15.0, 0.99)
    values = [12.0] * 118 + [20.0, 20.0]
    assert row(values, MAX).verdict == "pass"
    assert row(values, p99).verdict == "inconclusive"


# ---- whole scenarios -------------------------------------------------------------------------
def verdict(of: object, **changes: object) -> ScenarioVerdict:
    traces = [trace(i, down_s=110 + i % 20 / 10, **changes) for i in range(40)]  # type: ignore
    return judge(of, stack(), traces)  # type: ignore[arg-type]


def test_pass_fail_and_exit_codes() -> None:
    good = verdict(scenario(budget("outage_duration", MAX)))
    assert good.verdict == "pass"
    assert good.requests == 40 * 8000
    bad = verdict(scenario(budget("outage_duration", replace(MAX, limit=5.0))))
    assert bad.verdict == "fail"
    open_ = verdict(scenario(budget("outage_duration", replace(MAX, limit=11.85))))
    assert open_.verdict == "inconclusive"
    assert open_.needs_more(0)
    assert open_.needs_more(1)
    assert not open_.needs_more(2)
    assert not good.needs_more(0)
    for found, code in (
        ([good], Exit.OK),
        ([good, open_], Exit.UNDECIDED),
        ([bad, open_], Exit.BUDGET),
    ):
        assert assemble(stack(), 7, found, "0").exit_code == code
    assert assemble(stack(), 7, [good], "0", provisional=True).exit_code == Exit.UNDECIDED


def test_a_fixed_number_of_replications_is_one_look() -> None:
    one = scenario(budget("outage_duration", MAX), replications=20)
    got = judge(one, stack(), [trace(i) for i in range(20)])
    assert got.verdict == "inconclusive"  # 0.05 ** (1 / 20) < 0.9
    assert not got.needs_more(0)


def test_unsteady_before_the_fault_is_void() -> None:
    got = verdict(scenario(budget("outage_duration", MAX)), bad=[(90.0, 111.0)])
    assert got.verdict == "void"
    assert "steady state" in got.reason
    limit = budget("http_req_duration", threshold("p(95)<1ms", "p", "<", 0.001, 0.95))
    slow = verdict(scenario(budget("outage_duration", MAX), steady_state=(limit,)))
    assert slow.verdict == "void"
    assert any("window:before" in r.name for r in slow.budgets)


def test_not_recovered_is_a_failure() -> None:
    got = verdict(scenario(budget("http_req_failed", RATE)), bad=[(FAULT_S, 395.0)])
    assert got.verdict == "fail"
    assert "not recovered" in got.reason
    soon = verdict(scenario(budget("http_req_failed", RATE)), bad=[(FAULT_S, REPAIR_S + 100)])
    assert soon.verdict == "pass"


def test_a_run_that_ends_too_early_cannot_show_recovery() -> None:
    patient = scenario(budget("http_req_failed", RATE), recover_within_s=300.0)
    got = verdict(patient, bad=[(FAULT_S, 398.0)])
    assert got.verdict == "void"
    assert "the run ends within 300s of the last repair" in got.reason
    assert verdict(patient).verdict == "pass"


def test_known_gaps_excuse_a_budget_and_only_that() -> None:
    tight = replace(MAX, limit=5.0, text="max<5s")
    gap = KnownGap("outage_duration", "needs a second balancer")
    both = scenario(
        budget("outage_duration", tight), budget("http_req_failed", RATE), known_gaps=(gap,)
    )
    got = verdict(both)
    assert got.verdict == "pass"
    found = next(r for r in got.budgets if r.metric == "outage_duration")
    assert (found.verdict, found.waived_by) == ("fail", "needs a second balancer")
    assert verdict(both, failed={HTTP_504: 900}).verdict == "fail"
    stale = replace(both, budgets=(budget("outage_duration", MAX),))
    assert verdict(stale).verdict == "stale-gap"
    assert assemble(stack(), 7, [verdict(stale)], "0").exit_code == Exit.UNDECIDED
    elsewhere = replace(both, known_gaps=(replace(gap, host="host-b"),))
    assert verdict(elsewhere).verdict == "fail"
    by_text = replace(both, known_gaps=(replace(gap, budget="outage_duration: max<5s"),))
    assert verdict(by_text).verdict == "pass"
    nothing = replace(both, known_gaps=(gap, KnownGap("latency", "?")))
    assert verdict(nothing).verdict == "stale-gap"


def test_a_stack_that_does_not_boot_is_void_with_its_causes() -> None:
    failed = BootFailure("gw-2", "name unknown", Span("compose.yml", 3, 1))
    mark = Mark(0, -1, -3.0, "gw-1", "did not boot", "port 8009 is taken", "compose.yml", 12, 7)
    lost = [trace(i, void="did not boot", timeline=(mark,)) for i in range(40)]
    got = judge(scenario(), replace(stack(), boot_failures=(failed,)), lost)
    assert got.verdict == "void"
    texts = [f"{c.text} {c.span}" for c in got.causes]
    assert "gw-1 did not boot: port 8009 is taken compose.yml:12:7" in texts
    assert "gw-2 did not boot: name unknown compose.yml:3:1" in texts


def test_a_study_says_so() -> None:
    assert verdict(scenario(settings={"haproxy.defaults.retries": "2"})).study


def test_decide_needs_only_numbers() -> None:
    of = scenario(budget("outage_duration", MAX))
    traces = [trace(i, down_s=110 + i % 20 / 10) for i in range(40)]
    whole = judge(of, stack(), traces)
    parts = decide(of, stack(), [measure(of, stack(), t) for t in traces])
    assert replace(whole, causes=()) == replace(parts, causes=())
    with pytest.raises(ValueError, match="no replications"):
        decide(of, stack(), [])


# ---- how often a verdict is wrong --------------------------------------------------------------
def sequential(draw: np.ndarray, of: object, metric: str) -> str:
    """The verdict after the looks at 40, 80 and 120 of one endless row of values."""
    got = "inconclusive"
    for n in stats.LOOKS:
        got = judge_row(budget(metric, of), list(draw[:n]), runs(n), 0.9, ERROR).verdict
        if got != "inconclusive":
            break
    return got


@pytest.mark.parametrize(("p", "wrong"), [(0.85, "pass"), (0.95, "fail"), (0.899, "pass")])
def test_proportions_are_seldom_wrong(p: float, wrong: str) -> None:
    rng = np.random.default_rng(int(1000 * p))
    draws = np.where(rng.random((400, 120)) < p, 10.0, 20.0)
    found = [sequential(d, MAX, "outage_duration") for d in draws]
    assert found.count(wrong) <= 0.05 * 400


@pytest.mark.parametrize(("mean", "wrong"), [(0.021, "pass"), (0.019, "fail")])
@pytest.mark.parametrize("shape", [4.0, 100.0])
def test_means_are_seldom_wrong(mean: float, wrong: str, shape: float) -> None:
    rng = np.random.default_rng(int(1000 * mean + shape))
    draws = rng.gamma(shape, mean / shape, (400, 120))
    found = [sequential(d, RATE, "http_req_failed") for d in draws]
    assert found.count(wrong) <= 0.05 * 400


def test_clear_cases_are_decided() -> None:
    rng = np.random.default_rng(8)
    good = np.where(rng.random((400, 120)) < 0.995, 10.0, 20.0)
    assert sum(sequential(d, MAX, "outage_duration") == "pass" for d in good) > 380
    bad = np.where(rng.random((400, 120)) < 0.6, 10.0, 20.0)
    assert sum(sequential(d, MAX, "outage_duration") == "fail" for d in bad) > 380
