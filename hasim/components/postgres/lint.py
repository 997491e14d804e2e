"""Findings about PostgreSQL that need no simulation (HA190 to HA194)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hasim.errors import Finding
    from hasim.model import Stack


def lint(stack: Stack | None) -> Iterable[Finding]:
    """Every warning of every server of the stack."""
    return ()
