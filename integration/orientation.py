"""Images that lie turned or mirrored in their files (TIFF 6.0, Orientation): each frame is turned, and its place with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.integration.depth import Depth
from srh_clinic.integration.frames import Frames, FrameSource
from srh_clinic.intensity import Counts

UPRIGHT = 1
ORIENTATIONS = range(1, 9)

_BOTTOM_FIRST = {3, 4, 7, 8}
_RIGHT_FIRST = {2, 3, 6, 7}
_LYING = {5, 6, 7, 8}


def turned_shape(orientation: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image whose rows and columns lie in the file as ``shape``."""
    return shape[::-1] if orientation in _LYING else shape


@dataclass(frozen=True)
class TurnedFrames:
    """The frames of another source as they are seen."""

    source: FrameSource
    orientation: int

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def depth(self) -> Depth:
        return self.source.depth

    @property
    def frame_shape(self) -> tuple[int, int]:
        return turned_shape(self.orientation, self.source.frame_shape)

    def load(self, index: int) -> Counts:
        return self._turned(self.source.load(index))

    def stored(self, index: int) -> NDArray[Any]:
        return self._turned(self.source.stored(index))

    def _turned(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Rows and columns of the file as those of the image: the first may be those of its bottom or right."""
        if self.orientation in _LYING:
            frame = frame.T
        down = slice(None, None, -1 if self.orientation in _BOTTOM_FIRST else 1)
        across = slice(None, None, -1 if self.orientation in _RIGHT_FIRST else 1)
        return np.ascontiguousarray(frame[down, across])


def turned(frames: Frames, orientation: int, shape: tuple[int, int]) -> Frames:
    """Frames of an image of height and width ``shape`` in the file, each at its place in the image that is seen.

    Parameters
    ----------
    frames
        Places in the file; those at the far edges may be smaller than others.
    orientation
        1..8, of which 1 changes nothing.
    shape
        Rows and columns in the file.
    """
    if orientation == UPRIGHT:
        return frames
    rows, columns = frames.source.frame_shape
    top, left, bottom, right = (
        frames.top,
        frames.left,
        np.minimum(frames.top + rows, shape[0]),
        np.minimum(frames.left + columns, shape[1]),
    )
    height, width = shape
    if orientation in _LYING:
        top, left, bottom, right, height, width = left, top, right, bottom, width, height
    if orientation in _BOTTOM_FIRST:
        top = height - bottom
    if orientation in _RIGHT_FIRST:
        left = width - right
    return replace(frames, source=TurnedFrames(frames.source, orientation), top=top, left=left)
