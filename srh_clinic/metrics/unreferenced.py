"""How far a restoration is from the image without its noise, asked of the noisy image alone.

The noise is fitted from the two channels, which share tissue and no noise; the error of a restoration then follows from what
it leaves of a little more of such noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srh_clinic.estimates import FEWEST_UNITS, Finding, Interval, Undefined, draws
from srh_clinic.metrics.sharing import BLOCK

Images = NDArray[np.float64]

FINE, COARSE = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / 70**0.5, np.array([1.0, -2.0, 1.0]) / 6**0.5
"""Differences from row to row of unit power: noise that is independent from row to row keeps its variance."""

SQUARE = 16
"""Edge in px of the squares that variance and brightness are compared over."""

QUIET = 0.5
"""Share of the squares of like brightness, those with least tissue, that the variance is read from."""

LEVELS = 12
"""Groups of squares of like brightness."""

SMOOTH = 1.5
"""Standard deviation in px of the Gaussian that gives the brightness which a pixel's variance goes by."""

OUTLYING = 8.0
"""Standard deviations above the median around from which on a pixel is a detector's spike and no noise of the model."""

ADDED = 0.1
"""Share of the noise's standard deviation that is added, and taken away, to see what a restoration leaves of it.

A denoiser works harder on a noisier image and leaves less of what was added, by the square of this share."""

PROBE_SHAPE = 4.0
"""Of the gamma distribution that noise to be added is drawn from: skew, so that what skewness does is seen, too."""


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Noise of two channels, whose variance grows with the signal, correlated along rows and independent from row to row.

    Attributes
    ----------
    constant, slope
        Of each channel, ``variance = constant + slope * brightness`` in unit intensity, ``(2,)``.
    along_rows
        Power of the noise by frequency along a row, mean 1, ``(2, W)``.
    whiteness
        Of each channel, the variance read at middle frequencies from row to row over that at the highest, ``(2,)``: 1 where
        rows are independent, as the model has it.
    """

    constant: NDArray[np.float64]
    slope: NDArray[np.float64]
    along_rows: NDArray[np.float64]
    whiteness: NDArray[np.float64]

    def variance(self, images: Images) -> Images:
        """Of the noise in each pixel of unit intensity ``(N, 2, H, W)``."""
        from scipy import ndimage as ndi

        brightness = np.clip(ndi.gaussian_filter(images, (0, 0, SMOOTH, SMOOTH)), 0, None)
        return np.asarray(self.constant[:, None, None] + self.slope[:, None, None] * brightness)

    def skewness(self, images: Images) -> Images:
        """Of the noise in each pixel, where what grows with the brightness is counted photons, before it is smeared."""
        variance = self.variance(images)
        photons = np.maximum(variance - self.constant[:, None, None], 0)
        return np.asarray(self.slope[:, None, None] * photons / np.maximum(variance, 1e-12) ** 1.5)

    def draw(self, images: Images, random: np.random.Generator) -> Images:
        """Noise as that of the images in its covariance, of a skewness of ``2 / sqrt(PROBE_SHAPE)``, independent of theirs."""
        white = (random.gamma(PROBE_SHAPE, size=images.shape) - PROBE_SHAPE) / PROBE_SHAPE**0.5
        white = np.fft.fft(white, axis=-1)
        return np.fft.ifft(white * np.sqrt(self.along_rows)[:, None, :], axis=-1).real * np.sqrt(self.variance(images))


def fit_noise(images: ArrayLike) -> NoiseModel:
    """The noise of images, from what their two channels do not share.

    With ``d`` the fourth difference from row to row, which hardly any tissue survives, a channel's variance in squares of
    :data:`SQUARE` px is ``mean d_c^2 - (B_c / B_o) mean d_c d_o``: noise of two channels has no product on average, and tissue
    has that of its power, in proportion to the brightness ``B``. Of squares of like brightness the half with least tissue
    counts, by the product of what both channels show between 1 and 2.5 px. A line over the brightness is fitted without
    negative parts (Foi et al. 2008, IEEE Trans Image Process 17:1737: Poissonian-Gaussian noise). The power along rows is that
    of ``d``, less what the channels share.

    It assumes that rows are scanned one after the other along x, each with noise of its own. Tissue that one channel alone
    shows, as fine as a pixel, counts as noise.

    Parameters
    ----------
    images
        Unit intensity ``(N, 2, H, W)`` without spikes, H and W at least :data:`~srh_clinic.metrics.sharing.BLOCK`.
    """
    from scipy import ndimage as ndi
    from scipy.optimize import nnls

    seen = np.asarray(images, dtype=np.float64)
    if seen.ndim != 4 or seen.shape[1] != 2 or min(seen.shape[2:]) < BLOCK:
        raise ValueError(f"found images of shape {seen.shape}; needed (N, 2, H, W) of at least {BLOCK} px a side.")
    fine, coarse = (ndi.correlate1d(seen, filter_, axis=2, mode="reflect") for filter_ in (FINE, COARSE))
    band = ndi.gaussian_filter(seen, (0, 0, 1, 1)) - ndi.gaussian_filter(seen, (0, 0, 2.5, 2.5))
    tissue, brightness = np.abs(_squares(band[:, 0] * band[:, 1])), [_squares(seen[:, c]) for c in (0, 1)]
    parts, whiteness = [], []
    for c in (0, 1):
        ratio = brightness[c] / np.maximum(brightness[1 - c], 1e-3)
        own, middle = (_squares(d[:, c] ** 2) - ratio * _squares(d[:, 0] * d[:, 1]) for d in (fine, coarse))
        groups = np.array_split(np.argsort(brightness[c], kind="stable"), LEVELS)
        quiet = [group[np.argsort(tissue[group], kind="stable")[: max(int(len(group) * QUIET), 1)]] for group in groups]
        level, found = (np.array([values[group].mean() for group in quiet]) for values in (brightness[c], own))
        weight = 1 / np.maximum(found, 1e-9)
        parts.append(nnls(np.stack([np.ones_like(level), level], axis=1) * weight[:, None], found * weight)[0])
        chosen = np.concatenate(quiet)
        whiteness.append(middle[chosen].mean() / max(own[chosen].mean(), 1e-12))
    constant, slope = np.array(parts).T
    return NoiseModel(constant, slope, _along_rows(fine), np.array(whiteness))


def without_spikes(images: ArrayLike) -> tuple[Images, float]:
    """Images whose spikes are as bright as the median of their neighbours, and the share of pixels that were spikes."""
    from scipy import ndimage as ndi

    seen = np.asarray(images, dtype=np.float64)
    around = ndi.median_filter(seen, (1, 1, 3, 3), mode="reflect")
    spread = np.sqrt(fit_noise(seen).variance(around))
    above = seen - around
    # Tissue is bright in both channels or wider than a pixel: what stands alone in one of them is the detector's.
    spikes = (above > OUTLYING * spread) & (above[:, ::-1] < OUTLYING / 2 * spread[:, ::-1])
    return np.where(spikes, around, seen), float(spikes.mean())


@dataclass(frozen=True, eq=False)
class Measured:
    """Noisy images, and the same with a little more of such noise and a little less, for restorers to work on.

    Attributes
    ----------
    images
        Unit intensity without spikes, ``(N, 2, H, W)``.
    added
        Noise as theirs and independent of it; ``images + ADDED * added`` and ``images - ADDED * added`` are to be restored
        as well.
    variance
        Of the noise in each pixel.
    skewness
        Of the noise in each pixel, before it is smeared along the rows.
    """

    images: Images
    added: Images
    variance: Images
    skewness: Images

    def errors(self, restored: ArrayLike, of_more: ArrayLike, of_less: ArrayLike) -> Images:
        """Mean squared error of each block of the channels, and of their difference, ``(blocks, 2)``; some are negative.

        Stein's estimate (Stein 1981, Ann Statist 9:1135) with its divergence by a probe ``z`` of the noise's own covariance
        (Ramani, Blu and Unser 2008, IEEE Trans Image Process 17:1540) and the next term of its expansion in cumulants, which
        photon noise asks for since it is skew (as in Le Montagner et al. 2014, IEEE Trans Image Process 23:1255):
        ``mean (f(y) - y)^2 - v + z (f(y + a z) - f(y - a z)) / a + s z (f(y + a z) - 2 f(y) + f(y - a z)) / a^2`` with ``a``
        = :data:`ADDED` and ``s`` the noise's skewness over the probe's. It assumes noise of the variance ``v`` that was
        fitted. What noise has no part in is not seen: a gain that is wrong, haze, or dark noise that was cut off at 0.

        Parameters
        ----------
        restored, of_more, of_less
            What a restorer makes of the images as they were, and of those with noise added and taken away, unit intensity
            ``(N, 2, H, W)``.
        """
        made, more, less = (np.asarray(one, dtype=np.float64) for one in (restored, of_more, of_less))
        left, slope, bend = made - self.images, (more - less) / (2 * ADDED), (more - 2 * made + less) / ADDED**2
        skew = self.skewness / (2 / PROBE_SHAPE**0.5) * self.added

        def error(part: Callable[[Images], Images], variance: Images) -> Images:
            return part(left) ** 2 - variance + 2 * part(self.added) * part(slope) + part(skew) * part(bend)

        channels = error(lambda images: images, self.variance).mean(axis=1)
        difference = error(lambda images: images[:, 1] - images[:, 0], self.variance.sum(axis=1))
        return np.stack([_blocks(channels), _blocks(difference)], axis=1)


def upsnr(errors: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> Finding:
    """PSNR in dB of a data range of 1 from the mean squared errors of blocks ``(blocks,)``, percentile interval over blocks.

    ``Undefined`` where the blocks are few, or the noise hides the error: the interval's lower end of the mean is not above 0.
    """
    found = np.asarray(errors, dtype=np.float64)
    if len(found) < FEWEST_UNITS:
        return Undefined(f"{len(found)} blocks, fewer than {FEWEST_UNITS}")
    means = draws(np.random.default_rng(seed), len(found), resamples) @ found / len(found)
    low, high = np.quantile(means, [0.025, 0.975])
    if low <= 0:
        return Undefined("the error is too small to be told from the noise")
    return Interval(_decibels(float(found.mean())), _decibels(float(high)), _decibels(float(low)), len(found))


def gain_over(errors: ArrayLike, others: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> Finding:
    """By how many dB one restoration is nearer to the noise-free image than another, by the same blocks of both."""
    ours, theirs = (np.asarray(one, dtype=np.float64) for one in (errors, others))
    if len(ours) < FEWEST_UNITS:
        return Undefined(f"{len(ours)} blocks, fewer than {FEWEST_UNITS}")
    drawn = draws(np.random.default_rng(seed), len(ours), resamples) / len(ours)
    pairs = np.stack([drawn @ ours, drawn @ theirs])
    if np.quantile(pairs, 0.025, axis=1).min() <= 0:
        return Undefined("the error is too small to be told from the noise")
    low, high = np.quantile(10 * np.log10(np.maximum(pairs[1], 1e-12) / np.maximum(pairs[0], 1e-12)), [0.025, 0.975])
    return Interval(_decibels(float(ours.mean())) - _decibels(float(theirs.mean())), float(low), float(high), len(ours))


def nearer(errors: ArrayLike, others: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> bool:
    """Whether one restoration is told to be nearer to the noise-free image than another, by the same blocks of both.

    So it is where the interval of the difference of their errors lies above 0, also where the noise hides how large the errors
    themselves are, and :func:`gain_over` has no decibels to tell.
    """
    apart = np.asarray(others, dtype=np.float64) - np.asarray(errors, dtype=np.float64)
    if len(apart) < FEWEST_UNITS:
        return False
    return bool(np.quantile(draws(np.random.default_rng(seed), len(apart), resamples) @ apart, 0.025) > 0)


def measured(images: ArrayLike, seed: int = 0) -> tuple[Measured, NoiseModel, float]:
    """Images ready to be judged by, the noise that was found in them, and the share of their pixels that were spikes."""
    clean, spikes = without_spikes(images)
    noise = fit_noise(clean)
    added = noise.draw(clean, np.random.default_rng(np.random.Philox(seed)))
    return Measured(clean, added, noise.variance(clean), noise.skewness(clean)), noise, spikes


def _decibels(error: float) -> float:
    return float(-10 * np.log10(max(error, 1e-12)))


def _squares(field: Images) -> NDArray[np.float64]:
    return _means(field, SQUARE)


def _blocks(field: Images) -> NDArray[np.float64]:
    return _means(field, BLOCK)


def _means(field: Images, edge: int) -> NDArray[np.float64]:
    """Means of squares ``(squares,)`` of ``(N, H, W)``; what is left over at the borders is not used."""
    rows, columns = (length // edge for length in field.shape[1:])
    cut = field[:, : rows * edge, : columns * edge].reshape(-1, rows, edge, columns, edge)
    return np.asarray(cut.mean(axis=(2, 4)).ravel())


def _along_rows(fine: Images) -> NDArray[np.float64]:
    spectra = np.fft.fft(fine, axis=-1)
    power = (np.abs(spectra) ** 2).mean(axis=(0, 2))
    shared = np.abs((spectra[:, 0] * spectra[:, 1].conj()).mean(axis=(0, 1)))
    left = np.maximum(power - shared, 0.02 * power)
    mean = left.mean(axis=-1, keepdims=True)
    return np.divide(left, mean, out=np.ones_like(left), where=mean > 0)
