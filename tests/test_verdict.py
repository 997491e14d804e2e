"""The rules of a verdict, and how often they are wrong when the truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from synthetic import FAULT_S, REPAIR_S, budget, check, scenario, stack, threshold, trace

from hasim import stats
from hasim.errors import Exit
from hasim.model import BootFailure, Server
from hasim.scenario import KnownGap
from hasim.sim.trace import HTTP_504, FaultSpan, Mark
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


# ---- causes ----------------------------------------------------------------------------------
def causes(**changes: object) -> list[str]:
    backend = {k: changes.pop(k) for k in ("redispatch", "servers") if k in changes}
    got = judge(scenario(), stack(**backend), [trace(**changes)])  # type: ignore[arg-type]
    return [f"{c.text} @{c.span}" for c in got.causes]


def test_a_long_stay_in_rotation_is_split_into_its_settings() -> None:
    assert (
        "l09-1 stayed in rotation 10.9 s = (2.0 - 1.1) s + 3 x 2.0 s + 2 x 2.0 s: "
        "inter 2000, fall 3, no timeout check @haproxy.cfg:29:12"
    ) in causes()
    assert (
        "each request sent to l09-1 waited 50.0 s, then 504: timeout server  (40 requests) "
        "@haproxy.cfg:14:21"
    ) in causes()


def test_a_refused_check_costs_nothing_itself() -> None:
    marks = trace(down_s=105.0).timeline
    down = replace(marks[1], detail="L4CON")
    found = causes(timeline=(marks[0], down, *marks[2:]), down_s=105.0)
    words = replace(down, detail="reason: Layer7 timeout, check duration: 2001ms", t_s=111.0)
    late = causes(timeline=(marks[0], words, *marks[2:]), down_s=111.0)
    assert late[0].startswith("l09-1 stayed in rotation 11.0 s = (2.0 - 1.0) s + 3 x 2.0 s + 2")
    assert found[0].startswith("l09-1 stayed in rotation 5.0 s = (2.0 - 1.0) s + 2 x 2.0 s: inter")


def test_a_formula_that_does_not_add_up_is_not_printed() -> None:
    found = causes(down_s=130.0)
    assert found[0].startswith("l09-1 stayed in rotation 30.0 s: inter 2000")


def test_retries_on_a_dead_server() -> None:
    found = causes(terminations=((("gw/l09-1", "503", "SC--"), 83),))
    assert any("refused 4 times in 3.0 s = 3 x 1.0 s, then 503: retries 3" in t for t in found)
    assert any("no option redispatch (default, manual 4.2)" in t for t in found)
    silent = causes(terminations=((("gw/l09-1", "503", "sC--"), 9),), redispatch=True)
    assert any("waited 20.0 s = 4 x 5.0 s, then 503: timeout connect" in t for t in silent)
    assert not any("redispatch" in t for t in silent)
    none = causes(terminations=((("gw/<NOSRV>", "503", "SC--"), 5),))
    assert any("5 requests got 503 at once: no server of gw was left" in t for t in none)


def test_a_server_without_a_check_is_never_taken_out() -> None:
    servers = tuple(replace(s, check=None) for s in stack().balancers[0].backends[0].servers)
    found = causes(servers=servers, timeline=trace().timeline[:1])
    assert any(
        t.startswith("l09-1 stayed in rotation 100.0 s: its line has no check") for t in found
    )
    blind = causes(timeline=trace().timeline[:1])
    assert any("the check of /health/live did not fail 3 times in a row" in t for t in blind)


def test_a_group_is_hit_one_by_one() -> None:
    mark = Mark(0, -1, FAULT_S, "fault", "pause", "gw-1, gw-2", "scenarios.yaml", 20, 7)
    fault = FaultSpan("pause", "gateway[*]", FAULT_S, REPAIR_S, 0)
    found = causes(timeline=(mark,), faults=(fault,))
    assert sum("was never taken out" in t for t in found) == 2
    update = replace(fault, do="rolling-update")
    assert not any("never taken out" in t for t in causes(timeline=(mark,), faults=(update,)))


def test_settings_with_a_check_timeout_are_named() -> None:
    fast = check(timeout_check_s=0.5, fastinter_s=0.5)
    servers = tuple(replace(s, check=fast) for s in stack().balancers[0].backends[0].servers)
    found = causes(servers=servers, down_s=104.0)
    assert found[0].startswith(
        "l09-1 stayed in rotation 4.0 s = (2.0 - 0.5) s + 3 x 0.5 s + 2 x 0.5 s: "
        "inter 2000, fastinter 500, fall 3, timeout check 500"
    )


def first_back_end() -> tuple[Server, ...]:
    return stack().balancers[0].backends[0].servers


def down(t_s: float, detail: str, parent: int = 0, name: str = "gw/l09-1", at: int = 50) -> Mark:
    return Mark(at, parent, t_s, "lb", f"Server {name} is DOWN", detail, "haproxy.cfg", 29, 12)


def test_a_cut_request_names_the_rule_that_kept_it_from_a_second_try() -> None:
    ended = ((("gw/l09-1", "eof", "SH--"), 2),)
    where = {"no_post_replay": Span("haproxy.cfg", 42, 5), "retry_on": Span("haproxy.cfg", 17, 5)}

    def said(**backend: object) -> str:
        got = judge(scenario(), stack(where=where, **backend), [trace(terminations=ended)]).causes
        return next(f"{c.text} @{c.span}" for c in got if "closed without an answer" in c.text)

    both = ("conn-failure", "empty-response")
    assert "; only connects are tried again @haproxy.cfg:17:5" in said()
    assert said(retry_on=both, no_post_replay=True).endswith(
        "; a POST is not tried again: http-request disable-l7-retry @haproxy.cfg:42:5"
    )
    assert "3 tries again included: retries 3" in said(retry_on=both)
    assert "retry-on has no empty-response" in said(retry_on=("conn-failure", "response-timeout"))
    assert "nothing is tried again: retries 0" in said(retry_on=both, retries=0)


def test_traffic_that_took_a_server_out_is_named_instead_of_checks() -> None:
    line = Span("haproxy.cfg", 25, 9)
    servers = tuple(
        replace(s, observe="layer4", on_error="mark-down", where={"observe": line})
        for s in first_back_end()
    )
    words = 'reason: Health analyze, info: "Detected 10 consecutive errors"'
    found = causes(servers=servers, timeline=(trace().timeline[0], down(100.4, words)))
    assert (
        "l09-1 stayed in rotation 0.4 s: 10 errors in a row of its requests, observe layer4, "
        "on-error mark-down @haproxy.cfg:25:9"
    ) in found
    assert not any("fall" in t for t in found if "stayed" in t)


def test_a_balancer_that_was_down_itself_is_the_cause() -> None:
    marks = (
        trace().timeline[0],
        Mark(1, 0, 200.0, "fault", "power-off repaired", ""),
        Mark(2, 1, 230.0, "lb", "listening", ""),
        down(230.5, "L4CON", 2),
        Mark(51, 1, 235.0, "gw-1", "listening", ""),
        Mark(52, 51, 236.0, "lb", "Server gw/l09-1 is UP", ""),
    )
    fault = FaultSpan("power-off", "host:host-a", FAULT_S, REPAIR_S, 0)
    found = causes(timeline=marks, faults=(fault,))
    want = "lb itself was down for 130.0 s: 100.0 s until the repair, 30.0 s until it listened"
    assert any(t.startswith(want) for t in found)
    assert any(t.startswith("l09-1 stayed in rotation 0.5 s after lb began") for t in found)
    assert not any("never taken out" in t for t in found)
    back = "back in rotation 36.0 s after the repair: 35.0 s until it listened, then 1.0 s: rise 2"
    assert any(back in t for t in found)


def test_a_rolling_update_counts_from_each_servers_own_turn() -> None:
    def update(*rows: tuple[float, str]) -> list[str]:
        haproxy = (
            Mark(20 + i, 1, t_s, "lb", f"Server gw/l09-1 {words}", "")
            for i, (t_s, words) in enumerate(rows)
        )
        marks = (
            trace().timeline[0],
            Mark(1, 0, 150.0, "rolling-update", "Updating", "gw-1"),
            *haproxy,
            down(155.0, "L4CON", 1),
        )
        fault = FaultSpan("rolling-update", "gateway", FAULT_S, REPAIR_S, 0)
        return [t for t in causes(timeline=marks, faults=(fault,)) if "stayed" in t]

    drain, ready = "enters drain state", "is UP (leaving forced drain)"
    assert update()[0].startswith("l09-1 stayed in rotation 5.0 s = (2.0 - 1.0) s + 2 x 2.0 s:")
    assert update((150.0, drain)) == []
    assert update((150.0, drain), (154.0, ready))[0].startswith(
        "l09-1 stayed in rotation 1.0 s after its drain was ended, before it listened: inter 2000"
    )


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
