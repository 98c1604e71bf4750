"""From stored values to counts: everything in a file that changes what a stored value means, one list for every format.

A reader fills in :class:`PixelStatements` with what its file says; :func:`depth_of` reads it, or refuses it by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.intensity import FULL_SCALE, Counts

DIM = 4095
"""No value above it: 12-bit data, or a dim image; which of both cannot be seen."""

FULL_SCALE_OPTION = "--full-scale 4096 (12-bit data) or 65536 (dim 16-bit data)"


@dataclass(frozen=True)
class PixelStatements:
    """What a file states of its stored values; the default of each is that nothing is changed.

    Attributes
    ----------
    bits
        Significant bits; ``None`` when nobody states them.
    allocated
        Bits that a value takes in the file.
    high_bit
        Place of the highest significant bit; ``None`` when the format has it at the top of the significant ones.
    signed
        Whether values are signed integers.
    calibration
        Intercept and slope of every linear map from stored to meant values.
    table
        A table or curve from stored to meant values, by name; empty when there is none.
    dark_is_bright
        What says that dark means bright; empty when nothing does.
    padding
        Smallest and largest stored value that is no image.
    orientation
        TIFF's Orientation: 1 when the first row is the top and the first column the left. It changes no value, but where each
        lies: who locates the frames turns them.
    """

    bits: int | None
    allocated: int = 16
    high_bit: int | None = None
    signed: bool = False
    calibration: tuple[tuple[float, float], ...] = ()
    table: str = ""
    dark_is_bright: str = ""
    padding: tuple[int, int] | None = None
    orientation: int = 1


@dataclass(frozen=True)
class Depth:
    """How stored values become counts.

    Attributes
    ----------
    full_scale
        The stored value at unit intensity 1, one more than the largest: 65,536 for 16 bits, 4,096 for 12, 256 for 8.
    bits
        Significant low bits of a stored value; what is above them (overlays, noise of the converter) is no image.
    zero
        Stored value that means 0 counts: 32,768 where signed pixels are kept as unsigned ones.
    padding
        Smallest and largest stored value that becomes 0 counts.

    Raises
    ------
    InputError
        When ``full_scale`` is not within 2..65,536.
    """

    full_scale: int
    bits: int = 16
    zero: int = 0
    padding: tuple[int, int] | None = None
    contradicted: str = ""

    def __post_init__(self) -> None:
        if not 2 <= self.full_scale <= FULL_SCALE:
            raise InputError(f"a full scale of {self.full_scale}", f"one from 2 to {FULL_SCALE}, such as 4096 for 12 bits")

    def to_counts(self, stored: NDArray[Any], path: Path) -> Counts:
        """Unsigned stored values to uint16 counts of the same shape.

        The 8-bit scale is stretched by 257, so that 255 becomes 65,535; any other by ``65536 / full_scale``, rounded.

        Raises
        ------
        InputError
            When a value reaches the full scale, or is below zero.
        """
        stored = self._meant(stored, path)
        if self.full_scale == FULL_SCALE:
            return stored.astype(np.uint16, copy=False)
        brightest = int(stored.max(initial=0))
        if brightest >= self.full_scale:
            raise InputError(
                f"a stored value of {brightest}", f"values below the stated full scale of {self.full_scale}", path
            )
        if self.full_scale == 256:
            return stored.astype(np.uint16) * np.uint16(257)
        scaled = (stored.astype(np.int64) * (2 * FULL_SCALE) + self.full_scale) // (2 * self.full_scale)
        return scaled.astype(np.uint16)

    def _meant(self, stored: NDArray[Any], path: Path) -> NDArray[Any]:
        low, high = self.padding or (1, 0)
        padded = (stored >= low) & (stored <= high) if self.padding is not None else None
        if self.bits < 8 * stored.dtype.itemsize:
            stored = stored & stored.dtype.type(2**self.bits - 1)
        if padded is not None:
            padded |= (stored >= low) & (stored <= high)
            stored = np.where(padded, stored.dtype.type(self.zero), stored)
        if not self.zero:
            return stored
        if int(stored.min(initial=self.zero)) < self.zero:
            raise InputError("signed pixels with values below 0", "stored values as they were measured", path)
        return stored - stored.dtype.type(self.zero)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a result must say about the stretching; empty for 16 bits."""
        notes = (self.contradicted,) if self.contradicted else ()
        if self.full_scale == FULL_SCALE:
            return notes
        factor = 257 if self.full_scale == 256 else FULL_SCALE / self.full_scale
        return (*notes, f"stretched from a full scale of {self.full_scale} (x{factor:g})")


def depth_of(says: PixelStatements, full_scale: int | None, path: Path) -> Depth:
    """How the stored values of a file become counts, by what it states and, before that, its caller.

    Raises
    ------
    InputError
        That names the statement which is not read, and what is needed instead.
    """
    bits = says.allocated if says.bits is None else says.bits
    measured = "stored values as they were measured"
    if says.dark_is_bright:
        needed = "MONOCHROME2 with an identity presentation, or a TIFF of MINISBLACK"
        raise InputError(f"an image in which dark means bright ({says.dark_is_bright})", needed, path)
    if says.table:
        raise InputError(f"pixels behind {says.table}", f"{measured}, without a look-up table", path)
    if says.signed:
        raise InputError(f"signed pixels of {bits} stored bits", "unsigned pixels of 8 to 16 bits", path)
    if not 0 < bits <= says.allocated:
        raise InputError(f"{bits} significant bits of {says.allocated}", "8 to 16, no more than are stored", path)
    if says.high_bit is not None and says.high_bit != bits - 1:
        raise InputError(f"BitsStored {bits} with HighBit {says.high_bit}", f"HighBit {bits - 1}", path)
    if not 1 <= says.orientation <= 8:
        raise InputError(f"Orientation {says.orientation}", "one of 1..8 (TIFF 6.0)", path)
    zero = _zero(says.calibration, path)
    stated = 2**bits
    contradicted = ""
    if full_scale is not None and says.bits is not None and full_scale != stated:
        contradicted = f"full scale {full_scale} stated by the caller, {stated} by the file"
    scale = stated if full_scale is None else full_scale
    if zero and full_scale is None:
        scale = FULL_SCALE
    valid = bits if says.high_bit is not None else says.allocated  # only DICOM says what may stand above the bits stored
    return Depth(scale, valid, zero, says.padding, contradicted)


def _zero(calibration: Iterable[tuple[float, float]], path: Path) -> int:
    """The stored value that means 0: only signed pixels kept as unsigned ones are read, as ImageJ does it."""
    zeros = {(float(intercept), 1.0 if abs(slope - 1) < 1e-6 else float(slope)) for intercept, slope in calibration}
    if zeros <= {(0.0, 1.0)}:
        return 0
    if zeros == {(-32768.0, 1.0)}:
        return 32768
    intercept, slope = next(iter(sorted(zeros - {(0.0, 1.0)})))
    found = f"pixels with a rescale slope or intercept, a calibration (value = {intercept:.9g} + {slope:.9g} x stored)"
    raise InputError(found, "stored values as they were measured", path)
