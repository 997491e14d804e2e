"""`hasim export`: what rests on what, what was written, what to do next; `--check` for CI."""

from __future__ import annotations

from pathlib import Path

from hasim.cli_exit import check_stopped, say, usage
from hasim.errors import Exit, Refused
from hasim.units import counted

ASSUMED = 5  # so many assumed values are named, the others counted


def export(
    run_folder: Path | None,
    out: Path,
    stack: Path | None,
    base: Path | None,
    capacity: Path | None,
    check: Path | None,
    require_validators: bool,
    quiet: bool,
) -> Exit:
    """Write an export, or with `check` compare files with one; the exit code."""
    if check is not None:
        if run_folder is not None or base or capacity:
            usage("--check DIR compares what is there; it takes --stack only")
        return compare(check, stack)
    if run_folder is None:
        usage("name the folder of a run, for example out/scenarios")
    from hasim.export import evidence, index, writer

    def tell(text: str) -> None:
        check_stopped()
        if not quiet:
            say(text)

    try:
        done = writer.export(
            run_folder,
            out,
            stack=stack,
            base=base,
            capacity=capacity,
            require_validators=require_validators,
            say=tell,
        )
    except Refused as error:
        if not (out / evidence.NAME).is_file():
            raise
        text = f"{error}\n  {out}/ stays as it was, the export of another run"
        raise Refused(text, error.exit_code) from None
    for line in index.gap_texts(done.evidence["known_gaps"]):
        print(f"known gap: {line}")
    assumed = done.evidence["assumptions"]
    for one in assumed[:ASSUMED]:
        print(f"assumed: {one['name']} = {one['value']} ({one['source']})")
    if len(assumed) > ASSUMED:
        print(f"assumed: {len(assumed) - ASSUMED} more values, listed in EVIDENCE.json")
    print(f"written: {done.folder}/, {len(done.evidence['files']) + 1} files")
    for path in done.left_out:
        print(f"left out: {path} (too large, or no text)")
    for line in index.check_lines(done.checks):
        print(f"validator: {line}")
    if done.boxes:
        ticked = sum(b.ticked for b in done.boxes)
        print(f"checklist: {ticked} of {len(done.boxes)} boxes proved, see CHECKLIST.md")
    print(f"changes:\n{done.changes.stat}" if done.changes.files else "changes: none")
    if done.evidence["rollout"]:
        print(f"rollout: {done.evidence['rollout']['text']}")
    for line in _next(done.folder):
        print(line)
    return Exit.OK


def _next(folder: Path) -> list[str]:
    """The commands that come next."""
    hosts = sorted(p.parent.name for p in folder.glob("hosts/*/apply.sh"))
    lines = [f"next: hasim export --check {folder}"]
    where = "in the folder that is deployed there"
    return [
        *lines,
        *(f"next: {folder}/hosts/{h}/apply.sh --dry-run   (on {h}, {where})" for h in hosts),
    ]


def compare(folder: Path, deployed: Path | None) -> Exit:
    """Say which files are not those of the evidence."""
    from hasim.export import evidence

    found = evidence.check(folder, deployed)
    for line in found:
        print(line)
    what = deployed or folder
    if found:
        print(f"{what}: {counted(len(found), 'file')} not as in the evidence")
        return Exit.DIFFERENCE
    print(f"{what}: every file is as in {folder / evidence.NAME}")
    return Exit.OK
