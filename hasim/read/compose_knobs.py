"""The tunable values of a compose project, each with where to change or to add it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hasim.model import Knob
from hasim.read.compose_service import inside
from hasim.read.compose_types import ComposeProject, ComposeService, Insert
from hasim.source import Default, Origin, Span


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    default: str
    source: str


_DOCS = "Docker, "
_FIELDS = (
    _Field("cpus", "0", _DOCS + "run reference: no limit"),
    _Field("cpu_shares", "1024", _DOCS + "run reference: weight 1024"),
    _Field("mem_limit", "0", _DOCS + "run reference: no limit"),
    _Field("mem_reservation", "0", _DOCS + "run reference: none"),
    _Field("restart", "no", "compose specification, restart"),
    _Field("stop_grace_period", "10s", "compose specification, stop_grace_period"),
    _Field("stop_signal", "SIGTERM", _DOCS + "stop reference, unless the image says otherwise"),
    _Field("init", "false", "compose specification, init"),
)
_CHECK = (
    _Field("interval", "30s", "Dockerfile reference, HEALTHCHECK"),
    _Field("timeout", "30s", "Dockerfile reference, HEALTHCHECK"),
    _Field("retries", "3", "Dockerfile reference, HEALTHCHECK"),
    _Field("start_period", "0s", "Dockerfile reference, HEALTHCHECK"),
)


def knobs(project: ComposeProject) -> list[Knob]:
    """The tunable values, named `compose.<service>.<field>`; all take effect by recreate.

    A value that the service has from elsewhere (`extends`, `<<`) and a default are set by adding
    a line to the service: `insert` and `insert_text` say where. An origin that is a Span with
    start -1 is such a value: it must not be patched in place, since others share it.
    """
    return [knob for service in project.services.values() for knob in _knobs(service)]


def _knobs(service: ComposeService) -> Iterator[Knob]:
    for field in _FIELDS:
        yield from _knob(service, field, field.name, service.insert, "")
    check = service.healthcheck
    if check is None or check.disable:
        return
    for field in _CHECK:
        path = f"healthcheck.{field.name}"
        if check.insert is not None:
            yield from _knob(service, field, path, check.insert, "")
        else:
            # extends merges a partial healthcheck into the inherited one; `<<` would lose it.
            merged = check.span is None or any(check.span.file == o.file for o in service.own)
            step = "" if service.insert is None else _step(service.insert)
            usable = None if merged or not step else service.insert
            yield from _knob(service, field, path, usable, f"healthcheck:{step}")


def _step(insert: Insert) -> str:
    """A line break and one more level, for a map inside the map; "" in the flow style."""
    return insert.before + "  " if "\n" in insert.before else ""


def _knob(
    service: ComposeService, field: _Field, path: str, insert: Insert | None, lead: str
) -> Iterator[Knob]:
    name = f"compose.{service.name}.{path}"
    span = service.where.get(path)
    if span is not None and any(inside(span, own) for own in service.own):
        value = _in_force(service, path, field)
        yield Knob(name, value, "compose", _unquoted(span, value), "recreate")
        return
    if insert is None:
        return
    origin: Origin = Default(field.source)
    if span is not None:
        origin = Span(span.file, span.line, span.col)
    # Quoted: older readers (YAML 1.1) take a bare `no` for false.
    text = insert.before + lead + field.name + (': "{value}"' if path == "restart" else ": {value}")
    value = _in_force(service, path, field)
    yield Knob(name, value, "compose", origin, "recreate", insert.span, text)


def _unquoted(span: Span, value: str) -> Span:
    """The characters between the quotes, if there are quotes: they stay."""
    if span.end - span.start != len(value) + 2:
        return span
    return Span(span.file, span.line, span.col + 1, span.start + 1, span.end - 1)


def _in_force(service: ComposeService, path: str, field: _Field) -> str:
    return service.written.get(path) or field.default
