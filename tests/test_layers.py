"""The architecture is the import contract in pyproject.toml; this test runs it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest


def test_imports_keep_the_contract(root: Path) -> None:
    pytest.importorskip("importlinter")
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
        + ["--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_only_control_processes_import_simpy(root: Path) -> None:
    """simpy belongs to sim/ and to those modules of components that import the seam."""
    bad = []
    for file in sorted((root / "hasim").rglob("*.py")):
        names = imported(file)
        inside = "sim" in file.relative_to(root / "hasim").parts[:1]
        if "simpy" in names and not inside and "hasim.sim.world" not in names:
            bad.append(str(file.relative_to(root)))
    assert not bad


def imported(file: Path) -> set[str]:
    """Names of all modules that the file imports, anywhere in it."""
    out: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            out |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            out |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return out
