"""Effects of sites pooled, against a published meta-analysis and what follows by definition."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from srh_clinic.estimates import Undefined
from srh_clinic.validation.statistics.meta_analysis import meta_analysis

# Tuberculosis with and without vaccine, positive and negative: Colditz et al. 1994, JAMA 271:698.
BCG = """
4 119 11 128 6 300 29 274 3 228 11 209 62 13536 248 12619 33 5036 47 5761 180 1361 372 1079 8 2537 10 619
505 87886 499 87892 29 7470 45 7232 17 1699 65 1600 186 50448 141 27197 5 2493 3 2338 27 16886 29 17825
"""


def test_the_bcg_trials_pool_as_published() -> None:
    """Log risk ratios by DerSimonian and Laird, as in metafor's manual (Viechtbauer 2010, J. Stat. Softw. 36(3))."""
    a, b, c, d = np.array(BCG.split(), float).reshape(-1, 4).T
    effects, variances = np.log(a / (a + b) / (c / (c + d))), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)
    found = meta_analysis(effects, variances, [str(at) for at in range(13)])
    assert found.effect.value == pytest.approx(-0.7141, abs=5e-5)
    assert (found.dersimonian_laird.high - found.effect.value) / 1.959964 == pytest.approx(0.1787, abs=5e-5)
    assert (found.tau2, found.q, found.df) == (pytest.approx(0.3088, abs=5e-5), pytest.approx(152.233, abs=5e-4), 12)
    assert found.i2 == pytest.approx(0.9212, abs=5e-5)
    assert sum(found.weights.values()) == pytest.approx(1)
    by_hand = sum(w * (e - found.effect.value) ** 2 for w, e in zip(found.weights.values(), effects, strict=True)) / 12
    assert found.effect.high - found.effect.value == pytest.approx(2.178813 * by_hand**0.5, rel=1e-6)


def test_equal_sites_have_no_heterogeneity_and_no_narrower_interval_than_fixed_effects() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = meta_analysis([0.2, 0.2, 0.2], [0.01, 0.01, 0.01], ["a", "b", "c"])
    assert (found.tau2, found.i2, found.p) == (0, 0, pytest.approx(1))
    # Hartung and Knapp alone would give a width of 0; here it is t(2) x sqrt(.01 / 3).
    assert found.effect.high - 0.2 == pytest.approx(4.302653 * (0.01 / 3) ** 0.5, rel=1e-6)


def test_one_site_cannot_be_pooled() -> None:
    assert isinstance(meta_analysis([0.2], [0.01], ["a"]), Undefined)
