"""`option httpchk` and the `http-check` rules of a backend (manual 4.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hasim.components.haproxy.config_values import Notes, Setting, manual
from hasim.read import haproxy_words as hw
from hasim.read.haproxy import Line, show
from hasim.source import Origin, Word


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """What the backend asks of every check: its `option httpchk` and `http-check` rules."""

    kind: str = "tcp"
    method: str = "OPTIONS"
    url: str = "/"
    expect_status: tuple[int, ...] = ()
    port: int = 0
    addr: str = ""
    tls: bool = False
    where: dict[str, Origin] = field(default_factory=dict)


def check_plan(check: Setting | None, rules: list[Line], notes: Notes) -> CheckPlan:
    """What `option httpchk` and the `http-check` rules amount to (manual 4.2 http-check)."""
    if check is None or check.value is None:
        if rules:
            text = "'http-check' rules are ignored without 'option httpchk'"
            notes.warn("HA132", text, rules[0].span)
        origin: Origin = check.span if check else manual("4.2", "option httpchk: a TCP connect")
        return CheckPlan(where={"kind": origin})
    method, url = (str(x) for x in check.value)  # type: ignore[attr-defined]
    where: dict[str, Origin] = {"kind": check.span, "url": check.span, "method": check.span}
    where["expect_status"] = manual("4.2", "option httpchk: 2xx and 3xx pass")
    state: dict = {"method": method, "url": url}
    for rule in _first_step(rules, notes):
        _check_rule(rule, state, where, notes)
    return CheckPlan("http", where=where, **state)


def _first_step(rules: list[Line], notes: Notes) -> list[Line]:
    """The rules of the first connect-send-expect step; a bad order is an error (2.6.12)."""
    steps = [r for r in rules if r.texts[1:2] and r.texts[1] in ("connect", "send", "expect")]
    order = ""
    for at, rule in enumerate(steps):
        order += rule.texts[1][0]
        if not re.fullmatch(r"s?e*|(?:cse+)*(?:c(?:se*)?)?", order):
            text = f"'http-check {rule.texts[1]}' cannot come here"
            hint = "the order is: connect, send, expect; one of each before the next connect"
            notes.error("HA125", text, rule.span, hint)
            return steps[:at]
    second = order.find("c", 1)
    if second < 0:
        return steps
    text = "a check of several steps; only the first one is simulated"
    notes.warn("HA131", text, steps[second].span)
    return steps[:second]


def _check_rule(rule: Line, state: dict, where: dict[str, Origin], notes: Notes) -> None:
    """Apply one http-check line to the plan."""
    kind, words = rule.texts[1] if len(rule.words) > 1 else "", rule.words[2:]
    if kind == "expect":
        _expect(rule, words, state, where, notes)
        return
    takes = {"send": ("meth", "uri", "ver", "hdr", "body"), "connect": ("port", "addr")}
    if kind not in takes:
        return
    at = 0
    while at < len(words):
        name, value = words[at].text, words[at + 1] if at + 1 < len(words) else None
        step = 1 if name in ("ssl", "default", "linger", "send-proxy", "via-socks4") else 2
        step = 3 if name == "hdr" else step
        if kind == "connect" and name == "ssl":
            state["tls"], where["tls"] = True, words[at].span
        elif value is not None and name in takes[kind]:
            _apply(name, value, state, where, notes)
        at += step


def _apply(name: str, value: Word, state: dict, where: dict[str, Origin], notes: Notes) -> None:
    if name == "port":
        port = notes.count(value, "http-check connect port", 0, 65535)
        if port is not None:
            state["port"], where["port"] = port, value.span
    elif name in ("meth", "uri", "addr"):
        field_name = {"meth": "method", "uri": "url", "addr": "addr"}[name]
        state[field_name], where[field_name] = value.text, value.span


_MATCHES = hw.words("status rstatus string rstring string-lf hdr fhdr min-recv comment")
_SKIP = {"min-recv": 2, "comment": 2, "ok-status": 2, "error-status": 2, "tout-status": 2}
_SKIP |= {"on-success": 2, "on-error": 2, "status-code": 2}


def _expect(
    rule: Line, words: tuple[Word, ...], state: dict, where: dict[str, Origin], notes: Notes
) -> None:
    """`http-check expect [options] [!] status <codes>`; other matches cannot be simulated."""
    at = 0
    while at < len(words) and words[at].text in _SKIP:
        at += _SKIP[words[at].text]
    negated = at < len(words) and words[at].text == "!"
    at += negated
    if at + 1 >= len(words):
        notes.error("HA125", "'http-check expect' needs a match and a pattern", rule.span)
        return
    if not notes.one_of(words[at], _MATCHES, "http-check expect"):
        return
    if words[at].text != "status":
        text = f"'http-check expect {words[at].text}' is not simulated; any 2xx or 3xx passes"
        notes.warn("HA131", text, rule.span)
        return
    if at + 2 < len(words):
        text = f"'http-check expect': unexpected '{show(words[at + 2].text)}'"
        notes.error("HA125", text, words[at + 2].span)
        return
    codes: set[int] = set()
    for part in words[at + 1].text.split(","):
        found = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", part, re.ASCII)
        if not found:
            text = f"http-check expect: '{show(part)}' is no status code"
            notes.error("HA125", text, words[at + 1].span, "write 200 or 200-299,304")
            return
        codes |= set(range(int(found[1]), int(found[2] or found[1]) + 1))
    if negated:
        codes = set(range(100, 600)) - codes
    state["expect_status"] = tuple(sorted(codes))
    where["expect_status"] = words[at + 1].span
