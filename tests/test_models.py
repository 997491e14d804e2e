"""The stacks in models/: what loads, what boots and what does not, and what each is there to show.

test_models_real.py shows their files to the real daemons.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

import pytest

from hasim.bind import load_scenarios
from hasim.boot import REFUSALS
from hasim.metrics import View, aggregate, sample
from hasim.scenario import FlowStep, Load, Scenario
from hasim.sim.run import replicate
from hasim.stack import load, load_lenient

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "models"
SCENARIOS = [ROOT / "scenarios.yaml", *sorted(MODELS.glob("*/scenarios.yaml"))]


@pytest.mark.parametrize("folder", sorted(MODELS.iterdir()), ids=lambda p: p.name)
def test_every_model_loads(folder):
    stack, findings = load_lenient(folder)
    assert stack is not None
    assert not [f for f in findings if f.severity == "error" and f.code not in REFUSALS]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda p: p.parent.name)
def test_every_scenario_file_binds_to_its_stack(path):
    file, _ = load_scenarios(path)
    assert file.scenarios


def test_what_of_the_printed_guide_does_not_come_up_and_why():
    guide = load(MODELS / "story-portal-guide")
    found = {(f.instance, f.audit_id, f.span.file, f.span.line) for f in guide.boot_failures}
    ha, app = "docker-compose.ha.yml", "docker-compose.app.yml"
    top_level = {("host:host-a", "DC-4", ha, n) for n in (73, 96, 110, 120, 130, 140, 150, 160)}
    rejected = {(i.name, "DC-4", ha, 73) for i in guide.instances if i.compose_service}
    ports = {
        ("l09-api-gateway-2", "DC-1", app, 12),
        ("l09-api-gateway-3", "DC-1", app, 12),
        ("platform-ui-2", "DC-1", app, 19),
        ("l01-data-layer-2", "DC-1", app, 28),
        ("agentic-haproxy", "DC-1", ha, 9),
    }
    names = {("agentic-haproxy", "LB-7", "haproxy.cfg", n) for n in (29, 30, 37)}
    assert found == top_level | rejected | ports | names


def mended(folder: Path) -> Path:
    """The printed guide with its snippets under `services` (DC-4, DC-5) and no ports (DC-1)."""
    shutil.copytree(MODELS / "story-portal-guide", folder)
    ha, app = folder / "docker-compose.ha.yml", folder / "docker-compose.app.yml"
    lines = ha.read_text().splitlines()
    networks = lines.index("networks:")
    first = lines.index("postgres-replica:")
    snippets = [f"  {line}" if line else line for line in lines[first:]]
    volumes = sorted(set(re.findall(r"- (\w+_data):", "\n".join(snippets))))
    declared = ["volumes:", *(f"  {name}:" for name in volumes)]
    ha.write_text("\n".join([*lines[:networks], *snippets, *declared, *lines[networks:first]]))
    app.write_text(re.sub(r"\n    ports:\n      - .*", "", app.read_text()))
    return folder


def test_what_the_guides_daemons_refuse_once_compose_reads_the_file(tmp_path):
    stack, _ = load_lenient(mended(tmp_path / "guide"))
    found = {(f.instance, f.audit_id, f.span.file) for f in stack.boot_failures}
    ha = "docker-compose.ha.yml"
    replica, patroni = "agentic-postgres-replica", "agentic-patroni"
    assert found == {
        *((replica, audit, ha) for audit in ("PG-3", "PG-5", "PG-6")),
        *((patroni, audit, ha) for audit in ("PG-12", "PG-13", "PG-14")),
        *((f"agentic-sentinel-{n}", "RD-1", "redis-sentinel.conf") for n in (1, 2, 3)),
    }


def test_a_run_on_the_printed_guide_is_void():
    guide = load(MODELS / "story-portal-guide")
    op = next(name for name in guide.op_entries if name.startswith("l09"))
    load_ = Load("l", "constant-vus", ((10.0, 5.0),), 5.0, flow=(FlowStep(((op, 1.0),)),))
    trace = replicate(guide, Scenario("s", "", load_), 1, 0)
    assert trace.void.startswith("did not boot")
    assert trace.hist.sum() == 0


@pytest.mark.parametrize(
    "folder",
    [p for p in sorted(MODELS.iterdir()) if p.name != "story-portal-guide"],
    ids=lambda p: p.name,
)
def test_the_other_stacks_boot_whole(folder):
    assert load(folder).boot_failures == ()


def test_the_repaired_stack_loses_no_tier_with_a_host():
    stack = load(MODELS / "story-portal")
    for group, members in stack.groups.items():
        hosts = {stack.instance(name).host for name in members}
        assert len(hosts) == len(members) >= 2, group
    kinds = {i.kind for i in stack.instances}
    assert kinds >= {"haproxy", "keepalived", "patroni", "postgres", "etcd", "redis", "sentinel"}
    assert not [f for f in stack.findings if f.severity == "error"]


@cache
def view(folder: str, name: str) -> View:
    """One replication of a scenario of a model."""
    file, stack = load_scenarios(MODELS / folder / "scenarios.yaml")
    scenario = next(s for s in file.scenarios if s.name == name)
    trace = replicate(stack, scenario, file.seed, 0)
    assert not trace.void
    return View(trace, scenario, stack)


def test_three_checks_and_two_faults_give_the_nine_numbers_of_the_table():
    text = (MODELS / "health-checks/README.md").read_text()
    rows = re.findall(r"^\| (?:one instance|Redis).*?\|(.*)\|$", text, flags=re.M)
    shown = [[float(cell) for cell in row.split("|")] for row in rows]
    faults = (("instance-local-database-loss", "page"),) + tuple(
        ("shared-redis-blip", op) for op in ("page", "plain")
    )
    found = [
        [
            100 * aggregate(sample(view("health-checks", fault), "http_req_failed", tags), "rate")
            for check in ("live", "ready", "shallow")
            for tags in [{"op": f"{check}-{op}", "window": "fault"}]
        ]
        for fault, op in faults
    ]
    assert [len(row) for row in shown] == [3, 3, 3]
    for mine, theirs in zip(found, shown, strict=True):
        assert mine == pytest.approx(theirs, abs=8), found  # one run; the table has the mean


def test_flapping_probes_leave_segments_for_the_repair():
    trace = view("health-checks", "instance-local-database-loss").trace
    assert 120.0 in list(trace.segment_start_s)


def test_of_the_guides_chaos_tests_one_passes():
    """`docker stop` of a gateway is survived; nothing promotes; a name that no container has."""
    folder = "story-portal-guide-bootable"

    def value(name: str, metric: str, of: str, **tags: str) -> float:
        return aggregate(sample(view(folder, name), metric, tags), of)

    assert value("chaos-gateway-stop", "http_req_failed", "rate", window="fault") < 0.1
    assert value("chaos-database-stop", "outage_duration", "max", path="publish") > 85
    assert value("chaos-database-stop", "failovers", "count") == 0
    assert value("chaos-redis-stop", "failovers", "count") == 0
    rows = [m for m in view(folder, "chaos-redis-stop").trace.timeline if m.component == "fault"]
    assert "No such container: redis-master" in rows[0].detail
    assert value("chaos-redis-stop", "http_req_failed", "rate") == 0


def test_the_lag_of_a_replica_grows_by_what_it_cannot_replay():
    v = view("replication-lag", "replication-lag")
    lag = sample(v, "replication_lag", {}).values
    written, replayed, burst_s = 160 * 2**20, 100e6, 200.0
    assert max(lag) == pytest.approx(burst_s * (written / replayed - 1), rel=0.03)
    assert aggregate(sample(v, "alert_fired", {"alert": "DatabaseReplicationLag"}), "count") == 1


def test_who_waits_for_an_acknowledgement_without_limit_waits_for_the_host():
    v = view("tcp-user-timeout", "postgres-primary-power-off")
    outage = {
        path: aggregate(sample(v, "outage_duration", {"path": path}), "max")
        for path in ("quick", "patient")
    }
    powered_off_s, boot_s = 120, 60
    assert outage["quick"] < 45
    assert powered_off_s + boot_s < outage["patient"] < powered_off_s + boot_s + 120
