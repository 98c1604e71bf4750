"""Tests of whether anything changed, each saying at which level its assumptions hold.

McNemar's and Stuart and Maxwell's tests need independent pairs. Patches or slides of one patient are not: give them one pair a
patient. :func:`within_patient_permutation` takes cases as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from srh_clinic.estimates import Undefined, codes
from srh_clinic.validation.statistics.clusters import per_patient
from srh_clinic.validation.statistics.swapping import swapped


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test of before against after.

    Attributes
    ----------
    n
        Pairs, or patients where ``unit`` is ``"patient"``.
    changed
        How many of the n differ at all between before and after; the others tell nothing.
    unit
        What must be independent of each other for p to hold: ``"pair"``, each row, so one row a patient; or ``"patient"``,
        whose rows may depend on each other in any way.
    df
        Degrees of freedom of a chi-squared statistic; None for an exact test.
    exact
        p counts every possibility, by the binomial distribution or one by one.
    """

    name: str
    statistic: float
    p: float
    n: int
    changed: int
    unit: Literal["pair", "patient"]
    df: int | None = None
    exact: bool = False


def mcnemar(before_right: ArrayLike, after_right: ArrayLike) -> PairedTest | Undefined:
    """McNemar's exact test of equal accuracy (1947, Psychometrika 12:153): the smaller of gains and losses is binomial.

    Holds for independent pairs: one a patient. It does not see what became wrong from nondiagnostic, as neither is right.

    Parameters
    ----------
    before_right, after_right
        ``(N,)``, true or 1 for a correct diagnosis.

    Returns
    -------
    Undefined where no pair is discordant. The statistic is the smaller of the two numbers of discordant pairs.
    """
    from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar

    before, after = np.asarray(before_right, dtype=bool), np.asarray(after_right, dtype=bool)
    _pairs(before, after)
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    if lost + gained == 0:
        return Undefined("no pair is right at one time and not at the other")
    table = [[int((before & after).sum()), lost], [gained, int((~before & ~after).sum())]]
    found = exact_mcnemar(table, exact=True)
    return PairedTest(
        "McNemar, exact", float(found.statistic), min(float(found.pvalue), 1.0), len(before), lost + gained, "pair", exact=True
    )


def stuart_maxwell(before_said: ArrayLike, after_said: ArrayLike) -> PairedTest | Undefined:
    """Stuart and Maxwell's test that classes are said equally often before and after (Stuart 1955, Biometrika 42:412).

    Holds for independent pairs, one a patient, and in large samples. Classes that no pair enters or leaves are left out, as
    they make the covariance singular and tell nothing.

    Parameters
    ----------
    before_said, after_said
        ``(N,)``, labels or their numbers.

    Returns
    -------
    Undefined where no pair changes, or changes do not determine the statistic.
    """
    from statsmodels.stats.contingency_tables import SquareTable

    before, after = np.asarray(before_said), np.asarray(after_said)
    _pairs(before, after)
    moved = before != after
    if not moved.any():
        return Undefined("the same is said of every pair")
    classes = np.unique(np.concatenate([before[moved], after[moved]]))
    table = np.array([[((before == row) & (after == column)).sum() for column in classes] for row in classes])
    # Classes in two groups that exchange nothing leave it singular, which solving need not notice.
    spread = np.diag(table.sum(0) + table.sum(1)) - table - table.T
    if np.linalg.matrix_rank(spread) < len(classes) - 1:
        return Undefined("the classes fall into groups that exchange no pair")
    found = SquareTable(table, shift_zeros=False).homogeneity(method="stuart_maxwell")
    p = float(stats.chi2.sf(found.statistic, found.df))  # its own is one less the distribution function, 0 too soon
    return PairedTest("Stuart-Maxwell", float(found.statistic), p, len(before), int(moved.sum()), "pair", df=int(found.df))


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """p-values adjusted for how many there are (:func:`step_down`); None stays None."""
    known = {name: p for name, p in p_values.items() if p is not None}
    adjusted = dict(zip(known, step_down(list(known.values())).tolist(), strict=True))
    return {name: adjusted.get(name) for name in p_values}


def step_down(p_values: Sequence[Any] | NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values ``(N,)`` adjusted for how many there are (Holm 1979, Scand. J. Stat. 6:65).

    Holds however the tests depend on each other, at whichever level each of them holds. It is the arithmetic of statsmodels,
    which collects the garbage of the whole process each time.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def within_patient_permutation(
    before: ArrayLike, after: ArrayLike, patients: ArrayLike, *, seed: int = 0, draws: int = 9999
) -> PairedTest | Undefined:
    """Permutation test of no mean difference: before and after are swapped for all cases of a patient at once.

    Holds whenever patients are independent and, were there no effect, a patient's before and after could be exchanged; cases
    may depend on each other. Swapping flips the sign of a patient's sum of differences; see :func:`.swapping.swapped`.

    Parameters
    ----------
    before, after
        ``(N,)``, 1 for right or any score.
    patients
        ``(N,)``: label of each case's patient.

    Returns
    -------
    Undefined where no patient's sum differs. The statistic is the mean difference per case, ``after - before``.
    """
    first, second, patient = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64), codes(patients)
    _pairs(first, second)
    _pairs(first, patient)
    if not len(first):
        return Undefined("there is no pair")
    sums = per_patient(second - first, patient)
    found = swapped(sums, seed=seed, draws=draws)
    if found is None:
        return Undefined("no patient is better or worse on balance")
    mean = float((second - first).mean())
    return PairedTest("within-patient permutation", mean, found.p, len(sums), found.changed, "patient", exact=found.exact)


def _pairs(one: NDArray, other: NDArray) -> None:
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"found shapes {one.shape} and {other.shape}; needed one value a pair, (N,).")
