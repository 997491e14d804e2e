"""The tunable parameters of the stack's servers, by the daemon's own names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hasim.model import Knob, Stack


def knobs(stack: Stack | None) -> Iterable[Knob]:
    """postgres.<instance>.<parameter>."""
    return ()
