"""A slide at another pixel size, lazily, and a small picture of a slide of any size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from srh_clinic.concurrency import read_ahead
from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts, rounded_counts
from srh_clinic.notebook import ShownSlide
from srh_clinic.slide import Identity, Slide, check_region

BLOCK = 1024
"""Edge in pixels of the blocks in which a whole slide is read: bounds the memory, whatever the slide's size."""


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Catmull-Rom kernel (Keys 1981, a = -1/2) at a distance in pixels."""
    d = np.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


def _weights(start: int, count: int, scale: float, available: int) -> tuple[int, int, csr_array]:
    """Interpolation of ``count`` output pixels from ``start`` on: first source pixel, number of them, matrix of weights.

    ``scale`` is source pixels per output pixel; when it is above 1 the kernel widens with it, against aliasing. Pixel centres
    lie at half-integers in both grids, so the outer edges of the images fall together. Beyond the edge the last pixel repeats.
    """
    width = max(scale, 1.0)
    centre = (np.arange(start, start + count) + 0.5) * scale - 0.5
    taps = np.arange(2 * math.ceil(2 * width) + 1)
    source = np.floor(centre - 2 * width).astype(np.int64)[:, None] + taps
    weight = _cubic((source - centre[:, None]) / width)
    weight /= weight.sum(axis=1, keepdims=True)
    source = np.clip(source, 0, available - 1)
    first, last = int(source.min()), int(source.max())
    rows = np.repeat(np.arange(count), len(taps))
    # csr_array sums entries of the same place: the repeated edge pixel.
    matrix = csr_array((weight.ravel(), (rows, source.ravel() - first)), shape=(count, last - first + 1))
    return first, last - first + 1, matrix


@dataclass(frozen=True, eq=False)
class Window:
    """The pixels of one grid that a region of another is interpolated from, and how.

    ``y``, ``x``, ``height`` and ``width`` are the region of the source, ``vertical`` and ``horizontal`` matrices of weights.
    """

    y: int
    x: int
    height: int
    width: int
    vertical: csr_array
    horizontal: csr_array

    @classmethod
    def of(cls, region: tuple[int, int, int, int], scale: float, shape: tuple[int, int]) -> Window:
        """That of a region ``(y, x, height, width)``, whose pixels are ``scale`` pixels of a source of ``shape``."""
        y, x, height, width = region
        top, rows, vertical = _weights(y, height, scale, shape[0])
        left, columns, horizontal = _weights(x, width, scale, shape[1])
        return cls(top, left, rows, columns, vertical, horizontal)

    def interpolate(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values ``(C, height, width)`` of the source's pixels to float64 ``(C, h, w)`` of the region's."""
        channels = values.astype(np.float64, copy=False)
        return np.stack([(self.horizontal @ (self.vertical @ channel).T).T for channel in channels])


@dataclass(frozen=True)
class ResampledSlide(ShownSlide):
    """A slide seen at another pixel size: cubic interpolation, with a wider kernel where it shrinks, computed on reading.

    What a region shows does not depend on how the slide is cut into regions.

    Parameters
    ----------
    source
        The slide as it is.
    um_per_px
        The wanted pixel edge in micrometres.

    Raises
    ------
    InputError
        When the pixel size is not positive, or so large that nothing of the slide is left.
    """

    source: Slide
    um_per_px: float

    def __post_init__(self) -> None:
        if not self.um_per_px > 0 or min(self.source.shape) / self.scale < 1:
            raise InputError(
                f"a pixel size of {self.um_per_px} um for a slide of {self.source.shape} pixels of {self.source.um_per_px} um",
                "one at which at least one pixel remains",
            )

    @property
    def scale(self) -> float:
        """Source pixels per pixel of this slide."""
        return self.um_per_px / self.source.um_per_px

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels of the new size."""
        height, width = self.source.shape
        return round(height / self.scale), round(width / self.scale)

    @property
    def identity(self) -> Identity:
        """The identity of the source."""
        return self.source.identity

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the source."""
        return self.source.notes

    def read(self, y: int, x: int, height: int, width: int) -> Counts:
        """The region at the new pixel size, uint16 counts ``(2, height, width)``; ``ValueError`` outside the slide."""
        check_region(self.shape, y, x, height, width)
        window = Window.of((y, x, height, width), self.scale, self.source.shape)
        resampled = window.interpolate(self.source.read(window.y, window.x, window.height, window.width))
        return rounded_counts(resampled)


def blocks(shape: tuple[int, int], edge: int) -> Iterator[tuple[int, int, int, int]]:
    """Regions ``(y, x, height, width)`` of at most ``edge`` squared that cover ``shape`` once, row by row."""
    for y in range(0, shape[0], edge):
        for x in range(0, shape[1], edge):
            yield y, x, min(edge, shape[0] - y), min(edge, shape[1] - x)


def thumbnail(slide: Slide, longest: int = 2048) -> tuple[Counts, int]:
    """A small picture of a slide, and how many of the slide's pixels (per axis) each of its pixels averages.

    The slide is read in blocks, so memory does not grow with it. A slide whose longer edge is at most ``longest`` comes back
    as it is, with factor 1.

    Returns
    -------
    tuple
        uint16 counts ``(2, h, w)`` with ``h, w <= longest``, and the factor; the last row and column average what is left.
    """
    factor = math.ceil(max(slide.shape) / longest)
    if factor == 1:
        return slide.read(0, 0, *slide.shape), 1
    picture = np.empty((2, *(math.ceil(edge / factor) for edge in slide.shape)), dtype=np.uint16)
    corners = list(blocks(slide.shape, max(BLOCK // factor, 1) * factor))
    for (y, x, *_), counts in zip(corners, read_ahead((slide.read(*one) for one in corners), 1), strict=True):
        small = block_mean(counts, factor)
        top, left = y // factor, x // factor
        picture[:, top : top + small.shape[1], left : left + small.shape[2]] = np.rint(small)
    return picture, factor


def level_shape(shape: tuple[int, int], factor: int) -> tuple[int, int]:
    """Height and width of the level of a pyramid whose pixels are ``factor`` of a slide's squared, rounded.

    A viewer that takes the ratio of widths for the factor is half a pixel of the level off at most, at the far edge.

    >>> level_shape((6_000, 6_020), 64)
    (94, 94)
    """
    height, width = (max((2 * edge + factor) // (2 * factor), 1) for edge in shape)
    return height, width


def block_mean(counts: Counts, factor: int) -> NDArray[np.float64]:
    """Means over squares of ``factor`` pixels, ``(C, H, W)`` to ``(C, ceil(H / factor), ceil(W / factor))``.

    The squares at the lower and right edge average the pixels that they have.
    """
    height, width = counts.shape[1:]
    tops, lefts = np.arange(0, height, factor), np.arange(0, width, factor)
    # Of counts every sum is exact, whatever the order: whole slices are added, many pixels at a time.
    if height % factor or width % factor:
        counts = np.pad(counts, ((0, 0), (0, -height % factor), (0, -width % factor)))
    sums = _strided_sum(_strided_sum(counts, factor, axis=1), factor, axis=2)
    area = np.outer(np.diff(np.append(tops, height)), np.diff(np.append(lefts, width)))
    return np.ascontiguousarray(sums / area)


def _strided_sum(values: NDArray[Any], factor: int, *, axis: int) -> NDArray[np.uint64]:
    """Sums of each ``factor`` neighbours along an axis whose length is a multiple of it."""
    along = np.moveaxis(values, axis, 0)
    sums = along[::factor].astype(np.uint64)
    for place in range(1, factor):
        sums += along[place::factor]
    return np.moveaxis(sums, 0, axis)
