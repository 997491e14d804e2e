"""SQL scripts as far as they concern the server itself: ALTER SYSTEM and slots.

Source: PostgreSQL manual, "ALTER SYSTEM", 9.27.6 "Replication Management Functions",
4.1 "Lexical Structure". Every other statement is skipped; values of passwords are never kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hasim.errors import Finding
from hasim.read.pg_conf import Setting
from hasim.source import Span, Text

_SKIP = re.compile(
    r"--[^\n]*|/\*.*?\*/|(?P<dollar>\$[A-Za-z_]*\$).*?(?P=dollar)|E'(?:[^'\\]|\\.|'')*'"
    r"|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"",
    re.DOTALL,
)
_ALTER = re.compile(
    r"ALTER\s+SYSTEM\s+SET\s+(\"?[\w.]+\"?)\s*(?:=|\sTO\s)\s*(.+)\s*$", re.IGNORECASE | re.DOTALL
)
_RESET = re.compile(r"ALTER\s+SYSTEM\s+RESET\s+(\w+)\s*$", re.IGNORECASE)
_SLOT = re.compile(r"pg_create_physical_replication_slot\s*\(\s*'([^']*)'", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SqlFacts:
    """settings: ALTER SYSTEM in order. slots: name -> place."""

    settings: tuple[Setting, ...] = ()
    slots: tuple[tuple[str, Span], ...] = ()


def read_sql(text: str, file: str) -> tuple[SqlFacts, list[Finding]]:
    """What a script does to the server's own configuration."""
    source = Text(file, text)
    settings: dict[str, Setting] = {}
    slots = []
    found: list[Finding] = []
    for begin, end in _statements(text):
        body = text[begin:end]
        span = source.span(begin, end)
        plain = _SKIP.sub(lambda m: "" if m[0].startswith(("--", "/*")) else m[0], body)
        if match := _ALTER.match(body):
            setting = _setting(source, begin, match)
            if setting is None:
                text_ = f"ALTER SYSTEM SET {match[1]}: its value cannot be read"
                found.append(Finding("warning", "HA190", text_, span))
            else:
                settings[setting.name] = setting
        elif match := _RESET.match(plain):
            settings.pop(match[1].lower(), None)
        for match in _SLOT.finditer(plain):
            slots.append((match[1], span))
    return SqlFacts(tuple(settings.values()), tuple(slots)), found


def _statements(text: str) -> list[tuple[int, int]]:
    """(start, end) of each statement: semicolons outside of quotes and comments part them."""
    blank = list(text)
    for match in _SKIP.finditer(text):
        blank[match.start() : match.end()] = ["x"] * (match.end() - match.start())
    masked = "".join(blank)
    out, at = [], 0
    for part in masked.split(";"):
        lead = re.match(r"(?:\s|--[^\n]*|/\*.*?\*/)*", text[at : at + len(part)], re.DOTALL)
        begin = at + (lead.end() if lead else 0)
        end = at + len(part)
        while end > begin and text[end - 1].isspace():
            end -= 1
        if end > begin:
            out.append((begin, end))
        at += len(part) + 1
    return out


def _setting(source: Text, begin: int, match: re.Match[str]) -> Setting | None:
    """The value's own characters; quotes stay outside of the span, so that it can be replaced."""
    raw = _SKIP.sub(lambda m: "" if m[0].startswith(("--", "/*")) else m[0], match[2]).strip()
    start = begin + match.start(2)
    name = match[1].strip('"').lower()
    if re.fullmatch(r"'(?:[^']|'')*'", raw):
        value = raw[1:-1].replace("''", "'")
        return Setting(name, value, source.span(start + 1, start + len(raw) - 1))
    if re.fullmatch(r"[\w.+-]+", raw):
        return Setting(name, raw, source.span(start, start + len(raw)))
    if re.fullmatch(r"\"?[\w*]+\"?(\s*,\s*\"?[\w*]+\"?)*", raw):  # a list of names
        return Setting(name, raw, source.span(start, start + len(raw)))
    return None
