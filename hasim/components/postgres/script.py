"""A container's own start script, read as far as it concerns PostgreSQL. Nothing is executed.

`bash -c "..."`, a mounted script, init scripts: statements are split as a shell splits them, so
that quotes vanish where a shell lets them vanish (audit PG-6).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hasim.source import Span

_KEYWORDS = {"then", "else", "do", "{", "(", "exec", "time", "!", "if", "while", "until", "elif"}
_ASSIGN = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_SHELLS = ("bash", "sh", "ash", "dash")
# Programs that run another one as somebody else. Source: their manuals.
_DROPS = ("gosu", "su-exec", "runuser", "su", "setpriv", "sudo", "chroot")


@dataclass(frozen=True, slots=True)
class Statement:
    """One simple command. words: quotes removed. writes: the file of a `>` or `>>`."""

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    writes: str = ""
    dropped: bool = False
    span: Span | None = None

    @property
    def name(self) -> str:
        """The program, without its folder."""
        return self.words[0].rpartition("/")[2] if self.words else ""

    def option(self, *names: str) -> str | None:
        """The value of an option (`-h x`, `-hx`, `--host=x`, `--host x`); "" for a bare flag."""
        for i, word in enumerate(self.words[1:], 1):
            for name in names:
                after = self.words[i + 1] if i + 1 < len(self.words) else ""
                if word == name:
                    return after
                if name.startswith("--") and word.startswith(name + "="):
                    return word[len(name) + 1 :]
                if len(name) == 2 and word.startswith(name) and word[:2] != "--":
                    return word[2:]
        return None

    def flag(self, letter: str, name: str) -> bool:
        """Is a flag without a value given (`-W`, `-vPW`, `--password`)?"""
        return any(
            word == name or (re.fullmatch(r"-[A-Za-z]+", word) and letter in word[1:])
            for word in self.words[1:]
        )


@dataclass(frozen=True, slots=True)
class Script:
    """The statements of a script. strict: `set -e` is in force. joined: by `&&` where it counts."""

    statements: tuple[Statement, ...]
    strict: bool = False
    joined: frozenset[int] = frozenset()  # numbers of statements that run only after success
    broken: str = ""

    def first(self, *names: str) -> tuple[int, Statement] | None:
        """The first statement that runs one of these programs."""
        for i, one in enumerate(self.statements):
            if one.name in names:
                return i, one
        return None


def shell_text(words: Iterable[str]) -> str | None:
    """The text behind `sh -c`; None for another command."""
    words = list(words)
    if not words or words[0].rpartition("/")[2] not in _SHELLS:
        return None
    for i, word in enumerate(words[1:], 1):
        if re.fullmatch(r"-[a-z]*c[a-z]*", word):
            return words[i + 1] if i + 1 < len(words) else ""
    return None


def script_file(words: Iterable[str]) -> str:
    """The script that a command runs (`bash /x.sh`, `/x.sh`), "" for a program."""
    words = list(words)
    if words and words[0].rpartition("/")[2] in _SHELLS:
        words = [w for w in words[1:] if not w.startswith("-")]
    return words[0] if words and words[0].endswith(".sh") else ""


def read(text: str, env: Mapping[str, str | None], place: Span | None, source: str = "") -> Script:
    """The statements of a script. source: the file's text, to find each statement's line in."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, "#"
    statements: list[Statement] = []
    joined: set[int] = set()
    words: list[str] = []
    strict = bool(re.search(r"^\s*set\s+-\w*e|set\s+-o\s+errexit|^#!.*sh\s+-\w*e", text, re.M))
    finder = _Finder(source, place)
    broken = ""
    try:
        for token in [*lexer, ";"]:
            if token.strip(";&|\n"):
                words.append(token)
                continue
            if words:
                statements.append(_statement(words, env, finder))
                words = []
            if "&&" in token:
                joined.add(len(statements))
    except ValueError as error:
        broken = str(error)
    return Script(tuple(s for s in statements if s.words), strict, frozenset(joined), broken)


class _Finder:
    """Finds the line of a statement in the file that holds the script."""

    def __init__(self, source: str, place: Span | None):
        self.source, self.place = source, place
        self.at = max(place.start, 0) if place is not None else 0

    def find(self, words: list[str]) -> Span | None:
        """A span that cannot be patched: the text in the file may be quoted or folded."""
        place = self.place
        if place is None or not self.source or not words:
            return place
        needle = next((w for w in words if len(w) > 3), words[0])
        found = self.source.find(needle.split("\n")[0][:40], self.at)
        if found < 0:
            return place
        start = self.source.rfind("\n", 0, found) + 1
        self.at = found
        indent = len(self.source[start:found]) - len(self.source[start:found].lstrip())
        return Span(place.file, self.source.count("\n", 0, found) + 1, indent + 1)


def _statement(words: list[str], env: Mapping[str, str | None], finder: _Finder) -> Statement:
    span = finder.find(words)
    words = [_expand(w, env) for w in words]
    while words and words[0] in _KEYWORDS:
        words = words[1:]
    own: dict[str, str] = {}
    while words and _ASSIGN.fullmatch(words[0]):
        name, _, value = words[0].partition("=")
        own[name] = value
        words = words[1:]
    words, writes = _redirection(words)
    dropped = bool(words) and words[0].rpartition("/")[2] in _DROPS
    if dropped:
        words = _behind(words)
    return Statement(tuple(words), own, writes, dropped, span)


def _behind(words: list[str]) -> list[str]:
    """The command behind gosu and its like."""
    for i, word in enumerate(words[1:], 1):
        if word in ("-c", "--command") and i + 1 < len(words):
            return shlex.split(words[i + 1]) if "'" not in words[i + 1] else words[i + 1].split()
    rest = [w for w in words[1:] if not w.startswith("-")]
    return rest[1:]


def _redirection(words: list[str]) -> tuple[list[str], str]:
    out, target, skip = [], "", False
    for word, after in zip(words, [*words, ""][1:], strict=True):
        if skip:
            skip = False
        elif match := re.fullmatch(r"[12&]?>{1,2}(.*)", word):
            skip = not match[1]
            if word[0] != "2":
                target = match[1] or after
        else:
            out.append(word)
    return out, target


def _expand(word: str, env: Mapping[str, str | None]) -> str:
    """$NAME and ${NAME...} of the container's environment; what is unknown stays."""

    def value(match: re.Match[str]) -> str:
        known = env.get(match[1] or match[2])
        return match[0] if known is None else known

    return re.sub(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)[^}]*\})", value, word)
