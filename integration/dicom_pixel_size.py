"""Every statement of the pixel size in a whole slide image: Pixel Measures of all its groups, and the imaged volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from srh_clinic.errors import InputError
from srh_clinic.integration.damage import DAMAGED
from srh_clinic.integration.dicom_file import DicomFile, value_of
from srh_clinic.integration.units import StatedLength, agree, settle
from srh_clinic.slide import Slide

VOLUME_TOLERANCE = 0.02
"""Relative difference between imaged volume and pixel spacing up to which both agree: levels round their last tiles up."""

_IN_GROUPS = {
    "SharedFunctionalGroupsSequence": "shared Pixel Spacing",
    "PerFrameFunctionalGroupsSequence": "Pixel Spacing of a frame",
}
_AT_THE_TOP = {"PixelSpacing": "Pixel Spacing"}


def pixel_size(files: list[DicomFile], um_per_px: float | None) -> tuple[float, tuple[str, ...]]:
    """Pixel edge in micrometres, the caller's before that of the files, and what a result must say about it.

    Raises
    ------
    InputError
        When no file states it, they state several, or pixels are not square to one per cent, and the caller says nothing.
    """
    try:
        stated = [_spacings(file) for file in files]
        for file, lengths in zip(files, stated, strict=True):
            settle(lengths, um_per_px, file.path)
    except InputError as error:
        if um_per_px is None:
            raise
        return um_per_px, (f"pixel size {um_per_px:g} um stated by the caller, {error.found} by the file",)
    for file, lengths in zip(files, stated, strict=True):
        if not agree(lengths[0].um, stated[0][0].um, 1e-3):
            raise InputError(f"a pixel size that differs from that of {files[0].path.name}", "the same pixel size", file.path)
    size, notes = settle(stated[0], um_per_px, files[0].path)
    return size if size is not None else stated[0][0].um, notes


def _spacings(file: DicomFile) -> list[StatedLength]:
    """Pixel edge from every Pixel Measures; each must be square to one per cent."""
    stated = [_edge(file, spacing, where) for spacing, where in _statements(file)]
    if not stated:
        raise InputError("no Pixel Spacing", "a slide that states its pixel size", file.path)
    return stated


def _statements(file: DicomFile) -> Iterator[tuple[Any, str]]:
    """Every Pixel Spacing as it stands, and where; of equal ones in the same groups the first."""
    for groups, where in _IN_GROUPS.items():
        said = set()
        for group in file.header.get(groups) or []:
            for measures in value_of(group, "PixelMeasuresSequence") or []:
                spacing = value_of(measures, "PixelSpacing")
                if spacing is not None and spacing != "" and str(spacing) not in said:
                    said.add(str(spacing))
                    yield spacing, where
    for keyword, where in _AT_THE_TOP.items():
        spacing = file.header.get(keyword)
        if spacing is not None and spacing != "":
            yield spacing, where


def stated_edges(file: DicomFile) -> tuple[float, float] | None:
    """Distance of a file's rows and of its columns in micrometres, as it states them; ``None`` where it does not.

    One per cent between them, up to which pixels pass for square, is 60 pixels at the far edge of a slide of 6,000: what lies
    in the slide's coordinates is placed by both.
    """
    try:
        down, across = (float(f"{float(mm) * 1000:.9g}") for mm in next(_statements(file))[0])
    except (StopIteration, *DAMAGED):
        return None
    return (down, across) if down > 0 and across > 0 else None


def edges_um(slide: Slide) -> tuple[float, float]:
    """Distance of a slide's rows and of its columns in micrometres.

    Where the slide has the pixel edge that its file states, both are the file's; a size that a caller stated goes before.
    """
    um = float(slide.um_per_px)
    down, across = slide.identity.attributes.get("edges_um") or (um, um)
    return (um, across) if agree(down, across) and agree(down, um, 1e-6) else (um, um)


def _edge(file: DicomFile, spacing: object, where: str) -> StatedLength:
    try:
        down, across = (float(millimetres) * 1000 for millimetres in spacing)  # type: ignore[attr-defined]
    except DAMAGED as error:
        raise InputError("a damaged Pixel Spacing", "two numbers in mm", file.path) from error
    if not (down > 0 and across > 0):
        found = f"a {where} of {across / 1000:g} x {down / 1000:g} mm"
        raise InputError(found, "two numbers above 0, or --um-per-px", file.path)
    if not agree(down, across):
        raise InputError(f"pixels of {across:g} x {down:g} um", "square pixels", file.path)
    return StatedLength(float(f"{down:.9g}"), where)  # 0.00047 mm is 0.47 um


def volume_notes(files: list[DicomFile], um_per_px: float, asked: float | None) -> tuple[str, ...]:
    """Compare the pixel edge with the imaged volume (PS3.3 C.8.12.4) divided by the pixels across it.

    Returns
    -------
    tuple of str
        What a result must say where the caller states the size and the volume another.

    Raises
    ------
    InputError
        When they differ, and the caller says nothing.
    """
    for file in files:
        for edge, pixels in (("ImagedVolumeWidth", "TotalPixelMatrixColumns"), ("ImagedVolumeHeight", "TotalPixelMatrixRows")):
            millimetres, number = file.header.get(edge), file.header.get(pixels)
            if millimetres in (None, "", 0) or not number:
                continue
            if not float(millimetres) > 0:
                raise InputError(f"an {edge} of {float(millimetres):g} mm", "a number above 0, or none", file.path)
            volume = StatedLength(1000 * float(millimetres) / int(number), f"{edge} / {pixels}")
            if agree(volume.um, um_per_px, VOLUME_TOLERANCE):
                continue
            if asked is None:
                found = f"two pixel sizes, {um_per_px:g} um (Pixel Spacing) and {volume}"
                raise InputError(found, "one, or --um-per-px", file.path)
            return (f"pixel size {asked:g} um stated by the caller, {volume} by the file",)
    return ()
