"""What a capacity review found: frozen values, no simulation here.

Cores and bytes are per instance unless a name says total. 0 cores or bytes given: no limit is set.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Broken:
    """A budget that the load breaks, and what is behind it.

    observed and limit are in the metric's SI unit. users: the load at which it was seen. cause:
    one sentence; file "" if no line decides it.
    """

    scenario: str
    metric: str
    threshold: str
    observed: float
    limit: float
    users: float
    cause: str = ""
    file: str = ""
    line: int = 0
    col: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """One load that was tried. p99_s, failed: of k6's http_req_duration and http_req_failed."""

    users: float
    passed: bool
    p99_s: float
    failed: float
    replications: int


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget that Points can be held against."""

    metric: str
    aggregate: str
    limit: float


@dataclass(frozen=True, slots=True)
class Boundary:
    """The largest load that passes, with every host (lost "") or after losing one.

    users: the largest load shown to pass with the full number of replications, 0: none was.
    fails_at: the smallest load shown to fail, inf: none up to the largest that was tried. The
    boundary lies between the two. headroom: users / asked.
    """

    lost: str
    users: float
    fails_at: float
    headroom: float
    first_broken: Broken | None
    points: tuple[Point, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Amount:
    """How many instances of which size. known False: nobody says."""

    instances: int
    cores: float
    memory_bytes: int
    known: bool = True

    @property
    def total_cores(self) -> float:
        """Of all instances together."""
        return self.instances * self.cores

    @property
    def total_memory_bytes(self) -> int:
        """Of all instances together."""
        return self.instances * self.memory_bytes


@dataclass(frozen=True, slots=True)
class Size:
    """One service: what it has, what it needs, what to give it.

    needed None: not sized, `note` says why, and recommended is what is given. judgement:
    under-provisioned | over-provisioned | right | no limit | as given. use_cores: the busiest
    instance's mean over a minute, in the worst case of all hosts and any one lost.
    containers: compose services (or processes) that it consists of now.
    """

    service: str
    given: Amount
    given_source: str
    needed: Amount | None
    recommended: Amount
    judgement: str
    note: str
    use_cores: float
    use_memory_bytes: float
    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostSum:
    """What is placed on one host against its size; given and recommended, in cores and bytes."""

    host: str
    cores: float
    memory_bytes: int
    given_cores: float
    given_memory_bytes: int
    recommended_cores: float
    recommended_memory_bytes: int

    @property
    def fits(self) -> bool:
        """Whether what is recommended fits."""
        return (
            self.recommended_cores <= self.cores + 1e-9
            and self.recommended_memory_bytes <= self.memory_bytes
        )


@dataclass(frozen=True, slots=True)
class Left:
    """Everything together against the hosts that are left after losing `lost` ("": none)."""

    lost: str
    cores: float
    memory_bytes: int
    given_fits: bool
    recommended_fits: bool


@dataclass(frozen=True, slots=True)
class Sizing:
    """What the stack needs for one load.

    met: the budgets hold with exactly the needed sizes, with every host and after every loss, as
    simulated; if not, the sizes are by the utilisation law alone and `broken` says what breaks on
    the hosts that are there. recommended_met: likewise with the recommended ones. missing: what
    the hosts lack, in words. not_survived: hosts without which no load at all passes; the sizes are
    for the other cases.
    """

    users: float
    met: bool
    recommended_met: bool
    sizes: tuple[Size, ...]
    hosts: tuple[HostSum, ...]
    left: tuple[Left, ...]
    missing: tuple[str, ...]
    broken: Broken | None = None
    not_survived: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CapacityResult:
    """The whole answer. boundaries: all hosts first, then each lost host in the stack's order.

    sizings: for `asked`, then for the growth if one is asked for. unit: users | iterations/s.
    verdict: pass | fail | undecided, about the load asked for.
    """

    name: str
    doc: str
    stack: str
    stack_sha256: str
    seed: int
    unit: str
    asked: float
    growth: float
    over: tuple[str, ...]
    limits: tuple[Limit, ...]
    replications: int
    verdict: str
    boundaries: tuple[Boundary, ...]
    sizings: tuple[Sizing, ...]
    notes: tuple[str, ...]
    assumptions: int

    @property
    def largest(self) -> dict[str, float]:
        """Users by lost host; "" is with all hosts."""
        return {b.lost: b.users for b in self.boundaries}

    @property
    def first_broken(self) -> Broken | None:
        """The budget that breaks first with all hosts."""
        return self.boundaries[0].first_broken

    @property
    def sizes(self) -> tuple[Size, ...]:
        """For the load asked for."""
        return self.sizings[0].sizes

    @property
    def hosts(self) -> tuple[HostSum, ...]:
        """For the load asked for."""
        return self.sizings[0].hosts
