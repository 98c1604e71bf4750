"""Other formats to DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.integration.dicom_reader import DicomSlide
from srh_clinic.integration.dicom_writer import write_wsi
from srh_clinic.integration.reader import read_slide


def convert(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    um_per_px: float | None = None,
    full_scale: int | None = None,
) -> list[Path]:
    """Make a DICOM slide of a two-channel TIFF.

    Parameters
    ----------
    inputs
        The TIFF.
    out
        A ``.dcm`` file (both optical paths), or a folder (one instance per Raman shift).
    um_per_px
        Pixel edge in micrometres, where the TIFF does not state it.
    full_scale
        Stored value at unit intensity 1, where the TIFF does not state it.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InputError
        When the input is not one such stack, or the output cannot be written.
    """
    paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if len(paths) != 1:
        raise InputError(f"{len(paths)} inputs", "one two-channel TIFF")
    slide = read_slide(paths[0], um_per_px, full_scale)
    if isinstance(slide, DicomSlide):
        raise InputError("a slide that is already DICOM", "a two-channel TIFF", paths[0])
    return write_wsi(slide, out)
