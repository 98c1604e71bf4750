"""The paper's tables: every method on one set of images, restored once and judged in every way there is.

A restored image is kept, so that a run that was cut goes on where it stopped and a new measure needs no new restoration.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic import metrics
from srh_clinic.bundles import load_bundle
from srh_clinic.classifiers import PatchClassifier, load_classifier
from srh_clinic.diagnosis import CLASSES
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint, whole_file, write_whole
from srh_clinic.inference import choose_device
from srh_clinic.intensity import FULL_SCALE, Counts, counts_to_unit
from srh_clinic.metrics.extractors import ExtractorName
from srh_clinic.validation.bench.bench import CHUNK, TIMED, Bench, PhantomRestorer, RestoredPhantom, chunks, timed
from srh_clinic.validation.bench.cells import CellStore, Row
from srh_clinic.validation.bench.images import Image, ImageSet
from srh_clinic.validation.bench.methods import Method
from srh_clinic.validation.benchmarks.realism import HIGH_FREQUENCY
from srh_clinic.validation.benchmarks.registration import register, require_good
from srh_clinic.validation.reporting.figures import Panel

if TYPE_CHECKING:
    pass

JUDGED = 2
"""Version of what :func:`judged` measures; cells of another are computed anew."""

REGISTERED = 1
"""Version of how second acquisitions are registered; those of another are registered anew."""

MARGIN = 16
"""Pixels at each border that a registered pair is not compared on: what a second acquisition may have lost there."""


FEATURE_BATCH = 16

NO_REFERENCE_NEEDED = (
    f"Noise and coherence need no reference: what the channels do not and do share above {HIGH_FREQUENCY} cycles a pixel."
)
"""What a table says of :func:`without_reference`."""


@dataclass(frozen=True, eq=False)
class Features:
    """What sets of images are compared by: an extractor's vectors ``(N, D)`` and radial power spectra ``(N, 2, bands)``."""

    vectors: NDArray[np.float64]
    spectra: NDArray[np.float64]


@dataclass(frozen=True)
class Fewer:
    """Methods that are too slow for all images, and the images that they restore."""

    methods: tuple[str, ...] = ()
    indices: tuple[int, ...] = ()


Cells = Mapping[str, Mapping[int, Row]]
"""The numbers of each image by method."""


@dataclass(frozen=True, eq=False)
class Tables:
    """One run of the paper's tables.

    Parameters
    ----------
    bench
        Where the run works, and with which weights.
    images
        What is restored.
    methods
        By which methods; the first is the input as it is.
    fewer
        Which of them see fewer images.
    extractor
        Name of the feature extractor of the distances between sets.
    extractor_weights
        Its weights where the package has none.
    lpips_weights
        AlexNet's feature layers for LPIPS; without them the column stays empty and says so.
    """

    bench: Bench
    images: ImageSet
    methods: tuple[Method, ...]
    fewer: Fewer = field(default_factory=Fewer)
    extractor: ExtractorName = "efficientnet_lite0"
    extractor_weights: Path | None = None
    lpips_weights: Path | None = None

    def indices(self, method: Method) -> Sequence[int]:
        """Images that a method restores."""
        return self.fewer.indices if method.name in self.fewer.methods else self.images.indices

    @property
    def intervals(self) -> dict[str, Any]:
        """How intervals are made."""
        how = self.bench.protocol.tables.interval
        return {"level": how.level, "resamples": how.resamples, "seed": how.seed}

    def provenance(self) -> dict[str, Any]:
        """How a report of this run was made."""
        return self.bench.provenance(
            self.bench.protocol.tables.interval.seed,
            images_sha256=self.images.sha256,
            extractor=self.extractor,
            baselines=self._baselines(),
            channel_orders=self.images.channel_orders,
        )

    def _baselines(self) -> str | None:
        """Names and weights of the bundles that only comparisons use."""
        used = sorted({method.bundle for method in self.methods if method.bundle is not None})
        return ", ".join(f"{name} {load_bundle(self.bench.weights / name).weights_sha256}" for name in used) or None

    def restorer(self, method: Method) -> PhantomRestorer:
        """The method, with everything it has restored of this set."""
        return PhantomRestorer(self.bench, method, keep=True, images=self.images.sha256)

    def restored(self, method: Method, indices: Sequence[int] | None = None) -> Iterator[tuple[int, RestoredPhantom]]:
        """What a method made of the images, by number."""
        with self.restorer(method) as restorer:
            for members in chunks(self.indices(method) if indices is None else indices):
                yield from restorer({i: self.images.image(i).counts for i in members}).items()

    def cells(self) -> dict[str, dict[int, Row]]:
        """The numbers of each image by method; those that are not on disk yet are computed and put there."""
        store = CellStore(self.bench.work / "tables.jsonl", ("image", "method"))
        total, done = sum(len(self.indices(method)) for method in self.methods), 0
        rows: dict[str, dict[int, Row]] = {}
        for method in self.methods:
            with self.restorer(method) as restorer:
                key = self._judging(restorer.fingerprint)
                missing = [i for i in self.indices(method) if store.get(key, i, method.name) is None]
                ready = len(self.indices(method)) - len(missing)
                for number, members in enumerate(chunks(missing)):
                    made = restorer({i: self.images.image(i).counts for i in members})
                    probabilities = self._classifier.predict_proba(np.stack([made[i].counts for i in members]))
                    with ThreadPoolExecutor(os.cpu_count()) as threads:
                        judged = list(threads.map(self.judged, members, (made[i] for i in members), probabilities))
                    for i, numbers in zip(members, judged, strict=True):
                        store.put(key, image=i, method=method.name, **numbers)
                    self.bench.report(f"judging: {method.name}", done + ready + number * CHUNK + len(members), total)
                done += len(self.indices(method))
            rows[method.name] = {i: row for i in self.indices(method) if (row := store.get(key, i, method.name))}
        return rows

    def seconds(self, method: Method) -> tuple[float, str]:
        """Seconds a tile that a method takes for the first images, and on what machine; see :func:`timed`."""
        if method.name not in self._seconds:
            indices = self.indices(method)[: 1 if method.name in self.fewer.methods else TIMED]
            self._seconds[method.name] = timed(self.bench, method, {i: self.images.image(i).counts for i in indices})
        return self._seconds[method.name]

    def cell(self, method: Method, index: int) -> Row:
        """One cell computed anew, whatever is on disk."""
        made = PhantomRestorer(self.bench, method, images=self.images.sha256)({index: self.images.image(index).counts})[index]
        return self.judged(index, made, self._classifier.predict_proba(made.counts[None])[0])

    def judged(self, index: int, restored: RestoredPhantom, probabilities: NDArray[np.float64]) -> Row:
        """The numbers of one cell: against the clean image, against the second acquisition, and by itself."""
        image = self.images.image(index)
        numbers: Row = {
            "said": CLASSES[int(probabilities.argmax())],
            "probabilities": [round(float(p), 6) for p in probabilities],
            "predicted": restored.steps_predicted,
            "steps": restored.steps,
            "evaluations": restored.evaluations,
            "seconds": round(restored.seconds, 4),
            "machine": restored.machine,
        }
        shown = counts_to_unit(restored.counts)
        numbers |= without_reference(shown)
        if image.clean is not None:
            clean = counts_to_unit(image.clean)
            changes = metrics.nuclei_changes(shown, clean, self.images.um_per_px, truth=image.nuclei)
            numbers |= self._likeness(shown, clean)
            numbers |= {"nuclei_added": changes.added_per_mm2, "nuclei_removed": changes.removed_per_mm2}
        if (second := self.second(index)) is not None:
            numbers |= {f"near_{name}": value for name, value in self._likeness(inner(shown), counts_to_unit(second)).items()}
        return numbers

    def second(self, index: int) -> Counts | None:
        """The second acquisition on the pixels of the image, without its :data:`MARGIN`; None when there is none.

        It is registered once, with the image as scanned, so that no method is favoured. A pair that does not fit is in
        :attr:`refused` and counts as none.
        """
        if index not in self._second:
            self._second[index] = self._found(index)
        return self._second[index]

    def _found(self, index: int) -> Counts | None:
        """A second acquisition from the disk, where it is put once it is registered, or why there is none."""
        folder = self.bench.work / f"second-{fingerprint(images=self.images.sha256, version=REGISTERED)}"
        kept, why = folder / f"{index}.npy", folder / f"{index}.txt"
        if kept.is_file():
            found: Counts = np.load(kept)
            return found
        if why.is_file():
            self.refused[index] = why.read_text(encoding="utf-8")
            return None
        if (acquired := self.images.second_acquisition(index)) is None:
            return None
        try:
            found = inner(registered(acquired, self.images.image(index)))
        except InputError as error:
            self.refused[index] = f"{self.images.image(index).name}: {error.found}"
            write_whole(why, self.refused[index].encode())
            return None
        content = io.BytesIO()
        np.save(content, found)
        write_whole(kept, content.getvalue())
        return found

    def paired(self, indices: Sequence[int]) -> list[int]:
        """Those of the images that have a second acquisition."""
        return [index for index in indices if self.second(index) is not None]

    @cached_property
    def refused(self) -> dict[int, str]:
        """Why pairs were refused, by image."""
        return {}

    @cached_property
    def _seconds(self) -> dict[str, tuple[float, str]]:
        return {}

    @cached_property
    def _second(self) -> dict[int, Counts | None]:
        return {}

    @cached_property
    def _classifier(self) -> PatchClassifier:
        return load_classifier(self.bench.bundle, choose_device(self.bench.device))

    def _likeness(self, shown: NDArray[Any], reference: NDArray[Any]) -> Row:
        window = self.bench.protocol.restoration.ssim
        found = {
            "psnr": metrics.psnr(shown, reference),
            "ssim": metrics.ssim(shown, reference, sigma=window.sigma, size=window.size),
        }
        if self.lpips_weights is not None:
            found["lpips"] = metrics.lpips(shown, reference, weights=self.lpips_weights)
        return found

    def _judging(self, restored: str) -> str:
        classifier = self.bench.bundle.holder("classifier").metadata["sha256"]
        return fingerprint(
            version=JUDGED,
            restored=restored,
            images=self.images.sha256,
            window=self.bench.protocol.restoration.ssim.model_dump(),
            classifier=classifier["models/classifier.safetensors"],
            lpips=self.lpips_weights is not None,
        )

    def features(self, method: Method, *, near: bool = False) -> Features:
        """Features of what a method made of the images, in the order of their numbers.

        Parameters
        ----------
        near
            Of the images that have a second acquisition, without the :data:`MARGIN`, as that is.
        """
        indices = self.paired(self.indices(method)) if near else list(self.indices(method))
        with self.restorer(method) as restorer:
            key = fingerprint(restored=restorer.fingerprint, indices=indices, near=near)
        made = (one.counts for _, one in self.restored(method, indices))
        return self._featured(key, method.name, (inner(counts) if near else counts for counts in made))

    def reference_features(self) -> Features:
        """Features of the high-quality set; of no image when there is none."""
        return self._featured(
            fingerprint(images=self.images.references_sha256, of="reference"), "reference", self.images.references()
        )

    def second_features(self) -> Features:
        """Features of the second acquisitions; of no image when there are none."""
        indices = self.paired(self.images.indices)
        key = fingerprint(images=self.images.sha256, indices=indices, of="second")
        found = (self.second(index) for index in indices)
        return self._featured(key, "second acquisitions", (one for one in found if one is not None))

    def _featured(self, key: str, name: str, images: Iterable[Counts]) -> Features:
        """Features of images, kept on disk under ``key``."""
        path = self.bench.work / f"features-{fingerprint(key=key, extractor=self.extractor, version=JUDGED)}.npz"
        if not path.is_file():
            self.bench.report(f"features: {name}", 0, 1)
            vectors, spectra, empty = [], [], np.empty((0, 1))
            source = iter(images)
            while batch := list(islice(source, FEATURE_BATCH)):
                vectors.append(self._extractor.features(counts_to_unit(np.stack(batch))))
                spectra.append(metrics.radial_power(counts_to_unit(np.stack(batch))))
            made = Features(np.concatenate(vectors or [empty]), np.concatenate(spectra or [empty]))
            with whole_file(path) as draft, draft.open("wb") as file:
                np.savez(file, vectors=made.vectors, spectra=made.spectra)
            self.bench.report(f"features: {name}", 1, 1)
        with np.load(path) as stored:
            return Features(stored["vectors"], stored["spectra"])

    @cached_property
    def _extractor(self) -> metrics.Extractor:
        return metrics.create_extractor(self.extractor, self.extractor_weights, str(choose_device(self.bench.device)))


def without_reference(shown: NDArray[Any]) -> Row:
    """What an image ``(2, H, W)`` in unit range says of itself: ``coherence`` of its channels, ``noise`` in counts."""
    return {
        "coherence": metrics.channel_coherence(shown, HIGH_FREQUENCY),
        "noise": FULL_SCALE * max(metrics.incoherent_noise(shown, HIGH_FREQUENCY)),
    }


def truth_panels(image: Image) -> list[Panel]:
    """The clean image as a panel of a figure; none when nobody knows it."""
    return [] if image.clean is None else [Panel(image.clean, "truth")]


def registered(acquired: Counts, image: Image) -> Counts:
    """A second acquisition on the pixels of an image, uint16 counts ``(2, H, W)``.

    Raises
    ------
    InputError
        When the two do not show one field, or the image's inner part is not all in both.
    """
    found = register(acquired, image.counts)
    require_good(found)
    if not inner(found.overlap).all():
        raise InputError(
            f"a second acquisition that lacks part of {image.name}", f"one that shows all of it but a margin of {MARGIN} px"
        )
    moved: Counts = found.apply(acquired)
    return moved


def inner(image: NDArray[Any]) -> NDArray[Any]:
    """An image ``(..., H, W)`` without its :data:`MARGIN`."""
    return image[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
