"""Where each frame of a whole slide image lies: in which channel, at which place, in which focal plane (PS3.3 C.7.6.17.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from srh_clinic.errors import InputError
from srh_clinic.integration.dicom_file import DicomFile, number_of, value_of
from srh_clinic.integration.dicom_positions import position_notes


@dataclass(frozen=True)
class FrameTable:
    """Of every frame of a file, ``(N,)`` each: its optical path (the place in the Optical Path Sequence), top and left in px,
    focal plane (from 0; -1 when its order among the frames of one place says it) and depth in um (NaN when not stated);
    ``in_order`` when there is one at each place and plane by construction; ``notes`` are what a result says of them."""

    path: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    plane: NDArray[np.int64]
    z_um: NDArray[np.float64]
    in_order: bool = False
    notes: tuple[str, ...] = ()

    def of(self, frames: NDArray[np.intp]) -> FrameTable:
        """The table of some of the frames."""
        arrays = {name: getattr(self, name)[frames] for name in ("path", "top", "left", "plane", "z_um")}
        return replace(self, **arrays)


def is_sparse(file: DicomFile) -> bool:
    """Whether positions of frames are stated frame by frame rather than by order."""
    return value_of(file.header, "DimensionOrganizationType") != "TILED_FULL" and (
        bool(value_of(file.header, "PerFrameFunctionalGroupsSequence")) or _is_one_placed_tile(file.header)
    )


def frame_table(file: DicomFile, n_frames: int, frame_shape: tuple[int, int], shape: tuple[int, int]) -> FrameTable:
    """Where each frame lies, for TILED_FULL by order, otherwise by Plane Position (Slide).

    Raises
    ------
    InputError
        When frames are too many or too few, without position, outside the matrix, or where the order says another place than
        the positions do.
    """
    identifiers = [str(value_of(item, "OpticalPathIdentifier")) for item in file.required("OpticalPathSequence")]
    organization = value_of(file.header, "DimensionOrganizationType") or "TILED_FULL"
    has_groups = bool(value_of(file.header, "PerFrameFunctionalGroupsSequence"))
    if is_sparse(file):
        return _by_position(file, n_frames, shape, identifiers)
    if organization != "TILED_FULL" and not has_groups:
        raise InputError(f"{organization} frames without per-frame groups", "a position for each frame", file.path)
    by_order = _by_order(file, n_frames, frame_shape, shape, len(identifiers))
    if has_groups:
        _check_paths(file, by_order, identifiers)
    if has_groups and any("PlanePositionSlideSequence" in group for group in file.header.PerFrameFunctionalGroupsSequence):
        stated = _by_position(file, n_frames, shape, identifiers)
        for name in ("path", "top", "left"):
            if (getattr(stated, name) != getattr(by_order, name)).any():
                frame = int(np.flatnonzero(getattr(stated, name) != getattr(by_order, name))[0]) + 1
                found = f"TILED_FULL frames whose per-frame positions say another order, first at frame {frame}"
                raise InputError(found, "one of both", file.path)
        z_um = np.where(np.isnan(stated.z_um), by_order.z_um, stated.z_um)
        return replace(by_order, z_um=z_um, notes=stated.notes)
    return by_order


def _check_paths(file: DicomFile, by_order: FrameTable, identifiers: list[str]) -> None:
    """Refuse TILED_FULL frames whose per-frame groups say other optical paths than their order, or are not as many."""
    groups = file.header.PerFrameFunctionalGroupsSequence
    if len(groups) != len(by_order.path):
        raise InputError(f"{len(groups)} per-frame groups for {len(by_order.path)} frames", "one for each frame", file.path)
    for i, group in enumerate(groups):
        for item in value_of(group, "OpticalPathIdentificationSequence") or []:
            if str(value_of(item, "OpticalPathIdentifier")) != identifiers[by_order.path[i]]:
                found = f"TILED_FULL frames whose per-frame optical paths say another order, first at frame {i + 1}"
                raise InputError(found, "one of both", file.path)


def _by_order(
    file: DicomFile, n_frames: int, frame_shape: tuple[int, int], shape: tuple[int, int], n_paths: int
) -> FrameTable:
    rows, columns = frame_shape
    n_planes = int(value_of(file.header, "TotalPixelMatrixFocalPlanes") or 1)
    per_plane = -(-shape[0] // rows) * -(-shape[1] // columns)
    whole = per_plane * n_planes * n_paths
    number = int(value_of(file.header, "ConcatenationFrameOffsetNumber") or 0) + np.arange(n_frames, dtype=np.int64)
    if n_planes < 1 or number[-1] >= whole or number[0] < 0 or ("ConcatenationUID" not in file.header and n_frames < whole):
        planes = f", several focal planes ({n_planes})" if n_planes != 1 else ""
        raise InputError(
            f"{n_frames} frames of {columns} x {rows} for {shape[1]} x {shape[0]} pixels and {n_paths} optical paths{planes}",
            f"{whole} frames",
            file.path,
        )
    tile = number % per_plane
    across = -(-shape[1] // columns)
    plane = number // per_plane % n_planes
    step_mm = _plane_step_mm(file.header) if n_planes > 1 else None
    z_um = np.full(n_frames, np.nan)
    if step_mm is not None:
        z_um[:] = _origin_z_um(file.header) + plane * step_mm * 1000
    top, left = tile // across * rows, tile % across * columns
    return FrameTable(number // (per_plane * n_planes), top, left, plane, z_um, in_order=True)


def _by_position(file: DicomFile, n_frames: int, shape: tuple[int, int], identifiers: list[str]) -> FrameTable:
    groups = value_of(file.header, "PerFrameFunctionalGroupsSequence") or [Dataset()]
    if len(groups) != n_frames:
        raise InputError(f"{len(groups)} per-frame groups for {n_frames} frames", "one for each frame", file.path)
    shared = (value_of(file.header, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    place = np.empty((3, n_frames), dtype=np.int64)
    on_slide = np.full((n_frames, 2), np.nan)
    known: dict[bytes, str] = {}
    z_um = np.full(n_frames, np.nan)
    for i, group in enumerate(groups):
        paths = value_of(group, "OpticalPathIdentificationSequence") or value_of(shared, "OpticalPathIdentificationSequence")
        identifier = _identifier(paths[0], known) if paths else identifiers[0] if len(identifiers) == 1 else None
        position = value_of(group, "PlanePositionSlideSequence") or value_of(shared, "PlanePositionSlideSequence")
        if identifier not in identifiers or not position:
            raise InputError(f"frame {i + 1} without a position or an optical path", "both for each frame", file.path)
        top = int(number_of(position[0], "RowPositionInTotalImagePixelMatrix")) - 1
        left = int(number_of(position[0], "ColumnPositionInTotalImagePixelMatrix")) - 1
        place[:, i] = identifiers.index(identifier), top, left
        on_slide[i] = [number_of(position[0], f"{axis}OffsetInSlideCoordinateSystem") for axis in "XY"]
        stated = value_of(position[0], "ZOffsetInSlideCoordinateSystem")
        z_um[i] = np.nan if stated is None or stated == "" else float(stated)
    if np.isfinite(z_um).any():
        z_um = np.nan_to_num(z_um, nan=0.0)
    outside = (place[1] < 0) | (place[2] < 0) | (place[1] >= shape[0]) | (place[2] >= shape[1])
    if outside.any():
        frame = int(np.flatnonzero(outside)[0]) + 1
        raise InputError(f"frame {frame} outside the total pixel matrix", "frames inside the matrix", file.path)
    notes = position_notes(file, place[1], place[2], on_slide)
    return FrameTable(place[0], place[1], place[2], np.full(n_frames, -1, dtype=np.int64), z_um, notes=notes)


def _identifier(item: Dataset, known: dict[bytes, str]) -> str:
    """The optical path that a frame names; ``known`` are those that were decoded before."""
    raw = item.get_item("OpticalPathIdentifier")
    if not isinstance(raw, RawDataElement) or not isinstance(raw.value, bytes):
        return str(item.OpticalPathIdentifier)
    if raw.value not in known:
        known[raw.value] = str(item.OpticalPathIdentifier)
    return known[raw.value]


def focal_planes(tables: list[FrameTable], what: str, path: Path) -> list[NDArray[np.int64]]:
    """Focal plane, from 0, of every frame of the parts of one channel: by order, or by depth among the frames of one place.

    A place may have its own depths: where the focus follows the tissue, each tile lies at its own.

    Raises
    ------
    InputError
        When two frames are in one place and plane, or places have different numbers of planes.
    """
    if not tables:
        return []
    if len(tables) == 1 and tables[0].in_order:
        return [tables[0].plane]
    top, left, plane, z_um = (
        np.concatenate([getattr(table, name) for table in tables]) for name in ("top", "left", "plane", "z_um")
    )
    order = np.lexsort((z_um, plane, left, top))
    top, left, plane, z_um = top[order], left[order], plane[order], z_um[order]
    new_place = np.append(True, (np.diff(top) != 0) | (np.diff(left) != 0))
    first = np.flatnonzero(new_place)
    counts = np.diff(np.append(first, len(top)))
    rank = np.arange(len(top)) - np.repeat(first, counts)
    same = ~new_place[1:] & (plane[1:] == plane[:-1]) & ~(np.diff(z_um) > 0) & ((plane[1:] < 0) | (np.diff(plane) == 0))
    if same.any():
        raise InputError(f"two frames at {what} at the same place", "one focal plane, with each frame once", path)
    if len(set(counts.tolist())) > 1:
        raise InputError(f"several focal planes at some places of {what} only", "as many everywhere", path)
    ranks = np.empty_like(rank)
    ranks[order] = rank
    ends = np.cumsum([len(table.top) for table in tables])[:-1]
    return list(np.split(ranks, ends))


def header_z_um(header: Dataset) -> float | None:
    """Z Offset in Slide Coordinate System of the frames, which all have one, or of their matrix; else Slice Location."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in (header.get(groups) or [])[:1]:
            for position in value_of(group, "PlanePositionSlideSequence") or []:
                z_um = value_of(position, "ZOffsetInSlideCoordinateSystem")
                if z_um is not None and z_um != "":
                    return float(z_um)
    for origin in value_of(header, "TotalPixelMatrixOriginSequence") or []:
        z_um = value_of(origin, "ZOffsetInSlideCoordinateSystem")
        if z_um is not None and z_um != "":
            return float(z_um)
    location_mm = value_of(header, "SliceLocation")
    return None if location_mm is None or location_mm == "" else float(f"{1000 * float(location_mm):.9g}")


def _origin_z_um(header: Dataset) -> float:
    items = value_of(header, "TotalPixelMatrixOriginSequence") or [Dataset()]
    return float(value_of(items[0], "ZOffsetInSlideCoordinateSystem") or 0.0)


def _plane_step_mm(header: Dataset) -> float | None:
    """Distance of focal planes: Spacing Between Slices of the Pixel Measures, in mm."""
    for group in value_of(header, "SharedFunctionalGroupsSequence") or []:
        for measures in value_of(group, "PixelMeasuresSequence") or []:
            step = value_of(measures, "SpacingBetweenSlices")
            if step is not None and step != "" and float(step) > 0:
                return float(step)
    return None


def _is_one_placed_tile(header: Dataset) -> bool:
    """Whether the only frame's position stands in the shared groups."""
    shared = (value_of(header, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    return int(value_of(header, "NumberOfFrames") or 1) == 1 and bool(
        value_of(header, "DimensionOrganizationType") and value_of(shared, "PlanePositionSlideSequence")
    )
