"""Two-channel (OME-)TIFF stacks as lazy slides: strips and tiles are decoded when a region asks for them."""

from __future__ import annotations

import logging
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffFile, TiffFileError, TiffPageSeries

from srh_clinic.errors import InputError
from srh_clinic.integration.depth import Depth
from srh_clinic.integration.dicom_file import DAMAGED
from srh_clinic.integration.frames import (
    CACHE_BYTES,
    UM_PER_PX_RANGE,
    FrameCache,
    FramedSlide,
    Frames,
    check_extent,
    check_frame_shape,
    grid_corners,
)
from srh_clinic.integration.optical_path import SHIFT, channel_in_words
from srh_clinic.intensity import FULL_SCALE, Counts
from srh_clinic.slide import Identity

NEEDED = "a two-channel TIFF of shape (2, H, W), uint8 or uint16, CH2 before CH3"

_CHANNEL_AXES = "CSIQ"  # channels, planar samples, and pages of which the file does not say what they are
_PLANES = {"Z": "two focal planes", "T": "two time points"}
_ORDINAL = re.compile(r"(?<!\d)\d{1,2}\W*$")  # the detector's number: Ch1, SRS Ch2, Channel:0:1

_UNIT_UM = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1e3, "cm": 1e4, "inch": 25400.0}
_UNIT_UM |= {"μm": 1.0, "\\u00b5m": 1.0}  # the Greek letter, and how ImageJ escapes the micro sign
_BROKEN = (AssertionError, ET.ParseError, TiffFileError, *DAMAGED)

# an application that logs sees what tifffile says of a damaged file; one that does not prints our sentence and no more
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class TiffFrames:
    """Strips or tiles of one page of a series of a TIFF, or, uncompressed in one piece, bands of its rows.

    ``origin`` is the first byte of a channel that lies in the file in one piece, otherwise ``None``.
    """

    path: Path
    series: int
    page: int
    shape: tuple[int, int]
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    origin: int | None
    depth: Depth

    def load(self, index: int) -> Counts:
        """Decode one strip, tile or band to counts; ``InputError`` when the file does not give it."""
        try:
            return self.depth.to_counts(self.stored(index), self.path)
        except OSError as error:
            raise InputError(f"a file that cannot be read ({error.strerror})", "a readable file", self.path) from error
        except InputError:
            raise
        except _BROKEN as error:
            if "requires the 'imagecodecs' package" in str(error):  # as tifffile says it
                needed = "the package imagecodecs (pip install imagecodecs), or a TIFF without compression"
                raise InputError(f"{self._page.compression.name} compression", needed, self.path) from error
            raise InputError(f"a TIFF whose strip or tile {index} cannot be decoded ({error})", NEEDED, self.path) from error

    def stored(self, index: int) -> NDArray[Any]:
        """The piece as the file holds it."""
        rows, width = self.frame_shape
        if self.origin is not None:
            rows = min(rows, self.shape[0] - index * rows)
            offset = self.origin + index * self.frame_shape[0] * width * self.dtype.itemsize
            return np.fromfile(self.path, self.dtype, rows * width, offset=offset).reshape(rows, width)
        offset, size = int(self._page.dataoffsets[index]), int(self._page.databytecounts[index])
        if size == 0:  # a sparse TIFF leaves out empty tiles
            return np.zeros(self.frame_shape, self.dtype)
        with self.path.open("rb") as file:
            file.seek(offset)
            piece, _, valid = self._page.decode(file.read(size), index)
        return np.asarray(piece.reshape(piece.shape[-3:-1])[: valid[1], : valid[2]])

    @cached_property
    def _page(self) -> Any:
        with TiffFile(self.path) as tiff:
            return tiff.series[self.series].pages[self.page].aspage()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_page"}


@dataclass(frozen=True)
class _Kind:
    """What an image of a TIFF has to be: whether ``Z`` is among its axes, and how it is called."""

    planes: bool
    needed: str
    plural: str


_STACK = _Kind(False, NEEDED, "two two-channel images of one size")
_Z_STACK = _Kind(True, "a two-channel z-stack (ZCYX or CZYX by its own metadata), uint8 or uint16", "two z-stacks of one size")


def read_tiff(path: Path, um_per_px: float | None = None, full_scale: int | None = None) -> FramedSlide:
    """Open a two-channel TIFF; pixels are decoded only by ``read``.

    Parameters
    ----------
    path
        A TIFF with a series of shape ``(2, H, W)``, of which the largest is read: a microscope may put an overview before it.
        Channel names of an OME header decide which channel is CH2; without them, or with the numbers of detectors, the first
        is.
    um_per_px
        Pixel edge in micrometres (default: what the file states).
    full_scale
        Stored value at unit intensity 1 (default: 256 for uint8; for uint16 what an OME header states, otherwise 65,536).

    Raises
    ------
    InputError
        When the file is not such a stack, is damaged, does not state its pixel size, or holds uint16 that may be 12-bit: no
        value above 4,095 and no statement.
    """
    ((_, slide),) = _read(path, _STACK, um_per_px, full_scale)
    return slide


def read_tiff_planes(
    path: Path, um_per_px: float | None = None, full_scale: int | None = None
) -> list[tuple[float | None, FramedSlide]]:
    """Open a two-channel z-stack: each focal plane as :func:`read_tiff` opens a slide, in the file's order.

    Parameters
    ----------
    path
        A TIFF with a series whose axes are, by OME, ImageJ or tifffile metadata, ZCYX or CZYX; the largest is read.
    um_per_px, full_scale
        As in :func:`read_tiff`.

    Returns
    -------
    list of (float or None, FramedSlide)
        Depth in micrometres (OME's PositionZ of each plane, otherwise the plane's number times OME's PhysicalSizeZ or ImageJ's
        spacing, ``None`` when the file states neither) and slide.

    Raises
    ------
    InputError
        As :func:`read_tiff`, and when the file does not say which axis is depth.
    """
    return _read(path, _Z_STACK, um_per_px, full_scale)


def _read(path: Path, kind: _Kind, um_per_px: float | None, full_scale: int | None) -> list[tuple[float | None, FramedSlide]]:
    try:
        with TiffFile(path) as tiff:
            return _open(path, tiff, kind, um_per_px, full_scale)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"a file that cannot be read ({error.strerror})", "a readable file", path) from error
    except _BROKEN as error:
        raise InputError("a damaged TIFF", kind.needed, path) from error


def _open(
    path: Path, tiff: TiffFile, kind: _Kind, um_per_px: float | None, full_scale: int | None
) -> list[tuple[float | None, FramedSlide]]:
    number = _largest_stack(tiff, kind, path)
    series = tiff.series[number]
    shape = int(series.shape[-2]), int(series.shape[-1])
    pixels = _ome_pixels(tiff, number, path)
    pixel_size = _stated_um_per_px(tiff, series, pixels) if um_per_px is None else um_per_px
    if pixel_size is None:
        raise InputError("a TIFF that does not state its pixel size", "--um-per-px", path)
    check_extent(shape, pixel_size, path)
    bits = _stated_bits(series, pixels)
    stated = FULL_SCALE if bits is None else 2**bits
    depth = Depth(stated if full_scale is None else full_scale)
    lengths = dict(zip(series.axes, series.shape, strict=True))
    n_planes = int(lengths.get("Z", 1))
    plane_step, channel_step = (1, n_planes) if series.axes == "CZYX" else (2, 1)
    order = _channel_order(pixels, path)
    slides = []
    for plane in range(n_planes):
        first, second = (_frames(path, tiff, number, plane * plane_step + c * channel_step, depth) for c in order)
        slides.append(
            FramedSlide(
                shape=shape,
                um_per_px=pixel_size,
                identity=Identity(source=str(path)),
                notes=depth.notes,
                planes=((first,), (second,)),
                cache=FrameCache(CACHE_BYTES // n_planes),
            )
        )
    slides[0].planes[0][0].source.load(0)  # an unknown compression shows itself here, not in the middle of the work
    if full_scale is None and bits is None:
        _refuse_dim(slides, path)
    return list(zip(_depths_um(tiff, pixels, n_planes, path), slides, strict=True))


def _largest_stack(tiff: TiffFile, kind: _Kind, path: Path) -> int:
    """Number of the largest series of the kind; ``InputError`` that says what the first is when none is."""
    if not tiff.series:
        raise InputError("a TIFF without images", kind.needed, path)
    stacks = [number for number, series in enumerate(tiff.series) if _not_a_stack(series, kind) is None]
    if not stacks:
        needed = kind.needed
        if any(_not_a_stack(series, _Z_STACK) is None for series in tiff.series):
            needed += "; read_z_stack opens all focal planes of a z-stack"
        elif any(_not_a_stack(series, _STACK) is None for series in tiff.series):
            needed += "; read_slide opens a single focal plane"
        raise InputError(_not_a_stack(tiff.series[0], kind) or "", needed, path)
    stacks.sort(key=lambda number: int(np.prod(tiff.series[number].shape)), reverse=True)
    if len({tiff.series[number].shape for number in stacks[:2]}) < len(stacks[:2]):
        raise InputError(kind.plural, "one slide per file", path)
    return stacks[0]


def _not_a_stack(series: TiffPageSeries, kind: _Kind) -> str | None:
    """What a series is instead of the channels wanted, unsigned and bright where much is; ``None`` when it is that."""
    lengths = " x ".join(map(str, series.shape))
    if series.axes.endswith("S") and series.shape[-1] in (3, 4):
        return "an RGB image"
    if kind.planes:
        if series.axes not in ("ZCYX", "CZYX") or series.shape[series.axes.index("C")] != 2:
            return f"a TIFF of shape {lengths} ({series.axes})"
    elif len(series.shape) != 3 or series.shape[0] != 2 or series.axes[1:] != "YX":
        return f"a TIFF of shape {lengths} ({series.axes})"
    elif series.axes[0] not in _CHANNEL_AXES:
        return f"{_PLANES.get(series.axes[0], 'two images')} instead of two channels ({series.axes})"
    if series.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return f"a TIFF of {series.dtype}"
    if series.is_multifile:
        return "an OME-TIFF whose channels lie in several files"
    if series.keyframe.photometric == PHOTOMETRIC.MINISWHITE:
        return "an image in which dark means bright (MINISWHITE)"
    return None


def _frames(path: Path, tiff: TiffFile, number: int, page: int, depth: Depth) -> Frames:
    """Locate a channel's pieces and see that the file is long enough for them."""
    series = tiff.series[number]
    height, width = int(series.shape[-2]), int(series.shape[-1])
    dtype = np.dtype(series.dtype).newbyteorder(tiff.byteorder)
    size = path.stat().st_size
    origin = None
    if series.dataoffset is not None:
        origin = int(series.dataoffset) + page * height * width * dtype.itemsize
        frame_shape = min(height, 256), width
        end = origin + height * width * dtype.itemsize
    elif len(series.pages) == int(np.prod(series.shape[:-2])):
        key = series.keyframe
        frame_shape = (key.tilelength, key.tilewidth) if key.is_tiled else (min(key.rowsperstrip, height), width)
        pieces = series.pages[page]
        ends = [offset + count for offset, count in zip(pieces.dataoffsets, pieces.databytecounts, strict=True)]
        end = max(ends)
        if len(ends) != -(-height // frame_shape[0]) * -(-width // frame_shape[1]):
            raise InputError(f"{len(ends)} strips or tiles for {width} x {height} pixels", NEEDED, path)
    else:
        raise InputError("compressed channels in one page", "one page per channel", path)
    if end > size:
        raise InputError("a truncated TIFF", "a whole file", path)
    check_frame_shape(frame_shape, path)
    top, left = grid_corners((height, width), frame_shape)
    source = TiffFrames(path, number, page, (height, width), frame_shape, dtype, origin, depth)
    return Frames(source, np.arange(len(top), dtype=np.int64), top, left)


def _refuse_dim(slides: list[FramedSlide], path: Path) -> None:
    """Refuse uint16 whose every value would fit into 12 bits: whether it is 12-bit or dim cannot be seen."""
    for (frames,) in (plane for slide in slides for plane in slide.planes):
        for index in frames.index:
            if frames.source.load(int(index)).max(initial=0) > 4095:
                return
    raise InputError(
        "uint16 without a value above 4095 that does not state its bit depth",
        "--full-scale 4096 (12-bit data) or 65536 (dim 16-bit data)",
        path,
    )


def _ome_pixels(tiff: TiffFile, number: int, path: Path) -> ET.Element | None:
    """What an OME header says of a series, ``None`` without such a header; refused when it does not say it of this one."""
    if not tiff.ome_metadata:
        return None
    root = ET.fromstring(tiff.ome_metadata)  # noqa: S314  expat bounds entity expansion since 2.4.1
    described, series = root.findall("{*}Image/{*}Pixels"), tiff.series[number]
    size = [str(series.shape[-1]), str(series.shape[-2])]
    if len(described) == len(tiff.series) and [described[number].get(f"Size{axis}") for axis in "XY"] == size:
        return described[number]
    raise InputError(
        f"an OME header that does not describe image {number + 1} of {len(tiff.series)}",
        "a header that describes every image",
        path,
    )


def _stated_bits(series: TiffPageSeries, pixels: ET.Element | None) -> int | None:
    """Significant bits: 8 for uint8, what OME or BitsPerSample say for uint16, ``None`` when neither does."""
    if series.dtype == np.uint8:
        return 8
    if pixels is not None and pixels.get("SignificantBits"):
        return int(pixels.get("SignificantBits", ""))
    bits = series.keyframe.bitspersample
    return bits if bits < 16 else None


def _stated_um_per_px(tiff: TiffFile, series: TiffPageSeries, pixels: ET.Element | None) -> float | None:
    """Pixel edge from the OME header, ImageJ's unit or the resolution tags; ``None`` when none is credible."""
    edges: list[float] = []
    tags = series.keyframe.aspage().tags
    if pixels is not None and pixels.get("PhysicalSizeX"):
        for axis in "XY":
            size = float(pixels.get(f"PhysicalSize{axis}") or pixels.get("PhysicalSizeX") or "nan")
            edges.append(size * _UNIT_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), np.nan))
    elif "XResolution" in tags and "YResolution" in tags:
        per_unit = {2: _UNIT_UM["inch"], 3: _UNIT_UM["cm"]}.get(int(tags["ResolutionUnit"].value), np.nan)
        if tiff.imagej_metadata:
            per_unit = _UNIT_UM.get(str(tiff.imagej_metadata.get("unit", "")).lower(), per_unit)
        for axis in "XY":
            pixels_per_unit, denominator = tags[f"{axis}Resolution"].value
            edges.append(per_unit * denominator / pixels_per_unit if pixels_per_unit else np.nan)
    low, high = UM_PER_PX_RANGE
    if not edges or not all(low <= edge <= high for edge in edges) or abs(edges[0] / edges[1] - 1) > 0.01:
        return None
    return float(f"{edges[0]:.9g}")


def _depths_um(tiff: TiffFile, pixels: ET.Element | None, n_planes: int, path: Path) -> list[float | None]:
    """Depths in micrometres: OME's PositionZ, otherwise equal steps of OME or ImageJ; ``None`` when neither is stated."""
    positions: dict[int, set[float]] = {}
    for plane in [] if pixels is None else pixels.findall("{*}Plane[@PositionZ]"):
        unit = _UNIT_UM.get(plane.get("PositionZUnit", "reference frame"), np.nan)
        positions.setdefault(int(plane.get("TheZ", "0")), set()).add(float(plane.get("PositionZ", "nan")) * unit)
    depths = [depth for known in positions.values() for depth in known]
    if depths and np.isfinite(depths).all():
        if sorted(positions) != list(range(n_planes)) or len(depths) != n_planes:
            raise InputError(f"{len(depths)} depths (PositionZ) for {n_planes} focal planes", "one for each plane", path)
        return [positions[plane].pop() for plane in range(n_planes)]
    step = np.nan
    if pixels is not None and pixels.get("PhysicalSizeZ"):
        step = float(pixels.get("PhysicalSizeZ", "nan")) * _UNIT_UM.get(pixels.get("PhysicalSizeZUnit", "µm"), np.nan)
    elif tiff.imagej_metadata and "spacing" in tiff.imagej_metadata:
        unit = _UNIT_UM.get(str(tiff.imagej_metadata.get("unit", "")).lower(), np.nan)
        step = float(tiff.imagej_metadata["spacing"]) * unit
    return [plane * step for plane in range(n_planes)] if np.isfinite(step) and step > 0 else [None] * n_planes


def _channel_order(pixels: ET.Element | None, path: Path) -> tuple[int, int]:
    """Pages of CH2 and CH3: by the channels' OME names when they name a Raman shift, otherwise in order.

    Of ``Ch1`` and ``Ch2`` the second is the second detector, not the CH2 stretch.
    """
    names = [] if pixels is None else [item.get("Name", "") for item in pixels.findall("{*}Channel")]
    named = [channel_in_words(name) for name in names]
    if None in named and all(_ORDINAL.search(name) and not SHIFT.search(name) for name in names):
        return 0, 1
    if len(named) != 2 or named == [None, None]:
        return 0, 1
    if named in ([0, 1], [0, None], [None, 1]):
        return 0, 1
    if named in ([1, 0], [1, None], [None, 0]):
        return 1, 0
    raise InputError("two channels of one Raman shift", "2845 and 2930 cm-1", path)
