"""The raters: against known truths and published numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from analysed import TRUTH
from simulated_study import simulated_unblinded

from srh_clinic.metrics import Undefined
from srh_clinic.validation.study.analysis.raters import bang_index, blinding_table, repeats_table
from srh_clinic.validation.study.analysis.views import views


def test_answers_to_a_repeat_are_compared_by_method_and_not_by_side():
    constant = dataclasses.replace(TRUTH, consistency=1.0)
    rows = {row["question"]: row for row in repeats_table(views(simulated_unblinded(constant, seed=3))).rows}
    assert rows["quality"]["same"].value == 1
    assert rows["quality"]["pairs"] == 90


def test_bangs_index_is_his_example():
    # CRISP: 82 of 277 guessed the drug they took, 25 placebo, 170 did not know (Bang, Ni and Davis 2004).
    found = bang_index(82, 25, 170)
    assert found.value == pytest.approx(0.206, abs=5e-4)
    p, q = 82 / 277, 25 / 277
    variance = (p * (1 - p) + q * (1 - q) + 2 * p * q) / 277
    assert (found.high - found.value) / 1.96 == pytest.approx(np.sqrt(variance))
    assert isinstance(bang_index(0, 0, 0), Undefined)


@pytest.mark.parametrize(("guesses", "low", "high"), [((9, 0, 0), 1 - 2 * 0.33627, 1), ((0, 0, 9), -0.33627, 0.33627)])
def test_guesses_that_are_all_alike_leave_the_index_open(guesses, low, high):
    found = bang_index(*guesses)
    # None of 9 are of another kind: Clopper and Pearson's 1 - .025 ** (1 / 9) = .33627.
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))


def test_raters_who_know_the_method_are_not_blind():
    known = views(simulated_unblinded(dataclasses.replace(TRUTH, recognition=1.0), seed=1))
    row = blinding_table(known).rows[-1]
    assert (row["right"], row["wrong"], row["unsure"]) == (900, 0, 0)
    assert row["index"].value == 1
    assert 0.8 < row["index"].low < 1
