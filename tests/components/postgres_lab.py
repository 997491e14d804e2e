"""A stack of PostgreSQL servers on hosts, with the real Machine and a World without requests."""

from __future__ import annotations

from fake_world import FakeWorld

from hasim.components.postgres.config import from_parameters
from hasim.model import Dist, Host, Instance, Link, Op, Service, Stack, Step
from hasim.sim.instances import Machine
from hasim.source import Default

STATED = Default("test")


def config(standby_of: str = "", name: str = "", **values):
    """A server's configuration; parameters by name, other fields of PostgresConfig too."""
    fields = ("free_disk_bytes", "replay_bytes_s", "redo_bytes_s", "first_start_s", "backup",
              "slots", "system")  # fmt: skip
    more = {key: values.pop(key) for key in fields if key in values}
    if standby_of:
        more |= {"standby": True, "upstream": (standby_of, 5432)}
        info = f"host={standby_of} application_name={name}"
        values.setdefault("primary_conninfo", info)
    return from_parameters({k: (v, STATED) for k, v in values.items()}, **more)


class Lab:
    """pg-1 is the primary on host-1; pg-2, ... are its standbys on their own hosts."""

    def __init__(
        self,
        n=2,
        rtt_s=0.0004,
        primary=None,
        standby=None,
        wal_bytes=1024,
        same_host=False,
        seed=1,
        bandwidth=None,
        instance=None,
        phases=None,
    ):
        names = [f"pg-{i + 1}" for i in range(n)]
        hosts = ["host-1" if same_host else f"host-{i + 1}" for i in range(n)]
        step = Step("commit", Dist("const", 0.001))
        if "wal_bytes" in Step.__slots__:
            step = Step("commit", Dist("const", 0.001), wal_bytes=wal_bytes)
        service = Service("pg", ops=(Op("write", (step,), write=True),))
        made = []
        for i, name in enumerate(names):
            one = config(**(primary or {})) if i == 0 else config("pg-1", name, **(standby or {}))
            made.append(
                Instance(name, "postgres", hosts[i], service="pg", listen_ports=(5432,), config=one,
                         image="postgres:16", peers={"pg-1:5432": "pg-1"}, networks=("n",),
                         stop_signal="SIGINT", **{"restart": "always", **(instance or {})})
            )  # fmt: skip
        every = tuple(dict.fromkeys(hosts))
        links = tuple(Link(a, b, rtt_s) for i, a in enumerate(every) for b in every[i + 1 :])
        self.stack = Stack(
            ".", "lab", "", (), tuple(Host(h, 8, 2**34, Dist("const", 45.0)) for h in every), links,
            tuple(made), (service,), (), (), {},
        )  # fmt: skip
        self.world = FakeWorld(self.stack, [], phases=phases, seed=seed)
        self.machine = Machine(self.world)
        if bandwidth is not None:
            self.machine.bandwidth_bytes_s = lambda a, b: bandwidth
        if self.machine.containers["pg-1"].service is None or wal_bytes != 1024:
            import hasim.components.postgres.server as server

            if "wal_bytes" not in Step.__slots__:
                server.Postmaster.commit_wal_bytes = lambda self: float(wal_bytes)

    def up(self, settle_s=3.0):
        """Start all, primary first, and let the standbys stream."""
        self.machine.docker.start("pg-1")
        self.run(1.0)
        for name in list(self.machine.containers)[1:]:
            self.machine.docker.start(name)
        self.run(settle_s)
        return self

    def run(self, seconds):
        self.world.env.run(until=self.world.env.now + round(seconds * 1e9))

    def pg(self, name):
        p = self.machine.containers[name].process
        return p.data if p else None

    def gauge(self, name, metric):
        return self.machine.gauges[name, metric, ()]()

    @property
    def cluster(self):
        return self.machine.clusters["pg-1"]

    def said(self, text):
        return [(t, e, d) for t, e, d in self.world.events(text)]
