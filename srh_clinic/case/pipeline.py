"""Restore a case, classify it before and after, and say what came of it.

::

    slide -> pixel size of the networks -> thumbnail -> tissue mask -> tiles -> restorer -> tiles on disk -> mosaic
          -> guards: what the input does not support -> patches before and after -> classifier
          -> diagnosis, step map, trust map, regions worth rescanning and regions to look at, flags

Memory does not grow with the slide: tiles and patches stream, restored tiles wait on disk, pictures are thumbnails.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from srh_clinic import __version__
from srh_clinic.case.pictures import Box, CaseMaps, SquareMap, draw_case
from srh_clinic.case.scrutiny import Certainty, Scrutiny, repeat, scrutinise, unexamined
from srh_clinic.errors import InputError
from srh_clinic.files import whole_files
from srh_clinic.inference import network_seconds
from srh_clinic.intensity import Counts
from srh_clinic.progress import Progress, silent
from srh_clinic.regions import Region, in_words, placed
from srh_clinic.resampling import ResampledSlide, thumbnail
from srh_clinic.slide import Slide
from srh_clinic.tiling import MosaicSlide, TileGrid, TileStore, read_tile
from srh_clinic.tissue import TissueMask, tissue_mask

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from srh_clinic.bundles import Bundle
    from srh_clinic.classifiers import PatchClassifier, SlideDiagnosis
    from srh_clinic.restorers import Restoration, RestoredTile, Restorer, Tile
    from srh_clinic.rscd.restoration import Calibrator
    from srh_clinic.trust import CaseProfile, Decision, DriftReference, GuardPolicy, SelectivePolicy

OVERLAP = 32
"""Pixels that neighbouring tiles share and are blended over."""

PIXEL_SIZE_TOLERANCE = 0.10
"""A slide whose pixels differ by more than this from those of the bundle is resampled."""

LARGEST_ENLARGEMENT = 4.0
"""Pixels this many times those of the bundle are refused: at 1.9 um a nucleus is four of them, and shows nothing."""

LITTLE_TISSUE = 0.1
"""A slide of which less than this share was taken for tissue is flagged: it is small, or the mask has lost it."""

PATCH_TISSUE = 0.1
"""A patch is classified when at least this share of it is tissue."""

PATCH_BATCH = 16

UNPREDICTED = ("filtered", "fixed-steps", "iterations", "no-estimate")
"""Stop reasons of tiles for which no steps were predicted, unless some were: an estimator may fall silent later."""

LEFT_ALONE = ("skipped", "clean", "no-estimate")
"""Stop reasons of tiles that, without a step, came back as they were."""

SEEDED = ("rscd", "conditional_diffusion")
"""Restorers whose result depends on the seed."""

RESCAN_STEPS = 100
"""Tiles that need more reverse steps are worth rescanning: half of what RSCD is trained for (T' = 200 in the paper)."""

THUMBNAIL_EDGE = 2048

NO_SQUARES = SquareMap(np.empty((0, 2), dtype=np.int64), 1, np.empty(0))


@dataclass(frozen=True, eq=False)
class Overview:
    """A slide in small: uint16 counts ``(2, h, w)`` whose pixels are ``factor`` slide pixels, and where there is tissue."""

    picture: Counts
    factor: int
    mask: TissueMask


@dataclass(frozen=True)
class TileCounts:
    """What became of a slide's tiles.

    ``total`` is ``restored + skipped``; skipped are those without tissue and those that the calibrator found clean enough to
    leave alone; ``capped`` are restored ones that were worse than RSCD is trained for.
    """

    total: int
    restored: int
    skipped: int
    capped: int


@dataclass(frozen=True)
class StepSummary:
    """Reverse steps that the calibrator predicted, over the tiles that it saw, and how all restored tiles ended."""

    median: int
    p90: int
    largest: int
    stop_reasons: dict[str, int]


@dataclass(frozen=True)
class RescanRegion(Region):
    """A connected region of poor image quality; ``steps`` is the mean prediction over its ``tiles``."""

    tiles: int
    capped: int
    steps: int


@dataclass(frozen=True, eq=False)
class RestoredSlide:
    """A slide whose tissue has been restored.

    Attributes
    ----------
    slide
        The restored slide, at the pixel size that the networks saw; it reads from ``store``.
    grid, store
        Where the tiles lie and are kept.
    index
        The tiles that the restorer saw, ``(M,)``.
    steps_predicted
        Reverse steps predicted for each of them, ``(M,)``; 0 where it found nothing to remove.
    left_alone
        Which of them came back as they were, ``(M,)``: skipped, clean at the first look, or without an estimate at it.
    flags, stop_reasons
        What the restorer said of each of them.
    computed
        How many were restored now; the others come from the run before, which was cut off.
    seconds
        How long that took.
    """

    slide: MosaicSlide
    grid: TileGrid
    store: TileStore
    index: NDArray[np.int64]
    steps_predicted: NDArray[np.int64]
    left_alone: NDArray[np.bool_]
    flags: tuple[tuple[str, ...], ...]
    stop_reasons: tuple[str, ...]
    computed: int
    seconds: float

    @cached_property
    def calibrated(self) -> NDArray[np.bool_]:
        """Which of the tiles that the restorer saw have a prediction, ``(M,)``: a filter predicts nothing."""
        said = zip(self.stop_reasons, self.steps_predicted, strict=True)
        return np.array([steps > 0 or reason not in UNPREDICTED for reason, steps in said], dtype=bool)

    @cached_property
    def capped(self) -> NDArray[np.bool_]:
        """Which of the tiles that the restorer saw were worse than it is trained for, ``(M,)``."""
        return np.array(["capped" in flags for flags in self.flags], dtype=bool)

    @property
    def counts(self) -> TileCounts:
        """What became of the tiles."""
        restored = int((~self.left_alone).sum())
        return TileCounts(
            total=len(self.grid), restored=restored, skipped=len(self.grid) - restored, capped=int(self.capped.sum())
        )

    @property
    def steps(self) -> StepSummary:
        """The predictions in a few numbers."""
        reasons = dict(sorted(Counter(self.stop_reasons).items()))
        predicted = self.steps_predicted[self.calibrated]
        if not len(predicted):
            return StepSummary(median=0, p90=0, largest=0, stop_reasons=reasons)
        median, p90 = np.percentile(predicted, [50, 90], method="nearest")
        return StepSummary(median=int(median), p90=int(p90), largest=int(predicted.max()), stop_reasons=reasons)

    @property
    def step_map(self) -> SquareMap:
        """Predicted steps by tile, of those that have a prediction."""
        predicted = self.steps_predicted[self.calibrated].astype(np.float32)
        return SquareMap(self.grid.positions[self.index[self.calibrated]], self.grid.tile, predicted)

    def without(self, tiles: NDArray[np.int64]) -> RestoredSlide:
        """The same with the original in the place of some tiles."""
        slide = replace(self.slide, withheld=frozenset(tiles.tolist()))
        # Tiles without a folder of their own lie on disk for as long as the first slide lives: as long as this one, then.
        weakref.finalize(slide, lambda first: None, self.slide)
        return replace(self, slide=slide)

    def discard(self) -> None:
        """Remove the tiles from the disk; the slide cannot be read any more."""
        _discard(self.store)


@dataclass(frozen=True, eq=False)
class ClassifiedSlide:
    """The classifier's word on each patch with tissue, and on the slide.

    ``patches`` holds probabilities ``(N, 3)`` in the order tumor, normal, nondiagnostic.
    """

    patches: SquareMap
    diagnosis: SlideDiagnosis
    seconds: float


@dataclass(frozen=True)
class CaseResult:
    """What restore-then-classify found in a case.

    Attributes
    ----------
    diagnosis, probabilities
        After restoration: ``"tumor"``, ``"normal"`` or ``"nondiagnostic"``, and the probability of each.
    before
        The same, as scanned.
    tiles, steps, rescan
        How much was restored, how poor the image was, where it is worth rescanning.
    scrutiny, withheld
        What the guards say of the restoration; how many tiles show the original because of it (``conservative``).
    certainty
        What restorations under further seeds agree on; None when none were asked for.
    flags
        Sentences that begin with a code and a colon: whatever a reader must know before trusting the result.
    timing
        Seconds, and tiles a second.
    provenance
        Version, bundle, sha256 of the weights, seed and settings: enough to compute the result again.
    slide
        Height, width and pixel size as scanned.
    maps
        What the pictures are drawn from.
    restored
        The restored slide.
    support
        Mean over all patches of the probability of the diagnosis, see :class:`~srh_clinic.classifiers.SlideDiagnosis`; that as
        scanned is in ``before``.
    decision
        Whose diagnosis a selective policy lets stand, and which; None when none was asked. ``diagnosis`` is that of the
        restored slide whatever the policy says.
    profile
        What a validation compares cases by; None when nobody asked.
    """

    diagnosis: str
    probabilities: dict[str, float]
    support: float
    before: SlideDiagnosis
    tiles: TileCounts
    steps: StepSummary
    rescan: tuple[RescanRegion, ...]
    scrutiny: Scrutiny
    withheld: int
    certainty: Certainty | None
    flags: tuple[str, ...]
    timing: dict[str, float]
    provenance: dict[str, Any]
    slide: dict[str, Any]
    maps: CaseMaps = field(repr=False, compare=False)
    restored: RestoredSlide = field(repr=False, compare=False)
    decision: Decision | None = None
    profile: CaseProfile | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON holds it; ``schemas/result.schema.json`` in the package describes it."""
        return {
            "diagnosis": self.diagnosis,
            "probabilities": _rounded(self.probabilities),
            "support": round(self.support, 6),
            "before": {
                "diagnosis": self.before.diagnosis,
                "probabilities": _rounded(self.before.probabilities),
                "support": round(self.before.support, 6),
            },
            "decision": self.decision
            and {"use": self.decision.use, "diagnosis": self.decision.said, "why": self.decision.why},
            "tiles": asdict(self.tiles),
            "steps": asdict(self.steps),
            "rescan": [asdict(region) for region in self.rescan],
            "trust": {
                "calibrated": self.scrutiny.threshold is not None,
                "miss_rate": self.scrutiny.alpha,
                "examined": len(self.scrutiny.index),
                "flagged": len(self.scrutiny.failed),
                "withheld": self.withheld,
                "outside_calibration": self.scrutiny.outside,
                "regions": [asdict(region) for region in self.scrutiny.regions],
            },
            "certainty": self.certainty and _in_short(self.certainty),
            "flags": list(self.flags),
            "slide": self.slide,
            "timing": _rounded(self.timing, 3),
            "provenance": self.provenance,
        }

    def save(self, out: str | Path) -> Path:
        """Write ``result.json`` and the pictures into the folder ``out``, each whole or not at all, and return the folder.

        Raises
        ------
        OSError
            When ``out`` cannot be written; then nothing of it is left behind.
        """
        with whole_files(Path(out)) as draft:
            draw_case(self.maps, self._boxes(self.rescan), self._boxes(self.scrutiny.regions), self._headline(), draft)
            (draft / "result.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        return Path(out)

    def _boxes(self, regions: Sequence[Region]) -> list[Box]:
        """Regions, by number, in slide pixels of the maps."""
        scale = self.slide["um_per_px"] / self.maps.um_per_px
        return [
            Box(number, *(round(edge * scale) for edge in (region.y, region.x, region.height, region.width)))
            for number, region in enumerate(regions, start=1)
        ]

    def _headline(self) -> tuple[str, ...]:
        def words(diagnosis: str, probabilities: Mapping[str, float]) -> str:
            return f"{diagnosis} (p = {probabilities[diagnosis]:.2f})"

        before = words(self.before.diagnosis, self.before.probabilities)
        after = words(self.diagnosis, self.probabilities)
        counts = self.tiles
        by_policy = f"      By the policy: {self.decision.said}" if self.decision is not None else ""
        return (
            f"As scanned: {before}      After restoration: {after}{by_policy}",
            f"{counts.restored} of {counts.total} tiles restored, {counts.skipped} left alone, {counts.capped} capped.",
            self.provenance["notice"],
        )


@dataclass(frozen=True, eq=False)
class RestoreThenClassify:
    """The whole way from a slide to a result.

    Call it with a slide: ``RestoreThenClassify.from_bundle("phantom-demo")(read_slide("case.dcm"))``.

    Parameters
    ----------
    bundle
        States the pixel size, the size of tiles and patches, and what the weights are.
    restorer, classifier
        What does the work.
    seed
        Of the restorer's noise.
    policy
        When a restored tile is flagged; None when the bundle states no thresholds, and nothing is examined.
    calibrator
        Says how many steps a restored tile still asks for; see :func:`~srh_clinic.guards.steps_left`.
    conservative
        Show the original where a tile is flagged, and diagnose without these places.
    repeated
        Restores each tile again under other seeds; None when nobody asks how far seeds agree.
    seeds
        How many others.
    selective
        Decides whose diagnosis stands; None when nobody asks.
    profiled
        Take what a validation compares cases by (:attr:`CaseResult.profile`): another pass of the classifier.
    reference
        Cases of a validation, which a slide is compared with; None when nobody asks.

    Raises
    ------
    InputError
        When ``selective`` cannot decide slides, or asks for agreement and ``repeated`` is None; when ``reference`` is of other
        weights or another restorer.
    """

    bundle: Bundle
    restorer: Restorer
    classifier: PatchClassifier
    seed: int = 0
    policy: GuardPolicy | None = None
    calibrator: Calibrator | None = None
    conservative: bool = False
    repeated: Restorer | None = None
    seeds: int = 0
    selective: SelectivePolicy | None = None
    profiled: bool = False
    reference: DriftReference | None = None

    def __post_init__(self) -> None:
        _require_decidable(self.selective, self.seeds if self.repeated is not None else 0)
        if self.reference is not None:
            self.reference.require(drift_made_with(self.bundle, self.restorer, self.conservative))

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path = "phantom-demo",
        restorer: str = "rscd",
        device: str = "auto",
        seed: int = 0,
        conservative: bool = False,
        certainty: int = 0,
        selective: SelectivePolicy | None = None,
        profiled: bool = False,
        reference: DriftReference | None = None,
        **settings: Any,
    ) -> Self:
        """Load a bundle's networks, and what it states about its guards.

        Parameters
        ----------
        bundle
            Name of an embedded bundle, or its folder.
        restorer
            ``"rscd"`` or another name that :func:`srh_clinic.restorers.create_restorer` knows.
        device
            ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        seed
            Of the restorer's noise.
        conservative
            Show the original where a restored tile is flagged, and diagnose without these places.
        certainty
            Restore every tile under so many further seeds and say what they agree on: so many times the time, and more,
            since RSCD then steps by the ancestral sampler, the only one whose result depends on the seed.
        selective
            Decides whether the restored diagnosis is used, the original kept, or the case called non-diagnostic; see
            :func:`srh_clinic.trust.load_policy`.
        profiled, reference
            See :class:`RestoreThenClassify` and :func:`srh_clinic.trust.load_reference`.
        settings
            Of the restorer, for example ``sampler="ancestral"``.

        Raises
        ------
        InputError
            When the bundle is unknown or damaged, or a restorer or setting is unknown; when ``conservative`` is asked of a
            bundle that states no thresholds, or ``certainty`` of a restorer whose result does not depend on the seed; when
            ``selective`` asks for agreement without ``certainty``, or was calibrated on patches; when ``reference`` is of
            other weights or another restorer.
        """
        from srh_clinic.bundles import load_bundle
        from srh_clinic.classifiers import load_classifier
        from srh_clinic.inference import choose_device
        from srh_clinic.restorers import create_restorer
        from srh_clinic.restorers.rscd import load_calibrator

        _require_decidable(selective, certainty)
        loaded = load_bundle(bundle)
        policy = policy_of(loaded)
        if conservative and policy is None:
            needed = "a bundle whose guards were calibrated for its weights (srh-clinic bundle calibrate)"
            raise InputError("a bundle without thresholds for its guards", needed, loaded.path)
        where = choose_device(device)
        return cls(
            bundle=loaded,
            restorer=create_restorer(restorer, bundle=str(bundle), device=device, **settings),
            classifier=load_classifier(loaded, where),
            seed=seed,
            policy=policy,
            calibrator=load_calibrator(loaded, where) if "calibrator" in loaded.parts else None,
            conservative=conservative,
            repeated=_repeated(restorer, bundle, device, settings) if certainty else None,
            seeds=certainty,
            selective=selective,
            profiled=profiled,
            reference=reference,
        )

    def __call__(self, slide: Slide, *, work: str | Path | None = None, progress: Progress | None = None) -> CaseResult:
        """Restore and classify a slide.

        Parameters
        ----------
        slide
            Of any size and pixel size.
        work
            Folder for the restored tiles: a run that was cut off goes on from what it finds there, and the tiles stay.
            Without, they lie in a temporary folder for as long as the result lives.
        progress
            Is told how far each stage is.

        Raises
        ------
        InputError
            When the slide cannot be read, or ``work`` cannot be written.
        """
        report = progress or silent
        began = time.perf_counter()
        with network_seconds() as in_networks, ExitStack() as room:
            view, flags = at_pixel_size(slide, self.bundle.metadata["um_per_px"])
            report("reading", 0, 1)
            seen = look_over(view)
            report("reading", 1, 1)
            restored = restore_slide(view, seen, self.restorer, self.bundle, seed=self.seed, work=work, progress=report)
            scrutiny = self._scrutinise(view, restored, slide, partial(report, "examining"))
            keeper = self._keeper(restored.grid, work, room)
            certainty = self._repeat(view, restored, slide, keeper or self.repeated, partial(report, "repeating"))
            withheld = scrutiny.failed if self.conservative else scrutiny.failed[:0]
            if len(withheld):
                restored = restored.without(withheld)
            unread = SquareMap(restored.grid.positions[withheld], restored.grid.tile, np.ones(len(withheld)))
            as_scanned = classify_slide(view, seen.mask, self.classifier, partial(report, "classifying as scanned"))
            after = classify_slide(
                restored.slide,
                seen.mask,
                self.classifier,
                partial(report, "classifying restored"),
                unread=unread,
            )
            others = [
                classify_slide(
                    replace(restored.slide, store=store),
                    seen.mask,
                    self.classifier,
                    partial(report, f"classifying seed {seed}"),
                    unread=unread,
                )
                for seed, store in (keeper.stores.items() if keeper is not None else ())
            ]
            wanted = self.profiled or self.reference is not None
            profile = profile_case(seen, restored, after, self.classifier) if wanted else None
            picture, _ = thumbnail(restored.slide, THUMBNAIL_EDGE)
        regions = rescan_regions(restored, slide)
        decision = self._decide(restored, scrutiny, as_scanned.diagnosis, after.diagnosis, [one.diagnosis for one in others])
        total = time.perf_counter() - began
        return CaseResult(
            diagnosis=after.diagnosis.diagnosis,
            probabilities=dict(after.diagnosis.probabilities),
            support=after.diagnosis.support,
            before=as_scanned.diagnosis,
            tiles=restored.counts,
            steps=restored.steps,
            rescan=regions,
            scrutiny=scrutiny,
            withheld=len(withheld),
            certainty=certainty,
            flags=(
                *flags,
                *case_flags(restored, as_scanned, after, regions, seen),
                *trust_flags(
                    scrutiny,
                    len(withheld),
                    restored.counts.restored if self.restorer.name != "none" else 0,
                    self.policy is None or promised_for(self.policy, self.restorer),
                ),
                *policy_flags(self.selective, decision, self.bundle, self.restorer),
                *(() if self.reference is None or profile is None else self.reference.flags(self.reference.check(profile))),
            ),
            timing={
                "total_s": total,
                "restoring_s": restored.seconds,
                "examining_s": scrutiny.seconds,
                "classifying_s": as_scanned.seconds + after.seconds + sum(one.seconds for one in others),
                "networks_s": in_networks(),
                "outside_networks_s": total - in_networks(),
                "tiles_per_s": restored.computed / restored.seconds if restored.computed else 0.0,
            },
            provenance=provenance(
                self.bundle,
                self.restorer,
                self.seed,
                tile=restored.grid.tile,
                overlap=restored.grid.overlap,
                patch=self.classifier.patch,
                recipe=self.classifier.recipe,
                conservative=self.conservative,
                certainty=self.seeds,
                **({} if self.selective is None else {"selective": self.selective.model_dump(mode="json")}),
            ),
            slide={"height": slide.shape[0], "width": slide.shape[1], "um_per_px": slide.um_per_px},
            maps=CaseMaps(
                before=seen.picture,
                after=picture,
                factor=seen.factor,
                um_per_px=view.um_per_px,
                steps=restored.step_map,
                trust=SquareMap(
                    restored.grid.positions[scrutiny.index], restored.grid.tile, scrutiny.strengths.astype(np.float32)
                ),
                deviation=None if certainty is None else SquareMap(certainty.positions, certainty.edge, certainty.deviation),
                classes_before=as_scanned.patches,
                classes_after=after.patches,
            ),
            restored=restored,
            decision=decision,
            profile=profile,
        )

    def _keeper(self, grid: TileGrid, work: str | Path | None, room: ExitStack) -> _Keeper | None:
        """Keeps further restorations in ``room``, to be classified; None where no policy asks whether they agree."""
        if self.selective is None or self.selective.agreement_limit is None or self.repeated is None:
            return None
        folder = Path(room.enter_context(tempfile.TemporaryDirectory(prefix="srh-clinic-seeds-", dir=work)))
        seeds = range(self.seed + 1, self.seed + self.seeds + 1)
        stores = {seed: room.enter_context(TileStore(folder / str(seed), grid, str(seed))) for seed in seeds}
        return _Keeper(self.repeated, stores)

    def _decide(
        self,
        restored: RestoredSlide,
        scrutiny: Scrutiny,
        before: SlideDiagnosis,
        after: SlideDiagnosis,
        others: Sequence[SlideDiagnosis],
    ) -> Decision | None:
        if self.selective is None:
            return None
        loudest = float(scrutiny.strengths.max(initial=0.0)) if scrutiny.threshold is not None else None
        return self.selective.decide(
            (after.diagnosis, after.support),
            (before.diagnosis, before.support),
            trust=loudest,
            steps=float(restored.steps.median) if restored.calibrated.any() else None,
            agreement=float(np.mean([one.diagnosis == after.diagnosis for one in others])) if others else None,
        )

    def _scrutinise(
        self, view: Slide, restored: RestoredSlide, scanned: Slide, progress: Callable[[int, int], None]
    ) -> Scrutiny:
        if self.policy is None:
            return unexamined()
        changed = ~restored.left_alone
        return scrutinise(
            view,
            restored.slide,
            restored.grid,
            restored.index[changed],
            restored.steps_predicted[changed],
            self.policy,
            source=scanned,
            calibrator=self.calibrator,
            progress=progress,
        )

    def _repeat(
        self,
        view: Slide,
        restored: RestoredSlide,
        scanned: Slide,
        repeated: Restorer | None,
        progress: Callable[[int, int], None],
    ) -> Certainty | None:
        if repeated is None:
            return None
        index = restored.index[~restored.left_alone]
        seeds, shown = self.seeds, restored.slide
        return repeat(view, shown, restored.grid, index, repeated, self.seed, seeds, source=scanned, progress=progress)


@dataclass(frozen=True, eq=False)
class _Keeper:
    """A restorer that hands on what another makes of the tiles of a slide, and keeps it: a store for each seed."""

    restorer: Restorer
    stores: dict[int, TileStore]

    @property
    def name(self) -> str:
        return self.restorer.name

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.restorer.settings

    def restore(self, counts: Counts, positions: ArrayLike | None = None, seed: int = 0) -> Restoration:
        return self.restorer.restore(counts, positions, seed)

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        store = self.stores[seed]
        place = {(int(y), int(x)): number for number, (y, x) in enumerate(store.grid.positions)}
        of_key: dict[int, int] = {}

        def noted() -> Iterator[Tile]:
            for tile in tiles:
                of_key[tile.key] = place[tile.y, tile.x]
                yield tile

        for made in self.restorer.stream(noted(), seed):
            store.put(of_key[made.key], made.counts, {})
            yield made


def drift_made_with(bundle: Bundle, restorer: Restorer, conservative: bool) -> dict[str, str]:
    """What a drift reference and the cases that are compared with it must have in common."""
    settings = {name: value for name, value in restorer.settings.items() if name != "batch_size"}
    return {
        "weights_sha256": bundle.weights_sha256,
        "restorer": restorer.name,
        "settings": json.dumps({**settings, "conservative": conservative}, sort_keys=True),
    }


def profile_case(seen: Overview, restored: RestoredSlide, after: ClassifiedSlide, classifier: PatchClassifier) -> CaseProfile:
    """What a validation compares cases by: brightness as scanned, steps asked for, what the classifier sees restored."""
    from srh_clinic.trust.drift import case_profile

    per_cell = seen.mask.cell // seen.factor
    height, width = seen.picture.shape[1:]
    mask = seen.mask.cells.repeat(per_cell, 0).repeat(per_cell, 1)[:height, :width]
    corners = after.patches.positions.tolist()
    batches = [corners[first : first + PATCH_BATCH] for first in range(0, len(corners), PATCH_BATCH)]
    rows = [
        classifier.embed(np.stack([read_tile(restored.slide, y, x, after.patches.edge) for y, x in batch]))
        for batch in batches
    ]
    embeddings = np.concatenate(rows) if rows else np.empty((0, 0))
    return case_profile(seen.picture, mask, restored.steps_predicted[restored.calibrated], embeddings)


def _require_decidable(selective: SelectivePolicy | None, seeds: int) -> None:
    """Refuse a policy that could not decide a slide."""
    if selective is None:
        return
    if selective.agreement_limit is not None and not seeds:
        needed = "one or more further restorations (--certainty K)"
        raise InputError("a policy that needs the agreement of further restorations", needed)
    if (level := selective.calibration.get("level", "slide")) != "slide":
        raise InputError(f"a policy calibrated at the level of a {level}", "one calibrated on slides")


def _repeated(restorer: str, bundle: str | Path, device: str, settings: Mapping[str, Any]) -> Restorer:
    """The restorer whose result depends on the seed."""
    from srh_clinic.restorers import create_restorer

    if restorer not in SEEDED:
        raise InputError(
            f"--certainty with the restorer {restorer}, whose result does not depend on a seed", f"one of {', '.join(SEEDED)}"
        )
    seeded = {**settings, "sampler": "ancestral"} if restorer == "rscd" else dict(settings)
    return create_restorer(restorer, bundle=str(bundle), device=device, **seeded)


def _in_short(certainty: Certainty) -> dict[str, Any]:
    """Certainty as the result's JSON has it."""
    deviation = certainty.deviation if len(certainty.deviation) else np.zeros(1)
    return {
        "seeds": certainty.seeds,
        "deviation_median": round(float(np.median(deviation)), 6),
        "deviation_largest": round(float(deviation.max()), 6),
        "nuclei": [asdict(nucleus) for nucleus in certainty.nuclei],
    }


def policy_of(bundle: Bundle) -> GuardPolicy | None:
    """What a bundle states about its guards; None when it states nothing, or its networks are others than it was said of.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    from pydantic import ValidationError

    from srh_clinic.trust import GuardPolicy

    stated = bundle.metadata.get("trust")
    if stated is None:
        return None
    try:
        policy = GuardPolicy.model_validate(stated)
    except ValidationError as error:
        first = error.errors()[0]
        found = f"trust.{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise InputError(found, "what srh-clinic bundle calibrate writes", bundle.path / "configs/metadata.json") from error
    return policy if policy.calibration.get("weights_sha256") == bundle.weights_sha256 else None


def provenance(bundle: Bundle, restorer: Restorer, seed: int, **settings: Any) -> dict[str, Any]:
    """Enough to compute a result again: version, bundle, sha256 of the weights, seed, and every setting."""
    return {
        "version": __version__,
        "bundle": bundle.name,
        "weights_sha256": bundle.weights_sha256,
        "seed": seed,
        "settings": {
            "restorer": restorer.name,
            **restorer.settings,
            "um_per_px": bundle.metadata["um_per_px"],
            **settings,
        },
        "notice": notice(bundle),
    }


def notice(bundle: Bundle) -> str:
    """What must be said of everything that a bundle computes."""
    demonstration = bundle.metadata.get("demonstration")
    sentence = "Research software, not a medical device."
    return f"{demonstration[0].upper()}{demonstration[1:]}. {sentence}" if demonstration else sentence


def at_pixel_size(slide: Slide, um_per_px: float) -> tuple[Slide, tuple[str, ...]]:
    """The slide at the pixel size that the networks know, and the flags that its reading earned.

    Within :data:`PIXEL_SIZE_TOLERANCE` it stays as it is.

    Raises
    ------
    InputError
        When its pixels are too large for anything to be read in them.
    """
    if slide.um_per_px > LARGEST_ENLARGEMENT * um_per_px:
        needed = f"at most {LARGEST_ENLARGEMENT * um_per_px:.4g} um, {LARGEST_ENLARGEMENT:g} times those of the networks"
        raise InputError(f"pixels of {slide.um_per_px:.4g} um", needed, slide.identity.source or None)
    flags = tuple(f"reading: {note}" for note in slide.notes)
    if abs(slide.um_per_px / um_per_px - 1) <= PIXEL_SIZE_TOLERANCE:
        return slide, flags
    said = f"resampled: from {slide.um_per_px:.4g} to {um_per_px:.4g} um per pixel, the size that the networks were trained at"
    return ResampledSlide(slide, um_per_px), (*flags, said)


def look_over(slide: Slide) -> Overview:
    """Read a slide once, in blocks: its thumbnail and its tissue."""
    picture, factor = thumbnail(slide, THUMBNAIL_EDGE)
    return Overview(picture=picture, factor=factor, mask=tissue_mask(picture, factor))


def restore_slide(
    slide: Slide,
    seen: Overview,
    restorer: Restorer,
    bundle: Bundle,
    *,
    seed: int = 0,
    work: str | Path | None = None,
    progress: Progress | None = None,
) -> RestoredSlide:
    """Restore every tile of a slide that touches tissue; the others stay as they are.

    Parameters
    ----------
    slide
        At the pixel size of the bundle.
    seen
        The same slide as :func:`look_over` saw it: where it has tissue, and whether tiles in ``work`` are its own.
    work
        Folder for the tiles, see :meth:`RestoreThenClassify.__call__`.

    Raises
    ------
    InputError
        When the slide cannot be read, or ``work`` cannot be written.
    """
    from srh_clinic.restorers import Tile

    report = progress or silent
    began = time.perf_counter()
    grid = TileGrid(slide.shape, bundle.metadata["tile"], OVERLAP)
    wanted = np.flatnonzero([_share(seen.mask, slide, y, x, grid.tile) for y, x in grid.positions.tolist()])
    store = _open_store(slide, seen, restorer, bundle, seed, grid, work)
    try:
        todo = [i for i in wanted.tolist() if i not in store]
        computed = len(todo)

        def tiles() -> Iterator[Tile]:
            for i in todo:
                y, x = (int(edge) for edge in grid.positions[i])
                yield Tile(i, read_tile(slide, y, x, grid.tile), y, x)

        report("restoring", len(wanted) - computed, len(wanted))
        for done, tile in enumerate(restorer.stream(tiles(), seed), start=1):
            record = {
                "predicted": tile.t_pred,
                "steps": tile.steps,
                "rounds": tile.rounds,
                "stop_reason": tile.stop_reason,
                "flags": list(tile.flags),
                "evaluations": tile.evaluations,
            }
            store.put(tile.key, tile.counts, record)
            report("restoring", len(wanted) - computed + done, len(wanted))
    except BaseException:
        store.close()
        if work is None:
            _discard(store)
        raise
    records = [store.record(int(i)) for i in wanted]
    restored = RestoredSlide(
        slide=MosaicSlide(slide, grid, store),
        grid=grid,
        store=store,
        index=wanted,
        steps_predicted=np.array([record["predicted"] + 1 for record in records], dtype=np.int64),
        left_alone=np.array([not record["steps"] and record["stop_reason"] in LEFT_ALONE for record in records], bool),
        flags=tuple(tuple(record["flags"]) for record in records),
        stop_reasons=tuple(record["stop_reason"] for record in records),
        computed=computed,
        seconds=time.perf_counter() - began,
    )
    if work is None:
        weakref.finalize(restored.slide, _discard, store)
    return restored


def classify_slide(
    slide: Slide,
    mask: TissueMask,
    classifier: PatchClassifier,
    progress: Callable[[int, int], None] | None = None,
    *,
    unread: SquareMap = NO_SQUARES,
) -> ClassifiedSlide:
    """Classify the patches with tissue, side by side over the slide, and from them the slide.

    Patches that touch a square of ``unread`` say nothing: they count as non-diagnostic, whatever they show.
    """
    from srh_clinic.classifiers import aggregate
    from srh_clinic.diagnosis import CLASSES

    began = time.perf_counter()
    grid = TileGrid(slide.shape, classifier.patch, 0)
    corners = grid.positions.tolist()
    seen = [(y, x) for y, x in corners if _share(mask, slide, y, x, grid.tile) >= PATCH_TISSUE]
    probabilities = np.empty((len(seen), 3))
    for first in range(0, len(seen), PATCH_BATCH):
        batch = np.stack([read_tile(slide, y, x, grid.tile) for y, x in seen[first : first + PATCH_BATCH]])
        probabilities[first : first + PATCH_BATCH] = classifier.predict_proba(batch)
        if progress is not None:
            progress(first + len(batch), len(seen))
    positions = np.array(seen, dtype=np.int64).reshape(-1, 2)
    for corner in unread.positions:
        touched = (np.abs(2 * (positions - corner) + grid.tile - unread.edge) < grid.tile + unread.edge).all(axis=1)
        probabilities[touched] = np.eye(3)[CLASSES.index("nondiagnostic")]
    return ClassifiedSlide(
        patches=SquareMap(positions, grid.tile, probabilities.astype(np.float32)),
        diagnosis=aggregate(probabilities),
        seconds=time.perf_counter() - began,
    )


def rescan_regions(restored: RestoredSlide, scanned: Slide) -> tuple[RescanRegion, ...]:
    """Connected regions of tiles that need more than :data:`RESCAN_STEPS` steps or went beyond the cap, largest first.

    ``scanned`` is the slide whose pixels the regions are told in.
    """
    grid, shape = restored.grid, restored.slide.shape
    poor = np.zeros(len(grid), dtype=bool)
    poor[restored.index] = (restored.steps_predicted > RESCAN_STEPS) | restored.capped
    steps = np.zeros(len(grid), dtype=np.int64)
    steps[restored.index] = restored.steps_predicted
    capped = np.zeros(len(grid), dtype=bool)
    capped[restored.index] = restored.capped
    labels, count = ndimage.label(poor.reshape(len(grid.rows), len(grid.columns)), np.ones((3, 3)))
    regions = []
    for label in range(1, count + 1):
        members = np.flatnonzero(labels.ravel() == label)
        corners = grid.positions[members]
        (top, left), (bottom, right) = corners.min(axis=0), np.minimum(corners.max(axis=0) + grid.tile, shape)
        where = placed(top, left, bottom, right, restored.slide, scanned)
        centre = np.minimum(corners.mean(axis=0) + grid.tile / 2, shape) / shape
        where["where"] = "nearly everywhere" if 3 * len(members) >= 2 * len(restored.index) else in_words(*centre)
        regions.append(
            RescanRegion(
                **where,
                tiles=len(members),
                capped=int(capped[members].sum()),
                steps=round(float(steps[members].mean())),
            )
        )
    return tuple(sorted(regions, key=lambda region: (-region.tiles, region.y, region.x)))


def case_flags(
    restored: RestoredSlide,
    before: ClassifiedSlide,
    after: ClassifiedSlide,
    regions: tuple[RescanRegion, ...],
    seen: Overview,
) -> tuple[str, ...]:
    """What a reader must know before trusting the result."""
    flags = []
    if not seen.mask.cells.any():
        flags.append("no-tissue: nothing on the slide gives a signal")
    elif seen.mask.fraction < LITTLE_TISSUE:
        flags.append(f"little-tissue: {seen.mask.fraction:.1%} of the slide was taken for tissue, the rest for empty glass")
    flags += [f"{name}: {said}" for name, said in _channel_flags(seen.picture)]
    if min(restored.slide.shape) < after.patches.edge:
        flags.append(f"small: the slide is smaller than the {after.patches.edge} pixels that the classifier looks at")
    if before.diagnosis.diagnosis != after.diagnosis.diagnosis:
        flags.append(
            f"diagnosis-changed: {before.diagnosis.diagnosis} as scanned, {after.diagnosis.diagnosis} after restoration"
        )
    if capped := restored.counts.capped:
        flags.append(f"capped: {capped} of {len(restored.index)} tiles are worse than what the restorer was trained for")
    if unknown := sum("no-estimate" in said for said in restored.flags):
        flags.append(f"no-estimate: the noise estimator had no answer for {unknown} of {len(restored.index)} tiles")
    if regions:
        flags.append(f"rescan: {len(regions)} {'region' if len(regions) == 1 else 'regions'} of poor image quality")
    return tuple(flags)


def promised_for(policy: GuardPolicy, restorer: Restorer) -> bool:
    """Whether the guards' promise was calibrated on what this restorer makes: RSCD with the settings that it had then.

    Bundles that do not state them were calibrated with the defaults of RSCD and no exposure.
    """
    from srh_clinic.rscd.restoration import RSCDSettings

    stated = policy.calibration.get("settings")
    settings = RSCDSettings(exposure=None).model_dump() if stated is None else json.loads(str(stated))
    ours = {name: value for name, value in restorer.settings.items() if name != "batch_size"}
    return restorer.name == "rscd" and ours == {name: value for name, value in settings.items() if name != "batch_size"}


def trust_flags(scrutiny: Scrutiny, withheld: int, restored: int, promised: bool = True) -> Iterator[str]:
    """What the guards have to say in the result's flags; ``promised`` is what :func:`promised_for` says."""
    if scrutiny.threshold is None:
        if restored:
            yield "unexamined: the bundle states no thresholds for its guards, so nobody looked for what was invented"
        return
    if places := len(scrutiny.regions):
        yield f"differs: restored image differs from its input at {places} {'place' if places == 1 else 'places'}, see trust"
    if withheld:
        yield f"withheld: {withheld} flagged {'tile shows' if withheld == 1 else 'tiles show'} the original"
    if not promised and restored:
        yield "beyond-calibration: the guards' promise was calibrated on what rscd makes with its defaults, not on this"
    if scrutiny.outside:
        of = f"{scrutiny.outside} of {len(scrutiny.index)} tiles"
        yield f"beyond-calibration: {of} asked for more or fewer steps than the guards' promise was calibrated on"


def policy_flags(
    selective: SelectivePolicy | None, decision: Decision | None, bundle: Bundle, restorer: Restorer
) -> Iterator[str]:
    """What a selective policy decided against the restored image, and whether it was calibrated for what made that."""
    if selective is None or decision is None:
        return
    if decision.use == "original":
        yield f"policy: the original's diagnosis stands, {decision.said}, not that of the restored image; {decision.why}"
    elif decision.use == "nondiagnostic":
        yield f"policy: the case is called non-diagnostic; {decision.why}"
    stated = selective.calibration.get("weights_sha256")
    if stated is None:
        yield "policy-of-other-weights: the policy does not say which weights it was calibrated with"
    elif stated != bundle.weights_sha256:
        yield f"policy-of-other-weights: the policy was calibrated with {str(stated)[:12]}, not {bundle.weights_sha256[:12]}"
    if (name := selective.calibration.get("restorer", restorer.name)) != restorer.name:
        yield f"policy-of-other-restorer: the policy was calibrated on what {name} makes, not {restorer.name}"


def _channel_flags(picture: Counts) -> Iterator[tuple[str, str]]:
    """A channel in which nothing was measured, which a classifier would take for tissue of a strange kind."""
    if not picture.any():
        return
    for name, channel in zip(("CH2 (2845 cm-1)", "CH3 (2930 cm-1)"), picture, strict=True):
        if channel.min() == channel.max():
            yield "dead-channel", f"{name} is {int(channel.min())} everywhere"
    if picture.shape[1] * picture.shape[2] > 1 and np.array_equal(picture[0], picture[1]):
        yield "same-channels", "CH2 and CH3 are the same image"


def _share(mask: TissueMask, slide: Slide, y: int, x: int, edge: int) -> float:
    return mask.within(y, x, min(edge, slide.shape[0] - y), min(edge, slide.shape[1] - x))


def _open_store(
    slide: Slide, seen: Overview, restorer: Restorer, bundle: Bundle, seed: int, grid: TileGrid, work: str | Path | None
) -> TileStore:
    """The tiles of this very run: a folder of ``work`` that is named after everything they depend on."""
    depends_on = {
        "source": slide.identity.source,
        "um_per_px": slide.um_per_px,
        "picture": hashlib.sha256(seen.picture.tobytes()).hexdigest(),
        "restorer": restorer.name,
        "settings": dict(restorer.settings),
        "weights_sha256": bundle.weights_sha256,
        "seed": seed,
    }
    fingerprint = hashlib.sha256(json.dumps(depends_on, sort_keys=True, default=str).encode()).hexdigest()
    root = Path(tempfile.mkdtemp(prefix="srh-clinic-")) if work is None else Path(work)
    return TileStore(root / f"tiles-{fingerprint[:16]}", grid, fingerprint)


def _discard(store: TileStore) -> None:
    """Remove a store, and the folder around it when nothing else is in it."""
    store.close()
    shutil.rmtree(store.path, ignore_errors=True)
    if store.path.parent.is_dir() and not any(store.path.parent.iterdir()):
        store.path.parent.rmdir()


def _rounded(values: Mapping[str, float], digits: int = 6) -> dict[str, float]:
    return {name: round(float(value), digits) for name, value in values.items()}
