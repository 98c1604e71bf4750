"""How much a file may ask for before it is refused: checked against its own size before anything is decoded."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from functools import lru_cache

from srh_clinic.errors import InputError

VARIABLE = "SRH_CLINIC_LIMITS"
"""Environment variable with other limits: ``frame_pixels=268435456,slide_mm=300``."""


@dataclass(frozen=True)
class Limits:
    """Limits of what is read.

    Attributes
    ----------
    frame_pixels
        The largest tile, strip or frame that is decoded in one piece (2**27 are 256 MiB of counts).
    slide_mm
        Longest edge of an image that a microscope can have made; the largest histology slides are 8 inches long.
    header_bytes
        The largest header that is read whole.
    frames
        Most tiles, strips or frames of a file.
    pages
        Most pages of a TIFF.
    channels
        Most channels of a case, of which two are read.
    cache_bytes
        Decoded frames that a slide keeps: both channels of 8,192 x 8,192 px.
    """

    frame_pixels: int = 2**27
    slide_mm: int = 200
    header_bytes: int = 2**28
    frames: int = 2**22
    pages: int = 2**16
    channels: int = 64
    cache_bytes: int = 2**28


def limits() -> Limits:
    """The limits in force: ours, with what the environment variable says otherwise.

    Raises
    ------
    InputError
        When the variable names no limit, or no positive whole number.
    """
    return _limits(os.environ.get(VARIABLE, "").strip())


@lru_cache(maxsize=8)
def _limits(said: str) -> Limits:
    known = {field.name for field in fields(Limits)}
    changed = {}
    for item in filter(None, (part.strip() for part in said.split(","))):
        name, _, value = item.partition("=")
        if name.strip() not in known or not value.strip().isdigit() or int(value) < 1:
            raise InputError(f"{VARIABLE}={item}", f"one of {', '.join(sorted(known))} = a positive whole number")
        changed[name.strip()] = int(value)
    return replace(Limits(), **changed) if changed else Limits()
