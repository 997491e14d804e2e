"""Variables in compose files: `${VAR:-x}` and friends, and `.env` files.

Source: compose specification, "Interpolation", and Docker's page on the syntax of env files.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hasim.errors import Finding
from hasim.source import Span, Text

Lookup = Callable[[str], str | None]
_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")
_MAX_NESTING = 20


def substitute(text: str, lookup: Lookup, missing: list[str], depth: int = 0) -> str:
    """The text with its variables replaced; names without value or default go to `missing`.

    ValueError for a bad format and for a variable that the text says is required.

    >>> substitute("a${B:-${C}}$$", {"C": "c"}.get, [])
    'ac$'
    """
    if depth > _MAX_NESTING:
        raise ValueError("variables are nested too deep")
    out, at = [], 0
    while (dollar := text.find("$", at)) >= 0:
        out.append(text[at:dollar])
        name = _NAME.match(text, dollar + 1)
        if text.startswith("$$", dollar):
            out.append("$")
            at = dollar + 2
        elif text.startswith("${", dollar):
            end = _closing(text, dollar + 2)
            out.append(_braced(text[dollar + 2 : end], lookup, missing, depth))
            at = end + 1
        elif name:
            out.append(_value(name[0], lookup, missing))
            at = name.end()
        else:
            raise ValueError(_INVALID)
    return "".join([*out, text[at:]])


_INVALID = "invalid interpolation format; a '$' that is meant as such is written '$$'"


def _closing(text: str, at: int) -> int:
    """The brace that closes the one before `at`."""
    depth = 1
    for match in re.compile(r"\$\{|\$\$|\}").finditer(text, at):
        depth += {"${": 1, "}": -1}.get(match[0], 0)
        if not depth:
            return match.start()
        if depth > _MAX_NESTING:
            break
    raise ValueError(_INVALID)


def _value(name: str, lookup: Lookup, missing: list[str]) -> str:
    value = lookup(name)
    if value is None:
        missing.append(name)
    return value or ""


def _braced(body: str, lookup: Lookup, missing: list[str], depth: int) -> str:
    name = _NAME.match(body)
    if not name:
        raise ValueError(_INVALID)
    rest = body[name.end() :]
    operator = next((o for o in _OPERATORS if rest.startswith(o)), "")
    if rest and not operator:
        raise ValueError(_INVALID)
    if not operator:
        return _value(name[0], lookup, missing)
    value, word = lookup(name[0]), rest[len(operator) :]
    given = bool(value) if operator[0] == ":" else value is not None
    kind = operator[-1]
    if kind == "+":
        return substitute(word, lookup, missing, depth + 1) if given else ""
    if given:
        return value or ""
    if kind == "?":
        why = substitute(word, lookup, missing, depth + 1)
        raise ValueError(f"required variable {name[0]} has no value" + (f": {why}" if why else ""))
    return substitute(word, lookup, missing, depth + 1)


_LINE = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][\w.-]*)[ \t]*
    (?:[=:][ \t]*(?P<value>'[^']*'|"(?:\\.|[^"\\])*"|[^\n]*?))?
    [ \t]*(?:(?<=[ \t'"=])\#[^\n]*)?\r?(?:\n|\Z)""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?\r?(?:\n|\Z)")


def dotenv(
    text: str, file: str, lookup: Lookup, findings: list[Finding]
) -> dict[str, tuple[str, Span]]:
    """The assignments of an env file: name to (value, span of the value as written).

    A name without "=" takes its value from `lookup`, or is left out.
    """
    out: dict[str, tuple[str, Span]] = {}
    lines = Text(file, text)
    at = 1 if text.startswith("\ufeff") else 0

    def earlier(name: str) -> str | None:
        outer = lookup(name)
        return out[name][0] if outer is None and name in out else outer

    while at < len(text):
        found = _BLANK.match(text, at) or _LINE.match(text, at)
        if not found:
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            place = lines.span(at, end)
            findings.append(Finding("error", "HA140", "not an assignment NAME=value", place))
            at = end + 1
            continue
        if found.re is _LINE:
            name, written = found["name"], found["value"]
            if written is not None:
                place = lines.span(found.start("value"), found.end("value"))
                out[name] = (_unquote(written, earlier, place, findings), place)
            elif (inherited := lookup(name)) is not None:
                out[name] = (inherited, lines.span(found.start("name"), found.end("name")))
        at = max(found.end(), at + 1)
    return out


def _unquote(written: str, lookup: Lookup, place: Span, findings: list[Finding]) -> str:
    if len(written) > 1 and written[0] == written[-1] == "'":
        return written[1:-1]
    if len(written) > 1 and written[0] == written[-1] == '"':
        pairs = {"n": "\n", "r": "\r", "t": "\t", "$": "$$"}
        written = re.sub(r"\\(.)", lambda m: pairs.get(m[1], m[1]), written[1:-1], flags=re.DOTALL)
    try:
        return substitute(written, lookup, [])
    except ValueError as error:
        findings.append(Finding("error", "HA145", str(error), place))
        return written
