"""Slides from one format to another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import ChannelOption
from srh_clinic.integration.deidentify import Pseudonyms, export_deidentified
from srh_clinic.integration.dicom_reader import DicomSlide
from srh_clinic.integration.dicom_writer import write_wsi
from srh_clinic.integration.ome_tiff import write_ome_tiff
from srh_clinic.integration.ome_zarr import write_ome_zarr
from srh_clinic.integration.reader import read_slide
from srh_clinic.slide import Slide

FORMATS = {"ome-tiff": (".ome.tif", ".ome.tiff"), "ome-zarr": (".ome.zarr",), "dicom": ()}
"""What a slide can be converted to, with the endings of names that say so; DICOM takes any other name."""


def convert(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    um_per_px: float | None = None,
    full_scale: int | None = None,
    channels: ChannelOption | None = None,
    plane: int | None = None,
    flat_field: str | None = None,
    to: str | None = None,
    pseudonyms: Pseudonyms | None = None,
) -> list[Path]:
    """Make a DICOM slide, an OME-TIFF or an OME-Zarr image of a slide in any format that is read.

    Parameters
    ----------
    inputs
        The TIFF, those of CH2 and CH3, a folder of strips of an NIO imager, or a slide of an OpenSRH tree.
    out
        For DICOM a ``.dcm`` file (both optical paths), or a folder (one instance per Raman shift).
    um_per_px
        Pixel edge in micrometres, where the TIFF does not state it.
    full_scale
        Stored value at unit intensity 1, where the TIFF does not state it.
    channels, plane, flat_field
        As in :func:`~srh_clinic.integration.reader.read_slide`.
    to
        One of :data:`FORMATS`; None takes what the name of ``out`` ends in.
    pseudonyms
        Leave out whom the slide shows, and let these stand for it; see :mod:`~srh_clinic.integration.deidentify`.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InputError
        When the input is no slide, the output cannot be written, or a DICOM slide would only be written again.
    """
    paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if len(paths) not in (1, 2):
        raise InputError(f"{len(paths)} inputs", "one two-channel TIFF, or one of each channel")
    if to is None:
        to = next(name for name, endings in FORMATS.items() if not endings or Path(out).name.lower().endswith(endings))
    if to not in FORMATS:
        raise InputError(f"the format {to!r}", f"one of {', '.join(sorted(FORMATS))}")
    slide = read_slide(paths, um_per_px, full_scale, channels, plane, flat_field)
    if pseudonyms is not None:
        return [export_deidentified(slide, Path(out), partial(_write, to), pseudonyms)]
    if to == "dicom" and isinstance(slide, DicomSlide):
        needed = "one of another format; of DICOM, OUT as .ome.tif or .ome.zarr, or --deidentify"
        raise InputError("a slide that is already DICOM", needed, paths[0])
    return _write(to, slide, out)


def _write(to: str, slide: Slide, out: str | Path, created: datetime | None = None) -> list[Path]:
    if to == "ome-tiff":
        return [write_ome_tiff(slide, out)]
    if to == "ome-zarr":
        return [write_ome_zarr(slide, out)]
    return write_wsi(slide, out, created=created)
