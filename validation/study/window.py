"""What a rater is shown: two 8-bit planes of an image, within a window that no method has a say in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from srh_clinic.display import colour_window
from srh_clinic.intensity import FULL_SCALE, Counts
from srh_clinic.validation.study.records import Window

Planes = NDArray[np.uint8]
"""uint8 ``(2, H, W)``: CH2 and CH3 within a window."""

QUIET_PX = 1.5
"""The window is that of the image as scanned, smoothed by this many pixels: noise would stretch it, and every restoration
would look flat beside its input."""

SATURATED = 0.3
"""Percentage of the smoothed scan that the window saturates at either end; the noise about it saturates more."""

HEADROOM = 0.1
"""Proportion by which the two planes reach beyond what the colours show, so that differences of channels are not cut off."""


def window_of(scanned: Counts) -> Window:
    """The window in which an image and all its restorations are shown; it depends on the image as scanned alone."""
    quiet = ndi.gaussian_filter(scanned.astype(np.float32), (0, QUIET_PX, QUIET_PX))
    seen = colour_window(np.rint(quiet).astype(np.uint16), saturated=SATURATED)
    low, high = min(seen.low[1:]), max(seen.high[1:])
    room = HEADROOM * max(high - low, 1.0)
    red, green, blue = (
        (round(bottom, 1), round(max(top, bottom + 1), 1)) for bottom, top in zip(seen.low, seen.high, strict=True)
    )
    return Window(
        low=round(max(low - room, 0.0), 1), high=round(min(high + room, FULL_SCALE - 1), 1), red=red, green=green, blue=blue
    )


def planes_of(counts: Counts, window: Window) -> Planes:
    """The two planes that the page colours; see :class:`~srh_clinic.validation.study.records.Window`."""
    scaled = (counts.astype(np.float64) - window.low) * (255 / (window.high - window.low))
    planes: NDArray[Any] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    return planes


def blurred(counts: Counts, sigma_px: float = 2.0) -> Counts:
    """An image out of focus, for tasks whose answer is known."""
    quiet = ndi.gaussian_filter(counts.astype(np.float64), (0, sigma_px, sigma_px))
    return np.rint(quiet).astype(np.uint16)
