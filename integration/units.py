"""Lengths as files state them: units in all their spellings, numbers that are none, and two statements of one length."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from srh_clinic.errors import InputError

UM_PER_PX_RANGE = (0.01, 20.0)
"""What a microscope image can state; a resolution of 72 dpi is a default that nobody measured."""

TOLERANCE = 0.01
"""Relative difference up to which two statements of one length are one."""

_NAMES_UM = {
    1e-4: "å a angstrom angstroms ångström ångstrom",
    1e-3: "nm nanometer nanometre nanometers nanometres",
    1.0: "um µm μm micron microns micrometer micrometre micrometers micrometres mum",
    1e3: "mm millimeter millimetre millimeters millimetres",
    1e4: "cm centimeter centimetre centimeters centimetres",
    1e6: "m meter metre meters metres",
    25400.0: 'inch inches in "',
}
_UNIT_UM = {name: length for length, names in _NAMES_UM.items() for name in names.split()}
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")


@dataclass(frozen=True)
class StatedLength:
    """A pixel edge in micrometres, and where it is said."""

    um: float
    where: str

    def __str__(self) -> str:
        return f"{self.um:.6g} um ({self.where})"


def unit_um(unit: str) -> float | None:
    """Micrometres of a unit however it is spelled, ``None`` for one that is no length (pixel)."""
    plain = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), unit.strip().lower()).removeprefix("â").rstrip(".")
    return _UNIT_UM.get(plain)


def number(text: object, what: str, path: Path, answer: str) -> float:
    """A finite number that a file states as text.

    Raises
    ------
    InputError
        When it is none; a decimal comma is asked about, for ``0,470`` may be 0.47 or 470.
    """
    try:
        value = float(str(text))
    except ValueError:
        raise InputError(f"{what} {str(text)[:40]!r}, which is no number with a decimal point", answer, path) from None
    if not math.isfinite(value):
        raise InputError(f"{what} {value:g}", answer, path)
    return value


def is_credible(um: float) -> bool:
    """Whether a pixel edge in micrometres can be that of a microscope."""
    return UM_PER_PX_RANGE[0] <= um <= UM_PER_PX_RANGE[1]


def agree(one: float, two: float, tolerance: float = TOLERANCE) -> bool:
    """Whether two statements of one length are one, within ``tolerance`` of the larger."""
    return abs(one - two) <= tolerance * max(abs(one), abs(two))


def settle(
    stated: list[StatedLength], asked: float | None, path: Path, tolerance: float = TOLERANCE
) -> tuple[float | None, tuple[str, ...]]:
    """The pixel edge that a file and its caller state, and what a result must say of it; ``None`` when nobody states one.

    The caller's goes before the file's, and a difference is noted.

    Raises
    ------
    InputError
        When the file states two, and the caller none.
    """
    differing = [other for other in stated[1:] if not agree(stated[0].um, other.um, tolerance)]
    if asked is None:
        if differing:
            found = f"two pixel sizes, {stated[0]} and {differing[0]}"
            raise InputError(found, "one, or --um-per-px", path)
        return (stated[0].um if stated else None), ()
    others = [other for other in stated if not agree(asked, other.um)]
    if not others:
        return asked, ()
    said = " and ".join(dict.fromkeys(f"{other.um:.6g} um" for other in others))
    return asked, (f"pixel size {asked:g} um stated by the caller, {said} by the file",)
