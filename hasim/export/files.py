"""The files of a stack that are deployed: what hasim read, and what those files mount or build."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from hasim.model import Stack

MOST_BYTES = 1 << 20  # a larger file is no configuration
MOST_FILES = 200  # nor are so many in one mounted folder
_PATH = re.compile(r"[\w.@+-]*(?:/[\w.@+-]+)+/?|[\w@+-][\w.@+-]*\.\w+|\.env\b")
_BUILT = re.compile(r"^\s*(?:build|context):[ \t]*[\"']?([\w.@+/-]+)", re.MULTILINE)
_ROOTS = ("", ".", "..")


def gather(folder: Path, stack: Stack) -> tuple[dict[str, str], list[str]]:
    """({path: text} of the files to deploy, paths that are mentioned but left out).

    Beside what the stack was read from: files and folders that its files name, if they lie in the
    folder and are text.
    """
    texts = {path: _text(folder / path) for path, _ in stack.inputs}
    out = {path: text for path, text in texts.items() if text is not None}
    left: list[str] = []
    queue = list(out.items())
    while queue:
        name, text = queue.pop(0)
        for path in _mentioned(folder, name, text):
            if path in out or path in left:
                continue
            found = _text(folder / path)
            if found is None:
                left.append(path)
                continue
            out[path] = found
            if path.endswith((".sh", ".yml", ".yaml")):
                queue.append((path, found))
    return dict(sorted(out.items())), sorted(left)


def _mentioned(folder: Path, name: str, text: str) -> Iterable[str]:
    top = folder.resolve()
    words = dict.fromkeys(m.strip("/") for m in _BUILT.findall(text))
    built = set(words)
    words |= dict.fromkeys(_PATH.findall(text))
    for word in words:
        if word.startswith("/") or word.strip("./") in _ROOTS:
            continue
        for at in dict.fromkeys((folder / word, folder / Path(name).parent / word)):
            real = at.resolve()
            if real == top or not real.is_relative_to(top):
                continue
            if real.is_dir() and ("/" in word or word in built):
                inside = sorted(p for p in real.rglob("*") if p.is_file())
                yield from (_name(p, top) for p in inside[:MOST_FILES] if _inside(p, top))
            elif real.is_file():
                yield _name(real, top)


def _name(path: Path, top: Path) -> str:
    return path.relative_to(top).as_posix()


def _inside(path: Path, top: Path) -> bool:
    return path.resolve().is_relative_to(top) and "/." not in _name(path, top)


def _text(path: Path) -> str | None:
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return None
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
