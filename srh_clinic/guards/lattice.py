"""Patterns of a grid: what a network that works on blocks of pixels leaves behind, and what neither tissue nor noise has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.sparse import csr_array

from srh_clinic.guards.residual import Residual
from srh_clinic.metrics.nuclei import DARK

BLOCK, STEP, AVERAGED = 64, 32, 3
"""Edge in px of the blocks whose spectra are taken, how far apart they lie, and how many a side are averaged."""

LONGEST = 8
"""Longest period in px that is looked for; it holds those of 2 and 4."""

NEAR, FAR = 1, 4
"""Surroundings of a frequency: from above ``NEAR`` to ``FAR`` of the spectrum's steps of 1/64 cycle a px away."""

UNSEEN = 2e-4
"""Amplitude, as a share of the brightness, of a pattern that counts for nothing however smooth its surroundings are."""

EVIDENCE, SUPPORT = 2.0, 4.0
"""Power over the surroundings' from which on the input has a pattern, and how many times what is above it is allowed."""


@dataclass(frozen=True, eq=False)
class GridPattern:
    """How strongly patterns of a grid stand in squares of a restoration; see :func:`grid_pattern`.

    Attributes
    ----------
    amplitude
        Of the strongest in each square, over that of its surroundings, float64 ``(rows, columns)``: about 1.4 without one.
    control
        The same at frequencies of no grid, half-way between those of one, ``(3, rows, columns)``: what the amplitude is
        without a pattern. None where it was not asked for.
    squares
        First row and column of each square in px, and those after its last, ``(rows, columns, 4)``.
    """

    amplitude: NDArray[np.float64]
    control: NDArray[np.float64] | None
    squares: NDArray[np.int64]

    @property
    def strength(self) -> float:
        """The strongest of all squares."""
        return float(self.amplitude.max())

    @property
    def without(self) -> float:
        """The strongest of the control: what :attr:`strength` would hardly exceed without a pattern."""
        if self.control is None:
            raise ValueError("found no control; needed grid_pattern(..., control=True).")
        return float(self.control.max())

    def extent(self, limit: float) -> tuple[int, int, int, int] | None:
        """First row and column, and those after the last, around the squares from ``limit`` on; None where there are none."""
        loud = self.squares[self.amplitude >= limit]
        if not len(loud):
            return None
        (top, left), (bottom, right) = loud[:, :2].min(axis=0), loud[:, 2:].max(axis=0)
        return int(top), int(left), int(bottom), int(right)


def grid_pattern(residual: Residual, *, control: bool = False) -> GridPattern | None:
    """Power at the frequencies of a grid over that of their surroundings, where the input does not have it; square by square.

    A pattern that repeats after ``p`` px has all its power at multiples of ``1 / p`` cycles a pixel: of period 2 at (pi, pi),
    (pi, 0) and (0, pi), of period 4 and 8 at their multiples of pi / 2 and pi / 4. Networks that take an image apart into
    blocks of pixels leave such patterns (Odena, Dumoulin and Olah 2016, Distill, doi 10.23915/distill.00003). For each square,
    channel and frequency ``f`` but 0 let ``P`` be the power under Hann windows of :data:`BLOCK` px every :data:`STEP`, the
    mean of :data:`AVERAGED` x :data:`AVERAGED` (Welch 1967, IEEE Trans Audio Electroacoust 15:70), and ``N`` that of the
    surroundings: the largest of the means over the ring from 2 to 4 steps around ``f``, without frequencies of the grid, and
    over its parts straight above and below, and left and right: noise of whole rows stands on one line. Then::

        amplitude = max over f of sqrt(mean over channels of max(P_R - S, 0) / (N_R + floor)),   S = 4 max(P_Y - 2 N_Y, 0)

    with ``R`` the restoration and ``Y`` the input; ``floor`` is the power of a pattern of :data:`UNSEEN` of the brightness.

    ``S`` is what the input supports: texture that stands in it with the same period is no fault, nor is a pattern that was
    taken over from it. It assumes that tissue does not favour one frequency over those beside it, and fails to hear patterns
    of other periods, and those that change their sign from block to block. Real texture of just these periods that is weaker
    than the input's noise is heard, too.

    Parameters
    ----------
    control
        Take the control as well.

    Returns
    -------
    None where a side is shorter than :data:`BLOCK`.
    """
    height, width = residual.scanned.shape[1:]
    if min(height, width) < BLOCK:
        return None
    rows, columns = _starts(height), _starts(width)
    sets = len(_GRIDS) if control else 1
    after, around = _powers(residual.restored, rows, columns, sets)
    before, beside = _powers(residual.scanned, rows, columns, sets)
    blocks = sliding_window_view(residual.restored, (BLOCK, BLOCK), axis=(1, 2))[:, rows[:, None], columns[None]]
    brightness = _averaged(blocks.mean(axis=(3, 4), dtype=np.float64)[..., None])
    # A wave of amplitude a has a peak of a times half the window's sum in each of both directions: a BLOCK^2 / 4 at (pi, pi).
    floor = (UNSEEN * (brightness + DARK) * BLOCK**2 / 4) ** 2
    supported = SUPPORT * np.maximum(before - EVIDENCE * beside, 0)
    excess = (np.maximum(after - supported, 0) / (around + floor)).mean(axis=0)
    amplitude, *others = (np.sqrt(part.max(axis=-1)) for part in np.split(excess, _ENDS[: sets - 1], axis=-1))
    n_rows, n_columns = amplitude.shape
    first = np.meshgrid(rows[:n_rows], columns[:n_columns], indexing="ij")
    last = np.meshgrid(rows[-n_rows:] + BLOCK, columns[-n_columns:] + BLOCK, indexing="ij")
    return GridPattern(amplitude, np.stack(others) if control else None, np.stack([*first, *last], axis=-1))


def _starts(length: int) -> NDArray[np.int64]:
    """Where blocks begin along a side: every :data:`STEP`, and one at its end."""
    return np.unique([*range(0, length - BLOCK + 1, STEP), length - BLOCK]).astype(np.int64)


def _averaged(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over :data:`AVERAGED` neighbouring blocks a side, or over fewer, ``(C, rows, columns, K)``."""
    shape = min(AVERAGED, values.shape[1]), min(AVERAGED, values.shape[2])
    return np.asarray(sliding_window_view(values, shape, axis=(1, 2)).mean(axis=(-2, -1)))


def _powers(
    image: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64], sets: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Power at the frequencies of the first ``sets`` of :data:`_GRIDS`, and around, each ``(C, rows, columns, K)``."""
    from scipy.fft import rfft2

    blocks = sliding_window_view(image, (BLOCK, BLOCK), axis=(1, 2))[:, rows[:, None], columns[None]]
    even = blocks - blocks.mean(axis=(3, 4), keepdims=True)
    window = np.hanning(BLOCK + 1)[:-1]
    spectra = rfft2(even * np.outer(window, window).astype(np.float32))
    power = (spectra.real**2 + spectra.imag**2).reshape(*spectra.shape[:3], -1)
    at, weights = _frequencies(sets)
    lines = (weights @ power.reshape(-1, power.shape[-1]).T).T.reshape(*power.shape[:3], 3, -1).astype(np.float64)
    return _averaged(power[..., at].astype(np.float64)), np.maximum.reduce([_averaged(lines[..., k, :]) for k in range(3)])


_GRIDS = ((0, 0), (LONGEST // 2, LONGEST // 2), (0, LONGEST // 2), (LONGEST // 2, 0))
"""How far each set of frequencies lies from those of the grid, in steps along y and x; the first is the grid's own."""


def _members(down: int, across: int) -> NDArray[np.int64]:
    """Frequencies of a set in the half of the spectrum that a real image needs, ``(K, 2)`` in steps."""
    step = BLOCK // LONGEST
    both = [(y, x) for y in range(down, BLOCK, step) for x in range(across, BLOCK // 2 + 1, step)]
    return np.array([one for one in both if one != (0, 0)])


_ENDS = np.cumsum([len(_members(*shift)) for shift in _GRIDS])
"""Where each set ends among the frequencies of all."""


@lru_cache(maxsize=2)
def _frequencies(sets: int) -> tuple[NDArray[np.int64], csr_array]:
    """Places of the frequencies in a flat half spectrum ``(K,)``, and weights of their surroundings ``(3 K, half spectrum)``.

    Few weights are not 0; and numpy runs a product of full matrices in threads, which wait for each other longer than they
    work where tiles are examined side by side.
    """
    half = BLOCK // 2 + 1
    step = BLOCK // LONGEST
    steps = np.arange(BLOCK)
    near = np.minimum(steps % step, -steps % step) <= NEAR
    free = ~np.outer(near, near)
    away = np.arange(-FAR, FAR + 1)
    dy, dx = (one.ravel() for one in np.meshgrid(away, away, indexing="ij"))
    ring = np.maximum(abs(dy), abs(dx)) > NEAR
    at = np.concatenate([_members(*shift) for shift in _GRIDS[:sets]])
    weights = np.zeros((3, len(at), BLOCK, half), dtype=np.float32)
    for place, (y, x) in enumerate(at):
        for part, chosen in enumerate((ring, ring & (dx == 0), ring & (dy == 0))):
            rows, columns = (y + dy[chosen]) % BLOCK, (x + dx[chosen]) % BLOCK
            taken = free[rows, columns]
            rows, columns = rows[taken], columns[taken]
            # The other half of the spectrum is the mirror image of this one.
            mirrored = columns >= half
            rows, columns = np.where(mirrored, -rows % BLOCK, rows), np.where(mirrored, -columns % BLOCK, columns)
            np.add.at(weights[part, place], (rows, columns), np.float32(1 / max(len(rows), 1)))
    return at[:, 0] * half + at[:, 1], csr_array(weights.reshape(3 * len(at), -1))
