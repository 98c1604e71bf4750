"""A shape of file that is met in the field, how it is made, and what is done with it: what docs/reading.md says row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Done = Literal["read", "noted", "asked", "refused"]

UM = 0.47


def counts(height: int = 128, width: int = 192) -> np.ndarray:
    """uint16 ``(2, H, W)``: every pixel differs from its neighbours, both channels differ, and values fill 16 bits."""
    y, x = np.mgrid[0:height, 0:width]
    first = (5000 + 37 * x + 11 * y + 900 * ((x // 16 + y // 16) % 2)).astype(np.uint16)
    return np.stack([first, (60000 - first).astype(np.uint16)])


@dataclass(frozen=True)
class Made:
    """A file or folder, the counts that it must be read as, and those that another reader sees in it.

    ``other`` is what an independent reader (pydicom, highdicom or tifffile) says the two channels are; ``None`` where the
    shape is refused.
    """

    path: Any
    right: np.ndarray | None = None
    other: np.ndarray | None = None
    options: dict[str, Any] = field(default_factory=dict)
    um_per_px: float = UM


@dataclass(frozen=True)
class Shape:
    """One row: what it is, what is done, and what the reader must say (a regular expression of a note or of a refusal)."""

    name: str
    title: str
    done: Done
    make: Callable[[Path], Made]
    says: str = ""
    z_stack: bool = False
