"""Patches and regions of a case as Microscopy Bulk Simple Annotations (PS3.3 A.87)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from highdicom.ann import AnnotationGroup, Measurements, MicroscopyBulkSimpleAnnotations
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from srh_clinic.diagnosis import CLASS_WORDS, CLASSES
from srh_clinic.integration.results.content import Marked
from srh_clinic.integration.results.study import ResultStudy
from srh_clinic.integration.results.vocabulary import (
    CLASS_CODES,
    CLASS_PROBABILITY,
    COLOURS,
    MORPHOLOGY,
    NO_UNITS,
    REGION_CODES,
    TRUST,
)

SPECIMEN = (
    "ContainerIdentifier",
    "IssuerOfTheContainerIdentifierSequence",
    "ContainerTypeCodeSequence",
    "ContainerComponentSequence",
    "SpecimenDescriptionSequence",
)
"""Attributes of the Specimen module that an image's header may hold."""


def bulk_annotations(study: ResultStudy) -> Dataset | None:
    """A group of patches for each class, one of regions for each kind; None where there is neither.

    Coordinates are pixels of the restored slide, which are those of the scan, from the upper left corner of the first one.
    """
    groups = [
        AnnotationGroup(
            number=number,
            annotated_property_category=MORPHOLOGY,
            graphic_type="POLYGON",  # wsidicom 0.36 opens no folder with an annotation of RECTANGLE
            algorithm_type="AUTOMATIC",
            **group,
        )
        for number, group in enumerate([*_patches(study), *_regions(study)], start=1)
    ]
    if not groups:
        return None
    document = MicroscopyBulkSimpleAnnotations(
        [study.image],
        "2D",
        groups,
        content_label="PATCHES",
        content_description="Classified patches, flagged regions and those worth rescanning",
        **study.instance("annotations"),
        **study.series("annotations"),
        **study.equipment,
    )
    # highdicom repeats the specimen of the image, which is no part of this object (PS3.3 A.87).
    for keyword in SPECIMEN:
        if keyword in document:
            del document[keyword]
    document.Laterality = ""  # unknown; required of a series that names neither a body part nor a specimen
    return study.finish(document)


def _patches(study: ResultStudy) -> Iterator[dict[str, object]]:
    findings = study.findings
    boxes = findings.classes_after.boxes(findings.scan.shape)
    probabilities = np.asarray(findings.classes_after.squares.values, dtype=np.float32)
    most = probabilities.argmax(axis=1) if len(probabilities) else np.empty(0, dtype=np.int64)
    for which, name in enumerate(CLASSES):
        of_class = most == which
        if not of_class.any():
            continue
        yield {
            "uid": study.instance(f"patches {name}")["sop_instance_uid"],
            "label": f"Patches: {CLASS_WORDS[name]}",
            "description": f"Patches of which the classifier says {CLASS_WORDS[name]}, after restoration",
            "annotated_property_type": CLASS_CODES[name],
            "graphic_data": _polygons(boxes[of_class]),
            "algorithm_identification": study.algorithm("srh-clinic classifier"),
            "measurements": [
                Measurements(CLASS_PROBABILITY[each], probabilities[of_class, i], NO_UNITS) for i, each in enumerate(CLASSES)
            ],
            "display_color": COLOURS[name],
        }


def _regions(study: ResultStudy) -> Iterator[dict[str, object]]:
    findings = study.findings
    by_kind: dict[str, list[Marked]] = {}
    for marked in (*findings.flagged, *findings.rescan):
        by_kind.setdefault(marked.kind, []).append(marked)
    for kind, regions in by_kind.items():
        strengths = [marked.strength for marked in regions if marked.strength is not None]
        yield {
            "uid": study.instance(f"regions {kind}")["sop_instance_uid"],
            "label": REGION_CODES[kind].meaning,
            "description": words_of_kind(regions),
            "annotated_property_type": REGION_CODES[kind],
            "graphic_data": _polygons(boxes_of(regions)),
            "algorithm_identification": study.algorithm("srh-clinic guards"),
            "measurements": [Measurements(TRUST, np.array(strengths, dtype=np.float32), NO_UNITS)] if strengths else None,
            "display_color": COLOURS["rescan" if kind == "rescan" else "flagged"],
        }


def words_of_kind(regions: Sequence[Marked]) -> str:
    """What is said of all regions of a kind: their words where these are one and the same, else what the kind is."""
    words = {marked.words for marked in regions}
    return words.pop() if len(words) == 1 else REGION_CODES[regions[0].kind].meaning


def boxes_of(regions: Sequence[Marked]) -> NDArray[np.float64]:
    """Top, left, bottom and right of regions in pixels of the scan, float64 ``(N, 4)``."""
    edges = [
        (one.region.y, one.region.x, one.region.y + one.region.height, one.region.x + one.region.width) for one in regions
    ]
    return np.array(edges, dtype=np.float64).reshape(-1, 4)


def _polygons(boxes: NDArray[np.float64]) -> list[NDArray[np.float32]]:
    return [
        np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float32)
        for top, left, bottom, right in boxes
    ]
