"""What two channels share of a residual: tissue that was taken, or a likeness that was made. No reference is needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srh_clinic.estimates import FEWEST_UNITS, Finding, Interval, Undefined, draws

BLOCK = 64
"""Edge in px of the blocks that intervals are taken over."""

SHARING_BANDS = ((0.02, 0.1), (0.1, 0.2), (0.2, 0.5))
"""Coarse, middle and fine structure in cycles a pixel."""


def shared_by_band(images: ArrayLike, bands: Sequence[tuple[float, float]] = SHARING_BANDS) -> NDArray[np.float64]:
    """Power that the two channels share in each block and band, with its sign, float64 ``(blocks, bands)``.

    The real part of the cross-spectrum under a Hann window, summed over the band: noise of separate acquisitions adds nothing
    on average, structure of both adds its power, structure that is bright in one and dark in the other takes it away.

    Parameters
    ----------
    images
        ``(N, 2, H, W)`` in any unit, H and W at least :data:`BLOCK`; what is left over at the borders is not used.
    """
    pairs = np.asarray(images, dtype=np.float64)
    if pairs.ndim != 4 or pairs.shape[1] != 2 or min(pairs.shape[2:]) < BLOCK:
        raise ValueError(f"found images of shape {pairs.shape}; needed (N, 2, H, W) of at least {BLOCK} px a side.")
    rows, columns = (length // BLOCK for length in pairs.shape[2:])
    cut = pairs[:, :, : rows * BLOCK, : columns * BLOCK].reshape(-1, 2, rows, BLOCK, columns, BLOCK)
    blocks = cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, 2, BLOCK, BLOCK)
    window = np.outer(np.hanning(BLOCK), np.hanning(BLOCK))
    first, second = np.fft.fft2((blocks - blocks.mean(axis=(2, 3), keepdims=True)) * window).transpose(1, 0, 2, 3)
    shared = (first * second.conj()).real
    frequency = np.hypot(np.fft.fftfreq(BLOCK)[:, None], np.fft.fftfreq(BLOCK)[None])
    return np.stack([shared[:, (frequency >= low) & (frequency < high)].sum(axis=1) for low, high in bands], axis=1)


def residual_sharing(scanned: ArrayLike, restored: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> list[Finding]:
    """The part of the residual that the two channels share, over the shared part of the input, in each of the bands.

    Above 0, **tissue was taken**: what is taken away of independent noise is not shared, so what is shared was not noise.
    Below 0, **a likeness was made**: the restoration has moved the channels towards each other, and what told them apart
    stands in the residual with opposite signs. A channel that is left as it is shares nothing.

    Below 0 is no fault by itself where noise is strong: the best linear estimate of structure with spectra S under noise of
    variance v leaves a residual of covariance ``v^2 (S + v)^-1``, whose channels share ``-v^2 / det(S + v)`` of what the
    input's do.

    Intervals are percentiles over resampled blocks of :data:`BLOCK` px (Efron and Tibshirani 1993, chapter 13).
    :class:`~srh_clinic.estimates.Undefined` stands where the blocks are few or the input's channels share nothing.

    Parameters
    ----------
    scanned, restored
        ``(N, 2, H, W)`` in the same unit.
    """
    before = np.asarray(scanned, dtype=np.float64)
    residual = shared_by_band(before - np.asarray(restored, dtype=np.float64))
    shared = shared_by_band(before)
    if len(shared) < FEWEST_UNITS:
        return [Undefined(f"{len(shared)} blocks, fewer than {FEWEST_UNITS}")] * shared.shape[1]
    drawn = draws(np.random.default_rng(seed), len(shared), resamples)
    return [_ratio(residual[:, band], shared[:, band], drawn) for band in range(shared.shape[1])]


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64], drawn: NDArray[np.float64]) -> Finding:
    totals = drawn @ whole
    low, high = np.quantile(totals, [0.025, 0.975])
    if low <= 0 <= high:
        return Undefined("the channels of the input share nothing there")
    low, high = np.quantile((drawn @ part) / totals, [0.025, 0.975])
    return Interval(float(part.sum() / whole.sum()), float(low), float(high), len(part))
