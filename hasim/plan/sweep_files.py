"""The folder of a sweep: the report files, and the stack with the recommended settings."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from hasim.errors import Finding, InputError
from hasim.plan import sweep_report
from hasim.plan.sweep import SweepResult
from hasim.report import redact, style
from hasim.stack import load, patched

JOURNAL = "journal.jsonl"  # finished runs, so that a sweep goes on where it was killed
OURS = {JOURNAL, "sweep.json", "candidates.csv", "pareto.png", "stack", "CHANGES.diff"}


def check_out(out: Path, stack: Path) -> None:
    """InputError if `out` holds what is not a sweep's, or lies where nothing may be written."""
    if out.resolve().is_relative_to(stack.resolve()):
        _refuse(f"'{out}' lies in the stack's folder, where nothing is written")
    if out.exists() and not (out.is_dir() and {p.name for p in out.iterdir()} <= OURS | _TEMPS):
        _refuse(f"'{out}' is there and is no folder of a sweep; it is left alone")


def forget(out: Path) -> None:
    """Remove the journal: `--fresh`."""
    (out / JOURNAL).unlink(missing_ok=True)


def write(result: SweepResult, out: Path) -> None:
    """Every file of the folder, each written beside its place and renamed."""
    out.mkdir(parents=True, exist_ok=True)
    _put(out / "candidates.csv", sweep_report.candidates_csv(result).encode())
    _put(out / "pareto.png", style.png(sweep_report.figure(result)))
    settings = result.best.settings if result.best else {}
    texts = tuned(result, settings)
    if result.best is not None:
        write_stack(Path(result.stack.folder), texts, out / "stack")
        names = [name for name, _ in result.stack.inputs]
        changes = diff(Path(result.stack.folder), texts, names)
        _put(out / "CHANGES.diff", changes.encode("utf-8", "surrogateescape"))
    else:
        shutil.rmtree(out / "stack", ignore_errors=True)
        (out / "CHANGES.diff").unlink(missing_ok=True)
    _put(out / "sweep.json", sweep_report.json(result).encode())


def tuned(result: SweepResult, settings: Mapping[str, str]) -> dict[str, str]:
    """{path: text} of the files that the settings change. InputError if they changed meanwhile."""
    folder = Path(result.stack.folder)
    if load(folder).sha256 != result.stack.sha256:
        _refuse(f"the files of '{folder}' changed during the sweep", "start it again")
    if not settings:
        return {}
    texts = patched(folder, settings)
    return {
        path: text for path, text in texts.items() if text.encode() != (folder / path).read_bytes()
    }


def write_stack(folder: Path, texts: Mapping[str, str], out: Path) -> None:
    """The whole folder copied to `out`, the patched texts in place; all or nothing.

    Links that lead out of the folder, sockets and pipes are left out.
    """
    new, old = out.with_name(f"{out.name}.new"), out.with_name(f"{out.name}.old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    top = folder.resolve()
    new.mkdir(parents=True)
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(d for d in folders if not (Path(root) / d).is_symlink())
        for name in sorted(files):
            source = Path(root) / name
            place = new / source.relative_to(folder)
            if not source.is_file() or not source.resolve().is_relative_to(top):
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)
    for path, text in texts.items():
        (new / path).write_bytes(text.encode())
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def export(result: SweepResult, out: Path) -> None:
    """The stack with the recommended settings to the folder that the scenario file names.

    InputError if it holds anything that is no file of this stack.
    """
    assert result.best is not None
    folder = Path(result.stack.folder)
    wild = out.is_absolute() or ".." in out.parts or not out.name
    if wild or out.resolve().is_relative_to(folder.resolve()):
        _refuse(f"export: '{out}': name a folder below the working directory, not of the stack")
    replace_stack(folder, tuned(result, result.best.settings), out)


def replace_stack(folder: Path, texts: Mapping[str, str], out: Path) -> None:
    """`write_stack`, unless `out` holds anything that is no file of this stack: InputError."""
    if out.resolve().is_relative_to(folder.resolve()):
        _refuse(f"export: '{out}' lies in the stack's folder, where nothing is written")
    if out.exists():
        theirs = {p.relative_to(out) for p in out.rglob("*") if not p.is_dir()}
        if not out.is_dir() or any(not (folder / p).is_file() for p in theirs):
            _refuse(f"export: '{out}' holds what is no file of the stack; it is left alone")
    write_stack(folder, texts, out)


def diff(folder: Path, texts: Mapping[str, str], names: Iterable[str]) -> str:
    """A unified diff of every changed file; secrets in its context are hidden, whichever of the
    files `names` they come from.
    """
    known = set[str]()
    for name in names:
        known |= redact.secrets(_text(folder / name))
    out: list[str] = []
    for path in sorted(texts):
        before = redact.redact(_text(folder / path), known).splitlines(keepends=True)
        after = redact.redact(texts[path], known).splitlines(keepends=True)
        out += difflib.unified_diff(before, after, f"a/{path}", f"b/{path}")
    no_end = "\n\\ No newline at end of file\n"
    return "".join(line if line.endswith("\n") else line + no_end for line in out)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


_TEMPS = {"stack.new", "stack.old"} | {f".{name}.new" for name in OURS}


def _put(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    new.replace(path)


def _refuse(text: str, hint: str = "choose another one") -> NoReturn:
    raise InputError([Finding("error", "HA104", text, None, hint)])
