"""Stored pixel values to counts, by the full scale that the file or the caller states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.intensity import FULL_SCALE, Counts


@dataclass(frozen=True)
class Depth:
    """The stored value at unit intensity 1, one more than the largest: 65,536 for 16 bits, 4,096 for 12, 256 for 8.

    Raises
    ------
    InputError
        When ``full_scale`` is not within 2..65,536.
    """

    full_scale: int

    def __post_init__(self) -> None:
        if not 2 <= self.full_scale <= FULL_SCALE:
            raise InputError(f"a full scale of {self.full_scale}", f"one from 2 to {FULL_SCALE}, such as 4096 for 12 bits")

    def to_counts(self, stored: NDArray[Any], path: Path) -> Counts:
        """Unsigned stored values to uint16 counts of the same shape.

        The 8-bit scale is stretched by 257, so that 255 becomes 65,535; any other by ``65536 / full_scale``, rounded.

        Raises
        ------
        InputError
            When a value reaches the full scale.
        """
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

    @property
    def notes(self) -> tuple[str, ...]:
        """What a result must say about the stretching; empty for 16 bits."""
        if self.full_scale == FULL_SCALE:
            return ()
        factor = 257 if self.full_scale == 256 else FULL_SCALE / self.full_scale
        return (f"stretched from a full scale of {self.full_scale} (x{factor:g})",)
