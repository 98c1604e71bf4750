"""Streams of random numbers of one seed: each thing that is drawn has its own, so that none changes with another."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class PatchStream(IntEnum):
    """What is drawn of a patch, a case, or a block of tissue."""

    TISSUE = 0
    DEGRADATION = 1
    BENEATH = 2
    """What lies below the plane of the patch."""
    PAIR = 3
    """The second acquisition of a near-registered pair."""
    Z_STACK = 4


class PoolStream(IntEnum):
    """What is drawn of a training image, by its pool."""

    CLEAN = 1
    CLASSIFIER = 2
    DEGRADED = 3


def patch_stream(seed: int, stream: PatchStream) -> np.random.SeedSequence:
    """The stream of a patch's seed; ``np.random.SeedSequence(seed).spawn`` gives the same, in the order of their values."""
    return np.random.SeedSequence(seed, spawn_key=(int(stream),))


def pool_stream(seed: int, stream: PoolStream) -> np.random.SeedSequence:
    """The stream of a training image's seed."""
    return np.random.SeedSequence([seed, int(stream)])
