"""Effects by site, against a published meta-analysis and what follows by definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from srh_clinic.metrics import Undefined
from srh_clinic.validation.shift.records import Cohort
from srh_clinic.validation.shift.simulated import Scenario, simulated_cohort
from srh_clinic.validation.shift.sites import heterogeneity, least_variance, meta_analysis, pooled, site_effects
from srh_clinic.validation.statistics.clusters import standard_errors

# Tuberculosis with and without vaccine, positive and negative: Colditz et al. 1994, JAMA 271:698.
BCG = """
4 119 11 128 6 300 29 274 3 228 11 209 62 13536 248 12619 33 5036 47 5761 180 1361 372 1079 8 2537 10 619
505 87886 499 87892 29 7470 45 7232 17 1699 65 1600 186 50448 141 27197 5 2493 3 2338 27 16886 29 17825
"""


def three_sites(seed: int = 2) -> Cohort:
    cohort = simulated_cohort(Scenario("any", (0.5, 0.2), (0.2, 0.1), patients=90), seed)
    site = {name: "abc"[at % 3] for at, name in enumerate(dict.fromkeys(case.patient for case in cohort.cases))}
    return Cohort(tuple(replace(case, site=site[case.patient]) for case in cohort.cases))


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
    found = meta_analysis([0.2, 0.2, 0.2], [0.01, 0.01, 0.01], ["a", "b", "c"])
    assert (found.tau2, found.i2, found.p) == (0, 0, pytest.approx(1))
    # Hartung and Knapp alone would give a width of 0; here it is t(2) x sqrt(.01 / 3).
    assert found.effect.high - 0.2 == pytest.approx(4.302653 * (0.01 / 3) ** 0.5, rel=1e-6)


def test_one_site_cannot_differ() -> None:
    assert isinstance(meta_analysis([0.2], [0.01], ["a"]), Undefined)
    assert isinstance(heterogeneity(three_sites().only(lambda case: case.site == "a")), Undefined)


def test_a_sites_variance_is_the_cluster_sandwich() -> None:
    cohort = three_sites()
    for row in site_effects(cohort):
        part = cohort.only(lambda case, name=row.name: case.site == name)
        right = [part.outcomes(when) == 0 for when in ("before", "after")]
        errors = standard_errors(right[1].astype(float), right[0].astype(float), part.patients)
        assert not row.floored
        assert row.variance == pytest.approx(errors.clustered**2, rel=1e-12)
        assert (row.patients, row.cases) == (30, len(part))
        assert row.effect == pytest.approx(row.shift.value)


def test_without_shared_patients_the_wald_test_is_cochrans_q() -> None:
    cohort = three_sites()
    found, q = heterogeneity(cohort), pooled(site_effects(cohort))
    assert (found.statistic, found.df, found.p) == pytest.approx((q.q, q.df, q.p), rel=1e-9)


def test_depths_of_the_same_patients_are_compared_within_patients() -> None:
    """Cases twice, at two depths: both shifts are the same number, and their difference has no variance to speak of."""
    cohort = three_sites()
    twice = Cohort(tuple(replace(case, depth=depth) for case in cohort.cases for depth in ("shallow", "deep")))
    found = heterogeneity(twice, "depth")
    assert (found.statistic, found.p) == pytest.approx((0, 1))
    shallow, deep = site_effects(twice, "depth")
    assert shallow.effect == deep.effect


def test_a_site_where_all_changed_alike_does_not_get_all_the_weight() -> None:
    cohort = three_sites()
    moved = [case if case.site != "c" else replace(case, after=case.before) for case in cohort.cases]
    rows = site_effects(Cohort(tuple(moved)))
    assert (rows[2].effect, rows[2].floored, rows[2].variance) == (0, True, least_variance(30))
    assert max(pooled(rows).weights.values()) < 0.9


def test_the_least_variance_is_that_of_one_patient_who_changed() -> None:
    errors = standard_errors(np.eye(31)[0], np.zeros(31), np.arange(31))
    # Of 31 patients: ddof-1 variance 1 / 31 of the changes, over 31.
    assert errors.clustered**2 == pytest.approx(1 / 31**2, rel=1e-12)
    assert least_variance(30) == pytest.approx(errors.clustered**2, rel=0.04)
