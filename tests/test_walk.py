"""hasim explain: the story is causal, cites lines that exist, and its steps save what they must."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hasim.causes_text import Cause
from hasim.cli import app
from hasim.errors import InputError
from hasim.model import Stack
from hasim.plan.trials import Bench
from hasim.project import Project, open_project
from hasim.source import Span
from hasim.stack import load
from hasim.walk import Setting, Walk, report, walk
from hasim.walk.settings import one_step, settings_behind
from hasim.walk.steps import try_steps

SCENARIO = """
version: 1
stack: three-servers
seed: 7
loads:
  open:
    executor: constant-arrival-rate
    rate: 30
    duration: 80s
    preAllocatedVUs: 50
    maxVUs: 2000
    client: one-shot
    mix: {get: 100%}
scenarios:
  crash:
    load: open
    recover_within: 20s
    faults:
      - {at: 20s, do: crash, target: web-1, for: 30s}
    budgets:
      "time_to_detect{by:haproxy}": ["max<5s"]
      http_req_failed: ["rate<10%"]
  pause:
    load: open
    recover_within: 20s
    faults:
      - {at: 20s, do: pause, target: web-1, for: 30s}
    budgets:
      "time_to_detect{by:haproxy}": ["max<11s"]
"""


def project_of(folder: Path, models: Path, haproxy: str = "", scenarios: str = SCENARIO) -> Project:
    """The three servers of models/ under short scenarios; `haproxy`: text that replaces theirs."""
    shutil.copytree(models / "three-servers", folder / "three-servers")
    if haproxy:
        (folder / "three-servers/haproxy.cfg").write_text(haproxy)
    (folder / "scenarios.yaml").write_text(scenarios)
    return open_project(folder / "scenarios.yaml")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Project:
    return project_of(tmp_path_factory.mktemp("walk"), models)


@pytest.fixture(scope="module")
def crash(project: Project) -> Walk:
    return walk(project, "crash", jobs=1)


@pytest.fixture(scope="module")
def pause(project: Project) -> Walk:
    return walk(project, "pause", 3, jobs=1)


def step(told: Walk, name: str):
    return next(s for s in told.steps if s.setting.names[0].endswith(f".{name}"))


def test_the_story_is_causal_and_in_time_order(crash: Walk, pause: Walk) -> None:
    for told in (crash, pause):
        seen: dict[int, float] = {}
        for m in told.moments:
            assert m.t_s >= max(seen.values(), default=m.t_s) - 1e-9
            if m.parent == -1:
                assert m.who == "fault" or m.who == "users"
            else:
                assert m.parent in seen, m
                assert m.after_s == pytest.approx(m.t_s - seen[m.parent])
                assert m.after_s >= 0
            seen[m.id] = m.t_s
        assert told.moments[0].text.startswith(f"{told.scenario}: web-1")


def test_the_turns_of_the_story_are_told_with_what_led_to_them(pause: Walk) -> None:
    down = next(m for m in pause.moments if "web-1 is DOWN" in m.text)
    assert down.text.endswith("Layer7 timeout, 3 checks in 8.0 s")
    assert (down.setting, str(down.span)) == ("inter 2000", "haproxy.cfg:19:45")
    assert 10.0 <= down.after_s <= 12.0  # (inter - phase) + 3 checks of 2 s + 2 x inter
    assert any("web-1 is UP" in m.text for m in pause.moments)


def test_every_cited_line_says_what_is_cited(crash: Walk, pause: Walk, project: Project) -> None:
    cited = 0
    for told in (crash, pause):
        spans = [(m.span, m.setting) for m in told.moments if m.setting and not m.default]
        spans += [(s.setting.span, s.setting.value) for s in told.steps if not s.setting.default]
        for span, text in spans:
            assert span is not None
            line = (project.folder / span.file).read_text().splitlines()[span.line - 1]
            assert line[span.col - 1 :].startswith(text.rpartition(" ")[2])
            cited += 1
        for c in (*told.costs, *told.delays):
            if c.span is not None:
                lines = (project.folder / c.span.file).read_text().splitlines()
                assert c.span.col <= len(lines[c.span.line - 1])
    assert cited > 5


def test_one_step_saves_what_the_formula_says(crash: Walk, pause: Walk) -> None:
    """A refused check costs nothing, so detection is (inter - phase) + (fall - 1) x inter; a silent
    one without `timeout check` takes inter more, fall times. Phases are uniform.
    """
    wanted = {
        ("crash", "inter"): -(0.5 + 2) * 1.0,
        ("crash", "fall"): -2.0,
        ("pause", "inter"): -(0.5 + 2 + 3) * 1.0,
        ("pause", "fall"): -(2.0 + 2.0),
    }
    for (name, knob), saved in wanted.items():
        told = crash if name == "crash" else pause
        found = step(told, knob).recovery
        assert found is not None
        assert found.low - 0.35 <= saved <= found.high + 0.35, (name, knob, found)
        assert found.n == 10
    late = step(pause, "timeout_check").recovery  # no timer enforces it in 2.6: 1 to 2 s a check
    assert late is not None
    assert -3.0 < late.low < late.high < 0.0


def test_all_servers_of_a_back_end_move_together(crash: Walk) -> None:
    one = step(crash, "inter")
    assert one.setting.names == tuple(f"haproxy.backend.web.web-{i}.inter" for i in (1, 2, 3))
    assert one.setting.label == "haproxy.backend.web.*.inter"
    assert (one.setting.value, one.value) == ("2000", "1000")


def test_a_step_that_costs_elsewhere_says_so(crash: Walk) -> None:
    assert any(text.startswith("probe load") for text in step(crash, "inter").warnings)
    assert step(crash, "inter").saves
    assert not step(crash, "rise").saves
    assert "time_to_detect{by:haproxy} max<5s" in step(crash, "fall").mended


def test_the_worst_of_ten_is_told_unless_one_is_named(crash: Walk, pause: Walk) -> None:
    assert crash.chosen == "the worst of 10 by time_to_detect{by:haproxy} max<5s"
    assert (pause.replication, pause.chosen) == (3, "as asked")
    stay = next(c for c in crash.delays if "stayed in rotation" in c.text)
    assert stay.seconds > 5.0


def test_workers_change_nothing(crash: Walk, project: Project) -> None:
    again = walk(project, "crash", jobs=2)
    assert report.json(again) == report.json(crash)
    assert report.text(again) == report.text(crash)


def test_json_is_whole_and_stable(crash: Walk) -> None:
    document = json.loads(report.json(crash))
    assert list(document) == [
        "schema", "scenario", "stack", "seed", "replication", "chosen", "void", "simulated_s",
        "moments", "costs", "delays", "replications", "steps",
    ]  # fmt: skip
    assert list(document["moments"][0]) == [
        "id", "parent", "t_s", "after_s", "who", "text", "setting", "file", "line", "col",
        "default", "also",
    ]  # fmt: skip
    inter = next(s for s in document["steps"] if s["knobs"][0].endswith(".inter"))
    assert list(inter["recovery_s"]) == ["difference", "ci", "correlation", "n"]
    assert inter["line"] == 19
    assert inter["to"] == "1000"


def test_an_unknown_scenario_is_an_input_error_with_a_hint(project: Project) -> None:
    with pytest.raises(InputError, match="did you mean 'crash'"):
        walk(project, "crsh")


def test_a_stack_that_does_not_boot_is_told_as_void(tmp_path: Path, models: Path) -> None:
    text = (models / "three-servers/haproxy.cfg").read_text()
    text = text.replace("10.0.1.11:8080", "nowhere:8080")
    told = walk(project_of(tmp_path, models, text), "crash", jobs=1)
    assert told.void
    assert not told.moments
    assert not told.steps
    assert any("did not boot" in c.text for c in told.delays)


def test_no_secret_is_told(tmp_path: Path, models: Path) -> None:
    secret = "hunter2hunter2"
    text = (models / "three-servers/haproxy.cfg").read_text()
    text = text.replace("backend web\n", f"backend web-{secret}\n")
    text = text.replace("default_backend web\n", f"default_backend web-{secret}\n")
    text += f"\nuserlist people\n    user admin insecure-password {secret}\n"
    told = walk(project_of(tmp_path, models, text), "crash", jobs=1)
    assert any("web-<redacted>/web-1 is DOWN" in m.text for m in told.moments)
    for form in (report.text, report.json, report.markdown):
        assert secret not in form(told)


# ---- steps -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "value", "dialect", "wanted"),
    [
        ("haproxy.backend.b.s.inter", "2000", "haproxy", "1000"),
        ("haproxy.backend.b.s.inter", "3s", "haproxy", "1500ms"),
        ("haproxy.backend.b.s.inter", "1ms", "haproxy", "500us"),
        ("haproxy.backend.b.s.fall", "3", "haproxy", "2"),
        ("haproxy.backend.b.s.fall", "1", "haproxy", ""),
        ("haproxy.backend.b.option_redispatch", "off", "haproxy", "on"),
        ("haproxy.backend.b.option_redispatch", "on", "haproxy", ""),
        ("haproxy.backend.b.timeout_queue", "0", "haproxy", ""),
        ("haproxy.backend.b.balance", "roundrobin", "haproxy", ""),
        ("sentinel.s.mymaster.down-after-milliseconds", "5000", "sentinel", "2500"),
        ("sentinel.s.mymaster.down-after-milliseconds", "1", "sentinel", ""),
        ("patroni.ttl", "30", "patroni", "15"),
        ("patroni.synchronous_mode", "true", "patroni", ""),
        ("compose.gw.restart", "no", "compose", "unless-stopped"),
        ("compose.gw.stop_grace_period", "1m30s", "compose", "45s"),
    ],
)
def test_a_step_is_written_as_its_file_would(
    project: Project, name: str, value: str, dialect: str, wanted: str
) -> None:
    assert project.stack is not None
    setting = Setting((name,), name, value, dialect, None, "", "", 0.0)
    assert one_step(setting, project.stack) == wanted


def test_peers_with_another_value_keep_it(tmp_path: Path, models: Path, crash: Walk) -> None:
    shutil.copytree(models / "three-servers", tmp_path / "s")
    path = tmp_path / "s/haproxy.cfg"
    path.write_text(path.read_text().replace("8080 check inter 2000", "8080 check inter 9000", 1))
    stack: Stack = load(tmp_path / "s")
    cause = next(c for c in crash.delays if "stayed in rotation" in c.text)
    found = [s for s in settings_behind(stack, [cause]) if s.names[0].endswith(".inter")]
    assert [s.names for s in found] == [("haproxy.backend.web.web-1.inter",)]


def test_members_of_a_cluster_and_inherited_values_move_together(models: Path) -> None:
    stack = load(models / "story-portal")

    def behind(knob_name: str) -> Setting:
        knob = next(k for k in stack.knobs if k.name == knob_name)
        assert isinstance(knob.origin, Span)
        return settings_behind(stack, [Cause("it took long", knob.origin, 9.0)])[0]

    sentinel = behind("sentinel.sentinel-3.mymaster.down-after-milliseconds")
    assert sentinel.label == "sentinel.*.mymaster.down-after-milliseconds"
    assert len(sentinel.names) == 3
    assert behind("patroni.ttl").names == ("patroni.ttl",)
    inherited = behind("haproxy.backend.postgres-rw.pg-2.inter")
    assert inherited.names == ("haproxy.defaults-2.default_server.inter",)
    assert one_step(inherited, stack) == "1500ms"


def test_a_value_that_cannot_be_is_skipped_with_the_reason(project: Project) -> None:
    assert project.stack is not None
    assert project.file is not None
    name = "haproxy.backend.web.timeout_gone"
    bad = Setting((name,), name, "2000", "haproxy", None, "", "", 1.0)
    with Bench(jobs=1) as bench:
        [found] = try_steps(bench, project.stack, project.file.scenarios[0], 7, (), [bad])
    assert found.refused == f"unknown knob '{name}'"
    assert found.recovery is None
    assert not found.saves


def test_the_command_prints_the_story(project: Project) -> None:
    assert project.path is not None
    done = CliRunner().invoke(app, ["explain", "-q", "--jobs", "1", str(project.path), "crash"])
    assert done.exit_code == 0
    assert "what it cost" in done.stdout
    assert "one step of each setting" in done.stdout
    assert "haproxy.cfg:19:45" in done.stdout
