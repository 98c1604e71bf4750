"""Some data as the pool that a training draws from: its images, split by patients and, where picks say so, chosen."""

from __future__ import annotations

import csv
import hashlib
import io
from functools import partial
from pathlib import Path

import numpy as np
import torch

from srh_clinic.diagnosis import CLASSES
from srh_clinic.errors import InputError
from srh_clinic.files import write_whole
from srh_clinic.integration import read_slide
from srh_clinic.training.images import PARTS, Split, TrainingImage, find_images, split_images
from srh_clinic.training.loop import ImageSettings
from srh_clinic.training.processes import processes
from srh_clinic.training.selection import choose
from srh_clinic.training.slide_pool import Reading, SlidePool

SPLIT = "split.csv"
"""Beside a training's checkpoint: each image's patient and part, as a manifest."""

_MIDDLE = 64  # pixels of an image's middle by which it is told whether two files show the same


def open_slides(data: str, folder: Path, device: torch.device, settings: ImageSettings, holdout: int) -> SlidePool:
    """The pool of some data as a training's settings say; where they name picks, of the training tiles that resemble them.

    Writes ``split.csv``, a manifest of the images and their parts. A training that goes on has to find them as they were: who
    was trained on would be held out, and the verdict better than it is.

    Raises
    ------
    InputError
        When the data do not serve, or are others than those that the training in ``folder`` began with.
    """
    split = split_of(data, settings)
    pool = SlidePool(split, Reading(dict(settings.reading)), device, holdout)
    if processes().is_first:
        _write_split(split, folder)
    if not settings.picks:
        return pool
    return pool.restricted(choose(pool, Path(settings.picks), settings.keep, folder))


def split_of(data: str | Path, settings: ImageSettings) -> Split:
    """The images of some data by part, as a training's settings say.

    Raises
    ------
    InputError
        As :func:`~srh_clinic.training.images.find_images` and :func:`~srh_clinic.training.images.split_images`.
    """
    shown = partial(shown_by, options=dict(settings.reading))
    images = find_images(Path(data), settings.patients)
    return split_images(images, settings.seed, settings.held_out_share, shown)


def shown_by(image: TrainingImage, options: dict[str, object]) -> str | None:
    """A name for the counts in an image's middle, the same in whatever format they were saved.

    ``None`` of patches and of strips, whose files are compared alone, and where the middle is plain.

    Raises
    ------
    InputError
        When the image cannot be read.
    """
    if image.is_patch or image.files[0].is_dir():
        return None
    slide = read_slide(image.files, **options)  # type: ignore[arg-type] # refused there if it is none of them
    size = [min(edge, _MIDDLE) for edge in slide.shape]
    top, left = ((edge - part) // 2 for edge, part in zip(slide.shape, size, strict=True))
    counts = slide.read(top, left, *size)
    if (np.ptp(counts, axis=(1, 2)) == 0).any():
        return None
    return hashlib.blake2b(str(slide.shape).encode() + np.ascontiguousarray(counts).tobytes(), digest_size=16).hexdigest()


def _write_split(split: Split, folder: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "ch3", "patient", "truth", "split"])
    both = split.images["val"] is split.images["test"]
    for part in PARTS[: 2 if both else 3]:
        for image in split.images[part]:
            files = [str(file.resolve()) for file in image.files]
            truth = "" if image.label is None else CLASSES[image.label]
            writer.writerow([files[0], files[1] if len(files) > 1 else "", image.patient, truth, part])
    path = folder / SPLIT
    if (folder / "checkpoint.pt").exists() and path.exists() and _parts_in(path.read_text()) != _parts_in(text.getvalue()):
        found = "other images, or others of them held out, than this training began with"
        raise InputError(found, "the same data, or another folder", path)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue(), "who is held out")


def _parts_in(table: str) -> set[tuple[str, ...]]:
    """Patients and parts of a table, with the names of their files wherever those lie by now."""
    return {(Path(row[0]).name, *row[2:]) for row in csv.reader(io.StringIO(table))}
