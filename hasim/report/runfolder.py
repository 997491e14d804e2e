"""The run folder: written beside its place, renamed when whole, the previous one kept as .prev."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hasim.model import Stack
from hasim.report import html, json_, junit, redact, tables
from hasim.report.exhibits import Exhibit, exhibit
from hasim.report.seal import fresh, put_in_place, seal
from hasim.sim.trace import Trace
from hasim.verdict import ScenarioVerdict, Verdict
from hasim.verdict_measure import Measured, from_json, to_json

REPLICATIONS = "replications.jsonl.gz"
MOST_BYTES, MOST_LINE_BYTES = (
    1 << 28,
    1 << 24,
)  # of what somebody hands in; ours are small


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
        self._exhibits: dict[str, Exhibit] = {}
        self._finished = False
        self._temp = Path()
        self._held = ExitStack()

    def __enter__(self) -> RunFolder:
        self._temp = self._held.enter_context(fresh(self.folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._held:
            if kind is None and self._finished:
                seal(self._temp)
                put_in_place(self._temp, self.folder)

    def add(self, verdict: ScenarioVerdict, traces: Sequence[Trace], stack: Stack) -> None:
        """Take over one scenario with all its replications, in their order."""
        traces = sorted(traces, key=lambda t: t.replication)
        for trace in traces:
            self._timeline += marks(trace, self.everything, self.secrets)
            self._requests += tables.request_rows(trace)
        self._series += tables.series_rows(traces, stack, self.everything)
        prefix = f"p{len(self._exhibits)}-"
        self._exhibits[verdict.name] = exhibit(verdict, traces, stack, prefix)
        chosen = {traces[0].replication, verdict.worst} if traces else set()
        for trace in traces:
            if trace.replication in chosen:
                for name, data in replay_files(trace, stack, self.secrets).items():
                    self._bytes(name, data)

    def finish(self, verdict: Verdict) -> None:
        """Write what belongs to the run as a whole; leaving the `with` block then renames."""
        self._text("verdict.json", json_.render(verdict))
        self._bytes(REPLICATIONS, measures(verdict))
        self._text("junit.xml", junit.render(verdict))
        page = html.render(verdict, self._exhibits, self.copies, self.secrets)
        self._text("report.html", page, scrubbed=True)
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
        self._bytes(name, tables.pack(header, rows))

    def _bytes(self, name: str, data: bytes) -> None:
        path = self._temp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def replay_files(trace: Trace, stack: Stack, secrets: Collection[str]) -> dict[str, bytes]:
    """{path in the run folder: bytes}: one replication whole."""
    name = f"replays/{safe(trace.scenario)}-{trace.replication:04d}"
    return {
        f"{name}.series.csv.gz": tables.pack(*tables.replay(trace, stack)),
        f"{name}.timeline.csv.gz": tables.pack(tables.TIMELINE, marks(trace, True, secrets)),
    }


def measures(verdict: Verdict) -> bytes:
    """replications.jsonl.gz: [scenario, numbers] of every replication, one a line."""
    lines = [json.dumps([s.name, to_json(m)]) for s in verdict.scenarios for m in s.measured]
    return gzip.compress("".join(f"{ln}\n" for ln in lines).encode(), compresslevel=9, mtime=0)


def read_measures(path: Path) -> dict[str, list[Measured]]:
    """The numbers of a replications.jsonl.gz by scenario. ValueError if they cannot be read."""
    out: dict[str, list[Measured]] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            size = 0
            while line := lines.readline(MOST_LINE_BYTES):
                size += len(line)
                if len(line) == MOST_LINE_BYTES or size > MOST_BYTES:
                    raise ValueError  # gzip packs a thousand to one
                name, fields = json.loads(line)
                out.setdefault(name, []).append(from_json(fields))
    except (OSError, EOFError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(type(error).__name__) from error
    return out


def marks(trace: Trace, whole: bool, secrets: Collection[str]) -> list[Sequence[Any]]:
    """Timeline rows; the daemons' own words could quote a secret."""
    rows: list[Sequence[Any]] = list(tables.timeline_rows(trace, whole))
    if not secrets:
        return rows
    at = tables.TIMELINE.index("event")
    return [
        (*row[:at], *(redact.scrub(text, secrets) for text in row[at : at + 2]))
        + tuple(row[at + 2 :])
        for row in rows
    ]


def safe(name: str) -> str:
    """A scenario's name as a file name."""
    return re.sub(r"[^A-Za-z0-9._@-]+", "_", name).lstrip(".") or "_"


def inside(path: str) -> str:
    """A relative path that cannot leave the folder: `../x` becomes `x`."""
    parts = [p for p in Path(path).parts if p not in ("..", ".", "/") and not p.endswith(":\\")]
    return "/".join(parts) or "_"
