"""Effects by site, against what follows by definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated_cohort import simulated_cohort

from srh_clinic.estimates import Undefined
from srh_clinic.validation.shift.records import Cohort
from srh_clinic.validation.shift.simulated import Scenario
from srh_clinic.validation.shift.sites import heterogeneity, least_variance, pooled, site_effects
from srh_clinic.validation.statistics.clusters import standard_errors


def three_sites(seed: int = 2) -> Cohort:
    cohort = simulated_cohort(Scenario("any", (0.5, 0.2), (0.2, 0.1), patients=90), seed)
    site = {name: "abc"[at % 3] for at, name in enumerate(dict.fromkeys(case.patient for case in cohort.cases))}
    return Cohort(tuple(replace(case, site=site[case.patient]) for case in cohort.cases))


def test_one_site_cannot_differ() -> None:
    assert isinstance(heterogeneity(three_sites().only(lambda case: case.site == "a")), Undefined)


def test_a_sites_variance_is_the_cluster_sandwich() -> None:
    cohort = three_sites()
    for row in site_effects(cohort):
        part = cohort.only(lambda case, name=row.name: case.site == name)
        right = [part.outcomes(when) == 0 for when in ("before", "after")]
        errors = standard_errors(right[1].astype(float), right[0].astype(float), part.patients)
        assert row.variance > least_variance(row.patients)
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
    assert (rows[2].effect, rows[2].variance) == (0, least_variance(30))
    assert max(pooled(rows).weights.values()) < 0.9


def test_the_least_variance_is_that_of_one_patient_who_changed() -> None:
    errors = standard_errors(np.eye(31)[0], np.zeros(31), np.arange(31))
    # Of 31 patients: ddof-1 variance 1 / 31 of the changes, over 31.
    assert errors.clustered**2 == pytest.approx(1 / 31**2, rel=1e-12)
    assert least_variance(30) == pytest.approx(errors.clustered**2, rel=0.04)
