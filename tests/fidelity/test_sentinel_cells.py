"""Every cell of tests/measured/redis-sentinel.csv (Redis 7.0.15, three servers, three Sentinels).

The trials recorded no phases, so a cell is compared as a distribution: medians within 50 ms or 3 %,
mean absolute quantile difference below 60 ms beyond what 99 % of samples of that size miss of their
own distribution. The laboratory was starved of CPU: `tick_late_ms_p99` of a trial is 11 to 127 ms
and one rewrite of a Sentinel's file took 2/8/29 ms (reference/redis-sentinel.md section 6), as
here; late ticks are not simulated.
"""

from __future__ import annotations

import numpy as np
import pytest
import sentinel_lab as lab

RUNS = 60

slow = pytest.mark.slow
each_fault = pytest.mark.parametrize("fault", lab.FAULTS)


def simulate(fault: str, runs: int, **changes) -> dict[str, np.ndarray]:
    rows = [lab.trial(fault, seed, **changes) for seed in range(runs)]
    return {k: np.array([r[k] for r in rows]) for k in rows[0]}


@pytest.fixture(scope="module")
def simulated():
    """fault -> column -> values."""
    return {fault: simulate(fault, RUNS) for fault in lab.FAULTS}


def median_off(real: np.ndarray, sim: np.ndarray) -> float:
    """How far the medians are apart, in units of what is allowed."""
    middle = float(np.median(real))
    return abs(float(np.median(sim)) - middle) / max(0.050, 0.03 * middle)


def quantiles_off(real: np.ndarray, sim: np.ndarray) -> float:
    """The same of the quantiles."""
    return lab.distance(real, sim) / (0.060 + lab.own_error(sim, len(real)))


@slow
@each_fault
@pytest.mark.parametrize("name", [*lab.TIMES, "demote_s"])
def test_medians(simulated, fault, name) -> None:
    real, sim = lab.column(lab.measured()[fault], name), simulated[fault][name]
    assert not np.isnan(sim).any()
    assert median_off(real, sim) < 1


@slow
@each_fault
@pytest.mark.parametrize("name", lab.TIMES)
def test_times_are_distributed_alike(simulated, fault, name) -> None:
    real, sim = lab.column(lab.measured()[fault], name), simulated[fault][name]
    assert quantiles_off(real, sim) < 1


@slow
@pytest.mark.parametrize(
    "fault",
    [
        "kill9",
        "kill_m_s1",
        pytest.param(
            "sigstop",
            marks=pytest.mark.xfail(
                strict=True,
                reason="135 ms against 69: the csv has 10.04 to 10.30 s on its starved machine,"
                " the simulation 10.01 to 10.06, the same daemons here, four times, 10.020 to"
                " 10.056, and 10.139 with 2.5 % of a CPU: what waits on a link, up to 100"
                " commands, is then answered after 122 to 320 ms, not 10",
            ),
        ),
    ],
)
def test_demotions_are_distributed_alike(simulated, fault) -> None:
    real, sim = lab.column(lab.measured()[fault], "demote_s"), simulated[fault]["demote_s"]
    assert quantiles_off(real, sim) < 1


@slow
def test_two_candidates_are_as_frequent_as_measured(simulated) -> None:
    """13 of 36 after a kill: the second one has not heard of the first one's epoch yet."""
    share = float(np.mean(simulated["kill9"]["n_try"] > 1))
    assert 0.36 - 3 * (0.36 * 0.64 / 36) ** 0.5 < share < 0.36 + 3 * (0.36 * 0.64 / 36) ** 0.5


@slow
@each_fault
def test_a_kill_or_a_hang_loses_nothing_on_this_network(simulated, fault) -> None:
    """lost_acked of every trial is 0: what was acknowledged was in the stream."""
    rows = lab.measured()[fault]
    assert {r["lost_acked"] for r in rows} == {"0"}
    assert set(simulated[fault]["lost"]) == {0}


# ---- the criterion can fail ----------------------------------------------------------------------
def broken(runs: int = 20, **changes) -> set[str]:
    """Faults of which at least one time is no longer where it was measured."""
    out = set()
    for fault in lab.FAULTS:
        sim = simulate(fault, runs, **changes)
        for name in lab.TIMES:
            real = lab.column(lab.measured()[fault], name)
            values = np.nan_to_num(sim[name], nan=1e6)
            if median_off(real, values) >= 1 or quantiles_off(real, values) >= 1:
                out.add(fault)
    return out


@slow
def test_ten_percent_of_down_after_are_noticed() -> None:
    assert broken(down_after_ms=5500) == set(lab.FAULTS)


@slow
def test_one_more_for_the_quorum_is_noticed() -> None:
    """After a kill all three are down within 0.15 s, so that only the other two can tell."""
    assert broken(quorum=3) >= {"kill_m_s1", "sigstop"}


@slow
def test_nothing_else_is_broken() -> None:
    assert broken() == set()
