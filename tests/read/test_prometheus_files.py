"""Prometheus' files: values with their places, every problem at once, never an exception."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.read.prometheus import read_config, read_rules
from hasim.read.prometheus_ast import ExprError, Selector, selectors
from hasim.read.prometheus_expr import parse_expr

ROOT = Path(__file__).resolve().parents[2] / "models"

RULES = """\
groups:
  - name: a
    interval: 30s
    rules:
      - alert: Down
        expr: up{job=~"l.*"} == 0
        for: 2m
        labels: {severity: page}
        annotations: {summary: "{{ $labels.instance }} is down"}
"""


def problems(text: str) -> list[str]:
    return [f"{f.code} {f.span} {f.message}" for f in read_rules(text, "r.yml")[1]]


def test_a_rule_keeps_where_its_values_stand() -> None:
    groups, found = read_rules(RULES, "r.yml")
    assert not found
    (rule,) = groups[0].rules
    assert (groups[0].interval_s, rule.for_s, rule.labels) == (30, 120, (("severity", "page"),))
    assert str(rule.span) == "r.yml:6:15"
    assert str(rule.where["for"]) == "r.yml:7:14"
    assert [s.name for s in selectors(rule.expr)] == ["up"]


@pytest.mark.parametrize(
    ("model", "rules"),
    [("story-portal-guide", 3), ("story-portal-guide-bootable", 3), ("story-portal/prometheus", 6)],
)
def test_the_models_rules_are_read_whole(model: str, rules: int) -> None:
    groups, found = read_rules((ROOT / model / "alerts.yml").read_text(), "alerts.yml")
    assert not found
    assert sum(len(g.rules) for g in groups) >= rules


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("for: 2m", "fro: 2m"), "HA178 r.yml:7:9 'fro' is no key of an alerting rule"),
        (("for: 2m", "for: 2min"), "HA178 r.yml:7:14 for: '2min': unknown unit 'min'"),
        (("for: 2m", "for: 1.5m"), "HA178 r.yml:7:14 for: '1.5m': only whole numbers"),
        (("alert: Down", "record: x"), "HA179 r.yml:5:9 recording rules are not in this version"),
        (("== 0", "== 0 or rate(m[5m]) > 1"), "HA179 r.yml:6:38 rate() is not in this version"),
        (("== 0", "[5m]"), "HA179 r.yml:6:30 ranges ([5m]) are not in this version"),
        (("== 0", "offset 5m"), "HA179 r.yml:6:30 'offset' is not in this version"),
        (("== 0", "== 5s"), "HA179 r.yml:6:33 a duration ('5s') is not allowed here"),
        (("severity: page", 'severity: "{{ $value }}"'), "HA179 r.yml:8:28 templates in labels"),
        (("severity", "se-verity"), "HA178 r.yml:8:18 'se-verity' is no name of a label"),
        (('up{job=~"l.*"}', "1"), "HA179 r.yml:6:17 a comparison of two numbers needs 'bool'"),
        (('"l.*"', '"(l.*"'), "HA179 r.yml:6:23 cannot read the regular expression"),
        (('"l.*"', '"(a+)+"'), "HA179 r.yml:6:23 a repeated group"),
        (("groups:", "rules:"), "HA178 r.yml:1:1 'rules' is no key of a rules file"),
        (("name: a", "name: ''"), "HA178 r.yml:2:11 a group needs 'name'"),
        (
            ("interval:", "limit: 5\n    interval:"),
            "HA178 r.yml:3:5 'limit' is not in this version",
        ),
    ],
)
def test_a_problem_is_told_with_its_place(change: tuple[str, str], said: str) -> None:
    text = RULES.replace(*change, 1)
    assert text != RULES
    assert any(line.startswith(said) for line in problems(text)), problems(text)


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ('"up{job=\\"x\\"} == bar(1)"', "6:33"),
        ("'up == bar(1)'", "6:22"),
        ("|\n          up == 0\n            or bar(1)", "8:16"),
        (">-\n          up\n\n          == bar(1)", "9:14"),
    ],
)
def test_places_inside_of_quoted_and_folded_texts(written: str, place: str) -> None:
    found = problems(RULES.replace('up{job=~"l.*"} == 0', written))
    assert found == [f"HA179 r.yml:{place} bar() is no function of PromQL"]


def test_every_problem_is_told_at_once() -> None:
    text = RULES.replace("for: 2m", "fro: 2m").replace("== 0", "==").replace("30s", "x")
    assert len(problems(text)) == 3


def test_prometheus_yml() -> None:
    text = (ROOT / "story-portal" / "prometheus" / "prometheus.yml").read_text()
    made, found = read_config(text, "p.yml")
    assert not found
    assert (made.scrape_interval_s, made.evaluation_interval_s, made.scrape_timeout_s) == (
        15,
        15,
        0,
    )
    assert [path for path, _ in made.rule_files] == ["alerts.yml"]
    assert "haproxy" in [job.name for job in made.jobs]
    assert all(job.targets for job in made.jobs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scrape_configs: [{job_name: a, kubernetes_sd_configs: []}]", "not in this version"),
        ("scrape_configs: [{job_name: a, relabel_configs: []}]", "not in this version"),
        ("scrape_configs: [{static_configs: []}]", "a scrape config needs 'job_name'"),
        ("scrape_configs: {}", "must be a list"),
        ("global: {scrape_interval: 15}", "needs a unit"),
        ("globl: {}", "is no key of prometheus.yml"),
        ("[", "HA110"),
    ],
)
def test_what_is_wrong_in_prometheus_yml(text: str, said: str) -> None:
    _, found = read_config(text, "p.yml")
    assert any(said in f"{f.code} {f.message}" for f in found), found
    assert all(f.span is not None for f in found)


def test_secrets_are_not_shown() -> None:
    text = (
        "scrape_configs: [{job_name: a, basic_auth: {username: u, password: hunter2},"
        " bearer_token: hunter2, nonsense: hunter2}]"
    )
    made, found = read_config(text, "p.yml")
    assert found
    assert "hunter2" not in f"{made}{found}"


def test_operators_bind_as_in_promql() -> None:
    same = (
        ("-m ^ 2", "-(m ^ 2)"),
        ("-m * 2", "(-m) * 2"),
        ("m ^ 2 ^ 3", "m ^ (2 ^ 3)"),
        ("m - 1 - 2", "(m - 1) - 2"),
        ("m + 2 * 3 > 1 and n or q", "(((m + (2 * 3)) > 1) and n) or q"),
        ("m or n and q", "m or (n and q)"),
        ("m unless n and q", "(m unless n) and q"),
    )
    for a, b in same:
        assert parse_expr(a) == parse_expr(b), a
    assert parse_expr("sum") == Selector("sum")


WORDS = st.sampled_from(
    ["up", "m", "{", "}", "(", ")", '"x"', "=", "=~", "==", "<", "by", "sum", "absent", "time", ",",
     "and", "or", "on", "bool", "1", "5m", "[", "-", "^", " ", "#", "\n", "'", "\\", "offset", "é"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=12).map("".join) | st.text(max_size=30))
def test_any_expression_is_read_or_refused(text: str) -> None:
    problem = None
    try:
        parse_expr(text)
    except ExprError as error:
        problem = error
    if problem is not None:
        start, end = problem.at
        assert 0 <= start <= end <= len(text)
        assert problem.message


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(RULES.split(" ")), max_size=40).map(" ".join) | st.text(max_size=60)
)
def test_any_file_is_read_or_refused(text: str) -> None:
    for read in (read_rules, read_config):
        _, found = read(text, "r.yml")
        assert all(f.span is not None for f in found)
