"""How sure one may be of a share or a shift when patients, not cases, are the sample.

Cases of one patient resemble each other, so an interval that counts rows is too narrow. Everything here resamples patients.
:func:`naive_difference` shows what the other answer would have been, and the benchmark of coverage how often each holds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from srh_clinic.estimates import Finding, Interval, Undefined, codes, draws, proportion
from srh_clinic.validation.statistics.swapping import swapped

FEWEST_PATIENTS = 8
"""Patients below which a resample may well hold a single one, and an interval says nothing."""

FEW_CHANGES = 10
"""Patients with an event below which the bootstrap alone is not trusted; see :func:`clustered_proportion`."""

MOST_DROPPED = 0.05
"""Share of the resamples that may lack the statistic before :func:`clustered` gives up."""

TOO_FEW = f"an interval needs {FEWEST_PATIENTS} patients or more"


class StandardErrors(NamedTuple):
    """Of a mean paired difference: ``naive`` takes rows as independent, ``clustered`` patients."""

    naive: float
    clustered: float


def clustered_proportion(
    hits: ArrayLike,
    patients: ArrayLike,
    *,
    of: ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Finding:
    """``sum(hits) / sum(of)`` with the expanded percentile interval of the bootstrap over patients.

    Patients without a case in ``of`` say nothing of the share: they are left out, and ``n`` of the result is the number of the
    others. How the percentiles are widened: :func:`expanded`.

    Near 0 and 1 few patients carry the events, a resample often holds none of them, and the bootstrap does not reach far
    enough on one side and to an impossible 0 on the other; without any event it reaches nowhere. So two exact ones take part:

    * With fewer than 10 patients who have a hit, or who have a miss, Clopper and Pearson's for the effective number of cases,
      ``p (1 - p) / V`` with V the sandwich variance of the ratio, corrected for its degrees of freedom (Korn and
      Graubard 1998, Surv. Methodol. 24:193). Where V is 0, as when all cases are alike, the effective number is that of
      patients. This is an outer bound: a patient's cases, however much alike, tell no less than one case would.
    * Always, the interval reaches at least the bound that no hit among as many patients would have, and no miss:
      an event more cannot make one surer that there are few.

    Parameters
    ----------
    hits
        ``(N,)``, 1 for a case that shows it and 0 for the others; for a case outside ``of`` it is not looked at.
    patients
        ``(N,)``: label of each case's patient.
    of
        ``(N,)``: 1 for a case that could show it (the default for all), 0 for the others.

    Returns
    -------
    Undefined where no case could show it, or those of fewer than 8 patients.

    Raises
    ------
    ValueError
        When shapes differ.
    """
    hit, patient = np.asarray(hits, dtype=np.float64), codes(patients)
    could = np.ones_like(hit) if of is None else np.asarray(of, dtype=np.float64)
    _same(hit, could, patient)
    if not could.any():
        return Undefined("there is no case that could show it")
    hit, could, patient = (hit * could)[could > 0], could[could > 0], codes(patient[could > 0])
    above, below = per_patient(hit, patient), per_patient(could, patient)
    n = len(below)
    value = float(above.sum() / below.sum())
    if n < FEWEST_PATIENTS:
        return Undefined(f"{n} patients have a case that could show it; {TOO_FEW}")
    drawn = _drawn(n, resamples, seed)
    low, high = expanded((drawn @ above) / (drawn @ below), n, level)
    if min(np.count_nonzero(above), np.count_nonzero(below - above)) < FEW_CHANGES:
        low, high = _korn_graubard(value, above, below, level)
    low, high = min(low, proportion(n, n, level=level).low), max(high, proportion(0, n, level=level).high)
    # Rounding must not exclude the estimate itself at 0 and 1.
    return Interval(value, min(max(low, 0.0), value), max(min(high, 1.0), value), n, level)


def difference(
    after: ArrayLike,
    before: ArrayLike,
    patients: ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    widest: float = 1.0,
) -> Finding:
    """Mean of ``after - before`` over cases, with the expanded percentile interval of the bootstrap over patients.

    A case keeps its pair and a patient all its cases. Where fewer than 10 patients have a case that did not change as most
    did, the bootstrap knows too little, and the interval is extended by that of gains and losses apart, each a
    :func:`clustered_proportion`, put together by MOVER (Zou and Donner 2008, Stat. Med. 27:1693). Where every case changed by
    the same c, up to ``u`` of the patients may yet be of another kind, Clopper and Pearson's bound for none among them, and
    the interval is ``[c - u (c + 1), c + u (1 - c)]``, in units of ``widest``.

    It reaches 0 wherever swapping before and after of whole patients (:func:`.swapping.swapped`) finds a change no rarer than
    its level: what a test holds possible an interval beside it must not exclude. :func:`p_of_change` is its p.

    Parameters
    ----------
    after, before
        ``(N,)``: 1 for right and 0 for wrong, or any score whose differences lie within ``widest`` of 0.
    widest
        Largest difference there can be; 1 for what is right or wrong.

    Returns
    -------
    Undefined with fewer than 8 patients.

    Raises
    ------
    ValueError
        When shapes differ, or a difference is larger than ``widest``.
    """
    change, patient = (np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)) / widest, codes(patients)
    _same(change, patient)
    n = len(np.unique(patient))
    if n < FEWEST_PATIENTS:
        return Undefined(f"there {'is 1 patient' if n == 1 else f'are {n} patients'}; {TOO_FEW}")
    if np.abs(change).max() > 1 + 1e-12:
        raise ValueError(f"found a difference of {np.abs(change).max() * widest}; needed at most {widest}.")
    low, high = _of_change(change, patient, level, resamples, seed)
    swaps = swapped(per_patient(change, patient), seed=seed)
    if swaps is None or swaps.p >= (1 - level) * (1 - 1e-9):
        low, high = min(low, 0.0), max(high, 0.0)
    value = float(change.mean())
    return Interval(value * widest, low * widest, high * widest, n, level)


def p_of_change(
    after: ArrayLike, before: ArrayLike, patients: ArrayLike, *, resamples: int = 2000, seed: int = 0
) -> float | Undefined:
    """Two-sided p of no mean ``after - before``: one less the highest level at which :func:`difference` excludes 0.

    That is the p of swapping whole patients, or of the interval without it where that is larger. With fewer than 8 patients
    there is no interval, and it is the former.

    Returns
    -------
    Undefined where no patient is better or worse on balance.
    """
    change, patient = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64), codes(patients)
    _same(change, patient)
    swaps = swapped(per_patient(change, patient), seed=seed)
    if swaps is None:
        return Undefined("no patient is better or worse on balance")

    def excludes(p: float) -> bool:
        low, high = _of_change(change, patient, 1 - p, resamples, seed)
        return not low <= 0 <= high

    if len(np.unique(patient)) < FEWEST_PATIENTS or swaps.p == 1 or excludes(swaps.p):
        return swaps.p
    below, above = swaps.p, 1.0
    while above - below > 1e-6 * above:
        middle = (below + above) / 2
        below, above = (below, middle) if excludes(middle) else (middle, above)
    return above


def _of_change(
    change: NDArray[np.float64], patient: NDArray[np.int64], level: float, resamples: int, seed: int
) -> tuple[float, float]:
    """The ends of :func:`difference` as long as nothing is swapped, of changes in [-1, 1] of 8 patients or more."""
    n, value = len(np.unique(patient)), float(change.mean())
    none = proportion(0, n, level=level).high
    if np.ptp(change) == 0:
        low, high = value - none * (value + 1), value + none * (1 - value)
    else:
        drawn = _drawn(n, resamples, seed)
        low, high = expanded((drawn @ per_patient(change, patient)) / (drawn @ np.bincount(patient)), n, level)
        if _patients_unlike(change, patient) < FEW_CHANGES:
            gain = clustered_proportion(np.maximum(change, 0), patient, resamples=resamples, seed=seed, level=level)
            loss = clustered_proportion(np.maximum(-change, 0), patient, resamples=resamples, seed=seed, level=level)
            if isinstance(gain, Interval) and isinstance(loss, Interval):
                low = min(low, value - float(np.hypot(gain.value - gain.low, loss.high - loss.value)))
                high = max(high, value + float(np.hypot(gain.high - gain.value, loss.value - loss.low)))
    return min(max(low, -1.0), value), max(min(high, 1.0), value)


def clustered(
    statistic: Callable[[NDArray[np.float64]], float],
    patients: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Finding:
    """Any statistic of weighted cases, with the expanded percentile interval of the bootstrap over patients.

    Parameters
    ----------
    statistic
        Of float weights ``(N,)``, how often each case counts; NaN where such weights do not determine it.
    patients
        ``(N,)``: label of each case's patient.

    Returns
    -------
    Undefined with fewer than 8 patients, where all the cases do not determine it, more than 5 % of the resamples do not, or
    all resamples are alike.
    """
    patient = codes(patients)
    n = len(np.unique(patient))
    if n < FEWEST_PATIENTS:
        return Undefined(f"there {'is 1 patient' if n == 1 else f'are {n} patients'}; {TOO_FEW}")
    value = float(statistic(np.ones(len(patient))))
    if not np.isfinite(value):
        return Undefined("the cases do not determine it")
    drawn = _drawn(n, resamples, seed)
    found = np.array([statistic(weights[patient]) for weights in drawn], dtype=np.float64)
    known = found[np.isfinite(found)]
    if len(known) < (1 - MOST_DROPPED) * resamples:
        return Undefined(f"{resamples - len(known)} of {resamples} resamples of patients do not determine it")
    low, high = expanded(known, n, level)
    if high - low <= 1e-12 * max(abs(value), 1.0):
        return Undefined("every resample of patients gives the same, which says nothing of the next ones")
    return Interval(value, min(low, value), max(high, value), n, level)


def naive_difference(after: ArrayLike, before: ArrayLike, *, level: float = 0.95) -> Finding:
    """Mean of ``after - before`` with Wald's interval as if rows were independent, ``n`` of them; shown to be distrusted."""
    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    if len(change) < 2:
        return Undefined("a variance needs two cases or more")
    if np.ptp(change) == 0:
        return Undefined("all rows changed by the same, so a variance over rows is 0 and says nothing")
    half = float(stats.norm.ppf((1 + level) / 2) * change.std(ddof=1) / np.sqrt(len(change)))
    value = float(change.mean())
    return Interval(value, value - half, value + half, len(change), level)


def standard_errors(after: ArrayLike, before: ArrayLike, patients: ArrayLike) -> StandardErrors | Undefined:
    """Standard error of the mean of ``after - before``, by rows and by patients.

    The second is the cluster sandwich (Liang and Zeger 1986, Biometrika 73:13): the root of the sum of squared patient totals
    of the centred differences, times ``K / (K - 1)`` for K patients, over N cases. With one case a patient both are the same.

    Returns
    -------
    Undefined with fewer than two patients.

    Raises
    ------
    ValueError
        When shapes differ.
    """
    change, patient = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64), codes(patients)
    _same(change, patient)
    if len(np.unique(patient)) < 2:
        return Undefined("a variance between patients needs two patients or more")
    naive = float(change.std(ddof=1) / np.sqrt(len(change)))
    return StandardErrors(naive, float(np.sqrt(ratio_variance(per_patient(change, patient), np.bincount(patient)))))


def expanded(resampled: NDArray[np.float64], n: int, level: float) -> tuple[float, float]:
    """Percentiles of a bootstrap over ``n`` units, widened for few units.

    The percentile interval is too narrow by ``sqrt((n - 1) / n)`` and as the normal quantile is to Student's; taking the
    percentiles at ``Phi(-+ sqrt(n / (n - 1)) t_{n - 1})`` mends both (Hesterberg 2015, Am. Stat. 69:371, section 5.3).
    """
    outer = float(stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf((1 + level) / 2, n - 1)))
    low, high = np.quantile(resampled, [outer, 1 - outer])
    return float(low), float(high)


def ratio_variance(above: NDArray, below: NDArray) -> float:
    """Sandwich variance of ``sum(above) / sum(below)``, both one number a patient, ``(K,)``, K at least 2."""
    patients, total = len(below), float(below.sum())
    centred = (above - below * (above.sum() / total)) / total
    variance = float((centred**2).sum()) * patients / (patients - 1)
    return variance if variance > 1e-18 else 0.0  # what remains of rounding is no variance


def per_patient(values: ArrayLike, patient: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of values ``(N,)`` over the cases of each patient, numbered from 0, ``(K,)``."""
    return np.bincount(patient, np.asarray(values, dtype=np.float64)).astype(np.float64)


@lru_cache(maxsize=4)
def _drawn(patients: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each patient is drawn, ``(resamples, patients)``; a report asks for the same draws a hundred times."""
    drawn = draws(np.random.default_rng(seed), patients, resamples)
    drawn.setflags(write=False)
    return drawn


def _korn_graubard(value: float, above: NDArray, below: NDArray, level: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of the effective number of cases, which need be no whole number."""
    patients, cases = len(below), float(below.sum())
    variance = ratio_variance(above, below)
    if variance and cases > patients:
        at = (1 + level) / 2
        freedom = float(stats.t.ppf(at, cases - 1) / stats.t.ppf(at, patients - 1)) ** 2
        effective = min(value * (1 - value) / variance * freedom, cases)
    else:
        effective = cases if variance else float(patients)
    hits, misses, tail = value * effective, (1 - value) * effective, (1 - level) / 2
    low = float(stats.beta.ppf(tail, hits, misses + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, misses)) if misses > 0 else 1.0
    return low, high


def _patients_unlike(change: NDArray[np.float64], patient: NDArray[np.int64]) -> int:
    """Patients with a case that did not change by what is most usual."""
    kinds, counts = np.unique(change, return_counts=True)
    return len(np.unique(patient[change != kinds[counts.argmax()]]))


def _same(*arrays: NDArray) -> None:
    if any(one.ndim != 1 or len(one) != len(arrays[0]) for one in arrays):
        raise ValueError(f"found shapes {', '.join(str(one.shape) for one in arrays)}; needed one value a case, (N,).")
