"""Fixtures that every test may use: where the project is and where real oracles are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def models(root: Path) -> Path:
    """The folder of example stacks; tests read it and never write there."""
    return root / "models"


@pytest.fixture(scope="session")
def haproxy() -> str:
    """The path of a real haproxy, the oracle of configuration tests; skips without one."""
    found = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if not found:
        pytest.skip("no haproxy on this machine")
    return found
