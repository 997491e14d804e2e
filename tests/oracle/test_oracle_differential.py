"""The compiled request path against its readable oracle on random small stacks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from oracle_compare import COUNTS, Case, difference, run_kernel, run_oracle
from oracle_engine import Oracle
from oracle_random import philox
from oracle_stack_strategy import cases

FEW, MANY = 800, 1500
COMMON = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


REACHED = (
    "pings failed", "next hosts", "command timeouts", "user timeouts", "cut under a command",
    "greetings awaited", "used after HAProxy closed", "stalled commits", "refused", "commits",
    "checks",
)  # fmt: skip


def tolerance_ns(case: Case) -> int:
    """Exact, but for the float arithmetic of shared processors."""
    stations = Oracle(case.stack, case.scenario, 0, 0, 64).stations.values()
    return 0 if all(s.dedicated for s in stations) else 2


def agree(case: Case) -> None:
    """Threads of a shared processor that end at one instant go on in the order of float errors."""
    found = difference(case, tolerance_ns(case))
    assert not found or run_oracle(case).ties, found


@settings(max_examples=FEW, **COMMON)
@given(cases())
def test_kernel_and_oracle_agree(case: Case) -> None:
    agree(case)


# Unshrunk, so that a failure is quick.
@pytest.mark.slow
@settings(max_examples=MANY, phases=[Phase.generate], **COMMON)
@given(cases())
def test_kernel_and_oracle_agree_on_many(case: Case) -> None:
    agree(case)


def test_the_random_stacks_reach_the_rules() -> None:
    """Most words of HAProxy's log and all outcomes turn up: the comparison is about something."""
    log: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    outcomes: Counter[int] = Counter()

    @settings(max_examples=FEW, **COMMON)
    @given(cases())
    def collect(case: Case) -> None:
        seen = run_oracle(case)
        outcomes.update(line.outcome for line in seen.lines)
        reached.update(seen.reached)
        reached.update({k.split()[0]: n for k, n in seen.at_end.items()})
        counts.update({name: n for name, n in seen.counts.items() if n})
        for (_, letters), n in seen.log.items():
            log[letters] += n

    collect()
    assert set(range(10)) <= set(outcomes), outcomes
    assert all(counts[name] for name in COUNTS), counts
    expected = "200 ----|503 SC--|503 sC--|503 SC-- NOSRV|503 sQ--|502 SH--|504 sH--|-1 C---"
    assert {*expected.split("|"), "eof SH--"} <= set(log), log
    assert all(reached[word] for word in REACHED), reached


def test_a_change_of_the_stack_is_noticed() -> None:
    """The comparison can fail: another think time, another retries."""
    found: list[bool] = []

    @settings(max_examples=20, **COMMON)
    @given(cases())
    def collect(case: Case) -> None:
        kernel = run_kernel(case)
        other = run_oracle(replace(case, seed=case.seed + 1000))
        found.append(kernel.lines != other.lines)

    collect()
    assert any(found)


@pytest.mark.parametrize("counter", [(5, 0, 0, 0), (77, 3, 1 << 60, 9), (2**64 - 1, 1, 0, 0)])
def test_philox_is_numpys(counter: tuple[int, int, int, int]) -> None:
    # numpy counts up before it draws
    before = [counter[0] - 1, *counter[1:]]
    theirs = np.random.Philox(counter=np.array(before, np.uint64), key=[7, 3]).random_raw(4)
    assert philox(counter, (7, 3)) == tuple(int(x) for x in theirs)
