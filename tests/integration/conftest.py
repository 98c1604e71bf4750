"""Slides of known counts, and the odd DICOM files that other vendors make of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from srh_clinic.integration import dicom_writer, write_wsi
from srh_clinic.slide import ArraySlide, Identity

TILE = 64


@pytest.fixture
def counts() -> np.ndarray:
    """Every pixel differs from its neighbours and both channels differ: a tile in the wrong place shows. No edge is a multiple
    of the tile."""
    y, x = np.mgrid[0:150, 0:230]
    return np.stack([y * 230 + x, 65535 - (y * 230 + x)]).astype(np.uint16)


@pytest.fixture
def slide(counts: np.ndarray) -> ArraySlide:
    return ArraySlide(counts, 0.47, Identity(patient_id="P1", specimen_id="S1"))


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Path]]:
    """``write_wsi`` with tiles of 64 px: 3 rows of 4 tiles for the slide above."""
    monkeypatch.setattr(dicom_writer, "FRAME_PX", TILE)
    return write_wsi


@pytest.fixture
def edit() -> Callable[..., Path]:
    """Change attributes of a file in place; a callable gets the data set instead."""

    def edit(path: Path, change: Callable[[Dataset], None] | None = None, **attributes: object) -> Path:
        header = pydicom.dcmread(path)
        for keyword, value in attributes.items():
            setattr(header, keyword, value)
        if change is not None:
            change(header)
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.save_as(path)
        return path

    return edit


@pytest.fixture
def make_sparse() -> Callable[..., Path]:
    """Rewrite a raw TILED_FULL file as TILED_SPARSE, its frames in random order, without those in ``left_out``."""

    def make_sparse(path: Path, left_out: frozenset[int] = frozenset()) -> Path:
        header = pydicom.dcmread(path)
        assert header.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        frames = np.frombuffer(header.PixelData, "<u2").reshape(-1, header.Rows, header.Columns)
        across = -(-header.TotalPixelMatrixColumns // header.Columns)
        per_path = len(frames) // len(header.OpticalPathSequence)
        order = [i for i in np.random.default_rng(3).permutation(len(frames)).tolist() if i not in left_out]
        header.PerFrameFunctionalGroupsSequence = []
        for i in order:
            position, path_item, group = Dataset(), Dataset(), Dataset()
            position.RowPositionInTotalImagePixelMatrix = i % per_path // across * header.Rows + 1
            position.ColumnPositionInTotalImagePixelMatrix = i % across * header.Columns + 1
            path_item.OpticalPathIdentifier = header.OpticalPathSequence[i // per_path].OpticalPathIdentifier
            group.PlanePositionSlideSequence, group.OpticalPathIdentificationSequence = [position], [path_item]
            header.PerFrameFunctionalGroupsSequence.append(group)
        header.DimensionOrganizationType = "TILED_SPARSE"
        header.NumberOfFrames = len(order)
        header.PixelData = frames[order].tobytes()
        header.save_as(path)
        return path

    return make_sparse


@pytest.fixture
def split_in_two() -> Callable[[Path], list[Path]]:
    """Divide a raw file into a concatenation of two instances; the original is removed."""

    def split_in_two(path: Path) -> list[Path]:
        whole = pydicom.dcmread(path)
        n_frames, frame_bytes = int(whole.NumberOfFrames), whole.Rows * whole.Columns * 2
        parts, uid = [], generate_uid()
        for number, frames in enumerate((range(n_frames // 3), range(n_frames // 3, n_frames)), start=1):
            part = copy.deepcopy(whole)
            part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            part.ConcatenationUID, part.SOPInstanceUIDOfConcatenationSource = uid, whole.SOPInstanceUID
            part.InConcatenationNumber, part.ConcatenationFrameOffsetNumber = number, frames.start
            part.NumberOfFrames = len(frames)
            if "PerFrameFunctionalGroupsSequence" in whole:
                groups = whole.PerFrameFunctionalGroupsSequence[frames.start : frames.stop]
                part.PerFrameFunctionalGroupsSequence, part.InConcatenationTotalNumber = groups, 2
            part.PixelData = whole.PixelData[frames.start * frame_bytes : frames.stop * frame_bytes]
            parts.append(path.with_name(f"{path.stem}-{number}.dcm"))
            part.save_as(parts[-1])
        path.unlink()
        return parts

    return split_in_two
