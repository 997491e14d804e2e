"""What a walk is made of: moments, what they cost, and what one step of a setting would buy."""

from __future__ import annotations

from dataclasses import dataclass

from hasim.causes_text import Cause
from hasim.source import Span
from hasim.stats import Paired


@dataclass(frozen=True, slots=True)
class Moment:
    """One event of the replication, and what it waited for.

    t_s: since the load began. parent: the id of the moment that caused it (-1: none); after_s: how
    long after that one. setting: what set the delay (`inter 2000`), with its place or, for a value
    in force by default, the citation in `default`. also: ((who said the same, when in seconds)...).
    """

    id: int
    parent: int
    t_s: float
    after_s: float
    who: str
    text: str
    setting: str = ""
    span: Span | None = None
    default: str = ""
    also: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that set a delay: all knobs that move together, with one value.

    label: its name for people (`haproxy.backend.gw.*.inter`). because: the sentence that named it.
    """

    names: tuple[str, ...]
    label: str
    value: str
    dialect: str
    span: Span | None
    default: str
    because: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a setting, over the replications of the walk under the same luck.

    All are after - before per replication. outage: the longest without a good answer, in seconds
    (worst path); recovery: seconds from the fault until every path works again; failed: requests
    that failed; served: requests that succeeded. broken, mended: budgets that change in most
    replications. warnings: what else gets worse, and what a daemon says to the value. refused: why
    it was not run; then there are no numbers.
    """

    setting: Setting
    value: str
    outage: Paired | None = None
    recovery: Paired | None = None
    failed: Paired | None = None
    served: Paired | None = None
    mended: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: str = ""

    @property
    def saves(self) -> bool:
        """Is less lost, beyond the interval?"""
        less = [
            p for p in (self.outage, self.recovery, self.failed) if p is not None and p.high < 0
        ]
        return bool(less) or (self.served is not None and self.served.low > 0)


@dataclass(frozen=True, slots=True)
class Walk:
    """One replication, told. chosen: why this one. void: why it did not boot, or "".

    moments: in time order. costs: what users lost. delays: what each wait was made of. steps: best
    first, over `replications` paired replications.
    """

    scenario: str
    doc: str
    stack: str
    seed: int
    replication: int
    replications: int
    chosen: str
    void: str
    simulated_s: float
    moments: tuple[Moment, ...]
    costs: tuple[Cause, ...]
    delays: tuple[Cause, ...]
    steps: tuple[Step, ...]
