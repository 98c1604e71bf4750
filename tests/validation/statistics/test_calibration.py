"""Brier scores and calibration errors, against scikit-learn and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss

from srh_clinic.estimates import Undefined, proportion
from srh_clinic.validation.statistics.calibration import (
    brier,
    brier_difference,
    expected_calibration_error,
    null_calibration_error,
    reliability,
    risk_coverage,
)


def drawn(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([1, 1, 1], n)
    return probabilities, np.array([random.choice(3, p=p) for p in probabilities])


def test_brier_is_scikit_learns() -> None:
    probabilities, truth = drawn()
    expected = brier_score_loss(truth, probabilities, labels=[0, 1, 2], scale_by_half=False)
    assert brier(probabilities, truth) == pytest.approx(expected, rel=1e-12)


def test_brier_runs_from_0_to_2() -> None:
    assert brier(np.eye(3), [0, 1, 2]) == 0
    assert brier(np.eye(3), [1, 2, 0]) == 2
    assert isinstance(brier(np.zeros((0, 3)), []), Undefined)


def test_brier_difference_is_that_of_the_scores_and_below_0_where_restoring_helps() -> None:
    probabilities, truth = drawn()
    flat, patients = np.full_like(probabilities, 1 / 3), np.repeat(np.arange(50), 4)
    found = brier_difference(flat, probabilities, truth, patients)
    assert found.value == pytest.approx(brier(probabilities, truth) - brier(flat, truth), rel=1e-12)
    assert found.low < found.high < 0
    worst = brier_difference(np.tile([1.0, 0, 0], (40, 1)), np.tile([0, 1.0, 0], (40, 1)), np.zeros(40, int), np.arange(40))
    assert worst.value == worst.high == 2


def test_calibration_error_of_two_bins_by_hand() -> None:
    # (.5 - .6) over two cases and (1 - .9) over three; .6 and .9 lie in bins of their own.
    found = expected_calibration_error([0.6, 0.6, 0.9, 0.9, 0.9], [1, 0, 1, 1, 1], bins=15)
    assert found == pytest.approx(2 / 5 * 0.1 + 3 / 5 * 0.1, rel=1e-12)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    rows = reliability([0.0, 0.5, 0.500001, 1.0], [0, 1, 0, 1], bins=2)
    assert [(row.low, row.high, row.cases) for row in rows] == [(0.0, 0.5, 2), (0.5, 1.0, 2)]


def test_null_error_of_fair_coins_is_their_mean_absolute_deviation() -> None:
    n = 60
    heads = np.arange(n + 1)
    exact = float(np.sum(stats.binom.pmf(heads, n, 0.5) * np.abs(heads / n - 0.5)))
    found = null_calibration_error(np.full(n, 0.5), draws=20_000)
    # The deviation's SD is about .039, so the mean of 20,000 draws is good to .0003.
    assert found.mean == pytest.approx(exact, abs=0.0012)
    largest = np.abs(heads / n - 0.5)
    order = np.argsort(largest, kind="stable")
    cumulated = np.cumsum(stats.binom.pmf(heads, n, 0.5)[order])
    assert found.high == pytest.approx(largest[order][np.searchsorted(cumulated, 0.95)], abs=1e-12)


def test_a_perfectly_calibrated_model_has_a_calibration_error_that_shrinks_with_n() -> None:
    random = np.random.default_rng(1)
    small, large = (null_calibration_error(random.uniform(1 / 3, 1, n), draws=300) for n in (100, 2500))
    # Each bin's error is as 1 / sqrt(n): 5 times smaller.
    assert small.mean > 0.08
    assert small.mean / large.mean == pytest.approx(5, rel=0.1)
    assert small.high > small.mean


def test_reliability_has_exact_intervals_of_cases_and_clustered_ones_of_patients() -> None:
    confidence, right = np.full(40, 0.85), np.repeat([1, 0], [30, 10])
    (row,) = reliability(confidence, right)
    assert row.right == proportion(30, 40)
    assert row.confidence == pytest.approx(0.85)
    (row,) = reliability(confidence, right, patients=np.repeat(np.arange(20), 2))
    assert row.right.n == 20
    (row,) = reliability(confidence, right, patients=np.repeat(np.arange(5), 8))
    assert isinstance(row.right, Undefined)


def test_risk_grows_with_coverage_as_counted_by_hand() -> None:
    found = risk_coverage([0.9, 0.5, 0.8, 0.7], [0, 1, 0, 1])
    assert found.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.risk == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert found.area == pytest.approx((1 / 3 + 1 / 2) / 4)


def test_ties_of_confidence_do_not_depend_on_the_order_of_cases() -> None:
    one, other = risk_coverage([0.9, 0.7, 0.7], [0, 1, 0]), risk_coverage([0.7, 0.9, 0.7], [0, 0, 1])
    assert one.risk.tolist() == other.risk.tolist()
    assert one.risk == pytest.approx([0, 0.25, 1 / 3])


def test_no_case_is_undefined() -> None:
    for found in (expected_calibration_error([], []), null_calibration_error([]), risk_coverage([], [])):
        assert isinstance(found, Undefined)
