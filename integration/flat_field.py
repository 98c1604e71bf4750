"""The flat field of a scanner that images in strips: how bright each column of a strip comes out.

A beam that is scanned across a strip is brightest in its middle, so that strips laid side by side show their borders. What a
column loses is the same in all strips: the profile follows from many rows of tissue and, better, from what neighbouring strips
show on both sides of their border, which is one piece of tissue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts

FlatField = Literal["none", "columns", "gaussian"]
"""``"columns"``: one profile for all strips; ``"gaussian"``: each strip over its own Gaussian of 301 px, the usual preparation
of NIO strips, which also levels what is bright and dark in the tissue."""

FLAT_FIELDS = ("none", "columns", "gaussian")

DEGREE = 6
"""Of the polynomial of the profile's logarithm."""

GAUSSIAN_PX = 301
"""Width of the window of the usual preparation; its sigma is a sixth of it."""

_SEAM_WEIGHT = 30.0  # of what both sides of a border show, against the mean of columns, which shows tissue too
_NEAR = 24  # columns on each side of a border between strips that only touch


@dataclass(frozen=True)
class ColumnSums:
    """What is kept of a strip's channel to find the profile and to look at its borders.

    Attributes
    ----------
    columns
        Mean of each column, float64 ``(W,)``.
    left, right
        The outermost columns as they are, ``(H, M)``.
    """

    columns: NDArray[np.float64]
    left: Counts
    right: Counts

    @classmethod
    def of(cls, image: Counts, margin: int) -> ColumnSums:
        """Of counts ``(H, W)``."""
        return cls(image.mean(axis=0, dtype=np.float64), image[:, :margin].copy(), image[:, -margin:].copy())


def require_flat_field(name: str) -> FlatField:
    """A name of :data:`FLAT_FIELDS`; ``InputError`` for another."""
    if name not in FLAT_FIELDS:
        raise InputError(f"the flat field {name!r}", "one of " + ", ".join(FLAT_FIELDS))
    return name  # type: ignore[return-value]


def column_profile(strips: Sequence[ColumnSums], overlap: int) -> NDArray[np.float64]:
    """How bright each column comes out, float64 ``(W,)`` of mean 1: a polynomial in the logarithm.

    Parameters
    ----------
    strips
        From left to right.
    overlap
        Columns that neighbours share.
    """
    width = len(strips[0].columns)
    place = np.linspace(-1, 1, width)
    basis = np.asarray(legendre.legvander(place, DEGREE)[:, 1:], dtype=np.float64)
    wanted = np.mean([np.log(np.maximum(strip.columns, 1)) for strip in strips], axis=0)
    rows, values = [basis - basis.mean(axis=0)], [wanted - wanted.mean()]
    shared = overlap or min(_NEAR, width // 4)
    for one, other in pairwise(strips):
        before, after = np.log(np.maximum(one.columns[-shared:], 1)), np.log(np.maximum(other.columns[:shared], 1))
        if overlap:  # the same tissue, column by column
            rows.append(_SEAM_WEIGHT * (basis[-shared:] - basis[:shared]))
            values.append(_SEAM_WEIGHT * (before - after))
        else:
            rows.append(_SEAM_WEIGHT * shared**0.5 * (_border(basis[::-1][:shared]) - _border(basis[:shared])))
            values.append(_SEAM_WEIGHT * shared**0.5 * (_border(before[::-1, None]) - _border(after[:, None]))[:, 0])
    weights = np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=None)[0]
    profile = np.exp(basis @ weights)
    return np.asarray(profile / profile.mean())


def _border(columns: NDArray[np.floating]) -> NDArray[np.float64]:
    """What a straight line through columns that begin at a border says at the border itself, ``(1, K)`` of ``(M, K)``."""
    at = np.arange(len(columns)) + 0.5
    design = np.stack([np.ones(len(at)), at], axis=1)
    return np.asarray(np.linalg.lstsq(design, columns, rcond=None)[0][:1])


def flattened(image: Counts, flat_field: FlatField, profile: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Counts ``(H, W)`` without the flat field, as float64; what was 0 stays 0."""
    if flat_field == "gaussian":
        from scipy import ndimage as ndi

        smooth = ndi.gaussian_filter(image.astype(np.float64), GAUSSIAN_PX / 6, mode="reflect", truncate=3.0)
        return np.asarray(image * (smooth.mean() / np.maximum(smooth, 1)))
    return np.asarray(image / profile[None], dtype=np.float64) if profile is not None else np.asarray(image, dtype=np.float64)
