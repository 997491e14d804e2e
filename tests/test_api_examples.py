"""Every example of the public names, and of docs/api.md, is executed on real stacks."""

from __future__ import annotations

import doctest
import importlib
import re
import shutil
from pathlib import Path

import pytest

import hasim

MODULES = sorted({home for home in hasim._HOME.values() if home.startswith("hasim.api")})
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture
def here(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the models and the main scenario file; results may be written here."""
    shutil.copytree(root / "models", tmp_path / "models")
    shutil.copy(root / "scenarios.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examples() -> list[tuple[str, doctest.DocTest]]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = []
    for name in ["hasim", *MODULES]:
        module = importlib.import_module(name)
        tests = finder.find(module, name, extraglobs={"ha": hasim})
        found += [(t.name, t) for t in tests if t.examples]
    return found


@pytest.mark.parametrize(("name", "test"), examples(), ids=[n for n, _ in examples()])
def test_docstring(here: Path, name: str, test: doctest.DocTest) -> None:
    assert not any(e.options.get(doctest.SKIP) for e in test.examples), "skipped is not executed"
    told: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=told.append)
    assert not told, "".join(told)


def test_every_public_name_has_an_example() -> None:
    named = {name.rpartition(".")[2] for name, _ in examples()}
    mine = [n for n, home in hasim._HOME.items() if home.startswith("hasim.api")]
    assert [n for n in mine if n not in named] == []


def test_the_page_runs(here: Path, root: Path) -> None:
    """docs/api.md: its blocks, in their order, are one program."""
    page = (root / "docs/api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 3
    space: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), space)
