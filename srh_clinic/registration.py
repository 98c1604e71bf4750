"""How far two images of one field lie apart, by phase correlation (Kuglin and Hines 1975)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

COHERENT = 9.0
"""Height of the peak, in standard deviations of the correlation, below which two images share no structure."""

IN_REGISTER = 20.0
"""Height from which on a small shift is believed."""

_HIGHEST_FREQUENCY = 0.12


Pair = tuple[NDArray[np.floating], NDArray[np.floating]]


def phase_shift(pairs: Iterable[Pair]) -> tuple[tuple[float, float] | None, float]:
    """Shift of the second image of each pair against the first, from the spectra of all pairs together.

    Parameters
    ----------
    pairs
        Images ``(h, w)``, all of one size, at least one pair; their intensity space does not matter.

    Returns
    -------
    shift
        How far, in px, the second lies below and right of the first, to fractions of one; ``None`` when an image is flat.
    coherence
        Height of the correlation's peak in its standard deviations: see :data:`COHERENT` and :data:`IN_REGISTER`.
    """
    total: NDArray[np.complex128] | None = None
    for one, two in pairs:
        if total is None:
            height, width = one.shape
            taper = np.outer(np.hanning(height), np.hanning(width))
            total = np.zeros((height, width // 2 + 1), dtype=np.complex128)
        first, second = (np.fft.rfft2((image - image.mean()) * taper) for image in (one, two))
        cross = np.conj(first) * second
        size = np.abs(cross)
        total += np.divide(cross, size, out=np.zeros_like(cross), where=size > 1e-12)
    if total is None:
        raise ValueError("no images to compare")
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    band = np.exp(-((frequency / _HIGHEST_FREQUENCY) ** 2)) * (frequency > 0.01)
    correlation = np.fft.irfft2(total * band, s=(height, width))
    spread = float(correlation.std())
    if not spread > 0:
        return None, 0.0
    peak = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    at = int(peak[0]), int(peak[1])
    place = [_refined(np.take(correlation, at[1 - axis], axis=1 - axis), at[axis]) for axis in (0, 1)]
    return (place[0], place[1]), float((correlation[at] - correlation.mean()) / spread)


def _refined(line: NDArray[np.float64], at: int) -> float:
    """Place of a maximum to a fraction of a pixel, by the parabola through it and its neighbours; the far half is negative."""
    before, here, after = (float(line[(at + step) % len(line)]) for step in (-1, 0, 1))
    curvature = before - 2 * here + after
    whole = at if at <= len(line) // 2 else at - len(line)
    return whole + (0.5 * (before - after) / curvature if curvature else 0.0)
