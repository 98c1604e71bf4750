"""A DICOM case as a lazy slide: the frames of both optical paths, wherever the case keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from srh_clinic.errors import InputError
from srh_clinic.integration.dicom_case import find_case
from srh_clinic.integration.dicom_file import DAMAGED, DicomFile, DicomFrames, open_frames, quiet_pydicom
from srh_clinic.integration.frames import FramedSlide, Frames, check_extent
from srh_clinic.integration.optical_path import channel_of
from srh_clinic.intensity import RAMAN_SHIFTS
from srh_clinic.slide import Identity

NOTES_PREFIX = "srh-clinic: "
"""Starts the Image Comments in which a slide that we wrote carries its notes on."""

MIN_SPARSE_COVERAGE = 0.01
"""Share of the pixel matrix below which sparse frames are a damaged header rather than a slide."""


class DicomSlide(FramedSlide):
    """A case of VL Whole Slide Microscopy images (PS3.3 A.32.8) as a slide.

    ``identity.attributes["headers"]`` holds the header data sets, without pixel data and per-frame groups, of the instances
    that the pixels come from, ``identity.attributes["z_um"]`` what they say of their depth.
    """

    @property
    def headers(self) -> tuple[Dataset, ...]:
        """The header of every instance that the pixels come from."""
        headers: tuple[Dataset, ...] = self.identity.attributes["headers"]
        return headers

    @property
    def z_um(self) -> tuple[float | None, ...]:
        """Depth that every instance states, in micrometres from the slide's surface (PS3.3 C.8.12.2); ``None`` when none."""
        z_um: tuple[float | None, ...] = self.identity.attributes["z_um"]
        return z_um


@dataclass(frozen=True)
class _FrameTable:
    """Channel (-1: neither), top and left of every frame of a file, int64 ``(N,)`` each."""

    channel: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]


def read_dicom(path: Path, um_per_px: float | None = None, full_scale: int | None = None) -> DicomSlide:
    """Open a DICOM case: a file, one file of a series, or a folder. Pixels are decoded only by ``read``.

    Parameters
    ----------
    path
        A file or a folder.
    um_per_px
        Pixel edge in micrometres (default: Pixel Spacing of the file).
    full_scale
        Stored value at unit intensity 1 (default: what Bits Stored says).

    Raises
    ------
    InputError
        When the case is not one whole SRH slide with both Raman shifts.
    """
    try:
        with quiet_pydicom():
            files, unreadable = find_case(path)
            return _assemble(path, files, unreadable, um_per_px, full_scale)
    except InputError:
        raise
    except DAMAGED as error:  # pydicom converts values on access, so damage can show itself anywhere
        raise InputError("a damaged DICOM header", "a whole VL Whole Slide Microscopy image", path) from error


def _assemble(
    path: Path, files: list[DicomFile], unreadable: list[str], um_per_px: float | None, full_scale: int | None
) -> DicomSlide:
    shape = files[0].number("TotalPixelMatrixRows"), files[0].number("TotalPixelMatrixColumns")
    pixel_size, notes = _pixel_size(files, um_per_px)
    check_extent(shape, pixel_size, path)
    _check_concatenations(files)
    planes: tuple[list[Frames], list[Frames]] = ([], [])
    owners: tuple[list[DicomFile], list[DicomFile]] = ([], [])
    for file in files:
        _check_geometry(file, files[0])
        channels = _channels(file)
        if not set(channels.values()) - {-1}:
            continue
        source = open_frames(file, full_scale)
        table = _frame_table(file, source, shape, channels)
        for channel in (0, 1):
            index = np.flatnonzero(table.channel == channel)
            if len(index):
                planes[channel].append(Frames(source, index.astype(np.int64), table.top[index], table.left[index]))
                owners[channel].append(file)
        notes += source.depth.notes + _file_notes(file.header)
    for channel in (0, 1):
        _check_channel(channel, planes, owners, shape, path, unreadable)
    used = {str(file.required("SOPInstanceUID")): file for file in (*owners[0], *owners[1])}
    return DicomSlide(
        shape=shape,
        um_per_px=pixel_size,
        identity=_identity(path, [file.header for file in used.values()]),
        notes=tuple(dict.fromkeys(notes)),
        planes=(tuple(planes[0]), tuple(planes[1])),
    )


def _channels(file: DicomFile) -> dict[str, int]:
    """Channel of each optical path by its identifier; -1 for a path that shows neither Raman shift."""
    channels: dict[str, int] = {}
    for item in file.required("OpticalPathSequence"):
        channel = channel_of(item, file.path)
        channels[str(item.get("OpticalPathIdentifier"))] = -1 if channel is None else channel
    known = [channel for channel in channels.values() if channel >= 0]
    if len(known) != len(set(known)):
        raise InputError(f"optical paths {', '.join(channels)} of one Raman shift", "one path for each Raman shift", file.path)
    return channels


def _frame_table(file: DicomFile, source: DicomFrames, shape: tuple[int, int], channels: dict[str, int]) -> _FrameTable:
    """Where each frame lies, for TILED_FULL by order (PS3.3 C.7.6.17.3), otherwise by Plane Position (Slide)."""
    n_frames = len(source.spans)
    if int(file.header.get("TotalPixelMatrixFocalPlanes") or 1) != 1:
        raise InputError("several focal planes", "one focal plane", file.path)
    organization = file.header.get("DimensionOrganizationType") or "TILED_FULL"
    if organization != "TILED_FULL" and "PerFrameFunctionalGroupsSequence" not in file.header:
        raise InputError(f"{organization} frames without per-frame groups", "a position for each frame", file.path)
    if _is_sparse(file):
        return _sparse_table(file, n_frames, shape, channels)
    rows, columns = source.frame_shape
    per_path = -(-shape[0] // rows) * -(-shape[1] // columns)
    number = int(file.header.get("ConcatenationFrameOffsetNumber") or 0) + np.arange(n_frames)
    if number[-1] >= per_path * len(channels) or (
        "ConcatenationUID" not in file.header and n_frames < per_path * len(channels)
    ):
        raise InputError(
            f"{n_frames} frames of {columns} x {rows} for {shape[1]} x {shape[0]} pixels and {len(channels)} optical paths",
            f"{per_path * len(channels)} frames",
            file.path,
        )
    tile = number % per_path
    across = -(-shape[1] // columns)
    by_order = np.array(list(channels.values()), dtype=np.int64)
    return _FrameTable(by_order[number // per_path], tile // across * rows, tile % across * columns)


def _sparse_table(file: DicomFile, n_frames: int, shape: tuple[int, int], channels: dict[str, int]) -> _FrameTable:
    groups = file.header.PerFrameFunctionalGroupsSequence
    if len(groups) != n_frames:
        raise InputError(f"{len(groups)} per-frame groups for {n_frames} frames", "one for each frame", file.path)
    shared = file.header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    only = next(iter(channels)) if len(channels) == 1 else None
    depths = set()
    table = np.empty((3, n_frames), dtype=np.int64)
    for i, group in enumerate(groups):
        paths = group.get("OpticalPathIdentificationSequence") or shared[0].get("OpticalPathIdentificationSequence")
        identifier = str(paths[0].OpticalPathIdentifier) if paths else only
        position = group.get("PlanePositionSlideSequence")
        if identifier not in channels or not position:
            raise InputError(f"frame {i + 1} without a position or an optical path", "both for each frame", file.path)
        top = int(position[0].RowPositionInTotalImagePixelMatrix) - 1
        left = int(position[0].ColumnPositionInTotalImagePixelMatrix) - 1
        table[:, i] = channels[identifier], top, left
        depths.add(float(position[0].get("ZOffsetInSlideCoordinateSystem") or 0))
    if len(depths) > 1:
        raise InputError("several focal planes", "one focal plane", file.path)
    outside = (table[1] < 0) | (table[2] < 0) | (table[1] >= shape[0]) | (table[2] >= shape[1])
    if outside.any():
        frame = int(np.flatnonzero(outside)[0]) + 1
        raise InputError(f"frame {frame} outside the total pixel matrix", "frames inside the matrix", file.path)
    return _FrameTable(*table)


def _check_channel(
    channel: int,
    planes: tuple[list[Frames], list[Frames]],
    owners: tuple[list[DicomFile], list[DicomFile]],
    shape: tuple[int, int],
    path: Path,
    unreadable: list[str],
) -> None:
    """Refuse a channel that is missing, there twice, or there in part."""
    shift, parts, files = RAMAN_SHIFTS[channel], planes[channel], owners[channel]
    if not parts:
        others = [RAMAN_SHIFTS[c] for c in (0, 1) if planes[c]]
        found = f"only the optical path at {others[0]} cm-1" if others else "optical paths that name no Raman shift"
        needed = f"the one at {shift} cm-1 too, in the same file or as its sibling" if others else "2845 and 2930 cm-1"
        raise InputError(f"{found} (and {'; '.join(unreadable)})" if unreadable else found, needed, path)
    concatenations = {file.header.get("ConcatenationUID") for file in files}
    if len(files) > 1 and (None in concatenations or len(concatenations) > 1):
        names = " and ".join(file.path.name for file in files[:2])
        raise InputError(f"two images at {shift} cm-1 in one series ({names})", "one image of each Raman shift", path)
    rows, columns = parts[0].source.frame_shape
    n_frames = sum(len(part.index) for part in parts)
    places = np.concatenate([part.top * shape[1] + part.left for part in parts])
    if len(np.unique(places)) < n_frames:
        raise InputError(
            f"two frames at {shift} cm-1 at the same place", "one focal plane, with each frame once", files[0].path
        )
    if _is_sparse(files[0]):
        coverage = n_frames * rows * columns / (shape[0] * shape[1])
        if coverage < MIN_SPARSE_COVERAGE:
            raise InputError(
                f"frames that cover {coverage:.2g} of {shape[1]} x {shape[0]} pixels", "a coverage of 0.01 or more", path
            )
    elif n_frames != -(-shape[0] // rows) * -(-shape[1] // columns):
        raise InputError(f"{n_frames} frames at {shift} cm-1 of a concatenation", "all of its parts in one folder", path)


def _check_concatenations(files: list[DicomFile]) -> None:
    """Refuse a concatenation (PS3.3 C.7.6.16.2.2.4) of which a part is missing, there twice, or without its place."""
    concatenations: dict[str, list[DicomFile]] = {}
    for file in files:
        if "ConcatenationUID" in file.header:
            concatenations.setdefault(str(file.header.ConcatenationUID), []).append(file)
    for parts in concatenations.values():
        parts.sort(key=lambda part: part.number("InConcatenationNumber"))
        first, last = parts[0], parts[-1]
        total = int(first.header.get("InConcatenationTotalNumber") or last.number("InConcatenationNumber"))
        numbers = [part.number("InConcatenationNumber") for part in parts]
        if numbers != list(range(1, total + 1)):
            found = f"part {', '.join(map(str, numbers))} of a concatenation of {total}"
            raise InputError(found, "all of its parts in one folder, each once", first.path)
        if "InConcatenationTotalNumber" not in first.header and _is_sparse(first):
            raise InputError(
                "a sparse concatenation that does not state the number of its parts", "InConcatenationTotalNumber", first.path
            )
        n_before = 0
        for part in parts:
            if len(parts) > 1 and part.number("ConcatenationFrameOffsetNumber") != n_before:
                found = f"ConcatenationFrameOffsetNumber {part.header.ConcatenationFrameOffsetNumber} after {n_before} frames"
                raise InputError(found, "the parts of a concatenation without a gap", part.path)
            n_before += part.number("NumberOfFrames")


def _is_sparse(file: DicomFile) -> bool:
    tiled_full = file.header.get("DimensionOrganizationType") == "TILED_FULL"
    return not tiled_full and "PerFrameFunctionalGroupsSequence" in file.header


def _um_per_px(file: DicomFile) -> float:
    """Pixel edge in micrometres, from Pixel Measures; it must be square to one per cent."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (file.header.get(groups) or [])[:1]:
            for measures in group.get("PixelMeasuresSequence") or []:
                try:
                    down, across = (float(millimetres) * 1000 for millimetres in measures.PixelSpacing)
                except DAMAGED as error:
                    raise InputError("a damaged Pixel Spacing", "two numbers in mm", file.path) from error
                if not (down > 0 and across > 0) or abs(down / across - 1) > 0.01:
                    raise InputError(f"pixels of {across:g} x {down:g} um", "square pixels", file.path)
                return float(f"{down:.9g}")  # 0.00047 mm is 0.47 um
    raise InputError("no Pixel Spacing", "a slide that states its pixel size", file.path)


def _pixel_size(files: list[DicomFile], um_per_px: float | None) -> tuple[float, list[str]]:
    """Pixel edge in micrometres, the caller's before that of the files, and what a result must say about it."""
    try:
        stated = [_um_per_px(file) for file in files]
    except InputError as error:
        if um_per_px is None:
            raise
        return um_per_px, [f"pixel size {um_per_px:g} um stated by the caller, {error.found} by the file"]
    for file, size in zip(files, stated, strict=True):
        if abs(size / stated[0] - 1) > 1e-3:
            raise InputError(f"a pixel size that differs from that of {files[0].path.name}", "the same pixel size", file.path)
    if um_per_px is None:
        return stated[0], []
    if abs(um_per_px / stated[0] - 1) <= 0.01:
        return um_per_px, []
    return um_per_px, [f"pixel size {um_per_px:g} um stated by the caller, {stated[0]:g} um by the file"]


def _check_geometry(file: DicomFile, first: DicomFile) -> None:
    """Both Raman shifts of a case lie on the same pixels."""

    def origin(header: Dataset) -> list[float]:
        items = header.get("TotalPixelMatrixOriginSequence") or [Dataset()]
        offsets = [items[0].get(f"{axis}OffsetInSlideCoordinateSystem") or 0 for axis in "XY"]
        return [float(offset) for offset in offsets] + [float(c) for c in header.get("ImageOrientationSlide") or []]

    if not np.allclose(origin(file.header), origin(first.header), atol=1e-4):
        raise InputError(
            f"an origin or orientation that differs from that of {first.path.name}",
            "the same origin and orientation",
            file.path,
        )


def _file_notes(header: Dataset) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if header.get("LossyImageCompression") == "01":
        notes += ("lossy compression",)
    comments = str(header.get("ImageComments") or "")
    if comments.startswith(NOTES_PREFIX):
        notes += tuple(comments.removeprefix(NOTES_PREFIX).split("; "))
    return notes


def _z_um(header: Dataset) -> float | None:
    """Z Offset in Slide Coordinate System of the frames, which all have one, or of their matrix; else Slice Location."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in (header.get(groups) or [])[:1]:
            for position in group.get("PlanePositionSlideSequence") or []:
                if "ZOffsetInSlideCoordinateSystem" in position:
                    return float(position.ZOffsetInSlideCoordinateSystem)
    for origin in header.get("TotalPixelMatrixOriginSequence") or []:
        if "ZOffsetInSlideCoordinateSystem" in origin:
            return float(origin.ZOffsetInSlideCoordinateSystem)
    location_mm = header.get("SliceLocation")
    return None if location_mm is None else float(f"{1000 * float(location_mm):.9g}")


def _identity(path: Path, headers: list[Dataset]) -> Identity:
    header = headers[0]
    z_um = tuple(_z_um(each) for each in headers)
    for each in headers:
        each.pop("PerFrameFunctionalGroupsSequence", None)
        each.pop("ExtendedOffsetTable", None)
        each.pop("ExtendedOffsetTableLengths", None)
    specimens: Any = header.get("SpecimenDescriptionSequence") or [Dataset()]
    return Identity(
        patient_id=str(header.get("PatientID") or ""),
        specimen_id=str(specimens[0].get("SpecimenIdentifier") or header.get("ContainerIdentifier") or ""),
        study_uid=str(header.get("StudyInstanceUID") or ""),
        series_uid=str(header.get("SeriesInstanceUID") or ""),
        source=str(path),
        attributes={"headers": tuple(headers), "z_um": z_um},
    )
