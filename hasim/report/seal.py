"""The seal of a folder that hasim wrote, the hash of hasim itself, and how one folder replaces
another: at every instant, also after a kill, the old one or the new one stands in its place.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

from hasim.errors import Finding, InputError

SUMS = "SHA256SUMS"
# renameat2(2), linux/fs.h: both names change places at once
_EXCHANGE, _AT_FDCWD = 2, -100


@cache
def code_hash() -> str:
    """A hash of hasim's own source: numbers of another hasim are no answer."""
    top = Path(__file__).resolve().parents[1]
    made = hashlib.sha256()
    for file in sorted(top.rglob("*.py")):
        made.update(f"{file.relative_to(top).as_posix()}\0".encode() + file.read_bytes())
    return made.hexdigest()


def check_ours(folder: Path, what: str, ours: Callable[[Path], bool]) -> None:
    """InputError if there is something at `folder` that is neither empty nor ours: no `what`."""
    if folder.exists() and not (folder.is_dir() and (ours(folder) or not any(folder.iterdir()))):
        refuse_out(f"'{folder}' is there and is no {what}; it is left alone")


def refuse_out(text: str, hint: str = "choose another --out") -> NoReturn:
    """InputError about the folder that results were to go to."""
    raise InputError([Finding("error", "HA104", text, None, hint)])


def hashes(folder: Path, only: Collection[str] | None = None) -> dict[str, str]:
    """{path: sha256} of every file of a folder, in path order; links are not followed.

    only: look at these paths, where they are, and follow links.
    """
    if only is not None:
        return {p: _sha256(folder / p) for p in sorted(only) if (folder / p).is_file()}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return {p.relative_to(folder).as_posix(): _sha256(p) for p in files}


def seal(folder: Path) -> None:
    """Write SHA256SUMS (as sha256sum does) over all other files. Call it last."""
    lines = [f"{sha}  {path}\n" for path, sha in hashes(folder).items() if path != SUMS]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8", errors="surrogateescape")


def broken(folder: Path) -> list[str]:
    """What does not agree with the seal: `changed: verdict.json`. Empty: it is whole."""
    try:
        text = (folder / SUMS).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return [f"missing: {SUMS}"]
    sealed = {path: sha for sha, _, path in (x.partition("  ") for x in text.split("\n")) if path}
    return differences(sealed, {p: h for p, h in hashes(folder).items() if p != SUMS})


def differences(wanted: dict[str, str], found: dict[str, str]) -> list[str]:
    """`changed: FILE`, `missing: FILE`, `extra: FILE` of two maps {path: sha256}, in path order."""
    out = []
    for path in sorted({*wanted, *found}):
        if path not in found:
            out.append(f"missing: {path}")
        elif path not in wanted:
            out.append(f"extra: {path}")
        elif wanted[path] != found[path]:
            out.append(f"changed: {path}")
    return out


@contextmanager
def fresh(out: Path) -> Iterator[Path]:
    """A new folder beside `out`; gone afterwards unless it was put in place.

    What a killed command left there is removed first: its name tells whose it was.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    start = f".{out.name}.new-"
    for left in out.parent.glob(f"{start}*"):
        owner = left.name[len(start) :].partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    temp = Path(tempfile.mkdtemp(prefix=f"{start}{os.getpid()}-", dir=out.parent))
    temp.chmod(0o755)
    try:
        yield temp
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def put_in_place(new: Path, folder: Path, keep: bool = True) -> None:
    """The folder `new`, beside `folder`, takes its place. keep: the old one becomes `.prev`.

    On Linux the two change places in one step; elsewhere there is an instant without it.
    """
    previous = folder.with_name(f"{folder.name}.prev") if keep else new.with_name(f"{new.name}-old")
    if not folder.exists():
        new.rename(folder)
        return
    if _exchange(new, folder):
        _discard(previous)
        new.rename(previous)  # it is the old one now
    else:
        _discard(previous)
        folder.rename(previous)
        try:
            new.rename(folder)
        except OSError:
            previous.rename(folder)
            raise
    if not keep:
        _discard(previous)


def put_file(path: Path, data: bytes) -> None:
    """A file, whole or not at all: written beside its place and renamed."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    new.replace(path)


def _discard(previous: Path) -> None:
    if previous.exists():
        shutil.rmtree(previous)


def _exchange(a: Path, b: Path) -> bool:
    """Whether two folders changed places; False: this system cannot."""
    if sys.platform != "linux":
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    paths = os.fsencode(a), os.fsencode(b)
    return call(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _EXCHANGE) == 0


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
