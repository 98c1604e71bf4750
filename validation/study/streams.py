"""Random streams of a study: whatever is drawn has a stream of its own, so that drawing more of one changes no other."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What is drawn from the seed; the numbers are part of what a seed gives, so they stay."""

    ASSIGNMENT = 1
    """Which rater rates which image against which baseline."""
    SENTINELS = 2
    """Where nuclei are planted and erased."""
    ORDER = 3
    """A rater's tasks in their order, with the rater's number."""
    FOCUS = 4
    """The region that a task of a review asks of, with the task's number."""
    TILES = 5
    """Which tiles of a case are shown."""
    IMAGES = 6
    """Which of the sources' images are of real tasks, which of sentinels, and which are left out."""


def stream(seed: int, what: Stream, number: int | None = None) -> np.random.Generator:
    """The generator of what is drawn, of each rater or task (``number``) its own."""
    return np.random.default_rng([seed, what] if number is None else [seed, what, number])
