"""Filters without weights: what RSCD has to beat, and what a case looks like left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage, special
from skimage.restoration import denoise_nl_means, denoise_wavelet

from srh_clinic.intensity import Counts, counts_to_unit, unit_to_counts
from srh_clinic.restorers.protocol import Restoration, restore_array
from srh_clinic.rscd.restoration import RestoredTile, Tile

DAUBECHIES_2_HIGH_PASS = np.array([-0.48296291314453416, 0.83651630373780790, -0.22414386804201339, -0.12940952255126034])
"""Decomposition high-pass of the wavelet with two vanishing moments (Daubechies 1992, table 6.1)."""


class FilterSettings(BaseModel):
    """Settings of a filter; a name that is none of them is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NoneSettings(FilterSettings):
    """Leaving alone takes no settings."""


class MedianSettings(FilterSettings):
    """The paper's baseline is the 5 x 5 median."""

    size: Literal[3, 5] = 5
    """Edge of the window in pixels."""


class GaussianSettings(FilterSettings):
    """A Gaussian blur."""

    sigma: float = Field(default=1.0, gt=0, le=64)
    """Standard deviation in pixels."""


class NonLocalMeansSettings(FilterSettings):
    """scikit-image's fast non-local means with the noise estimated for each tile and channel.

    Defaults are those of scikit-image's own example: patches of 5 px within 6 px, cut-off 0.8 sigma.
    """

    patch_size: int = Field(default=5, ge=1, le=31)
    """Edge of the compared patches in pixels."""
    patch_distance: int = Field(default=6, ge=1, le=64)
    """Largest distance of compared patches in pixels."""
    cut_off: float = Field(default=0.8, gt=0)
    """Cut-off of the grey-level distance, in estimated noise standard deviations."""


class WaveletSettings(FilterSettings):
    """scikit-image's wavelet shrinkage with the noise estimated for each tile and channel."""

    wavelet: Literal["db1", "db2", "db4", "sym4", "sym8"] = "sym4"
    """An orthogonal wavelet by PyWavelets' name. On phantoms sym4 and db4 gained 1.5 dB, scikit-image's default db1 1.1."""
    mode: Literal["soft", "hard"] = "soft"
    """Whether coefficients above the threshold shrink by it."""


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


@dataclass(frozen=True)
class FilterRestorer:
    """A filter as a :class:`~srh_clinic.restorers.protocol.Restorer`: each tile by itself, no steps, no flags."""

    name: str
    settings: dict[str, Any]
    apply: Callable[[Counts], Counts]
    """uint16 counts ``(2, H, W)`` to the same."""

    def restore(self, counts: Counts, positions: ArrayLike | None = None, seed: int = 0) -> Restoration:
        return restore_array(self.stream, counts, positions, seed)

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        for tile in tiles:
            yield RestoredTile(
                key=tile.key,
                counts=self.apply(tile.counts),
                t_pred=-1,
                steps=0,
                rounds=0,
                stop_reason="filtered",
                flags=(),
                evaluations=0,
            )
