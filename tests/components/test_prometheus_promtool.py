"""Random rules over random series: the same pending and firing alerts as Prometheus' own engine.

`promtool test rules` evaluates each rules file with the real engine and compares the series ALERTS
with what our evaluation says at every step.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from hasim.components.prometheus.alerts import RuleState
from hasim.components.prometheus.evaluate import NAME, EvaluationError, Labels, evaluate
from hasim.read.prometheus import read_rules

PROMTOOL = shutil.which("promtool")
CASES, STEPS, STEP_S, SAMPLE_S, LOOKBACK_S = 150, 20, 30, 60, 300

SERIES = [
    (name, job, instance) for name in ("m", "n") for job in ("x", "y") for instance in ("1", "2")
]
MATCHERS = (
    '{job="x"}', '{job!="x"}', '{job=~"x|z"}', '{instance!~"1.*"}', "{}", '{gone=""}', '{gone="a"}',
    '{job=~".+",instance="2"}', '{job=""}',
)  # fmt: skip


class Samples:
    """Input series of a promtool test: a value a minute; None: no sample, "stale": a marker."""

    def __init__(self, values: dict[tuple[str, str, str], list]):
        self.values = values

    def latest(self, name: str, at_s: float) -> Iterator[tuple[Labels, float]]:
        for (metric, job, instance), values in self.values.items():
            if metric != name:
                continue
            last = None
            for i, value in enumerate(values):
                if value is not None and 0 <= at_s - i * SAMPLE_S <= LOOKBACK_S:
                    last = value
            if last is not None and last != "stale":
                yield ((NAME, name), ("instance", instance), ("job", job)), float(last)


def vector(rng: random.Random, depth: int) -> str:
    pick = rng.random()
    if depth == 0 or pick < 0.3:
        return rng.choice("mnq") + rng.choice(MATCHERS)
    inner = vector(rng, depth - 1)
    if pick < 0.45:
        clause = rng.choice(["", "by (job)", "by (instance, gone)", "without (job)", "by ()"])
        op = rng.choice(["sum", "count", "min", "max", "avg", "SUM"])
        return rng.choice([f"{op} {clause} ({inner})", f"{op}({inner}) {clause}"])
    if pick < 0.6:
        op = rng.choice("+-*/%^")
        number = rng.choice(["2", "0", "-1", "1.5", "(1 + 2)", "time()"])
        return rng.choice([f"({inner} {op} {number})", f"({number} {op} {inner})"])
    if pick < 0.65:
        return f"-{inner}"
    if pick < 0.7:
        return f"vector({rng.choice(['1', 'time() - 120', '2 ^ 2 ^ 0'])})"
    matching = rng.choice(["", "", "on (job)", "ignoring (job)", "on (job, instance)", "on ()"])
    op = rng.choice(["and", "or", "unless", "AND", "> bool", ">=", "==", "!=", "-"])
    return f"({inner} {op} {matching} {vector(rng, depth - 1)})"


def expression(rng: random.Random) -> str:
    inner = vector(rng, rng.choice([0, 0, 1, 1, 2]))
    pick = rng.random()
    if pick < 0.15:
        return f"absent({inner})"
    if pick < 0.25:
        return inner
    compare = rng.choice(["<", "<=", ">", ">=", "==", "!="])
    return f"{inner} {compare} {rng.choice(['0', '1', '2', '-1', '1.5'])}"


def values(rng: random.Random) -> list:
    """Mostly the same value for a while, with gaps of a few minutes and stale markers."""
    out: list = []
    while len(out) < 12:
        value = rng.choice([0, 1, 1, 2, 3, None, None, "stale"])
        out += [value] * rng.choice([1, 2, 4, 7])
    return out[:12]


def rules_file(rng: random.Random) -> str:
    rule = {
        "alert": "A",
        "expr": expression(rng),
        "for": rng.choice(["0s", "30s", "1m", "2m", "45s"]),
        "keep_firing_for": rng.choice(["0s", "0s", "1m"]),
        "labels": rng.choice([{}, {"severity": "page"}, {"job": ""}, {"job": "mine"}]),
    }
    return json.dumps({"groups": [{"name": "g", "rules": [rule]}]})


def ours(text: str, samples: Samples) -> list[list[str]] | None:
    """The series ALERTS at each step; None if the rule fails on these samples."""
    groups, found = read_rules(text, "r.yml")
    assert not found, (text, found)
    state = RuleState(groups[0].rules[0])
    out = []
    for step in range(STEPS):
        at_s = float(step * STEP_S)
        try:
            state.update(evaluate(state.rule.expr, samples, at_s), at_s)
        except EvaluationError:
            return None
        rows = []
        for alert in state.active.values():
            labels = {**dict(alert.labels), "alertstate": alert.state}
            rows.append("ALERTS{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}")
        out.append(sorted(rows))
    return out


def promtool_case(samples: Samples, expected: list[list[str]], rules: str) -> str:
    words = {None: "_", "stale": "stale"}
    series = [
        {
            "series": f'{m}{{job="{j}",instance="{i}"}}',
            "values": " ".join(words.get(v, str(v)) for v in vs),
        }
        for (m, j, i), vs in samples.values.items()
    ]
    tests = [
        {
            "expr": "ALERTS",
            "eval_time": f"{step * STEP_S}s",
            "exp_samples": [{"labels": row, "value": 1} for row in rows],
        }
        for step, rows in enumerate(expected)
    ]
    test = {"interval": f"{SAMPLE_S}s", "input_series": series, "promql_expr_test": tests}
    return json.dumps({"rule_files": [rules], "evaluation_interval": f"{STEP_S}s", "tests": [test]})


def run(folder, files: list[str]) -> subprocess.CompletedProcess:
    assert PROMTOOL is not None
    return subprocess.run(
        [PROMTOOL, "test", "rules", *files], cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_alerts_are_those_of_prometheus(tmp_path) -> None:
    rng = random.Random(20261124)
    made, pending, firing = [], 0, 0
    while len(made) < CASES:
        text = rules_file(rng)
        samples = Samples({key: values(rng) for key in SERIES if rng.random() < 0.8})
        expected = ours(text, samples)
        if expected is None:
            continue
        number = len(made)
        rows = " ".join(row for step in expected for row in step)
        pending, firing = pending + ("pending" in rows), firing + ("firing" in rows)
        (tmp_path / f"rules-{number}.yml").write_text(text)
        case = promtool_case(samples, expected, f"rules-{number}.yml")
        (tmp_path / f"test-{number}.yml").write_text(case)
        made.append(f"test-{number}.yml")
    assert pending > CASES / 4
    assert firing > CASES / 4  # the cases say something
    result = run(tmp_path, made)
    assert result.returncode == 0, (result.stdout + result.stderr)[:3000]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_the_comparison_can_fail(tmp_path) -> None:
    text = json.dumps(
        {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "m > 0", "for": "1m"}]}]}
    )
    samples = Samples({("m", "x", "1"): [1] * 12})
    expected = ours(text, samples)
    assert expected is not None
    (tmp_path / "rules.yml").write_text(text.replace("1m", "2m"))
    (tmp_path / "test.yml").write_text(promtool_case(samples, expected, "rules.yml"))
    assert run(tmp_path, ["test.yml"]).returncode == 1


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "expr",
    ["1 > 2", "m and 1", "absent(1)", "sum(1)", "m{", "m{job=x}", "foo(m)", "m > on(job) 1",
     "m ==", "{job=\"x\"", "m{job=~\"(\"}", "vector(m)", "m bool 1", "m + bool 1", "m 5"],
)  # fmt: skip
def test_what_prometheus_refuses_is_refused(tmp_path, expr: str) -> None:
    assert PROMTOOL is not None
    text = json.dumps({"groups": [{"name": "g", "rules": [{"alert": "A", "expr": expr}]}]})
    (tmp_path / "r.yml").write_text(text)
    real = subprocess.run(
        [PROMTOOL, "check", "rules", str(tmp_path / "r.yml")], capture_output=True
    )
    assert real.returncode == 1
    assert [f.severity for f in read_rules(text, "r.yml")[1]] == ["error"]
