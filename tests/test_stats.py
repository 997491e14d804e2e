"""Our own statistics against scipy, and against what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hasim import stats


def test_incomplete_beta_agrees_with_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    for a in (0.5, 1.0, 3.0, 19.5, 60.0):
        for b in (0.5, 1.0, 2.0, 41.0):
            for x in (1e-9, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0):
                assert stats.betainc(a, b, x) == pytest.approx(
                    special.betainc(a, b, x), rel=1e-10, abs=1e-14
                )


@pytest.mark.parametrize("freedom", [1, 2, 5, 39, 79, 119, 1000])
@pytest.mark.parametrize("p", [0.01, 0.5, 0.95, 0.975, 1 - 0.05 / 3, 0.9999])
def test_student_quantile_agrees_with_scipy(freedom: int, p: float) -> None:
    t = pytest.importorskip("scipy.stats").t
    assert stats.t_quantile(p, freedom) == pytest.approx(t.ppf(p, freedom), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(0, 40), (1, 40), (37, 40), (40, 40), (60, 120), (1, 1)])
def test_exact_interval_agrees_with_scipy(k: int, n: int) -> None:
    binomtest = pytest.importorskip("scipy.stats").binomtest
    want = binomtest(k, n).proportion_ci(confidence_level=0.95, method="exact")
    low, high = stats.clopper_pearson(k, n, 0.025)
    assert low == pytest.approx(want.low, abs=1e-9)
    assert high == pytest.approx(want.high, abs=1e-9)


def test_no_violation_in_forty_runs_reaches_ninety_percent_at_the_first_look() -> None:
    error = stats.error_per_bound(0.95, 0)
    assert error == pytest.approx(0.05 / 3)
    assert stats.clopper_pearson(40, 40, error)[0] == pytest.approx(error ** (1 / 40))
    assert stats.clopper_pearson(40, 40, error)[0] >= 0.90
    assert stats.clopper_pearson(39, 40, error)[0] < 0.90


def test_looks_are_fixed() -> None:
    assert stats.looks(0) == (40, 80, 120)
    assert stats.looks(7) == (7,)
    assert stats.error_per_bound(0.95, 7) == pytest.approx(0.05)


def test_t_interval_by_hand_and_its_edges() -> None:
    got = stats.t_interval([1.0, 2.0, 3.0], 0.025)
    assert got.mean == 2.0
    assert got.high - got.mean == pytest.approx(4.302652729911275 / math.sqrt(3))
    assert stats.t_interval([5.0], 0.025).high == math.inf
    assert stats.t_interval([5.0, math.inf], 0.025).low == math.inf
    with pytest.raises(ValueError, match="no samples"):
        stats.t_interval([], 0.025)


def test_quantile_interval_says_the_same_as_the_exact_interval() -> None:
    rng = np.random.default_rng(1)
    error = 0.05 / 3
    for n in (20, 40, 80, 120):
        for _ in range(50):
            x = rng.exponential(size=n)
            limit = rng.uniform(1.0, 4.0)
            held = int((x < limit).sum())
            p_low, p_high = stats.clopper_pearson(held, n, error)
            _, low, high = stats.quantile_interval(x, 0.9, error)
            assert (high < limit) == (p_low >= 0.9)
            assert (low >= limit) == (p_high < 0.9)


def test_quantiles_do_not_blend() -> None:
    assert stats.quantile([3, 1, 2], 0.5) == 2
    assert stats.quantile([1, 2], 0.5) == 1
    assert stats.quantile(range(1, 101), 0.95) == 95
    assert stats.quantile([4], 0.0) == 4
    assert math.isnan(stats.quantile([], 0.5))


def test_weighted_quantile_is_quantile_of_the_repeated_values() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        values = rng.permutation(10).astype(float)
        weights = rng.integers(0, 5, 10)
        flat = np.repeat(values, weights)
        for q in (0.0, 0.1, 0.5, 0.95, 1.0):
            want = stats.quantile(flat, q)
            got = stats.weighted_quantile(values, weights, q)
            assert got == want or (math.isnan(got) and math.isnan(want))


def test_paired_comparison_uses_the_shared_luck() -> None:
    rng = np.random.default_rng(3)
    luck = rng.normal(100, 30, 40)
    a, b = luck + rng.normal(0, 1, 40), luck + 2 + rng.normal(0, 1, 40)
    got = stats.paired(a, b, 0.025)
    assert got.low < 2 < got.high
    assert got.high - got.low < 2
    assert got.correlation == pytest.approx(np.corrcoef(a, b)[0, 1])
    with pytest.raises(ValueError, match="same luck"):
        stats.paired([1, 2], [1], 0.025)


def test_bootstrap_brackets_a_median_and_repeats() -> None:
    x = np.random.default_rng(4).normal(10, 1, 200)
    low, high = stats.bootstrap(x, lambda s: np.median(s, axis=1), 0.025)
    assert low < np.median(x) < high
    assert high - low < 1
    assert (low, high) == stats.bootstrap(x, lambda s: np.median(s, axis=1), 0.025)


def test_unpaired_is_the_interval_of_welch() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(1.0, 1.0, 9), rng.normal(2.0, 3.0, 14)
    found = stats.unpaired(a, b, 0.025)
    welch = pytest.importorskip("scipy.stats").ttest_ind
    wanted = welch(b, a, equal_var=False).confidence_interval(0.95)
    assert found.mean == pytest.approx(b.mean() - a.mean())
    # the degrees of freedom are rounded down, so it is a little wider and never narrower
    assert wanted.low - 0.1 < found.low <= wanted.low
    assert wanted.high <= found.high < wanted.high + 0.1


def test_differences_without_end() -> None:
    inf = math.inf
    assert stats.paired([inf, 1.0, 2.0], [inf, 1.0, 2.0], 0.025).high == 0.0
    assert stats.paired([1.0, 1.0], [inf, 1.0], 0.025).difference == inf
    assert stats.unpaired([1.0, 2.0], [inf, 1.0], 0.025).low == inf
    assert stats.unpaired([inf, 2.0], [inf, 1.0], 0.025).mean == 0.0
    assert stats.unpaired([1.0], [2.0, 3.0], 0.025).high == inf
