"""`server` lines: their options, their address, and the health check that they ask for.

Manual 5.2; what is refused was tried on 2.6.12.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hasim.components.haproxy.config_checks import CheckPlan
from hasim.components.haproxy.config_values import (
    SERVER_KNOBS,
    Notes,
    Setting,
    manual,
)
from hasim.model import Check, Server
from hasim.read import haproxy_words as hw
from hasim.read.haproxy import Line, show
from hasim.source import Default, Origin, Word

Options = dict[str, Setting]  # option -> value, as `inter`, `check` (True or False)

_WORDS = {
    "observe": ("none", "layer4", "layer7"),
    "on-error": ("fastinter", "fail-check", "sudden-death", "mark-down"),
    "on-marked-down": ("shutdown-sessions",),
    "on-marked-up": ("shutdown-backup-sessions",),
    "resolve-prefer": ("ipv4", "ipv6"),
}
_COUNTS = {  # option -> (lowest, highest) value that the daemon takes
    "rise": (1, 2**31 - 1),
    "fall": (1, 2**31 - 1),
    "error-limit": (1, 2**31 - 1),
    "weight": (0, 256),
    "port": (0, 65535),
    "maxconn": (-(2**31), 2**31 - 1),
    "minconn": (-(2**31), 2**31 - 1),
    "maxqueue": (-(2**31), 2**31 - 1),
}
_NEGATIONS = {"no-check": "check", "no-backup": "backup", "no-ssl": "ssl", "enabled": "disabled"}
_NEGATIONS |= {"no-check-ssl": "check-ssl", "no-agent-check": "agent-check"}
_FLAGS = frozenset(["check", "backup", "ssl", "disabled", "check-ssl", "agent-check"])


def read_options(line: Line, first: int, notes: Notes) -> Options:
    """The options from word `first` on; all problems are noted, the rest is kept."""
    out: Options = {}
    words, at = line.words, first
    while at < len(words):
        word = words[at]
        if not word.text:  # an empty word ends the line for HAProxy
            break
        arity, status = hw.SERVER_OPTIONS.get(word.text, (-1, ""))
        if word.text.startswith("set-proxy-v2-tlv-fmt("):
            arity, status = 1, hw.QUIET
        if arity < 0:
            _unknown(word, notes)
            at += 1
            continue
        value = words[at + 1] if arity and at + 1 < len(words) else None
        if arity and (value is None or not value.text):
            notes.error("HA125", f"'{word.text}' needs a value", word.span)
            break
        if status == hw.MATTERS:
            text = f"'{word.text}' is not simulated; it could change the outcome"
            notes.warn("HA130", text, word.span)
        if (setting := _option(word, value, notes)) is not None:
            out[_NEGATIONS.get(word.text, word.text)] = setting
        at += 1 + arity
    return out


def _unknown(word: Word, notes: Notes) -> None:
    hint = notes.hint(word.text, hw.SERVER_OPTIONS)
    text = f"unknown server option '{show(word.text)}'; it is not simulated"
    other = "HAProxy refuses to start on a word that it does not know"
    notes.warn("HA123", text, word.span, hint or other)


def _option(word: Word, value: Word | None, notes: Notes) -> Setting | None:
    """One option as a Setting, or None where its value is refused."""
    name = word.text
    if value is None:
        return Setting(name in _FLAGS, name, word.span)
    result: object = value.text
    if SERVER_KNOBS.get(name, ("",))[0] == "duration":
        # Zero is refused for all but slowstart ("invalid value 0 for argument 'inter'").
        result = notes.duration(value, name, zero=name == "slowstart")
    elif name in _COUNTS:
        result = notes.count(value, name, *_COUNTS[name])
    elif name in _WORDS:
        result = value.text if notes.one_of(value, _WORDS[name], name) else None
    elif name == "init-addr":
        result = _init_addr(value, notes)
    return None if result is None else Setting(result, value.text, value.span)


def _init_addr(value: Word, notes: Notes) -> tuple[str, ...] | None:
    methods = tuple(m for m in value.text.split(",") if m)
    for method in methods:
        if method not in ("last", "libc", "none") and not re.fullmatch(r"[0-9a-fA-F.:]+", method):
            text = f"init-addr: unknown method '{show(method)}'"
            notes.error("HA125", text, value.span, "one of: last, libc, none, an address")
            return None
    return methods


def split_address(word: Word, notes: Notes, *, what: str) -> tuple[str, int] | None:
    """(host, port) of `host[:port]`; port 0 if absent; a socket path keeps its text, port 0.

    "+80" and "-80" (the client's port, shifted) give port 0, as HAProxy's checks see them.
    """
    text = re.sub(
        r"^(ipv4|ipv6|tcp|tcp4|tcp6|udp|udp4|udp6|quic4|quic6|stream\+ipv[46])@", "", word.text
    )
    if text.startswith("/") or re.match(r"(unix|abns|abnsz|fd|sockpair|rhttp|mptcp)\w*@", text):
        return text, 0
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, 0
    host = host.removeprefix("[").removesuffix("]")
    if port.startswith(("+", "-")) and port[1:].isdecimal():
        return host, 0
    if re.fullmatch(r"[0-9]+-[0-9]+", port, re.ASCII):
        notes.error("HA125", f"{what}: a port range is not permitted here", word.span)
    elif port and not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII):
        notes.error("HA125", f"{what}: '{show(port)}' is no port number", word.span)
    elif port and int(port) > 65535:
        notes.error("HA125", f"{what}: port {port} is above 65535", word.span)
    else:
        return host, int(port or 0)
    return None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a server needs to know of its backend and of the process."""

    plan: CheckPlan
    timeout_check_s: float | None
    timeout_connect_s: float
    spread_checks: float
    where: dict[str, Origin]  # of the three above
    verify: bool = True  # False: `ssl-server-verify none` in the global section


def servers(line: Line, inherited: Options, around: Surroundings, notes: Notes) -> list[Server]:
    """The servers of one `server` or `server-template` line (none if it cannot be used)."""
    template = line.texts[0] == "server-template"
    words = line.words[1:]
    if len([w for w in words if w.text]) < (3 if template else 2):
        wanted = "<prefix> <number> <address>" if template else "<name> <address>[:<port>]"
        notes.error("HA125", f"'{line.texts[0]}' needs {wanted}", line.span)
        return []
    numbers = _template_numbers(words[1], notes) if template else ("",)
    address = split_address(words[2 if template else 1], notes, what=line.texts[0])
    options = inherited | read_options(line, 4 if template else 3, notes)
    _cross_check(line, options, address, around, notes)
    if address is None or not numbers:
        return []
    where: dict[str, Origin] = {"name": words[0].span}
    where["address"] = where["port"] = words[2 if template else 1].span
    first = _server(words[0].text, address, options, around, where, line)
    return [replace(first, name=f"{first.name}{n}") for n in numbers]


def _template_numbers(word: Word, notes: Notes) -> tuple[str, ...]:
    found = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", word.text, re.ASCII)
    low, high = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
    if found and not found[2]:
        low, high = 1, low
    if not found or not 1 <= low <= high:
        text = f"server-template: '{show(word.text)}' is neither a number nor a range"
        notes.error("HA125", text, word.span, "write 3 or 1-3")
        return ()
    return tuple(str(n) for n in range(low, high + 1))


def _cross_check(
    line: Line,
    options: Options,
    address: tuple[str, int] | None,
    around: Surroundings,
    notes: Notes,
) -> None:
    """Rules over several options of one line."""

    def has(name: str) -> bool:
        return name in options and options[name].value is True

    port = options["port"].value if "port" in options else 0
    socket = address is not None and address[0].startswith(("/", "unix@", "abns@"))
    if has("check") and address and not (address[1] or port or around.plan.port or socket):
        text = f"server '{show(line.texts[1])}' has neither a service port nor a check port"
        notes.error("HA125", text, line.span)
    if has("agent-check") and "agent-port" not in options:
        notes.error("HA125", "'agent-check' needs 'agent-port'", line.span)
    verified = options["verify"].value == "none" if "verify" in options else not around.verify
    if has("ssl") and not verified and "ca-file" not in options:
        text = "'ssl' needs 'ca-file' or 'verify none'; HAProxy refuses it otherwise"
        notes.error("HA125", text, line.span)
    for name in ("observe", "on-error", "on-marked-down"):
        if name in options and not has("check") and "track" not in options:
            text = f"'{name}' has no effect without 'check'"
            notes.warn("HA132", text, options[name].span)


def _server(
    name: str,
    address: tuple[str, int],
    options: Options,
    around: Surroundings,
    where: dict[str, Origin],
    line: Line,
) -> Server:
    origins = dict(where)

    def get(option: str, otherwise: object = None, as_field: str = "") -> object:
        setting = options.get(option)
        topic = SERVER_KNOBS[option][2] if option in SERVER_KNOBS else f"{option}: off"
        origins[as_field or option.replace("-", "_")] = (
            setting.span if setting else manual("5.2", topic)
        )
        return setting.value if setting else otherwise

    def word(option: str) -> str:
        text = str(get(option, "none"))
        return "" if text == "none" else text

    def count(option: str, otherwise: int = 0) -> int:
        return max(0, int(str(get(option, otherwise))))  # a negative limit is no limit

    check = None
    if get("check", False):
        check = _check(options, around)
    init = get("init-addr", ("last", "libc"))
    return Server(
        name=name,
        address=address[0],
        port=address[1],
        instance="",
        reach="none",
        check=check,
        weight=count("weight", 1),
        backup=bool(get("backup", False)),
        disabled=bool(get("disabled", False)),
        maxconn=count("maxconn"),
        maxqueue=count("maxqueue"),
        slowstart_s=float(str(get("slowstart", 0.0, "slowstart_s"))),
        observe=word("observe"),
        error_limit=count("error-limit", 10),
        on_error=str(get("on-error", "fail-check")),
        on_marked_down=word("on-marked-down"),
        resolvers=word("resolvers"),
        init_addr=init if isinstance(init, tuple) else ("last", "libc"),
        minconn=count("minconn"),
        on_marked_up=word("on-marked-up"),
        resolve_prefer=str(get("resolve-prefer", "ipv6")),
        tls=bool(get("ssl", False, "tls")),
        span=line.span,
        where=origins,
    )


def _check(options: Options, around: Surroundings) -> Check:
    """The check of one server; fastinter and downinter fall back to inter (manual 5.2)."""
    plan = around.plan
    where: dict[str, Origin] = {**around.where, **plan.where}

    def get(option: str, field_name: str, otherwise: float) -> float:
        setting = options.get(option)
        where[field_name] = setting.span if setting else manual("5.2", SERVER_KNOBS[option][2])
        return float(str(setting.value)) if setting else otherwise

    inter_s = get("inter", "inter_s", 2.0)
    port = options.get("port")
    addr = options.get("addr")
    ssl = any(k in options and options[k].value is True for k in ("check-ssl",))
    # `ssl` makes checks TLS too, unless they go elsewhere (manual 5.2 check-ssl).
    ssl = ssl or ("ssl" in options and options["ssl"].value is True and not (port or addr))
    for name, setting in (("port", port), ("addr", addr)):
        if setting:
            where[name] = setting.span
    return Check(
        kind=plan.kind,
        url=plan.url,
        expect_status=plan.expect_status,
        inter_s=inter_s,
        fastinter_s=get("fastinter", "fastinter_s", inter_s),
        downinter_s=get("downinter", "downinter_s", inter_s),
        rise=int(get("rise", "rise", 2)),
        fall=int(get("fall", "fall", 3)),
        timeout_check_s=around.timeout_check_s,
        timeout_connect_s=around.timeout_connect_s,
        spread_checks=around.spread_checks,
        method=plan.method,
        port=plan.port or (int(str(port.value)) if port else 0),
        addr=plan.addr or (str(addr.value) if addr else ""),
        tls=plan.tls or ssl,
        where=where,
    )


def default_text(option: str) -> Default:
    """The citation of a server option's default."""
    return manual("5.2", SERVER_KNOBS[option][2])
