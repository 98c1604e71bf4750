"""A slide and the levels of its pyramid, spooled to the disk: for formats that want one channel after the other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from srh_clinic.files import beside, claimed, require_no_link
from srh_clinic.intensity import CHANNELS, RAMAN_SHIFTS, Counts
from srh_clinic.resampling import block_mean, level_shape
from srh_clinic.slide import Slide, require_unchanged

ROWS = 512
"""Rows of a slide that are read at once: every level's factor divides it, so that no level depends on it."""

CHANNEL_WORDS = tuple(f"{name} ({shift} cm-1)" for name, shift in zip(CHANNELS, RAMAN_SHIFTS, strict=True))
"""What each channel is called in formats that know names alone; our reader understands them."""


@contextmanager
def spooled_levels(slide: Slide, factors: Sequence[int], out: Path) -> Iterator[list[Counts]]:
    """The slide and each level, uint16 ``(2, h, w)``, as arrays in files that are gone afterwards.

    A pixel of a level is the mean of ``factor`` squared; memory does not grow with the slide.

    Parameters
    ----------
    out
        The file or folder that will be made of them: the spool lies in the same folder, on the same disk. What a run that
        died has left of it is cleared away.

    Raises
    ------
    InputError
        When the slide cannot be read, or changed while it was, or another run writes to ``out`` now.
    OSError
        When the disk has no room for them. Room is taken before anything is written: a mapped file that runs out of it ends
        the process.
    """
    height, width = slide.shape
    shapes = [(2, *level_shape(slide.shape, f)) for f in (1, *factors)]
    with claimed(out), _spool(out.absolute()) as folder:
        levels: list[Counts] = [_mapped(folder / str(number), shape) for number, shape in enumerate(shapes)]
        for y in range(0, height, ROWS):
            band = slide.read(y, 0, min(ROWS, height - y), width)
            for factor, level in zip((1, *factors), levels, strict=True):
                rows = band if factor == 1 else np.rint(block_mean(band, factor)).astype(np.uint16)
                here = level[:, y // factor : y // factor + rows.shape[1]]
                here[:] = rows[:, : here.shape[1], : here.shape[2]]
        require_unchanged(slide)
        yield levels


@contextmanager
def _spool(out: Path) -> Iterator[Path]:
    folder = beside(out, "spool")
    require_no_link(folder)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mapped(path: Path, shape: tuple[int, int, int]) -> Counts:
    size = 2 * int(np.prod(shape, dtype=np.int64))
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            for at in range(0, size, len(block := bytes(1 << 20))):
                file.write(block[: size - at])
    return np.memmap(path, np.uint16, "r+", shape=shape)
