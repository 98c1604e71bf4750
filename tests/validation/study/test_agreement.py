"""Agreement against published values and independent implementations."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from srh_clinic.metrics import Interval, Undefined
from srh_clinic.validation.statistics.agreement import (
    cohen_kappa,
    cohen_pairs,
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
    assert (found.high - found.value) / 1.984217 == pytest.approx(0.04321747 * np.sqrt(100 / 99), rel=1e-5)


def test_ac1_with_missing_ratings_is_the_published_one():
    found = gwet_ac1(FOUR_RATERS, 5)
    assert found.value == pytest.approx(0.77544, abs=5e-6)
    # Published standard error .14295; Student's t of 11 degrees of freedom.
    assert (found.value - found.low) / 2.200985 == pytest.approx(0.14295, abs=5e-6)
    assert found.high == 1
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
    assert (found.high - found.value) / 1.96 == pytest.approx(0.05891072, rel=0.01)


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
