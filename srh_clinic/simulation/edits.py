"""Nuclei drawn into an image and taken out of it: hallucinations whose place is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from srh_clinic.intensity import Counts, rounded_counts
from srh_clinic.simulation.cells import soft_step
from srh_clinic.simulation.fields import Rng

CONTRASTS = {"faint": 0.2, "usual": 0.4, "strong": 0.6}
"""Share of the CH2 signal that a nucleus lacks; in phantoms of glioma and of grey matter the median is 0.4."""

ERASED = {"faint": 1 / 3, "usual": 2 / 3, "strong": 1.0}
"""Share of its contrast that an erased nucleus loses."""

RADIUS_UM = (2.5, 4.5)
APART_PX = 12.0
"""Room between a planted nucleus and the next one's edge."""

EDGE_PX = 16.0
"""Nuclei this near to the border are left alone: half of one is no nucleus."""

_TRIES = 200


@dataclass(frozen=True, eq=False)
class Edit:
    """An image with one nucleus more, or one less; ``y``, ``x`` and ``radius`` are px."""

    counts: Counts
    y: float
    x: float
    radius: float


def plant_nucleus(rng: Rng, counts: Counts, nuclei: NDArray[np.floating], contrast: float, um_per_px: float) -> Edit | None:
    """Draw a nucleus where there is none: CH2 darker by ``contrast``, CH3 brighter by a quarter of it, in a soft disc.

    Parameters
    ----------
    counts
        uint16 ``(2, H, W)``; not changed.
    nuclei
        Nuclei of the field, ``(K, 3)`` of y, x and radius in px.

    Returns
    -------
    None where no free place was found.
    """
    height, width = counts.shape[1:]
    for _ in range(_TRIES):
        y, x = rng.uniform(EDGE_PX, height - EDGE_PX), rng.uniform(EDGE_PX, width - EDGE_PX)
        radius = rng.uniform(*RADIUS_UM) / um_per_px
        if not len(nuclei) or (np.hypot(nuclei[:, 0] - y, nuclei[:, 1] - x) > nuclei[:, 2] + radius + APART_PX).all():
            disc = _soft_disc((height, width), y, x, radius, 1.0)
            factors = np.stack([1 - contrast * disc, 1 + contrast / 4 * disc])
            return Edit(_as_counts(counts * factors), float(y), float(x), float(radius))
    return None


def erase_nucleus(rng: Rng, counts: Counts, nuclei: NDArray[np.floating], share: float) -> Edit | None:
    """Take a nucleus out: its disc is blended, by ``share``, with its surroundings' median and its own fine texture.

    Parameters
    ----------
    counts
        uint16 ``(2, H, W)``; not changed.
    nuclei
        Nuclei to choose from, ``(K, 3)`` of y, x and radius in px.

    Returns
    -------
    None where every nucleus lies too near to the border.
    """
    height, width = counts.shape[1:]
    y, x = nuclei[:, 0], nuclei[:, 1]
    inside = (np.minimum(y, x) > EDGE_PX) & (y < height - EDGE_PX) & (x < width - EDGE_PX)
    candidates = np.flatnonzero(inside)
    if not len(candidates):
        return None
    y, x, radius = nuclei[rng.choice(candidates)]
    distance = _distance((height, width), y, x)
    ring = (distance > 1.4 * radius) & (distance < 2.2 * radius)
    image = counts.astype(np.float64)
    texture = image - ndi.gaussian_filter(image, (0, radius / 3, radius / 3))
    filled = np.median(image[:, ring], axis=1)[:, None, None] + texture
    weight = share * _soft_disc((height, width), y, x, 1.25 * radius, 1.5)
    return Edit(_as_counts(image + weight * (filled - image)), float(y), float(x), float(radius))


def _soft_disc(shape: tuple[int, int], y: float, x: float, radius: float, softness: float) -> NDArray[np.float64]:
    return np.asarray(soft_step(_distance(shape, y, x) - radius, softness))


def _distance(shape: tuple[int, int], y: float, x: float) -> NDArray[np.float64]:
    """Distance of each pixel from a place, in px."""
    return np.asarray(np.hypot(*(np.indices(shape) - np.array([y, x])[:, None, None])))


def _as_counts(image: NDArray[np.floating]) -> Counts:
    return rounded_counts(image)
