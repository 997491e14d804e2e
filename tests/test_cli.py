"""The command line: exit codes, messages, what goes to stdout and what to stderr."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

import hasim
from hasim.cli import app
from hasim.errors import SimulationBug

HEAD = """\
version: 1
stack: stack
seed: 7
loads:
  open: {executor: constant-arrival-rate, rate: 50, duration: 20s, preAllocatedVUs: 50,
         maxVUs: 500, client: one-shot, mix: {get: 100%}}
replications: 2
scenarios:
"""
PASS = '  calm: {load: open, doc: Nothing fails., budgets: {http_req_failed: ["rate<1%"]}}\n'
FAIL = '  tight: {load: open, budgets: {http_req_duration: ["p(99)<1ms"]}}\n'
OPEN = '  open: {load: open, budgets: {outage_duration: ["max<1s"]}}\n'
GAP = """\
  gap: {load: open, budgets: {http_req_failed: ["rate<1%"]},
        known_gaps: [{budget: http_req_failed, reason: "was slow once"}]}
"""
FAULT = """\
  crash:
    load: open
    faults: [{at: 5s, do: crash, target: web-1, for: 5s}]
    budgets: {"http_req_failed{window:fault}": ["rate<1%"], outage_duration: ["max<1s"]}
"""


@pytest.fixture
def here(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a stack of three servers in stack/ and no scenario file."""
    shutil.copytree(models / "three-servers", tmp_path / "stack")
    (tmp_path / "stack" / "scenarios.yaml").unlink()
    monkeypatch.chdir(tmp_path)
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def hasim_(*words: str, code: int, body: str | None = None) -> tuple[str, str]:
    """Run a command in this process; its stdout and stderr. body: scenarios of scenarios.yaml."""
    if body is not None:
        Path("scenarios.yaml").write_text(HEAD + body)
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    assert "Traceback" not in done.output or code == 70
    return done.stdout, done.stderr


def run(*words: str, code: int, body: str) -> tuple[str, str]:
    return hasim_("run", "scenarios.yaml", "--jobs", "1", *words, code=code, body=body)


# ---- exit codes of run ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "code", "verdict"),
    [
        (PASS, 0, "pass"),
        (FAIL, 99, "fail"),
        (OPEN, 3, "inconclusive"),
        (GAP, 3, "stale-gap"),
        (PASS + FAIL + OPEN, 99, None),
    ],
)
def test_exit_code_of_a_verdict(here: Path, body: str, code: int, verdict: str | None) -> None:
    run(code=code, body=body)
    found = json.loads((here / "out" / "scenarios" / "verdict.json").read_text())
    assert verdict in (None, found["scenarios"][0]["verdict"])


def test_the_run_of_another_folder_has_its_own_place(here: Path) -> None:
    run(code=0, body=PASS)
    mine = (here / "out/scenarios/verdict.json").read_bytes()
    shutil.copy("scenarios.yaml", "stack/scenarios.yaml")
    text = Path("stack/scenarios.yaml").read_text().replace("stack: stack", "stack: .")
    Path("stack/scenarios.yaml").write_text(text)
    hasim_("run", "stack/scenarios.yaml", "--jobs", "1", code=0)
    assert (here / "out/stack-scenarios/verdict.json").is_file()
    assert (here / "out/scenarios/verdict.json").read_bytes() == mine
    assert not (here / "out/scenarios.prev").exists()


def test_quick_is_provisional(here: Path) -> None:
    out, _ = run("--quick", code=3, body=PASS)
    assert "provisional" in out


@pytest.mark.parametrize("words", [["run"], ["run", "--only-boot"], ["list", "scenarios"]])
def test_a_folder_is_no_scenario_file(here: Path, words: list[str]) -> None:
    _, err = hasim_(*words, "stack", code=104)
    assert "'stack' is a folder: name a scenario file" in err


def test_a_server_line_that_leads_nowhere_is_shown(here: Path) -> None:
    config = here / "stack" / "haproxy.cfg"
    config.write_text(config.read_text().replace("10.0.1.12:8080", "10.0.1.12:8081"))
    out, _ = hasim_("check", "stack", code=0)
    assert "haproxy.cfg:20:5: HA208 warning: nothing in this stack listens on 10.0.1.12:8081" in out


def test_a_stack_that_does_not_boot_is_void(here: Path) -> None:
    config = here / "stack" / "haproxy.cfg"
    config.write_text(config.read_text().replace("10.0.1.12", "no-such-name"))
    out, _ = run(code=3, body=PASS)
    assert "VOID" in out
    assert "haproxy.cfg:20:" in out


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "scenarios.yaml", "--replications", "0"],
        ["run", "scenarios.yaml", "--format", "pdf"],
        ["run", "scenarios.yaml", "--set", "no-value"],
        ["run", "scenarios.yaml", "--seed", "-1"],
        ["check", "stack", "--fail-on", "sometimes"],
        ["list", "rules"],
        ["simulate"],
        ["run", "scenarios.yaml", "--no-such-flag"],
    ],
)
def test_wrong_flags(here: Path, words: list[str]) -> None:
    hasim_(*words, code=2, body=PASS)


def test_a_bug_prints_how_to_see_it_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replicate(stack, scenario, seed, number, keep):
        raise SimulationBug(f"no books in {number}")

    monkeypatch.setattr("hasim.workers.replicate", replicate)
    for jobs in ("1", "2"):
        words = ("run", "scenarios.yaml", "--jobs", jobs, "--seed", "3")
        _, err = hasim_(*words, code=70, body=PASS)
        assert "no books in " in err
        assert "hasim run scenarios.yaml calm --seed 3 --replications " in err
        assert not (here / "out" / "scenarios").exists()


def test_a_worker_that_dies_is_no_silence(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hasim.workers.replicate", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    _, err = hasim_("run", "scenarios.yaml", "--jobs", "2", code=70, body=PASS)
    assert "a worker process was killed" in err


# ---- invalid input -------------------------------------------------------------------------------
BROKEN = {
    "no file": None,
    "empty": "",
    "not YAML": "scenarios: [",
    "a list": "- a\n- b\n",
    "bytes": "\udcff\udcfe",
    "unknown load": HEAD + PASS.replace("load: open", "load: opne"),
    "unknown metric": HEAD + PASS.replace("http_req_failed", "http_req_faild"),
    "unknown target": HEAD + FAULT.replace("web-1", "web-9"),
    "later metric": HEAD + PASS.replace('http_req_failed: ["rate<1%"]', 'failovers: ["count==0"]'),
    "no window": HEAD + PASS.replace("http_req_failed", "'http_req_failed{window:fault}'"),
    "no stack": HEAD.replace("stack: stack", "stack: nowhere") + PASS,
    "later kind": HEAD + "  sweep: {kind: sweep}\n",
}


@pytest.mark.parametrize("case", BROKEN)
def test_malformed_files(here: Path, case: str) -> None:
    text = BROKEN[case]
    if text is not None:
        Path("scenarios.yaml").write_text(text, errors="surrogateescape")
    out, err = hasim_("run", "scenarios.yaml", code=104)
    assert "HA" in err
    assert "error: " in err
    assert out == ""
    assert not Path("out").exists()
    assert str(here) not in err


def test_all_errors_at_once_with_place_and_hint(here: Path) -> None:
    (here / "stack" / "stack.yaml").write_text("hosts: {lb: {cores: many}}\n")
    body = PASS.replace("load: open", "load: opne") + FAULT.replace("max<1s", "max<<1s")
    _, err = run(code=104, body=body)
    assert re.search(r"^scenarios\.yaml:9:\d+: HA\d+ error: load 'opne' is not defined$", err, re.M)
    assert "  hint: did you mean 'open'?" in err
    assert re.search(r"^scenarios\.yaml:13:\d+: HA\d+ error: ", err, re.M)
    assert re.search(r"^stack/stack\.yaml:1:\d+: HA\d+ error: ", err, re.M)


def test_unknown_names(here: Path) -> None:
    _, err = run("clam", code=104, body=PASS)
    assert "did you mean 'calm'?" in err
    _, err = run("--set", "haproxy.defaults.timeout_conect=1s", code=104, body=PASS)
    assert "did you mean 'haproxy.defaults.timeout_connect'?" in err


def test_nothing_else_is_moved_out_of_the_way(here: Path) -> None:
    before = sorted(p.name for p in (here / "stack").iterdir())
    for out in ("stack", ".", "scenarios.yaml"):
        run("--out", out, code=104, body=PASS)
    assert sorted(p.name for p in (here / "stack").iterdir()) == before


# ---- output --------------------------------------------------------------------------------------
def test_results_on_stdout_progress_on_stderr(here: Path) -> None:
    out, err = run(code=0, body=PASS)
    assert out.startswith("hasim ")
    assert "calm" in out
    assert "PASS" in out
    assert "\x1b" not in out + err
    assert "calm: pass, 2 replications" in err
    assert "out/scenarios" in err
    assert run("--quiet", code=0, body=PASS)[1] == ""


def test_html_is_the_page_of_the_run_folder(here: Path) -> None:
    out, _ = run("--format", "html", "--format", "html=page.html", code=99, body=FAIL)
    written = (here / "out/scenarios/report.html").read_text()
    assert out == written == (here / "page.html").read_text()
    assert written.startswith("<!doctype html>")


def test_formats(here: Path) -> None:
    files = [w for f in ("junit=a/j.xml", "markdown=m.md", "json=v.json", "text=t.txt")
             for w in ("--format", f)]  # fmt: skip
    out, _ = run(*files, "--format", "github", code=99, body=FAIL)
    assert out.startswith("::error file=scenarios.yaml,line=9,")
    assert ET.parse("a/j.xml").getroot().get("failures") == "1"
    assert "| tight | FAIL | 2 |" in Path("m.md").read_text()
    assert "✗ http_req_duration" in Path("t.txt").read_text(encoding="utf-8")
    ours = json.loads(Path("v.json").read_text())
    assert ours == json.loads(Path("out/scenarios/verdict.json").read_text())
    out, _ = run("--format", "json", code=99, body=FAIL)
    assert json.loads(out) == ours


def test_ci_adds_annotations_but_never_to_json(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    out, _ = run(code=99, body=FAIL)
    assert out.startswith("hasim ")
    assert "\n::error file=scenarios.yaml" in out
    out, _ = run("--format", "json", code=99, body=FAIL)
    json.loads(out)


def test_annotations_name_files_of_the_stack_as_the_checkout_does(here: Path) -> None:
    out, _ = run("--format", "github", code=99, body=FAULT)
    assert "::error file=stack/haproxy.cfg,line=" in out


def test_studies(here: Path) -> None:
    out, _ = run("--set", "haproxy.defaults.timeout_connect=1s", code=0, body=PASS)
    assert "study" in out
    found = json.loads(Path("out/scenarios/verdict.json").read_text())
    assert found["scenarios"][0]["study"] is True
    assert "5000" in Path("stack/haproxy.cfg").read_text()


def test_strict_makes_warnings_errors(here: Path) -> None:
    config = here / "stack" / "haproxy.cfg"
    config.write_text(config.read_text() + "    http-request disable-l7-retry if FALSE\n")
    assert "1 warning" in run(code=0, body=PASS)[1]
    assert "stack/haproxy.cfg:22:" in run("--strict", code=104, body=PASS)[1]


def test_only_boot(here: Path) -> None:
    out, _ = run("--only-boot", code=0, body=PASS)
    assert "4 of 4 up" in out
    assert not Path("out").exists()
    config = here / "stack" / "haproxy.cfg"
    config.write_text(config.read_text().replace("10.0.1.12", "no-such-name"))
    out, _ = run("--only-boot", code=3, body=PASS)
    assert "3 of 4 up" in out
    assert re.search(r"DOWN  haproxy .*could not resolve.*stack/haproxy\.cfg:20:", out)
    assert "void: did not boot" in out


def test_requests_and_series_when_asked_for(here: Path) -> None:
    run("--requests", "--series", "all", code=0, body=PASS)
    folder = Path("out/scenarios")
    rows = gzip.decompress((folder / "requests.csv.gz").read_bytes()).decode().splitlines()
    assert rows[0] == "scenario,replication,start_s,op,server,status,termination,retries,latency_s"
    assert len(rows) == 1 + 2 * 1001  # 50/s for 20 s, twice
    assert rows[1] == "calm,0,0,web/get,web/web-1,200,----,0,0.0202"
    run(code=0, body=PASS)
    assert not (folder / "requests.csv.gz").exists()
    assert (Path("out/scenarios.prev") / "requests.csv.gz").is_file()


# ---- the other commands --------------------------------------------------------------------------
def test_check(here: Path) -> None:
    out, _ = hasim_("check", "stack", code=0)
    assert out.endswith("stack (3 files, 4 hosts, 4 containers): 0 errors, 0 warnings\n")
    hasim_("check", "scenarios.yaml", code=0, body=PASS)
    hasim_("check", "nowhere", code=104)
    config = here / "stack" / "haproxy.cfg"
    good = config.read_text()
    config.write_text(good + "    http-request disable-l7-retry if FALSE\n")
    hasim_("check", "stack", code=0)
    out, _ = hasim_("check", "stack", "--fail-on", "warning", code=1)
    assert "stack/haproxy.cfg:22:5: HA" in out
    config.write_text(good.replace("10.0.1.12", "no-such-name"))
    out, _ = hasim_("check", "stack", code=1)
    assert "stack/haproxy.cfg:20:5: HA300 error: does not boot: haproxy: " in out
    config.write_text(good + "    server\n")
    hasim_("check", "stack", code=104)
    out, _ = hasim_("check", "stack", "--fail-on", "never", "--format", "json", code=0)
    found = json.loads(out)["findings"]
    assert (found[0]["file"], found[0]["line"]) == ("stack/haproxy.cfg", 22)
    out, _ = hasim_("check", "stack", "--format", "github", code=104)
    assert out.startswith("::error file=stack/haproxy.cfg,line=22,")


def test_check_finds_budgets_without_samples(here: Path) -> None:
    body = PASS.replace("http_req_failed", "'http_req_failed{window:fault}'")
    out, _ = hasim_("check", "scenarios.yaml", code=1, body=body)
    assert "without a fault there is no window 'fault'" in out


def test_lists(here: Path) -> None:
    out, _ = hasim_("list", "scenarios", code=0, body=PASS + FAIL)
    assert out.splitlines() == ["calm   run  Nothing fails.", "tight  run"]
    assert "web[?]" in hasim_("list", "targets", code=0)[0]
    assert "web[?]" in hasim_("list", "targets", "stack", code=0)[0]
    knobs = hasim_("list", "knobs", code=0)[0]
    assert re.search(
        r"^haproxy\.defaults\.timeout_connect +5000 +reload +stack/haproxy.cfg", knobs, re.M
    )
    assert "power-off" in hasim_("list", "faults", code=0)[0]
    assert "haproxy" in hasim_("list", "components", code=0)[0]
    metrics, _ = hasim_("list", "metrics", code=0)
    assert "outage_duration" in metrics
    assert "failovers" in metrics
    hasim_("list", "scenarios", "stack", code=104)


def test_schema(here: Path) -> None:
    out, _ = hasim_("schema", code=0)
    assert out == (Path(hasim.__file__).parent / "schema" / "scenarios.json").read_text()


def test_the_committed_schema_is_current() -> None:
    from hasim.read.scenarios import schema

    committed = json.loads((Path(hasim.__file__).parent / "schema" / "scenarios.json").read_text())
    assert committed == json.loads(json.dumps(schema())), (
        "write it anew: json.dumps(schema(), indent=1, ensure_ascii=False)"
    )


def test_help_shows_what_works_and_nothing_else() -> None:
    out, _ = hasim_("--help", code=0)
    shown = re.findall(r"^  ([a-z]+)  ", out.partition("Commands:")[2], re.M)
    runs = ["run", "sweep", "capacity", "export", "explain", "compare"]
    assert shown == [*runs, "check", "list", "schema"]
    for name in shown:
        assert "Usage:" in hasim_(name, "--help", code=0)[0]
    assert hasim_("--version", code=0)[0] == f"hasim {hasim.__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["check", "scenarios.yaml"], ["list", "faults"]])
def test_quick_commands_import_nothing_heavy(here: Path, root: Path, words: list[str]) -> None:
    Path("scenarios.yaml").write_text(HEAD + PASS)
    text = (
        "import sys\nfrom hasim.cli import app\n"
        f"try: app({words!r})\nexcept SystemExit: pass\n"
        "heavy = {'pandas', 'numba', 'matplotlib', 'scipy', 'tree_sitter', 'simpy', 'rich'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr
