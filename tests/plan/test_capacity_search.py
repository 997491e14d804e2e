"""The search and the law of capacity against brute force and hand-made sums."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasim.plan.capacity_search import STEP, largest, rung, smallest
from hasim.plan.sizing import (
    CORES,
    cores_needed,
    cores_recommended,
    instances_needed,
    memory_needed,
    memory_recommended,
)

MIB = 1 << 20


@given(
    st.integers(-60, 60), st.integers(-60, 0), st.integers(0, 60), st.integers(-80, 80),
    st.integers(1, 40),
)  # fmt: skip
def test_largest_is_the_boundary_that_brute_force_finds(
    edge: int, least: int, most: int, start: int, stride: int
) -> None:
    asked = []

    def passes(step: int) -> bool:
        assert least <= step <= most
        asked.append(step)
        return step <= edge

    good, bad = largest(passes, start, least, most, stride)
    every = range(least, most + 1)
    assert good == max((s for s in every if s <= edge), default=None)
    assert bad == min((s for s in every if s > edge), default=None)
    assert len(asked) == len(set(asked)), "nothing is tried twice"
    assert len(asked) <= (most - least) / stride + math.log2(stride + 1) + 3


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 12))
def test_smallest_is_what_brute_force_finds(edge: int, least: int, more: int) -> None:
    every = range(least, least + more + 1)
    found = smallest(lambda n: n >= edge, every[0], every[-1])
    assert found == min((n for n in every if n >= edge), default=None)


def test_rungs_are_two_percent_apart_and_whole_for_users() -> None:
    assert rung(500, 0, whole=True) == 500
    assert rung(500, 1, whole=True) == 510
    assert rung(10, -500, whole=True) == 1
    assert rung(240, 1, whole=False) == pytest.approx(240 * STEP, rel=1e-3)


@given(st.integers(1, 12), st.integers(2, 6))
def test_instances_needed_leaves_enough_after_the_loss_of_any_host(alive: int, hosts: int) -> None:
    def left(n: int) -> int:
        return n - max(len(range(h, n, hosts)) for h in range(hosts))  # placed in turn

    assert instances_needed(alive, hosts) == next(n for n in range(99) if left(n) >= alive)


def test_cores_by_the_utilisation_law() -> None:
    # 100 requests a second of 10 ms each are one core; 80 % of 1.25 cores
    assert cores_needed(minute=100 * 0.010, second=0.0, target=0.8) == 1.3, "and less than 80 %"
    assert cores_needed(minute=1.0, second=1.31, target=0.8) == 1.35, "busy seconds fit too"
    assert cores_needed(minute=0.0, second=0.0, target=0.8) == 0.05


def test_memory_in_steps_of_16_mib() -> None:
    assert memory_needed(272 * MIB, 0.85) == 320 * MIB
    assert memory_needed(273 * MIB, 0.85) == 336 * MIB


@given(st.floats(0.05, 60), st.floats(0.5, 64))
def test_recommended_is_a_usual_size_with_a_margin(needed: float, widest: float) -> None:
    found = cores_recommended(needed, widest)
    assert found >= needed
    assert found == max(needed, widest) or found in CORES or found >= 1.25 * needed - 1e-6
    assert found <= max(widest, needed)
    assert memory_recommended(int(needed * 100 * MIB)) >= needed * 125 * MIB - 1
