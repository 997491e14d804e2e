"""The laboratory of tests/measured/redis-sentinel.csv: its faults, simulated."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "components")]

from redis_lab import STARVED, Lab  # noqa: E402

FAULTS = ("kill9", "kill_m_s1", "sigstop")
TIMES = ("first_sdown", "first_odown", "elected", "promoted", "first_switch", "last_switch")
BACK_S = 16.0  # when the laboratory brought the old master back


def measured() -> dict[str, list[dict[str, str]]]:
    """fault -> its trials."""
    with open(HERE.parent / "measured" / "redis-sentinel.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {f: [r for r in rows if r["fault"] == f] for f in (*FAULTS, "kill_r")}


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    """The values of a column that are there."""
    return np.array([float(r[name]) for r in rows if r[name]])


def begin(fault: str, seed: int, **changes) -> Lab:
    """One trial up to the end of its failover."""
    lab = Lab(seed=seed, **({"rewrite": STARVED, "warm_s": 60.0} | changes))
    if fault == "sigstop":
        lab.machine.freeze("redis-1")
    else:
        lab.kill("redis-1")
    if fault == "kill_m_s1":
        lab.kill("s1")
    lab.run(BACK_S)
    return lab


def trial(fault: str, seed: int, **changes) -> dict[str, float]:
    """One trial: times from the fault as in the csv (demote_s: from the return)."""
    lab = begin(fault, seed, **changes)
    lab.world.ask("redis-1", 0.0)  # its clients have found the new master
    if fault == "sigstop":
        lab.machine.thaw("redis-1")
    else:
        lab.back("redis-1")
    lab.run(BACK_S + 30.0)
    return {
        "first_sdown": lab.first("+sdown", "master "),
        "first_odown": lab.first("+odown"),
        "elected": lab.first("+elected-leader"),
        "promoted": lab.first("+promoted-slave"),
        "first_switch": lab.first("+switch-master"),
        "last_switch": lab.last("+switch-master"),
        "demote_s": lab.first("+convert-to-slave") - BACK_S,
        "rejoin_up_s": lab.last("MASTER <-> REPLICA sync: Full resynchronization") - BACK_S,
        "n_try": len(lab.rows("+try-failover")),
        "lost": lab.cluster.lost(),
    }


def distance(sample: np.ndarray, reference: np.ndarray) -> float:
    """Mean absolute difference of quantiles, at the plotting positions of the sample."""
    p = (np.arange(len(sample)) + 0.5) / len(sample)
    return float(np.mean(np.abs(np.sort(sample) - np.quantile(reference, p))))


def own_error(reference: np.ndarray, size: int) -> float:
    """What 99 % of samples of this size miss of their own distribution (bootstrap)."""
    rng = np.random.default_rng(20260101)
    return float(
        np.quantile([distance(rng.choice(reference, size), reference) for _ in range(1000)], 0.99)
    )
