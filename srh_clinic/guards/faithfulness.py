"""Whether a restoration took away noise and nothing else, asked of a whole tile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from srh_clinic.guards.residual import Residual, gaussian_transfer
from srh_clinic.intensity import unit_to_model
from srh_clinic.metrics.nuclei import DARK

SQUARE_UM = 30.0
"""Edge in um of the squares whose brightness is compared."""

FINE_UM, COARSE_UM = 0.5, 2.0
"""Standard deviations in um of the Gaussians between which structure is looked for: edges of cells and fibres."""

ROUNDING = 1e-6
"""Of an image's mean, what float32 leaves in the variation of an image that has none."""


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
    shape = residual.scanned.shape[1:]
    fine, coarse = (gaussian_transfer(shape, width / residual.um_per_px) for width in (FINE_UM, COARSE_UM))
    taken = (residual.scanned_waves - residual.restored_waves) * (fine - coarse)
    left = residual.restored_waves * (fine - coarse)
    unseen = ROUNDING * np.abs(residual.scanned_waves[:, 0, 0])
    return max(abs(_correlation(*three)) for three in zip(taken, left, unseen, strict=True))


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


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32], unseen: float) -> float:
    """Pearson's of two images by their cosine transforms, whose first number is the mean.

    0 where either has no variation but ``unseen``, which is what rounding leaves of it.
    """
    a, b = (waves.ravel()[1:].astype(np.float64) for waves in (one, other))
    size = np.sqrt((a**2).sum()), np.sqrt((b**2).sum())
    return float((a * b).sum() / (size[0] * size[1])) if min(size) > unseen else 0.0
