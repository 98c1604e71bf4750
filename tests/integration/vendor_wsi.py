"""A small whole slide image of two Raman shifts as another vendor may write it: by pydicom alone, no code of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid

TILE = 64
TEXTS = ("SRS 2845 cm-1", "SRS 2930 cm-1")


def path_item(identifier: str, text: str = "", wavelength: float | None = None) -> Dataset:
    """An item of the Optical Path Sequence."""
    item = Dataset()
    item.OpticalPathIdentifier = identifier
    if text:
        item.OpticalPathDescription = text
    if wavelength is not None:
        item.IlluminationWaveLength = wavelength
    return item


def tiles(image: np.ndarray) -> list[np.ndarray]:
    """Tiles of ``(H, W)``, row by row, the last ones filled up with 0."""
    height, width = image.shape
    padded = np.zeros((-(-height // TILE) * TILE, -(-width // TILE) * TILE), image.dtype)
    padded[:height, :width] = image
    return [padded[y : y + TILE, x : x + TILE] for y in range(0, height, TILE) for x in range(0, width, TILE)]


def vendor_wsi(image: np.ndarray, items: list[Dataset] | None = None, *, um: float = 0.47, sparse: bool = False) -> Dataset:
    """The data set of an image ``(C, H, W)``, one optical path a channel, raw, TILED_FULL or TILED_SPARSE."""
    n, height, width = image.shape
    items = items or [path_item(str(number + 1), text) for number, text in enumerate(TEXTS[:n])]
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    header.SOPInstanceUID = generate_uid()
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    header.PatientID, header.ContainerIdentifier, header.Modality = "TEST", "C1", "SM"
    header.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    header.Rows = header.Columns = TILE
    header.TotalPixelMatrixRows, header.TotalPixelMatrixColumns = height, width
    header.ImagedVolumeWidth, header.ImagedVolumeHeight = width * um / 1000, height * um / 1000
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    header.PresentationLUTShape, header.RescaleIntercept, header.RescaleSlope = "IDENTITY", 0, 1
    header.LossyImageCompression = "00"
    header.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 10.0, 20.0
    header.TotalPixelMatrixOriginSequence = [origin]
    header.OpticalPathSequence, header.NumberOfOpticalPaths = items, len(items)
    measures, groups = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [um / 1000] * 2, 0.001
    groups.PixelMeasuresSequence = [measures]
    header.SharedFunctionalGroupsSequence = [groups]
    frames = [tile for channel in image for tile in tiles(channel)]
    header.NumberOfFrames = len(frames)
    header.DimensionOrganizationType = "TILED_SPARSE" if sparse else "TILED_FULL"
    if sparse:
        header.PerFrameFunctionalGroupsSequence = positions(items, height, width)
    put_frames(header, frames)
    return header


def positions(items: list[Dataset], height: int, width: int) -> list[Dataset]:
    """Per-frame groups, optical path by optical path."""
    groups = []
    for item in items:
        for y in range(0, height, TILE):
            for x in range(0, width, TILE):
                group, position, of_path = Dataset(), Dataset(), Dataset()
                position.RowPositionInTotalImagePixelMatrix = y + 1
                position.ColumnPositionInTotalImagePixelMatrix = x + 1
                position.ZOffsetInSlideCoordinateSystem = 0.0
                of_path.OpticalPathIdentifier = item.OpticalPathIdentifier
                group.PlanePositionSlideSequence, group.OpticalPathIdentificationSequence = [position], [of_path]
                groups.append(group)
    return groups


def put_frames(header: Dataset, frames: list[np.ndarray]) -> None:
    """Raw pixel data of some frames."""
    header.NumberOfFrames = len(frames)
    header.PixelData = np.stack(frames).astype("<u2").tobytes()
    header["PixelData"].VR = "OW"


def frames_of(header: Dataset) -> np.ndarray:
    """The raw frames of a data set, ``(N, rows, columns)``."""
    return np.frombuffer(header.PixelData, "<u2").reshape(-1, header.Rows, header.Columns)


def save(header: Dataset, path: Path) -> Path:
    """Write the data set as a file."""
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    pydicom.dcmwrite(path, header, enforce_file_format=True)
    return path


def by_pydicom(path: Path, *, order: tuple[int, int] = (0, 1)) -> np.ndarray:
    """What pydicom decodes of a TILED_FULL file of two paths, put together by its own order of frames."""
    header = pydicom.dcmread(path)
    return mosaic(header.pixel_array.reshape(-1, header.Rows, header.Columns), header)[list(order)]


def mosaic(frames: np.ndarray, header: Dataset) -> np.ndarray:
    """Frames of a TILED_FULL file side by side, ``(C, H, W)``."""
    height, width = header.TotalPixelMatrixRows, header.TotalPixelMatrixColumns
    down, across = -(-height // header.Rows), -(-width // header.Columns)
    grid = frames.reshape(-1, down, across, header.Rows, header.Columns).swapaxes(2, 3)
    return grid.reshape(-1, down * header.Rows, across * header.Columns)[:, :height, :width]
