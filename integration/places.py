"""Which file it is: told from what lies at a path before anything of it is read, and what layouts of the field look like."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from srh_clinic.errors import InputError

TIFF_SUFFIXES = (".tif", ".tiff")
"""How names of TIFFs end."""

_TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_NO_PREAMBLE = "a DICOM data set without the preamble that makes it a file (128 bytes and DICM)"
_OTHER_MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
    b"SIMPLE  =": "a FITS image",
    b"ZISRAWFILE": "a CZI file of Zeiss",
    b"\x70\x00\x00\x00\x2a": "a LIF file of Leica",
    b"\xda\xce\xbe\x0a": "an ND2 file of Nikon",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000 image",
    b"\xd0\xcf\x11\xe0": "a compound file (OIB, OIF, ZVI and others)",
    b"MATLAB 5.0": "a MATLAB file",
    b"\x93NUMPY": "a NumPy array",
    b"TDSm": "a TDMS file of LabVIEW",
    b"NRRD": "an NRRD image",
    b"GIF8": "a GIF image",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    # a data set that begins at once: groups 2 and 8, little-endian
    b"\x02\x00\x00\x00": _NO_PREAMBLE,
    b"\x08\x00\x05\x00": _NO_PREAMBLE,
    b"\x08\x00\x08\x00": _NO_PREAMBLE,
    b"\x08\x00\x16\x00": _NO_PREAMBLE,
}
_NIO_FLAT = re.compile(r"(?:.+_.+_\d+|img\d+_\d+_.+|img\d{5})\.dcm$", re.IGNORECASE)
_LOOKED_BELOW = 8  # folders of a folder, in each of three storeys
_SPECIAL = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def kind_of(path: Path, needed: str) -> str:
    """What lies at a path: ``"folder"``, ``"dicom"``, ``"tiff"``, or in words what it is instead.

    A DICOM file whose preamble is a TIFF header (PS3.10 7.1) is DICOM. Pipes and devices are never opened: they may never end.

    Raises
    ------
    InputError
        When there is nothing, it cannot be read, or is neither file nor folder.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "folder"
        for is_special, name in _SPECIAL.items():
            if is_special(mode):
                raise InputError(f"{name}, no file", needed, path)
        with path.open("rb", buffering=0) as file:
            start = file.read(1024)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("no such file or folder", needed, path) from error
    except OSError as error:
        raise InputError(f"a file that cannot be read ({error.strerror})", "a readable file", path) from error
    except ValueError as error:  # a null character in a name
        raise InputError("a name that no file can have", needed) from error
    if start[128:132] == b"DICM":
        return "dicom"
    return "tiff" if start.startswith(_TIFF_MAGIC) else _in_words(start)


def is_left_by_system(name: str) -> bool:
    """Whether a file is one that an operating system leaves beside others: resource forks (``._*``), thumbnails."""
    return name.startswith("._") or name in (".DS_Store", "Thumbs.db", "desktop.ini")


def files_in(folder: Path) -> list[Path]:
    """The files in a folder, by name, without those that an operating system leaves there; pipes and devices are none.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    try:
        return sorted(file for file in folder.iterdir() if not is_left_by_system(file.name) and file.is_file())
    except OSError as error:
        raise InputError(f"a folder that cannot be read ({error.strerror})", "a readable folder", folder) from error


def tiffs_in(folder: Path) -> list[Path]:
    """The files in a folder that are named as TIFFs, by name; ``InputError`` when it cannot be read."""
    return [file for file in files_in(folder) if file.suffix.lower() in TIFF_SUFFIXES]


def layout_of(folder: Path) -> str | None:
    """A layout of the field that is not read as one case, in words; ``None`` for a folder that looks like none.

    NIO imagers keep ``strips/CH2`` and ``strips/CH3``, mosaics, or flat strips whose channels alternate; OpenSRH keeps
    patches and ``meta/opensrh.json``.
    """
    try:
        below = {item.name.lower(): item for item in folder.iterdir()}
        folders = sorted(name for name, item in below.items() if item.is_dir() and not name.startswith("."))
        real = [below[name].name for name in folders]
        if "meta" in folders and (below["meta"] / "opensrh.json").is_file():
            return "a folder of OpenSRH (meta/opensrh.json); its patches are TIFFs of shape (2, 300, 300), each a file"
        if "strips" in folders:
            return "a folder of strips of an NIO imager (strips/CH2, strips/CH3)"
        if {"ch2", "ch3"} <= set(folders):
            return "a folder of strips of an NIO imager (CH2, CH3), one file a strip"
        if "mosaic" in folders or "mosaics" in folders:
            return "a folder of an NIO imager with its RGB mosaic"
        strips = [name for name in below if _NIO_FLAT.match(name)]
        if folders and not files_in(folder):
            inside = _below(folder)
            return f"a folder with no file but a folder in it ({', '.join(real[:3])}){inside and f', with {inside}'}"
        if len(strips) > 2 and len(strips) == len(files_in(folder)):
            return f"a folder of {len(strips)} numbered single images, as the strips of an NIO imager are"
    except OSError as error:
        raise InputError(f"a folder that cannot be read ({error.strerror})", "a readable folder", folder) from error
    return None


def _below(folder: Path, storeys: int = 3) -> str:
    """What lies some storeys below a folder, where its name is one of NIO's or OpenSRH's."""
    inside = sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))[:_LOOKED_BELOW]
    names = {item.name.lower() for item in inside}
    if "strips" in names or {"ch2", "ch3"} <= names:
        return "strips of an NIO imager below"
    if "patches" in names:
        return "patches as OpenSRH keeps them below"
    if names & {"mosaic", "mosaics"}:
        return "a mosaic of an NIO imager below"
    return next((found for item in inside if storeys > 1 and (found := _below(item, storeys - 1))), "")


def _in_words(start: bytes) -> str:
    if not start:
        return "an empty file"
    for magic, kind in _OTHER_MAGIC.items():
        if start.startswith(magic):
            return kind
    printable = all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
    return "a text file" if printable else "a file that is neither DICOM nor TIFF"
