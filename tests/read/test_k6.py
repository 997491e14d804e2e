"""The k6 reader: options with k6's defaults, the steps of a function, what cannot be known."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.read.k6 import K6Script, read_script
from hasim.read.k6_syntax import MAX_CHARS

GUIDE = Path(__file__).parents[2] / "models" / "story-portal-guide" / "load.k6.js"
DEFAULT = "export default function () { http.get('/'); }\n"


def good(text: str, env: dict[str, str] | None = None) -> K6Script:
    script, findings = read_script(text, "a.js", env)
    assert [str(f) for f in findings] == []
    return script


def options(text: str, env: dict[str, str] | None = None) -> K6Script:
    return good(f"export const options = {text};\n{DEFAULT}", env)


def steps(body: str, head: str = "") -> list[tuple[str, ...]]:
    text = f"{head}\nexport const options = {{vus: 1, duration: '1s'}};\n"
    script = good(f"{text}export default function () {{ {body} }}\n")
    found = script.functions["default"]
    assert script.scenarios[0].steps == found
    return [(s.method, s.path) if s.kind == "request" else (f"{s.seconds:g}",) for s in found]


def bad(text: str) -> list[tuple[str, str, str]]:
    return [(f.severity, f.code, str(f.span)) for f in read_script(text, "a.js")[1]]


def test_the_guide_has_stages_and_thresholds_but_nothing_to_run():
    text = GUIDE.read_text("utf-8")
    script, findings = read_script(text, "load.k6.js")
    assert [(f.severity, f.code) for f in findings] == [("error", "HA166")]
    assert findings[0].message.startswith("no exported functions in script")
    scenario = script.scenarios[0]
    assert (scenario.name, scenario.executor) == ("default", "ramping-vus")
    assert scenario.stages == ((300.0, 500.0), (600.0, 500.0), (120.0, 0.0))
    assert [(t.metric, t.threshold) for t in script.thresholds] == [
        ("http_req_duration", "p(99)<1000"),
        ("http_req_failed", "rate<0.001"),
    ]
    span = script.thresholds[1].span
    assert span is not None
    assert text[span.start : span.end] == "'rate<0.001'"
    assert str(span) == "load.k6.js:10:23"


@pytest.mark.parametrize(
    "form",
    [
        "export let options = {vus: 2, duration: '1m'};",
        "export var options = {vus: 2, duration: '1m'};",
        "const options = {vus: 2, duration: '1m'}; export { options };",
        "const o = {vus: 2, duration: '1m'}; export { o as options };",
        "const base = {vus: 2}; export const options = {...base, 'duration': `1m`};",
        "const vus = 2, duration = '1m'; export const options = {vus, duration};",
    ],
)
def test_options_may_be_exported_in_many_ways(form):
    script = good(f"{form}\n{DEFAULT}")
    assert [(s.executor, s.stages, s.start) for s in script.scenarios] == [
        ("constant-vus", ((60.0, 2.0),), 2.0)
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "{executor: 'constant-vus', duration: '90s'}",
            ("constant-vus", ((90.0, 1.0),), 1.0, 0, 0),
        ),
        (
            "{executor: 'ramping-vus', stages: [{duration: '1m30s', target: 5}]}",
            ("ramping-vus", ((90.0, 5.0),), 1.0, 0, 0),
        ),
        (
            "{executor: 'ramping-vus', startVUs: 0, stages: [{duration: 500, target: 5}]}",
            ("ramping-vus", ((0.5, 5.0),), 0.0, 0, 0),
        ),
        (
            "{executor: 'constant-arrival-rate', rate: 7, duration: '1d1h', preAllocatedVUs: 3}",
            ("constant-arrival-rate", ((90000.0, 7.0),), 7.0, 3, 3),
        ),
        (
            "{executor: 'ramping-arrival-rate', stages: [{duration: '0s', target: 9}],"
            " preAllocatedVUs: 3, maxVUs: 8}",
            ("ramping-arrival-rate", ((0.0, 9.0),), 0.0, 3, 8),
        ),
    ],
)
def test_executors_and_their_defaults(body, expected):
    found = options(f"{{scenarios: {{one: {body}}}}}").scenarios[0]
    assert (
        found.executor,
        found.stages,
        found.start,
        found.pre_allocated_vus,
        found.max_vus,
    ) == expected
    assert (found.name, found.exec, found.time_unit_s, found.graceful_stop_s) == (
        "one",
        "default",
        1.0,
        30.0,
    )


def test_other_fields_of_a_scenario_and_their_places():
    text = (
        "export const options = {scenarios: {s: {executor: 'constant-arrival-rate', rate: 1,\n"
        " duration: '2m', timeUnit: '1m', preAllocatedVUs: 1, startTime: '5s', exec: 'buy',\n"
        " gracefulStop: '0s', tags: {x: f()}, env: {A: g()}}}};\n"
        "export function buy() { http.post(`http://x/é`); }\n"
    )
    found = good(text).scenarios[0]
    assert (found.time_unit_s, found.start_time_s, found.graceful_stop_s) == (60.0, 5.0, 0.0)
    assert [s.path for s in found.steps] == ["/é"]
    assert {k: str(v) for k, v in found.where.items() if k in ("rate", "startTime")} == {
        "rate": "a.js:1:82",
        "startTime": "a.js:2:65",
    }


def test_thresholds_in_the_long_form():
    script = options(
        "{vus: 1, duration: '1s', thresholds: {'a{b:c}': ['max<1',"
        " {threshold: 'avg<2', abortOnFail: true, delayAbortEval: '10s'}]}}"
    )
    found = [
        (t.metric, t.threshold, t.abort_on_fail, t.delay_abort_eval_s) for t in script.thresholds
    ]
    assert found == [("a{b:c}", "max<1", False, 0.0), ("a{b:c}", "avg<2", True, 10.0)]


@pytest.mark.parametrize(
    ("expression", "env", "vus"),
    [
        ("__ENV.VUS || 5", {}, 5),
        ("__ENV.VUS || 5", {"VUS": "7"}, 7),
        ("__ENV['VUS'] ?? 5", {}, 5),
        ("__ENV.VUS || 5", {"VUS": ""}, 5),
        ("parseInt(__ENV.VUS || '9')", {}, 9),
        ("Number(__ENV.VUS)", {"VUS": "3"}, 3),
        ("(1_0)", {}, 10),
        ("0x10", {}, 16),
        ("+4", {}, 4),
    ],
)
def test_literals_and_the_environment(expression, env, vus):
    assert options(f"{{vus: {expression}, duration: '1s'}}", env).scenarios[0].start == vus


@pytest.mark.parametrize("expression", ["__ENV.VUS", "f()", "a.b", "Math.max(1, 2)", "x ? 1 : 2"])
def test_what_only_running_would_tell_must_be_stated(expression):
    text = f"export const options = {{duration: '1s', vus: {expression}}};\n{DEFAULT}"
    findings = read_script(text, "a.js")[1]
    assert [(f.code, str(f.span)) for f in findings] == [("HA162", "a.js:1:46")]
    assert "scenarios.yaml" in findings[0].hint


def test_a_name_given_a_value_twice_is_not_a_constant():
    text = "let n = 1; n = 2;\nexport const options = {duration: '1s', vus: n};\n" + DEFAULT
    assert bad(text) == [("error", "HA162", "a.js:2:46")]
    text = "export const options = {duration: '1s', vus: 1};\noptions.vus = 2;\n" + DEFAULT
    assert bad(text) == [("error", "HA162", "a.js:2:1")]


def test_requests_and_sleeps_stand_in_order():
    head = "import net from 'k6/http'; import { sleep as nap, check, group } from 'k6';\n"
    head += "const BASE = __ENV.BASE || 'http://lb:8009'; const url = `${BASE}/c`;\n"
    head += "function login() { net.post(BASE + '/login/' + id(), 1); nap(0.5); }\n"
    body = """
      login();
      check(net.get(`${BASE}/items/${__VU}/x?a=1`), { ok: (r) => r.status === 200 });
      group('g', () => { net.put(url); nap(1); });
      net.del('http://other'); net.patch(net.url`http://x/p/${1}`);
      net.request('HEAD', '/h#top'); other.get('/no');
    """
    assert steps(body, head) == [
        ("POST", "/login/{}"),
        ("0.5",),
        ("GET", "/items/{}/x"),
        ("PUT", "/c"),
        ("1",),
        ("DELETE", "/"),
        ("PATCH", "/p/1"),
        ("HEAD", "/h"),
    ]


def test_a_request_inside_another_comes_first():
    assert steps("http.post('/b', http.get('/a').body);") == [("GET", "/a"), ("POST", "/b")]


def test_batches_keep_together():
    text = "http.batch([['GET', '/a'], '/b', {method: 'POST', url: '/c'}]); http.batch({x: '/d'});"
    script = good(
        f"export const options = {{vus: 1, duration: '1s'}};\nexport default () => {{ {text} }}\n"
    )
    assert [(s.method, s.path, s.batch) for s in script.functions["default"]] == [
        ("GET", "/a", 1),
        ("GET", "/b", 1),
        ("POST", "/c", 1),
        ("GET", "/d", 2),
    ]


@pytest.mark.parametrize(
    ("body", "code", "col"),
    [
        ("sleep(Math.random() * 3)", "HA162", 24),
        ("http.get(make())", "HA162", 33),
        ("http.batch(urls())", "HA162", 24),
        ("for (const x of y) { http.get('/a') }", "HA164", 24),
        ("if (a) { if (b) { http.get('/a') } }", "HA164", 24),
    ],
)
def test_a_flow_that_depends_on_running_is_a_warning(body, code, col):
    text = "export const options = {vus: 1, duration: '1s'};\n"
    text += f"export default () => {{ {body} }}\n"
    assert bad(text) == [("warning", code, f"a.js:2:{col}")]


def test_functions_that_call_each_other_end():
    text = "function f() { g(); http.get('/f'); } function g() { f(); http.get('/g'); }\n"
    assert steps("f();", text) == [("GET", "/g"), ("GET", "/f")]
    tower = "".join(f"function f{i}() {{ f{i + 1}(); f{i + 1}(); }}\n" for i in range(18))
    tower += "function f18() { http.get('/'); }\n"
    text = f"{tower}export const options = {{vus: 1, duration: '1s'}};\nexport default f0;\n"
    assert [code for _, code, _ in bad(text)] == ["HA162"]


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("export const options = {vus: };\n" + DEFAULT, "HA161", "a.js:1:29"),
        ("export default function () {\n", "HA161", "a.js:1:29"),
        ("export const options = {iterations: 3};\n" + DEFAULT, "HA163", "a.js:1:37"),
        ("export const options = {vus: 3};\n" + DEFAULT, "HA163", "a.js:1:24"),
        ("export const options = {scenarios: {a: {executor: 'per-vu-iterations'}}};\n" + DEFAULT,
         "HA163", "a.js:1:51"),
        ("export const options = {scenarios: {a: {executor: 'constant-vu'}}};\n" + DEFAULT,
         "HA165", "a.js:1:51"),
        ("export const options = {scenarios: {a: {executor: 'constant-vus', duration: '1s',"
         " vuss: 1}}};\n" + DEFAULT, "HA165", "a.js:1:83"),
        ("export const options = {stages: [], scenarios: {}};\n" + DEFAULT, "HA165", "a.js:1:25"),
        ("export const options = {scenarios: {a: {vus: 1}}};\n" + DEFAULT, "HA165", "a.js:1:40"),
        ("export const options = {vus: 1, duration: '5 minutes'};\n" + DEFAULT,
         "HA165", "a.js:1:43"),
        ("export const options = {vus: 1.5, duration: '5m'};\n" + DEFAULT, "HA165", "a.js:1:30"),
        ("export const options = {stages: [{target: 1}]};\n" + DEFAULT, "HA165", "a.js:1:34"),
        ("export const options = {stages: [{duration: '1s', target: 1}], duration: '1s'};\n"
         + DEFAULT, "HA165", "a.js:1:33"),
        ("export const options = {scenarios: {a: {executor: 'constant-vus', duration: '1s',"
         " exec: 'defalt'}}};\n" + DEFAULT, "HA166", "a.js:1:89"),
        ("export const options = {vus: 1, duration: '1s'};\n", "HA166", "a.js:1:1"),
        ("", "HA166", "a.js:1:1"),
        (DEFAULT, "HA163", "a.js:1:1"),
        ("import ws from 'k6/ws';\nexport const options = {vus: 1, duration: '1s'};\n" + DEFAULT,
         "HA163", "a.js:1:1"),
        ("x" * (MAX_CHARS + 1), "HA160", "a.js:1:1"),
        ("\x00\ud800", "HA161", "a.js:1:1"),
    ],
)  # fmt: skip
def test_a_bad_script_gives_a_finding_with_its_place(text, code, place):
    found = [(c, p) for _, c, p in bad(text)]
    assert found[0] == (code, place), found


def test_deep_scripts_are_survived():
    for unit, end in (("[", "]"), ("(", ")"), ("{a:", "}"), ("-", ""), ("!", ""), ("a+", "")):
        text = "export const options = " + unit * 20_000 + "1" + end * 20_000 + ";\n" + DEFAULT
        script, findings = read_script(text, "a.js")
        assert findings
        assert script.scenarios == ()
    nested = "if (a) { http.get('/');" * 3000 + "}" * 3000
    assert [c for _, c, _ in bad(f"export default () => {{ {nested} }}")][0] in ("HA162", "HA164")


K6_SAYS = [
    ("stages: [{duration: '1m', target: 5}]", "ramping-vus"),
    ("vus: '7', duration: '1500'", "constant-vus"),
    ("vus: 2, duration: '1d2h'", "constant-vus"),
    (
        "scenarios: {a: {executor: 'constant-arrival-rate', duration: '1m', rate: 3,"
        " preAllocatedVUs: 2}}",
        "constant-arrival-rate",
    ),
    ("stages: [{duration: '1m', target: 5}], duration: '1s'", None),
    ("stages: [{duration: '1m', target: 5}], scenarios: {}", None),
    ("scenarios: {a: {executor: 'constant-vus', duration: '1m', vuss: 1}}", None),
    ("scenarios: {a: {executor: 'constant-vus', duration: '1m', exec: 'no'}}", None),
    ("vus: 1.5, duration: '1m'", None),
    ("vus: 1, duration: '1s', thresholds: {http_req_failed: 'rate<1'}", None),
    ("stages: [{duration: '1s'}]", None),
]


@pytest.mark.skipif(not shutil.which("k6"), reason="no k6 on PATH")
@pytest.mark.parametrize(("body", "executor"), [*K6_SAYS, ("", None)])
def test_k6_itself_takes_and_refuses_the_same(body, executor, tmp_path):
    text = f"export const options = {{{body}}};\nexport default function () {{}}\n"
    text = text if body else GUIDE.read_text("utf-8")
    path = tmp_path / "a.js"
    path.write_text(text, "utf-8")
    done = subprocess.run(
        ["k6", "inspect", "--execution-requirements", os.fspath(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    script, findings = read_script(text, "a.js")
    assert (done.returncode == 0) == (executor is not None) == (findings == []), done.stderr
    if executor:
        real = json.loads(done.stdout)["scenarios"].values()
        assert [s["executor"] for s in real] == [s.executor for s in script.scenarios] == [executor]


SCRIPT = """\
import http from 'k6/http';
import { sleep } from 'k6';
const BASE = __ENV.BASE || "http://lb";  // é
export const options = {
  scenarios: { a: { executor: 'ramping-vus', stages: [{ duration: '1m', target: 5 }], exec: 'f' } },
  thresholds: { http_req_failed: ['rate<0.01', { threshold: 'count==0', abortOnFail: true }] },
};
export function f() { http.get(`${BASE}/x/${__VU}`); http.batch([['GET', '/a'], '/b']); sleep(1); }
export default () => { f(); http.post(BASE + '/y', {}, { tags: { a: 1 } }); };
"""


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, len(SCRIPT)),
    st.integers(0, 12),
    st.sampled_from(["", "'", "`", "{", "}", "[]", "...", "1e999", "é", "null", "${", "f()", "a",
                     ":", ",", "-", "//", "undefined", "export ", "=>", "\\u{110000}", "0x"]),
)  # fmt: skip
def test_no_mutation_raises_and_results_repeat(at, cut, put):
    text = SCRIPT[:at] + put + SCRIPT[at + cut :]
    first = read_script(text, "a.js")
    assert first == read_script(text, "a.js")
    for step in (s for steps in first[0].functions.values() for s in steps):
        assert 0 <= step.span.start < step.span.end <= len(text)
