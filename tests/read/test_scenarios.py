"""scenarios.yaml: what a good file becomes, and that each mistake is found where it stands."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hasim.model import Dist
from hasim.read.scenarios import read_scenarios, schema, select

GOOD = """\
version: 1
stack: .
seed: 7
loads:
  steady: {executor: constant-vus, vus: 50, duration: 10m, mix: {get: 80%, put: 20%}}
budgets:
  slo: &slo
    http_req_failed: ["rate<0.1%"]
    http_req_duration: ["p(95)<500", "p(99)<1500ms"]
steady_state:
  http_req_failed: ["rate<1%"]
scenarios:
  pause:
    doc: A gateway hangs.
    load: steady
    faults:
      - {at: 2m, do: pause, target: "gateway[1]", for: 1m}
    budgets: *slo
  all-hosts:
    load: steady
    faults:
      - {at: {uniform: [1m, 2m]}, do: power-off, each: "host:*", for: 2m}
    budgets: {<<: *slo, outage_duration: ["max<10s"]}
    known_gaps:
      - {budget: outage_duration, host: a, reason: one balancer}
    set: {haproxy.defaults.timeout_connect: 1s}
    recover_within: 3m
  year: {kind: availability, horizon: 1y}
"""
STACK = "hosts: {a: {cores: 1, memory: 1GiB}, b: {cores: 1, memory: 1GiB}}\n"


def write(folder: Path, text: str) -> Path:
    (folder / "stack.yaml").write_text(STACK)
    file = folder / "scenarios.yaml"
    file.write_text(text)
    return file


def read(folder: Path, text: str):
    return read_scenarios(write(folder, text), folder)


def errors(folder: Path, text: str) -> list[tuple[int, int, str]]:
    file, found = read(folder, text)
    assert file is None
    return [(f.span.line, f.span.col, f.message) for f in found if f.severity == "error"]


def test_a_good_file(tmp_path):
    file, found = read(tmp_path, GOOD)
    assert found == []
    assert (file.path, file.stack, file.seed) == ("scenarios.yaml", ".", 7)
    names = [s.name for s in file.scenarios]
    assert names == ["pause", "all-hosts[a]", "all-hosts[b]", "year"]
    pause = file.scenarios[0]
    assert pause.load.stages == ((600.0, 50.0),)
    assert pause.load.flow[0].mix == (("get", 0.8), ("put", 0.2))
    assert pause.probe_timeout_s == 1.5  # the p(99) budget
    assert pause.steady_state[0].threshold.limit == 0.01
    fault = pause.faults[0]
    assert (fault.do, fault.target, fault.at.offset.a, fault.lasts.a) == (
        "pause",
        "gateway[1]",
        120.0,
        60.0,
    )
    assert (fault.span.line, fault.span.col) == (17, 9)
    assert (pause.budgets[1].span.line, pause.budgets[1].span.col) == (9, 25)


def test_each_makes_one_scenario_per_host(tmp_path):
    file, _ = read(tmp_path, GOOD)
    one, two = file.scenarios[1:3]
    assert one.faults[0].target == "host:a"
    assert two.faults[0].target == "host:b"
    assert [g.budget for g in one.known_gaps] == ["outage_duration"]
    assert two.known_gaps == ()
    assert one.settings == {"haproxy.defaults.timeout_connect": "1s"}
    assert one.faults[0].at.offset == Dist("uniform", 60.0, 120.0)
    assert one.recover_within_s == 180.0


def test_kinds_of_later_versions_are_refused_only_by_name(tmp_path):
    file, _ = read(tmp_path, GOOD)
    chosen, found = select(file, [])
    assert [s.name for s in chosen] == ["pause", "all-hosts[a]", "all-hosts[b]"]
    assert found == []
    chosen, found = select(file, ["all-hosts", "year", "paus"])
    assert [s.name for s in chosen] == ["all-hosts[a]", "all-hosts[b]"]
    assert "kind 'availability' is not in this version" in found[0].message
    assert found[1].hint == "did you mean 'pause'?"


def swapped(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


MISTAKES = [  # what is replaced, by what (the bar is where the finding must point), the message
    ("load: steady", "load: |stedy", "load 'stedy' is not defined"),
    ("vus: 50", "vus: |-5", "at least 0 is needed here"),
    ("vus: 50", "vus: |0", "the load is zero all the time"),
    ("vus: 50", "vus: |.nan", "a finite number is needed here"),
    ("vus: 50", "|vuss: 50", "unknown key 'vuss'"),
    ("mix: {get: 80%, put: 20%}", "mix: |{get: 80%, put: 25%}", "adds up to 105 %, not 100 %"),
    ("duration: 10m", "duration: |10", "'10' needs a unit; write '500ms', '90s', '1m30s'"),
    ("duration: 10m", "duration: |99999999999999y", "too large"),
    ("at: 2m", "at: |20m", "the fault begins at 1200 s, but the load ends at 600 s"),
    ("for: 1m", "for: |9m", "the fault is repaired at 660 s, but the load ends at 600 s"),
    ("for: 1m", "for: |-1m", "'-1m' is negative; a duration is not"),
    ("do: pause", "do: |puase", "unknown fault 'puase'"),
    ("do: pause", "do: |disk-slow", "'disk-slow' needs factor"),
    ("do: pause", "do: |slow", "'slow' needs cpu or latency"),
    ("for: 1m", "for: 1m, |cpu: 4x", "'pause' takes no 'cpu'"),
    ('do: pause, target: "gateway[1]"', "do: |pause", "'pause' needs a target"),
    ("do: pause, target: ", "do: power-off, target: |", "only a host can lose its power"),
    ('"p(95)<500"', '|"p(95)<5%"', "'%' measures share, but this is a time"),
    ('http_req_duration: ["p(95)<500"', '|http_req_duration: ["p(95)>3s"', "cannot both hold"),
    ("http_req_failed:", "|http_req_fail:", "unknown metric 'http_req_fail'"),
    ("budget: outage_duration", "budget: |outage", "this scenario has no budget 'outage'"),
    ('each: "host:*"', 'each: |"hosts:*"', "'hosts:*' selects nothing"),
    ("[1m, 2m]", "|[2m, 1m]", "the first duration of uniform is the longer one"),
    ("{uniform: [1m, 2m]}", "|{exp: 1m}", "a duration or {uniform: [a, b]} is needed here"),
    ("seed: 7", "seed: |-7", "at least 0 is needed here"),
    ("version: 1\nstack: .", "|version: 1", "key 'stack' is missing"),
    ("version: 1", "version: |2", "only 1 is possible here"),
    ("recover_within: 3m", "recover_within: |soon", "'soon' is not a duration"),
    ("doc: A gateway hangs.", "|docs: A gateway hangs.", "unknown key 'docs'"),
    ("availability, horizon: 1y", "run, load: steady, |horizon: 1y", "unknown key 'horizon'"),
    ("availability, horizon: 1y", "run, load: steady, coverage: |20%", "coverage must be"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_a_mistake_is_found_where_it_stands(tmp_path, old, new, message):
    marked = swapped(old, new)
    at = marked.index("|")
    place = (marked.count("\n", 0, at) + 1, at - marked.rfind("\n", 0, at))
    found = errors(tmp_path, marked.replace("|", ""))
    assert place in [f[:2] for f in found], found
    assert any(message in f[2] for f in found if f[:2] == place), found


def test_all_mistakes_come_at_once(tmp_path):
    text = swapped("load: steady", "load: stedy").replace("do: pause", "do: puase")
    text = text.replace("rate<1%", "rate<1ms")
    assert len(errors(tmp_path, text)) == 3


def test_a_wrong_list_that_is_used_twice_is_reported_once(tmp_path):
    assert len(errors(tmp_path, swapped("p(99)<1500ms", "p(99<1500ms"))) == 1


def test_duplicate_names_are_refused(tmp_path):
    found = errors(tmp_path, swapped("  all-hosts:\n", "  pause:\n"))
    assert found[0][:2] == (19, 3)


def test_hints(tmp_path):
    _, found = read(tmp_path, swapped("load: steady", "load: stedy"))
    assert found[0].hint == "did you mean 'steady'?"
    _, found = read(tmp_path, swapped("do: pause", "do: puase"))
    assert found[0].hint == "did you mean 'pause'?"


SCRIPT = """\
import http from 'k6/http';
import { sleep } from 'k6';
export const options = {
  stages: [{ duration: '1m', target: 10 }, { duration: '2m', target: 10 }],
  thresholds: { http_req_duration: ['p(99)<800'], http_req_failed: ['rate<0.01'] },
};
export default function () {
  http.get('http://localhost/api/a');
  sleep(2);
}
"""
FROM = """\
stack: .
loads:
  script: {from: load.k6.js}
  mixed: {from: load.k6.js, mix: {get: 100%}, stages: [{duration: 3m, target: 5}]}
scenarios:
  ramp:
    load: script
    budgets: {from: load.k6.js, http_req_failed: ["rate<2%"]}
  mixed: {load: mixed}
"""


def test_a_load_from_a_real_k6_script(tmp_path):
    (tmp_path / "load.k6.js").write_text(SCRIPT)
    file, found = read(tmp_path, FROM)
    assert [f for f in found if f.severity == "error"] == []
    ramp, mixed = file.scenarios
    assert ramp.load.stages == ((60.0, 10.0), (120.0, 10.0))
    assert ramp.load.flow[0].mix == (("GET /api/a", 1.0),)
    assert ramp.load.flow[0].think == Dist("const", 2.0)
    limits = {b.metric: (b.threshold.limit, b.span.file) for b in ramp.budgets}
    assert limits == {
        "http_req_duration": (0.8, "load.k6.js"),
        "http_req_failed": (0.02, "scenarios.yaml"),
    }
    assert ramp.probe_timeout_s == 0.8
    assert mixed.load.stages == ((180.0, 5.0),)  # stated keys override
    assert mixed.load.flow[0].mix == (("get", 1.0),)
    assert mixed.load.flow[0].think == Dist("const", 2.0)


def test_arrivals(tmp_path):
    rate = "executor: constant-arrival-rate, rate: 30, timeUnit: 1m, duration: 5m, maxVUs: 9"
    text = f"stack: .\nscenarios:\n  one: {{load: {{{rate}, arrivals: poisson, mix: {{a: 1}}}}}}\n"
    file, found = read(tmp_path, text)
    assert found == []
    load = file.scenarios[0].load
    assert (load.start, load.time_unit_s, load.max_vus) == (30.0, 60.0, 9)
    assert load.arrivals == "poisson"
    assert errors(tmp_path, text.replace("maxVUs: 9, ", ""))[0][2] == (
        "constant-arrival-rate needs 'preAllocatedVUs' or 'maxVUs'"
    )


def test_a_missing_script(tmp_path):
    found = errors(tmp_path, FROM)
    assert found[0][:2] == (3, 18)
    assert "there is no file 'load.k6.js'" in found[0][2]


def test_the_schema_knows_every_key_of_the_good_file():
    keys = schema()["properties"]
    assert {"version", "stack", "seed", "loads", "budgets", "steady_state", "scenarios"} <= set(
        keys
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused(tmp_path, data):
    start = data.draw(st.integers(0, len(GOOD) - 1))
    length = data.draw(st.integers(0, 12))
    junk = data.draw(st.text(alphabet="-:[]{}#&*!|>'\"%@ \nabz019.<=,", max_size=8))
    text = GOOD[:start] + junk + GOOD[start + length :]
    file, found = read(tmp_path, text)
    assert file is not None or any(f.severity == "error" for f in found)
    assert all(f.message and (f.span is None or f.span.line >= 1) for f in found)
