"""What is shown of a case before its result is there: the diagnosis as scanned, and the tissue that needs restoring most."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from srh_clinic.case.classifying import ClassifiedSlide
from srh_clinic.case.restoring import Overview
from srh_clinic.display import RGB, ColourWindow, colour_window, srh_colours
from srh_clinic.files import write_whole
from srh_clinic.intensity import Counts
from srh_clinic.resampling import block_mean
from srh_clinic.rscd.tile import RestoredTile

PICTURE = "preview.png"
"""What the picture is called."""

FIRST = 8
"""The picture is drawn when so many tiles are restored, and again whenever they are twice as many."""

PAIRS = 4
"""Tiles that are shown as scanned and restored: those that came first, which need most."""

OVERVIEW_EDGE = 1024
"""Longer edge in pixels of the slide in the picture."""

GAP = 8
"""Pixels between the parts of the picture."""


@dataclass(eq=False)
class Preview:
    """Is shown a case while it is computed, and passes on what a reader can use; it changes nothing of the result.

    Parameters
    ----------
    say
        Takes a sentence.
    folder
        Gets :data:`PICTURE`: the slide in small, restored as far as that has come, and beside it the tiles that need most, as
        scanned and restored. None draws nothing.
    """

    say: Callable[[str], object]
    folder: Path | None = None
    _seen: Overview | None = field(default=None, init=False)
    _window: ColourWindow | None = field(default=None, init=False)
    _picture: Counts = field(default_factory=lambda: np.empty((2, 0, 0), np.uint16), init=False)
    _pairs: list[tuple[Counts, Counts]] = field(default_factory=list, init=False)
    _steps: list[int] = field(default_factory=list, init=False)

    def scanned(self, before: ClassifiedSlide, seen: Overview) -> None:
        """Told before any tile is restored."""
        said = before.diagnosis
        patches = f"{said.n_patches} {'patch' if said.n_patches == 1 else 'patches'}"
        self.say(f"preview: as scanned {said.diagnosis} (p = {said.probabilities[said.diagnosis]:.2f}, {patches})")
        self._seen, self._picture = seen, seen.picture.copy()
        self._window = colour_window(seen.picture)

    def restored(self, tile: RestoredTile, y: int, x: int, scanned: Callable[[], Counts]) -> None:
        """Told of each tile as it comes; ``scanned`` reads its place on the slide."""
        if self._seen is None:
            return
        if len(self._pairs) < PAIRS:
            self._pairs.append((scanned(), tile.counts))
        self._steps.append(tile.t_pred + 1)
        self._paste(tile.counts, y, x, self._seen.factor)
        done = len(self._steps)
        if done >= FIRST and done & (done - 1) == 0:
            drawn = "" if self.folder is None else f", see {self._draw(self.folder)}"
            self.say(f"preview: {done} tiles restored, worst first ({max(self._steps)} to {min(self._steps)} steps){drawn}")

    def _paste(self, counts: Counts, y: int, x: int, factor: int) -> None:
        """Lay a tile over the slide in small, where it covers whole pixels of that."""
        top, left = -(-y // factor), -(-x // factor)
        height, width = self._picture.shape[1:]
        rows, columns = min((y + counts.shape[1]) // factor, height), min((x + counts.shape[2]) // factor, width)
        if rows <= top or columns <= left:
            return
        within = (slice(None), slice(top * factor - y, rows * factor - y), slice(left * factor - x, columns * factor - x))
        self._picture[:, top:rows, left:columns] = np.rint(block_mean(counts[within], factor))

    def _draw(self, folder: Path) -> Path:
        slide = Image.fromarray(srh_colours(self._picture, self._window))
        slide.thumbnail((OVERVIEW_EDGE, OVERVIEW_EDGE), Image.Resampling.BILINEAR)
        pairs = [[srh_colours(one, self._window) for one in pair] for pair in self._pairs]
        edge = pairs[0][0].shape[0]
        sheet: RGB = np.full(
            (max(slide.height, len(pairs) * (edge + GAP)), slide.width + 2 * (edge + GAP), 3), 255, dtype=np.uint8
        )
        sheet[: slide.height, : slide.width] = np.asarray(slide)
        for row, pair in enumerate(pairs):
            for column, view in enumerate(pair):
                top, left = row * (edge + GAP), slide.width + GAP + column * (edge + GAP)
                sheet[top : top + edge, left : left + edge] = view
        packed = io.BytesIO()
        Image.fromarray(sheet).save(packed, "PNG", compress_level=1)
        return write_whole(folder / PICTURE, packed.getvalue(), PICTURE)
