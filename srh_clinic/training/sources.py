"""Some data as the pool that a training draws from: its images, split by patients and, where picks say so, chosen."""

from __future__ import annotations

from pathlib import Path

import torch

from srh_clinic.training.images import find_images, split_images
from srh_clinic.training.loop import ImageSettings
from srh_clinic.training.selection import choose
from srh_clinic.training.slide_pool import Reading, SlidePool


def open_slides(data: str, folder: Path, device: torch.device, settings: ImageSettings, holdout: int) -> SlidePool:
    """The pool of some data as a training's settings say; where they name picks, of the training tiles that resemble them.

    Raises
    ------
    InputError
        When the data do not serve.
    """
    split = split_images(find_images(Path(data), settings.patients), settings.seed, settings.held_out_share)
    pool = SlidePool(split, Reading(dict(settings.reading)), device, holdout)
    if not settings.picks:
        return pool
    return pool.restricted(choose(pool, Path(settings.picks), settings.keep, folder))
