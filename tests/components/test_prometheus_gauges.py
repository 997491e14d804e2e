"""The table of what exporters show, against what the simulated daemons really show."""

from __future__ import annotations

from pathlib import Path

from hasim.components.prometheus.exporters import SHOWN
from hasim.project import open_project, scenario_file
from hasim.sim import arrays
from hasim.sim.engine import Engine
from hasim.sim.instances import Machine
from hasim.sim.programs import compile_stack
from hasim.sim.trace import SAMPLED_GAUGES
from hasim.sim.up import boot

ROOT = Path(__file__).resolve().parents[2]
# Registered for tests and for those that ask by hand; no exporter shows them under these names.
OWN = ("replication_lag", "pg_replication_lag", "pg_stat_replication_", "redis_is_master",
       "pg_replication_slots_retained_bytes")  # fmt: skip


def test_every_metric_of_the_table_is_shown_with_these_labels() -> None:
    project = open_project(ROOT / "scenarios.yaml")
    assert project.stack is not None
    scenario = scenario_file(project).scenarios[0]
    tables = compile_stack(project.stack)
    arrays.load_rows(tables, scenario)
    engine = Engine(tables, scenario, 1, 0)
    machine = Machine(engine)
    engine.run_until_event(boot(engine, machine))
    shown: dict[tuple[str, str], set[str]] = {}
    for (name, metric, labels), read in machine.gauges.items():
        kind = machine.containers[name].spec.kind
        shown.setdefault((kind, metric), {k for k, _ in labels})
        value = read()
        assert value is None or isinstance(value, float), (name, metric, value)
    for kind, metrics in SHOWN.items():
        for metric, labels in metrics.items():
            assert shown.get((kind, metric)) == set(labels), (kind, metric)
    unknown = {m for _, m in shown} - {m for of in SHOWN.values() for m in of}
    assert not [m for m in sorted(unknown) if not m.startswith(OWN)]
    assert set(SAMPLED_GAUGES) <= {m for _, m in shown}
