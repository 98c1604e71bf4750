"""Z-stacks: the focal planes of one field as slides, whichever way a microscope keeps them, and back to a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.files import check_place, claimed, whole_file
from srh_clinic.integration.channels import ChannelOption
from srh_clinic.integration.dicom_case import series_in
from srh_clinic.integration.dicom_reader import DicomSlide, read_dicom, read_dicom_planes
from srh_clinic.integration.frames import with_cache
from srh_clinic.integration.limits import limits
from srh_clinic.integration.pair import channel_files_in, read_pair_planes
from srh_clinic.integration.places import TIFF_SUFFIXES, kind_of, layout_of, tiffs_in
from srh_clinic.integration.plane_numbers import plane_files
from srh_clinic.integration.reader import CaseFiles, read_slide
from srh_clinic.integration.tiff import read_tiff_planes
from srh_clinic.intensity import CHANNELS, RAMAN_SHIFTS
from srh_clinic.slide import Slide, require_unchanged

NEEDED = (
    "a z-stack: a TIFF with axes ZCYX, a folder of numbered two-channel TIFFs, or a folder of DICOM series at several depths"
)

MIN_BIGTIFF = 2**32 - 2**25
"""Bytes of pixels from which on a TIFF needs 64-bit offsets, as tifffile has it."""

_Options = tuple[float | None, int | None, ChannelOption | None]
_CASE = ("PatientID", "StudyInstanceUID", "ContainerIdentifier")


class FocalPlane(NamedTuple):
    """A slide at a depth in micrometres; ``None`` when nobody states it."""

    depth_um: float | None
    slide: Slide


def read_z_stack(
    source: CaseFiles,
    um_per_px: float | None = None,
    full_scale: int | None = None,
    spacing_um: float | None = None,
    channels: ChannelOption | None = None,
) -> list[FocalPlane]:
    """Open a z-stack as lazy slides of one size.

    Parameters
    ----------
    source
        One of

        * a TIFF whose own metadata (OME, ImageJ hyperstack, tifffile) name its axes ZCYX or CZYX;
        * a folder of two-channel TIFFs, or of two single-channel ones a plane, each named with the number of its plane
          (behind a ``z``, the only one that differs, or the last; signs and decimals count), in the order of which they lie;
          other files in it are passed over;
        * a folder of DICOM series, or of folders with one each: a series is a plane, at the Z Offset in Slide Coordinate
          System of its total pixel matrix or of its frames (PS3.3 C.8.12.4, C.8.12.6.1), or at its Slice Location;
        * a DICOM series that holds several focal planes itself, by Total Pixel Matrix Focal Planes or by positions of frames;
        * two files of one channel each that hold several focal planes, CH2's first, or a folder of two such TIFFs whose names
          say which channel each is.
    um_per_px, full_scale, channels
        As in :func:`~srh_clinic.integration.reader.read_slide`.
    spacing_um
        Distance in micrometres between planes whose numbers follow each other, where files are numbered or a TIFF does not
        state it: ``z001`` and ``z007`` are six of it apart.

    Returns
    -------
    list of FocalPlane
        In the file's or the numbers' order; of DICOM by depth. Depths are those stated, otherwise relative to the first plane.

    Raises
    ------
    InputError
        When it is no such stack, its planes differ in size or pixel size, or a spacing is given where depths are stated.
    """
    if spacing_um is not None and not 0 < spacing_um < np.inf:
        raise InputError(f"a spacing of {spacing_um:g} um", "a positive spacing")
    options = um_per_px, full_scale, channels
    files = [source] if isinstance(source, str | Path) else list(source)
    if not files:
        raise InputError("no file", NEEDED)
    source = Path(files[0])
    if len(files) > 1:
        planes = _planes_of_pair([Path(file) for file in files], options, spacing_um, source)
    elif kind_of(source, NEEDED) != "folder":
        planes = _planes_of_file(source, options, spacing_um)
    elif pair := channel_files_in(source):
        planes = _planes_of_pair(pair, options, spacing_um, source)
    elif tiffs := tiffs_in(source):
        planes = _planes_of_numbered(source, tiffs, options, spacing_um)
    else:
        planes = _planes_of_dicom(source, options, spacing_um)
    _check_one_field(planes, source)
    each = limits().cache_bytes // len(planes)
    return [FocalPlane(plane.depth_um, with_cache(plane.slide, each)) for plane in planes]


def write_z_stack(planes: Sequence[tuple[float | None, Slide]], out: str | Path) -> Path:
    """Write slides of one field as an OME-TIFF of axes ZCYX, uint16 counts, holding one plane at a time.

    Parameters
    ----------
    planes
        Depth in micrometres and slide, in the order to be written; all depths or none may be ``None``. Every depth is written
        as PositionZ, equal steps as PhysicalSizeZ too, so that :func:`read_z_stack` gives back what was written.
    out
        A name that is free, ending in ``.tif`` or ``.tiff``.

    Returns
    -------
    Path
        The file, whole: it was written under another name.

    Raises
    ------
    InputError
        When there are fewer than two planes, the slides differ in size or pixel size, some depths are missing or not in
        ascending order, the name is taken or another kind of file's, or the place cannot be written.
    """
    out = Path(out)
    stack = [FocalPlane(*plane) for plane in planes]
    if len(stack) < 2:
        raise InputError(f"{len(stack)} focal planes", "two or more", out)
    depths = [plane.depth_um for plane in stack if plane.depth_um is not None]
    if len(depths) not in (0, len(stack)) or any(b <= a for a, b in pairwise(depths)):
        raise InputError(
            "focal planes whose depths do not ascend or are only partly known", "ascending depths, or no depths at all", out
        )
    _check_one_field(stack, out)
    if out.suffix.lower() not in TIFF_SUFFIXES:
        raise InputError(f"the name {out.name}", "one that ends in .tif", out)
    if out.exists():
        raise InputError("an existing file", "a name that is not taken", out)
    check_place(out, folder=False)
    height, width = stack[0].slide.shape
    shape = len(stack), 2, height, width
    try:
        with claimed(out), whole_file(out) as draft:
            tifffile.imwrite(
                draft,
                _pages(stack),
                shape=shape,
                dtype=np.uint16,
                photometric="minisblack",
                ome=True,
                bigtiff=2 * int(np.prod(shape, dtype=np.int64)) >= MIN_BIGTIFF,
                metadata=_ome_metadata(stack, depths),
            )
            for plane in stack:
                require_unchanged(plane.slide)
    except OSError as error:
        raise InputError(f"a place that cannot be written ({error.strerror})", "a writable folder with space", out) from error
    return out


def _planes_of_file(path: Path, options: _Options, spacing_um: float | None) -> list[FocalPlane]:
    kind = kind_of(path, NEEDED)
    if kind == "dicom":
        planes = _several([FocalPlane(*plane) for plane in read_dicom_planes(path, *options)], "a DICOM case", path)
    elif kind == "tiff":
        planes = [FocalPlane(*plane) for plane in read_tiff_planes(path, *options)]
    else:
        raise InputError("a file that is not a TIFF" if kind == "a text file" else kind, NEEDED, path)
    return _spaced(planes, spacing_um, path)


def _planes_of_pair(files: list[Path], options: _Options, spacing_um: float | None, source: Path) -> list[FocalPlane]:
    planes = [FocalPlane(*plane) for plane in read_pair_planes(files, *options, source)]
    return _spaced(_several(planes, "two files", source), spacing_um, source)


def _several(planes: list[FocalPlane], what: str, path: Path) -> list[FocalPlane]:
    if len(planes) < 2:
        raise InputError(f"{what} of one focal plane", f"{NEEDED}; read_slide opens a single focal plane", path)
    return planes


def _spaced(planes: list[FocalPlane], spacing_um: float | None, path: Path) -> list[FocalPlane]:
    """Planes at the distance that the caller states, which no file may state too."""
    if spacing_um is None:
        return planes
    if planes[0].depth_um is not None:
        raise InputError("a z-stack that states its depths", "no spacing in the call", path)
    return [FocalPlane(number * spacing_um, plane.slide) for number, plane in enumerate(planes)]


def _planes_of_numbered(folder: Path, files: list[Path], options: _Options, spacing_um: float | None) -> list[FocalPlane]:
    if len(files) < 2:
        raise InputError("a folder with one TIFF", NEEDED, folder)
    groups = plane_files(files)
    first = groups[0][0]
    return [
        FocalPlane(
            None if spacing_um is None else (number - first) * spacing_um,
            read_slide(of_plane[0] if len(of_plane) == 1 else of_plane, *options),
        )
        for number, of_plane in groups
    ]


def _planes_of_dicom(folder: Path, options: _Options, spacing_um: float | None) -> list[FocalPlane]:
    places = series_in(folder)
    if not places:
        places = sorted(below for below in folder.iterdir() if below.is_dir() and below.name[0] != ".")
        if not places or len(places) == 1:
            raise InputError(layout_of(folder) or "a folder without TIFF or DICOM files", NEEDED, folder)
    if spacing_um is not None:
        raise InputError("a spacing for DICOM series, which state their depths", "no spacing in the call", folder)
    if len(places) == 1:
        return _planes_of_file(places[0], options, None)
    slides = [read_dicom(place, *options) for place in places]
    for slide in slides[1:]:
        for keyword in _CASE:
            if (slide.headers[0].get(keyword) or "") != (slides[0].headers[0].get(keyword) or ""):
                raise InputError(
                    f"a {keyword} that differs from that of {slides[0].files[0].name}", "series of one case", slide.files[0]
                )
    by_depth: dict[float, DicomSlide] = {}
    for slide in slides:
        z_um = _z_um(slide)
        if z_um in by_depth:
            raise InputError(f"two series at {z_um:g} um", "one per depth", folder)
        by_depth[z_um] = slide
    return [FocalPlane(z_um, by_depth[z_um]) for z_um in sorted(by_depth)]


def _z_um(slide: DicomSlide) -> float:
    """Where a DICOM slide lies along the optical axis, in micrometres; both its channels must say the same."""
    stated = set(slide.z_um)
    if None in stated:
        raise InputError(
            "neither a Z offset of frames or pixel matrix nor a Slice Location", "the depth of each series", slide.files[0]
        )
    if len(stated) > 1:
        raise InputError("channels at two depths", "both Raman shifts at one depth", slide.files[0])
    return slide.z_um[0] or 0.0


def _check_one_field(planes: Sequence[FocalPlane], source: Path) -> None:
    first = planes[0].slide
    for number, (_, slide) in enumerate(planes[1:], start=2):
        if slide.shape != first.shape or abs(slide.um_per_px / first.um_per_px - 1) > 1e-3:
            found = f"focal plane {number} of {slide.shape[0]} x {slide.shape[1]} pixels of {slide.um_per_px:g} um"
            needed = f"{first.shape[0]} x {first.shape[1]} of {first.um_per_px:g} um, as in the first"
            raise InputError(found, needed, source)


def _pages(planes: Sequence[FocalPlane]) -> Iterator[NDArray[np.uint16]]:
    for _, slide in planes:
        yield from slide.read(0, 0, *slide.shape)


def _ome_metadata(planes: Sequence[FocalPlane], depths: Sequence[float]) -> dict[str, Any]:
    um_per_px = planes[0].slide.um_per_px
    metadata: dict[str, Any] = {
        "axes": "ZCYX",
        "SignificantBits": 16,
        "PhysicalSizeX": um_per_px,
        "PhysicalSizeY": um_per_px,
        "Channel": {"Name": [f"{name} {shift} cm-1" for name, shift in zip(CHANNELS, RAMAN_SHIFTS, strict=True)]},
    }
    if depths:
        z = [depth for depth in depths for _ in CHANNELS]
        metadata["Plane"] = {"PositionZ": z, "PositionZUnit": ["µm"] * len(z)}
        steps = np.diff(depths)
        if len(steps) and np.allclose(steps, steps[0], rtol=1e-6):
            metadata["PhysicalSizeZ"] = float(steps[0])
    return metadata
