"""What comes back from a worker for the frames of a run: small, and enough for every quantile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from hasim import stats
from hasim.api.frames import frame
from hasim.metrics_view import View
from hasim.sim.trace import BUCKETS, OPEN, OUTCOMES, Trace, bucket_edges_s
from hasim.workers import Task, slim

if TYPE_CHECKING:
    from pandas import DataFrame

# "" is the whole run; the others are the windows of budgets, of which fault and impact overlap.
WINDOWS = ("", "before", "fault", "impact", "after")
# Where a single request began; one word each.
BEGAN = ("before", "fault", "recovery", "after")
# outcome -> class, as in the tag `status` of budgets; 0: no answer
CLASSES = {"ok": "2xx", "4xx": "4xx", "5xx": "5xx", "502": "5xx", "503": "5xx", "504": "5xx"}
BY = ("op", "window", "status")


@dataclass(frozen=True)
class Windows:
    """Latency histograms by window, operation and outcome, without the empty buckets.

    at: flat index into shape (WINDOWS, ops, OUTCOMES, BUCKETS); n: requests there.
    """

    ops: int
    at: np.ndarray
    n: np.ndarray

    @staticmethod
    def of(view: View) -> Windows:
        """Those of one replication."""
        tables = [view.trace.hist[view.segments(w)].sum(axis=0) for w in WINDOWS]
        whole = np.stack(tables).ravel()
        at = np.flatnonzero(whole)
        return Windows(len(view.trace.ops), at, whole[at])

    @staticmethod
    def merged(parts: Sequence[Windows]) -> np.ndarray:
        """The sum over replications; int64 (WINDOWS, ops, OUTCOMES, BUCKETS)."""
        shape = (len(WINDOWS), max(p.ops for p in parts), len(OUTCOMES), BUCKETS)
        out = np.zeros(shape, np.int64)
        for part in parts:
            out.ravel()[part.at] += part.n
        return out


Column = tuple[str, np.ndarray, tuple[str, ...]]  # name, values, the words they stand for or ()


@dataclass(frozen=True)
class Requests:
    """Raw requests of one replication, by column."""

    replication: int
    columns: tuple[Column, ...]

    @staticmethod
    def of(view: View) -> Requests:
        """Those of a trace that has kept them; labels as small numbers."""
        trace, raw = view.trace, view.trace.requests
        assert raw is not None
        columns: list[Column] = [("start_s", raw["start_s"].copy(), ())]
        columns.append(("op", raw["op"].astype(np.int16), trace.ops))
        columns.append(("window", _began(view, raw["start_s"]), BEGAN))
        columns.append(("server", raw["server"].astype(np.int16), trace.servers))
        for name in ("status", "termination"):
            words, codes = np.unique(raw[name], return_inverse=True)
            columns.append((name, codes.astype(np.int16), tuple(map(str, words))))
        columns.append(("retries", raw["retries"].astype(np.int16), ()))
        columns.append(("latency_s", raw["latency_s"].copy(), ()))
        return Requests(trace.replication, tuple(columns))

    @staticmethod
    def frame(parts: Sequence[Requests]) -> DataFrame:
        """All replications in one frame; labels are categories."""
        import pandas as pd

        lengths = [len(p.columns[0][1]) for p in parts]
        made: dict[str, Any] = {"replication": np.repeat([p.replication for p in parts], lengths)}
        for i, (name, _, names) in enumerate(parts[0].columns):
            columns = [p.columns[i] for p in parts]
            if not names:
                made[name] = np.concatenate([c[1] for c in columns])
                continue
            labels = list(dict.fromkeys(word for c in columns for word in c[2]))
            codes = [_recoded(c[1], c[2], labels) for c in columns]
            made[name] = pd.Categorical.from_codes(np.concatenate(codes), pd.Index(labels))
        return pd.DataFrame(made)


def _recoded(codes: np.ndarray, names: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Codes into `names` as codes into `labels`; -1 stays."""
    to = np.array([labels.index(n) for n in names] + [-1], np.int16)
    return to[codes]


def _began(view: View, starts_s: np.ndarray) -> np.ndarray:
    """The index into BEGAN of every request."""
    fault, impact = view.inside(starts_s, "fault"), view.inside(starts_s, "impact")
    before = starts_s < view.first_fault_s
    return np.select([before, fault, impact], [0, 1, 2], 3).astype(np.int16)


@dataclass(frozen=True)
class Seen:
    """One replication: its slim trace, its histograms, its raw requests if they are kept."""

    trace: Trace
    windows: Windows
    requests: Requests | None = None


def keep(task: Task, trace: Trace) -> Seen:
    """Called in a worker, where the whole trace is."""
    view = View(trace, task.scenario, task.stack)
    windows = Windows.of(view) if not trace.void else Windows(0, *np.zeros((2, 0), np.int64))
    raw = Requests.of(view) if trace.requests is not None else None
    return Seen(slim(trace), windows, raw)


def keep_requests(task: Task, trace: Trace) -> Requests:
    """Called in a worker: the raw requests alone."""
    return Requests.of(View(trace, task.scenario, task.stack))


# ---- quantiles -----------------------------------------------------------------------------------
def quantiles(
    merged: np.ndarray, ops: Sequence[str], q: Sequence[float], by: Sequence[str]
) -> DataFrame:
    """One row per group that has requests and per q: by..., q, latency_s, requests.

    ValueError for a word that is not in BY, or a q outside of 0 to 1.
    """
    if unknown := [w for w in by if w not in BY]:
        raise ValueError(f"by {', '.join(unknown)}: any of {', '.join(BY)}")
    if not all(0 <= x <= 1 for x in q):
        raise ValueError("q: quantiles from 0 to 1")
    classes = [CLASSES.get(o, "0") for o in OUTCOMES]
    groups = {
        "op": list(ops),
        "window": list(WINDOWS[1:]),
        "status": sorted({c for i, c in enumerate(classes) if i != OPEN}),
    }
    edges, rows = bucket_edges_s(), []
    for labels in product(*(groups[w] for w in by)):
        named = dict(zip(by, labels, strict=True))
        picked = _picked(merged, ops, classes, named)
        if n := int(picked.sum()):
            rows += [(*labels, x, stats.weighted_quantile(edges, picked, x), n) for x in q]
    return frame((*by, "q", "latency_s", "requests"), rows, by)


def _picked(
    merged: np.ndarray, ops: Sequence[str], classes: Sequence[str], named: dict[str, str]
) -> np.ndarray:
    """Requests by bucket that the labels select."""
    window = WINDOWS.index(named.get("window", ""))
    which: Iterable[int] = [ops.index(named["op"])] if "op" in named else range(len(ops))
    outcomes = [i for i, c in enumerate(classes) if i != OPEN and named.get("status", c) == c]
    return merged[window][list(which)][:, outcomes].sum(axis=(0, 1))
