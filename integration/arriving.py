"""What a received file is, by its header alone: of which series, level and Raman shift, before its pixels are looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import channel_of_words
from srh_clinic.integration.damage import told_as
from srh_clinic.integration.dicom_case import area_of, flavour_of, is_16_bit_monochrome, is_truncated, same_content
from srh_clinic.integration.dicom_file import TRUNCATED_HEADER, DicomFile, quiet_pydicom, read_header, value_of
from srh_clinic.integration.optical_path import RESTORED, statement_of

NEEDED = "a DICOM file that says what it is"

BESIDE = ("LABEL", "OVERVIEW", "LOCALIZER", "THUMBNAIL")
"""What images of the class of slides show that are none."""

_SUMMARY = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImageType"),
    *("SamplesPerPixel", "BitsAllocated", "BitsStored", "TotalPixelMatrixRows", "TotalPixelMatrixColumns"),
    *("ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber", "DerivationCodeSequence"),
    *("OpticalPathSequence", "SeriesDescription"),
]


@dataclass(frozen=True)
class Instance:
    """A received DICOM object.

    Attributes
    ----------
    uid, study, series, frame_of_reference
        UIDs; the last may be empty.
    srh
        Whether it can be a channel or level of an SRH slide.
    beside
        Whether it shows a slide's label or all of it from afar, as comes beside the slides of any scanner.
    resampled
        Whether it says that it is a lower level of a pyramid.
    ours
        Whether it is a slide that srh-clinic has restored.
    size
        Rows and columns of the whole image.
    halves
        Its channels: 0 or 1 where its words name one, otherwise what tells one from another.
    part
        Of a concatenation: its UID, the number of this part and, where it is stated, how many there are.
    """

    path: Path
    uid: str
    study: str
    series: str
    frame_of_reference: str
    srh: bool
    beside: bool
    resampled: bool
    ours: bool
    size: tuple[int, int]
    halves: frozenset[int | str]
    part: tuple[str, int, int] | None

    @property
    def shifts(self) -> frozenset[int]:
        """Which channels it names."""
        return frozenset(half for half in self.halves if isinstance(half, int))


def instance_in(path: Path) -> Instance:
    """Read what a file is.

    Raises
    ------
    InputError
        When it is no DICOM file, breaks off before its pixels, or does not say of which study, series and instance it is.
    """
    with quiet_pydicom(), told_as("a damaged DICOM header", NEEDED, path):
        file = read_header(path, _SUMMARY)
        if file.is_directory:
            raise InputError("a DICOMDIR, the index of a folder of files", NEEDED, path)
        if is_truncated(file):
            raise InputError(TRUNCATED_HEADER, NEEDED, path)
        header = file.header
        uid, study, series = (str(file.required(f"{what}InstanceUID")) for what in ("SOP", "Study", "Series"))
        slide = file.required("SOPClassUID") == VLWholeSlideMicroscopyImageStorage
        srh = slide and flavour_of(header) == "VOLUME" and is_16_bit_monochrome(header)
        codes = value_of(header, "DerivationCodeSequence") or []
        concatenation = value_of(header, "ConcatenationUID")
        numbers = [int(value_of(header, f"InConcatenation{what}") or 0) for what in ("Number", "TotalNumber")]
        return Instance(
            path,
            uid,
            study,
            series,
            str(value_of(header, "FrameOfReferenceUID") or ""),
            srh,
            slide and flavour_of(header) in BESIDE,
            "RESAMPLED" in [str(word).strip() for word in value_of(header, "ImageType") or []],
            any((value_of(code, "CodeValue"), value_of(code, "CodingSchemeDesignator")) == RESTORED[:2] for code in codes),
            area_of(header)[1:],
            _halves(file, uid) if srh else frozenset(),
            (str(concatenation), numbers[0], numbers[1]) if concatenation else None,
        )


def _halves(file: DicomFile, uid: str) -> frozenset[int | str]:
    items = value_of(file.header, "OpticalPathSequence") or []
    halves: set[int | str] = set()
    for item in items:
        more = (str(value_of(file.header, "SeriesDescription") or ""),) if len(items) == 1 else ()
        named = channel_of_words(statement_of(item).words)
        if named is None:
            named = channel_of_words(statement_of(item, *more).words)
        whose = str(value_of(file.header, "ConcatenationUID") or uid)
        halves.add(named if named in (0, 1) else f"{whose} {value_of(item, 'OpticalPathIdentifier')}")
    return frozenset(halves)


def is_slide_file(path: Path) -> bool:
    """Whether a file is a DICOM whole slide image, of whatever kind."""
    try:
        with quiet_pydicom(), told_as("damage", NEEDED, path):
            return bool(read_header(path, ["SOPClassUID"]).required("SOPClassUID") == VLWholeSlideMicroscopyImageStorage)
    except InputError:
        return False


def same_instance(one: Path, two: Path) -> bool:
    """Whether two files are one DICOM object to the bit, whatever their file meta say; False when one cannot be read."""
    try:
        with quiet_pydicom(), told_as("damage", NEEDED, two):
            return same_content(read_header(one), read_header(two))
    except InputError:
        return False


def content_sha256(path: Path) -> str:
    """SHA-256 of a DICOM object's pixel data as they are encoded, hexadecimal; of the whole file where it has none.

    By it an object is known again when its file is gone, whoever has written its header anew meanwhile.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    with quiet_pydicom(), told_as("damage", NEEDED, path):
        start = read_header(path, ["SOPInstanceUID"]).pixel_offset or 0
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(level: Iterable[Instance]) -> bool:
    """Whether both channels of a level are there, with every part of what was cut into several files."""
    parts: dict[str, set[int]] = {}
    totals: dict[str, int] = {}
    halves: set[int | str] = set()
    for one in level:
        halves |= one.halves
        if one.part is not None:
            name, number, total = one.part
            parts.setdefault(name, set()).add(number)
            totals[name] = max(total, totals.get(name, 0))
    return len(halves) > 1 and all(len(parts[name]) >= total for name, total in totals.items())
