"""What a PromQL expression is made of (the part that hasim.read.prometheus_expr reads).

`at` is a pair of character offsets within the expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

SET_OPS = ("and", "or", "unless")
COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
MAX_REGEX = 1_000
MAX_REPEATS = 8


@dataclass(frozen=True, slots=True)
class Number:
    """A scalar."""

    value: float
    at: tuple[int, int] = field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Time:
    """time(): the moment of the evaluation."""

    at: tuple[int, int] = field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Matcher:
    """label op value; op is = != =~ !~."""

    label: str
    op: str
    value: str
    at: tuple[int, int] = field(default=(0, 0), compare=False)

    def holds(self, value: str) -> bool:
        """Does a label of that value ("" if it is absent) match?"""
        if self.op in ("=", "!="):
            return (value == self.value) == (self.op == "=")
        found = re.fullmatch(self.value, value, re.ASCII) is not None
        return found == (self.op == "=~")


@dataclass(frozen=True, slots=True)
class Selector:
    """The latest sample of every series of that name that the matchers choose."""

    name: str
    matchers: tuple[Matcher, ...] = ()
    at: tuple[int, int] = field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """absent(arg) | vector(arg) | -arg (name "-")."""

    name: str
    arg: Expr
    at: tuple[int, int] = field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """op by (labels) (arg), or op without (labels) (arg)."""

    op: str
    arg: Expr
    labels: tuple[str, ...] = ()
    without: bool = False
    at: tuple[int, int] = field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Binary:
    """left op right. labels: of on() or, if not on, of ignoring()."""

    op: str
    left: Expr
    right: Expr
    as_bool: bool = False
    on: bool = False
    labels: tuple[str, ...] = ()
    at: tuple[int, int] = field(default=(0, 0), compare=False)


Expr = Number | Time | Selector | Call | Aggregate | Binary


class ExprError(Exception):
    """What is wrong, and the characters [start, end) of the expression that it is about."""

    def __init__(self, message: str, at: tuple[int, int], hint: str = ""):
        super().__init__(message)
        self.message, self.at, self.hint = message, at, hint


def is_scalar(expr: Expr) -> bool:
    """A number without labels (else a vector)."""
    if isinstance(expr, Binary):
        return is_scalar(expr.left) and is_scalar(expr.right)
    if isinstance(expr, Call) and expr.name == "-":
        return is_scalar(expr.arg)
    return isinstance(expr, Number | Time)


def selectors(expr: Expr) -> Iterator[Selector]:
    """Every selector of an expression, from left to right."""
    if isinstance(expr, Selector):
        yield expr
    elif isinstance(expr, Call | Aggregate):
        yield from selectors(expr.arg)
    elif isinstance(expr, Binary):
        yield from selectors(expr.left)
        yield from selectors(expr.right)


def check_regex(text: str, at: tuple[int, int]) -> None:
    """Only what RE2 and Python read alike, and what cannot take long on a short text."""
    from re import _constants as codes  # type: ignore[attr-defined]
    from re import _parser  # type: ignore[attr-defined]

    if len(text) > MAX_REGEX:
        raise ExprError(f"a regular expression of more than {MAX_REGEX} characters", at)
    try:
        tree = _parser.parse(text, re.ASCII)
        re.compile(text, re.ASCII)
    except (re.error, RecursionError, OverflowError) as error:
        raise ExprError(f"cannot read the regular expression: {error}", at) from None
    single = (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN)
    repeats = (codes.MAX_REPEAT, codes.MIN_REPEAT)
    seen = 0
    todo = [tree]
    while todo:
        for op, value in todo.pop():
            if op in repeats:
                seen += 1
                if len(value[2]) != 1 or value[2][0][0] not in single:
                    raise ExprError(
                        "a repeated group in a regular expression is not in this version", at
                    )
            elif op is codes.BRANCH:
                todo += value[1]
            elif op is codes.SUBPATTERN:
                todo.append(value[-1])
            elif op not in (*single, codes.AT):
                raise ExprError("this regular expression is not in this version", at)
    if seen > MAX_REPEATS:
        raise ExprError(f"more than {MAX_REPEATS} repetitions in a regular expression", at)
