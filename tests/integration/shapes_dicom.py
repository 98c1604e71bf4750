"""Shapes of DICOM whole slide images: what each is read as, or why it is not."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, get_encoder
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from shape import Done, Made, Shape, counts
from vendor_wsi import by_pydicom, frames_of, mosaic, path_item, put_frames, save, vendor_wsi

C = counts()
SHAPES: list[Shape] = []


def shape(name: str, title: str, done: Done, says: str = "", z_stack: bool = False) -> Callable[..., Any]:
    def keep(make: Callable[[Path], Made]) -> Callable[[Path], Made]:
        SHAPES.append(Shape(name, title, done, make, says, z_stack))
        return make

    return keep


def plain(folder: Path, change: Callable[[Dataset], None], right: np.ndarray = C, **options: Any) -> Made:
    """The slide after a change of its header that leaves the pixels where they are."""
    header = vendor_wsi(C)
    change(header)
    path = save(header, folder / "a.dcm")
    return Made(path, right, by_pydicom(path), options)


@shape("two-paths", "both optical paths in one instance", "read")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: None)


@shape("paths-swapped", "CH3 is the first optical path", "read")
def _(folder: Path) -> Made:
    path = save(vendor_wsi(C[::-1], [path_item("1", "SRS CH-3"), path_item("2", "SRS CH-2")]), folder / "a.dcm")
    return Made(path, C, by_pydicom(path, order=(1, 0)))


@shape("pump-797", "wavelengths alone, of a 797 nm pump (1030.7, 1039.8 nm)", "read")
def _(folder: Path) -> Made:
    path = save(vendor_wsi(C[::-1], [path_item("1", "", 1039.8), path_item("2", "", 1030.7)]), folder / "a.dcm")
    return Made(path, C, by_pydicom(path, order=(1, 0)))


@shape("words-before-wavelength", "words, and wavelengths of another pump than ours", "read")
def _(folder: Path) -> Made:
    items = [path_item("1", "lipid", 1030.7), path_item("2", "protein", 1039.8)]
    path = save(vendor_wsi(C, items), folder / "a.dcm")
    return Made(path, C, by_pydicom(path))


@shape("wavelengths-of-two-pumps", "wavelengths alone that fit no one pump", "asked", "--channels")
def _(folder: Path) -> Made:
    return Made(save(vendor_wsi(C, [path_item("1", "", 1019.03), path_item("2", "", 1030.7)]), folder / "a.dcm"))


@shape("words-against-wavelengths", "words and wavelengths that say the opposite", "asked", "disagree.*--channels")
def _(folder: Path) -> Made:
    items = [path_item("1", "CH2", 1027.94), path_item("2", "CH3", 1019.03)]
    return Made(save(vendor_wsi(C, items), folder / "a.dcm"))


@shape("path-answered", "optical paths that name nothing, with --channels 2,1", "read")
def _(folder: Path) -> Made:
    path = save(vendor_wsi(C[::-1], [path_item("A"), path_item("B")]), folder / "a.dcm")
    return Made(path, C, by_pydicom(path, order=(1, 0)), {"channels": "2,1"})


@shape("three-paths", "three optical paths, of which two are meant", "read")
def _(folder: Path) -> Made:
    items = [path_item("1", "SHG"), path_item("2", "2845"), path_item("3", "2930")]
    path = save(vendor_wsi(np.concatenate([C[:1] // 2, C]), items), folder / "a.dcm")
    return Made(path, C, by_pydicom(path, order=(1, 2)))


# what changes values


@shape("rescale-empty", "rescale elements that are there but empty", "read")
def _(folder: Path) -> Made:
    def empty(header: Dataset) -> None:
        header.RescaleSlope = header.RescaleIntercept = None

    return plain(folder, empty)


@shape("rescale", "a rescale slope", "refused", "rescale slope")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "RescaleSlope", 2))


@shape("modality-lut", "a Modality LUT Sequence", "refused", "Modality LUT")
def _(folder: Path) -> Made:
    def table(header: Dataset) -> None:
        item = Dataset()
        item.add_new(0x00283002, "US", [0, 0, 16])
        item.ModalityLUTType = "US"
        item.add_new(0x00283006, "OW", np.arange(65536)[::-1].astype("<u2").tobytes())
        header.add_new(0x00283000, "SQ", [item])
        del header.RescaleSlope, header.RescaleIntercept

    made = plain(folder, table)
    assert (
        apply_modality_lut(pydicom.dcmread(made.path).pixel_array, pydicom.dcmread(made.path))[0, 0, 0] == 65535 - C[0, 0, 0]
    )
    return made


@shape("monochrome1", "MONOCHROME1", "refused", "dark means bright")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "PhotometricInterpretation", "MONOCHROME1"))


@shape("lut-shape-inverse", "a Presentation LUT Shape of INVERSE", "refused", "dark means bright")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "PresentationLUTShape", "INVERSE"))


@shape("signed", "signed pixels", "refused", "signed pixels")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "PixelRepresentation", 1))


def padded(folder: Path, change: Callable[[Dataset], None], low: int, high: int) -> Made:
    image = C.copy()
    image[:, :40, :40], image[:, 5, 5], image[:, 6, 6] = high, low, (low + high) // 2
    header = vendor_wsi(image)
    change(header)
    path = save(header, folder / "a.dcm")
    other = by_pydicom(path)
    right, seen = (np.where((each >= low) & (each <= high), 0, each).astype(np.uint16) for each in (image, other))
    return Made(path, right, seen)


@shape("padding-us", "a Pixel Padding Value", "read")
def _(folder: Path) -> Made:
    return padded(folder, lambda header: header.add_new(0x00280120, "US", 65535), 65535, 65535)


@shape("padding-ss", "a Pixel Padding Value encoded as signed over unsigned pixels", "read")
def _(folder: Path) -> Made:
    return padded(folder, lambda header: header.add_new(0x00280120, "SS", -1), 65535, 65535)


@shape("padding-range", "a Pixel Padding Range Limit", "read")
def _(folder: Path) -> Made:
    def limits(header: Dataset) -> None:
        header.add_new(0x00280120, "US", 65535)
        header.add_new(0x00280121, "US", 63990)

    return padded(folder, limits, 63990, 65535)


@shape("12-bits", "12 bits stored", "noted", "x16")
def _(folder: Path) -> Made:
    header = vendor_wsi(C // 16)
    header.BitsStored, header.HighBit = 12, 11
    path = save(header, folder / "a.dcm")
    return Made(path, C // 16 * 16, by_pydicom(path) * 16)


@shape("bits-above", "something else above the 12 bits stored", "noted", "above the 12 bits")
def _(folder: Path) -> Made:
    header = vendor_wsi(C // 16)
    header.BitsStored, header.HighBit = 12, 11
    put_frames(header, list(frames_of(header) | 0x5000))
    path = save(header, folder / "a.dcm")
    return Made(path, C // 16 * 16, (by_pydicom(path) & 0xFFF) * 16)


@shape("12-bits-as-16", "values below 4096 where 16 bits are stated", "noted", "no value above 4095")
def _(folder: Path) -> Made:
    path = save(vendor_wsi(C // 16), folder / "a.dcm")
    return Made(path, C // 16, by_pydicom(path))


@shape("high-bit", "12 bits at the top of 16", "refused", "HighBit")
def _(folder: Path) -> Made:
    def top(header: Dataset) -> None:
        header.BitsStored, header.HighBit = 12, 15

    return plain(folder, top)


# two statements


@shape("spacing-against-volume", "Pixel Spacing and imaged volume state two sizes", "refused", "two pixel sizes")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "ImagedVolumeWidth", 0.2))


@shape("spacing-per-frame", "shared and per-frame groups state two sizes", "refused", "two pixel sizes")
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    measures = Dataset()
    measures.PixelSpacing = [0.00025, 0.00025]
    for group in header.PerFrameFunctionalGroupsSequence:
        group.PixelMeasuresSequence = [measures]
    return Made(save(header, folder / "a.dcm"))


@shape("spacing-of-caller", "--um-per-px that contradicts the file", "noted", "stated by the caller")
def _(folder: Path) -> Made:
    made = plain(folder, lambda header: None, um_per_px=0.35)
    return Made(made.path, made.right, made.other, made.options, um_per_px=0.35)


@shape("tiled-full-contradicted", "TILED_FULL over positions that say another order", "refused", "another order")
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    n = int(header.NumberOfFrames)
    order = [i // 2 + i % 2 * (n // 2) for i in range(n)]
    header.PerFrameFunctionalGroupsSequence = [header.PerFrameFunctionalGroupsSequence[i] for i in order]
    put_frames(header, [frames_of(header)[i] for i in order])
    header.DimensionOrganizationType = "TILED_FULL"
    return Made(save(header, folder / "a.dcm"))


@shape("tiled-full-agreed", "TILED_FULL with positions that say the same", "read")
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    header.DimensionOrganizationType = "TILED_FULL"
    path = save(header, folder / "a.dcm")
    return Made(path, C, by_pydicom(path))


def with_syntax(folder: Path, header: Dataset, uid: bytes | None) -> Path:
    """Save, then replace the Transfer Syntax UID of the file meta, or take it out."""
    path = save(header, folder / "a.dcm")
    content = path.read_bytes()
    at = content.index(b"\x02\x00\x10\x00UI")
    length = 8 + int.from_bytes(content[at + 6 : at + 8], "little")
    element = b"" if uid is None else b"\x02\x00\x10\x00UI" + len(uid).to_bytes(2, "little") + uid
    group = int.from_bytes(content[140:144], "little") - length + len(element)
    path.write_bytes(content[:140] + group.to_bytes(4, "little") + content[144:at] + element + content[at + length :])
    return path


def raw_by_pydicom(path: Path) -> np.ndarray:
    header = pydicom.dcmread(path)
    return mosaic(frames_of(header), header)


@shape("no-transfer-syntax", "file meta without Transfer Syntax UID", "read")
def _(folder: Path) -> Made:
    path = with_syntax(folder, vendor_wsi(C), None)
    return Made(path, C, raw_by_pydicom(path))


@shape("implicit-stated", "file meta say implicit, the data set is explicit", "read")
def _(folder: Path) -> Made:
    path = with_syntax(folder, vendor_wsi(C), b"1.2.840.10008.1.2\0")
    return Made(path, C, raw_by_pydicom(path))


@shape("explicit-stated", "file meta say explicit, the data set is implicit", "read")
def _(folder: Path) -> Made:
    header = vendor_wsi(C)
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    path = with_syntax(folder, header, b"1.2.840.10008.1.2.1\0")
    return Made(path, C, raw_by_pydicom(path))


def encoded(header: Dataset, syntax: str = JPEGLSLossless) -> list[bytes]:
    about = {"rows": 64, "columns": 64, "number_of_frames": 1, "samples_per_pixel": 1, "bits_allocated": 16, "bits_stored": 16}
    about |= {"pixel_representation": 0, "photometric_interpretation": "MONOCHROME2"}
    encoder = get_encoder(syntax)
    return [encoder.encode(np.ascontiguousarray(frame), **about) for frame in frames_of(header)]


def compressed(header: Dataset, data: bytes, syntax: str = JPEGLSLossless) -> Dataset:
    header.file_meta.TransferSyntaxUID = syntax
    header.PixelData = data
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    return header


@shape(
    "other-codec", "JPEG 2000 frames under the transfer syntax of JPEG-LS", "refused", "JPEG 2000 under the transfer syntax"
)
def _(folder: Path) -> Made:
    header = vendor_wsi(C)
    return Made(save(compressed(header, encapsulate(encoded(header, JPEG2000Lossless))), folder / "a.dcm"))


@shape("raw-under-codec", "compressed pixel data under a raw transfer syntax", "refused", "compressed pixel data")
def _(folder: Path) -> Made:
    header = vendor_wsi(C)
    path = save(compressed(header, encapsulate(encoded(header))), folder / "a.dcm")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.1\0\0\0"))
    return Made(path)


@shape("frame-of-other-size", "a frame whose codestream says another size than the header", "refused", "as the header says")
def _(folder: Path) -> Made:
    header = vendor_wsi(C)
    frames = encoded(header)
    small = np.ascontiguousarray(frames_of(header)[0][:32])
    about = {"rows": 32, "columns": 64, "number_of_frames": 1, "samples_per_pixel": 1, "bits_allocated": 16, "bits_stored": 16}
    frames[0] = get_encoder(JPEGLSLossless).encode(
        small, **about, pixel_representation=0, photometric_interpretation="MONOCHROME2"
    )
    return Made(save(compressed(header, encapsulate(frames)), folder / "a.dcm"))


# offset tables


def tables(folder: Path, change: Callable[[Dataset, list[bytes]], bytes], syntax: str = JPEGLSLossless) -> Made:
    header = vendor_wsi(C)
    frames = encoded(header, syntax)
    path = save(compressed(header, change(header, frames), syntax), folder / "a.dcm")
    other = vendor_wsi(C)
    return Made(path, C, by_pydicom(save(compressed(other, encapsulate(encoded(other, syntax)), syntax), folder / "whole")))


@shape("extended-table-2-4", "the extended table of pydicom 2.4, which leaves out the padding of odd frames", "read")
def _(folder: Path) -> Made:
    def change(header: Dataset, frames: list[bytes]) -> bytes:
        lengths = np.array([len(frame) for frame in frames])
        header.ExtendedOffsetTable = np.concatenate([[0], np.cumsum(lengths + 8)[:-1]]).astype("<u8").tobytes()
        header.ExtendedOffsetTableLengths = lengths.astype("<u8").tobytes()
        return encapsulate(frames, has_bot=False)

    made = tables(folder, change)
    (folder / "whole").unlink()
    return made


@shape("extended-table-empty", "an extended table that is there but empty", "read")
def _(folder: Path) -> Made:
    def change(header: Dataset, frames: list[bytes]) -> bytes:
        header.ExtendedOffsetTable = header.ExtendedOffsetTableLengths = b""
        return encapsulate(frames)

    made = tables(folder, change)
    (folder / "whole").unlink()
    return made


@shape("basic-table-off", "a basic table that is off by 8", "read")
def _(folder: Path) -> Made:
    def change(header: Dataset, frames: list[bytes]) -> bytes:
        raw, n = encapsulate(frames), len(frames)
        wrong = [offset + 8 for offset in struct.unpack(f"<{n}L", raw[8 : 8 + 4 * n])]
        return raw[:8] + struct.pack(f"<{n}L", *wrong) + raw[8 + 4 * n :]

    made = tables(folder, change)
    (folder / "whole").unlink()
    return made


for _syntax, _name in ((JPEGLSLossless, "jpeg-ls"), (JPEG2000Lossless, "jpeg-2000")):

    @shape(f"fragments-{_name}", f"several fragments a frame without a table, {_name}", "read")
    def _(folder: Path, syntax: str = _syntax) -> Made:
        made = tables(folder, lambda header, frames: encapsulate(frames, fragments_per_frame=3, has_bot=False), syntax)
        (folder / "whole").unlink()
        return made


@shape("fragments-rle", "RLE", "read")
def _(folder: Path) -> Made:
    made = tables(folder, lambda header, frames: encapsulate(frames), RLELossless)
    (folder / "whole").unlink()
    return made


# focal planes and places


@shape("focus-map", "each tile at its own height", "read")
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    for number, group in enumerate(header.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSlideSequence[0].ZOffsetInSlideCoordinateSystem = number % 6 * 0.5
    path = save(header, folder / "a.dcm")
    return Made(path, C, raw_by_pydicom(path))


@shape("shifts-at-two-heights", "each Raman shift at its own height", "read")
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    for number, group in enumerate(header.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSlideSequence[0].ZOffsetInSlideCoordinateSystem = 0.4 * (number >= 6)
    path = save(header, folder / "a.dcm")
    return Made(path, C, raw_by_pydicom(path))


@shape("position-shared", "an instance of one tile whose position stands in the shared groups", "read")
def _(folder: Path) -> Made:
    small = counts(64, 64)
    for number in (0, 1):
        header = vendor_wsi(small[number : number + 1], [path_item("1", f"SRS {(2845, 2930)[number]}")], sparse=True)
        (group,) = header.PerFrameFunctionalGroupsSequence
        header.SharedFunctionalGroupsSequence[0].PlanePositionSlideSequence = group.PlanePositionSlideSequence
        del header.PerFrameFunctionalGroupsSequence
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
        save(header, folder / f"{number}.dcm")
    other = np.stack([highdicom.imread(folder / f"{number}.dcm").get_stored_frame(1) for number in (0, 1)])
    return Made(folder, small, other)


def planes_in_one(header: Dataset) -> Dataset:
    """The same with a second focal plane of half the values, 2 um higher: optical path by optical path, plane by plane."""
    frames = frames_of(header)
    half = len(frames) // 2
    put_frames(header, [*frames[:half], *frames[:half] // 2, *frames[half:], *frames[half:] // 2])
    header.TotalPixelMatrixFocalPlanes = 2
    header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 0.002
    return header


@shape("focal-planes", "several focal planes in one instance", "asked", "several focal planes.*--plane")
def _(folder: Path) -> Made:
    return Made(save(planes_in_one(vendor_wsi(C)), folder / "a.dcm"))


@shape("focal-plane-chosen", "the same with --plane 2", "noted", "focal plane 2 of 2")
def _(folder: Path) -> Made:
    path = save(planes_in_one(vendor_wsi(C)), folder / "a.dcm")
    other = mosaic(pydicom.dcmread(path).pixel_array, pydicom.dcmread(path))[[1, 3]]
    return Made(path, C // 2, other, {"plane": 2})


@shape("focal-planes-stack", "the same as a z-stack", "read", z_stack=True)
def _(folder: Path) -> Made:
    path = save(planes_in_one(vendor_wsi(C)), folder / "a.dcm")
    other = mosaic(pydicom.dcmread(path).pixel_array, pydicom.dcmread(path))[[0, 2, 1, 3]]
    return Made(path, np.stack([C, C // 2]), other.reshape(2, *C.shape))


@shape("focal-planes-sparse", "several focal planes by positions of frames, as a z-stack", "read", z_stack=True)
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    above = copy.deepcopy(list(header.PerFrameFunctionalGroupsSequence))
    for group in above:
        group.PlanePositionSlideSequence[0].ZOffsetInSlideCoordinateSystem = 2.0
    header.PerFrameFunctionalGroupsSequence = [*above, *header.PerFrameFunctionalGroupsSequence]
    frames = frames_of(header)
    put_frames(header, [*frames // 2, *frames])
    path = save(header, folder / "a.dcm")
    stored = mosaic(frames_of(pydicom.dcmread(path)), header)
    return Made(path, np.stack([C, C // 2]), np.stack([stored[2:], stored[:2]]))


# damage and limits


@shape("deflated", "a deflated data set, which is not inflated", "refused", "deflated")
def _(folder: Path) -> Made:
    header = vendor_wsi(C)
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    path = folder / "a.dcm"
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    pydicom.dcmwrite(path, header, enforce_file_format=True)
    return Made(path)


@shape("frames-that-cannot-be-there", "more frames than the file has bytes for", "refused", "truncated")
def _(folder: Path) -> Made:
    header = vendor_wsi(C)
    header.NumberOfFrames = 10**8
    return Made(save(header, folder / "a.dcm"))


@shape("paths-miscounted", "NumberOfOpticalPaths that is not their number", "refused", "NumberOfOpticalPaths")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "NumberOfOpticalPaths", 3))


# what else is stated twice, or lies elsewhere


@shape("word-and-wavelength", "one path named by words, the other by its wavelength", "read")
def _(folder: Path) -> Made:
    items = [path_item("1", "CH3", 1027.94), path_item("2", "", 1019.03)]
    path = save(vendor_wsi(C[::-1], items), folder / "a.dcm")
    return Made(path, C, by_pydicom(path, order=(1, 0)))


@shape("one-path-named", "two optical paths of which one is named", "asked", "--channels")
def _(folder: Path) -> Made:
    return Made(save(vendor_wsi(C, [path_item("1", "CH3"), path_item("2", "")]), folder / "a.dcm"))


@shape("paths-of-detectors", "optical paths CH1 and CH2: the second detector, or the CH2 stretch", "asked", "--channels")
def _(folder: Path) -> Made:
    return Made(save(vendor_wsi(C, [path_item("CH1", ""), path_item("CH2", "")]), folder / "a.dcm"))


@shape(
    "identifier-against-words",
    "an identifier and a description that name two Raman shifts",
    "asked",
    "both",
)
def _(folder: Path) -> Made:
    return Made(save(vendor_wsi(C, [path_item("2845", "CH3"), path_item("2930", "CH2")]), folder / "a.dcm"))


@shape("palette-color", "PALETTE COLOR", "refused", "photometric interpretation PALETTE COLOR")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "PhotometricInterpretation", "PALETTE COLOR"))


@shape("logarithm", "pixels that are a logarithm (PixelIntensityRelationship LOG)", "refused", "logarithm")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "PixelIntensityRelationship", "LOG"))


@shape("slope-of-one", "a rescale slope of 1 within rounding", "read")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "RescaleSlope", "1.0000001"))


@shape("window", "a window for display, which changes no stored value", "read")
def _(folder: Path) -> Made:
    def window(header: Dataset) -> None:
        header.WindowCenter, header.WindowWidth, header.VOILUTFunction = 1000, 500, "SIGMOID"

    return plain(folder, window)


@shape("10-bits", "10 bits stored", "noted", "x64")
def _(folder: Path) -> Made:
    header = vendor_wsi(C // 64)
    header.BitsStored, header.HighBit = 10, 9
    path = save(header, folder / "a.dcm")
    return Made(path, C // 64 * 64, by_pydicom(path) * 64)


def filled_up(header: Dataset, value: int) -> None:
    """Another value in what fills up the tiles at the edges."""
    height, width = header.TotalPixelMatrixRows, header.TotalPixelMatrixColumns
    frames = frames_of(header).copy()
    places = [(y, x) for _ in header.OpticalPathSequence for y in range(0, height, 64) for x in range(0, width, 64)]
    for frame, (y, x) in zip(frames, places, strict=True):
        frame[max(0, height - y) :], frame[:, max(0, width - x) :] = value, value
    put_frames(header, list(frames))


@shape("padding-of-tiles-12", "12 bits, and something else in what fills up the tiles at the edges", "noted", "^stretched")
def _(folder: Path) -> Made:
    small = C[:, :100, :150] // 16
    header = vendor_wsi(small)
    header.BitsStored, header.HighBit = 12, 11
    filled_up(header, 65535)
    path = save(header, folder / "a.dcm")
    return Made(path, small * 16, by_pydicom(path) * 16)


@shape("padding-of-tiles-asked", "the same with 16 bits stated and --full-scale 4096", "noted", "stated by the caller")
def _(folder: Path) -> Made:
    small = C[:, :100, :150] // 16
    header = vendor_wsi(small)
    filled_up(header, 65535)
    path = save(header, folder / "a.dcm")
    return Made(path, small * 16, by_pydicom(path) * 16, {"full_scale": 4096})


@shape(
    "tiled-full-paths",
    "TILED_FULL over per-frame optical paths that say another order",
    "refused",
    "optical paths say another",
)
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    groups = list(header.PerFrameFunctionalGroupsSequence)
    for group in groups:
        del group.PlanePositionSlideSequence
    half = len(groups) // 2
    header.PerFrameFunctionalGroupsSequence = [groups[i // 2 + i % 2 * half] for i in range(len(groups))]
    header.DimensionOrganizationType = "TILED_FULL"
    return Made(save(header, folder / "a.dcm"))


@shape("groups-miscounted", "TILED_FULL with per-frame groups for some frames", "refused", "3 per-frame groups for 12 frames")
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    header.PerFrameFunctionalGroupsSequence = list(header.PerFrameFunctionalGroupsSequence)[:3]
    header.DimensionOrganizationType = "TILED_FULL"
    return Made(save(header, folder / "a.dcm"))


@shape("planes-miscounted", "TotalPixelMatrixFocalPlanes 3 over frames of one plane", "refused", "FocalPlanes 3 over 1")
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    header.TotalPixelMatrixFocalPlanes = 3
    return Made(save(header, folder / "a.dcm"))


@shape("hole", "a sparse slide that leaves out a tile of one Raman shift", "noted", "one Raman shift alone at 1 places")
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    frames, groups = list(frames_of(header)), list(header.PerFrameFunctionalGroupsSequence)
    del frames[2], groups[2]
    header.PerFrameFunctionalGroupsSequence = groups
    put_frames(header, frames)
    path = save(header, folder / "a.dcm")
    right = C.copy()
    right[0, :64, 128:] = 0
    other = np.zeros_like(C)
    for frame, group in zip(frames_of(pydicom.dcmread(path)), groups, strict=True):
        (place,) = group.PlanePositionSlideSequence
        y, x = place.RowPositionInTotalImagePixelMatrix - 1, place.ColumnPositionInTotalImagePixelMatrix - 1
        channel = [item.OpticalPathIdentifier for item in header.OpticalPathSequence].index(
            group.OpticalPathIdentificationSequence[0].OpticalPathIdentifier
        )
        other[channel, y : y + 64, x : x + 64] = frame
    return Made(path, right, other)


@shape("oblong-tiles", "tiles that are not square", "read")
def _(folder: Path) -> Made:
    header = vendor_wsi(C)
    header.Rows, header.Columns = 128, 64
    put_frames(header, [np.ascontiguousarray(channel[:, x : x + 64]) for channel in C for x in range(0, 192, 64)])
    path = save(header, folder / "a.dcm")
    return Made(path, C, by_pydicom(path))


@shape("tile-larger-than-matrix", "a tile that is larger than the image", "read")
def _(folder: Path) -> Made:
    header = vendor_wsi(C)
    header.Rows = header.Columns = 256
    put_frames(header, [np.pad(channel, ((0, 128), (0, 64))) for channel in C])
    path = save(header, folder / "a.dcm")
    return Made(path, C, by_pydicom(path))


@shape("trailing-padding", "Data Set Trailing Padding behind the pixel data", "read")
def _(folder: Path) -> Made:
    path = save(vendor_wsi(C), folder / "a.dcm")
    path.write_bytes(path.read_bytes() + b"\xfc\xff\xfc\xffOB\0\0" + (64).to_bytes(4, "little") + bytes(64))
    return Made(path, C, by_pydicom(path))


@shape("identifiers-padded", "identifiers of optical paths that end in a blank in one of two places", "read")
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    for item in header.OpticalPathSequence:
        item.OpticalPathIdentifier = f"{item.OpticalPathIdentifier} "
    path = save(header, folder / "a.dcm")
    return Made(path, C, raw_by_pydicom(path))


@shape("measures-per-frame", "pixel measures in the groups of the frames alone", "read")
def _(folder: Path) -> Made:
    header = vendor_wsi(C, sparse=True)
    (shared,) = header.SharedFunctionalGroupsSequence
    for group in header.PerFrameFunctionalGroupsSequence:
        group.PixelMeasuresSequence = shared.PixelMeasuresSequence
    del shared.PixelMeasuresSequence
    path = save(header, folder / "a.dcm")
    return Made(path, C, raw_by_pydicom(path))


# positions in pixels and on the glass, file meta and data set


def on_glass(change: Callable[[np.ndarray], np.ndarray] = lambda mm: mm) -> Dataset:
    """A sparse slide whose frames say in mm too where they lie, as its origin, orientation and spacing have it."""
    header = vendor_wsi(C, sparse=True)
    places = [group.PlanePositionSlideSequence[0] for group in header.PerFrameFunctionalGroupsSequence]
    column = np.array([place.ColumnPositionInTotalImagePixelMatrix - 1 for place in places]) * 0.00047
    row = np.array([place.RowPositionInTotalImagePixelMatrix - 1 for place in places]) * 0.00047
    along_row, along_column = np.array(header.ImageOrientationSlide, float).reshape(2, 3)[:, :2]
    mm = np.array([10.0, 20.0]) + column[:, None] * along_row + row[:, None] * along_column
    for place, (x, y) in zip(places, change(mm), strict=True):
        place.XOffsetInSlideCoordinateSystem, place.YOffsetInSlideCoordinateSystem = f"{x:.6f}", f"{y:.6f}"
    return header


def glass(folder: Path, change: Callable[[np.ndarray], np.ndarray] = lambda mm: mm) -> Made:
    path = save(on_glass(change), folder / "a.dcm")
    return Made(path, C, raw_by_pydicom(path))


shape("positions-mm", "frames whose positions in pixels and in mm agree", "read")(glass)


@shape("positions-mm-rounded", "the same in mm rounded to a pixel", "read")
def _(folder: Path) -> Made:
    return glass(folder, lambda mm: np.round(mm / 0.00047) * 0.00047)


@shape("positions-mm-swapped", "two frames whose positions in mm are each other's", "refused", "frame 2 at row 1, column 65")
def _(folder: Path) -> Made:
    return glass(folder, lambda mm: mm[[0, 2, 1, *range(3, len(mm))]])


@shape("positions-mm-transposed", "positions in mm that run down the columns instead of along the rows", "refused", "in mm")
def _(folder: Path) -> Made:
    return glass(folder, lambda mm: mm.reshape(2, 2, 3, 2).swapaxes(1, 2).reshape(-1, 2))


@shape("positions-mm-mirrored", "positions in mm that ImageOrientationSlide has on the other side", "noted", "lie otherwise")
def _(folder: Path) -> Made:
    return glass(folder, lambda mm: 2 * mm[:1] - mm)


@shape("positions-mm-zero", "positions in mm that are all 0", "noted", "in mm that are all one")
def _(folder: Path) -> Made:
    return glass(folder, np.zeros_like)


@shape(
    "meta-of-other-instance", "file meta of another SOP Instance UID than the data set", "noted", "not that of the file meta"
)
def _(folder: Path) -> Made:
    made = plain(folder, lambda header: None)
    file = pydicom.dcmread(made.path)
    file.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    file.save_as(made.path)
    return made


@shape("meta-of-other-class", "file meta of another SOP class than the data set", "noted", "a SOPClassUID of the data set")
def _(folder: Path) -> Made:
    made = plain(folder, lambda header: None)
    file = pydicom.dcmread(made.path)
    file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    file.save_as(made.path)
    return made


# what else changes what values mean, and words in further places


def mapping(slope: float, intercept: float = 0.0) -> Callable[[Dataset], None]:
    """A Real World Value Mapping of all frames."""

    def change(header: Dataset) -> None:
        item = Dataset()
        item.RealWorldValueIntercept, item.RealWorldValueSlope = intercept, slope
        header.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = [item]

    return change


@shape("real-world-values", "a Real World Value Mapping of another slope than 1", "refused", "value = 0 \\+ 2 x stored")
def _(folder: Path) -> Made:
    return plain(folder, mapping(2.0))


@shape("real-world-identity", "a Real World Value Mapping that changes nothing", "read")
def _(folder: Path) -> Made:
    return plain(folder, mapping(1.0))


@shape("real-world-lut", "a Real World Value LUT", "refused", "a Real World Value LUT")
def _(folder: Path) -> Made:
    def change(header: Dataset) -> None:
        mapping(1.0)(header)
        (item,) = header.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
        item.RealWorldValueLUTData = [0.0, 1.0]

    return plain(folder, change)


@shape("intensity-sign", "PixelIntensityRelationshipSign -1", "refused", "PixelIntensityRelationshipSign -1")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "PixelIntensityRelationshipSign", -1))


@shape("intensity-display", "PixelIntensityRelationship DISP", "refused", "a curve")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "PixelIntensityRelationship", "DISP"))


@shape("extended-depth", "several focal planes fused into one (ExtendedDepthOfField)", "noted", "fused into one")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "ExtendedDepthOfField", "YES"))


@shape("frames-of-a-label", "ImageType VOLUME over a FrameType of LABEL", "refused", "VOLUME .* frames are LABEL")
def _(folder: Path) -> Made:
    def change(header: Dataset) -> None:
        item = Dataset()
        item.FrameType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
        header.SharedFunctionalGroupsSequence[0].WholeSlideMicroscopyImageFrameTypeSequence = [item]

    return plain(folder, change)


@shape("image-type-blank", "an ImageType whose values end in blanks", "read")
def _(folder: Path) -> Made:
    return plain(folder, lambda header: setattr(header, "ImageType", ["ORIGINAL", "PRIMARY", "VOLUME ", "NONE"]))


@shape("long-codes", "channels described by long codes alone", "read")
def _(folder: Path) -> Made:
    items = []
    for number, word in enumerate(("protein", "lipid"), start=1):
        code, item = Dataset(), path_item(str(number))
        code.LongCodeValue, code.CodingSchemeDesignator, code.CodeMeaning = f"stretch of {word}", "99X", "channel"
        item.ChannelDescriptionCodeSequence = [code]
        items.append(item)
    path = save(vendor_wsi(C[::-1], items), folder / "a.dcm")
    return Made(path, C, by_pydicom(path, order=(1, 0)))
