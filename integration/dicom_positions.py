"""Where frames lie on the glass, in mm, beside where they lie in the matrix, in pixels: two statements of one thing."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from srh_clinic.errors import InputError
from srh_clinic.integration.dicom_file import DicomFile, value_of

TOLERANCE_PX = 1.0
"""Distance up to which a position in mm and one in pixels are one; beside it one per cent of the way from the first frame."""

_TOLERANCE = 0.01
_TURNED = [
    np.array(((a, 0), (0, b)) if straight else ((0, a), (b, 0))) for straight, a, b in product((True, False), (1, -1), (1, -1))
]


def position_notes(
    file: DicomFile, top: NDArray[np.int64], left: NDArray[np.int64], stated_mm: NDArray[np.float64]
) -> tuple[str, ...]:
    """Compare where frames lie in mm, relative to the first, with where they lie in pixels (PS3.3 C.8.12.6.1).

    Parameters
    ----------
    file
        It states Pixel Spacing and Image Orientation (Slide); where it does not, nothing can be compared.
    top, left
        Positions in pixels, ``(N,)``.
    stated_mm
        X and Y Offset in Slide Coordinate System, ``(N, 2)``, NaN where not stated.

    Returns
    -------
    tuple of str
        What a result must say where the offsets are no positions (all one), or say that the slide lies otherwise than Image
        Orientation (Slide) says: the order of pixels is the same.

    Raises
    ------
    InputError
        That names the first frame which lies elsewhere by the other statement.
    """
    spacing_mm, cosines = _spacing_mm(file.header), value_of(file.header, "ImageOrientationSlide")
    if spacing_mm is None or not cosines or len(cosines) != 6 or not np.isfinite(stated_mm).all():
        return ()
    way_px = np.stack([left - left[0], top - top[0]], axis=1).astype(np.float64)
    if not way_px.any():
        return ()
    way_mm = stated_mm - stated_mm[0]
    if not way_mm.any():
        return ("positions of frames in mm that are all one, where those in pixels differ",)
    along = np.array([[float(c) for c in cosines[:2]], [float(c) for c in cosines[3:5]]])
    most = TOLERANCE_PX + _TOLERANCE * np.abs(way_px).sum(axis=1)
    apart = [np.abs((way_mm - way_px * spacing_mm @ (turn @ along)) / spacing_mm).max(axis=1) - most for turn in _TURNED]
    if (apart[0] <= 0).all():
        return ()
    if any((of_turn <= 0).all() for of_turn in apart[1:]):
        return ("positions of frames in mm that lie otherwise on the slide than ImageOrientationSlide says",)
    frame = int(np.flatnonzero(apart[0] > 0)[0])
    found = (
        f"frame {frame + 1} at row {top[frame] + 1}, column {left[frame] + 1} in pixels, and elsewhere in mm "
        "(offsets in the slide coordinate system)"
    )
    raise InputError(found, "one position of each frame", file.path)


def _spacing_mm(header: Dataset) -> NDArray[np.float64] | None:
    """Distance of columns and of rows in mm, as the shared groups state it, or those of the first frame."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (value_of(header, groups) or [])[:1]:
            for measures in value_of(group, "PixelMeasuresSequence") or []:
                spacing = value_of(measures, "PixelSpacing")
                if spacing and len(spacing) == 2 and min(map(float, spacing)) > 0:
                    return np.array([float(spacing[1]), float(spacing[0])])
    return None
