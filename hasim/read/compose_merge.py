"""How compose puts two trees together: files over files, a service over what it extends.

Source: compose specification, "Merge" (and `extends`, which follows the same rules). Maps merge,
lists append, the rest is replaced; `!reset` removes, `!override` replaces.
"""

from __future__ import annotations

from dataclasses import replace

from hasim.errors import Finding
from hasim.read.yaml_node import Node
from hasim.source import Span, Text

TAGS = ("!reset", "!override")
_REPLACED = {("command",), ("entrypoint",), ("healthcheck", "test")}
_ASSIGNMENTS = ("environment", "labels", "annotations", "sysctls")
_LISTS = ("env_file", "dns", "dns_search", "dns_opt", "tmpfs")


def merge(base: Node, over: Node, path: tuple[str, ...], findings: list[Finding]) -> Node:
    """`over` on top of `base`. path: from the top of a file, ("services", name, field, ...)."""
    if over.tag == "!override" or base.is_null:
        return settled(over)
    if over.is_null:
        return base
    if path[:1] == ("services",) and path[2:] in _REPLACED:
        return over
    if base.kind != over.kind and base.kind != "scalar":
        what = {"map": "a map", "seq": "a list"}
        message = f"{'.'.join(path)} is {what[base.kind]} in {base.span} and must be one here too"
        findings.append(Finding("error", "HA143", message, over.span))
        return base
    if base.kind == "seq":
        return replace(over, value=base.value + over.value)
    if base.kind != "map" or over.kind != "map":
        return over
    out = {key.raw: (key, value) for key, value in base.value}
    for key, value in over.value:
        if value.tag == "!reset":
            out.pop(key.raw, None)
        elif key.raw in out:
            under = out[key.raw][1]
            out[key.raw] = (key, merge(under, value, (*path, key.raw), findings))
        else:
            out[key.raw] = (key, settled(value))
    return replace(over, value=tuple(out.values()))


def settled(node: Node) -> Node:
    """The tree with nothing below it: what `!reset` marks is left out."""
    if node.kind == "map":
        pairs = tuple((k, settled(v)) for k, v in node.value if v.tag != "!reset")
        return replace(node, value=pairs)
    if node.kind == "seq":
        return replace(node, value=tuple(settled(v) for v in node.value if v.tag != "!reset"))
    return node


def tags_in(node: Node) -> list[tuple[str, Span]]:
    """Every `!reset` and `!override` below, in file order."""
    below = [n for pair in node.value for n in pair] if node.kind == "map" else node.value
    inner = [t for n in below for t in tags_in(n)] if node.kind != "scalar" else []
    return [(node.tag, node.span), *inner] if node.tag in TAGS else inner


def normalised(service: Node, text: Text, findings: list[Finding]) -> Node:
    """The service with its short list forms written as maps, so that they merge by key."""
    if service.kind != "map":
        return service
    pairs = []
    for key, value in service.value:
        name = key.raw
        if value.kind == "seq" and name in _ASSIGNMENTS:
            value = _assignments(value, "=", text, findings)
        elif value.kind == "seq" and name == "extra_hosts":
            value = _assignments(value, "=:", text, findings)
        elif value.kind == "seq" and name in ("depends_on", "networks"):
            value = _names(value, findings)
        elif value.kind == "scalar" and name in _LISTS and not value.is_null:
            value = Node("seq", (value,), value.span, value.tag)
        pairs.append((key, value))
    return replace(service, value=tuple(pairs))


def _names(node: Node, findings: list[Finding]) -> Node:
    out = {}
    for item in node.value:
        if item.kind != "scalar":
            findings.append(Finding("error", "HA143", "a name is needed here", item.span))
        else:
            out[item.raw] = (item, Node("scalar", None, item.span))
    return replace(node, kind="map", value=tuple(out.values()))


def _assignments(node: Node, separators: str, text: Text, findings: list[Finding]) -> Node:
    """["K=V", "N"] as {K: V, N: null}; the span of V is its own part of the item if plain."""
    out = {}
    for item in node.value:
        if item.kind != "scalar" or item.is_null:
            findings.append(Finding("error", "HA143", "a text NAME=value is needed", item.span))
            continue
        cut = min((i for s in separators if (i := item.raw.find(s)) > 0), default=-1)
        name = item.raw if cut < 0 else item.raw[:cut]
        key = replace(item, value=name, raw=name)
        if cut < 0:
            value = Node("scalar", None, item.span)
        else:
            word = item.raw[cut + 1 :]
            value = Node("scalar", word, _tail(item, cut + 1, text), "", word, "'")
        out[name] = (key, value)
    return replace(node, kind="map", value=tuple(out.values()))


def _tail(item: Node, cut: int, text: Text) -> Span:
    """The span of the characters of a one-line scalar after `cut`, else the whole item."""
    quote = len(item.style) if item.style in ("'", '"') else 0
    start, end = item.span.start + quote, item.span.end - quote
    written = text.text[start:end]
    if item.style in ("|", ">") or "\n" in written or written[:cut] != item.raw[:cut]:
        return item.span
    return text.span(start + cut, end)
