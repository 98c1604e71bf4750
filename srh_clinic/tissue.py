"""Where a slide has tissue, and where it is empty glass.

The mask spares the networks the empty parts of a slide. It must not lose tissue: a place counts as empty only if it is as dark
as the glass of the same slide and the glass is far darker than the tissue. A slide without such glass is tissue throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from srh_clinic.intensity import Counts
from srh_clinic.resampling import block_mean

CELL = 16
"""Edge in slide pixels of the squares that are judged (never finer than a pixel of the thumbnail)."""

CONTRAST = 3.0
"""Tissue must be this many times brighter than the darker part of the slide for that part to be taken for glass."""

SPREAD = 5.0
"""A cell is glass up to this many robust standard deviations above the glass's median."""

RARE = 0.10
"""A brighter part that covers less of what was scanned may be a scrap of tissue on glass, or debris on tissue."""

GLASS_COUNTS = 4_000.0
"""Below a rare brighter part only what is darker than this, CH2 + CH3, is glass: glass gives hardly more than dark counts,
faint tissue twice as much."""


@dataclass(frozen=True)
class TissueMask:
    """Cells of ``cell`` slide pixels per side; ``cells`` is bool ``(rows, columns)``, true where there is tissue."""

    cells: NDArray[np.bool_]
    cell: int

    @property
    def fraction(self) -> float:
        """Fraction of the slide that is tissue."""
        return float(self.cells.mean())

    def within(self, y: int, x: int, height: int, width: int) -> float:
        """Fraction of tissue in a region given in slide pixels, over all cells that it touches; it may end past the slide."""
        bottom, right = -(-(y + height) // self.cell), -(-(x + width) // self.cell)
        return float(self.cells[y // self.cell : bottom, x // self.cell : right].mean())


def tissue_mask(picture: Counts, factor: int = 1) -> TissueMask:
    """The mask of a slide from its thumbnail.

    CH2 + CH3 is averaged over cells, smoothed and split in two by Otsu's threshold on its square root (which evens out shot
    noise). Only if the brighter part is :data:`CONTRAST` times as bright is the darker one glass, and then only those of its
    cells that lie within :data:`SPREAD`. A few saturated cells of debris would make glass of all tissue around them: where the
    brighter part is :data:`RARE`, the darker one must also be as dark as glass is (:data:`GLASS_COUNTS`). Cells without any
    signal are outside of what was scanned. The mask grows by one cell.

    Parameters
    ----------
    picture
        uint16 counts ``(2, h, w)``.
    factor
        Slide pixels per pixel of ``picture``.
    """
    per_cell = max(CELL // factor, 1)
    brightness = block_mean(picture, per_cell).sum(axis=0)
    scanned = brightness > 0
    # Smoothing leaves out what was not scanned, or its zeros would darken the tissue beside it.
    weight = ndimage.gaussian_filter(scanned.astype(np.float64), 1.0)
    smooth = ndimage.gaussian_filter(np.where(scanned, brightness, 0.0), 1.0) / np.maximum(weight, 1e-9)
    tissue = scanned.copy()
    if scanned.any():
        level = np.sqrt(smooth)
        threshold = _otsu(level[scanned])
        dark, bright = scanned & (level <= threshold), scanned & (level > threshold)
        compares = bright.sum() >= RARE * scanned.sum() or np.median(smooth[dark]) < GLASS_COUNTS
        if compares and bright.any() and np.median(smooth[bright]) > CONTRAST * np.median(smooth[dark]):
            glass = np.median(level[dark])
            spread = 1.4826 * np.median(np.abs(level[dark] - glass))
            tissue = scanned & (level > min(glass + SPREAD * spread, threshold))
    grown = ndimage.binary_dilation(tissue, np.ones((3, 3), dtype=bool)) & scanned
    return TissueMask(cells=grown, cell=per_cell * factor)


def _otsu(values: NDArray[np.float64], bins: int = 256) -> float:
    """Otsu's threshold: the value that leaves the largest variance between the two parts."""
    if values.min() == values.max():
        return float(values.max())
    histogram, edges = np.histogram(values, bins=bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(histogram)[:-1]
    above = histogram.sum() - below
    mass = np.cumsum(histogram * centres)
    # The lowest and the highest bin are never empty, so neither part ever is.
    variance = below * above * (mass[:-1] / below - (mass[-1] - mass[:-1]) / above) ** 2
    # Between two separate groups the variance is flat: the middle of the gap is the fairest cut.
    best = np.flatnonzero(variance >= variance.max() * (1 - 1e-9))
    return float(edges[1:-1][best].mean())
