"""The run folder: written beside its place, renamed when whole, the previous one kept as .prev."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hasim.model import Stack
from hasim.report import json_, junit, redact, tables
from hasim.sim.trace import Trace
from hasim.verdict import ScenarioVerdict, Verdict


class RunFolder:
    """Collects a run scenario by scenario; `with` makes it all or nothing.

    >>> with RunFolder(Path("out/scenarios"), files) as run:   # doctest: +SKIP
    ...     run.add(scenario_verdict, traces, stack)           # traces may be dropped afterwards
    ...     run.finish(verdict)

    files: {path relative to the project: text} of every input; only redacted copies are written.
    """

    def __init__(self, folder: Path, files: Mapping[str, str], everything: bool = False):
        self.folder = Path(folder)
        self.copies, self.secrets = redact.redact_all(files)
        self.everything = everything
        self._timeline: list[Sequence[Any]] = []
        self._series: list[Sequence[Any]] = []
        self._requests: list[Sequence[Any]] = []
        self._finished = False
        self._temp = Path()

    def __enter__(self) -> RunFolder:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        name = f".{self.folder.name}.new-"
        self._temp = Path(tempfile.mkdtemp(prefix=name, dir=self.folder.parent))
        self._temp.chmod(0o755)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None or not self._finished:
            shutil.rmtree(self._temp, ignore_errors=True)
            return
        try:
            self._replace()
        except BaseException:
            shutil.rmtree(self._temp, ignore_errors=True)
            raise

    def add(self, verdict: ScenarioVerdict, traces: Sequence[Trace], stack: Stack) -> None:
        """Take over one scenario with all its replications, in their order."""
        traces = sorted(traces, key=lambda t: t.replication)
        for trace in traces:
            self._timeline += self._marks(trace, whole=self.everything)
            self._requests += tables.request_rows(trace)
        self._series += tables.series_rows(traces, stack, self.everything)
        chosen = {traces[0].replication, verdict.worst} if traces else set()
        for trace in traces:
            if trace.replication in chosen:
                name = f"replays/{safe(verdict.name)}-{trace.replication:04d}"
                header, rows = tables.replay(trace, stack)
                self._table(f"{name}.series.csv.gz", header, rows)
                marks = self._marks(trace, whole=True)
                self._table(f"{name}.timeline.csv.gz", tables.TIMELINE, marks)

    def finish(self, verdict: Verdict) -> None:
        """Write what belongs to the run as a whole; leaving the `with` block then renames."""
        self._text("verdict.json", json_.render(verdict))
        self._text("junit.xml", junit.render(verdict))
        self._table("timeline.csv.gz", tables.TIMELINE, self._timeline)
        self._table("series.csv.gz", tables.SERIES, self._series)
        if self._requests:
            self._table("requests.csv.gz", tables.REQUESTS, self._requests)
        for path, text in sorted(self.copies.items()):
            self._text(f"inputs/{inside(path)}", text, scrubbed=True)
        self._finished = True

    def _text(self, name: str, text: str, scrubbed: bool = False) -> None:
        path = self._temp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = text if scrubbed else redact.scrub(text, self.secrets)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))

    def _table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        path = self._temp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tables.pack(header, rows))

    def _marks(self, trace: Trace, whole: bool) -> list[Sequence[Any]]:
        """Timeline rows; the daemons' own words could quote a secret."""
        rows: list[Sequence[Any]] = list(tables.timeline_rows(trace, whole))
        if not self.secrets:
            return rows
        at = tables.TIMELINE.index("event")
        return [
            (*row[:at], *(redact.scrub(text, self.secrets) for text in row[at : at + 2]))
            + tuple(row[at + 2 :])
            for row in rows
        ]

    def _replace(self) -> None:
        """The old folder becomes .prev, the new one takes its place."""
        previous = self.folder.with_name(self.folder.name + ".prev")
        if self.folder.exists():
            if previous.exists():
                shutil.rmtree(previous)
            self.folder.rename(previous)
        try:
            self._temp.rename(self.folder)
        except OSError:
            if previous.exists():
                previous.rename(self.folder)
            raise


def safe(name: str) -> str:
    """A scenario's name as a file name."""
    return re.sub(r"[^A-Za-z0-9._@-]+", "_", name).lstrip(".") or "_"


def inside(path: str) -> str:
    """A relative path that cannot leave the folder: `../x` becomes `x`."""
    parts = [p for p in Path(path).parts if p not in ("..", ".", "/") and not p.endswith(":\\")]
    return "/".join(parts) or "_"
