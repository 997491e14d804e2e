"""keepalived.conf as values: VRRP instances, what they track, where each value is written.

keepalived goes on after most mistakes and takes a default; `keepalived -t` reports them and exits
with 5. So they are HA174 here: an error where the instance is left out or the value replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from typing import Any

from hasim.components.keepalived import config_words as kw
from hasim.errors import Finding, did_you_mean
from hasim.read.keepalived_conf import CODE, Entry, read_keepalived
from hasim.source import Origin, Span, Word

UNSIMULATED = "HA175"


@dataclass(frozen=True, slots=True)
class Script:
    """Something that is tracked: a script, or a process (interval_s 0: noticed at once).

    looks: what it asks for, "process <name>", "port <number>", or "" if it cannot be told.
    weight 0: the instances that track it go to FAULT. timeout_s 0: one interval.
    """

    name: str
    command: str
    interval_s: float = 1.0
    timeout_s: float = 0.0
    rise: int = 1
    fall: int = 1
    weight: int = 0
    reverse: bool = False
    init_fail: bool = False
    looks: str = ""
    span: Span | None = None
    end: Span | None = None  # the closing brace
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Vrrp:
    """One vrrp_instance. peers: unicast addresses, () for multicast. secret: a digest only."""

    name: str
    state: str
    interface: str
    router_id: int
    priority: int
    advert_s: float
    version: int
    nopreempt: bool
    preempt_delay_s: float
    garp_delay_s: float
    garp_refresh_s: float
    down_adverts: int
    source: str
    peers: tuple[str, ...]
    unicast: bool
    addresses: tuple[str, ...]
    tracks: tuple[Script, ...]
    secret: str = field(default="", repr=False)
    span: Span | None = None
    end: Span | None = None
    where: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Config:
    """One keepalived.conf as one container reads it. sees_host: it shares the PIDs of its host."""

    file: str
    instances: tuple[Vrrp, ...]
    startup_delay_s: float = 0.0
    sees_host: bool = True
    texts: Mapping[str, Word] = field(default_factory=dict, repr=False, compare=False)


class Notes:
    """Findings of one build."""

    def __init__(self, found: list[Finding]):
        self.found = found

    def error(self, text: str, span: Span | None, hint: str = "") -> None:
        self.found.append(Finding("error", CODE, text, span, hint))

    def warn(self, text: str, span: Span | None, hint: str = "", code: str = CODE) -> None:
        self.found.append(Finding("warning", code, text, span, hint))


def build(
    text: str, file: str, looks: Any = None, sees_host: bool = True
) -> tuple[Config, list[Finding]]:
    """The configuration of a text and every problem. looks(command) -> Script.looks."""
    tree, found = read_keepalived(text, file)
    notes = Notes(found)
    defaults = _globals(tree, notes)
    _top(tree, notes)
    scripts: dict[str, Script] = {}
    for entry in tree:
        if entry.key in ("vrrp_script", "vrrp_track_process"):
            made = _script(entry, notes, looks or (lambda command: ""))
            if made.name in scripts:
                notes.error(f"{entry.key} '{made.name}' is here twice", entry.span)
            scripts.setdefault(made.name, made)
    instances: list[Vrrp] = []
    for entry in tree:
        if entry.key == "vrrp_instance":
            one = _instance(entry, defaults, scripts, notes)
            if one is not None:
                _twice(one, instances, notes)
                instances.append(one)
    delay = _float(defaults["vrrp_startup_delay"].text) if "vrrp_startup_delay" in defaults else 0
    return Config(file, tuple(instances), delay or 0.0, sees_host, defaults), found


def _top(tree: Iterable[Entry], notes: Notes) -> None:
    for entry in tree:
        if entry.key in kw.TOP_UNSIMULATED:
            text = f"'{entry.key}' is not simulated"
            notes.warn(text, entry.span, code=UNSIMULATED)
        elif entry.key not in kw.TOP_READ:
            known = [*kw.TOP_READ, *kw.TOP_UNSIMULATED]
            notes.error(
                f"unknown keyword '{entry.key}'", entry.span, did_you_mean(entry.key, known)
            )


def _globals(tree: Iterable[Entry], notes: Notes) -> dict[str, Word]:
    """Word -> its value, of every global_defs block."""
    out: dict[str, Word] = {}
    for entry in (e for e in tree if e.key == "global_defs"):
        for line in entry.block or ():
            if line.key in kw.GLOBAL_READ and len(line.words) > 1:
                out[line.key] = line.words[1]
            elif not line.key.startswith(kw.GLOBAL_QUIET_PREFIXES):
                sets = kw.GLOBAL_READ, kw.GLOBAL_QUIET, kw.GLOBAL_UNSIMULATED
                check_word(line, *sets, notes)
    return out


def check_word(
    line: Entry,
    read: frozenset[str],
    quiet: frozenset[str],
    unsimulated: frozenset[str],
    notes: Notes,
) -> None:
    """A finding for a word that is unknown, or known and not simulated."""
    if line.key in unsimulated:
        text = f"'{line.key}' is not simulated"
        notes.warn(text, line.span, code=UNSIMULATED)
    elif line.key not in read and line.key not in quiet:
        hint = did_you_mean(line.key, [*read, *quiet])
        notes.warn(f"unknown keyword '{line.key}'", line.span, hint)


def _float(text: str) -> float | None:
    try:
        value = float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None
    return value if value is not None and abs(value) < 1e12 else None


def numbers(
    entry: Entry,
    specs: Iterable[kw.Number],
    globals_: Mapping[str, Word],
    notes: Notes,
    where: dict[str, Origin],
) -> dict[str, Any]:
    """field -> value of the numbers of a block; wrong ones are reported and get the default."""
    out: dict[str, Any] = {}
    for spec in specs:
        lines = [e for e in entry.get(spec.key) if len(e.words) > 1]
        word = lines[-1].words[1] if lines else globals_.get(spec.inherits)
        value = _number(spec, word, notes) if word else None
        section = "VRRP script(s)" if entry.key == "vrrp_script" else "VRRP instance(s)"
        shown = kw.manual(section, f"{spec.key}: {spec.default:g}")
        where[spec.field] = word.span if word and value is not None else shown
        chosen = spec.default if value is None else value
        out[spec.field] = float(chosen) if spec.unit == "s" else int(chosen)
    return out


def _number(spec: kw.Number, word: Word, notes: Notes) -> float | None:
    value = _float(word.text)
    whole = value is not None and (spec.unit == "s" or value == int(value))
    if value is None or not whole or not spec.low <= value <= spec.high:
        text = f"{spec.key} '{word.text}' is not between {spec.low:g} and {spec.high:g}"
        shown = f"keepalived takes {spec.default:g}" if spec.default else ""
        notes.error(text, word.span, shown)
        return None
    return value


def _script(entry: Entry, notes: Notes, looks: Any) -> Script:
    tracked = entry.key == "vrrp_track_process"
    name = entry.words[1] if len(entry.words) > 1 else Word("", entry.span)
    if not name.text:
        notes.error(f"a {entry.key} needs a name", entry.span)
    where: dict[str, Origin] = {}
    values = numbers(entry, kw.SCRIPT_NUMBERS, {}, notes, where) if not tracked else {}
    read, quiet = (kw.SCRIPT_READ, kw.SCRIPT_QUIET)
    if tracked:
        read, quiet = kw.PROCESS_READ, kw.PROCESS_QUIET
        values = {"interval_s": 0.0}
    for line in entry.block or ():
        check_word(line, read, quiet, frozenset(), notes)
    lines = entry.get("process" if tracked else "script")
    command = " ".join(w.text for w in lines[-1].words[1:]) if lines else ""
    if not command:
        notes.error(f"{entry.key} '{name.text}' says nothing to run or look for", entry.span)
    asks = f"process {command.split()[0].rpartition('/')[2]}" if tracked and command else ""
    asks = asks or looks(command)
    if lines:
        where["command"] = lines[-1].words[-1].span
    if command and not asks:
        text = f"what '{name.text}' looks at cannot be told: it is taken to succeed always"
        notes.warn(text, lines[-1].span, "kill -0, pgrep, curl to a local port", UNSIMULATED)
    weight, reverse = 1 if tracked else 0, False
    for line in entry.get("weight"):
        weight, reverse = _weight(line.words[1:], notes, line, where, weight)
    where.setdefault("weight", kw.manual("VRRP script(s)", f"weight: {weight}"))
    first = bool(entry.get("init_fail"))
    return Script(
        name.text, command, weight=weight, reverse=reverse, init_fail=first, looks=asks,
        span=name.span, end=entry.end, where=where, **values,
    )  # fmt: skip


def _weight(
    words: tuple[Word, ...], notes: Notes, line: Entry, where: dict[str, Origin], otherwise: int
) -> tuple[int, bool]:
    """(weight, reverse) of `weight N [reverse]`."""
    value = _float(words[0].text) if words else None
    low, high = kw.WEIGHTS
    if value is None or value != int(value) or not low <= value <= high:
        shown = words[0].text if words else ""
        notes.error(f"weight '{shown}' is not between {low} and {high}", line.span)
        return otherwise, False
    where["weight"] = words[0].span
    return int(value), len(words) > 1 and words[1].text == "reverse"


def _instance(
    entry: Entry, globals_: Mapping[str, Word], scripts: Mapping[str, Script], notes: Notes
) -> Vrrp | None:
    """The instance; None (and errors) if keepalived would leave it out."""
    name = entry.words[1].text if len(entry.words) > 1 else ""
    where: dict[str, Origin] = {}
    for line in entry.block or ():
        sets = kw.INSTANCE_READ, kw.INSTANCE_QUIET, kw.INSTANCE_UNSIMULATED
        check_word(line, *sets, notes)
    values = numbers(entry, kw.INSTANCE_NUMBERS, globals_, notes, where)
    _whole_seconds(name, values, where, notes)
    interface = _one(entry, "interface") or globals_.get("default_interface")
    if interface is None:
        notes.error(f"({name}) no interface is stated: the instance is left out", entry.span)
    if not values["router_id"]:
        notes.error(f"({name}) virtual_router_id is missing or wrong: left out", entry.span)
    state, nopreempt = _state(entry, name, values["priority"], notes, where)
    peers = _peers(entry, name, notes)
    source = _one(entry, "unicast_src_ip") or _one(entry, "mcast_src_ip")
    addresses = _addresses(entry, name, notes)
    tracks = _tracks(entry, scripts, name, notes)
    if interface is None or not values["router_id"] or not addresses:
        return None
    return Vrrp(
        name=name,
        state=state,
        interface=interface.text,
        nopreempt=nopreempt,
        source=source.text if source else "",
        peers=peers,
        unicast=bool(peers),
        addresses=addresses,
        tracks=tracks,
        secret=_secret(entry, name, values["version"], notes),
        span=entry.words[-1].span,
        end=entry.end,
        where=where,
        **values,
    )


def _one(entry: Entry, key: str) -> Word | None:
    lines = [e for e in entry.get(key) if len(e.words) > 1]
    return lines[-1].words[1] if lines else None


def _whole_seconds(
    name: str, values: dict[str, Any], where: dict[str, Origin], notes: Notes
) -> None:
    """VRRP version 2 knows whole seconds, version 3 at most 40.95 s. Source: RFC 3768, 5798."""
    advert_s = values["advert_s"]
    span = where["advert_s"] if isinstance(where["advert_s"], Span) else None
    if values["version"] == 2 and advert_s != int(advert_s):
        values["advert_s"] = float(max(1, int(advert_s + 0.5)))
        text = f"({name}) advert_int {advert_s:g} is rounded to {values['advert_s']:g} s"
        notes.error(text, span, "VRRP version 2 knows whole seconds only: vrrp_version 3")
    elif values["version"] == 3 and advert_s > 40.95:
        values["advert_s"] = 1.0
        notes.error(f"({name}) advert_int {advert_s:g} is above 40.95 s", span)


def _state(
    entry: Entry, name: str, priority: int, notes: Notes, where: dict[str, Origin]
) -> tuple[str, bool]:
    word = _one(entry, "state")
    state = word.text if word else "BACKUP"
    where["state"] = word.span if word else kw.manual("VRRP instance(s)", "state: BACKUP")
    if state not in ("MASTER", "BACKUP"):
        span = word.span if word else None
        notes.error(f"({name}) unknown state '{state}': it starts as BACKUP", span)
        state = "BACKUP"
    lines = entry.get("nopreempt")
    where["nopreempt"] = lines[0].span if lines else kw.manual("VRRP instance(s)", "preempt")
    if lines and state == "MASTER":
        text = f"({name}) nopreempt does not work with state MASTER: keepalived clears it"
        notes.error(text, lines[0].span, "write 'state BACKUP' on both nodes")
    if priority == 255 and state != "MASTER":
        notes.error(f"({name}) priority 255 owns the address: state must be MASTER", entry.span)
    return state, bool(lines) and state != "MASTER"


def _peers(entry: Entry, name: str, notes: Notes) -> tuple[str, ...]:
    out = []
    blocks = entry.get("unicast_peer")
    for line in (e for b in blocks for e in b.block or ()):
        try:
            out.append(str(ip_address(line.key)))
        except ValueError:
            notes.error(f"({name}) unicast peer '{line.key}' is no address: left out", line.span)
    if not out and (blocks or entry.get("unicast_src_ip")):
        text = f"({name}) no unicast peer is stated: keepalived uses multicast"
        notes.error(text, (blocks or entry.get("unicast_src_ip"))[0].span)
    return tuple(dict.fromkeys(out))


def _addresses(entry: Entry, name: str, notes: Notes) -> tuple[str, ...]:
    out: dict[str, None] = {}
    blocks = [*entry.get("virtual_ipaddress"), *entry.get("virtual_ipaddress_excluded")]
    for line in (e for b in blocks for e in b.block or ()):
        try:
            out[str(ip_interface(line.key).ip)] = None
        except ValueError:
            notes.error(f"({name}) '{line.key}' is no address", line.span)
    if not out:
        notes.error(f"({name}) it has no virtual_ipaddress: nothing moves", entry.span)
    return tuple(out)


def _tracks(
    entry: Entry, scripts: Mapping[str, Script], name: str, notes: Notes
) -> tuple[Script, ...]:
    """The scripts of the instance, with the weight that the instance gives them."""
    from dataclasses import replace

    out = []
    blocks = [*entry.get("track_script"), *entry.get("track_process")]
    for line in (e for b in blocks for e in b.block or ()):
        script = scripts.get(line.key)
        if script is None:
            text = f"({name}) track script '{line.key}' is not defined: it is not tracked"
            notes.error(text, line.span, did_you_mean(line.key, scripts))
            continue
        if len(line.words) > 2 and line.words[1].text == "weight":
            where = dict(script.where)
            weight, reverse = _weight(line.words[2:], notes, line, where, script.weight)
            script = replace(script, weight=weight, reverse=reverse, where=where)
        out.append(script)
    return tuple(out)


def _secret(entry: Entry, name: str, version: int, notes: Notes) -> str:
    """A digest of auth_type and auth_pass: only equality matters. Source: man page, 8 bytes."""
    parts: list[str] = []
    blocks = entry.get("authentication")
    if blocks and version == 3:
        notes.error(f"({name}) VRRP version 3 has no authentication: ignored", blocks[0].span)
        return ""
    for block in blocks:
        parts += [e.words[1].text[:8] for e in block.block or () if len(e.words) > 1]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest() if parts else ""


def _twice(one: Vrrp, before: Iterable[Vrrp], notes: Notes) -> None:
    for other in before:
        if (one.interface, one.router_id) == (other.interface, other.router_id):
            text = f"({one.name}) virtual_router_id {one.router_id} is that of {other.name}"
            notes.error(text, one.span)
