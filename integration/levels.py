"""A slide and the levels of its pyramid, spooled to the disk: for formats that want one channel after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from srh_clinic.files import draft_of
from srh_clinic.intensity import CHANNELS, RAMAN_SHIFTS, Counts
from srh_clinic.resampling import block_mean
from srh_clinic.slide import Slide, require_unchanged

ROWS = 512
"""Rows of a slide that are read at once: every level's factor divides it, so that no level depends on it."""

CHANNEL_WORDS = tuple(f"{name} ({shift} cm-1)" for name, shift in zip(CHANNELS, RAMAN_SHIFTS, strict=True))
"""What each channel is called in formats that know names alone; our reader understands them."""


@contextmanager
def spooled_levels(slide: Slide, factors: Sequence[int], beside: Path) -> Iterator[list[Counts]]:
    """The slide and each level, uint16 ``(2, h, w)``, as arrays in files that are gone afterwards.

    A pixel of a level is the mean of ``factor`` squared; memory does not grow with the slide.

    Parameters
    ----------
    beside
        The file or folder that will be made of them: the spool lies in the same folder, on the same disk.

    Raises
    ------
    InputError
        When the slide cannot be read, or changed while it was.
    """
    height, width = slide.shape
    place = draft_of(beside.absolute())
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{place.name}-", dir=place.parent) as folder:
        levels: list[Counts] = []
        for f in (1, *factors):
            shape = (2, -(-height // f), -(-width // f))
            levels.append(np.memmap(Path(folder) / str(f), np.uint16, "w+", shape=shape))
        for y in range(0, height, ROWS):
            band = slide.read(y, 0, min(ROWS, height - y), width)
            for factor, level in zip((1, *factors), levels, strict=True):
                rows = band if factor == 1 else np.rint(block_mean(band, factor)).astype(np.uint16)
                level[:, y // factor : y // factor + rows.shape[1]] = rows
        require_unchanged(slide)
        yield levels
