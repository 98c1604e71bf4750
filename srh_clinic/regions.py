"""Regions of a slide that a reader is sent to, in pixels and micrometres of the slide as scanned."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from srh_clinic.slide import Slide


class Region(BaseModel):
    """A rectangle on a slide as scanned."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    where: str
    """In words, such as upper left."""
    y: int = Field(ge=0)
    """Upper edge in pixels of the slide as scanned."""
    x: int = Field(ge=0)
    """Left edge in pixels of the slide as scanned."""
    height: int = Field(ge=1)
    """In pixels of the slide as scanned."""
    width: int = Field(ge=1)
    """In pixels of the slide as scanned."""
    y_um: float = Field(ge=0)
    """Upper edge in micrometres."""
    x_um: float = Field(ge=0)
    """Left edge in micrometres."""
    height_um: float = Field(gt=0)
    width_um: float = Field(gt=0)


def placed(top: float, left: float, bottom: float, right: float, seen: Slide, scanned: Slide) -> dict[str, Any]:
    """The fields of a :class:`Region` from edges in pixels of ``seen``, which shows the field of ``scanned``.

    Edges beyond the slide are drawn in to it; a region has at least a pixel.
    """
    scale = seen.um_per_px / scanned.um_per_px
    um, (rows, columns) = scanned.um_per_px, scanned.shape
    y, x = (min(max(int(np.floor(edge * scale)), 0), size - 1) for edge, size in ((top, rows), (left, columns)))
    end_y, end_x = (min(round(float(edge * scale)), size) for edge, size in ((bottom, rows), (right, columns)))
    height, width = max(end_y - y, 1), max(end_x - x, 1)
    return {
        "where": in_words((top + bottom) / 2 / seen.shape[0], (left + right) / 2 / seen.shape[1]),
        "y": y,
        "x": x,
        "height": height,
        "width": width,
        "y_um": round(y * um, 1),
        "x_um": round(x * um, 1),
        "height_um": round(height * um, 1),
        "width_um": round(width * um, 1),
    }


def in_words(y: float, x: float) -> str:
    """A place on the slide in words; ``y`` and ``x`` run from 0 to 1, from the upper left."""
    vertical = ("upper", "", "lower")[min(max(int(y * 3), 0), 2)]
    horizontal = ("left", "centre", "right")[min(max(int(x * 3), 0), 2)]
    return f"{vertical} {horizontal}".strip()
