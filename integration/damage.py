"""Damage is told as damage: what libraries raise on a file that is cut, broken or hostile becomes one sentence."""

from __future__ import annotations

import lzma
import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.errors import BytesLengthException, InvalidDicomError
from tifffile import TiffFileError

from srh_clinic.errors import InputError

DAMAGED = (
    InvalidDicomError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    ET.ParseError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TiffFileError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
)
"""What pydicom, tifffile and the decoders raise on a damaged file."""

_OURS = (KeyboardInterrupt, SystemExit, GeneratorExit)


@contextmanager
def told_as(found: str, needed: str, path: Path) -> Iterator[None]:
    """Raise as ``InputError`` with this sentence whatever a library raises on a damaged file.

    A codec written in Rust panics with an exception that is no ``Exception``.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"a file that cannot be read ({error.strerror or error})", "a readable file", path) from error
    except DAMAGED as error:
        raise InputError(found, needed, path) from error
    except BaseException as error:
        if isinstance(error, _OURS) or type(error).__module__ != "pyo3_runtime":
            raise
        raise InputError(found, needed, path) from error
