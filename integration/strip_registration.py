"""Registration of CH3 on CH2 within strips, and of strips on their neighbours: measured once, at opening.

The stage moves while a strip is scanned, so the shift between the channels may change along it: it is measured in pieces.
Strips are moved by the phase of their spectrum, which leaves the noise of a detector as white as it was; splines would smooth
it, and the calibrator would be told of less noise than there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from srh_clinic.integration.flat_field import ColumnSums
from srh_clinic.intensity import Counts
from srh_clinic.registration import COHERENT, IN_REGISTER, phase_shift

PIECE = 1000
"""Rows of a piece of a strip."""

MOST_PX = 20.0
"""Shift beyond which a peak is chance: no imager's channels lie so far apart."""

STILL_PX = 0.15
"""Shift below which nothing is moved: it is as large as the error of a noisy strip's."""

STEADY_PX = 0.15
"""Spread of the pieces' shifts up to which one shift stands for all of a strip."""

SHARED = 9.0
"""How far agreement of neighbouring strips has to stand out, in robust standard deviations, to be an overlap."""

_ROWS = 4  # by which neighbouring strips may lie higher or lower
_SHORTEST = 8  # columns: fewer agree by chance, and beside a border without any overlap too
_PADDING = 32
_SMALLEST = 32  # rows or columns that phase correlation can be asked about


@dataclass(frozen=True)
class ChannelShift:
    """How far CH3 lies below and right of CH2, piece by piece down each strip.

    Attributes
    ----------
    shifts
        float64 ``(strips, pieces, 2)`` in px (y, x); where a piece is not coherent, that of the others.
    coherence
        ``(strips, pieces)``, heights of the peaks in their standard deviations.
    too_far
        Largest shift in px that a coherent piece told and that is beyond :data:`MOST_PX`; 0 where none is.
    """

    shifts: NDArray[np.float64]
    coherence: NDArray[np.float64]
    too_far: float = 0.0

    @property
    def is_known(self) -> bool:
        """Whether any piece says where CH3 lies."""
        return bool((self.coherence >= COHERENT).any())

    @property
    def moves(self) -> NDArray[np.float64] | None:
        """What CH3 is moved by, ``(strips, pieces, 2)``, or one piece a strip where all agree; ``None`` for nothing."""
        if not self.is_known or float(np.abs(self.shifts).max()) < STILL_PX:
            return None
        spread = np.ptp(self.shifts.reshape(-1, 2), axis=0).max()
        if spread <= STEADY_PX:
            median = np.median(self.shifts.reshape(-1, 2), axis=0)
            return np.broadcast_to(median, (len(self.shifts), 1, 2))
        return self.shifts

    def __str__(self) -> str:
        pieces = self.shifts.reshape(-1, 2)
        if not self.is_known:
            best = f"coherence {self.coherence.max():.1f} at most"
            if self.too_far:
                best = f"what resembles most lies {self.too_far:.0f} px away, and beyond {MOST_PX:.0f} px that is chance"
            return f"CH3 could not be registered on CH2 ({best}): they are shown as they lie"
        down, right = np.median(pieces, axis=0)
        count = f"{len(pieces)} piece{'s' if len(pieces) > 1 else ''}"
        measured = f"{count}, coherence {self.coherence.min():.0f} to {self.coherence.max():.0f}"
        if blind := int((self.coherence < COHERENT).sum()):
            verbs = ("tells", "follows") if blind == 1 else ("tell", "follow")
            measured += f", {blind} of them {verbs[0]} nothing and {verbs[1]} the others"
        if self.moves is None:
            return f"CH3 in register with CH2 ({down:+.2f}, {right:+.2f} px; {measured})"
        spread = np.ptp(pieces, axis=0).max()
        return (
            f"CH3 registered on CH2: it lay {down:+.2f} px below and {right:+.2f} px right "
            f"({measured}, spread {spread:.2f} px)"
        )


def piece_rows(height: int) -> list[tuple[int, int]]:
    """First row and end of each piece of a strip, of equal size and about :data:`PIECE` rows."""
    edges = np.linspace(0, height, max(round(height / PIECE), 1) + 1).round().astype(int)
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def piece_shifts(ch2: Counts, ch3: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shift ``(pieces, 2)`` and coherence ``(pieces,)`` of one strip, NaN and 0 where nothing could be measured."""
    shifts, heights = [], []
    for start, end in piece_rows(ch2.shape[0]):
        shift, height = None, 0.0
        if min(end - start, ch2.shape[1]) >= _SMALLEST:
            shift, height = phase_shift([(ch2[start:end].astype(np.float32), ch3[start:end].astype(np.float32))])
        shifts.append(shift or (np.nan, np.nan))
        heights.append(height)
    return np.array(shifts, dtype=np.float64), np.array(heights, dtype=np.float64)


def channel_shift(measured: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> ChannelShift:
    """The shift of a mosaic from what :func:`piece_shifts` says of each strip."""
    shifts, coherence = (np.stack(parts) for parts in zip(*measured, strict=True))
    largest = np.abs(shifts).max(axis=-1)
    far = largest[(coherence >= COHERENT) & (largest > MOST_PX)]
    coherence = np.where(largest <= MOST_PX, coherence, 0.0)  # NaN is no shift either
    sure = coherence >= (IN_REGISTER if (coherence >= IN_REGISTER).any() else COHERENT)
    median = np.median(shifts[sure], axis=0) if sure.any() else np.zeros(2)
    return ChannelShift(np.where(sure[..., None], shifts, median), coherence, float(far.max()) if far.size else 0.0)


def shows_the_same(ch2: Counts, ch3: Counts) -> bool:
    """Whether two strips ``(H, W)`` show one tissue: the pieces in their middle do, no further apart than channels lie."""
    pieces = piece_rows(ch2.shape[0])
    rows = slice(*pieces[len(pieces) // 2])
    shifts, coherence = piece_shifts(ch2[rows], ch3[rows])
    return bool(coherence[0] >= COHERENT and np.abs(shifts[0]).max() <= MOST_PX)


@dataclass(frozen=True)
class Overlap:
    """How much of the field neighbouring strips share.

    Attributes
    ----------
    columns
        Pixels that both show; 0 for strips that only touch.
    coherence
        How far agreement stands out there, in robust standard deviations.
    down
        How far, in px, each strip lies below the one on its left; 0 for strips that only touch.
    """

    columns: int
    coherence: float
    down: tuple[float, ...]


def strip_overlap(strips: Sequence[tuple[ColumnSums, ColumnSums]]) -> Overlap:
    """How much neighbours share, from the outermost columns of both channels of each strip.

    Columns of one strip are correlated with those of the next, up to some rows higher and lower: where they show the same, all
    columns at one distance do.
    """
    seams = list(pairwise(strips))
    nothing = Overlap(0, 0.0, (0.0,) * len(seams))
    height, margin = strips[0][0].right.shape
    if not seams or margin < 2 * _SHORTEST or height < _SMALLEST:
        return nothing
    scores = np.stack([_agreement(one, other) for one, other in seams])  # (seams, rows down, columns shared)
    whole = scores.sum(axis=0)
    at = np.unravel_index(int(np.argmax(whole)), whole.shape)
    spread = 1.4826 * float(np.median(np.abs(whole - np.median(whole))))
    height_of_peak = float(whole[at] - np.median(whole)) / max(spread, 1e-12)
    if height_of_peak < SHARED:
        return Overlap(0, height_of_peak, nothing.down)
    shared = int(at[1])
    down = scores[:, :, shared].argmax(axis=1) - _ROWS
    return Overlap(shared + _SHORTEST, height_of_peak, tuple(float(rows) for rows in down))


def _agreement(one: tuple[ColumnSums, ColumnSums], other: tuple[ColumnSums, ColumnSums]) -> NDArray[np.float64]:
    """How well two neighbours agree, by how many rows the right one lies lower and how many columns they share."""
    height, margin = one[0].right.shape
    inner = slice(_ROWS, height - _ROWS)
    scores = np.zeros((2 * _ROWS + 1, margin - _SHORTEST + 1))
    for channel in (0, 1):
        before, after = _fine(one[channel].right), _fine(other[channel].left)
        for down in range(-_ROWS, _ROWS + 1):
            products = before[inner].T @ np.roll(after, -down, axis=0)[inner] / height
            for shared in range(_SHORTEST, margin + 1):
                scores[down + _ROWS, shared - _SHORTEST] += np.trace(products, shared - margin) / shared**0.5
    return scores


def _fine(columns: Counts) -> NDArray[np.float64]:
    """What changes within a few rows of each column, to unit variance: brightness across a strip has no say."""
    from scipy import ndimage as ndi

    level = columns.astype(np.float64)
    level -= ndi.uniform_filter1d(level, 2 * _ROWS + 3, axis=0, mode="reflect")
    return np.asarray(level / np.maximum(level.std(axis=0), 1e-9))


def moved(image: NDArray[np.float64], moves: NDArray[np.float64]) -> NDArray[np.float64]:
    """An image ``(H, W)`` moved up and left by ``moves``, ``(pieces, 2)`` px; the shift glides between the pieces."""
    if len(moves) == 1:
        return _moved_whole(image, moves[0])
    height = image.shape[0]
    middles = np.array([(start + end) / 2 for start, end in piece_rows(height)])
    out = np.zeros_like(image)
    for at, move in enumerate(moves):
        weight = np.interp(np.arange(height) + 0.5, middles, np.eye(len(moves))[at])
        rows = np.flatnonzero(weight)
        start, end = max(rows[0] - _PADDING, 0), min(rows[-1] + 1 + _PADDING, height)
        part = _moved_whole(image[start:end], move)
        out[rows] += weight[rows, None] * part[rows - start]
    return out


def _moved_whole(image: NDArray[np.float64], move: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy import fft

    widths = [min(_PADDING, edge - 1) for edge in image.shape]
    padded = np.pad(image, [(width, width) for width in widths], mode="reflect")
    shape = [fft.next_fast_len(edge, real=True) for edge in padded.shape]
    padded = np.pad(padded, [(0, full - edge) for full, edge in zip(shape, padded.shape, strict=True)], mode="edge")
    down, right = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    phase = np.exp(2j * np.pi * (down * move[0] + right * move[1]))
    whole = fft.irfft2(fft.rfft2(padded) * phase, s=shape)
    return np.asarray(whole[widths[0] : widths[0] + image.shape[0], widths[1] : widths[1] + image.shape[1]])
