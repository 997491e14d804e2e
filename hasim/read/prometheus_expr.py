"""The part of PromQL that alerting rules of a stack need: instant vectors, compared and joined.

    expr    = expr op [bool] [on|ignoring (labels)] expr | - expr | ( expr ) | number
            | time() | absent(expr) | vector(expr)
            | sum|min|max|avg|count [by|without (labels)] (expr)
            | name{label="value", label!="v", label=~"regex", label!~"regex"}
    op      = + - * / % ^ == != > < >= <= and or unless     (binding as in PromQL)

Everything else of PromQL (ranges, rate(), offset, subqueries, group_left...) is a clear error.
Source: Prometheus documentation, "Querying basics", "Operators", "Functions"; promql/parser.
"""

from __future__ import annotations

import re

from hasim.read.prometheus_ast import (
    COMPARISONS,
    SET_OPS,
    Aggregate,
    Binary,
    Call,
    Expr,
    ExprError,
    Matcher,
    Number,
    Selector,
    Time,
    check_regex,
    is_scalar,
)

# How tightly operators bind; ^ groups from the right. Source: documentation, "Binary operator
# precedence".
BINDS = {
    "or": 1, "and": 2, "unless": 2, **dict.fromkeys(COMPARISONS, 3), "+": 4, "-": 4,
    "*": 5, "/": 5, "%": 5, "^": 6,
}  # fmt: skip
AGGREGATES = ("sum", "min", "max", "avg", "count")
LATER = {  # known to Prometheus, not here
    "stddev", "stdvar", "topk", "bottomk", "quantile", "count_values", "group", "rate", "irate",
    "increase", "delta", "idelta", "deriv", "changes", "resets", "avg_over_time", "min_over_time",
    "max_over_time", "sum_over_time", "count_over_time", "last_over_time", "present_over_time",
    "quantile_over_time", "absent_over_time", "histogram_quantile", "label_replace", "label_join",
    "predict_linear", "holt_winters", "abs", "ceil", "floor", "round", "clamp", "clamp_min",
    "clamp_max", "sort", "sort_desc", "scalar", "timestamp", "sgn", "sqrt", "exp", "ln", "log2",
    "log10", "hour", "minute", "month", "year", "day_of_month", "day_of_week", "days_in_month",
}  # fmt: skip
MAX_CHARS = 10_000
MAX_DEPTH = 50


def parse_expr(text: str) -> Expr:
    """The expression, or ExprError for what is wrong or not in this version."""
    if len(text) > MAX_CHARS:
        raise ExprError(f"an expression of more than {MAX_CHARS} characters", (0, 0))
    parser = _Parser(text)
    expr = parser.binary(1)
    if parser.word:
        parser.refuse()
    return expr


_TOKEN = re.compile(
    r"""(?:
      (?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
    | (?P<duration>[0-9]+(?:ms|[smhdwy])(?:[0-9]+(?:ms|[smhdwy]))*(?![A-Za-z0-9_]))
    | (?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    | (?P<op>=~|!~|==|!=|>=|<=|[-+*/%^()\[\]{},=<>@:])
    | (?P<other>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(r"(?:\s+|#[^\n]*)*")


class _Parser:
    """One token ahead: kind, word (as written, "" at the end) and at (its characters)."""

    def __init__(self, text: str):
        self.text, self.depth, self.next_at = text, 0, 0
        self.kind, self.word, self.at = "", "", (0, 0)
        self.advance()

    def advance(self) -> str:
        """Go to the next token; the word that was left behind."""
        left = self.word
        blank = _BLANK.match(self.text, self.next_at)
        found = _TOKEN.match(self.text, blank.end() if blank else 0)
        if not found:
            end = len(self.text)
            self.kind, self.word, self.at = "end", "", (end, end)
            return left
        self.kind, self.word, self.at = found.lastgroup or "", found[0], found.span()
        self.next_at = found.end()
        return left

    def refuse(self, message: str = "", hint: str = "") -> None:
        """An error about the token at hand."""
        what = f"'{self.word[:40]}'" if self.word else "the end of the expression"
        raise ExprError(message or self._unexpected(what), self.at, hint)

    def _unexpected(self, what: str) -> str:
        if self.word == "[":
            return "ranges ([5m]) are not in this version"
        if self.word == "@" or self.word.lower() == "offset":
            return f"{what} is not in this version"
        if self.kind == "duration":
            return f"a duration ({what}) is not allowed here: seconds are written as a number"
        return f"unexpected {what}"

    def expect(self, word: str) -> None:
        if self.word != word:
            what = f"'{self.word[:40]}'" if self.word else "the end of the expression"
            later = self.word in ("[", "@") or self.word.lower() == "offset"
            self.refuse("" if later else f"'{word}' is needed here, not {what}")
        self.advance()

    # ---- expressions -------------------------------------------------------------------------
    def binary(self, least: int) -> Expr:
        """An expression of operators that bind at least so tightly."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.refuse(f"nested deeper than {MAX_DEPTH} levels")
        left = self.unary()
        while True:
            op = self.word.lower() if self.kind in ("name", "op") else ""
            binds = BINDS.get(op, 0)
            if binds < max(least, 1):
                break
            left = self._operation(left, op, binds)
        self.depth -= 1
        return left

    def _operation(self, left: Expr, op: str, binds: int) -> Expr:
        at = self.at
        self.advance()
        as_bool = self.kind == "name" and self.word.lower() == "bool"
        if as_bool:
            if op not in COMPARISONS:
                self.refuse("'bool' goes with a comparison only")
            self.advance()
        on, labels = self._matching()
        right = self.binary(binds if op == "^" else binds + 1)
        made = Binary(op, left, right, as_bool, on, labels, at)
        _check_types(made, on or bool(labels))
        return made

    def _matching(self) -> tuple[bool, tuple[str, ...]]:
        word = self.word.lower() if self.kind == "name" else ""
        if word not in ("on", "ignoring"):
            return False, ()
        self.advance()
        labels = self.labels()
        if self.kind == "name" and self.word.lower() in ("group_left", "group_right"):
            self.refuse(f"'{self.word}' is not in this version")
        return word == "on", labels

    def unary(self) -> Expr:
        """Signs bind as * and / do."""
        if self.kind == "op" and self.word in ("-", "+"):
            at, sign = self.at, self.advance()
            arg = self.binary(BINDS["^"])
            if sign == "+":
                return arg
            return Number(-arg.value, at) if isinstance(arg, Number) else Call("-", arg, at)
        return self.primary()

    def primary(self) -> Expr:
        if self.kind == "number":
            at = self.at
            return self._with_nothing_after(Number(_number(self.advance()), at))
        if self.word == "(":
            self.advance()
            inner = self.binary(1)
            self.expect(")")
            return self._with_nothing_after(inner)
        if self.kind == "name":
            return self._with_nothing_after(self._named())
        if self.word == "{":
            self.refuse("a selector needs the name of a metric before '{'")
        if self.kind == "string":
            self.refuse("an expression of text is no alert")
        self.refuse()
        raise AssertionError  # refuse never returns

    def _with_nothing_after(self, expr: Expr) -> Expr:
        if self.word in ("[", "@") or (self.kind == "name" and self.word.lower() == "offset"):
            self.refuse()
        return expr

    def _named(self) -> Expr:
        name, at = self.word, self.at
        self.advance()
        low = name.lower()
        if low in ("inf", "nan"):
            return Number(float(low), at)
        clause = self.kind == "name" and self.word.lower() in ("by", "without")
        if low in AGGREGATES and (clause or self.word == "("):
            return self._aggregate(low, at)
        if self.word == "(":
            return self._call(name, at)
        if low in BINDS or low in ("by", "without", "on", "ignoring", "bool", "offset"):
            raise ExprError(f"unexpected '{name}'", at)
        if low in LATER and clause:
            raise ExprError(f"{name} is not in this version", at)
        return self._selector(name, at)

    def _call(self, name: str, at: tuple[int, int]) -> Expr:
        if name not in ("time", "absent", "vector"):
            known = name.lower() in LATER
            why = "is not in this version" if known else "is no function of PromQL"
            raise ExprError(f"{name}() {why}", at)
        self.advance()
        if name == "time":
            self.expect(")")
            return Time(at)
        arg = self.binary(1)
        if is_scalar(arg) != (name == "vector"):
            kind = "a number" if name == "vector" else "a vector"
            raise ExprError(f"{name}() needs {kind}", at)
        self.expect(")")
        return Call(name, arg, at)

    def _aggregate(self, op: str, at: tuple[int, int]) -> Expr:
        clause, labels = self._grouping()
        self.expect("(")
        arg = self.binary(1)
        if is_scalar(arg):
            raise ExprError(f"{op}() needs a vector", at)
        self.expect(")")
        if not clause:
            clause, labels = self._grouping()
        return Aggregate(op, arg, labels, clause == "without", at)

    def _grouping(self) -> tuple[str, tuple[str, ...]]:
        word = self.word.lower() if self.kind == "name" else ""
        if word not in ("by", "without"):
            return "", ()
        self.advance()
        return word, self.labels()

    def labels(self) -> tuple[str, ...]:
        """( a, b ): names of labels."""
        self.expect("(")
        out = []
        while self.word != ")":
            if self.kind != "name" or ":" in self.word:
                self.refuse(f"the name of a label is needed here, not '{self.word[:40]}'")
            out.append(self.advance())
            if self.word != ")":
                self.expect(",")
        self.advance()
        return tuple(out)

    def _selector(self, name: str, at: tuple[int, int]) -> Selector:
        if self.word != "{":
            return Selector(name, (), at)
        self.advance()
        out = []
        while self.word != "}":
            out.append(self._matcher())
            if self.word != "}":
                self.expect(",")
        self.advance()
        return Selector(name, tuple(out), at)

    def _matcher(self) -> Matcher:
        if self.kind != "name" or ":" in self.word:
            self.refuse(f"the name of a label is needed here, not '{self.word[:40]}'")
        at, label = self.at, self.advance()
        if label == "__name__":
            raise ExprError("the metric's name is set twice", at)
        op = self.word
        if op not in ("=", "!=", "=~", "!~"):
            hint = 'write label="value"' if op == "==" else ""
            self.refuse(f"= != =~ or !~ is needed here, not '{op[:40]}'", hint)
        self.advance()
        if self.kind != "string":
            self.refuse(f"a quoted text is needed here, not '{self.word[:40]}'")
        where, value = self.at, _unquote(self.word, self.at)
        self.advance()
        if op in ("=~", "!~"):
            check_regex(value, where)
        return Matcher(label, op, value, (at[0], where[1]))


def _check_types(made: Binary, matching: bool) -> None:
    scalars = [is_scalar(made.left), is_scalar(made.right)]
    if made.op in SET_OPS and any(scalars):
        raise ExprError(f"'{made.op}' joins two vectors, not numbers", made.at)
    if all(scalars) and made.op in COMPARISONS and not made.as_bool:
        raise ExprError("a comparison of two numbers needs 'bool'", made.at)
    if any(scalars) and matching:
        raise ExprError("on() and ignoring() go between two vectors only", made.at)


def _number(word: str) -> float:
    return float(int(word, 16)) if word[:2].lower() == "0x" else float(word)


# Escapes of PromQL's strings. Source: documentation, "String literals" (as Go's).
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _unquote(word: str, at: tuple[int, int]) -> str:
    quote, inner = word[0], word[1:-1]
    if quote == "`":
        return inner

    def plain(found: re.Match[str]) -> str:
        ch = found[1]
        if ch in ("\\", quote):
            return ch
        if ch not in _ESCAPES:
            raise ExprError(f"the escape '\\{ch}' in {word[:40]}", at, "write \\\\ for one \\")
        return _ESCAPES[ch]

    return re.sub(r"\\(.)", plain, inner)
