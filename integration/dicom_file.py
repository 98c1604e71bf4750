"""One DICOM file: its header, and where in it every frame lies (PS3.5 A.4)."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from highdicom.frame import decode_frame
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, parse_basic_offsets, parse_fragments
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from srh_clinic.errors import InputError
from srh_clinic.integration.depth import Depth
from srh_clinic.integration.frames import check_frame_shape
from srh_clinic.intensity import Counts

DAMAGED = (
    InvalidDicomError,
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom and the decoders raise on a damaged file."""

TRUNCATED_HEADER = "a truncated file: it ends before its pixel data"

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_READABLE = "raw, JPEG-LS, JPEG 2000 or RLE pixel data"


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from printing values that break their VR, which may identify a patient.

    That they do is between pydicom and the vendor: what we need of a header is checked here.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")
        yield


@dataclass(frozen=True)
class DicomFile:
    """A file's header without its pixel data, and the offset in bytes of its Pixel Data element, if it has one."""

    path: Path
    header: Dataset
    pixel_offset: int | None

    def required(self, keyword: str) -> Any:
        """The attribute's value; ``InputError`` naming it when it is absent, empty or damaged."""
        try:
            value = self.header.get(keyword)
        except DAMAGED as error:
            raise InputError(f"a damaged {keyword}", "a whole DICOM header", self.path) from error
        if value is None or value == "":
            raise InputError(f"no {keyword}", "a VL Whole Slide Microscopy image that states it", self.path)
        return value

    def number(self, keyword: str) -> int:
        """A required attribute that is a count."""
        value = self.required(keyword)
        try:
            return int(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"{keyword} {value!r}", "a whole number", self.path) from error


def read_header(path: Path, keywords: list[str] | None = None) -> DicomFile:
    """Read a DICOM file up to its pixel data; with ``keywords`` only those attributes.

    Raises
    ------
    InputError
        When the file cannot be read, is not DICOM, or is damaged.
    """
    try:
        with path.open("rb") as file:
            header: Dataset = dcmread(file, stop_before_pixels=True, specific_tags=list(keywords) if keywords else None)
            syntax = header.file_meta.get("TransferSyntaxUID")
            if syntax == DeflatedExplicitVRLittleEndian:
                raise InputError("a deflated DICOM file", "a transfer syntax that can be read by region", path)
            if syntax == ExplicitVRBigEndian:
                raise InputError("a big-endian DICOM file", "a little-endian one", path)
            end = file.tell()
            return DicomFile(path, header, end if file.read(4) == _PIXEL_DATA else None)
    except OSError as error:
        raise InputError(f"a file that cannot be read ({error.strerror})", "a readable file", path) from error
    except InvalidDicomError as error:
        raise InputError("a file that is not DICOM", "a DICOM whole slide image", path) from error
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError("a damaged or truncated DICOM header", "a whole DICOM file", path) from error


@dataclass(frozen=True)
class DicomFrames:
    """The frames of one file: ``spans`` int64 ``(N, 2)`` are first byte and end of each, items included when encapsulated."""

    path: Path
    frame_shape: tuple[int, int]
    transfer_syntax: UID
    bits_stored: int
    padding: int | None
    depth: Depth
    spans: NDArray[np.int64]

    def load(self, index: int) -> Counts:
        """Decode one frame to counts ``(rows, columns)``; pixels of the padding value become 0."""
        start, end = (int(byte) for byte in self.spans[index])
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                encoded = file.read(end - start)
            stored = self._decode(encoded)
        except OSError as error:
            raise InputError(f"a file that cannot be read ({error.strerror})", "a readable file", self.path) from error
        except DAMAGED as error:
            raise InputError(f"frame {index + 1}, which cannot be decoded", "undamaged pixel data", self.path) from error
        if stored.shape != self.frame_shape:
            raise InputError(f"frame {index + 1} of shape {stored.shape}", f"one of {self.frame_shape}", self.path)
        if self.padding is not None:
            stored = np.where(stored == self.padding, 0, stored)
        return self.depth.to_counts(stored, self.path)

    def _decode(self, encoded: bytes) -> NDArray[Any]:
        rows, columns = self.frame_shape
        if not self.transfer_syntax.is_encapsulated:
            return np.frombuffer(encoded, dtype="<u2").reshape(rows, columns)
        return decode_frame(
            b"".join(generate_fragments(encoded)),
            self.transfer_syntax,
            rows=rows,
            columns=columns,
            samples_per_pixel=1,
            bits_allocated=16,
            bits_stored=self.bits_stored,
            photometric_interpretation="MONOCHROME2",
            pixel_representation=0,
        )


def open_frames(file: DicomFile, full_scale: int | None = None) -> DicomFrames:
    """Locate the frames of a 16-bit monochrome file; nothing is decoded, nothing but offset tables is read.

    Parameters
    ----------
    file
        A file whose header is read.
    full_scale
        Stored value at unit intensity 1 (default: what Bits Stored says).

    Raises
    ------
    InputError
        When the pixels are not unsigned 16-bit monochrome, are compressed in a way that cannot be decoded, or the file ends
        before the last frame.
    """
    path, header = file.path, file.header
    bits_stored = file.number("BitsStored")
    signed = file.number("PixelRepresentation") != 0
    if signed or not 8 < bits_stored <= 16:
        kind = "signed" if signed else "unsigned"
        raise InputError(f"{kind} pixels of {bits_stored} stored bits", "unsigned pixels of 9 to 16 bits", path)
    if (high_bit := file.number("HighBit")) != bits_stored - 1:
        raise InputError(f"BitsStored {bits_stored} with HighBit {high_bit}", f"HighBit {bits_stored - 1}", path)
    if file.required("PhotometricInterpretation") != "MONOCHROME2" or header.get("PresentationLUTShape") == "INVERSE":
        raise InputError("an image in which dark means bright", "MONOCHROME2 with an identity presentation", path)
    if any((item.get("RescaleSlope", 1), item.get("RescaleIntercept", 0)) != (1, 0) for item in _transformations(header)):
        raise InputError("pixels with a rescale slope or intercept", "stored values as they were measured", path)
    frame_shape = file.number("Rows"), file.number("Columns")
    check_frame_shape(frame_shape, path)
    syntax = UID(header.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian))
    if syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) and not _decodable(syntax):
        raise InputError(f"pixel data in {syntax.name}", _READABLE, path)
    padding = header.get("PixelPaddingValue")
    return DicomFrames(
        path=path,
        frame_shape=frame_shape,
        transfer_syntax=syntax,
        bits_stored=bits_stored,
        padding=None if padding is None else int(padding),
        depth=Depth(2**bits_stored if full_scale is None else full_scale),
        spans=_locate(file, syntax, frame_shape),
    )


def _transformations(header: Dataset) -> Iterator[Dataset]:
    """Every item that can hold a rescale slope and intercept: the header, and those of the functional groups."""
    yield header
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in header.get(groups) or []:
            yield from group.get("PixelValueTransformationSequence") or []


def _decodable(syntax: UID) -> bool:
    if not syntax.is_encapsulated:
        return False
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _locate(file: DicomFile, syntax: UID, frame_shape: tuple[int, int]) -> NDArray[np.int64]:
    """Byte span of every frame, int64 ``(N, 2)``."""
    n_frames = file.number("NumberOfFrames")
    size = file.path.stat().st_size
    truncated = InputError(
        "a truncated file: it ends before its last frame", f"a file with all of its {n_frames} frames", file.path
    )
    if file.pixel_offset is None:
        raise InputError(TRUNCATED_HEADER, "a whole DICOM file", file.path)
    with file.path.open("rb") as stream:
        stream.seek(file.pixel_offset)
        element = stream.read(8)
        if syntax != ImplicitVRLittleEndian:
            element = stream.read(4)
        length, start = int.from_bytes(element[-4:], "little"), stream.tell()
        if n_frames < 1:
            raise InputError(f"{n_frames} frames", "at least one", file.path)
        if not syntax.is_encapsulated:
            frame_bytes = frame_shape[0] * frame_shape[1] * 2
            if start + n_frames * frame_bytes > size:
                raise truncated
            if n_frames * frame_bytes > length:
                raise InputError(f"{length} bytes of pixel data", f"{n_frames * frame_bytes} for {n_frames} frames", file.path)
            first = start + np.arange(n_frames, dtype=np.int64) * frame_bytes
            return np.stack([first, first + frame_bytes], axis=1)
        if start + 8 * n_frames > size:  # an item takes eight bytes: nothing is allocated for frames that cannot be there
            raise truncated
        try:
            first, end = _encapsulated_spans(stream, file.header, n_frames)
        except EOFError:
            raise truncated from None
        except DAMAGED as error:
            raise InputError("damaged compressed pixel data", f"{n_frames} whole frames", file.path) from error
    if len(first) != n_frames:
        raise InputError(f"{len(first)} compressed frames", f"{n_frames}, as NumberOfFrames states", file.path)
    spans = np.stack([first, end], axis=1)
    if (spans[:, 1] > size).any():
        raise truncated
    if (spans[:, 1] - spans[:, 0] < 8).any():
        raise InputError("an offset table out of order", "an undamaged DICOM file", file.path)
    return spans


def _encapsulated_spans(stream: BinaryIO, header: Dataset, n_frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First byte and end of each frame's items; by the extended offset table, the basic one, or a walk over the items."""
    basic = parse_basic_offsets(stream)
    items = stream.tell()
    if "ExtendedOffsetTable" in header:
        offsets = np.frombuffer(header.ExtendedOffsetTable, dtype="<u8").astype(np.int64)
        lengths = np.frombuffer(header.ExtendedOffsetTableLengths, dtype="<u8").astype(np.int64)
        # one item a frame is the table's rule; an odd length is padded in the file
        return items + offsets, items + offsets + 8 + lengths + lengths % 2
    if basic:
        first = items + np.array(basic, dtype=np.int64)
        stream.seek(int(first[-1]))
        return first, np.append(first[1:], _items_end(stream))
    n_items, walked = parse_fragments(stream)
    if n_frames == 1:
        return np.array(walked[:1], dtype=np.int64), np.array([_items_end(stream)], dtype=np.int64)
    if n_items < n_frames:
        raise EOFError(f"{n_items} items for {n_frames} frames")
    if n_items > n_frames:
        raise ValueError(f"{n_items} items hold {n_frames} frames and no offset table says how")
    first = np.array(walked, dtype=np.int64)
    stream.seek(walked[-1])
    return first, np.append(first[1:], _items_end(stream))


def _items_end(stream: BinaryIO) -> int:
    """Where the items that start at the stream's position end."""
    _, offsets = parse_fragments(stream)
    if not offsets:
        raise EOFError("no item where the last frame starts")
    stream.seek(offsets[-1] + 4)
    length = int.from_bytes(stream.read(4), "little")
    return offsets[-1] + 8 + length
