"""What came of a case: the numbers, the pictures, and the restored slide."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srh_clinic.case.flags import DOUBTS, NOTES, code_of
from srh_clinic.case.pictures import Box, CaseMaps, draw_case
from srh_clinic.case.provenance import made_now
from srh_clinic.case.record import (
    RESULT,
    CaseOrigin,
    CaseRecord,
    CertaintyRecord,
    ClassProbabilities,
    DecisionRecord,
    Made,
    Provenance,
    RescanRegion,
    SaidOfSlide,
    ScannedSlide,
    StepSummary,
    TileCounts,
    Timing,
    TrustRecord,
    read_result,
)
from srh_clinic.case.repeating import Certainty
from srh_clinic.case.restoring import RestoredSlide
from srh_clinic.case.scrutiny import Scrutiny
from srh_clinic.diagnosis import CLASS_WORDS, CLASSES, Diagnosis
from srh_clinic.display import colour_window
from srh_clinic.errors import InputError
from srh_clinic.escaping import terminal_text
from srh_clinic.files import whole_files
from srh_clinic.notebook import card, coloured
from srh_clinic.regions import Region

if TYPE_CHECKING:
    from srh_clinic.classifiers import SlideDiagnosis
    from srh_clinic.trust import CaseProfile, Decision


PAGE = "case.html"
"""What the case page is called in a result's folder."""

QUPATH = ("qupath.geojson", "patches.csv", "qupath.groovy")
"""What QuPath and tables are given: patches and regions, the patches as a table, and a script that loads the first."""

FHIR = "fhir.json"
"""What the result as FHIR R5 is called."""

OPTIONAL = (PAGE, *QUPATH, FHIR)
"""Files that a result has when they are asked for."""

OURS = (
    RESULT,
    *OPTIONAL,
    *(f"{name}.png" for name in ("before", "after", "before_he", "after_he", "step_map", "trust_map", "class_map", "summary")),
)
"""Every file that a result may have in its folder."""


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
        Sentences that begin with a code and a colon: whatever a reader must know before trusting the result. Each is one of
        the ``notes``, ``warnings`` or ``doubts``.
    timing
        Seconds, and tiles a second.
    provenance
        Version, bundle, sha256 of the weights, seed and settings: enough to compute the result again.
    origin, made
        Whose the result is; when and with what it was computed.
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
    policy_from
        Where the policy that made the ``decision`` comes from.
    """

    diagnosis: Diagnosis
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
    origin: CaseOrigin
    made: Made
    slide: dict[str, Any]
    maps: CaseMaps = field(repr=False, compare=False)
    restored: RestoredSlide = field(repr=False, compare=False)
    decision: Decision | None = None
    profile: CaseProfile | None = field(default=None, repr=False, compare=False)
    policy_from: str = "the caller's"

    @property
    def notes(self) -> tuple[str, ...]:
        """Flags that say how the image was read and treated."""
        return tuple(flag for flag in self.flags if code_of(flag) in NOTES)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Flags that say that the image, or what was computed of it, may not be what it seems."""
        return tuple(flag for flag in self.flags if code_of(flag) not in NOTES | DOUBTS)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Flags that speak against the diagnosis, which is doubtful when there is one."""
        return tuple(flag for flag in self.flags if code_of(flag) in DOUBTS)

    @property
    def record(self) -> CaseRecord:
        """The result as ``result.json`` holds it."""
        return CaseRecord(
            diagnosis=self.diagnosis,
            probabilities=_probabilities(self.probabilities),
            support=round(self.support, 6),
            case=self.origin,
            before=SaidOfSlide(
                diagnosis=self.before.diagnosis,
                probabilities=_probabilities(self.before.probabilities),
                support=round(self.before.support, 6),
            ),
            decision=None if self.decision is None else _decision(self.decision, self.policy_from),
            tiles=self.tiles,
            steps=self.steps,
            rescan=self.rescan,
            trust=TrustRecord(
                calibrated=self.scrutiny.threshold is not None,
                miss_rate=self.scrutiny.alpha,
                examined=len(self.scrutiny.index),
                flagged=len(self.scrutiny.failed),
                withheld=self.withheld,
                outside_calibration=self.scrutiny.outside,
                regions=self.scrutiny.regions,
            ),
            certainty=None if self.certainty is None else _certainty(self.certainty),
            flags=self.flags,
            notes=self.notes,
            warnings=self.warnings,
            doubts=self.doubts,
            slide=ScannedSlide(**self.slide),
            timing=Timing(**_rounded(self.timing, 3)),
            provenance=Provenance(**self.provenance),
            made=self.made,
        )

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON holds it; ``schemas/result.schema.json`` in the package describes it."""
        return self.record.model_dump(mode="json")

    def save(self, out: str | Path, also: Callable[[Path], object] | None = None) -> Path:
        """Write ``result.json`` and the pictures into the folder ``out``, all of them or none, and return the folder.

        Files of an earlier result there that this one does not have, such as its case page, are removed. ``result.json`` is
        the last to come: where it stands, everything is of one result, also after a cut.

        Parameters
        ----------
        also
            Writes further files of :data:`OURS` into the folder that it is given.

        Raises
        ------
        InputError
            When another run writes into ``out`` now.
        OSError
            When ``out`` cannot be written; then nothing of it is left behind.
        """
        with whole_files(Path(out), RESULT, OURS) as draft:
            draw_case(self.maps, self._boxes(self.rescan), self._boxes(self.scrutiny.regions), self._headline(), draft)
            (draft / RESULT).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
            if also is not None:
                also(draft)
        return Path(out)

    def __str__(self) -> str:
        """The result in a few lines of a terminal: diagnoses, tiles, what it may be used for, and every flag."""
        return "\n".join(map(terminal_text, (*self._headline(), *self.doubts, *self.warnings, *self.notes)))

    def _repr_html_(self) -> str:
        """What a notebook shows: the pictures before and after, the numbers, and every doubt above them."""
        maps, before = self.maps, self.before
        window = colour_window(maps.before, maps.after)
        pictures = [coloured(maps.before, window, "as scanned"), coloured(maps.after, window, "restored")]
        rows = [
            (CLASS_WORDS[name], f"{before.probabilities[name]:.3f}", f"{self.probabilities[name]:.3f}") for name in CLASSES
        ]
        rows.append(("support of the diagnosis", f"{before.support:.3f}", f"{self.support:.3f}"))
        policy = f"; by the policy: {CLASS_WORDS[self.decision.said]}" if self.decision is not None else ""
        said = f"{CLASS_WORDS[before.diagnosis]} as scanned, {CLASS_WORDS[self.diagnosis]} after restoration{policy}"
        return card(
            said[0].upper() + said[1:] + (" (doubtful)" if self.doubts else ""),
            pictures=pictures,
            heads=("Probability", "as scanned", "restored"),
            rows=rows,
            doubtful="The diagnosis is doubtful",
            doubts=self.doubts,
            lines=(self._tiles_in_words(), self._guards_in_words(), *self.warnings),
            notice=f"{self.provenance['bundle']}: {self.provenance['notice'][0].lower()}{self.provenance['notice'][1:]}",
        )

    def _tiles_in_words(self) -> str:
        counts = self.tiles
        return f"{counts.restored} of {counts.total} tiles restored, {counts.skipped} left alone, {counts.capped} capped."

    def _guards_in_words(self) -> str:
        if self.scrutiny.threshold is None:
            return "The guards examined nothing: no thresholds for these weights and guards."
        return f"The guards flag {len(self.scrutiny.failed)} of {len(self.scrutiny.index)} tiles that they examined."

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
        by_policy = f"      By the policy: {self.decision.said}" if self.decision is not None else ""
        return (
            f"As scanned: {before}      After restoration: {after}{by_policy}",
            self._tiles_in_words(),
            self.provenance["notice"],
        )


def result_before(
    out: str | Path, made_by: Mapping[str, Any], origin: CaseOrigin, um_per_px: float, *, more: Collection[str] = ()
) -> CaseRecord | None:
    """The result that the same call has written into ``out``, whole; None when there is none.

    Parameters
    ----------
    made_by
        :attr:`CaseResult.provenance` of what would be computed.
    origin
        Whose it would be.
    um_per_px
        Pixel size as scanned.
    more
        Files of :data:`OPTIONAL` that belong to it.
    """
    folder = Path(out)
    if not (folder / RESULT).is_file():
        return None
    try:
        before = read_result(folder)
    except InputError:
        return None
    same = (before.provenance, before.case, before.slide.um_per_px, before.made) == (
        Provenance(**json.loads(json.dumps(made_by))),
        origin,
        um_per_px,
        made_now().model_copy(update={"at": before.made.at}),
    )
    there = {name for name in OURS if (folder / name).is_file()}
    return before if same and there == set(OURS) - (set(OPTIONAL) - set(more)) else None


def _probabilities(by_class: Mapping[str, float]) -> ClassProbabilities:
    return ClassProbabilities(**_rounded(by_class))


def _decision(decision: Decision, policy: str) -> DecisionRecord:
    said = {"use": decision.use, "diagnosis": decision.said, "why": decision.why, "policy": policy}
    return DecisionRecord.model_validate(said)


def _certainty(certainty: Certainty) -> CertaintyRecord:
    deviation = certainty.deviation if len(certainty.deviation) else np.zeros(1)
    return CertaintyRecord(
        seeds=certainty.seeds,
        deviation_median=round(float(np.median(deviation)), 6),
        deviation_largest=round(float(deviation.max()), 6),
        nuclei=certainty.nuclei,
    )


def _rounded(values: Mapping[str, float], digits: int = 6) -> dict[str, float]:
    return {name: round(float(value), digits) for name, value in values.items()}
