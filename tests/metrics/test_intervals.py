"""Intervals against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from srh_clinic.estimates import Interval, Undefined
from srh_clinic.metrics import mean_with_interval, paired_difference, proportion


def test_the_bootstrap_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=60)
    ours = mean_with_interval(values, resamples=20_000, seed=1)
    scipys = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile").confidence_interval
    # Two Monte Carlo runs: a quantile of 20,000 resampled means has a standard error of about 0.3 % of their spread.
    spread = values.std() / np.sqrt(len(values))
    assert isinstance(ours, Interval)
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high), abs=0.1 * spread)
    assert mean_with_interval(values, seed=1) == mean_with_interval(values, seed=1)


def test_pairing_removes_what_makes_a_phantom_hard() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(0, 10, 50)
    difference = paired_difference(hardness + 1 + rng.normal(0, 0.1, 50), hardness)
    assert isinstance(difference, Interval)
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


@pytest.mark.parametrize("values", [[3.25] * 6, [0.0] * 400, [0.1 + 0.2, 0.3], [7.0]])
def test_values_that_are_alike_have_a_mean_and_no_interval(values: list[float]) -> None:
    found = mean_with_interval(values)
    assert isinstance(found, Undefined)
    assert found.value == pytest.approx(values[0])
    assert "which does not say how far others would lie" in found.why


def test_a_difference_that_is_everywhere_the_same_has_no_interval() -> None:
    found = paired_difference([2.0, 4.0, 9.0], [1.0, 3.0, 8.0])
    assert isinstance(found, Undefined)
    assert found.value == 1


def test_what_is_not_finite_has_neither() -> None:
    assert mean_with_interval([1.0, np.inf, np.nan]) == Undefined("2 of 3 values are not finite")


def test_an_interval_has_a_width_wherever_there_is_one() -> None:
    rng = np.random.default_rng(0)
    for size in range(2, 60):
        found = mean_with_interval(rng.integers(0, 2, size).astype(float) + rng.choice([0.0, 1e6]))
        assert isinstance(found, Undefined) or found.high > found.low
