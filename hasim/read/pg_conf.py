"""postgresql.conf, postgresql.auto.conf, ALTER SYSTEM statements and conninfo strings, with spans.

Source: PostgreSQL manual 20.1 "Setting Parameters", 34.1.1 "Connection Strings";
guc-file.l (the grammar of the file) and fe-connect.c (conninfo_parse) of 15. No meaning here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from hasim.errors import Finding
from hasim.source import Span, Text


@dataclass(frozen=True, slots=True)
class Setting:
    """One assignment. value: unquoted. span: its value as written, inside of the quotes."""

    name: str
    value: str
    span: Span


# One token of the file. Source: guc-file.l: ID, STRING, UNQUOTED_STRING, INTEGER, REAL, EQUALS.
_TOKEN = re.compile(
    r"(?P<blank>[ \t\r]+)|(?P<comment>#.*)|(?P<eol>\n)|(?P<equals>=)"
    r"|(?P<string>'(?:[^'\\\n]|\\.|'')*')"
    r"|(?P<word>[^\s=#'\"(),;]+)"
)
_NAME = re.compile(r"[A-Za-z_\x80-\uffff][\w$\x80-\uffff]*(\.[A-Za-z_]\w*)?")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
INCLUDES = ("include", "include_if_exists", "include_dir")


def read(
    text: str, file: str, include: Callable[[str, bool], str | None] | None = None
) -> tuple[list[Setting], list[Finding]]:
    """Every assignment in file order (the last one of a name counts) and what is no assignment.

    include(path, optional): the text of an included file, None if it cannot be read;
    optional: it may be missing.
    """
    source = Text(file, text)
    settings: list[Setting] = []
    found: list[Finding] = []
    at = 0
    for line in text.split("\n"):
        _line(source, at, at + len(line), settings, found, include)
        at += len(line) + 1
    return settings, found


def _line(
    source: Text,
    begin: int,
    end: int,
    settings: list[Setting],
    found: list[Finding],
    include: Callable[[str, bool], str | None] | None,
) -> None:
    tokens, bad = _tokens(source.text, begin, end)
    if not tokens and bad < 0:
        return
    span = source.span(*tokens[0][1:]) if tokens else source.span(bad, end)
    name = source.text[span.start : span.end]
    values = tokens[2:] if len(tokens) > 1 and tokens[1][0] == "equals" else tokens[1:]
    wrong = _wrong(source.text, name, values, bad)
    if wrong:
        found.append(_syntax(span, wrong, name, source.text[begin:end]))
        return
    kind, start, stop = values[0]
    raw = source.text[start:stop]
    inner = (start + 1, stop - 1) if kind == "string" else (start, stop)
    setting = Setting(name.lower(), unquote_value(raw), source.span(*inner))
    if setting.name in INCLUDES:
        _include(setting, settings, found, include)
    else:
        settings.append(setting)


def _tokens(text: str, begin: int, end: int) -> tuple[list[tuple[str, int, int]], int]:
    """(kind, start, end) of each token of a line; the offset of what is none, -1 if all are."""
    out: list[tuple[str, int, int]] = []
    at = begin
    while at < end:
        match = _TOKEN.match(text, at, end)
        if match is None:
            return out, at
        kind = str(match.lastgroup)
        if kind not in ("blank", "comment", "eol"):
            out.append((kind, match.start(), match.end()))
        at = match.end()
    return out, -1


def _wrong(text: str, name: str, values: list[tuple[str, int, int]], bad: int) -> str:
    """The token near which the server finds a syntax error; "" for a good line."""
    if not _NAME.fullmatch(name):
        return name or text[bad]
    if len(values) > 1:
        return text[values[1][1] : values[1][2]]
    if bad >= 0:
        return text[bad]
    if not values:
        return "end of line"
    return "=" if values[0][0] == "equals" else ""


def _syntax(span: Span, near: str, name: str, line: str) -> Finding:
    """Values are not shown: a line may hold a password."""
    where = near if near == "end of line" else f'token "{near if len(near) == 1 else "..."}"'
    hint = ""
    if "conninfo" in name or "=" in line.partition("=")[2]:
        hint = f"put the value in single quotes: {name} = '...'"
    return Finding("error", "HA190", f"syntax error near {where} in '{name}'", span, hint)


def _include(
    setting: Setting,
    settings: list[Setting],
    found: list[Finding],
    include: Callable[[str, bool], str | None] | None,
) -> None:
    optional = setting.name == "include_if_exists"
    follow = include if setting.name != "include_dir" else None
    text = follow(setting.value, optional) if follow is not None else None
    if text is not None:
        more, wrong = read(text, setting.value)  # an include of an include is not followed
        settings += more
        found += wrong
    elif not optional:
        message = f"{setting.name} '{setting.value}' is not followed"
        found.append(Finding("warning", "HA190", message, setting.span))


def unquote_value(raw: str) -> str:
    """The value of a token: quotes and escapes away. Source: guc-file.l (DeescapeQuotedString)."""
    if len(raw) < 2 or not raw.startswith("'"):
        return raw
    out, body, at = [], raw[1:-1], 0
    while at < len(body):
        ch = body[at]
        after = body[at + 1 : at + 2]
        if ch == "'" and after == "'":
            at += 1
        elif ch == "\\" and after:
            octal = re.match(r"[0-7]{1,3}", body[at + 1 :])
            ch = chr(int(octal[0], 8) & 0xFF) if octal else _ESCAPES.get(after, after)
            at += len(octal[0]) if octal else 1
        out.append(ch)
        at += 1
    return "".join(out)


# ---- conninfo ------------------------------------------------------------------------------------
_PAIR = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)")


def conninfo(text: str) -> tuple[dict[str, str], str]:
    """(keyword -> value, what is wrong) of a conninfo string or URI; the error shows no value."""
    text = text.strip()
    if re.match(r"postgres(ql)?:", text):
        return _uri(text)
    words: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            rest = text[at:].split(None, 1)[0] if text[at:].split() else ""
            name = rest.partition("=")[0]
            return words, f'missing "=" or an unterminated quote after "{name[:20]}"'
        value = match[2][1:-1] if match[2].startswith("'") else match[2]
        words[match[1]] = re.sub(r"\\(.)", r"\1", value)
        at = match.end()
    return words, ""


def conninfo_words(text: str) -> dict[str, str]:
    """What can be read of a conninfo string."""
    return conninfo(text)[0]


def _uri(text: str) -> tuple[dict[str, str], str]:
    match = re.fullmatch(r"postgres(?:ql)?://(?:([^@/?]*)@)?([^/?]*)(?:/([^?]*))?(?:\?(.*))?", text)
    if match is None:
        return {}, "not a postgresql:// URI"
    user, _, password = (match[1] or "").partition(":")
    hosts = [_host_port(h) for h in match[2].split(",")]
    words = {"user": unquote(user), "password": unquote(password), "dbname": match[3] or ""}
    words["host"] = ",".join(h for h, _ in hosts)
    words["port"] = ",".join(p for _, p in hosts)
    words |= dict(parse_qsl(match[4] or ""))
    return {k: v for k, v in words.items() if v.strip(",")}, ""


def _host_port(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d*))?", text)
    return (match[1].strip("[]"), match[2] or "") if match else (text, "")
