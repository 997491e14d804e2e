"""Scenarios of kind sweep and capacity: their shape, and the way to the frozen values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from hasim.budgets import METRICS, parse_metric
from hasim.read.forms import Form
from hasim.scenario import Capacity, Objective, Sweep

Setting = str | int | float | bool
Names = Annotated[list[str], Field(min_length=1)]
COST = "cost"  # an objective that no run measures: cores and memory that the files reserve
_OBJECTIVE = re.compile(r"(.+?)\.(avg|min|max|med|count|rate|value|first|p\(([0-9.]+)\))")


class RangeForm(Form):
    """Values from `from` to `to`, evenly spaced: {from: 500, to: 2000, steps: 4, unit: ms}."""

    from_: float = Field(alias="from", allow_inf_nan=False)
    to: float = Field(allow_inf_nan=False)
    steps: int = Field(ge=2, le=1000)
    unit: str = ""


class MethodForm(Form):
    """How a sweep goes about it."""

    screen: Literal["auto", "control-plane", "short", "none"] = "auto"
    keep: Annotated[int, Field(ge=1, le=10_000)] = 12
    replications: Annotated[int, Field(ge=2, le=100_000)] = 8


class SweepForm(Form):
    """Settings to try under several scenarios."""

    kind: Literal["sweep"]
    doc: str = ""
    over: Names
    knobs: dict[str, Annotated[list[Setting], Field(min_length=1)] | RangeForm] = Field(
        min_length=1
    )
    method: MethodForm = MethodForm()
    require: Literal["all-budgets", "none"] = "all-budgets"
    minimise: Names
    choose: str = "knee"
    export: str = ""


class CapacityForm(Form):
    """How much load the stack carries, and what it needs to carry `users`."""

    kind: Literal["capacity"]
    doc: str = ""
    over: Names
    lose: list[str] = []
    users: float = Field(0, ge=0, le=1e7)
    growth: float = Field(0, ge=0, le=1e7)
    at_most: float = Field(16, gt=1, le=1000)
    replications: int = Field(8, ge=2, le=100_000)


def make_sweep(form: SweepForm, wrong: Callable[..., None]) -> Sweep:
    """The frozen value; `wrong(text, location, hint)` is told of every error."""
    objectives = []
    for i, text in enumerate(form.minimise):
        try:
            objectives.append(parse_objective(text))
        except ValueError as error:
            wrong(str(error), ("minimise", i), "as in outage_duration.max, probe_load.rate, cost")
    if form.choose != "knee" and form.choose not in form.minimise:
        wrong("choose is 'knee' or one of minimise", ("choose",), ", ".join(form.minimise))
    knobs = [(name, _values(form.knobs[name])) for name in form.knobs]
    return Sweep(
        over=tuple(form.over),
        knobs=tuple(knobs),
        minimise=tuple(objectives),
        screen=form.method.screen,
        keep=form.method.keep,
        replications=form.method.replications,
        require=form.require,
        choose=form.choose,
        export=form.export,
    )


def make_capacity(form: CapacityForm) -> Capacity:
    """The frozen value."""
    over, lose = tuple(form.over), tuple(form.lose)
    return Capacity(over, lose, form.users, form.at_most, form.replications, form.growth)


def parse_objective(text: str) -> Objective:
    """`outage_duration{path:publish}.max` and the like; ValueError says what is wrong.

    >>> parse_objective("probe_load.rate")
    Objective(text='probe_load.rate', metric='probe_load', tags=(), aggregate='rate', q=0.0)
    """
    if text == COST:
        return Objective(text, COST)
    match = _OBJECTIVE.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is no metric with an aggregate")
    metric, tags = parse_metric(match[1])
    if metric not in METRICS:
        raise ValueError(f"'{metric}' is no metric")
    q = float(match[3]) / 100 if match[3] else 0.0
    return Objective(text, metric, tags, "p" if match[3] else match[2], q)


def _values(form: list[Setting] | RangeForm) -> tuple[str, ...]:
    if isinstance(form, list):
        return tuple(dict.fromkeys(_text(v) for v in form))
    step = (form.to - form.from_) / (form.steps - 1)
    return tuple(f"{form.from_ + i * step:.6g}{form.unit}" for i in range(form.steps))


def _text(value: Setting) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
