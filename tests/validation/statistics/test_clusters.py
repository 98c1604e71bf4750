"""Intervals over patients, against closed forms, statsmodels and the bootstrap done by hand."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from srh_clinic.estimates import Interval, Undefined, proportion
from srh_clinic.validation.statistics.clusters import (
    clustered,
    clustered_proportion,
    difference,
    expanded,
    naive_difference,
    ratio_variance,
    standard_errors,
)


def clustered_cases(patients: int = 50, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    label = np.repeat(np.arange(patients), random.integers(1, 7, patients))
    lean = random.normal(0, 1.5, (2, patients))[:, label]
    before, after = (random.normal(size=lean.shape) + lean > [[0.5], [-0.5]]).astype(float)
    return before, after, label


def test_standard_errors_are_those_of_statsmodels() -> None:
    before, after, label = clustered_cases()
    found = standard_errors(after, before, label)
    fit = sm.OLS(after - before, np.ones(len(label))).fit(cov_type="cluster", cov_kwds={"groups": label})
    # For one coefficient its correction G / (G - 1) x (N - 1) / (N - 1) is ours.
    assert found.clustered == pytest.approx(fit.bse[0], rel=1e-12)
    assert found.naive == pytest.approx(DescrStatsW(after - before).std_mean, rel=1e-12)
    assert found.clustered > 1.2 * found.naive


def test_one_case_a_patient_makes_both_standard_errors_the_same() -> None:
    before, after, label = clustered_cases()
    found = standard_errors(after, before, np.arange(len(label)))
    assert found.clustered == pytest.approx(found.naive, rel=1e-12)


def test_the_naive_interval_is_walds() -> None:
    before, after, _ = clustered_cases()
    found = naive_difference(after, before)
    assert (found.low, found.high) == pytest.approx(DescrStatsW(after - before).zconfint_mean(), rel=1e-12)


def test_expanded_percentiles_of_a_normal_bootstrap_are_students_interval() -> None:
    n, quantiles = 10, np.linspace(0, 1, 400_001)[1:-1]
    low, high = expanded(stats.norm.ppf(quantiles) * np.sqrt((n - 1) / n), n, 0.95)
    # The bootstrap's SD is short by sqrt((n - 1) / n); a grid of 400,000 quantiles is good to 1e-3 in the tail.
    assert (low, high) == pytest.approx((-stats.t.ppf(0.975, 9), stats.t.ppf(0.975, 9)), abs=2e-3)


def test_share_resamples_whole_patients() -> None:
    _, hits, label = clustered_cases()
    random = np.random.default_rng(0)
    of_patient = [hits[label == one] for one in range(50)]
    by_hand = []
    for _ in range(4000):
        drawn = np.concatenate([of_patient[one] for one in random.integers(0, 50, 50)])
        by_hand.append(drawn.mean())
    found = clustered_proportion(hits, label, resamples=20_000)
    # Two Monte Carlo bootstraps: a 2.5 % quantile of 4,000 draws has an SE of .04 SD, here .002.
    assert (found.low, found.high) == pytest.approx(expanded(np.array(by_hand), 50, 0.95), abs=0.008)
    assert found.value == hits.mean()
    assert found.n == 50


def test_share_of_some_cases_leaves_out_patients_without_them() -> None:
    before, after, label = clustered_cases()
    found = clustered_proportion(1 - after, label, of=1 - before, seed=4)
    inside = before == 0
    assert found == clustered_proportion(1 - after[inside], label[inside], seed=4)
    assert found.n == len(np.unique(label[inside])) < 50


@pytest.mark.parametrize("hit", [0.0, 1.0])
def test_without_any_variation_a_share_is_clopper_pearsons_of_patients(hit: float) -> None:
    label = np.repeat(np.arange(20), 5)
    found, exact = clustered_proportion(np.full(100, hit), label), proportion(int(20 * hit), 20)
    assert (found.value, found.low, found.high) == pytest.approx((exact.value, exact.low, exact.high), abs=1e-12)


def test_one_rare_event_does_not_narrow_the_interval_of_none() -> None:
    label = np.repeat(np.arange(40), 5)
    none, one = np.zeros(200), np.eye(200)[7]
    assert clustered_proportion(one, label).high >= clustered_proportion(none, label).high
    assert clustered_proportion(1 - one, label).low <= clustered_proportion(1 - none, label).low
    assert clustered_proportion(one, label).low > 0


def test_rare_events_of_single_cases_reach_as_far_as_clopper_pearson() -> None:
    hits = np.zeros(400)
    hits[:4] = 1
    found, exact = clustered_proportion(hits, np.arange(400)), proportion(4, 400)
    assert found.low <= exact.low + 1e-12
    assert found.high >= exact.high - 1e-12


def test_difference_is_antisymmetric() -> None:
    before, after, label = clustered_cases()
    one, other = difference(after, before, label, seed=1), difference(before, after, label, seed=1)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low), abs=1e-12)
    assert one.value == pytest.approx(after.mean() - before.mean())


def test_difference_is_as_wide_as_the_sandwich_says() -> None:
    before, after, label = clustered_cases(200)
    found = difference(after, before, label, resamples=20_000)
    half = stats.t.ppf(0.975, 199) * standard_errors(after, before, label).clustered
    # Bootstrap and sandwich agree in large samples; 200 patients leave a few percent of skewness and Monte Carlo error.
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.04)


def test_no_change_at_all_still_leaves_room_for_some() -> None:
    label = np.repeat(np.arange(30), 3)
    found, none = difference(np.ones(90), np.ones(90), label), proportion(0, 30).high
    assert (found.value, found.low, found.high) == pytest.approx((0, -none, none))
    found = difference(np.ones(90), np.zeros(90), label)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1 - 2 * none, 1))


def test_any_statistic_of_weights_has_the_interval_of_its_closed_form() -> None:
    before, after, label = clustered_cases()
    by_weights = clustered(lambda w: float(np.average(after - before, weights=w)), label, resamples=2000, seed=5)
    direct = difference(after, before, label, resamples=2000, seed=5)
    assert (by_weights.low, by_weights.high) == pytest.approx((direct.low, direct.high), abs=1e-12)


def test_resamples_without_the_statistic_are_dropped_until_they_are_too_many() -> None:
    label = np.arange(40)

    def mean_of(count: int, w: np.ndarray) -> float:
        return float(np.average(label[:count], weights=w[:count])) if w[:count].sum() else float("nan")

    # A resample lacks all of k among 40 patients with chance (1 - k / 40)^40: 36 % of one, 1.5 % of four.
    assert isinstance(clustered(lambda w: mean_of(4, w), label), Interval)
    assert isinstance(clustered(lambda w: mean_of(1, w), label), Undefined)


def test_seven_patients_are_too_few() -> None:
    label = np.repeat(np.arange(7), 9)
    for found in (
        clustered_proportion(np.ones(63), label),
        difference(np.ones(63), np.zeros(63), label),
        clustered(lambda w: 1.0, label),
        clustered_proportion(np.ones(63), np.arange(63), of=np.zeros(63)),
        standard_errors([1.0, 0.0], [0.0, 0.0], ["a", "a"]),
        naive_difference([1.0], [0.0]),
    ):
        assert isinstance(found, Undefined)


def test_the_variance_of_a_ratio_is_the_linearised_one() -> None:
    above, below = np.array([1.0, 0.0, 2.0, 1.0]), np.array([2.0, 1.0, 3.0, 4.0])
    by_hand = sum((a - 0.4 * b) ** 2 for a, b in zip(above, below, strict=True)) * 4 / 3 / 100
    assert ratio_variance(above, below) == pytest.approx(by_hand, rel=1e-12)


def test_what_never_varies_has_no_interval_of_no_width() -> None:
    patients = np.repeat(np.arange(12), 2)
    constant = clustered(lambda weights: 0.25, patients)
    assert isinstance(constant, Undefined)
    assert "every resample" in constant.why
    same = naive_difference(np.ones(24), np.zeros(24))
    assert isinstance(same, Undefined)
    assert "changed by the same" in same.why
    # Over patients the bound of none among 12 that changed otherwise stands in.
    assert difference(np.ones(24), np.zeros(24), patients).low < 1
