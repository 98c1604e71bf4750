"""Agreement against published values and independent implementations."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.proportion import proportion_confint

from srh_clinic.metrics import Interval, Undefined
from srh_clinic.validation.statistics.agreement import (
    ac1,
    alpha,
    cohen,
    cohen_kappa,
    cohen_pairs,
    fleiss,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    percent_agreement,
    random_agreement,
)

ABSTRACTORS = np.repeat([[0, 0], [1, 1], [1, 2], [2, 1], [2, 2]], [13, 20, 7, 4, 56], axis=0)
"""Two abstractors of 100 pregnancies, Gwet (2014) and the vignette of his irrCAC."""

FOUR_RATERS = (
    np.array(
        [
            [1, 1, 0, 1],
            [2, 2, 3, 2],
            [3, 3, 3, 3],
            [3, 3, 3, 3],
            [2, 2, 2, 2],
            [1, 2, 3, 4],
            [4, 4, 4, 4],
            [1, 1, 2, 1],
            [2, 2, 2, 2],
            [0, 5, 5, 5],
            [0, 0, 1, 1],
            [0, 0, 3, 0],
        ]
    )
    - 1
)
"""Four raters of 12 units in five categories, some missing: Krippendorff's example, and Gwet's (2014, p. 120)."""


def incomplete(seed: int, units: int = 200, categories: int = 3) -> np.ndarray:
    """Two of six raters a unit who agree more often than not."""
    random = np.random.default_rng(seed)
    codes = np.full((units, 6), -1)
    for row in codes:
        truth = random.choice(categories, p=[0.6, 0.3, 0.1][:categories])
        for rater in random.choice(6, 2, replace=False):
            row[rater] = truth if random.random() < 0.6 else random.choice(categories)
    return codes


def independent_alpha(codes: np.ndarray, *, ordinal: bool = False) -> float:
    """Krippendorff's alpha from pairs of values, as he writes it: one less observed over expected disagreement."""
    units = [[value for value in row if value >= 0] for row in codes]
    units = [unit for unit in units if len(unit) >= 2]
    values = [value for unit in units for value in unit]
    counts = {value: values.count(value) for value in set(values)}

    def difference(a: int, b: int) -> float:
        if not ordinal:
            return float(a != b)
        low, high = min(a, b), max(a, b)
        between = sum(n for value, n in counts.items() if low <= value <= high)
        return (between - (counts[a] + counts[b]) / 2) ** 2 if a != b else 0.0

    observed = sum(difference(a, b) / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit, 2))
    expected = sum(difference(a, b) for a, b in itertools.permutations(values, 2)) / (len(values) - 1)
    return 1 - observed / expected


def test_ac1_of_two_raters_is_the_published_one():
    found = gwet_ac1(ABSTRACTORS, 3)
    assert found.value == pytest.approx(0.8493305, abs=1e-7)
    # irrCAC's table form divides by n where the raw form, and ours, divides by n - 1.
    assert ac1(ABSTRACTORS, 3).variance ** 0.5 == pytest.approx(0.04321747 * np.sqrt(100 / 99), rel=1e-5)


def test_ac1_with_missing_ratings_is_the_published_one():
    found = gwet_ac1(FOUR_RATERS, 5)
    assert found.value == pytest.approx(0.77544, abs=5e-6)
    # Published standard error .14295.
    assert ac1(FOUR_RATERS, 5).variance ** 0.5 == pytest.approx(0.14295, abs=5e-6)
    assert found.low < 0.77544 < found.high < 1
    assert percent_agreement(FOUR_RATERS, 5).value == pytest.approx(0.8182, abs=5e-5)


def test_alpha_is_krippendorffs_example():
    assert krippendorff_alpha(FOUR_RATERS).value == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(FOUR_RATERS, "ordinal").value == pytest.approx(0.815, abs=5e-4)


@pytest.mark.parametrize("ordinal", [False, True])
def test_alpha_of_an_incomplete_design_is_that_of_pairs(ordinal):
    codes = incomplete(1)
    found = krippendorff_alpha(codes, "ordinal" if ordinal else "nominal")
    assert found.value == pytest.approx(independent_alpha(codes, ordinal=ordinal), abs=1e-12)
    assert found.low < found.value < found.high


def test_cohens_kappa_of_each_pair_is_sklearns():
    codes = incomplete(2, units=400)
    pairs = cohen_pairs(codes, 3)
    assert len(pairs) == 15
    for (a, b), found in pairs.items():
        both = codes[(codes[:, [a, b]] >= 0).all(axis=1)]
        assert found.value == pytest.approx(cohen_kappa_score(both[:, a], both[:, b]), abs=1e-12)
        assert found.n == len(both)


def test_cohens_interval_is_the_published_one():
    found = cohen_kappa(ABSTRACTORS, 3)
    # irrCAC: 0.7964094, standard error 0.05891072 by another estimator of the same variance.
    assert found.value == pytest.approx(0.7964094, abs=1e-7)
    assert cohen(ABSTRACTORS, 3).variance ** 0.5 == pytest.approx(0.05891072, rel=0.02)


def test_fleiss_kappa_is_his_example():
    # Fleiss (1971): 14 raters of 10 subjects in 5 categories, kappa .210.
    table = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    codes = np.array([np.repeat(np.arange(5), row) for row in table])
    found = fleiss_kappa(codes, 5)
    assert found.value == pytest.approx(0.210, abs=5e-4)
    assert found == fleiss_kappa(codes, 5)


def rare(both: int, one: int, neither: int) -> np.ndarray:
    """Units of two raters of whom both, one or none said yes."""
    return np.repeat([[1, 1], [0, 1], [0, 0]], [both, one, neither], axis=0)


@pytest.mark.parametrize("of", [fleiss_kappa, krippendorff_alpha, cohen_kappa])
def test_one_agreed_finding_in_150_says_nothing_of_kappa(of):
    codes = rare(1, 0, 149)
    found = of(codes) if of is krippendorff_alpha else of(codes, 2)
    assert isinstance(found, Undefined)
    assert found.why.startswith("1 image holds an answer other than the commonest")


@pytest.mark.parametrize("of", [fleiss_kappa, krippendorff_alpha])
def test_rare_answers_without_an_agreed_one_leave_kappa_open_above(of):
    codes = rare(0, 6, 144)
    found = of(codes) if of is krippendorff_alpha else of(codes, 2)
    # 12 answers to 150 units, 2 % say yes: kappa is -.02, its lowest, and 0, the truth by chance alone, must not be excluded.
    assert found.value == pytest.approx(-0.0204, abs=4e-3)
    assert found.low == pytest.approx(found.value, abs=1e-12)
    assert found.low < 0 < 0.4 < found.high < 0.7


def test_agreed_rare_answers_bound_kappa_from_below_as_so_many_successes_do():
    found = fleiss_kappa(rare(6, 0, 144), 2)
    assert (found.value, found.high) == (1, 1)
    # Wilson's 6 of 6 pairs: c >= 6 / (6 + z^2), and kappa = least + (1 - least) 2 c / (1 + c).
    c, least = 6 / (6 + stats.t.ppf(0.975, 149) ** 2), -0.04 / 0.96
    assert found.low == pytest.approx(least + (1 - least) * 2 * c / (1 + c), rel=1e-12)


def test_of_independent_rare_pairs_the_effective_number_is_that_of_the_pairs_that_speak():
    made = fleiss(rare(20, 20, 100_000), 2)
    interval = made.interval()
    low, high = proportion_confint(20, 40, method="wilson")
    # Given 40 pairs with a rare answer, the share of those that agree is binomial. The jackknife has 39 degrees of freedom.
    assert (interval.low, interval.high) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)), abs=5e-3)


def test_the_jackknife_is_the_large_sample_variance_of_two_raters():
    codes = rare(300, 400, 800)
    n, p = 1500, 1000 / 3000
    kappa = 1 - (400 / n) / (2 * p * (1 - p))
    # Bloch and Kraemer 1989, Biometrics 45:269, of the intraclass kappa.
    variance = (1 - kappa) / n * ((1 - kappa) * (1 - 2 * kappa) + kappa * (2 - kappa) / (2 * p * (1 - p)))
    assert fleiss(codes, 2).value == pytest.approx(kappa)
    assert fleiss(codes, 2).variance == pytest.approx(variance, rel=0.01)
    assert alpha(codes).variance == pytest.approx(variance, rel=0.01)


def test_the_lowest_alpha_is_that_of_raters_who_disagree_as_far_as_they_can():
    # Every answer but "none" met "none": 0 against 1, 0 against 2, and otherwise 0 against 0.
    codes = np.repeat([[0, 1], [0, 2], [0, 0]], [3, 2, 20], axis=0)
    found = alpha(codes, "ordinal")
    assert found.least == pytest.approx(found.value, abs=1e-12)
    better = np.repeat([[1, 1], [0, 1], [2, 2], [0, 0]], [1, 1, 1, 22], axis=0)
    assert alpha(better, "ordinal").least == pytest.approx(independent_alpha(codes, ordinal=True), abs=1e-12)


@pytest.mark.parametrize("of", [fleiss_kappa, gwet_ac1, percent_agreement])
def test_an_image_that_says_it_six_times_says_it_once(of):
    codes = rare(4, 5, 60)
    once, six = of(codes, 2), of(np.repeat(codes, 6, axis=0), 2, np.repeat(np.arange(69), 6))
    assert (six.value, six.low, six.high, six.n) == (
        pytest.approx(once.value),
        pytest.approx(once.low),
        pytest.approx(once.high),
        69,
    )


def test_where_raters_agree_by_chance_percent_is_high_and_kappa_is_not():
    random = np.random.default_rng(0)
    codes = (random.random((4000, 2)) < 0.05).astype(int)
    assert random_agreement(0.05) == pytest.approx(0.905)
    assert percent_agreement(codes, 2).value == pytest.approx(0.905, abs=0.015)
    assert abs(cohen_kappa(codes, 2).value) < 0.06


def test_a_single_category_leaves_kappa_and_alpha_undefined_but_not_ac1():
    codes = np.zeros((20, 2), dtype=int)
    for undefined in (cohen_kappa(codes, 3), fleiss_kappa(codes, 3), krippendorff_alpha(codes)):
        assert isinstance(undefined, Undefined)
        assert "one category" in undefined.why
    for found in (percent_agreement(codes, 3), gwet_ac1(codes, 3)):
        assert isinstance(found, Interval)
        assert found.value == 1
        # 20 of 20: the exact interval begins at .025 ** (1 / 20).
        assert found.low == pytest.approx(0.025 ** (1 / 20))


def test_a_rater_who_always_says_the_same_leaves_kappa_undefined():
    codes = np.array([[0, 0], [0, 1], [0, 1], [0, 2]])
    found = cohen_kappa(codes, 3)
    assert isinstance(found, Undefined)
    assert "one category only" in found.why


def test_nothing_rated_twice_is_undefined():
    codes = np.full((5, 3), -1)
    codes[:, 0] = 1
    for undefined in (percent_agreement(codes, 2), gwet_ac1(codes, 2), fleiss_kappa(codes, 2), krippendorff_alpha(codes)):
        assert isinstance(undefined, Undefined)
    assert isinstance(cohen_kappa(codes[:, :2], 2), Undefined)


def test_units_of_one_image_count_as_one_in_the_interval():
    codes = incomplete(3, units=60)
    thrice, clusters = np.repeat(codes, 3, axis=0), np.repeat(np.arange(60), 3)
    once, clustered, naive = gwet_ac1(codes, 3), gwet_ac1(thrice, 3, clusters), gwet_ac1(thrice, 3)
    assert clustered.value == pytest.approx(once.value)
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < 0.6 * (once.high - once.low)
