"""The error tree and the exit codes: the one list of how hasim can end.

    HasimError                 carries an exit code
    ├── InputError             a file is wrong: a list of Findings, exit 104
    ├── Refused                what was asked for must not be done: exit 99, 4 or 3
    └── SimulationBug          an assertion of ours failed, exit 70; prints the replay command

A Finding is one problem at one place. Readers collect findings; they never stop at the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum

from hasim.source import Span


class Exit(IntEnum):
    """Exit codes (design.md section 5). With several the order is 70, 104, 99, 4, 3."""

    OK = 0
    DIFFERENCE = 1
    USAGE = 2
    UNDECIDED = 3  # inconclusive, void, stale gap or provisional
    REFUSED = 4
    BUG = 70
    BUDGET = 99
    INPUT = 104
    INTERRUPTED = 105


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem in one place of one file.

    severity is "error" or "warning"; code is stable ("HA104"); hint says how to mend it.
    """

    severity: str
    code: str
    message: str
    span: Span | None = None
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.span}: " if self.span else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{where}{self.code} {self.severity}: {self.message}{hint}"


class HasimError(Exception):
    """Base of every error that hasim raises on purpose."""

    exit_code = Exit.BUG


class InputError(HasimError):
    """Files that cannot be used. `findings` holds every problem found, not only the first."""

    exit_code = Exit.INPUT

    def __init__(self, findings: Iterable[Finding]):
        self.findings = list(findings)
        super().__init__("\n".join(str(f) for f in self.findings))

    def __reduce__(self):
        return (type(self), (self.findings,))


class Refused(HasimError):
    """An export that must not happen: its evidence failed (99), is stale or tampered (4), or does
    not decide (3). The text says which, and what would mend it.
    """

    def __init__(self, text: str, exit_code: Exit):
        super().__init__(text)
        self.exit_code = exit_code

    def __reduce__(self):
        return (type(self), (str(self), self.exit_code))


class SimulationBug(HasimError):
    """One of our own assertions failed."""

    exit_code = Exit.BUG


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint for an unknown word, or an empty string.

    >>> did_you_mean("steady-50", ["steady-500", "ramp"])
    "did you mean 'steady-500'?"
    """
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else ""
