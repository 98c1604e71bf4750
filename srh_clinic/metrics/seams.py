"""Whether the tiles that a slide was restored in show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srh_clinic.intensity import counts_to_unit
from srh_clinic.tiling import TileGrid


@dataclass(frozen=True)
class SeamRatio:
    """Gradient energy across tile borders over that across all other lines; 1 when tiles leave no trace.

    ``rows`` and ``columns`` are the ratios across horizontal and vertical borders, ``value`` their mean. ``shifted`` is the
    95th percentile of ``value`` for grids of the same shape moved to where no border is: what chance alone gives.
    """

    value: float
    rows: float
    columns: float
    shifted: float


def seam_ratio(counts: NDArray[np.generic], grid: TileGrid) -> SeamRatio:
    """Whether the borders of a grid's tiles show in a slide.

    The gradient across a line is the difference of the pixels on its two sides, ``I[y, x] - I[y, x - 1]``; its energy is the
    mean square along the line. A border is a line on which a tile begins or ends, inside the slide; where the feather is too
    short or tiles disagree, the blend has a kink or a step there. The ratio is taken for each channel and axis, so that the
    brighter channel does not decide alone, and averaged.

    Parameters
    ----------
    counts
        The slide, counts ``(2, H, W)``.
    grid
        Its tiles; more than one in at least one axis.

    Raises
    ------
    ValueError
        When the shapes differ or no border lies inside the slide.
    """
    if counts.shape[1:] != grid.shape:
        raise ValueError(f"found a slide of {counts.shape[1:]} pixels and a grid for {grid.shape}; needed equal shapes.")
    unit = counts_to_unit(counts).astype(np.float64)
    axes = {
        "rows": ((np.diff(unit, axis=1) ** 2).mean(axis=2), _borders(grid.rows, grid.tile, grid.shape[0])),
        "columns": ((np.diff(unit, axis=2) ** 2).mean(axis=1), _borders(grid.columns, grid.tile, grid.shape[1])),
    }
    with_borders = {name: pair for name, pair in axes.items() if len(pair[1])}
    if not with_borders:
        raise ValueError(f"found no tile border inside {grid.shape} pixels; needed a slide of more than one tile.")
    ratios = {name: _line_ratio(energy, borders) for name, (energy, borders) in with_borders.items()}
    offsets = range(1, max(energy.shape[1] for energy, _ in with_borders.values()))
    shifted = [
        np.mean([_line_ratio(energy, moved) for energy, moved in moved_apart])
        for offset in offsets
        if (moved_apart := _moved(with_borders.values(), offset))
    ]
    return SeamRatio(
        value=float(np.mean(list(ratios.values()))),
        rows=ratios.get("rows", float("nan")),
        columns=ratios.get("columns", float("nan")),
        shifted=float(np.quantile(shifted, 0.95)) if shifted else float("nan"),
    )


def _borders(offsets: NDArray[np.int64], tile: int, length: int) -> NDArray[np.int64]:
    """Where tiles begin or end inside the slide, as indices of the gradient *before* that pixel."""
    lines = np.unique(np.concatenate([offsets, offsets + tile]))
    return lines[(lines > 0) & (lines < length)] - 1


def _line_ratio(energy: NDArray[np.float64], lines: NDArray[np.int64]) -> float:
    """Mean energy ``(2, L)`` on some lines over that on the others, averaged over channels."""
    chosen = np.zeros(energy.shape[1], dtype=bool)
    chosen[lines] = True
    return float(np.mean(energy[:, chosen].mean(axis=1) / energy[:, ~chosen].mean(axis=1)))


def _moved(
    axes: Iterable[tuple[NDArray[np.float64], NDArray[np.int64]]], offset: int
) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """The same borders ``offset`` lines further, wrapped round; empty when one falls on a true border."""
    moved = []
    for energy, borders in axes:
        lines = (borders + offset) % energy.shape[1]
        if np.isin(lines, borders).any():
            return []
        moved.append((energy, lines))
    return moved
