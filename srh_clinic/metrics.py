"""How good a restoration is, and how sure of that one may be.

Images are unit intensity ``(2, H, W)``, channel 0 CH2, channel 1 CH3, unless a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.regression import compute_ssim_and_cs
from numpy.typing import ArrayLike, NDArray
from statsmodels.stats.proportion import proportion_confint

from srh_clinic.intensity import counts_to_unit
from srh_clinic.tiling import TileGrid


@dataclass(frozen=True)
class Interval:
    """An estimate, its confidence interval, and how many independent observations are behind it."""

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95


def psnr(image: ArrayLike, reference: ArrayLike, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, ``10 log10(data_range**2 / MSE)``, the mean squared error over channels and pixels.

    Equal images have infinitely many dB.

    Parameters
    ----------
    image, reference
        Unit intensity ``(2, H, W)``.
    """
    x, y = _pair(image, reference)
    error = float(np.mean((x - y) ** 2))
    return float(10 * np.log10(data_range**2 / error)) if error > 0 else float("inf")


def ssim(image: ArrayLike, reference: ArrayLike, *, sigma: float = 1.5, size: int = 11, data_range: float = 1.0) -> float:
    """Structural similarity, the mean over channels and over the pixels whose whole window lies in the image.

    ``(2 mx my + c1) (2 sxy + c2) / ((mx^2 + my^2 + c1) (sx^2 + sy^2 + c2))`` with Gaussian-weighted means and (co)variances,
    ``c1 = (0.01 data_range)^2`` and ``c2 = (0.03 data_range)^2`` (Wang et al. 2004, IEEE TIP 13:600, eq. 13).

    Parameters
    ----------
    image, reference
        Unit intensity ``(2, H, W)``, H and W at least ``size``.
    sigma, size
        Standard deviation and edge of the Gaussian window in pixels.
    """
    x, y = (torch.from_numpy(one.astype(np.float32))[None] for one in _pair(image, reference))
    similarity, _ = compute_ssim_and_cs(
        x, y, spatial_dims=2, kernel_size=(size, size), kernel_sigma=(sigma, sigma), data_range=data_range
    )
    return float(similarity.double().mean())


def channel_coherence(image: ArrayLike, above: float) -> float:
    """How far the two channels of an image agree at high frequencies, 0 (not at all) to 1.

    The magnitude of their cross-spectrum over the root of the product of their power spectra, each summed over the
    frequencies ``above`` so many cycles a pixel, under a Hann window. What both channels see of tissue is coherent; noise of
    separate acquisitions is not.

    Parameters
    ----------
    image
        ``(2, H, W)``, in any unit.
    """
    channels = np.asarray(image, dtype=np.float64)
    if channels.ndim != 3 or len(channels) != 2:
        raise ValueError(f"found an image of shape {channels.shape}; needed (2, H, W).")
    height, width = channels.shape[1:]
    window = np.outer(np.hanning(height), np.hanning(width))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    first, second = np.fft.fft2((channels - channels.mean(axis=(1, 2), keepdims=True)) * window)[:, frequency > above]
    power = float((np.abs(first) ** 2).sum() * (np.abs(second) ** 2).sum())
    return float(np.abs((first * second.conj()).sum()) / np.sqrt(power)) if power > 0 else 0.0


def mean_with_interval(values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of independent observations ``(N,)``, percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Raises
    ------
    ValueError
        When there is no observation.
    """
    observed = np.asarray(values, dtype=np.float64)
    if observed.ndim != 1 or not len(observed):
        raise ValueError(f"found observations of shape {observed.shape}; needed one or more, shape (N,).")
    draws = np.random.default_rng(seed).integers(0, len(observed), (resamples, len(observed)))
    low, high = np.quantile(observed[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(observed.mean()), float(low), float(high), len(observed), level)


def paired_difference(
    ours: ArrayLike, theirs: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
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
    low, high = proportion_confint(count, n, alpha=1 - level, method="beta")
    return Interval(count / n, float(low), float(high), n, level)


@dataclass(frozen=True)
class SeamRatio:
    """Gradient energy across tile borders over that across all other lines; 1 when tiles leave no trace.

    ``rows`` and ``columns`` are the ratios across horizontal and vertical borders, ``value`` their mean. ``shifted`` is the
    95th percentile of ``value`` for grids of the same shape moved to where no border is: what chance alone gives.
    """

    value: float
    rows: float
    columns: float
    shifted: float


def seam_ratio(counts: NDArray[np.generic], grid: TileGrid) -> SeamRatio:
    """Whether the borders of a grid's tiles show in a slide.

    The gradient across a line is the difference of the pixels on its two sides, ``I[y, x] - I[y, x - 1]``; its energy is the
    mean square along the line. A border is a line on which a tile begins or ends, inside the slide; where the feather is too
    short or tiles disagree, the blend has a kink or a step there. The ratio is taken for each channel and axis, so that the
    brighter channel does not decide alone, and averaged.

    Parameters
    ----------
    counts
        The slide, counts ``(2, H, W)``.
    grid
        Its tiles; more than one in at least one axis.

    Raises
    ------
    ValueError
        When the shapes differ or no border lies inside the slide.
    """
    if counts.shape[1:] != grid.shape:
        raise ValueError(f"found a slide of {counts.shape[1:]} pixels and a grid for {grid.shape}; needed equal shapes.")
    unit = counts_to_unit(counts).astype(np.float64)
    axes = {
        "rows": ((np.diff(unit, axis=1) ** 2).mean(axis=2), _borders(grid.rows, grid.tile, grid.shape[0])),
        "columns": ((np.diff(unit, axis=2) ** 2).mean(axis=1), _borders(grid.columns, grid.tile, grid.shape[1])),
    }
    with_borders = {name: pair for name, pair in axes.items() if len(pair[1])}
    if not with_borders:
        raise ValueError(f"found no tile border inside {grid.shape} pixels; needed a slide of more than one tile.")
    ratios = {name: _line_ratio(energy, borders) for name, (energy, borders) in with_borders.items()}
    offsets = range(1, max(energy.shape[1] for energy, _ in with_borders.values()))
    shifted = [
        np.mean([_line_ratio(energy, moved) for energy, moved in moved_apart])
        for offset in offsets
        if (moved_apart := _moved(with_borders.values(), offset))
    ]
    return SeamRatio(
        value=float(np.mean(list(ratios.values()))),
        rows=ratios.get("rows", float("nan")),
        columns=ratios.get("columns", float("nan")),
        shifted=float(np.quantile(shifted, 0.95)) if shifted else float("nan"),
    )


def _pair(image: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(image, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 3 or x.shape[0] != 2:
        raise ValueError(f"found images of shape {x.shape} and {y.shape}; needed two of one shape (2, H, W).")
    return x, y


def _borders(offsets: NDArray[np.int64], tile: int, length: int) -> NDArray[np.int64]:
    """Where tiles begin or end inside the slide, as indices of the gradient *before* that pixel."""
    lines = np.unique(np.concatenate([offsets, offsets + tile]))
    return lines[(lines > 0) & (lines < length)] - 1


def _line_ratio(energy: NDArray[np.float64], lines: NDArray[np.int64]) -> float:
    """Mean energy ``(2, L)`` on some lines over that on the others, averaged over channels."""
    chosen = np.zeros(energy.shape[1], dtype=bool)
    chosen[lines] = True
    return float(np.mean(energy[:, chosen].mean(axis=1) / energy[:, ~chosen].mean(axis=1)))


def _moved(
    axes: Iterable[tuple[NDArray[np.float64], NDArray[np.int64]]], offset: int
) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """The same borders ``offset`` lines further, wrapped round; empty when one falls on a true border."""
    moved = []
    for energy, borders in axes:
        lines = (borders + offset) % energy.shape[1]
        if np.isin(lines, borders).any():
            return []
        moved.append((energy, lines))
    return moved
