"""A case's result as a structured report: Comprehensive 3D SR (PS3.3 A.35.13), a measurement report (PS3.16 TID 1500)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    ImageRegion3D,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from srh_clinic import __version__
from srh_clinic.diagnosis import CLASSES
from srh_clinic.integration.evidence import PROCEDURE, specimen_context
from srh_clinic.integration.results.annotations import boxes_of
from srh_clinic.integration.results.content import Marked, Said
from srh_clinic.integration.results.study import ResultStudy
from srh_clinic.integration.results.vocabulary import (
    AI,
    AS_RESTORED,
    AS_SCANNED,
    CHANNEL_ORDER,
    CLASS_CODES,
    CLASS_PROBABILITY,
    COMMENT,
    DEVICE,
    DIAGNOSTIC_QUALITY,
    DOUBT,
    IMAGE_QUALITY,
    LIMITED_QUALITY,
    LIMITS,
    MEAN,
    NO_UNITS,
    NOTE,
    POLICY,
    QUALITY_NUMBERS,
    REGION_CODES,
    STATE,
    SUPPORT,
    TRUST,
    WARNING,
)
from srh_clinic.integration.targets import MANUFACTURER

REGIONS_TOLD = 60
"""Flagged regions, and those worth rescanning, that the report has as regions of its own; the bulk annotations have all."""


def case_report(study: ResultStudy, others: Sequence[Dataset]) -> Dataset:
    """The report, complete and unverified.

    Two groups have the whole field as their region: what the classifier says of the slide as scanned, and after restoration,
    with probabilities, image quality, doubts, warnings, notes and the limits of use; then one group for each flagged region
    and each that is worth rescanning. A region is a polygon in the slide coordinate system, mm.

    Parameters
    ----------
    others
        The further result objects, which the report names as its evidence.
    """
    findings = study.findings
    height, width = findings.scan.shape
    field = np.array([[0.0, 0.0, height, width]])
    before = _slide_group(study, "as-scanned", findings.before, AS_SCANNED, field)
    after = _slide_group(study, "after-restoration", findings.after, AS_RESTORED, field)
    _say(after, _texts(study))
    images = study.images
    document = Comprehensive3DSR(
        evidence=[*images, *others],
        content=MeasurementReport(
            observation_context=ObservationContext(
                observer_device_context=_observer(study), subject_context=specimen_context(study.image)
            ),
            procedure_reported=PROCEDURE,
            imaging_measurements=[after, before, *_region_groups(study)],
            referenced_images=images,
        ),
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_verified=False,
        **study.instance("report"),
        **study.series("report"),
    )
    return study.finish(document)


def _observer(study: ResultStudy) -> ObserverContext:
    return ObserverContext(
        CodedConcept.from_code(DEVICE),
        DeviceObserverIdentifyingAttributes(
            uid=study.instance("device")["sop_instance_uid"],
            name="srh-clinic",
            manufacturer_name=MANUFACTURER,
            model_name=f"srh-clinic {__version__}",
        ),
    )


def _algorithm(study: ResultStudy) -> AlgorithmIdentification:
    made_by = study.findings.provenance
    settings = json.dumps(made_by["settings"], sort_keys=True, default=str)
    parameters = [
        f"bundle={made_by['bundle']}",
        f"weights_sha256={made_by['weights_sha256']}",
        f"seed={made_by['seed']}",
        f"settings={settings}",
    ]
    return AlgorithmIdentification("srh-clinic", __version__, parameters, family=CodedConcept.from_code(AI))


def _slide_group(
    study: ResultStudy, name: str, said: Said, state: Code, field: np.ndarray
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """What the classifier says of a slide."""
    values: list[tuple[Code, float, Code | None]] = [
        (CLASS_PROBABILITY[each], said.probabilities[each], MEAN) for each in CLASSES
    ]
    values.append((SUPPORT, said.support, MEAN))
    if state is AS_RESTORED:
        values += [(QUALITY_NUMBERS[key], number, None) for key, number in study.findings.quality_numbers.items()]
    quality = LIMITED_QUALITY if study.findings.rescan else DIAGNOSTIC_QUALITY
    if said.diagnosis == "nondiagnostic":
        quality = CLASS_CODES["nondiagnostic"]
    evaluated = [QualitativeEvaluation(STATE, state), QualitativeEvaluation(IMAGE_QUALITY, quality)]
    if state is AS_RESTORED and study.findings.decided is not None:
        evaluated.append(QualitativeEvaluation(POLICY, CLASS_CODES[study.findings.decided]))
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(study, name),
        referenced_region=_polygon(study, field),
        finding_type=CLASS_CODES[said.diagnosis],
        algorithm_id=_algorithm(study),
        measurements=[
            Measurement(name=concept, value=round(float(value), 6), unit=NO_UNITS, derivation=derivation)
            for concept, value, derivation in values
        ],
        qualitative_evaluations=evaluated,
    )


def _region_groups(study: ResultStudy) -> Iterator[PlanarROIMeasurementsAndQualitativeEvaluations]:
    findings = study.findings
    told = [*findings.rescan[:REGIONS_TOLD], *findings.flagged[:REGIONS_TOLD]]
    for number, marked in enumerate(told, start=1):
        group = PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(study, f"region-{number}"),
            referenced_region=_polygon(study, boxes_of([marked])),
            finding_type=REGION_CODES[marked.kind],
            measurements=_strength(marked),
        )
        _say(group, [(COMMENT, f"{marked.region.where}: {marked.words}")])
        yield group


def _strength(marked: Marked) -> list[Measurement] | None:
    return None if marked.strength is None else [Measurement(name=TRUST, value=float(marked.strength), unit=NO_UNITS)]


def _texts(study: ResultStudy) -> Iterator[tuple[Code, str]]:
    """Everything that a reader must know before trusting the result, in sentences."""
    findings = study.findings
    yield LIMITS, f"{findings.notice} This report was made by a program and nobody has verified it."
    yield COMMENT, findings.quality
    if findings.decision:
        yield POLICY, findings.decision
    for concept, sentences in ((DOUBT, findings.doubts), (WARNING, findings.warnings), (NOTE, findings.notes)):
        for sentence in sentences:
            yield concept, sentence
    if findings.channel_order:
        yield CHANNEL_ORDER, findings.channel_order
    for regions, which in ((findings.rescan, "regions worth rescanning"), (findings.flagged, "flagged regions")):
        if (left_out := len(regions) - REGIONS_TOLD) > 0:
            yield COMMENT, f"{left_out} further {which} stand in the bulk annotations."


def _say(group: PlanarROIMeasurementsAndQualitativeEvaluations, texts: Iterable[tuple[Code, str]]) -> None:
    for concept, sentence in texts:
        group[0].ContentSequence.append(TextContentItem(concept, sentence, "CONTAINS"))


def _polygon(study: ResultStudy, box: np.ndarray) -> ImageRegion3D:
    (corners,) = study.plane.corners_mm(box)
    return ImageRegion3D("POLYGON", np.concatenate([corners, corners[:1]]), str(study.image.FrameOfReferenceUID))


def _tracking(study: ResultStudy, name: str) -> TrackingIdentifier:
    return TrackingIdentifier(study.instance(f"tracking {name}")["sop_instance_uid"], name)
