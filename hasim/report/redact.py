"""Take secrets out of the copies of configuration files, whatever their format.

Rather one harmless word too many than one password too few: a value is replaced wherever its
name sounds like a secret, and then wherever else the same value stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

HIDDEN = "<redacted>"
# Names of secrets in compose, .env, Patroni, PostgreSQL, Redis, Sentinel, keepalived, HAProxy.
_NAME = (
    r"(?:[\w.-]*(?:passw(?:or)?d|passwd|passphrase|secret|token|requirepass|masterauth"
    r"|auth[_-]pass(?:word)?|primaryauth|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)"
    r"[\w-]*|[\w-]*_PASS|PASS|pass|[\w-]*_pwd|pwd)"
)
_VALUE = r"""(?:\$\{[^}\n]*\}|"(?:\\.|[^"\\\n])*"|'(?:''|[^'\n])*'|[^\s"',;}\])#][^\s"',;}\])]*)"""
_QUOTED = r"""["']?"""
_WORD = r"""(?:"(?:\\.|[^"\\\n])*"|\S+)"""
_PATTERNS = tuple(
    re.compile(p, re.IGNORECASE | re.MULTILINE)
    for p in (
        # key: value, key=value, "key": value, - KEY=value; key=value inside a quoted string
        rf"(?<![\w.-]){_QUOTED}{_NAME}{_QUOTED}[ \t]*"
        rf"""(?:=|:(?=[ \t]|["']))[ \t]*(?P<v>{_VALUE})""",
        # the rest of a line of YAML, .env or properties, whatever characters it has
        rf"""^[ \t]*(?:-[ \t]+)?{_NAME}:[ \t]+(?P<v>[^\s"'{{\[|>$&*][^\n]*?)(?=[ \t]+\#|[ \t]*$)""",
        rf"""^[ \t]*(?:export[ \t]+)?{_NAME}[ \t]*=[ \t]*(?P<v>[^\s"'$][^\n]*)$""",
        # - "KEY=any value with spaces"
        rf'''^[ \t]*-[ \t]+"{_NAME}=(?P<v>[^"\n]+)"''',
        rf"""^[ \t]*-[ \t]+'{_NAME}=(?P<v>[^'\n]+)'""",
        rf"""^[ \t]*-[ \t]+{_NAME}=(?P<v>[^\s"'$][^\n]*?)(?=[ \t]+\#|[ \t]*$)""",
        # --requirepass value, as words, as a YAML or JSON list
        rf"""--{_NAME}{_QUOTED}[ \t]*(?:,[ \t]*|[ =]|\n[ \t]*-[ \t]+)(?P<v>{_VALUE})""",
        rf"""["']{_NAME}["'][ \t]*,[ \t]*(?P<v>{_VALUE})""",
        # directives: requirepass value; sentinel auth-pass mymaster value; auth_pass value;
        # misspelt ones too, for the copy of a file that does not boot
        rf"^[ \t]*(?:require[-_]?p|(?:master|primary)[-_]?a|auth_pa)[\w-]*[ \t]+(?P<v>{_WORD})",
        rf"^[ \t]*sentinel[ \t]+auth[-_]?p[\w-]*[ \t]+\S+[ \t]+(?P<v>{_WORD})",
        rf"^[ \t]*sentinel[ \t]+sentinel-p[\w-]*[ \t]+(?P<v>{_WORD})",
        # SQL: PASSWORD 'value'; HAProxy: user x password y, stats auth user:value
        rf"\b(?:insecure-)?password[ \t]+(?P<v>{_VALUE})",
        r"\bstats[ \t]+auth[ \t]+[^\s:]+:(?P<v>\S+)",
        # Redis ACL: user name on >value; redis-cli -a value; curl -u user:value
        r"^[ \t]*user[ \t]+\S+[ \t][^\n]*?[>#](?P<v>\S+)",
        rf"\bredis-cli\b[^\n|;&]*?[ \t](?:-a|--pass)[ \t]+(?P<v>{_VALUE})",
        r"\bcurl\b[^\n|;&]*?[ \t](?:-u|--user)[ \t]+[\"']?[^\s:\"']+:(?P<v>[^\s\"']+)",
        r"\b(?:Bearer|Basic)[ \t]+(?P<v>[^\s\"']{6,})",
        # scheme://user:value@host
        r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"']*:(?P<v>[^\s/@\"']+)@",
        # .pgpass and PEM
        r"^[^\s:#]+:(?:\d+|\*):[^\s:]+:[^\s:]+:(?P<v>\S+)$",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?P<v>.*?\n(?:.*\n)*?)-----END",
        # an indented block under a name: `password: |`
        rf"^(?P<i>[ \t]*){_NAME}:[ \t]*[|>][-+]?[ \t]*\n(?P<v>(?:(?P=i)[ \t]+[^\n]*\n?)+)",
    )
)
# ${NAME} and $NAME say where a secret comes from and hold none; a default behind :- is one.
_REFERENCE = re.compile(r"\$\{\w+(?::?\?[^}]*)?\}|\$\w+|\$\(\w+\)")
_DEFAULT = re.compile(r"\$\{\w+:?[-+](?P<d>[^}]*)\}")
# names a cluster of etcd and keeps nobody out (etcd manual, "--initial-cluster-token")
_NO_SECRET = re.compile(r"initial[-_]cluster[-_]token", re.IGNORECASE)
_PLAIN = {"", "true", "false", "null", "none", "yes", "no", "~", "|", ">", "|-", ">-", HIDDEN}
# A value as short or as common as this is not looked for elsewhere: `postgres` names a service.
_COMMON = re.compile(r"[a-z]{1,12}|\d{1,5}|.{0,4}", re.IGNORECASE | re.DOTALL)


def redact(text: str, known: Iterable[str] = ()) -> str:
    """The text with every secret replaced by HIDDEN; `known` are secrets found in other files."""
    spans = sorted({span for span, _ in found(text)})
    out, at = [], 0
    for start, end in spans:
        if start < at:
            at = max(at, end)
            continue
        out += [text[at:start], HIDDEN]
        at = end
    return scrub("".join([*out, text[at:]]), [*known, *secrets(text)])


def secrets(text: str) -> set[str]:
    """The secret values of a text that are telling enough to be looked for elsewhere."""
    return {v for _, v in found(text) if not _COMMON.fullmatch(v)}


def scrub(text: str, known: Iterable[str]) -> str:
    """Replace known secret values wherever they stand, longest first."""
    for value in sorted(set(known), key=lambda v: (-len(v), v)):
        text = text.replace(value, HIDDEN)
    return text


def scrub_all(value: Any, known: Iterable[str]) -> Any:
    """The value with every text in it scrubbed: tuples and dataclasses are made anew."""
    if isinstance(value, str):
        return scrub(value, known)
    if isinstance(value, tuple):
        return tuple(scrub_all(v, known) for v in value)
    if is_dataclass(value) and not isinstance(value, type):
        made = {f.name: scrub_all(getattr(value, f.name), known) for f in fields(value)}
        return replace(value, **made)
    return value


def redact_all(files: Mapping[str, str]) -> tuple[dict[str, str], frozenset[str]]:
    """Redacted copies of all files, and the values that must appear in no output."""
    known: frozenset[str] = frozenset().union(*(secrets(t) for t in files.values()))
    return {path: redact(text, known) for path, text in files.items()}, known


def found(text: str) -> list[tuple[tuple[int, int], str]]:
    """Place and value of every secret, quotes excluded."""
    out = []
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span("v")
            if _NO_SECRET.search(text, match.start(), start):
                continue
            value = text[start:end]
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
                start, end, value = start + 1, end - 1, value[1:-1]
            default = _DEFAULT.fullmatch(value)
            if default:
                start, end = start + default.start("d"), start + default.end("d")
                value = default["d"]
            trimmed = value.rstrip()
            if _REFERENCE.fullmatch(trimmed) or trimmed.lower() in _PLAIN:
                continue
            out.append(((start, start + len(trimmed)), trimmed))
    return out
