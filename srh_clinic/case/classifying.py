"""A slide classified: its patches with tissue, and from them the slide."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from srh_clinic.case.pictures import NO_SQUARES, SquareMap
from srh_clinic.case.restoring import Overview, RestoredSlide
from srh_clinic.concurrency import read_ahead
from srh_clinic.diagnosis import CLASSES, NONDIAGNOSTIC
from srh_clinic.slide import Slide
from srh_clinic.tiling import TileGrid, read_tile
from srh_clinic.tissue import TissueMask

if TYPE_CHECKING:
    from srh_clinic.classifiers import PatchClassifier, SlideDiagnosis
    from srh_clinic.trust import CaseProfile

PATCH_TISSUE = 0.1
"""A patch is classified when at least this fraction of it is tissue."""

PATCH_BATCH = 16
"""Patches that the classifier sees at once."""


@dataclass(frozen=True, eq=False)
class ClassifiedSlide:
    """The classifier's word on each patch with tissue, and on the slide.

    ``patches`` holds probabilities ``(N, 3)`` in the order tumor, normal, nondiagnostic.
    """

    patches: SquareMap
    diagnosis: SlideDiagnosis
    seconds: float


def profile_case(seen: Overview, restored: RestoredSlide, after: ClassifiedSlide, classifier: PatchClassifier) -> CaseProfile:
    """What a validation compares cases by: brightness as scanned, steps asked for, what the classifier sees restored."""
    from srh_clinic.trust.drift import case_profile

    per_cell = seen.mask.cell // seen.factor
    height, width = seen.picture.shape[1:]
    mask = seen.mask.cells.repeat(per_cell, 0).repeat(per_cell, 1)[:height, :width]
    corners = after.patches.positions.tolist()
    batches = [corners[first : first + PATCH_BATCH] for first in range(0, len(corners), PATCH_BATCH)]
    rows = [
        classifier.embed(np.stack([read_tile(restored.slide, y, x, after.patches.edge) for y, x in batch]))
        for batch in batches
    ]
    embeddings = np.concatenate(rows) if rows else np.empty((0, 0))
    return case_profile(seen.picture, mask, restored.steps_predicted[restored.calibrated], embeddings)


def classify_slide(
    slide: Slide,
    mask: TissueMask,
    classifier: PatchClassifier,
    progress: Callable[[int, int], None] | None = None,
    *,
    unread: SquareMap = NO_SQUARES,
) -> ClassifiedSlide:
    """Classify the patches with tissue, side by side over the slide, and from them the slide.

    Patches that touch a square of ``unread`` say nothing: they count as non-diagnostic, whatever they show.
    """
    from srh_clinic.classifiers import aggregate

    began = time.perf_counter()
    grid = TileGrid(slide.shape, classifier.patch, 0)
    corners = grid.positions.tolist()
    seen = [(y, x) for y, x in corners if mask.within(y, x, grid.tile, grid.tile) >= PATCH_TISSUE]
    probabilities = np.empty((len(seen), len(CLASSES)))
    firsts = range(0, len(seen), PATCH_BATCH)
    batches = (np.stack([read_tile(slide, y, x, grid.tile) for y, x in seen[first : first + PATCH_BATCH]]) for first in firsts)
    for first, batch in zip(firsts, read_ahead(batches, 1), strict=True):
        probabilities[first : first + PATCH_BATCH] = classifier.predict_proba(batch)
        if progress is not None:
            progress(first + len(batch), len(seen))
    positions = np.array(seen, dtype=np.int64).reshape(-1, 2)
    for corner in unread.positions:
        touched = (np.abs(2 * (positions - corner) + grid.tile - unread.edge) < grid.tile + unread.edge).all(axis=1)
        probabilities[touched] = np.eye(len(CLASSES))[NONDIAGNOSTIC]
    return ClassifiedSlide(
        patches=SquareMap(positions, grid.tile, probabilities.astype(np.float32)),
        diagnosis=aggregate(probabilities),
        seconds=time.perf_counter() - began,
    )
