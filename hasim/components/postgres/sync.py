"""synchronous_standby_names: which standbys a commit waits for.

Source: PostgreSQL manual 20.6.2; syncrep.c (SyncRepGetCandidateStandbys), syncrep_gram.y of 15.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Row = TypeVar("Row")
_LIST = re.compile(r"\s*(?:(first|any)\s+)?(\d+)\s*\((.*)\)\s*", re.IGNORECASE | re.DOTALL)
_NAME = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([A-Za-z_\x80-\uffff*][\w$\-.]*|\*))\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Rule:
    """method: first (by priority, the order of the names) | any (a quorum). names: () = none."""

    method: str = "first"
    number: int = 1
    names: tuple[str, ...] = ()


def parse_rule(text: str) -> Rule:
    """The rule behind the text of the parameter. ValueError if the server would refuse it.

    >>> parse_rule("ANY 1 (a, b)")
    Rule(method='any', number=1, names=('a', 'b'))
    """
    if not text.strip():
        return Rule()
    found = _LIST.fullmatch(text)
    if found is None:
        return Rule("first", 1, _names(text))
    method, number = (found[1] or "first").lower(), int(found[2])
    if number == 0:
        raise ValueError("the number of synchronous standbys must be greater than zero")
    return Rule(method, number, _names(found[3]))


def _names(text: str) -> tuple[str, ...]:
    names, at = [], 0
    while at < len(text):
        found = _NAME.match(text, at)
        if found is None:
            raise ValueError(f"'{text.strip()}' is no list of standby names")
        names.append((found[1] or "").replace('""', '"') or found[2])
        at = found.end()
    if not names:
        raise ValueError("no standby is named")
    return tuple(names)


def priority(rule: Rule, names: Iterable[str]) -> int:
    """1 for the first name of the list that fits, 0 if none does. Case does not matter."""
    known = {name.lower() for name in names if name}
    for i, wanted in enumerate(rule.names, 1):
        if wanted == "*" or wanted.lower() in known:
            return i
    return 0


def candidates(
    rule: Rule, rows: Sequence[Row], names_of: Callable[[Row], Iterable[str]]
) -> list[Row]:
    """The standbys whose answers count. rows: those that stream, in order of connecting."""
    ranked = [(priority(rule, names_of(row)), i, row) for i, row in enumerate(rows)]
    fitting = sorted((r for r in ranked if r[0] > 0), key=lambda r: r[:2])
    chosen = [row for _, _, row in fitting]
    return chosen if rule.method == "any" else chosen[: rule.number]


def wait_s(rule: Rule, answers_s: Sequence[float]) -> float | None:
    """How long a commit waits, given when each candidate answers; None: not enough of them.

    An answer that never comes is infinite. FIRST waits for all its candidates, ANY for the
    quickest.
    """
    if not rule.names:
        return 0.0
    if len(answers_s) < rule.number:
        return None
    last = sorted(answers_s)[rule.number - 1]
    return last if last < float("inf") else None
