"""The images of a study: restored by each method where it is shown, with what the guards flag, and the planted sentinels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from srh_clinic.bundles import PARTS
from srh_clinic.case.provenance import guard_policy_of
from srh_clinic.case.scrutiny import scrutinise
from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts, counts_to_unit
from srh_clinic.metrics.nuclei import detect_nuclei
from srh_clinic.restorers import RESTORERS
from srh_clinic.simulation.edits import CONTRASTS, ERASED, erase_nucleus, plant_nucleus
from srh_clinic.slide import ArraySlide
from srh_clinic.tiling import TileGrid
from srh_clinic.trust import GuardPolicy
from srh_clinic.validation.bench.bench import Bench, PhantomRestorer, chunks
from srh_clinic.validation.bench.images import tiles_sha256
from srh_clinic.validation.bench.methods import BASELINES, METHODS, REDUCED, WHOLE, Method
from srh_clinic.validation.study.images import StudyImage
from srh_clinic.validation.study.records import Sentinel
from srh_clinic.validation.study.window import blurred

PLANTED_CONTRAST = "usual"
"""Of planted and erased nuclei; see :data:`~srh_clinic.simulation.edits.CONTRASTS`."""

Flag = tuple[int, int, int, int, str]
"""x, y, width and height in px of what the guards flagged, and its kind."""


@dataclass(frozen=True, eq=False)
class View:
    """An image as a method shows it: counts, what the guards flagged in it, and the sha256 of the method's networks."""

    method: str
    counts: Counts
    flags: tuple[Flag, ...] = ()
    model_sha256: str = ""


@dataclass(frozen=True, eq=False)
class Planted:
    """A sentinel: two views of an image of which one (``side`` 0 or 1) was changed, and where."""

    image: int
    sentinel: Sentinel
    views: tuple[View, View]
    changed: int | None
    place: tuple[float, float, float] | None = None
    """x, y and radius in px."""


def study_method(name: str, bench: Bench) -> Method:
    """The method of a study by the name of its restorer.

    Methods with networks of their own take them from the run's bundle, or from the one that the tables' baselines lie in.

    Raises
    ------
    InputError
        When there is no such restorer.
    """
    if name not in RESTORERS:
        raise InputError(f"the restorer {name!r}", f"one of {', '.join(RESTORERS)}")
    known = METHODS[WHOLE] if name == "rscd" else METHODS.get(name)
    settings = known.settings if known is not None and (name in REDUCED or name == "rscd") else {}
    own = name in PARTS and name not in bench.bundle.parts
    return Method(name, name, settings, BASELINES if own else None)


@dataclass(frozen=True, eq=False)
class RestoredImages:
    """Restores a study's images, each method only those that somebody will see.

    Parameters
    ----------
    bench
        Where restored tiles wait until the study is whole, and which weights restore.
    images
        All images of the study.
    """

    bench: Bench
    images: Sequence[StudyImage]
    made: dict[tuple[str, int], View] = field(default_factory=dict)

    def restore(self, wanted: Mapping[str, Sequence[int]]) -> None:
        """Restore images by method, and ask the guards about each."""
        key = tiles_sha256([image.counts for image in self.images])
        total, done = sum(len(set(indices)) for indices in wanted.values()), 0
        for name, indices in wanted.items():
            method = study_method(name, self.bench)
            bundle = self.bench.bundle_of(method)
            model = bundle.weights_sha256 if method.parts else ""
            with PhantomRestorer(self.bench, method, keep=True, images=key) as restorer:
                for members in chunks(sorted(set(indices))):
                    restored = restorer({i: self.images[i].counts for i in members})
                    for i in members:
                        flags = self._flags(self.images[i], restored[i].counts, restored[i].steps)
                        self.made[name, i] = View(name, restored[i].counts, flags, model)
                    done += len(members)
                    self.bench.report("restoring", done, total)

    def view(self, method: str, index: int) -> View:
        """What a method made of an image that it has restored."""
        return self.made[method, index]

    @cached_property
    def policy(self) -> GuardPolicy | None:
        """The guards' thresholds; None when the bundle states none, and nothing is flagged."""
        return guard_policy_of(self.bench.bundle)

    def _flags(self, image: StudyImage, restored: Counts, steps: int) -> tuple[Flag, ...]:
        if self.policy is None:
            return ()
        scanned = ArraySlide(image.counts, image.um_per_px)
        edge = image.counts.shape[1]
        said = scrutinise(
            scanned,
            ArraySlide(restored, image.um_per_px),
            TileGrid(scanned.shape, edge, 0),
            np.zeros(1, dtype=np.int64),
            np.array([steps], dtype=np.int64),
            self.policy,
            source=scanned,
        )
        return tuple((region.x, region.y, region.width, region.height, region.kind) for region in said.regions)

    def sentinel(self, kind: Sentinel, test: str, index: int, rng: np.random.Generator) -> Planted | None:
        """A task whose answer is known, from an image that the method under test has restored.

        Returns
        -------
        None where no nucleus can be planted or erased in this image.
        """
        image, view = self.images[index], self.view(test, index)
        if kind == "same":
            return Planted(index, kind, (view, view), None)
        if kind == "blurred":
            best = view if image.clean is None else View("reference", image.clean)
            return Planted(index, kind, (best, replace(best, counts=blurred(best.counts), flags=())), 1)
        nuclei = detect_nuclei(counts_to_unit(view.counts), image.um_per_px)
        if kind == "added":
            known = nuclei if image.nuclei is None else np.concatenate([nuclei, image.nuclei])
            edit = plant_nucleus(rng, view.counts, known, CONTRASTS[PLANTED_CONTRAST], image.um_per_px)
        else:
            edit = erase_nucleus(rng, view.counts, nuclei, ERASED[PLANTED_CONTRAST]) if len(nuclei) else None
        if edit is None:
            return None
        flags = self._flags(image, edit.counts, 1)
        changed = replace(view, counts=edit.counts, flags=flags)
        place = (round(edit.x, 1), round(edit.y, 1), round(edit.radius, 1))
        return Planted(index, kind, (view, changed), 1, place)
