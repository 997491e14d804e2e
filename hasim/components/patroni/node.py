"""One Patroni process (Process.data): its server, its lock, what its REST API answers.

The server is the inner instance `<name>.postgres`; its process's data is a Postmaster.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from hasim.components.base import Machine, Process
from hasim.components.patroni.cache import Cache
from hasim.components.patroni.client import Client, DcsError, Gone
from hasim.components.patroni.config import PatroniConfig
from hasim.components.patroni.dcs import Dcs
from hasim.components.patroni.rest import Rest
from hasim.components.patroni.view import MemberData, View
from hasim.components.patroni.watchdog import Watchdog
from hasim.lineage import DataDir, is_behind
from hasim.units import NS

if TYPE_CHECKING:
    from hasim.sim.world import World

# From exec until Patroni asks etcd for the first time. Source: measured, patroni 4.1.5 on the
# laboratory's machine: python and its imports, about a second.
START_S = (0.8, 1.4)
# What Patroni says -> the setting behind it.
DECIDED_BY = (
    ("promoted self to leader by acquiring session lock", "ttl"),
    ("demoting self because DCS is not accessible", "retry_timeout"),
    ("starting primary after failure", "loop_wait"),
    ("Primary crashed. Failing over", "primary_start_timeout"),
    ("Demoting self because primary startup", "primary_start_timeout"),
    ("My wal position exceeds maximum replication lag", "maximum_lag_on_failover"),
    ("Assigning synchronous standby status", "synchronous_mode"),
    ("continue to run as a leader because failsafe", "failsafe_mode"),
)
AGAIN_S = 5.0  # source: patroni/dcs/etcd3.py (create_lease: time.sleep(5))


class Node:
    """The state of a member. Generators of other modules work on it; `sleep` and `awake` end them
    (Gone) when the process is gone.
    """

    # How long a dead server stays a zombie that Patroni takes for running. Source: init (tini,
    # Patroni itself as PID 1) reaps at once; the laboratory's process 1 took up to 2 s.
    reap_s = 0.0

    def __init__(self, p: Process, world: World, machine: Machine, config: PatroniConfig):
        self.p, self.world, self.machine, self.config = p, world, machine, config
        self.env, self.name = p.env, p.instance
        self.inner = f"{p.instance}.postgres"
        self.dynamic = config.dynamic
        self.draws = 0
        hosts = (machine.peer(self.name, host, port) for host, port in config.hosts)
        self.client = Client(self, tuple(hosts))
        self.cache = Cache(self)
        self.dcs = Dcs(self)
        self.watchdog = Watchdog(self)
        self.view = self.old_view = View()
        self.role, self.state = "replica", "stopped"
        self.busy, self.busy_since_ns = "", 0
        self.recovering = self.bootstrapping = self.stopping = self.rewind_check = False
        self.crash_recovered = False
        self.seen_lsn = 0.0
        self.slots_seen: dict[str, int] = {}  # member -> when its key was there last
        self.sync_names: tuple[str, ...] = ()
        self.expired = False  # the lock it races for went with its owner's lease
        self.leader_until_ns = 0
        self.failsafe_leader, self.failsafe_until_ns = "", 0
        self.next_run_ns = int(p.env.now)
        self.woken = False
        self.bell, self.server_bell = p.env.event(), p.env.event()
        self.died_ns = -(10**18)
        self.blame, self.said_last = -1, ""
        self.rest: Rest | None = None
        machine.notice(self.inner, self._server_changed)

    # ---- waiting -----------------------------------------------------------------------------
    def awake(self) -> Generator[Any, Any, None]:
        """Wait while stopped (SIGSTOP)."""
        yield from self.p.awake()
        if not self.p.alive:
            raise Gone

    def sleep(self, seconds: float) -> Generator[Any, Any, None]:
        """time.sleep()."""
        if seconds > 0:
            yield self.env.timeout(round(seconds * NS))
        yield from self.awake()

    def wake(self) -> None:
        """Run the HA loop now (dcs.event.set)."""
        self.woken = True
        if not self.bell.triggered:
            self.bell.succeed()

    def draw(self, purpose: str) -> float:
        """The next number of this process's own stream."""
        self.draws += 1
        return self.world.draw(f"patroni {self.name} {self.p.epoch}", self.draws, purpose)

    def log(self, event: str, detail: str = "", cause: int | None = None) -> int:
        """A line of Patroni's log, with the setting that decided when or whether it came."""
        cause = self.blame if cause is None else cause
        setting = next((name for text, name in DECIDED_BY if event.startswith(text)), "")
        if setting == "ttl" and not self.expired:
            setting = ""
        origin = self.config.where.get(setting)
        self.blame = self.world.log(self.name, event, detail, cause=cause, origin=origin)
        return self.blame

    def job(self, what: str, steps: Generator[Any, Any, Any]) -> None:
        """Run an action in the background (AsyncExecutor); the HA loop runs when it ends."""
        self.busy, self.busy_since_ns = what, int(self.env.now)
        self.world.spawn(self._job(steps, what), f"{self.name} {what}")

    def _job(self, steps: Generator[Any, Any, Any], what: str) -> Generator[Any, Any, None]:
        try:
            yield from steps
        except Gone:
            return
        except DcsError:
            pass
        if self.busy == what:
            self.busy = ""
        self.wake()

    def switchover(self, cause: int = -1) -> None:
        """patronictl switchover: what POST /switchover of this member writes to the DCS."""
        self.blame = cause
        self.world.spawn(self._asked(), f"{self.name} switchover")

    def _asked(self) -> Generator[Any, Any, None]:
        try:
            yield from self.dcs.ask_failover(self.config.name, "")
        except (Gone, DcsError):
            return
        self.wake()

    # ---- the server --------------------------------------------------------------------------
    @property
    def disk(self) -> Any:
        """The data directory, None if it is empty."""
        found = self.machine.disks.get(f"pgdata:{self.inner}")
        return found if found is not None and found.system else None

    def new_disk(self, **values: Any) -> DataDir:
        """initdb, a base backup or a rewind has made the directory anew."""
        made = self.machine.disks[f"pgdata:{self.inner}"] = DataDir(**values)
        return made

    @property
    def process(self) -> Process | None:
        """The server's process."""
        return self.machine.containers[self.inner].process

    @property
    def server(self) -> Any:
        """Its Postmaster, None if it does not run."""
        p = self.process
        return p.data if p is not None else None

    @property
    def running(self) -> bool:
        """is_running(): there is a process, or a zombie of one."""
        return self.process is not None or self.zombie

    @property
    def zombie(self) -> bool:
        """The process is dead, but nobody has reaped it yet."""
        return self.process is None and self.env.now < self.died_ns + round(self.reap_s * NS)

    @property
    def ready(self) -> bool:
        """Does the server take connections?"""
        return self.server is not None and bool(self.server.ready)

    @property
    def is_primary(self) -> bool:
        """Does the server say that it is not in recovery?"""
        return self.server is not None and self.server.role == "primary"

    def lsn(self) -> float:
        """The end of the server's WAL (last_operation)."""
        return float(self.server.received_bytes()) if self.ready else 0.0

    def disk_lsn(self, server: Any) -> float:
        """The shutdown checkpoint's position, of a server that stops or has stopped."""
        return float(server.received_bytes())

    def start_server(self, cause: int | None = None) -> Generator[Any, Any, bool]:
        """Start it and wait until it takes connections; False: it has exited."""
        p = self.machine.exec(self.inner, self.blame if cause is None else cause)
        self.state = "starting"
        while p is not None and p.alive and not (p.data is not None and p.data.ready):
            yield self.server_bell
            yield from self.awake()
        if p is None or not p.alive:
            return False
        self.state = "running"
        self.show()
        return True

    def stop_server(self, mode: str, cause: int | None = None) -> Generator[Any, Any, None]:
        """pg_ctl stop, until the process is gone."""
        server = self.server
        if server is None:
            return
        self.state = "stopping"
        self.show()
        yield server.stop(mode, self.blame if cause is None else cause)
        yield from self.awake()
        self.state = "stopped"
        self.show()

    def _server_changed(self) -> None:
        if not self.p.alive:
            return
        if self.process is None:
            self.died_ns = int(self.env.now)
        bell, self.server_bell = self.server_bell, self.env.event()
        bell.succeed()
        self.show()

    # ---- the lock ----------------------------------------------------------------------------
    @property
    def has_lock(self) -> bool:
        """Does the last reading of the keys name this member?"""
        return self.view.leader == self.config.name

    @property
    def is_leader(self) -> bool:
        """Its own belief, which ends ttl after the last good update."""
        return self.env.now < self.leader_until_ns

    def set_leader(self, on: bool) -> None:
        """Source: patroni/ha.py (set_is_leader)."""
        self.leader_until_ns = int(self.env.now) + self.dynamic.ttl * NS if on else 0
        self.show()

    def show(self) -> None:
        """Health checks see the present state."""
        if self.rest is not None:
            self.rest.show()

    def member_data(self) -> MemberData:
        """What the member says of itself in the DCS."""
        server = self.server
        return MemberData(
            self.config.name,
            self.machine.peer(self.name, *self.config.rest) or self.name,
            self.inner,
            "primary" if self.is_primary else "replica",
            "running" if self.ready else self.state,
            server.timeline if server is not None and self.ready else 0,
            self.config.nofailover,
            self.config.nosync,
        )

    def server_of(self, member: str) -> str:
        """The instance of another member's server."""
        data = self.view.members.get(member)
        return data.server if data is not None else ""

    def upstream(self) -> str:
        """Whom to follow: the leader's server, unless that is this one."""
        return "" if self.has_lock or self.view.unlocked else self.server_of(self.view.leader)

    def diverged(self, upstream: str) -> bool:
        """Has this server's directory something that the upstream does not have?"""
        p = self.machine.containers[upstream].process if upstream else None
        disk = self.disk
        if p is None or p.data is None or disk is None:
            return False
        if disk.diverged:
            return True
        mine = self.server.received if self.ready else disk.position
        return not is_behind(mine, p.data.received)

    def settled(self) -> bool:
        """Has the cluster a leader, and is this member's server what it shall be?"""
        if self.view.unlocked or not self.ready or self.busy:
            return False
        return self.is_primary if self.has_lock else True


def run(
    p: Process, world: World, machine: Machine, config: PatroniConfig, urls: tuple[str, ...]
) -> Generator[Any, Any, None]:
    """From exec to exit."""
    from hasim.components.patroni.ha import HaLoop
    from hasim.components.patroni.stop import shutdown

    node = p.data = Node(p, world, machine, config)
    node.blame = machine.containers[p.instance].blame
    loop = HaLoop(node)
    main = world.spawn(_main(node, loop, urls), f"{p.instance} patroni")
    while (signal := (yield from p.signal())) is not None:
        what, cause = signal
        if what == "SIGHUP":
            world.log(p.instance, "reload", cause=cause)
        elif what != "child":
            if main.is_alive:
                main.interrupt("signal")
            yield from shutdown(node, cause)


def _main(node: Node, loop: Any, urls: tuple[str, ...]) -> Generator[Any, Any, None]:
    """The main thread: until a signal interrupts it or the process ends."""
    import simpy

    try:
        _unhang(node)
        low, high = START_S
        yield from node.sleep(low + (high - low) * node.draw("start"))
        while not node.dcs.lease:
            try:
                yield from node.dcs.refresh_lease()
            except DcsError:
                node.log("waiting on etcd")
                yield from node.sleep(AGAIN_S)
        node.world.spawn(_watch(node), f"{node.name} watch")
        while True:
            try:
                node.view = yield from node.dcs.cluster()
                break
            except DcsError:
                node.log("Can not get cluster from dcs")
                yield from node.sleep(AGAIN_S)
        node.rest = Rest(node, urls)
        node.machine.listen(node.p, True)
        node.show()
        yield from loop.run()
    except (Gone, simpy.Interrupt):
        return


def _unhang(node: Node) -> None:
    """An earlier process that was killed while it stopped has left its REST port hanging."""
    node.world.thaw(node.name)


def _watch(node: Node) -> Generator[Any, Any, None]:
    try:
        yield from node.cache.run()
    except Gone:
        return
