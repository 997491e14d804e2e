"""YAML 1.2 core with a place for every key and value.

Built on PyYAML's parser events (nothing is constructed, no tag runs code). The tree is made
without recursion, so depth is bounded by a limit and not by the stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from hasim.errors import Finding
from hasim.read.yaml_node import (
    Node,
    as_bool,
    as_float,
    as_int,
    as_str,
    plain,
    resolve,
    span_at,
)
from hasim.source import Span, Text

__all__ = [
    "Node",
    "as_bool",
    "as_float",
    "as_int",
    "as_str",
    "parse",
    "plain",
    "resolve",
    "span_at",
]

MAX_CHARS = 12_000_000
MAX_NODES = 500_000  # a few seconds; aliases and merge keys counted as often as they are used
MAX_DEPTH = 100
_STD = "tag:yaml.org,2002:"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # scanned only, never constructed


def parse(
    source: str | bytes, file: str, tags: tuple[str, ...] = ()
) -> tuple[Node | None, list[Finding]]:
    """The one document of a YAML text and every problem found; None if it cannot be used.

    bytes are decoded as UTF-8 (spans count characters). `tags` are the application tags that the
    reader knows ("!reset"); others are an error. Never raises for any content.
    """
    start = Span(file, 1, 1)
    if isinstance(source, bytes):
        raw = source
        try:
            source = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            message = f"not UTF-8 text (byte {error.start})"
            return None, [Finding("error", "HA110", message, Span(file, line, 1))]
    if len(source) > MAX_CHARS:
        message = f"larger than {MAX_CHARS} characters"
        return None, [Finding("error", "HA111", message, start)]
    composer = _Composer(file, source, tags)
    try:
        root = composer.run()
    except _Stop:
        root = None
    except yaml.YAMLError as error:
        composer.findings.append(_syntax(error, composer))
        root = None
    except (UnicodeError, ValueError) as error:  # lone surrogates; seen from the C scanner
        composer.findings.append(Finding("error", "HA110", f"not text: {error}", start))
        root = None
    return root, composer.findings


class _Stop(Exception):
    """The finding already says why there is no tree."""


@dataclass(slots=True)
class _Frame:
    """A collection that is still open."""

    kind: str
    mark: Any
    start: int
    anchor: str | None
    tag: str
    style: str
    end: int = 0
    children: list[Node] = field(default_factory=list)


class _Composer:
    """Events to Nodes, with a stack of open collections in place of recursion."""

    def __init__(self, file: str, source: str, tags: tuple[str, ...]):
        self.file, self.tags = file, tags
        self.source = source
        self.shift = 1 if source.startswith("\ufeff") else 0
        self.findings: list[Finding] = []
        self.anchors: dict[str, Node | None] = {}  # None: still open
        self.made = 0
        self._text: Text | None = None

    def run(self) -> Node:
        stack: list[_Frame] = []
        root: Node | None = None
        documents = 0
        event: Any
        for event in yaml.parse(self.source[self.shift :], Loader=_LOADER):
            node = None
            if isinstance(event, yaml.ScalarEvent):
                node = self._scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._open(event, stack)
            elif isinstance(event, yaml.CollectionEndEvent):
                node = self._close(stack.pop(), event)
            elif isinstance(event, yaml.AliasEvent):
                node = self._alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._error(
                        "HA112",
                        "several documents in one file; the first is used",
                        self._at(event.start_mark, 3),
                    )
                    break
            if node is None:
                continue
            self._count(node)
            if stack:
                stack[-1].children.append(node)
                alias = isinstance(event, yaml.AliasEvent)
                stack[-1].end = event.end_mark.index + self.shift if alias else node.span.end
            else:
                root = node
        if root is None:
            raise self._fatal("HA113", "the file is empty", Span(self.file, 1, 1))
        return root

    def _error(self, code: str, message: str, span: Span, hint: str = "") -> None:
        self.findings.append(Finding("error", code, message, span, hint))

    def _fatal(self, code: str, message: str, span: Span) -> _Stop:
        self._error(code, message, span)
        return _Stop()

    def _at(self, mark: Any, length: int = 0) -> Span:
        start = mark.index + self.shift
        return Span(self.file, mark.line + 1, mark.column + 1, start, start + length)

    def _count(self, node: Node) -> None:
        """An alias counts as what it stands for: ten lines can say a billion values."""
        if node.size > MAX_NODES or self.made > MAX_NODES:
            raise self._fatal(
                "HA114", f"more than {MAX_NODES} values (aliases expanded)", node.span
            )
        if node.depth > MAX_DEPTH:
            raise self._fatal(
                "HA114", f"nested deeper than {MAX_DEPTH} levels (by aliases)", node.span
            )

    def _span(self, event: Any, start: int, end: int) -> Span:
        """[start, end) without anchor, tag and trailing white space."""
        source, mark = self.source, event.start_mark
        while end > start and source[end - 1] in " \t\r\n":
            end -= 1
        if getattr(event, "anchor", None) is None and not getattr(event, "tag", None):
            return Span(self.file, mark.line + 1, mark.column + 1, start, end)
        begin = _PROPERTIES.match(source, start, max(end, start)).end()  # type: ignore[union-attr]
        if self._text is None:
            self._text = Text(self.file, source)
        return self._text.span(min(begin, end), end)

    def _scalar(self, event: Any) -> Node:
        self.made += 1
        span = self._span(
            event, event.start_mark.index + self.shift, event.end_mark.index + self.shift
        )
        style, raw, tag = event.style or "", event.value, event.tag or ""
        value = raw if style or tag == "!" else resolve(raw)
        if tag:
            value = self._tagged(tag, raw, value, span)
        node = Node("scalar", value, span, tag, raw, style)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _tagged(self, tag: str, raw: str, value: Any, span: Span) -> Any:
        known = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}
        name = tag.removeprefix(_STD)
        if tag == _STD + "str":
            return raw
        if tag.startswith(_STD) and name in known:
            resolved = resolve(raw)
            if not isinstance(resolved, known[name]):  # type: ignore[arg-type]
                self._error("HA115", f"'{raw[:40]}' is no {name}", span)
            return resolved
        if tag != "!" and tag not in self.tags:
            self._error("HA115", f"tag {tag} is not known here", span)
        return value

    def _open(self, event: Any, stack: list[_Frame]) -> None:
        if len(stack) >= MAX_DEPTH:
            raise self._fatal(
                "HA114", f"nested deeper than {MAX_DEPTH} levels", self._at(event.start_mark)
            )
        self.made += 1
        kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
        if event.tag and event.tag not in (*self.tags, "!", _STD + kind):
            self._error("HA115", f"tag {event.tag} is not known here", self._at(event.start_mark))
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        style = "flow" if event.flow_style else "block"
        start = event.start_mark.index + self.shift
        stack.append(_Frame(kind, event, start, event.anchor, event.tag or "", style))

    def _close(self, frame: _Frame, event: Any) -> Node:
        # The end mark of a block is where the next thing begins.
        block = frame.style == "block"
        end = max(frame.start, frame.end) if block else event.end_mark.index + self.shift
        span = self._span(frame.mark, frame.start, end)
        value: Any = tuple(frame.children)
        below: list[Node] = frame.children
        if frame.kind == "map":
            value = self._pairs(frame)
            below = [node for pair in value for node in pair]
        size = 1 + sum(n.size for n in below)
        depth = 1 + max((n.depth for n in below), default=0)
        node = Node(frame.kind, value, span, frame.tag, "", frame.style, size, depth)
        if frame.anchor is not None:
            self.anchors[frame.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        span = self._at(event.start_mark, len(event.anchor) + 1)
        if event.anchor not in self.anchors:
            raise self._fatal("HA116", f"alias *{event.anchor} has no anchor before it", span)
        node = self.anchors[event.anchor]
        if node is None:
            raise self._fatal("HA116", f"alias *{event.anchor} contains itself", span)
        return node

    def _pairs(self, frame: _Frame) -> tuple[tuple[Node, Node], ...]:
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        nodes = iter(frame.children)
        for key, value in zip(nodes, nodes, strict=True):
            if key.kind != "scalar":
                self._error("HA117", "a key must be a plain text", key.span)
            elif key.raw == "<<" and not key.style and not key.tag:
                self._merge(value, merged)
            elif key.raw in own:
                first = own[key.raw][0].span
                self._error(
                    "HA118",
                    f"key '{key.raw}' is written twice",
                    key.span,
                    f"first written in line {first.line}",
                )
            else:
                own[key.raw] = (key, value)
        return tuple({**merged, **own}.values())

    def _merge(self, value: Node, into: dict[str, tuple[Node, Node]]) -> None:
        """The maps of a `<<`; of several the first wins (YAML merge key draft)."""
        for source in value.value if value.kind == "seq" else (value,):
            if source.kind != "map":
                self._error("HA117", "a merge key (<<) needs a map", source.span)
                continue
            self.made += len(source.value)
            self._count(source)
            for key, item in source.value:
                into.setdefault(key.raw, (key, item))


def _syntax(error: yaml.YAMLError, composer: _Composer) -> Finding:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        problem = getattr(error, "problem", "") or getattr(error, "context", "") or "not YAML"
        return Finding("error", "HA110", problem, composer._at(mark))
    span = Span(composer.file, 1, 1)
    for match in _BINARY.finditer(composer.source, composer.shift):
        span = Text(composer.file, composer.source).span(match.start(), match.end())
        break
    reason = getattr(error, "reason", "") or "not YAML"
    return Finding("error", "HA110", f"{reason} (is this a text file?)", span)


_PROPERTIES = re.compile(r"(?:(?:[&!][^\s]*|#[^\n]*)?\s+)*(?:[&!][^\s]*\Z)?")
_BINARY = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
