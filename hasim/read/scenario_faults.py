"""The fault verbs of scenarios.yaml: which arguments each takes, and how they become a Fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from hasim.errors import Finding, did_you_mean
from hasim.model import Dist
from hasim.read.forms import Form, FormError, Loc, dist, place, problem, seconds
from hasim.read.yaml12 import Node
from hasim.scenario import Fault, When

KINDS_OF_TIME = ("const", "uniform")


@dataclass(frozen=True, slots=True)
class Verb:
    """args: allowed arguments; needs: one of these must be there; lasts: `for:` makes sense."""

    doc: str
    args: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    lasts: bool = True
    between: bool = False  # two host selectors instead of a target
    anywhere: bool = False  # without a target it meets the whole stack


_ROLLING = ("via", "drain", "wait", "wait_limit", "on_timeout", "pause", "image")
VERBS: dict[str, Verb] = {
    "stop": Verb("docker stop: stop signal, grace, SIGKILL; stays down", ("grace",)),
    "crash": Verb("process 1 exits; the restart policy applies"),
    "docker-kill": Verb("docker kill; the restart policy does not apply"),
    "kill-process": Verb("a process below the supervisor dies", ("process",)),
    "power-off": Verb("a host loses power with everything on it"),
    "blackhole": Verb("packets to the target vanish; it stays alive", ("link",)),
    "pause": Verb("SIGSTOP, a long GC, a deadlock: accepted, never answered", ("process",)),
    "slow": Verb(
        "CPU work takes longer, or answers come later", ("cpu", "latency"), ("cpu", "latency")
    ),
    "unhealthy": Verb("serves, but a health URL fails", ("url", "status")),
    "dns": Verb("name resolution fails", ("mode", "latency"), anywhere=True),
    "recreate": Verb(
        "docker compose up --force-recreate: a new container", ("address",), lasts=False
    ),
    "restart": Verb("docker restart", ("grace",), lasts=False),
    "reload": Verb("the daemon reads its files again", lasts=False),
    "rolling-update": Verb("one instance after the other gets a new image", _ROLLING, lasts=False),
    "partition": Verb("no packet between two hosts", ("direction",), between=True),
    "delay": Verb(
        "packets between two hosts are late", ("latency", "direction"), ("latency",), between=True
    ),
    "loss": Verb(
        "a share of the packets between two hosts is lost",
        ("fraction", "direction"),
        ("fraction",),
        between=True,
    ),
    "bandwidth": Verb(
        "replication between two hosts gets no more than this",
        ("rate", "direction"),
        ("rate",),
        between=True,
    ),
    "disk-full": Verb("a disk has no room left: writes to it fail"),
    "disk-slow": Verb("reads and writes of a disk take longer", ("factor",), ("factor",)),
    "clock-jump": Verb("the clock of a host or container jumps", ("by",), ("by",), lasts=False),
    "switchover": Verb("leadership is handed over in good order (patronictl)", lasts=False),
}
ALIASES = {"kill": "crash"}


def when(value: Any) -> When:
    """`5m`, `{uniform: [1m, 2m]}` or `{after: "+odown", plus: 100ms}`."""
    if isinstance(value, dict) and "after" in value:
        if unknown := set(value) - {"after", "plus"}:
            raise FormError("only after and plus belong here", sorted(unknown)[0])
        event = value["after"]
        if not isinstance(event, str) or not event.strip():
            raise FormError("after needs the text of an event", "after")
        return When(span_of_time(value.get("plus", "0s"), "plus"), event)
    return When(span_of_time(value))


def span_of_time(value: Any, *path: str) -> Dist:
    """A duration or {uniform: [a, b]}."""
    try:
        found = dist(value)
    except FormError as error:
        raise FormError(str(error), *path, *error.path) from None
    if found.kind not in KINDS_OF_TIME:
        raise FormError("a duration or {uniform: [a, b]} is needed here", *path)
    return found


def _factor(value: Any) -> str:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x", str(value), re.ASCII)
    if not match or not 1 <= float(match[1]) <= 1e6:
        raise FormError("a factor is needed here: 4x")
    return repr(float(match[1]))


def _extra(value: Any) -> str:
    return repr(seconds(str(value).removeprefix("+")))


def _fraction(value: Any) -> str:
    """5% or 0.05."""
    text = str(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text, re.ASCII)
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if isinstance(value, bool) or not 0 < share < 1:
        raise FormError("a share of the packets is needed here: 5%")
    return repr(share)


# Network rates count bits in powers of ten.
_RATES = {"kbit": 125.0, "mbit": 125e3, "gbit": 125e6}


def _rate(value: Any) -> str:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(kbit|mbit|gbit)(?:/s)?", str(value).lower(), re.ASCII)
    if not match or not 0 < float(match[1]) <= 1e6:
        raise FormError("a rate is needed here: 10Mbit")
    return repr(float(match[1]) * _RATES[match[2]])


def _jump(value: Any) -> str:
    """+30s, 30s or -30s."""
    text = str(value)
    sign = -1.0 if text.startswith("-") else 1.0
    return repr(sign * seconds(text.lstrip("+-"), zero=False))


def _status(value: Any) -> str:
    if not isinstance(value, int) or isinstance(value, bool) or not 100 <= value <= 599:
        raise FormError("a status code is needed here: 503")
    return str(value)


def _drain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(seconds(value))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise FormError("a text is needed here")
    return value


def _one_of(*words: str) -> Any:
    def check(value: Any) -> str:
        if value not in words:
            hint = did_you_mean(str(value), words)
            raise FormError(
                f"one of {', '.join(words)} is needed here" + (f"; {hint}" if hint else "")
            )
        return str(value)

    return Annotated[str, BeforeValidator(check), WithJsonSchema({"enum": list(words)})]


def _parsed(read: Callable[[Any], str], *examples: Any) -> Any:
    schema = WithJsonSchema({"type": ["string", "integer", "boolean"], "examples": list(examples)})
    return Annotated[str, BeforeValidator(read), schema]


_TIME_SCHEMA = {"type": ["string", "object"], "examples": ["5m", {"uniform": ["4m", "6m"]}]}
WhenField = Annotated[When, BeforeValidator(when), WithJsonSchema(_TIME_SCHEMA)]
TimeField = Annotated[Dist, BeforeValidator(span_of_time), WithJsonSchema(_TIME_SCHEMA)]
_IMAGE = _one_of("same", "never-healthy", "never-starts", "slow-boot")
_Seconds = _parsed(lambda v: repr(seconds(v)), "10s")


class RepeatForm(Form):
    """`repeat: {times: 10, every: 20s}`"""

    times: int = Field(ge=1, le=10_000)
    every: Annotated[float, BeforeValidator(lambda v: seconds(v, zero=False))] = Field(
        json_schema_extra={"type": "string"}
    )


class FaultForm(Form):
    """One fault: when, what, where, for how long, and the verb's own arguments."""

    at: WhenField
    do: str
    target: str = ""
    each: str = ""
    between: list[str] = []
    for_: TimeField | None = Field(None, alias="for")
    repeat: RepeatForm | None = None
    direction: Literal["", "both", "forward", "backward"] = ""
    cpu: _parsed(_factor, "4x") = ""  # type: ignore[valid-type]
    latency: _parsed(_extra, "+200ms") = ""  # type: ignore[valid-type]
    url: _parsed(_text, "ready", "live", "both", "/health") = ""  # type: ignore[valid-type]
    status: _parsed(_status, 503) = ""  # type: ignore[valid-type]
    mode: _one_of("silent", "nx", "slow") = ""  # type: ignore[valid-type]
    grace: _Seconds = ""  # type: ignore[valid-type]
    process: _parsed(_text, "worker") = ""  # type: ignore[valid-type]
    address: _one_of("new", "same") = ""  # type: ignore[valid-type]
    via: _one_of("script", "serial") = ""  # type: ignore[valid-type]
    drain: _parsed(_drain, True, "30s") = ""  # type: ignore[valid-type]
    wait: _one_of("docker-health", "haproxy-up", "none") = ""  # type: ignore[valid-type]
    wait_limit: _Seconds = ""  # type: ignore[valid-type]
    on_timeout: _one_of("continue", "stop", "rollback") = ""  # type: ignore[valid-type]
    pause: _Seconds = ""  # type: ignore[valid-type]
    image: _IMAGE = ""  # type: ignore[valid-type]
    link: _one_of("down") = ""  # type: ignore[valid-type]
    fraction: _parsed(_fraction, "5%") = ""  # type: ignore[valid-type]
    rate: _parsed(_rate, "10Mbit") = ""  # type: ignore[valid-type]
    factor: _parsed(_factor, "10x") = ""  # type: ignore[valid-type]
    by: _parsed(_jump, "+30s", "-5s") = ""  # type: ignore[valid-type]


ARGS = tuple(
    f
    for f in FaultForm.model_fields
    if f not in ("at", "do", "target", "each", "between", "for_", "repeat", "direction")
)


def make_fault(form: FaultForm, node: Node, loc: Loc) -> tuple[Fault | None, list[Finding]]:
    """The Fault, with everything checked that needs neither the load nor the stack."""
    found: list[Finding] = []

    def wrong(message: str, key: str, hint: str = "", at_key: bool = False) -> None:
        found.append(problem(message, place(node, (*loc, key), key=at_key), hint))

    name = ALIASES.get(form.do, form.do)
    verb = VERBS.get(name)
    if verb is None:
        words = (*VERBS, *ALIASES)
        hint = did_you_mean(form.do, words) or f"known verbs: {', '.join(words)}"
        wrong(f"unknown fault '{form.do}'", "do", hint)
        return None, found
    args = {a: getattr(form, a) for a in ARGS if getattr(form, a)}
    for arg in args:
        if arg not in verb.args:
            takes = ", ".join(verb.args) or "no arguments"
            wrong(f"'{form.do}' takes no '{arg}'", arg, f"it takes {takes}", at_key=True)
    if verb.needs and not any(a in args for a in verb.needs):
        wrong(f"'{form.do}' needs {' or '.join(verb.needs)}", "do")
    if form.for_ is not None and not verb.lasts:
        wrong(f"'{form.do}' is over at once; it takes no 'for'", "for", at_key=True)
    _check_where(form, verb, wrong)
    repeat = form.repeat
    fault = Fault(
        do=name,
        target=form.target or form.each,
        at=form.at,
        lasts=form.for_,
        repeat_times=repeat.times if repeat else 1,
        repeat_every_s=repeat.every if repeat else 0.0,
        between=tuple(form.between),
        direction=form.direction or "both",
        args=args,
        span=place(node, loc),
    )
    return fault, found


def _check_where(form: FaultForm, verb: Verb, wrong: Callable[..., None]) -> None:
    """Either a target or two hosts, as the verb wants."""
    if verb.between:
        for key in ("target", "each"):
            if getattr(form, key):
                wrong(f"'{form.do}' takes between: [a, b], no {key}", key, at_key=True)
        if len(form.between) != 2:
            wrong(f'\'{form.do}\' needs between: ["host:a", "host:b"]', "between")
        elif not all(_on_host(b) for b in form.between):
            wrong(f"'{form.do}' between anything but hosts is not in this version", "between")
        return
    if form.between:
        wrong(f"'{form.do}' takes a target, not between", "between", at_key=True)
    if form.direction:
        wrong(f"'{form.do}' takes no 'direction'", "direction", at_key=True)
    if form.target and form.each:
        wrong("either 'target' or 'each'", "each", at_key=True)
    target = form.target or form.each
    if not target and not verb.anywhere:
        wrong(f"'{form.do}' needs a target", "do", "hasim list targets shows what can be named")
    key = "target" if form.target else "each"
    if form.do == "power-off" and target and not _on_host(target):
        wrong("only a host can lose its power", key, "write 'host:...' or use 'crash'")
    if form.link and not target.startswith("host:"):
        wrong("a link belongs to a host", key, "write 'host:...'")
    if form.do == "switchover" and target and not target.startswith("patroni:"):
        wrong("only Patroni hands over in good order", key, "write 'patroni:leader'")


def _on_host(target: str) -> bool:
    """Does the target stand for hosts: by name, or as that of whoever has a role?"""
    return target.startswith(("host:", "vip:")) or bool(
        re.fullmatch(r"[a-z]+:[a-z]+(?:\[[?*]\])?", target)
    )
