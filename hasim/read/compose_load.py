"""From the files of a project to one tree: read, interpolate, extend, merge (in this order)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hasim.errors import Finding, did_you_mean
from hasim.read.compose_env import dotenv, substitute
from hasim.read.compose_merge import TAGS, merge, normalised, settled, tags_in
from hasim.read.yaml12 import parse
from hasim.read.yaml_node import Node, as_str, resolve
from hasim.source import Span, Text

_MAX_CHAIN = 50


@dataclass(frozen=True, slots=True)
class Resolved:
    """A service after its chain of `extends`. own: its value in the file that names it."""

    node: Node
    chain: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """The merged project. own: per service its written values, first file first."""

    root: Node
    own: Mapping[str, tuple[Node, ...]]
    chains: Mapping[str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class Loader:
    """Reads files once and remembers them. `texts` has every file that was read.

    interpolate=False: variables stay as they are written.
    """

    read_text: Callable[[str], str]
    env: Mapping[str, str]
    interpolate: bool = True
    findings: list[Finding] = field(default_factory=list)
    texts: dict[str, Text] = field(default_factory=dict)
    tags: list[tuple[str, Span]] = field(default_factory=list)
    roots: dict[str, Node | None] = field(default_factory=dict)
    _named: dict[str, dict[str, Node]] = field(default_factory=dict)
    _services: dict[tuple[str, str], Resolved | None] = field(default_factory=dict)
    _dotenv: dict[str, str] = field(default_factory=dict)

    def lookup(self, name: str) -> str | None:
        """A variable of the shell, or of the `.env` file behind it."""
        return self.env.get(name, self._dotenv.get(name))

    def error(self, code: str, message: str, span: Span | None, hint: str = "") -> None:
        """Take down one problem."""
        self.findings.append(Finding("error", code, message, span, hint))

    def project(self, paths: Sequence[str]) -> Tree | None:
        """All files merged, or None if none can be read."""
        self._read_dotenv(posixpath.join(posixpath.dirname(paths[0]), ".env"))
        own: dict[str, tuple[Node, ...]] = {}
        chains: dict[str, tuple[tuple[str, str], ...]] = {}
        merged: Node | None = None
        for path in paths:
            root = self.root(path, None)
            if root is None:
                continue
            pairs = []
            for key, value in root.value:
                if key.raw == "services" and value.kind == "map":
                    for name, service in value.value:
                        # What an alias gives stands further up and belongs to others too.
                        if service.span.start >= name.span.start:
                            own[name.raw] = (*own.get(name.raw, ()), service)
                    value = self._extended(path, value, chains)
                pairs.append((key, value))
            root = replace(root, value=tuple(pairs))
            merged = merge(merged, root, (), self.findings) if merged else settled(root)
        return None if merged is None else Tree(merged, own, chains)

    def _extended(
        self, path: str, services: Node, chains: dict[str, tuple[tuple[str, str], ...]]
    ) -> Node:
        pairs = []
        for key, value in services.value:
            resolved = self.service(path, key.raw, ())
            if resolved is not None and value.tag != "!reset":
                value = replace(resolved.node, tag=value.tag)
                chains[key.raw] = chains.get(key.raw, ()) + resolved.chain
            pairs.append((key, value))
        return replace(services, value=tuple(pairs))

    def root(self, path: str, asked_at: Span | None) -> Node | None:
        """The top map of one file, interpolated and with list forms normalised; read once."""
        if path not in self.roots:
            self.roots[path] = None
            text = self.text(path, asked_at)
            if text is not None:
                self.roots[path] = self._parsed(path, text)
        return self.roots[path]

    def text(self, path: str, asked_at: Span | None) -> Text | None:
        """The text of one file, or a Finding at the place that asks for it."""
        if path not in self.texts:
            try:
                self.texts[path] = Text(path, self.read_text(path))
            except (OSError, LookupError, ValueError) as error:
                place = asked_at or Span(path, 1, 1)
                why = getattr(error, "strerror", None) or str(error) or "not found"
                self.error("HA140", f"cannot read '{path}': {why}", place)
                return None
        return self.texts[path]

    def _parsed(self, path: str, text: Text) -> Node | None:
        node, found = parse(text.text, path, TAGS)
        self.findings += found
        if node is None:
            return None
        if node.kind != "map":
            self.error("HA141", "a compose file must be a map", node.span)
            return None
        self.tags += tags_in(node)
        node = self._interpolated(node, {}) if self.interpolate else node
        pairs = []
        for key, value in node.value:
            if key.raw == "services" and value.kind == "map":
                services = tuple((k, normalised(v, text, self.findings)) for k, v in value.value)
                value = replace(value, value=services)
            pairs.append((key, value))
        return replace(node, value=tuple(pairs))

    def _interpolated(self, node: Node, done: dict[int, Node]) -> Node:
        """Variables replaced in values (not in keys); a shared node stays shared."""
        if id(node) in done:
            return done[id(node)]
        if node.kind == "map":
            pairs = tuple((k, self._interpolated(v, done)) for k, v in node.value)
            out = replace(node, value=pairs)
        elif node.kind == "seq":
            out = replace(node, value=tuple(self._interpolated(v, done) for v in node.value))
        elif "$" in node.raw:
            raw = self._variables(node)
            out = replace(node, raw=raw, value=raw if node.style else resolve(raw))
        else:
            out = node
        done[id(node)] = out
        return out

    def _variables(self, node: Node) -> str:
        missing: list[str] = []
        try:
            raw = substitute(node.raw, self.lookup, missing)
        except ValueError as error:
            self.error("HA145", str(error), node.span)
            return node.raw
        for name in dict.fromkeys(missing):
            message = f"variable {name} is not set; compose takes an empty text"
            hint = f"set it, or write ${{{name}:-default}}"
            self.findings.append(Finding("warning", "HA145", message, node.span, hint))
        return raw

    def _read_dotenv(self, path: str) -> None:
        try:
            text = self.read_text(path)
        except (OSError, LookupError, ValueError):
            return
        self.texts[path] = Text(path, text)
        found = dotenv(text, path, self.env.get, self.findings)
        self._dotenv = {name: value for name, (value, _) in found.items()}

    def service(self, path: str, name: str, chain: tuple[tuple[str, str], ...]) -> Resolved | None:
        """One service of one file with what it extends underneath; chain: who asked."""
        here = (path, name)
        if here not in self._services:
            if path not in self._named:
                root = self.root(path, None)
                services = root.get("services") if root else None
                self._named[path] = dict(services.items()) if services else {}
            node = self._named[path].get(name)
            if node is None or node.kind != "map":
                return None if node is None else Resolved(node)
            self._services[here] = self._extend(here, node, (*chain, here))
        return self._services[here]

    def _extend(
        self, here: tuple[str, str], node: Node, chain: tuple[tuple[str, str], ...]
    ) -> Resolved:
        extends = node.get("extends")
        target = self._target(here[0], extends) if extends else None
        rest = replace(node, value=tuple((k, v) for k, v in node.value if k.raw != "extends"))
        if extends is None or target is None:
            return Resolved(rest)
        if target in chain or len(chain) > _MAX_CHAIN:
            names = " -> ".join(f"{p}:{s}" for p, s in (*chain[-4:], target))
            what = "goes in a circle" if target in chain else "is too long a chain"
            self.error("HA146", f"extends {what}: {names}", extends.span)
            return Resolved(rest)
        root = self.root(target[0], extends.span)
        if root is None:
            self._unreadable(target[0], extends.span)
            return Resolved(rest)
        base = self.service(*target, chain)
        if base is None:
            services = root.get("services")
            known = [k for k, _ in services.items()] if services else []
            message = f"service '{target[1]}' to extend is not in {target[0]}"
            self.error("HA146", message, extends.span, did_you_mean(target[1], known))
            return Resolved(rest)
        path = ("services", here[1])
        merged = merge(base.node, rest, path, self.findings)
        return Resolved(merged, (target, *base.chain))

    def _unreadable(self, path: str, span: Span) -> None:
        """Every `extends` of a missing file says so, not only the first that asked."""
        if not any(f.span == span for f in self.findings):
            self.error("HA146", f"cannot extend: '{path}' cannot be used", span)

    def _target(self, path: str, extends: Node) -> tuple[str, str] | None:
        if extends.kind == "scalar":
            return path, extends.raw
        service = as_str(extends.get("service"), "extends.service", self.findings)
        if extends.kind != "map" or not service:
            self.error("HA146", "extends needs the name of a service", extends.span)
            return None
        file = as_str(extends.get("file"), "extends.file", self.findings)
        if not file:
            return path, service
        return posixpath.normpath(posixpath.join(posixpath.dirname(path), file)), service
