"""A YAML value with its place, and the ways to read it. Made by hasim.read.yaml12."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hasim.errors import Finding
from hasim.source import Span


@dataclass(frozen=True, slots=True)
class Node:
    """A YAML value and where it was really written (through aliases and merge keys too).

    kind: "map" | "seq" | "scalar". value: for a map a tuple of (key Node, value Node), for a seq a
    tuple of Nodes, for a scalar str, int, float, bool or None (YAML 1.2 core). tag: the explicit
    tag as written ("!reset", "!!str" as "tag:yaml.org,2002:str") or "". raw: the text of a scalar.
    style: "" plain, "'", '"', "|", ">" for scalars; "block" or "flow" for collections.
    The span leaves out anchor, tag and trailing line ends. size counts the nodes
    below and itself, depth the levels.
    """

    kind: str
    value: Any
    span: Span
    tag: str = ""
    raw: str = ""
    style: str = ""
    size: int = field(default=1, compare=False, repr=False)
    depth: int = field(default=1, compare=False, repr=False)

    def items(self) -> Iterator[tuple[str, Node]]:
        """(key text, value) of a map, in file order; nothing for other kinds."""
        if self.kind == "map":
            for key, value in self.value:
                yield key.raw, value

    def get(self, key: str) -> Node | None:
        """The value under `key` of a map, or None."""
        if self.kind == "map":
            for name, value in self.value:
                if name.raw == key:
                    return value
        return None

    def key(self, key: str) -> Node | None:
        """The key node itself (its span is where the key is written), or None."""
        if self.kind != "map":
            return None
        return next((k for k, _ in self.value if k.raw == key), None)

    @property
    def is_null(self) -> bool:
        """True for an empty or null scalar."""
        return self.kind == "scalar" and self.value is None


# YAML 1.2.2, section 10.3.2 (core schema)
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o([0-7]+)|0x([0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{sign + w: float(sign + "inf") for sign in ("", "-", "+") for w in (".inf", ".Inf", ".INF")},
}
_MAX_DIGITS = 400  # longer than any number that a float can hold


def resolve(raw: str) -> Any:
    """A plain scalar by the YAML 1.2 core schema.

    >>> resolve("1:30"), resolve("no"), resolve("0o17"), resolve("~")
    ('1:30', 'no', 15, None)
    """
    if raw in _WORDS:
        return _WORDS[raw]
    if raw[0] not in "+-.0123456789" or len(raw) > _MAX_DIGITS:
        return raw
    if _INT.fullmatch(raw):
        return int(raw)
    based = _BASED.fullmatch(raw)
    if based:
        return int(based[1], 8) if based[1] else int(based[2], 16)
    return float(raw) if _FLOAT.fullmatch(raw) else raw


def plain(node: Node) -> Any:
    """The value as dict, list and scalars, as pydantic wants it; map keys become str."""
    if node.kind == "map":
        return {key: plain(value) for key, value in node.items()}
    if node.kind == "seq":
        return [plain(item) for item in node.value]
    return node.value


def span_at(node: Node, loc: tuple[str | int, ...]) -> Span:
    """The span for a pydantic error `loc`: as deep as the file goes.

    Names that are in no file (the tag of a union) are passed over; a last name that pydantic calls
    unknown is shown at its key.
    """
    at = node
    span = node.span
    for step in loc:
        below: Node | None = None
        if at.kind == "map":
            below = at.get(str(step))
            key = at.key(str(step))
            span = key.span if key else span
        elif at.kind == "seq" and isinstance(step, int) and 0 <= step < len(at.value):
            below = at.value[step]
        if below is not None:
            at = below
            span = span if at.kind == "map" or at.span.start == at.span.end else at.span
    return span


def _wanted(node: Node, kind: str, what: str, findings: list[Finding]) -> None:
    seen = {"map": "a map", "seq": "a list"}.get(node.kind, f"'{node.raw[:60]}'")
    findings.append(Finding("error", "HA119", f"{what} must be {kind}, not {seen}", node.span))


def as_str(node: Node | None, what: str, findings: list[Finding], default: str = "") -> str:
    """A scalar as text (numbers and booleans as written), or a Finding and the default.

    A missing or null node gives the default; so in the other helpers.
    """
    if node is None or node.is_null:
        return default
    if node.kind != "scalar":
        _wanted(node, "a text", what, findings)
        return default
    return node.raw


def _scalar(node: Node | None) -> Any:
    """The value of a scalar, quoted numbers and booleans read too; None for all else."""
    if node is None or node.kind != "scalar":
        return None
    return resolve(node.raw) if node.style in ("'", '"') and node.raw else node.value


def as_int(node: Node | None, what: str, findings: list[Finding], default: int = 0) -> int:
    """A whole number (quoted digits too), or a Finding and the default."""
    value = _scalar(node)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if node is not None and not node.is_null:
        _wanted(node, "a whole number", what, findings)
    return default


def as_float(node: Node | None, what: str, findings: list[Finding], default: float = 0.0) -> float:
    """A finite number (quoted too), or a Finding and the default."""
    value = _scalar(node)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if abs(number) != float("inf") and number == number:
            return number
    if node is not None and not node.is_null:
        _wanted(node, "a number", what, findings)
    return default


def as_bool(node: Node | None, what: str, findings: list[Finding], default: bool = False) -> bool:
    """true or false (quoted too), or a Finding and the default."""
    value = _scalar(node)
    if isinstance(value, bool):
        return value
    if node is not None and not node.is_null:
        _wanted(node, "true or false", what, findings)
    return default
