"""The sentences that say why a budget broke, and the line of the file behind each."""

from __future__ import annotations

from dataclasses import replace

from synthetic import FAULT_S, REPAIR_S, check, scenario, stack, threshold, trace

from hasim.model import Server
from hasim.sim.trace import FaultSpan, Mark
from hasim.source import Span
from hasim.verdict import ScenarioVerdict, judge

RATE = threshold("rate<2%", "rate", "<", 0.02)
MAX = threshold("max<15s", "max", "<", 15.0)


def verdict(of: object, **changes: object) -> ScenarioVerdict:
    traces = [trace(i, down_s=110 + i % 20 / 10, **changes) for i in range(40)]  # type: ignore
    return judge(of, stack(), traces)  # type: ignore[arg-type]


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


def test_a_check_that_asks_a_shared_database_takes_every_healthy_server_out() -> None:
    from hasim.causes import explain
    from hasim.project import open_project
    from hasim.sim.run import replicate

    project = open_project("models/health-checks/scenarios.yaml")
    assert project.file is not None
    assert project.stack is not None
    [blip] = [s for s in project.file.scenarios if s.name == "shared-redis-blip"]
    found = explain(blip, project.stack, replicate(project.stack, blip, project.file.seed, 0))
    [cause] = [c for c in found if "/health/ready asks store" in c.text]
    assert cause.text.startswith("haproxy took app-1, app-2, app-3 of ready out")
    assert "no server of ready was left for" in cause.text
    assert str(cause.span) == "haproxy.cfg:26:20"
    assert not any("of live out" in c.text or "of shallow out" in c.text for c in found)
