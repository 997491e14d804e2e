"""The shape of scenarios.yaml: pydantic types, and the JSON Schema that editors use."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from hasim.read.forms import DistField, Duration, Form, Share
from hasim.read.plan_forms import CapacityForm, SweepForm
from hasim.read.scenario_faults import FaultForm


class StageForm(Form):
    """One stage of a ramp: the level moves linearly to `target` within `duration`."""

    duration: Duration
    target: float = Field(ge=0, le=1e7, allow_inf_nan=False)


class ClientForm(Form):
    """How one kind of user behaves; what is not stated follows from the kind."""

    kind: Literal["k6", "browser", "pooled-library", "one-shot"] = "k6"
    timeout: Duration | None = None
    connect_timeout: Duration | None = None
    keep_alive: bool | None = None
    replay: bool | None = None
    retries: int = Field(0, ge=0, le=1000)
    backoff: Duration = 0.0
    jitter: Share = 0.0


def _by_type(value: Any) -> str:
    return "text" if isinstance(value, str) else "map"


ClientField = Annotated[
    Annotated[Literal["k6", "browser", "pooled-library", "one-shot"], Tag("text")]
    | Annotated[ClientForm, Tag("map")],
    Discriminator(_by_type),
]
Level = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
Users = Annotated[int, Field(ge=0, le=10_000_000)]


class LoadForm(Form):
    """A k6 executor, or a scenario of a real k6 script with what it cannot say."""

    from_: str = Field("", alias="from")
    scenario: str = ""
    executor: (
        Literal["constant-vus", "ramping-vus", "constant-arrival-rate", "ramping-arrival-rate"]
        | None
    ) = None
    vus: Users | None = None
    startVUs: Users | None = None  # noqa: N815 - k6's own spelling
    rate: Level | None = None
    startRate: Level | None = None  # noqa: N815
    timeUnit: Duration | None = None  # noqa: N815
    duration: Duration | None = None
    stages: list[StageForm] | None = None
    preAllocatedVUs: Users | None = None  # noqa: N815
    maxVUs: Users | None = None  # noqa: N815
    arrivals: Literal["even", "poisson"] | None = None
    gracefulStop: Duration | None = None  # noqa: N815
    gracefulRampDown: Duration | None = None  # noqa: N815
    think_time: DistField | None = None
    mix: dict[str, Share] | None = None
    client: ClientField | None = None


LoadField = Annotated[
    Annotated[str, Tag("text")] | Annotated[LoadForm, Tag("map")], Discriminator(_by_type)
]


class LongThreshold(Form):
    """k6's long form of a threshold."""

    threshold: str
    abort_on_fail: bool = Field(False, alias="abortOnFail")
    delay_abort_eval: Duration = Field(0.0, alias="delayAbortEval")


ThresholdField = Annotated[
    Annotated[str, Tag("text")] | Annotated[LongThreshold, Tag("map")], Discriminator(_by_type)
]
# metric{tags} -> thresholds, or `from` -> the k6 script whose thresholds are taken over
BudgetMap = dict[
    str,
    Annotated[
        Annotated[str, Tag("text")] | Annotated[list[ThresholdField], Tag("map")],
        Discriminator(_by_type),
    ],
]
BudgetField = Annotated[
    Annotated[str, Tag("text")] | Annotated[BudgetMap, Tag("map")], Discriminator(_by_type)
]


class GapForm(Form):
    """A budget that is known to break, with the reason."""

    budget: str
    reason: str = Field(min_length=1)
    host: str = ""
    until: str = Field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")


class Judging(Form):
    """What may stand at the top of the file and be overridden by one scenario."""

    replications: int | None = Field(None, ge=1, le=100_000)
    confidence: Share | None = None
    coverage: Share | None = None
    recover_within: Duration | None = None
    probe_timeout: Duration | None = None
    steady_state: BudgetField | None = None


class ScenarioForm(Judging):
    """One scenario of kind `run`."""

    kind: Literal["run"] = "run"
    doc: str = ""
    load: LoadField
    faults: list[FaultForm] = []
    each: str = ""
    budgets: BudgetField | None = None
    known_gaps: list[GapForm] = []
    set_: dict[str, str | int | float | bool] = Field({}, alias="set")
    phases: dict[str, Annotated[float, Field(ge=0, lt=1)]] = {}


class LaterForm(Form):
    """A scenario of a kind that this version does not run; its keys are not looked at."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: Literal["availability"]


def _by_kind(value: Any) -> str:
    kind = value.get("kind", "run") if isinstance(value, dict) else "run"
    return kind if kind in ("sweep", "capacity", "availability") else "run"


class FileForm(Judging):
    """The whole scenarios.yaml."""

    version: Literal[1] = 1
    stack: str
    seed: int = Field(1, ge=0, lt=2**63)
    loads: dict[str, LoadForm] = {}
    budgets: dict[str, BudgetMap] = {}
    scenarios: dict[
        str,
        Annotated[
            Annotated[ScenarioForm, Tag("run")]
            | Annotated[SweepForm, Tag("sweep")]
            | Annotated[CapacityForm, Tag("capacity")]
            | Annotated[LaterForm, Tag("availability")],
            Discriminator(_by_kind),
        ],
    ] = Field(min_length=1)


def schema() -> dict[str, Any]:
    """The JSON Schema of scenarios.yaml."""
    made = FileForm.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | made
