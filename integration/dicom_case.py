"""Which files make a case: siblings of one series, its highest-resolution level, and nothing else in the folder."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID, VLWholeSlideMicroscopyImageStorage

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import channel_of_words
from srh_clinic.integration.damage import DAMAGED
from srh_clinic.integration.dicom_file import TRUNCATED_HEADER, DicomFile, read_header, value_of
from srh_clinic.integration.optical_path import statement_of
from srh_clinic.integration.places import files_in, layout_of, tiffs_in

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
_CHUNK = 2**20


def find_case(path: Path) -> tuple[list[DicomFile], list[str]]:
    """The files that hold the case at ``path``, with their headers read, and what was passed over, with the reason.

    ``path`` is a file, of whose series the siblings are found in its folder by Series Instance UID, or a folder, which may
    also hold other levels of the pyramid, labels, overviews, duplicates, other images and files that are not DICOM. Two series
    of one study, one Raman shift each, of one place and size, are one case.

    Raises
    ------
    InputError
        When there is no SRH slide, or more than one series of them.
    """
    if path.is_dir():
        summaries, unreadable = _summaries(files_in(path))
        if not summaries:
            raise InputError(_nothing_in(path, unreadable), NEEDED, path)
        series = None
    else:
        named = _named(path)
        others, unreadable = _summaries([file for file in files_in(path.parent) if file != path])
        summaries, again = _without_versions_of(named, others)
        unreadable += again
        series = str(named.required("SeriesInstanceUID"))
        if others:  # a named file of another kind is told as what it is, whatever lies beside it
            _srh_volumes([file for file in summaries if str(value_of(file.header, "SeriesInstanceUID")) == series], path)
    slides = _one_case(_without_duplicates(_srh_volumes(summaries, path)), series, path)
    _check_one_scan(slides)
    for slide in slides:
        if slide.number("TotalPixelMatrixRows") * slide.number("TotalPixelMatrixColumns") < 1:
            raise InputError(f"an image of {_size(slide.header)}", "at least one pixel each way", slide.path)
    largest = max(area_of(slide.header) for slide in slides)
    level = [slide for slide in slides if area_of(slide.header) == largest]
    other = [
        f"{slide.path.name}: {_size(slide.header)}, not {_size(level[0].header)}" for slide in slides if slide not in level
    ]
    return [slide if slide.whole else read_header(slide.path) for slide in level], unreadable + other


def headers_of(files: list[Path]) -> list[DicomFile]:
    """The headers of the files that a caller names as one case.

    Raises
    ------
    InputError
        When one is no SRH slide, or they are not of one scan.
    """
    found = _srh_volumes([_named(file) for file in files], files[0])
    if len(found) < len(files):
        raise InputError("a file that is no 16-bit monochrome volume image", NEEDED, files[0])
    _check_one_scan(found)
    return found


def series_in(folder: Path) -> list[Path]:
    """One file of each series of SRH slides in a folder; empty when it holds no DICOM file.

    Raises
    ------
    InputError
        When none of its DICOM files is an SRH slide, or one cannot be read: a series may be missing then.
    """
    summaries, unreadable = _summaries(files_in(folder))
    if unreadable:
        raise InputError(f"a file that cannot be read ({unreadable[0]})", "whole DICOM files", folder)
    if not summaries:
        return []
    first: dict[str, Path] = {}
    for file in _srh_volumes(_without_duplicates(summaries), folder):
        first.setdefault(str(value_of(file.header, "SeriesInstanceUID")), file.path)
    return list(first.values())


def _named(path: Path) -> DicomFile:
    """The header of a file that a caller names; ``InputError`` when it is no whole slide image."""
    named = read_header(path)
    if named.is_directory:
        raise InputError("a DICOMDIR, the index of a folder of files", "the folder or a file of the slide", path)
    if is_truncated(named):
        raise InputError(TRUNCATED_HEADER, "a whole DICOM file", path)
    if named.required("SOPClassUID") != VLWholeSlideMicroscopyImageStorage:
        raise InputError(f"a DICOM object of {_class_name(named)}", NEEDED, path)
    return named


def _nothing_in(folder: Path, unreadable: list[str]) -> str:
    """What a folder without DICOM is."""
    if unreadable:
        return f"no usable DICOM file ({'; '.join(unreadable)})"
    layout = layout_of(folder)
    if layout is not None:
        return layout
    if tiffs := tiffs_in(folder):
        return f"a folder of {len(tiffs)} TIFFs and no DICOM file; a slide of TIFF is named by its file ({tiffs[0].name})"
    names = {file.name.upper() for file in files_in(folder)}
    folders = sorted(item.name for item in folder.iterdir() if item.is_dir())
    if "DICOMDIR" in names:
        return (
            f"a DICOMDIR and no slide beside it, but a folder in it ({', '.join(folders[:3])})"
            if folders
            else "a DICOMDIR alone"
        )
    if folders:
        return f"a folder without DICOM files, but a folder in it ({', '.join(folders[:3])})"
    return "a folder without DICOM files" if names else "an empty folder"


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
            if summary.is_directory:
                continue
            if is_truncated(summary):
                unreadable.append(f"{file.name}: {TRUNCATED_HEADER}")
            else:
                summaries.append(summary)
    return summaries, unreadable


def _without_duplicates(files: list[DicomFile]) -> list[DicomFile]:
    """Each SOP instance once; ``InputError`` when two files are two versions of one."""
    first: dict[str, DicomFile] = {}
    for file in files:
        other = first.setdefault(str(value_of(file.header, "SOPInstanceUID")), file)
        if other is not file and not same_content(other, file):
            found = f"two files of one SOP Instance UID and different content ({other.path.name} and {file.path.name})"
            raise InputError(found, "one version; name the file that is meant", file.path.parent)
    return list(first.values())


def _without_versions_of(named: DicomFile, others: list[DicomFile]) -> tuple[list[DicomFile], list[str]]:
    """The named file and those of its folder that can belong to it, and what was left out as another version of it."""
    uid, series = str(value_of(named.header, "SOPInstanceUID")), value_of(named.header, "SeriesInstanceUID")
    kept, again = [named], []
    for other in others:
        if str(value_of(other.header, "SOPInstanceUID")) != uid:
            kept.append(other)
        elif not same_content(named, other):
            again.append(f"{other.path.name}: the SOP Instance UID of {named.path.name} over different content")
    return [file for file in kept if value_of(file.header, "SeriesInstanceUID") == series or _is_one_case(named, file)], again


def same_content(one: DicomFile, two: DicomFile) -> bool:
    """Whether two files are one instance: their data sets and pixel data equal, whatever their file meta say."""
    if one.pixel_offset is None or two.pixel_offset is None:
        return one.path.read_bytes() == two.path.read_bytes()
    if one.snapshot.size - one.pixel_offset != two.snapshot.size - two.pixel_offset:
        return False
    with one.path.open("rb") as first, two.path.open("rb") as second:
        first.seek(one.pixel_offset)
        second.seek(two.pixel_offset)
        while chunk := first.read(_CHUNK):
            if chunk != second.read(_CHUNK):
                return False
    return bool(read_header(one.path).header == read_header(two.path).header)


def _srh_volumes(files: list[DicomFile], path: Path) -> list[DicomFile]:
    """Those files that can be SRH; ``InputError`` that says what is there instead."""
    slides = [file for file in files if value_of(file.header, "SOPClassUID") == VLWholeSlideMicroscopyImageStorage]
    if not slides:
        layout = layout_of(path) if path.is_dir() else None
        found = f"DICOM objects of {_class_name(files[0])}, not a slide"
        raise InputError(found if layout is None else f"{layout} ({found})", NEEDED, path)
    volumes = [file for file in slides if flavour_of(file.header) == "VOLUME"]
    if not volumes:
        flavours = ", ".join(sorted({flavour_of(file.header) for file in slides}))
        raise InputError(f"only {flavours} images of a slide", NEEDED, path)
    srh = [file for file in volumes if is_16_bit_monochrome(file.header)]
    if not srh:
        header = volumes[0].header
        colour = value_of(header, "SamplesPerPixel") != 1
        bits = header.get("BitsStored", value_of(header, "BitsAllocated"))
        raise InputError("an RGB slide" if colour else f"{'an' if bits == 8 else 'a'} {bits}-bit slide", NEEDED, path)
    return srh


def _is_one_case(one: DicomFile, two: DicomFile) -> bool:
    return all(one.header.get(keyword) == two.header.get(keyword) for keyword in _CASE)


def _one_case(slides: list[DicomFile], series: str | None, path: Path) -> list[DicomFile]:
    """The slides of one series, or of two that hold one Raman shift each; ``InputError`` when it is not clear which."""
    by_series: dict[str, list[DicomFile]] = {}
    for slide in slides:
        by_series.setdefault(str(value_of(slide.header, "SeriesInstanceUID")), []).append(slide)
    if series is None and len(by_series) > 1:
        halves = _halves(by_series, None)
        if len(halves) == 1 and len(by_series) == 2:
            return slides
        first = slides[0]
        own = value_of(first.header, "SeriesInstanceUID")
        other = next(slide for slide in slides if value_of(slide.header, "SeriesInstanceUID") != own)
        what = "two series of one case" if _is_one_case(first, other) else "slides of two cases"
        raise InputError(
            f"{what} ({first.path.name} and {other.path.name})", "one; give one of its files instead of the folder", path
        )
    if series is None or len(by_series) == 1:
        return slides
    own = by_series.get(series, [])
    halves = _halves(by_series, series)
    if len(halves) == 1:
        (partner,) = set(halves[0]) - {series}
        return [*own, *by_series[partner]]
    if len(halves) > 1:
        found = f"one Raman shift, and the other in {len(halves)} another series of the study"
        raise InputError(found, "one; keep both files that are meant in a folder of their own", path)
    return own


def _halves(by_series: dict[str, list[DicomFile]], series: str | None) -> list[tuple[str, str]]:
    """Pairs of series that are one scan, a Raman shift each."""
    channels: dict[str, int | None] = {}
    pairs = []
    for one, two in combinations(by_series, 2):
        if series not in (None, one, two):
            continue
        first, second = by_series[one][0], by_series[two][0]
        frame = value_of(first.header, "FrameOfReferenceUID")
        if not _is_one_case(first, second) or not frame or frame != value_of(second.header, "FrameOfReferenceUID"):
            continue
        if max(map(_area_of_file, by_series[one])) != max(map(_area_of_file, by_series[two])):
            continue
        for each in (one, two):
            if each not in channels:
                channels[each] = _only_channel(by_series[each])
        if {channels[one], channels[two]} == {0, 1}:
            pairs.append((one, two))
    return pairs


def _only_channel(files: list[DicomFile]) -> int | None:
    """The one channel that the words of every optical path of some files name."""
    named = set()
    for file in files:
        header = read_header(file.path, ["OpticalPathSequence"]).header
        for item in value_of(header, "OpticalPathSequence") or [Dataset()]:
            named.add(channel_of_words(statement_of(item).words))
    return named.pop() if len(named) == 1 else None


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
            article = "an" if differing[0][0] in "AEIOU" else "a"
            found = f"{article} {differing[0]} that differs from that of {first.path.name} in the same series"
            raise InputError(found, "levels and channels of one scan", other.path)


def _agree(one: str | float, two: str | float) -> bool:
    if isinstance(one, str) or isinstance(two, str):
        return one == two
    return abs(one - two) <= _EXTENT_TOLERANCE * max(abs(one), abs(two))


def is_truncated(file: DicomFile) -> bool:
    """Whether a file ends where a slide would have its pixel data; a report, for example, has none."""
    if file.pixel_offset is not None:
        return False
    says = file.header.file_meta.get("MediaStorageSOPClassUID"), value_of(file.header, "SOPClassUID")
    return VLWholeSlideMicroscopyImageStorage in says or says[1] is None


def is_16_bit_monochrome(header: Dataset) -> bool:
    """Whether an image can hold counts of a channel."""
    one = value_of(header, "SamplesPerPixel") == 1 and value_of(header, "BitsAllocated") == 16
    return bool(one and (value_of(header, "BitsStored") or 0) > 8)


def flavour_of(header: Dataset) -> str:
    """What an image of a slide shows: VOLUME, LABEL, OVERVIEW, THUMBNAIL."""
    image_type = value_of(header, "ImageType") or []
    return str(image_type[2]).strip() if len(image_type) > 2 else "unnamed"


def area_of(header: Dataset) -> tuple[int, int, int]:
    """Pixels, rows and columns of the whole image: sorts by area; equal only for equal shapes."""
    rows, columns = value_of(header, "TotalPixelMatrixRows") or 0, value_of(header, "TotalPixelMatrixColumns") or 0
    return rows * columns, rows, columns


def _size(header: Dataset) -> str:
    _, rows, columns = area_of(header)
    return f"{columns} x {rows} pixels"


def _area_of_file(file: DicomFile) -> tuple[int, int, int]:
    return area_of(file.header)


def _class_name(file: DicomFile) -> str:
    return UID(str(value_of(file.header, "SOPClassUID"))).name
