"""Durations, sizes, cores and shares as text: one small grammar per dialect.

The unit of a bare number differs per program (HAProxy and Redis: ms, Patroni: s, compose: none),
which is where mistakes hide; so every call names its dialect. All errors are ValueError with a
text fit for a Finding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

NS = 1_000_000_000  # in a second

_MS, _S, _M, _H, _D = (Decimal(x) for x in ("0.001", "1", "60", "3600", "86400"))
_US, _NS = Decimal("0.000001"), Decimal("0.000000001")
_YEAR = 365 * _D


def counted(n: int, word: str) -> str:
    """`1 file`, `2 files`."""
    return f"{n} {word}" + ("" if n == 1 else "s")


@dataclass(frozen=True, slots=True)
class _Dialect:
    """units: name -> seconds, largest first. bare: seconds of a number without unit, or None."""

    units: Mapping[str, Decimal]
    bare: Decimal | None = None
    decimals: bool = False
    compound: bool = False  # "1m30s"
    limit: Decimal = 1000 * _YEAR


_INT31_MS = Decimal(2**31 - 1) * _MS
_INT63 = Decimal(2**63 - 1)
# Sources: HAProxy manual 2.5 and src/tools.c parse_time_err (31 bit ms); redis.conf comments
# (down-after-milliseconds and friends are whole ms); Patroni "Dynamic configuration" (seconds);
# Go time.ParseDuration (int64 ns); compose specification "Specifying durations" (no bare number);
# Prometheus "Query basics" (whole numbers, largest unit first); PostgreSQL 20.1.1 (unit per
# parameter when bare; us ms s min h d).
_DURATIONS: dict[str, _Dialect] = {
    "haproxy": _Dialect(
        {"d": _D, "h": _H, "m": _M, "s": _S, "ms": _MS, "us": _US}, bare=_MS, limit=_INT31_MS
    ),
    "redis": _Dialect({}, bare=_MS, limit=_INT63 * _MS),
    "patroni": _Dialect({}, bare=_S, decimals=True, limit=_INT31_MS * 1000),
    "go": _Dialect(
        {"h": _H, "m": _M, "s": _S, "ms": _MS, "us": _US, "µs": _US, "ns": _NS},
        decimals=True,
        compound=True,
        limit=_INT63 * _NS,
    ),
    "prom": _Dialect(
        {"y": _YEAR, "w": 7 * _D, "d": _D, "h": _H, "m": _M, "s": _S, "ms": _MS},
        compound=True,
        limit=_INT63 * _NS,
    ),
    "pg": _Dialect(
        {"d": _D, "h": _H, "min": _M, "s": _S, "ms": _MS, "us": _US},
        bare=_MS,
        decimals=True,
        limit=_INT31_MS * 1000,
    ),
    "yaml": _Dialect(
        {"y": _YEAR, "w": 7 * _D, "d": _D, "h": _H, "m": _M, "s": _S, "ms": _MS, "us": _US},
        decimals=True,
        compound=True,
    ),
}
_DURATIONS["sentinel"] = _DURATIONS["redis"]
_DURATIONS["compose"] = _DURATIONS["go"]
_DURATIONS["scenario"] = _DURATIONS["yaml"]

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+", re.ASCII)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)([a-zµμ]*)", re.ASCII)
_MAX_TEXT = 64  # no sensible number is longer; keeps Decimal away from megabytes


def _dialect(name: str) -> _Dialect:
    if name not in _DURATIONS:
        raise ValueError(f"no duration dialect '{name}'")
    return _DURATIONS[name]


def _clean(text: str, what: str) -> str:
    text = str(text).strip()
    shown = text if len(text) <= _MAX_TEXT else text[:20] + "..."
    if not text:
        raise ValueError(f"empty text where a {what} is needed")
    if text.startswith("-"):
        raise ValueError(f"'{shown}' is negative; a {what} is not")
    if text.lower().lstrip("+.") in ("nan", "inf", "infinity"):
        raise ValueError(f"'{shown}' is not a finite {what}")
    if len(text) > _MAX_TEXT:
        raise ValueError(f"'{shown}' is too large for a {what}")
    return text


def _examples(dialect: str) -> str:
    return {
        "haproxy": "'2000' (ms), '500ms', '2s'",
        "redis": "'5000' (ms)",
        "sentinel": "'5000' (ms)",
        "patroni": "'30' (seconds)",
        "prom": "'5m', '1h30m'",
        "pg": "'10s', '500ms'",
    }.get(dialect, "'500ms', '90s', '1m30s'")


def _parts(text: str, dialect: str) -> list[tuple[Decimal, str]]:
    """(number, unit) pairs that make up the whole text."""
    out, at = [], 0
    while at < len(text):
        found = _PART.match(text, at)
        if not found:
            raise ValueError(f"'{text}' is not a duration; write {_examples(dialect)}")
        out.append((Decimal(found[1]), found[2].replace("μ", "µ")))
        at = found.end()
    return out


def _check_order(text: str, parts: list[tuple[Decimal, str]], grammar: _Dialect) -> None:
    if len(parts) > 1 and not grammar.compound:
        raise ValueError(f"'{text}': only one number and one unit are allowed here")
    order = [list(grammar.units).index(unit) for _, unit in parts if unit in grammar.units]
    if order != sorted(set(order)):
        raise ValueError(f"'{text}': units must come largest first, each at most once")


def parse_duration_s(text: str, dialect: str, *, zero: bool = False, unit: str = "") -> float:
    """The duration in seconds.

    dialect: haproxy, redis, sentinel, patroni, go, compose, prom, pg, yaml (= scenario).
    zero=True accepts 0 (several programs read it as "no limit"; the caller knows). unit: what a
    bare number means where the parameter decides (pg). ValueError says what is wrong.

    >>> parse_duration_s("2000", "haproxy"), parse_duration_s("1m30s", "compose")
    (2.0, 90.0)
    """
    grammar = _dialect(dialect)
    text = _clean(text, "duration")
    parts = _parts(text, dialect)
    _check_order(text, parts, grammar)
    total = Decimal(0)
    for number, name in parts:
        if not grammar.decimals and number != number.to_integral_value():
            raise ValueError(f"'{text}': only whole numbers are allowed here")
        if name in grammar.units:
            total += number * grammar.units[name]
        elif name:
            known = ", ".join(grammar.units) or "none; bare numbers only"
            raise ValueError(f"'{text}': unknown unit '{name}' (units here: {known})")
        elif number and grammar.bare is None and not unit:
            raise ValueError(f"'{text}' needs a unit; write {_examples(dialect)}")
        else:
            total += number * (grammar.units[unit] if unit else grammar.bare or _S)
    if total == 0 and not zero:
        raise ValueError(f"'{text}' is zero; a duration above zero is needed")
    if total > grammar.limit:
        raise ValueError(f"'{text}' is too large for a duration (limit {grammar.limit:.0f} s)")
    return float(total)


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_duration(value_s: float, dialect: str, like: str = "") -> str:
    """Write a duration in the manner of the text that it replaces.

    A bare number stays bare, a unit stays if it can say the value, else a finer one is taken.
    ValueError if the dialect cannot say it.

    >>> format_duration(0.5, "haproxy", like="2000"), format_duration(3.0, "haproxy", like="2s")
    ('500', '3s')
    >>> format_duration(0.5, "haproxy", like="2s")
    '500ms'
    """
    grammar = _dialect(dialect)
    if not 0 <= value_s < float("inf"):
        raise ValueError(f"{value_s} is not a duration")
    exact = Decimal(repr(float(value_s)))
    if exact > grammar.limit:
        raise ValueError(f"{value_s} s is too large for {dialect}")
    found = _PART.findall(like.strip())
    wanted = found[-1][1] if found else None
    if grammar.bare is not None and (wanted == "" or not grammar.units):
        number = exact / grammar.bare
        if grammar.decimals or number == number.to_integral_value():
            return _plain(number)
    names = [n for n in grammar.units if n != "µs"]
    if not wanted:
        wanted = next((n for n in names if exact and exact % grammar.units[n] == 0), "s")
    start = names.index(wanted) if wanted in names else 0
    for name in names[start:]:
        number = exact / grammar.units[name]
        if grammar.decimals or number == number.to_integral_value():
            return _plain(number) + name
    raise ValueError(f"{value_s} s cannot be written exactly for {dialect}")


_K = 1024
_BINARY = {"": 1, "b": 1, "k": _K, "m": _K**2, "g": _K**3, "t": _K**4, "p": _K**5}
_DOCKER = _BINARY | {f"{u}{e}": n for u, n in _BINARY.items() if n > 1 for e in ("b", "ib")}
_REDIS = {"": 1, "b": 1}
_YAML = {"B": 1}
for _i, _u in enumerate("kmgt", 1):
    _REDIS |= {_u: 1000**_i, f"{_u}b": _K**_i}
    _YAML |= {f"{_u.upper()}iB": _K**_i, f"{'k' if _u == 'k' else _u.upper()}B": 1000**_i}
# Sources: go-units RAMInBytes (docker, base 1024); redis.conf header (1k = 1000, 1kb = 1024);
# PostgreSQL 20.1.1 (B kB MB GB TB, base 1024, case matters); HAProxy manual, parse_size_err.
_SIZES: dict[str, tuple[Mapping[str, int], bool]] = {  # units, lower case first
    "compose": (_DOCKER, True),
    "redis": (_REDIS, True),
    "pg": ({"B": 1, "kB": _K, "MB": _K**2, "GB": _K**3, "TB": _K**4}, False),
    "haproxy": ({"": 1, "k": _K, "m": _K**2, "g": _K**3}, True),
    "yaml": (_YAML, False),
}
_SIZES["docker"], _SIZES["scenario"] = _SIZES["compose"], _SIZES["yaml"]
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", re.ASCII)


def parse_size_bytes(text: str, dialect: str, *, zero: bool = False, unit_bytes: int = 0) -> int:
    """The size in bytes. dialect: compose (= docker), redis, pg, haproxy, yaml (= scenario).

    unit_bytes: what a bare number means where the parameter decides (pg: 8192 for
    shared_buffers); 0 refuses a bare number unless the dialect counts bytes.

    >>> parse_size_bytes("16GiB", "yaml"), parse_size_bytes("1k", "redis")
    (17179869184, 1000)
    """
    if dialect not in _SIZES:
        raise ValueError(f"no size dialect '{dialect}'")
    units, fold = _SIZES[dialect]
    text = _clean(text, "size")
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"'{text}' is not a size; write '512m' or '16GiB' as the file does")
    name = found[2].lower() if fold else found[2]
    if not name and unit_bytes:
        factor = unit_bytes
    elif name in units:
        factor = units[name]
    elif not name:
        raise ValueError(f"'{text}' needs a unit ({', '.join(u for u in units if u)})")
    else:
        names = ", ".join(u for u in units if u)
        raise ValueError(f"'{text}': unknown unit '{found[2]}' (units here: {names})")
    size = int(Decimal(found[1]) * factor)
    if size == 0 and not zero:
        raise ValueError(f"'{text}' is zero; a size above zero is needed")
    if size >= 2**63:
        raise ValueError(f"'{text}' is too large for a size")
    return size


def _parse_plain(text: str, what: str, limit: Decimal, zero: bool) -> float:
    text = _clean(text, what)
    try:
        number = Decimal(text) if _NUMBER.fullmatch(text) else None
    except InvalidOperation:  # pragma: no cover - the pattern leaves nothing for it
        number = None
    if number is None:
        raise ValueError(f"'{text}' is not a {what}")
    if number == 0 and not zero:
        raise ValueError(f"'{text}' is zero; a {what} above zero is needed")
    if number > limit:
        raise ValueError(f"'{text}' is too large for a {what}")
    return float(number)


def parse_cores(text: str) -> float:
    """A number of CPU cores above zero: "0.5", "8"."""
    return _parse_plain(str(text), "number of cores", Decimal(65536), zero=False)


def parse_fraction(text: str, *, zero: bool = True) -> float:
    """A share 0..1, written "5%" or "0.05"."""
    text = _clean(str(text), "share")
    if text.endswith("%"):
        return _parse_plain(text[:-1].strip(), "percentage", Decimal(100), zero) / 100
    return _parse_plain(text, "share", Decimal(1), zero)
