"""Whether the shift is the same everywhere: effects by site or another stratum, pooled, and how much they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from srh_clinic.diagnosis import OUTCOMES
from srh_clinic.estimates import Finding, Interval, Undefined, codes
from srh_clinic.validation.shift.records import Cohort
from srh_clinic.validation.statistics.clusters import difference, per_patient

Stratum = Literal["site", "depth", "subtype", "severity"]


@dataclass(frozen=True)
class MetaAnalysis:
    """Effects of several sites put together as random draws from all sites.

    Attributes
    ----------
    effect
        With Hartung and Knapp's interval; ``n`` is the number of sites.
    dersimonian_laird
        The same with the normal interval, which is too narrow with few sites.
    tau2
        Variance between sites, DerSimonian and Laird's.
    q, df, p
        Cochran's Q, its degrees of freedom, and p of no difference between sites.
    i2
        Share of the spread that is between sites, 0 to 1.
    weights
        Of each site, by name, adding up to 1.
    """

    effect: Interval
    dersimonian_laird: Interval
    tau2: float
    q: float
    df: int
    p: float
    i2: float
    weights: dict[str, float]


@dataclass(frozen=True)
class SiteEffect:
    """A site: its size, accuracy before and after, and the shift between them.

    ``variance`` is that of the shift, by patients; ``floored`` says that it was raised to :func:`least_variance`.
    """

    name: str
    patients: int
    cases: int
    before: float
    after: float
    shift: Finding
    variance: float
    floored: bool

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


def meta_analysis(
    effects: ArrayLike, variances: ArrayLike, names: Sequence[str], *, level: float = 0.95
) -> MetaAnalysis | Undefined:
    """Random effects by DerSimonian and Laird (1986, Control. Clin. Trials 7:177), interval by Hartung and Knapp (2001).

    The latter (Stat. Med. 20:3875) scales the variance by how the effects spread and takes Student's t. Where they agree
    better than chance lets them, it would shrink the interval; it is then not scaled (Röver et al. 2015, BMC Med. Res.
    Methodol. 15:99).

    Parameters
    ----------
    effects, variances
        ``(K,)``, of independent sites, variances above 0.
    names
        K of them.

    Returns
    -------
    Undefined with fewer than two sites.

    Raises
    ------
    ValueError
        When shapes differ or a variance is not above 0.
    """
    from statsmodels.stats.meta_analysis import combine_effects

    effect, variance = np.asarray(effects, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if effect.ndim != 1 or not effect.shape == variance.shape == (len(names),):
        raise ValueError(f"found {effect.shape} effects, {variance.shape} variances, {len(names)} names; needed K of each.")
    if not (variance > 0).all():
        raise ValueError("found a variance of 0; needed all above 0, see least_variance.")
    if len(effect) < 2:
        return Undefined("how sites differ needs two of them")
    with np.errstate(invalid="ignore"):  # of random effects with a tau2 below 0, which are not taken
        found = combine_effects(effect, variance, method_re="dl")
    if found.tau2 < 0:  # statsmodels does not cut it off at 0; without it, fixed effects are what is left
        value, error, scaled, weights = (
            float(found.mean_effect_fe),
            float(found.sd_eff_w_fe),
            float(found.var_hksj_fe),
            np.asarray(found.weights_rel_fe),
        )
    else:
        value, error, scaled, weights = (
            float(found.mean_effect_re),
            float(found.sd_eff_w_re),
            float(found.var_hksj_re),
            np.asarray(found.weights_rel_re),
        )
    df, at = len(effect) - 1, (1 + level) / 2
    half = float(stats.t.ppf(at, df)) * max(error, float(np.sqrt(scaled)))
    normal = float(stats.norm.ppf(at)) * error
    q = max(float(found.q), 0.0)  # a sum of squares, but for rounding
    return MetaAnalysis(
        Interval(value, value - half, value + half, len(effect), level),
        Interval(value, value - normal, value + normal, len(effect), level),
        max(float(found.tau2), 0.0),
        q,
        df,
        float(stats.chi2.sf(q, df)),
        max(1 - df / q, 0.0) if q > 0 else 0.0,
        {name: float(weight) for name, weight in zip(names, weights, strict=True)},
    )


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
                raw < least_variance(of),
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
    correct = OUTCOMES.index("correct")
    return (cohort.outcomes("before") == correct).astype(np.float64), (cohort.outcomes("after") == correct).astype(np.float64)


def _strata(cohort: Cohort, by: Stratum) -> NDArray[np.str_]:
    return np.array([getattr(case, by) for case in cohort.cases], dtype=np.str_)
