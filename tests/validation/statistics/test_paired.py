"""Tests of change, against published tables and all possibilities counted by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from srh_clinic.estimates import Undefined
from srh_clinic.validation.statistics.paired import holm, mcnemar, step_down, stuart_maxwell, within_patient_permutation


def test_mcnemar_is_binomial_in_the_discordant_pairs() -> None:
    before, after = np.repeat([1, 1, 0, 0], [20, 3, 12, 5]), np.repeat([1, 0, 1, 0], [20, 3, 12, 5])
    found = mcnemar(before, after)
    assert found.p == pytest.approx(stats.binomtest(3, 15).pvalue, rel=1e-12)
    assert (found.statistic, found.n, found.changed, found.unit, found.exact) == (3, 40, 15, "pair", True)


def test_mcnemar_does_not_see_what_became_wrong_from_nondiagnostic() -> None:
    right = np.repeat([1, 0], 10)
    assert isinstance(mcnemar(right, right), Undefined)


def test_stuart_maxwell_on_stuarts_vision_table() -> None:
    """Unaided distance vision of 7,477 women, right eye against left (Stuart 1955): chi-squared 11.96 with 3 df."""
    table = np.array([[1520, 266, 124, 66], [234, 1512, 432, 78], [117, 362, 1772, 205], [36, 82, 179, 492]])
    row, column = np.indices(table.shape)
    found = stuart_maxwell(np.repeat(row, table.ravel()), np.repeat(column, table.ravel()))
    assert found.statistic == pytest.approx(11.96, abs=0.005)
    assert found.df == 3
    assert found.p == pytest.approx(stats.chi2.sf(11.957, 3), rel=1e-3)
    assert found.n == table.sum() == 7477


def test_stuart_maxwell_of_two_classes_is_mcnemars_chi_squared() -> None:
    before, after = np.repeat(["a", "a", "b", "c"], [4, 14, 5, 30]), np.repeat(["a", "b", "a", "c"], [4, 14, 5, 30])
    found = stuart_maxwell(before, after)
    assert found.statistic == pytest.approx((14 - 5) ** 2 / (14 + 5), rel=1e-12)
    assert found.df == 1  # "c" is neither entered nor left


def test_stuart_maxwell_needs_a_change() -> None:
    assert isinstance(stuart_maxwell(["a", "b"], ["a", "b"]), Undefined)
    separate = stuart_maxwell(["a", "b", "c", "d"], ["b", "a", "d", "c"])
    assert isinstance(separate, Undefined)


def test_holm_steps_down_and_keeps_what_was_not_tested() -> None:
    found = holm({"a": 0.01, "b": None, "c": 0.04, "d": 0.03})
    # 3 x .01, 2 x .03, then the larger of 1 x .04 and what came before.
    assert found == {"a": pytest.approx(0.03), "b": None, "c": pytest.approx(0.06), "d": pytest.approx(0.06)}
    assert holm({"a": None}) == {"a": None}


def test_steps_down_are_those_of_statsmodels_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    for count, digits in ((1, 2), (7, 1), (12, 9), (29, 2)):  # with and without ties
        p = rng.random(count).round(digits)
        np.testing.assert_array_equal(step_down(p), multipletests(p, method="holm")[1])


def test_few_patients_are_permuted_in_all_ways() -> None:
    change = np.array([2.0, 1.0, 1.0, -1.0, 3.0, 0.0])
    found = within_patient_permutation(np.zeros(6), change, np.arange(6))
    signs = np.array(list(product([1, -1], repeat=5)))
    by_hand = np.mean(np.abs(signs @ change[:5]) >= abs(change.sum()))
    assert found.exact
    assert found.p == by_hand
    assert (found.statistic, found.n, found.changed, found.unit) == (1.0, 6, 5, "patient")


def test_drawn_permutations_agree_with_the_binomial() -> None:
    """With changes of one size only, flipping signs is McNemar's exact test."""
    change = np.repeat([1.0, -1.0, 0.0], [18, 7, 10])
    exact = stats.binomtest(7, 25).pvalue
    counted = within_patient_permutation(np.zeros(35), change, np.arange(35))
    assert counted.exact
    assert counted.p == pytest.approx(exact, rel=1e-12)
    change[0] = 3  # no longer of one size, so the signs are drawn
    exact = sum(stats.binom.cdf((11 - one) // 2, 24, 0.5) for one in (3, -3))  # of 24 signs and one that counts three times
    found = within_patient_permutation(np.zeros(35), change, np.arange(35), draws=9999)
    assert not found.exact
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact / 9999))


def test_copies_of_a_patients_cases_add_no_evidence() -> None:
    change, patients = np.array([1.0, 1.0, 1.0, -1.0, 1.0, 1.0]), np.arange(6)
    once = within_patient_permutation(np.zeros(6), change, patients)
    often = within_patient_permutation(np.zeros(60), np.repeat(change, 10), np.repeat(patients, 10))
    assert often.p == once.p
    assert mcnemar(np.repeat(change < 0, 10), np.repeat(change > 0, 10)).p < 0.01 * once.p


def test_changes_that_cancel_within_patients_are_no_evidence() -> None:
    assert isinstance(within_patient_permutation([0, 1, 0, 1], [1, 0, 1, 0], ["a", "a", "b", "b"]), Undefined)
