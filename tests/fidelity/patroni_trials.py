"""Replays of the measured Patroni trials (tests/measured/postgres-patroni.csv), one lab for each.

What a trial recorded is pinned: the age of the lease, whether etcd's leader was on the victim, how
long the server itself took to promote. What it did not record is the phase of etcd's lease scan:
the trials lie 0 to 0.5 s after the lease's end, as they must; replays put it in the middle.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from hasim.components.patroni.actions import ASK_PROMOTE_S
from hasim.components.patroni.config import Dynamic
from tests.components.patroni_lab import Lab

FILE = Path(__file__).parent.parent / "measured" / "postgres-patroni.csv"
SCAN_GAP_S = 0.21
STEP_S = 0.5
# The laboratory's process 1 reaped late: a dead postmaster was a zombie for up to so long.
LAB_REAP_S = 2.0


class Trial:
    """One row; numbers by name, None where it is empty."""

    def __init__(self, row: dict[str, str]):
        self.row = row
        self.fault, self.cfg = row["fault"], row["cfg"]

    def __getattr__(self, name: str) -> float | None:
        text = self.row[name if name in self.row else f"{name}_s"]
        return float(text) if text else None

    def __repr__(self) -> str:
        return f"{self.cfg}-{self.fault}-{self.row['phase_s']}"

    def lease_left(self) -> float:
        """What was left of the lease at the fault: ttl - phase, or one keepalive later if that one
        raced with the fault; etcd's own whole seconds bound it.
        """
        left, whole = self.ttl - self.phase, self.row["lease_left_s"]
        if not float(whole) <= left < float(whole) + 2:
            left += self.loop_wait
        return min(max(left, float(whole)), float(whole) + 0.999)


@cache
def trials(fault: str) -> tuple[Trial, ...]:
    with FILE.open(newline="") as file:
        return tuple(Trial(r) for r in csv.DictReader(file) if r["fault"] == fault)


class Replay:
    """The lab at the moment of a trial's fault. ttl_s and the like: changes of its settings."""

    def __init__(self, trial: Trial, *, ttl_more: int = 0, seed: int = 1, reap_s: float = 0.0):
        self.trial = trial
        dynamic = Dynamic(
            ttl=int(trial.ttl) + ttl_more,
            loop_wait=int(trial.loop_wait),
            retry_timeout=int(trial.retry_timeout),
            use_pg_rewind=True,
        )
        self.lab = lab = Lab(
            seed=seed, n=int(trial.nodes), etcd=int(trial.etcd), dynamic=dynamic, haproxy=True
        )
        self.victim = lab.primary
        for name in lab.members():
            lab.node(name).reap_s = reap_s
        if trial.new_rw and trial.lock_acquired:
            self._pin_promotion(max(0.0, trial.new_rw - trial.lock_acquired - ASK_PROMOTE_S))
        lab.cycle()
        lab.run(max(0.0, trial.ttl - trial.lease_left()))
        self._pin_scan()
        self.t0, self.rotations = lab.world.now_s, len(lab.world.rotations)

    def _pin_promotion(self, took_s: float) -> None:
        machine, drawn = self.lab.machine, self.lab.machine.sample

        def sample(dist, process, tick, purpose):
            return took_s if purpose == "promote" else drawn(dist, process, tick, purpose)

        machine.sample = sample

    def _pin_scan(self) -> None:
        lessor = self.lab.machine.containers["etcd-1"].process.data.lessor
        step = round(STEP_S * 1e9)
        wanted = self.lab.lease_expiry() + round(SCAN_GAP_S * 1e9)
        lessor.scan_ns = wanted - ((wanted - int(self.lab.world.env.now)) // step + 1) * step
        lessor.wake()

    def failover(self, fault: str = "") -> dict[str, float]:
        """Inject the trial's fault; each moment that the trial recorded, in their order."""
        lab, victim = self.lab, self.victim
        getattr(lab, fault or self.trial.fault)()
        found = {"old_not_rw": self.when(lambda: victim not in lab.writable())}
        found["key_gone"] = self.when(lambda: lab.locked() != victim)
        found["lock_acquired"] = self.when(lambda: lab.locked() not in ("", victim))
        found["new_rw"] = self.when(lambda: any(w != victim for w in lab.writable()))
        lab.run(12)
        for name, word in (("hap_old_down", victim), ("hap_new_up", "")):
            found[name] = self._turned(word)
        return found

    def when(self, condition) -> float:
        """Seconds from the fault until it holds."""
        return self.lab.when(condition, step_s=0.005) - self.t0

    def _turned(self, down: str) -> float:
        """When HAProxy marked the old primary down, or the new one up."""
        server = f"pg/pg{self.victim[-1]}"
        for t, name, usable, _ in self.lab.world.rotations[self.rotations :]:
            if (name == server) == bool(down) and usable != bool(down):
                return t - self.t0
        return float("inf")


__all__ = ["LAB_REAP_S", "Replay", "Trial", "trials"]
