"""The tunable values of haproxy.cfg and how to write them: a change touches no other byte.

Names follow the words of the file: `haproxy.global.maxconn`, `haproxy.defaults.timeout_connect`,
`haproxy.backend.<name>.option_redispatch`, `haproxy.backend.<name>.<server>.inter`,
`haproxy.listen.<name>...`, `haproxy.resolvers.<name>.hold_nx`; `haproxy.defaults.<name>...` for a
named defaults section. A value inherited from elsewhere is written where it is asked for (insert),
so that nobody else's changes with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hasim.components.haproxy.config_scope import Scope
from hasim.components.haproxy.config_server import Options, default_text, read_options
from hasim.components.haproxy.config_values import (
    CHECK_KNOBS,
    DIRECTIVES,
    GLOBALS,
    RESOLVER_DEFAULTS,
    SERVER_KNOBS,
    Notes,
    Setting,
    Version,
    default_of,
    manual,
)
from hasim.model import Knob
from hasim.read.haproxy import Line, Section, Tree
from hasim.source import Origin, Patch, Span
from hasim.units import format_duration, parse_duration_s

_FALLBACKS = {
    "timeout queue": ("timeout connect",),
    "timeout http-request": ("timeout client",),
    "timeout http-keep-alive": ("timeout http-request", "timeout client"),
}
_KINDS = {d.knob: d.kind for d in (*DIRECTIVES, *GLOBALS)}
_KINDS |= {name.replace("-", "_"): kind for name, (kind, _, _) in SERVER_KNOBS.items()}
_KINDS |= {
    re.sub("[ -]", "_", key): "count" if key == "resolve_retries" else "duration"
    for key in RESOLVER_DEFAULTS
}
_KINDS["option_httpchk"] = "word"
# One or more words that need no quotes.
_SAFE = re.compile(r"[A-Za-z0-9_.,()/:*?&=%@+~-]+(?: [A-Za-z0-9_.,()/:*?&=%@+~-]+)*", re.ASCII)


class _Writer:
    """Where in the file something new goes."""

    def __init__(self, tree: Tree):
        self.tree, self.text = tree, tree.text
        self.eol = "\r\n" if "\r\n" in tree.text else "\n"

    def below(self, anchor: Line, section: Section, what: str) -> tuple[Span, str]:
        """(place, text) of a new line under `anchor`, indented like its neighbours."""
        found = self.text.find("\n", max(anchor.words[0].span.start, 0))
        at = found + 1 if found >= 0 else len(self.text)
        before = self.eol if found < 0 else ""
        span = Span(self.tree.file, anchor.words[0].span.line + 1, 1, at, at)
        return span, f"{before}{self.indent(section)}{what}{self.eol}"

    def indent(self, section: Section) -> str:
        """The blanks before the first line of the section, else four."""
        for line in section.lines:
            first = line.words[0].span
            if first.start >= 0:
                return self.text[first.start - first.col + 1 : first.start]
        return "    "

    def top(self, what: str) -> tuple[Span, str]:
        """(place, text) of a new global section."""
        text = f"global{self.eol}    {what}{self.eol}{self.eol}"
        return Span(self.tree.file, 1, 1, 0, 0), text

    def after(self, line: Line, what: str) -> tuple[Span, str]:
        """(place, text) right behind the last word of a line."""
        last = line.words[-1].span
        if last.start < 0:  # several words out of one variable: behind the raw word's line
            raise ValueError("the end of this line cannot be patched")
        col = last.col + last.end - last.start
        return Span(last.file, last.line, col, last.end, last.end), f" {what}"


def _knob(name: str, value: str, origin: Origin, insert: tuple[Span, str] | None = None) -> Knob:
    where, text = insert if insert else (None, "")
    return Knob(name, value, "haproxy", origin, "reload", where, text)


def balancer_knobs(
    tree: Tree, found: Mapping[str, Setting], scopes: Iterable[Scope], version: Version
) -> list[Knob]:
    """Every knob of a file, in file order; of two of one name only the first."""
    writer = _Writer(tree)
    out = _global_knobs(tree, found, writer)
    prefixes = _prefixes(tree)
    maxconn = found["maxconn"].text if "maxconn" in found else GLOBALS[0].text
    for scope in scopes:
        prefix = prefixes[id(scope.section)]
        out += _scope_knobs(prefix, scope, version, writer, maxconn)
        out += _server_knobs(prefix, scope, writer)
    for section in tree.sections:
        if section.kind == "resolvers" and section.name:
            out += _resolver_knobs(section, writer)
    return list({k.name: k for k in reversed(out)}.values())[::-1]


def _prefixes(tree: Tree) -> dict[int, str]:
    """id of a section -> the beginning of its knobs' names."""
    out, anonymous = {}, 0
    for section in tree.sections:
        name = f".{section.name}" if section.name else ""
        if section.kind == "defaults" and not name:
            anonymous += 1
            name = "" if anonymous == 1 else f"-{anonymous}"
        out[id(section)] = f"haproxy.{section.kind}{name}"
    return out


def _global_knobs(tree: Tree, found: Mapping[str, Setting], writer: _Writer) -> list[Knob]:
    section = next((s for s in tree.sections if s.kind == "global"), None)
    out = []
    for directive in GLOBALS:
        name, setting = f"haproxy.global.{directive.knob}", found.get(directive.key)
        if setting and setting.span.start >= 0:
            out.append(_knob(name, setting.text, setting.span))
        elif not setting:
            what = f"{directive.key} {{value}}"
            place = writer.below(section.header, section, what) if section else writer.top(what)
            out.append(_knob(name, directive.text, directive.source, place))
    return out


def _scope_knobs(
    prefix: str, scope: Scope, version: Version, writer: _Writer, maxconn: str
) -> list[Knob]:
    halves = {"defaults": "FB", "listen": "FB", "frontend": "F", "backend": "B"}
    out = []
    for directive in DIRECTIVES:
        if directive.half not in halves[scope.section.kind]:
            continue
        name, setting = f"{prefix}.{directive.knob}", scope.settings.get(directive.key)
        if setting and setting.own:
            if setting.span.start >= 0:
                out.append(_knob(name, setting.text, setting.span))
            continue
        anchor = scope.last_own.get(directive.key.split()[0], scope.section.header)
        what = "{value}" if directive.kind == "option" else f"{directive.key} {{value}}"
        place = writer.below(anchor, scope.section, what)
        if setting:
            out.append(_knob(name, setting.text, setting.span, place))
            continue
        text, origin = default_of(directive.key, version, scope.mode)
        if directive.key == "maxconn" and scope.section.kind != "defaults":
            text = maxconn
        for other in _FALLBACKS.get(directive.key, ()):
            if other in scope.settings:
                text = scope.settings[other].text
                break
        out.append(_knob(name, text, origin, place))
    check = scope.settings.get("check")
    written_there = check and check.own and check.value and check.span.start >= 0
    if check and written_there and not check.text.startswith("option"):
        out.append(_knob(f"{prefix}.option_httpchk", check.text, check.span))
    return out


def _server_knobs(prefix: str, scope: Scope, writer: _Writer) -> list[Knob]:
    out = []
    for option, setting in scope.server_defaults.items():
        if setting.own and option in SERVER_KNOBS and setting.span.start >= 0:
            name = f"{prefix}.default_server.{option.replace('-', '_')}"
            out.append(_knob(name, setting.text, setting.span))
    for line, inherited in scope.servers:
        if len(line.words) < 3 or line.words[-1].span.start < 0:
            continue
        own = read_options(line, 4 if line.texts[0] == "server-template" else 3, Notes())
        out += _line_knobs(f"{prefix}.{line.texts[1]}", line, inherited, own, writer)
    return out


def _line_knobs(
    prefix: str, line: Line, inherited: Options, own: Options, writer: _Writer
) -> list[Knob]:
    """The knobs of one server line."""
    in_force = inherited | own
    checked = "check" in in_force and in_force["check"].value is True
    inter = in_force["inter"].text if "inter" in in_force else SERVER_KNOBS["inter"][1]
    out = []
    for option, (_, text, _) in SERVER_KNOBS.items():
        if option in CHECK_KNOBS and not checked:
            continue
        name = f"{prefix}.{option.replace('-', '_')}"
        if option in own and own[option].span.start >= 0:
            out.append(_knob(name, own[option].text, own[option].span))
            continue
        place = writer.after(line, f"{option} {{value}}")
        if option in in_force:
            out.append(_knob(name, in_force[option].text, in_force[option].span, place))
        else:
            out.append(_knob(name, text or inter, default_text(option), place))
    return out


def _resolver_knobs(section: Section, writer: _Writer) -> list[Knob]:
    out = []
    for key, (text, _) in RESOLVER_DEFAULTS.items():
        words = tuple(key.split())
        lines = [x for x in section.lines if x.live and x.texts[: len(words)] == words]
        name = f"haproxy.resolvers.{section.name}.{re.sub('[ -]', '_', key)}"
        if lines and len(lines[-1].words) > len(words):
            word = lines[-1].words[len(words)]
            if word.span.start >= 0:
                out.append(_knob(name, word.text, word.span))
        elif not lines:
            place = writer.below(section.header, section, f"{key} {{value}}")
            out.append(_knob(name, text, manual("5.3.2", f"{key}: {text}"), place))
    return out


def written(knob: Knob, value: str) -> str:
    """The words that say `value` in the manner of the text in force. ValueError if they cannot.

    Options take on, off, and (redispatch) a number.
    """
    value = str(value).strip()
    last = knob.name.rpartition(".")[2]
    kind = _KINDS.get(last, "word")
    if kind == "option":
        return _written_option(last, value)
    if kind == "duration":
        zero = last not in ("inter", "fastinter", "downinter")
        seconds = parse_duration_s(value, "haproxy", zero=zero)
        # A new line is written as the caller says it; an old value keeps its unit.
        return value if knob.insert else format_duration(seconds, "haproxy", like=knob.value)
    if kind == "count":
        limit = {"weight": 256, "spread_checks": 50}.get(last, 2**31 - 1)
        low = 1 if last in ("rise", "fall", "error_limit", "resolve_retries") else 0
        if not re.fullmatch(r"[0-9]{1,10}", value, re.ASCII) or not low <= int(value) <= limit:
            raise ValueError(f"{knob.name}: '{value}' is no whole number from {low} to {limit}")
        return value
    if value == "none" and last in ("on_marked_down", "on_marked_up", "resolvers"):
        raise ValueError(f"{knob.name}: 'none' cannot be written; remove the option by hand")
    if not _SAFE.fullmatch(value):
        raise ValueError(f"{knob.name}: '{value}' is not a plain word")
    return value


def _written_option(last: str, value: str) -> str:
    name = last.removeprefix("option_").replace("_", "-")
    if value.lower() in ("on", "true", "yes"):
        return f"option {name}"
    if value.lower() in ("off", "false", "no"):
        return f"no option {name}"
    if name == "redispatch" and re.fullmatch(r"-?[0-9]{1,9}", value, re.ASCII):
        return f"option {name} {value}"
    raise ValueError(f"option {name}: '{value}' is neither on nor off")


def patch(knob: Knob, value: str) -> Patch:
    """The change of the file that puts `value` in force. ValueError if it is not possible."""
    new = written(knob, value)
    if knob.insert is not None:
        return Patch(knob.insert, knob.insert_text.replace("{value}", new))
    if not isinstance(knob.origin, Span) or knob.origin.start < 0:
        raise ValueError(f"{knob.name} cannot be written: its place cannot be patched")
    return Patch(knob.origin, new)
