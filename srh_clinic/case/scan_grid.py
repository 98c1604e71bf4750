"""A restored slide on the pixels of its scan, whatever the networks saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from srh_clinic.intensity import Counts, rounded_counts
from srh_clinic.notebook import ShownSlide
from srh_clinic.resampling import BLOCK, ResampledSlide, Window, blocks
from srh_clinic.slide import Identity, Slide, check_region
from srh_clinic.tiling import MosaicSlide


def on_scan_grid(restored: MosaicSlide) -> Slide:
    """A restored slide at the pixel size and shape of the slide as scanned, pixel over pixel.

    It is the slide itself where the networks saw the scan's own pixels.
    """
    view = restored.source
    return ScanGridSlide(restored, view) if isinstance(view, ResampledSlide) else restored


@dataclass(frozen=True, eq=False)
class ScanGridSlide(ShownSlide):
    """What was restored at the pixel size of the networks, interpolated back; where nothing was restored, the scan itself.

    Restored pixels fade into those of the scan as their tiles do. What a region shows does not depend on how the slide is cut
    into regions, and memory grows with neither.

    Parameters
    ----------
    restored
        The mosaic of restored tiles.
    view
        Its source: the scan at the pixel size of the networks.
    """

    restored: MosaicSlide
    view: ResampledSlide

    @property
    def scan(self) -> Slide:
        """The slide as scanned."""
        return self.view.source

    @property
    def shape(self) -> tuple[int, int]:
        return self.scan.shape

    @property
    def um_per_px(self) -> float:
        return self.scan.um_per_px

    @property
    def identity(self) -> Identity:
        return self.scan.identity

    @property
    def notes(self) -> tuple[str, ...]:
        return self.scan.notes

    def read(self, y: int, x: int, height: int, width: int) -> Counts:
        check_region(self.shape, y, x, height, width)
        counts = self.scan.read(y, x, height, width).copy()
        for top, left, rows, columns in blocks((height, width), BLOCK):
            block = counts[:, top : top + rows, left : left + columns]
            block[:] = self._restored(block, y + top, x + left)
        return counts

    def _restored(self, scanned: Counts, y: int, x: int) -> Counts:
        """What becomes of a block of the scan whose corner is at ``(y, x)``."""
        region = (y, x, scanned.shape[1], scanned.shape[2])
        window = Window.of(region, self.scan.um_per_px / self.view.um_per_px, self.view.shape)
        change = self.restored.change(window.y, window.x, window.height, window.width)
        if not change.share.any():
            return scanned
        # What the tiles show, weighted by their share: the scan keeps the rest of each pixel, and all of it outside of them.
        shown = window.interpolate(change.counts + change.share * change.source)
        share = np.clip(window.interpolate(change.share[None])[0], 0.0, 1.0)
        return rounded_counts(shown + (1 - share) * scanned)
