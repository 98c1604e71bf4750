"""Areas under ROC curves, against a published comparison, scikit-learn and double loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from srh_clinic.estimates import Undefined, proportion
from srh_clinic.validation.statistics.roc import TwoAucs, delong, obuchowski, roc_points, structural_components

# Albumin, total protein, K-G score, and whether surgery helped: DeLong, DeLong and Clarke-Pearson 1988, the 43 complete
# patients as printed in the SAS/STAT manual, "Comparing Receiver Operating Characteristic Curves".
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1 3.7 6.7 6 1
3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1
3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1
3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


def standard_error(found: TwoAucs) -> float:
    return float(np.sqrt(found.variance_before + found.variance_after - 2 * found.covariance))


def psi(x: float, y: float) -> float:
    return 1.0 if x > y else 0.5 if x == y else 0.0


def clustered_scores(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    patients = np.repeat(np.arange(30), random.integers(1, 6, 30))
    positive = random.random(len(patients)) < 0.5
    shared = random.normal(size=30)[patients]
    # Rounded, so that there are ties.
    before, after = (np.round(shared + random.normal(size=len(patients)) + gain * positive, 1) for gain in (0.5, 1.2))
    return positive, before, after, patients


def test_delong_finds_the_published_comparison() -> None:
    albumin, protein, score, helped = np.array(OVARIAN.split(), float).reshape(-1, 4).T
    found = delong(helped == 1, 10 - score, albumin)
    assert (found.before.value, found.after.value) == pytest.approx((0.7258, 0.7366), abs=5e-5)
    assert (found.variance_before**0.5, found.variance_after**0.5) == pytest.approx((0.1028, 0.0927), abs=5e-5)
    assert (found.difference.value, standard_error(found), found.p) == pytest.approx((0.0108, 0.0953, 0.9102), abs=5e-5)
    found = delong(helped == 1, 10 - score, protein)
    assert (found.difference.value, standard_error(found), found.p) == pytest.approx((-0.0780, 0.1046, 0.4561), abs=5e-5)


def test_delong_is_its_definition_by_double_loop() -> None:
    positive, before, after, _ = clustered_scores()
    components = []
    for score in (before, after):
        x, y = score[positive], score[~positive]
        components.append(([np.mean([psi(a, b) for b in y]) for a in x], [np.mean([psi(a, b) for a in x]) for b in y]))
    m, n = positive.sum(), (~positive).sum()
    covariance = np.cov([c[0] for c in components]) / m + np.cov([c[1] for c in components]) / n
    found = delong(positive, before, after)
    assert (found.variance_before, found.variance_after, found.covariance) == pytest.approx(
        (covariance[0, 0], covariance[1, 1], covariance[0, 1]), rel=1e-12
    )


def test_obuchowski_is_its_definition_by_loops() -> None:
    positive, before, after, patients = clustered_scores()
    m, n, clusters = positive.sum(), (~positive).sum(), np.unique(patients)
    with_x = [one for one in clusters if positive[patients == one].any()]
    with_y = [one for one in clusters if (~positive)[patients == one].any()]
    tens, ones = np.zeros((2, len(clusters))), np.zeros((2, len(clusters)))
    for row, score in enumerate((before, after)):
        x, y = score[positive], score[~positive]
        theta = np.mean([[psi(a, b) for b in y] for a in x])
        for one in clusters:
            for at in np.flatnonzero(patients == one):
                if positive[at]:
                    tens[row, one] += np.mean([psi(score[at], b) for b in y]) - theta
                else:
                    ones[row, one] += np.mean([psi(a, score[at]) for a in x]) - theta
    i, i10, i01 = len(clusters), len(with_x), len(with_y)
    covariance = np.zeros((2, 2))
    for r, s in np.ndindex(2, 2):
        s10 = i10 / ((i10 - 1) * m) * sum(tens[r] * tens[s])
        s01 = i01 / ((i01 - 1) * n) * sum(ones[r] * ones[s])
        s11 = i / (i - 1) * (sum(tens[r] * ones[s]) + sum(tens[s] * ones[r]))
        covariance[r, s] = s10 / m + s01 / n + s11 / (m * n)
    found = obuchowski(positive, before, after, patients)
    assert (found.variance_before, found.variance_after, found.covariance) == pytest.approx(
        (covariance[0, 0], covariance[1, 1], covariance[0, 1]), rel=1e-10
    )
    assert found.df == min(i10, i01) - 1


def test_with_one_case_a_patient_obuchowskis_variance_is_delongs() -> None:
    positive, before, after, _ = clustered_scores()
    one, other = delong(positive, before, after), obuchowski(positive, before, after, np.arange(len(positive)))
    assert (one.variance_before, one.variance_after, one.covariance) == pytest.approx(
        (other.variance_before, other.variance_after, other.covariance), rel=1e-10
    )
    assert other.p > one.p  # Student's t, not the normal


def test_copies_of_cases_shrink_delongs_error_and_not_obuchowskis() -> None:
    positive, before, after, patients = clustered_scores()
    four = [np.repeat(one, 4) for one in (positive, before, after, patients)]
    once, often = obuchowski(positive, before, after, patients), obuchowski(*four)
    assert standard_error(often) == pytest.approx(standard_error(once), rel=1e-10)
    assert standard_error(delong(*four[:3])) < 0.55 * standard_error(delong(positive, before, after))


def test_auc_with_ties_is_scikit_learns() -> None:
    positive, before, _, _ = clustered_scores()
    assert structural_components(before, positive)[0].mean() == pytest.approx(roc_auc_score(positive, before), rel=1e-12)


def test_the_curves_points_are_scikit_learns() -> None:
    positive, before, after, _ = clustered_scores()
    for scores in (before, after, np.zeros(len(positive)), positive.astype(float)):
        expected = roc_curve(positive, scores)[:2]
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(roc_points(scores, positive), expected, strict=True))


def test_a_perfect_area_has_the_exact_interval_of_disjoint_pairs() -> None:
    positive = np.repeat([True, False], [12, 20])
    found = delong(positive, np.arange(32) % 5, positive.astype(float))
    assert (found.after.value, found.after.low, found.after.high) == (1, pytest.approx(proportion(12, 12).low), 1)


def test_what_the_cases_do_not_determine_is_undefined() -> None:
    score = np.arange(12.0)
    assert isinstance(delong(np.ones(12), score, score), Undefined)
    assert isinstance(delong(score > 10, score, score), Undefined)
    assert isinstance(delong(score[:6] > 2, score[:6], score[:6]), Undefined)
    assert isinstance(obuchowski(score > 5, score, score, np.repeat(np.arange(4), 3)), Undefined)
    same = delong(score % 2 == 0, score, score)
    assert isinstance(same.difference, Undefined)
    assert same.p is None
    assert isinstance(delong(score > 5, np.ones(12), score).before, Undefined)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (np.ones(12), np.ones(12), "before and after all cases have the same score"),
        (np.ones(12), np.arange(12.0), "before all cases have the same score"),
        (np.arange(12.0), np.ones(12), "after all cases have the same score"),
        (-np.arange(12.0), np.arange(12.0), "before and after the classes are wholly apart"),
        (np.arange(12.0) % 5, np.arange(12.0) % 5 / 7, "before and after rank the cases alike"),
    ],
)
def test_why_a_difference_has_no_variance_is_the_true_reason(before: np.ndarray, after: np.ndarray, why: str) -> None:
    positive = np.arange(12) > 5
    for found in (delong(positive, before, after), obuchowski(positive, before, after, np.arange(12))):
        assert isinstance(found.difference, Undefined)
        assert found.difference.why.startswith(why)
        assert found.p is None


def test_an_area_of_tied_cases_says_so() -> None:
    found = delong(np.arange(12) > 5, np.ones(12), np.arange(12.0) % 5)
    assert isinstance(found.before, Undefined)
    assert found.before.why.startswith("all cases have the same score")


def test_over_random_scores_p_is_below_5_percent_where_the_interval_excludes_no_difference() -> None:
    random = np.random.default_rng(0)
    below = 0
    for _ in range(200):
        n = int(random.integers(10, 60))
        positive, patients = random.random(n) < 0.5, random.integers(0, 15, n)
        before, after = random.normal(size=n), random.normal(size=n) + random.choice([0.0, 1.5]) * positive
        for found in (delong(positive, before, after), obuchowski(positive, before, after, patients)):
            if isinstance(found, Undefined) or isinstance(found.difference, Undefined):
                continue
            below += found.p < 0.05
            assert (found.p < 0.05) == (not found.difference.low <= 0 <= found.difference.high)
    assert 30 < below < 370
