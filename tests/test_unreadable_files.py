"""A mounted file that cannot be read: what is said, how to mend it, and never a wait."""

import os
from pathlib import Path

import pytest

from hasim.errors import Finding, InputError
from hasim.project import check
from hasim.stack import load_lenient


def unreadable(folder: Path, daemon: str) -> list[Finding]:
    """What is said of one.conf, which one container reads."""
    command, target = "", "/usr/local/etc/haproxy/haproxy.cfg"
    if daemon == "postgres":
        command, target = "command: postgres -c config_file=/x.conf", "/x.conf"
    lines = [
        "services:",
        "  one:",
        f"    image: {daemon}:16",
        f"    {command}",
        f"    volumes: [./one.conf:{target}:ro]",
    ]
    (folder / "compose.yml").write_text("\n".join(lines))
    (folder / "profile.yaml").write_text("{}\n")
    _, findings = load_lenient(folder)
    return [f for f in findings if "cannot read" in f.message]


@pytest.mark.parametrize(
    ("kind", "says", "hint"),
    [
        ("missing", "No such file or directory", "Docker makes an empty directory"),
        ("folder", "Is a directory", "put a file there"),
        ("pipe", "no regular file", "a regular file"),
        ("bytes", "not UTF-8 text (byte 1)", "UTF-8"),
    ],
)
@pytest.mark.parametrize("daemon", ["haproxy", "postgres"])
def test_the_hint_says_how_to_mend_it(tmp_path, kind, says, hint, daemon):
    file = tmp_path / "one.conf"
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "bytes":
        file.write_bytes(b"a\xff")
    (one,) = unreadable(tmp_path, daemon)
    assert (str(one.span), one.message) == ("compose.yml:2:3", f"cannot read 'one.conf': {says}")
    assert hint in one.hint


@pytest.mark.parametrize("link", [True, False])
def test_nothing_outside_of_the_folder_is_read(tmp_path, link):
    folder = tmp_path / "stack"
    folder.mkdir()
    (tmp_path / "one.conf").write_text("word-of-another-file\n")
    if link:
        (folder / "one.conf").symlink_to(tmp_path / "one.conf")
        (one,) = unreadable(folder, "postgres")
    else:
        unreadable(folder, "postgres")
        text = (folder / "compose.yml").read_text().replace("./one.conf", "../one.conf")
        (folder / "compose.yml").write_text(text)
        _, findings = load_lenient(folder)
        (one,) = (f for f in findings if "cannot read" in f.message)
        assert "word-of-another-file" not in "".join(f.message + f.hint for f in findings)
    assert one.message.endswith("it leads out of the stack's folder")


def test_a_pipe_is_no_scenario_file(tmp_path):
    os.mkfifo(tmp_path / "scenarios.yaml")
    with pytest.raises(InputError, match="no regular file"):
        check(tmp_path / "scenarios.yaml")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("name", ["stack.yaml", "profile.yaml", "compose.yml"])
def test_a_pipe_is_not_waited_for_and_a_folder_is_no_file(tmp_path, make, name):
    for file in ("compose.yml", "profile.yaml"):
        (tmp_path / file).write_text("{}\n")
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    load_lenient(tmp_path)


@pytest.mark.parametrize(("word", "findings"), [("include_if_exists", 0), ("include", 1)])
def test_only_include_needs_its_file(tmp_path, word, findings):
    (tmp_path / "one.conf").write_text(f"{word} 'local.conf'\n")
    assert len(unreadable(tmp_path, "postgres")) == findings
