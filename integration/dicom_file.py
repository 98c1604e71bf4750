"""One DICOM file up to its pixel data: its header, how it is really encoded, and where its pixel data start."""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from srh_clinic.errors import InputError
from srh_clinic.integration.damage import DAMAGED, told_as
from srh_clinic.integration.limits import limits
from srh_clinic.integration.places import kind_of
from srh_clinic.integration.snapshot import HEADER_BYTES, Snapshot

TRUNCATED_HEADER = "a truncated file: it ends before its pixel data"

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR, the index of a file set."""

NEEDED = "a DICOM whole slide image"

_START_BYTES = 2**13  # within which the header of a slide ends, unless it states the place of each of many frames
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_NOT_BY_REGION = tuple(str(uid).encode() for uid in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian))
_BINARY = {0x0048021E, 0x0048021F}  # column and row in the total pixel matrix, SL; the other numbers of frames are text
_ZEROS, _MOST_ZEROS = bytes(8), 16
_PIXEL_VRS = (b"OW", b"OB", b"UN")


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from printing values that break their VR, which may identify a patient.

    That they do is between pydicom and the vendor: what we need of a header is checked here.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")
        yield


class _WithinFile(io.BufferedReader):
    """A file of which no more is asked than it has, and than a header may take: what a damaged one states is not allocated."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._path = path
        self._size = os.fstat(self.fileno()).st_size
        self._taken = self._zeros = 0

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._size - self.tell(), 0)
        read = super().read(left if size is None or size < 0 else min(size, left))
        self._taken += len(read)
        if self._taken > limits().header_bytes + _START_BYTES:
            raise InputError(f"a header of more than {limits().header_bytes} bytes", "a smaller one", self._path)
        # a copy that broke off is often filled up: gigabytes of elements that are no elements
        self._zeros = self._zeros + 1 if size == len(_ZEROS) and read == _ZEROS else 0
        if self._zeros > _MOST_ZEROS:
            raise EOFError("zeros in place of elements")
        return read


@lru_cache(maxsize=512)
def _tag(keyword: str) -> BaseTag:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"no attribute {keyword}")
    return BaseTag(tag)


def value_of(item: Dataset, keyword: str) -> Any:
    """The value of an attribute, ``None`` where it is absent: ``Dataset.get`` in a third of its time."""
    tag = _tag(keyword)
    return item[tag].value if tag in item else None


def number_of(item: Dataset, keyword: str) -> float:
    """The value of a number, NaN where it is absent or empty; a slide states several of each of thousands of frames.

    Raises
    ------
    ValueError
        When it is none.
    """
    tag = _tag(keyword)
    element = item.get_item(tag) if tag in item else None
    if element is None:
        return math.nan
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        vr = element.VR or ("SL" if tag in _BINARY else "DS")
        if vr == "SL":
            return int.from_bytes(element.value, "little", signed=True) if element.value else math.nan
        if vr == "DS":
            return float(element.value.strip(b"\0 ") or math.nan)
    value = item[tag].value
    return math.nan if value is None or value == "" else float(value)


@dataclass(frozen=True)
class DicomFile:
    """A file's header without its pixel data, and the offset in bytes of its Pixel Data element, if it has one.

    ``implicit_vr`` is how the data set is encoded, whatever its transfer syntax says; ``whole`` is false where only some
    attributes were asked for and the header is long.
    """

    path: Path
    header: Dataset
    pixel_offset: int | None
    implicit_vr: bool
    snapshot: Snapshot
    whole: bool

    def required(self, keyword: str) -> Any:
        """The attribute's value; ``InputError`` naming it when it is absent, empty or damaged."""
        try:
            value = value_of(self.header, keyword)
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

    @property
    def syntax(self) -> UID | None:
        """Transfer syntax as the file meta state it, ``None`` when they do not."""
        stated = self.header.file_meta.get("TransferSyntaxUID")
        return UID(str(stated)) if stated else None

    @property
    def is_directory(self) -> bool:
        """Whether it is a DICOMDIR."""
        return MEDIA_DIRECTORY in (self.header.file_meta.get("MediaStorageSOPClassUID"), self.header.get("SOPClassUID"))


def read_header(path: Path, keywords: list[str] | None = None) -> DicomFile:
    """Read a DICOM file up to its pixel data; with ``keywords`` of a long header only those attributes.

    Raises
    ------
    InputError
        When the file cannot be read, is not DICOM, or is damaged.
    """
    if kind_of(path, NEEDED) != "dicom":
        raise InputError("a file that is not DICOM", NEEDED, path)
    with told_as("a damaged or truncated DICOM header", "a whole DICOM file", path), _WithinFile(path) as file:
        start = file.read(_START_BYTES)
        snapshot = _snapshot(file, start)
        try:
            header, end, element = _parse(start, len(start) < snapshot.size, path)
            whole = element[:4] == _PIXEL_DATA or len(start) == snapshot.size
            if not whole:  # a header that is longer than what was read of it
                _check_syntax(file, path)
                header, end, element = _read(file, keywords)
        except InvalidDicomError as error:
            raise InputError("a file that is not DICOM", NEEDED, path) from error
        at_pixels = element[:4] == _PIXEL_DATA
        # a value representation stands where an implicit data set has the length, which is even: no VR here is
        implicit_vr = element[4:] not in _PIXEL_VRS
        return DicomFile(path, header, end if at_pixels else None, implicit_vr, snapshot, whole or not keywords)


def _parse(start: bytes, goes_on: bool, path: Path) -> tuple[Dataset, int, bytes]:
    """What :func:`_read` finds in the first bytes of a file; nothing, where it breaks off and the file goes on."""
    if any(uid in start for uid in _NOT_BY_REGION):
        _check_syntax(io.BytesIO(start), path)
    try:
        return _read(io.BytesIO(start), None)
    except InputError:
        raise
    except (EOFError, struct.error, *DAMAGED):
        if not goes_on:
            raise
        return Dataset(), 0, b""


def _read(file: BinaryIO, keywords: list[str] | None) -> tuple[Dataset, int, bytes]:
    """A header, where it ends, and what begins there: tag and value representation."""
    file.seek(0)
    # nothing of a header is large but offset tables; a value above the limit is left where it is
    header: Dataset = dcmread(
        file,
        stop_before_pixels=True,
        specific_tags=list(keywords) if keywords else None,
        defer_size=limits().header_bytes,
    )
    header.buffer = None  # pydicom keeps what it has read from, which cannot be sent to other processes
    end = file.tell()
    return header, end, file.read(6)


def _check_syntax(file: BinaryIO, path: Path) -> None:
    """Refuse what cannot be read by region before anything is inflated or swapped."""
    file.seek(0)
    read_preamble(file, False)
    syntax = _read_file_meta_info(file).get("TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        raise InputError("a deflated DICOM file", "a transfer syntax that can be read by region", path)
    if syntax == ExplicitVRBigEndian:
        raise InputError("a big-endian DICOM file", "a little-endian one", path)


def _snapshot(file: BinaryIO, start: bytes) -> Snapshot:
    status = os.fstat(file.fileno())
    header = hashlib.blake2b(start[:HEADER_BYTES], digest_size=16).hexdigest()
    return Snapshot(status.st_size, status.st_mtime_ns, status.st_ino, header)
