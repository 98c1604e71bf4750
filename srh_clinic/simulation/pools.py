"""Pools of simulated training images on disk: made once from seeds, then read as memory maps.

Seeds below :data:`VALIDATION_SEED` train, those from there on validate, those from :data:`PROTOCOL_SEED` on belong to the
protocol's test phantoms alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from scipy import ndimage as ndi

from srh_clinic.diagnosis import CLASSES
from srh_clinic.files import whole_file
from srh_clinic.intensity import Counts, rounded_counts, unit_to_counts
from srh_clinic.simulation.degradation import degrade, draw_sources
from srh_clinic.simulation.phantom import simulate_patch
from srh_clinic.simulation.signal import raman_signal
from srh_clinic.simulation.streams import PoolStream, pool_stream
from srh_clinic.simulation.texture import generic_texture
from srh_clinic.simulation.tissue import KINDS_OF_DIAGNOSIS, PAINTERS

DEGRADED_SEED = 4_000_000
"""First seed of degraded training images: they show other tissue than the clean ones, which have the seeds from 0."""

VALIDATION_SEED = 8_000_000
PROTOCOL_SEED = 9_000_000
POOL_FILE = 250
"""Images in one file of a pool."""

PART = 4
"""Images that a process makes at a time: a call that is ended waits for so many, some seconds."""

UNREADABLE_SEVERITY = 0.6
"""Patches at or above this severity teach the classifier *non-diagnostic*: an expert could not read them."""

_TISSUE_SHARES = {
    "white_matter": 0.18,
    "grey_matter": 0.18,
    "glioma": 0.26,
    "metastasis_discohesive": 0.1,
    "metastasis_glandular": 0.1,
    "blood": 0.05,
    "necrosis": 0.06,
    "debris": 0.04,
    "empty": 0.01,
    "out_of_focus": 0.02,
}


def clean_sample(seed: int) -> Counts:
    """One clean training image, uint16 counts ``(2, 256, 256)``: half generic texture, half tissue."""
    rng = np.random.default_rng(pool_stream(seed, PoolStream.CLEAN))
    if rng.random() < 0.5:
        return unit_to_counts(generic_texture(rng))
    kind = str(rng.choice(list(_TISSUE_SHARES), p=list(_TISSUE_SHARES.values())))
    return np.rint(raman_signal(rng, PAINTERS[kind](rng, (256, 256)))).astype(np.uint16)


def degraded_sample(seed: int) -> Counts:
    """One degraded training image, uint16 counts ``(2, 256, 256)``, at a severity of U[0.05, 1].

    Its tissue or texture is drawn as that of :func:`clean_sample`: the two pools differ in nothing but the degradation.
    """
    rng = np.random.default_rng(pool_stream(seed, PoolStream.DEGRADED))
    severity = rng.uniform(0.05, 1)
    return degrade(rng, clean_sample(seed).astype(np.float32), draw_sources(rng, severity)).counts


def classifier_sample(seed: int) -> tuple[Counts, int]:
    """One labelled training patch, uint16 counts ``(2, 256, 256)`` and the index of its class in ``CLASSES``.

    A quarter each is

    * clean;
    * degraded but readable;
    * degraded, at any severity, without the noise and a little soft: what an ideal restoration would leave;
    * degraded beyond :data:`UNREADABLE_SEVERITY` and therefore labelled non-diagnostic.
    """
    rng = np.random.default_rng(pool_stream(seed, PoolStream.CLASSIFIER))
    diagnosis = str(rng.choice(CLASSES, p=[0.4, 0.35, 0.25]))
    kind = str(rng.choice(KINDS_OF_DIAGNOSIS[diagnosis]))
    look = rng.choice(["clean", "readable", "noise-free", "unreadable"])
    low, high = {"clean": (0, 0), "readable": (0.02, 0.5), "noise-free": (0.1, 1), "unreadable": (UNREADABLE_SEVERITY, 1)}[
        look
    ]
    phantom = simulate_patch(kind, rng.uniform(low, high), int(rng.integers(2**62)))
    if look == "clean":
        return phantom.clean, CLASSES.index(diagnosis)
    if look == "noise-free":
        softness = rng.uniform(0, 0.9)
        soft = ndi.gaussian_filter(phantom.expected, (0, softness, softness))
        return rounded_counts(soft), CLASSES.index(diagnosis)
    return phantom.counts, CLASSES.index("nondiagnostic" if look == "unreadable" else diagnosis)


@dataclass(frozen=True)
class _Kind:
    """What a pool holds: how an image of it is made of a seed, and how some of them are written to a file and read back."""

    sample: Callable[[int], Any]
    save: Callable[[BinaryIO, list[Any]], None]
    load: Callable[[Path], list[Any]]


def _write_pool(
    out: Path,
    name: Callable[[int], str],
    count: int,
    seed: int,
    workers: int | None,
    kind: _Kind,
    seconds: float | None = None,
) -> bool:
    """Make the files of a pool that are not there, and say whether all of them are now.

    Where time runs out, or anything ends the call, what was made of a file so far is kept beside it for the next.
    """
    out.mkdir(parents=True, exist_ok=True)
    until = None if seconds is None else time.monotonic() + seconds
    missing = {start: out / name(seed + start) for start in range(0, count, POOL_FILE)}
    missing = {start: path for start, path in missing.items() if not path.exists()}
    if not missing:
        return True
    with ProcessPoolExecutor(workers) as executor:
        try:
            begun = [
                (path, *_begin(executor, kind, path, range(seed + start, seed + min(start + POOL_FILE, count))))
                for start, path in missing.items()
            ]
            return all(_finish(kind, *begun.pop(0), until) for _ in range(len(begun)))
        finally:
            executor.shutdown(wait=False, cancel_futures=True)  # what has begun ends soon: PART images


def _begin(executor: ProcessPoolExecutor, kind: _Kind, path: Path, seeds: range) -> tuple[list[Any], list[Future[list[Any]]]]:
    """The images of a file that an earlier call has left, and the promise of the others, some at a time."""
    part = _part_of(path)
    kept = kind.load(part)[: len(seeds)] if part.exists() else []
    left = seeds[len(kept) :]
    return kept, [executor.submit(_samples, kind.sample, left[i : i + PART]) for i in range(0, len(left), PART)]


def _finish(kind: _Kind, path: Path, images: list[Any], parts: list[Future[list[Any]]], until: float | None) -> bool:
    """Write a file when all of its images are there; what there is of them when that does not come about in time."""
    whole = False
    try:
        while parts:
            images += parts[0].result(None if until is None else max(until - time.monotonic(), 0))
            del parts[0]  # which holds its images, too
        whole = True
    except TimeoutError:
        pass
    finally:
        if images:
            with whole_file(path if whole else _part_of(path)) as draft, draft.open("wb") as file:
                kind.save(file, images)
    if whole:
        _part_of(path).unlink(missing_ok=True)
    return whole


def _part_of(path: Path) -> Path:
    """Where images of a file wait that is not whole yet; hidden, and no file of a pool."""
    return path.with_name(f".{path.stem}-part{path.suffix}")


def _samples(sample: Callable[[int], Any], seeds: range) -> list[Any]:
    return [sample(seed) for seed in seeds]


def _save_images(file: BinaryIO, images: list[Counts]) -> None:
    np.save(file, np.stack(images))


def _load_images(path: Path) -> list[Counts]:
    return list(np.load(path))


def _save_labelled(file: BinaryIO, samples: list[tuple[Counts, int]]) -> None:
    np.savez(file, counts=np.stack([c for c, _ in samples]), labels=np.array([label for _, label in samples]))


def _load_labelled(path: Path) -> list[tuple[Counts, int]]:
    with np.load(path) as kept:
        return list(zip(kept["counts"], kept["labels"].tolist(), strict=True))


def training_pool(
    out: str | Path, count: int, seed: int = 0, workers: int | None = None, seconds: float | None = None
) -> bool:
    """Write ``count`` clean images as ``pool-*.npy``, uint16 counts ``(M, 2, 256, 256)``, and say whether all are there.

    Files that exist are kept: a pool that was cut off goes on where it stopped, by ``seconds`` or otherwise. ``workers``
    processes write; None is one for each processor.
    """
    kind = _Kind(clean_sample, _save_images, _load_images)
    return _write_pool(Path(out), "pool-{:07d}.npy".format, count, seed, workers, kind, seconds)


def degraded_pool(out: str | Path, count: int, seed: int = DEGRADED_SEED, workers: int | None = None) -> None:
    """Write ``count`` degraded images as ``pool-*.npy``, uint16 counts ``(M, 2, 256, 256)``; see :func:`training_pool`."""
    kind = _Kind(degraded_sample, _save_images, _load_images)
    _write_pool(Path(out), "pool-{:07d}.npy".format, count, seed, workers, kind, None)


def classifier_pool(out: str | Path, count: int, seed: int = 0, workers: int | None = None) -> None:
    """Write ``count`` labelled patches as ``class-*.npz``: ``counts`` uint16 ``(M, 2, 256, 256)``, ``labels`` ``(M,)``."""
    kind = _Kind(classifier_sample, _save_labelled, _load_labelled)
    _write_pool(Path(out), "class-{:07d}.npz".format, count, seed, workers, kind, None)
