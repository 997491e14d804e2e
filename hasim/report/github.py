"""Workflow commands of GitHub Actions: `::error file=haproxy.cfg,line=29,col=12,title=…::…`."""

from __future__ import annotations

from hasim.report import numbers
from hasim.source import Span
from hasim.verdict import ScenarioVerdict, Verdict
from hasim.verdict_rows import Row


def render(verdict: Verdict) -> str:
    """One command per line: error for failed, warning for undecided, notice for known gaps."""
    out: list[str] = []
    for scenario in verdict.scenarios:
        out += _scenario(scenario)
    return "".join(line + "\n" for line in out)


def _scenario(s: ScenarioVerdict) -> list[str]:
    out = [_row(s, row) for row in numbers.shown(s) if row.verdict != "pass" or row.waived_by]
    if s.reason:
        out.append(command("error" if s.verdict == "fail" else "warning", s.span, s.name, s.reason))
    if s.verdict in ("fail", "void"):
        level = "error" if s.verdict == "fail" else "warning"
        out += [
            command(level, c.span, f"{s.name}: why", c.text)
            for c in s.causes
            if c.span and c.text != s.reason and ": violated in " not in c.text
        ]
    return out


def _row(s: ScenarioVerdict, row: Row) -> str:
    level = {"fail": "error"}.get(row.verdict, "warning")
    text = f"{row.threshold} {row.verdict}: observed {numbers.observed(row)}"
    text = f"{text} {numbers.interval(row)}".rstrip() + (f"; {row.note}" if row.note else "")
    if row.waived_by:
        level, text = "notice", f"{text}; known gap: {row.waived_by}"
    return command(level, row.span, f"{s.name}: {row.name}", text)


def command(level: str, span: Span | None, title: str, message: str) -> str:
    """One workflow command, escaped as the runner undoes it."""
    where = f"file={_property(span.file)},line={span.line},col={span.col}," if span else ""
    return f"::{level} {where}title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
