"""What a Sentinel knows of a master, its replicas and the other sentinels. Times are ns.

Source: src/sentinel.c 7.0.15 (createSentinelRedisInstance and its initial values).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hasim.components.sentinel.config import MasterConfig
from hasim.components.sentinel.link import MS, NEVER, Link

# States of a failover; one step a tick. Source: sentinel.c, SENTINEL_FAILOVER_STATE_*.
NONE = ""
WAIT_START = "wait-start"
SELECT = "select-slave"
SEND = "send-slaveof-noone"
WAIT_PROMOTION = "wait-promotion"
RECONF = "reconf-slaves"
UPDATE = "update-config"


@dataclass(slots=True, eq=False)
class Entry:
    """One watched instance. kind: master | slave | sentinel; name: the instance behind it.

    host, port: how this Sentinel calls it. by_name: its address is resolved at every reconnect.
    """

    kind: str
    name: str
    host: str
    port: int
    born: int
    by_name: bool = False
    id: str = ""  # of a sentinel
    address: int = 0  # the container's address at which it was met, 0 where that never changes
    s_down: bool = False
    s_down_since: int = 0
    o_down: bool = False
    o_down_since: int = 0
    role: str = ""
    role_time: int = 0
    conf_time: int = 0
    info: int = NEVER
    pub: int = 0
    run_id: str = ""
    reboot_since: int = 0  # a master that has restarted and has not answered PONG yet
    # replicas
    master: str = ""
    master_text: str = ""
    link_up: bool = False
    link_down_ms: int = 0
    priority: int = 100
    offset: int = 0
    promoted: bool = False
    reconf: str = ""  # "" | sent | inprog | done
    reconf_time: int = 0
    # sentinels
    says_down: bool = False
    reply: int = 0
    leader: str = ""
    leader_epoch: int = 0
    mark: int = -1
    link: Link = field(default_factory=lambda: Link(0))

    def __post_init__(self) -> None:
        self.link = Link(self.born)
        self.pub = self.reply = self.role_time = self.conf_time = self.born
        self.role = "slave" if self.kind == "slave" else "master"

    def no_down_for(self, t: int, wait: int) -> bool:
        """Was there no onset of S_DOWN or O_DOWN within `wait`?"""
        latest = max(self.s_down_since, self.o_down_since)
        return latest == 0 or t - latest > wait


@dataclass(slots=True, eq=False)
class Master:
    """One monitored master: its entry, everybody around it, and the failover under way."""

    config: MasterConfig
    entry: Entry
    slaves: dict[str, Entry] = field(default_factory=dict)
    sentinels: list[Entry] = field(default_factory=list)
    epoch: int = 0  # config epoch
    leader: str = ""
    leader_epoch: int = 0
    state: str = NONE
    state_time: int = 0
    start: int = NEVER  # failover_start_time
    failover_epoch: int = 0
    promoted: Entry | None = None
    mark: int = -1

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def down_after(self) -> int:
        return self.config.down_after_ms * MS

    @property
    def timeout(self) -> int:
        return self.config.failover_timeout_ms * MS

    def entries(self) -> list[Entry]:
        """In the order in which a tick handles them."""
        return [self.entry, *self.slaves.values(), *self.sentinels]

    @property
    def current(self) -> Entry:
        """Whom hellos and get-master-addr-by-name name (sentinelGetCurrentMasterAddress)."""
        if self.promoted is not None and self.state in (RECONF, UPDATE):
            return self.promoted
        return self.entry

    def sane(self, t: int, info_period: int) -> bool:
        """Does the master look sane (sentinelMasterLooksSane)?"""
        one = self.entry
        return (
            one.role == "master"
            and not one.s_down
            and not one.o_down
            and t - one.info < 2 * info_period
        )

    def votes_needed(self) -> int:
        """Votes that elect a leader: a majority of all sentinels ever met, at least the quorum."""
        majority = (len(self.sentinels) + 1) // 2 + 1
        return max(majority, self.config.quorum)

    def describe(self, entry: Entry) -> str:
        """`%@` of a Sentinel's log."""
        if entry.kind == "master":
            return f"master {self.name} {entry.host} {entry.port}"
        label = entry.id if entry.kind == "sentinel" else f"{entry.host}:{entry.port}"
        tail = f"@ {self.name} {self.entry.host} {self.entry.port}"
        return f"{entry.kind} {label} {entry.host} {entry.port} {tail}"


def snapshot_of(process: Any) -> Any:
    """What INFO of a data node's process says now; None while it says nothing."""
    data: Any = getattr(process, "data", None)
    return data.snapshot() if hasattr(data, "snapshot") else None
