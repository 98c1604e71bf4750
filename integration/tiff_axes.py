"""TIFFs whose axes lie in another order than pages of rows: a file that says its order itself is read whole and turned.

Programs that keep arrays write them as they lie in memory and say so: YXC, CXY, with axes of length 1 between. A page is no
channel then, so that no region can be read alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPageSeries

from srh_clinic.errors import InputError
from srh_clinic.integration.damage import told_as
from srh_clinic.integration.depth import Depth
from srh_clinic.integration.frames import Frames, check_frame_shape
from srh_clinic.integration.limits import limits
from srh_clinic.integration.tiff_frames import inflated
from srh_clinic.intensity import Counts

PLAIN = ("CYX", "YXS", "SYX", "IYX", "QYX", "ZCYX", "CZYX", "YX")
"""Orders in which a channel, or a sample of pixels, lies in pages of its own."""


def is_reordered(series: TiffPageSeries, *, deep: bool) -> bool:
    """Whether a series says of itself that it holds channels, rows and columns in another order, and no other axis.

    ``deep`` asks for a z-stack; otherwise an axis Z has one place. Any axis of length 1 may stand between.
    """
    lengths = dict(zip(series.axes, map(int, series.shape), strict=True))
    plain = series.axes in PLAIN and (deep or lengths.get("Z") != 1)
    if plain or not {"C", "Y", "X"} <= set(lengths) or len(lengths) != len(series.axes):
        return False
    others = {axis for axis, length in lengths.items() if length > 1 and axis not in "CYX"}
    return lengths["C"] > 1 and others == ({"Z"} if deep else set())


@dataclass(frozen=True)
class WholeSeries:
    """One channel of one focal plane of a series that is read whole; a :class:`~srh_clinic.integration.frames.FrameSource`."""

    path: Path
    series: int
    axes: str
    channel: int
    plane: int
    frame_shape: tuple[int, int]
    depth: Depth

    def load(self, index: int) -> Counts:
        """Counts ``(H, W)``; ``InputError`` when the file does not give them."""
        with told_as("a TIFF that cannot be decoded", "an undamaged TIFF", self.path):
            return self.depth.to_counts(self.stored(index), self.path)

    def stored(self, index: int) -> NDArray[Any]:
        """The channel as the file holds it."""
        with TiffFile(self.path, _multifile=False) as tiff:
            self._check_inflated(tiff.series[self.series])
            array = tiff.series[self.series].asarray(squeeze=False)
        place = tuple(
            {"C": self.channel, "Z": self.plane}.get(axis, 0) if axis not in "YX" else slice(None) for axis in self.axes
        )
        image = array.reshape(tiff.series[self.series].shape)[place]
        return np.ascontiguousarray(image if self.axes.index("Y") < self.axes.index("X") else image.T)

    def _check_inflated(self, series: TiffPageSeries) -> None:
        """Refuse pieces that inflate to more than their pixels before they are all inflated."""
        with self.path.open("rb") as file:
            for page in series.pages:
                if page is None:
                    continue
                n_bytes = prod(map(int, series.keyframe.chunks)) * series.dtype.itemsize
                for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                    file.seek(offset)
                    if count and inflated(file.read(count), int(series.keyframe.compression), n_bytes, self.path) is None:
                        return


def whole_frames(path: Path, at: int, series: TiffPageSeries, channel: int, plane: int, depth: Depth) -> Frames:
    """A channel of a plane as one frame.

    Raises
    ------
    InputError
        When the series is too large to be read whole.
    """
    lengths = dict(zip(series.axes, map(int, series.shape), strict=True))
    total = int(np.prod(series.shape, dtype=np.int64))
    if total > 2 * limits().frame_pixels:
        found = f"a TIFF of {total} pixels in the order {series.axes}, which is read whole"
        raise InputError(found, f"the order CYX, or at most {2 * limits().frame_pixels} pixels", path)
    shape = lengths["Y"], lengths["X"]
    check_frame_shape(shape, path)
    source = WholeSeries(path, at, series.axes, channel, plane, shape, depth)
    return Frames(source, *(np.zeros(1, dtype=np.int64) for _ in range(3)))
