"""The folder of a sweep: the report files, and the stack with the recommended settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from hasim.errors import Finding, InputError
from hasim.plan import sweep_report
from hasim.plan.journal import NAME as JOURNAL
from hasim.plan.sweep import SweepResult
from hasim.report import style
from hasim.report.diff import changes
from hasim.report.seal import check_ours, fresh, put_file, put_in_place
from hasim.stack import load, patched

OURS = {JOURNAL, "sweep.json", "candidates.csv", "pareto.png", "stack", "CHANGES.diff"}


def check_out(out: Path, stack: Path) -> None:
    """InputError if `out` holds what is not a sweep's, or lies where nothing may be written."""
    if out.resolve().is_relative_to(stack.resolve()):
        hint = f"name a folder outside of it, for example --out ../{out}"
        _refuse(f"'{out}' lies in the stack's folder, where nothing is written", hint)
    check_ours(out, "folder of a sweep", lambda f: all(_ours(p.name) for p in f.iterdir()))


def _ours(name: str) -> bool:
    """A file of a sweep, or what a killed one left of it: `.sweep.json.new`."""
    return name in OURS or (name[:1] == "." and name[1:].partition(".new")[0] in OURS)


def write(result: SweepResult, out: Path) -> None:
    """Every file of the folder, each written beside its place and renamed."""
    out.mkdir(parents=True, exist_ok=True)
    put_file(out / "candidates.csv", sweep_report.candidates_csv(result).encode())
    put_file(out / "pareto.png", style.png(sweep_report.figure(result)))
    settings = result.best.settings if result.best else {}
    texts = tuned(result, settings)
    if result.best is not None:
        write_stack(Path(result.stack.folder), texts, out / "stack")
        before = patched(Path(result.stack.folder), {})
        diff = changes(before, {**before, **texts}).text
        put_file(out / "CHANGES.diff", diff.encode("utf-8", "surrogateescape"))
    else:
        shutil.rmtree(out / "stack", ignore_errors=True)
        (out / "CHANGES.diff").unlink(missing_ok=True)
    put_file(out / "sweep.json", sweep_report.json(result).encode())


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
    top = folder.resolve()
    with fresh(out) as new:
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
        put_in_place(new, out, keep=False)


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


def _refuse(text: str, hint: str = "choose another one") -> NoReturn:
    raise InputError([Finding("error", "HA104", text, None, hint)])
