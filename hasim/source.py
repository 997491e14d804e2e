"""Where a value came from, and how to change it without touching any other byte."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of one file. line and col count from 1; start and end are character offsets.

    start == end == -1 marks a place that cannot be patched (a line computed from several).
    """

    file: str
    line: int
    col: int
    start: int = -1
    end: int = -1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.col}"

    def to(self, last: Span) -> Span:
        """From the begin of this one to the end of `last`, on the same line."""
        return Span(self.file, self.line, self.col, self.start, last.end)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a file: its meaning (unquoted, variables replaced) and its place."""

    text: str
    span: Span

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Default:
    """A value in force because no file sets it; `source` cites the daemon's documentation."""

    source: str

    def __str__(self) -> str:
        return f"default ({self.source})"


Origin = Span | Default


@dataclass(frozen=True, slots=True)
class Patch:
    """Replace the characters [span.start, span.end) of span.file by text."""

    span: Span
    text: str


def apply_patches(text: str, patches: Iterable[Patch]) -> str:
    """Apply patches of one file; every other character stays.

    Raises ValueError if two patches overlap or one cannot be applied.

    >>> apply_patches("inter 2000", [Patch(Span("f", 1, 7, 6, 10), "500")])
    'inter 500'
    """
    out, at = [], 0
    for patch in sorted(patches, key=lambda p: (p.span.start, p.span.end)):
        if patch.span.start < at or patch.span.end > len(text):
            raise ValueError(f"cannot patch {patch.span}")
        out += [text[at : patch.span.start], patch.text]
        at = patch.span.end
    return "".join([*out, text[at:]])


class Text:
    """The text of one file with offsets turned into spans."""

    def __init__(self, file: str, text: str):
        self.file, self.text = file, text
        self._starts = [0]
        for i, ch in enumerate(text):
            if ch == "\n":
                self._starts.append(i + 1)

    def span(self, start: int, end: int) -> Span:
        """The span of the characters [start, end)."""
        from bisect import bisect_right

        line = bisect_right(self._starts, start)
        return Span(self.file, line, start - self._starts[line - 1] + 1, start, end)
