"""Whether a training helped: the network before and after it on patients that it has not seen, without a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.estimates import Finding, Interval, Undefined, mean_with_interval
from srh_clinic.judging.judge import judge, said
from srh_clinic.progress import Progress, silent
from srh_clinic.slide import ArraySlide
from srh_clinic.training import read_settings
from srh_clinic.training.images import Split, TrainingImage
from srh_clinic.training.loop import ImageSettings
from srh_clinic.training.slide_pool import Reading, SlidePool
from srh_clinic.training.sources import split_of

MOST_TILES = 12
"""Tiles of a patient that are judged, spread over all of theirs."""


@dataclass(frozen=True)
class Gain:
    """Estimated PSNR in dB by patient, before and after, and the mean of their differences with its interval."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    difference: Finding

    def __str__(self) -> str:
        count = len(self.before)
        if not count:
            return "Whether it helped cannot be told: no held-out patient has a tile to judge by."
        said_before, said_after = float(np.mean(self.before)), float(np.mean(self.after))
        on = f"on {count} held-out patient{'s' if count > 1 else ''}"
        means = f"{said_before:.2f} dB before, {said_after:.2f} dB after, {on}"
        change = said_after - said_before
        if not isinstance(self.difference, Interval):
            more = "more" if change >= 0.005 else "no more"
            return f"{means}: {change:+.2f} dB, {more} than before; it tells no interval."
        found = f"{means}: {said(self.difference, '+.2f')} dB"
        if self.difference.low > 0:
            return f"It helped: {found}."
        return f"It did harm: {found}." if self.difference.high < 0 else f"It is not shown to help: {found}."


def measure_gain(
    task: str,
    data: str,
    config: str | Path | None,
    after: Path,
    before: str | Path = "phantom-demo",
    *,
    device: str = "auto",
    progress: Progress = silent,
    **changes: Any,
) -> Gain:
    """Judge RSCD with two bundles on the patients that a training held out to the last.

    Parameters
    ----------
    task, data, config, changes
        Those of the training, whose split is made anew.
    after, before
        The bundle that it wrote, and the one that it began from.

    Raises
    ------
    InputError
        When the data are no images, or a bundle lacks a network of RSCD.
    """
    settings = cast(ImageSettings, read_settings(task, config, **changes))
    for bundle in (before, after):
        if not {"denoiser", "calibrator"} <= set(load_bundle(bundle).parts):
            raise InputError(f"a bundle without a denoiser and a calibrator ({bundle})", "both, or --extends phantom-demo")
    split = split_of(data, settings)
    patients: dict[str, list[TrainingImage]] = {}
    for image in split.images["test"]:
        patients.setdefault(image.patient, []).append(image)
    found: list[tuple[float, float]] = []
    for number, images in enumerate(patients.values()):
        progress("judging patients", number, len(patients))
        if (pair := _of_patient(images, Reading(dict(settings.reading)), before, after, device)) is not None:
            found.append(pair)
    progress("judging patients", len(patients), len(patients))
    one, two = (tuple(pair[at] for pair in found) for at in (0, 1))
    nothing = Undefined("no held-out patient has a tile to judge by")
    return Gain(one, two, mean_with_interval(np.array(two) - np.array(one)) if found else nothing)


def _of_patient(
    images: Sequence[TrainingImage], reading: Reading, before: str | Path, after: str | Path, device: str
) -> tuple[float, float] | None:
    """Estimated PSNR of a patient's tiles, side by side, with each bundle."""
    pool = SlidePool(Split({"train": images, "val": images, "test": images}), reading, torch.device("cpu"), 1)
    tile = int(load_bundle(after).metadata["tile"])
    if pool.size < tile:
        return None
    chosen = np.linspace(0, pool.training_count - 1, min(MOST_TILES, pool.training_count)).astype(np.int64)
    y, x = pool.middle(chosen, tile)
    tiles = pool.counts(chosen, y, x, tile)
    slide = ArraySlide(np.concatenate(list(tiles), axis=2), reading.um_per_px)
    found = [_psnr(slide, bundle, device) for bundle in (before, after)]
    return None if None in found else (found[0] or 0.0, found[1] or 0.0)


def _psnr(slide: ArraySlide, bundle: str | Path, device: str) -> float | None:
    """Estimated PSNR of RSCD with a bundle."""
    judged = judge(slide, ("rscd",), (bundle,), tiles=MOST_TILES, device=device)
    psnr = next(one.psnr for one in judged.restorers if one.name == "rscd")
    return psnr.value if isinstance(psnr, Interval) else None
