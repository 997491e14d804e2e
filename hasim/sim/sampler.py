"""Once a simulated second: read the accounts of the data plane into the per-second series."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from hasim.sim.engine import Engine
from hasim.sim.instances import Machine
from hasim.sim.kernel import door
from hasim.sim.kernel import layout as L
from hasim.sim.trace import BUCKETS, SAMPLED_GAUGES, Labels, bucket_edges_s
from hasim.units import NS

COLUMNS = {  # name -> which rows it has a column for
    "cpu_s": "stations",
    "throttled_s": "stations",
    "rss_bytes": "stations",
    "inflight": "stations",
    "in_rotation": "servers",
    "sessions": "servers",
}


class Sampler:
    """Fills {name: (T,) or (T, n)} arrays while the load runs."""

    def __init__(self, engine: Engine, machine: Machine):
        self.engine, self.machine = engine, machine
        self.gauges: dict[tuple[str, str, Labels], np.ndarray] = {}
        budgets = (*engine.scenario.budgets, *engine.scenario.steady_state)
        self.wanted = {b.metric for b in budgets} & set(SAMPLED_GAUGES)
        tables = engine.tables
        self.servers = np.array([i for i, e in enumerate(tables.edges) if e.server], dtype=np.int64)
        self.n = {"stations": len(tables.stations), "servers": len(self.servers)}
        self.seconds = int(engine.k.g[L.SECONDS])
        self.out: dict[str, np.ndarray] = {
            name: np.zeros((self.seconds, self.n[of])) for name, of in COLUMNS.items()
        }
        for name in ("p50_s", "p99_s", "vus", "dropped_iterations"):
            self.out[name] = np.full(self.seconds, np.nan if name.startswith("p") else 0.0)
        self.edges_s = bucket_edges_s()

    def run(self) -> Generator:
        """The control process; starts with the load."""
        engine, out = self.engine, self.out
        n = self.n["stations"]
        door.charge_all(engine.k)
        cpu = engine.k.stations["cpu_ns"][:n].copy()
        throttled = engine.k.stations["throttled_ns"][:n].copy()
        dropped = 0
        for t in range(self.seconds):
            yield engine.env.timeout(NS)
            engine.k.g[L.NOW] = engine.env.now
            door.charge_all(engine.k)
            k = engine.k
            x = k.stations[:n]
            out["cpu_s"][t] = (x["cpu_ns"] - cpu) * 1e-9
            out["throttled_s"][t] = (x["throttled_ns"] - throttled) * 1e-9
            cpu, throttled = x["cpu_ns"].copy(), x["throttled_ns"].copy()
            conns = (x["inflight"] + x["idle"]) * x["conn_bytes"]
            out["rss_bytes"][t] = x["base_bytes"] + x["inflight"] * x["req_bytes"] + conns
            out["inflight"][t] = x["inflight"]
            servers = k.edges[self.servers]
            out["in_rotation"][t] = servers["usable"]
            out["sessions"][t] = servers["served"]
            out["vus"][t] = k.g[L.VUS] if not k.g[L.OPEN_LOOP] else k.g[L.NUSERS]
            out["dropped_iterations"][t] = k.g[L.DROPPED] - dropped
            dropped = int(k.g[L.DROPPED])
            self._quantiles(k.scratch, t)
            if self.wanted:
                self._read_gauges(t)

    def _read_gauges(self, t: int) -> None:
        """What the daemons would show at /metrics now; nan where nobody answers."""
        for name, read in self.machine.gauges.items():
            if name[1] not in self.wanted:
                continue
            value = read()
            if name not in self.gauges:
                self.gauges[name] = np.full(self.seconds, np.nan)
            self.gauges[name][t] = np.nan if value is None else value

    def _quantiles(self, scratch: np.ndarray, t: int) -> None:
        upto = np.cumsum(scratch)
        if upto[-1]:
            at = np.searchsorted(upto, [0.5 * upto[-1], 0.99 * upto[-1]])
            at = np.minimum(at, BUCKETS - 1)
            self.out["p50_s"][t], self.out["p99_s"][t] = self.edges_s[at]
        scratch[:] = 0
