"""Finished replications on disk: what was measured once is not simulated again.

One JSON line per replication, its key a hash of everything that the numbers depend on. A torn last
line, left by a kill, is ignored. The file holds numbers only, no text of a config.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hasim.verdict_measure import Measured, from_json, to_json

NAME = "journal.jsonl"  # in the folder of a sweep or a review


class Journal:
    """Measured replications by key; without a path they are only kept in memory.

    >>> with Journal(None) as journal:
    ...     journal.get("no such key", 0) is None
    True
    """

    def __init__(self, path: Path | None):
        self.path = path
        self._known: dict[tuple[str, int], Measured] = {}
        self._out: Any = None

    def __enter__(self) -> Journal:
        if self.path is None:
            return self
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_file():
            self._read(self.path)
        self._out = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.close()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str, replication: int) -> Measured | None:
        """What was measured, or None if that replication has not been simulated."""
        return self._known.get((key, replication))

    def put(self, key: str, measured: Measured) -> None:
        """Remember one replication; on disk at once, so that a kill loses at most this line."""
        self._known[key, measured.replication] = measured
        if self._out is not None:
            self._out.write(json.dumps([key, to_json(measured)]) + "\n")
            self._out.flush()

    def _read(self, path: Path) -> None:
        whole = 0
        data = path.read_bytes()
        for line in data.splitlines(keepends=True):
            try:
                key, fields = json.loads(line)
                measured = from_json(fields)
            except (ValueError, TypeError, KeyError):
                break
            if not line.endswith(b"\n"):
                break
            self._known[key, measured.replication] = measured
            whole += len(line)
        if whole < len(data):  # what follows a torn line could not be read
            with path.open("r+b") as file:
                file.truncate(whole)
