"""The tunable parameters of a container's server, by the daemon's own names, and their places."""

from __future__ import annotations

from dataclasses import replace

from hasim.components.postgres.parameters import PARAMETERS
from hasim.components.postgres.reading import Reading
from hasim.model import Knob
from hasim.read.compose_service import inside
from hasim.source import Default, Span

# What is no tuning: connections, places, names.
LEFT_OUT = ("primary_conninfo", "hba_file", "data_directory", "cluster_name", "port")


def knobs_of(name: str, reading: Reading) -> tuple[Knob, ...]:
    """postgres.<instance>.<parameter> for every parameter that the simulation uses."""
    out = []
    for row in PARAMETERS.values():
        if row.name in LEFT_OUT:
            continue
        setting = reading.settings.get(row.name)
        knob = f"postgres.{name}.{row.name}"
        if setting is not None:
            out.append(Knob(knob, setting.value, "pg", setting.span, row.effect))
            continue
        origin = Default(f"PostgreSQL manual {row.section}: {row.default or 'empty'}")
        insert, text = _insert(reading, row.name)
        out.append(Knob(knob, row.default, "pg", origin, row.effect, insert, text))
    return tuple(out)


def _insert(reading: Reading, name: str) -> tuple[Span | None, str]:
    """Where a new value goes: the mounted postgresql.conf, else the container's command."""
    text = reading.conf_text
    if reading.conf_file:
        lead = "" if text.endswith("\n") or not text else "\n"
        line = text.count("\n") + 1
        span = Span(reading.conf_file, line, 1, len(text), len(text))
        return span, f"{lead}{name} = '{{value}}'\n"
    service = reading.one.service
    if service is None or reading.script is not None:
        return None, ""
    place = service.where.get("command")
    if place is None and service.command is None and service.insert is not None:
        command = f"command: postgres -c {name}={{value}}"
        return service.insert.span, service.insert.before + command
    if place is None or not _appendable(reading, place):
        return None, ""
    return replace(place, start=place.end), f" -c {name}={{value}}"


def _appendable(reading: Reading, place: Span) -> bool:
    """A command in one line without quotes, written for this container alone."""
    service = reading.one.service
    text = reading.folder.text(place.file) if service is not None else None
    if service is None or text is None or not 0 <= place.start < place.end:
        return False
    if not any(inside(place, own) for own in service.own):
        return False
    return (
        text[place.start : place.end].strip() == " ".join(reading.words)
        and text[place.start] not in "\"'[>|"
    )
