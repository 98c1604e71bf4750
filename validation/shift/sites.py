"""Whether the shift is the same everywhere: effects by site or another stratum, pooled, and how much they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from srh_clinic.estimates import Finding, Undefined, codes
from srh_clinic.validation.shift.records import Cohort
from srh_clinic.validation.statistics.clusters import difference, per_patient
from srh_clinic.validation.statistics.meta_analysis import MetaAnalysis, meta_analysis

Stratum = Literal["site", "depth", "subtype", "severity"]


@dataclass(frozen=True)
class SiteEffect:
    """A site: its size, accuracy before and after, and the shift between them.

    ``variance`` is that of the shift, by patients, at least :func:`least_variance`.
    """

    name: str
    patients: int
    cases: int
    before: float
    after: float
    shift: Finding
    variance: float

    @property
    def effect(self) -> float:
        """Accuracy after less before."""
        return self.after - self.before


@dataclass(frozen=True)
class Heterogeneity:
    """A test that the shift is the same in all strata: chi-squared with ``df`` degrees of freedom."""

    statistic: float
    df: int
    p: float


def least_variance(patients: int) -> float:
    """Variance of a site's shift below which it is not believed: ``1 / (K (K + 1))`` for K patients.

    A site where all patients changed alike, or with one patient, shows a variance of 0 and would have all the weight. This is
    the sandwich's variance of a mean over K + 1 patients of whom one changed by 1 and the others by 0.
    """
    return 1 / (patients * (patients + 1))


def site_effects(cohort: Cohort, by: Stratum = "site", *, resamples: int = 2000, seed: int = 0) -> tuple[SiteEffect, ...]:
    """Each site's accuracy before and after, in order of name; cases of no named site are left out.

    The variance of the shift is the cluster sandwich over the site's patients, at least :func:`least_variance`. Works as well
    by depth or any other stratum; there a patient may lie in several, so :func:`heterogeneity` compares them and Q does not.
    """
    before, after = _right(cohort)
    stratum, patient = _strata(cohort, by), cohort.patients
    rows = []
    for name in sorted(set(stratum) - {""}):
        here = stratum == name
        change = after[here] - before[here]
        of = len(np.unique(patient[here]))
        raw = float((per_patient(change - change.mean(), codes(patient[here])) ** 2).sum()) / len(change) ** 2
        raw *= of / (of - 1) if of > 1 else 0.0
        rows.append(
            SiteEffect(
                str(name),
                of,
                int(here.sum()),
                float(before[here].mean()),
                float(after[here].mean()),
                difference(after[here], before[here], patient[here], resamples=resamples, seed=seed),
                max(raw, least_variance(of)),
            )
        )
    return tuple(rows)


def pooled(rows: Sequence[SiteEffect], *, level: float = 0.95) -> MetaAnalysis | Undefined:
    """The shift over all sites; see :func:`meta_analysis`."""
    return meta_analysis([row.effect for row in rows], [row.variance for row in rows], [row.name for row in rows], level=level)


def heterogeneity(cohort: Cohort, by: Stratum = "site") -> Heterogeneity | Undefined:
    """Wald's test that the shift is the same in all strata, which may share patients.

    The covariance of the strata's shifts is the cluster sandwich over patients: a patient's residual totals in two strata
    multiply. Variances are at least :func:`least_variance`. Where no patient lies in two strata it is Cochran's Q. In large
    samples chi-squared; with few patients a stratum p is too small.

    Returns
    -------
    Undefined with fewer than two strata.
    """
    rows = site_effects(cohort, by, resamples=1)
    if len(rows) < 2:
        return Undefined(f"a comparison by {by} needs two of them")
    before, after = _right(cohort)
    stratum, patient = _strata(cohort, by), cohort.patients
    totals = np.zeros((len(rows), int(patient.max()) + 1))
    for place, row in enumerate(rows):
        residual = np.where(stratum == row.name, after - before - row.effect, 0.0)
        spread = np.sqrt(row.patients / (row.patients - 1)) if row.patients > 1 else 0.0
        totals[place] = np.bincount(patient, residual, minlength=totals.shape[1]) / row.cases * spread
    covariance = totals @ totals.T
    np.fill_diagonal(covariance, [row.variance for row in rows])
    contrasts = np.eye(len(rows))[1:] - np.eye(len(rows))[0]
    apart = contrasts @ np.array([row.effect for row in rows])
    statistic = float(apart @ np.linalg.pinv(contrasts @ covariance @ contrasts.T, hermitian=True) @ apart)
    return Heterogeneity(statistic, len(rows) - 1, float(stats.chi2.sf(statistic, len(rows) - 1)))


def _right(cohort: Cohort) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Which cases are right before and after, 0 or 1, ``(N,)``."""
    return cohort.correct("before").astype(np.float64), cohort.correct("after").astype(np.float64)


def _strata(cohort: Cohort, by: Stratum) -> NDArray[np.str_]:
    return np.array([getattr(case, by) for case in cohort.cases], dtype=np.str_)
