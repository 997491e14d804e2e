"""What one proxy section says once its defaults are inherited: settings, servers, rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hasim.components.haproxy.config_server import Options, read_options
from hasim.components.haproxy.config_values import BY_KEY, Notes, Setting, span_of
from hasim.read import haproxy_words as hw
from hasim.read.haproxy import Line, Section, Tree, show

_CLOSE_MODES = {
    "httpclose": "close",
    "forceclose": "close",
    "http-server-close": "server-close",
    "http-keep-alive": "keep-alive",
}
# Checks of other protocols: a TCP connect is what all of them begin with.
_OTHER_CHECKS = frozenset(
    f"{x}-check" for x in ("ldap", "mysql", "pgsql", "redis", "spop", "external")
) | {"smtpchk", "ssl-hello-chk"}
ALL_RETRYABLE = hw.words(  # manual 4.2 retry-on
    "conn-failure empty-response junk-response response-timeout 0rtt-rejected 500 502 503 504"
)


@dataclass
class Scope:
    """One proxy section with everything it inherits; later lines win, as in HAProxy."""

    section: Section
    settings: dict[str, Setting] = field(default_factory=dict)
    server_defaults: Options = field(default_factory=dict)
    servers: list[tuple[Line, Options]] = field(default_factory=list)  # options in force there
    binds: list[Line] = field(default_factory=list)
    acls: dict[str, list[Line]] = field(default_factory=dict)
    rules: list[Line] = field(default_factory=list)  # use_backend
    checks: list[Line] = field(default_factory=list)  # http-check
    stats: bool = False
    last_own: dict[str, Line] = field(default_factory=dict)  # first word -> last own line

    @property
    def mode(self) -> str:
        """tcp unless the section or its defaults say http (manual 4.2 mode)."""
        found = self.settings.get("mode")
        return str(found.value) if found else "tcp"

    def value(self, key: str, otherwise: object) -> object:
        """The value in force, or `otherwise`."""
        found = self.settings.get(key)
        return otherwise if found is None else found.value


def scope(tree: Tree, section: Section, notes: Notes) -> Scope:
    """Walk the inherited defaults and the section itself, in order."""
    out = Scope(section)
    for part in tree.chain(section):
        reader = _Walk(out, notes, part is section, part)
        for line in part.lines:
            if line.live and not line.words[0].text.startswith("."):
                reader.line(line)
    return out


@dataclass
class _Walk:
    out: Scope
    notes: Notes
    own: bool
    part: Section
    has_rules: bool = False  # this section has http-check rules of its own

    def line(self, line: Line) -> None:
        """Dispatch one line; words that are not simulated are the reader's business."""
        texts = line.texts
        if self.own and not line.conditional:
            self.out.last_own[texts[0]] = line
        if texts[0] in ("no", "default"):
            if texts[1:2] == ("option",) and len(texts) > 2:
                self.option(line, 1, texts[0] == "default")
            return
        letter = self.part.kind[0].upper()
        found, _ = hw.lookup(texts)
        if found is None or letter not in found.places:
            return
        if texts[0] == "option":
            self.option(line, 0, False)
        elif texts[0] == "timeout":
            self.timeout(line)
        elif texts[0] in ("mode", "balance", "retries", "retry-on", "http-reuse", "fullconn"):
            getattr(self, texts[0].replace("-", "_"))(line)
        else:
            self.rest(line)

    def rest(self, line: Line) -> None:
        """Lines that are collected, and plain values."""
        first = line.texts[0]
        if first in ("server", "server-template"):
            self.out.servers.append((line, dict(self.out.server_defaults)))
        elif first == "default-server":
            options = read_options(line, 1, self.notes)
            if not self.own:
                options = {k: Setting(o.value, o.text, o.span, False) for k, o in options.items()}
            self.out.server_defaults |= options
        elif first == "bind":
            self.out.binds.append(line)
        elif first == "acl":
            self.acl(line)
        elif first == "use_backend":
            self.out.rules.append(line)
        elif first == "http-check":
            self.check_rule(line)
        elif first == "stats":
            self.stats(line)
        elif first == "maxconn":
            self.count(line)
        elif first == "default_backend":
            self.word(line, None)
        elif first == "load-server-state-from-file":
            self.word(line, ("none", "local", "global"))
        elif first in ("disabled", "enabled") and self.notes.arguments(line, 1, 0, 0) is not None:
            self.put("disabled", first == "disabled", line, 0)
        elif first == "log":
            self.notes.log(line)

    def put(self, key: str, value: object, line: Line, first: int) -> None:
        """Record a setting whose text is the words from `first` on."""
        found = line.words[first:] or line.words
        text = " ".join(w.text for w in found)
        self.out.settings[key] = Setting(value, text, span_of(found), self.own)

    def mode(self, line: Line) -> None:
        if (rest := self.notes.arguments(line, 1, 1, 1)) is None:
            return
        known = ("tcp", "http", "log", "spop")
        if self.notes.one_of(rest[0], known, "mode"):
            self.put("mode", rest[0].text, line, 1)

    def balance(self, line: Line) -> None:
        rest = line.words[1:]
        if not rest or not rest[0].text:
            self.put("balance", "roundrobin", line, 0)
            return
        name = rest[0].text.split("(")[0]
        if name not in hw.BALANCES_KNOWN:
            self.notes.one_of(rest[0], sorted(hw.BALANCES_KNOWN), "balance")
            return
        if re.fullmatch(r"random\((0+|[^0-9)]*)\)", rest[0].text):
            text = "balance random: the number of draws must be at least 1"
            self.notes.error("HA125", text, rest[0].span)
            return
        if name not in hw.BALANCES:
            text = f"'balance {show(name)}' is not simulated, treated as roundrobin"
            self.notes.warn("HA131", text, rest[0].span)
            name = "roundrobin"
        self.put("balance", name, line, 1)

    def retries(self, line: Line) -> None:
        self.count(line)

    def fullconn(self, line: Line) -> None:
        self.count(line)

    def count(self, line: Line) -> None:
        if (rest := self.notes.arguments(line, 1, 1, 1)) is None:
            return
        number = self.notes.count(rest[0], line.texts[0], -(2**31))
        if number is not None and number < 0:
            text = f"'{line.texts[0]}' is negative; HAProxy takes it, as if it were 0"
            self.notes.warn("HA132", text, rest[0].span)
        if number is not None:
            self.put(line.texts[0], max(0, number), line, 1)

    def word(self, line: Line, known: tuple[str, ...] | None) -> None:
        if (rest := self.notes.arguments(line, 1, 1, 1)) is None:
            return
        if known is None or self.notes.one_of(rest[0], known, line.texts[0]):
            self.put(line.texts[0], rest[0].text, line, 1)

    def http_reuse(self, line: Line) -> None:
        self.word(line, ("never", "safe", "aggressive", "always"))

    def retry_on(self, line: Line) -> None:
        if (rest := self.notes.arguments(line, 1, 1, 64)) is None:
            return
        bad = [w for w in rest if not self.notes.one_of(w, sorted(hw.RETRY_ON), "retry-on")]
        if bad:
            return
        if len(rest) > 1 and "none" in [w.text for w in rest]:
            self.notes.error("HA125", "retry-on: 'none' can only stand alone", line.span)
            return
        texts = [w.text for w in rest if w.text != "none"]
        if "all-retryable-errors" in texts:
            texts = list(dict.fromkeys([*texts, *ALL_RETRYABLE]))
            texts.remove("all-retryable-errors")
        self.put("retry-on", tuple(dict.fromkeys(texts)), line, 1)

    def timeout(self, line: Line) -> None:
        key = " ".join(line.texts[:2])
        if (rest := self.notes.arguments(line, 2, 1, 1)) is None:
            return
        value = self.notes.duration(rest[0], key)
        if value is not None and key in BY_KEY:
            # "0" is no timeout at all (TICK_ETERNITY), the same as not writing it.
            self.put(key, value or float("inf"), line, 2)

    def option(self, line: Line, skip: int, default: bool) -> None:
        """`option x`, `no option x` (skip 1) and `default option x`."""
        name, on = line.texts[skip + 1] if len(line.words) > skip + 1 else "", not skip
        rest = line.words[skip + 2 :]
        if name in ("httpchk", "tcp-check") or name in _OTHER_CHECKS:
            self.check_option(line, name)
            return
        if name in _CLOSE_MODES:
            self.close_mode(line, name, on)
            return
        key = f"option {name}"
        if key not in BY_KEY:
            return
        if default:
            self.out.settings.pop(key, None)
            return
        self.put(key, on, line, 0)
        if name == "redispatch":
            interval = self.notes.count(rest[0], key, -(2**31)) if rest and on else None
            text = "off" if not on else str(interval) if interval is not None else "on"
            # "You can disable redispatches with a value of 0" (manual 4.2).
            value = (on and interval != 0, interval)
            self.out.settings[key] = Setting(value, text, line.span, self.own)
        else:
            found = self.out.settings[key]
            self.out.settings[key] = Setting(on, "on" if on else "off", found.span, self.own)

    def close_mode(self, line: Line, name: str, on: bool) -> None:
        mode = _CLOSE_MODES[name]
        now = self.out.value("connection", "keep-alive")
        if on or now == mode:
            self.put("connection", mode if on else "keep-alive", line, 0)

    def check_option(self, line: Line, name: str) -> None:
        if name != "httpchk":
            if name != "tcp-check":
                text = f"'option {name}' is not simulated; the check is a TCP connect"
                self.notes.warn("HA131", text, line.span)
            self.put("check", None, line, 0)
            return
        rest = line.words[2:]
        # The version may hide headers after it ("HTTP/1.1\r\nHost:\ x"): one word all the same.
        if len(rest) > 3:
            text = f"'option httpchk': unexpected '{show(rest[3].text)}'"
            self.notes.error("HA125", text, rest[3].span, "use 'http-check send'")
            return
        texts = [w.text for w in rest]
        method, uri = ("OPTIONS", "/")
        if len(texts) == 1:
            uri = texts[0]
        elif texts:
            method, uri = texts[0], texts[1]
        self.put("check", (method, uri), line, 2)

    def check_rule(self, line: Line) -> None:
        """Own http-check rules replace inherited ones; disable-on-404 is a flag."""
        if line.texts[1:2] == ("disable-on-404",):
            self.put("disable-on-404", True, line, 0)
            return
        if not self.has_rules:
            self.out.checks.clear()
            self.has_rules = True
        self.out.checks.append(line)

    def acl(self, line: Line) -> None:
        if self.part.kind == "defaults" and not self.part.name:
            text = "'acl' is not allowed in an anonymous defaults section"
            self.notes.error("HA124", text, line.span, "give the section a name")
        elif len(line.words) < 3:
            self.notes.error("HA125", "'acl' needs a name and an expression", line.span)
        else:
            self.out.acls.setdefault(line.texts[1], []).append(line)

    def stats(self, line: Line) -> None:
        rest = line.words[1:]
        if not rest:
            self.notes.error("HA125", "'stats' needs a parameter", line.span)
        elif self.notes.one_of(rest[0], sorted(hw.STATS), "stats"):
            self.out.stats = True
            if rest[0].text == "admin" and (len(rest) < 3 or rest[1].text not in ("if", "unless")):
                self.notes.error("HA125", "'stats admin' needs 'if' or 'unless'", line.span)
