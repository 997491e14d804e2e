"""redis.conf and sentinel.conf as lines of words with their places; also the flags of a command.

`read` never raises: what the daemon could not split into words comes back as a Finding.
Rules: src/config.c (loadServerConfigFromString) and src/sds.c (sdssplitargs) of Redis 7.0: a line
is trimmed, empty ones and those that begin with # are left out, words stand between blanks, double
quotes know escapes, single quotes only \\'; a closing quote ends its word.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from hasim.errors import Finding
from hasim.source import Span, Word

_BLANK = " \t\r\n\v\f"
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}
_PROGRAMS = ("redis-server", "redis-sentinel")
_SHELLS = ("sh", "bash", "ash", "dash")
_ENDS = frozenset({"&&", "||", ";", "|", "&", "then", "do", "fi", "else"})


@dataclass(frozen=True, slots=True)
class Line:
    """A directive and its arguments."""

    words: tuple[Word, ...]

    @property
    def name(self) -> str:
        """The directive; case does not matter to Redis."""
        return self.words[0].text.lower()

    @property
    def args(self) -> tuple[str, ...]:
        """The texts after the directive."""
        return tuple(w.text for w in self.words[1:])

    @property
    def span(self) -> Span:
        """From the directive's first character to the end of its last argument."""
        return self.words[0].span.to(self.words[-1].span)


@dataclass(frozen=True, slots=True)
class Start:
    """How a container starts Redis: its program, the file it reads and its flags.

    copied: the file in front of a `cp` in the same shell line ("" without one); keeps: that copy
    is made only where the target does not exist yet, so that what Redis writes survives.
    """

    program: str = ""
    path: str = ""
    flags: tuple[Line, ...] = ()
    copied: str = ""
    keeps: bool = False
    sentinel: bool = False


class _Unbalanced(ValueError):
    def __init__(self, at: int):
        super().__init__("unbalanced quotes")
        self.at = at


def read(text: str, file: str) -> tuple[tuple[Line, ...], tuple[Finding, ...]]:
    """(directives, findings) of a file."""
    lines, found, start = [], [], 0
    for number, raw in enumerate(text.split("\n"), 1):
        if raw.strip(_BLANK) and raw.lstrip(_BLANK)[0] != "#":
            try:
                cut = _cut(raw)
            except _Unbalanced as error:
                span = Span(file, number, error.at + 1, start + error.at, start + len(raw))
                found.append(Finding("error", "HA180", "unbalanced quotes in a line", span))
            else:
                words = (
                    Word(word, Span(file, number, a + 1, start + a, start + b))
                    for word, a, b in cut
                )
                lines.append(Line(tuple(words)))
        start += len(raw) + 1
    return tuple(lines), tuple(found)


def _cut(raw: str) -> list[tuple[str, int, int]]:
    """(text, begin, end) of each word. _Unbalanced."""
    out: list[tuple[str, int, int]] = []
    at = 0
    while True:
        while at < len(raw) and raw[at] in _BLANK:
            at += 1
        if at == len(raw):
            return out
        text, end = _word(raw, at)
        out.append((text, at, end))
        at = end


def _word(raw: str, start: int) -> tuple[str, int]:
    out: list[str] = []
    quote, at = "", start
    while at < len(raw):
        ch = raw[at]
        if quote:
            if ch == "\\" and (quote == '"' or raw[at + 1 : at + 2] == "'"):
                text, at = _escape(raw, at)
                out.append(text)
                continue
            if ch == quote:
                if raw[at + 1 : at + 2] and raw[at + 1] not in _BLANK:
                    raise _Unbalanced(at)
                return "".join(out), at + 1
            out.append(ch)
        elif ch in _BLANK:
            break
        elif ch in "\"'":
            quote = ch
        else:
            out.append(ch)
        at += 1
    if quote:
        raise _Unbalanced(start)
    return "".join(out), at


def _escape(raw: str, at: int) -> tuple[str, int]:
    """A backslash inside of quotes: \\xHH, the five letters, else the character itself."""
    digits = raw[at + 2 : at + 4]
    if raw[at + 1 : at + 2] == "x" and len(digits) == 2:
        try:
            return chr(int(digits, 16)), at + 4
        except ValueError:
            pass
    ch = raw[at + 1 : at + 2]
    return _ESCAPES.get(ch, ch), at + 2


def started(words: Sequence[str], span: Span, written: str = "") -> Start | None:
    """What a container's entrypoint and command start, if it is Redis; None if it is not.

    written: the text behind `span` as it stands in the file, if the words come from one string.
    """
    words = list(words)
    copied, keeps = "", False
    if len(words) >= 3 and _base(words[0]) in _SHELLS and "c" in words[1]:
        try:
            words = shlex.split(words[2], comments=True)
        except ValueError:
            return None
        copied, keeps = _copy(words)
    at = next((i for i, w in enumerate(words) if _base(w) in _PROGRAMS), -1)
    if at < 0:
        return None
    program, rest = _base(words[at]), words[at + 1 :]
    end = next((i for i, w in enumerate(rest) if w in _ENDS), len(rest))
    rest = [w.rstrip(";") for w in rest[:end]]
    sentinel = program == "redis-sentinel" or "--sentinel" in rest
    path, flags = _split(rest)
    return Start(program, path, _lines(flags, span, written), copied, keeps, sentinel)


def _base(word: str) -> str:
    return word.rpartition("/")[2]


def _copy(words: list[str]) -> tuple[str, bool]:
    """The source of the first `cp` of a shell line, and whether it spares an existing target."""
    if "cp" not in words:
        return "", False
    at = words.index("cp")
    args = []
    for word in words[at + 1 :]:
        if word in _ENDS or word.endswith(";"):
            args.append(word.rstrip(";"))
            break
        args.append(word)
    guarded = bool({"test", "[", "[["} & set(words[:at]))
    spares = any(w.startswith("-") and "n" in w for w in args)
    files = [w for w in args if not w.startswith("-") and w not in _ENDS]
    return (files[0] if files else ""), guarded or spares


def _split(rest: list[str]) -> tuple[str, list[list[str]]]:
    """(file, directives): a word that begins with -- opens a directive, others are its values."""
    path = ""
    if rest and not rest[0].startswith("-"):
        path, rest = rest[0], rest[1:]
    flags: list[list[str]] = []
    for word in rest:
        if word == "--sentinel":
            continue
        if word.startswith("--"):
            flags.append([word[2:]])
        elif flags:
            flags[-1].append(word)
    return path, flags


def _lines(flags: list[list[str]], span: Span, written: str) -> tuple[Line, ...]:
    """Flags as directives. A value that stands in the written text as it is can be patched."""
    one_line = span.start >= 0 and span.end - span.start == len(written) and "\n" not in written
    at = 0
    out: list[Line] = []
    for flag in flags:
        words = []
        for i, text in enumerate(flag):
            found = written.find(f"--{text}" if i == 0 else text, at) if one_line and text else -1
            place = Span(span.file, span.line, span.col)
            if found >= 0:
                begin = found + (2 if i == 0 else 0)
                at = begin + len(text)
                place = Span(
                    span.file, span.line, span.col + begin, span.start + begin, span.start + at
                )
            words.append(Word(text, place))
        # `--save "3600 1"` is one word of the command and two of the directive
        if len(words) == 2 and " " in words[1].text:
            parts = words[1].text.split()
            words = [words[0], *(Word(p, Span(span.file, span.line, span.col)) for p in parts)]
        out.append(Line(tuple(words)))
    return tuple(out)
