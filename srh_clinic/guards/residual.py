"""What a restoration changed, as the guards look at it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.fft import dctn, idctn

from srh_clinic.errors import InputError
from srh_clinic.metrics.nuclei import DARK, RADII_UM, Responses, blob_responses

AROUND_UM = 3.75
"""Standard deviation in um of the Gaussian that gives the brightness to which a change is put in relation."""

BLOCK_UM = 15.0
"""Edge in um of the squares in which the spread of a filter's answers is measured: several nuclei wide."""

FILTER_RADII_UM = RADII_UM[1:-1]
"""Radii in um of the discs that are looked for: of smaller ones noise makes many by itself."""

SLIGHT = 0.02
"""Relative contrast that no reader sees; the spread is taken for no less, so that a perfect input does not flag trifles."""


@dataclass(frozen=True, eq=False)
class Residual:
    """A field as scanned and as restored, and the difference of the two.

    Parameters
    ----------
    scanned, restored
        Unit intensity, float32 ``(2, H, W)``.
    um_per_px
        Of both.

    Raises
    ------
    InputError
        When the shapes differ.
    """

    scanned: NDArray[np.float32]
    restored: NDArray[np.float32]
    um_per_px: float

    def __post_init__(self) -> None:
        shapes = self.scanned.shape, self.restored.shape
        if shapes[0] != shapes[1] or len(shapes[0]) != 3 or shapes[0][0] != 2:
            raise InputError(f"images of shape {shapes[0]} and {shapes[1]}", "two of one shape (2, H, W)")

    @cached_property
    def relative(self) -> NDArray[np.float32]:
        """``(R - Y) / (G * R + DARK)``, the relative change in each channel, ``G`` a Gaussian of :data:`AROUND_UM`."""
        smooth = gaussian_transfer(self.restored.shape[1:], AROUND_UM / self.um_per_px)
        around = idctn(self.restored_waves * smooth, axes=(1, 2), norm="ortho")
        return np.asarray((self.restored - self.scanned) / (around + np.float32(DARK)), dtype=np.float32)

    @cached_property
    def scanned_waves(self) -> NDArray[np.float32]:
        """Cosine transform (DCT-II, orthonormal) of each channel of :attr:`scanned`, ``(2, H, W)``."""
        return np.asarray(dctn(self.scanned, axes=(1, 2), norm="ortho"))

    @cached_property
    def restored_waves(self) -> NDArray[np.float32]:
        """The same of :attr:`restored`."""
        return np.asarray(dctn(self.restored, axes=(1, 2), norm="ortho"))

    @cached_property
    def ch2(self) -> Responses:
        """Answers of the matched filter of discs to the change in CH2, ``(4, H, W)``; negative where R has a darker disc."""
        return blob_responses(self.relative[0], self.um_per_px, FILTER_RADII_UM)

    @cached_property
    def ch3(self) -> Responses:
        """The same in CH3."""
        return blob_responses(self.relative[1], self.um_per_px, FILTER_RADII_UM)

    @cached_property
    def ch2_in_spreads(self) -> Responses:
        """:attr:`ch2` as :meth:`in_spreads` has it; more than one guard asks for it."""
        return self.in_spreads(self.ch2)

    @cached_property
    def ch3_in_spreads(self) -> Responses:
        """The same of :attr:`ch3`."""
        return self.in_spreads(self.ch3)

    def in_spreads(self, answers: Responses, least: float = SLIGHT) -> Responses:
        """Answers ``(S, H, W)`` divided by their spread around each place.

        The spread is ``1.4826 median |answer|`` in squares of :data:`BLOCK_UM`, with ``least`` added in squares. It is
        measured and not modelled, so noise may be of any colour and follow the signal.
        """
        spread = _spread(answers, max(round(BLOCK_UM / self.um_per_px), 1))
        return np.asarray(answers / np.sqrt(spread * spread + np.float32(least**2)), dtype=np.float32)


def _spread(answers: Responses, block: int) -> Responses:
    """The spread in each square, the median of 3 x 3 squares of it, interpolated to every pixel; ``(S, H, W)``."""
    height, width = answers.shape[1:]
    rows, columns = -(-height // block), -(-width // block)
    padding = ((0, 0), (0, rows * block - height), (0, columns * block - width))
    grown = np.pad(np.abs(answers), padding, mode="symmetric")
    squares = grown.reshape(-1, rows, block, columns, block).transpose(0, 1, 3, 2, 4).reshape(-1, rows, columns, block**2)
    spread = ndi.median_filter(1.4826 * _median(squares), size=(1, 3, 3), mode="nearest")
    # Not by products of matrices: numpy runs each of those in threads, which here wait for each other longer than they work.
    low, high, share = _between(rows, block, height)
    spread = spread[:, low] * (1 - share[:, None]) + spread[:, high] * share[:, None]
    low, high, share = _between(columns, block, width)
    between = np.take(spread, low, axis=2)
    between *= 1 - share
    after = np.take(spread, high, axis=2)
    after *= share
    between += after
    return np.asarray(between, dtype=np.float32)


def _median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Along the last axis, of finite values: :func:`numpy.median` without its search for NaN."""
    middle = values.shape[-1] // 2
    parted = np.partition(values, middle, axis=-1)
    upper = parted[..., middle]
    if values.shape[-1] % 2:
        return np.asarray(upper, dtype=np.float32)
    return np.asarray((parted[..., :middle].max(axis=-1) + upper) / 2, dtype=np.float32)


@lru_cache(maxsize=8)
def gaussian_transfer(shape: tuple[int, int], sigma: float) -> NDArray[np.float32]:
    """What :func:`scipy.ndimage.gaussian_filter` of ``sigma`` px multiplies the cosine transform of an image ``shape`` with.

    With its images reflected at their edges, and its Gaussian cut at four sigma as it does by default; much sooner done than
    the filter itself.
    """
    reach = int(4 * sigma + 0.5)
    steps = np.arange(1, reach + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    one_way = [(1 + 2 * np.cos(np.pi * np.outer(np.arange(n), steps) / n) @ weights) / (1 + 2 * weights.sum()) for n in shape]
    return np.outer(*one_way).astype(np.float32)


@lru_cache(maxsize=8)
def _between(squares: int, block: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """The squares before and after each of ``size`` pixels, and the share of the one after: linear between the centres of
    squares, and held beyond the outer ones."""
    place = np.clip((np.arange(size) + 0.5) / block - 0.5, 0, squares - 1)
    low = np.floor(place).astype(np.intp)
    return low, np.minimum(low + 1, squares - 1), (place - low).astype(np.float32)
