"""The tree that haproxy.cfg is read into: sections, lines, words, with their places."""

from __future__ import annotations

from dataclasses import dataclass

from hasim.errors import Finding
from hasim.source import Span, Word

MAX_CHARS = 4 * 2**20  # a file of 10,000 backends is smaller


@dataclass(frozen=True, slots=True)
class Line:
    """One directive. conditional: it stands inside .if; live=False: in a branch not taken."""

    words: tuple[Word, ...]
    conditional: bool = False
    live: bool = True

    @property
    def texts(self) -> tuple[str, ...]:
        """The words without their places."""
        return tuple(w.text for w in self.words)

    @property
    def span(self) -> Span:
        """From the first to the last word."""
        return self.words[0].span.to(self.words[-1].span)


@dataclass(frozen=True, slots=True)
class Section:
    """One section. parent: index in Tree.sections of the `defaults` that it inherits, or -1."""

    kind: str
    name: str
    header: Line
    lines: tuple[Line, ...]
    parent: int = -1

    @property
    def span(self) -> Span:
        """The header."""
        return self.header.span

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class Ignored:
    """A known directive that is not simulated. matters: it could change an outcome."""

    text: str
    section: str
    span: Span
    matters: bool


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole file. encoding: to write the text back byte for byte ("utf-8" or "latin-1")."""

    file: str
    text: str = ""
    sections: tuple[Section, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    encoding: str = "utf-8"

    def chain(self, section: Section) -> tuple[Section, ...]:
        """The defaults that `section` inherits, farthest first, then the section itself."""
        out = [section]
        while out[-1].parent >= 0:
            out.append(self.sections[out[-1].parent])
        return tuple(reversed(out))


def show(text: str) -> str:
    """A word of a file made fit for a message: one line, printable, not too long."""
    text = text if len(text) <= 60 else text[:57] + "..."
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def decode(data: bytes | str, file: str) -> tuple[str, str, list[Finding]]:
    """(text, encoding, findings); an empty text if the data is no configuration."""
    start = Span(file, 1, 1)
    if len(data) > MAX_CHARS:
        size = f"{len(data) / 2**20:.1f}"
        text = f"{size} MiB is too large for a HAProxy configuration (limit 4 MiB)"
        return "", "utf-8", [Finding("error", "HA120", text, start)]
    encoding = "utf-8"
    findings = []
    try:
        content = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError:
        content, encoding = bytes(data).decode("latin-1"), "latin-1"  # type: ignore[arg-type]
        text = "the file is not UTF-8; it is read as Latin-1"
        findings.append(Finding("warning", "HA120", text, start))
    if "\0" in content:
        text = "binary data (a NUL character); not a HAProxy configuration"
        return "", encoding, [Finding("error", "HA120", text, start, "UTF-16? Save it as UTF-8")]
    if content.startswith("\ufeff"):
        text = "the file starts with a byte order mark; HAProxy refuses it"
        findings.append(Finding("error", "HA120", text, start, "save it as UTF-8 without BOM"))
    return content, encoding, findings
