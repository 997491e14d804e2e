"""haproxy.cfg as a frozen tree: sections, lines, words, each with its place in the file.

`read` never raises for anything a file may contain: all problems come back as Findings, in file
order. Meaning (values, defaults, references) is the business of components.haproxy.
Rules: HAProxy manual 2.1 to 2.4; the odd cases were tried on 2.6.12.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from hasim.errors import Finding, did_you_mean
from hasim.read import haproxy_words as hw
from hasim.read.haproxy_lines import CutError, cut, evaluate
from hasim.read.haproxy_tree import Ignored, Line, Section, Tree, decode, show
from hasim.source import Span, Word

__all__ = ["Ignored", "Line", "Section", "Tree", "read", "show"]

MAX_FINDINGS = 200
# Words whose second word says what the line does.
FAMILIES = hw.words(
    "option timeout stick http-check tcp-check http-request http-response tcp-request tcp-response"
)
_NAME = re.compile(r"[A-Za-z0-9_:.-]+", re.ASCII)


@lru_cache(maxsize=4096)
def _hint(word: str, known: tuple[str, ...]) -> str:
    return did_you_mean(word[:40].lower(), known)


@dataclass
class _Reader:
    """State of one reading."""

    file: str
    env: dict[str, str]
    findings: list[Finding] = field(default_factory=list)
    dropped: int = 0
    sections: list[Section] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    header: Line | None = None  # of the open section
    kind: str = ""
    lines: list[Line] = field(default_factory=list)
    branches: list[tuple[bool, bool, Span]] = field(default_factory=list)  # (live, taken, .if)
    closed: set[int] = field(default_factory=set)  # ids of the .if that have had their .else

    def say(self, severity: str, code: str, text: str, span: Span | None, hint: str = "") -> None:
        """Add a finding; beyond MAX_FINDINGS they are only counted."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(severity, code, text, span, hint))
        else:
            self.dropped += 1

    def error(self, code: str, text: str, span: Span | None, hint: str = "") -> None:
        """HAProxy refuses the file."""
        self.say("error", code, text, span, hint)

    def warn(self, code: str, text: str, span: Span | None, hint: str = "") -> None:
        self.say("warning", code, text, span, hint)

    def hint(self, word: str, known: tuple[str, ...]) -> str:
        """did_you_mean, not asked once nobody would see the answer (it is slow)."""
        return _hint(word, known) if len(self.findings) < MAX_FINDINGS else ""

    def text(self, text: str) -> None:
        """Read all lines."""
        start, number = 0, 0
        while start < len(text):
            number += 1
            end = text.find("\n", start)
            stop = end if end >= 0 else len(text)
            if end < 0:
                # Fatal since 2.3: "Missing LF on last line, file might have been truncated".
                self.error(
                    "HA121",
                    "the last line has no line feed; HAProxy refuses such a file",
                    Span(self.file, number, 1, start, stop),
                    "end the file with a newline",
                )
            if stop > start:
                self.line(text[start:stop], number, start)
            start = stop + 1
        self.close()
        for _, _, span in self.branches:
            self.error("HA121", "'.if' without '.endif'", span)

    def line(self, raw: str, number: int, start: int) -> None:
        """Cut one line and put it where it belongs."""
        words: list[Word] = []
        section = self.header.words[1].text if self.header and len(self.header.words) > 1 else ""
        try:
            words, unset = cut(raw, self.file, number, start, self.env, section or self.kind)
        except CutError as problem:
            at = Span(self.file, number, problem.at + 1, start + problem.at, start + len(raw))
            if self.live:
                self.error("HA121", str(problem), at)
            return
        if not words:
            return
        if words[0].text.startswith("."):
            self.condition(words)
            return
        for word, name in unset if self.live else ():
            self.warn(
                "HA129",
                f"environment variable '{show(name)}' is not set; HAProxy reads it as empty",
                word,
                'set it, or write "${NAME-default}"',
            )
        line = Line(tuple(words), bool(self.branches), self.live)
        if line.live:
            self.place(line)
        else:
            self.lines.append(line)

    def place(self, line: Line) -> None:
        """A section header opens a section; everything else belongs to the open one."""
        first = line.words[0]
        if first.text in hw.SECTIONS:
            self.close()
            self.header, self.kind, self.lines = line, first.text, []
        elif self.looks_like_section(first):
            self.warn(
                "HA122",
                f"unknown section '{show(first.text)}'; its lines are not read",
                first.span,
                self.hint(first.text, tuple(sorted(hw.SECTIONS))),
            )
            self.close()
            self.header, self.kind, self.lines = line, "unknown", []
        elif self.header is None:
            self.error(
                "HA122",
                f"'{show(first.text)}' stands before any section",
                first.span,
                self.hint(first.text, tuple(sorted(hw.SECTIONS))),
            )
        else:
            self.lines.append(line)
            self.env_commands(line.texts)
            self.check(line)

    def looks_like_section(self, first: Word) -> bool:
        """An unknown word at column 1 where the lines above are indented, near a section name."""
        if first.span.col != 1 or not first.text[:1].isalpha():
            return False
        if self.lines and self.lines[-1].words[0].span.col == 1 and self.kind != "unknown":
            return False
        known = {"global": hw.GLOBAL, "resolvers": hw.RESOLVERS}.get(self.kind)
        texts = (first.text, "")
        if (known and first.text in known) or (not known and hw.lookup(texts)[0]):
            return False
        return bool(self.hint(first.text, tuple(sorted(hw.SECTIONS))))

    def env_commands(self, texts: tuple[str, ...]) -> None:
        """setenv and friends of `global` act on the lines that follow (manual 3.1)."""
        if self.kind != "global" or len(texts) < 2:
            return
        if texts[0] == "setenv" and len(texts) > 2:
            self.env[texts[1]] = texts[2]
        elif texts[0] == "presetenv" and len(texts) > 2:
            self.env.setdefault(texts[1], texts[2])
        elif texts[0] == "unsetenv":
            for name in texts[1:]:
                self.env.pop(name, None)
        elif texts[0] == "resetenv":
            self.env = {k: v for k, v in self.env.items() if k in texts[1:]}

    @property
    def live(self) -> bool:
        """Whether every enclosing branch is taken."""
        return all(b[0] for b in self.branches)

    def condition(self, words: list[Word]) -> None:
        """.if, .elif, .else, .endif: only integers are decided, else the first branch is taken."""
        name, span = words[0].text, words[0].span
        value = " ".join(w.text for w in words[1:])
        if name == ".if":
            taken = self.decide(value, span)
            self.branches.append((taken, taken, span))
        elif name in (".notice", ".warning", ".diag", ".alert"):
            if self.live:
                severe = "error" if name == ".alert" else "warning"
                self.say(severe, "HA128", f"the file itself says {name}: {show(value)}", span)
        elif name not in (".elif", ".else", ".endif"):
            hint = self.hint(name, (".if", ".elif", ".else", ".endif"))
            self.error("HA128", f"unknown directive '{show(name)}'", span, hint)
        elif not self.branches:
            self.error("HA128", f"'{name}' without '.if'", span)
        elif name == ".endif":
            self.branches.pop()
        else:
            _, taken, opened = self.branches.pop()
            if id(opened) in self.closed:
                self.error("HA128", f"'{name}' after '.else'", span)
            if name == ".else":
                self.closed.add(id(opened))
            now = not taken and (name == ".else" or self.decide(value, span))
            self.branches.append((now, taken or now, opened))
        self.lines.append(Line(tuple(words), True, self.live))

    def decide(self, text: str, span: Span) -> bool:
        """The value of a condition; what only the binary knows counts as true, with a warning."""
        try:
            value = evaluate(text, self.env)
        except ValueError:
            self.error("HA128", f"the condition '{show(text)}' cannot be parsed", span)
            return False
        if value is None:
            self.warn(
                "HA128",
                f"the condition '{show(text)}' is not evaluated; it is taken as true",
                span,
                "check that the lines under it are the ones in force",
            )
        return value is not False

    def close(self) -> None:
        """Finish the open section."""
        if self.header is None:
            return
        header, texts = self.header, self.header.texts
        kind, name, parent = self.kind, "", -1
        if kind in hw.PROXIES:
            name, parent = self.proxy_header(kind, texts, header)
        elif kind == "global" and len(texts) > 1:
            self.error("HA125", f"'global' takes no '{show(texts[1])}'", header.span)
        elif kind in hw.NAMED:
            name = texts[1] if len(texts) > 1 else ""
            if not name:
                self.error("HA125", f"'{kind}' needs a name", header.span)
        elif kind == "unknown":
            name = texts[1] if len(texts) > 1 else ""
        self.sections.append(Section(kind, name, header, tuple(self.lines), parent))
        self.header = None

    def proxy_header(self, kind: str, texts: tuple[str, ...], header: Line) -> tuple[str, int]:
        """The name and the parent of a proxy section: `kind [name] [from other]`."""
        rest = list(texts[1:])
        if kind == "defaults" and rest[:1] == ["from"] and len(rest) == 2:
            name = ""
        else:
            name = rest.pop(0) if rest else ""
        if not name and kind != "defaults":
            self.error("HA125", f"'{kind}' needs a name", header.span)
        if name and kind != "defaults" and not _NAME.fullmatch(name):
            self.error("HA125", f"character not permitted in the name '{show(name)}'", header.span)
        origin = ""
        if rest[:1] == ["from"]:
            origin = rest[1] if len(rest) > 1 else ""
            rest = rest[2:]
            if not origin:
                self.error("HA125", "'from' needs the name of a defaults section", header.span)
        if rest:
            self.error(
                "HA125",
                f"unexpected '{show(rest[0])}' after the name of the section",
                header.span,
                "addresses belong on a 'bind' line",
            )
        return name, self.parent(kind, origin, header)

    def parent(self, kind: str, origin: str, header: Line) -> int:
        """The index of the defaults in force: the named one, else (for proxies) the last one."""
        known = [i for i, s in enumerate(self.sections) if s.kind == "defaults"]
        if not origin:
            return known[-1] if known and kind != "defaults" else -1
        same = [i for i in known if self.sections[i].name == origin]
        if not same:
            names = tuple(self.sections[i].name for i in known if self.sections[i].name)
            self.error(
                "HA126",
                f"defaults section '{show(origin)}' is not defined above",
                header.span,
                self.hint(origin, names),
            )
            return known[-1] if known and kind != "defaults" else -1
        if len(same) > 1:
            self.error(
                "HA127",
                f"'{show(origin)}' is ambiguous: {len(same)} defaults sections have this name",
                header.span,
            )
        return same[-1]

    def check(self, line: Line) -> None:
        """Known word? In its place? Simulated?"""
        if self.kind in hw.PROXIES:
            self.check_proxy(line)
        elif self.kind == "global":
            texts = line.texts[1:] if line.texts[0] in ("no", "default") else line.texts
            first = texts[0] if texts else line.texts[0]
            found = hw.GLOBAL.get(first)
            if found is None and not first.startswith(hw.GLOBAL_PREFIXES):
                self.unknown(first, line)
            elif found is None or found.status != hw.SIMULATED:
                self.ignore(line, found.status if found else hw.QUIET, first)
        elif self.kind == "resolvers" and line.texts[0] not in hw.RESOLVERS:
            self.unknown(line.texts[0], line)

    def check_proxy(self, line: Line) -> None:
        texts = line.texts
        if texts[0] in ("no", "default"):
            if len(texts) < 2 or texts[1] not in hw.NEGATABLE:
                self.error("HA125", f"'{texts[0]}' is not possible before this word", line.span)
                return
            texts = texts[1:]
            if texts[0] == "option" and texts[1:2] and texts[1] in hw.NOT_NEGATABLE:
                self.error("HA125", f"'option {texts[1]}' cannot be negated", line.span)
                return
        found, unknown = hw.lookup(texts)
        if found is None:
            self.unknown(unknown, line, texts[0])
            return
        extra = texts[2:] if texts[0] == "option" else ()
        if extra and texts[1] not in hw.WITH_ARGUMENTS and extra[0]:
            self.error("HA125", f"'option {texts[1]}': unexpected '{show(extra[0])}'", line.span)
        elif extra and texts[1] == "httplog" and extra[0] != "clf":
            self.error("HA125", "'option httplog' takes nothing but 'clf'", line.span)
        letter = self.kind[0].upper()
        if letter not in found.places:
            self.misplaced(found, line)
        elif found.status != hw.SIMULATED:
            metrics = texts[1:3] == ("use-service", "prometheus-exporter")  # answers no user
            status = hw.QUIET if metrics else found.status
            self.ignore(line, status, " ".join(texts[: 2 if texts[0] in FAMILIES else 1]))

    def misplaced(self, found: hw.Keyword, line: Line) -> None:
        word = found.name.split()[0]
        where = ", ".join(p for p in hw.PROXIES if p[0].upper() in found.places)
        if word in hw.REFUSED[self.kind]:
            text = f"'{found.name}' is not allowed in a {self.kind} section"
            self.error("HA124", text, line.words[0].span, f"it belongs in: {where}")
        else:
            text = f"'{found.name}' has no effect in a {self.kind} section; HAProxy ignores it"
            self.warn("HA124", text, line.words[0].span, f"it belongs in: {where}")

    def unknown(self, word: str, line: Line, family: str = "") -> None:
        """A word that is in no table of ours: a typo, or newer than the tables."""
        known: tuple[str, ...] = hw.vocabulary(self.kind)
        if family == "option":
            known = tuple(hw.OPTIONS)
        elif family in ("timeout", "http-check", "tcp-check"):
            known = tuple(n.split()[1] for n in hw.PROXY if n.startswith(family + " "))
        what = f"{family} " if family and family != word else ""
        hint = self.hint(word, known) or "HAProxy refuses to start on a word that it does not know"
        self.warn(
            "HA123",
            f"unknown keyword '{what}{show(word)}' in a {self.kind} section; it is not simulated",
            line.words[0].span,
            hint,
        )

    def ignore(self, line: Line, status: str, name: str) -> None:
        """List a known directive that is not simulated; warn if that could matter."""
        matters = status == hw.MATTERS
        header = self.header
        label = " ".join(header.texts[:2]) if header else self.kind
        self.ignored.append(Ignored(name, label, line.span, matters))
        if matters:
            text = f"'{show(name)}' is not simulated; it could change the outcome"
            self.warn("HA130", text, line.span)


def read(
    data: bytes | str, file: str = "haproxy.cfg", env: Mapping[str, str] | None = None
) -> tuple[Tree, list[Finding]]:
    """Read a configuration: (tree, findings in file order). Never raises for what a file holds.

    env: the variables that `"$NAME"` may see; nothing else is looked at, never os.environ.
    Codes: HA120 unreadable, HA121 syntax, HA122 section, HA123 unknown word, HA124 wrong place,
    HA125 wrong argument, HA126 undefined, HA127 ambiguous, HA128 condition, HA129 variable unset,
    HA130 not simulated.
    """
    text, encoding, findings = decode(data, file)
    if any(f.severity == "error" for f in findings) and not text:
        return Tree(file, encoding=encoding), findings
    reader = _Reader(file, dict(env or {}), findings)
    # The mark is one character: blanked, every offset stays what it is in the file.
    reader.text(" " + text[1:] if text.startswith("\ufeff") else text)
    if not any(s.kind != "unknown" for s in reader.sections) and not reader.findings:
        reader.error("HA120", "no section at all: the file is empty", Span(file, 1, 1))
    if reader.dropped:
        reader.findings.append(
            Finding("error", "HA120", f"{reader.dropped} more problems are not listed")
        )
    tree = Tree(file, text, tuple(reader.sections), tuple(reader.ignored), encoding)
    return tree, reader.findings
