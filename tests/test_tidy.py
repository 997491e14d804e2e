"""House rules no reviewer should have to check: sizes, sources of constants, no machine names.

The rules read tracked files only, so that a scratch file never fails a build.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES, FUNCTION_LINES, LINE_CHARS = 400, 60, 100

# Publishers of schemas and licences whose names are identifiers, not places to fetch from.
# A bare name (`postgres`) is a container of a model; `example.*` is reserved for documentation.
IDENTIFIERS = {"www.w3.org", "json-schema.org", "json.schemastore.org", "www.apache.org"}
HOST = re.compile(r"\b(?:https?|git|ssh)://(?:[^\s/@]*@)?([A-Za-z0-9.-]+)")
PRIVATE = re.compile(r"(0|127|10|192\.168|172\.(1[6-9]|2\d|3[01]))\.[\d.]+|.*example\.\w+")
# Assembled, so that this file does not break its own rule.
TOPS = "|".join(("home", "root", "Users", "work"))
MACHINE_PATH = re.compile(rf"(?<![\w.~$}}])/(?:{TOPS})/\w")
SOURCED = re.compile(r"source|measured|manual|documentation|reference|proc\(5\)", re.IGNORECASE)


@cache
def tracked() -> tuple[str, ...]:
    """Every tracked file that exists, relative to the top; skips outside of a git checkout."""
    try:
        out = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return tuple(f for f in out.split("\0") if f and (ROOT / f).is_file())


def read(file: str) -> str:
    """The text of a tracked file; what is not text reads as empty."""
    try:
        return (ROOT / file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def code() -> Iterator[str]:
    return (f for f in tracked() if f.endswith(".py") and f.startswith(("hasim/", "tests/")))


def test_files_and_lines_are_short() -> None:
    bad = []
    for file in code():
        lines = read(file).splitlines()
        if len(lines) > FILE_LINES:
            bad.append(f"{file}: {len(lines)} lines, limit {FILE_LINES}")
        bad += [
            f"{file}:{n}: {len(line)} characters, limit {LINE_CHARS}"
            for n, line in enumerate(lines, 1)
            if len(line) > LINE_CHARS
        ]
    assert not bad, "\n".join(bad)


def test_functions_are_short() -> None:
    bad = []
    for file in code():
        for node in ast.walk(ast.parse(read(file), file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    bad.append(f"{file}:{node.lineno}: {node.name} has {length} lines")
    assert not bad, "\n".join(bad)


def test_no_tracked_file_names_a_host_or_a_machine_path() -> None:
    bad = []
    for file in tracked():
        if file == "LICENSE":
            continue
        for n, line in enumerate(read(file).splitlines(), 1):
            hosts = [
                h
                for h in HOST.findall(line)
                if "." in h and h not in IDENTIFIERS and not PRIVATE.fullmatch(h)
            ]
            if hosts or MACHINE_PATH.search(line):
                bad.append(f"{file}:{n}: {line.strip()[:80]}")
    assert not bad, "\n".join(bad)


def test_the_rule_on_hosts_and_paths_bites() -> None:
    assert HOST.findall("--index-url https://user:secret" + "@pypi.corp.net/simple")
    assert MACHINE_PATH.search("see /ho" + "me/me/x")
    assert not MACHINE_PATH.search("models/work/x and ./root/x")
    assert PRIVATE.fullmatch("10.0.0.10")


def test_requirements_are_hashed_and_name_no_index() -> None:
    for file in ("requirements/run.txt", "requirements/test.txt"):
        text = read(file)
        pins = [ln for ln in text.splitlines() if re.match(r"[A-Za-z0-9]", ln)]
        assert pins
        assert all("==" in ln for ln in pins)
        assert text.count("--hash=sha256:") >= len(pins)
        assert "://" not in text
        assert "index" not in text


def constants_without_source(text: str) -> Iterator[tuple[int, str]]:
    """(line, name) of public upper-case numbers that no comment gives a source for.

    A comment counts on the same line, or as the block above a run of constants.
    """
    lines = text.splitlines()
    for node in ast.parse(text).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if not isinstance(target, ast.Name) or value is None or not models_the_world(value):
            continue
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", target.id):
            continue
        if not SOURCED.search(comment_of(lines, node.lineno, node.end_lineno or node.lineno)):
            yield node.lineno, target.id


def models_the_world(value: ast.expr) -> bool:
    """Does the expression hold a number? `range(n)` only counts names and is left out."""
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "range":
        return False
    return any(
        isinstance(n, ast.Constant) and type(n.value) in (int, float) for n in ast.walk(value)
    )


def comment_of(lines: list[str], first: int, last: int) -> str:
    """The comments on lines first..last (from 1) and above them, up to an empty line."""
    above = first - 1
    while above > 0 and lines[above - 1].strip():
        above -= 1
    return "\n".join(ln.split("#", 1)[1] for ln in lines[above:last] if "#" in ln)


def test_numbers_in_components_have_a_source() -> None:
    bad = [
        f"{file}:{line}: {name} has no source"
        for file in tracked()
        if file.startswith("hasim/components/") and file.endswith(".py")
        for line, name in constants_without_source(read(file))
    ]
    assert not bad, "\n".join(bad)


def test_the_rule_on_sources_bites() -> None:
    assert list(constants_without_source("FALL = 3\n")) == [(1, "FALL")]
    assert not list(constants_without_source("FALL = 3  # source: manual 5.2 fall\n"))
    assert not list(constants_without_source("# source: manual 5.2\nRISE = 2\nFALL = 3\n"))
    assert list(constants_without_source("# source: manual\nRISE = 2\n\nFALL = 3\n"))
    assert not list(constants_without_source("UP, DOWN = range(2)\nNAME = 'x'\n"))
