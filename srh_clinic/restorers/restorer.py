"""What every restorer is: RSCD, its baselines and the classical filters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.notebook import RESTORED, card, coloured
from srh_clinic.rscd.tile import RestoredTile, Tile

TILES_SHOWN = 4
"""Tiles of a restoration that a notebook shows."""


@dataclass(frozen=True, eq=False)
class Restoration:
    """Restored tiles in the order they were given; see :class:`~srh_clinic.rscd.tile.RestoredTile` for each field."""

    counts: Counts
    """uint16 ``(N, 2, H, W)``."""
    t_pred: NDArray[np.int64]
    """Index of the first calibration, ``(N,)``; -1 where no calibrator was asked, and where it saw nothing to remove."""
    steps: NDArray[np.int64]
    """Reverse steps run, ``(N,)``."""
    rounds: NDArray[np.int64]
    """Rounds of calibration and denoising, ``(N,)``."""
    stop_reason: tuple[str, ...]
    flags: tuple[tuple[str, ...], ...]
    evaluations: NDArray[np.int64]
    """Forward passes of the denoiser, ``(N,)``."""

    @property
    def steps_predicted(self) -> NDArray[np.int64]:
        """Reverse steps that the first calibration asked for, ``(N,)``: one more than the index; 0 where there are none."""
        return self.t_pred + 1

    def _repr_html_(self) -> str:
        """What a notebook shows: the first tiles, and what became of each."""
        first = range(min(len(self.counts), TILES_SHOWN))
        more = f" (the first {len(first)})" if len(first) < len(self.counts) else ""
        flagged = [f"tile {number}: {', '.join(flags)}" for number, flags in enumerate(self.flags) if flags]
        return card(
            f"{len(self.counts)} {'tile' if len(self.counts) == 1 else 'tiles'} restored{more}",
            pictures=[coloured(self.counts[number], None, f"tile {number}, restored") for number in first],
            heads=("Tile", "steps predicted", "steps run", "rounds", "ended"),
            rows=[
                (
                    str(number),
                    *(f"{values[number]}" for values in (self.steps_predicted, self.steps, self.rounds)),
                    self.stop_reason[number],
                )
                for number in first
            ],
            doubtful="What the restorer says of tiles",
            doubts=flagged,
            notice=RESTORED,
        )


@runtime_checkable
class Restorer(Protocol):
    """Restores tiles of counts."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that was chosen, for the provenance of a result."""

    def restore(self, counts: Counts, positions: ArrayLike | None = None, seed: int = 0) -> Restoration:
        """Restore an array of tiles.

        Parameters
        ----------
        counts
            uint16 ``(N, 2, H, W)``.
        positions
            Top left corner ``(y, x)`` of each tile on its slide, integers ``(N, 2)``, which decides the noise it sees.
            Without, each tile is an image of its own at (0, 0): its result does not depend on the other tiles.
        seed
            0 to 2**64 - 1.

        Raises
        ------
        InputError
            When ``counts`` or ``positions`` are not as above.
        """

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        """Restore tiles as they come, in bounded memory; they may leave in another order."""


class TileRestorer(ABC):
    """What our restorers share: an array is restored as a stream of tiles is, and tiles of any size are served."""

    name: str
    size_multiple: int = 1
    """Its networks take heights and widths that are multiples of this; others are reflected up to one and cropped after."""

    def restore(self, counts: Counts, positions: ArrayLike | None = None, seed: int = 0) -> Restoration:
        """See :meth:`Restorer.restore`."""
        counts = np.asarray(counts)
        restored = sorted(self.stream(_tiles(counts, positions), seed), key=lambda tile: tile.key)
        return Restoration(
            counts=np.stack([tile.counts for tile in restored]) if restored else counts.copy(),
            t_pred=np.array([tile.t_pred for tile in restored], dtype=np.int64),
            steps=np.array([tile.steps for tile in restored], dtype=np.int64),
            rounds=np.array([tile.rounds for tile in restored], dtype=np.int64),
            stop_reason=tuple(tile.stop_reason for tile in restored),
            flags=tuple(tile.flags for tile in restored),
            evaluations=np.array([tile.evaluations for tile in restored], dtype=np.int64),
        )

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        """See :meth:`Restorer.stream`."""
        sizes: dict[int, tuple[int, int]] = {}

        def grown() -> Iterator[Tile]:
            for tile in tiles:
                height, width = sizes[tile.key] = tile.counts.shape[1], tile.counts.shape[2]
                padding = ((0, 0), (0, -height % self.size_multiple), (0, -width % self.size_multiple))
                yield replace(tile, counts=np.pad(tile.counts, padding, mode="reflect"))

        for restored in self._stream(grown(), seed):
            height, width = sizes.pop(restored.key)
            yield replace(restored, counts=restored.counts[:, :height, :width])

    @abstractmethod
    def _stream(self, tiles: Iterable[Tile], seed: int) -> Iterator[RestoredTile]:
        """Restore tiles whose heights and widths are multiples of :attr:`size_multiple`."""


def _tiles(counts: Counts, positions: ArrayLike | None) -> Iterator[Tile]:
    """The tiles of an array, in its order; refuses what :meth:`Restorer.restore` refuses before any is restored."""
    if counts.ndim != 4 or counts.shape[1] != 2 or counts.dtype != np.uint16 or 0 in counts.shape[2:]:
        raise InputError(f"an array of {counts.dtype} with shape {counts.shape}", "uint16 counts of shape (N, 2, H, W)")
    corners = np.zeros((len(counts), 2), dtype=np.int64) if positions is None else np.asarray(positions)
    if corners.shape != (len(counts), 2) or not np.issubdtype(corners.dtype, np.integer) or (corners < 0).any():
        found = f"positions of {corners.dtype} with shape {corners.shape}"
        raise InputError(found, f"one (y, x) for each tile, integers from 0, shape ({len(counts)}, 2)")
    return (Tile(key, counts[key], int(y), int(x)) for key, (y, x) in enumerate(corners))
