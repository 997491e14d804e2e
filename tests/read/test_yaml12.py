"""The YAML reader: scalars of 1.2, places, and files that are no YAML."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.errors import Finding
from hasim.read.yaml12 import (
    MAX_CHARS,
    MAX_NODES,
    Node,
    as_bool,
    as_float,
    as_int,
    as_str,
    parse,
    plain,
    span_at,
)
from hasim.source import Patch, Span, apply_patches

TEXT = """\
base: &base   # a comment
  image: "nginx:1"
  command: |
    run
    this

  env: [A=1, 'B=2']
web:
  <<: *base
  cpus: 0.5
  empty:
tail: &n !reset 7
again: *n
"""


def good(text: str, **options) -> Node:
    node, findings = parse(text, "a.yml", **options)
    assert findings == []
    assert node is not None
    return node


def codes(text: str | bytes) -> list[str]:
    return [f.code for f in parse(text, "a.yml")[1]]


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+1", 1),
        (".", "."),
        ("-", None),  # a list with one empty item, not a scalar
        ("~", None),
        ("Null", None),
        ("nUll", "nUll"),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("2001-12-14", "2001-12-14"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_the_core_schema(raw, value):
    node = good(f"a: {raw}" if raw != "-" else "a: ~").get("a")
    assert node.value == value
    assert type(node.value) is type(value)


def test_every_span_holds_the_text_of_its_value():
    root = good(TEXT, tags=("!reset",))

    def written(*path):
        node = root
        for step in path:
            node = node.value[step] if isinstance(step, int) else node.get(step)
        return TEXT[node.span.start : node.span.end], node.span.line, node.span.col

    assert written("base", "image") == ('"nginx:1"', 2, 10)
    assert written("base", "command") == ("|\n    run\n    this", 3, 12)
    assert written("base", "env") == ("[A=1, 'B=2']", 7, 8)
    assert written("base", "env", 1) == ("'B=2'", 7, 14)
    assert written("web", "image") == ('"nginx:1"', 2, 10)  # through <<
    assert written("web", "empty") == ("", 11, 9)
    assert written("again") == ("7", 12, 17)  # through *n
    assert root.get("tail").tag == "!reset"
    key = root.get("web").key("cpus").span
    assert (TEXT[key.start : key.end], key.line, key.col) == ("cpus", 10, 3)
    assert written("base")[0].startswith("image:")
    assert written("web")[0].endswith("empty:")


def test_a_patch_by_span_changes_nothing_else():
    text = "\ufeffa:\r\n  # über\r\n  b: 'x'  # stays\r\n  c: 2\r\n"
    span = good(text).get("a").get("b").span
    assert apply_patches(text, [Patch(span, "y")]) == text.replace("'x'", "y")


def test_merge_keys_take_the_first_map_and_give_way_to_own_keys():
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  z: 3\n  <<: [*a, *b]\n"
    assert plain(good(text).get("c")) == {"x": 1, "y": 1, "z": 3}


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("a: 1\nb: 2\na: 3\n", "HA118", "a.yml:3:1"),
        ("", "HA113", "a.yml:1:1"),
        ("# only words\n", "HA113", "a.yml:1:1"),
        ("a: 1\n---\nb: 2\n", "HA112", "a.yml:2:1"),
        ("a: &x [1, *x]\n", "HA116", "a.yml:1:11"),
        ("a: &x\n  <<: *x\n", "HA116", "a.yml:2:7"),
        ("a: *x\n", "HA116", "a.yml:1:4"),
        ("a: [1\nb: 2\n", "HA110", "a.yml:2:2"),
        ("a:\n\t- b\n", "HA110", "a.yml:2:1"),
        ("a: !!python/object:os.system x\n", "HA115", "a.yml:1:30"),
        ("? [1]\n: 2\n", "HA117", "a.yml:1:3"),
        ("a: {<<: 1}\n", "HA117", "a.yml:1:9"),
        ("ok: 1\nb: \x00\n", "HA110", "a.yml:2:4"),
        (b"a: \xff", "HA110", "a.yml:1:1"),
        ("a: \ud800", "HA110", "a.yml:1:1"),
        ("- " * 200, "HA114", "a.yml:1:201"),
        ("a: !!int x\n", "HA115", "a.yml:1:10"),
    ],
)
def test_a_bad_file_gives_a_finding_with_its_place(text, code, place):
    findings = parse(text, "a.yml")[1]
    assert [(f.code, str(f.span)) for f in findings] == [(code, place)]


def test_deep_and_wide_files_are_refused_without_a_traceback():
    for unit in ("[", "{a: ", "- ", "? "):
        assert codes(unit * 50_000)[0] in ("HA114", "HA110")
    assert codes("x" * (MAX_CHARS + 1)) == ["HA111"]


def test_alias_bombs_are_counted_not_expanded():
    lines = ["a0: &a0 [" + "x," * 9 + "]"]
    lines += [f"a{i}: &a{i} [" + f"*a{i - 1}," * 9 + "]" for i in range(1, 30)]
    assert codes("\n".join(lines)) == ["HA114"]
    tower = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 2000))
    assert codes(tower) == ["HA114"]
    wide = "a: &a {" + ", ".join(f"k{i}: 1" for i in range(1000)) + "}\n"
    merges = "b:\n  <<: [" + "*a," * (MAX_NODES // 1000 + 5) + "]\n"
    assert codes(wide + merges) == ["HA114"]


def test_span_at_goes_as_deep_as_the_file():
    root = good("loads:\n  a: {stages: [{target: 1}, {target: x}]}\n")
    assert str(span_at(root, ("loads", "a", "stages", 1, "target"))) == "a.yml:2:38"
    assert str(span_at(root, ("loads", "a", "missing"))) == "a.yml:2:3"
    assert str(span_at(root, ("nothing", 3, "x"))) == "a.yml:1:1"


def test_typed_values_or_findings():
    root = good("s: 08\nn: '12'\nf: 2\nb: 'true'\nl: []\nz:\nbig: " + "9" * 399 + "\n")
    findings: list[Finding] = []
    assert as_str(root.get("s"), "s", findings) == "08"
    assert as_int(root.get("n"), "n", findings) == 12
    assert as_float(root.get("f"), "f", findings) == 2.0
    assert as_bool(root.get("b"), "b", findings) is True
    assert as_str(root.get("z"), "z", findings, "d") == "d"
    assert as_int(None, "x", findings, 4) == 4
    assert findings == []
    assert as_str(root.get("l"), "the l", findings, "d") == "d"
    assert as_int(root.get("b"), "the b", findings, 3) == 3
    assert as_float(root.get("big"), "the big", findings, 3.0) == 3.0
    assert as_bool(root.get("f"), "the f", findings) is False
    assert [str(f.span) for f in findings] == ["a.yml:5:4", "a.yml:4:4", "a.yml:7:6", "a.yml:3:4"]
    assert findings[0].message == "the l must be a text, not a list"


# PyYAML writes YAML 1.1, in which these three end a line; in 1.2 they are text like any other.
LETTERS = st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029")
WORDS = st.text(LETTERS, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abcxyz", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.booleans())
def test_what_pyyaml_writes_is_read_back(value, flow):
    text = yaml.safe_dump({"v": value}, default_flow_style=flow, allow_unicode=True)
    assert plain(good(text)) == {"v": value}


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, len(TEXT)),
    st.integers(0, 6),
    st.text("&*!<:-[]{}'\"|>#\n\t a\x00é", max_size=5),
)
def test_no_mutation_raises_and_results_repeat(at, cut, put):
    text = TEXT[:at] + put + TEXT[at + cut :]
    first = parse(text, "a.yml")
    assert first == parse(text, "a.yml")
    assert first[0] is not None or first[1]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_survived(data):
    node, findings = parse(data, "a.yml")
    assert node is not None or findings
    assert all(isinstance(f.span, Span) for f in findings)
