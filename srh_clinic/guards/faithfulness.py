"""Whether a restoration took away noise and nothing else, asked of a whole tile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage as ndi

from srh_clinic.guards.residual import Residual
from srh_clinic.intensity import unit_to_model
from srh_clinic.metrics.nuclei import DARK

SQUARE_UM = 30.0
"""Edge in um of the squares whose brightness is compared."""

FINE_UM, COARSE_UM = 0.5, 2.0
"""Standard deviations in um of the Gaussians between which structure is looked for: edges of cells and fibres."""


def brightness_drift(residual: Residual) -> float:
    """The largest relative change of brightness: ``|mean R - mean Y| / (mean Y + DARK)`` over squares of :data:`SQUARE_UM`.

    The larger of the two channels counts. It assumes that noise has a mean of zero, which fails where a detector cut dark
    noise off; and it sees no change that leaves the mean of a square as it was.
    """
    edge = max(round(SQUARE_UM / residual.um_per_px), 1)
    scanned, restored = (_square_means(image, edge) for image in (residual.scanned, residual.restored))
    return float((np.abs(restored - scanned) / (scanned + DARK)).max())


def residual_structure(residual: Residual) -> float:
    """How much of the image lies in what was taken from it: ``|corr(b(Y - R), b(R))|``, the larger of the two channels.

    ``b`` is the difference of Gaussians of :data:`FINE_UM` and :data:`COARSE_UM`. Near 0 the restoration took away what has
    nothing to do with its edges; a positive correlation means that it softened them, a negative one that it sharpened them.
    It assumes that noise does not know where the edges are: noise that follows the signal does not either, since its sign is
    random. It fails to see structure that is gone without a trace in ``R``.
    """
    fine, coarse = FINE_UM / residual.um_per_px, COARSE_UM / residual.um_per_px

    def band(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return ndi.gaussian_filter(image, (0, fine, fine)) - ndi.gaussian_filter(image, (0, coarse, coarse))

    taken, left = band(residual.scanned - residual.restored), band(residual.restored)
    return max(abs(_correlation(one, other)) for one, other in zip(taken, left, strict=True))


def steps_left(restored: NDArray[np.float32], calibrator: Callable[[torch.Tensor], ArrayLike]) -> NDArray[np.float64]:
    """Reverse steps that a calibrator still asks for, float64 ``(N,)``: a restored image should need none (idempotence).

    It assumes a calibrator that reads clean tissue as clean, and fails where it takes fine texture for noise, or where a
    restoration is smooth and wrong.

    Parameters
    ----------
    restored
        Unit intensity ``(N, 2, H, W)``.
    calibrator
        Model-space images to the index that each resembles, as :class:`~srh_clinic.rscd.restoration.RSCD` takes it.
    """
    asked = np.asarray(calibrator(torch.from_numpy(unit_to_model(restored))), dtype=np.float64)
    return np.maximum(asked + 1, 0.0)


def _square_means(image: NDArray[np.float32], edge: int) -> NDArray[np.float64]:
    """Mean of each square of a channel-first image; those at the far borders are smaller."""
    rows, columns = (np.arange(0, size, edge) for size in image.shape[1:])
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.float64), rows, axis=1), columns, axis=2)
    heights, widths = (
        np.diff(np.append(starts, size)) for starts, size in ((rows, image.shape[1]), (columns, image.shape[2]))
    )
    return np.asarray(sums / np.outer(heights, widths))


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Pearson's; 0 where either has no variation."""
    a, b = one.astype(np.float64) - one.mean(), other.astype(np.float64) - other.mean()
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / norm) if norm > 0 else 0.0
