"""The reader of haproxy.cfg: words, places, sections, inheritance; what it says of bad files."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.read import haproxy
from hasim.read.haproxy import read

GUIDE = (Path(__file__).parent / "haproxy-guide.cfg").read_text()


def words(line, **env):
    """The words of one line inside a backend."""
    tree, findings = read(f"backend b\n {line}\n", env=env)
    return [w.text for w in tree.sections[0].lines[0].words], findings


def only(findings, code):
    (found,) = [f for f in findings if f.code == code]
    return found


def test_guide_has_nothing_to_say_and_every_word_its_place():
    tree, findings = read(GUIDE, "haproxy.cfg")
    assert findings == []
    assert [str(s) for s in tree.sections] == [
        "global",
        "defaults",
        "frontend 'http-in'",
        "frontend 'ui-in'",
        "backend 'l09-api-gateway'",
        "backend 'platform-ui'",
        "listen 'stats'",
    ]
    rows = GUIDE.split("\n")
    for section in tree.sections:
        for line in section.lines:
            for word in line.words:
                span = word.span
                assert GUIDE[span.start : span.end] == word.text
                assert rows[span.line - 1][span.col - 1 :].startswith(word.text)
    assert all(not i.matters for i in tree.ignored)


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("log-format %{+Q}o\\ %t\\ %s", ["log-format", "%{+Q}o %t %s"]),
        ("log-format \"%{+Q}o %t\"' %s'", ["log-format", "%{+Q}o %t %s"]),
        ("acl a path \\# '#x' \"#y\" # rest", ["acl", "a", "path", "#", "#x", "#y"]),
        ("acl a path x#rest", ["acl", "a", "path", "x"]),
        (r"acl a path \x41\n\q", ["acl", "a", "path", "A\n\\q"]),
        (r"""acl a path '\x41' "it's" \"q\" """, ["acl", "a", "path", r"\x41", "it's", '"q"']),
        ('acl a path ""', ["acl", "a", "path", ""]),
        ("acl a path /\r", ["acl", "a", "path", "/"]),
        ("acl\ta\v path\f/", ["acl", "a", "path", "/"]),
    ],
)
def test_quoting(line, texts):
    assert words(line) == (texts, [])


def test_variables_only_inside_double_quotes():
    line = """acl "$A" '$A' $A "${A}x" "${B-d e}" "\\$A" "${L[*]}" "${.LINE}" """
    texts, findings = words(line, A="1", L="p q")
    assert texts == ["acl", "1", "$A", "$A", "1x", "d e", "$A", "p", "q", "2"]
    assert findings == []


def test_environment_of_the_process_is_not_looked_at(monkeypatch):
    monkeypatch.setenv("HASIM_TEST", "7")
    texts, findings = words('acl a path "$HASIM_TEST"')
    assert texts[-1] == ""
    assert "HASIM_TEST" in only(findings, "HA129").message


def test_setenv_acts_on_what_follows():
    tree, findings = read('global\n setenv P 81\n presetenv P 82\nlisten l\n bind ":$P"\n')
    assert tree.sections[1].lines[0].texts == ("bind", ":81")
    assert findings == []


@pytest.mark.parametrize(
    ("line", "col", "says"),
    [
        ('acl a path "x', 13, "unmatched quote"),
        ("acl a path 'x", 13, "unmatched quote"),
        ("acl a path \\xZZ", 13, "hexadecimal"),
        ('acl a path "${A"', 14, "brace"),
        ('acl a path "$"', 14, "variable name"),
        ("acl a path" + " x" * 70, 135, "more than 64"),
    ],
)
def test_lines_that_cannot_be_cut(line, col, says):
    _, findings = read(f"backend b\n {line}\n")
    found = only(findings, "HA121")
    assert says in found.message
    assert (found.span.line, found.span.col) == (2, col)


def test_all_problems_at_once_in_order():
    text = "backend b\n blance x\n option htpchk\n timeout sever 1s\n bind :1\n"
    _, findings = read(text)
    assert [(f.code, f.span.line) for f in findings] == [
        ("HA123", 2),
        ("HA123", 3),
        ("HA123", 4),
        ("HA124", 5),
    ]
    assert [f.hint for f in findings[:3]] == [
        "did you mean 'balance'?",
        "did you mean 'httpchk'?",
        "did you mean 'server'?",
    ]


def test_unknown_section_takes_its_lines_with_it():
    _, findings = read("backend b\n balance first\nfronted f\n bind :1\n foo\n")
    assert [f.code for f in findings] == ["HA122"]
    assert findings[0].hint == "did you mean 'frontend'?"


def test_defaults_are_inherited_by_position_and_by_name():
    text = (
        "backend a\ndefaults one\n retries 1\ndefaults two from one\n retries 2\ndefaults\n"
        "backend b\nbackend c from two\nfrontend d from nope\n"
    )
    tree, findings = read(text)
    by_name = {s.name: s for s in tree.sections if s.kind != "defaults"}
    assert tree.chain(by_name["a"]) == (by_name["a"],)
    assert [s.name for s in tree.chain(by_name["b"])] == ["", "b"]
    assert [s.name for s in tree.chain(by_name["c"])] == ["one", "two", "c"]
    assert only(findings, "HA126").span.line == 9


def test_two_defaults_of_one_name_are_ambiguous_only_when_named():
    text = "defaults a\ndefaults a\nbackend b\n"
    assert read(text)[1] == []
    assert only(read(text + "backend c from a\n")[1], "HA127").span.line == 4


def test_conditions_are_kept_and_said():
    text = (
        "backend b\n.if 0\n nonsense\n.else\n balance first\n.endif\n"
        ".if feature(X)\n balance source\n.else\n fullconn 9\n.endif\n"
    )
    tree, findings = read(text)
    live = [line.texts[0] for line in tree.sections[0].lines if line.live]
    assert [t for t in live if not t.startswith(".")] == ["balance", "balance"]
    assert [(f.code, f.severity) for f in findings] == [("HA128", "warning")]
    for bad in (".endif\n", ".if 1\n", ".else\n", ".wat\n"):
        assert [f.severity for f in read("backend b\n" + bad)[1]] == ["error"]


def test_what_is_not_simulated_is_listed_and_said_where_it_matters():
    text = "frontend f\n http-request set-header X y\n http-request deny\n log global\n"
    tree, findings = read(text)
    assert [(i.text, i.matters) for i in tree.ignored] == [
        ("http-request set-header", False),
        ("http-request deny", True),
        ("log", False),
    ]
    assert only(findings, "HA130").span.line == 3


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"# nothing\n\n", "empty"),
        (b"\x7fELF\x00\x01", "NUL"),
        ("global\n".encode("utf-16"), "NUL"),
        (b"\xef\xbb\xbfglobal\n", "byte order mark"),
        (b"global\n # caf\xe9\n", "Latin-1"),
        (b"x " * 5 * 2**20, "too large"),
        (b"global\n maxconn 5", "line feed"),
    ],
)
def test_odd_files_give_a_finding(data, says):
    _, findings = read(data)
    assert says in findings[0].message


def test_latin_1_keeps_every_byte():
    data = b"global\n # caf\xe9\n maxconn 5\n"
    tree, _ = read(data)
    assert tree.text.encode(tree.encoding) == data


def test_a_large_file_of_typos_is_cut_off_with_a_count():
    _, findings = read("backend b\n" + " blance x\n" * 5000)
    assert len(findings) == haproxy.MAX_FINDINGS + 1
    assert "4800 more" in findings[-1].message


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="ab \"'\\#$x{}[*]-\r\n\t.éA1", max_size=60))
def test_any_text_is_read(text):
    tree, findings = read("backend b\n" + text, env={"A": "1"})
    for section in tree.sections:
        for line in section.lines:
            for word in line.words:
                assert word.span.file == "haproxy.cfg"
    assert all(f.span is None or f.span.line >= 1 for f in findings)


@settings(max_examples=40, deadline=None)
@given(at=st.integers(0, len(GUIDE)), n=st.integers(0, 30), put=st.text(max_size=8))
def test_a_mutilated_guide_is_read(at, n, put):
    read((GUIDE[:at] + put + GUIDE[at + n :]).encode("utf-8", "replace"))
