"""One line of haproxy.cfg cut into words: quotes, backslashes, comments, variables.

Follows HAProxy manual 2.2 and 2.3 (src/tools.c: parse_line).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hasim.source import Span, Word

MAX_WORDS = 64  # MAX_LINE_ARGS; a longer line is an error
_WORDS = re.compile(r"[^ \t\v\f\r]+")
_SPECIAL = re.compile(r"[\"'\\#\r]")
_NAME = re.compile(r"[A-Za-z_.][A-Za-z0-9_.]*", re.ASCII)
_HEX = re.compile(r"[0-9A-Fa-f]{2}", re.ASCII)
_BLANK = " \t\v\f"
_ESCAPES = {" ": " ", "\\": "\\", "#": "#", "'": "'", '"': '"', "$": "$"} | {
    "n": "\n",
    "r": "\r",
    "t": "\t",
}


class CutError(ValueError):
    """A line that cannot be cut; `at` is the column from 0."""

    def __init__(self, message: str, at: int):
        super().__init__(message)
        self.at = at


def cut(
    raw: str, file: str, number: int, start: int, env: Mapping[str, str], section: str = ""
) -> tuple[list[Word], list[tuple[Span, str]]]:
    """(words, variables that are not set) of one line without its line feed. CutError."""
    if not _SPECIAL.search(raw):
        found = list(_WORDS.finditer(raw))
        if len(found) > MAX_WORDS:
            raise CutError(f"more than {MAX_WORDS} words on a line", found[MAX_WORDS].start())
        words = [
            Word(m[0], Span(file, number, m.start() + 1, start + m.start(), start + m.end()))
            for m in found
        ]
        return words, []
    local = {".FILE": file, ".LINE": str(number), ".SECTION": section}
    cutter = _Cutter(raw, {**env, **local} if "$" in raw else {})
    cutter.run()
    if len(cutter.out) > MAX_WORDS:
        raise CutError(f"more than {MAX_WORDS} words on a line", cutter.out[MAX_WORDS][1])

    def span(a: int, b: int) -> Span:
        return Span(file, number, a + 1, start + a, start + b)

    words = [
        Word(text, span(a, b)) if whole else Word(text, Span(file, number, a + 1))
        for text, a, b, whole in cutter.out
    ]
    return words, [(span(a, b), name) for name, a, b in cutter.unset]


class _Cutter:
    """The slow way, one character at a time."""

    def __init__(self, raw: str, env: Mapping[str, str]):
        self.raw, self.env = raw, env
        self.at = 0
        self.word: list[str] | None = None
        self.began = 0
        self.shared = False  # several words came out of one ${NAME[*]}
        self.out: list[tuple[str, int, int, bool]] = []
        self.unset: list[tuple[str, int, int]] = []

    def run(self) -> None:
        quote, opened = "", 0
        raw = self.raw
        while self.at < len(raw):
            ch = raw[self.at]
            if ch == "\r" or (ch == "#" and not quote):
                break
            if ch in "\"'" and quote in ("", ch):
                self.begin()
                quote, opened = ("", 0) if quote else (ch, self.at)
                self.at += 1
            elif ch == "\\" and quote != "'":
                self.escape()
            elif ch in _BLANK and not quote:
                self.end()
                self.at += 1
            elif ch == "$" and quote == '"':
                self.variable()
            else:
                self.begin()
                self.add(ch)
                self.at += 1
        if quote:
            raise CutError("unmatched quote", opened)
        self.end()

    def begin(self) -> None:
        if self.word is None:
            self.word, self.began, self.shared = [], self.at, False

    def add(self, text: str) -> None:
        assert self.word is not None
        self.word.append(text)

    def end(self) -> None:
        if self.word is not None:
            self.out.append(("".join(self.word), self.began, self.at, not self.shared))
        self.word = None

    def escape(self) -> None:
        """A backslash: unknown combinations stay as they are."""
        self.begin()
        following = self.raw[self.at + 1 : self.at + 2]
        if following == "x":
            digits = self.raw[self.at + 2 : self.at + 4]
            if not _HEX.fullmatch(digits):
                raise CutError("truncated or invalid hexadecimal sequence", self.at)
            self.add(chr(int(digits, 16)))
            self.at += 4
        elif following in _ESCAPES and following:
            self.add(_ESCAPES[following])
            self.at += 2
        else:
            self.add("\\")
            self.at += 1

    def variable(self) -> None:
        """$NAME, ${NAME}, ${NAME-default}, ${NAME[*]}; only called inside double quotes."""
        began = self.at
        brace = self.raw[began + 1 : began + 2] == "{"
        name = _NAME.match(self.raw, began + (2 if brace else 1))
        if not name:
            raise CutError("missing or invalid variable name after '$'", began)
        self.at = name.end()
        value, many = self.env.get(name[0]), False
        if brace:
            if self.raw.startswith("[*]", self.at):
                many, self.at = True, self.at + 3
            close = self.raw.find("}", self.at)
            has_default = self.raw[self.at : self.at + 1] == "-"
            if close < 0 or (close > self.at and not has_default):
                raise CutError("unmatched brace in a variable name", began)
            if value is None and has_default:
                value = self.raw[self.at + 1 : close]
            self.at = close + 1
        if value is None:
            self.unset.append((name[0], began, self.at))
            value = ""
        parts = value.split() if many else [value]
        for part in parts[:-1]:
            self.add(part)
            self.shared = True
            self.end()
            self.word, self.shared = [], True
        self.add(parts[-1] if parts else "")


_TERM = (
    r"!*\(*!*(?:-?[0-9]+|(?:defined|feature|streq|strneq|strstr|version_atleast|version_before|"
    r"openssl_version_atleast|openssl_version_before|ssllib_name_startswith|awslc_api_atleast|"
    r"awslc_api_before|enabled)\([^()]*\))\)*"
)
_CONDITION = re.compile(rf" *|{_TERM}(?: *(?:&&|\|\|) *{_TERM})*", re.ASCII)


def evaluate(condition: str, env: Mapping[str, str]) -> bool | None:
    """The value of the expression of a .if (manual 2.4), None if only the binary knows it.

    ValueError if HAProxy could not parse it.
    """
    if not _CONDITION.fullmatch(condition):
        raise ValueError("unparsable condition")
    if re.fullmatch(r"-?[0-9]*", condition, re.ASCII):
        return bool(condition.strip("-0"))
    if found := re.fullmatch(r"(!?)defined\(([^()]*)\)", condition):
        return (found[2] in env) != bool(found[1])
    return None
