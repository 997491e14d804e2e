"""`hasim capacity`: the review, its folder, its report."""

from __future__ import annotations

from pathlib import Path

from hasim.cli_plan import EXITS, Options, Watch, journal, show
from hasim.errors import Exit
from hasim.plan import capacity_report
from hasim.plan.capacity import review
from hasim.plan.capacity_types import CapacityResult
from hasim.plan.journal import NAME as JOURNAL
from hasim.project import open_project
from hasim.report.seal import check_ours, put_file


def run(options: Options) -> Exit:
    """Review, write capacity.json and the figure, print; 99 if the load asked for does not pass."""
    check_out(options.out)
    watch = Watch(options.quiet)
    project = open_project(options.scenarios, options.stack)
    result = review(
        project,
        options.name,
        seed=options.seed,
        jobs=options.jobs,
        journal=journal(options),
        tell=watch.tell,
        begin=watch.begin,
        say=watch.say,
    )
    save(result, options.out)
    show(capacity_report, options.formats, result)
    watch.say(f"results are in {options.out}/")
    return EXITS[result.verdict]


def check_out(out: Path) -> None:
    """InputError if `out` holds what no review wrote."""
    ours = {JOURNAL, "capacity.json", "capacity.md", "capacity.txt", "capacity.png"}

    def known(name: str) -> bool:
        return name in ours or name.startswith(".capacity.")

    what = "folder of a capacity review"
    check_ours(out, what, lambda folder: all(known(p.name) for p in folder.iterdir()))


def save(result: CapacityResult, folder: Path) -> None:
    """capacity.json, capacity.md, capacity.txt and capacity.png, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "capacity.json": capacity_report.json(result).encode(),
        "capacity.md": capacity_report.markdown(result).encode(),
        "capacity.txt": capacity_report.text(result).encode(),
        "capacity.png": capacity_report.png(result),
    }
    for name, data in files.items():
        put_file(folder / name, data)
