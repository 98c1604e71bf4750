"""Intervals against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from srh_clinic.metrics import mean_with_interval, paired_difference, proportion


def test_the_bootstrap_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=60)
    ours = mean_with_interval(values, resamples=20_000, seed=1)
    scipys = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile").confidence_interval
    # Two Monte Carlo runs: a quantile of 20,000 resampled means has a standard error of about 0.3 % of their spread.
    spread = values.std() / np.sqrt(len(values))
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high), abs=0.1 * spread)
    assert mean_with_interval(values, seed=1) == mean_with_interval(values, seed=1)


def test_pairing_removes_what_makes_a_phantom_hard() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(0, 10, 50)
    difference = paired_difference(hardness + 1 + rng.normal(0, 0.1, 50), hardness)
    assert difference.n == 50
    assert difference.low < 1 < difference.high
    # 50 differences with a standard deviation of 0.1 have a mean known to 2 x 1.96 x 0.1 / sqrt(50) = 0.055.
    assert difference.high - difference.low == pytest.approx(0.055, rel=0.4)


@pytest.mark.parametrize(("count", "n"), [(0, 30), (3, 40), (29, 30), (30, 30)])
def test_proportion_intervals_invert_the_binomial_test(count: int, n: int) -> None:
    ours = proportion(count, n)
    exact = stats.binomtest(count, n).proportion_ci(method="exact")
    assert (ours.value, ours.low, ours.high, ours.n) == pytest.approx((count / n, exact.low, exact.high, n))


def test_impossible_proportions_are_refused() -> None:
    with pytest.raises(ValueError, match="found 5 of 4"):
        proportion(5, 4)
