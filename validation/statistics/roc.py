"""How well a probability tells one class from the others: areas under ROC curves before and after, and their difference.

:func:`delong` needs independent rows, one a patient; :func:`obuchowski` takes several cases of a patient, whatever their
truth. A score is a class's probability, positive is that class against the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import expit, logit

from srh_clinic.estimates import Finding, Interval, Undefined, codes, proportion
from srh_clinic.validation.statistics.clusters import FEWEST_PATIENTS, per_patient

PERFECT = 1e-12
"""How far an area may be from 0 or 1 and still be it: what remains of rounding."""

ALL_TIED = "all cases have the same score, so nothing is ranked and the area has no variance"
ALL_ALIKE = "every case scores alike against those of the other class, so the area has no variance"

Components = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class TwoAucs:
    """Areas under two ROC curves of the same cases.

    Attributes
    ----------
    before, after, difference
        With their intervals; ``difference`` is after less before. Undefined where the variance is 0 and says nothing.
    variance_before, variance_after, covariance
        Of the two areas.
    p
        Two-sided, of no difference; None where it is Undefined.
    df
        Degrees of freedom of Student's t behind intervals and p; None where they are normal.
    """

    before: Finding
    after: Finding
    difference: Finding
    variance_before: float
    variance_after: float
    covariance: float
    p: float | None
    df: int | None


def roc_points(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False positive rate and sensitivity, ``(K,)`` each, at ever lower thresholds; points on a straight line are left out.

    Parameters
    ----------
    scores, positive
        ``(N,)``, of both kinds.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # cases of one score are called together
    above = np.cumsum(positive[order])[last]
    below = last + 1 - above
    if len(last) > 2:
        corner = np.concatenate([[True], (np.diff(below, 2) != 0) | (np.diff(above, 2) != 0), [True]])
        above, below = above[corner], below[corner]
    return np.append(0, below) / below[-1], np.append(0, above) / above[-1]


def structural_components(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> Components:
    """Share of negatives that each positive scores above, ``(m,)``, and of positives above each negative, ``(n,)``.

    From mid-ranks (Sun and Xu 2014, IEEE Signal Process. Lett. 21:1389), in the order of the cases. Both average to the AUC.
    """
    above, below = scores[positive], scores[~positive]
    ranks = stats.rankdata(np.concatenate([above, below]))
    of_positives = (ranks[: len(above)] - stats.rankdata(above)) / len(below)
    of_negatives = 1 - (ranks[len(above) :] - stats.rankdata(below)) / len(above)
    return of_positives, of_negatives


def delong(positive: ArrayLike, before: ArrayLike, after: ArrayLike, *, level: float = 0.95) -> TwoAucs | Undefined:
    """Two correlated AUCs by DeLong, DeLong and Clarke-Pearson (1988, Biometrics 44:837), for independent rows.

    The interval of one area is taken on the logit scale, which keeps it within [0, 1] (Pepe 2003, section 5.2.5); the
    difference's is Wald's, p its z test. An area of 0 or 1 has no variance: its interval is Clopper and Pearson's over
    ``min(m, n)`` disjoint pairs of a positive and a negative, which all are in the same order and independent.

    Parameters
    ----------
    positive
        ``(N,)``, true for the class in question.
    before, after
        Scores ``(N,)`` of the same cases. ``n`` of an interval is N.

    Returns
    -------
    Undefined with fewer than 8 rows, or fewer than two positives or negatives.
    """
    first, is_positive = _checked(positive, before)
    second, _ = _checked(positive, after)
    m, n = int(is_positive.sum()), int((~is_positive).sum())
    if m < 2 or n < 2:
        return Undefined(f"there are {m} cases of the class and {n} of the others; a variance needs two of each")
    if m + n < FEWEST_PATIENTS:
        return Undefined(f"there are {m + n} cases; an interval needs {FEWEST_PATIENTS} or more")
    parts = [structural_components(score, is_positive) for score in (first, second)]
    covariance = np.cov([one[0] for one in parts]) / m + np.cov([one[1] for one in parts]) / n
    areas = [float(one[0].mean()) for one in parts]
    return _two_aucs((first, second), areas, covariance, m + n, min(m, n), None, level)


def obuchowski(
    positive: ArrayLike, before: ArrayLike, after: ArrayLike, patients: ArrayLike, *, level: float = 0.95
) -> TwoAucs | Undefined:
    """Two correlated AUCs of clustered cases (Obuchowski 1997, Biometrics 53:567).

    The structural components of a patient's cases are summed, and patients are the sample; positives and negatives of one
    patient may depend on each other. With one case a patient the variances are DeLong's exactly: every patient then has one
    component of one kind, the cross term ``S11`` is 0, and ``I10`` and ``I01`` are the numbers of positives and negatives.

    The published interval is normal. Here the quantile is Student's with ``min(I10, I01) - 1`` degrees of freedom, as the
    variance is known from no more patients than have a positive or a negative; else as in :func:`delong`.

    Parameters
    ----------
    positive, before, after
        As for :func:`delong`.
    patients
        ``(N,)``: label of each case's patient. ``n`` of an interval is their number.

    Returns
    -------
    Undefined with fewer than 8 patients, or fewer than two with a positive or with a negative.
    """
    first, is_positive = _checked(positive, before)
    second, _ = _checked(positive, after)
    patient = codes(patients)
    if len(patient) != len(first):
        raise ValueError(f"found {len(patient)} patients of {len(first)} cases; needed one a case.")
    of = len(np.unique(patient))
    with_positive, with_negative = len(np.unique(patient[is_positive])), len(np.unique(patient[~is_positive]))
    if with_positive < 2 or with_negative < 2:
        return Undefined(
            f"{with_positive} patients have a case of the class and {with_negative} one of the others; "
            "a variance needs two of each"
        )
    if of < FEWEST_PATIENTS:
        return Undefined(f"there are {of} patients; an interval needs {FEWEST_PATIENTS} or more")
    m, n = int(is_positive.sum()), int((~is_positive).sum())
    areas, of_positives, of_negatives = [], [], []
    for score in (first, second):
        ten, one = structural_components(score, is_positive)
        area = float(ten.mean())
        centred = np.empty(len(score))
        centred[is_positive], centred[~is_positive] = ten - area, one - area
        areas.append(area)
        of_positives.append(per_patient(np.where(is_positive, centred, 0), patient))
        of_negatives.append(per_patient(np.where(is_positive, 0, centred), patient))
    tens, ones = np.array(of_positives), np.array(of_negatives)
    cross = tens @ ones.T * of / (of - 1)
    covariance = (
        tens @ tens.T * with_positive / (with_positive - 1) / m**2
        + ones @ ones.T * with_negative / (with_negative - 1) / n**2
        + (cross + cross.T) / (m * n)
    )
    fewest = min(with_positive, with_negative)
    return _two_aucs((first, second), areas, covariance, of, fewest, fewest - 1, level)


def _two_aucs(
    scores: tuple[NDArray[np.float64], NDArray[np.float64]],
    areas: list[float],
    covariance: NDArray[np.float64],
    n: int,
    pairs: int,
    df: int | None,
    level: float,
) -> TwoAucs:
    at = (1 + level) / 2
    quantile = float(stats.norm.ppf(at) if df is None else stats.t.ppf(at, df))
    each = [
        _area(score, area, float(covariance[k, k]), n, pairs, quantile, level)
        for k, (score, area) in enumerate(zip(scores, areas, strict=True))
    ]
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference: Finding
    p: float | None = None
    if variance <= 1e-15:
        difference = Undefined(_why_no_variance(scores, areas))
    else:
        value, error = areas[1] - areas[0], float(np.sqrt(variance))
        low, high = max(value - quantile * error, -1.0), min(value + quantile * error, 1.0)
        difference = Interval(value, low, high, n, level)
        p = 2 * float(stats.norm.sf(abs(value) / error) if df is None else stats.t.sf(abs(value) / error, df))
    return TwoAucs(
        each[0],
        each[1],
        difference,
        max(float(covariance[0, 0]), 0.0),
        max(float(covariance[1, 1]), 0.0),
        float(covariance[0, 1]),
        p,
        df,
    )


def _area(
    scores: NDArray[np.float64], area: float, variance: float, n: int, pairs: int, quantile: float, level: float
) -> Finding:
    if min(area, 1 - area) < PERFECT:
        exact = proportion(round(area) * pairs, pairs, level=level)
        return Interval(float(round(area)), exact.low, exact.high, n, level)
    if variance <= 1e-15:
        return Undefined(ALL_TIED if np.ptp(scores) == 0 else ALL_ALIKE)
    half = quantile * float(np.sqrt(variance)) / (area * (1 - area))
    return Interval(area, float(expit(logit(area) - half)), float(expit(logit(area) + half)), n, level)


def _why_no_variance(scores: tuple[NDArray[np.float64], NDArray[np.float64]], areas: list[float]) -> str:
    """Why the difference of two areas has no variance."""
    tied = [float(np.ptp(score)) == 0 for score in scores]
    apart = [min(area, 1 - area) < PERFECT for area in areas]
    if all(tied):
        return "before and after all cases have the same score, so nothing is ranked"
    if any(tied):
        return f"{'before' if tied[0] else 'after'} {ALL_TIED}"
    if all(apart):
        return "before and after the classes are wholly apart, so the areas have no variance"
    if np.array_equal(*(stats.rankdata(score) for score in scores)):
        return "before and after rank the cases alike, so their difference has no variance"
    return "the area of every case changes by the same, so their difference has no variance"


def _checked(positive: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    score, is_positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if score.ndim != 1 or score.shape != is_positive.shape:
        raise ValueError(f"found {score.shape} scores of {is_positive.shape} cases; needed one a case, (N,).")
    return score, is_positive
