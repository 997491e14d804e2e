"""Capacity against formulas: M/M/3, the utilisation law, two thirds after the loss of a third."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hasim.cli_capacity import check_out, save
from hasim.errors import InputError
from hasim.plan import capacity_report
from hasim.plan.capacity import review
from hasim.plan.capacity_load import at_level
from hasim.plan.capacity_types import CapacityResult
from hasim.project import check, open_project
from hasim.scenario import FlowStep, Load, Scenario

SERVICE_S, SERVERS = 0.010, 3

QUEUE = """\
version: 1
stack: STACK
seed: 1
loads:
  requests:
    executor: constant-arrival-rate
    arrivals: poisson
    rate: 150
    duration: 1h
    maxVUs: 9999
    client: one-shot
    mix: {serve: 100%}
scenarios:
  answers: {load: requests, budgets: {http_req_duration: ["p(99)<60ms"]}}
  busy: {load: requests, budgets: {"cpu_utilization{service:queue}": ["max<70%"]}}
  crash:
    load: requests
    faults: [{at: 10m, do: crash, target: queue-1}]
    budgets: {http_req_failed: ["rate<1%"]}
  by-latency: {kind: capacity, over: [answers], at_most: 2, replications: 8}
  by-use: {kind: capacity, over: [busy], at_most: 2, replications: 8}
  no-judge: {kind: capacity, over: [crash], lose: ["host:*"]}
"""


def mmc_tail(rate: float, t: float) -> float:
    """P(response > t) of M/M/c, first come first served (Erlang C)."""
    mu, c = 1 / SERVICE_S, SERVERS
    a = rate / mu
    terms = [a**n / math.factorial(n) for n in range(c)]
    last = a**c / math.factorial(c) * c / (c - a)
    wait = last / (sum(terms) + last)
    served, freed = math.exp(-mu * t), math.exp(-(c * mu - rate) * t)
    # own service, then with probability `wait` the time in the queue, which is exponential
    return served + wait * mu / (mu - (c * mu - rate)) * (freed - served)


def mmc_capacity(t: float, share: float) -> float:
    """The rate at which a share `share` of responses takes longer than t."""
    low, high = 1.0, SERVERS / SERVICE_S - 1e-6
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mmc_tail(middle, t) < share else (low, middle)
    return low


@pytest.fixture(scope="module")
def queue(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("queue") / "scenarios.yaml"
    path.write_text(QUEUE.replace("STACK", str(models / "mmc")))
    return path


def test_the_formula_is_the_models_own() -> None:
    assert mmc_tail(240, 0.084555) == pytest.approx(0.01, rel=1e-3)  # models/mmc/README.md


def test_the_largest_load_is_where_the_formula_puts_it(queue: Path) -> None:
    result = review(open_project(queue), "by-latency", jobs=1)
    [found] = result.boundaries
    truth = mmc_capacity(0.060, 0.01)
    assert found.users <= truth * 1.02, f"{found.users} passes, but {truth} is all it can carry"
    assert found.fails_at >= truth / 1.02
    assert found.fails_at / found.users < 1.15
    assert found.first_broken is not None
    assert found.first_broken.metric == "http_req_duration"
    assert found.first_broken.cause.startswith("queue-1 uses ")
    assert result.verdict == "pass"
    assert result.asked == 150
    assert result.sizes[0].note == "taken as given: no compose file, so no limit to set"


def test_a_budget_on_utilisation_ends_where_the_utilisation_law_says(queue: Path) -> None:
    found = review(open_project(queue), "by-use", jobs=1).boundaries[0]
    # rate = 0.7 x 3 / 10 ms; 90 % of runs must keep it in a minute that varies by sqrt(2 / jobs)
    at = 0.7 * SERVERS / SERVICE_S
    truth = at / (1 + 1.2816 * math.sqrt(2 / (at * 60)))
    assert found.users <= truth * 1.02
    assert found.fails_at >= truth / 1.02
    assert found.first_broken is not None
    assert found.first_broken.limit == pytest.approx(0.7)


def test_what_cannot_be_judged_is_refused(queue: Path) -> None:
    with pytest.raises(InputError, match="nothing to judge"):
        review(open_project(queue), "no-judge")
    with pytest.raises(InputError, match="no scenario 'by-luck' of kind capacity"):
        review(open_project(queue), "by-luck")
    wrong = queue.with_name("wrong.yaml")
    wrong.write_text(queue.read_text().replace("host:*", "host:b"))
    [error] = check(wrong).errors
    assert error.message == "host 'b' is not defined"


# ---- sizing --------------------------------------------------------------------------------------
COMPOSE = """\
services:
  web:
    image: example/web:1
    cpus: 4.0
    mem_limit: 1g
    ports: ["10.0.0.1:80:80"]
"""
PROFILE = """\
web:
  workers: 4
  mode: async
  boot: 1s
  ops:
    page: {path: /, cpu: 10ms}
  health: {/health: {needs: []}}
  memory: {base: 172MiB, per_worker: 25MiB}
  source: {assume: test}
"""
PLACES = """\
hosts:
  a: {cores: 8, memory: 4GiB, source: test}
place: {a: [docker-compose.yml]}
entry: {users: {via: address 10.0.0.1}}
"""
PAGES = """\
version: 1
stack: .
seed: 3
scenarios:
  pages:
    load: {executor: constant-vus, vus: 100, duration: 10m, think_time: 990ms, mix: {page: 100%}}
    budgets:
      http_req_duration: ["p(99)<250ms"]
      "cpu_utilization{service:web}": ["max<80%"]
  size: {kind: capacity, over: [pages], at_most: 8, replications: 3, growth: 1200}
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name, text in (
        ("docker-compose.yml", COMPOSE),
        ("profile.yaml", PROFILE),
        ("stack.yaml", PLACES),
        ("scenarios.yaml", PAGES),
    ):
        (folder / name).write_text(text)
    return folder / "scenarios.yaml"


@pytest.fixture(scope="module")
def sized(pages: Path) -> CapacityResult:
    return review(open_project(pages), "size", jobs=1)


def test_cores_and_memory_by_the_utilisation_law_and_proved(sized: CapacityResult) -> None:
    [web] = sized.sizes
    # 100 users, one page of 10 ms each second: one core, which may be 80 % of the limit
    assert web.use_cores == pytest.approx(1.0, rel=0.02)
    assert web.needed is not None
    assert 1.25 <= web.needed.cores <= 1.35
    assert web.use_memory_bytes == 272 << 20
    assert web.needed.memory_bytes == 320 << 20
    assert (web.recommended.cores, web.recommended.memory_bytes) == (2.0, 512 << 20)
    assert web.judgement == "over-provisioned"
    assert sized.sizings[0].met
    assert sized.sizings[0].recommended_met


def test_what_the_host_cannot_hold_is_sized_by_the_law_alone(sized: CapacityResult) -> None:
    grown = sized.sizings[1]
    [web] = grown.sizes
    # 1,200 users are 12 cores, of which 80 % of the limit; the host has 8, the workers use 4
    assert not grown.met
    assert grown.broken is not None
    assert web.needed is not None
    assert web.needed.cores == pytest.approx(12 / 0.8, rel=0.03)
    assert web.judgement == "under-provisioned"
    assert web.note == "4 workers use 4 cores at most: more workers or instances are needed"
    assert grown.missing[0].startswith("a is to hold ")


def test_files_are_sized_as_they_are(pages: Path) -> None:
    study = pages.with_name("study.yaml")
    text = pages.read_text().replace("    load:", "    set: {compose.web.cpus: 2}\n    load:")
    study.write_text(text)
    with pytest.raises(InputError, match="has `set:`: files are sized as they are"):
        review(open_project(study), "size")


def test_users_up_to_the_cpu_limit(sized: CapacityResult) -> None:
    [found] = sized.boundaries
    assert found.users <= 0.8 * 4 / 0.010 * 1.02 < found.fails_at * 1.04  # 320 pages a second
    assert found.users >= 300
    assert found.first_broken is not None
    assert (found.first_broken.file, found.first_broken.line) == ("docker-compose.yml", 4)


def test_json_text_markdown_and_figure_say_the_same(sized: CapacityResult) -> None:
    made = json.loads(capacity_report.json(sized))
    assert made["schema"] == 1
    assert made["boundaries"][0]["lost"] is None
    assert made["boundaries"][0]["users"] == sized.largest[""]
    assert made["sizings"][0]["totals"]["needed"]["memory_bytes"] == 320 << 20
    text, page = capacity_report.text(sized), capacity_report.markdown(sized)
    for word in (f"{sized.largest['']:g}", "over-provisioned", "320 MiB", "docker-compose.yml:4:"):
        assert word in text
        assert word in page
    assert capacity_report.png(sized) == capacity_report.png(sized)
    assert capacity_report.png(sized).startswith(b"\x89PNG")


# ---- the same bytes ------------------------------------------------------------------------------
NAMES = ("capacity.json", "capacity.md", "capacity.txt", "capacity.png")


def command(pages: Path, out: Path, *more: str) -> list[str]:
    start = [sys.executable, "-m", "hasim", "capacity", str(pages), "size", "--quiet"]
    return [*start, "--out", str(out), *more]


def test_other_folders_are_left_alone(sized: CapacityResult, tmp_path: Path) -> None:
    check_out(tmp_path / "new")
    save(sized, tmp_path)
    check_out(tmp_path)  # its own
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="left alone"):
        check_out(tmp_path)


def test_killed_and_resumed_with_more_jobs_gives_the_same_bytes(
    pages: Path, sized: CapacityResult, tmp_path: Path, root: Path
) -> None:
    save(sized, tmp_path / "alone")
    out = tmp_path / "killed"
    journal = out / "journal.jsonl"
    begun = subprocess.Popen(command(pages, out, "--jobs", "2"), cwd=root)
    while begun.poll() is None and (not journal.is_file() or journal.read_bytes().count(b"\n") < 6):
        time.sleep(0.01)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    assert not (out / "capacity.json").exists()
    kept = journal.read_bytes().count(b"\n")
    assert kept >= 6
    done = subprocess.run(command(pages, out, "--jobs", "2"), cwd=root, capture_output=True)
    assert done.returncode == 0
    for name in NAMES:
        assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    keys = [(key, fields["replication"]) for key, fields in lines]
    assert len(keys) == len(set(keys)) > kept, "nothing is simulated twice"
    assert done.stdout.decode() == (out / "capacity.txt").read_text()


# ---- loads ---------------------------------------------------------------------------------------
def test_a_load_at_another_level() -> None:
    flow = (FlowStep((("web/page", 1.0),)),)
    ramp = Load("ramp", "ramping-vus", ((300.0, 500.0), (600.0, 500.0), (120.0, 0.0)), flow=flow)
    scenario = Scenario("guide", "", ramp)
    short = at_level(scenario, 250.0)
    assert short.load.stages == ((10.0, 250.0), (110.0, 250.0))
    lost = at_level(scenario, 250.0, "host-a")
    assert lost.load.stages == ((180.0, 0.0), (10.0, 250.0), (110.0, 250.0))
    assert [(f.do, f.target, f.lasts) for f in lost.faults] == [("power-off", "host:host-a", None)]
    rate = Load("rate", "constant-arrival-rate", ((60.0, 10.0),), 10.0, max_vus=100, flow=flow)
    faster = at_level(Scenario("open", "", rate), 25.0)
    assert faster.load.executor == "ramping-arrival-rate"
    assert faster.load.max_vus == 250


# ---- the Story Portal ----------------------------------------------------------------------------
PORTAL = """
  portal:
    kind: capacity
    over: [steady-500-users]
    lose: ["host:host-b"]
    users: 500
    growth: 2000
    replications: 3
"""


@pytest.mark.slow
def test_the_portal_carries_two_thirds_without_a_host(root: Path, tmp_path: Path) -> None:
    text = (root / "scenarios.yaml").read_text().replace("stack: models", f"stack: {root}/models")
    path = tmp_path / "scenarios.yaml"
    path.write_text(text + PORTAL)
    result = review(open_project(path), "portal", jobs=1)
    assert result.verdict == "pass"
    whole = result.largest[""]
    assert result.largest["host-b"] == pytest.approx(whole * 2 / 3, rel=0.06)  # one gateway of 3
    assert result.first_broken is not None
    assert result.first_broken.metric == "cpu_utilization{service:l09-api-gateway}"
    assert result.first_broken.file == "docker-compose.app.yml"
    sizes = {s.service: s for s in result.sizes}
    assert sizes["l09-api-gateway"].needed is not None
    assert sizes["l09-api-gateway"].needed.instances <= 3
    assert sizes["patroni"].judgement == "over-provisioned"
    assert result.sizings[0].met
    assert not result.sizings[1].met
    assert result.sizings[1].missing
