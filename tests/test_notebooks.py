"""The notebooks run from start to end, and say what their committed outputs say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES = 300_000


@pytest.fixture(scope="module")
def execute() -> ModuleType:
    """notebooks/execute.py."""
    pytest.importorskip("ipykernel")
    path = ROOT / "notebooks/execute.py"
    spec = importlib.util.spec_from_file_location("execute", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_two() -> None:
    assert [n.stem for n in NOTEBOOKS] == ["capacity_review", "timeout_tuning"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_outputs_are_small_and_clean(execute: ModuleType, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert code[0].metadata["tags"] == ["parameters"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert sum("image/png" in o.get("data", {}) for c in code for o in c.outputs) >= 2
    assert nbformat.writes(execute.stripped(notebook)) + "\n" == text
    said = "\n".join(execute.texts(notebook))
    assert "Traceback" not in said
    assert str(ROOT) not in text


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_says_what_was_committed(execute: ModuleType, path: Path) -> None:
    committed = nbformat.read(path, as_version=4)
    assert execute.texts(execute.execute(path)) == execute.texts(committed)
