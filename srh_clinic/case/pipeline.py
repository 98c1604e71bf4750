"""Restore a case, classify it before and after, and say what came of it.

::

    slide -> pixel size of the networks -> thumbnail -> tissue mask -> patches as scanned -> classifier
          -> tiles -> restorer -> tiles on disk -> mosaic
          -> guards: what the input does not support -> restored patches -> classifier
          -> diagnosis, step map, trust map, regions worth rescanning and regions to look at, flags

Memory does not grow with the slide: tiles and patches stream, restored tiles wait on disk, pictures are thumbnails.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srh_clinic.case.arrays import as_paths, slide_of
from srh_clinic.case.classifying import ClassifiedSlide, classify_slide, profile_case
from srh_clinic.case.flags import case_flags, doubt_flags, policy_flags, promised_for, trust_flags
from srh_clinic.case.pictures import CaseMaps, SquareMap
from srh_clinic.case.preview import Preview
from srh_clinic.case.provenance import drift_made_with, guard_policy_of, made_now, origin_of, provenance, selective_policy_of
from srh_clinic.case.record import CaseOrigin, RescanRegion
from srh_clinic.case.repeating import Certainty, KeepingRestorer, repeat, seeded_restorer
from srh_clinic.case.restoring import (
    THUMBNAIL_EDGE,
    Overview,
    RestoredSlide,
    at_pixel_size,
    look_over,
    overlap_of,
    rescan_regions,
    restore_slide,
)
from srh_clinic.case.result import CaseResult
from srh_clinic.case.scrutiny import Scrutiny, scrutinise, unexamined
from srh_clinic.engine import give_back_memory
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint
from srh_clinic.guards.channels import channel_flags, look_at_channels
from srh_clinic.inference import network_seconds
from srh_clinic.intensity import Counts
from srh_clinic.progress import Progress, silent
from srh_clinic.resampling import thumbnail
from srh_clinic.slide import Slide, require_unchanged, sparing
from srh_clinic.tiling import TileGrid, TileStore
from srh_clinic.tissue import TissueMask

if TYPE_CHECKING:
    from srh_clinic.bundles import Bundle
    from srh_clinic.classifiers import PatchClassifier
    from srh_clinic.restorers import Restorer
    from srh_clinic.rscd.restoration import Calibrator
    from srh_clinic.trust import CaseProfile, Decision, DriftReference, GuardPolicy, SelectivePolicy


@dataclass(frozen=True, eq=False)
class _Findings:
    """Everything that was seen on the way from a slide to its result.

    ``view`` is the slide at the networks' pixel size, ``restored`` what is shown of it and ``picture`` its thumbnail;
    ``others`` are the restorations under further seeds, classified, ``withheld`` the tiles that show the original, and
    ``reading`` the flags of the slide itself.
    """

    reading: tuple[str, ...]
    view: Slide
    seen: Overview
    restored: RestoredSlide
    picture: Counts
    scrutiny: Scrutiny
    withheld: NDArray[np.int64]
    certainty: Certainty | None
    before: ClassifiedSlide
    after: ClassifiedSlide
    others: tuple[ClassifiedSlide, ...]
    profile: CaseProfile | None

    @property
    def maps(self) -> CaseMaps:
        """What the pictures are drawn from."""
        grid, certainty = self.restored.grid, self.certainty
        strengths = self.scrutiny.strengths.astype(np.float32)
        return CaseMaps(
            before=self.seen.picture,
            after=self.picture,
            factor=self.seen.factor,
            um_per_px=self.view.um_per_px,
            steps=self.restored.step_map,
            trust=SquareMap(grid.positions[self.scrutiny.index], grid.tile, strengths),
            deviation=None if certainty is None else SquareMap(certainty.positions, certainty.edge, certainty.deviation),
            classes_before=self.before.patches,
            classes_after=self.after.patches,
        )

    def timing(self, total: float, in_networks: float) -> dict[str, float]:
        """Seconds by stage, and tiles a second."""
        restored, classified = self.restored, (self.before, self.after, *self.others)
        return {
            "total_s": total,
            "restoring_s": restored.seconds,
            "examining_s": self.scrutiny.seconds,
            "classifying_s": sum(one.seconds for one in classified),
            "networks_s": in_networks,
            "outside_networks_s": total - in_networks,
            "tiles_per_s": restored.computed / restored.seconds if restored.computed else 0.0,
        }


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
    guard_policy
        When a restored tile is flagged; None when the bundle states no thresholds, and nothing is examined.
    calibrator
        Says how many steps a restored tile still asks for; see :func:`~srh_clinic.guards.steps_left`.
    conservative
        Show the original where a tile is flagged, and diagnose without these places.
    repeated
        Restores each tile again under other seeds; None when nobody asks how far seeds agree.
    seeds
        How many others.
    selective_policy
        Decides whose diagnosis stands; None when nobody asks.
    profiled
        Take what a validation compares cases by (:attr:`CaseResult.profile`): another pass of the classifier.
    reference
        Cases of a validation, which a slide is compared with; None when nobody asks.
    policy_from
        Where ``selective_policy`` comes from, in words.
    policy_unused
        A flag that says why the policy that the bundle carries does not decide; empty when there is nothing to say.

    Raises
    ------
    InputError
        When ``selective_policy`` cannot decide slides, or asks for agreement and ``repeated`` is None; when ``reference`` is
        of other weights or another restorer.
    """

    bundle: Bundle
    restorer: Restorer
    classifier: PatchClassifier
    seed: int = 0
    guard_policy: GuardPolicy | None = None
    calibrator: Calibrator | None = None
    conservative: bool = False
    repeated: Restorer | None = None
    seeds: int = 0
    selective_policy: SelectivePolicy | None = None
    profiled: bool = False
    reference: DriftReference | None = None
    policy_from: str = "the caller's"
    policy_unused: str = ""

    def __post_init__(self) -> None:
        _require_decidable(self.selective_policy, self.seeds if self.repeated is not None else 0)
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
        selective_policy: SelectivePolicy | Literal["bundle"] | None = None,
        profiled: bool = False,
        reference: DriftReference | None = None,
        policy_from: str = "the caller's",
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
        selective_policy
            Decides whether the restored diagnosis is used, the original kept, or the case called non-diagnostic; see
            :func:`srh_clinic.trust.load_policy`. ``"bundle"`` is the one that the bundle carries, where it was made with these
            weights and this restorer.
        profiled, reference, policy_from
            See :class:`RestoreThenClassify` and :func:`srh_clinic.trust.load_reference`.
        settings
            Of the restorer, for example ``sampler="ancestral"``.

        Raises
        ------
        InputError
            When the bundle is unknown or damaged, or a restorer or setting is unknown; when ``conservative`` is asked of a
            bundle that states no thresholds, or ``certainty`` of a restorer that draws no samples; when
            ``selective_policy`` asks for agreement without ``certainty``, or was calibrated on patches; when ``reference`` is
            of other weights or another restorer.
        """
        from srh_clinic.bundles import load_bundle
        from srh_clinic.classifiers import load_classifier
        from srh_clinic.inference import choose_device
        from srh_clinic.restorers import create_restorer
        from srh_clinic.restorers.diffusion import load_calibrator

        loaded, unused = load_bundle(bundle), ""
        if selective_policy == "bundle":
            selective_policy, unused = _policy_of_bundle(loaded, restorer, certainty)
            policy_from = f"the policy that the bundle {loaded.name} carries; --policy none leaves it out"
        _require_decidable(selective_policy, certainty)
        guard_policy = guard_policy_of(loaded)
        if conservative and guard_policy is None:
            needed = "a bundle whose guards were calibrated for its weights (srh-clinic bundle calibrate)"
            raise InputError("a bundle without thresholds for its guards", needed, loaded.path)
        where = choose_device(device)
        return cls(
            bundle=loaded,
            restorer=create_restorer(restorer, bundle=bundle, device=device, **settings),
            classifier=load_classifier(loaded, where),
            seed=seed,
            guard_policy=guard_policy,
            calibrator=load_calibrator(loaded, where) if "calibrator" in loaded.parts else None,
            conservative=conservative,
            repeated=seeded_restorer(restorer, bundle, device, settings) if certainty else None,
            seeds=certainty,
            selective_policy=selective_policy,
            profiled=profiled,
            reference=reference,
            policy_from=policy_from,
            policy_unused=unused,
        )

    def __call__(
        self,
        slide: Slide | str | Path | Sequence[str | Path] | ArrayLike,
        *,
        work: str | Path | None = None,
        progress: Progress | None = None,
        origin: CaseOrigin | None = None,
        preview: Preview | None = None,
    ) -> CaseResult:
        """Restore and classify a slide.

        Parameters
        ----------
        slide
            Of any size and pixel size; or the file or folder of one, or the two files of its channels, as
            :func:`srh_clinic.integration.read_slide` takes them; or an image that
            :class:`~srh_clinic.transforms.LoadSRH` has read, whatever MONAI has resampled it to since.
        work
            Folder for the restored tiles: a run that was cut off goes on from what it finds there, and the tiles stay.
            Without, they lie in a temporary folder for as long as the result lives.
        progress
            Is told how far each stage is.
        origin
            Whose the slide is, where that is known already or is not to be told: what
            :func:`~srh_clinic.case.provenance.origin_of` says of it.
        preview
            Is told the diagnosis as scanned, and the tiles as they are restored: then the worst come first, by the bundle's
            calibrator. The result is the same to the bit.

        Raises
        ------
        InputError
            When the slide is something else (a plain array says no pixel size), cannot be read, or ``work`` cannot be written.
        """
        began = time.perf_counter()
        slide = _as_slide(slide)
        with network_seconds() as in_networks:
            found = self._find(slide, work, progress or silent, preview)
        regions = rescan_regions(found.restored, slide)
        require_unchanged(slide)
        decision = self._decide(found)
        give_back_memory()
        total = time.perf_counter() - began
        after = found.after.diagnosis
        return CaseResult(
            diagnosis=after.diagnosis,
            probabilities=dict(after.probabilities),
            support=after.support,
            before=found.before.diagnosis,
            tiles=found.restored.counts,
            steps=found.restored.steps,
            rescan=regions,
            scrutiny=found.scrutiny,
            withheld=len(found.withheld),
            certainty=found.certainty,
            flags=self._flags(found, regions, decision),
            timing=found.timing(total, in_networks()),
            provenance=self.made_by,
            origin=origin or origin_of(slide),
            made=made_now(),
            slide={
                "height": slide.shape[0],
                "width": slide.shape[1],
                "um_per_px": slide.um_per_px,
                "channel_order": slide.identity.channel_order,
            },
            maps=found.maps,
            restored=found.restored,
            decision=decision,
            profile=found.profile,
            policy_from=self.policy_from,
        )

    def _find(self, slide: Slide, work: str | Path | None, report: Progress, preview: Preview | None) -> _Findings:
        """Restore, examine and classify; further restorations are kept for as long as that takes."""
        with ExitStack() as room:
            slide = sparing(slide)
            view, reading = at_pixel_size(slide, self.bundle.metadata["um_per_px"])
            report("reading", 0, 1)
            seen = look_over(view)
            pair = look_at_channels(slide, seen.mask, view.um_per_px)
            reading += () if pair is None else channel_flags(pair)
            report("reading", 1, 1)
            before = classify_slide(view, seen.mask, self.classifier, partial(report, "classifying as scanned"))
            if preview is not None:
                preview.scanned(before, seen)
            restored = restore_slide(
                view,
                seen,
                self.restorer,
                self.bundle,
                seed=self.seed,
                work=work,
                progress=report,
                worst_first=None if preview is None else self.calibrator,
                told=None if preview is None else preview.restored,
            )
            give_back_memory()
            scrutiny = self._scrutinise(view, restored, slide, partial(report, "examining"))
            give_back_memory()
            keeper = self._keeper(restored.grid, work, room)
            certainty = self._repeat(view, restored, slide, keeper or self.repeated, partial(report, "repeating"))
            withheld = scrutiny.failed if self.conservative else scrutiny.failed[:0]
            if len(withheld):
                restored = restored.without(withheld)
            after, *others = self._classify(restored, seen.mask, withheld, keeper, report)
            wanted = self.profiled or self.reference is not None
            return _Findings(
                reading=reading,
                view=view,
                seen=seen,
                restored=restored,
                scrutiny=scrutiny,
                withheld=withheld,
                certainty=certainty,
                before=before,
                after=after,
                others=tuple(others),
                profile=profile_case(seen, restored, after, self.classifier) if wanted else None,
                picture=thumbnail(restored.slide, THUMBNAIL_EDGE)[0],
            )

    def _scrutinise(
        self, view: Slide, restored: RestoredSlide, scanned: Slide, progress: Callable[[int, int], None]
    ) -> Scrutiny:
        if self.guard_policy is None:
            return unexamined()
        changed = ~restored.left_alone & (self.restorer.name != "none")
        return scrutinise(
            view,
            restored.slide,
            restored.grid,
            restored.index[changed],
            restored.steps_predicted[changed],
            self.guard_policy,
            source=scanned,
            calibrator=self.calibrator,
            progress=progress,
        )

    def _keeper(self, grid: TileGrid, work: str | Path | None, room: ExitStack) -> KeepingRestorer | None:
        """Keeps further restorations in ``room``, to be classified; None where no policy asks whether they agree."""
        if self.selective_policy is None or self.selective_policy.agreement_limit is None or self.repeated is None:
            return None
        folder = Path(room.enter_context(tempfile.TemporaryDirectory(prefix="srh-clinic-seeds-", dir=work)))
        seeds = range(self.seed + 1, self.seed + self.seeds + 1)
        stores = {seed: room.enter_context(TileStore(folder / str(seed), grid, str(seed))) for seed in seeds}
        return KeepingRestorer(self.repeated, stores)

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

    def _classify(
        self,
        restored: RestoredSlide,
        mask: TissueMask,
        withheld: NDArray[np.int64],
        keeper: KeepingRestorer | None,
        report: Progress,
    ) -> list[ClassifiedSlide]:
        """The slide restored, and restored under each further seed; where tiles are withheld nothing is read."""
        grid, shown = restored.grid, restored.slide
        unread = SquareMap(grid.positions[withheld], grid.tile, np.ones(len(withheld)))
        kept = {} if keeper is None else keeper.stores
        others = {f"classifying seed {seed}": replace(shown, store=store) for seed, store in kept.items()}
        return [
            classify_slide(slide, mask, self.classifier, partial(report, stage), unread=unread)
            for stage, slide in {"classifying restored": shown, **others}.items()
        ]

    def _decide(self, found: _Findings) -> Decision | None:
        if self.selective_policy is None:
            return None
        restored, scrutiny = found.restored, found.scrutiny
        before, after, others = found.before.diagnosis, found.after.diagnosis, [one.diagnosis for one in found.others]
        loudest = float(scrutiny.strengths.max(initial=0.0)) if scrutiny.threshold is not None else None
        return self.selective_policy.decide(
            (after.diagnosis, after.support),
            (before.diagnosis, before.support),
            trust=loudest,
            steps=float(restored.steps.median) if restored.calibrated.any() else None,
            agreement=float(np.mean([one.diagnosis == after.diagnosis for one in others])) if others else None,
        )

    def _flags(self, found: _Findings, regions: tuple[RescanRegion, ...], decision: Decision | None) -> tuple[str, ...]:
        """Whatever a reader must know: of the reading, the restoration, the guards, the policy and the reference."""
        changed = found.restored.counts.restored if self.restorer.name != "none" else 0
        promised = self.guard_policy is None or promised_for(self.guard_policy, self.restorer)
        unlike: tuple[str, ...] = ()
        if self.reference is not None and found.profile is not None:
            unlike = tuple(self.reference.flags(self.reference.check(found.profile)))
        return (
            *found.reading,
            *case_flags(found.restored, found.before, found.after, regions, found.seen),
            *trust_flags(found.scrutiny, len(found.withheld), changed, promised),
            *policy_flags(self.selective_policy, decision, self.bundle, self.restorer),
            *((self.policy_unused,) if self.policy_unused else ()),
            *unlike,
            *doubt_flags(found.after, found.scrutiny),
        )

    @property
    def made_by(self) -> dict[str, Any]:
        """The provenance of everything that it computes."""
        asked: dict[str, Any] = {}
        if self.selective_policy is not None:
            asked["selective"] = self.selective_policy.model_dump(mode="json")
        if self.reference is not None:
            asked["reference"] = fingerprint(reference=self.reference.model_dump(mode="json"))
        return provenance(
            self.bundle,
            self.restorer,
            self.seed,
            tile=self.bundle.metadata["tile"],
            overlap=overlap_of(self.bundle.metadata["tile"]),
            patch=self.classifier.patch,
            recipe=self.classifier.recipe,
            conservative=self.conservative,
            certainty=self.seeds,
            **asked,
        )


def _as_slide(slide: object) -> Slide:
    """A slide as it is, or read from its file, or made of an image that says how large its pixels are."""
    if isinstance(slide, Slide):
        return slide
    paths = slide if isinstance(slide, str | Path) else as_paths(slide)
    if paths is not None:
        from srh_clinic.integration import read_slide

        return read_slide(paths)
    if isinstance(slide, list | tuple):
        one_each = "one slide; call it for each, or give the two files of its channels"
        raise InputError(f"a {type(slide).__name__} of {len(slide)}", one_each)
    if not hasattr(slide, "shape"):
        needed = "a path, read_slide(path), or ArraySlide(counts, um_per_px)"
        raise InputError(f"a {type(slide).__name__}", needed)
    return slide_of(slide)


def _policy_of_bundle(bundle: Bundle, restorer: str, seeds: int) -> tuple[SelectivePolicy | None, str]:
    """The policy that a bundle carries, where it can decide what a restorer makes; without, the flag that says why not."""
    policy = selective_policy_of(bundle)
    if policy is None or policy.calibration.get("restorer", restorer) != restorer:
        return None, ""
    if (made_with := policy.calibration.get("weights_sha256")) != bundle.weights_sha256:
        other = f"was made with {str(made_with)[:12]}, not {bundle.weights_sha256[:12]}"
        return None, f"policy-of-other-weights: the policy that the bundle carries {other}, and decides nothing"
    if policy.agreement_limit is not None and not seeds:
        asked = "asks whether further restorations agree (--certainty K)"
        return None, f"policy-unused: the policy that the bundle carries {asked}, and decides nothing"
    return policy, ""


def _require_decidable(selective_policy: SelectivePolicy | None, seeds: int) -> None:
    """Refuse a policy that could not decide a slide."""
    if selective_policy is None:
        return
    if selective_policy.agreement_limit is not None and not seeds:
        needed = "one or more further restorations (--certainty K)"
        raise InputError("a policy that needs the agreement of further restorations", needed)
    if (level := selective_policy.calibration.get("level", "slide")) != "slide":
        raise InputError(f"a policy calibrated at the level of a {level}", "one calibrated on slides")
