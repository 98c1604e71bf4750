"""What the whole of srh-clinic sees of an image: a lazy, two-channel slide."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.notebook import ShownSlide

UM_PER_PX = 0.47
"""Pixel size of the clinical imager, at which networks are trained and tissue is simulated unless told otherwise."""


@dataclass(frozen=True)
class Identity:
    """Who and what a slide shows, as its file says; never printed by default.

    ``source`` is the file or folder it came from; ``channel_order`` says which of its channels was taken for CH2 and CH3, and
    why; ``sop_uids`` are the DICOM instances that its pixels come from; ``content`` names what its files held at opening, and
    changes with any of them; ``attributes`` holds what a writer needs to make a derived object of the same study (for DICOM:
    the header data set), opaque to the core.
    """

    patient_id: str = ""
    specimen_id: str = ""
    study_uid: str = ""
    series_uid: str = ""
    source: str = ""
    channel_order: str = ""
    sop_uids: tuple[str, ...] = ()
    content: str = field(default="", compare=False)
    attributes: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@runtime_checkable
class Slide(Protocol):
    """A lazy two-channel image: CH2 (2845 cm-1) and CH3 (2930 cm-1) in counts.

    ``notes`` are facts about the reading that a result must carry, for example ``"stretched from 8 bits"``.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @property
    def um_per_px(self) -> float:
        """Edge length of a pixel in micrometres."""

    @property
    def identity(self) -> Identity: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def read(self, y: int, x: int, height: int, width: int) -> Counts:
        """The region with its top left corner at ``(y, x)``, uint16 counts ``(2, height, width)``.

        The region must lie within the slide; anything else raises ``ValueError``.
        """


@runtime_checkable
class ChangeableSlide(Protocol):
    """A slide that lies in files, which others may change while it is read."""

    def check_unchanged(self) -> None:
        """Raise ``InputError`` that names a file which is no longer what it was when the slide was opened."""


def require_unchanged(slide: Slide | None) -> None:
    """Raise ``InputError`` when a file of a slide is no longer what it was at opening: what was read may be a mixture."""
    if isinstance(slide, ChangeableSlide):
        slide.check_unchanged()


@runtime_checkable
class SpareableSlide(Protocol):
    """A slide that can be read whole, several times over, in little memory."""

    @property
    def spared(self) -> Slide:
        """The same slide for that; asked for again, it is the same one."""


def sparing(slide: Slide) -> Slide:
    """The same slide for passes over all of it: where it can, it decodes nothing twice and keeps little in memory."""
    return slide.spared if isinstance(slide, SpareableSlide) else slide


def check_region(shape: tuple[int, int], y: int, x: int, height: int, width: int) -> None:
    """Raise ``ValueError`` unless the region lies within ``shape`` and is not empty."""
    if height < 1 or width < 1 or y < 0 or x < 0 or y + height > shape[0] or x + width > shape[1]:
        raise ValueError(f"region y={y} x={x} {height}x{width} is not within a slide of {shape[0]}x{shape[1]} pixels")


HASHED_ROWS = 128
"""Rows that are read at once for :func:`pixels_sha256`, which does not depend on it."""


def pixels_sha256(slide: Slide) -> str:
    """SHA-256, hexadecimal, of all counts of a slide, whatever file they came from.

    Row by row from the top, of each row CH2 and then CH3, as little-endian uint16.
    """
    digest = hashlib.sha256()
    height, width = slide.shape
    passed = sparing(slide)
    for y in range(0, height, HASHED_ROWS):
        counts = passed.read(y, 0, min(HASHED_ROWS, height - y), width)
        digest.update(np.ascontiguousarray(counts.transpose(1, 0, 2), dtype="<u2").data)
    return digest.hexdigest()


@dataclass(frozen=True)
class ArraySlide(ShownSlide):
    """A slide held in memory.

    Parameters
    ----------
    counts
        uint16 ``(2, H, W)``, channel 0 CH2, channel 1 CH3.
    um_per_px
        Pixel edge in micrometres.

    Raises
    ------
    InputError
        When the array is not uint16 ``(2, H, W)`` or the pixel size is not positive.
    """

    counts: Counts
    um_per_px: float
    identity: Identity = field(default_factory=Identity)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts)
        if counts.ndim != 3 or counts.shape[0] != 2 or counts.dtype != np.uint16 or 0 in counts.shape:
            raise InputError(f"an array of {counts.dtype} with shape {counts.shape}", "uint16 counts of shape (2, H, W)")
        if not self.um_per_px > 0:
            raise InputError(f"a pixel size of {self.um_per_px} um", "a positive pixel size in micrometres")

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.counts.shape[1]), int(self.counts.shape[2])

    def read(self, y: int, x: int, height: int, width: int) -> Counts:
        check_region(self.shape, y, x, height, width)
        return self.counts[:, y : y + height, x : x + width]


@dataclass(frozen=True)
class Reading:
    """What files do not say of themselves; see :func:`~srh_clinic.integration.read_slide`."""

    um_per_px: float | None = None
    full_scale: int | None = None
    # not in the name of what is kept of images, which their own counts tell
    channels: str | Sequence[str | int] | None = field(default=None, repr=False)
    plane: int | None = field(default=None, repr=False)
    flat_field: str | None = field(default=None, repr=False)

    @property
    def options(self) -> dict[str, Any]:
        """The same by the names of arguments."""
        return {one.name: getattr(self, one.name) for one in fields(self)}
