"""What the daemon does where haproxy.cfg is silent, and how single values are read.

Every default cites the HAProxy manual; sections are those of the 2.6 to 3.3 manuals. The unit
rules are in hasim.units; atoi-like words ("retries x" is 0) were tried on 2.6.12.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from hasim.errors import Finding, did_you_mean
from hasim.read import haproxy_words as hw
from hasim.read.haproxy import MAX_FINDINGS, Line, show
from hasim.source import Default, Span, Word
from hasim.units import parse_duration_s

Version = tuple[int, int, int]
_FACILITIES = hw.words(
    "kern user mail daemon auth syslog lpr news uucp cron auth2 ftp ntp audit alert cron2 "
    "local0 local1 local2 local3 local4 local5 local6 local7"
)


def manual(section: str, topic: str) -> Default:
    """The citation of a default of the daemon."""
    return Default(f"HAProxy manual {section} {topic}")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of one directive: its meaning, its text and the place of that text.

    own: written in the section itself, not inherited. span covers what a knob replaces.
    """

    value: object
    text: str
    span: Span
    own: bool = True


@dataclass
class Notes:
    """Findings of one build, each once: several sections may inherit one bad line."""

    items: dict[Finding, None] = field(default_factory=dict)
    dropped: int = 0

    def say(self, severity: str, code: str, text: str, span: Span | None, hint: str) -> None:
        """Add a finding; beyond MAX_FINDINGS they are only counted."""
        finding = Finding(severity, code, text, span, hint)
        if len(self.items) < MAX_FINDINGS or finding in self.items:
            self.items[finding] = None
        else:
            self.dropped += 1

    def error(self, code: str, text: str, span: Span | None, hint: str = "") -> None:
        """Add an error: HAProxy refuses the file."""
        self.say("error", code, text, span, hint)

    def warn(self, code: str, text: str, span: Span | None, hint: str = "") -> None:
        """Add a warning."""
        self.say("warning", code, text, span, hint)

    def hint(self, word: str, known: Iterable[str]) -> str:
        """did_you_mean, not asked once nobody would see the answer (it is slow)."""
        return did_you_mean(word[:40], known) if len(self.items) < MAX_FINDINGS else ""

    def listed(self) -> list[Finding]:
        """All findings, the count of those left out last."""
        text = f"{self.dropped} more problems are not listed"
        more = [Finding("error", "HA120", text)] if self.dropped else []
        return [*self.items, *more]

    def one_of(self, word: Word, known: Iterable[str], what: str) -> bool:
        """Whether the word is known; says so with the nearest known word if not."""
        known = tuple(known)
        if word.text in known:
            return True
        hint = self.hint(word.text, known) or f"one of: {', '.join(known)}"
        self.error("HA125", f"{what}: unknown word '{show(word.text)}'", word.span, hint)
        return False

    def duration(self, word: Word, what: str, *, zero: bool = True) -> float | None:
        """Seconds, or None with a finding."""
        try:
            return parse_duration_s(word.text, "haproxy", zero=zero)
        except ValueError as problem:
            self.error("HA125", f"{what}: {show(str(problem))}", word.span)
            return None

    def count(self, word: Word, what: str, low: int = 0, high: int = 2**31 - 1) -> int | None:
        """A whole number within [low, high], or None with a finding.

        HAProxy reads most counters like C's atoi: a word without digits is 0; that is said.
        """
        digits = re.match(r"[+-]?[0-9]{1,18}", word.text, re.ASCII)
        number = int(digits[0]) if digits else 0
        whole = digits is not None and digits[0] == word.text
        if not low <= number <= high:
            limits = f"{low} to {high}" if high < 2**31 - 1 else f"{low} or more"
            text = f"{what}: '{show(word.text)}' is out of range ({limits})"
            self.error("HA125", text, word.span)
            return None
        if not whole:
            text = f"{what}: '{show(word.text)}' is no whole number; HAProxy reads {number}"
            self.warn("HA132", text, word.span)
        return number

    def arguments(self, line: Line, skip: int, low: int, high: int) -> tuple[Word, ...] | None:
        """The words after the first `skip`, if their number fits; else None with a finding."""
        rest = line.words[skip:]
        name = " ".join(w.text for w in line.words[:skip])
        while rest and not rest[-1].text:  # an empty word ends the line for HAProxy
            rest = rest[:-1]
        if len(rest) < low:
            self.error("HA125", f"'{show(name)}' needs a value", line.span)
            return None
        if len(rest) > high:
            text = f"'{show(name)}': unexpected '{show(rest[high].text)}'"
            self.error("HA125", text, rest[high].span)
            return None
        return rest

    def log(self, line: Line) -> None:
        """`log global` or `log <address> [len|format|sample|profile ...] <facility> ...`."""
        rest = line.words[1:]
        if rest and rest[0].text == "global":
            self.arguments(line, 1, 1, 1)
            return
        at = 1
        while at < len(rest) and rest[at].text in ("len", "format", "sample", "ring", "profile"):
            at += 2
        if at >= len(rest):
            text = "'log' needs an address and a facility, or 'global'"
            self.error("HA125", text, line.span)
        else:
            self.one_of(rest[at], _FACILITIES, "log facility")


def span_of(words: Iterable[Word]) -> Span:
    """From the first to the last word."""
    found = tuple(words)
    return found[0].span.to(found[-1].span)


@dataclass(frozen=True, slots=True)
class Directive:
    """A scalar directive of proxies that is a knob. kind: duration | count | word | option.

    text: the default as it would be written; half: "F", "B" or "FB" of a listen section.
    """

    key: str
    kind: str
    half: str
    text: str
    source: Default

    @property
    def knob(self) -> str:
        """The last part of the knob's name: "timeout connect" is timeout_connect."""
        return self.key.replace(" ", "_").replace("-", "_")


_42 = "4.2"
# Durations without a default are infinite: text "0", which HAProxy reads the same way.
DIRECTIVES = (
    Directive("timeout client", "duration", "F", "0", manual(_42, "timeout client: no timeout")),
    Directive("timeout connect", "duration", "B", "0", manual(_42, "timeout connect: no timeout")),
    Directive("timeout server", "duration", "B", "0", manual(_42, "timeout server: no timeout")),
    Directive(
        "timeout queue", "duration", "B", "0", manual(_42, "timeout queue: as timeout connect")
    ),
    Directive("timeout check", "duration", "B", "0", manual(_42, "timeout check: unset")),
    Directive("timeout tunnel", "duration", "B", "0", manual(_42, "timeout tunnel: no timeout")),
    Directive(
        "timeout http-request",
        "duration",
        "F",
        "0",
        manual(_42, "timeout http-request: as timeout client"),
    ),
    Directive(
        "timeout http-keep-alive",
        "duration",
        "F",
        "0",
        manual(_42, "timeout http-keep-alive: as timeout http-request, then timeout client"),
    ),
    Directive("maxconn", "count", "F", "0", manual(_42, "maxconn: the global one")),
    Directive("fullconn", "count", "B", "0", manual(_42, "fullconn: a tenth of the frontends'")),
    Directive("retries", "count", "B", "3", manual(_42, "retries: 3")),
    Directive("balance", "word", "B", "roundrobin", manual(_42, "balance: roundrobin")),
    Directive("retry-on", "word", "B", "conn-failure", manual(_42, "retry-on: conn-failure")),
    Directive("http-reuse", "word", "B", "safe", manual(_42, "http-reuse: safe")),
    Directive("option redispatch", "option", "B", "off", manual(_42, "option redispatch: off")),
    Directive("option allbackups", "option", "B", "off", manual(_42, "option allbackups: off")),
    Directive("option abortonclose", "option", "B", "off", manual(_42, "option abortonclose: off")),
    Directive("option persist", "option", "B", "off", manual(_42, "option persist: off")),
    Directive(
        "option log-health-checks", "option", "B", "off", manual(_42, "option log-health-checks")
    ),
)
BY_KEY = {d.key: d for d in DIRECTIVES}

GLOBALS = (
    # Without it, computed from the file descriptor limit; 1048576 of them (usual in a container)
    # give about half as many connections. Manual 3.2 maxconn.
    Directive("maxconn", "count", "", "524271", manual("3.2", "maxconn: from ulimit -n (assumed)")),
    Directive("spread-checks", "count", "", "0", manual("3.2", "spread-checks: 0")),
    Directive("max-spread-checks", "duration", "", "0", manual("3.2", "max-spread-checks: none")),
    Directive("hard-stop-after", "duration", "", "0", manual("3.1", "hard-stop-after: none")),
)


def default_of(key: str, version: Version, mode: str) -> tuple[str, Default]:
    """(text, citation) of a proxy directive's default in this version and mode."""
    directive = BY_KEY[key]
    if key == "balance" and version >= (3, 3, 0):
        return "random", manual(_42, "balance: random since 3.3")
    if key == "option abortonclose" and version >= (3, 3, 0) and mode == "http":
        return "on", manual(_42, "option abortonclose: on for HTTP since 3.3")
    return directive.text, directive.source


# option of a server line -> (kind, default text, citation topic); the ones that are knobs.
SERVER_KNOBS = {
    "inter": ("duration", "2000", "inter: 2000 ms"),
    "fastinter": ("duration", "", "fastinter: as inter"),
    "downinter": ("duration", "", "downinter: as inter"),
    "rise": ("count", "2", "rise: 2"),
    "fall": ("count", "3", "fall: 3"),
    "weight": ("count", "1", "weight: 1"),
    "maxconn": ("count", "0", "maxconn: 0, no limit"),
    "minconn": ("count", "0", "minconn: as maxconn"),
    "maxqueue": ("count", "0", "maxqueue: 0, no limit"),
    "slowstart": ("duration", "0", "slowstart: none"),
    "observe": ("word", "none", "observe: none"),
    "error-limit": ("count", "10", "error-limit: 10"),
    "on-error": ("word", "fail-check", "on-error: fail-check"),
    "on-marked-down": ("word", "none", "on-marked-down: no action"),
    "on-marked-up": ("word", "none", "on-marked-up: no action"),
    "init-addr": ("word", "last,libc", "init-addr: last,libc"),
    "resolvers": ("word", "none", "resolvers: none"),
    "resolve-prefer": ("word", "ipv6", "resolve-prefer: ipv6"),
}
CHECK_KNOBS = frozenset(["inter", "fastinter", "downinter", "rise", "fall", "error-limit"])

# resolvers section: key -> (default text, Resolver field)
RESOLVER_DEFAULTS = {
    "resolve_retries": ("3", "resolve_retries"),
    "timeout resolve": ("1s", "timeout_resolve_s"),
    "timeout retry": ("1s", "timeout_retry_s"),
    "hold valid": ("10s", "hold_valid_s"),
    "hold nx": ("30s", "hold_nx_s"),
    "hold timeout": ("30s", "hold_timeout_s"),
    "hold refused": ("30s", "hold_refused_s"),
    "hold other": ("30s", "hold_other_s"),
    "hold obsolete": ("0", "hold_obsolete_s"),
}
