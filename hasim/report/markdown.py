"""Markdown, for a job summary or a merge request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hasim.report import numbers
from hasim.report.text import WORDS, tally
from hasim.verdict import ScenarioVerdict, Verdict


def render(verdict: Verdict) -> str:
    """The whole report; one table of scenarios, then one section for each that did not pass."""
    out = [f"## hasim {verdict.hasim}: {cell(verdict.stack)}", "", tally(verdict), ""]
    if verdict.provisional:
        out += ["**Provisional**: too few replications for a verdict that counts.", ""]
    out += ["| scenario | verdict | replications |", "|---|---|--:|"]
    for s in verdict.scenarios:
        word = WORDS[s.verdict][0] + (" (study)" if s.study else "")
        out.append(f"| {cell(s.name)} | {word} | {s.replications} |")
    out.append("")
    for s in verdict.scenarios:
        out += _scenario(s)
    return "\n".join(out).rstrip("\n") + "\n"


def _scenario(s: ScenarioVerdict) -> list[str]:
    out = [f"### {cell(s.name)}: {WORDS[s.verdict][0]}", ""]
    if s.reason:
        out += [cell(s.reason), ""]
    rows = numbers.shown(s)
    if rows:
        out += [
            "| | budget | threshold | observed | interval | margin |",
            "|---|---|---|--:|---|--:|",
        ]
    for r in rows:
        mark = "~" if numbers.status(r) == "known-gap" else numbers.MARKS[r.verdict]
        cells = (r.threshold, numbers.observed(r), numbers.interval(r), numbers.margin(r))
        out.append(f"| {mark} | {code(r.name)} | " + " | ".join(map(cell, cells)) + " |")
    gaps = [f"- known gap, {code(r.name)}: {cell(r.waived_by)}" for r in rows if r.waived_by]
    if gaps:
        out += ["", *gaps]
    if s.causes and s.verdict != "pass":
        out += ["", "Why:", ""]
        out += [f"- {cell(c.text)}" + (f" {code(str(c.span))}" if c.span else "") for c in s.causes]
    return [*out, ""]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table as lines; the cells are Markdown already (`cell`, `code`)."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def cell(text: str) -> str:
    """Text that cannot break the table or become markup."""
    return re.sub(r"([\\|*_<>\[\]])", r"\\\1", text.replace("\n", " "))


def code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("|", "\\|").replace("\n", " ") + "`"
