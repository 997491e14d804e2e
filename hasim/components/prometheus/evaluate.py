"""The value of an expression at one moment.

Read beside Prometheus' promql/engine.go (2.42): VectorBinop, VectorAnd, VectorOr, VectorUnless,
VectorscalarBinop, aggregation; promql/functions.go: funcAbsent, createLabelsForAbsentFunction.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Protocol

from hasim.read.prometheus_ast import (
    COMPARISONS,
    SET_OPS,
    Aggregate,
    Binary,
    Call,
    Expr,
    Matcher,
    Number,
    Selector,
    Time,
    is_scalar,
)

NAME = "__name__"
Labels = tuple[tuple[str, str], ...]  # sorted by name; NAME is one of them
Vector = list[tuple[Labels, float]]


class Samples(Protocol):
    """What was scraped."""

    def latest(self, name: str, at_s: float) -> Iterable[tuple[Labels, float]]:
        """The samples of a metric that are in force at the moment."""
        ...


class EvaluationError(Exception):
    """The rule cannot be evaluated on these samples; Prometheus leaves its alerts as they are."""


def evaluate(expr: Expr, samples: Samples, at_s: float) -> Vector:
    """The vector that an expression has at the moment; a number is one sample without labels."""
    if is_scalar(expr):
        return [((), _number(expr, at_s))]
    return _vector(expr, samples, at_s)


def _vector(expr: Expr, samples: Samples, at_s: float) -> Vector:
    if isinstance(expr, Selector):
        return [
            (labels, value)
            for labels, value in samples.latest(expr.name, at_s)
            if matches(expr.matchers, labels)
        ]
    if isinstance(expr, Call):
        return _call(expr, samples, at_s)
    if isinstance(expr, Aggregate):
        return _aggregate(expr, _vector(expr.arg, samples, at_s))
    if isinstance(expr, Binary):
        return _binary(expr, samples, at_s)
    raise AssertionError(expr)


def matches(matchers: Iterable[Matcher], labels: Labels) -> bool:
    """Do the labels of a series satisfy every matcher?"""
    have = dict(labels)
    return all(m.holds(have.get(m.label, "")) for m in matchers)


def _number(expr: Expr, at_s: float) -> float:
    if isinstance(expr, Number):
        return expr.value
    if isinstance(expr, Time):
        return at_s
    if isinstance(expr, Call):
        return -_number(expr.arg, at_s)
    assert isinstance(expr, Binary)
    left, right = _number(expr.left, at_s), _number(expr.right, at_s)
    if expr.op in COMPARISONS:
        return float(COMPARE[expr.op](left, right))
    return ARITHMETIC[expr.op](left, right)


def _call(expr: Call, samples: Samples, at_s: float) -> Vector:
    if expr.name == "vector":
        return [((), _number(expr.arg, at_s))]
    found = _vector(expr.arg, samples, at_s)
    if expr.name == "-":
        return _distinct([(without_name(labels), -value) for labels, value in found])
    if found:
        return []
    return [(absent_labels(expr.arg), 1.0)]


def absent_labels(expr: Expr) -> Labels:
    """absent() invents the labels that its selector fixes by exactly one `=`."""
    if not isinstance(expr, Selector):
        return ()
    names = [m.label for m in expr.matchers]
    fixed = [(m.label, m.value) for m in expr.matchers if m.op == "=" and m.value]
    return tuple(sorted((k, v) for k, v in fixed if names.count(k) == 1))


def _aggregate(expr: Aggregate, found: Vector) -> Vector:
    groups: dict[Labels, list[float]] = {}
    for labels, value in found:
        if expr.without:
            kept = tuple(p for p in labels if p[0] not in expr.labels and p[0] != NAME)
        else:
            kept = tuple(p for p in labels if p[0] in expr.labels)
        groups.setdefault(kept, []).append(value)
    return [(labels, _AGGREGATE[expr.op](values)) for labels, values in groups.items()]


def _least(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return min(known) if known else math.nan


def _most(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return max(known) if known else math.nan


_AGGREGATE: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "min": _least,
    "max": _most,
    "avg": lambda values: sum(values) / len(values),
    "count": lambda values: float(len(values)),
}


def _binary(expr: Binary, samples: Samples, at_s: float) -> Vector:
    if is_scalar(expr.left) or is_scalar(expr.right):
        return _with_number(expr, samples, at_s)
    left, right = (_vector(e, samples, at_s) for e in (expr.left, expr.right))
    if expr.op in SET_OPS:
        return _joined(expr, left, right)
    return _one_to_one(expr, left, right)


def _with_number(expr: Binary, samples: Samples, at_s: float) -> Vector:
    """A vector with a number on either side; a comparison keeps the samples that hold."""
    swapped = is_scalar(expr.left)
    number = _number(expr.left if swapped else expr.right, at_s)
    out: Vector = []
    for labels, value in _vector(expr.right if swapped else expr.left, samples, at_s):
        a, b = (number, value) if swapped else (value, number)
        if expr.op not in COMPARISONS:
            out.append((without_name(labels), ARITHMETIC[expr.op](a, b)))
        elif expr.as_bool:
            out.append((without_name(labels), float(COMPARE[expr.op](a, b))))
        elif COMPARE[expr.op](a, b):
            out.append((labels, value))
    return _distinct(out)


def signature(expr: Binary, labels: Labels) -> Labels:
    """The labels that must be equal on both sides."""
    if expr.on:
        return tuple(p for p in labels if p[0] in expr.labels)
    return tuple(p for p in labels if p[0] != NAME and p[0] not in expr.labels)


def _joined(expr: Binary, left: Vector, right: Vector) -> Vector:
    there = {signature(expr, labels) for labels, _ in right}
    if expr.op == "and":
        return [p for p in left if signature(expr, p[0]) in there]
    if expr.op == "unless":
        return [p for p in left if signature(expr, p[0]) not in there]
    here = {signature(expr, labels) for labels, _ in left}
    return _distinct([*left, *(p for p in right if signature(expr, p[0]) not in here)])


def _one_to_one(expr: Binary, left: Vector, right: Vector) -> Vector:
    there: dict[Labels, float] = {}
    for labels, value in right:
        key = signature(expr, labels)
        if key in there:
            raise EvaluationError("found duplicate series for the match group")
        there[key] = value
    out: Vector = []
    used = set()
    for labels, value in left:
        key = signature(expr, labels)
        if key not in there:
            continue
        kept, result = _result(expr, value, there[key])
        if kept:
            if key in used:
                raise EvaluationError("multiple matches for labels: many-to-one matching")
            used.add(key)
            out.append((_result_labels(expr, labels), result))
    return out


def _result(expr: Binary, a: float, b: float) -> tuple[bool, float]:
    if expr.op not in COMPARISONS:
        return True, ARITHMETIC[expr.op](a, b)
    holds = COMPARE[expr.op](a, b)
    return (True, float(holds)) if expr.as_bool else (holds, a)


def _result_labels(expr: Binary, labels: Labels) -> Labels:
    """resultMetric(): on() keeps its labels only, ignoring() drops its own."""
    if expr.op not in COMPARISONS or expr.as_bool:
        labels = without_name(labels)
    if expr.on:
        return tuple(p for p in labels if p[0] in expr.labels)
    return tuple(p for p in labels if p[0] not in expr.labels)


def without_name(labels: Labels) -> Labels:
    """What is left once a value is no longer that of the metric."""
    return tuple(p for p in labels if p[0] != NAME)


def _distinct(found: Vector) -> Vector:
    if len({labels for labels, _ in found}) != len(found):
        raise EvaluationError("vector cannot contain metrics with the same labelset")
    return found


def _divide(a: float, b: float) -> float:
    if b:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def _modulo(a: float, b: float) -> float:
    return math.fmod(a, b) if b and math.isfinite(a) else math.nan


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return math.copysign(math.inf, a) if b % 2 == 1 else math.inf
    except ValueError:  # 0 to a negative power, or a root of a negative number
        return math.nan if a else math.inf


ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "%": _modulo,
    "^": _power,
}
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
