"""What differs between two states of files, as a unified diff without secrets."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from hasim.report import redact
from hasim.units import counted

NOTHING = "/dev/null"


@dataclass(frozen=True, slots=True)
class Changes:
    """text: a unified diff, as `patch -p1` reads it. files: (path, lines added, lines removed)."""

    text: str
    files: tuple[tuple[str, int, int], ...]

    @property
    def stat(self) -> str:
        """One line per file and a sum, as `git diff --stat` words it."""
        if not self.files:
            return "no file changes"
        width = max(len(path) for path, _, _ in self.files)
        lines = [f" {path:<{width}}  +{plus} -{minus}" for path, plus, minus in self.files]
        plus, minus = sum(f[1] for f in self.files), sum(f[2] for f in self.files)
        lines.append(f" {counted(len(self.files), 'file')} changed, +{plus} -{minus}")
        return "\n".join(lines)


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
    """The diff of two maps {path: text}."""
    known = secrets_of(before, after)
    out: list[str] = []
    files = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        lines = unified(path, old, new)
        body = [_hidden(line, known) for line in lines[2:]]
        out += [*lines[:2], *body]
        plus, minus = (sum(ln.startswith(sign) for ln in body) for sign in "+-")
        files.append((path, plus, minus))
    return Changes("".join(out), tuple(files))


def unified(path: str, old: str | None, new: str | None, around: int = 3) -> list[str]:
    """The diff of one file, lines with their ends; None: there is no such file on that side."""
    names = (NOTHING if old is None else f"a/{path}", NOTHING if new is None else f"b/{path}")
    out = []
    for line in difflib.unified_diff(_lines(old or ""), _lines(new or ""), *names, n=around):
        whole = line.endswith("\n")
        out += [line] if whole else [f"{line}\n", "\\ No newline at end of file\n"]
    return out


def secrets_of(*texts: Mapping[str, str]) -> frozenset[str]:
    """Values that may stand in nothing but the user's own files; each line of a block, too."""
    found = {s for files in texts for s in redact.redact_all(files)[1]}
    lines = {line.strip() for s in found if "\n" in s for line in s.split("\n")}
    return frozenset(found | {line for line in lines if len(line) > 4})


def _hidden(line: str, known: frozenset[str]) -> str:
    """A line of a hunk without secrets."""
    if line.startswith(("@@", "\\")):
        return line
    return f"{line[:1]}{redact.redact(line[1:-1], known)}\n"


def _lines(text: str) -> list[str]:
    """Lines with their ends, split at newlines only."""
    parts = text.split("\n")
    return [f"{p}\n" for p in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
