"""What in a slide's header names somebody, so that it can be looked for where it must not be."""

from __future__ import annotations

from srh_clinic.slide import Identity

NAMING = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "OtherPatientNames",
    "IssuerOfPatientID",
    "AccessionNumber",
    "StudyID",
    "ContainerIdentifier",
    "InstitutionName",
    "ReferringPhysicianName",
    "OperatorsName",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
)
"""Attributes of PS3.15 table E.1-1 that a slide's header may carry and that name a person, a specimen or an object."""

SHORTEST = 4
"""Letters of the shortest word that is looked for: a shorter one occurs by chance."""


def identifying_words(identity: Identity) -> tuple[str, ...]:
    """Every word of a slide's identity and header that names a person, a specimen or an object, in alphabetical order.

    A person's name counts as a whole and by its components (PS3.5 section 6.2.1).
    """
    words = {identity.patient_id, identity.specimen_id, identity.study_uid, identity.series_uid}
    for header in identity.attributes.get("headers", ()):
        for keyword in NAMING:
            value = str(header.get(keyword) or "")
            words |= {value, value.replace("^", " ").strip(), *value.replace("=", "^").split("^")}
    return tuple(sorted(word for word in words if len(word) >= SHORTEST))
