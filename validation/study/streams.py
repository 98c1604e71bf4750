"""What a study draws: from its salt whatever raters must not know, from its seed what they may.

Each has a stream of its own, so that drawing more of one changes no other. Streams of the salt are keyed as HKDF expands a key
(RFC 5869, one block): HMAC-SHA256 of what is drawn under 32 secret bytes. Seed, code and public files tell nothing of them.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What is drawn; names and numbers are part of what a salt or a seed gives, so they stay."""

    ASSIGNMENT = 1
    """Which rater rates which image against which baseline."""
    SENTINELS = 2
    """Of which images sentinels are made, and where nuclei are planted and erased."""
    ORDER = 3
    """A rater's tasks in their order, with the rater's number."""
    FOCUS = 4
    """The region that a task of a review asks of, with the task's number."""
    TILES = 5
    """Which tiles of a case are shown; from the seed, for raters see them."""
    IMAGES = 6
    """Which of the sources' images are of real tasks, which of sentinels, and which are left out."""
    PHANTOMS = 7
    """Which simulated tissue is shown: who could simulate it again would know what is under its noise."""
    SIDES = 8
    """The side of each method in each task."""
    NAMES = 9
    """Names of tasks and images, each with a number of its own."""
    PAGES = 10
    """The secret of each rater's page, with the rater's number."""
    AMENDMENTS = 11
    """The salt of the images that an amendment adds, with its number."""


def drawn(salt: bytes, what: Stream, number: int | None = None) -> bytes:
    """32 bytes that only who has the salt can compute; what one draws tells nothing of any other."""
    label = f"srh-clinic study {what.name}" if number is None else f"srh-clinic study {what.name} {number}"
    return hmac.new(salt, label.encode() + b"\x01", hashlib.sha256).digest()


def secret_stream(salt: bytes, what: Stream, number: int | None = None) -> np.random.Generator:
    """The generator of what raters must not know, of each rater or task (``number``) its own.

    Nothing that it draws is published as it is: numbers of a generator like this one give away its state.
    """
    return np.random.default_rng(int.from_bytes(drawn(salt, what, number)))


def stream(seed: int, what: Stream) -> np.random.Generator:
    """The generator of what raters may know."""
    return np.random.default_rng([seed, what])
