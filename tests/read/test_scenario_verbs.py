"""The words of the verbs on links, disks, clocks and roles."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasim.read.scenarios import read_scenarios

TEXT = """\
version: 1
stack: .
loads:
  steady: {{executor: constant-vus, vus: 5, duration: 1m, mix: {{get: 100%}}}}
scenarios:
  one:
    load: steady
    faults:
      - {{at: 10s, {fault}}}
    budgets: {{http_req_failed: ["rate<1%"]}}
"""
LINK = 'between: ["host:a", "host:b"]'


def read(folder: Path, fault: str):
    (folder / "stack.yaml").write_text(
        "hosts: {a: {cores: 1, memory: 1GiB}, b: {cores: 1, memory: 1GiB}}\n"
    )
    file = folder / "scenarios.yaml"
    file.write_text(TEXT.format(fault=fault))
    made, found = read_scenarios(file, folder)
    return made, [f.message for f in found if f.severity == "error"]


@pytest.mark.parametrize(
    ("fault", "args"),
    [
        (f"do: loss, {LINK}, fraction: 5%, for: 10s", {"fraction": "0.05"}),
        (f"do: loss, {LINK}, fraction: 0.25, direction: forward", {"fraction": "0.25"}),
        (f"do: bandwidth, {LINK}, rate: 10Mbit", {"rate": "1250000.0"}),
        ("do: disk-full, target: 'postgres:primary', for: 30s", {}),
        ("do: disk-slow, target: pg-1, factor: 10x", {"factor": "10.0"}),
        ("do: clock-jump, target: 'host:a', by: +30s", {"by": "30.0"}),
        ("do: clock-jump, target: sentinel-1, by: -5s", {"by": "-5.0"}),
        ("do: switchover, target: 'patroni:leader'", {}),
        ("do: blackhole, target: 'host:a', link: down", {"link": "down"}),
        ("do: power-off, target: 'redis:master', for: 20s", {}),
        ("do: crash, target: 'vip:10.0.0.10'", {}),
        ('do: partition, between: ["redis:master", "host:*"]', {}),
        ("do: kill-process, target: pg-1, process: postgres", {"process": "postgres"}),
    ],
)
def test_a_good_fault(tmp_path: Path, fault: str, args: dict[str, str]) -> None:
    made, found = read(tmp_path, fault)
    assert found == []
    (one,) = made.scenarios[0].faults
    assert dict(one.args) == args


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (f"do: loss, {LINK}", "'loss' needs fraction"),
        (f"do: loss, {LINK}, fraction: 100%", "a share of the packets is needed here"),
        (f"do: bandwidth, {LINK}, rate: 10MB", "a rate is needed here: 10Mbit"),
        ("do: loss, target: a, fraction: 5%", "'loss' takes between: [a, b], no target"),
        ('do: partition, between: ["redis-1", "host:b"]', "between anything but hosts"),
        ("do: disk-slow, target: pg-1", "'disk-slow' needs factor"),
        ("do: clock-jump, target: pg-1, by: 0s", "a duration above zero"),
        ("do: clock-jump, target: pg-1, by: 1s, for: 3s", "it takes no 'for'"),
        ("do: switchover, target: pg-1", "only Patroni hands over in good order"),
        ("do: blackhole, target: web-1, link: down", "a link belongs to a host"),
        ("do: power-off, target: web-1", "only a host can lose its power"),
    ],
)
def test_a_bad_fault(tmp_path: Path, fault: str, message: str) -> None:
    made, found = read(tmp_path, fault)
    assert made is None
    assert any(message in text for text in found), found
