"""The headline interval: its variance, its ends."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from srh_clinic.metrics import Interval, Undefined, proportion
from srh_clinic.validation.benchmarks.coverage import PreferenceTruth, simulated_scores
from srh_clinic.validation.statistics.two_way import (
    TwoWay,
    around_zero,
    naive_wilson,
    paired_two_way,
    preference_rate,
    two_way,
    two_way_bootstrap,
)
from srh_clinic.validation.study.simulated_raters import balanced_assignment, marginal_logit, marginal_rate

SCORES = np.array([1, 1, 1, 0, 0.5, 1, 0, 0, 1, 1, 1, 0.5])
IMAGES = np.repeat(np.arange(6), 2)
RATERS = np.array([0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2, 0])


def found(scores=SCORES, images=IMAGES, raters=RATERS) -> TwoWay:
    result = two_way(scores, images, raters)
    assert isinstance(result, TwoWay)
    return result


def test_the_variance_is_that_of_cameron_gelbach_and_miller():
    # By their definition, as sums over pairs of ratings that share a cluster, without bincount.
    e = SCORES - SCORES.mean()

    def pairs(same):
        return sum(e[i] * e[j] for i in range(12) for j in range(12) if same(i, j)) / 12**2

    image = pairs(lambda i, j: IMAGES[i] == IMAGES[j]) * 6 / 5
    rater = pairs(lambda i, j: RATERS[i] == RATERS[j]) * 3 / 2
    rating = pairs(lambda i, j: i == j) * 12 / 11
    assert found().variance == pytest.approx(max(image + rater - rating, image, rating), rel=1e-12)


def test_names_of_images_and_raters_do_not_matter():
    named = found(images=[f"image {9 - one}" for one in IMAGES], raters=[f"{'zxy'[one]}" for one in RATERS])
    assert named.variance == pytest.approx(found().variance, rel=1e-12)


def test_independent_answers_by_many_raters_get_wilsons_interval():
    scores = np.repeat([1, 0], [3000, 1000])
    random = np.random.default_rng(0)
    each = random.permutation(4000)
    interval = found(scores, each, each).interval()
    # One rating per image and rater: the sandwich is p (1 - p) / (n - 1).
    low, high = proportion_confint(3000, 4000, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_unanimity_gets_at_least_the_exact_interval_over_images(score):
    interval = found(np.full(12, score)).interval()
    exact = proportion(int(6 * score), 6)
    assert interval.value == score
    assert interval.low <= exact.low
    assert interval.high >= exact.high
    assert 0 <= interval.low < interval.high <= 1


def test_ties_only_leave_the_rate_at_a_half_and_unknown():
    result = found(np.full(12, 0.5))
    assert result.p_value() == 1
    assert result.interval().low < 0.2


@pytest.mark.parametrize("ones", [1, 3, 8, 11])
def test_the_p_value_is_below_5_percent_where_the_interval_excludes_a_half(ones):
    scores = np.repeat([1, 0], [ones, 12 - ones])
    result = found(scores)
    interval = result.interval()
    assert (result.p_value() < 0.05) == (not interval.low <= 0.5 <= interval.high)
    level = 1 - result.p_value()
    edge = result.interval(level)
    # At its own level an interval ends at the null.
    assert min(abs(edge.low - 0.5), abs(edge.high - 0.5)) < 1e-9


def test_four_of_four_are_no_evidence_at_5_percent():
    result = found(np.ones(4), np.arange(4), np.arange(4))
    # Exact: 2 / 2^4. The normal approximation said .046 beside an interval from .398 on.
    assert result.p_value() == pytest.approx(0.125)
    assert result.interval().low == pytest.approx(0.025**0.25)
    assert found(np.ones(6), np.arange(6), np.arange(6)).p_value() == pytest.approx(2 / 2**6)


def test_over_random_studies_p_is_below_5_percent_where_the_interval_excludes_the_null():
    random = np.random.default_rng(0)
    unanimous = 0
    for _ in range(600):
        images, raters = random.integers(2, 12), random.integers(1, 5)
        n = int(random.integers(max(images, 2), 4 * images + 1))
        image, rater = random.integers(0, images, n), random.integers(0, raters, n)
        scores = random.choice([0, 0.5, 1], n, p=random.choice([[0, 0, 1], [0.1, 0.1, 0.8], [0.4, 0.1, 0.5]]))
        result = two_way(scores, image, rater)
        if isinstance(result, Undefined):
            continue
        interval = result.interval()
        unanimous += interval.value == 1
        assert (result.p_value() < 0.05) == (not interval.low <= 0.5 <= interval.high)
        assert interval.high > interval.low
    assert unanimous > 100


def test_equal_answers_give_no_bootstrap_interval():
    drawn = two_way_bootstrap(np.ones(12), IMAGES, RATERS)
    assert isinstance(drawn, Undefined)
    assert "every resample" in drawn.why


def test_the_quantile_lies_between_those_of_images_and_of_raters():
    result = found()
    assert stats.t.ppf(0.975, 5) <= result.quantile() <= stats.t.ppf(0.975, 2)


def test_raters_who_differ_widen_the_interval():
    images, raters = np.repeat(np.arange(60), 2), np.tile(np.arange(6), 20)
    alike = np.tile([1, 0], 60)[np.random.default_rng(0).permutation(120)]
    differ = (raters < 3).astype(float)
    assert alike.mean() == differ.mean()
    wide, narrow = found(differ, images, raters).interval(), found(alike, images, raters).interval()
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_one_image_or_none_determines_nothing():
    assert isinstance(two_way([1.0, 0.0], ["a", "a"], ["x", "y"]), Undefined)
    assert isinstance(preference_rate([], [], []), Undefined)
    assert isinstance(naive_wilson([]), Undefined)
    assert isinstance(two_way_bootstrap([1.0, 0.0], ["a", "b"], ["x", "x"]), Undefined)


def test_one_rater_leaves_images_as_clusters():
    result = found(raters=np.zeros(12, int))
    e = (SCORES - SCORES.mean()).reshape(6, 2).sum(axis=1) / 12
    independent = ((SCORES - SCORES.mean()) ** 2).sum() / 12 / 11
    assert result.variance == pytest.approx(max((e**2).sum() * 6 / 5, independent), rel=1e-12)
    assert result.quantile() == pytest.approx(stats.t.ppf(0.975, 5))


def test_scores_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match="outside"):
        two_way([2.0, 0.0], ["a", "b"], ["x", "y"])
    with pytest.raises(ValueError, match="needed one of each"):
        two_way([1.0], ["a", "b"], ["x", "y"])


def test_a_mean_difference_is_on_the_scale_of_differences():
    interval = around_zero(paired_two_way([1.0, 0.0, 0.0, -1.0, 1.0, 1.0], list("aabbcc"), list("xyyxxy")).interval())
    assert isinstance(interval, Interval)
    assert interval.value == pytest.approx(2 / 6)
    assert -1 <= interval.low < interval.value < interval.high <= 1


def test_the_bootstrap_is_the_same_under_its_seed_and_near_the_sandwich():
    tasks = balanced_assignment()
    scores = simulated_scores(PreferenceTruth(0.75), tasks, 1, np.random.default_rng(0))[0]
    image, rater = np.tile(tasks[:, 0], 2), tasks[:, 2:].T.ravel()
    first = two_way_bootstrap(scores, image, rater, seed=3)
    assert first == two_way_bootstrap(scores, image, rater, seed=3)
    sandwich = preference_rate(scores, image, rater)
    assert isinstance(first, Interval)
    assert isinstance(sandwich, Interval)
    # The percentile interval of six raters is 0.8 to 1.1 times as wide.
    assert 0.7 < (first.high - first.low) / (sandwich.high - sandwich.low) < 1.2


def test_the_marginal_rate_is_exact():
    random = np.random.default_rng(0)
    logit = marginal_logit(0.75, 1.655, tie=0.2, side_bias=0.4)
    assert marginal_rate(logit, 1.655, tie=0.2, side_bias=0.4) == pytest.approx(0.75, abs=1e-10)
    z = random.normal(0, 1.655, 400_000) + logit + np.where(random.random(400_000) < 0.5, 0.4, -0.4)
    # The standard error of this mean is 0.0004.
    assert 0.1 + 0.8 * (1 / (1 + np.exp(-z))).mean() == pytest.approx(0.75, abs=0.002)
    with pytest.raises(ValueError, match="ties"):
        marginal_logit(0.97, 1.0, tie=0.1)


def test_every_baseline_has_90_tasks_and_every_rater_sees_each_image_once():
    tasks = balanced_assignment()
    assert tasks.shape == (450, 4)
    assert np.bincount(tasks[:, 1]).tolist() == [90] * 5
    assert np.bincount(tasks[:, 2:].ravel()).tolist() == [150] * 6
    assert len({(image, rater) for image, _, *pair in tasks.tolist() for rater in pair}) == 900
    cells = {(rater, baseline): 0 for rater in range(6) for baseline in range(5)}
    for _, baseline, *pair in tasks.tolist():
        for rater in pair:
            cells[rater, baseline] += 1
    assert set(cells.values()) == {30}
