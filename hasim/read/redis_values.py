"""Values of redis.conf and sentinel.conf directives with their origins, and what starts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hasim.errors import Finding
from hasim.model import Knob, image_name
from hasim.read.compose_types import ComposeService
from hasim.read.redis_conf import Line, Start, read, started
from hasim.source import Default, Origin, Span

# Units of memory values. Source: redis.conf, "Note on units" (1k is 1000 bytes, 1kb 1024).
_UNITS = {
    "": 1, "b": 1, "k": 1000, "kb": 1024, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30,
}  # fmt: skip


def size_bytes(text: str) -> int:
    """A memory value of redis.conf. ValueError.

    >>> size_bytes("16mb")
    16777216
    """
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return int(digits) * _UNITS[text[len(digits) :].lower()] if digits else _no_number(text)


def _no_number(text: str) -> int:
    raise ValueError(f"'{text}' is not a number")


def launch(service: ComposeService | None, fallback: Span) -> Start | None:
    """How a compose service starts Redis or Sentinel; None if it is something else.

    Source: image redis, docker-entrypoint.sh: a first word that is a flag or a .conf file is given
    to redis-server, which is also what runs without a command.
    """
    if service is None:
        return None
    words = service.words
    image = image_name(service.image)
    theirs = image in ("redis", "redis-stack-server", "valkey") and service.entrypoint is None
    if theirs and (not words or words[0].startswith("-") or words[0].endswith(".conf")):
        words = ("redis-server", *words)
    span = service.where.get("command") or service.where.get("entrypoint") or fallback
    written = service.written.get("command", "") if service.command_is_string else ""
    return started(words, span, written)


@dataclass(slots=True)
class Values:
    """Directives by name; the last one counts. `refused` holds what stops the daemon at start."""

    prefix: str  # of knob names
    file: str = ""
    text: str = ""
    lines: list[Line] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    refused: list[tuple[str, Span]] = field(default_factory=list)
    where: dict[str, Origin] = field(default_factory=dict)
    knobs: list[Knob] = field(default_factory=list)

    def read_file(self, text: str, file: str) -> None:
        """The directives of the configuration file; flags added later win."""
        self.file, self.text = file, text
        lines, found = read(text, file)
        self.lines += lines
        self.refused += [(f.message, f.span) for f in found if f.span]

    def last(self, names: Sequence[str]) -> Line | None:
        """The directive in force under one of these names."""
        return next((x for x in reversed(self.lines) if x.name in names), None)

    def value(
        self,
        names: str,
        default: str,
        source: str,
        read_value: Callable[[str], object],
        effect: str = "live",
        patch: bool = True,
    ):
        """The value of a directive with one argument: `names` are its spellings, newest first."""
        spelled = names.split()
        line = self.last(spelled)
        word = line.words[1] if line and len(line.words) > 1 else None
        if line is not None and word is None:
            self.refuse(f"wrong number of arguments for '{line.name}'", line.span)
        if word is not None:
            try:
                value = read_value(word.text)
            except (ValueError, KeyError):
                self.refuse(f"argument of '{spelled[0]}' cannot be used", word.span)
                word = None
        if word is None:
            value = read_value(default)
        origin: Origin = word.span if word else Default(source)
        self.where[spelled[0]] = origin
        if patch:
            self.knob(spelled[0], word.text if word else default, origin, effect)
        return value

    def refuse(self, reason: str, span: Span) -> None:
        """The daemon does not start because of this place."""
        self.refused.append((reason, span))

    def knob(self, name: str, text: str, origin: Origin, effect: str, line: str = "") -> None:
        """A tunable value; a default of a file is written as a new line at its end."""
        insert, insert_text = None, ""
        if isinstance(origin, Default) and self.file:
            insert = self._end()
            before = "" if not self.text or self.text.endswith("\n") else "\n"
            insert_text = f"{before}{line or name} {{value}}\n"
        elif isinstance(origin, Default) or origin.start < 0:
            return
        self.knobs.append(
            Knob(f"{self.prefix}.{name}", text, "redis", origin, effect, insert, insert_text)
        )

    def _end(self) -> Span:
        number = self.text.count("\n") + 1
        return Span(self.file, number, 1, len(self.text), len(self.text))


def yes(text: str) -> bool:
    """yes or no. ValueError."""
    if text.lower() not in ("yes", "no"):
        raise ValueError(text)
    return text.lower() == "yes"


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers in a range."""

    def read_value(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return read_value


__all__ = ["Values", "launch", "size_bytes", "whole", "yes"]
