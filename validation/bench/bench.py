"""What every benchmark of one run shares, and the phantoms that its methods restore."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from srh_clinic import __version__
from srh_clinic.bundles import Bundle, load_bundle, weights_file
from srh_clinic.engine import choose_precision, processor_name
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint
from srh_clinic.guards import steps_left
from srh_clinic.inference import choose_device
from srh_clinic.intensity import Counts, counts_to_unit
from srh_clinic.metrics import Finding, mean_with_interval, paired_difference
from srh_clinic.progress import Progress, silent
from srh_clinic.restorers import create_restorer
from srh_clinic.rscd.settings import RSCDSettings, without_effect
from srh_clinic.tiling import TileGrid, TileStore
from srh_clinic.validation.bench.cells import CellStore
from srh_clinic.validation.bench.methods import Method
from srh_clinic.validation.bench.protocol import Protocol
from srh_clinic.validation.reporting.report import provenance

TIMED = 3
"""Images that a method's wall time is taken of: one of each severity."""

CHUNK = 16
"""Phantoms restored together: two full batches, so that Algorithm 1 can retire and refill."""


@dataclass(frozen=True)
class Bench:
    """One run of benchmarks.

    Parameters
    ----------
    out
        Folder of the reports; cells and restored tiles of unfinished runs wait in its ``work``.
    limit
        Use only so many test phantoms, the first; None uses all.
    weights
        Folder of the bundles that only comparisons use.
    """

    protocol: Protocol
    bundle: Bundle
    out: Path
    device: str = "auto"
    limit: int | None = None
    report: Progress = silent
    weights: Path = Path("weights")

    @property
    def indices(self) -> range:
        """The test phantoms in use."""
        count = self.protocol.phantoms.count
        return range(count if self.limit is None else min(self.limit, count))

    @property
    def work(self) -> Path:
        """Where unfinished work waits."""
        return self.out / "work"

    def bundle_of(self, method: Method) -> Bundle:
        """The bundle whose networks a method uses.

        Raises
        ------
        InputError
            When it is not there, or lacks one of them.
        """
        if method.bundle is None or not method.parts:
            return self.bundle
        if not (folder := self.weights / method.bundle).is_dir():
            needed = (
                "the folder that holds it, by --weights (docs/tables.md says how it is made), or methods without, by --method"
            )
            raise InputError(f"no bundle {method.bundle}, whose network the method {method.name} needs", needed, folder)
        return load_bundle(folder)

    def fingerprint(self, *, learned: bool, **depends_on: Any) -> str:
        """Names what a cell depends on: the protocol, the simulation, the version, the weights if any, and more."""
        return fingerprint(
            version=__version__,
            protocol=self.protocol.sha256,
            phantoms=self.protocol.phantoms_sha256,
            weights=self.bundle.weights_sha256 if learned else None,
            **depends_on,
        )

    def provenance(self, seed: int, **more: Any) -> dict[str, Any]:
        """How a report of this run was made."""
        return provenance(
            seed=seed,
            protocol_sha256=self.protocol.sha256,
            phantoms_sha256=self.protocol.phantoms_sha256,
            bundle=self.bundle.name,
            weights_sha256=self.bundle.weights_sha256,
            defaults=RSCDSettings().model_dump_json(),
            device=self.device,
            precision=choose_precision("auto", choose_device(self.device)),
            limit=self.limit,
            **more,
        )

    def mean(self, values: ArrayLike) -> Finding:
        """Mean over phantoms with the protocol's interval."""
        interval = self.protocol.restoration.interval
        return mean_with_interval(values, level=interval.level, resamples=interval.resamples, seed=interval.seed)

    def difference(self, ours: ArrayLike, theirs: ArrayLike) -> Finding:
        """Mean paired difference over phantoms with the protocol's interval."""
        interval = self.protocol.restoration.interval
        return paired_difference(ours, theirs, level=interval.level, resamples=interval.resamples, seed=interval.seed)


@dataclass(frozen=True, eq=False)
class RestoredPhantom:
    """A restored test phantom: uint16 counts ``(2, H, W)``, what the restorer said, and its share of the wall time.

    ``steps_predicted`` is None where no calibrator was asked; ``machine`` is what restored it (:func:`machine_of`).
    """

    counts: Counts
    steps_predicted: int | None
    steps: int
    evaluations: int
    seconds: float
    machine: str


class PhantomRestorer:
    """Restores test phantoms, or other images of their size, each at a place of its own, so that each has noise of its own.

    Parameters
    ----------
    keep
        Keep what is restored on disk, where another benchmark of the same run, or the next run, finds it.
    images
        sha256 of the images when they are not the protocol's phantoms.
    """

    ROOM = 100_000
    """Images that a store has places for; what is never put takes no room."""

    def __init__(self, bench: Bench, method: Method, *, keep: bool = False, images: str | None = None) -> None:
        bundle = bench.bundle_of(method)
        self.restorer = create_restorer(method.restorer, bundle=str(bundle.path), device=bench.device, **method.settings)
        self.machine = machine_of(bench.device if method.on_device else "cpu")
        self.size = bench.protocol.phantoms.size
        idle = without_effect(self.restorer.settings["sampler"]) if method.restorer == "rscd" else ()
        settings = {name: value for name, value in self.restorer.settings.items() if name not in ("batch_size", *idle)}
        self.fingerprint = fingerprint(
            version=__version__,
            images=images or bench.protocol.images_sha256,
            weights=[
                (bundle.config(part), bundle.holder(part).metadata["sha256"][weights_file(part)]) for part in method.parts
            ],
            schedule=bundle.metadata["schedule"] if method.parts else None,
            restorer=method.restorer,
            settings=settings,
        )
        self._calibrated = method.restorer == "rscd" and settings["fixed_steps"] is None
        self._warm = False
        self._store = None
        if keep:
            grid = TileGrid((self.ROOM * self.size, self.size), self.size, 0)
            self._store = TileStore(bench.work / f"restored-{self.fingerprint}", grid, self.fingerprint)

    def __call__(self, degraded: Mapping[int, Counts]) -> dict[int, RestoredPhantom]:
        """Restore phantoms by index, uint16 counts ``(2, H, W)``; the results are in the same order."""
        kept = {} if self._store is None else {i: self._from(self._store, i) for i in degraded if i in self._store}
        todo = [i for i in degraded if i not in kept]
        if not todo:
            return kept
        if not self._warm:
            # The first forward pass plans memory, which is no tile's share of the time.
            self.restorer.restore(np.full((1, 2, self.size, self.size), 10_000, dtype=np.uint16))
            self._warm = True
        positions = np.array([(i * self.size, 0) for i in todo])
        began = time.perf_counter()
        restored = self.restorer.restore(np.stack([degraded[i] for i in todo]), positions)
        seconds = (time.perf_counter() - began) / len(todo)
        for place, i in enumerate(todo):
            one = RestoredPhantom(
                counts=restored.counts[place],
                steps_predicted=int(restored.steps_predicted[place]) if self._calibrated else None,
                steps=int(restored.steps[place]),
                evaluations=int(restored.evaluations[place]),
                seconds=seconds,
                machine=self.machine,
            )
            kept[i] = one
            if self._store is not None:
                said = {key: value for key, value in vars(one).items() if key != "counts"}
                # Stores of earlier versions are read as well, and call it so.
                record = {"predicted": said.pop("steps_predicted"), **said}
                self._store.put(i, one.counts, record)
        # In the order asked for: intervals resample results in their order.
        return {i: kept[i] for i in degraded}

    @staticmethod
    def _from(store: TileStore, index: int) -> RestoredPhantom:
        record = store.record(index)
        return RestoredPhantom(counts=store.get(index), steps_predicted=record.pop("predicted"), **record)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.close()


def machine_of(device: str) -> str:
    """What computes on a device by its name: the graphics card, or the processor and how many of it there are."""
    chosen = choose_device(device)
    if chosen.type == "cuda":
        return str(torch.cuda.get_device_name(chosen))
    return f"{processor_name()}, {os.cpu_count()} cores"


def timed(bench: Bench, method: Method, images: Mapping[int, Counts]) -> tuple[float, str]:
    """Seconds a tile that a method takes for some images together, and on what machine; measured once and then kept.

    The cells' own times are no comparison: they may come of several machines, and of a machine that did more than one thing.
    """
    restorer = PhantomRestorer(bench, method)
    store = CellStore(bench.work / "seconds.jsonl", ("method", "machine"))
    key = fingerprint(
        restored=restorer.fingerprint, timed=[hashlib.sha256(one.tobytes()).hexdigest() for one in images.values()]
    )
    if (kept := store.get(key, method.name, restorer.machine)) is None:
        bench.report(f"timing: {method.name}", 0, 1)
        seconds = float(np.mean([one.seconds for one in restorer(images).values()]))
        kept = {"method": method.name, "machine": restorer.machine, "seconds": seconds}
        store.put(key, **kept)
        bench.report(f"timing: {method.name}", 1, 1)
    return kept["seconds"], kept["machine"]


def steps_asked(bench: Bench, images: Sequence[Counts]) -> NDArray[np.float64]:
    """Steps that the calibrator of the run's bundle asks for, not rounded, ``(N,)``, in uint16 counts ``(2, H, W)`` each."""
    from srh_clinic.restorers.diffusion import create_rscd

    rscd = create_rscd("rscd", str(bench.bundle.path), bench.device, RSCDSettings()).diffusion
    return steps_left(counts_to_unit(np.stack(images)), rscd.calibrator)


def chunks(indices: Sequence[int], size: int = CHUNK) -> Iterator[Sequence[int]]:
    """Indices in runs of ``size``."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
