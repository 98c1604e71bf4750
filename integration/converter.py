"""Other formats to DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import ChannelOption
from srh_clinic.integration.dicom_reader import DicomSlide
from srh_clinic.integration.dicom_writer import write_wsi
from srh_clinic.integration.reader import read_slide


def convert(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    um_per_px: float | None = None,
    full_scale: int | None = None,
    channels: ChannelOption | None = None,
    plane: int | None = None,
    flat_field: str | None = None,
) -> list[Path]:
    """Make a DICOM slide of a two-channel TIFF, of two TIFFs of one channel each, or of strips or patches in a folder.

    Parameters
    ----------
    inputs
        The TIFF, those of CH2 and CH3, a folder of strips of an NIO imager, or a slide of an OpenSRH tree.
    out
        A ``.dcm`` file (both optical paths), or a folder (one instance per Raman shift).
    um_per_px
        Pixel edge in micrometres, where the TIFF does not state it.
    full_scale
        Stored value at unit intensity 1, where the TIFF does not state it.
    channels, plane, flat_field
        As in :func:`~srh_clinic.integration.reader.read_slide`.

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
    if len(paths) not in (1, 2):
        raise InputError(f"{len(paths)} inputs", "one two-channel TIFF, or one of each channel")
    slide = read_slide(paths, um_per_px, full_scale, channels, plane, flat_field)
    if isinstance(slide, DicomSlide):
        raise InputError("a slide that is already DICOM", "a two-channel TIFF", paths[0])
    return write_wsi(slide, out)
