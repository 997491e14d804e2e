"""CHANGES.diff: what differs between the files as deployed now and as they shall be; no secrets."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from hasim.report import redact

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
        n = len(self.files)
        lines.append(f" {n} file{'s' if n > 1 else ''} changed, +{plus} -{minus}")
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
        names = (NOTHING if old is None else f"a/{path}", NOTHING if new is None else f"b/{path}")
        lines = list(difflib.unified_diff(_lines(old or ""), _lines(new or ""), *names))
        head, body = lines[:2], [_hidden(line, known) for line in lines[2:]]
        out += [*head, *body]
        plus, minus = (sum(ln.startswith(sign) for ln in body) for sign in "+-")
        files.append((path, plus, minus))
    return Changes("".join(out), tuple(files))


def secrets_of(*texts: Mapping[str, str]) -> frozenset[str]:
    """Values that may stand in nothing but the user's own files; each line of a block, too."""
    found = {s for files in texts for s in redact.redact_all(files)[1]}
    lines = {line.strip() for s in found if "\n" in s for line in s.split("\n")}
    return frozenset(found | {line for line in lines if len(line) > 4})


def _hidden(line: str, known: frozenset[str]) -> str:
    """A line of a hunk without secrets; one without a newline says so, as diff does."""
    whole = line.endswith("\n")
    body = line[:-1] if whole else line
    if not body.startswith("@@"):
        body = body[:1] + redact.redact(body[1:], known)
    return f"{body}\n" if whole else f"{body}\n\\ No newline at end of file\n"


def _lines(text: str) -> list[str]:
    """Lines with their ends, split at newlines only."""
    parts = text.split("\n")
    return [f"{p}\n" for p in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
