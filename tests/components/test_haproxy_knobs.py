"""Knobs of haproxy.cfg: a change is read back as written and touches no other byte."""

from difflib import SequenceMatcher
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.components.haproxy.config import build
from hasim.components.haproxy.config_knobs import patch
from hasim.read.haproxy import read
from hasim.source import Default, apply_patches
from hasim.units import parse_duration_s

GUIDE = (Path(__file__).parents[1] / "read" / "haproxy-guide.cfg").read_text()
RICH = """\
# a comment that stays
global
\tmaxconn 4096   # by hand
defaults base
\tmode http
\ttimeout connect "${CONNECT-5s}"
\ttimeout client 50s
\toption redispatch 1
\tdefault-server inter 2s fall 3 check on-error mark-down
defaults
  timeout connect 1s
frontend f from base
  bind :80
  default_backend b
backend b from base
  no option persist
  retry-on conn-failure 503
  server-template t 1-2 h:1 weight 10 # templates
  server s 'h':2 rise "2"   fall 2  # odd  spacing
resolvers dns
  hold nx 5s
listen l
"""
VALUES = {
    "duration": ["250ms", "7s", "2m"],
    "count": ["7", "1", "40"],
    "option": ["on", "off"],
    "balance": ["leastconn", "first"],
    "retry_on": ["conn-failure empty-response", "none"],
    "http_reuse": ["never", "always"],
    "observe": ["layer4", "layer7"],
    "on_error": ["fastinter", "sudden-death"],
    "on_marked_down": ["shutdown-sessions"],
    "on_marked_up": ["shutdown-backup-sessions"],
    "init_addr": ["last,libc,none", "none"],
    "resolvers": ["dns"],
    "resolve_prefer": ["ipv4"],
    "option_httpchk": ["GET /health/ready", "/x"],
}
COUNTS = {"maxconn", "fullconn", "retries", "rise", "fall", "weight", "minconn", "maxqueue"}
COUNTS |= {"error_limit", "spread_checks", "resolve_retries"}


def set_knobs(text: str, values) -> str:
    """The text with (knob, value) pairs in force; their places are those of `text`."""
    return apply_patches(text, [patch(knob, value) for knob, value in values])


def set_knob(text: str, knob, value: str) -> str:
    return set_knobs(text, [(knob, value)])


def knobs(text):
    tree, _ = read(text)
    return {k.name: k for k in build(tree)[2]}


def choices(name):
    """Values that the knob of that name may take."""
    last = name.rpartition(".")[2]
    kind = "count" if last in COUNTS else "option" if last.startswith("option_") else "duration"
    return VALUES.get(last, VALUES[kind])


def same(name, value, text):
    """Whether the text of a knob means the value asked for."""
    if choices(name) is VALUES["duration"]:
        return parse_duration_s(text, "haproxy") == parse_duration_s(value, "haproxy")
    return text == value


@pytest.mark.parametrize("source", [GUIDE, RICH, GUIDE.replace("\n", "\r\n")])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_patch_and_read_back(source, data):
    before = knobs(source)
    name = data.draw(st.sampled_from(sorted(before)))
    value = data.draw(st.sampled_from(choices(name)))
    knob = before[name]
    text = set_knob(source, knob, value)
    after = knobs(text)
    assert same(name, value, after[name].value)
    assert not isinstance(after[name].origin, Default)
    assert after[name].insert is None
    place = knob.insert or knob.origin
    assert text[: place.start] == source[: place.start]
    tail = source[place.end :]
    assert text.endswith(tail)
    prefix = name.rpartition(".")[0]
    derived = {n for n in after if n.startswith(prefix)} | {name}
    if prefix.startswith(("haproxy.backend", "haproxy.frontend")):
        others = {n: k.value for n, k in before.items() if n not in derived}
        assert {n: after[n].value for n in others} == others


def test_every_knob_of_both_files_can_be_set():
    for source in (GUIDE, RICH):
        for name, knob in knobs(source).items():
            for value in choices(name):
                text = set_knob(source, knob, value)
                assert same(name, value, knobs(text)[name].value), name
                errors = [f for f in read(text)[1] if f.severity == "error"]
                assert errors == [], name


def test_names_and_values():
    found = knobs(GUIDE)
    assert found["haproxy.global.maxconn"].value == "4096"
    assert found["haproxy.defaults.timeout_connect"].value == "5000"
    assert str(found["haproxy.defaults.timeout_connect"].origin) == "haproxy.cfg:11:21"
    assert found["haproxy.backend.l09-api-gateway.l09-1.inter"].value == "2000"
    assert found["haproxy.backend.l09-api-gateway.option_redispatch"].value == "off"
    assert found["haproxy.backend.l09-api-gateway.option_httpchk"].value == "GET /health/live"
    assert {k.effect for k in found.values()} == {"reload"}
    rich = knobs(RICH)
    assert rich["haproxy.defaults.base.option_redispatch"].value == "1"
    assert rich["haproxy.defaults.timeout_connect"].value == "1s"
    assert rich["haproxy.backend.b.timeout_connect"].value == "5s"
    assert rich["haproxy.resolvers.dns.hold_nx"].value == "5s"
    assert rich["haproxy.backend.b.t.weight"].value == "10"
    assert rich["haproxy.defaults.base.default_server.inter"].value == "2s"


def diff(source, text):
    """(removed, added) text, which must be one stretch."""
    ops = [o for o in SequenceMatcher(None, source, text, False).get_opcodes() if o[0] != "equal"]
    assert len(ops) == 1
    _, a, b, c, d = ops[0]
    return source[a:b], text[c:d]


@pytest.mark.parametrize(
    ("name", "value", "added"),
    [
        ("haproxy.backend.l09-api-gateway.option_redispatch", "1", "    option redispatch 1\n"),
        ("haproxy.backend.l09-api-gateway.timeout_connect", "500ms", "    timeout connect 500ms\n"),
        ("haproxy.backend.l09-api-gateway.l09-2.fastinter", "500ms", " fastinter 500ms"),
        ("haproxy.defaults.retries", "2", "    retries 2\n"),
    ],
)
def test_what_is_inserted(name, value, added):
    removed, found = diff(GUIDE, set_knob(GUIDE, knobs(GUIDE)[name], value))
    assert removed == ""
    assert sorted(found) == sorted(added)


def test_values_keep_the_manner_of_the_file():
    text = set_knob(GUIDE, knobs(GUIDE)["haproxy.defaults.timeout_connect"], "500ms")
    assert "timeout connect 500\n" in text
    text = set_knob(RICH, knobs(RICH)["haproxy.defaults.base.timeout_client"], "1500ms")
    assert "timeout client 1500ms\n" in text
    text = set_knob(RICH, knobs(RICH)["haproxy.backend.b.option_persist"], "on")
    assert "  option persist\n" in text
    text = set_knob(RICH, knobs(RICH)["haproxy.defaults.base.option_redispatch"], "off")
    assert "\tno option redispatch\n" in text


def test_an_inherited_value_is_written_where_it_is_asked_for():
    text = set_knob(RICH, knobs(RICH)["haproxy.backend.b.s.inter"], "9s")
    assert "  server s 'h':2 rise \"2\"   fall 2 inter 9s  # odd  spacing\n" in text
    assert knobs(text)["haproxy.backend.b.t.inter"].value == "2s"


def test_several_at_once():
    found = knobs(GUIDE)
    base = "haproxy.backend.l09-api-gateway."
    values = [(base + "l09-1.fastinter", "1s"), (base + "l09-1.downinter", "3s")]
    values += [(base + "retries", "2"), (base + "http_reuse", "never"), (base + "l09-1.fall", "2")]
    after = knobs(set_knobs(GUIDE, [(found[n], v) for n, v in values]))
    assert {n: after[n].value for n, _ in values} == dict(values)


def test_a_file_without_global_section_gets_one():
    text = "frontend f\n bind :1\n"
    after = set_knob(text, knobs(text)["haproxy.global.maxconn"], "9")
    assert after == "global\n    maxconn 9\n\n" + text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("haproxy.defaults.timeout_connect", "-1"),
        ("haproxy.defaults.timeout_connect", "1.5s"),
        ("haproxy.defaults.timeout_connect", "soon"),
        ("haproxy.defaults.retries", "2; rm"),
        ("haproxy.defaults.balance", "first\n bind :1"),
        ("haproxy.defaults.balance", "a#b"),
        ("haproxy.defaults.option_redispatch", "maybe"),
        ("haproxy.defaults.option_persist", "1"),
        ("haproxy.backend.l09-api-gateway.l09-1.fall", "0"),
        ("haproxy.backend.l09-api-gateway.l09-1.inter", "0"),
        ("haproxy.backend.l09-api-gateway.l09-1.weight", "257"),
        ("haproxy.backend.l09-api-gateway.l09-1.resolvers", "none"),
    ],
)
def test_impossible_values(name, value):
    with pytest.raises(ValueError, match="."):
        set_knob(GUIDE, knobs(GUIDE)[name], value)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, len(RICH)), n=st.integers(0, 40), put=st.text(max_size=6))
def test_a_mutilated_file_gives_findings_not_an_exception(at, n, put):
    for text in (RICH[:at] + put + RICH[at + n :], GUIDE[:at] + put + GUIDE[at + n :]):
        tree, _ = read(text)
        balancer, _, found = build(tree)
        assert all(k.value is not None for k in found)
        assert balancer.file == "haproxy.cfg"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_shuffled_words_give_findings_not_an_exception(data):
    lines = [line.split() for line in (GUIDE + RICH).split("\n")]
    vocabulary = sorted({w for line in lines for w in line}) + ["0", "-1", "99999999999", '""', "{"]
    for _ in range(3):
        line = data.draw(st.sampled_from([x for x in lines if x]))
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.sampled_from(vocabulary))
    tree, _ = read("".join(" ".join(line) + "\n" for line in lines))
    build(tree)
