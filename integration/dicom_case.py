"""Which files make a case: siblings of one series, its highest-resolution level, and nothing else in the folder."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID, VLWholeSlideMicroscopyImageStorage

from srh_clinic.errors import InputError
from srh_clinic.integration.dicom_file import DAMAGED, TRUNCATED_HEADER, DicomFile, read_header

NEEDED = "a 16-bit monochrome whole slide image of both Raman shifts (2845 and 2930 cm-1)"

_SUMMARY = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "ContainerIdentifier",
    "ImageType",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixColumns",
    "ImagedVolumeWidth",
    "ImagedVolumeHeight",
    "FrameOfReferenceUID",
]

_CASE = ("StudyInstanceUID", "PatientID", "ContainerIdentifier")

_EXTENT_TOLERANCE = 0.02  # levels of a pyramid differ by the pixels that their last tiles round up to


def find_case(path: Path) -> tuple[list[DicomFile], list[str]]:
    """The files that hold the case at ``path``, with their headers read, and what was passed over as unreadable.

    ``path`` is a file, of whose series the siblings are found in its folder by Series Instance UID, or a folder, which may
    also hold other levels of the pyramid, labels, overviews, duplicates, other images and files that are not DICOM.

    Raises
    ------
    InputError
        When there is no SRH slide, or more than one series of them.
    """
    if path.is_dir():
        summaries, unreadable = _summaries(_files(path))
        if not summaries:
            kind = "a folder without DICOM files" if _files(path) else "an empty folder"
            if unreadable:
                kind = f"no usable DICOM file ({'; '.join(unreadable)})"
            raise InputError(kind, NEEDED, path)
    else:
        named = read_header(path, _SUMMARY)
        if _is_truncated(named):
            raise InputError(TRUNCATED_HEADER, "a whole DICOM file", path)
        if named.required("SOPClassUID") != VLWholeSlideMicroscopyImageStorage:
            raise InputError(f"a DICOM object of {_class_name(named)}", NEEDED, path)
        series = named.required("SeriesInstanceUID")
        others, unreadable = _summaries([file for file in _files(path.parent) if file != path])
        summaries = [named, *(other for other in others if other.header.get("SeriesInstanceUID") == series)]
    slides = _srh_volumes(_without_duplicates(summaries), path)
    _check_one_series(slides, path)
    _check_one_scan(slides)
    largest = max(_area(slide.header) for slide in slides)
    level = [slide for slide in slides if _area(slide.header) == largest]
    return [read_header(slide.path) for slide in level], unreadable


def series_in(folder: Path) -> list[Path]:
    """One file of each series of SRH slides in a folder; empty when it holds no DICOM file.

    Raises
    ------
    InputError
        When none of its DICOM files is an SRH slide, or one cannot be read: a series may be missing then.
    """
    summaries, unreadable = _summaries(_files(folder))
    if unreadable:
        raise InputError(f"a file that cannot be read ({unreadable[0]})", "whole DICOM files", folder)
    if not summaries:
        return []
    first: dict[str, Path] = {}
    for file in _srh_volumes(_without_duplicates(summaries), folder):
        first.setdefault(str(file.header.get("SeriesInstanceUID")), file.path)
    return list(first.values())


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.is_file())
    except OSError as error:
        raise InputError(f"a folder that cannot be read ({error.strerror})", "a readable folder", folder) from error


def _summaries(files: list[Path]) -> tuple[list[DicomFile], list[str]]:
    """Headers of those files that are DICOM; of the others, those that say they are or cannot be read, with the reason."""
    summaries, unreadable = [], []
    for file in files:
        try:
            summary = read_header(file, _SUMMARY)
            for keyword in _SUMMARY:  # pydicom converts a value on access: a damaged one shows itself here
                summary.header.get(keyword)
        except InputError as error:
            if not error.found.endswith("not DICOM"):
                unreadable.append(f"{file.name}: {error.found}")
        except DAMAGED:
            unreadable.append(f"{file.name}: a damaged header")
        else:
            if _is_truncated(summary):
                unreadable.append(f"{file.name}: {TRUNCATED_HEADER}")
            else:
                summaries.append(summary)
    return summaries, unreadable


def _without_duplicates(files: list[DicomFile]) -> list[DicomFile]:
    first: dict[str, DicomFile] = {}
    for file in files:
        first.setdefault(str(file.header.get("SOPInstanceUID")), file)
    return list(first.values())


def _srh_volumes(files: list[DicomFile], path: Path) -> list[DicomFile]:
    """Those files that can be SRH; ``InputError`` that says what is there instead."""
    slides = [file for file in files if file.header.get("SOPClassUID") == VLWholeSlideMicroscopyImageStorage]
    if not slides:
        raise InputError(f"DICOM objects of {_class_name(files[0])}, not a slide", NEEDED, path)
    volumes = [file for file in slides if _flavour(file.header) == "VOLUME"]
    if not volumes:
        flavours = ", ".join(sorted({_flavour(file.header) for file in slides}))
        raise InputError(f"only {flavours} images of a slide", NEEDED, path)
    srh = [file for file in volumes if _is_16_bit_monochrome(file.header)]
    if not srh:
        header = volumes[0].header
        colour = header.get("SamplesPerPixel") != 1
        bits = header.get("BitsStored", header.get("BitsAllocated"))
        raise InputError("an RGB slide" if colour else f"{'an' if bits == 8 else 'a'} {bits}-bit slide", NEEDED, path)
    return srh


def _check_one_series(slides: list[DicomFile], path: Path) -> None:
    first = slides[0]
    for other in slides[1:]:
        if other.header.get("SeriesInstanceUID") == first.header.get("SeriesInstanceUID"):
            continue
        same = all(other.header.get(keyword) == first.header.get(keyword) for keyword in _CASE)
        what = "two series of one case" if same else "slides of two cases"
        raise InputError(
            f"{what} ({first.path.name} and {other.path.name})", "one; give one of its files instead of the folder", path
        )


def _check_one_scan(slides: list[DicomFile]) -> None:
    """Refuse images of one series that are not levels or channels of one scan, so that none is read for another."""
    first = slides[0]
    for other in slides[1:]:
        differing = [k for k in _CASE if (first.header.get(k) or "") != (other.header.get(k) or "")]
        for keyword in ("FrameOfReferenceUID", "ImagedVolumeWidth", "ImagedVolumeHeight"):
            one, two = first.header.get(keyword), other.header.get(keyword)
            if one and two and not _agree(one, two):
                differing.append(keyword)
        if differing:
            found = f"a {differing[0]} that differs from that of {first.path.name} in the same series"
            raise InputError(found, "levels and channels of one scan", other.path)


def _agree(one: str | float, two: str | float) -> bool:
    if isinstance(one, str) or isinstance(two, str):
        return one == two
    return abs(one - two) <= _EXTENT_TOLERANCE * max(one, two)


def _is_truncated(file: DicomFile) -> bool:
    """Whether a file ends where a slide would have its pixel data; a report, for example, has none."""
    if file.pixel_offset is not None:
        return False
    says = file.header.file_meta.get("MediaStorageSOPClassUID"), file.header.get("SOPClassUID")
    return VLWholeSlideMicroscopyImageStorage in says or says[1] is None


def _is_16_bit_monochrome(header: Dataset) -> bool:
    return bool(
        header.get("SamplesPerPixel") == 1 and header.get("BitsAllocated") == 16 and (header.get("BitsStored") or 0) > 8
    )


def _flavour(header: Dataset) -> str:
    image_type = header.get("ImageType") or []
    return str(image_type[2]) if len(image_type) > 2 else "unnamed"


def _area(header: Dataset) -> tuple[int, int, int]:
    """Sorts by area; equal only for equal shapes."""
    rows, columns = header.get("TotalPixelMatrixRows") or 0, header.get("TotalPixelMatrixColumns") or 0
    return rows * columns, rows, columns


def _class_name(file: DicomFile) -> str:
    return UID(str(file.header.get("SOPClassUID"))).name
