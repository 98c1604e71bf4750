"""A slide whose pixels stay in their files: frames located at opening, decoded when a region asks for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.integration.depth import DIM, FULL_SCALE_OPTION, Depth
from srh_clinic.integration.limits import limits
from srh_clinic.integration.snapshot import Snapshot
from srh_clinic.integration.units import UM_PER_PX_RANGE, is_credible
from srh_clinic.intensity import FULL_SCALE, Counts
from srh_clinic.notebook import ShownSlide
from srh_clinic.slide import Identity, Slide, check_region

LOOKED_AT = 8
"""Frames of a channel that are looked at, at most, when a file is opened."""

_LOOKED_PIXELS = 2**26  # of all frames together, that are looked at for a value above 12 bits

MIN_COVERAGE = 0.01
"""Share of an image's pixels below which its frames are a damaged header rather than a slide."""


class FrameSource(Protocol):
    """One file's frames of one size; frames at an edge may come smaller."""

    @property
    def path(self) -> Path: ...

    @property
    def frame_shape(self) -> tuple[int, int]: ...

    @property
    def depth(self) -> Depth: ...

    def load(self, index: int) -> Counts:
        """The frame, uint16 counts ``(h, w)``; raises ``InputError`` when the file does not give it."""

    def stored(self, index: int) -> NDArray[Any]:
        """The frame as the file holds it; raises ``InputError`` as :meth:`load`."""


@dataclass(frozen=True)
class Frames:
    """Where some frames of one source lie within the image: frame ``index[i]`` has its corner at ``top[i], left[i]``.

    The arrays are int64 ``(N,)``, in pixels.
    """

    source: FrameSource
    index: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]

    def overlapping(self, y: int, x: int, height: int, width: int) -> NDArray[np.intp]:
        """Positions, within the arrays, of the frames that touch the region."""
        rows, columns = self.source.frame_shape
        down = (self.top < y + height) & (self.top + rows > y)
        return np.flatnonzero(down & (self.left < x + width) & (self.left + columns > x))


SPARING_BYTES = 2**25
"""Decoded frames that :attr:`FramedSlide.spared` keeps in memory."""


class FrameCache:
    """Decoded frames, least recently used leave first; bounded in bytes, shared by threads, pickled empty.

    Parameters
    ----------
    max_bytes
        What is kept in memory; None is what :attr:`~srh_clinic.integration.limits.Limits.cache_bytes` allows.
    spills
        Whether frames that leave lie in a file without a name from then on: they come back sooner than they are decoded, and
        memory does not grow with the slide. A disk that is full takes no more of them.
    """

    def __init__(self, max_bytes: int | None = None, *, spills: bool = False) -> None:
        self.max_bytes = limits().cache_bytes if max_bytes is None else max_bytes
        self.spills = spills
        self._frames: OrderedDict[tuple[int, ...], Counts] = OrderedDict()
        self._bytes = 0
        self._spilled = _SpilledFrames() if spills else None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(FrameCache, spills=self.spills), (self.max_bytes,)

    def get(self, key: tuple[int, ...]) -> Counts | None:
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
            frame = None if self._spilled is None else self._spilled.get(key)
        if frame is not None:
            self.put(key, frame)
        return frame

    def put(self, key: tuple[int, ...], frame: Counts) -> None:
        with self._lock:
            replaced = self._frames.pop(key, None)
            self._bytes += frame.nbytes - (0 if replaced is None else replaced.nbytes)
            self._frames[key] = frame
            while self._bytes > self.max_bytes and len(self._frames) > 1:
                oldest, left = self._frames.popitem(last=False)
                self._bytes -= left.nbytes
                if self._spilled is not None:
                    self._spilled.put(oldest, left)


class _SpilledFrames:
    """Frames in a file that has no name and is gone with the process, each written once."""

    def __init__(self) -> None:
        self._file: Any = None
        self._at: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}
        self._end = 0
        self._full = False

    def get(self, key: tuple[int, ...]) -> Counts | None:
        if key not in self._at:
            return None
        start, shape = self._at[key]
        frame = np.empty(shape, dtype=np.uint16)
        self._file.seek(start)
        return frame if self._file.readinto(frame.data.cast("B")) == frame.nbytes else None

    def put(self, key: tuple[int, ...], frame: Counts) -> None:
        if self._full or key in self._at or frame.size == 0:
            return
        try:
            if self._file is None:
                self._file = TemporaryFile(buffering=0, prefix="srh-clinic-")  # noqa: SIM115 - as long as the cache
            self._file.seek(self._end)
            written = self._file.write(np.ascontiguousarray(frame, dtype=np.uint16).data.cast("B"))
        except OSError:
            written = 0
        if written < frame.nbytes:
            self._full = True
            return
        self._at[key] = self._end, frame.shape
        self._end += frame.nbytes


@dataclass(frozen=True)
class FramedSlide(ShownSlide):
    """A :class:`~srh_clinic.slide.Slide` that decodes the frames under a region and remembers the latest of them.

    ``planes`` holds the frames of each channel, CH2 then CH3. Where no frame lies (sparse tiling) counts are 0.
    """

    shape: tuple[int, int]
    um_per_px: float
    identity: Identity = field(repr=False)
    stated: tuple[str, ...]
    """What the files and their caller say that a result must carry."""
    planes: tuple[tuple[Frames, ...], tuple[Frames, ...]] = field(repr=False)
    cache: FrameCache = field(default_factory=FrameCache, repr=False, compare=False)
    opened: tuple[tuple[Path, Snapshot], ...] = field(default=(), repr=False, compare=False)
    """What each file was when it was opened."""
    compare_bits: bool = field(default=False, repr=False)
    """Whether stored values are compared with the bits that the files state; not where the caller states the full scale."""

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a result must say of the reading. Asked for the first time it looks at some frames: opening costs nothing."""
        seen = bit_notes([frames for plane in self.planes for frames in plane]) if self.compare_bits else ()
        return tuple(dict.fromkeys((*self.stated, *seen)))

    def noted(self, notes: Sequence[str]) -> Self:
        """The same slide with more notes."""
        return replace(self, stated=(*self.stated, *notes))

    def check_unchanged(self) -> None:
        """Refuse a slide of which a file is no longer what it was at opening, header included; a result is of one input.

        Raises
        ------
        InputError
            That names the file.
        """
        for path, snapshot in self.opened:
            snapshot.check(path)

    @cached_property
    def spared(self) -> Self:
        """The same slide, whose frames beyond :data:`SPARING_BYTES` lie on the disk, in the folder of temporary files."""
        if self.cache.spills:
            return self
        cache = FrameCache(SPARING_BYTES, spills=True)
        return replace(self, stated=self.notes, compare_bits=False, cache=cache)  # what was looked at is not looked at again

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the pixels come from, CH2's before CH3's."""
        return tuple(dict.fromkeys(frames.source.path for plane in self.planes for frames in plane))

    def read(self, y: int, x: int, height: int, width: int) -> Counts:
        """The region as uint16 counts ``(2, height, width)``; ``ValueError`` when it is not within the slide.

        Raises
        ------
        InputError
            When a file changed since it was opened, or does not give its frames.
        """
        check_region(self.shape, y, x, height, width)
        for path, snapshot in self.opened:
            snapshot.check(path)
        counts = np.zeros((2, height, width), dtype=np.uint16)
        for channel, plane in enumerate(self.planes):
            for part, frames in enumerate(plane):
                for i in frames.overlapping(y, x, height, width):
                    frame = self._frame((channel, part, int(i)), frames)
                    _paste(counts[channel], frame, int(frames.top[i]) - y, int(frames.left[i]) - x)
        return counts

    def _frame(self, key: tuple[int, int, int], frames: Frames) -> Counts:
        frame = self.cache.get(key)
        if frame is None:
            frame = frames.source.load(int(frames.index[key[2]]))
            self.cache.put(key, frame)
        return frame


_Framed = TypeVar("_Framed", bound=FramedSlide)


def chosen_plane(planes: Sequence[tuple[float | None, _Framed]], plane: int | None, path: Path) -> _Framed:
    """The focal plane that is asked for by its number, from 1, or the only one.

    Raises
    ------
    InputError
        When there are several and none is asked for, or it is none of them.
    """
    if plane is None and len(planes) > 1:
        raise InputError(f"several focal planes ({len(planes)})", f"one: --plane 1..{len(planes)}, or read_z_stack", path)
    if plane is not None and not 1 <= plane <= len(planes):
        raise InputError(f"--plane {plane} of {len(planes)} focal planes", f"one of 1..{len(planes)}", path)
    depth_um, slide = planes[(plane or 1) - 1]
    if len(planes) == 1:
        return slide
    at = "" if depth_um is None else f", at {depth_um:g} um"
    return slide.noted((f"focal plane {plane} of {len(planes)}{at}",))


def with_cache(slide: Slide, max_bytes: int) -> Slide:
    """The same slide with a cache of its own of at most ``max_bytes``: the planes of a stack share what one slide may keep."""
    return replace(slide, cache=FrameCache(max_bytes)) if isinstance(slide, FramedSlide) else slide


def _paste(region: Counts, frame: Counts, top: int, left: int) -> None:
    """Copy into ``region`` what of ``frame``, its corner at ``(top, left)`` of the region, lies within."""
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + frame.shape[0], region.shape[0]), min(left + frame.shape[1], region.shape[1])
    if y1 > y0 and x1 > x0:
        region[y0:y1, x0:x1] = frame[y0 - top : y1 - top, x0 - left : x1 - left]


@lru_cache(maxsize=4)  # both channels, and all planes of a stack, have one
def grid_corners(shape: tuple[int, int], frame_shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Top and left, int64 ``(N,)`` and not to be written to, of the frames of a gapless tiling, row by row."""
    (height, width), (rows, columns) = shape, frame_shape
    top, left = np.arange(0, height, rows, dtype=np.int64), np.arange(0, width, columns, dtype=np.int64)
    corners = np.repeat(top, len(left)), np.tile(left, len(top))
    for edge in corners:
        edge.setflags(write=False)
    return corners


def check_extent(shape: tuple[int, int], um_per_px: float, path: Path) -> None:
    """Refuse an image that no microscope makes or no slide can hold, before anything of its size is allocated."""
    low, high = UM_PER_PX_RANGE
    if not is_credible(um_per_px):
        raise InputError(f"a pixel size of {um_per_px:g} um", f"one from {low:g} to {high:g} um", path)
    height, width = shape
    longest = max(shape) * um_per_px / 1000
    if height < 1 or width < 1:
        raise InputError(f"an image of {width} x {height} pixels", "at least one pixel each way", path)
    if not longest <= limits().slide_mm:
        raise InputError(
            f"an image of {width} x {height} pixels, {longest:.4g} mm long",
            f"one that fits on a microscope slide (at most {limits().slide_mm} mm)",
            path,
        )


def check_frame_shape(frame_shape: tuple[int, int], path: Path) -> None:
    """Refuse a frame that is too large to be decoded in one piece."""
    rows, columns = frame_shape
    if rows < 1 or columns < 1:
        raise InputError(f"frames of {columns} x {rows} pixels", "at least one pixel each way", path)
    if rows * columns > limits().frame_pixels:
        needed = f"tiles of at most {limits().frame_pixels} pixels each"
        raise InputError(f"frames of {columns} x {rows} pixels", needed, path)


def is_dim(planes: Sequence[Frames], at_most: int | None = None) -> bool:
    """Whether no value above 4,095 is met; of every plane ``at_most`` evenly spread frames are looked at.

    By default as many as hold 64 million pixels together: a dark image costs no more for being large.
    """
    if at_most is None:
        rows, columns = planes[0].source.frame_shape
        in_all = max(LOOKED_AT, _LOOKED_PIXELS // (rows * columns))
        at_most = max(1, in_all // len(planes))
        planes = planes[:: -(-len(planes) // in_all)]
    for frames in planes:
        for index in _some(frames, at_most):
            if frames.source.load(index).max(initial=0) > DIM:
                return False
    return True


def require_stated_bits(frames: Sequence[Frames], path: Path) -> None:
    """Refuse uint16 that may be 12-bit, no value above 4,095: neither the file nor its caller states the bits."""
    if is_dim(frames):
        raise InputError("uint16 without a value above 4095 that does not state its bit depth", FULL_SCALE_OPTION, path)


def bit_notes(planes: Sequence[Frames]) -> tuple[str, ...]:
    """What a result must say where stored values contradict the bits that are stated; looks at some frames of each plane.

    A frame that does not decode says nothing here: reading it tells.
    """
    notes: tuple[str, ...] = ()
    with suppress(InputError):
        if all(frames.source.depth.full_scale == FULL_SCALE for frames in planes) and is_dim(planes, LOOKED_AT):
            said = "16 bits are stated, but no value above 4095 was met"
            notes += (f"{said}: 12-bit data would be read 16 times too dark (--full-scale 4096)",)
        for frames in planes:
            bits = frames.source.depth.bits
            if bits < 16 and any(int(frames.source.stored(int(i)).max(initial=0)) >> bits for i in _some(frames, LOOKED_AT)):
                notes += (f"values above the {bits} bits that are stated to be stored; what is above them was left out",)
    return notes


def _some(frames: Frames, at_most: int) -> list[int]:
    """Indices of evenly spread frames, the middle ones first."""
    n_frames = len(frames.index)
    spread = np.linspace(0, n_frames - 1, min(n_frames, at_most)).astype(np.int64)
    middle_first = np.argsort(np.abs(spread - n_frames / 2), kind="stable")
    chosen: list[int] = frames.index[spread[middle_first]].tolist()
    return chosen
