"""The shape of a verdict.json that somebody hands in, as far as anything looks at it."""

from __future__ import annotations

import json
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Form = TypeVar("Form", bound=BaseModel)
SHA256 = r"^[0-9a-f]{64}$"


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class InputForm(_Form):
    path: str = Field(min_length=1)
    sha256: str = Field(pattern=SHA256)


class RunForm(_Form):
    file: str = Field(min_length=1)
    stack: str
    replications: int = Field(ge=0)
    provisional: bool
    code_sha256: str


class RowForm(_Form):
    metric: str
    tags: dict[str, str]
    threshold: str
    observed: float | None
    ci: tuple[float | None, float | None] = Field(strict=False)
    verdict: str
    waived_by: str | None


class CauseForm(_Form):
    text: str
    file: str | None
    line: int | None
    col: int | None
    seconds: float | None
    requests: int


class ScenarioForm(_Form):
    name: str
    verdict: Literal["pass", "fail", "inconclusive", "void", "stale-gap"]
    study: bool
    replications: int
    budgets: list[RowForm]
    causes: list[CauseForm]


class VerdictForm(_Form):
    """verdict.json of schema 1."""

    schema_: Literal[1] = Field(alias="schema")
    hasim: str
    seed: int
    stack_sha256: str = Field(pattern=SHA256)
    inputs: list[InputForm]
    run: RunForm
    scenarios: list[ScenarioForm] = Field(min_length=1)


def read_form(data: bytes, form: type[Form]) -> tuple[dict[str, Any], Form]:
    """JSON as plain dicts, and checked. ValueError, in one line, for anything else."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    try:
        return document, form.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise ValueError(f"{where}: {first['msg']}") from None
