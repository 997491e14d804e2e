"""keepalived.conf: text to a tree of lines and blocks, every word with its place.

No meaning here; that is hasim.components.keepalived. Follows keepalived.conf(5) 2.2: words between
blanks, quotes, `!` and `#` start a comment, `name { ... }` blocks, `$NAME=value` definitions.
What is not followed (include, @conditions, ~SEQ, ~LST) is a warning, never silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hasim.errors import Finding
from hasim.source import Span, Text, Word

CODE = "HA174"
MAX_CHARS = 2**20
MAX_DEPTH = 20

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\v\f\r]+)|(?P<end>\n)|(?P<comment>[!\#][^\n]*)|(?P<brace>[{}])
      |(?P<word>(?:"[^"\n]*"|'[^'\n]*'|[^\s{}"'!\#])+)|(?P<odd>.)""",
    re.VERBOSE,
)
_DEFINITION = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_USE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line, with the block that it opens (None: it opens none). end: the closing brace."""

    words: tuple[Word, ...]
    block: tuple[Entry, ...] | None = None
    end: Span | None = None

    @property
    def key(self) -> str:
        """The first word."""
        return self.words[0].text

    @property
    def span(self) -> Span:
        """The first word's place."""
        return self.words[0].span

    def get(self, key: str) -> list[Entry]:
        """The entries of the block with this first word, in file order."""
        return [e for e in self.block or () if e.key == key]


@dataclass
class _Open:
    """A block under construction."""

    words: list[Word]
    made: list[Entry] = field(default_factory=list)


def read_keepalived(text: str, file: str) -> tuple[tuple[Entry, ...], list[Finding]]:
    """The entries of the top level, and every problem; never an exception."""
    found: list[Finding] = []
    if len(text) > MAX_CHARS:
        return (), [Finding("error", CODE, f"{file} is too large", Span(file, 1, 1))]
    stack = [_Open([])]
    last: Entry | None = None  # a line on its own: `{` on the next line opens its block
    for line, braces in _lines(text, file, found):
        if braces is None:
            last = Entry(tuple(line))
            stack[-1].made.append(last)
            continue
        last = _braces(stack, line, braces, last, found)
    while len(stack) > 1:
        one = stack.pop()
        name = one.words[0].text
        found.append(_error(f"'{name}' is not closed: a '}}' is missing", one.words[0].span))
        stack[-1].made.append(Entry(tuple(one.words), tuple(one.made)))
    return tuple(stack[0].made), found


def _braces(
    stack: list[_Open], line: list[Word], brace: Word, last: Entry | None, found: list[Finding]
) -> Entry | None:
    """One brace and the words before it. The result: a line whose block may follow."""
    if brace.text == "{":
        if not line and last is not None and stack[-1].made[-1:] == [last]:
            stack[-1].made.pop()
            line = list(last.words)
        if not line:
            found.append(_error("a '{' without a name before it", brace.span))
            line = [Word("", brace.span)]
        if len(stack) > MAX_DEPTH:
            found.append(_error("blocks are nested too deep", brace.span))
        stack.append(_Open(line))
        return None
    if line:
        stack[-1].made.append(Entry(tuple(line)))
    if len(stack) == 1:
        found.append(_error("a '}' too many", brace.span))
        return None
    one = stack.pop()
    stack[-1].made.append(Entry(tuple(one.words), tuple(one.made), brace.span))
    return None


def _lines(text: str, file: str, found: list[Finding]) -> Iterator[tuple[list[Word], Word | None]]:
    """(words, None) for a line, (words before it, brace) for each brace."""
    place = Text(file, text)
    defined: dict[str, str] = {}
    words: list[Word] = []
    for match in _TOKEN.finditer(text + "\n"):
        kind = match.lastgroup
        if kind == "word":
            words.append(_word(match, place))
        elif kind == "odd":
            span = place.span(match.start(), match.end())
            found.append(_error("a quote is not closed on its line", span))
        elif kind in ("brace", "end"):
            line = _line(words, defined, found)
            words = []
            if kind == "brace":
                yield line, Word(match[0], place.span(match.start(), match.end()))
            elif line:
                yield line, None


def _word(match: re.Match[str], place: Text) -> Word:
    raw, start = match[0], match.start()
    if len(raw) > 1 and raw[0] in "\"'" and raw.find(raw[0], 1) == len(raw) - 1:
        return Word(raw[1:-1], place.span(start + 1, match.end() - 1))
    return Word(raw.replace('"', "").replace("'", ""), place.span(start, match.end()))


def _line(words: list[Word], defined: dict[str, str], found: list[Finding]) -> list[Word]:
    """The words with definitions replaced; [] for a definition and for what is not followed."""
    if not words:
        return []
    first = words[0]
    if match := _DEFINITION.fullmatch(first.text):
        rest = [match[2], *(w.text for w in words[1:])]
        defined[match[1]] = " ".join(t for t in rest if t)
        return []
    if first.text.startswith(("@", "~")) or re.fullmatch(r"include[abdemrw]?", first.text):
        text = f"'{first.text}' is not followed: this line is left out"
        found.append(Finding("warning", CODE, text, first.span, "write the lines themselves"))
        return []
    return [_replaced(w, defined) for w in words]


def _replaced(word: Word, defined: dict[str, str]) -> Word:
    """A word that a definition fills has a place, but none that could be patched."""

    def value(match: re.Match[str]) -> str:
        return defined.get(match[1] or match[2], match[0])

    text = _USE.sub(value, word.text) if "$" in word.text else word.text
    if text == word.text:
        return word
    return Word(text, Span(word.span.file, word.span.line, word.span.col))


def _error(text: str, span: Span) -> Finding:
    return Finding("error", CODE, text, span)
