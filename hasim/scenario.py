"""What a scenario asks for: load, faults, budgets. Frozen; made by hasim.read.scenarios.

Durations are seconds (`_s`). Where a text may give a range, the field is a Dist and is drawn once
per replication from a named stream. No files and no simulation here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hasim.model import ZERO, Dist
from hasim.source import Span


@dataclass(frozen=True, slots=True)
class Client:
    """How one kind of user behaves (design.md section 2, "Clients have a kind").

    kind: k6 | browser | pooled-library | one-shot. keep_alive: one connection per user is kept.
    replay: a GET (never a POST) whose reused connection closes without a response is sent once
    more, silently. retries: the client's own, after a failure, waiting
    backoff_s * 2**n * (1 +- jitter).
    """

    kind: str = "k6"
    timeout_s: float = 60.0
    connect_timeout_s: float = 30.0
    keep_alive: bool = True
    replay: bool = True
    retries: int = 0
    backoff_s: float = 0.0
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class FlowStep:
    """One request of an iteration: an operation drawn by weight, then a pause.

    mix: ((op name, weight), ...), the weights add up to 1. An op name is `op` or `service/op`.
    """

    mix: tuple[tuple[str, float], ...]
    think: Dist = ZERO


@dataclass(frozen=True, slots=True)
class Load:
    """A k6 executor (k6 documentation, "Executors").

    executor: constant-vus | ramping-vus | constant-arrival-rate | ramping-arrival-rate.
    stages: ((duration_s, target), ...): the level moves linearly to `target` (virtual users, or
    iterations per time_unit_s) within duration_s. start: the level at time 0. A constant executor
    is one stage with target == start. Rates: max_vus bounds the users; an iteration that finds
    none free is dropped (dropped_iterations).
    """

    name: str
    executor: str
    stages: tuple[tuple[float, float], ...]
    start: float = 0.0
    time_unit_s: float = 1.0
    pre_allocated_vus: int = 0
    max_vus: int = 0
    arrivals: str = "even"  # k6 spaces arrivals evenly; "poisson" is ours
    graceful_stop_s: float = 30.0
    graceful_ramp_down_s: float = 30.0
    flow: tuple[FlowStep, ...] = ()
    client: Client = Client()
    span: Span | None = None

    @property
    def duration_s(self) -> float:
        """The length of all stages together."""
        return sum(d for d, _ in self.stages)


@dataclass(frozen=True, slots=True)
class When:
    """A moment: `offset` after the load's start, or after the first event named `event`."""

    offset: Dist = ZERO
    event: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of design.md's table. do: the verb; target: as written ("gateway[1]").

    lasts None: it is not repaired. args: the verb's own arguments, already checked, as text
    ("cpu": "4.0", "latency": "0.2", "via": "script", ...), numbers in SI units.
    """

    do: str
    target: str
    at: When
    lasts: Dist | None = None
    repeat_times: int = 1
    repeat_every_s: float = 0.0
    between: tuple[str, ...] = ()
    direction: str = "both"
    args: Mapping[str, str] = field(default_factory=dict)
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Threshold:
    """One threshold: `p(99)<1000ms`. limit is in SI units (seconds, fraction, bytes, count).

    aggregate: avg | min | max | med | p | count | rate | value | first. q: the quantile of p,
    0..1 (p(99) is 0.99).
    """

    text: str
    aggregate: str
    operator: str
    limit: float
    q: float = 0.0


def metric_name(metric: str, tags: Iterable[tuple[str, str]]) -> str:
    """A metric as budgets write it: `http_req_failed{window:fault}`."""
    inner = ",".join(f"{k}:{v}" for k, v in tags)
    return f"{metric}{{{inner}}}" if inner else metric


@dataclass(frozen=True, slots=True)
class Budget:
    """One row of a verdict: a metric with tags and one threshold."""

    metric: str
    tags: tuple[tuple[str, str], ...]
    threshold: Threshold
    span: Span | None = None

    @property
    def name(self) -> str:
        """The metric as written: `http_req_failed{window:fault}`."""
        return metric_name(self.metric, self.tags)


@dataclass(frozen=True, slots=True)
class KnownGap:
    """A named budget of a scenario that is excused, with the reason (and until when)."""

    budget: str
    reason: str
    host: str = ""
    until: str = ""
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Objective:
    """What a sweep minimises: `outage_duration{path:publish}.max`, `probe_load.rate`, `cost`.

    The worst of all scenarios counts. aggregate as in a threshold.
    """

    text: str
    metric: str
    tags: tuple[tuple[str, str], ...] = ()
    aggregate: str = "value"
    q: float = 0.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """Settings to try under several scenarios (kind: sweep).

    over: names of scenarios of kind run. knobs: ((knob, its values as text), ...): the grid.
    screen: auto | control-plane | short | none. keep: candidates that go on to full runs of
    `replications` each. require: all-budgets | none. choose: knee | the text of an objective.
    export: folder for the chosen files, or "".
    """

    over: tuple[str, ...]
    knobs: tuple[tuple[str, tuple[str, ...]], ...]
    minimise: tuple[Objective, ...]
    screen: str = "auto"
    keep: int = 12
    replications: int = 8
    require: str = "all-budgets"
    choose: str = "knee"
    export: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much load the stack carries, and what it needs (kind: capacity).

    over: scenarios of kind run whose loads are scaled and whose budgets must hold. lose: hosts
    that may be lost one at a time ("host:*" is each of them), or empty. users: the load to size
    for, 0: as the scenarios say. growth: a load to size for as well, 0: none. at_most: the largest
    factor tried.
    """

    over: tuple[str, ...]
    lose: tuple[str, ...] = ()
    users: float = 0.0
    at_most: float = 16.0
    replications: int = 8
    growth: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario; `each` has already been unrolled into one scenario per host.

    replications 0: the default looks at 40, 80 and 120; otherwise one look at N.
    settings: {knob: value} of `set:`; not empty makes it a study.
    """

    name: str
    doc: str
    load: Load
    faults: tuple[Fault, ...] = ()
    budgets: tuple[Budget, ...] = ()
    steady_state: tuple[Budget, ...] = ()
    known_gaps: tuple[KnownGap, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)
    recover_within_s: float = 120.0
    probe_timeout_s: float = 1.0
    probe_rate: float = 10.0
    replications: int = 0
    coverage: float = 0.90
    confidence: float = 0.95
    kind: str = "run"
    plan: Sweep | Capacity | None = None  # of kind sweep or capacity; they have no load
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """A whole scenarios.yaml. stack: the folder, relative to the file's own folder."""

    path: str
    sha256: str
    stack: str
    seed: int
    scenarios: tuple[Scenario, ...]
