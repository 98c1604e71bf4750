"""The frames of a DICOM file: where each lies (PS3.5 A.4), and how it becomes counts."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from highdicom.frame import decode_frame
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.pixels import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from srh_clinic.errors import InputError
from srh_clinic.integration.codestream import JPEG_LS, RLE, Codestream, codec_of, read_codestream, starts_frame
from srh_clinic.integration.damage import DAMAGED, told_as
from srh_clinic.integration.depth import Depth, PixelStatements, depth_of
from srh_clinic.integration.dicom_file import TRUNCATED_HEADER, DicomFile, value_of
from srh_clinic.integration.frames import check_frame_shape
from srh_clinic.integration.limits import limits
from srh_clinic.intensity import Counts

_READABLE = "raw, JPEG-LS, JPEG 2000 or RLE pixel data"
_UNDEFINED = 0xFFFFFFFF
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_END_OF_IMAGE = b"\xff\xd9"
_START_BYTES = 4096  # within which a codestream says its size
_MOST_RLE = 3  # an RLE frame is at most little larger than its pixels; this leaves room for odd encoders


@dataclass(frozen=True)
class DicomFrames:
    """The frames of one file: ``spans`` int64 ``(N, 2)`` are first byte and end of each, items included when encapsulated."""

    path: Path
    frame_shape: tuple[int, int]
    transfer_syntax: UID
    bits_stored: int
    depth: Depth
    spans: NDArray[np.int64]
    pixels_at: int
    """First byte of the value of Pixel Data."""
    within: NDArray[np.int64] | None = None
    """Rows and columns of each frame that lie within the image, int64 ``(N, 2)``; what fills up a tile is none of it."""

    def load(self, index: int) -> Counts:
        """Decode one frame to counts ``(rows, columns)``; pixels of the padding value become 0."""
        stored = self.stored(index)
        return self.depth.to_counts(stored, self.path)

    def stored(self, index: int) -> NDArray[Any]:
        """One frame as the file holds it, ``(rows, columns)``.

        Raises
        ------
        InputError
            When it does not decode, or to another size.
        """
        with told_as(f"frame {index + 1}, which cannot be decoded", "undamaged pixel data", self.path):
            encoded = self._read(self.spans[index])
            if self.transfer_syntax.is_encapsulated and not _is_chain(encoded):
                encoded = self._read(self._walked[index])
            stored = self._decode(encoded, index)
        if stored.shape != self.frame_shape:
            raise InputError(f"frame {index + 1} of shape {stored.shape}", f"one of {self.frame_shape}", self.path)
        if self.within is None:
            return stored
        rows, columns = self.within[index]
        return stored[:rows, :columns]

    def _read(self, span: NDArray[np.int64]) -> bytes:
        start, end = (int(byte) for byte in span)
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    @cached_property
    def _walked(self) -> NDArray[np.int64]:
        """The spans by a walk over the items, whatever the table says."""
        size = self.path.stat().st_size
        with self.path.open("rb") as stream:
            codec = codec_of(self.transfer_syntax)
            return _walked_spans(stream, self.pixels_at, [], codec, len(self.spans), size, self.path)

    def _decode(self, encoded: bytes, index: int) -> NDArray[Any]:
        rows, columns = self.frame_shape
        if not self.transfer_syntax.is_encapsulated:
            return np.frombuffer(encoded, dtype="<u2").reshape(rows, columns)
        codestream = b"".join(generate_fragments(encoded))
        says = read_codestream(codestream)
        if says is None:
            raise ValueError("no codestream of a known codec")
        self._check(says, len(codestream), index)
        if says.codec == JPEG_LS:
            from jpeg_ls import decode_pixel_data

            # without a marker behind it, its decoder (CharLS of pyjpegls 1.5.1) can take seconds over a damaged scan
            pixels, _ = decode_pixel_data(codestream + _END_OF_IMAGE)
            return np.frombuffer(pixels, dtype="<u2").reshape(rows, columns)
        return decode_frame(
            codestream,
            self.transfer_syntax,
            rows=rows,
            columns=columns,
            samples_per_pixel=1,
            bits_allocated=16,
            bits_stored=self.bits_stored,
            photometric_interpretation="MONOCHROME2",
            pixel_representation=0,
        )

    def _check(self, says: Codestream, n_bytes: int, index: int) -> None:
        """Refuse a frame that says another size or codec than the header, before it is decoded."""
        rows, columns = self.frame_shape
        stated = codec_of(self.transfer_syntax)
        if stated is not None and says.codec != stated:
            found = f"pixel data in {says.codec} under the transfer syntax {self.transfer_syntax.name}"
            raise InputError(found, "a transfer syntax that is that of the data", self.path)
        if says.rows is not None and (says.rows, says.columns) != self.frame_shape:
            found = f"frame {index + 1} of {says.columns} x {says.rows} pixels"
            raise InputError(found, f"{columns} x {rows}, as the header says", self.path)
        if says.components is not None and says.components != 1:
            raise InputError(f"frame {index + 1} of {says.components} components", "one", self.path)
        if says.bits is not None and not 8 < says.bits <= 16:
            raise InputError(f"frame {index + 1} of {says.bits} bits", f"{self.bits_stored}, as BitsStored says", self.path)
        if says.codec == RLE and n_bytes > _MOST_RLE * 2 * rows * columns + 64:
            raise InputError(f"frame {index + 1} of {n_bytes} bytes in RLE", f"at most {2 * rows * columns}", self.path)

    def check_first(self, full_scale: int | None) -> None:
        """Look at the first frame's own header: its codec, size and bits must be those that the file states."""
        if not self.transfer_syntax.is_encapsulated:
            return
        start, end = (int(byte) for byte in self.spans[0])
        with told_as("frame 1, which cannot be decoded", "undamaged pixel data", self.path), self.path.open("rb") as file:
            file.seek(start + 8)
            says = read_codestream(file.read(min(end - start - 8, _START_BYTES)))
        if says is None:
            return  # decoding says so, by frame
        self._check(says, 0, 0)
        if says.bits is not None and says.bits < self.bits_stored and full_scale is None:
            found = f"frames of {says.bits} bits where BitsStored says {self.bits_stored}"
            raise InputError(found, f"one depth, or --full-scale {2**says.bits} or {2**self.bits_stored}", self.path)


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
    path = file.path
    says = _pixel_statements(file)
    if says.signed or not 8 < (says.bits or 0) <= 16:
        kind = "signed" if says.signed else "unsigned"
        raise InputError(f"{kind} pixels of {says.bits} stored bits", "unsigned pixels of 9 to 16 bits", path)
    depth = depth_of(says, full_scale, path)
    frame_shape = file.number("Rows"), file.number("Columns")
    check_frame_shape(frame_shape, path)
    syntax = _syntax(file)
    spans, pixels_at = _locate(file, syntax, frame_shape)
    frames = DicomFrames(path, frame_shape, syntax, says.bits or 16, depth, spans, pixels_at)
    frames.check_first(full_scale)
    return frames


def _pixel_statements(file: DicomFile) -> PixelStatements:
    """What the header says of stored values; an element that is there but empty is absent (PS3.5 7.4)."""
    header = file.header
    dark_is_bright = ""
    photometric = file.required("PhotometricInterpretation")
    if photometric == "MONOCHROME1":
        dark_is_bright = str(photometric)
    elif value_of(header, "PresentationLUTShape") == "INVERSE":
        dark_is_bright = "PresentationLUTShape INVERSE"
    calibration = []
    table = "" if photometric in ("MONOCHROME1", "MONOCHROME2") else f"the photometric interpretation {photometric}"
    for item in (header, *_in_groups(header, "PixelValueTransformationSequence")):
        slope, intercept = value_of(item, "RescaleSlope"), value_of(item, "RescaleIntercept")
        calibration.append(
            (0.0 if intercept in (None, "") else float(intercept), 1.0 if slope in (None, "") else float(slope))
        )
        if value_of(item, "ModalityLUTSequence"):
            table = "a Modality LUT Sequence"
    if (relationship := value_of(header, "PixelIntensityRelationship")) not in (None, "", "LIN"):
        meant = "a logarithm" if relationship == "LOG" else "a curve"
        table = f"{meant} (PixelIntensityRelationship {relationship})"
    if value_of(header, "PixelIntensityRelationshipSign") == -1:
        dark_is_bright = "PixelIntensityRelationshipSign -1"
    for item in _in_groups(header, "RealWorldValueMappingSequence"):
        slope, intercept = value_of(item, "RealWorldValueSlope"), value_of(item, "RealWorldValueIntercept")
        if value_of(item, "RealWorldValueLUTData"):
            table = "a Real World Value LUT"
        elif slope not in (None, "") or intercept not in (None, ""):
            calibration.append((float(intercept or 0), float(slope or 0)))
    if value_of(header, "PixelPresentation") == "TRUE_COLOR":
        table = "PixelPresentation TRUE_COLOR"
    return PixelStatements(
        bits=file.number("BitsStored"),
        allocated=16,
        high_bit=file.number("HighBit"),
        signed=file.number("PixelRepresentation") != 0,
        calibration=tuple(calibration),
        table=table,
        dark_is_bright=dark_is_bright,
        padding=_padding(file),
    )


def _padding(file: DicomFile) -> tuple[int, int] | None:
    """Smallest and largest stored value that is no image (PS3.3 C.7.5.1.1.2); one encoded as signed is meant by its bits."""
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = file.header.get(keyword)
        if value is None or value == "":
            continue
        if isinstance(value, bytes):
            value = int.from_bytes(value[:2], "little")
        ends.append(int(value) & 0xFFFF)
        if keyword == "PixelPaddingRangeLimit" and len(ends) == 1:
            raise InputError("a PixelPaddingRangeLimit without PixelPaddingValue", "both, or none", file.path)
    return (min(ends), max(ends)) if ends else None


def _in_groups(header: Dataset, keyword: str) -> Iterator[Dataset]:
    """The items of a sequence wherever it may stand: in the header, and in the functional groups of all and of each frame."""
    yield from value_of(header, keyword) or []
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in value_of(header, groups) or []:
            yield from value_of(group, keyword) or []


def _syntax(file: DicomFile) -> UID:
    """The transfer syntax of the data: the stated one, for raw pixels corrected to how the file is encoded."""
    stated = file.syntax
    if stated is None or not stated.is_encapsulated:
        if stated is not None and stated not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
            raise InputError(f"pixel data in {stated.name}", _READABLE, file.path)
        return ImplicitVRLittleEndian if file.implicit_vr else ExplicitVRLittleEndian
    try:
        available = get_decoder(stated).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise InputError(f"pixel data in {stated.name}", _READABLE, file.path)
    return stated


def _locate(file: DicomFile, syntax: UID, frame_shape: tuple[int, int]) -> tuple[NDArray[np.int64], int]:
    """Byte span of every frame, int64 ``(N, 2)``, and the first byte of the pixel data."""
    n_frames = file.number("NumberOfFrames")
    size = file.snapshot.size
    truncated = InputError(
        "a truncated file: it ends before its last frame", f"a file with all of its {n_frames} frames", file.path
    )
    if file.pixel_offset is None:
        raise InputError(TRUNCATED_HEADER, "a whole DICOM file", file.path)
    if n_frames < 1:
        raise InputError(f"{n_frames} frames", "at least one", file.path)
    with file.path.open("rb") as stream:
        stream.seek(file.pixel_offset)
        element = stream.read(8)
        if not file.implicit_vr:
            element = stream.read(4)
        length, start = int.from_bytes(element[-4:], "little"), stream.tell()
        if syntax.is_encapsulated != (length == _UNDEFINED):
            name = "none" if file.syntax is None else file.syntax.name
            what = "compressed pixel data (of undefined length)" if length == _UNDEFINED else "raw pixel data"
            raise InputError(
                f"{what} under the transfer syntax {name}", "a transfer syntax that is that of the data", file.path
            )
        if not syntax.is_encapsulated:
            frame_bytes = frame_shape[0] * frame_shape[1] * 2
            if start + n_frames * frame_bytes > size:
                raise truncated
            if n_frames * frame_bytes > length:
                raise InputError(f"{length} bytes of pixel data", f"{n_frames * frame_bytes} for {n_frames} frames", file.path)
            first = start + np.arange(n_frames, dtype=np.int64) * frame_bytes
            return np.stack([first, first + frame_bytes], axis=1), start
        if start + 8 * n_frames > size:  # an item takes eight bytes: nothing is allocated for frames that cannot be there
            raise truncated
        if n_frames > limits().frames:
            raise InputError(f"{n_frames} frames", f"at most {limits().frames}", file.path)
        try:
            return _encapsulated_spans(stream, file, codec_of(syntax), n_frames, size), start
        except EOFError:
            raise truncated from None
        except DAMAGED as error:
            if isinstance(error, InputError):
                raise
            raise InputError("damaged compressed pixel data", f"{n_frames} whole frames", file.path) from error


def _encapsulated_spans(stream: BinaryIO, file: DicomFile, codec: str | None, n_frames: int, size: int) -> NDArray[np.int64]:
    """First byte and end of each frame's items: by a table that holds where it is looked at, or by a walk over the items.

    A table of many frames is looked at in some places only; a frame of which it is wrong is found by the walk when it is read.
    """
    start = stream.tell()
    table, items_at = _basic_table(stream, size)
    table = [items_at + offset for offset in (_extended(file.header) or table)]
    if len(table) == n_frames and table[0] == items_at and table[-1] < size and n_frames > 1:
        first = np.array(table, dtype=np.int64)
        looked_at = {0, (n_frames - 1) // 2, n_frames - 2}
        holds = all(_items_end(stream, table[i], table[i + 1], size) == table[i + 1] for i in looked_at)
        end = _items_end(stream, table[-1], None, size) if holds else None
        if end is not None and (np.diff(first) > 0).all():
            return np.stack([first, np.append(first[1:], end)], axis=1)
    return _walked_spans(stream, start, table, codec, n_frames, size, file.path)


def _walked_spans(
    stream: BinaryIO, start: int, table: list[int], codec: str | None, n_frames: int, size: int, path: Path
) -> NDArray[np.int64]:
    """First byte and end of each frame's items, by a walk over all of them.

    Where there is one item a frame, that is all there is to know, whatever a table says. Where there are more, a table counts
    that names items; otherwise a frame starts where its codec's first marker stands.
    """
    stream.seek(start)
    items, end = _walk(stream, size)
    starts = np.array(items, dtype=np.int64)
    if len(items) < n_frames:
        raise EOFError(f"{len(items)} items for {n_frames} frames")
    by_table = len(table) == n_frames and table[0] == items[0] and set(table) <= set(items)
    if by_table and any(later <= earlier for earlier, later in pairwise(table)):
        raise InputError("an offset table out of order", "an undamaged DICOM file", path)
    if len(items) == n_frames:
        first = starts
    elif n_frames == 1:
        first = starts[:1]
    elif by_table:
        first = np.array(table, dtype=np.int64)
    else:
        first = np.array([item for item in items if codec and starts_frame(codec, _at(stream, item + 8, 12))], dtype=np.int64)
        if len(first) != n_frames or first[0] != starts[0]:
            found = f"{len(items)} items that hold {n_frames} frames"
            raise InputError(found, "an offset table that says how", path)
    return np.stack([first, np.append(first[1:], end)], axis=1)


def _basic_table(stream: BinaryIO, size: int) -> tuple[list[int], int]:
    """The basic offset table at the stream's place, and the first byte of the items behind it."""
    if stream.read(4) != _ITEM:
        raise ValueError("no basic offset table")
    length = int.from_bytes(stream.read(4), "little")
    if stream.tell() + length > size:
        raise EOFError("the offset table ends after the file")
    raw = stream.read(length - length % 4)
    return list(struct.unpack(f"<{len(raw) // 4}L", raw)), stream.tell() + length % 4


def _items_end(stream: BinaryIO, at: int, wanted: int | None, size: int) -> int | None:
    """Where items that start at a place end: at the place that is wanted, or the last at all; ``None`` when there is none."""
    n_items = 0
    while wanted is None or at < wanted:
        item = _at(stream, at, 8)
        if item[:4] != _ITEM:
            return at if wanted is None and n_items and (item[:4] == _END or not item) else None
        length = int.from_bytes(item[4:], "little")
        if length == _UNDEFINED or at + 8 + length > size:
            return None
        at, n_items = at + 8 + length, n_items + 1
    return at


def _is_chain(encoded: bytes) -> bool:
    """Whether bytes are whole items, one behind the other."""
    at = 0
    while at < len(encoded):
        if encoded[at : at + 4] != _ITEM:
            return False
        at += 8 + int.from_bytes(encoded[at + 4 : at + 8], "little")
    return at == len(encoded) > 0


def _walk(stream: BinaryIO, size: int) -> tuple[list[int], int]:
    """First byte of each item behind the basic offset table at the stream's place, and where the last one ends."""
    _, at = _basic_table(stream, size)
    items: list[int] = []
    while True:
        item = _at(stream, at, 8)
        tag = item[:4]
        if tag == _END or (not tag and items):
            return items, at
        if len(item) < 8:
            raise EOFError("an item ends after the file")
        if tag != _ITEM:
            raise ValueError("bytes between items")
        length = int.from_bytes(item[4:], "little")
        if length == _UNDEFINED or at + 8 + length > size:
            raise EOFError("an item ends after the file")
        items.append(at)
        at += 8 + length


def _at(stream: BinaryIO, place: int, n_bytes: int) -> bytes:
    """Bytes at a place of a file; without its buffer, which would be filled anew for each item."""
    if hasattr(os, "pread"):
        return os.pread(stream.fileno(), n_bytes, place)
    stream.seek(place)
    return stream.read(n_bytes)


def _extended(header: Dataset) -> list[int]:
    """The extended offset table; empty when it is absent, empty or no table."""
    raw = value_of(header, "ExtendedOffsetTable")
    return [] if not raw or len(raw) % 8 else np.frombuffer(raw, dtype="<u8").astype(np.int64).tolist()
