"""How SRH is looked at: the usual SRH colours, virtual H&E, and the three-channel views that classifiers are trained on.

Everything starts from counts (uint16, channel 0 CH2, channel 1 CH3). The two views for people take a :class:`ColourWindow`, so
that an image before and after restoration is shown on one scale; the views for networks are recipes by name, because a
classifier's weights fit the recipe that they were trained with and no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.intensity import FULL_SCALE, Counts, Unit, counts_to_unit

Recipe = Literal["opensrh", "hollon2020", "rscd"]
RECIPES: tuple[Recipe, ...] = get_args(Recipe)

RGB = NDArray[np.uint8]
"""uint8 ``(H, W, 3)``."""

SATURATED = 1.5
"""Percentage of the pixels that the window saturates at either end, as in published SRH images."""

OFFSET = 5000
"""Counts added to ``CH3 - CH2`` so that its negative part stays visible (OpenSRH)."""

HEMATOXYLIN = np.array([0.5626, 0.7201, 0.4062], dtype=np.float32)
EOSIN = np.array([0.2159, 0.8012, 0.5581], dtype=np.float32)
"""Optical densities of the stains in red, green and blue (Macenko et al. 2009)."""

HE_STRENGTH = (1.4, 0.6)
"""How much of each stain, hematoxylin and eosin, virtual H&E lays on where the window ends."""

CLASS_COLOURS = np.array([[213, 94, 0], [0, 158, 115], [120, 130, 150]], dtype=np.float64)
"""Tumor, normal, nondiagnostic: vermilion, green, grey (Okabe and Ito 2008, told apart by every kind of colour vision)."""


@dataclass(frozen=True)
class ColourWindow:
    """Lowest and highest counts shown of ``CH3 - CH2``, CH2 and CH3, in this order: the red, green and blue of SRH."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def scale(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        """Counts ``(2, H, W)`` to ``(3, H, W)`` in [0, 1]: ``CH3 - CH2``, CH2 and CH3 within the window."""
        planes = _difference_ch2_ch3(counts)
        low = np.asarray(self.low, dtype=np.float32)[:, None, None]
        high = np.asarray(self.high, dtype=np.float32)[:, None, None]
        return np.clip((planes - low) / np.maximum(high - low, 1), 0, 1)


def colour_window(*images: Counts, saturated: float = SATURATED) -> ColourWindow:
    """The window that one or more images (counts ``(2, H, W)``) share: percentiles over all their pixels together."""
    planes = np.concatenate([_difference_ch2_ch3(image).reshape(3, -1) for image in images], axis=1)
    low, high = np.percentile(planes, [saturated, 100 - saturated], axis=1)
    # Red shows what CH3 has beyond CH2 (nuclei, protein), so it starts at 0; where CH2 prevails throughout (white matter,
    # channels adjusted apart) it starts at the median, or nuclei would stay dark.
    low[0] = min(max(low[0], 0), np.median(planes[0]))
    return ColourWindow(
        low=(float(low[0]), float(low[1]), float(low[2])), high=(float(high[0]), float(high[1]), float(high[2]))
    )


def srh_colours(counts: Counts, window: ColourWindow | None = None) -> RGB:
    """The usual colours of SRH: red ``CH3 - CH2``, green CH2, blue CH3, each stretched to the window.

    Parameters
    ----------
    counts
        uint16 ``(2, H, W)``.
    window
        The window shared with other images; the image's own when not given.
    """
    scaled = (window or colour_window(counts)).scale(counts)
    return np.rint(scaled * 255).astype(np.uint8).transpose(1, 2, 0)


def virtual_he(counts: Counts, window: ColourWindow | None = None) -> RGB:
    """Virtual H&E in the manner of Orringer et al. 2017: CH2 as eosin, ``CH3 - CH2`` as hematoxylin, on white.

    The two dye concentrations follow from the window; their optical densities add (Beer and Lambert), as they would on glass.

    Parameters
    ----------
    counts
        uint16 ``(2, H, W)``.
    window
        The window shared with other images; the image's own when not given.
    """
    difference, ch2, _ = (window or colour_window(counts)).scale(counts)
    density = HE_STRENGTH[0] * difference[..., None] * HEMATOXYLIN + HE_STRENGTH[1] * ch2[..., None] * EOSIN
    return np.rint(255 * np.exp(-density)).astype(np.uint8)


def three_channel(counts: Counts, recipe: Recipe) -> Unit:
    """What a classifier sees: float32 ``(3, H, W)`` in [0, 1], channels ``CH3 - CH2``, CH2, CH3.

    Parameters
    ----------
    counts
        uint16 ``(2, H, W)``.
    recipe
        ``opensrh``: unit intensities, the difference raised by 5,000 counts (Jiang et al. 2022).
        ``hollon2020``: CH2 and CH3 stretched from their 3rd to their 97th percentile in this patch, the difference cut at 0
        (Hollon et al. 2020).
        ``rscd``: CH2 and CH3 histogram-equalised, the difference raised by 5,000 counts (Lyu et al. 2025).

    Raises
    ------
    InputError
        When the recipe is unknown.
    """
    if recipe == "opensrh":
        ch2, ch3 = counts_to_unit(counts)
        difference = ch3 - ch2 + np.float32(OFFSET / FULL_SCALE)
    elif recipe == "hollon2020":
        ch2, ch3 = (_stretch(plane, 3, 97) for plane in counts)
        difference = ch3 - ch2
    elif recipe == "rscd":
        ch2, ch3 = (_equalise(plane) for plane in counts)
        difference = ch3 - ch2 + np.float32(OFFSET / (FULL_SCALE - 1))
    else:
        raise InputError(f"the colour recipe {recipe!r}", f"one of {', '.join(RECIPES)}")
    return np.clip(np.stack([difference, ch2, ch3]), 0, 1).astype(np.float32)


def class_colours(probabilities: NDArray[Any]) -> RGB:
    """Colours of class probabilities ``(..., 3)`` in the order tumor, normal, nondiagnostic, mixed by probability."""
    return np.rint(np.clip(np.asarray(probabilities, dtype=np.float64), 0, 1) @ CLASS_COLOURS).clip(0, 255).astype(np.uint8)


def greyscale(counts: Counts, window: ColourWindow | None = None) -> RGB:
    """The tissue in grey, the ground for overlays: the mean of CH2 and CH3 within the window."""
    scaled = (window or colour_window(counts)).scale(counts)
    grey = np.rint(scaled[1:].mean(axis=0) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def overlay(ground: RGB, colours: RGB, opacity: NDArray[Any] | float = 0.5) -> RGB:
    """``colours`` over ``ground`` (uint8 ``(H, W, 3)`` both); ``opacity`` is one number or ``(H, W)`` in [0, 1]."""
    weight = np.broadcast_to(np.asarray(opacity, dtype=np.float32), ground.shape[:2])[..., None]
    return np.rint(ground * (1 - weight) + colours * weight).astype(np.uint8)


def _difference_ch2_ch3(counts: NDArray[Any]) -> NDArray[np.float32]:
    ch2, ch3 = np.asarray(counts, dtype=np.float32)
    return np.stack([ch3 - ch2, ch2, ch3])


def _stretch(plane: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """A channel from two percentiles of its own to [0, 1]; a flat channel becomes 0."""
    bottom, top = np.percentile(plane, [low, high])
    return np.clip((plane.astype(np.float32) - np.float32(bottom)) / np.float32(max(top - bottom, 1)), 0, 1)


def _equalise(plane: NDArray[Any]) -> NDArray[np.float32]:
    """Histogram equalisation over the channel's own range, 65,536 bins; its lowest bin does not count. Flat becomes 0."""
    bottom, top = int(plane.min()), int(plane.max())
    if top == bottom:
        return np.zeros(plane.shape, dtype=np.float32)
    bins = ((plane.astype(np.int64) - bottom) * (FULL_SCALE - 1)) // (top - bottom)
    histogram = np.bincount(bins.ravel(), minlength=FULL_SCALE)
    histogram[0] = 0
    cumulative = np.cumsum(histogram)
    return (cumulative / cumulative[-1]).astype(np.float32)[bins]
