"""Two-channel (OME-)TIFF stacks as lazy slides: strips and tiles are decoded when a region asks for them."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
from tifffile import PHOTOMETRIC, TiffFile, TiffPage, TiffPageSeries

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import (
    ChannelOption,
    ChannelOrder,
    ChannelStatement,
    answer,
    channel_in_words,
    decide_channels,
)
from srh_clinic.integration.damage import told_as
from srh_clinic.integration.depth import Depth, depth_of
from srh_clinic.integration.frames import FrameCache, FramedSlide, Frames, check_extent, require_stated_bits
from srh_clinic.integration.halves import Half, joined
from srh_clinic.integration.limits import limits
from srh_clinic.integration.orientation import UPRIGHT, turned, turned_shape
from srh_clinic.integration.snapshot import Snapshot, content_of
from srh_clinic.integration.tiff_axes import is_reordered, whole_frames
from srh_clinic.integration.tiff_directories import check_directories
from srh_clinic.integration.tiff_frames import NEEDED, check_packing, is_decodable, locate
from srh_clinic.integration.tiff_header import (
    channel_statements,
    depths_um,
    has_opacity,
    names_other_files,
    ome_header,
    ome_pixels,
    pixel_statements,
    stated_pixel_sizes,
)
from srh_clinic.integration.units import settle
from srh_clinic.slide import Identity

_CHANNEL_AXES = "CSIQ"  # channels, planar samples, and pages of which the file does not say what they are
_PLANES = {"Z": "two focal planes", "T": "two time points"}
_FEW_PAGES = 16
_COLOURS = {PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR, PHOTOMETRIC.CIELAB, PHOTOMETRIC.SEPARATED}

# an application that logs sees what tifffile says of a damaged file; one that does not prints our sentence and no more
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class _Kind:
    """What an image of a TIFF has to be: its axes without channels, and how it is called."""

    name: str
    needed: str
    plural: str


_STACK = _Kind("stack", NEEDED, "two two-channel images of one size")
_Z_STACK = _Kind(
    "z-stack", "a two-channel z-stack (ZCYX or CZYX by its own metadata), uint8 or uint16", "two z-stacks of one size"
)
_ONE = _Kind(
    "one",
    "a single-channel TIFF of shape (H, W) or, as a z-stack, (Z, H, W), uint8 or uint16",
    "two single-channel images of one size",
)


_KINDS = {kind.name: kind for kind in (_Z_STACK, _STACK, _ONE)}
_HINTS = {
    "z-stack": "; read_z_stack opens all focal planes of a z-stack, --plane one of them",
    "stack": "; read_slide opens a single focal plane",
    "one": ", or a file of each channel: both together",
}


def read_tiff(
    path: Path,
    um_per_px: float | None = None,
    full_scale: int | None = None,
    channels: ChannelOption | None = None,
) -> FramedSlide:
    """Open a two-channel TIFF; pixels are decoded only by ``read``.

    Parameters
    ----------
    path
        A TIFF with a series of two channels, a page each or in one page, of which the largest is read: a microscope may put
        an overview before it. Names of channels (OME, ImageJ's labels, page names, descriptions) decide which is CH2; without
        any, the first is.
    um_per_px
        Pixel edge in micrometres (default: what the file states).
    full_scale
        Stored value at unit intensity 1 (default: 256 for uint8; for uint16 what an OME header states, otherwise 65,536).
    channels
        What each channel is, see :func:`~srh_clinic.integration.channels.decide_channels` (default: what the file states).

    Raises
    ------
    InputError
        When the file is not such a stack, is damaged, does not state its pixel size, does not say which channel is which, or
        holds uint16 that may be 12-bit: no value above 4,095 and no statement.
    """
    ((_, slide),) = _read(path, _STACK, um_per_px, full_scale, channels)
    return slide


def read_tiff_planes(
    path: Path,
    um_per_px: float | None = None,
    full_scale: int | None = None,
    channels: ChannelOption | None = None,
) -> list[tuple[float | None, FramedSlide]]:
    """Open a two-channel z-stack: each focal plane as :func:`read_tiff` opens a slide, in the file's order.

    Parameters
    ----------
    path
        A TIFF with a series whose axes are, by OME, ImageJ or tifffile metadata, ZCYX or CZYX; the largest is read.
    um_per_px, full_scale, channels
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
    return _read(path, _Z_STACK, um_per_px, full_scale, channels)


def is_z_stack(path: Path) -> bool:
    """Whether a TIFF holds a two-channel z-stack, or one of each channel, by its own metadata; ``InputError`` when damaged."""
    with told_as("a damaged TIFF", _Z_STACK.needed, path), _opened(path) as (_, tiff):
        of_one = [series for series in tiff.series if series.axes == "ZYX" and _is_not(series, _ONE) is None]
        return len(of_one) > 1 or any(_is_not(series, _Z_STACK) is None for series in tiff.series)


def read_tiff_half(path: Path, um_per_px: float | None, full_scale: int | None) -> Half:
    """Open a TIFF of one channel, one image or one z-stack: half of a slide.

    Raises
    ------
    InputError
        As :func:`read_tiff`, but for the pixel size, which the other half may state.
    """
    with told_as("a damaged TIFF", _ONE.needed, path), _opened(path) as (snapshot, tiff):
        ome = ome_header(tiff, path)
        return _half(path, tiff, ome, _largest(tiff, ome, _ONE, path), um_per_px, full_scale, snapshot)


def _half(
    path: Path,
    tiff: TiffFile,
    ome: ET.Element | None,
    at: int,
    um_per_px: float | None,
    full_scale: int | None,
    snapshot: Snapshot,
) -> Half:
    """A series of one channel."""
    series = tiff.series[at]
    pixels = ome_pixels(ome, tiff, at, path)
    lengths = dict(zip(series.axes, map(int, series.shape), strict=True))
    n_planes = lengths.get("Z", 1)
    (pages,) = _pages_of(series, 1, n_planes)
    sizes, faults = stated_pixel_sizes(tiff, series, pixels, pages, path)
    size, notes = settle(sizes, um_per_px, path)
    if size is None and faults:
        raise faults[0]
    says = pixel_statements(tiff, series, pixels, pages, path)
    depth = depth_of(says, full_scale, path)
    check_packing(series, path)
    shape = lengths["Y"], lengths["X"]
    (statement,) = channel_statements(tiff, series, pixels, 1, [pages], path)
    name = series.name or ""
    return Half(
        path=path,
        planes=tuple(
            turned(locate(path, tiff, at, plane, 0, depth, pages[plane % len(pages)]), says.orientation, shape)
            for plane in range(n_planes)
        ),
        depths_um=tuple(depths_um(tiff, pixels, n_planes, path)),
        shape=turned_shape(says.orientation, shape),
        um_per_px=size,
        statement=replace(statement, words=(*statement.words, name)) if channel_in_words(name) is not None else statement,
        notes=(*notes, *depth.notes, *_turning(says.orientation)),
        snapshot=snapshot,
        bits=says.bits,
    )


def _of_images(
    path: Path,
    tiff: TiffFile,
    ome: ET.Element | None,
    kind: _Kind,
    um_per_px: float | None,
    full_scale: int | None,
    channels: ChannelOption | None,
    snapshot: Snapshot,
) -> list[tuple[float | None, FramedSlide]] | None:
    """A slide whose channels are images of their own in the file; ``None`` when it holds no such images.

    Two images may as well be two fields: they are channels where their names, or the caller, say so.
    """
    if any(_is_not(series, kind) is None for series in tiff.series):
        return None
    images = [at for at, series in enumerate(tiff.series) if _is_not(series, _ONE) is None]
    images = [at for at in images if ("Z" in tiff.series[at].axes) == (kind is _Z_STACK)]
    largest = max((prod(map(int, tiff.series[at].shape)) for at in images), default=0)
    images = [at for at in images if prod(map(int, tiff.series[at].shape)) == largest]
    if not 2 <= len(images) <= limits().channels or names_other_files(ome, path):
        return None
    halves = [_half(path, tiff, ome, at, um_per_px, full_scale, snapshot) for at in images]
    try:
        order = decide_channels([half.statement for half in halves], channels, path, in_order=False)
    except InputError as error:
        if channels is not None:
            raise
        found = f"{len(images)} images of one channel each that do not say which is CH2 and CH3"
        raise InputError(found, f"one field, and {answer(len(images))}", path) from error
    return list(joined(halves, order, full_scale, path))


def _read(
    path: Path, kind: _Kind, um_per_px: float | None, full_scale: int | None, channels: ChannelOption | None
) -> list[tuple[float | None, FramedSlide]]:
    with told_as("a damaged TIFF", kind.needed, path), _opened(path) as (snapshot, tiff):
        return _open(path, tiff, kind, um_per_px, full_scale, channels, snapshot)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Snapshot, TiffFile]]:
    """A TIFF whose directories are whole, and what it was: opened once, so that all that is said of it is of one file.

    The pages of a file of few are read whole at once: the search for its series would read them in part, and we again.
    """
    with path.open("rb") as file:
        snapshot = Snapshot.of_open(file.fileno())
        check_directories(file, path)
        file.seek(0)
        with TiffFile(file, _multifile=False) as tiff:  # an OME header may name files anywhere
            tiff.pages.cache = True
            if len(tiff.pages) <= _FEW_PAGES:
                for number in range(len(tiff.pages)):
                    tiff.pages[number]
            yield snapshot, tiff


def _open(
    path: Path,
    tiff: TiffFile,
    kind: _Kind,
    um_per_px: float | None,
    full_scale: int | None,
    channels: ChannelOption | None,
    snapshot: Snapshot,
) -> list[tuple[float | None, FramedSlide]]:
    ome = ome_header(tiff, path)
    apart = _of_images(path, tiff, ome, kind, um_per_px, full_scale, channels, snapshot)
    if apart is not None:
        return apart
    at = _largest(tiff, ome, kind, path)
    series = tiff.series[at]
    lengths = dict(zip(series.axes, map(int, series.shape), strict=True))
    shape = lengths["Y"], lengths["X"]
    n_planes = lengths["Z"] if kind is _Z_STACK else 1
    n_channels = _n_channels(series)
    if n_channels > limits().channels:
        raise InputError(f"a TIFF of {n_channels} channels", f"at most {limits().channels}, of which two are read", path)
    pixels = ome_pixels(ome, tiff, at, path)
    pages_of = _pages_of(series, n_channels, n_planes)
    statements = channel_statements(tiff, series, pixels, n_channels, pages_of, path)
    order = _order(statements, channels, series, path)
    _check_apart(series, pages_of, order, path)
    used = list({id(page): page for place in order.places for page in pages_of[place % len(pages_of)]}.values())
    size, notes = _pixel_size(tiff, series, pixels, used, um_per_px, path)
    check_extent(shape, size, path)
    says = pixel_statements(tiff, series, pixels, used, path)
    depth = depth_of(says, full_scale, path)
    check_packing(series, path)
    opened = ((path, snapshot),)
    identity = Identity(source=str(path), channel_order=str(order), content=content_of(opened))
    slides = []
    for plane in range(n_planes):
        first, second = (
            turned(_located(path, tiff, at, plane, place, n_planes, pages_of, depth), says.orientation, shape)
            for place in order.places
        )
        slides.append(
            FramedSlide(
                shape=turned_shape(says.orientation, shape),
                um_per_px=size,
                identity=identity,
                stated=tuple(dict.fromkeys((*notes, *order.notes, *depth.notes, *_turning(says.orientation)))),
                compare_bits=full_scale is None and says.bits is not None,
                planes=((first,), (second,)),
                cache=FrameCache(limits().cache_bytes // n_planes),
                opened=opened,
            )
        )
    frames = [plane for slide in slides for (plane,) in slide.planes]
    if full_scale is None and says.bits is None:
        require_stated_bits(frames, path)
    elif not is_decodable(series) or depth.full_scale < 256**series.dtype.itemsize:
        frames[0].source.load(0)  # an unknown compression, a full scale that is too low: here, not in the middle of the work
    return list(zip(depths_um(tiff, pixels, n_planes, path), slides, strict=True))


def _pixel_size(
    tiff: TiffFile,
    series: TiffPageSeries,
    pixels: ET.Element | None,
    used: list[TiffPage],
    um_per_px: float | None,
    path: Path,
) -> tuple[float, tuple[str, ...]]:
    sizes, faults = stated_pixel_sizes(tiff, series, pixels, used, path)
    size, notes = settle(sizes, um_per_px, path)
    if um_per_px is None and faults:
        raise faults[0]
    if faults:
        notes = (*notes, f"pixel size {um_per_px:g} um stated by the caller, {faults[0].found} by the file")
    if size is None:
        raise InputError("a TIFF that does not state its pixel size", "--um-per-px", path)
    return size, notes


def _turning(orientation: int) -> tuple[str, ...]:
    """What a result must say of an image that is seen otherwise than it lies in its file."""
    return () if orientation == UPRIGHT else (f"turned as the file says (Orientation {orientation})",)


def _order(
    statements: list[ChannelStatement], channels: ChannelOption | None, series: TiffPageSeries, path: Path
) -> ChannelOrder:
    try:
        return decide_channels(statements, channels, path)
    except InputError as error:
        if channels is None and len(statements) > 2 and not any(statement.words for statement in statements):
            raise InputError(f"{error.found}, {_as_it_is(series)}", answer(len(statements)), path) from error
        raise


def _located(
    path: Path,
    tiff: TiffFile,
    at: int,
    plane: int,
    place: int,
    n_planes: int,
    pages_of: list[list[TiffPage]],
    depth: Depth,
) -> Frames:
    """The frames of a channel in a focal plane."""
    series = tiff.series[at]
    if is_reordered(series, deep=n_planes > 1):
        return whole_frames(path, at, series, place, plane, depth)
    number = _page_at(series, plane, place, _n_channels(series), n_planes)
    of_channel = pages_of[place % len(pages_of)]
    return locate(path, tiff, at, number, place, depth, of_channel[plane % len(of_channel)])


def _check_apart(series: TiffPageSeries, pages_of: list[list[TiffPage]], order: ChannelOrder, path: Path) -> None:
    """Refuse two channels that a header puts on one page: they would be one channel twice."""
    if len(pages_of) < 2:
        return
    for ch2, ch3 in zip(*(pages_of[place] for place in order.places), strict=True):
        if ch2 is ch3 or (max(ch2.databytecounts, default=0) > 0 and _pixels_at(ch2) == _pixels_at(ch3)):
            raise InputError(f"CH2 and CH3 on one page of the file (page {ch2.index + 1})", "a page of each channel", path)


def _pixels_at(page: TiffPage) -> list[int]:
    return [offset for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True) if count]


def _n_channels(series: TiffPageSeries) -> int:
    if "C" in series.axes:
        return int(series.shape[series.axes.index("C")])
    return next(int(n) for axis, n in zip(series.axes, series.shape, strict=True) if axis in _CHANNEL_AXES)


def _page_at(series: TiffPageSeries, plane: int, channel: int, n_channels: int, n_planes: int) -> int:
    """The page of a channel in a focal plane."""
    if "S" in series.axes:
        return plane
    return channel * n_planes + plane if series.axes == "CZYX" else plane * n_channels + channel


def _pages_of(series: TiffPageSeries, n_channels: int, n_planes: int) -> list[list[TiffPage]]:
    """The pages of each channel, as far as the file has them: ImageJ may keep all channels behind one."""
    reordered = is_reordered(series, deep=n_planes > 1)
    if "S" in series.axes or reordered or len(series.pages) < n_channels * n_planes:
        return [[series.pages[0].aspage()]]
    return [
        [series.pages[_page_at(series, plane, channel, n_channels, n_planes)].aspage() for plane in range(n_planes)]
        for channel in range(n_channels)
    ]


def _largest(tiff: TiffFile, ome: ET.Element | None, kind: _Kind, path: Path) -> int:
    """Number of the largest series of the kind; ``InputError`` that says what the first is when none is."""
    if names_other_files(ome, path):
        raise InputError("an OME-TIFF whose channels lie in several files", "all of them in one file", path)
    if not tiff.series:
        raise InputError("a TIFF without images", kind.needed, path)
    fitting = [at for at, series in enumerate(tiff.series) if _is_not(series, kind) is None]
    if not fitting:
        fits = [
            one for one in _HINTS if one != kind.name and any(_is_not(series, _KINDS[one]) is None for series in tiff.series)
        ]
        needed = kind.needed + (_HINTS[fits[0]] if fits and kind is not _ONE else "")
        found = list(dict.fromkeys(_is_not(series, kind) or "" for series in tiff.series))
        raise InputError(found[0] if len(found) == 1 else f"several images ({'; '.join(found[:3])})", needed, path)
    fitting.sort(key=lambda at: prod(map(int, tiff.series[at].shape)), reverse=True)
    if len({tiff.series[at].shape for at in fitting[:2]}) < len(fitting[:2]):
        raise InputError(kind.plural, "one slide per file", path)
    return fitting[0]


def _as_it_is(series: TiffPageSeries) -> str:
    return f"a TIFF of shape {' x '.join(map(str, series.shape))} ({series.axes})"


def _is_not(series: TiffPageSeries, kind: _Kind) -> str | None:
    """What a series is instead of the channels wanted, unsigned; ``None`` when it is that."""
    if not series.axes:
        return "a page without pixels"
    if series.axes.endswith("S") and series.keyframe.photometric in _COLOURS:
        return "an RGB image"
    if kind is not _ONE and is_reordered(series, deep=kind is _Z_STACK):
        pass
    elif kind is _Z_STACK:
        if series.axes not in ("ZCYX", "CZYX") or series.shape[series.axes.index("C")] < 2:
            return _as_it_is(series)
    elif kind is _ONE:
        if series.axes not in ("YX", "ZYX"):
            return _as_it_is(series)
    elif series.axes == "YXS":
        if has_opacity(series.keyframe.aspage()):
            return "a grey image with opacity (ExtraSamples)"
    elif len(series.shape) != 3 or series.shape[0] < 2 or series.axes[1:] != "YX":
        return _as_it_is(series)
    elif series.axes[0] not in _CHANNEL_AXES:
        planes = _PLANES.get(series.axes[0], "two images") if series.shape[0] == 2 else _as_it_is(series)
        return f"{planes} instead of two channels ({series.axes})"
    if series.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return f"a TIFF of {series.dtype}"
    if any(page is None for page in series.pages):
        return "a series of which pages are missing"
    return None
