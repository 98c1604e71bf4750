"""How sure one may be of a number: estimates with their confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST_UNITS = 8
"""Units below which a resample may well hold a single one, and an interval says nothing."""

ROUNDING = 1e-12
"""Values that differ by less than this share of the largest are alike: sums are rounded so."""


@dataclass(frozen=True)
class Interval:
    """An estimate, its confidence interval, and how many independent observations are behind it."""

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95


@dataclass(frozen=True)
class Undefined:
    """A number that the data do not determine, and why; what a report shows in its place is this reason.

    ``value`` is the estimate where there is one and only its interval is not determined.
    """

    why: str
    value: float | None = None


Finding = Interval | Undefined


def draws(random: np.random.Generator, units: int, resamples: int) -> NDArray[np.float64]:
    """How often each unit is drawn, ``(resamples, units)``."""
    return random.multinomial(units, np.full(units, 1 / units), size=resamples).astype(np.float64)


def codes(labels: Sequence[object] | ArrayLike) -> NDArray[np.int64]:
    """Labels ``(N,)`` as numbers from 0 on."""
    return np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)


def mean_with_interval(values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Finding:
    """Mean of independent observations ``(N,)``, percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Returns
    -------
    Undefined, with the mean, where its interval would have no width or no end: of one observation, of observations that are
    all alike, and with one that is not finite.

    Raises
    ------
    ValueError
        When there is no observation.
    """
    observed = np.asarray(values, dtype=np.float64)
    if observed.ndim != 1 or not len(observed):
        raise ValueError(f"found observations of shape {observed.shape}; needed one or more, shape (N,).")
    if not np.isfinite(observed).all():
        return Undefined(f"{np.count_nonzero(~np.isfinite(observed))} of {len(observed)} values are not finite")
    mean = float(observed.mean())
    if np.ptp(observed) <= ROUNDING * np.abs(observed).max():
        alike = f"all {len(observed)} values are alike" if len(observed) > 1 else "there is one value"
        return Undefined(f"{alike}, which does not say how far others would lie", mean)
    draws = np.random.default_rng(seed).integers(0, len(observed), (resamples, len(observed)))
    low, high = np.quantile(observed[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), len(observed), level)


def paired_difference(
    ours: ArrayLike, theirs: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Finding:
    """Mean of ``ours - theirs``, both ``(N,)`` on the same N phantoms, with the bootstrap interval over phantoms.

    The pairs are resampled, so what makes one phantom harder than another cancels; see :func:`mean_with_interval`.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"found {a.shape} against {b.shape} values; needed one pair for each phantom.")
    return mean_with_interval(a - b, level=level, resamples=resamples, seed=seed)


def proportion(count: int, n: int, *, level: float = 0.95) -> Interval:
    """A share ``count / n`` with its exact interval (Clopper and Pearson 1934, Biometrika 26:404).

    Raises
    ------
    ValueError
        Unless ``0 <= count <= n`` and ``n`` is positive.
    """
    if not 0 <= count <= n or n < 1:
        raise ValueError(f"found {count} of {n}; needed a count from 0 to n and a positive n.")
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(count, n, alpha=1 - level, method="beta")
    return Interval(count / n, float(low), float(high), n, level)
