"""Whether probabilities can be taken at their word: Brier scores first, calibration errors only beside their null value.

A perfectly calibrated model has a calibration error above 0 in any finite sample; :func:`null_calibration_error` says how far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srh_clinic.estimates import Finding, Undefined, proportion
from srh_clinic.validation.statistics.clusters import clustered_proportion, difference

BINS = 15
"""Of the calibration error, equally wide, as in Guo et al. 2017."""


@dataclass(frozen=True)
class NullError:
    """Calibration error that a perfectly calibrated model would show: its mean and its 95 % quantile."""

    mean: float
    high: float


@dataclass(frozen=True)
class ReliabilityBin:
    """Cases whose confidence lies in ``(low, high]``: their mean confidence, and the share of them that is right."""

    low: float
    high: float
    confidence: float
    right: Finding
    cases: int


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """What would be wrong if only the surest cases were diagnosed.

    ``risk`` is the share wrong among the surest ``coverage`` of the cases, both ``(N,)``; ``area`` is the mean risk (AURC).
    """

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    area: float


def brier(probabilities: ArrayLike, truth: ArrayLike) -> float | Undefined:
    """Brier's score (1950, Mon. Weather Rev. 78:1): squared error summed over classes, mean over cases; 0 is best, 2 worst.

    Parameters
    ----------
    probabilities
        ``(N, C)``.
    truth
        ``(N,)``: place of the true class, from 0.
    """
    each = brier_of_cases(probabilities, truth)
    return float(each.mean()) if len(each) else Undefined("there is no case")


def brier_of_cases(probabilities: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Each case's term of :func:`brier`, ``(N,)``.

    Raises
    ------
    ValueError
        When shapes differ.
    """
    p, place = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    if p.ndim != 2 or place.shape != p.shape[:1]:
        raise ValueError(f"found probabilities {p.shape} of truths {place.shape}; needed (N, C) and (N,).")
    return ((p - np.eye(p.shape[1])[place]) ** 2).sum(axis=1)


def brier_difference(
    before: ArrayLike,
    after: ArrayLike,
    truth: ArrayLike,
    patients: ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Finding:
    """Brier score after less before, below 0 where restoring helped, with the bootstrap over patients.

    Parameters
    ----------
    before, after
        Probabilities ``(N, C)``.
    truth, patients
        ``(N,)``; see :func:`brier` and :func:`srh_clinic.validation.statistics.clusters.difference`.
    """
    first, second = brier_of_cases(before, truth), brier_of_cases(after, truth)
    return difference(second, first, patients, resamples=resamples, seed=seed, level=level, widest=2.0)


def expected_calibration_error(confidence: ArrayLike, right: ArrayLike, *, bins: int = BINS) -> float | Undefined:
    """Distance of confidence from accuracy, averaged over the cases of equally wide bins (Guo et al. 2017, arXiv 1706.04599).

    It is biased upwards; read it beside :func:`null_calibration_error`.

    Parameters
    ----------
    confidence
        ``(N,)``: probability of what was said.
    right
        ``(N,)``: true or 1 where it was right.
    """
    sure, was_right = _checked(confidence, right)
    if not len(sure):
        return Undefined("there is no case")
    return float(np.abs(np.bincount(_bin(sure, bins), was_right - sure, minlength=bins)).sum() / len(sure))


def null_calibration_error(
    confidence: ArrayLike, *, bins: int = BINS, seed: int = 0, draws: int = 1000
) -> NullError | Undefined:
    """Calibration error of a model of these confidences that is perfectly calibrated, over simulated outcomes.

    Outcomes are independent; those of one patient's cases are not, so with patches the null error is larger yet.
    """
    sure, _ = _checked(confidence, confidence)
    if not len(sure):
        return Undefined("there is no case")
    where = np.zeros((len(sure), bins))
    where[np.arange(len(sure)), _bin(sure, bins)] = 1
    random = np.random.default_rng(seed)
    found = np.empty(draws)
    # In parts: 1,000 draws of 50,000 patches at once would be 400 MB.
    for start in range(0, draws, 100):
        stop = min(start + 100, draws)
        right = random.random((stop - start, len(sure))) < sure
        found[start:stop] = np.abs((right - sure) @ where).sum(axis=1) / len(sure)
    return NullError(float(found.mean()), float(np.quantile(found, 0.95)))


def reliability(
    confidence: ArrayLike, right: ArrayLike, *, bins: int = 10, patients: ArrayLike | None = None, seed: int = 0
) -> tuple[ReliabilityBin, ...]:
    """Points of a reliability diagram: the bins that have a case, from the least sure.

    Parameters
    ----------
    patients
        ``(N,)``: the share right is then :func:`~srh_clinic.validation.statistics.clusters.clustered_proportion`, Undefined in
        bins of fewer than 8 patients; without, Clopper and Pearson's of independent cases.
    """
    sure, was_right = _checked(confidence, right)
    place = _bin(sure, bins)
    label = None if patients is None else np.asarray(patients)
    rows = []
    for at in np.unique(place):
        here = place == at
        found: Finding
        if label is None:
            found = proportion(int(was_right[here].sum()), int(here.sum()))
        else:
            found = clustered_proportion(was_right[here], label[here], seed=seed)
        rows.append(ReliabilityBin(at / bins, (at + 1) / bins, float(sure[here].mean()), found, int(here.sum())))
    return tuple(rows)


def risk_coverage(confidence: ArrayLike, wrong: ArrayLike) -> RiskCoverage | Undefined:
    """Share wrong among the surest cases, as ever more are diagnosed (El-Yaniv and Wiener 2010; AURC: Geifman et al. 2019).

    Cases of equal confidence have no order: within a tie each counts as wrong as they are on average.

    Parameters
    ----------
    confidence, wrong
        ``(N,)``: probability of what was said; true or 1 where it was wrong.
    """
    sure, was_wrong = _checked(confidence, wrong)
    if not len(sure):
        return Undefined("there is no case")
    _, tie, ties = np.unique(-sure, return_inverse=True, return_counts=True)
    average = np.bincount(tie, was_wrong) / ties
    counted = np.arange(1, len(sure) + 1)
    risk = np.cumsum(np.repeat(average, ties)) / counted
    return RiskCoverage(counted / len(sure), risk, float(risk.mean()))


def _bin(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Place of the bin ``(low, high]`` of each confidence; 0 belongs to the first."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _checked(confidence: ArrayLike, flags: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sure, flag = np.asarray(confidence, dtype=np.float64), np.asarray(flags, dtype=np.float64)
    if sure.ndim != 1 or sure.shape != flag.shape:
        raise ValueError(f"found {sure.shape} confidences of {flag.shape} cases; needed one a case, (N,).")
    if len(sure) and not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError("found a confidence outside [0, 1]; needed a probability.")
    return sure, flag
