"""The chain of directories of a TIFF: whole and within the file, or told as damage before any of them is taken for a page."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from srh_clinic.errors import InputError
from srh_clinic.integration.limits import limits

NEEDED = "a whole TIFF"

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Of a value of each type (TIFF 6.0, section 2; BigTIFF's 16 to 18)."""


def check_directories(file: BinaryIO, path: Path) -> None:
    """Walk over the directories of a TIFF: a reader that passes over one that is cut sees another image.

    Raises
    ------
    InputError
        When a directory or a value of one lies behind the end of the file, they run in a circle, or there are too many.
    OSError
        When the file cannot be read.
    """
    file.seek(0)
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    (version,) = struct.unpack_from(order + "H", start.ljust(16, b"\0"), 2)
    wide = version == 43
    (at,) = struct.unpack_from(order + ("Q" if wide else "L"), start.ljust(16, b"\0"), 8 if wide else 4)
    size, seen = file.seek(0, 2), set[int]()
    while at:
        if at in seen:
            raise InputError(f"a damaged TIFF: the directories behind page {len(seen)} run in a circle", NEEDED, path)
        seen.add(at)
        if len(seen) > limits().pages:
            raise InputError(f"a TIFF of more than {limits().pages} pages", "at most as many", path)
        at = _next(file, at, order, wide, size, len(seen), path)


def _next(file: BinaryIO, at: int, order: str, wide: bool, size: int, number: int, path: Path) -> int:
    """Where the next directory is said to lie, 0 behind the last."""
    count, entry, offset = ("Q", "HHQQ", "Q") if wide else ("H", "HHLL", "L")
    head, each, foot = (struct.calcsize(order + code) for code in (count, entry, offset))
    file.seek(at)
    raw = file.read(head)
    (entries,) = struct.unpack(order + count, raw) if len(raw) == head else (0,)
    if len(raw) < head or at + head + entries * each + foot > size:
        raise InputError(f"a truncated TIFF: it ends before the directory of page {number}", NEEDED, path)
    body = file.read(entries * each + foot)
    for tag, kind, length, where in struct.iter_unpack(order + entry, body[: entries * each]):
        n_bytes = _BYTES.get(kind, 0) * length
        if n_bytes > foot and where + n_bytes > size:
            raise InputError(f"a truncated TIFF: it ends before tag {tag} of page {number}", NEEDED, path)
    (following,) = struct.unpack(order + offset, body[entries * each :])
    return int(following)
