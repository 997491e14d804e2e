"""What the readers of hasim's own files share: text types for pydantic, and errors with places.

A Form is a pydantic model that refuses unknown keys. `validate` turns every pydantic error into
a Finding at the place in the YAML file where the wrong key or value stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from pydantic import model_validator as _model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from hasim.errors import Finding, did_you_mean
from hasim.model import Dist
from hasim.read.yaml12 import Node
from hasim.source import Span
from hasim.units import parse_duration_s, parse_fraction, parse_size_bytes

CODE = "HA104"
Loc = tuple[str | int, ...]


class FormError(ValueError):
    """A wrong value; `path` leads from the field to the part that is wrong."""

    def __init__(self, message: str, *path: str | int):
        super().__init__(message)
        self.path = path


class Form(BaseModel):
    """Base of every form: frozen, unknown keys are errors that say what was meant."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @_model_validator(mode="wrap")
    @classmethod
    def _name_known_keys(cls, value: Any, handler: Any) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            known = [f.alias or name for name, f in cls.model_fields.items()]
            raise ValidationError.from_exception_data(
                cls.__name__, [_with_hint(e, known) for e in error.errors(include_url=False)]
            ) from None


def _with_hint(error: Any, known: Sequence[str]) -> InitErrorDetails:
    """The same error in the user's words; pydantic passes through here once per level."""
    ctx = dict(error.get("ctx", {}))
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        key = str(error["loc"][0])
        hint = did_you_mean(key, known) or f"known keys: {', '.join(known)}"
        kind, ctx = "unknown_key", {"text": f"unknown key '{key}'", "hint": hint}
    elif error["type"] == "value_error":
        inner = ctx["error"]
        kind, ctx = "wrong_value", {"text": str(inner), "path": getattr(inner, "path", ())}
    else:
        kind = error["type"]
        words = _WORDS.get(kind)
        if kind == "literal_error" and not re.search(r"(, | or )", ctx["expected"]):
            words = "only {expected} is possible here"
        ctx.setdefault("text", words.format_map(ctx) if words else error["msg"])
    custom = PydanticCustomError(kind, "{text}", ctx)
    return InitErrorDetails(type=custom, loc=error["loc"], input=error["input"])


_WORDS = {
    "dict_type": "a map (key: value) is needed here",
    "model_type": "a map (key: value) is needed here",
    "model_attributes_type": "a map (key: value) is needed here",
    "list_type": "a list is needed here",
    "tuple_type": "a list is needed here",
    "string_type": "a text is needed here",
    "bool_type": "true or false is needed here",
    "bool_parsing": "true or false is needed here",
    "int_type": "a whole number is needed here",
    "int_parsing": "a whole number is needed here",
    "int_from_float": "a whole number is needed here",
    "float_type": "a number is needed here",
    "float_parsing": "a number is needed here",
    "finite_number": "a finite number is needed here",
    "greater_than_equal": "at least {ge} is needed here",
    "less_than_equal": "at most {le} is possible here",
    "less_than": "less than {lt} is needed here",
    "literal_error": "one of {expected} is needed here",
    "too_short": "this is too short",
    "string_too_short": "a text is needed here",
    "too_long": "this is too long",
    "string_pattern_mismatch": "a text like {pattern} is needed here",
}


F = TypeVar("F", bound=BaseModel)


def validate(form: type[F], value: Any, node: Node, at: Loc = ()) -> tuple[F | None, list[Finding]]:
    """The form filled from `value` (plain data of `node`), and a Finding for every error."""
    try:
        return form.model_validate(value), []
    except ValidationError as error:
        return None, [_finding(e, node, at) for e in error.errors(include_url=False)]


def _finding(error: Any, node: Node, at: Loc) -> Finding:
    ctx = error["ctx"]
    loc = (*at, *error["loc"], *ctx.get("path", ()))
    if loc[-1:] == ("[key]",):  # pydantic's way to say that the key itself is wrong
        return problem(f"'{loc[-2]}': {ctx['text']}", place(node, loc[:-1], key=True))
    if error["type"] == "missing":
        return problem(f"key '{loc[-1]}' is missing", place(node, loc[:-1]))
    unknown = error["type"] == "unknown_key"
    return problem(ctx["text"], place(node, loc, key=unknown), ctx.get("hint", ""))


def problem(message: str, span: Span | None, hint: str = "") -> Finding:
    """An error in one of hasim's own files."""
    return Finding("error", CODE, message, span, hint)


def place(node: Node, loc: Iterable[str | int], key: bool = False) -> Span:
    """Where `loc` is written; parts that the file does not have are passed over.

    key=True: the place of the last key itself instead of its value.
    """
    span = node.span
    for part in loc:
        if node.kind == "map" and isinstance(part, str):
            value, name = node.get(part), node.key(part)
            if value is None:
                continue
            span = name.span if key and name is not None else value.span
            node = value
        elif node.kind == "seq" and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            span = node.span
    return span


# ---- values ------------------------------------------------------------------------------------


def seconds(value: Any, *path: str | int, zero: bool = True) -> float:
    """A duration such as 5m; FormError otherwise."""
    try:
        return parse_duration_s(_text(value, "duration"), "yaml", zero=zero)
    except ValueError as error:
        raise FormError(str(error), *path) from None


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, (list, dict)):
        raise ValueError(f"a {what} is needed here")
    return str(value)


def share(value: Any, *path: str | int) -> float:
    """A share such as 5% or 0.05."""
    try:
        return parse_fraction(_text(value, "share"))
    except ValueError as error:
        raise FormError(str(error), *path) from None


def size(value: Any) -> int:
    """A size such as 16GiB."""
    return parse_size_bytes(_text(value, "size"), "yaml", zero=True)


def dist(value: Any) -> Dist:
    """A duration or a distribution of durations.

    `5ms` · `{exp: 1s}` · `{uniform: [1s, 2s]}` · `{lognormal: {median: 1s, p95: 4s}}` ·
    `{p50: 4ms, p99: 12ms}` (lognormal through two quantiles) · `{quantiles: {p0: 1ms, p100: 9ms}}`
    · `{hyperexp: [[90%, 1ms], [10%, 50ms]]}`.
    """
    if not isinstance(value, Mapping):
        return Dist("const", seconds(value))
    if value and all(_quantile(k) is not None for k in value):
        return _lognormal(value)
    if len(value) != 1 or next(iter(value)) not in _KINDS:
        words = ", ".join(_KINDS)
        raise FormError(f"a duration or one of {words} or two quantiles (p50, p99) is needed here")
    kind, inner = next(iter(value.items()))
    return _KINDS[kind](inner)


def _exp(inner: Any) -> Dist:
    return Dist("exp", seconds(inner, "exp", zero=False))


def _uniform(inner: Any) -> Dist:
    if not isinstance(inner, list) or len(inner) != 2:
        raise FormError("uniform needs two durations: [1s, 2s]", "uniform")
    low, high = (seconds(v, "uniform", i) for i, v in enumerate(inner))
    if low > high:
        raise FormError("the first duration of uniform is the longer one", "uniform")
    return Dist("uniform", low, high)


def _named_lognormal(inner: Any) -> Dist:
    if not isinstance(inner, Mapping) or "median" not in inner:
        raise FormError("lognormal needs {median: 1s, p95: 4s}", "lognormal")
    return _lognormal({("p50" if k == "median" else k): v for k, v in inner.items()}, "lognormal")


def _lognormal(inner: Mapping[str, Any], *path: str | int) -> Dist:
    """The lognormal distribution through two quantiles."""
    points = []
    for name, value in inner.items():
        q = _quantile(name)
        if q is None or not 0 < q < 1:
            raise FormError(f"'{name}' is not a quantile between p0 and p100", *path, name)
        points.append((q, seconds(value, *path, name, zero=False)))
    if len(points) != 2:
        raise FormError("exactly two quantiles are needed; for more write quantiles:", *path)
    (p, low), (q, high) = sorted(points)
    if low >= high:
        raise FormError("the higher quantile must be the longer duration", *path)
    z = NormalDist().inv_cdf
    sigma = math.log(high / low) / (z(q) - z(p))
    median = low if p == 0.5 else math.exp(math.log(low) - sigma * z(p))
    return Dist("lognormal", median, sigma)


def _quantiles(inner: Any) -> Dist:
    if not isinstance(inner, Mapping):
        raise FormError("quantiles needs {p0: 1ms, p50: 4ms, p100: 90ms}", "quantiles")
    table = []
    for name, value in inner.items():
        q = _quantile(name)
        if q is None:
            raise FormError(f"'{name}' is not a quantile", "quantiles", name)
        table.append((q, seconds(value, "quantiles", name)))
    table.sort()
    if len(table) < 2 or table[0][0] != 0 or table[-1][0] != 1:
        raise FormError("quantiles must begin with p0 and end with p100", "quantiles")
    if any(a[1] > b[1] for a, b in zip(table, table[1:], strict=False)):
        raise FormError("a higher quantile must not be a shorter duration", "quantiles")
    return Dist("quantiles", table=tuple(table))


def _hyperexp(inner: Any) -> Dist:
    if not isinstance(inner, list) or not inner:
        raise FormError("hyperexp needs [[90%, 1ms], [10%, 50ms]]", "hyperexp")
    table = []
    for i, row in enumerate(inner):
        if not isinstance(row, list) or len(row) != 2:
            raise FormError("each row of hyperexp is [share, mean]", "hyperexp", i)
        mean = seconds(row[1], "hyperexp", i, 1, zero=False)
        table.append((share(row[0], "hyperexp", i, 0), mean))
    total = sum(w for w, _ in table)
    if abs(total - 1) > 1e-9:
        raise FormError(f"the shares add up to {total:.4g}, not 1", "hyperexp")
    return Dist("hyperexp", table=tuple(table))


_KINDS = {
    "exp": _exp,
    "uniform": _uniform,
    "lognormal": _named_lognormal,
    "quantiles": _quantiles,
    "hyperexp": _hyperexp,
}


def _quantile(name: Any) -> float | None:
    """0.99 for "p99", None for anything else."""
    digits = name[1:] if isinstance(name, str) and name[:1] == "p" else ""
    if not digits.replace(".", "", 1).isascii() or not digits.replace(".", "", 1).isdigit():
        return None
    q = float(digits) / 100
    return q if q <= 1 else None


_DURATION_TEXT = {"type": "string", "examples": ["500ms", "5m", "1m30s"]}
_DIST_FORMS = {k: {"type": "object", "required": [k]} for k in _KINDS}
Duration = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema(_DURATION_TEXT | {"description": "a duration with its unit"}),
]
DurationOrNone = Annotated[
    float,
    BeforeValidator(lambda v: math.inf if v == "none" else seconds(v)),
    WithJsonSchema(_DURATION_TEXT | {"description": "a duration with its unit, or none"}),
]
Share = Annotated[
    float,
    BeforeValidator(share),
    WithJsonSchema({"type": ["string", "number"], "examples": ["5%", 0.05]}),
]
Size = Annotated[
    int,
    BeforeValidator(size),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["512MiB", "16GiB"]}),
]
DistField = Annotated[
    Dist,
    BeforeValidator(dist),
    WithJsonSchema(
        {
            "description": "a duration or a distribution of durations",
            "anyOf": [_DURATION_TEXT, *_DIST_FORMS.values(), {"type": "object"}],
        }
    ),
]
