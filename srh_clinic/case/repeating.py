"""The same tiles restored under further seeds: what the restorations agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.case.record import UncertainNucleus
from srh_clinic.case.scrutiny import each_once, surroundings
from srh_clinic.errors import InputError
from srh_clinic.guards import Place, seed_agreement
from srh_clinic.intensity import Counts, counts_to_unit
from srh_clinic.rscd.tile import Tile
from srh_clinic.slide import Slide
from srh_clinic.tiling import TileGrid, TileStore, read_tile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from srh_clinic.restorers import Restoration, RestoredTile, Restorer

REPEATED = 8
"""Tiles that are restored again at once."""

DEVIATION_SQUARE = 32
"""Edge in pixels of the squares that the deviation over seeds is told in."""

UNCERTAIN = 0.5
"""Proportion of the restorations up to which a nucleus is uncertain."""


@dataclass(frozen=True, eq=False)
class Certainty:
    """What restorations under several seeds agree on.

    Attributes
    ----------
    seeds
        How many there were beside the one that is shown.
    positions, edge, deviation
        Top left corners ``(M, 2)`` of squares of ``edge`` pixels, and in each the mean over pixels and channels of the
        standard deviation over the restorations, unit intensity ``(M,)``.
    nuclei
        Those that half of the restorations or fewer show, the least certain first.
    """

    seeds: int
    positions: NDArray[np.int64]
    edge: int
    deviation: NDArray[np.float32]
    nuclei: tuple[UncertainNucleus, ...]


def repeat(
    scanned: Slide,
    restored: Slide,
    grid: TileGrid,
    index: NDArray[np.int64],
    restorer: Restorer,
    seed: int,
    seeds: int,
    *,
    source: Slide,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Certainty:
    """Restore tiles again under ``seeds`` further seeds, and compare (:func:`~srh_clinic.guards.seed_agreement`).

    Parameters
    ----------
    scanned, restored, grid, index, source
        See :func:`~srh_clinic.case.scrutiny.scrutinise`.
    restorer
        One whose result depends on the seed.
    seed
        Of the restoration that is shown; the others have the numbers after it.
    """
    squares = max(grid.tile // DEVIATION_SQUARE, 1)
    edge = grid.tile // squares
    positions, deviations = [], []
    nuclei: list[tuple[float, Place]] = []
    for first in range(0, len(index), REPEATED):
        members = index[first : first + REPEATED]
        corners = grid.positions[members].tolist()
        tiles = [Tile(key, read_tile(scanned, y, x, grid.tile), y, x) for key, (y, x) in enumerate(corners)]
        shown = [[counts_to_unit(read_tile(restored, y, x, grid.tile))] for y, x in corners]
        for number in range(1, seeds + 1):
            for tile in restorer.stream(iter(tiles), seed + number):
                shown[tile.key].append(counts_to_unit(tile.counts))
        for (y, x), images in zip(corners, shown, strict=True):
            agreement = seed_agreement(np.stack(images), scanned.um_per_px)
            mean = agreement.deviation[:, : squares * edge, : squares * edge].mean(axis=0)
            deviations.append(mean.reshape(squares, edge, squares, edge).mean(axis=(1, 3)).ravel())
            positions.append(np.indices((squares, squares)).reshape(2, -1).T * edge + (y, x))
            for nucleus, persistence in zip(agreement.nuclei, agreement.persistence, strict=True):
                row, column, radius = (float(one) for one in nucleus)
                if persistence <= UNCERTAIN and row + y < scanned.shape[0] and column + x < scanned.shape[1]:
                    nuclei.append((1 - float(persistence), Place("added", row + y, column + x, radius, float(persistence))))
        progress(first + len(members), len(index))
    found = [
        UncertainNucleus(**surroundings(place, scanned, source), persistence=round(place.strength, 3))
        for _, place in each_once(nuclei, scanned.um_per_px)
    ]
    return Certainty(
        seeds=seeds,
        positions=np.concatenate(positions or [np.empty((0, 2))]).astype(np.int64),
        edge=edge,
        deviation=np.concatenate(deviations or [np.empty(0)]).astype(np.float32),
        nuclei=tuple(found),
    )


def seeded_restorer(restorer: str, bundle: str | Path, device: str, settings: Mapping[str, Any]) -> Restorer:
    """A restorer whose result depends on the seed; RSCD then steps by its ancestral sampler.

    Raises
    ------
    InputError
        When there is none by this name.
    """
    from srh_clinic.restorers import SEEDED, create_restorer

    if restorer not in SEEDED:
        raise InputError(f"--certainty with the restorer {restorer}, which draws no samples", f"one of {', '.join(SEEDED)}")
    seeded = {**settings, "sampler": "ancestral"} if restorer == "rscd" else dict(settings)
    return create_restorer(restorer, bundle=bundle, device=device, **seeded)


@dataclass(frozen=True, eq=False)
class KeepingRestorer:
    """A restorer that hands on what another makes of the tiles of a slide, and keeps it: a store for each seed."""

    restorer: Restorer
    stores: dict[int, TileStore]

    @property
    def name(self) -> str:
        return self.restorer.name

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.restorer.settings

    def restore(self, counts: Counts, positions: ArrayLike | None = None, seed: int = 0) -> Restoration:
        return self.restorer.restore(counts, positions, seed)

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        store = self.stores[seed]
        place = {(int(y), int(x)): number for number, (y, x) in enumerate(store.grid.positions)}
        of_key: dict[int, int] = {}

        def noted() -> Iterator[Tile]:
            for tile in tiles:
                of_key[tile.key] = place[tile.y, tile.x]
                yield tile

        for made in self.restorer.stream(noted(), seed):
            store.put(of_key[made.key], made.counts, {})
            yield made
