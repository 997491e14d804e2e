"""One sentence of an explanation, and the place in the files that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hasim.sim.trace import Mark
from hasim.source import Default, Origin, Span


@dataclass(frozen=True, slots=True)
class Cause:
    """seconds: how long it lasted or made each request wait; requests: how many it hit (0: n/a)."""

    text: str
    span: Span | None = None
    seconds: float = 0.0
    requests: int = 0


def place(
    where: Mapping[str, Origin], *names: str, fallback: Span | None = None
) -> tuple[Span | None, str]:
    """Where a setting was written: (span, ""), or for a default (fallback, " (default, ...)").

    The first of the names that is known counts.
    """
    for name in names:
        origin = where.get(name)
        if isinstance(origin, Span):
            return origin, ""
        if isinstance(origin, Default):
            return fallback, f" (default, {origin.source})"
    return fallback, ""


def of_mark(mark: Mark) -> Span | None:
    """The place in the files that a row of the timeline names."""
    return Span(mark.file, mark.line, mark.col) if mark.file else None
