"""Patterns of period 2: what a network that works at half of the image's size leaves behind, and what no tissue has."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Period2(NamedTuple):
    """Amplitudes of the three patterns that repeat after two pixels, as shares of the image's standard deviation.

    checkerboard
        At (pi, pi): the sign changes from pixel to pixel along rows and columns.
    rows
        At (pi, 0): it changes from row to row.
    columns
        At (0, pi): it changes from column to column.
    """

    checkerboard: float
    rows: float
    columns: float

    @property
    def largest(self) -> float:
        return max(self)


def period_2_amplitudes(image: ArrayLike) -> Period2:
    """How strong the three patterns of period 2 stand in an image, the mean over its channels.

    A pattern of amplitude a adds ``+a`` and ``-a`` in turn. White noise of N pixels has about ``0.8 / sqrt(N)`` of its own
    standard deviation by chance: 0.003 in 256 x 256 pixels of noise alone, and in tissue as little as the finest structure's
    share of the contrast. An even image has none.

    Parameters
    ----------
    image
        ``(C, H, W)`` in any unit, H and W even.
    """
    channels = np.asarray(image, dtype=np.float64)
    height, width = channels.shape[-2:]
    if channels.ndim != 3 or height % 2 or width % 2:
        raise ValueError(f"found an image of shape {channels.shape}; needed (C, H, W) with H and W even.")
    contrast = channels.std(axis=(1, 2))
    amplitudes = np.abs((channels[:, None] * lattices(height, width)).mean(axis=(2, 3)))
    shares = np.divide(amplitudes, contrast[:, None], out=np.zeros_like(amplitudes), where=contrast[:, None] > 0)
    return Period2(*(float(share) for share in shares.mean(axis=0)))


def lattices(height: int, width: int) -> NDArray[np.float64]:
    """The three patterns of :class:`Period2` in their order, +1 and -1, float64 ``(3, height, width)``."""
    down, across = ((-1.0) ** np.arange(length) for length in (height, width))
    return np.stack([np.outer(down, across), np.outer(down, np.ones(width)), np.outer(np.ones(height), across)])
