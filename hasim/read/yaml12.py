"""YAML 1.2 core with a place for every key and value.

Built on PyYAML's parser events (nothing is constructed, no tag runs code). The tree is made
without recursion, so depth is bounded by a limit and not by the stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
    """

    kind: str
    value: Any
    span: Span
    tag: str = ""
    raw: str = ""
    style: str = ""

    def items(self) -> Iterator[tuple[str, Node]]:
        """(key text, value) of a map, in file order; nothing for other kinds."""
        raise NotImplementedError

    def get(self, key: str) -> Node | None:
        """The value under `key` of a map, or None."""
        raise NotImplementedError

    def key(self, key: str) -> Node | None:
        """The key node itself (its span is where the key is written), or None."""
        raise NotImplementedError


def parse(source: str | bytes, file: str) -> tuple[Node | None, list[Finding]]:
    """The one document of a YAML text and every problem found; None if it cannot be used.

    bytes are decoded as UTF-8 (spans count characters). Never raises for any content.
    """
    raise NotImplementedError


def plain(node: Node) -> Any:
    """The value as dict, list and scalars, as pydantic wants it; map keys become str."""
    raise NotImplementedError


def span_at(node: Node, loc: tuple[str | int, ...]) -> Span:
    """The span for a pydantic error `loc`: as deep as the file goes."""
    raise NotImplementedError


def as_str(node: Node | None, what: str, findings: list[Finding], default: str = "") -> str:
    """A scalar as text (numbers and booleans as written), or a Finding and the default."""
    raise NotImplementedError


def as_int(node: Node | None, what: str, findings: list[Finding], default: int = 0) -> int:
    """A whole number (quoted digits too), or a Finding and the default."""
    raise NotImplementedError


def as_float(node: Node | None, what: str, findings: list[Finding], default: float = 0.0) -> float:
    """A number (quoted too), or a Finding and the default."""
    raise NotImplementedError


def as_bool(node: Node | None, what: str, findings: list[Finding], default: bool = False) -> bool:
    """true or false (quoted too), or a Finding and the default."""
    raise NotImplementedError
