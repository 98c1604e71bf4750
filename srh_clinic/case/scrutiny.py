"""What the guards say of a restored slide, tile by tile, and where a reader has to look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.case.record import ChangeKind, FlaggedRegion
from srh_clinic.concurrency import begin, read_ahead
from srh_clinic.guards import Examination, Place, examine, steps_left
from srh_clinic.intensity import Unit, counts_to_unit
from srh_clinic.metrics.nuclei import MATCH_UM
from srh_clinic.regions import placed
from srh_clinic.slide import Slide
from srh_clinic.tiling import TileGrid, read_tile
from srh_clinic.trust import GuardPolicy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

BATCH = 8
"""Tiles that are read, shown to the calibrator, and examined beside each other."""

SHOWN_RADII = 2.5
"""Half the edge of a nucleus's region in radii of the nucleus: its surroundings belong to the evidence."""

NUCLEAR = ("nucleus", "added", "removed")
"""Guards that speak of single nuclei; the others speak of a tile."""

KINDS: dict[str, ChangeKind] = {
    "added": "added_nucleus",
    "removed": "removed_nucleus",
    "one_channel": "one_channel",
    "brightness": "brightness",
    "structure": "structure",
    "steps_left": "steps_left",
    "lattice": "lattice",
}
"""What a flagged region is called after the guard that speaks."""

WORDS: dict[ChangeKind, str] = {
    "added_nucleus": "a nucleus that the input does not support",
    "removed_nucleus": "a nucleus of the input that is gone",
    "one_channel": "a change in one channel alone",
    "brightness": "a change of brightness",
    "structure": "structure among what was taken away",
    "steps_left": "noise that is left",
    "lattice": "a pattern of a grid that the input does not have",
}
"""Each kind for a reader."""


@dataclass(frozen=True, eq=False)
class Scrutiny:
    """What the guards say of a slide.

    Attributes
    ----------
    index
        The tiles that were examined: those that the restorer changed, ``(M,)``.
    strengths
        How strongly the guards speak against each, in thresholds, float64 ``(M,)``: 1 is just flagged.
    regions
        Where to look, the strongest first.
    alpha, threshold
        The promise in use and its threshold in the policy's own scale; None when the bundle was not calibrated.
    outside
        How many of the tiles asked for fewer or more steps than any that the promise was calibrated on.
    seconds
        How long it took.
    patterns
        Whether patterns of a grid were listened for, too: not before the policy has a limit for them.
    """

    index: NDArray[np.int64]
    strengths: NDArray[np.float64]
    regions: tuple[FlaggedRegion, ...]
    alpha: float | None
    threshold: float | None
    outside: int
    seconds: float
    patterns: bool = True

    @property
    def failed(self) -> NDArray[np.int64]:
        """The flagged tiles."""
        return self.index[self.strengths >= 1]


def unexamined() -> Scrutiny:
    """For a bundle that states no thresholds: nothing was examined, and nothing can be said."""
    none = np.empty(0)
    return Scrutiny(none.astype(np.int64), none, (), None, None, 0, 0.0)


def scrutinise(
    scanned: Slide,
    restored: Slide,
    grid: TileGrid,
    index: NDArray[np.int64],
    steps_predicted: NDArray[np.int64],
    policy: GuardPolicy,
    *,
    source: Slide,
    calibrator: Callable[[Tensor], ArrayLike] | None = None,
    alpha: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scrutiny:
    """Ask the guards about every tile that a restorer changed.

    Each tile is read from both slides and examined by itself, so the answer depends on neither batch nor order. A nucleus that
    two overlapping tiles show is one region.

    Parameters
    ----------
    scanned, restored
        The slide at the pixel size of the networks, before and after.
    grid, index, steps_predicted
        Where its tiles lie, which of them were changed, and the steps predicted for each of those.
    policy, alpha
        Thresholds, and the promised miss rate to use; None is the policy's first.
    source
        The slide as it was scanned, whose pixels the regions are told in.
    calibrator
        See :func:`~srh_clinic.guards.steps_left`; None leaves that guard out.

    Raises
    ------
    InputError
        When the policy makes no such promise.
    """
    began = time.perf_counter()
    promise = policy.promise(alpha)
    threshold = promise.threshold
    strengths = np.zeros(len(index))
    places: list[tuple[float, Place]] = []
    regions = []
    for number, examination in enumerate(_examinations(scanned, restored, grid, index, calibrator, progress)):
        y, x = (int(edge) for edge in grid.positions[index[number]])
        said = policy.against(examination.scores, threshold)
        strengths[number] = max(said.values(), default=0.0)
        loud = {name: strength for name, strength in said.items() if strength >= 1}
        if set(loud) & set(NUCLEAR):
            places += _places(examination, policy, threshold, y, x, scanned.shape)
        if others := [name for name in loud if name not in (*NUCLEAR, "lattice")]:
            regions.append(_of_part((0, 0, grid.tile, grid.tile), others[0], loud[others[0]], y, x, scanned, source))
        extent = examination.pattern.extent(policy.limits["lattice"]) if examination.pattern and "lattice" in loud else None
        if extent is not None:
            regions.append(_of_part(extent, "lattice", loud["lattice"], y, x, scanned, source))
    regions += [_of_place(strength, place, scanned, source) for strength, place in each_once(places, scanned.um_per_px)]
    fewest, most = policy.steps
    return Scrutiny(
        index=index,
        strengths=strengths,
        regions=tuple(sorted(regions, key=lambda region: (-region.strength, region.y, region.x, region.kind))),
        alpha=promise.alpha,
        threshold=threshold,
        outside=int(((steps_predicted < fewest) | (steps_predicted > most)).sum()),
        seconds=time.perf_counter() - began,
        patterns="lattice" in policy.limits,
    )


def each_once(places: list[tuple[float, Place]], um_per_px: float) -> list[tuple[float, Place]]:
    """Places without those that a stronger one of the same kind stands for, as where tiles overlap."""
    kept: list[tuple[float, Place]] = []
    cells: dict[tuple[str, int, int], list[Place]] = {}
    reach = MATCH_UM / um_per_px
    for strength, place in sorted(places, key=lambda found: (-found[0], found[1].y, found[1].x)):
        row, column = int(place.y // reach), int(place.x // reach)
        around = [
            other
            for i in (row - 1, row, row + 1)
            for j in (column - 1, column, column + 1)
            for other in cells.get((place.kind, i, j), ())
        ]
        if all(np.hypot(other.y - place.y, other.x - place.x) > reach for other in around):
            kept.append((strength, place))
            cells.setdefault((place.kind, row, column), []).append(place)
    return kept


def surroundings(place: Place, seen: Slide, source: Slide) -> dict[str, Any]:
    """The fields of a :class:`~srh_clinic.regions.Region` around a nucleus in pixels of ``seen``: it with its surroundings."""
    half = SHOWN_RADII * place.radius
    return placed(place.y - half, place.x - half, place.y + half, place.x + half, seen, source)


def _examinations(
    scanned: Slide,
    restored: Slide,
    grid: TileGrid,
    index: NDArray[np.int64],
    calibrator: Callable[[Tensor], ArrayLike] | None,
    progress: Callable[[int, int], None],
) -> Iterator[Examination]:
    """What the guards say of each tile, in order; while they look at some, the next are read and shown to the calibrator."""
    from torch import get_num_threads

    def batches() -> Iterator[tuple[list[Unit], list[Unit]]]:
        for first in range(0, len(index), BATCH):
            corners = grid.positions[index[first : first + BATCH]].tolist()
            before, after = (
                [counts_to_unit(read_tile(slide, y, x, grid.tile)) for y, x in corners] for slide in (scanned, restored)
            )
            yield before, after

    begun: list[Callable[[], list[Examination]]] = []
    done = 0
    for before, after in read_ahead(batches(), 1):
        left: Sequence[float | None] = [None] * len(after)
        if calibrator is not None:
            left = steps_left(np.stack(after), calibrator).tolist()
        begun.append(begin(examine, before, after, [scanned.um_per_px] * len(after), left, threads=get_num_threads()))
        if len(begun) > 1:
            yield from begun.pop(0)()
            done += BATCH
            progress(done, len(index))
    for rest in begun:
        yield from rest()
        progress(len(index), len(index))


def _places(
    examination: Examination, policy: GuardPolicy, threshold: float, y: int, x: int, shape: tuple[int, int]
) -> Iterator[tuple[float, Place]]:
    """The nuclei of a tile that are flagged, in thresholds, at their places on the slide."""
    scales = {name: policy.scales[name] * threshold for name in NUCLEAR if name in policy.scales}
    together = "nucleus" in scales
    for place in examination.evidence.places(min(scales.values()), together=together):
        strength = place.strength / scales.get("nucleus" if together else place.kind, np.inf)
        if strength >= 1 and place.y + y < shape[0] and place.x + x < shape[1]:
            yield strength, Place(place.kind, place.y + y, place.x + x, place.radius, place.strength)


def _of_part(
    extent: tuple[int, int, int, int], guard: str, strength: float, y: int, x: int, seen: Slide, source: Slide
) -> FlaggedRegion:
    """The part of a tile at (y, x) that a guard speaks of: its first row and column and those after the last."""
    top, left, bottom, right = extent
    where = placed(y + top, x + left, min(y + bottom, seen.shape[0]), min(x + right, seen.shape[1]), seen, source)
    return FlaggedRegion(**where, kind=KINDS[guard], strength=round(strength, 2))


def _of_place(strength: float, place: Place, seen: Slide, source: Slide) -> FlaggedRegion:
    return FlaggedRegion(**surroundings(place, seen, source), kind=KINDS[place.kind], strength=round(strength, 2))
