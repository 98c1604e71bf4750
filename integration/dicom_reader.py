"""A DICOM case as a lazy slide: the frames of both optical paths, wherever the case keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import (
    ChannelOption,
    ChannelOrder,
    ChannelStatement,
    answer,
    channel_in_words,
    channel_of_words,
    decide_channels,
)
from srh_clinic.integration.damage import told_as
from srh_clinic.integration.dicom_case import find_case, headers_of
from srh_clinic.integration.dicom_file import DicomFile, quiet_pydicom, value_of
from srh_clinic.integration.dicom_frames import DicomFrames, open_frames
from srh_clinic.integration.dicom_layout import FrameTable, focal_planes, frame_table, header_z_um, is_sparse
from srh_clinic.integration.dicom_pixel_size import pixel_size, stated_edges, volume_notes
from srh_clinic.integration.frames import MIN_COVERAGE, FrameCache, FramedSlide, Frames, check_extent, chosen_plane
from srh_clinic.integration.limits import limits
from srh_clinic.integration.optical_path import statement_of
from srh_clinic.integration.snapshot import content_of
from srh_clinic.intensity import RAMAN_SHIFTS
from srh_clinic.slide import Identity

NOTES_PREFIX = "srh-clinic: "
"""Starts the Image Comments in which a slide that we wrote carries its notes on."""

_OF_META = {"SOPInstanceUID": "MediaStorageSOPInstanceUID", "SOPClassUID": "MediaStorageSOPClassUID"}
_TOLD = 3  # files that were passed over, of which a message tells
_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"


class DicomSlide(FramedSlide):
    """A case of VL Whole Slide Microscopy images (PS3.3 A.32.8) as a slide.

    ``identity.attributes["headers"]`` holds the header data sets, without pixel data and per-frame groups, of the instances
    that the pixels come from, ``identity.attributes["z_um"]`` what they say of their depth,
    ``identity.attributes["edges_um"]`` the distance of rows and of columns that they state, and
    ``identity.attributes["optical_paths"]`` the items of both channels, CH2's first.
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
class _Path:
    """One optical path of a case: of one file, or of all parts of a concatenation."""

    name: str
    item: Dataset
    statement: ChannelStatement
    parts: tuple[tuple[DicomFile, int], ...]
    """Each file, and the path's place in its Optical Path Sequence."""


@dataclass
class _Channel:
    """The frames of one channel, file by file."""

    files: list[DicomFile] = field(default_factory=list)
    sources: list[DicomFrames] = field(default_factory=list)
    tables: list[FrameTable] = field(default_factory=list)
    index: list[NDArray[np.intp]] = field(default_factory=list)


def read_dicom(
    path: Path,
    um_per_px: float | None = None,
    full_scale: int | None = None,
    channels: ChannelOption | None = None,
    plane: int | None = None,
) -> DicomSlide:
    """Open a DICOM case: a file, one file of a series, or a folder. Pixels are decoded only by ``read``.

    Parameters
    ----------
    path
        A file or a folder.
    um_per_px
        Pixel edge in micrometres (default: Pixel Spacing of the file).
    full_scale
        Stored value at unit intensity 1 (default: what Bits Stored says).
    channels
        What the optical paths are, in the order of the files and of their sequences, see
        :func:`~srh_clinic.integration.channels.decide_channels` (default: what they say).
    plane
        Number of the focal plane, from 1, of a case that holds several.

    Raises
    ------
    InputError
        When the case is not one whole SRH slide with both Raman shifts.
    """
    return chosen_plane(read_dicom_planes(path, um_per_px, full_scale, channels), plane, path)


def read_dicom_planes(
    path: Path, um_per_px: float | None = None, full_scale: int | None = None, channels: ChannelOption | None = None
) -> list[tuple[float | None, DicomSlide]]:
    """Open a DICOM case with all its focal planes, from the slide's surface upwards, as :func:`read_dicom` opens one.

    Returns
    -------
    list of (float or None, DicomSlide)
        Depth in micrometres, ``None`` when it is not stated, and slide.

    Raises
    ------
    InputError
        As :func:`read_dicom`.
    """
    with told_as("a damaged DICOM header", "a whole VL Whole Slide Microscopy image", path), quiet_pydicom():
        files, unreadable = find_case(path)
        return _assemble(path, files, unreadable, um_per_px, full_scale, channels)


def read_dicom_files(
    files: list[Path],
    um_per_px: float | None = None,
    full_scale: int | None = None,
    channels: ChannelOption | None = None,
) -> list[tuple[float | None, DicomSlide]]:
    """Open the DICOM files that a caller names as one case, as :func:`read_dicom_planes`; nothing else is looked at.

    Raises
    ------
    InputError
        As :func:`read_dicom`.
    """
    with told_as("a damaged DICOM header", "a whole VL Whole Slide Microscopy image", files[0]), quiet_pydicom():
        return _assemble(files[0], headers_of(files), [], um_per_px, full_scale, channels)


def _assemble(
    path: Path,
    files: list[DicomFile],
    unreadable: list[str],
    um_per_px: float | None,
    full_scale: int | None,
    asked: ChannelOption | None,
) -> list[tuple[float | None, DicomSlide]]:
    shape = files[0].number("TotalPixelMatrixRows"), files[0].number("TotalPixelMatrixColumns")
    size, notes = pixel_size(files, um_per_px)
    check_extent(shape, size, path)
    _check_concatenations(files)
    for file in files:
        _check_frame_type(file)
    for file in files[1:]:
        _check_geometry(file, files[0])
    paths = _paths(files)
    order = _order(paths, asked, path, unreadable)
    both = [paths[place] for place in order.places]
    used = list({id(file): file for one in both for file, _ in one.parts}.values())
    sources = {file.path: open_frames(file, full_scale) for file in used}
    tables = {file.path: frame_table(file, len(source.spans), source.frame_shape, shape)
              for file, source in zip(used, sources.values(), strict=True)}  # fmt: skip
    sources = {path_: replace(source, within=_within(tables[path_], source, shape)) for path_, source in sources.items()}
    gathered = [_gather(one, sources, tables) for one in both]
    ranks = [focal_planes(one.tables, f"{shift} cm-1", path) for one, shift in zip(gathered, RAMAN_SHIFTS, strict=True)]
    n_planes = _n_planes(ranks, path)
    for channel in (0, 1):
        _check_whole(RAMAN_SHIFTS[channel], gathered[channel], shape, n_planes, path)
    _check_planes_stated(used, n_planes)
    notes += order.notes if notes else volume_notes(used, size, um_per_px) + order.notes
    notes += _holes(gathered, ranks)
    for file in used:
        notes += sources[file.path].depth.notes + tables[file.path].notes + _file_notes(file)
    identity = _identity(path, used, both, order)
    planes = []
    for plane in range(n_planes):
        ch2, ch3 = (_frames(one, of_channel, plane) for one, of_channel in zip(gathered, ranks, strict=True))
        slide = DicomSlide(
            shape=shape,
            um_per_px=size,
            identity=identity,
            stated=tuple(dict.fromkeys(notes)),
            planes=(ch2, ch3),
            cache=FrameCache(limits().cache_bytes // n_planes),
            opened=tuple((file.path, file.snapshot) for file in used),
            compare_bits=full_scale is None,
        )
        planes.append((_depth_um(gathered, ranks, plane, identity), slide))
    return planes


def _paths(files: list[DicomFile]) -> list[_Path]:
    """Every optical path of the case, in the order of the files and of their sequences."""
    paths: dict[tuple[str, str], _Path] = {}
    for file in files:
        items = file.required("OpticalPathSequence")
        stated = value_of(file.header, "NumberOfOpticalPaths")
        if items and stated not in (None, "") and int(stated) != len(items):
            found = f"NumberOfOpticalPaths {stated} over {len(items)} optical paths"
            raise InputError(found, "as many as are described", file.path)
        image = str(value_of(file.header, "ConcatenationUID") or file.required("SOPInstanceUID"))
        for at, item in enumerate(items):
            name = str(value_of(item, "OpticalPathIdentifier"))
            series = str(value_of(file.header, "SeriesDescription") or "")
            more = (series,) if len(items) == 1 and channel_in_words(series) is not None else ()
            own = statement_of(item)
            statement = own if channel_of_words(own.words) is not None else statement_of(item, *more)
            known = paths.get((image, name))
            parts = (*known.parts, (file, at)) if known else ((file, at),)
            if len(paths) > limits().channels:
                found = f"more than {limits().channels} optical paths"
                raise InputError(found, "at most as many, of which two are read", file.path)
            if known and known.parts[-1][0] is file:
                raise InputError(f"two optical paths {name!r}", "an identifier for each", file.path)
            paths[image, name] = _Path(name, item, statement, parts)
    return list(paths.values())


def _order(paths: list[_Path], asked: ChannelOption | None, path: Path, unreadable: list[str]) -> ChannelOrder:
    """Which paths are CH2 and CH3; what is missing is said in the words of a case."""
    statements = [one.statement for one in paths]
    if asked is not None:
        return decide_channels(statements, asked, path, in_order=False)
    named = [channel_of_words(statement.words) for statement in statements]
    for channel, shift in enumerate(RAMAN_SHIFTS):
        twice = [one for one, of in zip(paths, named, strict=True) if of == channel]
        if len(twice) > 1 and twice[0].parts[0][0] is twice[1].parts[0][0]:
            found = f"optical paths {', '.join(one.name for one in twice)} of one Raman shift"
            raise InputError(found, "one path for each Raman shift", twice[0].parts[0][0].path)
        if len(twice) > 1:
            names = " and ".join(one.parts[0][0].path.name for one in twice[:2])
            raise InputError(f"two images at {shift} cm-1 in one series ({names})", "one image of each Raman shift", path)
    if named.count(-1):
        names = ", ".join(repr(one.name) for one, of in zip(paths, named, strict=True) if of == -1)
        if not (0 in named and 1 in named):
            raise InputError(f"an optical path {names} that names both CH2 and CH3", answer(len(paths)), path)
    elif (0 in named) != (1 in named) and (len(paths) == 1 or unreadable):
        shifts = RAMAN_SHIFTS if 0 in named else RAMAN_SHIFTS[::-1]
        said = f"only the optical path at {shifts[0]} cm-1"
        found = f"{said} (and {'; '.join(unreadable[:_TOLD])})" if unreadable else said
        raise InputError(found, f"the one at {shifts[1]} cm-1 too, in the same file or as its sibling", path)
    elif 0 not in named and len(paths) < 2:
        found = "optical paths that name no Raman shift"
        found = f"{found} (and {'; '.join(unreadable[:_TOLD])})" if unreadable else found
        raise InputError(found, "2845 and 2930 cm-1", path)
    try:
        return decide_channels(statements, None, path, in_order=False)
    except InputError as error:
        if any(of is not None for of in named):
            raise
        said = " and ".join(map(str, statements))
        raise InputError(f"optical paths that name no Raman shift ({said})", error.needed, path) from error


def _within(table: FrameTable, source: DicomFrames, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Rows and columns of each frame that lie within the image."""
    rows, columns = source.frame_shape
    return np.stack([np.minimum(rows, shape[0] - table.top), np.minimum(columns, shape[1] - table.left)], axis=1)


def _gather(one: _Path, sources: dict[Path, DicomFrames], tables: dict[Path, FrameTable]) -> _Channel:
    channel = _Channel()
    for file, at in one.parts:
        index = np.flatnonzero(tables[file.path].path == at)
        if len(index):
            channel.files.append(file)
            channel.sources.append(sources[file.path])
            channel.tables.append(tables[file.path].of(index))
            channel.index.append(index)
    return channel


def _frames(channel: _Channel, ranks: list[NDArray[np.int64]], plane: int) -> tuple[Frames, ...]:
    """The frames of one focal plane."""
    parts = []
    for source, table, index, rank in zip(channel.sources, channel.tables, channel.index, ranks, strict=True):
        at = rank == plane
        if at.any():
            parts.append(Frames(source, index[at].astype(np.int64), table.top[at], table.left[at]))
    return tuple(parts)


def _n_planes(ranks: list[list[NDArray[np.int64]]], path: Path) -> int:
    counts = [max((int(rank.max(initial=0)) for rank in of_channel), default=0) + 1 for of_channel in ranks]
    if counts[0] != counts[1]:
        raise InputError(f"several focal planes, {counts[0]} of CH2 and {counts[1]} of CH3", "as many of both", path)
    return counts[0]


def _depth_um(gathered: list[_Channel], ranks: list[list[NDArray[np.int64]]], plane: int, identity: Identity) -> float | None:
    """Depth of a focal plane: the median of its frames', or what the headers say of the only one."""
    z_um = [
        table.z_um[rank == plane]
        for channel, of_channel in zip(gathered, ranks, strict=True)
        for table, rank in zip(channel.tables, of_channel, strict=True)
    ]
    stated = np.concatenate(z_um)
    if np.isfinite(stated).all():
        return float(f"{np.median(stated):.9g}")
    of_headers = set(identity.attributes["z_um"])
    n_planes = max(int(rank.max(initial=0)) for of_channel in ranks for rank in of_channel) + 1
    return of_headers.pop() if n_planes == 1 and len(of_headers) == 1 else None


def _check_whole(shift: int, channel: _Channel, shape: tuple[int, int], n_planes: int, path: Path) -> None:
    """Refuse a channel that is there in part."""
    if not channel.tables:
        raise InputError(f"no frame at {shift} cm-1", "frames of both Raman shifts", path)
    rows, columns = channel.sources[0].frame_shape
    n_frames = sum(len(index) for index in channel.index)
    if is_sparse(channel.files[0]):
        coverage = n_frames / n_planes * rows * columns / (shape[0] * shape[1])
        if coverage < MIN_COVERAGE:
            raise InputError(
                f"frames that cover {coverage:.2g} of {shape[1]} x {shape[0]} pixels", "a coverage of 0.01 or more", path
            )
    elif n_frames != n_planes * -(-shape[0] // rows) * -(-shape[1] // columns):
        raise InputError(f"{n_frames} frames at {shift} cm-1 of a concatenation", "all of its parts in one folder", path)


def _holes(gathered: list[_Channel], ranks: list[list[NDArray[np.int64]]]) -> tuple[str, ...]:
    """What a result must say of frames of one channel where the other has none, and reads 0."""
    ch2, ch3 = gathered
    if any(not is_sparse(file) for one in gathered for file in one.files):
        return ()
    if ch2.sources[0].frame_shape != ch3.sources[0].frame_shape:
        return ()
    places = [
        {
            place
            for table, rank in zip(one.tables, of_channel, strict=True)
            for place in zip(table.top.tolist(), table.left.tolist(), rank.tolist(), strict=True)
        }
        for one, of_channel in zip(gathered, ranks, strict=True)
    ]
    alone = sorted(places[0] ^ places[1])
    if not alone:
        return ()
    top, left, _ = alone[0]
    where = f"the first at row {top + 1}, column {left + 1}"
    return (f"frames of one Raman shift alone at {len(alone)} places, {where}; the other is 0 there",)


def _check_planes_stated(files: list[DicomFile], n_planes: int) -> None:
    for file in files:
        stated = int(value_of(file.header, "TotalPixelMatrixFocalPlanes") or 1)
        if stated > 1 and stated != n_planes:
            found = f"TotalPixelMatrixFocalPlanes {stated} over {n_planes} focal planes"
            raise InputError(found, "as many as it says", file.path)


def _check_concatenations(files: list[DicomFile]) -> None:
    """Refuse a concatenation (PS3.3 C.7.6.16.2.2.4) of which a part is missing, there twice, or without its place."""
    concatenations: dict[str, list[DicomFile]] = {}
    for file in files:
        if value_of(file.header, "ConcatenationUID"):
            concatenations.setdefault(str(file.header.ConcatenationUID), []).append(file)
    for parts in concatenations.values():
        parts.sort(key=lambda part: part.number("InConcatenationNumber"))
        first, last = parts[0], parts[-1]
        total = int(value_of(first.header, "InConcatenationTotalNumber") or last.number("InConcatenationNumber"))
        numbers = [part.number("InConcatenationNumber") for part in parts]
        if total > len(parts) + 1000 or numbers != list(range(1, total + 1)):
            found = f"part {', '.join(map(str, numbers))} of a concatenation of {total}"
            raise InputError(found, "all of its parts in one folder, each once", first.path)
        if not value_of(first.header, "InConcatenationTotalNumber") and is_sparse(first):
            raise InputError(
                "a sparse concatenation that does not state the number of its parts", "InConcatenationTotalNumber", first.path
            )
        n_before = 0
        for part in parts:
            if len(parts) > 1 and part.number("ConcatenationFrameOffsetNumber") != n_before:
                found = f"ConcatenationFrameOffsetNumber {part.header.ConcatenationFrameOffsetNumber} after {n_before} frames"
                raise InputError(found, "the parts of a concatenation without a gap", part.path)
            n_before += part.number("NumberOfFrames")


def _check_frame_type(file: DicomFile) -> None:
    """Refuse frames that are said to be of another flavour than their image (PS3.3 C.8.12.4.1.1, C.8.12.5.1)."""
    of_image = value_of(file.header, "ImageType") or []
    for group in value_of(file.header, "SharedFunctionalGroupsSequence") or []:
        for item in value_of(group, "WholeSlideMicroscopyImageFrameTypeSequence") or []:
            of_frames = value_of(item, "FrameType") or []
            if len(of_frames) > 2 and len(of_image) > 2 and str(of_frames[2]).strip() != str(of_image[2]).strip():
                found = f"an image of {of_image[2]} (ImageType) whose frames are {of_frames[2]} (FrameType)"
                raise InputError(found, "one of both", file.path)


def _check_geometry(file: DicomFile, first: DicomFile) -> None:
    """Both Raman shifts of a case lie on the same pixels."""

    def origin(header: Dataset) -> list[float]:
        items = value_of(header, "TotalPixelMatrixOriginSequence") or [Dataset()]
        offsets = [items[0].get(f"{axis}OffsetInSlideCoordinateSystem") or 0 for axis in "XY"]
        return [float(offset) for offset in offsets] + [float(c) for c in value_of(header, "ImageOrientationSlide") or []]

    one, two = origin(file.header), origin(first.header)
    if len(one) != len(two) or not np.allclose(one, two, atol=1e-4):
        raise InputError(
            f"an origin or orientation that differs from that of {first.path.name}",
            "the same origin and orientation",
            file.path,
        )
    shapes = [(each.number("TotalPixelMatrixRows"), each.number("TotalPixelMatrixColumns")) for each in (file, first)]
    if shapes[0] != shapes[1]:
        raise InputError(f"a size that differs from that of {first.path.name}", "the same size", file.path)


def _file_notes(file: DicomFile) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if value_of(file.header, "LossyImageCompression") == "01" or file.syntax == _NEAR_LOSSLESS:
        notes += ("lossy compression",)
    if value_of(file.header, "ExtendedDepthOfField") == "YES":
        notes += ("several focal planes fused into one (ExtendedDepthOfField)",)
    comments = str(value_of(file.header, "ImageComments") or "")
    meta = file.header.file_meta
    for keyword, of_meta in _OF_META.items():
        if meta.get(of_meta) and str(meta.get(of_meta)) != str(file.header.get(keyword)):
            notes += (f"a {keyword} of the data set that is not that of the file meta ({of_meta}); the data set's is taken",)
    if comments.startswith(NOTES_PREFIX):
        notes += tuple(comments.removeprefix(NOTES_PREFIX).split("; "))
    return notes


def _identity(path: Path, files: list[DicomFile], both: list[_Path], order: ChannelOrder) -> Identity:
    headers = [file.header for file in files]
    header = headers[0]
    z_um, edges = tuple(header_z_um(each) for each in headers), stated_edges(files[0])
    for each in headers:
        each.pop("PerFrameFunctionalGroupsSequence", None)
        each.pop("ExtendedOffsetTable", None)
        each.pop("ExtendedOffsetTableLengths", None)
    specimens: Any = value_of(header, "SpecimenDescriptionSequence") or [Dataset()]
    return Identity(
        patient_id=str(value_of(header, "PatientID") or ""),
        specimen_id=str(value_of(specimens[0], "SpecimenIdentifier") or value_of(header, "ContainerIdentifier") or ""),
        study_uid=str(value_of(header, "StudyInstanceUID") or ""),
        series_uid=str(value_of(header, "SeriesInstanceUID") or ""),
        source=str(path),
        channel_order=str(order),
        sop_uids=tuple(str(value_of(each, "SOPInstanceUID") or "") for each in headers),
        content=content_of([(file.path, file.snapshot) for file in files]),
        attributes={
            "headers": tuple(headers),
            "z_um": z_um,
            "edges_um": edges,
            "optical_paths": tuple(one.item for one in both),
        },
    )
