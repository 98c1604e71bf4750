"""A case's result as FHIR R5: a Bundle of a DiagnosticReport, its Observations, the program as Device, ImagingSelections."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, VLWholeSlideMicroscopyImageStorage

from srh_clinic import __version__
from srh_clinic.diagnosis import CLASS_WORDS, CLASSES
from srh_clinic.integration.dicom_header import derived_uuid
from srh_clinic.integration.evidence import PROCEDURE
from srh_clinic.integration.results.annotations import boxes_of, words_of_kind
from srh_clinic.integration.results.content import CaseFindings, Marked, Said
from srh_clinic.integration.results.study import SlidePlane
from srh_clinic.integration.results.vocabulary import (
    AS_RESTORED,
    AS_SCANNED,
    CLASS_CODES,
    CLASS_PROBABILITY,
    REGION_CODES,
    SUPPORT,
)
from srh_clinic.integration.targets import MANUFACTURER

SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "RADLEX": "http://radlex.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    "99SRHCLINIC": "urn:srh-clinic:concepts",
}
"""The URI of each coding scheme; that of our own concepts is a name, not an address."""

DICOM_UIDS = "urn:dicom:uid"
"""System of identifiers that are DICOM UIDs."""


def fhir_bundle(findings: CaseFindings, created: datetime) -> str:
    """The result as JSON: a collection whose report is preliminary, which is what a result is that nobody has verified.

    Regions are polygons in the scan's frame of reference, mm; without DICOM identity (another format, or ``--no-identity``)
    there is nothing that they could refer to, and the bundle has no ImagingSelection.

    Parameters
    ----------
    created
        When the result was made, with its time zone.
    """
    made = _Resources(findings, created.isoformat(timespec="seconds"))
    entries = [made.device(), made.said("before", findings.before), made.said("after", findings.after), *made.selections()]
    entries.insert(0, made.report())
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": made.when,
        "entry": [{"fullUrl": made.url(name), "resource": resource} for name, resource in entries],
    }
    return json.dumps(bundle, indent=2, ensure_ascii=False) + "\n"


class _Resources:
    """The resources of one result, each with the name that its URL is made of."""

    def __init__(self, findings: CaseFindings, when: str) -> None:
        self.findings = findings
        self.when = when
        self.identity = findings.scan.identity

    def url(self, name: str) -> str:
        """A URL that a repeated run makes again."""
        return f"urn:uuid:{derived_uuid('fhir', self.findings.run, self.findings.digest, name)}"

    def report(self) -> tuple[str, dict[str, Any]]:
        findings = self.findings
        doubtful = " The diagnosis is doubtful." if findings.doubts else ""
        sentences = [
            f"{CLASS_WORDS[findings.before.diagnosis].capitalize()} as scanned, {CLASS_WORDS[findings.after.diagnosis]} after"
            f" restoration.{doubtful}",
            findings.notice,
            "Made by a program; nobody has verified it.",
            *([f"By the policy: {findings.decision}"] if findings.decision else []),
            findings.quality,
            *findings.doubts,
            *findings.warnings,
            *findings.notes,
            *([findings.channel_order] if findings.channel_order else []),
        ]
        resource = {
            "resourceType": "DiagnosticReport",
            "status": "preliminary",
            "code": {**_coded(PROCEDURE), "text": "Stimulated Raman histology, restored and classified"},
            **self._subject,
            "issued": self.when,
            "performer": [self._device],
            "specimen": self._specimen,
            "result": [{"reference": self.url("before")}, {"reference": self.url("after")}],
            "study": [self._study] if self.identity.study_uid else [],
            "conclusion": "\n\n".join(sentences),
            "conclusionCode": [_coded(CLASS_CODES[findings.decided or findings.after.diagnosis])],
        }
        return "report", _without_empty(resource)

    def device(self) -> tuple[str, dict[str, Any]]:
        made_by = self.findings.provenance
        told = {
            "bundle": str(made_by["bundle"]),
            "sha256 of the weights": str(made_by["weights_sha256"]),
            "seed": str(made_by["seed"]),
            "settings": json.dumps(made_by["settings"], sort_keys=True, default=str),
        }
        resource = {
            "resourceType": "Device",
            "manufacturer": MANUFACTURER,
            "name": [{"value": "srh-clinic", "type": "user-friendly-name"}],
            "version": [{"value": __version__}],
            "property": [{"type": {"text": name}, "valueString": value} for name, value in told.items()],
            "safety": [{"text": self.findings.notice}],
        }
        return "device", resource

    def said(self, name: str, said: Said) -> tuple[str, dict[str, Any]]:
        """What the classifier says of a slide, as an Observation with a component for each probability."""
        numbers = [(CLASS_PROBABILITY[each], said.probabilities[each]) for each in CLASSES] + [(SUPPORT, said.support)]
        resource = {
            "resourceType": "Observation",
            "status": "preliminary",
            "code": _coded(AS_SCANNED if name == "before" else AS_RESTORED),
            **self._subject,
            "issued": self.when,
            "performer": [self._device],
            "valueCodeableConcept": {**_coded(CLASS_CODES[said.diagnosis]), "text": CLASS_WORDS[said.diagnosis]},
            "specimen": self._specimen[0] if self._specimen else None,
            "device": self._device,
            "component": [
                {
                    "code": _coded(code),
                    "valueQuantity": {"value": round(float(value), 6), "system": SYSTEMS["UCUM"], "code": "1"},
                }
                for code, value in numbers
            ],
        }
        return name, _without_empty(resource)

    def selections(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Where to look: one ImagingSelection for each kind of region."""
        headers: Sequence[Dataset] = self.identity.attributes.get("headers", ())
        if not headers or not self.identity.series_uid:
            return
        try:
            plane = SlidePlane.of(headers[0], self.identity.attributes.get("edges_um"))
        except (AttributeError, TypeError, ValueError):  # a scan that does not say where it lies
            return
        kinds: dict[str, list[Marked]] = {}
        for marked in (*self.findings.flagged, *self.findings.rescan):
            kinds.setdefault(marked.kind, []).append(marked)
        for kind, regions in kinds.items():
            resource = {
                "resourceType": "ImagingSelection",
                "status": "available",
                **self._subject,
                "issued": self.when,
                "performer": [{"actor": self._device}],
                "code": {**_coded(REGION_CODES[kind]), "text": words_of_kind(regions)},
                "studyUid": self.identity.study_uid,
                "seriesUid": self.identity.series_uid,
                "frameOfReferenceUid": str(headers[0].get("FrameOfReferenceUID") or ""),
                "instance": [
                    {"uid": str(header.SOPInstanceUID), **_SOP_CLASS, "imageRegion3D": _polygons(plane, regions)}
                    for header in headers
                    if str(header.SeriesInstanceUID) == self.identity.series_uid
                ],
            }
            yield f"selection {kind}", _without_empty(resource)

    @property
    def _subject(self) -> dict[str, Any]:
        name = self.identity.patient_id
        return {"subject": {"type": "Patient", "identifier": {"value": name}}} if name else {}

    @property
    def _specimen(self) -> list[dict[str, Any]]:
        name = self.identity.specimen_id
        return [{"type": "Specimen", "identifier": {"value": name}}] if name else []

    @property
    def _device(self) -> dict[str, str]:
        return {"reference": self.url("device")}

    @property
    def _study(self) -> dict[str, Any]:
        uid = f"urn:oid:{self.identity.study_uid}"
        return {"type": "ImagingStudy", "identifier": {"system": DICOM_UIDS, "value": uid}}


_SOP_CLASS = {
    "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{UID(VLWholeSlideMicroscopyImageStorage)}"},
}


def _polygons(plane: SlidePlane, regions: Sequence[Marked]) -> list[dict[str, Any]]:
    corners = np.round(plane.corners_mm(boxes_of(regions)), 9)
    closed = np.concatenate([corners, corners[:, :1]], axis=1)
    return [{"regionType": "polygon", "coordinate": ring.ravel().tolist()} for ring in closed]


def _coded(code: Any) -> dict[str, Any]:
    """A concept of a dictionary or of ours."""
    return {"coding": [{"system": SYSTEMS[code.scheme_designator], "code": code.value, "display": code.meaning}]}


def _without_empty(resource: dict[str, Any]) -> dict[str, Any]:
    """FHIR has no empty values: what is not known does not stand there."""
    return {name: value for name, value in resource.items() if value not in (None, [], {}, "")}
