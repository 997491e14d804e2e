"""A new kind of software is one more file in hasim/components, and nothing else."""

from __future__ import annotations

from pathlib import Path

import hasim.components
from hasim.components.base import Component, components
from hasim.model import Stack

EMPTY = Stack("", "empty", "", (), (), (), (), (), (), (), {})

SOURCE = """
from hasim.components.base import Component

class PgBouncer(Component):
    "A pooler."
    kind = "pgbouncer"

COMPONENT = PgBouncer()
"""


def test_a_new_file_is_found(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "pgbouncer_of_a_test.py").write_text(SOURCE, encoding="utf-8")
    before = set(components())
    monkeypatch.setattr(hasim.components, "__path__", [*hasim.components.__path__, str(tmp_path)])
    components.cache_clear()
    try:
        assert set(components()) - before == {"pgbouncer"}
        assert list(components()) == sorted(components())
    finally:
        components.cache_clear()


def test_every_kind_says_what_it_is_and_reads() -> None:
    for kind, component in components().items():
        assert isinstance(component, Component)
        assert component.kind == kind
        assert type(component).__doc__
        assert component.reads
        assert list(component.knobs(EMPTY)) == list(component.lint(EMPTY)) == []


def test_a_kind_adds_its_knobs_and_findings_to_the_stack(monkeypatch) -> None:
    from pathlib import Path

    from hasim.errors import Finding
    from hasim.model import Knob
    from hasim.source import Default
    from hasim.stack import load

    knob = Knob("service.web.workers", "1", "scenario", Default("test"), "restart")
    finding = Finding("warning", "HA999", "one worker is not much")
    service = components()["service"]
    monkeypatch.setattr(type(service), "knobs", lambda self, stack: [knob])
    monkeypatch.setattr(type(service), "lint", lambda self, stack: [finding])
    stack = load(Path(__file__).parents[2] / "models" / "three-servers")
    assert knob in stack.knobs
    assert finding in stack.findings
