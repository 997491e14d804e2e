"""The verdict for a terminal, in the look of k6: a mark, what was asked, what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from hasim.report import numbers
from hasim.units import counted
from hasim.verdict import ScenarioVerdict, Verdict
from hasim.verdict_rows import Row

WORDS = {
    "pass": ("PASS", "green"),
    "fail": ("FAIL", "red"),
    "inconclusive": ("INCONCLUSIVE", "yellow"),
    "void": ("VOID", "magenta"),
    "stale-gap": ("STALE GAP", "yellow"),
}
STYLES = {"pass": "green", "fail": "red", "known-gap": "cyan"}
WHY = 8  # causes per scenario
Styled = list[tuple[str, str]]  # pieces of one line: (text, rich style)


def render(verdict: Verdict) -> str:
    """The whole report as plain text, ending in a newline."""
    return "".join("".join(t for t, _ in line).rstrip() + "\n" for line in lines(verdict))


def write(verdict: Verdict, out: TextIO, color: bool | None = None) -> None:
    """Write the report; coloured when `out` is a terminal, or as `color` says."""
    if color if color is not None else out.isatty():
        from rich.console import Console
        from rich.text import Text

        console = Console(file=out, force_terminal=True, soft_wrap=True, highlight=False)
        for line in lines(verdict):
            console.print(Text.assemble(*line))
    else:
        out.write(render(verdict))


def lines(verdict: Verdict) -> Iterator[Styled]:
    """The report line by line."""
    parts = (("file", len(verdict.inputs)), ("host", verdict.hosts))
    size = ", ".join(counted(n, word) for word, n in (*parts, ("container", verdict.containers)))
    head = f"hasim {verdict.hasim}   stack {verdict.stack} ({size})   seed {verdict.seed}"
    yield [(head, "bold")]
    if verdict.provisional:
        yield [("provisional: too few replications for a verdict that counts (--quick)", "yellow")]
    for scenario in verdict.scenarios:
        yield []
        yield from _scenario(scenario)
    assumed = {a for s in verdict.scenarios for a in s.assumptions}
    yield []
    if assumed:
        yield [
            (f"rests on {counted(len(assumed), 'assumed value')}, listed in verdict.json", "dim")
        ]
    yield [(tally(verdict), "bold")]


def columns(rows: Iterable[Sequence[str]], lead: str = "") -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell, behind `lead`."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ((c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return [lead + "  ".join(cells).rstrip() for cells in padded]


def tally(verdict: Verdict) -> str:
    """`12 scenarios: 9 pass, 2 fail, 1 void`."""
    found = [s.verdict for s in verdict.scenarios]
    parts = [f"{found.count(word)} {word}" for word in WORDS if word in found]
    return f"{counted(len(found), 'scenario')}: {', '.join(parts) or 'nothing was run'}"


def _scenario(s: ScenarioVerdict) -> Iterator[Styled]:
    word, style = WORDS[s.verdict]
    runs = counted(s.replications, "replication") + ("   study" if s.study else "")
    yield [(f"{s.name}   ", "bold"), (word, f"bold {style}"), (f"{_count(s)}   {runs}", "")]
    if s.reason:
        yield [("  ", ""), (s.reason, style)]
    rows = numbers.shown(s)
    widths = [
        max((len(r.name) for r in rows), default=0),
        max((len(r.threshold) for r in rows), default=0),
        max((len(numbers.observed(r)) for r in rows), default=0),
        max((len(numbers.interval(r)) for r in rows), default=0),
    ]
    for row in rows:
        yield _row(row, widths)
        if row.waived_by:
            yield [(f"      known gap: {row.waived_by}", "cyan")]
        elif row.verdict != "pass" and row.note:
            yield [(f"      {row.note}", "dim")]
    if s.verdict != "pass" or any(r.waived_by for r in rows):
        yield from _why(s)


def _count(s: ScenarioVerdict) -> str:
    rows = numbers.shown(s)
    bad = {"fail": "fail", "inconclusive": "inconclusive", "void": "void"}.get(s.verdict)
    if bad is None:
        gaps = sum(bool(r.waived_by) for r in rows)
        return f"  {counted(len(rows), 'budget')}" + (
            f", {gaps} excused by known gaps" if gaps else ""
        )
    n = sum(r.verdict == bad and not r.waived_by for r in rows)
    return f"  {n} of {counted(len(rows), 'budget')}" if n else ""


def _row(row: Row, widths: list[int]) -> Styled:
    status = numbers.status(row)
    mark = "~" if status == "known-gap" else numbers.MARKS[row.verdict]
    margin = numbers.margin(row)
    return [
        (f"  {mark} ", STYLES.get(status, "yellow")),
        (f"{row.name:<{widths[0]}}  {row.threshold:<{widths[1]}}  ", ""),
        (f"{numbers.observed(row):<{widths[2]}}  ", "bold"),
        (f"{numbers.interval(row):<{widths[3]}}  ", "dim"),
        (f"margin {margin}" if margin else "", ""),
    ]


def _why(s: ScenarioVerdict) -> Iterator[Styled]:
    causes = [c for c in s.causes if c.text != s.reason][:WHY]
    width = max((len(c.text) for c in causes), default=0)
    for i, cause in enumerate(causes):
        lead = "  why  " if i == 0 else "       "
        where = f"   {cause.span}" if cause.span else ""
        yield [(lead, "bold"), (f"{cause.text:<{min(width, 100)}}", ""), (where, "dim")]
