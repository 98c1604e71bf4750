"""How far the distribution of one set of images is from another's, by the features of an extractor.

Features are float ``(N, D)`` of the images to judge and ``(M, D)`` of a reference of high quality, from
:func:`~srh_clinic.metrics.extractors.create_extractor`. A *unit* is what was sampled independently, a patient or a phantom;
its images are not independent of each other. Every distance has a form under weights (``..._under_weights``), which says how
far the sets would be had each unit been drawn so many times; :mod:`~srh_clinic.metrics.bootstrap` evaluates that a thousand
times without touching the features again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from srh_clinic.errors import InputError
from srh_clinic.metrics.spectra import decibels_apart, spectra_of

Features = NDArray[np.float64]
Weights = NDArray[np.float64]
"""float64 ``(R, U)``: how often each of U units, in the order of their sorted labels, was drawn in each of R resamples."""

UnderWeights = Callable[[Weights, Weights], NDArray[np.float64]]
"""From the weights of the two sets' units, ``(R, U)`` and ``(R, V)`` or ``(1, V)``, to R distances."""

COMPONENTS = 64
SMALLEST_SAMPLE = 256
"""Images below which a Fréchet distance mostly measures its own bias."""

CLIP_BANDWIDTH = 10.0
"""Bandwidth of CMMD (Jayasumana et al. 2024). On features other than CLIP's it makes the kernel nearly linear."""


@dataclass(frozen=True, eq=False)
class Units:
    """Which unit each image belongs to.

    index
        ``(N,)``: position of each image's unit among the sorted labels.
    sizes
        ``(U,)``: images of each unit.
    """

    index: NDArray[np.intp]
    sizes: Weights

    @property
    def count(self) -> int:
        """Number of units."""
        return len(self.sizes)


def units_of(n: int, m: int, units: ArrayLike | None, reference_units: ArrayLike | None) -> tuple[Units, Units, bool]:
    """The units of ``n`` images and of ``m`` of a reference, and whether they are the same units.

    Parameters
    ----------
    units, reference_units
        A label for each image; without, each image is a unit of its own.

    Raises
    ------
    InputError
        When labels and images differ in number, or the two sets share some of their units but not all.
    """
    ours, theirs = _labels(n, units), _labels(m, reference_units)
    shared = False
    if units is not None and reference_units is not None:
        common = np.intersect1d(ours, theirs)
        shared = len(common) > 0
        if shared and not len(common) == len(np.unique(ours)) == len(np.unique(theirs)):
            raise InputError(
                f"two sets of images that have {len(common)} units in common and others not",
                "the same units in both sets, or none in common",
            )
    (first, of_first), (second, of_second) = (np.unique(labels, return_inverse=True) for labels in (ours, theirs))
    counts = (np.bincount(index, minlength=len(names)) for names, index in ((first, of_first), (second, of_second)))
    return Units(of_first, next(counts).astype(np.float64)), Units(of_second, next(counts).astype(np.float64)), shared


def kid(x: ArrayLike, reference: ArrayLike, units: ArrayLike | None = None, reference_units: ArrayLike | None = None) -> float:
    """Kernel Inception distance: the unbiased squared MMD under ``k(a, b) = (a.b / D + 1)^3`` (Binkowski et al. 2018, eq. 4).

    ``mean k(x, x') + mean k(y, y') - 2 mean k(x, y)`` over all pairs of images of different units. Without units that is every
    pair but an image and itself; with them the images of one patient, which resemble each other, do not pass for two draws;
    and where both sets show the same units, an image is not compared with its own reference. The usual KID averages this
    estimator over random subsets (of 1,000 images, say): the same expectation, more variance. It may be negative. Call it KID
    with the features of Inception alone: see :func:`printed_name`.

    Parameters
    ----------
    x, reference
        Features ``(N, D)`` and ``(M, D)``.
    units, reference_units
        Label of the unit of each image; without, each image is a unit of its own.

    Raises
    ------
    InputError
        When the features do not fit each other or are not finite, or a set has fewer than two units.
    """
    return _value(kid_under_weights, x, reference, units, reference_units)


def kid_under_weights(
    x: ArrayLike, reference: ArrayLike, units: ArrayLike | None = None, reference_units: ArrayLike | None = None
) -> UnderWeights:
    """:func:`kid` of resampled units.

    A unit that is drawn twice is not two units: pairs of its copies would compare an image with itself, ``k(a, a)``, which no
    independent draw ever does, and the distance would grow by it. They are left out as the pairs within a unit are.
    """
    a, b = _features(x, reference)
    dimension = a.shape[1]
    ours, theirs, cross = _pairs(a, b, units, reference_units, lambda p, q: (p @ q.T / dimension + 1) ** 3)

    def distances(of_x: Weights, of_reference: Weights) -> NDArray[np.float64]:
        within = ours.apart(of_x, of_x) + theirs.apart(of_reference, of_reference)
        return within - 2 * cross.apart(of_x, of_reference)

    return distances


def rbf_mmd(x: ArrayLike, reference: ArrayLike, bandwidth: float | None = None) -> float:
    """1,000 times the biased squared MMD of unit-norm features under ``exp(-|a - b|^2 / (2 bandwidth^2))``.

    The form of CMMD (Jayasumana et al. 2024, CVPR), which is this on CLIP's features with a bandwidth of
    :data:`CLIP_BANDWIDTH`. The mean runs over all pairs, an image with itself too.

    Parameters
    ----------
    x, reference
        Features ``(N, D)`` and ``(M, D)``, not normalised.
    bandwidth
        10 for CLIP; without, the median distance between two images of the reference (the median heuristic, Gretton et al.
        2012, of the reference alone, so that all methods are measured by one kernel).

    Raises
    ------
    InputError
        When the features do not fit each other, are not finite, or one is zero throughout.
    """
    return _value(rbf_mmd_under_weights, x, reference, bandwidth=bandwidth)


def rbf_mmd_under_weights(
    x: ArrayLike,
    reference: ArrayLike,
    units: ArrayLike | None = None,
    reference_units: ArrayLike | None = None,
    *,
    bandwidth: float | None = None,
) -> UnderWeights:
    """:func:`rbf_mmd` of resampled units.

    Pairs within a unit keep the share that they have in the sample, and copies of a unit make no such pairs: else resamples
    would be further apart than samples are, by the kernel's value at distance zero.
    """
    a, b = (_unit_norm(one) for one in _features(x, reference))
    width = median_distance(b) if bandwidth is None else bandwidth
    if not width > 0:
        raise InputError(f"a bandwidth of {width}", "a positive one; the median heuristic needs a reference that varies")
    # Of unit vectors |p - q|^2 / 2 = 1 - p.q.
    ours, theirs, cross = _pairs(a, b, units, reference_units, lambda p, q: np.exp((p @ q.T - 1) / width**2))

    def distances(of_x: Weights, of_reference: Weights) -> NDArray[np.float64]:
        return 1000 * (ours.all(of_x, of_x) + theirs.all(of_reference, of_reference) - 2 * cross.all(of_x, of_reference))

    return distances


def median_distance(embeddings: Features) -> float:
    """Median distance between two of the unit-norm embeddings ``(M, D)``."""
    squared = 2 - 2 * (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), 1)]
    return float(np.median(np.sqrt(np.clip(squared, 0, None))))


def frechet_distance(x: ArrayLike, reference: ArrayLike, components: int | None = COMPONENTS) -> float:
    """Fréchet distance of Gaussians fitted to the features (Dowson and Landau 1982; Heusel et al. 2017).

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))``, in the principal components of the reference: with as many features as
    images a covariance has no full rank, and the distance is of the sample rather than of the images.

    Parameters
    ----------
    x, reference
        Features ``(N, D)`` and ``(M, D)``.
    components
        Principal components, fitted on the reference; None takes the features as they are, as the FID does.

    Raises
    ------
    InputError
        When the features do not fit each other or are not finite, when a set has fewer than 256 images, or no more images than
        components.
    """
    return _value(frechet_under_weights, x, reference, components=components)


def frechet_under_weights(
    x: ArrayLike,
    reference: ArrayLike,
    units: ArrayLike | None = None,
    reference_units: ArrayLike | None = None,
    *,
    components: int | None = COMPONENTS,
) -> UnderWeights:
    """:func:`frechet_distance` of resampled units, in the components of the whole reference.

    Resamples lie further from the reference than the sample does, as the sample lies further than its population: the
    bootstrap moves them back, and the bias of the estimate itself stays.
    """
    a, b = _features(x, reference)
    dimension = a.shape[1] if components is None else components
    needed = max(SMALLEST_SAMPLE, dimension + 1)
    if min(len(a), len(b)) < needed:
        raise InputError(f"{len(a)} images against {len(b)}", f"{needed} or more of both for a Fréchet distance")
    if dimension > a.shape[1]:
        raise InputError(f"{components} components of {a.shape[1]} features", "no more components than features")
    if components is not None:
        _, axes = scipy.linalg.eigh(np.cov(b.T), subset_by_index=(a.shape[1] - components, a.shape[1] - 1))
        a, b = a @ axes, b @ axes
    ours, theirs, _ = units_of(len(a), len(b), units, reference_units)

    def distances(of_x: Weights, of_reference: Weights) -> NDArray[np.float64]:
        fitted = (_Gaussian.fit(a, weights) for weights in of_x[:, ours.index])
        references = [_Gaussian.fit(b, weights) for weights in of_reference[:, theirs.index]]
        return np.array([one.distance(references[i % len(references)]) for i, one in enumerate(fitted)])

    return distances


def spectrum_under_weights(
    power: ArrayLike, reference: ArrayLike, units: ArrayLike | None = None, reference_units: ArrayLike | None = None
) -> UnderWeights:
    """:func:`~srh_clinic.metrics.spectra.spectrum_distance` of resampled units."""
    x, y = spectra_of(power, reference)
    ours, theirs, _ = units_of(len(x), len(y), units, reference_units)

    def mean(spectra: Features, weights: Weights) -> Features:
        return np.tensordot(weights / weights.sum(axis=1, keepdims=True), spectra, axes=1)

    def distances(of_x: Weights, of_reference: Weights) -> NDArray[np.float64]:
        return decibels_apart(mean(x, of_x[:, ours.index]), mean(y, of_reference[:, theirs.index]))

    return distances


def printed_name(statistic: Callable[..., float], extractor: str, **options: Any) -> str:
    """What a distance may be called, for example ``FD[efficientnet_lite0]``.

    FID is the Fréchet distance of all features of ``inception_v3``, KID the one of its features, CMMD the :func:`rbf_mmd` of
    ``clip_vit_l14_336`` with a bandwidth of 10; any other is named by its form and its extractor.

    Parameters
    ----------
    statistic
        :func:`kid`, :func:`frechet_distance` or :func:`rbf_mmd`.
    extractor
        ``name`` of the extractor.
    options
        As the statistic was given them.
    """
    of_inception = extractor == "inception_v3"
    if statistic is frechet_distance:
        full = options.get("components", COMPONENTS) is None
        return "FID" if of_inception and full else f"FD[{extractor}]"
    if statistic is kid:
        return "KID" if of_inception else f"KID[{extractor}]"
    if statistic is rbf_mmd:
        as_published = extractor == "clip_vit_l14_336" and options.get("bandwidth") == CLIP_BANDWIDTH
        return "CMMD" if as_published else f"RBF-MMD[{extractor}]"
    raise ValueError(f"found {statistic}; needed kid, frechet_distance or rbf_mmd.")


@dataclass(frozen=True, eq=False)
class _Pairs:
    """A kernel summed over the pairs of images of two units.

    sums, counts
        ``(U, V)``: the sum, and the number of pairs.
    shared
        Whether the rows' units are the columns' units, so that the diagonal holds pairs within a unit.
    """

    sums: Features
    counts: Features
    shared: bool

    def apart(self, rows: Weights, columns: Weights) -> NDArray[np.float64]:
        """Mean over pairs of different units, ``(R,)``."""
        sums, counts = (((rows @ self._off_diagonal(one)) * columns).sum(axis=1) for one in (self.sums, self.counts))
        return sums / counts

    def all(self, rows: Weights, columns: Weights) -> NDArray[np.float64]:
        """Mean over all pairs, those within a unit with the share that they have when each is drawn once, ``(R,)``."""
        apart = self.apart(rows, columns)
        if not self.shared:
            return apart
        within = (rows @ np.diag(self.sums)) / (rows @ np.diag(self.counts))
        share = np.trace(self.counts) / self.counts.sum()
        return (1 - share) * apart + share * within

    def _off_diagonal(self, matrix: Features) -> Features:
        return matrix - np.diag(np.diag(matrix)) if self.shared else matrix


@dataclass(frozen=True, eq=False)
class _Gaussian:
    """A mean ``(D,)`` and a covariance ``(D, D)``."""

    mean: Features
    covariance: Features

    @classmethod
    def fit(cls, features: Features, weights: NDArray[np.float64]) -> _Gaussian:
        n = weights.sum()
        mean = weights @ features / n
        centred = features - mean
        return cls(mean, (centred * weights[:, None]).T @ centred / (n - 1))

    @cached_property
    def root(self) -> Features:
        """Of the covariance, symmetric."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T

    def distance(self, other: _Gaussian) -> float:
        """Fréchet distance; ``tr (C1 C2)^(1/2)`` is that of the symmetric ``C2^(1/2) C1 C2^(1/2)``."""
        product = np.linalg.eigvalsh(other.root @ self.covariance @ other.root)
        spread = np.trace(self.covariance) + np.trace(other.covariance) - 2 * np.sqrt(np.clip(product, 0, None)).sum()
        return float(((self.mean - other.mean) ** 2).sum() + spread)


def _pairs(
    a: Features,
    b: Features,
    units: ArrayLike | None,
    reference_units: ArrayLike | None,
    kernel: Callable[[Features, Features], Features],
) -> tuple[_Pairs, _Pairs, _Pairs]:
    """Within the first set, within the second, and between them."""
    ours, theirs, shared = units_of(len(a), len(b), units, reference_units)
    if min(ours.count, theirs.count) < 2:
        raise InputError(f"{ours.count} units against {theirs.count}", "two or more independent units in both sets")

    def summed(p: Features, q: Features, rows: Units, columns: Units, within: bool) -> _Pairs:
        return _Pairs(_by_unit(kernel(p, q), rows, columns), np.outer(rows.sizes, columns.sizes), within)

    return (
        summed(a, a, ours, ours, True),
        summed(b, b, theirs, theirs, True),
        summed(a, b, ours, theirs, shared),
    )


def _by_unit(matrix: Features, rows: Units, columns: Units) -> Features:
    """``(N, M)`` summed over the images of each unit, ``(U, V)``."""
    for axis, units in enumerate((rows, columns)):
        order = np.argsort(units.index, kind="stable")
        starts = np.concatenate([[0], np.cumsum(units.sizes)[:-1]]).astype(np.intp)
        matrix = np.add.reduceat(np.take(matrix, order, axis=axis), starts, axis=axis)
    return matrix


def _value(
    under_weights: Callable[..., UnderWeights],
    x: ArrayLike,
    reference: ArrayLike,
    units: ArrayLike | None = None,
    reference_units: ArrayLike | None = None,
    **options: Any,
) -> float:
    """The distance of the sample itself: every unit drawn once."""
    distances = under_weights(x, reference, units, reference_units, **options)
    ours, theirs, _ = units_of(len(np.asarray(x)), len(np.asarray(reference)), units, reference_units)
    return float(distances(np.ones((1, ours.count)), np.ones((1, theirs.count)))[0])


def _labels(n: int, units: ArrayLike | None) -> NDArray[Any]:
    labels = np.arange(n) if units is None else np.asarray(units)
    if labels.shape != (n,):
        raise InputError(f"labels of shape {labels.shape} for {n} images", "one unit for each image")
    return labels


def _features(x: ArrayLike, reference: ArrayLike) -> tuple[Features, Features]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise InputError(f"features of shape {a.shape} and {b.shape}", "(N, D) and (M, D) from one extractor")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("features that are NaN or infinite", "finite features")
    return a, b


def _unit_norm(features: Features) -> Features:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    if not (length > 0).all():
        raise InputError("features that are zero throughout", "features that can be scaled to unit norm")
    return np.asarray(features / length)
