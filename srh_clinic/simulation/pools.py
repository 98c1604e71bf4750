"""Pools of simulated training images on disk: made once from seeds, then read as memory maps.

Seeds below :data:`VALIDATION_SEED` train, those from there on validate, those from :data:`PROTOCOL_SEED` on belong to the
protocol's test phantoms alone.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

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


def _write_pool(
    out: Path, prefix: str, suffix: str, count: int, seed: int, workers: int | None, write: Callable[[Path, int, int], None]
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as executor:
        futures = []
        for start in range(0, count, POOL_FILE):
            path = out / f"{prefix}-{seed + start:07d}{suffix}"
            if not path.exists():
                futures.append(executor.submit(write, path, seed + start, min(POOL_FILE, count - start)))
        for future in futures:
            future.result()


def _write_images(sample: Callable[[int], Counts], path: Path, seed: int, count: int) -> None:
    images = np.stack([sample(seed + i) for i in range(count)])
    with whole_file(path) as draft, draft.open("wb") as file:
        np.save(file, images)


def _write_labelled(path: Path, seed: int, count: int) -> None:
    samples = [classifier_sample(seed + i) for i in range(count)]
    with whole_file(path) as draft, draft.open("wb") as file:
        np.savez(file, counts=np.stack([c for c, _ in samples]), labels=np.array([label for _, label in samples]))


def training_pool(out: str | Path, count: int, seed: int = 0, workers: int | None = None) -> None:
    """Write ``count`` clean images as ``pool-*.npy``, uint16 counts ``(M, 2, 256, 256)``.

    Files that exist are kept: a pool that was cut off goes on where it stopped. ``workers`` processes write; None is one for
    each processor.
    """
    _write_pool(Path(out), "pool", ".npy", count, seed, workers, partial(_write_images, clean_sample))


def degraded_pool(out: str | Path, count: int, seed: int = DEGRADED_SEED, workers: int | None = None) -> None:
    """Write ``count`` degraded images as ``pool-*.npy``, uint16 counts ``(M, 2, 256, 256)``; see :func:`training_pool`."""
    _write_pool(Path(out), "pool", ".npy", count, seed, workers, partial(_write_images, degraded_sample))


def classifier_pool(out: str | Path, count: int, seed: int = 0, workers: int | None = None) -> None:
    """Write ``count`` labelled patches as ``class-*.npz``: ``counts`` uint16 ``(M, 2, 256, 256)``, ``labels`` ``(M,)``."""
    _write_pool(Path(out), "class", ".npz", count, seed, workers, _write_labelled)
