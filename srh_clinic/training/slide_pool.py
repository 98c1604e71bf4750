"""Training tiles that are read from slides when they are asked for: nothing is copied, and memory grows to a bound."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srh_clinic.errors import InputError
from srh_clinic.integration import read_slide
from srh_clinic.integration.frames import with_cache
from srh_clinic.integration.tiff import read_tiff
from srh_clinic.intensity import FULL_SCALE, Counts, counts_to_unit
from srh_clinic.resampling import ResampledSlide, thumbnail
from srh_clinic.slide import UM_PER_PX, ArraySlide, Slide
from srh_clinic.tissue import tissue_mask
from srh_clinic.training.images import Split, TrainingImage

TILE = 256
"""Edge in px of the tiles that a slide is cut into; a patch is one tile, whatever its size."""

LEAST_TISSUE = 0.5
"""Share of tissue below which a tile of a slide is glass."""

OPEN_SLIDES = 512
"""Slides that are kept open, each with a cache of its own."""

CACHE_BYTES = 2**21
"""Of each of them."""

HELD_BYTES = 2**28
"""Of all images together that are held whole, decoded and at the pixel size of the networks, once they are read; each may take
an equal share of it."""

RESAMPLED_FROM = 0.1
"""Difference of the pixel size, as a share, from which on a slide is resampled."""

_THUMBNAIL = 2048
_READERS = 4


@dataclass(frozen=True)
class Reading:
    """How images are read: what their files do not say, and the pixel size that networks are trained at."""

    options: dict[str, Any]
    um_per_px: float = UM_PER_PX

    def open(self, image: TrainingImage) -> Slide:
        """An image at the pixel size of the networks."""
        if image.is_patch:
            slide: Slide = read_tiff(image.files[0], self.options.get("um_per_px") or UM_PER_PX, FULL_SCALE)
        else:
            slide = read_slide(image.files, **self.options)
        slide = with_cache(slide, CACHE_BYTES)
        if abs(slide.um_per_px / self.um_per_px - 1) > RESAMPLED_FROM:
            return ResampledSlide(slide, self.um_per_px)
        return slide


class SlidePool:
    """Tiles of a split's images, with the face of :class:`~srh_clinic.training.pool.TilePool`.

    Parameters
    ----------
    split
        The images by part.
    reading
        How they are read.
    device
        Where crops are made.
    holdout
        Tiles of held-out patients that a validation looks at, at most.

    Raises
    ------
    InputError
        When an image cannot be read, is smaller than the others' tiles, or no tile is left.
    """

    def __init__(self, split: Split, reading: Reading, device: torch.device, holdout: int) -> None:
        self.split, self.reading, self.device = split, reading, device
        self._open: OrderedDict[int, Slide] = OrderedDict()
        self._images: list[TrainingImage] = [*split.images["train"], *split.images["val"]]
        self._patch_edge = 0
        n_train = len(split.images["train"])
        self.size = min(TILE, *self._edges())
        tiles = [self._tiles(at) for at in range(len(self._images))]
        self.training_count = sum(len(corners) for corners in tiles[:n_train])
        self._corners = np.concatenate(tiles)  # (N, 4): image, top, left, edge
        if not self.training_count or self.training_count == len(self._corners):
            raise InputError("no tile with tissue to train on, or none held out", "images with tissue of several patients")
        held = np.arange(self.training_count, len(self._corners))
        self.holdout_indices = held[np.linspace(0, len(held) - 1, min(holdout, len(held))).astype(np.int64)]
        self.seconds_reading = 0.0

    def _edges(self) -> list[int]:
        """The shorter edge of every image; of patches, of which there are many, one is opened of each size of their files."""
        edges = []
        shapes: dict[int, tuple[int, int]] = {}
        for at, image in enumerate(self._images):
            if image.is_patch:
                n_bytes = _size_of(image.files[0])
                if n_bytes in shapes:
                    continue
                shapes[n_bytes] = self._slide(at).shape
                usual = next(iter(shapes.values()))
                if shapes[n_bytes] != usual:
                    found = f"a patch of {shapes[n_bytes][1]} x {shapes[n_bytes][0]} pixels"
                    raise InputError(found, f"one of {usual[1]} x {usual[0]}, as the others are", image.files[0])
                self._patch_edge = min(usual)
            edges.append(min(self._slide(at).shape))
        return edges

    def _slide(self, at: int) -> Slide:
        if at in self._open:
            self._open.move_to_end(at)
            return self._open[at]
        slide = self._open[at] = self._held(self.reading.open(self._images[at]))
        while len(self._open) > OPEN_SLIDES:
            self._open.popitem(last=False)
        return slide

    def _held(self, slide: Slide) -> Slide:
        """The slide in memory, where it is small: a crop of it is neither decoded nor resampled again."""
        height, width = slide.shape
        if 4 * height * width > HELD_BYTES // len(self._images):
            return slide
        return ArraySlide(slide.read(0, 0, height, width), slide.um_per_px, slide.identity)

    def _tiles(self, at: int) -> NDArray[np.int64]:
        """Image, top, left and edge, int64 ``(N, 4)``, of the tiles of an image that show tissue; a patch is one tile."""
        if self._images[at].is_patch:
            return np.array([[at, 0, 0, self._patch_edge]], dtype=np.int64)
        slide = self._slide(at)
        tops, lefts = (_starts(edge, self.size) for edge in slide.shape)
        corners = [(at, top, left, self.size) for top in tops for left in lefts]
        if len(corners) > 1:
            mask = tissue_mask(*thumbnail(slide, _THUMBNAIL))
            corners = [one for one in corners if mask.within(one[1], one[2], self.size, self.size) >= LEAST_TISSUE]
        return np.array(corners, dtype=np.int64).reshape(-1, 4)

    def image_of(self, index: int) -> TrainingImage:
        """The image that a tile is of."""
        return self._images[int(self._corners[index, 0])]

    def corner_of(self, index: int) -> tuple[int, int]:
        """Top and left of a tile in its image."""
        return int(self._corners[index, 1]), int(self._corners[index, 2])

    def counts(self, indices: Sequence[int] | NDArray[np.int64], y: Any, x: Any, size: int) -> Counts:
        """Counts ``(N, 2, size, size)`` of tiles from corners ``(y, x)`` within them."""
        began = time.perf_counter()
        places = []
        for index, down, right in zip(indices, y, x, strict=True):
            at, top, left, _ = self._corners[index]
            slide = self._slide(int(at))
            room = (slide.shape[0] - size, slide.shape[1] - size)
            places.append((slide, min(int(top + down), room[0]), min(int(left + right), room[1])))
        if all(isinstance(slide, ArraySlide) for slide, _, _ in places):
            cut = np.stack([slide.read(top, left, size, size) for slide, top, left in places])
        else:
            with ThreadPoolExecutor(_READERS) as readers:
                cut = np.stack(list(readers.map(lambda place: place[0].read(place[1], place[2], size, size), places)))
        self.seconds_reading += time.perf_counter() - began
        return cut

    def crops(self, indices: Any, y: Any, x: Any, size: int) -> Tensor:
        """Unit intensity float32 ``(N, 2, size, size)`` on the pool's device, from corners (y, x) of tiles."""
        return torch.from_numpy(counts_to_unit(self.counts(indices, y, x, size))).to(self.device)

    def random_crops(self, rng: np.random.Generator, count: int, size: int) -> Tensor:
        """Random crops of random training tiles, unit intensity float32 ``(count, 2, size, size)``."""
        if size > self.size:
            raise InputError(f"crops of {size} px", f"at most the images' {self.size} px")
        indices = rng.integers(0, self.training_count, count)
        y, x = self.anywhere(rng, indices, size)
        return self.crops(indices, y, x, size)

    @property
    def held_count(self) -> int:
        """Tiles of the patients that are held out, of which :attr:`holdout_indices` are some."""
        return len(self._corners) - self.training_count

    def anywhere(self, rng: np.random.Generator, indices: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Random corners (y, x) of crops within tiles, int64 ``(2, N)``."""
        room = self._corners[indices, 3] - size
        return np.floor(rng.random((2, len(indices))) * (room + 1)).astype(np.int64)

    def middle(self, indices: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Corners (y, x) of the middle of tiles, int64 ``(2, N)``."""
        corner = (self._corners[indices, 3] - size) // 2
        return np.stack([corner, corner])

    def held_out(self, size: int) -> Tensor:
        """The centre of each held-out tile, unit intensity float32 ``(holdout, 2, size, size)``."""
        size = min(size, self.size)
        y, x = self.middle(self.holdout_indices, size)
        return self.crops(self.holdout_indices, y, x, size)

    def restricted(self, chosen: NDArray[np.int64]) -> SlidePool:
        """The same pool with only these of its training tiles; what is held out stays.

        Raises
        ------
        InputError
            When none is chosen.
        """
        if not len(chosen):
            raise InputError("no tile chosen", "at least one")
        pool = object.__new__(SlidePool)
        pool.__dict__.update(self.__dict__)
        pool._corners = np.concatenate([self._corners[chosen], self._corners[self.training_count :]])
        pool.holdout_indices = self.holdout_indices - self.training_count + len(chosen)
        pool.training_count = len(chosen)
        return pool


def _size_of(patch: Path) -> int:
    try:
        return patch.stat().st_size
    except OSError as error:
        raise InputError("no such patch, which meta/opensrh.json lists", "all patches of the tree", patch) from error


def _starts(edge: int, size: int) -> list[int]:
    """Where tiles of a size begin along an edge, as many as fit and one at its end."""
    starts = list(range(0, edge - size + 1, size))
    return starts if starts[-1] + size == edge else [*starts, edge - size]
