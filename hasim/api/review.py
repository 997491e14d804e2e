"""Comparison of two runs, and export of a run that passed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hasim
from hasim import stack as files
from hasim.api import draw, frames
from hasim.api.run import Run
from hasim.api.work import line
from hasim.compare import Comparison as Found
from hasim.compare import Move, judged, report, runs
from hasim.report import numbers
from hasim.verdict import Verdict, assemble

if TYPE_CHECKING:
    from pandas import DataFrame

    from hasim.export.writer import Exported


@dataclass(frozen=True, repr=False)
class Comparison:
    """What moved between two runs. found: the frozen value behind it (hasim.compare)."""

    found: Found

    @property
    def budgets(self) -> DataFrame:
        """scenario, budget, before, after, change, ci_low, ci_high (of the change, 95 %), paired,
        correlation, n, verdict_before, verdict_after.
        """
        return _moves(m for s in self.found.scenarios for m in s.budgets)

    @property
    def metrics(self) -> DataFrame:
        """The same of the standard numbers."""
        return _moves(m for s in self.found.scenarios for m in s.metrics)

    @property
    def knobs(self) -> DataFrame:
        """knob, before, after, effect, file, line of every value that differs."""
        rows = (
            (k.name, k.before, k.after, k.effect, *frames.place(k.span)) for k in self.found.knobs
        )
        columns = ("knob", "before", "after", "effect", "file", "line")
        return frames.frame(columns, rows, ("effect", "file"))

    @property
    def causes(self) -> DataFrame:
        """scenario, kind (appeared, vanished, changed), text, seconds_before, seconds_after,
        requests_before, requests_after, file, line.
        """
        rows = (
            (s.name, c.kind, c.text, c.seconds_before, c.seconds_after)
            + (c.requests_before, c.requests_after, *frames.place(c.span))
            for s in self.found.scenarios
            for c in s.causes
        )
        columns = ("scenario", "kind", "text", "seconds_before", "seconds_after")
        columns += ("requests_before", "requests_after", "file", "line")  # type: ignore[assignment]
        return frames.frame(columns, rows, ("scenario", "kind", "file"))

    def diff(self) -> draw.Text:
        """What differs in the files, as a unified diff without secrets."""
        return draw.Text("".join(f.diff for f in self.found.files))

    def __repr__(self) -> str:
        return report.text(self.found).rstrip("\n")

    def _repr_html_(self) -> str:
        knobs = [(k.name, k.before, k.after, draw.where(k.span)) for k in self.found.knobs]
        html = draw.table(("knob", "before", "after", "where"), knobs) if knobs else ""
        columns = ("budget", "before", "after", "change", "95 % interval", "verdict")
        for s in self.found.scenarios:
            title = f"{s.name}: {s.verdict_before} → {s.verdict_after}"
            shown = (m for m in s.budgets if m.moved or not m.metric.startswith(numbers.BUILT_IN))
            html += draw.table(columns, map(_cells, shown), title)
        return html


def compare(before: Run | str | Path, after: Run | str | Path) -> Comparison:
    """What moved between two runs, by how much and why: paired where both had the same luck.

    Both are runs, or both folders that `hasim run` wrote.

    >>> stack, file = ha.load("models/three-servers"), "models/three-servers/scenarios.yaml"
    >>> slow = ha.simulate(stack, file, "crash", replications=3)
    >>> quick = stack.set({"haproxy.backend.web.*.inter": "500ms"})
    >>> moved = ha.compare(slow, ha.simulate(quick, file, "crash", replications=3))
    >>> [round(float(x), 2) for x in moved.budgets.query("budget.str.contains('failed')").change]
    [-0.02]
    """
    if isinstance(before, Run) and isinstance(after, Run):
        both = (before, after)
        texts = [files.patched(r.stack.folder, r.stack.settings) for r in both]
        return Comparison(judged([r.task.stack for r in both], texts, [_verdict(r) for r in both]))
    if isinstance(before, Run) or isinstance(after, Run):
        raise TypeError("compare two runs, or two run folders")
    return Comparison(runs(before, after))


def _verdict(run: Run) -> Verdict:
    return assemble(run.task.stack, run.task.seed, [run.judged], hasim.__version__)


def _moves(found: Iterable[Move]) -> DataFrame:
    rows = []
    for m in found:
        d, nan = m.difference, math.nan
        change = (d.mean, d.low, d.high, d.paired, d.correlation, d.n) if d else (nan,) * 6
        name = f"{m.name} {m.threshold or m.aggregate}"
        rows.append((m.scenario, name, m.before, m.after, *change, m.verdict_before))
        rows[-1] += (m.verdict_after,)
    columns = ("scenario", "budget", "before", "after", "change", "ci_low", "ci_high", "paired")
    columns += ("correlation", "n", "verdict_before", "verdict_after")  # type: ignore[assignment]
    return frames.frame(columns, rows, ("scenario", "verdict_before", "verdict_after"))


def _cells(m: Move) -> tuple[str, ...]:
    unit = numbers.dimension(m.metric, m.aggregate)
    seen = (numbers.show(m.before, unit), numbers.show(m.after, unit))
    words = dict.fromkeys(w for w in (m.verdict_before, m.verdict_after) if w)
    change = ends = ""
    if d := m.difference:
        change = numbers.signed(d.mean, unit)
        ends = f"[{numbers.signed(d.low, unit)}, {numbers.signed(d.high, unit)}]"
    return f"{m.name} {m.threshold}", *seen, change, ends, " → ".join(words)


def export(
    run_folder: str | Path,
    out: str | Path = "out/deploy",
    *,
    stack: str | Path | None = None,
    base: str | Path | None = None,
    capacity: str | Path | None = None,
    require_validators: bool = False,
) -> Exported:
    """Write the deployable files of a run that passed, with diff, evidence and checklist.

    As `hasim export`: Refused with every reason if the run failed, is void, inconclusive, a study,
    stale or was tampered with; the old folder then stays as it was.

    >>> file = "models/three-servers/scenarios.yaml"
    >>> ha.run(file, ["steady"], replications=2, out="out/steady").exit_code.name
    'OK'
    >>> ha.export("out/steady", "out/deploy")
    Traceback (most recent call last):
    hasim.errors.Refused: ...
    """
    from hasim.export import writer

    with line() as say:
        return writer.export(
            Path(run_folder),
            Path(out),
            stack=_path(stack),
            base=_path(base),
            capacity=_path(capacity),
            require_validators=require_validators,
            say=say,
        )


def _path(of: str | Path | None) -> Path | None:
    return None if of is None else Path(of)
