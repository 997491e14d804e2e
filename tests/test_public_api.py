"""What `import hasim` shows is what it documents, whatever has been imported before."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hasim


def test_all_is_what_is_visible() -> None:
    assert sorted(hasim.__all__) == sorted(dir(hasim))
    assert all(getattr(hasim, name) is not None for name in hasim.__all__)
    assert sorted({*hasim._HOME, "__version__"}) == sorted(hasim.__all__)
    with pytest.raises(AttributeError, match="no attribute 'simulates'"):
        hasim.simulates  # noqa: B018


@pytest.mark.parametrize("name", [n for n in hasim.__all__ if n != "__version__"])
def test_every_name_is_documented_and_at_home(name: str) -> None:
    found = getattr(hasim, name)
    assert found.__doc__
    assert getattr(importlib.import_module(hasim._HOME[name]), name) is found


def test_a_module_never_takes_the_place_of_a_function(root: Path) -> None:
    """`compare` and `export` are modules too; importing those first must not hide the functions."""
    text = (
        "import importlib, pkgutil, hasim\n"
        "modules = [m.name for m in pkgutil.iter_modules(hasim.__path__)]\n"
        "modules = [name for name in modules if name in hasim._HOME]\n"
        "for name in modules: importlib.import_module('hasim.' + name)\n"
        "print(all(callable(getattr(hasim, name)) for name in modules))"
    )
    done = subprocess.run([sys.executable, "-c", text], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_names_of_the_page_are_all_names(root: Path) -> None:
    page = (root / "docs/api.md").read_text(encoding="utf-8")
    assert [n for n in hasim.__all__ if n != "__version__" and f"ha.{n}" not in page] == []
