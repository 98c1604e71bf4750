"""What a case's result holds that other programs are to show, as plain values; places are told in pixels of the scan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from srh_clinic.diagnosis import Diagnosis
from srh_clinic.regions import Region
from srh_clinic.resampling import level_shape
from srh_clinic.slide import Slide


class Squares(Protocol):
    """Values ``(N, ...)`` of squares of ``edge`` pixels whose top left corners are ``positions``, int ``(N, 2)``."""

    @property
    def positions(self) -> NDArray[np.int64]: ...

    @property
    def edge(self) -> int: ...

    @property
    def values(self) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Said:
    """What the classifier says of the slide: the class, the probability of each, and the diagnosis's mean over the patches."""

    diagnosis: Diagnosis
    probabilities: Mapping[str, float]
    support: float


@dataclass(frozen=True)
class Marked:
    """A region that a reader is sent to.

    ``kind`` is a word of ours (``added_nucleus``, ``rescan``), ``words`` says it to a reader, and ``strength`` how loud it is,
    in thresholds of the guards; None where it has none.
    """

    kind: str
    words: str
    region: Region
    strength: float | None = None


@dataclass(frozen=True, eq=False)
class Values:
    """A value of each square of a slide: ``squares`` whose pixels are ``scale`` pixels of the scan."""

    squares: Squares
    scale: float

    def boxes(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Top, left, bottom and right of each square in pixels of the scan, drawn in to its ``shape``, float64 ``(N, 4)``."""
        corners = np.asarray(self.squares.positions, dtype=np.float64).reshape(-1, 2)
        boxes = np.concatenate([corners, corners + self.squares.edge], axis=1) * self.scale
        return np.minimum(boxes, [*shape, *shape])

    def cells(self, shape: tuple[int, int], factor: int) -> NDArray[np.float32]:
        """Their means over the cells of a level of the scan's pyramid, float32 ``(h, w, ...)``; NaN where nothing was said.

        A cell is ``factor`` pixels squared and counts what covers it by area, where at least half of it is covered: it lies
        over the tissue that it tells of.
        """
        grid = level_shape(shape, factor)
        values = np.asarray(self.squares.values, dtype=np.float64)
        total = np.zeros((*grid, *values.shape[1:]))
        area = np.zeros(grid)
        for (top, left, bottom, right), value in zip(self.boxes(shape), values, strict=True):
            down, rows = _covered(top, bottom, factor)
            across, columns = _covered(left, right, factor)
            covered = np.outer(rows[: max(grid[0] - down, 0)], columns[: max(grid[1] - across, 0)])
            here = np.s_[down : down + covered.shape[0], across : across + covered.shape[1]]
            total[here] += covered.reshape(covered.shape + (1,) * (values.ndim - 1)) * value
            area[here] += covered
        inside = np.outer(
            *(np.minimum(factor, edge - factor * np.arange(cells)) for edge, cells in zip(shape, grid, strict=True))
        )
        by_area = np.where(area >= 0.5 * inside, area, np.nan)
        return np.asarray(total / by_area.reshape(by_area.shape + (1,) * (values.ndim - 1)), dtype=np.float32)


def _covered(start: float, end: float, factor: int) -> tuple[int, NDArray[np.float64]]:
    """The first cell that a stretch of pixels touches, and how many pixels of each it covers."""
    first, last = int(start // factor), int(-(-end // factor))
    edges = np.clip(np.arange(first, last + 1) * factor, start, end)
    return first, np.diff(edges)


@dataclass(frozen=True, eq=False)
class CaseFindings:
    """A case's result as other programs are told it.

    Attributes
    ----------
    scan, restored
        The slide as scanned, and restored on the same pixels.
    before, after
        What the classifier says of each.
    classes_before, classes_after
        Probabilities ``(N, 3)`` of each patch with tissue, in the order of :data:`~srh_clinic.diagnosis.CLASSES`.
    steps, trust
        Predicted reverse steps of each tile, and how strongly the guards speak against each, in thresholds.
    flagged, rescan
        Where to look, and what is worth rescanning.
    doubts, warnings, notes
        Sentences that begin with a code and a colon.
    decision, decided
        What a policy lets stand, in a sentence and as a class; empty and None where none was asked.
    quality
        How poor the image was, in a sentence, and by ``quality_numbers``: steps at the median, the ninetieth percentile and
        the most, and how many tiles were restored, left alone and capped.
    channel_order
        Which channel was taken for CH2 and CH3, and why; empty when there was nothing to choose.
    provenance
        Version, bundle, sha256 of the weights, seed, settings and the notice: what may be done with the result.
    scan_sha256
        SHA-256 of the scan's pixels (:func:`~srh_clinic.slide.pixels_sha256`), which tells a scan without UIDs from another.
    """

    scan: Slide
    restored: Slide
    before: Said
    after: Said
    classes_before: Values
    classes_after: Values
    steps: Values
    trust: Values
    flagged: tuple[Marked, ...]
    rescan: tuple[Marked, ...]
    doubts: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    decision: str
    decided: str | None
    quality: str
    quality_numbers: Mapping[str, int]
    channel_order: str
    provenance: Mapping[str, Any]
    scan_sha256: str

    @property
    def notice(self) -> str:
        """What must be said of everything that was computed."""
        return str(self.provenance["notice"])

    @property
    def run(self) -> str:
        """What made it of which slide, see :func:`run_of`."""
        return run_of(self.provenance, self.scan, self.scan_sha256)

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the objects tell beside the slide's pixels, so that those that differ share no UID."""
        told = [self.before, self.after, self.flagged, self.rescan, self.doubts, self.warnings, self.notes]
        more = [self.decision, self.decided, self.quality, dict(self.quality_numbers), self.channel_order, self.run]
        digest = hashlib.sha256(repr([*told, *more]).encode())
        for values in (self.classes_before, self.classes_after, self.steps, self.trust):
            squares = values.squares
            digest.update(repr((squares.edge, values.scale, squares.values.shape)).encode())
            digest.update(np.ascontiguousarray(squares.positions, dtype="<i8").tobytes())
            digest.update(np.ascontiguousarray(squares.values, dtype="<f4").tobytes())
        return digest.hexdigest()


def run_of(provenance: Mapping[str, Any], scan: Slide, scan_sha256: str) -> str:
    """What made a result of which slide, as text: equal for equal calls, and another for every other slide.

    All identifiers of results follow from it. A scan that is no DICOM, or is told without its identity, has no UIDs to tell it
    from another: its pixels do.
    """
    said = scan.identity
    of = [scan_sha256, float(scan.um_per_px), said.patient_id, said.specimen_id, said.study_uid, *said.sop_uids]
    return json.dumps([provenance, *of], sort_keys=True, default=str)
