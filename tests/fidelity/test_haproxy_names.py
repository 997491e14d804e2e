"""Names under `resolvers`, measured on 2.6.12 with all defaults (reference/haproxy.md 6.1).

The stack is the bootable guide with a `resolvers` section that asks Docker's name server.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from haproxy_lab import SEED, said

from hasim.bind import load_scenarios
from hasim.sim.run import replicate

SECTION = """
resolvers docker
    nameserver dns1 127.0.0.11:53
"""
OPTIONS = " resolvers docker init-addr last,libc,none"


def run(models: Path, folder: Path, fault: str, seconds: int, replication: int = 0):
    """The guide's three gateways, their names resolved at run time."""
    shutil.copytree(models / "story-portal-guide-bootable", folder)
    lines = (folder / "haproxy.cfg").read_text().splitlines()
    named = [s + OPTIONS if s.strip().startswith("server l09") else s for s in lines]
    (folder / "haproxy.cfg").write_text("\n".join(named) + "\n" + SECTION)
    (folder / "scenarios.yaml").write_text(
        "version: 1\nstack: .\nloads:\n  load: {executor: constant-arrival-rate, rate: 20,"
        f" duration: {seconds}s, maxVUs: 2000, client: one-shot, mix: {{browse: 100%}}}}\n"
        f"scenarios:\n  names:\n    load: load\n    faults: [{fault}]\n"
    )
    file, stack = load_scenarios(folder / "scenarios.yaml")
    trace = replicate(stack, file.scenarios[0], SEED, replication)
    assert not trace.void
    return trace


def test_a_stopped_container_is_in_maintenance_after_30_s(models, tmp_path) -> None:
    """NXDOMAIN: `hold nx`. Checks have taken it out long before."""
    fault = "{at: 5s, do: stop, target: l09-api-gateway-1}"
    trace = run(models, tmp_path / "a", fault, 60)
    gone = said(trace, "container die l09-api-gateway-1")
    [maint] = said(trace, "enters maintenance (DNS NX status)")
    assert maint - gone[0] == pytest.approx(30.0, abs=1.1)


def test_a_silent_resolver_empties_every_backend_after_31_s(models, tmp_path) -> None:
    """Three healthy servers go into MAINT 31.2 s later, and nobody is served any more."""
    trace = run(models, tmp_path / "a", "{at: 5s, do: dns, mode: silent}", 60)
    times = said(trace, "going DOWN for maintenance (DNS timeout status)")
    assert len(times) == 3
    assert times == pytest.approx([36.2] * 3, abs=1.1)
    assert any(server == "<NOSRV>" for (server, _, _), _ in trace.terminations)


def test_a_name_that_resolves_again_is_up_without_a_check(models, tmp_path) -> None:
    """0.1 to 0.2 s after the answer is back, before a slow application listens."""
    fault = "{at: 5s, do: stop, target: l09-api-gateway-1, for: 50s}"
    trace = run(models, tmp_path / "a", fault, 80)
    repaired = trace.faults[0].repair_s
    [up] = said(trace, "is UP/READY (resolves again)")
    assert 0.1 <= up - repaired <= 0.25
    assert up < said(trace, "listening", repaired)[0]


def test_a_new_address_is_used_within_a_second(models, tmp_path) -> None:
    """0.96 s in the one measurement: the next question, one second apart."""
    found = []
    for number in range(5):
        fault = "{at: 5s, do: recreate, target: l09-api-gateway-1}"
        trace = run(models, tmp_path / str(number), fault, 40, number)
        [started] = said(trace, "container start l09-api-gateway-1", 5.0)
        changed = said(trace, "changed its IP", started)
        found.append(changed[0] - started)
    assert all(0.0 <= x <= 1.01 for x in found), found
    assert max(found) > 0.5
