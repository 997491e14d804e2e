"""The stacks in models/: what loads, what the daemons accept, what boots and what does not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hasim.bind import load_scenarios
from hasim.boot import REFUSALS
from hasim.scenario import FlowStep, Load, Scenario
from hasim.sim.run import replicate
from hasim.stack import load, load_lenient

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "models"
HAPROXY = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
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


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
@pytest.mark.parametrize("name", ["three-servers", "story-portal", "closed-network"])
def test_haproxy_itself_accepts_the_configuration(name):
    command = [HAPROXY, "-c", "-f", str(MODELS / name / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_of_the_printed_guide_does_not_come_up_and_why():
    guide = load(MODELS / "story-portal-guide")
    found = {(f.instance, f.audit_id, f.span.file, f.span.line) for f in guide.boot_failures}
    ha, app = "docker-compose.ha.yml", "docker-compose.app.yml"
    top_level = {("host:host-a", "DC-4", ha, n) for n in (73, 96, 110, 120, 130, 140, 150, 160)}
    rejected = {(i.name, "DC-4", ha, 73) for i in guide.instances}
    ports = {
        ("l09-api-gateway-2", "DC-1", app, 12),
        ("l09-api-gateway-3", "DC-1", app, 12),
        ("platform-ui-2", "DC-1", app, 19),
        ("l01-data-layer-2", "DC-1", app, 28),
        ("agentic-haproxy", "DC-1", ha, 9),
    }
    names = {("agentic-haproxy", "LB-7", "haproxy.cfg", n) for n in (29, 30, 37)}
    assert found == top_level | rejected | ports | names


def test_a_run_on_the_printed_guide_is_void():
    guide = load(MODELS / "story-portal-guide")
    op = next(name for name in guide.op_entries if name.startswith("l09"))
    load_ = Load("l", "constant-vus", ((10.0, 5.0),), 5.0, flow=(FlowStep(((op, 1.0),)),))
    trace = replicate(guide, Scenario("s", "", load_), 1, 0)
    assert trace.void.startswith("did not boot")
    assert trace.hist.sum() == 0


@pytest.mark.parametrize("name", ["story-portal", "story-portal-guide-bootable", "three-servers"])
def test_the_other_stacks_boot_whole(name):
    assert load(MODELS / name).boot_failures == ()
