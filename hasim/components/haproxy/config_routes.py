"""Addresses and routes: `bind` lines, `acl` and `use_backend` rules.

Simulated matches: path_beg, path, and the Host header; what else a rule asks is said and skipped.
"""

from __future__ import annotations

import re

from hasim.components.haproxy.config_scope import Scope
from hasim.components.haproxy.config_server import split_address
from hasim.components.haproxy.config_values import Notes
from hasim.read import haproxy_words as hw
from hasim.read.haproxy import Line, show
from hasim.source import Word

_HOST = re.compile(r"(?:req\.)?hdr\(host\)|req\.hdr\(host,?-?1?\)", re.IGNORECASE)
# Pre-defined ACLs (manual 7.4); TRUE is the only one with a simulated meaning.
PREDEFINED = hw.words(
    "FALSE HTTP HTTP_1.0 HTTP_1.1 HTTP_2.0 HTTP_3.0 HTTP_CONTENT HTTP_URL_ABS HTTP_URL_SLASH "
    "HTTP_URL_STAR LOCALHOST METH_CONNECT METH_DELETE METH_GET METH_HEAD METH_OPTIONS METH_POST "
    "METH_PUT METH_TRACE RDP_COOKIE REQ_CONTENT TRUE WAIT_END"
)
_MAX_PORTS = 4096


def binds(found: Scope, notes: Notes) -> tuple[tuple[str, int], ...]:
    """The (address, port) pairs of all bind lines; a socket path has port 0."""
    out: list[tuple[str, int]] = []
    for line in found.binds:
        if len(line.words) < 2 or not line.words[1].text:
            notes.error("HA125", "'bind' needs an address", line.span, "bind :8080")
            continue
        for part in line.words[1].text.split(","):
            out += _bind(Word(part, line.words[1].span), notes)
        _bind_options(line, notes)
    return tuple(out)


def _bind(word: Word, notes: Notes) -> list[tuple[str, int]]:
    host, colon, ports = word.text.rpartition(":")
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", ports, re.ASCII)
    if colon and found:
        low, high = int(found[1]), int(found[2])
        if low <= high <= 65535:
            if high - low >= _MAX_PORTS:
                text = f"bind: of '{ports}' only the first {_MAX_PORTS} ports are simulated"
                notes.warn("HA131", text, word.span)
            return [(host, p) for p in range(low, min(high + 1, low + _MAX_PORTS))]
        notes.error("HA125", f"bind: '{show(ports)}' is no port range", word.span)
        return []
    address = split_address(word, notes, what="bind")
    if address is None:
        return []
    if not address[1] and not address[0].startswith("/") and "@" not in address[0]:
        notes.error("HA125", f"bind: no port in '{show(word.text)}'", word.span, "bind :8080")
        return []
    return [address]


def _bind_options(line: Line, notes: Notes) -> None:
    at = 2
    while at < len(line.words):
        word = line.words[at]
        arity, status = hw.BIND_OPTIONS.get(word.text, (-1, ""))
        if arity < 0:
            hint = notes.hint(word.text, hw.BIND_OPTIONS)
            text = f"unknown bind option '{show(word.text)}'; it is not simulated"
            notes.warn("HA123", text, word.span, hint)
        elif status == hw.MATTERS:
            text = f"'bind ... {word.text}' is not simulated; it could change the outcome"
            notes.warn("HA130", text, word.span)
        at += 1 + max(arity, 0)


def routes(found: Scope, notes: Notes) -> tuple[tuple[str, str], ...]:
    """(match, backend) of the use_backend rules, in order; see model.Frontend.routes."""
    out: list[tuple[str, str]] = []
    for rule in found.rules:
        words = rule.words[1:]
        if not words or not words[0].text:
            notes.error("HA125", "'use_backend' needs the name of a backend", rule.span)
            continue
        name = words[0].text
        if "%[" in name or "%" in name[:1]:
            _skip(rule, "a computed name", notes)
            continue
        matches = _condition(rule, words[1:], found, notes)
        out += [(match, name) for match in matches or ()]
    return tuple(out)


def _skip(rule: Line, why: str, notes: Notes) -> None:
    text = f"this use_backend rule is not simulated ({why}); it never matches"
    notes.warn("HA130", text, rule.span)


def _condition(rule: Line, words: tuple[Word, ...], found: Scope, notes: Notes) -> list[str] | None:
    """The simulated matches of `if ...`, or None if the rule cannot be simulated."""
    if not words:
        return [""]
    if words[0].text not in ("if", "unless") or len(words) < 2:
        text = "'use_backend' takes 'if' or 'unless' and a condition after the name"
        notes.error("HA125", text, words[0].span)
        return None
    terms = _terms(words[1:])
    if terms is None:
        notes.error("HA125", "unbalanced braces in the condition", rule.span)
        return None
    out: list[str] = []
    reason = "'unless'" if words[0].text == "unless" else ""
    for term in terms:  # joined by `or`; each is a list of factors joined by `and`
        for factor in term:
            matches = _factor(factor, found, notes)
            if matches is None:
                reason = reason or f"'{show(' '.join(w.text for w in factor))}'"
            else:
                out += matches
        if len(term) != 1:
            reason = reason or "several conditions joined by 'and'"
    if reason:
        _skip(rule, reason, notes)
        return None
    return out


def _terms(words: tuple[Word, ...]) -> list[list[tuple[Word, ...]]] | None:
    """`a or { b } c` as [[(a,)], [({, b, }), (c,)]]; None if a brace is open."""
    terms: list[list[tuple[Word, ...]]] = [[]]
    at = 0
    while at < len(words):
        text = words[at].text
        if text in ("or", "||"):
            terms.append([])
            at += 1
            continue
        start = at
        while at < len(words) and words[at].text == "!":
            at += 1
        if at < len(words) and words[at].text.lstrip("!") == "{":
            while at < len(words) and words[at].text != "}":
                at += 1
            if at >= len(words):
                return None
        at += 1
        terms[-1].append(words[start:at])
    return [t for t in terms if t]


def _factor(factor: tuple[Word, ...], found: Scope, notes: Notes) -> list[str] | None:
    """The matches of one named or anonymous ACL, or None if it is not simulated."""
    first = factor[0].text
    name = factor[-1].text.lstrip("!")
    if name == "}":
        inside = [w for w in factor[:-1] if w.text.strip("!") not in ("{", "")]
        matches = _expression(tuple(inside))
    elif name in found.acls:
        matches = []
        for line in found.acls[name]:
            one = _expression(line.words[2:])
            matches = None if one is None or matches is None else matches + one
    elif name == "TRUE":
        matches = [""]
    elif name in PREDEFINED:
        matches = None
    else:
        hint = notes.hint(name, found.acls)
        notes.error("HA126", f"no such ACL: '{show(name)}'", factor[-1].span, hint)
        return []
    return None if first.startswith("!") else matches


def _expression(words: tuple[Word, ...]) -> list[str] | None:
    """`path_beg /a /b`, `path -i /a`, `hdr(host) -i name`, `path -m beg /a`."""
    if not words:
        return None
    fetch, rest = words[0].text, list(words[1:])
    method = ""
    while rest and rest[0].text.startswith("-"):
        flag = rest.pop(0).text
        if flag == "-m" and rest:
            method = rest.pop(0).text
        elif flag not in ("-i", "--"):
            return None
        if flag == "--":
            break
    values = [w.text for w in rest]
    if fetch == "path_beg" and method in ("", "beg") or (fetch, method) == ("path", "beg"):
        return values
    if fetch == "path" and method in ("", "str"):
        return [f"={v}" for v in values]
    if _HOST.fullmatch(fetch) and method in ("", "str"):
        return [f"host:{v.lower()}" for v in values]
    return None
