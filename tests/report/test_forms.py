"""One verdict, many forms."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from synthetic import budget, scenario, stack, threshold, trace

from hasim.causes_text import Cause
from hasim.model import Assumption
from hasim.report import github, json_, junit, markdown, numbers, text
from hasim.scenario import KnownGap
from hasim.sim.trace import HTTP_504
from hasim.source import Span
from hasim.verdict import Verdict, assemble, judge


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    assumed = replace(stack(), assumptions=(Assumption("gw.boot", "5s", "assume: typical"),))
    of = scenario(
        budget("outage_duration", threshold("max<5s", "max", "<", 5.0)),
        budget("http_req_failed", threshold("rate<2%", "rate", "<", 0.02), window="fault"),
        budget("failed_requests", threshold("count==0", "count", "==", 0.0)),
        known_gaps=(KnownGap("failed_requests", "no second <balancer>"),),
    )
    traces = [trace(i, down_s=110 + i % 20 / 10, failed={HTTP_504: 40}) for i in range(40)]
    bad = judge(of, assumed, traces)
    good = judge(replace(of, budgets=of.budgets[1:2], known_gaps=()), assumed, traces)
    void = judge(of, assumed, [trace(i, void="did not boot") for i in range(40)])
    scenarios = (
        bad,
        replace(good, name="steady"),
        replace(void, name="lost"),
        replace(good, name="gap", verdict="stale-gap", reason="known gap passes now: x"),
    )
    return assemble(assumed, 7, scenarios, "0.1.0", [("scenarios.yaml", "3" * 64)])


def test_text_looks_like_k6(verdict: Verdict) -> None:
    out = text.render(verdict)
    assert out.startswith("hasim 0.1.0   stack x (3 files, 1 host, 3 containers)   seed 7\n")
    assert "gateway-pause   FAIL  1 of 3 budgets   40 replications" in out
    assert "  ✗ outage_duration                max<5s    11.8s" in out
    assert "  ✓ http_req_failed{window:fault}  rate<2%   0.99%" in out
    assert "  ~ failed_requests " in out
    assert "known gap: no second <balancer>" in out
    assert "haproxy.cfg:29:12" in out
    assert "rests on 1 assumed value" in out
    assert out.endswith("4 scenarios: 1 pass, 1 fail, 1 void, 1 stale-gap\n")
    assert "\x1b" not in out
    assert not [ln for ln in out.splitlines() if ln != ln.rstrip()]


def test_colour_only_on_a_terminal(verdict: Verdict) -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    text.write(verdict, plain)
    assert plain.getvalue() == text.render(verdict)
    text.write(verdict, coloured, color=True)
    assert "\x1b[" in coloured.getvalue()
    assert "http_req_failed{window:fault}" in coloured.getvalue()


def test_json_is_strict_and_repeats(verdict: Verdict) -> None:
    out = json_.render(verdict)
    assert out == json_.render(verdict)
    doc = json.loads(out, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    row = next(r for r in doc["scenarios"][0]["budgets"] if r["metric"] == "failed_requests")
    assert (row["verdict"], row["waived_by"]) == ("fail", "no second <balancer>")
    assert doc["inputs"][-1] == {"path": "scenarios.yaml", "sha256": "3" * 64}
    assert doc["scenarios"][0]["assumptions"] == [
        {"name": "gw.boot", "value": "5s", "source": "assume: typical"}
    ]
    assert json_.number(math.inf) is None
    assert json_.number(0.1 + 0.2) == 0.3
    assert isinstance(json_.number(3.0), int)


def test_junit_can_be_read_back(verdict: Verdict) -> None:
    root = ET.fromstring(junit.render(verdict))
    suites = {s.get("name"): s for s in root}
    assert root.get("failures") == "1"
    assert suites["gateway-pause"].get("skipped") == "1"
    assert suites["lost"].get("errors") == "1"
    assert suites["gap"].get("errors") == "1"
    failure = suites["gateway-pause"].find("testcase/failure")
    assert failure is not None
    assert "haproxy.cfg:29:12" in (failure.text or "")
    for suite in root:
        assert int(suite.get("tests", "0")) == len(suite)
    odd = replace(verdict.scenarios[0], name="a\x00<b>&\ufffe")
    ET.fromstring(junit.render(replace(verdict, scenarios=(odd,))))


def test_github_commands_name_the_line(verdict: Verdict) -> None:
    out = github.render(verdict).splitlines()
    assert any(ln.startswith("::error file=haproxy.cfg,line=29,col=12,title=") for ln in out)
    assert any(ln.startswith("::notice file=scenarios.yaml") for ln in out)
    assert any(ln.startswith("::warning title=lost::") for ln in out)
    assert all(ln.startswith(("::error ", "::warning ", "::notice ")) for ln in out)
    got = github.command("error", Span("a,b:c", 1, 2), "t: x", "50 %\nnext")
    assert got == "::error file=a%2Cb%3Ac,line=1,col=2,title=t%3A x::50 %25%0Anext"


def test_markdown_tables_hold(verdict: Verdict) -> None:
    cause = Cause("a | b *c* `d`", Span("x.cfg", 1, 2))
    scenarios = (replace(verdict.scenarios[0], causes=(cause,)), *verdict.scenarios[1:])
    out = markdown.render(replace(verdict, scenarios=scenarios))
    assert "| gateway-pause | FAIL | 40 |" in out
    assert "| ✗ | `outage_duration` | max\\<5s | 11.8s |" in out
    assert "a \\| b \\*c\\* `d` `x.cfg:1:2`" in out
    widths = {ln.replace("\\|", "").count("|") for ln in out.splitlines() if ln.startswith("| ✗")}
    assert widths == {7}


@pytest.mark.parametrize(
    ("value", "unit", "want"),
    [
        (0.0, "time", "0s"),
        (0.43, "time", "430ms"),
        (12.94, "time", "12.9s"),
        (1234.5, "time", "1234s"),
        (math.inf, "time", "never"),
        (math.nan, "time", "-"),
        (0.0343, "share", "3.43%"),
        (1.0, "share", "100%"),
        (1.5 * 1024**3, "bytes", "1.5GiB"),
        (12.0, "bytes", "12B"),
        (40.0, "count", "40"),
        (0.123, "count", "0.123"),
    ],
)
def test_numbers_for_people(value: float, unit: str, want: str) -> None:
    assert numbers.show(value, unit) == want


def test_every_verdict_word_has_a_look(verdict: Verdict) -> None:
    for word in ("pass", "fail", "inconclusive", "void", "stale-gap"):
        one = replace(verdict, scenarios=(replace(verdict.scenarios[0], verdict=word),))
        for form in (text, json_, junit, github, markdown):
            assert form.render(one)
