"""What a comparison is made of. Everything is `after` against `before`."""

from __future__ import annotations

from dataclasses import dataclass

from hasim.scenario import metric_name
from hasim.source import Span


@dataclass(frozen=True, slots=True)
class FileChange:
    """kind: changed | added | removed. diff: unified, of the redacted copies; note: what the diff
    does not show."""

    path: str
    kind: str
    diff: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class KnobChange:
    """A tunable value that is another one; "" where a side has no such knob. effect: how it takes
    effect (reload, restart, ...)."""

    name: str
    before: str
    after: str
    effect: str
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of after - before over replications, with its interval of 95 %.

    paired: replication by replication under the same luck; then `correlation` says how much that
    helped. n: pairs, or the smaller number of replications; 0: made from two intervals.
    """

    mean: float
    low: float
    high: float
    correlation: float
    n: int
    paired: bool

    @property
    def certain(self) -> bool:
        """Does the interval leave out zero?"""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Move:
    """One budget (threshold is not empty) or standard number of one scenario on both sides.

    before, after: as observed; nan where a side does not have it. verdict_*: of the row.
    """

    scenario: str
    metric: str
    tags: tuple[tuple[str, str], ...]
    aggregate: str
    threshold: str
    before: float
    after: float
    verdict_before: str
    verdict_after: str
    difference: Difference | None

    @property
    def name(self) -> str:
        """`http_req_failed{window:fault}`."""
        return metric_name(self.metric, self.tags)

    @property
    def moved(self) -> bool:
        """Another verdict, or a difference beyond its interval."""
        other = self.verdict_before != self.verdict_after
        return other or (self.difference is not None and self.difference.certain)


@dataclass(frozen=True, slots=True)
class CauseChange:
    """kind: appeared | vanished | changed. text: as the side that has it (both: after) says it."""

    kind: str
    text: str
    span: Span | None
    seconds_before: float
    seconds_after: float
    requests_before: int
    requests_after: int


@dataclass(frozen=True, slots=True)
class ScenarioChange:
    """One scenario on both sides; its verdict is "" on a side that did not run it."""

    name: str
    verdict_before: str
    verdict_after: str
    replications: tuple[int, int]
    budgets: tuple[Move, ...]
    metrics: tuple[Move, ...]
    causes: tuple[CauseChange, ...]

    @property
    def moved(self) -> bool:
        """Did its verdict or a budget move?"""
        return self.verdict_before != self.verdict_after or any(b.moved for b in self.budgets)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, or two stacks. notes: what keeps the two from being comparable in full."""

    before: str
    after: str
    seeds: tuple[int, int] | None
    notes: tuple[str, ...]
    files: tuple[FileChange, ...]
    knobs: tuple[KnobChange, ...]
    scenarios: tuple[ScenarioChange, ...]

    @property
    def differs(self) -> bool:
        """Do files differ, or budgets beyond their interval?"""
        return bool(self.files) or any(s.moved for s in self.scenarios)
