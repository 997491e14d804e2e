"""The requests and sleeps of a k6 function, in the order in which they stand."""

from __future__ import annotations

import re
from typing import Any

from hasim.read.k6_syntax import Source, string_value
from hasim.read.k6_types import K6Step

_METHODS = {
    "get": "GET",
    "post": "POST",
    "put": "PUT",
    "del": "DELETE",
    "patch": "PATCH",
    "head": "HEAD",
    "options": "OPTIONS",
}
_MAX_STEPS = 2_000
_MAX_CALLS = 20
_BRANCHES = dict.fromkeys(
    ("for_statement", "for_in_statement", "while_statement", "do_statement"),
    "a loop is read as one turn",
) | dict.fromkeys(
    ("if_statement", "switch_statement", "ternary_expression"),
    "all branches are read as taken",
)
_Visit = tuple[Any, bool, tuple[int, ...], bool]
_ORIGIN = re.compile(r"(?:[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*|\{\})?(?P<path>[^?#]*)")


class Steps:
    """Reads functions of one script; `http` and `sleep` are the names that it imports."""

    def __init__(self, source: Source):
        self.source = source
        self.http, self.sleep = {"http"}, {"sleep"}
        self.direct: dict[str, str] = {}  # import { get } from "k6/http"
        self._batches = 0
        self._imports()

    def _imports(self) -> None:
        for node in self.source.root.named_children:
            if node.type != "import_statement":
                continue
            source = node.child_by_field_name("source")
            module = string_value(self.source.code(source)) if source is not None else ""
            clause = next((c for c in node.named_children if c.type == "import_clause"), None)
            if module in ("k6/ws", "k6/websockets", "k6/net/grpc", "k6/browser"):
                self.source.add("warning", "HA163", f"{module} is not simulated", node)
            for child in clause.named_children if clause is not None else ():
                if child.type == "identifier" and module == "k6/http":
                    self.http = {self.source.code(child)}
                for spec in child.named_children if child.type == "named_imports" else ():
                    self._imported(module, spec)

    def _imported(self, module: str, spec: Any) -> None:
        name = self.source.code(spec.child_by_field_name("name"))
        alias = spec.child_by_field_name("alias")
        local = self.source.code(alias) if alias is not None else name
        if module == "k6" and name == "sleep":
            self.sleep = {local}
        elif module == "k6/http" and name in _METHODS:
            self.direct[local] = _METHODS[name]

    def read(self, function: Any) -> tuple[K6Step, ...]:
        """The steps of a function; calls of the script's own functions are followed."""
        out: list[K6Step] = []
        # (node, entering?, functions open around it, below a branch?); a call is taken down when
        # it is left, so that requests among its arguments come first.
        body = function.child_by_field_name("body")
        stack: list[_Visit] = [(body, True, (function.id,), False)]
        work = 0
        while stack and body is not None:
            node, entering, around, branch = stack.pop()
            work += 1
            if len(out) > _MAX_STEPS or work > 1_000_000:
                self.source.add(
                    "error",
                    "HA162",
                    "the function makes too many steps to follow",
                    function,
                    "state the flow in scenarios.yaml",
                )
                break
            if not entering:
                stack += self._call(node, around, branch, out)
                continue
            if node.type == "function_declaration":
                continue  # read where it is called
            if node.type in _BRANCHES and not branch:
                branch = True  # the outermost speaks for those inside it
                if self._has_steps(node):
                    message = _BRANCHES[node.type]
                    hint = "state the flow in scenarios.yaml if that is wrong"
                    self.source.add("warning", "HA164", message, node, hint)
            if node.type == "call_expression":
                stack.append((node, False, around, branch))
            stack += [(child, True, around, branch) for child in reversed(node.named_children)]
        return tuple(out)

    def _has_steps(self, node: Any) -> bool:
        code = self.source.code(node)
        names = [f"{h}." for h in self.http] + [f"{s}(" for s in self.sleep]
        names += [f"{d}(" for d in self.direct]
        return any(name in code for name in names)

    def _call(
        self, node: Any, around: tuple[int, ...], branch: bool, out: list[K6Step]
    ) -> list[_Visit]:
        """Take down one call; for a function of the script, its body is to be walked next."""
        function = node.child_by_field_name("function")
        arguments = node.child_by_field_name("arguments")
        if function is None or arguments is None:
            return []
        named = [a for a in arguments.named_children if a.type != "comment"]
        if arguments.type == "template_string":
            named = [arguments]
        name = self.source.code(function) if function.end_byte - function.start_byte < 200 else ""
        owner, _, method = name.partition(".")
        if name in self.sleep:
            self._sleep(node, named, out)
        elif owner in self.http and method:
            self._request(node, method, named, out)
        elif name in self.direct:
            out += self._one(node, self.direct[name], named[:1])
        elif name in self.source.functions:
            target = self.source.functions[name]
            body = target.child_by_field_name("body")
            if target.id not in around and len(around) < _MAX_CALLS and body is not None:
                return [(body, True, (*around, target.id), branch)]
        return []

    def _sleep(self, node: Any, named: list[Any], out: list[K6Step]) -> None:
        value = self.source.value(named[0]) if named else None
        seconds = value.value if value is not None else None
        if isinstance(seconds, str):
            seconds = (
                float(seconds)
                if re.fullmatch(r"[0-9.]{1,20}", seconds)
                and (seconds.count(".") < 2 and seconds != ".")
                else None
            )
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            self.source.add(
                "warning",
                "HA162",
                f"'{self.source.code(node)[:60]}' is not a fixed time",
                node,
                "state think_time in scenarios.yaml",
            )
            return
        out.append(K6Step("sleep", self.source.span(node), seconds=float(seconds)))

    def _request(self, node: Any, method: str, named: list[Any], out: list[K6Step]) -> None:
        if method in _METHODS:
            out += self._one(node, _METHODS[method], named[:1])
        elif method in ("request", "asyncRequest") and len(named) > 1:
            verb = self.source.value(named[0])
            text = verb.raw.upper() if verb is not None and verb.kind == "scalar" else "GET"
            out += self._one(node, text, named[1:2])
        elif method == "batch" and named:
            self._batch(node, named[0], out)

    def _one(self, node: Any, method: str, url: list[Any], batch: int = 0) -> list[K6Step]:
        if not url:
            return []
        text = self._url(url[0])
        if text is None:
            self.source.add(
                "warning",
                "HA162",
                "the URL of this request cannot be read",
                url[0],
                "state the flow in scenarios.yaml",
            )
            text = "{}"
        found = _ORIGIN.match(text)
        path = (found["path"] if found else "") or "/"
        path = path if path.startswith("/") else f"/{path}"
        return [K6Step("request", self.source.span(node), method, text, path, 0.0, batch)]

    def _url(self, node: Any) -> str | None:
        if node.type == "template_string":
            return self.source.template(node)
        if node.type == "call_expression":  # http.url`...`
            arguments = node.child_by_field_name("arguments")
            inner = arguments is not None and arguments.type == "template_string"
            return self.source.template(arguments) if inner else None
        if node.type == "identifier" and self.source.code(node) in self.source.consts:
            target = self.source.consts[self.source.code(node)]
            if target.type == "template_string":
                return self.source.template(target)
        if node.type == "binary_expression":
            return self._joined(node)
        value = self.source.value(node)
        return value.raw if value is not None and value.kind == "scalar" else None

    def _joined(self, node: Any) -> str | None:
        """BASE + "/path" + id: what is known of it."""
        parts: list[str] = []
        while node.type == "binary_expression" and len(parts) < 50:
            if self.source.code(node.child_by_field_name("operator")) != "+":
                break
            right = node.child_by_field_name("right")
            parts.append(self._part(right))
            node = node.child_by_field_name("left")
        parts.append(self._part(node))
        return "".join(reversed(parts)) if any(p != "{}" for p in parts) else None

    def _part(self, node: Any) -> str:
        if node.type == "template_string":
            return self.source.template(node)
        value = self.source.value(node)
        return value.raw if value is not None and value.kind == "scalar" else "{}"

    def _batch(self, node: Any, argument: Any, out: list[K6Step]) -> None:
        self._batches += 1
        before = len(out)
        items = argument.named_children if argument.type in ("array", "object") else ()
        for child in items:
            item = child.child_by_field_name("value") if child.type == "pair" else child
            if item.type == "array":
                parts = item.named_children
                verb = self.source.value(parts[0]) if len(parts) > 1 else None
                method = verb.raw.upper() if verb is not None else "GET"
                out += self._one(item, method, parts[1:2], self._batches)
            elif item.type == "object":
                fields = {
                    self.source.code(p.child_by_field_name("key")).strip("'\""): p
                    for p in item.named_children
                    if p.type == "pair"
                }
                verb_pair, url = fields.get("method"), fields.get("url")
                verb = (
                    self.source.value(verb_pair.child_by_field_name("value"))
                    if (verb_pair is not None)
                    else None
                )
                method = verb.raw.upper() if verb is not None else "GET"
                urls = [url.child_by_field_name("value")] if url is not None else []
                out += self._one(item, method, urls, self._batches)
            elif item.type != "comment":
                out += self._one(item, "GET", [item], self._batches)
        if len(out) == before:
            self.source.add(
                "warning",
                "HA162",
                "the requests of this batch cannot be read",
                node,
                "state the flow in scenarios.yaml",
            )
