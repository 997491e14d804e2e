"""k6 scripts, read by syntax tree and never executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hasim.errors import Finding, did_you_mean
from hasim.read.k6_options import Options
from hasim.read.k6_steps import Steps
from hasim.read.k6_syntax import MAX_CHARS, Source
from hasim.read.k6_types import K6Scenario, K6Script, K6Step, K6Threshold
from hasim.source import Span

__all__ = ["K6Scenario", "K6Script", "K6Step", "K6Threshold", "read_script"]

# Options that change no load (k6 options reference); what they hold need not be readable.
_IGNORED = frozenset(
    (
        "cloud",
        "dns",
        "env",
        "ext",
        "hosts",
        "insecureSkipTLSVerify",
        "localIPs",
        "options",
        "summaryTimeUnit",
        "summaryTrendStats",
        "systemTags",
        "tags",
        "tlsAuth",
        "tlsCipherSuites",
        "tlsVersion",
        "userAgent",
    )
)
_FUNCTIONS = ("function_declaration", "function_expression", "arrow_function")


def read_script(
    text: str, file: str, env: Mapping[str, str] | None = None
) -> tuple[K6Script, list[Finding]]:
    """The script as data, and every problem found. Never raises for any text.

    env: what `k6 run -e` would give as __ENV. The file's own values that depend on more than
    literals, constants and __ENV are findings that name what scenarios.yaml must state.
    """
    if len(text) > MAX_CHARS:
        message = f"larger than {MAX_CHARS} characters: no k6 script"
        return K6Script(file), [Finding("error", "HA160", message, Span(file, 1, 1))]
    source = Source(text, file, env or {})
    if source.syntax_errors():
        return K6Script(file), source.findings
    source.collect()
    exports = _exports(source)
    reader = Steps(source)
    functions = {
        name: reader.read(node) for name, node in exports.items() if node.type in _FUNCTIONS
    }
    if not functions:
        hint = "write `export default function () { ... }` with the requests of one iteration"
        message = "no exported functions in script; k6 refuses to run it"
        source.findings.append(Finding("error", "HA166", message, Span(file, 1, 1), hint))
    scenarios, thresholds, where = _options(source, exports.get("options"))
    scenarios = tuple(replace(s, steps=functions.get(s.exec, ())) for s in scenarios)
    for scenario in scenarios if functions else ():
        if scenario.exec not in functions:
            message = f"function '{scenario.exec}' is not exported; k6 refuses to run the script"
            place = scenario.where.get("exec", scenario.span)
            hint = did_you_mean(scenario.exec, functions)
            source.findings.append(Finding("error", "HA166", message, place, hint))
    script = K6Script(file, scenarios, thresholds, functions, where)
    return script, list(dict.fromkeys(source.findings))


def _options(
    source: Source, node: Any
) -> tuple[tuple[K6Scenario, ...], tuple[K6Threshold, ...], dict[str, Span]]:
    if node is None:
        message = "the script exports no options; k6 would run one iteration"
        hint = "state the load in scenarios.yaml"
        place = Span(source.file, 1, 1)
        source.findings.append(Finding("warning", "HA163", message, place, hint))
        return (), (), {}
    source.ignored = _IGNORED
    for name, left in source.assigned.items():
        if name.startswith(("options.", "options[")):
            source.unknown(left)
    value = source.value(node)
    if value is None or value.kind != "map":
        source.unknown(node)
        return (), (), {}
    options = Options(value, source.findings)
    where = {key: item.span for key, item in value.items()}
    return options.scenarios(), options.thresholds(), where


def _exports(source: Source) -> dict[str, Any]:
    """Exported name to the node of its value or function; the default export is "default"."""
    out: dict[str, Any] = {}
    for node in source.root.named_children:
        if node.type != "export_statement":
            continue
        default = any(child.type == "default" for child in node.children)
        declaration = node.child_by_field_name("declaration")
        value = node.child_by_field_name("value")
        if default:
            target = declaration if declaration is not None else value
            out["default"] = _known(source, target)
        elif declaration is not None and declaration.type == "function_declaration":
            out[source.code(declaration.child_by_field_name("name"))] = declaration
        elif declaration is not None:
            for item in declaration.named_children:
                name, value = item.child_by_field_name("name"), item.child_by_field_name("value")
                if name is not None and value is not None:
                    out[source.code(name)] = value
        for clause in node.named_children:
            for item in clause.named_children if clause.type == "export_clause" else ():
                name, alias = item.child_by_field_name("name"), item.child_by_field_name("alias")
                if name is not None:
                    out[source.code(alias if alias is not None else name)] = _known(source, name)
    return {name: node for name, node in out.items() if node is not None}


def _known(source: Source, node: Any) -> Any:
    """The function or value behind a name; other nodes as they are."""
    if node is None or node.type != "identifier":
        return node
    name = source.code(node)
    return source.functions.get(name, source.consts.get(name))
