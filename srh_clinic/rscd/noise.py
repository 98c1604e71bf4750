"""Gaussian noise that belongs to a place on the slide, not to a place in a batch.

Noise is a pure function of (seed, global 64 x 64 block, round, step): overlapping tiles see the same noise where they overlap,
and a result does not depend on batch size, tile order, worker or resume. Each block reads its own stream of the counter-based
generator Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), whose raw words numpy keeps stable
across versions, which it does not promise of its normal variates; the normal variates are therefore made here, by Box and
Muller's transform: one 64-bit word per pixel, whose cosine branch is CH2 and whose sine branch is CH3.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError

BLOCK = 64
"""Edge of a noise block in pixels; blocks are aligned to the slide's origin."""


def block_noise(seed: int, y: int, x: int, height: int, width: int, *, round: int, step: int) -> NDArray[np.float32]:
    """Standard normal noise of one region of the slide at one reverse step.

    Parameters
    ----------
    seed
        0 to 2**64 - 1.
    y, x, height, width
        The region in slide pixels; its top left corner is not negative.
    round, step
        Recalibration round and step index ``t`` that the noise is drawn for, each below 2**32.

    Returns
    -------
    float32 ``(2, height, width)``, independent between pixels and channels.

    Raises
    ------
    InputError
        When the seed is out of range.
    """
    if not 0 <= seed < 2**64:
        raise InputError(f"the seed {seed}", "one from 0 to 2**64 - 1")
    first_row, last_row = y // BLOCK, (y + height - 1) // BLOCK
    first_column, last_column = x // BLOCK, (x + width - 1) // BLOCK
    words = np.empty(((last_row - first_row + 1) * BLOCK, (last_column - first_column + 1) * BLOCK), dtype=np.uint64)
    for i, row in enumerate(range(first_row, last_row + 1)):
        for j, column in enumerate(range(first_column, last_column + 1)):
            block = _block_words(seed, row, column, round, step)
            words[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK] = block
    top, left = y - first_row * BLOCK, x - first_column * BLOCK
    return _box_muller(words[top : top + height, left : left + width])


def _block_words(seed: int, row: int, column: int, round: int, step: int) -> NDArray[np.uint64]:
    """The 64-bit words of one block, uint64 ``(64, 64)``; the counter's lowest word runs along the stream."""
    counter = np.array([0, row, column, (round << 32) | step], dtype=np.uint64)
    philox = np.random.Philox(counter=counter, key=np.array([seed, 0], dtype=np.uint64))
    return philox.random_raw(BLOCK * BLOCK).reshape(BLOCK, BLOCK)


def _box_muller(words: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Two standard normal planes ``(2, H, W)`` of one word each pixel: high half the radius, low half the angle."""
    # Half a unit keeps the uniform variate off zero, so the largest radius is 6.8.
    uniform = ((words >> np.uint64(32)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
    angle = (words & np.uint64(0xFFFFFFFF)).astype(np.float32) * np.float32(2.0 * math.pi * 2.0**-32)
    radius = np.sqrt(np.float32(-2.0) * np.log(uniform))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)])
