"""A slide restored: seen at the pixel size of the networks, tile by tile, and where it was too poor for it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from srh_clinic.case.pictures import SquareMap
from srh_clinic.case.record import RescanRegion, StepSummary, TileCounts
from srh_clinic.case.scan_grid import on_scan_grid
from srh_clinic.concurrency import read_ahead
from srh_clinic.display import colour_window
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint
from srh_clinic.intensity import Counts, counts_to_model
from srh_clinic.notebook import RESTORED, card, coloured, middle
from srh_clinic.progress import Progress, silent
from srh_clinic.regions import in_words, placed
from srh_clinic.resampling import ResampledSlide, thumbnail
from srh_clinic.slide import Slide
from srh_clinic.tiling import DAMAGED, MosaicSlide, TileGrid, TileStore, read_tile
from srh_clinic.tissue import TissueMask, tissue_mask

if TYPE_CHECKING:
    from srh_clinic.bundles import Bundle
    from srh_clinic.restorers import RestoredTile, Restorer, Tile
    from srh_clinic.rscd.restoration import Calibrator

OVERLAP = 48
"""Pixels that neighbouring tiles share and are blended over: as far as a network's sight of a tile's end reaches. Of tiles
that are smaller than twice that it is half (:func:`overlap_of`)."""

PIXEL_SIZE_TOLERANCE = 0.10
"""A slide whose pixels differ by more than this from those of the bundle is resampled."""

LARGEST_ENLARGEMENT = 4.0
"""Pixels this many times those of the bundle are refused: at 1.9 um a nucleus is four of them, and shows nothing."""

UNPREDICTED = ("filtered", "fixed-steps", "iterations", "no-estimate")
"""Stop reasons of tiles for which no steps were predicted, unless some were: an estimator may fall silent later."""

LEFT_ALONE = ("skipped", "clean", "no-estimate")
"""Stop reasons of tiles that, without a step, came back as they were."""

RESCAN_STEPS = 100
"""Tiles that need more reverse steps are worth rescanning: half of what RSCD is trained for (T' = 200 in the paper)."""

THUMBNAIL_EDGE = 2048
"""Longer edge in pixels of the picture in which a slide is seen as a whole."""

LOOKED_AT = 16
"""Tiles that the calibrator sees at once, where it is asked which are worst."""

Told = Callable[["RestoredTile", int, int, Callable[[], Counts]], object]
"""Is told of restored tiles, see :func:`restore_slide`."""

RECORDS = 2
"""Version of what is kept of a tile; tiles with records of another are restored anew."""


@dataclass(frozen=True, eq=False)
class Overview:
    """A slide in small: uint16 counts ``(2, h, w)`` whose pixels are ``factor`` slide pixels, and where there is tissue."""

    picture: Counts
    factor: int
    mask: TissueMask


@dataclass(frozen=True, eq=False)
class RestoredSlide:
    """A slide whose tissue has been restored.

    Attributes
    ----------
    slide
        The restored slide, at the pixel size that the networks saw; it reads from ``store``.
    grid, store
        Where the tiles lie and are kept.
    index
        The tiles that the restorer saw, ``(M,)``.
    steps_predicted
        Reverse steps predicted for each of them, ``(M,)``; 0 where it found nothing to remove.
    left_alone
        Which of them came back as they were, ``(M,)``: skipped, clean at the first look, or without an estimate at it.
    flags, stop_reasons
        What the restorer said of each of them.
    computed
        How many were restored now; the others come from the run before, which was cut off.
    seconds
        How long that took.
    """

    slide: MosaicSlide
    grid: TileGrid
    store: TileStore
    index: NDArray[np.int64]
    steps_predicted: NDArray[np.int64]
    left_alone: NDArray[np.bool_]
    flags: tuple[tuple[str, ...], ...]
    stop_reasons: tuple[str, ...]
    computed: int
    seconds: float

    @cached_property
    def calibrated(self) -> NDArray[np.bool_]:
        """Which of the tiles that the restorer saw have a prediction, ``(M,)``: a filter predicts nothing."""
        said = zip(self.stop_reasons, self.steps_predicted, strict=True)
        return np.array([steps > 0 or reason not in UNPREDICTED for reason, steps in said], dtype=bool)

    @cached_property
    def capped(self) -> NDArray[np.bool_]:
        """Which of the tiles that the restorer saw were worse than it is trained for, ``(M,)``."""
        return np.array(["capped" in flags for flags in self.flags], dtype=bool)

    @property
    def counts(self) -> TileCounts:
        """What became of the tiles."""
        restored = int((~self.left_alone).sum())
        return TileCounts(
            total=len(self.grid), restored=restored, skipped=len(self.grid) - restored, capped=int(self.capped.sum())
        )

    @property
    def steps(self) -> StepSummary:
        """The predictions in a few numbers."""
        reasons = dict(sorted(Counter(self.stop_reasons).items()))
        predicted = self.steps_predicted[self.calibrated]
        if not len(predicted):
            return StepSummary(median=0, p90=0, largest=0, stop_reasons=reasons)
        median, p90 = np.percentile(predicted, [50, 90], method="nearest")
        return StepSummary(median=int(median), p90=int(p90), largest=int(predicted.max()), stop_reasons=reasons)

    @property
    def step_map(self) -> SquareMap:
        """Predicted steps by tile, of those that have a prediction."""
        predicted = self.steps_predicted[self.calibrated].astype(np.float32)
        return SquareMap(self.grid.positions[self.index[self.calibrated]], self.grid.tile, predicted)

    @property
    def on_scan(self) -> Slide:
        """The restored slide at the pixel size and shape of the scan: what is written and laid over it."""
        return on_scan_grid(self.slide)

    def _repr_html_(self) -> str:
        """What a notebook shows: the same place before and after, and how far the tiles were restored."""
        (y, x, height, width), called = middle(self.slide)
        before, after = (slide.read(y, x, height, width) for slide in (self.slide.source, self.slide))
        window = colour_window(before, after)
        counts, steps = self.counts, self.steps
        rows = [
            ("Tiles", f"{counts.restored} of {counts.total} restored, {counts.skipped} left alone"),
            ("Steps predicted", f"median {steps.median}, 90 % within {steps.p90}, largest {steps.largest}"),
            ("Ended", ", ".join(f"{reason} {count}" for reason, count in steps.stop_reasons.items())),
        ]
        doubts = []
        if counts.capped:
            doubts.append(f"{counts.capped} tiles are worse than the restorer was trained for")
        return card(
            "Restored slide",
            pictures=[coloured(before, window, f"{called}, as scanned"), coloured(after, window, "restored")],
            rows=rows,
            doubtful="Not to be trusted everywhere",
            doubts=doubts,
            lines=self.slide.notes,
            notice=RESTORED,
        )

    def without(self, tiles: NDArray[np.int64]) -> RestoredSlide:
        """The same with the original in the place of some tiles."""
        slide = replace(self.slide, withheld=frozenset(tiles.tolist()))
        # Tiles without a folder of their own lie on disk for as long as the first slide lives: as long as this one, then.
        weakref.finalize(slide, lambda first: None, self.slide)
        return replace(self, slide=slide)

    def discard(self) -> None:
        """Remove the tiles from the disk; the slide cannot be read any more."""
        _remove_tiles(self.store)


def overlap_of(tile: int) -> int:
    """Pixels that neighbouring tiles of so many px share."""
    return min(OVERLAP, tile // 2)


def at_pixel_size(slide: Slide, um_per_px: float) -> tuple[Slide, tuple[str, ...]]:
    """The slide at the pixel size that the networks know, and the flags that its reading earned.

    Within :data:`PIXEL_SIZE_TOLERANCE` it stays as it is.

    Raises
    ------
    InputError
        When its pixels are too large for anything to be read in them.
    """
    if slide.um_per_px > LARGEST_ENLARGEMENT * um_per_px:
        needed = f"at most {LARGEST_ENLARGEMENT * um_per_px:.4g} um, {LARGEST_ENLARGEMENT:g} times those of the networks"
        raise InputError(f"pixels of {slide.um_per_px:.4g} um", needed, slide.identity.source or None)
    flags = tuple(f"reading: {note}" for note in slide.notes)
    if abs(slide.um_per_px / um_per_px - 1) <= PIXEL_SIZE_TOLERANCE:
        return slide, flags
    said = f"resampled: from {slide.um_per_px:.4g} to {um_per_px:.4g} um per pixel, the size that the networks were trained at"
    return ResampledSlide(slide, um_per_px), (*flags, said)


def look_over(slide: Slide) -> Overview:
    """Read a slide once, in blocks: its thumbnail and its tissue."""
    picture, factor = thumbnail(slide, THUMBNAIL_EDGE)
    return Overview(picture=picture, factor=factor, mask=tissue_mask(picture, factor))


def restore_slide(
    slide: Slide,
    seen: Overview,
    restorer: Restorer,
    bundle: Bundle,
    *,
    seed: int = 0,
    work: str | Path | None = None,
    progress: Progress | None = None,
    worst_first: Calibrator | None = None,
    told: Told | None = None,
) -> RestoredSlide:
    """Restore every tile of a slide that touches tissue; the others stay as they are.

    Parameters
    ----------
    slide
        At the pixel size of the bundle.
    seen
        The same slide as :func:`look_over` saw it: where it has tissue, and whether tiles in ``work`` are its own.
    work
        Folder for the tiles, see :meth:`RestoreThenClassify.__call__`.
    worst_first
        A calibrator: the tiles for which it asks most steps come first, which changes none of them. None goes row by row.
    told
        Is told of each tile as it comes: the tile, its y and x, and what reads it as scanned.

    Raises
    ------
    InputError
        When the slide cannot be read, or ``work`` cannot be written.
    """
    from srh_clinic.restorers import Tile

    report = progress or silent
    began = time.perf_counter()
    grid = TileGrid(slide.shape, bundle.metadata["tile"], overlap_of(bundle.metadata["tile"]))
    wanted = np.flatnonzero([seen.mask.within(y, x, grid.tile, grid.tile) for y, x in grid.positions.tolist()])
    store = _open_store(slide, seen, restorer, bundle, seed, grid, work)
    try:
        todo = [i for i in wanted.tolist() if i not in store]
        computed = len(todo)
        if worst_first is not None:
            todo = _by_need(slide, grid, todo, worst_first)

        def tiles() -> Iterator[Tile]:
            for i in todo:
                y, x = (int(edge) for edge in grid.positions[i])
                yield Tile(i, read_tile(slide, y, x, grid.tile), y, x)

        report("restoring", len(wanted) - computed, len(wanted))
        for done, tile in enumerate(restorer.stream(read_ahead(tiles()), seed), start=1):
            record = {
                "steps_predicted": tile.t_pred + 1,
                "steps": tile.steps,
                "rounds": tile.rounds,
                "stop_reason": tile.stop_reason,
                "flags": list(tile.flags),
                "evaluations": tile.evaluations,
            }
            store.put(tile.key, tile.counts, record)
            report("restoring", len(wanted) - computed + done, len(wanted))
            if told is not None:
                y, x = (int(edge) for edge in grid.positions[tile.key])
                told(tile, y, x, partial(read_tile, slide, y, x, grid.tile))
    except BaseException:
        store.close()
        if work is None:
            _remove_tiles(store)
        raise
    records = [store.record(int(i)) for i in wanted]
    restored = RestoredSlide(
        slide=MosaicSlide(slide, grid, store),
        grid=grid,
        store=store,
        index=wanted,
        steps_predicted=np.array([record["steps_predicted"] for record in records], dtype=np.int64),
        left_alone=np.array([not record["steps"] and record["stop_reason"] in LEFT_ALONE for record in records], bool),
        flags=tuple(tuple(record["flags"]) for record in records),
        stop_reasons=tuple(record["stop_reason"] for record in records),
        computed=computed,
        seconds=time.perf_counter() - began,
    )
    if work is None:
        weakref.finalize(restored.slide, _remove_tiles, store)
    return restored


def _by_need(slide: Slide, grid: TileGrid, tiles: Sequence[int], calibrator: Calibrator) -> list[int]:
    """Tiles by the steps that a calibrator asks for, most first."""
    import torch

    def batches() -> Iterator[Counts]:
        for first in range(0, len(tiles), LOOKED_AT):
            corners = grid.positions[tiles[first : first + LOOKED_AT]].tolist()
            yield np.stack([read_tile(slide, y, x, grid.tile) for y, x in corners])

    asked = [np.asarray(calibrator(torch.from_numpy(counts_to_model(batch)))) for batch in read_ahead(batches(), 1)]
    order = np.argsort(-np.concatenate(asked), kind="stable") if asked else ()
    return [tiles[int(place)] for place in order]


def rescan_regions(restored: RestoredSlide, scanned: Slide) -> tuple[RescanRegion, ...]:
    """Connected regions of tiles that need more than :data:`RESCAN_STEPS` steps or went beyond the cap, largest first.

    ``scanned`` is the slide whose pixels the regions are told in.
    """
    grid, shape = restored.grid, restored.slide.shape
    poor = np.zeros(len(grid), dtype=bool)
    poor[restored.index] = (restored.steps_predicted > RESCAN_STEPS) | restored.capped
    steps = np.zeros(len(grid), dtype=np.int64)
    steps[restored.index] = restored.steps_predicted
    capped = np.zeros(len(grid), dtype=bool)
    capped[restored.index] = restored.capped
    labels, count = ndimage.label(poor.reshape(len(grid.rows), len(grid.columns)), np.ones((3, 3)))
    regions = []
    for label in range(1, count + 1):
        members = np.flatnonzero(labels.ravel() == label)
        corners = grid.positions[members]
        (top, left), (bottom, right) = corners.min(axis=0), np.minimum(corners.max(axis=0) + grid.tile, shape)
        where = placed(top, left, bottom, right, restored.slide, scanned)
        centre = np.minimum(corners.mean(axis=0) + grid.tile / 2, shape) / shape
        where["where"] = "nearly everywhere" if 3 * len(members) >= 2 * len(restored.index) else in_words(*centre)
        regions.append(
            RescanRegion(
                **where,
                tiles=len(members),
                capped=int(capped[members].sum()),
                steps=round(float(steps[members].mean())),
            )
        )
    return tuple(sorted(regions, key=lambda region: (-region.tiles, region.y, region.x)))


def _open_store(
    slide: Slide, seen: Overview, restorer: Restorer, bundle: Bundle, seed: int, grid: TileGrid, work: str | Path | None
) -> TileStore:
    """The tiles of this very run: a folder of ``work`` that is named after everything they depend on."""
    of_run = fingerprint(
        records=RECORDS,
        source=slide.identity.source,
        content=slide.identity.content,
        um_per_px=slide.um_per_px,
        picture=hashlib.sha256(seen.picture.tobytes()).hexdigest(),
        restorer=restorer.name,
        settings=dict(restorer.settings),
        weights_sha256=bundle.weights_sha256,
        seed=seed,
    )
    root = Path(tempfile.mkdtemp(prefix="srh-clinic-")) if work is None else Path(work)
    return TileStore(root / f"tiles-{of_run}", grid, of_run)


def _remove_tiles(store: TileStore) -> None:
    """Remove a store, damaged ones that were set aside for it, and the folder around it when nothing else is in it."""
    store.close()
    for folder in (store.path, *store.path.parent.glob(f"{store.path.name}{DAMAGED}*")):
        shutil.rmtree(folder, ignore_errors=True)
    if store.path.parent.is_dir() and not any(store.path.parent.iterdir()):
        store.path.parent.rmdir()
