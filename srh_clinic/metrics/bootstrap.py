"""Bootstrap intervals of distances between sets of images, over independent units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srh_clinic.errors import InputError
from srh_clinic.estimates import FEWEST_UNITS, Interval, draws
from srh_clinic.metrics.distribution import (
    UnderWeights,
    Weights,
    frechet_distance,
    frechet_under_weights,
    kid,
    kid_under_weights,
    rbf_mmd,
    rbf_mmd_under_weights,
    spectrum_under_weights,
    units_of,
)
from srh_clinic.metrics.spectra import spectrum_distance

Statistic = Callable[..., float]

UNDER_WEIGHTS: dict[Statistic, Callable[..., UnderWeights]] = {
    kid: kid_under_weights,
    rbf_mmd: rbf_mmd_under_weights,
    frechet_distance: frechet_under_weights,
    spectrum_distance: spectrum_under_weights,
}


def bootstrap_interval(
    statistic: Statistic,
    x: ArrayLike,
    reference: ArrayLike,
    *,
    units: ArrayLike | None = None,
    reference_units: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> Interval:
    """A distance and its percentile interval over resampled units (Efron and Tibshirani 1993, chapters 8 and 13).

    The resamples are moved so that their mean is the estimate: a resample repeats units, which widens biased distances.
    ``n`` of the result is the number of units of ``x``. Where the sets hardly differ, distances crowd at their smallest value
    and any bootstrap of them is rough.

    Parameters
    ----------
    statistic
        :func:`kid`, :func:`rbf_mmd` or :func:`frechet_distance` of features ``(N, D)`` and ``(M, D)``, or
        :func:`spectrum_distance` of :func:`radial_power` ``(N, 2, bands)`` and ``(M, 2, bands)``.
    units
        Label of the patient or phantom that each of the N images is of; without, each image is a unit of its own.
    reference_units
        The same for the M images of the reference, which is then resampled as well: jointly where it shows the same units, by
        itself where it has none in common. Without, the reference is what it is, and the interval is about this reference.
    options
        Of the statistic: ``bandwidth``, ``components``.

    Raises
    ------
    InputError
        When there are fewer than 8 units to resample, or the statistic's input is wrong.
    """
    value, resampled, n = _resampled(statistic, (x,), reference, units, reference_units, resamples, seed, options)
    return _interval(value[0], resampled[0], n, level)


def paired_bootstrap_interval(
    statistic: Statistic,
    ours: ArrayLike,
    theirs: ArrayLike,
    reference: ArrayLike,
    *,
    units: ArrayLike | None = None,
    reference_units: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> Interval:
    """The distance of ``ours`` less that of ``theirs``, two methods' images of the same units, with its interval.

    Row i of both is of the same image. Each resample draws one set of units for both methods (and for the reference, see
    :func:`bootstrap_interval`), so what makes one patient harder than another cancels.
    """
    if np.shape(ours) != np.shape(theirs):
        raise InputError(f"{np.shape(ours)} against {np.shape(theirs)} values", "values of the same images from both methods")
    value, resampled, n = _resampled(statistic, (ours, theirs), reference, units, reference_units, resamples, seed, options)
    return _interval(value[0] - value[1], resampled[0] - resampled[1], n, level)


def _resampled(
    statistic: Statistic,
    sets: tuple[ArrayLike, ...],
    reference: ArrayLike,
    units: ArrayLike | None,
    reference_units: ArrayLike | None,
    resamples: int,
    seed: int,
    options: dict[str, Any],
) -> tuple[list[float], list[NDArray[np.float64]], int]:
    """Of each set its distance and those of its resamples, ``(R,)``, and the number of units."""
    if statistic not in UNDER_WEIGHTS:
        raise ValueError(f"found {statistic}; needed one of {', '.join(known.__name__ for known in UNDER_WEIGHTS)}.")
    forms = [UNDER_WEIGHTS[statistic](one, reference, units, reference_units, **options) for one in sets]
    of_x, of_reference, shared = units_of(len(np.asarray(sets[0])), len(np.asarray(reference)), units, reference_units)
    random = np.random.default_rng(seed)
    drawn = _draw(random, of_x.count, resamples)
    if reference_units is None:
        drawn_reference = np.ones((1, of_reference.count))
    else:
        drawn_reference = drawn if shared else _draw(random, of_reference.count, resamples)
    once = np.ones((1, of_x.count)), np.ones((1, of_reference.count))
    return [float(form(*once)[0]) for form in forms], [form(drawn, drawn_reference) for form in forms], of_x.count


def _draw(random: np.random.Generator, units: int, resamples: int) -> Weights:
    """How often each unit is drawn, ``(resamples, units)``."""
    if units < FEWEST_UNITS:
        raise InputError(f"{units} independent units", f"{FEWEST_UNITS} or more to compute an interval")
    return draws(random, units, resamples)


def _interval(value: float, resampled: NDArray[np.float64], n: int, level: float) -> Interval:
    moved = resampled - resampled.mean() + value
    low, high = np.quantile(moved, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), n, level)
