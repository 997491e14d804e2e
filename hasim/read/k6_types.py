"""What a k6 script asks for. Frozen; seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hasim.source import Span


@dataclass(frozen=True, slots=True)
class K6Step:
    """One thing the script does. kind "request": method and path (template parts that cannot be
    known are "{}"), url as far as literal; requests of one http.batch share `batch` > 0.
    kind "sleep": seconds.
    """

    kind: str
    span: Span
    method: str = ""
    url: str = ""
    path: str = ""
    seconds: float = 0.0
    batch: int = 0


@dataclass(frozen=True, slots=True)
class K6Scenario:
    """One scenario; a script with top-level vus, duration, iterations or stages is `default`.

    executor: constant-vus | ramping-vus | constant-arrival-rate | ramping-arrival-rate.
    stages: ((duration_s, target), ...); a constant executor is one stage whose target is `start`.
    rates count iterations per time_unit_s. steps: the requests and sleeps of its function in order.
    """

    name: str
    executor: str
    stages: tuple[tuple[float, float], ...]
    start: float = 0.0
    time_unit_s: float = 1.0
    pre_allocated_vus: int = 0
    max_vus: int = 0
    start_time_s: float = 0.0
    graceful_stop_s: float = 30.0
    graceful_ramp_down_s: float = 30.0
    exec: str = "default"
    steps: tuple[K6Step, ...] = ()
    span: Span | None = None
    where: Mapping[str, Span] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class K6Threshold:
    """One threshold expression of one metric selector (`http_req_duration{op:browse}`)."""

    metric: str
    threshold: str
    abort_on_fail: bool = False
    delay_abort_eval_s: float = 0.0
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class K6Script:
    """What a k6 script asks for."""

    file: str
    scenarios: tuple[K6Scenario, ...] = ()
    thresholds: tuple[K6Threshold, ...] = ()
    functions: Mapping[str, tuple[K6Step, ...]] = field(default_factory=dict)
    where: Mapping[str, Span] = field(default_factory=dict, repr=False)
