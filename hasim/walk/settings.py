"""From the sentences about delays to the settings behind them, and one step of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from hasim.causes_text import Cause
from hasim.model import Knob, Stack
from hasim.source import Default, Span
from hasim.units import format_duration, parse_duration_s
from hasim.walk.rows import Moment, Setting

COUNTS = {"fall", "rise", "retries", "error_limit", "parallel-syncs", "quorum"}
SWITCHES = {"off": "on", "false": "true", "no": "yes"}  # a safety is never taken off
# Words that are a step of their own: from -> to.
WORDS = {
    "restart": {"no": "unless-stopped", "on-failure": "unless-stopped"},
    "retry_on": {"conn-failure": "conn-failure empty-response"},
    "on_marked_down": {"none": "shutdown-sessions"},
}
DURATIONS = re.compile(
    r"timeout|inter$|interval|ttl|_wait|delay|after-milliseconds|max-lag|advert_int|slowstart"
    r"|stop_grace|hard_stop|hold_"
)
NO_STEP = ("prometheus", "replicas")  # what only watches, and what is no setting of a file


def settings_behind(
    stack: Stack, causes: Iterable[Cause], moments: Iterable[Moment] = ()
) -> list[Setting]:
    """The settings that the sentences rest on or name, the longest delay first."""
    found: dict[tuple[str, ...], Setting] = {}
    said = [(c.seconds, i, c.text, c.span) for i, c in enumerate(causes)]
    said += [
        (m.after_s, len(said) + i, f"{m.text}: {m.setting}", m.span)
        for i, m in enumerate(moments)
        if m.setting
    ]
    for seconds, _, text, span in sorted(said, key=lambda row: (-row[0], row[1])):
        for knob in [*_at(stack.knobs, span), *_named(stack, text, span)]:
            one = _setting(stack, knob, text, seconds)
            if not one.names[0].startswith(NO_STEP) and one.names not in found:
                found[one.names] = one
    return list(found.values())


def _at(knobs: Sequence[Knob], span: Span | None) -> list[Knob]:
    """Knobs whose value stands exactly there."""
    if span is None:
        return []
    place = (span.file, span.line, span.col)
    return [k for k in knobs if _place(k) == place][:1]


def _place(knob: Knob) -> tuple[str, int, int] | None:
    o = knob.origin
    return (o.file, o.line, o.col) if isinstance(o, Span) else None


def _named(stack: Stack, text: str, span: Span | None) -> list[Knob]:
    """Knobs that a sentence names (`fall 3`, `no timeout check`), of what it is about."""
    plain = re.sub(r"[-_]", " ", text)
    about = set(re.findall(r"[\w.-]*\w", text)) | set(re.findall(r"[\w-]+(?=/)|(?<=/)[\w-]+", text))
    homes = {
        (backend.name, server.name)
        for balancer in stack.balancers
        for backend in balancer.backends
        for server in backend.servers
        if server.name in about or backend.name in about or _same_line(backend.span, span)
    }
    out = []
    for knob in stack.knobs:
        kind, *path, name = knob.name.split(".")
        if not re.search(rf"\b{re.escape(re.sub('[-_]', ' ', name))}\b", plain):
            continue
        if kind == "haproxy":
            mine = len(path) > 1 and path[0] in ("backend", "listen")
            home = [h for h in homes if mine and h[0] == path[1]]
            if home and (len(path) == 2 or any(path[-1] == s for _, s in home)):
                out.append(knob)
        elif kind == "compose" and about & set(path):
            out.append(knob)
    return out


def _same_line(a: Span | None, b: Span | None) -> bool:
    return a is not None and b is not None and (a.file, a.line) == (b.file, b.line)


def _setting(stack: Stack, knob: Knob, text: str, seconds: float) -> Setting:
    """All knobs that one would change together: what inherits the place, and equal peers."""
    place = _place(knob)
    here = [k for k in stack.knobs if place is not None and _place(k) == place]
    direct = [k for k in here if k.insert is None] or [knob]
    group = [k for one in direct for k in _peers(stack, one)]
    names = tuple(dict.fromkeys(k.name for k in group))
    span, default = _cited(knob)
    return Setting(names, _label(names), knob.value, knob.dialect, span, default, text, seconds)


def _cited(knob: Knob) -> tuple[Span | None, str]:
    if isinstance(knob.origin, Default):
        return knob.insert, knob.origin.source
    return knob.origin, ""


def _peers(stack: Stack, knob: Knob) -> list[Knob]:
    """The same setting of the other servers of a backend, members of a cluster, instances of a
    service, where it has the same value: nobody tunes one of three.
    """
    kind, *path, name = knob.name.split(".")
    if kind == "compose":
        service = {i.name: i.service for i in stack.instances if i.service}
        of = {i.compose_service: i.service for i in stack.instances if i.service} | service
        same = [
            k
            for k in stack.knobs
            if k.name.startswith("compose.")
            and k.name.endswith(f".{name}")
            and path
            and of.get(path[0])
            and of.get(k.name.split(".")[1]) == of[path[0]]
        ]
        return [k for k in same or [knob] if k.value == knob.value]
    at = len(path) - 1 if kind == "haproxy" else 0
    if not path or (kind == "haproxy" and len(path) < 3):
        return [knob]
    pattern = [kind, *path, name]
    pattern[1 + at] = "*"
    return [k for k in stack.knobs if _fits(k.name, pattern) and k.value == knob.value]


def _fits(name: str, pattern: list[str]) -> bool:
    parts = name.split(".")
    return len(parts) == len(pattern) and all(
        p in ("*", x) for x, p in zip(parts, pattern, strict=True)
    )


def _label(names: Sequence[str]) -> str:
    """One name for several: what differs becomes `*`."""
    if len(names) == 1:
        return names[0]
    parts = [n.split(".") for n in names]
    if len({len(p) for p in parts}) > 1:
        return f"{names[0]} and {len(names) - 1} more"
    return ".".join(p[0] if len(set(p)) == 1 else "*" for p in zip(*parts, strict=True))


# ---- one step ------------------------------------------------------------------------------------
def one_step(setting: Setting, stack: Stack) -> str:
    """The next value down: half of a duration, one less of a count, a switch turned.

    "" if there is none, or if it is no setting of that kind.
    """
    name, value = setting.names[0].rpartition(".")[2], setting.value
    if name in WORDS:
        return WORDS[name].get(value, "")
    if name in COUNTS:
        return str(int(value) - 1) if value.isdigit() and int(value) > 1 else ""
    if name.startswith("option_") or name in ("synchronous_mode", "failsafe_mode"):
        return SWITCHES.get(value, "")
    if not DURATIONS.search(name):
        return ""
    if name == "timeout_check" and value == "0":
        return _half_of_inter(setting, stack)
    return _half(value, setting.dialect)


def _half(value: str, dialect: str) -> str:
    """Half of a duration, as its file would write it; "" where it is none or cannot be written."""
    try:
        seconds = parse_duration_s(value, dialect)
        half = float(Decimal(repr(seconds)) / 2)
        return format_duration(half, dialect, like=value)
    except ValueError:
        return ""


def _half_of_inter(setting: Setting, stack: Stack) -> str:
    """Without `timeout check` a check may take all of `inter`: half of that is a step."""
    prefix = setting.names[0].rpartition(".")[0] + "."
    inter = [k for k in stack.knobs if k.name.startswith(prefix) and k.name.endswith(".inter")]
    return _half(inter[0].value, inter[0].dialect) if inter else ""
