"""What observers said of a slide, as DICOM: a Key Object Selection and a structured report, beside the slide in its study.

Both are made from plain values and from the headers of the slide's instances; patient, study and specimen are those of the
headers, and an observer is named by an identifier alone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from highdicom import UID
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import (
    CodedConcept,
    ComprehensiveSR,
    ImageRegion,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SubjectContext,
    SubjectContextSpecimen,
    TrackingIdentifier,
)
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from srh_clinic.errors import InputError
from srh_clinic.integration.dicom_file import quiet_pydicom
from srh_clinic.integration.dicom_header import derived_uid
from srh_clinic.integration.optical_path import SCHEME
from srh_clinic.integration.targets import MANUFACTURER

FOR_RESEARCH = CodedConcept("113009", "DCM", "For Research")
"""Title of a key object selection (PS3.16 CID 7010)."""

PROCEDURE = CodedConcept("104157003", "SCT", "Light microscopy")
_PERSON = CodedConcept("121006", "DCM", "Person")
_SPECIMEN = CodedConcept("121027", "DCM", "Specimen")
_SEVERITY = CodedConcept("246112005", "SCT", "Severity")
_SEVERITIES = {"minor": CodedConcept("255606000", "SCT", "Minor"), "major": CodedConcept("255603008", "SCT", "Major")}

# No public dictionary speaks of what a restoration invents, so the rest is ours.
_RESTORATION = CodedConcept("RESTORATION", SCHEME, "Restoration method")
_HALLUCINATION = CodedConcept("HALLUCINATION", SCHEME, "Hallucination of an image restoration")
_CALLED = CodedConcept("HALL-CALLED", SCHEME, "Hallucination called")
_CALLS = {
    "none": CodedConcept("HALL-NONE", SCHEME, "No hallucination seen"),
    "possible": CodedConcept("HALL-POSSIBLE", SCHEME, "Possible hallucination"),
    "definite": CodedConcept("HALL-DEFINITE", SCHEME, "Definite hallucination"),
}
_CATEGORIES = {
    "added nucleus": CodedConcept("HALL-ADDED", SCHEME, "Added nucleus"),
    "removed nucleus": CodedConcept("HALL-REMOVED", SCHEME, "Removed nucleus"),
    "changed morphology": CodedConcept("HALL-MORPHOLOGY", SCHEME, "Changed morphology"),
    "invented texture": CodedConcept("HALL-TEXTURE", SCHEME, "Invented texture"),
    "over-smoothing": CodedConcept("HALL-SMOOTHING", SCHEME, "Over-smoothing"),
    "stripe or stitch": CodedConcept("HALL-STITCH", SCHEME, "Stripe or stitch"),
    "other": CodedConcept("HALL-OTHER", SCHEME, "Other hallucination"),
}

_SERIES = {"KO": 2001, "SR": 2002}
"""Series Numbers added to the slide's; restorations of it add 1000."""

# what every image has and a document of its study takes over or refers to
_REQUIRED = """
    PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber
    SeriesInstanceUID SOPClassUID SOPInstanceUID TotalPixelMatrixRows TotalPixelMatrixColumns
""".split()  # noqa: SIM905  a line a module reads better than a line a keyword

_MAX_IS = 2**31 - 1  # largest IS value
_MAX_LO = 64  # characters of an LO value, and of a code's meaning


@dataclass(frozen=True)
class MarkedRegion:
    """What an observer marked in the total pixel matrix.

    ``xy`` are px from its upper left corner: x and y of a point; left, top, right and bottom of a box.
    """

    shape: Literal["box", "point"]
    xy: tuple[float, ...]
    category: str
    severity: str


@dataclass(frozen=True)
class ObserverReading:
    """What an observer said of one restoration of the slide or of a part of it.

    ``identifier`` tells this reading from the observer's others, ``method`` names the restoration, ``hallucination`` is
    ``none``, ``possible`` or ``definite``.
    """

    identifier: str
    method: str
    hallucination: str
    regions: tuple[MarkedRegion, ...] = ()


def key_object_selection(
    sources: Sequence[Dataset],
    *,
    observer: str,
    description: str,
    title: CodedConcept = FOR_RESEARCH,
    created: datetime | None = None,
) -> Dataset:
    """A Key Object Selection Document (PS3.3 A.35.4, PS3.16 TID 2010) that points out instances.

    Parameters
    ----------
    sources
        Headers of the instances, all of one study.
    observer
        Identifier of whoever chose them.
    description
        Why they were chosen.
    title
        A code of PS3.16 CID 7010.
    created
        Content date and time (default: now).

    Returns
    -------
    Dataset
        The document. Its UIDs follow from ``sources``, ``observer`` and ``description``.

    Raises
    ------
    InputError
        When there is no source, one whose header is incomplete, or sources of several studies: such a document belongs to
        one study of one patient.
    """
    _check_sources(sources)
    entropy = [*(str(source.SOPInstanceUID) for source in sources), observer, description]
    with quiet_pydicom():
        document: Dataset = KeyObjectSelectionDocument(
            evidence=list(sources),
            content=KeyObjectSelection(
                document_title=title,
                referenced_objects=list(sources),
                observer_person_context=_person(observer),
                description=description,
            ),
            series_instance_uid=derived_uid("key object series", *entropy),
            series_number=_series_number(sources[0], "KO"),
            sop_instance_uid=derived_uid("key object selection", *entropy),
            instance_number=1,
            manufacturer=MANUFACTURER,
        )
    return _stamped(document, created)


def observation_report(
    sources: Sequence[Dataset],
    readings: Sequence[ObserverReading],
    *,
    observer: str,
    title: str,
    created: datetime | None = None,
) -> Dataset:
    """A Comprehensive SR (PS3.3 A.35.3) of what one observer said, as a measurement report (PS3.16 TID 1500).

    Each reading is a group (TID 1501) with the restoration and the call, whose images are all ``sources``; each of its regions
    is a planar region (TID 1410) with category and severity. A region is an SCOORD that refers to the total pixel matrix of
    the first source (Pixel Origin Interpretation VOLUME), so to all of its frames: a closed polyline for a box, a point for
    a point. Codes that no public dictionary has are of the scheme ``99SRHCLINIC``.

    Parameters
    ----------
    sources
        Headers of the slide's instances.
    readings
        At least one.
    observer
        Identifier of the observer.
    title
        Series Description.
    created
        Content date and time (default: now).

    Returns
    -------
    Dataset
        The report, complete and unverified. Its UIDs follow from ``sources``, ``observer``, ``title`` and ``readings``.

    Raises
    ------
    InputError
        When there is no source or no reading, a header is incomplete, sources are of several studies, a region leaves the
        slide, a call, category or severity is not known, or a title or a method's name is longer than DICOM allows.
    """
    _check_sources(sources)
    if not readings:
        raise InputError("no reading", "at least one reading to report")
    if len(title) > _MAX_LO:
        raise InputError(f"a title of {len(title)} characters", f"at most {_MAX_LO} characters")
    uids = [str(source.SOPInstanceUID) for source in sources]
    entropy = [*uids, observer, title, repr(tuple(readings))]
    with quiet_pydicom():
        groups = [group for reading in readings for group in _groups(reading, sources, [*uids, observer])]
        document: Dataset = ComprehensiveSR(
            evidence=list(sources),
            content=MeasurementReport(
                observation_context=ObservationContext(
                    observer_person_context=_person(observer), subject_context=specimen_context(sources[0])
                ),
                procedure_reported=PROCEDURE,
                imaging_measurements=groups,
                referenced_images=list(sources),
            ),
            series_instance_uid=derived_uid("observation series", *entropy),
            series_number=_series_number(sources[0], "SR"),
            sop_instance_uid=derived_uid("observation report", *entropy),
            instance_number=1,
            manufacturer=MANUFACTURER,
            is_complete=True,
            series_description=title,
        )
    return _stamped(document, created)


def encoded(document: Dataset) -> bytes:
    """The document as a DICOM file holds it (PS3.10)."""
    file = io.BytesIO()
    with quiet_pydicom():
        dcmwrite(file, document, enforce_file_format=True)
    return file.getvalue()


def _check_sources(sources: Sequence[Dataset]) -> None:
    for source in sources:
        for keyword in _REQUIRED:
            if keyword not in source:
                raise InputError(f"a header without {keyword}", "a VL Whole Slide Microscopy image that states it")
    studies = {str(source.StudyInstanceUID) for source in sources}
    if len(studies) != 1:
        raise InputError(f"instances of {len(studies)} studies", "instances of one study")


def _stamped(document: Dataset, created: datetime | None) -> Dataset:
    created = created or datetime.now()
    for what in ("Content", "InstanceCreation"):
        setattr(document, f"{what}Date", created.strftime("%Y%m%d"))
        setattr(document, f"{what}Time", created.strftime("%H%M%S"))
    return document


def _person(observer: str) -> ObserverContext:
    # A caret ends the family name; highdicom takes a name without one for a mistake.
    return ObserverContext(_PERSON, PersonObserverIdentifyingAttributes(name=f"{observer}^"))


def specimen_context(source: Dataset) -> SubjectContext | None:
    """The specimen, where the header describes exactly one."""
    specimens = source.get("SpecimenDescriptionSequence") or []
    if len(specimens) != 1 or not specimens[0].get("SpecimenUID"):
        return None
    attributes = SubjectContextSpecimen(
        uid=specimens[0].SpecimenUID,
        identifier=specimens[0].get("SpecimenIdentifier"),
        container_identifier=source.get("ContainerIdentifier"),
    )
    return SubjectContext(_SPECIMEN, attributes)


def _series_number(source: Dataset, modality: str) -> int:
    return min(int(source.get("SeriesNumber") or 0) + _SERIES[modality], _MAX_IS)


def _groups(reading: ObserverReading, sources: Sequence[Dataset], entropy: Sequence[str]) -> list[Any]:
    """The group of the whole reading, then those of its regions."""
    if len(reading.method) > _MAX_LO:
        raise InputError(f"a method's name of {len(reading.method)} characters", f"at most {_MAX_LO} characters")
    method = QualitativeEvaluation(_RESTORATION, CodedConcept(reading.method, SCHEME, reading.method))
    call = QualitativeEvaluation(_CALLED, _known(reading.hallucination, _CALLS, "hallucination"))
    images = [SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID) for source in sources]
    whole = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(reading.identifier, entropy),
        finding_type=_HALLUCINATION,
        qualitative_evaluations=[method, call],
        source_images=images,
    )
    return [
        whole,
        *(
            PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(f"{reading.identifier}/{number}", entropy),
                referenced_region=_image_region(region, sources[0]),
                finding_type=_known(region.category, _CATEGORIES, "category"),
                qualitative_evaluations=[
                    method,
                    QualitativeEvaluation(_SEVERITY, _known(region.severity, _SEVERITIES, "severity")),
                ],
            )
            for number, region in enumerate(reading.regions, start=1)
        ),
    ]


def _tracking(identifier: str, entropy: Sequence[str]) -> TrackingIdentifier:
    return TrackingIdentifier(UID(derived_uid("tracking", *entropy, identifier)), identifier)


def _known(name: str, known: dict[str, CodedConcept], what: str) -> CodedConcept:
    if name not in known:
        raise InputError(f"the {what} {name!r}", f"one of {', '.join(known)}")
    return known[name]


def _image_region(region: MarkedRegion, source: Dataset) -> ImageRegion:
    if region.shape == "point":
        x, y = region.xy
        graphic_type, corners = "POINT", [(x, y)]
    else:
        left, top, right, bottom = region.xy
        graphic_type, corners = "POLYLINE", [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    width, height = int(source.TotalPixelMatrixColumns), int(source.TotalPixelMatrixRows)
    if not all(0 <= x <= width and 0 <= y <= height for x, y in corners):
        raise InputError(f"a {region.shape} at {region.xy}", f"one within the slide's {width} x {height} px")
    return ImageRegion(
        graphic_type=graphic_type,
        graphic_data=np.array(corners, dtype=np.float64),
        source_image=SourceImageForRegion(source.SOPClassUID, source.SOPInstanceUID),
        pixel_origin_interpretation="VOLUME",
    )
