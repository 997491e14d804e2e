"""The kernel's rows of finished requests in the words of Trace.requests."""

from __future__ import annotations

import numpy as np

from hasim.sim.kernel import layout as L
from hasim.sim.tables import Tables
from hasim.sim.trace import OK, OUTCOMES
from hasim.units import NS

ROW = np.dtype(
    [
        ("start_s", "f8"), ("op", "i4"), ("server", "i4"), ("status", "U11"),
        ("termination", "U4"), ("retries", "i4"), ("latency_s", "f8"),
    ]
)  # fmt: skip
LOGGED = 100  # the kernel adds this to the termination of what HAProxy has logged


def request_rows(raw: np.ndarray, tables: Tables, start_ns: int) -> np.ndarray:
    """Rows (start_s, op, server, status, termination, retries, latency_s), shape of `raw`.

    server: index into Trace.servers, -1 without one. status: what the user got; without HAProxy's
    letters it never came to a line of its log.
    """
    out = np.zeros(len(raw), dtype=ROW)
    out["start_s"] = (raw["t"] - start_ns) / NS
    out["op"], out["retries"] = raw["op"], raw["retries"]
    number = -np.ones(len(tables.edges) + 1, dtype=int)  # the last one is for edge -1
    served = [i for i, edge in enumerate(tables.edges) if edge.server]
    number[served] = np.arange(len(served))
    out["server"] = number[raw["edge"]]
    open_ = raw["outcome"] == len(OUTCOMES) - 1
    out["latency_s"] = np.where(open_, np.nan, raw["latency"] / NS)
    outcomes = np.array(["200" if i == OK else word for i, word in enumerate(OUTCOMES)])
    out["status"] = outcomes[raw["outcome"]]
    logged = (raw["term"] >= LOGGED) & ~open_
    letters = np.array([(word.split() + [""])[1] for word in L.TERMS])
    out["termination"][logged] = letters[raw["term"][logged] - LOGGED]
    return out
