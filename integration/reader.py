"""Any file or folder of a case to a slide."""

from __future__ import annotations

from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.integration.dicom_reader import read_dicom
from srh_clinic.integration.tiff import read_tiff
from srh_clinic.slide import Slide

NEEDED = "a DICOM whole slide image or a two-channel TIFF"

_TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_OTHER_MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive",
}


def read_slide(path: str | Path, um_per_px: float | None = None, full_scale: int | None = None) -> Slide:
    """Open a case as a lazy slide.

    Parameters
    ----------
    path
        A DICOM whole slide image, one file of a DICOM series, a folder with one case, or a two-channel TIFF.
    um_per_px
        Pixel edge in micrometres, 0.01..20, where the file does not state it or states it wrongly.
    full_scale
        Stored value at unit intensity 1, where the file does not state it: 4,096 for 12-bit data.

    Raises
    ------
    InputError
        When it is not one whole SRH slide.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return read_dicom(path, um_per_px, full_scale)
        with path.open("rb") as file:
            start = file.read(1024)
    except FileNotFoundError as error:
        raise InputError("no such file or folder", NEEDED, path) from error
    except OSError as error:
        raise InputError(f"a file that cannot be read ({error.strerror})", "a readable file", path) from error
    if start.startswith(_TIFF_MAGIC):
        return read_tiff(path, um_per_px, full_scale)
    if start[128:132] == b"DICM":
        return read_dicom(path, um_per_px, full_scale)
    raise InputError(_kind(start), NEEDED, path)


def _kind(start: bytes) -> str:
    """What a file is by its first bytes."""
    if not start:
        return "an empty file"
    for magic, kind in _OTHER_MAGIC.items():
        if start.startswith(magic):
            return kind
    printable = all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
    return "a text file" if printable else "a file that is neither DICOM nor TIFF"
