"""A JavaScript file as a syntax tree with places, and its literal values. Nothing is executed.

tree_sitter is imported only when a script is read. Walks use an explicit stack, so that the depth
of the script is no limit of ours; values are read to a fixed depth.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any

from hasim.errors import Finding
from hasim.read.yaml_node import Node
from hasim.source import Span, Text

MAX_CHARS = 2_000_000
_MAX_DEPTH = 60
_MAX_STEPS = 50_000  # constants may name constants: bounds the work of reading one script
_FUNCTIONS = (
    "function_declaration",
    "function_expression",
    "arrow_function",
    "generator_function_declaration",
)


class Source:
    """The tree of one script. `consts` are names given a value exactly once, `functions` too."""

    def __init__(self, text: str, file: str, env: Mapping[str, str]):
        import tree_sitter
        import tree_sitter_javascript

        self.text, self.file, self.env = Text(file, text), file, env
        data = text.encode("utf-8", "replace")
        language = tree_sitter.Language(tree_sitter_javascript.language())
        self.tree = tree_sitter.Parser(language).parse(data)
        self.root = self.tree.root_node
        # Byte offsets (tree-sitter) to character offsets: where wide characters end, and by how
        # many bytes too far a count of bytes is there.
        self._wide, self._extra = [-1], [0]
        if len(data) != len(text):
            at = 0
            for ch in text:
                size = len(ch.encode("utf-8", "replace"))
                at += size
                if size > 1:
                    self._wide.append(at)
                    self._extra.append(self._extra[-1] + size - 1)
        self.findings: list[Finding] = []
        self.consts: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}
        self.ignored: frozenset[str] = frozenset()  # properties that nobody will read
        self.assigned: dict[str, Any] = {}  # left sides of assignments
        self._steps = 0

    def chars(self, at: int) -> int:
        """The character offset of a byte offset."""
        return at - self._extra[bisect_right(self._wide, at) - 1]

    def span(self, node: Any) -> Span:
        """The place of a syntax node."""
        return self.text.span(self.chars(node.start_byte), self.chars(node.end_byte))

    def code(self, node: Any) -> str:
        """The text of a syntax node."""
        return self.text.text[self.chars(node.start_byte) : self.chars(node.end_byte)]

    def add(self, severity: str, code: str, message: str, node: Any, hint: str = "") -> None:
        """Take down one problem."""
        self.findings.append(Finding(severity, code, message, self.span(node), hint))

    def syntax_errors(self) -> bool:
        """Add a Finding per broken place (five at most); True if there is one."""
        if not self.root.has_error:
            return False
        found = 0
        for node in walk(self.root, lambda n: n.has_error):
            if found < 5 and (node.is_missing or node.is_error):
                found += 1
                word = self.code(node).strip().split("\n")[0][:30]
                what = f"'{node.type}' is missing" if node.is_missing else f"at '{word}'"
                self.add("error", "HA161", f"not JavaScript: {what}", node)
        if not found:
            self.add("error", "HA161", "not JavaScript", self.root)
        return True

    def collect(self) -> None:
        """Fill `consts` and `functions`; a name given a value twice is neither."""
        twice: set[str] = set()
        for node in walk(self.root):
            if node.type in ("assignment_expression", "augmented_assignment_expression"):
                left = node.child_by_field_name("left")
                if left is not None:
                    self.assigned.setdefault(self.code(left), left)
            elif node.type == "update_expression":
                twice.add(self.code(node).strip("+- "))
            if node.type not in ("variable_declarator", "function_declaration"):
                continue
            name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
            if name is None or name.type != "identifier":
                continue
            if node.type == "function_declaration":
                value = node
            if value is None:
                continue
            key = self.code(name)
            into = self.functions if value.type in _FUNCTIONS else self.consts
            if key in self.consts or key in self.functions:
                twice.add(key)
            into[key] = value
        for name in (*twice, *self.assigned):
            self.consts.pop(name, None)
            self.functions.pop(name, None)

    def value(self, node: Any, depth: int = 0) -> Node | None:
        """The value of a literal (or what leads to one) as a Node, None if it cannot be known.

        Properties and items of objects and arrays that cannot be known get a Finding of their own
        and are left out.
        """
        self._steps += 1
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS or node is None:
            return None
        kind = node.type
        if kind == "object":
            return self._object(node, depth)
        if kind == "array":
            items = [self._item(n, depth) for n in node.named_children if n.type != "comment"]
            return Node("seq", tuple(i for i in items if i is not None), self.span(node))
        if kind == "identifier" and self.code(node) in self.consts:
            return self.value(self.consts[self.code(node)], depth + 1)
        if kind == "parenthesized_expression":
            inner = [n for n in node.named_children if n.type != "comment"]
            return self.value(inner[0], depth + 1) if len(inner) == 1 else None
        found, known = self._scalar(node, depth)
        if not known:
            return None
        # k6 takes a text of digits for a number, as quoted numbers are read by as_int.
        style = "'" if isinstance(found, str) else ""
        return Node("scalar", found, self.span(node), "", _text(found), style)

    def _item(self, node: Any, depth: int) -> Node | None:
        value = self.value(node, depth + 1)
        if value is None:
            self.unknown(node)
        return value

    def unknown(self, node: Any, severity: str = "error") -> None:
        """A Finding for something that only running the script would tell."""
        word = " ".join(self.code(node)[:60].split())
        self.add(
            severity,
            "HA162",
            f"'{word}' cannot be read without running the script",
            node,
            "state the value in scenarios.yaml",
        )

    def _object(self, node: Any, depth: int) -> Node:
        pairs: dict[str, tuple[Node, Node]] = {}
        for child in node.named_children:
            key_node, value_node = child, child
            if child.type == "pair":
                key_node = child.child_by_field_name("key")
                value_node = child.child_by_field_name("value")
            elif child.type == "spread_element":
                base = self.value(child.named_children[0], depth + 1)
                if base is None or base.kind != "map":
                    self.unknown(child)
                else:
                    pairs |= {k.raw: (k, v) for k, v in base.value}
                continue
            elif child.type != "shorthand_property_identifier":
                continue  # comments and methods
            name = self.code(key_node)
            if key_node.type == "string":
                name = string_value(name)
            if child is value_node and name in self.consts:
                value_node = self.consts[name]
            key = Node("scalar", name, self.span(key_node), "", name)
            if value_node.type in _FUNCTIONS or name in self.ignored:
                continue
            value = self._item(value_node, depth)
            if value is not None:
                pairs[name] = (key, value)
        return Node("map", tuple(pairs.values()), self.span(node))

    def _scalar(self, node: Any, depth: int) -> tuple[Any, bool]:
        """(value, known) of a scalar expression."""
        kind, code = node.type, self.code(node)
        if kind == "number":
            return _number(code)
        if kind == "string":
            return string_value(code), True
        if kind in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[kind], True
        if kind == "template_string":
            text = self.template(node, depth)
            return text, "{}" not in text
        if kind in ("member_expression", "subscript_expression"):
            name = self._env_name(node)
            return self.env.get(name), name in self.env
        if kind == "unary_expression":
            inner = self.value(node.child_by_field_name("argument"), depth + 1)
            number = inner.value if inner else None
            if isinstance(number, int | float) and not isinstance(number, bool):
                return (-number if code.startswith("-") else number), code[0] in "+-"
        if kind == "binary_expression":
            return self._binary(node, depth)
        if kind == "call_expression":
            return self._cast(node, depth)
        return None, False

    def _env_name(self, node: Any) -> str:
        """X of `__ENV.X` and `__ENV["X"]`; "" for anything else."""
        owner = node.child_by_field_name("object")
        if owner is None or self.code(owner) != "__ENV":
            return ""
        index = node.child_by_field_name("index")
        if index is not None:
            return string_value(self.code(index)) if index.type == "string" else ""
        return self.code(node.child_by_field_name("property"))

    def _binary(self, node: Any, depth: int) -> tuple[Any, bool]:
        operator = self.code(node.child_by_field_name("operator"))
        left_node = node.child_by_field_name("left")
        left = self.value(left_node, depth + 1)
        right = self.value(node.child_by_field_name("right"), depth + 1)
        if operator in ("||", "??"):
            if left is not None and (left.value or operator == "??" and left.value is not None):
                return left.value, left.kind == "scalar"
            unset = left_node.type in ("member_expression", "subscript_expression")
            known = left is not None or unset and bool(self._env_name(left_node))
            return (right.value if right else None), bool(
                known and right is not None and right.kind == "scalar"
            )
        if operator == "+" and left and right and left.kind == right.kind == "scalar":
            a, b = left.value, right.value
            if isinstance(a, str) or isinstance(b, str):
                return left.raw + right.raw, len(left.raw) + len(right.raw) < 10_000
            if None not in (a, b):
                return a + b, True
        return None, False

    def _cast(self, node: Any, depth: int) -> tuple[Any, bool]:
        """parseInt("5"), Number(...), parseFloat(...) and String(...) of something known."""
        name = self.code(node.child_by_field_name("function"))
        arguments = node.child_by_field_name("arguments")
        inner = (
            self.value(arguments.named_children[0], depth + 1)
            if (arguments is not None and arguments.named_children)
            else None
        )
        if inner is None or inner.kind != "scalar":
            return None, False
        if name in ("String",):
            return inner.raw, True
        value, known = _number(inner.raw.strip())
        if name == "parseInt" and known:
            return int(value), True
        return value, known and name in ("Number", "parseFloat")

    def template(self, node: Any, depth: int = 0) -> str:
        """The text of a template literal; "{}" stands for each part that cannot be known."""
        out, at = [], node.start_byte + 1
        for child in node.named_children:
            if child.type != "template_substitution":
                continue
            out.append(_unescape(self._between(at, child.start_byte)))
            inner = child.named_children
            value = self.value(inner[0], depth + 1) if len(inner) == 1 else None
            out.append(value.raw if value is not None and value.kind == "scalar" else "{}")
            at = child.end_byte
        out.append(_unescape(self._between(at, node.end_byte - 1)))
        return "".join(out)

    def _between(self, start: int, end: int) -> str:
        return self.text.text[self.chars(start) : self.chars(end)]


def walk(root: Any, into: Any = None) -> Iterator[Any]:
    """Every node before its children, in file order; `into(node)` False leaves children out."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if into is None or into(node):
            stack += reversed(node.children)


_ESCAPE = re.compile(r"\\(u\{[0-9a-fA-F]{1,6}\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|\r?\n|.)", re.S)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}


def _escape(match: re.Match[str]) -> str:
    word = match[1]
    if len(word) > 1 and word[0] in "ux":
        number = int(word[1:].strip("{}"), 16)
        return chr(number) if number < 0x110000 else ""
    return "" if word.endswith("\n") else _SIMPLE.get(word, word)


def _unescape(text: str) -> str:
    return _ESCAPE.sub(_escape, text) if "\\" in text else text


def string_value(code: str) -> str:
    """The value of a quoted JavaScript string."""
    return _unescape(code[1:-1])


def _number(code: str) -> tuple[Any, bool]:
    """A JavaScript number literal: (value, True), or (None, False)."""
    text = code.replace("_", "").lower()
    if len(text) > 60 or not text or not text.isascii():
        return None, False
    try:
        if text[:2] in ("0x", "0o", "0b"):
            return int(text, 0), True
        value = float(text)
    except ValueError:
        return None, False
    if value != value or value in (float("inf"), float("-inf")):
        return None, False
    return (int(value) if value.is_integer() and abs(value) < 2**53 else value), True


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    return value if isinstance(value, str) else repr(value)
