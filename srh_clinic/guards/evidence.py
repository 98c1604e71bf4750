"""Evidence for nuclei: does the input support what the restoration shows, and is what the input holds still there?

Both are asked of the difference of the two images alone, by a matched filter. Counting nuclei in both and comparing does not
work: noise makes blobs of its own in the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage as ndi

from srh_clinic.errors import InputError
from srh_clinic.metrics.nuclei import DARK, Responses, blob_maxima, blob_responses

AROUND_UM = 3.75
"""Standard deviation in um of the Gaussian that gives the brightness to which a difference is put in relation."""

BLOCK_UM = 15.0
"""Edge in um of the squares in which the spread of the filter's answers is measured: several nuclei wide."""

SLIGHT = 0.02
"""Relative contrast that no reader sees; the spread is taken for no less, so that a perfect input does not flag trifles."""

Kind = Literal["added", "removed"]


@dataclass(frozen=True)
class Place:
    """A nucleus that a restoration shows without evidence (``added``), or has lost (``removed``).

    ``y``, ``x`` and ``radius`` are px; ``strength`` is in standard deviations of the filter's answers around it.
    """

    kind: Kind
    y: float
    x: float
    radius: float
    strength: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """Answers of the matched filter in standard deviations, float32 ``(6, H, W)`` for the radii ``RADII_UM``.

    High values of ``added`` mark nuclei of the restoration that the input contradicts; of ``removed`` the reverse.
    """

    added: Responses
    removed: Responses
    um_per_px: float

    @property
    def strength(self) -> float:
        """The strongest answer of either kind."""
        return float(max(self.added.max(), self.removed.max()))

    def places(self, threshold: float) -> tuple[Place, ...]:
        """Where the answers reach ``threshold``, the strongest first."""
        found: list[Place] = []
        for kind in ("added", "removed"):
            answers: Responses = getattr(self, kind)
            near = answers.max(axis=0)
            for y, x, radius in blob_maxima(answers, self.um_per_px, threshold):
                found.append(Place(kind, float(y), float(x), float(radius), float(near[int(y), int(x)])))
        return tuple(sorted(found, key=lambda place: -place.strength))


def residual_evidence(scanned: ArrayLike, restored: ArrayLike, um_per_px: float) -> Evidence:
    """The matched filter of nuclei on the difference of an image and its restoration.

    ``d_k = (R_k - Y_k) / (G * R_k + DARK)`` is the relative change in channel ``k``, ``G`` a Gaussian of :data:`AROUND_UM`.
    A nucleus that was added shows in ``d_CH3 - d_CH2`` and in ``-d_CH2`` as a bright disc, one that was taken away as a dark
    one. Each is filtered with the scale-normalised Laplacian of Gaussian
    (:func:`~srh_clinic.metrics.nuclei.blob_responses`) and divided by the spread of the answers around:
    ``1.4826 median |answer|`` in squares of :data:`BLOCK_UM`, at least :data:`SLIGHT`. The stronger of the two fields counts.

    It assumes that what a faithful restoration takes away has no discs of a nucleus's size, which holds of noise whatever its
    colour, because the spread is measured and not modelled. It fails where many nuclei of a square were changed (they
    raise the spread), where the input's noise is stronger than a nucleus's contrast (nothing can then be told), and for
    changes of another shape than a disc. It does not say which of two images is right.

    Parameters
    ----------
    scanned, restored
        Unit intensity ``(2, H, W)`` of the same field.

    Raises
    ------
    InputError
        When the shapes differ, or a nucleus would be less than 2 px in radius.
    """
    y, r = np.asarray(scanned, dtype=np.float32), np.asarray(restored, dtype=np.float32)
    if y.shape != r.shape or y.ndim != 3 or len(y) != 2:
        raise InputError(f"images of shape {y.shape} and {r.shape}", "two of one shape (2, H, W)")
    width = AROUND_UM / um_per_px
    around = ndi.gaussian_filter(r, (0, width, width), mode="reflect")
    ch2, ch3 = (r - y) / (around + DARK)
    added, removed = None, None
    for field in (ch3 - ch2, -ch2):
        answers = in_spreads(blob_responses(field, um_per_px), um_per_px)
        added = answers if added is None else np.maximum(added, answers)
        removed = -answers if removed is None else np.maximum(removed, -answers)
    return Evidence(np.asarray(added), np.asarray(removed), um_per_px)


def in_spreads(answers: Responses, um_per_px: float) -> Responses:
    """Answers ``(S, H, W)`` divided by their spread around each place, at least :data:`SLIGHT`."""
    block = max(round(BLOCK_UM / um_per_px), 1)
    return np.stack([one / np.hypot(_spread(one, block), np.float32(SLIGHT)) for one in answers])


def _spread(answers: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """``1.4826 median |answer|`` of each square, the median of 3 x 3 squares of it, interpolated to every pixel."""
    height, width = answers.shape
    rows, columns = -(-height // block), -(-width // block)
    grown = np.pad(np.abs(answers), ((0, rows * block - height), (0, columns * block - width)), mode="symmetric")
    squares = grown.reshape(rows, block, columns, block).transpose(0, 2, 1, 3).reshape(rows, columns, -1)
    spread = ndi.median_filter(1.4826 * np.median(squares, axis=-1), size=3, mode="nearest")
    smooth = ndi.zoom(spread, block, order=1, mode="nearest", grid_mode=True)
    return np.asarray(smooth[:height, :width], dtype=np.float32)
