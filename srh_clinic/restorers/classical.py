"""Filters without weights: what RSCD has to beat, and what a case looks like left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy import ndimage, special
from skimage.restoration import denoise_nl_means, denoise_wavelet

from srh_clinic.intensity import Counts, counts_to_unit, unit_to_counts
from srh_clinic.restorers.restorer import TileRestorer
from srh_clinic.restorers.settings import GaussianSettings, MedianSettings, NonLocalMeansSettings, WaveletSettings
from srh_clinic.rscd.tile import RestoredTile, Tile

DAUBECHIES_2_HIGH_PASS = np.array([-0.48296291314453416, 0.83651630373780790, -0.22414386804201339, -0.12940952255126034])
"""Decomposition high-pass of the wavelet with two vanishing moments (Daubechies 1992, table 6.1)."""


def median(counts: Counts, settings: MedianSettings) -> Counts:
    """Median of each channel's window, uint16 ``(2, H, W)``."""
    return ndimage.median_filter(counts, size=(1, settings.size, settings.size), mode="reflect")


def gaussian(counts: Counts, settings: GaussianSettings) -> Counts:
    """Gaussian blur of each channel, uint16 ``(2, H, W)``."""
    sigma = (0, settings.sigma, settings.sigma)
    return unit_to_counts(ndimage.gaussian_filter(counts_to_unit(counts), sigma, mode="reflect"))


def non_local_means(counts: Counts, settings: NonLocalMeansSettings) -> Counts:
    """Non-local means of each channel (Buades et al. 2005), uint16 ``(2, H, W)``."""
    unit = counts_to_unit(counts)
    for channel in range(len(unit)):
        sigma = estimate_sigma(unit[channel])
        if sigma > 0:
            unit[channel] = denoise_nl_means(
                unit[channel],
                patch_size=settings.patch_size,
                patch_distance=settings.patch_distance,
                h=settings.cut_off * sigma,
                sigma=sigma,
                fast_mode=True,
            )
    return unit_to_counts(unit)


def wavelet(counts: Counts, settings: WaveletSettings) -> Counts:
    """BayesShrink of each channel (Chang, Yu and Vetterli 2000, IEEE TIP 9:1532), uint16 ``(2, H, W)``."""
    unit = counts_to_unit(counts)
    for channel in range(len(unit)):
        sigma = estimate_sigma(unit[channel])
        if sigma > 0:
            unit[channel] = denoise_wavelet(
                unit[channel], sigma=sigma, wavelet=settings.wavelet, mode=settings.mode, method="BayesShrink"
            )
    return unit_to_counts(unit)


def estimate_sigma(image: NDArray[Any]) -> float:
    """Standard deviation of white noise in an image ``(H, W)``, in the image's unit (Donoho and Johnstone 1994).

    The median absolute diagonal detail of the second Daubechies wavelet, over that of a standard normal.
    ``skimage.restoration.estimate_sigma`` does the same but leaves out only details that are exactly zero: beside glass of a
    constant value other than zero, whose details are rounding errors, its answer is a hundredth of ours.
    """
    detail = np.asarray(image, dtype=np.float64)
    for axis in (0, 1):
        detail = ndimage.convolve1d(detail, DAUBECHIES_2_HIGH_PASS, axis=axis, mode="reflect")
    detail = np.abs(detail[::2, ::2])
    # Constant regions, such as the glass around tissue, say nothing about the noise; rounding leaves them just above zero.
    detail = detail[detail > 1e-9]
    return float(np.median(detail) / special.ndtri(0.75)) if detail.size else 0.0


FILTERS: dict[str, Callable[..., Counts]] = {
    "none": lambda counts, settings: counts.copy(),
    "median": median,
    "gaussian": gaussian,
    "nlm": non_local_means,
    "wavelet": wavelet,
}
"""uint16 counts ``(2, H, W)`` and settings to the same, by name."""


@dataclass(frozen=True, eq=False)
class FilterRestorer(TileRestorer):
    """A filter as a :class:`~srh_clinic.restorers.restorer.Restorer`: each tile by itself, no steps, no flags."""

    name: str
    settings: dict[str, Any]
    apply: Callable[[Counts], Counts]
    """uint16 counts ``(2, H, W)`` to the same."""

    def _stream(self, tiles: Iterable[Tile], seed: int) -> Iterator[RestoredTile]:
        for tile in tiles:
            yield RestoredTile(tile.key, self.apply(tile.counts))


def create_filter(name: str, bundle: str, device: str, settings: BaseModel) -> FilterRestorer:
    """The filter by its settings; it takes nothing from the bundle and runs on the CPU."""
    return FilterRestorer(name, settings.model_dump(), partial(FILTERS[name], settings=settings))
